"""The chunks of an analysis: claim, read, and complete them with drafts, new ones or those of a cached answer."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from scanstore.analysis import answer_cache, calls, lifecycle
from scanstore.analysis.draft_merge import WINDOW, write_drafts
from scanstore.analysis.model_drafts import sort_drafts, summary
from scanstore.analysis.payloads import absolute, check_drafts, relative
from scanstore.analysis.stage import Stage
from scanstore.db import paths
from scanstore.db.arguments import check_bool, check_choice, check_path, stored_path
from scanstore.db.domain import reads
from scanstore.db.pagination import check_window, listed
from scanstore.db.rows import Rows
from scanstore.db.state_machine import CHUNK_STATUSES, Machine
from scanstore.db.values import dump_json, format_time, pack_hash, utcnow
from scanstore.db.view_keys import split
from scanstore.errors import InvalidArgument, NotFound, shown
from scanstore.leases import engine
from scanstore.leases.work import Loop
from scanstore.snapshots.models import Scan, ScanFileChunk, SetAside
from scanstore.snapshots.scans import Scans

if TYPE_CHECKING:
    from scanstore.analysis.calls import Call
    from scanstore.analysis.models import Analyzer
    from scanstore.db.words import ChunkStatus

log = logging.getLogger("scanstore.analysis")
AT_ONCE = 500  #: chunks that one transaction completes from the cache

KNOWN = """
SELECT w.id, f.file_path, c.start_line, c.end_line, a.drafts
  FROM chunk_work AS w INDEXED BY ix_chunk_work_ready
 CROSS JOIN scan_files AS f ON f.id = w.scan_file_id
 CROSS JOIN chunk_facts AS c ON c.version_id = f.version_id AND c.chunk_index = w.id & 16777215
 CROSS JOIN analysis_cache AS a ON a.analyzer_id = :analyzer AND a.content_hash = c.content_hash
 WHERE w.scan_id = :scan AND w.status = 'pending' AND w.next_retry_at IS NULL AND a.drafts IS NOT NULL
 ORDER BY w.rank, w.id LIMIT :limit
"""

# The view, with its tables in join order.
ROWS = """
SELECT i.value AS id, f.id AS scan_file_id, c.chunk_index, c.chunk_type, c.symbol_name, c.start_line, c.end_line,
       c.content_hash, coalesce(w.status, 'pending') AS status, coalesce(w.retry_count, 0) AS retry_count,
       coalesce(w.lost_count, 0) AS lost_count, f.scan_id,
       f.file_path, f.risk_level, coalesce(w.attempt, 0) AS attempt, w.worker, w.lease_until, w.next_retry_at, w.error
  FROM json_each(?) AS i
 CROSS JOIN scan_files AS f ON f.id = i.value >> 24
 CROSS JOIN chunk_facts AS c ON c.version_id = f.version_id AND c.chunk_index = i.value & 16777215
  LEFT JOIN chunk_work AS w ON w.id = i.value
