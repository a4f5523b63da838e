"""Scanning a source tree: walk, hash, look up known contents, index the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from scanstore.db import paths
from scanstore.db.arguments import check_path
from scanstore.db.paths import root_name
from scanstore.db.values import format_time, utcnow
from scanstore.errors import InvalidArgument
from scanstore.indexing.entry_points import EntryPointIndexer
from scanstore.indexing.facts import TEXT, FileFacts, Indexer
from scanstore.indexing.files import fingerprint, index, load, unparsed
from scanstore.indexing.walk import Entry, is_binary, module_names, root_package, walk
from scanstore.snapshots.recorder import Content

if TYPE_CHECKING:
    from scanstore.snapshots.recorder import Recorder

#: The maximum number of known files, or of facts of new files, per transaction.
FILES_PER_COMMIT = 2000
FACTS_PER_COMMIT = 20_000


class FileCandidate(NamedTuple):
    """A file to record: its path, its content hash, and its indexer."""

    entry: Entry
    content: Content
    indexer: Indexer | None
    built_in: bool


class Tree:
    """The files below a path. The path is checked here, before a scan begins."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        include: Sequence[str],
        exclude: Sequence[str],
        max_size: int | None,
        indexers: Sequence[Indexer],
        omit: Sequence[str],
        roots: Sequence[object] = (),
    ) -> None:
        from scanstore.indexing.python.indexer import PythonIndexer  # start-up: loads ast

        if not os.fspath(path):
            raise InvalidArgument("the path to scan is empty; give a folder or a file, '.' for the current folder")
        self.root = root_name(os.fsdecode(path))
        self.include, self.exclude = list(include), list(exclude)
        self.roots = [_inside(os.fsdecode(path), root) for root in roots]
        self.indexers: list[tuple[Indexer, bool]] = [
            *((i, False) for i in indexers),
            (PythonIndexer(), True),
            (EntryPointIndexer(), False),
        ]
        self.entries = list(
            walk(path, include=include, exclude=exclude, max_size=max_size, omit=[o for o in omit if o != ":memory:"])
        )
        package = root_package(path) if os.path.isdir(path) else ""
        self.modules = module_names((e.path for e in self.entries if e.skipped is None), package, self.roots)

    def record_into(
        self, recorder: Recorder, *, jobs: int | None, progress: Callable[[int, int, str], object] | None
    ) -> None:
        total = len(self.entries)
        done = 0

        def tell(count: int, path: str) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, total, path)

        unknown: list[FileCandidate] = []
        stream = iter(self.entries)
        while batch := list(islice(stream, FILES_PER_COMMIT)):
            now = format_time(utcnow())
            candidates, left_out = self._look(batch)
            recorder.leave_out((path, status, reason, digest, now) for path, status, reason, digest in left_out)
            known = recorder.attach([(candidate.content, now) for candidate in candidates])
            fresh = [c for c, found in zip(candidates, known, strict=True) if not found]
            unknown += fresh
            tell(len(batch) - len(fresh), batch[-1].path)
        held: list[tuple[Content, int, FileFacts]] = []
        weight = 0
        for candidate, size, outcome in self._index(unknown, jobs):
            if isinstance(outcome, FileFacts):
                content, facts = candidate.content, outcome
                held.append((content, size, facts))
                weight += 50 + len(facts.symbols) + len(facts.references) + len(facts.chunks)
            else:
                recorder.leave_out([(candidate.entry.path, *_unreadable(outcome), None, format_time(utcnow()))])
            if weight >= FACTS_PER_COMMIT:
                recorder.record(held, format_time(utcnow()))
                held, weight = [], 0
            tell(1, candidate.entry.path)
        if held:
            recorder.record(held, format_time(utcnow()))

    def _look(self, entries: Sequence[Entry]) -> tuple[list[FileCandidate], list[tuple[str, str, str, bytes | None]]]:
        """Hash the files. Files without facts are returned as ``(path, status, reason, hash)``."""
        candidates: list[FileCandidate] = []
        left_out: list[tuple[str, str, str, bytes | None]] = []
        for entry in entries:
            if entry.skipped is not None:
                left_out.append((entry.path, "skipped", entry.skipped, None))
                continue
            indexer, built_in = self._indexer(entry.path)
            try:
                digest, head = fingerprint(entry.full)
            except OSError as error:
                left_out.append((entry.path, *_unreadable((error.strerror or str(error)).lower()), None))
                continue
            if indexer is None and is_binary(head):
                left_out.append((entry.path, "skipped", "binary", digest))
                continue
            name = TEXT if indexer is None else indexer.name
            module = self.modules.get(entry.path, "") if indexer is not None else ""
            candidates.append(FileCandidate(entry, Content(entry.path, digest, name, module), indexer, built_in))
        return candidates, left_out

    def _indexer(self, path: str) -> tuple[Indexer | None, bool]:
        for indexer, built_in in self.indexers:
            if f"/{path}".endswith(tuple(indexer.endings)):
                return indexer, built_in
        return None, False

    def _index(
        self, candidates: Sequence[FileCandidate], jobs: int | None
    ) -> Iterator[tuple[FileCandidate, int, FileFacts | str]]:
        """Yield the facts of each file with its size, or the reason why it could not be read. The hash is that of the
        indexed content.
        """
        from scanstore.indexing.pool import FILES_PER_WORKER, LARGE  # start-up: loads worker processes

        built_in = [c for c in candidates if c.built_in]
        wanted = jobs if jobs is not None else min(os.cpu_count() or 1, len(built_in) // FILES_PER_WORKER)
        remote = [c for c in built_in if wanted > 1 or c.entry.size >= LARGE]
        wanted = max(wanted, 1)
        taken = set(map(id, remote))
        here = [c for c in candidates if id(c) not in taken]
        if remote:
            yield from self._index_elsewhere(remote, min(wanted, len(remote)))
        for candidate in here:
            try:
                content, digest = load(candidate.entry.full)
            except OSError as error:
                yield candidate, 0, (error.strerror or str(error)).lower()
                continue
            seen = candidate._replace(content=candidate.content._replace(digest=digest))
            if candidate.indexer is None:
                facts = unparsed(content)
            else:
                facts = index(candidate.indexer, content, path=candidate.entry.path, module=candidate.content.module)
            yield seen, len(content), facts

    def _index_elsewhere(
        self, candidates: Sequence[FileCandidate], jobs: int
    ) -> Iterator[tuple[FileCandidate, int, FileFacts | str]]:
        from scanstore.indexing import pool  # start-up: loads worker processes

        tasks = [pool.IndexTask(c.entry.full, c.entry.path, c.content.module, c.entry.size) for c in candidates]
        for number, digest, size, facts, error in pool.run(tasks, jobs):
            candidate = candidates[number]
            if facts is not None and digest is not None:
                yield candidate._replace(content=candidate.content._replace(digest=digest)), size, facts
            elif error in (pool.CRASHED, pool.SLOW):
                try:
                    content, digest = load(candidate.entry.full)
                except OSError:
                    yield candidate, 0, error
                    continue
                # Stored under a separate indexer name, so that the next scan tries again: the machine may have been the
                # cause.
                key = candidate.content._replace(digest=digest, indexer=candidate.content.indexer + " crashed")
                yield candidate._replace(content=key), len(content), unparsed(content, error)
            else:
                yield candidate, 0, error or "unreadable"


def _inside(tree: str, root: object) -> str:
    """Return a source root relative to the tree, as its paths are stored. Raises InvalidArgument for another folder."""
    text = check_path(root, "a root")
    top = paths.spelled(os.path.abspath(tree))
    full = os.path.join(top, text)
    inside = paths.below(paths.spelled(full), top)
    if inside is None or not os.path.isdir(full):
        raise InvalidArgument(f"roots has {text!r}, which is no folder of {tree!r}; give folders relative to the tree")
    return paths.escape_path(paths.composed(inside))


def _unreadable(reason: str) -> tuple[str, str]:
    """Return status and reason for an unreadable file. A file that was deleted meanwhile is ignored."""
    if reason == "no such file or directory":
        return "skipped", "vanished"
    return "failed", reason
