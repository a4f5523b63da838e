"""Coverage: whether a scan checked for a finding that it did not report. Only then the finding is fixed.

A finding is fixed only if its file was examined and its rule ran. It is not fixed if the file was skipped, failed or
out of scope, if the rule was disabled, or if a part of the analysis is unfinished or failed. A report states its own
coverage, for its series of analyses. For an analysis, the chunks and drafts of each file are checked. A snapshot shows
which files were deleted.

Change here: when a file or rule counts as checked. In doubt it does not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from scanstore.db.database import Database
from scanstore.db.paths import stored_root, unescape_path
from scanstore.db.values import dump_json
from scanstore.findings.content import RunDetail, run_detail

RUNS = """
SELECT id, category, detail, rules, complete, successful, files, failed_files, scope FROM tool_runs
 WHERE scan_id = ? AND tool = ? ORDER BY id
"""
UNNAMED = "unnamed tool"  #: the tool of a run without a tool name
DETAILS = "SELECT r.id, r.category FROM json_each(?) AS i CROSS JOIN tool_runs AS r ON r.id = i.value"
UNKNOWN = "SELECT EXISTS (SELECT 1 FROM tool_runs WHERE scan_id = ? AND tool = ?)"
RULES = "SELECT rules, detail FROM tool_runs WHERE id = ?"
# For each path: its status in the scan, whether all its chunks were analysed, and whether any draft is undecided.
FILES = """
SELECT i.value, g.status,
       NOT EXISTS (SELECT 1 FROM chunk_work WHERE scan_file_id = g.id AND status <> 'done'),
       EXISTS (SELECT 1 FROM draft_findings AS d LEFT JOIN verified_findings AS v ON v.draft_id = d.id
                WHERE d.scan_id = :scan AND d.file_path = i.value
                  AND (d.status IN ('pending', 'verifying', 'failed', 'skipped')
                       OR (d.status = 'verified' AND v.status IS NOT 'complete')))
  FROM json_each(:paths) AS i CROSS JOIN scan_files AS g ON g.scan_id = :scan AND g.file_path = i.value
