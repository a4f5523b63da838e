"""Triage: decisions of people about findings. Each decision and its event are written in one transaction.

A status changes only by the transitions of ``state_machine.FINDINGS``. Suppressing hides a finding without changing its
status. Each scope has one suppression; a later decision about the same scope replaces it.

Change here: the possible decisions, their required fields, and which suppression applies to a finding.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from scanstore.db.arguments import check_bool, check_by, check_choice, check_list, check_string, clean_text, number_of
from scanstore.db.domain import Domain, reads
from scanstore.db.fields import find_row, read_row
from scanstore.db.pagination import check_window, listed
from scanstore.db.rows import Rows
from scanstore.db.rules import change_rows, insert_row, save_row
from scanstore.db.state_machine import FINDING_STATUSES, FINDINGS, move
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import InvalidArgument, NotFound, shown
from scanstore.findings.models import Finding, FindingEvent, Suppression
from scanstore.findings.tracking import BY
from scanstore.snapshots.facts import Lineage

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

    from scanstore.db.words import FindingStatus

PLACES = """
SELECT f.id, f.lineage_id, f.tool, f.rule_id, f.file_path
  FROM json_each(?) AS i CROSS JOIN findings AS f ON f.id = i.value
"""
OF_TARGETS = """
SELECT s.* FROM json_each(?) AS i CROSS JOIN suppressions AS s ON s.lineage_id = i.value WHERE s.lifted_at IS NULL
"""

# Whether the last decision was made by votes alone.
VOTED = f"""
SELECT 1 FROM finding_events AS e WHERE e.by = '{BY}'
   AND e.id = (SELECT max(id) FROM finding_events WHERE finding_id = ? AND action = 'status')
