"""SARIF: load reports of other tools, and export the findings of a scan.

This module has the public methods, and loads reports; :mod:`scanstore.sarif.exporting` exports, and
:mod:`scanstore.sarif.format` reads and writes the format. A report is read completely before it is written to the store
in one transaction.

Change here: the mapping from a result to the columns of a finding, and the effects of a report.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from scanstore.db.arguments import check_list, check_path
from scanstore.db.database import Database
from scanstore.db.domain import Domain, long
from scanstore.db.files import refused, refusing
from scanstore.db.notebooks import described
from scanstore.db.paths import root_name, stored_root
from scanstore.db.progress import Meter
from scanstore.db.rules import insert_row
from scanstore.db.state_machine import FINDING_STATES, SIGHTINGS
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import IllegalMove, InvalidArgument, shown
from scanstore.findings import tracking
from scanstore.findings.content import content_of, pack, unpack
from scanstore.findings.coverage import UNNAMED
from scanstore.findings.findings import pick
from scanstore.findings.identity import traits_of
from scanstore.findings.tracking import Incoming
from scanstore.sarif import repeats
from scanstore.sarif.exporting import Dumped, dump
from scanstore.sarif.format.reader import read
from scanstore.sarif.format.vocabulary import Lost, Result, Run, SarifProblem
from scanstore.sarif.mapping import BY, justification, shifted, usual_level
from scanstore.sarif.severities import Severities
from scanstore.sarif.sources import Enclosing, Sources, SourceText, recorded
from scanstore.snapshots.facts import Lineage
from scanstore.snapshots.models import Scan
from scanstore.snapshots.scans import Scans

if TYPE_CHECKING:
    from scanstore.db.progress import ProgressCallback
    from scanstore.db.words import FindingState, Severity

SILENT = ("pass", "notApplicable")  #: kinds of results that report no problem
MOST_TITLE = 200  # characters
BATCH = 500  # results between two reports of progress

ADD_RUN = """
INSERT INTO tool_runs (
    scan_id, tool, tool_version, digest, rules, complete, successful, files, failed_files, scope, detail, category,
    troubles, left_out
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id
"""
# Revisions of reports count down from -1, because resolved references belong to the revisions of trees, from 1 up.
NEXT_REVISION = "SELECT min(0, coalesce(min(revision), 0)) - 1 FROM scans WHERE lineage_id = ?"
FILES_OF = "SELECT DISTINCT file_path FROM findings WHERE lineage_id = ? AND tool = ?"
ADD_FILE = """
INSERT INTO scan_files (scan_id, file_path, file_hash, status) VALUES (?, ?, ?, 'pending')
    ON CONFLICT (scan_id, file_path) DO NOTHING
"""
# The suppressions in a report's results, with the stored suppressions from reports.
TOLD = """
SELECT s.finding_id, f.detail, c.body FROM sightings AS s JOIN findings AS f ON f.id = s.finding_id
  LEFT JOIN finding_contents AS c ON c.id = s.content_id WHERE s.run_id = ?
"""
SUPPRESSED = """
SELECT finding_id, id, justification, lifted_at, lifted_by FROM suppressions
 WHERE lineage_id = ? AND by = ? AND finding_id IS NOT NULL ORDER BY id
"""
SUPPRESS = "INSERT INTO suppressions (lineage_id, finding_id, justification, by) VALUES (?, ?, ?, ?)"
LIFT = "UPDATE suppressions SET lifted_at = ?, lifted_by = ? WHERE id = ?"
EVENT = "INSERT INTO finding_events (finding_id, scan_id, action, by, note) VALUES (?, ?, ?, ?, ?)"


@described
class ImportResult(NamedTuple):
    """The result of loading a report. ``again``: the report repeats the latest one, that of ``scan``, and only the time
    of the tool's last run was recorded. ``troubles`` are the reasons why a missing result does not prove its absence:
    the tool failed, or a part could not be used. A gate must not pass then.

    ``results`` counts the recorded ones, which are new, unchanged, updated or reopened. ``fixed`` and ``not_checked``
    count findings of the same tools that are not in the report. ``passed`` counts results that report no problem;
    ``skipped`` ones could not be used, see ``problems``.
    """

    scan: int
    runs: int = 0
    results: int = 0
    new: int = 0
    unchanged: int = 0
    updated: int = 0
    reopened: int = 0
    fixed: int = 0
    not_checked: int = 0
    passed: int = 0
    skipped: int = 0
    problems: list[SarifProblem] = []
    again: bool = False
    troubles: list[str] = []


class _Report:
    """One completely read run of a report. An unusable run is empty and has the reason as a doubt."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.tool = run.tool
        self.incoming: list[Incoming] = []
        self.passed = 0
        self.suppresses = False

    @classmethod
    def lost(cls, one: Lost) -> _Report:
        """Return the row of a run that cannot be used."""
        return cls(Run(one.run_index, one.tool or UNNAMED, None, {}, [], {}, False, None, [], one.results, None, None,
                       {}, doubts=(one.reason,)))  # fmt: skip

    @property
    def skipped(self) -> int:
        return max(0, (self.run.results or 0) - self.passed - len(self.incoming))

    @property
    def whole(self) -> bool:
        """Whether missing results count as fixed, within the coverage of the run."""
        return self.run.successful is not False and self.run.results is not None and not self.skipped and not (
            self.run.doubts
        )  # fmt: skip

    @property
    def troubles(self) -> list[str]:
        """The reasons why the result of the run is incomplete."""
        told = list(self.run.doubts)
        if self.skipped:
            told.append(f"{self.skipped:,} of {self.run.results:,} results could not be used and were left out")
        if self.run.results is None and not told:
            told.append("it has no list of results")
        for what, found in (("file", self.run.failed_files), ("rule", list(self.run.failed_rules))):
            if found:
                some = ", ".join(found[:3]) + (f" and {len(found) - 3:,} more" if len(found) > 3 else "")
                told.append(f"the tool failed on {len(found):,} {what}{'' if len(found) == 1 else 's'}: {some}")
        return told


class Sarif(Domain):
    """SARIF 2.1.0: load reports into a target, and write the findings of a scan."""

    @long
    def load(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        target: str | None = None,
        root: str | os.PathLike[str] | None = None,
        scan: Scan | int | None = None,
        scope: Iterable[str] | None = None,
        severities: Mapping[str, Severity] | None = None,
        strict: bool = False,
        progress: ProgressCallback | None = None,
    ) -> ImportResult:
        """Record the results of a report as known or new findings of ``target``. Atomic.

        The report becomes a new scan of the target, or a part of ``scan``. ``root`` is the folder that the tool
        scanned: the lines and symbols of its files help to recognise moved findings. Files outside it are never read.
        If the tool scanned only some files, ``scope`` has patterns for them, in the syntax of ``.gitignore``; findings
        in other files are not checked. Findings that are missing from the report are fixed, unless the tool failed,
        some of its results could not be used, or they belong to another category (the automation id of a run up to its
        last slash). Decisions of people stay unchanged. ``severities`` are the severities of rules, which count before
        those of the report: ``{"bandit:B101": "info"}``, also ``"B101"`` for any tool and ``"bandit:*"`` for the other
        rules of one.

        Loading the same file again with the same ``scope`` and the same effect of ``severities`` only records another
        run of the tool, if it is still the latest report of its tools and categories and none of its findings was
        marked as fixed since; otherwise it becomes a new scan. An identical result of another report of the same
        ``scan``, tool and category is recorded once. ``file`` is a path or an open binary file. An unusable result is
        skipped and reported as a problem. The report of a failed tool, or an unusable run, is recorded with its
        ``troubles``. With ``strict``, reports with troubles or problems are refused.

        ``progress`` is called in this thread with the finished results and all results. Each counts twice: when it is
        read, and when it is recorded. The total grows with each run. An exception of it cancels the work, and nothing
        is written. It must not write to this store, which is locked. Raises InvalidArgument, with nothing written, for
        a file that is not complete SARIF 2.1.0, NotFound for an unknown scan, IllegalMove for a failed one.
        """
        meter = Meter(progress)
        given = None if scan is None else Scans(self.db).get(scan)
        target = _target(target, given)
        patterns = _patterns(scope)
        chosen = Severities(severities)
        kept = None if given is None or given.root is None else stored_root(given.root)
        folder = kept if root is None else check_path(root, "root")
        if root is not None and not os.path.isdir(folder or ""):
            raise InvalidArgument(f"root is {folder!r}, which is no folder; give the one that was looked at")
        problems: list[SarifProblem] = []
        with opened(file) as stream:
            digest = _digest(stream)
            if not chosen:  # otherwise the effect of the severities is known when the report was read
                with self.db.atomic():
                    known = self._repeated(target, digest, given, patterns, strict)
                    if known is not None:
                        return known
            sources = Sources(folder, None if root is not None or given is None else recorded(self.db, given.id))
            lineage = Lineage.get_or_none(Lineage.target == target)
            enclosing = Enclosing(self.db, 0 if lineage is None else lineage.id)
            reports: list[_Report] = []
            lost: list[Lost] = []
            taken = 0
            for item in read(stream, problems=problems, root=folder, lost=lost):
                if isinstance(item, Run):
                    reports.append(_Report(item))
                    meter.expect(2 * (item.results or 0))
                else:
                    _take(reports[-1], item, sources, enclosing, chosen)
                    taken += 1
                    if taken % BATCH == 0:
                        meter.add(BATCH)
            digest = chosen.identity(digest)
            if not reports and not lost:
                lost.append(Lost(0, None, "the report holds no run", None))
            reports += map(_Report.lost, lost)
            troubles = [f"{report.tool}: {each}" for report in reports for each in report.troubles]
            if strict and (troubles or problems):
                raise _refused([*troubles, *(f"{path} {reason}" for path, reason in problems)])
            with self.db.atomic():
                known = self._repeated(target, digest, given, patterns, strict)
                if known is not None:
                    return known
                row = given if given is not None else self._begin(target, folder)
                found = self._record(row, reports, digest, patterns, sources, meter)
                meter.end()
                return found._replace(problems=problems, troubles=troubles)

    @long
    def dump(
        self,
        scan: Scan | int | None,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        target: str | None = None,
        only: Iterable[FindingState] | None = None,
        github: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Dumped:
        """Write the findings of a scan as SARIF 2.1.0: one run for each of its reports, and one for the store's own
        findings.

        Each result has the values of that scan, with its state relative to the previous scan; fixed findings are
        ``absent``. Without a scan, the file contains all findings of a target (by default the only one of the store),
        like ``store.findings.list()``. ``only`` selects states: new, unchanged, updated, reopened, fixed, and, without
        a scan, not_checked. With ``github`` the file keeps within the limits of that host, without fixed findings, and
        the omissions are returned. The same findings give the same bytes. A file at a path is replaced at the end.
        ``progress`` is called in this thread with the written results and all results; an exception of it cancels the
        work, and the file stays as it was.

        Raises NotFound, Ambiguous, and InvalidArgument for an unknown state.
        """
        known = SIGHTINGS if scan is not None else FINDING_STATES
        states = known if only is None else tuple(check_list(only, "only"))
        if not states or not all(state in known for state in states):
            raise InvalidArgument(f"only is {shown(only)}; give a list of: {', '.join(known)}")
        row = pick(self.db, scan, target)
        return dump(self.db, row, file, states, github, whole=scan is None, progress=progress)

    def _repeated(
        self, target: str, digest: str, given: Scan | None, scope: list[str] | None, strict: bool
    ) -> ImportResult | None:
        """Record a repeated report; see :mod:`scanstore.sarif.repeats`."""
        found = repeats.find(self.db, target, digest, None if given is None else given.id, scope)
        if found is None:
            return None
        if strict and found.troubles:
            raise _refused(found.troubles)
        repeats.count(self.db, found, digest)
        return ImportResult(found.scan, again=True, troubles=found.troubles)

    def _begin(self, target: str, root: str | None) -> Scan:
        Lineage.insert(target=target).on_conflict_ignore().execute()
        lineage = Lineage.get(Lineage.target == target)
        now = utcnow()
        return insert_row(
            Scan,
            lineage=lineage,
            target=target,
            name=os.path.basename(target) or target,
            root=None if root is None else root_name(root),
            kind="results",
            status="completed",
            phase="completed",
            revision=self.db.execute_sql(NEXT_REVISION, (lineage.id,)).fetchone()[0],
            started_at=now,
            completed_at=now,
        )

    def _record(
        self,
        scan: Scan,
        reports: list[_Report],
        digest: str,
        scope: list[str] | None,
        sources: Sources,
        meter: Meter,
    ) -> ImportResult:
        tools = sorted({report.tool for report in reports})
        known = {
            tool: [path for (path,) in self.db.execute_sql(FILES_OF, (scan.lineage_id, tool)).fetchall()]
            for tool in tools
        }
        if scan.kind == "results":
            for path in {path for paths in known.values() for path in paths}:
                sources.get(path)  # a file without findings may still exist, so it was not renamed
            files = ((scan.id, path, found) for path, found in sorted(sources.digests.items()))
            self.db.executemany(ADD_FILE, files)
        runs: list[tuple[int | None, list[Incoming]]] = []
        for report in reports:
            gone = [path for path in known[report.tool] if sources.missing(path)]
            runs.append((self._add_run(scan.id, report, digest, scope, gone), report.incoming))
        seen = tracking.record_runs(self.db, scan.id, runs, told=meter.add)
        for (run_id, _), report in zip(runs, reports, strict=True):
            if report.suppresses:
                _suppress(self.db, scan, run_id)
        closed = [tracking.close(self.db, scan.id, tool=tool) for tool in tools]
        return ImportResult(
            scan.id,
            len(reports),
            sum(len(report.incoming) for report in reports),
            new=seen.new,
            unchanged=seen.unchanged,
            updated=seen.updated,
            reopened=seen.reopened,
            fixed=sum(each.fixed for each in closed),
            not_checked=sum(each.not_checked for each in closed),
            passed=sum(report.passed for report in reports),
            skipped=sum(report.skipped for report in reports),
        )

    def _add_run(self, scan_id: int, report: _Report, digest: str, scope: list[str] | None, gone: Sequence[str]) -> int:
        run = report.run
        looked_at = {one.path for one in run.artifacts if "analysisTarget" in one.roles}
        files = looked_at | {one.file_path for one in report.incoming} | set(gone) if looked_at else None
        detail = {
            "properties": run.properties,
            "artifacts": [list(one) for one in run.artifacts],
            "automation_id": run.automation_id,
            "vcs": None if run.vcs is None else list(run.vcs),
            "successful": run.successful,
            "used": sorted(run.used),
            "off": sorted(run.off),
            "unsure": sorted(run.unsure),
        }
        values = (
            scan_id, report.tool, run.tool_version or "", f"{digest}:{run.index}",
            dump_json([rule._asdict() for rule in run.rules.values()]), run.complete,
            report.whole, None if files is None else dump_json(sorted(files)), dump_json(run.failed_files),
            None if scope is None else dump_json(scope), pack(detail),
            (run.automation_id or "").rpartition("/")[0], dump_json(report.troubles),
            None if run.results is None else report.skipped,
        )  # fmt: skip
        return int(self.db.execute_sql(ADD_RUN, values).fetchall()[0][0])


def _refused(reasons: Sequence[str]) -> InvalidArgument:
    more = f"; and {len(reasons) - 5:,} more" if len(reasons) > 5 else ""
    return InvalidArgument(
        f"the report is refused, and nothing was written: {'; '.join(reasons[:5])}{more}; without strict (--strict) it"
        " is recorded as a run that proves nothing"
    )


# Reading


@contextmanager
def opened(file: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    """Provide a file that can be read more than once, from its current position. Raises InvalidArgument for anything
    but a file.
    """
    import tempfile

    if isinstance(file, str | os.PathLike):
        name = check_path(file, "file")
        try:
            stream: BinaryIO = open(name, "rb")  # noqa: SIM115
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise InvalidArgument(f"{name} cannot be read: {error.strerror}; give the path of a report") from error
        except OSError as error:
            raise refused(error, name, "read") from error
        with refusing(name, "read"), stream, opened(stream) as same:
            yield same
        return
    if not hasattr(file, "read") or hasattr(file, "encoding"):
        raise InvalidArgument(f"file is {shown(file)}; give a path, or a file opened in binary mode")
    if file.seekable():
        yield file
        return
    with refusing("the report, or a temporary file for it,", "read"), tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy)
        copy.seek(0)
        yield copy


def _digest(stream: BinaryIO) -> str:
    start = stream.tell()
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    stream.seek(start)
    return digest.hexdigest()


def _target(target: object, scan: Scan | None) -> str:
    if scan is not None:
        if scan.status in ("failed", "cancelled"):
            raise IllegalMove(f"scan {scan.id} is {scan.status}; load the report without a scan, or into another one")
        if target is not None and target != scan.target:
            raise InvalidArgument(f"scan {scan.id} is of {scan.target!r}, not of {target!r}; give one of the two")
        return str(scan.target)
    if not isinstance(target, str) or not target.strip():
        raise InvalidArgument(f"target is {shown(target)}; say what the report is about: a path, a repository's name")
    return target


def _patterns(scope: object) -> list[str] | None:
    if scope is None:
        return None
    if isinstance(scope, str | bytes) or not isinstance(scope, Iterable):
        raise InvalidArgument(f"scope is {shown(scope)}; give a list of patterns such as 'src/'")
    from scanstore.indexing.walk import patterns  # start-up: loads pathspec

    chosen = list(scope)
    if not chosen or not all(isinstance(one, str) and one.strip() for one in chosen):
        raise InvalidArgument(f"scope is {shown(chosen)}; give at least one pattern such as 'src/'")
    patterns("scope", chosen)
    return chosen


def _take(report: _Report, result: Result, sources: Sources, enclosing: Enclosing, severities: Severities) -> None:
    if result.kind in SILENT or result.baseline_state == "absent":
        report.passed += 1
        return
    if result.suppressions is not None:
        report.suppresses = True
    if severities:
        result = result._replace(severity=severities.of(report.tool, result.rule_id or "", result.severity))
    report.incoming.append(_incoming(report, result, sources, enclosing))


def _incoming(report: _Report, result: Result, sources: Sources, enclosing: Enclosing) -> Incoming:
    rule_id, message = result.rule_id or "", result.message
    rule = report.run.rules.get(result.rule_id or "")
    path, line, end = result.uri or "", result.start_line, result.end_line
    snippet = result.snippet or ""
    source: SourceText | None = sources.get(path) if path else None
    symbol = None if source is None or line is None else enclosing.name(path, source.digest, line)
    fingerprints: Mapping[str, str] = result.partial_fingerprints
    if result.fingerprints:
        fingerprints = {**fingerprints, **result.fingerprints}
    traits = traits_of(
        None if source is None else source.lines,
        tool=report.tool,
        rule=rule_id,
        path=path or None,
        line=line,
        message=message,
        snippet=snippet,
        fingerprints=fingerprints,
        symbol=symbol,
        file_hash=None if source is None else source.digest,
    )
    title = (rule and (rule.short or rule.name)) or message or rule_id or "untitled"
    return Incoming(
        report.tool,
        rule_id,
        _title(title),
        message,
        rule_id or "unspecified",
        result.severity,
        path,
        traits,
        line,
        None if end is None or line is None or end < line else end,
        result.start_column,
        result.end_column,
        snippet,
        result.cwe[0] if result.cwe else None,
        symbol=symbol,
        detail=_detail(result, usual_level(rule, result.kind)),
    )


@lru_cache(maxsize=256)
def _title(text: str) -> str:
    first = text.strip().partition("\n")[0].rstrip()
    return first if len(first) <= MOST_TITLE else first[: MOST_TITLE - 1] + "…"


def _detail(result: Result, usual: str) -> bytes | None:
    """Return the values of a result without a column, packed because texts may be long."""
    detail: dict[str, object] = {}
    if result.level != usual:
        detail["level"] = result.level
    if result.kind != "fail":
        detail["kind"] = result.kind
    if len(result.cwe) > 1:
        detail["cwe"] = list(result.cwe)
    if result.fingerprints:
        detail["fingerprints"] = dict(result.fingerprints)
        detail["partial_fingerprints"] = dict(result.partial_fingerprints)
    for name, kept in (
        ("code_flows", result.code_flows), ("related", result.related), ("locations", result.locations),
    ):  # fmt: skip
        if kept:
            detail[name] = shifted(kept, result.uri, -(result.start_line or 0), away=True)
    if result.properties:
        detail["properties"] = result.properties
    if result.suppressions is not None:
        detail["suppressions"] = result.suppressions
    if result.guid is not None:
        detail["guid"] = result.guid
    return pack(detail) if detail else None


# Suppressions


def _suppress(db: Database, scan: Scan, run_id: int | None) -> None:
    """Update the suppressions from reports by this report. Suppressions that people lifted stay lifted."""
    standing: dict[int, tuple[int, str, object, object]] = {}
    for finding, *row in db.execute_sql(SUPPRESSED, (scan.lineage_id, BY)).fetchall():
        standing[finding] = (row[0], row[1], row[2], row[3])
    added, lifted, events = [], [], []
    now = format_time(utcnow())
    for finding, detail, body in db.execute_sql(TOLD, (run_id,)).fetchall():
        told: Any = unpack(detail) if body is None else content_of(body)["detail"]
        reason = justification((told or {}).get("suppressions") or ())
        key, was, when, who = standing.get(finding, (None, "", now, BY))
        if reason is not None and (key is None or when is not None) and who == BY:
            added.append((scan.lineage_id, finding, reason, BY))
            events.append((finding, scan.id, "suppress", tracking.BY, reason))
        elif key is not None and when is None and reason != was:
            lifted.append((now, BY, key))
            if reason is not None:
                added.append((scan.lineage_id, finding, reason, BY))
            else:
                events.append((finding, scan.id, "unsuppress", tracking.BY, ""))
    db.executemany(LIFT, lifted)
    db.executemany(SUPPRESS, added)
    db.executemany(EVENT, events)
