"""Full-text search over findings and symbols, ranked by BM25.

The tables are in migrations/004_search.py. Triggers record changes, and ids show which findings are new. A search first
updates the part of the index that it needs: all findings, and the symbols of files that were not searched before.
Symbols belong to a file version, so each is indexed once for all scans with that version.

Every word of a query is quoted for FTS5, so any text is valid. Change here: the query syntax, how names are split into
words, and the fields of a hit.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from scanstore.db.arguments import check_choice, check_list, check_optional_integer, check_string
from scanstore.db.domain import Domain
from scanstore.db.notebooks import described
from scanstore.db.progress import Meter
from scanstore.db.rows import Rows
from scanstore.errors import InvalidArgument, NotFound, ReadOnly, shown
from scanstore.snapshots.scans import Scans

if TYPE_CHECKING:
    from scanstore.db.progress import ProgressCallback
    from scanstore.db.words import SearchKind
    from scanstore.snapshots.models import Scan

KINDS: tuple[SearchKind, ...] = ("finding", "symbol")
WHAT = {"finding": "new findings", "symbol": "symbols of new files"}
MARKS = ("«", "»")
MOST_RANKED = 2000  # rows of a kind, because ranking a row takes microseconds and common words match most rows
MOST_WORDS = 64  # words of a query; further words are ignored
EVERY = 2**31
# findings and files per transaction, so that other writers can write between them
AT_ONCE = {"finding": 5000, "symbol": 200}

_PIECE = re.compile(r'(?P<without>(?<!\S)-(?=[\w"]))?(?:"(?P<phrase>[^"]*)"|(?P<words>[^\s"]+))')
_WORD = re.compile(r"[^\W_]+")
_INSIDE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

# In the order of the ids: new findings have higher ids than known ones, and a lower id makes FTS5 flush its buffer,
# which took six times as long.
CHANGED = {
    "symbol": "SELECT id FROM search_changes WHERE kind = 'symbol' ORDER BY id",
    "finding": """
        SELECT id FROM search_changes WHERE kind = 'finding'
         UNION SELECT id FROM findings WHERE id > (SELECT coalesce(max(id), 0) FROM finding_search_docsize)
         ORDER BY id""",
}
SETTLED = "DELETE FROM search_changes WHERE kind = ? AND id IN (SELECT value FROM json_each(?))"
FORGET_FINDINGS = "DELETE FROM finding_search WHERE rowid IN (SELECT value FROM json_each(?))"
LEARN_FINDINGS = """
INSERT INTO finding_search (rowid, title, message, vulnerability_details, remediation_steps, snippet, notes)
SELECT f.id, f.title, f.message, f.vulnerability_details, f.remediation_steps, f.snippet,
       (SELECT group_concat(note, char(10)) FROM finding_events WHERE finding_id = f.id AND note <> '')
  FROM json_each(?) AS v JOIN findings AS f ON f.id = v.value
"""
FORGET_SYMBOLS = """
DELETE FROM symbol_search WHERE rowid IN
    (SELECT d.id FROM json_each(?) AS v
      CROSS JOIN symbol_search_docsize AS d ON d.id >= v.value << 24 AND d.id < (v.value + 1) << 24)
"""
LEARN_SYMBOL = "INSERT INTO symbol_search (rowid, name, scope, docstring) VALUES (?, ?, ?, ?)"
MISSING = """
SELECT DISTINCT f.version_id FROM json_each(?) AS c CROSS JOIN scan_files AS f ON f.scan_id = c.value
 WHERE +f.version_id IS NOT NULL
   AND NOT EXISTS (SELECT 1 FROM symbol_search_docsize AS d
                    WHERE d.id >= f.version_id << 24 AND d.id < (f.version_id + 1) << 24)
   AND EXISTS (SELECT 1 FROM symbol_facts AS s WHERE s.version_id = f.version_id)
 ORDER BY f.version_id
