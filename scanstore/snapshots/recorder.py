"""Writing the files of a scan: each file version with its facts once, and the version of each file in the scan.

All rows of one file are written in one transaction, so a crash never leaves a file half-recorded. Recorded versions
stay if their scan does not complete, and the next scan with the same content reuses them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scanstore.db.bulk import Writer
from scanstore.db.clocks import SIGN_OF_LIFE
from scanstore.db.database import Database
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.db.view_keys import MOST_PER_FILE
from scanstore.errors import InvalidArgument
from scanstore.indexing.facts import RESOLUTIONS, FileFacts
from scanstore.snapshots.bindings import UNFINISHED
from scanstore.snapshots.facts import ChunkFact, FileVersion, ImportFact, Name, ReferenceFact, SymbolFact

FIND_VERSION = "SELECT id, error FROM file_versions WHERE path = ? AND content_hash = ? AND indexer = ? AND module = ?"

ATTACH = """
INSERT INTO scan_files (scan_id, version_id, file_path, file_hash, status, error, created_at, updated_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (scan_id, file_path) DO UPDATE SET version_id = excluded.version_id, file_hash = excluded.file_hash,
       status = excluded.status, error = excluded.error
 WHERE version_id IS NOT excluded.version_id OR file_hash IS NOT excluded.file_hash
    OR status <> excluded.status OR error IS NOT excluded.error
"""

REPLACED = """
SELECT f.version_id FROM json_each(?1) AS w
  CROSS JOIN scan_files AS f ON f.scan_id = ?2 AND f.file_path = w.value AND f.version_id IS NOT NULL
"""
ALIVE = "UPDATE scans SET updated_at = ? WHERE id = ? AND worker IS NOT NULL AND updated_at < ?"
DROP_UNUSED = """
DELETE FROM file_versions WHERE id = ?1
   AND NOT EXISTS (SELECT 1 FROM scan_files WHERE version_id = ?1)
   AND NOT EXISTS (SELECT 1 FROM bindings WHERE version_id = ?1)
"""
IN_ONE_STATEMENT = 900
MOST_REMEMBERED = 1_000_000


class Content(NamedTuple):
    """The key of a file version: path, content hash and indexer."""

    path: str
    digest: bytes | str
    indexer: str
    module: str = ""


class InternedNames:
    """Interned texts: ``ids(texts)`` gives their ids, adding new texts. Call it inside a write transaction."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.known: dict[str, int] = {}
        self.complete = False  # whether ``known`` contains the whole table
        self.seen = (-1, -1)

    def ids(self, texts: Iterable[str]) -> dict[str, int]:
        # This or another process may have removed unused names.
        seen = (self.db.execute_sql("PRAGMA data_version").fetchone()[0], self.db.sweeps)
        if seen != self.seen or len(self.known) > MOST_REMEMBERED:
            self.known.clear()
            self.complete = False
            self.seen = seen
        known = self.known
        missing = list({text for text in texts if text not in known})
        if missing:
            last = self.db.execute_sql("SELECT coalesce(max(id), 0) FROM names").fetchone()[0]
            self.complete = self.complete or last == 0
            if not self.complete:
                for start in range(0, len(missing), IN_ONE_STATEMENT):
                    batch = missing[start : start + IN_ONE_STATEMENT]
                    marks = ", ".join("?" * len(batch))
                    known.update(self.db.execute_sql(f"SELECT text, id FROM names WHERE text IN ({marks})", batch))
                missing = [text for text in missing if text not in known]
            missing.sort()
            known.update(zip(missing, range(last + 1, last + 1 + len(missing)), strict=True))
            Writer(self.db, Name, ("text", "id"), converted=True).write((text, known[text]) for text in missing)
        return known

    def forget(self) -> None:
        """Clear the cache, because ids of a rolled-back transaction are invalid."""
        self.seen = (-1, -1)


class Recorder:
    """Writes the files of one scan."""

    def __init__(self, db: Database, scan_id: int) -> None:
        self.db = db
        self.scan_id = scan_id
        self.names = InternedNames(db)

    def attach(self, files: Iterable[tuple[Content, str]]) -> list[bool]:
        """Link the scan to known file versions. Return for each whether it was known. Atomic."""
        found: list[bool] = []
        rows = []
        with self.db.atomic():
            for content, now in files:
                version = self.db.execute_sql(FIND_VERSION, content).fetchone()
                found.append(version is not None)
                if version is not None:
                    status = "failed" if version[1] else "done"
                    rows.append((self.scan_id, version[0], content.path, content.digest, status, version[1], now, now))
            if rows:
                self._point(rows)
        return found

    def leave_out(self, files: Iterable[tuple[str, str, str, bytes | None, str]]) -> None:
        """Record files without facts: ``(path, status, reason, content hash, time)``. Atomic."""
        rows = [(self.scan_id, None, path, digest, status, error, t, t) for path, status, error, digest, t in files]
        if rows:
            with self.db.atomic():
                self._point(rows)

    def record(self, files: Sequence[tuple[Content, int, FileFacts]], now: str) -> None:
        """Write file versions with all their facts and link the scan to them. Atomic."""
        try:
            self._record(files, now)
        except BaseException:
            self.names.forget()
            raise
        if self.db.in_transaction():  # the caller's transaction, which may still be rolled back
            self.names.forget()

    def _record(self, files: Sequence[tuple[Content, int, FileFacts]], now: str) -> None:
        with self.db.atomic():
            texts: set[str] = set()
            for content, _, facts in files:
                check_limits(content.path, facts)
                texts.update(facts.strings)
            ids = self.names.ids(texts)
            fresh: list[tuple[int, Content, int, FileFacts]] = []
            links = []
            last = self.db.execute_sql("SELECT coalesce(max(id), 0) FROM file_versions").fetchone()[0]
            batch: dict[Content, int] = {}
            for content, size, facts in files:
                known = self.db.execute_sql(FIND_VERSION, content).fetchone()
                if known is not None:
                    version = known[0]
                elif content in batch:
                    version = batch[content]
                else:
                    last += 1
                    version = batch[content] = last
                    fresh.append((version, content, size, facts))
                status = "failed" if facts.error else "done"
                links.append((self.scan_id, version, content.path, content.digest, status, facts.error, now, now))
            self._write(fresh, ids, now)
            self._point(links)

    def _point(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Link the scan's files to versions. Their earlier versions in this scan are removed if unused."""
        paths = dump_json([row[2] for row in rows])
        before = self.db.execute_sql(REPLACED, (paths, self.scan_id)).fetchall()
        self.db.executemany(ATTACH, rows)
        self.db.execute_sql(UNFINISHED, (self.scan_id,)).fetchall()
        now = utcnow()
        self.db.execute_sql(ALIVE, (format_time(now), self.scan_id, format_time(now - SIGN_OF_LIFE)))
        if before:
            self.db.executemany(DROP_UNUSED, before)

    def _write(self, files: list[tuple[int, Content, int, FileFacts]], ids: dict[str, int], now: str) -> None:
        Writer(self.db, FileVersion, _VERSION, converted=True).write(
            (
                v,
                c.path,
                c.digest,
                c.indexer,
                c.module,
                size,
                f.line_count,
                f.error,
                f.interface,
                f.mentions,
                now,
            )
            for v, c, size, f in files
        )
        symbols, references, imports, chunks = [], [], [], []
        for version, _, _, facts in files:
            place = [ids[text] for text in facts.strings]
            symbols += [
                (version, n, place[name], place[qualified], *rest)
                for n, (name, qualified, *rest) in enumerate(facts.symbols)
            ]
            references += [
                (
                    version,
                    n,
                    line,
                    origin,
                    kind,
                    place[written],
                    None if path is None else place[path],
                    ordinal,
                    RESOLUTIONS[resolution],
                    confidence,
                )
                for n, (line, origin, kind, written, path, ordinal, resolution, confidence) in enumerate(
                    facts.references
                )
            ]
            imports += [
                (version, n, line, place[module], None if path is None else place[path], names)
                for n, (line, module, names, path) in enumerate(facts.imports)
            ]
            chunks += [
                (version, n, kind, None if name is None else facts.strings[name], start, end, digest)
                for n, (kind, name, start, end, digest) in enumerate(facts.chunks)
            ]
        for model, fields, rows in (
            (SymbolFact, _SYMBOL, symbols), (ReferenceFact, _REFERENCE, references),
            (ImportFact, _IMPORT, imports), (ChunkFact, _CHUNK, chunks),
        ):  # fmt: skip
            if rows:
                Writer(self.db, model, fields, converted=True).write(rows)


_VERSION = tuple("id path content_hash indexer module size line_count error interface mentions created_at".split())
_SYMBOL = (
    "version_id", "ordinal", "name_id", "qualified_name_id", "symbol_type", "start_line", "end_line", "metadata",
    "body_hash",
)  # fmt: skip
_REFERENCE = (
    "version_id", "ordinal", "line", "from_ordinal", "reference_type", "name_id", "path_id", "symbol_ordinal",
    "resolution", "confidence",
)  # fmt: skip
_IMPORT = ("version_id", "ordinal", "line", "module_id", "path_id", "imported_names")
_CHUNK = ("version_id", "chunk_index", "chunk_type", "symbol_name", "start_line", "end_line", "content_hash")


def check_limits(path: str, facts: FileFacts) -> None:
    for what in ("symbols", "references", "imports", "chunks"):
        count = len(getattr(facts, what))
        if count > MOST_PER_FILE:
            raise InvalidArgument(
                f"{path} has {count:,} {what}; a file may have {MOST_PER_FILE:,}: split or exclude it"
            )
