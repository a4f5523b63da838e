"""Scans: snapshots of a source tree, with their files and chunks.

A scan belongs to a *target*: a tree, repository or report series. A query reads the scan given as ``scan=``, or the
latest completed scan of ``target=``. Both can be omitted if the store has one target; with several, the query raises
Ambiguous and lists them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from scanstore.db.arguments import check_list, check_optional_text, check_path, check_string, check_text, encodable
from scanstore.db.clocks import SILENCE, silent
from scanstore.db.domain import Domain, List, long, reads
from scanstore.db.fields import find_row, read_row
from scanstore.db.notebooks import described
from scanstore.db.pagination import check_window, listed
from scanstore.db.paths import escape_path, root_name
from scanstore.db.processes import gone, me
from scanstore.db.rows import Rows
from scanstore.db.rules import insert_row
from scanstore.db.state_machine import SCANS, move
from scanstore.db.values import format_time, read_time, utcnow
from scanstore.errors import Ambiguous, Conflict, IllegalMove, InvalidArgument, NotFound, ScanstoreError, shown
from scanstore.indexing.languages import Language, coverage
from scanstore.snapshots import bindings
from scanstore.snapshots import figures as kept
from scanstore.snapshots.facts import Lineage
from scanstore.snapshots.models import Scan
from scanstore.snapshots.names import take_up
from scanstore.snapshots.recorder import Recorder

if TYPE_CHECKING:
    from scanstore.db.database import Database
    from scanstore.db.words import ScanStatus
    from scanstore.indexing.facts import Indexer
    from scanstore.snapshots.recorder import Recorder


@described
class Target(NamedTuple):
    """A tree, repository or report series that is scanned repeatedly. ``root`` is the folder or file of its latest scan
    with one. ``has_tree`` tells whether a tree was recorded completely, ``completed`` whether a tree or a report was.
    """

    target: str
    root: str | None
    has_tree: bool
    completed: bool


class FileNote(NamedTuple):
    """A file that was not recorded completely, with the reason."""

    path: str
    reason: str


@described
class Summary(NamedTuple):
    """The counts of a scan. ``indexed`` files were read by it; ``reused`` ones were known from an earlier scan.
    ``languages`` has the recorded facts by language.
    """

    scan: int
    target: str
    status: ScanStatus
    files: int
    indexed: int
    reused: int
    skipped: int
    failed: int
    lines: int
    chunks: int
    symbols: int
    references: int
    imports: int
    resolutions: dict[str, int]
    skipped_files: Rows[FileNote]
    failed_files: Rows[FileNote]
    languages: Rows[Language]


@described
class FileDiff(NamedTuple):
    """Paths that differ between two scans, sorted. ``moved``: same content, ``(old path, new path)``."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    moved: list[tuple[str, str]]


KNOWN = "store.scans.list() (scanstore scans list) shows the known ones"
MOST_NOTES = 1000  # entries of a ctags file that are stored with the scan
ScanProgress = Callable[[int, int, str], object]  #: (finished files, total files, path of the last file)