"""
TEXTS = """
SELECT s.version_id << 24 | s.ordinal, n.text, q.text, coalesce(json_extract(s.metadata, '$.docstring'), '')
  FROM json_each(?) AS v CROSS JOIN symbol_facts AS s ON s.version_id = v.value
  JOIN names AS n ON n.id = s.name_id JOIN names AS q ON q.id = s.qualified_name_id
 WHERE NOT EXISTS (SELECT 1 FROM symbol_search_docsize AS d WHERE d.id = s.version_id << 24 | s.ordinal)
 ORDER BY s.version_id, s.ordinal
"""
LATEST = """
SELECT (SELECT s.id FROM scans AS s WHERE s.lineage_id = l.id AND s.revision IS NOT NULL AND s.kind = 'source'
         ORDER BY s.revision DESC LIMIT 1)
  FROM lineages AS l WHERE ?1 IS NULL OR l.id = ?1
"""
FINDINGS = """
SELECT id, rank FROM (SELECT w.rowid AS id, w.rank AS rank FROM finding_search AS w
                       WHERE w.finding_search MATCH ?1 {} ORDER BY w.rowid DESC LIMIT ?4)
 ORDER BY rank, id LIMIT ?2
"""
IN_TARGET = "AND EXISTS (SELECT 1 FROM findings AS f WHERE f.id = w.rowid AND f.lineage_id = ?3)"
IN_SCAN = """AND EXISTS (SELECT 1 FROM sightings AS g
                          WHERE g.scan_id = ?3 AND g.finding_id = w.rowid AND g.state <> 'fixed')"""
FINDING = """
SELECT f.title, coalesce(g.file_path, f.file_path),
       CASE WHEN g.scan_id IS NULL THEN f.line_number ELSE g.line_number END,
       snippet(finding_search, -1, ?3, ?4, '…', 24), l.target
  FROM finding_search AS w JOIN findings AS f ON f.id = w.rowid JOIN lineages AS l ON l.id = f.lineage_id
  LEFT JOIN sightings AS g ON g.finding_id = f.id AND g.scan_id = ?5
 WHERE w.finding_search MATCH ?1 AND w.rowid = ?2
"""
SYMBOLS = """
SELECT id, rank, file_id, file_path,
       (SELECT c.target FROM scan_files AS o JOIN scans AS c ON c.id = o.scan_id WHERE o.id = file_id)
  FROM (SELECT w.rowid AS id, w.rank AS rank, f.id AS file_id, f.file_path AS file_path FROM symbol_search AS w
         CROSS JOIN scan_files AS f ON f.version_id = w.rowid >> 24 AND f.scan_id IN (SELECT value FROM json_each(?3))
         WHERE w.symbol_search MATCH ?1 ORDER BY w.rowid DESC LIMIT ?4)
 ORDER BY rank, id, file_id LIMIT ?2
"""
SYMBOL = """
SELECT q.text, s.start_line, snippet(symbol_search, 2, ?3, ?4, '…', 24)
  FROM symbol_search AS w JOIN symbol_facts AS s ON s.version_id = w.rowid >> 24 AND s.ordinal = w.rowid & 16777215
  JOIN names AS q ON q.id = s.qualified_name_id
 WHERE w.symbol_search MATCH ?1 AND w.rowid = ?2
