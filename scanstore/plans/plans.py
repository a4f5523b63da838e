"""Plans: proposed changes to scenes and findings, which a person reviews, applies and reverts.

A plan is built (``pending``), submitted (``draft``) and reviewed (``reviewing``). From then on its status depends on
the number of changes in each status. :func:`settle` sets it in every transaction that changes the status of a change:
``applied`` if no change is left to decide or apply and some were applied, ``reverted`` if all applied changes were
reverted. Applying is in :mod:`scanstore.plans.applying`, the fields are in :mod:`scanstore.plans.changes`.

Change here: the columns of plans and changes, and which decisions are allowed when.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import peewee

from scanstore.db import rows
from scanstore.db.arguments import check_by, check_choice, check_iterable, check_text, clean_text, number_of
from scanstore.db.domain import Domain, List, long, reads
from scanstore.db.notebooks import described
from scanstore.db.pagination import check_window, listed
from scanstore.db.rows import Rows
from scanstore.db.state_machine import CHANGE_STATUSES, PLAN_STATUSES, move
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import IllegalMove, InvalidArgument, NotFound, shown
from scanstore.findings.models import Finding
from scanstore.library.models import Scene
from scanstore.plans import applying
from scanstore.plans import preview as previews
from scanstore.plans.applying import Applied, Reverted
from scanstore.plans.changes import check, checked_confidence, digest, field_named, target_key
from scanstore.plans.models import BUILDING, CHANGES, PLANS, AnalysisPlan, ChangeCounts, PlanChange, settle
from scanstore.plans.preview import Preview
from scanstore.plans.proposals import Proposal, ProposalRecord, Proposed, checked, insert

if TYPE_CHECKING:
    from scanstore.db.progress import ProgressCallback
    from scanstore.db.rows import Removed
    from scanstore.db.words import ChangeAction, ChangeField, ChangeStatus, PlanDecision, PlanStatus


@described
class Reviewed(NamedTuple):
    """The number of changes whose decision a review changed, and the counts of the plan."""

    changed: int
    counts: ChangeCounts


DECISIONS: dict[PlanDecision, ChangeStatus] = {"approve": "approved", "reject": "rejected", "reset": "pending"}
UNDONE = ("failed", "skipped")

LISTING = "store.plans.list() (scanstore plans list) shows the known ones"
TALLY = "(SELECT json_group_object(status, count) FROM plan_counts WHERE plan_id = t1.id)"


class Plans(Domain):
    """Plans: ``add``, ``propose``, ``submit``, ``review``, ``apply``, ``revert``."""

    # -- building ----------------------------------------------------------------------------------------------------

    def add(
        self, name: str, *, description: str | None = None, metadata: Mapping[str, object] | None = None
    ) -> AnalysisPlan:
        """Add a plan and return it. Fill it with :meth:`propose`, and start the review with :meth:`submit`.

        Names need not be unique. Raises InvalidArgument.
        """
        name = clean_text(name, "name", needed=True)
        if metadata is not None and not isinstance(metadata, Mapping):
            raise InvalidArgument(f"metadata is {shown(metadata)}; it must be a mapping")
        made: AnalysisPlan = AnalysisPlan.create(
            name=name,
            description=None if description is None else clean_text(description, "description"),
            metadata=dict(metadata or {}),
        )
        return self.get(made.id)

    def propose(
        self,
        plan: AnalysisPlan | int,
        target: Scene | Finding | str | int,
        field: ChangeField,
        action: ChangeAction,
        *,
        proposed: object,
        current: object = ...,
        confidence: float | None = None,
    ) -> PlanChange:
        """Propose a change to a scene (by its id, a text) or a finding (by its id, a number), and return it.

        Fields of scenes: ``performers`` and ``tags`` (``add``, ``remove`` or ``set``, with ids of known rows),
        ``studio`` (an id or None), ``title``, ``details``, ``date``, ``organized`` (``set`` or ``update``, which are
        the same). Fields of findings: ``severity``, ``status``, ``remediation``.

        ``current`` is the value that the proposal is based on (default: the current value). ``confidence`` is 0 to 1. A
        repeated proposal (same target, field, action and value) returns the existing change.

        Raises InvalidArgument, NotFound for an unknown target, performer, tag or studio, and IllegalMove for a plan
        that is applied, cancelled or reverted.
        """
        one = check("", target, field, action, proposed, current, confidence)
        with self.db.atomic():
            row = self._open(plan, BUILDING, "take proposals")
            insert(self.db, row.id, [one])
            found: PlanChange = PlanChange.get(
                PlanChange.plan == row.id,
                PlanChange.target == one.field.target,
                PlanChange.target_key == str(one.key),
                PlanChange.field == one.field.name,
                PlanChange.action == one.action,
                PlanChange.proposed_hash == digest(one.proposed),
            )
            return found

    def propose_many(self, plan: AnalysisPlan | int, proposals: Iterable[Proposal | ProposalRecord]) -> Proposed:
        """Propose many changes in one transaction, like :meth:`propose`.

        Each is a :class:`Proposal`, or a mapping with ``scene`` or ``finding``, ``field``, ``action``, ``proposed`` and
        optionally ``current`` and ``confidence``. All are checked before any SQL. An error names the index of the
        proposal, from 0.
        """
        given = checked(proposals)
        with self.db.atomic():
            created = insert(self.db, self._open(plan, BUILDING, "take proposals").id, given)
        return Proposed(created, len(given) - created)

    def submit(self, plan: AnalysisPlan | int) -> AnalysisPlan:
        """Submit a plan for review. Raises IllegalMove if it is already submitted."""
        key = _key(plan)
        move(self.db, PLANS, key, "draft", submitted_at=format_time(utcnow()))
        return self.get(key)

    def cancel(self, plan: AnalysisPlan | int) -> AnalysisPlan:
        """Cancel a plan. Raises IllegalMove if a change was applied, or the plan is finished."""
        with self.db.atomic():
            row = self._idle(plan)
            if row.status in BUILDING and row.counts is not None and row.counts.applied:
                raise IllegalMove(
                    f"plan {row.id} is {row.status} and has {row.counts.applied} applied; {PLANS.remedies['applied']},"
                    " or reject what is left"
                )
            move(self.db, PLANS, row.id, "cancelled")
            return self.get(row.id)

    def remove(self, plan: AnalysisPlan | int) -> Removed:
        """Remove a plan with its changes, and return the number of removed rows by table.

        Applied values stay and can no longer be reverted. Raises NotFound, and IllegalMove while the plan is being
        applied or reverted.
        """
        with self.db.atomic():
            return rows.remove(self.db, "analysis_plans", "id = ?", (self._idle(plan).id,))

    # -- queries -----------------------------------------------------------------------------------------------------

    @reads
    def get(self, plan: AnalysisPlan | int) -> AnalysisPlan:
        """Return a plan as it is now, with its counts. Raises NotFound, and InvalidArgument for a wrong id."""
        key = _key(plan)
        for found in listed(_plans(AnalysisPlan.id == key)):
            return _counted(found)
        raise NotFound(f"no plan {key}; {LISTING}")

    @reads
    def find(self, plan: AnalysisPlan | int | str) -> AnalysisPlan | None:
        """Return the plan with this id, or the latest one with this name, with its counts; None if there is none.

        Raises InvalidArgument for a value that is neither.
        """
        if isinstance(plan, str):
            only = AnalysisPlan.name == check_text(plan, "name")
        else:
            only = AnalysisPlan.id == _key(plan)
        for found in listed(_plans(only), limit=1):
            return _counted(found)
        return None

    @reads
    def list(
        self, *, status: PlanStatus | None = None, limit: int | None = None, offset: int = 0, sort: str | None = None
    ) -> Rows[AnalysisPlan]:
        """List plans with their counts, the latest first, optionally of one status, in one statement.

        ``sort`` names another column, as for ``store.page``. Raises InvalidArgument.
        """
        only = () if status is None else (AnalysisPlan.status == check_choice(status, "status", PLAN_STATUSES),)
        plans = listed(_plans(*only), limit=limit, offset=offset, sort=sort)
        return Rows(map(_counted, plans), AnalysisPlan)

    @reads
    def changes(
        self,
        plan: AnalysisPlan | int,
        *,
        status: ChangeStatus | None = None,
        field: ChangeField | None = None,
        scene: Scene | str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[PlanChange]:
        """List the changes of a plan in the order of applying, optionally of one status, field or scene.

        ``sort`` names another column, as for ``store.page``. Raises NotFound and InvalidArgument.
        """
        key = _key(plan)
        check_window(limit, offset)
        only = [] if status is None else [PlanChange.status == check_choice(status, "status", CHANGE_STATUSES)]
        if field is not None:
            only.append(PlanChange.field == field_named("field", field).name)
        if scene is not None:
            only += [PlanChange.target == "scene", PlanChange.target_key == target_key("scene", scene, "scene")]
        query = PlanChange.select().where(PlanChange.plan == self.get(key).id, *only).order_by(PlanChange.id)
        return listed(query, limit=limit, offset=offset, sort=sort)

    @reads
    def preview(
        self,
        plan: AnalysisPlan | int,
        *,
        status: ChangeStatus | None = None,
        scene: Scene | str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Preview]:
        """Return the values of each scene and finding before and after applying, in the order of the changes.

        Includes pending and approved changes, or only those of one ``status``. ``limit`` and ``offset`` count scenes
        and findings. Changes nothing. Raises NotFound and InvalidArgument.
        """
        key = _key(plan)
        check_window(limit, offset)
        only = ("pending", "approved") if status is None else (check_choice(status, "status", CHANGE_STATUSES),)
        about = None if scene is None else target_key("scene", scene, "scene")
        found = previews.preview(self.db, self.get(key).id, only, about, limit=limit, offset=offset)
        return Rows(found, Preview)

    # -- deciding ----------------------------------------------------------------------------------------------------

    def review(
        self,
        plan: AnalysisPlan | int,
        decision: PlanDecision,
        *,
        ids: Iterable[PlanChange | int] | None = None,
        field: ChangeField | None = None,
        scene: Scene | str | None = None,
        min_confidence: float | None = None,
        by: str | None = None,
    ) -> Reviewed:
        """``approve``, ``reject`` or ``reset`` the changes of a plan that match all filters; without filters, all
        changes.

        The last decision counts. Applied, failed, skipped and reverted changes cannot be reviewed again: they are
        ignored, or raise an error if they are among the ``ids``. ``ids=[]`` selects nothing. A change without a
        confidence never matches ``min_confidence``. ``by`` is saved as the reviewer (default: ``$SCANSTORE_USER``).
        Atomic.

        Raises InvalidArgument, IllegalMove for a plan that is not in review, NotFound for a change of another plan.
        """
        to = DECISIONS[check_choice(decision, "decision", tuple(DECISIONS))]
        where: List[str] = ["plan_id = ?"]
        values: List[object] = []
        if field is not None:
            where.append("field = ?")
            values.append(field_named("field", field).name)
        if scene is not None:
            where.append("target = 'scene' AND target_key = ?")
            values.append(target_key("scene", scene, "scene"))
        if min_confidence is not None:
            where.append("confidence >= ?")
            values.append(checked_confidence("min_confidence", min_confidence))
        by = check_by(by)
        keys = change_ids(ids)
        with self.db.atomic():
            row = self._open(plan, ("draft", "reviewing"), "be reviewed")
            if keys is not None:
                self._check_ids(row.id, keys, ("pending", "approved", "rejected"), to)
                where.append("id IN (SELECT value FROM json_each(?))")
                values.append(dump_json(keys))
            now = format_time(utcnow())
            who = (None, None) if to == "pending" else (by, now)
            origins = [status for status in CHANGES.moves[to] if status not in UNDONE]
            changed = self.db.execute_sql(
                "UPDATE plan_changes SET status = ?, reviewer = ?, reviewed_at = ?, updated_at = ?"
                f" WHERE {' AND '.join(where)} AND status IN ({', '.join('?' * len(origins))})",
                (to, *who, now, row.id, *values, *origins),
            ).rowcount
            settle(self.db, row.id)
            return Reviewed(changed, self._counts(row.id))

    def retry(self, plan: AnalysisPlan | int, *, ids: Iterable[PlanChange | int] | None = None) -> Rows[PlanChange]:
        """Approve failed and skipped changes again, all of a plan or those of ``ids``, and return them. Atomic.

        An applied plan goes back to review. Raises IllegalMove for other plans and changes, NotFound.
        """
        keys = change_ids(ids)
        with self.db.atomic():
            row = self._open(plan, ("reviewing", "applied"), "be retried")
            if keys is not None:
                self._check_ids(row.id, keys, (*UNDONE, "approved"), "approved")
            changed = self.db.execute_sql(
                "UPDATE plan_changes SET status = 'approved', found_value = NULL, conflict = 0, error = NULL,"
                " updated_at = ? WHERE plan_id = ? AND status IN ('failed', 'skipped')"
                " AND (? IS NULL OR id IN (SELECT value FROM json_each(?))) RETURNING id",
                (format_time(utcnow()), row.id, *(None if keys is None else dump_json(keys),) * 2),
            ).fetchall()
            settle(self.db, row.id)
            return rows.read_keys(self.db, PlanChange, sorted(key for (key,) in changed))

    @long
    def apply(
        self,
        plan: AnalysisPlan | int,
        *,
        ids: Iterable[PlanChange | int] | None = None,
        handler: Callable[[PlanChange], object] | None = None,
        force: bool = False,
        lease: float = 600.0,
        progress: ProgressCallback | None = None,
    ) -> Applied:
        """Apply the approved changes of a plan, or those of ``ids``, in order, in short transactions.

        You can kill this call at any moment and repeat it: each change is applied completely or not at all, and the
        next call continues. Without ``force``, a change is ``skipped`` with a conflict if the current value is neither
        the expected nor the proposed one. It is ``failed`` if its target is missing. The other changes are still
        applied. ``ids=[]`` applies nothing.

        A ``handler`` is called with each change, outside any transaction, before the change is recorded, for example to
        change a remote system. It gets a PlanChange whose ``value`` is the new value of the field. An exception makes
        the change ``failed``. If the process is killed while a handler runs, the next call runs it again, so the remote
        system should use ``change.key`` to ignore repetitions; ``change.tries`` counts the attempts. After Ctrl-C the
        change stays approved.

        Only one process or thread can apply a plan at a time; IllegalMove names the other one. After ``lease`` seconds
        without a write, a process on another machine loses the plan. ``progress`` is called in this thread, between
        transactions, with the processed changes and all changes; an exception of it ends the call, and the changes so
        far stay applied. Also raises IllegalMove for a plan that is not in review or is
        already applied, and for ``ids`` that are not approved; NotFound.
        """
        return applying.apply(self, plan, change_ids(ids), handler, force=force, lease=lease, progress=progress)

    @long
    def revert(
        self,
        plan: AnalysisPlan | int,
        *,
        handler: Callable[[PlanChange], object] | None = None,
        force: bool = False,
        lease: float = 600.0,
        progress: ProgressCallback | None = None,
    ) -> Reverted:
        """Revert the applied changes of a plan in reverse order, each with exactly its own effect.

        Values that have changed since are kept and counted, unless with ``force``; such changes stay ``applied``.
        Otherwise like :meth:`apply`; a ``handler`` gets changes whose ``undoing`` is true.
        """
        return applying.revert(self, plan, handler, force=force, lease=lease, progress=progress)

    # -- shared with applying.py -------------------------------------------------------------------------------------

    def _open(self, plan: AnalysisPlan | int, statuses: tuple[str, ...], what: str) -> AnalysisPlan:
        """Return the plan if it has one of these statuses."""
        row = self.get(plan)
        if row.status not in statuses:
            raise IllegalMove(f"plan {row.id} is {row.status} and cannot {what}; {PLANS.remedies[row.status]}")
        return row

    def _idle(self, plan: AnalysisPlan | int) -> AnalysisPlan:
        """Return the plan, unless it is being applied or reverted."""
        row = self.get(plan)
        applying.check_idle(self.db, row)
        return row

    def _check_ids(self, plan_id: int, keys: List[int], statuses: tuple[str, ...], to: str) -> None:
        """Raise an error for the first of these changes that belongs to another plan or has another status."""
        found = dict(
            self.db.execute_sql(
                "SELECT c.id, c.status FROM json_each(?) AS i CROSS JOIN plan_changes AS c ON c.id = i.value"
                " WHERE c.plan_id = ?",
                (dump_json(keys), plan_id),
            ).fetchall()
        )
        for key in keys:
            if key not in found:
                raise NotFound(f"plan {plan_id} has no change {key}; store.plans.changes({plan_id}) lists them")
            if found[key] not in statuses:
                remedy = CHANGES.remedies.get(found[key], "approve it first: store.plans.review(plan, 'approve')")
                raise IllegalMove(f"change {key} is {found[key]} and cannot become {to}; {remedy}")

    def _counts(self, plan_id: int) -> ChangeCounts:
        rows = self.db.execute_sql("SELECT status, count FROM plan_counts WHERE plan_id = ?", (plan_id,)).fetchall()
        return ChangeCounts(**dict(rows))


def _key(plan: object) -> int:
    return number_of(plan, "a plan", AnalysisPlan, LISTING)


def _plans(*only: object) -> peewee.ModelSelect[AnalysisPlan]:
    query = AnalysisPlan.select(AnalysisPlan, peewee.SQL(TALLY).alias("tally")).order_by(AnalysisPlan.id.desc())
    return query.where(*only) if only else query


def _counted(plan: AnalysisPlan) -> AnalysisPlan:
    plan.counts = ChangeCounts(**json.loads(plan.tally))
    return plan


def change_ids(ids: Iterable[PlanChange | int] | None) -> List[int] | None:
    """Return the ids of changes, given as rows or ids, each once, in order."""
    if ids is None:
        return None
    return sorted({number_of(each, "a change", PlanChange) for each in check_iterable(ids, "ids")})