class Scans(Domain):
    """Record, list and compare scans."""

    # -- writing ---------------------------------------------------------------------------------------------------

    @long
    def record(
        self,
        path: str | os.PathLike[str],
        *,
        target: str | None = None,
        name: str | None = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        max_size: int | None = 5_000_000,
        jobs: int | None = None,
        indexers: Sequence[Indexer] = (),
        ctags: str | os.PathLike[str] | BinaryIO | None = None,
        progress: ScanProgress | None = None,
    ) -> Scan:
        """Record a snapshot of the tree (or the one file) at ``path`` and return its completed scan.

        :func:`scanstore.indexing.walk.walk` finds the files; ``include`` and ``exclude`` are patterns in the syntax of
        ``.gitignore``, ``max_size`` is in bytes (None: no limit). Known content is not indexed again. ``target`` is the
        name of the scanned tree (default: the absolute path), ``jobs`` is the number of processes (default: one per
        core, fewer for small trees). ``indexers`` take precedence over the built-in one for Python. ``ctags`` is a
        universal-ctags JSON file, or an open file, with symbols of other languages. The file itself is not recorded;
        the result of the import is in the scan's ``options["ctags"]`` (files, symbols, outside, broken).

        ``progress`` is called in this thread with the finished files, all files, and the path of the last one. An
        exception of it ends the scan, and recorded files stay.

        Files are committed in small batches, so that the next call continues after a crash. A file that cannot be read
        or parsed is recorded with its error. Raises NotFound for a missing path, before the scan starts. An interrupted
        scan becomes ``cancelled`` or ``failed``.
        """
        from scanstore.snapshots.tree_scan import Tree  # start-up: loads pathspec and worker processes

        if jobs is not None and (not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1):
            raise InvalidArgument(f"jobs is {shown(jobs)}; give a number of processes of at least 1")
        tree = Tree(
            path if not path and isinstance(path, str | bytes) else check_path(_decoded(path), "path"),
            include=check_list(include, "include"),
            exclude=check_list(exclude, "exclude"),
            max_size=max_size,
            indexers=check_list(indexers, "indexers"),
            omit=[self.db.file, *([os.fspath(ctags)] if isinstance(ctags, (str, os.PathLike)) else ())],
        )
        tags = None
        if ctags is not None:
            from scanstore.snapshots.ctags_import import Tags  # start-up: only with a tags file

            tags = Tags(ctags, tree.root)
        options: dict[str, object] = {"include": tree.include, "exclude": tree.exclude, "max_size": max_size}
        if isinstance(ctags, (str, os.PathLike)):
            options["omit"] = [root_name(os.fspath(ctags))]  # otherwise it would count as a new file
        target = None if target is None else encodable(check_string(target, "target"), "target")
        name = check_optional_text(name, "name")
        scan = self._begin(target or tree.root, name or os.path.basename(tree.root) or tree.root, tree.root, options)
        try:
            recorder = self.recorder(scan)
            tree.record_into(recorder, jobs=jobs, progress=progress)
            if tags is not None:
                loaded = tags.record_into(self.db, recorder, root=tree.root)
                told = loaded._replace(outside=loaded.outside[:MOST_NOTES], broken=loaded.broken[:MOST_NOTES])._asdict()
                Scan.update(options=Scan.options["ctags"].set(told)).where(Scan.id == scan.id).execute()
            return self.finish(scan)
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            self._end(scan, "cancelled" if stopped else "failed", "interrupted" if stopped else str(error))
            raise

    def add(self, target: str, *, name: str | None = None, root: str | os.PathLike[str] | None = None) -> Scan:
        """Add a scan for your own parser: call ``store.symbols.record_file`` for each file, then ``finish``.

        Raises InvalidArgument.
        """
        target = encodable(check_string(target, "target"), "target")
        if not target.strip():
            raise InvalidArgument("a scan needs a target, such as a path or a repository's name")
        name = check_optional_text(name, "name")
        base = None if root is None else escape_path(check_path(root, "root"))
        return self._begin(target, name or os.path.basename(target) or target, base, {})

    def finish(self, scan: Scan | int) -> Scan:
        """Complete a scan: resolve its references and make it the latest of its target. Atomic. Can be repeated after
        more files were recorded. Raises IllegalMove for a failed or cancelled scan.
        """
        row = self.get(scan)
        bindings.complete(self.db, row.id, row.lineage_id, format_time(utcnow()), self._completed)
        kept.keep_if_cheap(self.db, row.id)
        take_up(self.db)
        return self.get(row.id)

    def _completed(self, scan_id: int) -> None:
        """Called inside the transaction that completes a scan. ``store.scans`` adds new chunks to its analysis."""

    def rename_target(self, target: str, new: str) -> Target:
        """Rename a target, with all its scans and findings, and return it. Atomic.

        The next scan must name it, because the default target of a tree is its path. Raises NotFound, Conflict if there
        is a target of the new name, and InvalidArgument.
        """
        old, wanted = check_string(target, "target"), check_text(new, "new")
        run = self.db.execute_sql
        with self.db.atomic():
            found = Lineage.get_or_none(Lineage.target == old)
            if found is None:
                raise NotFound(f"there is no target {old!r}; {KNOWN}")
            if old != wanted:
                if Lineage.get_or_none(Lineage.target == wanted) is not None:
                    raise Conflict(f"there is a target {wanted!r} already; give another name")
                run("UPDATE lineages SET target = ? WHERE id = ?", (wanted, found.id)).fetchall()
                run("UPDATE scans SET target = ? WHERE lineage_id = ?", (wanted, found.id)).fetchall()
            return next(each for each in self.targets() if each.target == wanted)

    def recorder(self, scan: Scan | int) -> Recorder:
        """Return the writer of one scan's files."""
        row = self.get(scan)
        if row.status in ("failed", "cancelled"):
            raise IllegalMove(f"scan {row.id} is {row.status}; start a new one to record files")
        return Recorder(self.db, row.id)

    def _begin(self, target: str, name: str, root: str | None, options: dict[str, object]) -> Scan:
        with self.db.atomic():
            Lineage.insert(target=target).on_conflict_ignore().execute()
            lineage = Lineage.get(Lineage.target == target)
            recover(self.db, lineage.id)
            return insert_row(
                Scan,
                lineage=lineage,
                target=target,
                name=name,
                root=root,
                options=options,
                status="running",
                phase="indexing",
                started_at=utcnow(),
                worker=me(),
            )

    def _end(self, scan: Scan, status: str, error: str) -> None:
        import contextlib

        with contextlib.suppress(ScanstoreError):  # the original error is more important for the caller
            move(self.db, SCANS, scan.id, status, error=error[:1000], worker=None)

    # -- reading ---------------------------------------------------------------------------------------------------

    @reads
    def get(self, scan: Scan | int) -> Scan:
        """Read the scan with this id. Raises NotFound, InvalidArgument."""
        return read_row(Scan, scan, "scan", KNOWN)

    @reads
    def find(self, scan: Scan | int) -> Scan | None:
        """Read the scan with this id, or return None. Raises InvalidArgument."""
        return find_row(Scan, scan, "scan", KNOWN)

    @reads
    def list(
        self,
        *,
        target: str | None = None,
        status: ScanStatus | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Scan]:
        """List scans, newest first, optionally of one target or status. Raises InvalidArgument."""
        query = Scan.select().order_by(Scan.id.desc())
        if target is not None:
            about = Lineage.target == check_string(target, "target")
            query = query.where(Scan.lineage == Lineage.select(Lineage.id).where(about))
        if status is not None:
            query = query.where(Scan.status == Scan.status.db_value(status))
        return listed(query, limit=limit, offset=offset, sort=sort)

    @reads
    def latest(self, target: str | None = None) -> Scan:
        """Return the latest completed scan of a tree, of one target or of all; without one, the latest of reports.

        Raises NotFound if there is neither. Queries without a target do not use the latest scan of all targets: they
        raise Ambiguous if the store has several.
        """
        query = Scan.select().where(Scan.revision.is_null(False))
        if target is not None:
            about = Lineage.target == check_string(target, "target")
            query = query.where(Scan.lineage == Lineage.select(Lineage.id).where(about))
        trees_first = Scan.kind != "source"
        found: Scan | None = query.order_by(trees_first, Scan.completed_at.desc(), Scan.id.desc()).first()
        if found is None:
            of = f" of {target!r}" if target is not None else ""
            raise NotFound(f"there is no completed scan{of}; make one with: scanstore scan {target or 'PATH'}")
        return found

    @reads
    def targets(self, *, limit: int | None = None, offset: int = 0) -> Rows[Target]:
        """List the targets of this store by name, including those without a completed scan."""
        check_window(limit, offset)
        rows = self.db.execute_sql(TARGETS, (-1 if limit is None else limit, offset)).fetchall()
        return Rows((Target(name, root, bool(tree), bool(done)) for name, root, tree, done in rows), Target)

    @reads
    def summary(self, scan: Scan | int | None = None, *, target: str | None = None) -> Summary:
        """Return the counts of a scan (default: the latest of the target), with its unreadable files."""
        row = pick(self.db, scan, target)
        found = kept.figures(self.db, row.id)
        status: Counter[str] = Counter()
        for group in found.groups:
            status[group.status] += group.files
        notes: dict[str, List[FileNote]] = {"skipped": [], "failed": []}
        if status["skipped"] or status["failed"]:
            for path, kind, error in self.db.execute_sql(NOTES, (row.id,)).fetchall():
                notes[kind].append(FileNote(path, error or ""))
        languages = coverage(found.groups)
        versions = sum(group.files for group in found.groups if group.indexer)
        return Summary(
            scan=row.id, target=row.target, status=row.status, files=status.total(), indexed=versions - found.reused,
            reused=found.reused, skipped=status["skipped"], failed=status["failed"],
            lines=sum(group.lines for group in found.groups), chunks=sum(group.chunks for group in found.groups),
            symbols=sum(group.symbols for group in found.groups),
            references=sum(group.references for group in found.groups),
            imports=sum(group.imports for group in found.groups),
            resolutions=dict(sorted(found.resolutions.items(), key=lambda r: -r[1])),
            skipped_files=Rows(notes["skipped"], FileNote), failed_files=Rows(notes["failed"], FileNote),
            languages=Rows(languages, Language),
        )  # fmt: skip

    @reads
    def diff(self, a: Scan | int, b: Scan | int | None = None) -> FileDiff:
        """Return the changes of files from scan ``a`` to scan ``b`` (default: the latest of the same target)."""
        first = self.get(a)
        second = self.get(b) if b is not None else self.latest(first.target)
        if first.kind != second.kind:
            raise InvalidArgument(f"scan {first.id} and scan {second.id} are a tree and reports; compare two of a kind")
        old, new = (dict(self.db.execute_sql(CONTENTS, (scan.id,)).fetchall()) for scan in (first, second))
        added = [path for path in new if path not in old]
        removed = [path for path in old if path not in new]
        changed = sorted(path for path in new if path in old and new[path] != old[path])
        homes: dict[bytes, List[str]] = {}
        for path in removed:
            if old[path] is not None:
                homes.setdefault(old[path], []).append(path)
        moved = []
        for path in sorted(added):
            if homes.get(new[path]):
                moved.append((homes[new[path]].pop(0), path))
        gone, come = {m[0] for m in moved}, {m[1] for m in moved}
        return FileDiff(
            sorted(p for p in added if p not in come),
            sorted(p for p in removed if p not in gone),
            changed,
            moved,
        )