"""

KNOWN = "store.findings.list() (scanstore findings list) shows the known ones"
_Place = tuple[int, int, str, str, str]  # finding, lineage, tool, rule, path


class Triage(Domain):
    """Decisions of people about findings: the part of ``store.findings`` that no scan overwrites."""

    @reads
    def get(self, finding: Finding | int) -> Finding:
        """Read the finding with this id. Raises NotFound, InvalidArgument."""
        return read_row(Finding, finding, "finding", KNOWN)

    @reads
    def find(self, finding: Finding | int) -> Finding | None:
        """Read the finding with this id, or return None. Raises InvalidArgument."""
        return find_row(Finding, finding, "finding", KNOWN)

    # -- status and comments -----------------------------------------------------------------------------------------

    def triage(
        self, finding: Finding | int, status: FindingStatus, *, by: str | None = None, reason: str | None = None
    ) -> Finding:
        """Set the status of a finding and record the event, in one transaction. Return the finding.

        Allowed are ``open`` to ``confirmed``, ``false_positive``, ``ignored`` or ``fixed``, ``confirmed`` to the last
        three, and any status back to ``open``. Setting the current status again changes nothing, and its reason is not
        saved. One exception: a false positive set by votes alone becomes a decision of the person, which later votes do
        not reverse. ``by`` is the name of the person (default: $SCANSTORE_USER). Raises IllegalMove for other
        transitions, NotFound, and InvalidArgument for an unknown status.
        """
        status, by, said = check_choice(status, "status", FINDING_STATUSES), _author(by), clean_text(reason, "reason")
        with self.db.atomic():
            row = self.get(finding)
            if row.status != status:
                move(self.db, FINDINGS, row.id, status)
            elif status != "false_positive" or not self.db.execute_sql(VOTED, (row.id,)).fetchall():
                return row
            self._event(row, "status", by, said, from_status=row.status, to_status=status)
            return self.get(row.id)

    def comment(self, finding: Finding | int, text: str, *, by: str | None = None) -> FindingEvent:
        """Add a comment to the history of a finding. Raises NotFound, and InvalidArgument for an empty one."""
        text, by = clean_text(text, "comment", needed=True), _author(by)
        with self.db.atomic():
            return self._event(self.get(finding), "comment", by, text)

    @reads
    def history(
        self, finding: Finding | int, *, limit: int | None = None, offset: int = 0, sort: str | None = None
    ) -> Rows[FindingEvent]:
        """List all decisions and comments about a finding, the oldest first. Raises NotFound."""
        check_window(limit, offset)
        query = FindingEvent.select().where(FindingEvent.finding == self.get(finding).id).order_by(FindingEvent.id)
        return listed(query, limit=limit, offset=offset, sort=sort)

    @staticmethod
    def _event(row: Finding, action: str, by: str | None, note: str, **columns: object) -> FindingEvent:
        event: FindingEvent = insert_row(FindingEvent, finding=row.id, action=action, by=by, note=note, **columns)
        return event

    # -- suppressions ------------------------------------------------------------------------------------------------

    def suppress(
        self,
        finding: Finding | int | None = None,
        *,
        rule: str | None = None,
        tool: str | None = None,
        path: str | None = None,
        target: str | None = None,
        reason: str,
        by: str | None = None,
        expires: datetime | None = None,
    ) -> Suppression:
        """Hide one finding, or the findings of a rule, and record the event, in one transaction.

        A suppression of a ``rule`` applies to findings of ``tool`` (None: any), in files that match ``path``, a pattern
        in the syntax of ``.gitignore`` (None: everywhere), of ``target`` (optional if the store has only one). After
        ``expires``, an aware time, the suppression hides nothing and is shown as expired.

        Each scope has one active suppression: a new one lifts the previous one, and an equal active one is returned
        unchanged. Raises NotFound, InvalidArgument.
        """
        justification = clean_text(reason, "reason", needed=True)
        by, ends = _author(by), _future(expires)
        rule, tool, path = _scope(finding, rule=rule, tool=tool, path=path, target=target)
        with self.db.atomic():
            row = None if finding is None else self.get(finding)
            lineage_id = self._lineage(target).id if row is None else row.lineage_id
            scope = {"tool": tool, "rule_id": rule, "path_pattern": path}
            about = [Suppression.finding == row.id] if row is not None else [Suppression.lineage == lineage_id]
            about += [getattr(Suppression, name).is_null() if value is None else getattr(Suppression, name) == value
                      for name, value in scope.items()]  # fmt: skip
            former = list(Suppression.select().where(Suppression.lifted_at.is_null(), *about))
            for each in former:
                if (each.justification, each.by, each.expires_at) == (justification, by, ends):
                    return each
            now = utcnow()
            if former:
                keys = [each.id for each in former]
                change_rows(Suppression, lifted_at=now, lifted_by=by).where(Suppression.id << keys).execute()
            if row is not None:
                self._event(row, "suppress", by, justification)
            made: Suppression = insert_row(
                Suppression,
                lineage=lineage_id,
                finding=None if row is None else row.id,
                **scope,
                justification=justification,
                by=by,
                expires_at=ends,
            )
            return made

    def unsuppress(self, suppression: Suppression | int, *, by: str | None = None) -> Suppression:
        """Lift a suppression and return it. The row is kept, with the person who lifted it. Idempotent.

        Raises NotFound, InvalidArgument.
        """
        by = _author(by)
        remedy = "store.findings.suppressions() (scanstore findings suppressions) shows the known ones"
        with self.db.atomic():
            row = read_row(Suppression, suppression, "suppression", remedy)
            if row.lifted_at is None:
                row.lifted_at, row.lifted_by = utcnow(), by
                save_row(row)
                if row.finding_id is not None:
                    self._event(self.get(row.finding_id), "unsuppress", by, "")
            return row

    @reads
    def suppressions(
        self,
        target: str | None = None,
        *,
        active: bool | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Suppression]:
        """List suppressions, optionally of one target, the oldest first.

        ``active=True`` selects active ones, ``active=False`` expired and lifted ones. Raises NotFound for an unknown
        target.
        """
        check_window(limit, offset)
        query = Suppression.select().order_by(Suppression.id)
        if target is not None:
            query = query.where(Suppression.lineage == self._lineage(check_string(target, "target")).id)
        if active is not None:
            hides = Suppression.lifted_at.is_null() & (
                Suppression.expires_at.is_null() | (Suppression.expires_at > utcnow())
            )
            query = query.where(hides if check_bool(active, "active") else ~hides)
        return listed(query, limit=limit, offset=offset, sort=sort)

    @reads
    def suppressed(self, findings: Iterable[Finding | int]) -> dict[int, Suppression]:
        """Return the suppression of each of these findings, by finding id. The finding is hidden unless it has
        ``expired``.

        If several match, an unexpired one is preferred, then the narrowest, then the latest. Uses a few statements for
        any number of findings.
        """
        places = self._places(check_list(findings, "findings"))
        if not places:
            return {}
        lineages = dump_json(sorted({place[1] for place in places}))
        ranked: dict[object, list[tuple[object, Suppression]]] = {}
        for each in Suppression.raw(OF_TARGETS, lineages):
            about = each.finding_id or (each.lineage_id, each.rule_id)
            narrow = (each.finding_id is not None, each.path_pattern is not None, each.tool is not None)
            ranked.setdefault(about, []).append(((not each.expired, narrow, each.id), each))
        matches = _Matches()
        answer: dict[int, Suppression] = {}
        for key, lineage, tool, rule, path in places:
            found = [
                (rank, each)
                for rank, each in (*ranked.get(key, ()), *ranked.get((lineage, rule), ()))
                if each.tool in (None, tool) and matches(each.path_pattern, path)
            ]
            if found:
                answer[key] = max(found, key=lambda pair: pair[0])[1]
        return answer

    def _places(self, findings: Iterable[Finding | int]) -> list[_Place]:
        """Return the columns of findings that suppressions match. Missing ids are left out."""
        places: list[_Place] = []
        ids: list[int] = []
        for each in findings:
            key = number_of(each, "a finding", Finding)
            if not isinstance(each, Finding):
                ids.append(key)
            elif key:
                places.append((key, each.lineage_id, each.tool, each.rule_id, each.file_path))
        if ids:
            places += self.db.execute_sql(PLACES, (dump_json(ids),)).fetchall()
        return places

    def _lineage(self, target: str | None) -> Lineage:
        if target is not None:
            found: Lineage | None = Lineage.get_or_none(Lineage.target == target)
            if found is None:
                raise NotFound(
                    f"there is no target {target!r}; store.scans.list() (scanstore scans list) shows the known ones"
                )
            return found
        some = list(Lineage.select().order_by(Lineage.id).limit(4))
        if not some:
            raise NotFound("there is no target yet; make a scan first: scanstore scan PATH")
        if len(some) > 1:
            names = ", ".join(repr(each.target) for each in some[:3]) + (", ..." if len(some) > 3 else "")
            raise InvalidArgument(f"the store has more than one target; name the one that is meant: {names}")
        one: Lineage = some[0]
        return one


class _Matches:
    """Whether a path pattern matches a path. Patterns and results are cached."""

    def __init__(self) -> None:
        self.specs: dict[str, GitIgnoreSpec] = {}
        self.known: dict[tuple[str, str], bool] = {}

    def __call__(self, pattern: str | None, path: str) -> bool:
        if pattern is None:
            return True
        known = self.known.get((pattern, path))
        if known is None:
            if pattern not in self.specs:
                self.specs[pattern] = _pattern(pattern)
            known = self.known[pattern, path] = bool(self.specs[pattern].match_file(path))
        return known


# Checks of arguments, before any SQL


def _author(by: object) -> str | None:
    name = check_by(by)
    if name is not None and name.lower() == BY:
        raise InvalidArgument(f"by is {name!r}, which stands for scanstore itself; give the name of a person")
    return name


def _future(expires: object) -> datetime | None:
    if expires is None:
        return None
    if not isinstance(expires, datetime):
        raise InvalidArgument(f"expires is {shown(expires)}; it must be an aware datetime, or None")
    stored = datetime.fromisoformat(format_time(expires))
    if stored <= utcnow():
        raise InvalidArgument(f"expires is {expires.isoformat()}, which is in the past; give a later time")
    return stored


def _scope(
    finding: object, *, rule: str | None, tool: str | None, path: str | None, target: str | None
) -> tuple[str | None, str | None, str | None]:
    given = {"rule": rule, "tool": tool, "path": path, "target": target}
    if finding is not None:
        if extra := [name for name, value in given.items() if value is not None]:
            raise InvalidArgument(f"a finding is suppressed by itself; leave out {', '.join(extra)}, or the finding")
        return None, None, None
    if rule is None:
        raise InvalidArgument("nothing says what to suppress; give a finding, or a rule and perhaps tool and path")
    rule = clean_text(rule, "rule", needed=True)
    tool = None if tool is None else clean_text(tool, "tool", needed=True)
    if target is not None and not isinstance(target, str):
        raise InvalidArgument(f"target is {shown(target)}; it must be text")
    if path is not None:
        path = clean_text(path, "path", needed=True)
        _pattern(path)
    return rule, tool, path


def _pattern(path: str) -> GitIgnoreSpec:
    from scanstore.indexing.walk import patterns  # start-up: loads pathspec

    spec = patterns("path", [path])
    if spec is None or "\n" in path or not any(each.include for each in spec.patterns):
        raise InvalidArgument(f"path has {path!r}, which matches nothing by itself; write a pattern such as tests/**")
    return spec