"""


def categories(db: Database, runs: Iterable[int | None]) -> dict[int | None, str]:
    """Return the category of each report: its automation id up to the last slash, or ''.

    A finding without a report has no category.
    """
    keys = {key for key in runs if key is not None}
    found: dict[int | None, str] = {None: ""}
    found.update(db.execute_sql(DETAILS, (dump_json(sorted(keys)),)).fetchall())
    return found


def apart(one: str, other: str) -> bool:
    """Whether two categories cover different findings. An empty category covers all findings."""
    return bool(one and other) and one != other


class File(NamedTuple):
    """A file of the scan: its status, whether all its chunks are done, and whether any draft is undecided."""

    status: str
    analysed: bool
    undecided: bool


class CoveredRun:
    """The coverage that one report states."""

    def __init__(
        self,
        category: str,
        detail: bytes | None,
        rules: str,
        complete: int,
        files: str | None,
        failed_files: str,
        scope: str | None,
    ) -> None:
        self.category = category
        told = run_detail(detail)
        self.rules = _listed(rules)
        self.used, self.off, self.unsure = map(
            frozenset, (told.get("used") or (), told.get("off") or (), told.get("unsure") or ())
        )
        self.arguments = _arguments(told)
        self.complete = bool(complete)
        self.files = None if files is None else set(json.loads(files))
        self.failed = set(json.loads(failed_files))
        self.scope = None if scope is None else _matcher("scope", json.loads(scope))

    def ran(self, rule: str, before: Before) -> bool:
        """Whether the rule ran. A rule with a result ran; a rule that the run's own configuration disables did not.

        A rule that is disabled by default may have been selected, which the report does not show. It counts as selected
        if the run that last reported the finding listed it in the same way, and the tool was started with the same
        arguments.
        """
        names = [rule]
        while "/" in names[-1]:  # a/b is a sub-rule of a
            names.append(names[-1].rpartition("/")[0])
        if not self.unsure.isdisjoint(names):
            return False
        if not self.used.isdisjoint(names):
            return True
        listed = next((self.rules[name] for name in names if name in self.rules), None)
        if not self.off.isdisjoint(names) or (listed is None and self.complete):
            return False
        return listed is not False or before.selected(names, self.arguments)

    def covers(self, rule: str, path: str, before: Before) -> bool:
        """Whether the rule ran and the file was checked."""
        return (
            self.ran(rule, before)
            and path not in self.failed
            and (self.files is None or path in self.files)
            and (self.scope is None or (bool(path) and self.scope(path)))
        )


class Before:
    """The run that last reported a finding."""

    def __init__(self, db: Database, run: int | None) -> None:
        self._db, self._run = db, run
        self._known: tuple[dict[str, bool], object] | None = None

    def selected(self, names: Iterable[str], arguments: object) -> bool:
        """Whether this run listed a reported rule as disabled by default, and had the same arguments."""
        if self._known is None:
            rules, detail = self._db.execute_sql(RULES, (self._run,)).fetchone() or ("[]", None)
            self._known = _listed(rules), _arguments(run_detail(detail))
        listed, other = self._known
        told = next((listed[name] for name in names if name in listed), None)
        return told is False and (arguments is None or other is None or arguments == other)


class Coverage:
    """The files and rules that one tool checked in one scan, limited to ``paths``."""

    def __init__(self, db: Database, scan_id: int, tool: str, paths: Iterable[str]) -> None:
        kind, recorded, analysed, root, options = db.execute_sql(
            "SELECT kind, revision IS NOT NULL, analyzed_at IS NOT NULL AND status = 'completed', root, options"
            " FROM scans WHERE id = ?",
            (scan_id,),
        ).fetchone()
        runs = db.execute_sql(RUNS, (scan_id, tool)).fetchall()
        self.runs = [
            CoveredRun(category, detail, rules, complete, *rest)
            for _, category, detail, rules, complete, _, *rest in runs
        ]
        self._db = db
        self._before: dict[int | None, Before] = {}
        self.tree = kind == "source"
        self.analysis = self.tree and tool == "scanstore" and not runs
        unnamed = db.execute_sql(UNKNOWN, (scan_id, UNNAMED)).fetchone()[0] and not self.analysis
        self.nothing = (
            not (analysed if self.analysis else runs)
            or not all(run[5] for run in runs)
            or bool(unnamed)
            or (self.tree and not recorded)
        )
        self.root = None if root is None else stored_root(root)
        self.files: dict[str, File] = {}
        self.chosen = None
        if self.tree and not self.nothing:
            names = dump_json(sorted(paths))
            for path, status, done, undecided in db.execute_sql(FILES, {"scan": scan_id, "paths": names}):
                self.files[path] = File(status, bool(done), bool(undecided))
            chosen: dict[str, Any] = json.loads(options)
            self.include = _matcher("include", chosen.get("include") or [])
            self.exclude = _matcher("exclude", chosen.get("exclude") or [])

    def covers(self, rule: str, path: str, category: str = "", last_run: int | None = None) -> bool:
        """Whether a report of the same category would have reported a finding of this rule in this file.

        ``last_run`` is the run that last reported it.
        """
        if self.nothing:
            return False
        before = self._before.setdefault(last_run, Before(self._db, last_run))
        runs = (run for run in self.runs if not apart(category, run.category))
        if not (self.analysis or any(run.covers(rule, path, before) for run in runs)):
            return False
        if not self.tree:
            return True
        if not path:
            return not self.analysis
        file = self.files.get(path)
        if file is None:
            return self._gone(path)
        return file.status == "done" and (not self.analysis or (file.analysed and not file.undecided))

    def _gone(self, path: str) -> bool:
        """Whether a file that is missing from the scan was deleted, rather than excluded."""
        if (self.include and not self.include(path)) or (self.exclude and self.exclude(path)):
            return False
        return self.root is None or not os.path.lexists(os.path.join(self.root, unescape_path(path)))


def _listed(rules: str) -> dict[str, bool]:
    """Return the rules that a report describes, each with its default enablement."""
    listed: Any = json.loads(rules)
    listed = [{"id": key, **rule} for key, rule in listed.items()] if isinstance(listed, dict) else listed
    return {rule["id"]: rule.get("enabled", True) is not False for rule in listed}


def _arguments(detail: RunDetail) -> list[object] | None:
    """Return the arguments of the tool, if its report has them."""
    invocations = (detail.get("properties") or {}).get("invocations")
    told = [
        one.get("arguments") or one.get("commandLine")
        for one in (invocations if isinstance(invocations, list) else ())
        if isinstance(one, dict)
    ]
    return told if any(told) else None


def _matcher(name: str, patterns: list[str]) -> Callable[[str], bool] | None:
    if not patterns:
        return None
    from scanstore.indexing.walk import patterns as compiled  # start-up: loads pathspec

    spec = compiled(name, patterns)
    return None if spec is None else spec.match_file