def pick(db: Database, scan: Scan | int | None, target: str | None = None) -> Scan:
    """Return the scan that a query reads: the given one, or the latest completed one of a target.

    Without a target, the store must have only one target with a tree. Raises Ambiguous (with the names of the targets
    as ``candidates``) if it has several, NotFound, and InvalidArgument if both are given.
    """
    if scan is not None:
        if target is not None:
            raise InvalidArgument("scan and target are both given; a scan has its target, give one of them")
        return Scans(db).get(scan)
    return Scans(db).latest(sole_target(db, trees=True) if target is None else target)


def sole_target(db: Database, *, trees: bool = False) -> str | None:
    """Return the only target with a completed scan, or with ``trees`` the only one with a tree, or None.

    Raises Ambiguous, with their names as ``candidates``, if there are several.
    """
    names = [each.target for each in answering(Scans(db).targets(), trees=trees)]
    if len(names) > 1:
        some = ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")
        raise Ambiguous(f"this store has {len(names):,} targets: {some}; give target=, or a scan as scan=", names)
    return names[0] if names else None


def answering(targets: Iterable[Target], *, trees: bool) -> list[Target]:
    """Return the targets with a completed scan; with ``trees``, only those with a tree, unless none has one."""
    completed = [target for target in targets if target.completed]
    return [target for target in completed if target.has_tree or not trees] or completed


