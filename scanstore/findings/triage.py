"""Decisions: what a person can do about findings, each with the event that records it, in one transaction.

A status is changed by the moves of ``state_machine.FINDINGS`` only. Suppressing hides a finding and leaves its status
alone; for each scope one suppression counts, and a later decision about the same scope takes the place of the former.

Change here: the possible decisions, their required fields, and which suppression applies to a finding.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from scanstore.db.arguments import check_choice, check_list, check_string, clean_text, number_of
from scanstore.db.domain import Domain, reads
from scanstore.db.fields import read_row
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

# Whether nobody but the votes has decided last.
VOTED = f"""
SELECT 1 FROM finding_events AS e WHERE e.by = '{BY}'
   AND e.id = (SELECT max(id) FROM finding_events WHERE finding_id = ? AND action = 'status')
"""

_Place = tuple[int, int, str, str, str]  # finding, lineage, tool, rule, path


class Triage(Domain):
    """Decisions of people about findings: the part of ``store.findings`` that no scan overwrites."""

    @reads
    def get(self, finding: Finding | int) -> Finding:
        """The finding with that id, read anew. Raises NotFound."""
        remedy = "store.findings.list() (scanstore findings list) shows the known ones"
        return read_row(Finding, finding, "finding", remedy)

    # -- status and comments -----------------------------------------------------------------------------------------

    def triage(self, finding: Finding | int, status: FindingStatus, *, by: str, note: str | None = None) -> Finding:
        """Decide about a finding and return it; status and event are one transaction.

        From ``open`` to ``confirmed``, ``false_positive``, ``ignored`` or ``fixed``, from ``confirmed`` to the last
        three, and from any back to ``open``. The same status again changes nothing, and its note is not kept, except
        that a false positive by votes alone becomes one by a person's word, which no later votes take back. Raises
        IllegalMove for other moves, NotFound, and InvalidArgument for a status that there is not or without ``by``.
        """
        status, by, note = check_choice(status, "status", FINDING_STATUSES), _author(by), clean_text(note, "note")
        with self.db.atomic():
            row = self.get(finding)
            if row.status != status:
                move(self.db, FINDINGS, row.id, status)
            elif status != "false_positive" or not self.db.execute_sql(VOTED, (row.id,)).fetchall():
                return row
            self._event(row, "status", by, note, from_status=row.status, to_status=status)
            return self.get(row.id)

    def comment(self, finding: Finding | int, text: str, *, by: str) -> FindingEvent:
        """Add a comment to the history of a finding. Raises NotFound, and InvalidArgument for an empty one."""
        text, by = clean_text(text, "comment", needed=True), _author(by)
        with self.db.atomic():
            return self._event(self.get(finding), "comment", by, text)

    @reads
    def history(self, finding: Finding | int) -> list[FindingEvent]:
        """Everything that was decided and said about a finding, the oldest first. Raises NotFound."""
        key = self.get(finding).id
        return list(FindingEvent.select().where(FindingEvent.finding == key).order_by(FindingEvent.id))

    @staticmethod
    def _event(row: Finding, action: str, by: str, note: str, **columns: object) -> FindingEvent:
        event: FindingEvent = FindingEvent.create(finding=row.id, action=action, by=by, note=note, **columns)
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
        justification: str,
        by: str,
        expires: datetime | None = None,
    ) -> Suppression:
        """Hide one finding, or what a rule finds; in one transaction with its event.

        ``rule`` is meant as reported by ``tool`` (None: by any), in files that ``path`` matches as a line of
        ``.gitignore`` would (None: everywhere), of ``target`` (may be left out when the store has only one). When
        ``expires``, an aware time, is over, the suppression hides nothing any more and says so.

        One suppression counts for each scope: a new one lifts the former, and an equal one in force is returned
        unchanged. Raises NotFound, InvalidArgument.
        """
        justification = clean_text(justification, "justification", needed=True)
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
                Suppression.update(lifted_at=now, lifted_by=by).where(Suppression.id << keys).execute()
            if row is not None:
                self._event(row, "suppress", by, justification)
            made: Suppression = Suppression.create(
                lineage=lineage_id,
                finding=None if row is None else row.id,
                **scope,
                justification=justification,
                by=by,
                expires_at=ends,
            )
            return made

    def unsuppress(self, suppression: Suppression | int, *, by: str) -> Suppression:
        """Lift a suppression and return it; one that was lifted stays as it is. It is kept, with who lifted it.

        Raises NotFound, InvalidArgument.
        """
        by = _author(by)
        remedy = "store.findings.suppressions() (scanstore findings suppressions) shows the known ones"
        with self.db.atomic():
            row = read_row(Suppression, suppression, "suppression", remedy)
            if row.lifted_at is None:
                row.lifted_at, row.lifted_by = utcnow(), by
                row.save()
                if row.finding_id is not None:
                    self._event(self.get(row.finding_id), "unsuppress", by, "")
            return row

    @reads
    def suppressions(self, target: str | None = None, *, active: bool | None = None) -> list[Suppression]:
        """Suppressions, of one target if given, the oldest first.

        ``active=True``: those that hide something now; ``active=False``: those that have expired or were lifted.
        Raises NotFound for a target that there is not.
        """
        query = Suppression.select().order_by(Suppression.id)
        if target is not None:
            query = query.where(Suppression.lineage == self._lineage(check_string(target, "target")).id)
        return [row for row in query if active is None or (row.state == "active") == active]

    @reads
    def suppressed(self, findings: Iterable[Finding | int]) -> dict[int, Suppression]:
        """Which of these findings a suppression is about, by finding id: hidden, unless it has ``expired``.

        When several are, one that has not expired speaks for the finding, then the narrowest, then the latest.
        A few statements for any number of findings.
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
        """The columns of findings that suppressions match; ids that are missing are left out."""
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
    """Whether a path pattern matches a path; each pattern is read once, each question answered once."""

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


# What people say, before any SQL


def _author(by: object) -> str:
    name = clean_text(by, "by", needed=True)
    if name.lower() == BY:
        raise InvalidArgument(f"by is {name!r}, which stands for what no person did; say who decides this")
    return name


def _future(expires: object) -> datetime | None:
    if expires is None:
        return None
    if not isinstance(expires, datetime):
        raise InvalidArgument(f"expires is {shown(expires)}; it must be an aware datetime, or None")
    stored = datetime.fromisoformat(format_time(expires))
    if stored <= utcnow():
        raise InvalidArgument(f"expires is {expires.isoformat()}, which is over already; give a later time")
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