"""

LIFE = Machine(
    "chunk_work",
    "chunk",
    {"pending": ("failed",)},
    {"pending": "it waits to be claimed as it is", "done": "to have it read again: store.scans.rerun(scan, to='scan')"},
)


class Chunks(Stage[ScanFileChunk]):
    """The chunks of scans whose analysis was started (``store.scans.analyze``)."""

    queue = engine.CHUNKS
    model = ScanFileChunk
    life = LIFE
    _more = """(
        SELECT json_array(c.chunk_type, c.symbol_name, c.start_line, c.end_line,
                          CASE typeof(c.content_hash) WHEN 'blob' THEN lower(hex(c.content_hash))
                               ELSE c.content_hash END,
                          f.scan_id, f.file_path, f.risk_level, chunk_work.lost_count)
          FROM scan_files AS f CROSS JOIN chunk_facts AS c
            ON c.version_id = f.version_id AND c.chunk_index = chunk_work.id & 16777215
         WHERE f.id = chunk_work.scan_file_id)"""

    def _claimed_one(self, one: tuple[Any, ...], worker: str, lease: float) -> Rows[ScanFileChunk]:
        key, attempt, retries, until, more = one
        kind, symbol, start, end, digest, scan, path, risk, lost = json.loads(more)
        file, index = split(key)
        row = ScanFileChunk(__no_default__=True)
        row.__data__ = {
            "id": key, "scan_file": file, "chunk_index": index, "chunk_type": kind, "symbol_name": symbol,
            "start_line": start, "end_line": end, "content_hash": digest, "status": "running", "retry_count": retries,
            "lost_count": lost,
            "scan": scan, "file_path": path, "risk_level": risk, "attempt": attempt, "worker": worker,
            "lease_until": datetime.fromisoformat(until), "next_retry_at": None, "error": None,
        }  # fmt: skip
        row.lease, row.claimed = lease, True
        return Rows([row], ScanFileChunk)

    def complete(
        self,
        chunk: ScanFileChunk | int,
        *,
        worker: str | None = None,
        drafts: Iterable[Mapping[str, object]] = (),
        analyzer: Analyzer | int | None = None,
        call: Call | None = None,
        source: str | None = None,
        window: int = WINDOW,
        strict: bool | None = None,
    ) -> ScanFileChunk:
        """Complete a claimed chunk with its drafts, in one transaction; return the chunk.

        Each draft is a mapping with ``title``, ``vulnerability_type``, ``severity`` and more, see
        :meth:`scanstore.analysis.drafts.Drafts.add`. A draft that is equivalent to an existing one is merged with it.
        With ``analyzer`` the result is cached for all chunks with the same text. ``call`` is the model call that gave
        the answer, if it is still open. ``source`` is the name of the reporter (default: the analyzer's model).
        Idempotent.

        With ``analyzer`` or ``call`` the drafts are the answer of a model, and one bad draft does not lose the others:
        values such as ``"**High**"`` or ``"90%"`` are converted (:mod:`scanstore.analysis.model_drafts`), and a draft
        that cannot be stored is set aside. The chunk's ``set_aside`` lists these with the reasons; they are also logged
        and noted as the ``error`` of the call, which then keeps its response. ``strict=True`` refuses an invalid draft
        instead, which is the default without an analyzer and a call.

        Raises LeaseLost if the chunk is not, or no longer, leased to the worker, and InvalidArgument for an invalid
        draft if ``strict``. Nothing is written then.
        """
        if call is not None and not isinstance(call, calls.Call):
            raise InvalidArgument(f"call is {shown(call)}; give the call of: with store.llm.call(...) as call")
        strict = analyzer is None and call is None if strict is None else check_bool(strict, "strict")
        key, owner, attempt = self._owner(chunk, worker)
        # Only the status of a chunk changes, so a completely loaded chunk is not read again.
        whole = isinstance(chunk, ScanFileChunk) and None not in (chunk.file_path, chunk.start_line, chunk.content_hash)
        row = chunk if isinstance(chunk, ScanFileChunk) and whole else self.get(chunk)
        loop = chunk.ahead if isinstance(chunk, ScanFileChunk) and isinstance(chunk.ahead, Loop) else None
        in_loop = loop is not None and not self.db.in_transaction()
        # Mostly there is nothing to write but the status, and one statement does it.
        plain = drafts == () and analyzer is None and call is None
        settle = partial(
            engine.settle_one, self.db, self.queue, key, "done",
            scope=row.scan_id, worker=owner, attempt=attempt, guard=lifecycle.STEADY,
        )  # fmt: skip
        if plain and not in_loop and settle():
            return self._done(chunk, row)
        write, aside = (None, ()) if plain else self._writer(row, drafts, analyzer, call, source, window, strict)
        following = None
        with self.db.atomic():
            if not (plain and settle()):
                engine.settle(self.db, self.queue, key, "done", worker=owner, attempt=attempt)
                if write is not None:
                    write()
                lifecycle.advance(self.db, row.scan_id, steady=True)
            if in_loop and loop is not None and not loop.rows and loop.worker == owner and loop.scope is not None:
                # The next chunk of the loop is claimed with it: one commit for both.
                following = self._claim_one(loop.scope, owner, loop.lease)
        if loop is not None and following is not None:
            loop.rows += self._claimed_one(following, owner, loop.lease)
        done = self._done(chunk, row)
        done.set_aside = aside
        return done

    def _done(self, chunk: ScanFileChunk | int, row: ScanFileChunk) -> ScanFileChunk:
        if not isinstance(chunk, ScanFileChunk):
            return self._row(row.id)
        chunk.__data__ |= {"status": "done", "lease_until": None, "next_retry_at": None, "error": None}
        return chunk

    def _writer(
        self,
        row: ScanFileChunk,
        drafts: Iterable[Mapping[str, object]],
        analyzer: Analyzer | int | None,
        call: Call | None,
        source: str | None,
        window: int,
        strict: bool,
    ) -> tuple[Callable[[], None], tuple[SetAside, ...]]:
        """Check the drafts of a chunk. Return the function that writes them, inside a transaction, and those that were
        set aside.
        """
        known = None if analyzer is None else answer_cache.identify(analyzer)
        given, aside = (check_drafts(drafts, chunk=row), []) if strict else sort_drafts(drafts, chunk=row)
        note = summary(aside, len(given) + len(aside)) if aside else None
        if note is not None:
            log.warning("chunk %d (%s): %s", row.id, row.file_path, note)
        who = source or (known.model if known is not None else None)

        def write() -> None:
            write_drafts(self.db, row.scan_id, given, chunk=row, source=who, window=window)
            if known is not None:
                answer_cache.keep_drafts(self.db, known.id, pack_hash(row.content_hash), relative(given, row))
            if call is not None:
                calls.finish(call, self.db, note=note)
            elif known is not None and note is not None:
                calls.note_answer(self.db, row, known.id, note)

        return write, tuple(aside)

    def reuse(self, scan: Scan | int, analyzer: Analyzer | int) -> int:
        """Complete every pending chunk whose text this analyzer has reviewed before, and return their number.

        Needs no claim and no model call. The cached drafts get the current line numbers. Each transaction completes a
        few hundred chunks. Idempotent.
        """
        scan_id = self._scan(scan)
        analyzer = answer_cache.identify(analyzer)
        total = 0
        while True:
            with self.db.atomic():
                if not lifecycle.gate(self.db, scan_id, self.queue.kind).open:
                    return total
                known = self.db.execute_sql(
                    KNOWN, {"scan": scan_id, "analyzer": analyzer.id, "limit": AT_ONCE}
                ).fetchall()
                now = format_time(utcnow())
                self.db.executemany(
                    "UPDATE chunk_work SET status = 'done', worker = ?, lease_clock = NULL, updated_at = ?"
                    " WHERE id = ?",
                    [(f"analyzer:{analyzer.id}", now, row[0]) for row in known],
                )
                busy = [row for row in known if row[4] != "[]"]
                chunks = {row.id: row for row in self._rows([row[0] for row in busy])}
                for key, _, _, _, drafts in busy:
                    row = chunks[key]
                    given = absolute(json.loads(drafts), row)
                    write_drafts(self.db, scan_id, given, chunk=row, source=analyzer.model, window=WINDOW)
                lifecycle.advance(self.db, scan_id)
            total += len(known)
            if len(known) < AT_ONCE:
                return total

    @reads
    def list(
        self,
        scan: Scan | int,
        *,
        status: ChunkStatus | None = None,
        file: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[ScanFileChunk]:
        """List the chunks of a scan by file, optionally of one status or file."""
        check_window(limit, offset)
        scan_id = self._scan(scan)
        query = ScanFileChunk.select().where(ScanFileChunk.scan == scan_id)
        if status is not None:
            query = query.where(ScanFileChunk.status == check_choice(status, "status", CHUNK_STATUSES))
        if file is not None:
            query = query.where(ScanFileChunk.file_path == stored_path(file, "file"))
        query = query.order_by(ScanFileChunk.file_path, ScanFileChunk.chunk_index)
        return listed(query, limit=limit, offset=offset, sort=sort)

    @reads
    def text(self, chunk: ScanFileChunk | int, *, root: str | os.PathLike[str] | None = None) -> str:
        """Return the source text of a chunk, read from the scanned tree or from the tree at ``root``.

        Raises NotFound if the file is missing or has changed since the scan.
        """
        from scanstore.indexing.files import chunk_text  # start-up: loads ast

        row = self.get(self._id(chunk)) if not isinstance(chunk, ScanFileChunk) else chunk
        row.check_home()
        scan = Scans(self.db).get(row.scan_id)
        if root is not None:
            base = check_path(root, "root")
        elif scan.root is not None:
            base = paths.stored_root(scan.root)
        else:
            raise NotFound(f"scan {scan.id} has no folder; say where its files are with root=")
        full = paths.file_in(base, row.file_path)
        if full is None:
            raise InvalidArgument(f"{row.file_path} leads out of {paths.escape_path(base)}; it is not read")
        name = paths.escape_path(full)
        if paths.kept_in_cloud(full):
            raise NotFound(f"{name} is {paths.IN_CLOUD}; download it and try again")
        digest = pack_hash(row.scan_file.file_hash or "")
        try:
            text = chunk_text(full, row.start_line, row.end_line, pack_hash(row.content_hash), digest)
        except OSError as error:
            raise NotFound(f"{name} cannot be read: {error.strerror}; scan the tree again") from error
        if text is None:
            raise NotFound(f"{name} has changed since scan {scan.id}; scan it again")
        return text

    def _rows(self, keys: Sequence[int | str]) -> Rows[ScanFileChunk]:
        """Found by their keys from the ids on, whatever statistics say."""
        found = {row.id: row for row in ScanFileChunk.raw(ROWS, dump_json(list(keys)))}
        return Rows((found[each] for each in map(int, keys) if each in found), ScanFileChunk)
