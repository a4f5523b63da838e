"""Merging of reported drafts with equivalent ones.

Two reports become one draft if they have the same file, vulnerability type and title (ignoring case and punctuation)
and are within a few lines of each other. Reports of one call have distinct lines, so they are never merged with each
other, and at most one of them is merged into each existing draft. Reporting the same again therefore changes nothing.

Change here: which values merging keeps. ``payloads`` checks the reported values.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from scanstore.analysis.models import DraftFinding
from scanstore.analysis.payloads import CheckedDraft, title_key
from scanstore.db.arguments import check_optional_integer
from scanstore.db.bulk import Writer
from scanstore.db.database import Database
from scanstore.db.state_machine import SEVERITIES
from scanstore.db.values import dump_json
from scanstore.errors import InvalidArgument

if TYPE_CHECKING:
    from scanstore.snapshots.models import ScanFileChunk

WINDOW = 5  #: two equivalent reports within this many lines are merged
NEW = (
    "id", "scan_id", "chunk_id", "file_path", "title", "title_key", "vulnerability_type", "severity", "rank",
    "line_number", "end_line", "snippet", "reason", "cwe", "confidence", "auto_detected", "source_models", "vote_count",
)  # fmt: skip
MERGED = (
    "chunk_id", "severity", "rank", "end_line", "snippet", "reason", "cwe", "confidence", "source_models", "vote_count",
)  # fmt: skip
PLACES = "SELECT id, vulnerability_type, title_key, line_number FROM draft_findings WHERE scan_id = ? AND file_path = ?"
MERGE = f"UPDATE draft_findings SET {', '.join(f'{column} = ?' for column in MERGED)} WHERE id = ?"


def write_drafts(
    db: Database,
    scan_id: int,
    drafts: Sequence[CheckedDraft],
    *,
    chunk: ScanFileChunk | None = None,
    source: str | None = None,
    window: int = WINDOW,
) -> list[int]:
    """Store checked drafts inside the caller's transaction, merged with existing ones. Return an id for each, in order.

    ``source`` is the reporter of drafts that do not name one. A merge keeps the higher severity and confidence, fills
    empty texts, and adds the votes of a new source. It changes no status. Idempotent.
    """
    if check_optional_integer(window, "window", 0, 2**31) is None:
        raise InvalidArgument("window is None; give a number of lines, or 0 for the same line only")
    if not drafts:
        return []
    votes = _votes_of(db, {draft["source"] or source for draft in drafts})
    by_file: dict[str, list[int]] = {}
    for number, draft in enumerate(drafts):
        by_file.setdefault(draft["file_path"], []).append(number)
    free = db.execute_sql("SELECT coalesce(max(id), 0) + 1 FROM draft_findings").fetchone()[0]
    ids = [0] * len(drafts)
    writer = Writer(db, DraftFinding, NEW, converted=True)
    for path, numbers in by_file.items():
        # in the order of the reports, which is that of their ids
        said: dict[tuple[tuple[str, str], int | None], list[int]] = {}
        lines: dict[tuple[str, str], list[int | None]] = {}
        for number in numbers:
            draft = drafts[number]
            key, line = (draft["vulnerability_type"].casefold(), title_key(draft["title"])), draft["line_number"]
            if (key, line) not in said:
                lines.setdefault(key, []).append(line)
            said.setdefault((key, line), []).append(number)
        known: dict[tuple[str, str], list[tuple[int | None, int]]] = {}
        for each, kind, folded, line in db.execute_sql(PLACES, (scan_id, path)).fetchall():
            known.setdefault((kind.casefold(), folded), []).append((line, each))
        pairs = {key: pair(some, known.get(key, ()), window) for key, some in lines.items()}
        rows = _read(db, [each for matches in pairs.values() for each in matches.values()])
        fresh, changed = [], []
        for (key, line), same in said.items():
            row = rows.get(pairs[key].get(line, 0))
            before = None if row is None else dict(row)
            if row is None:
                row = {**_first(drafts[same[0]]), "id": free, "scan_id": scan_id, "title_key": key[1]}
                free += 1
            for number in same:
                _merge(row, drafts[number], chunk, drafts[number]["source"] or source, votes)
                ids[number] = row["id"]
            if before is None:
                fresh.append([row[column] for column in NEW])
            elif row != before:
                changed.append([*(row[column] for column in MERGED), row["id"]])
        writer.write(_dumped(fresh, NEW))
        db.executemany(MERGE, _dumped(changed, MERGED))
    return ids


def pair(lines: Iterable[int | None], known: Sequence[tuple[int | None, int]], window: int) -> dict[int | None, int]:
    """Assign a known draft to each line: the nearest within ``window`` lines first, and each draft once.

    ``known`` are (line, id). A missing line matches only a missing line.
    """
    matches: dict[int | None, int] = {}
    somewhere = sorted((line, each) for line, each in known if line is not None)
    near = []
    for line in lines:
        if line is None:
            nowhere = [each for known_line, each in known if known_line is None]
            if nowhere:
                matches[None] = min(nowhere)
            continue
        first = bisect_left(somewhere, (line - window, 0))
        for other, each in somewhere[first : bisect_right(somewhere, (line + window, 2**63))]:
            near.append((abs(line - other), line, other, each))
    taken = set()
    for _, line, _, each in sorted(near):
        if line not in matches and each not in taken:
            matches[line] = each
            taken.add(each)
    return matches


def _votes_of(db: Database, sources: Iterable[str | None]) -> dict[str, int]:
    names = dump_json([source for source in sources if source is not None])
    sql = "SELECT name, votes FROM model_configs WHERE name IN (SELECT value FROM json_each(?))"
    return dict(db.execute_sql(sql, (names,)).fetchall())


def _read(db: Database, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    if not ids:
        return {}
    columns = ("id", "line_number", *MERGED)
    sql = f"SELECT {', '.join(columns)} FROM draft_findings WHERE id IN (SELECT value FROM json_each(?))"
    rows = [dict(zip(columns, row, strict=True)) for row in db.execute_sql(sql, (dump_json(list(ids)),)).fetchall()]
    return {row["id"]: {**row, "source_models": json.loads(row["source_models"])} for row in rows}


def _first(draft: CheckedDraft) -> dict[str, Any]:
    row = {key: value for key, value in draft.items() if key != "source"}
    rank = SEVERITIES.index(draft["severity"])
    return {**row, "rank": rank, "chunk_id": None, "source_models": [], "vote_count": None}


def _merge(
    row: dict[str, Any], draft: CheckedDraft, chunk: ScanFileChunk | None, source: str | None, votes: dict[str, int]
) -> None:
    """Add the values of another equivalent report to a draft's row."""
    rank = SEVERITIES.index(draft["severity"])
    if rank < row["rank"]:
        row["severity"], row["rank"] = draft["severity"], rank
    if draft["confidence"] is not None:
        row["confidence"] = max(draft["confidence"], row["confidence"] or 0)
    for column, text in (("snippet", draft["snippet"]), ("reason", draft["reason"]), ("cwe", draft["cwe"])):
        row[column] = row[column] or text
    if row["end_line"] is None and draft["end_line"] is not None and draft["end_line"] >= (row["line_number"] or 2**63):
        row["end_line"] = draft["end_line"]
    if row["chunk_id"] is None and chunk is not None:
        row["chunk_id"] = chunk.id
    if source is not None and source not in row["source_models"]:
        row["source_models"] = [*row["source_models"], source]
        row["vote_count"] = (row["vote_count"] or 0) + votes.get(source, 1)
    elif row["vote_count"] is None:
        row["vote_count"] = 1


def _dumped(rows: Iterable[list[object]], columns: Sequence[str]) -> Iterable[list[object]]:
    place = columns.index("source_models")
    for row in rows:
        row[place] = dump_json(row[place])
        yield row