"""


@described
class Hit(NamedTuple):
    """A search result: ``id`` of a finding or of a symbol, ``place`` as ``file:line``.

    It belongs to ``target``. ``snippet`` is one line of its text, with marks around the matched words. A larger
    ``rank`` is a better match.
    """

    kind: SearchKind
    id: int
    title: str
    place: str
    snippet: str
    rank: float
    target: str


class Search(Domain):
    """``store.search(text)``: search findings and symbols by words, the best matches first."""

    def __call__(
        self,
        text: str,
        *,
        kind: SearchKind | None = None,
        scan: Scan | int | None = None,
        target: str | None = None,
        limit: int | None = 20,
        marks: tuple[str, str] = MARKS,
        progress: ProgressCallback | None = None,
    ) -> Rows[Hit]:
        """Search findings and symbols, or one ``kind`` of them, for all words of a text, the best matches first.

        If no entry has all words, entries with any of them match. Words match in any case, with or without accents, and
        in other English forms. ``"two words"`` matches a phrase, ``inj*`` the beginning of a word, and ``-word``
        excludes a word. Names match as written and by their parts: ``parse http`` finds ``parseHTTPBody`` and
        ``http_parse``. All other characters separate words, so any text is valid; a text without words finds nothing.
        The first 64 words count. If more than 2,000 rows of a kind match, the newest 2,000 are ranked.

        Findings are searched in all targets, in one target, or in one scan; symbols in the latest scan of every target,
        of one target, or in one scan. New entries are indexed first, which writes to the store and takes seconds for
        100,000 findings or symbols. Meanwhile ``progress`` is called in this thread, between transactions, with the
        indexed findings and files and all that are to be indexed, a number that may grow. An exception of it cancels
        the search; the next one indexes the rest. Raises InvalidArgument, NotFound for an unknown scan or target,
        ReadOnly if new entries cannot be indexed.
        """
        meter = Meter(progress)
        if not isinstance(text, str):
            raise InvalidArgument(f"text is {shown(text)}; give words to look for")
        kinds = KINDS if kind is None else (check_choice(kind, "kind", KINDS),)
        most = check_optional_integer(limit, "limit", 0, 2**31)
        if scan is not None and target is not None:
            raise InvalidArgument("scan and target are both given; a scan has its target, give one of them")
        only = None if scan is None else Scans(self.db).get(scan).id
        lineage = None if target is None else self._lineage(check_string(target, "target"))
        if len(around := check_list(marks, "marks")) != 2:
            raise InvalidArgument(
                f"marks is {shown(marks)}; give two texts, for before and after a word that was found"
            )
        begin, end = (check_string(mark, "a mark") for mark in around)
        queries = list(dict.fromkeys(spelled(text)))
        if not queries:
            return Rows(kind=Hit)
        scans: list[int] = []
        if "symbol" in kinds:
            scans = [only] if only is not None else self._latest(lineage)
        self._take_up(kinds, scans, meter)
        count = EVERY if most is None else most
        for query in queries:
            found: list[Hit] = []
            if "finding" in kinds:
                found += self._findings(query, count, only, lineage, (begin, end))
            if "symbol" in kinds:
                found += self._symbols(query, count, scans, (begin, end))
            if found:
                found.sort(key=lambda hit: -hit.rank)
                return Rows(found[:most], Hit)
        return Rows(kind=Hit)

    def _lineage(self, target: str) -> int:
        found = self.db.execute_sql("SELECT id FROM lineages WHERE target = ?", (target,)).fetchall()
        if not found:
            raise NotFound(f"there is no target {target!r}; store.scans.list() (scanstore scans list) shows them")
        return int(found[0][0])

    def _latest(self, lineage: int | None) -> list[int]:
        return [scan for (scan,) in self.db.execute_sql(LATEST, (lineage,)).fetchall() if scan is not None]

    def _findings(
        self, query: str, count: int, scan: int | None, lineage: int | None, marks: tuple[str, str]
    ) -> Iterator[Hit]:
        within = IN_SCAN if scan is not None else IN_TARGET if lineage is not None else ""
        bounds = (query, count, lineage if scan is None else scan, max(count, MOST_RANKED))
        run = self.db.execute_sql
        for key, rank in run(FINDINGS.format(within), bounds).fetchall():
            for title, path, line, snippet, target in run(FINDING, (query, key, *marks, scan)).fetchall():
                yield Hit("finding", key, title, _place(path, line), " ".join(snippet.split()), -rank, target)

    def _symbols(self, query: str, count: int, scans: list[int], marks: tuple[str, str]) -> Iterator[Hit]:
        run = self.db.execute_sql
        bounds = (query, count, json.dumps(scans), max(count, MOST_RANKED))
        for row, rank, file, path, target in run(SYMBOLS, bounds).fetchall():
            for name, line, snippet in run(SYMBOL, (query, row, *marks)).fetchall():
                key = file << 24 | row & 0xFFFFFF
                yield Hit("symbol", key, name, _place(path, line), " ".join(snippet.split()), -rank, target)

    def _take_up(self, kinds: Iterable[str], scans: list[int], meter: Meter) -> None:
        """Update the indexes with all findings, and with the symbols of these scans."""
        for kind in kinds:
            changed = [key for (key,) in self.db.execute_sql(CHANGED[kind]).fetchall()]
            for ids in self._batches(kind, changed, meter):
                with self.db.atomic():
                    if kind == "finding":
                        self.db.execute_sql(FORGET_FINDINGS, (ids,)).fetchall()
                        self.db.execute_sql(LEARN_FINDINGS, (ids,)).fetchall()
                    else:
                        self.db.execute_sql(FORGET_SYMBOLS, (ids,)).fetchall()
                    self.db.execute_sql(SETTLED, (kind, ids)).fetchall()
        if scans:
            missing = self.db.execute_sql(MISSING, (json.dumps(scans),)).fetchall()
            for ids in self._batches("symbol", [version for (version,) in missing], meter):
                with self.db.atomic():
                    rows = self.db.execute_sql(TEXTS, (ids,)).fetchall()
                    self.db.executemany(
                        LEARN_SYMBOL,
                        [(key, words_of(name), words_of(scope(name, full)), doc) for key, name, full, doc in rows],
                    )

    def _batches(self, kind: str, ids: list[int], meter: Meter) -> Iterator[str]:
        if ids and self.db.read_only:
            raise ReadOnly(
                f"{self.db.name} is read-only, and {WHAT[kind]} are not taken up into its full-text search yet;"
                " search once where it can be written to"
            )
        if ids:
            meter.expect(len(ids))
        for start in range(0, len(ids), AT_ONCE[kind]):
            some = ids[start : start + AT_ONCE[kind]]
            yield json.dumps(some)
            meter.add(len(some))


def _place(path: str, line: int | None) -> str:
    return path if line is None else f"{path}:{line}"


# Words


def words_of(name: str) -> str:
    """Return a name followed by its words: ``parseHTTPBody parse HTTP Body``."""
    parts = _INSIDE.sub(" ", name)
    return name if parts == name else f"{name} {parts}"


def scope(name: str, qualified: str) -> str:
    """Return a qualified name without the name itself."""
    return qualified.removesuffix(name)


def spelled(text: str) -> Iterator[str]:
    """Return the full-text queries for a text: for all its words, then for any of them. Empty without words."""
    wanted: dict[str, None] = {}
    unwanted: dict[str, None] = {}
    for piece in _PIECE.finditer(unicodedata.normalize("NFC", text)):
        place = wanted if piece["without"] is None else unwanted
        if piece["phrase"] is not None:
            terms: Iterable[str] = [f'"{" ".join(_WORD.findall(piece["phrase"]))}"']
        else:
            terms = list(map(_term, _WORD.findall(piece["words"])))
            if terms and piece["words"].endswith("*"):
                terms[-1] = f'"{_WORD.findall(piece["words"])[-1]}" *'
        for term in terms:
            if term != '""' and len(wanted) + len(unwanted) < MOST_WORDS:
                place[term] = None
    if not wanted:
        wanted, unwanted = unwanted, {}  # only excluded words, so search for them
    if not wanted:
        return
    without = f" NOT ({' OR '.join(unwanted)})" if unwanted else ""
    for how in (" AND ", " OR "):
        yield f"({how.join(wanted)}){without}"


def _term(word: str) -> str:
    parts = _INSIDE.sub(" ", word).split()
    return f'"{word}"' if len(parts) == 1 else '("{}" OR ({}))'.format(word, " AND ".join(f'"{p}"' for p in parts))