def _decoded(path: object) -> object:
    return os.fsdecode(path) if isinstance(path, bytes) else path


def recover(db: Database, lineage_id: int | None = None) -> int:
    """Fail the scans whose process died while it recorded files, and return their number. In the caller's transaction.

    A process that cannot be checked, on another machine or in a container, counts as dead after an hour without a
    recorded file. For scans of all targets this also applies to ended processes, because another process may continue
    the scan.
    """
    running = "SELECT id, worker, updated_at FROM scans WHERE status = 'running' AND worker IS NOT NULL"
    where, values = ("", ()) if lineage_id is None else (" AND lineage_id = ?", (lineage_id,))
    now, count = utcnow(), 0
    for key, worker, heard in db.execute_sql(running + where, values).fetchall():
        if gone(worker) and (lineage_id is not None or abs(now - read_time(heard)) > SILENCE):
            error = f"process {worker} ended before the scan was complete"
        elif not gone(worker) and silent(worker, heard, now):
            error = f"process {worker} has recorded nothing since {heard}"
        else:
            continue
        move(db, SCANS, key, "failed", error=error, worker=None)
        count += 1
    return count


TARGETS = """
SELECT l.target,
       (SELECT s.root FROM scans AS s WHERE s.lineage_id = l.id AND s.root IS NOT NULL
         ORDER BY s.revision IS NULL, s.completed_at DESC, s.id DESC LIMIT 1),
       EXISTS (SELECT 1 FROM scans AS s WHERE s.lineage_id = l.id AND s.revision IS NOT NULL AND s.kind = 'source'),
       EXISTS (SELECT 1 FROM scans AS s WHERE s.lineage_id = l.id AND s.revision IS NOT NULL)
  FROM lineages AS l WHERE EXISTS (SELECT 1 FROM scans AS s WHERE s.lineage_id = l.id) ORDER BY l.target
 LIMIT ? OFFSET ?
"""
NOTES = """
SELECT file_path, status, error FROM scan_files WHERE scan_id = ? AND status IN ('skipped', 'failed') ORDER BY file_path
"""
CONTENTS = "SELECT file_path, file_hash FROM scan_files WHERE scan_id = ? AND status <> 'skipped' ORDER BY file_path"
