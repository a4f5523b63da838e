"""`scanstore scan`: record a snapshot of a tree and summarise it."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import click

from scanstore import parts
from scanstore.cli.base import Misuse, basic_options, configuration, db_option, open_store, previous
from scanstore.cli.interrupts import keep, kept
from scanstore.cli.output import aligned, count, dim, here, is_quiet, plain_text, size, tell
from scanstore.cli.progress import Display, progress
from scanstore.cli.provenance import target_here
from scanstore.cli.streams import binary_input
from scanstore.db.paths import lies_in

if TYPE_CHECKING:
    from scanstore.indexing.languages import Language
    from scanstore.snapshots.models import Scan
    from scanstore.snapshots.scans import FileDiff, FileNote, Summary
    from scanstore.store import Store

INDEXER_ERROR = "indexer error"  # how such a reason begins; the indexer itself is not imported here
SHOWN = 10  # files and lines in trouble that are named without --verbose
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)i?b?", re.IGNORECASE)


def _bytes_meant(_: click.Context, __: click.Parameter, value: str) -> int | None:
    """The number of bytes spelled as 800000, 800k or 5MB; None for `none`."""
    if value == "none":
        return None
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a size; give a number of bytes, such as 800k or 5MB, or none")
    size = float(match[1]) * 1000 ** " kmg".index(match[2].lower() or " ")
    return int(size) if size < 2**63 else None  # larger than any file: no limit


@click.command()
@click.argument("path", type=click.Path(), metavar="[PATH]", required=False)
@click.option("--target", help="Name of the tree; scans of one target are compared. [default: the absolute path]")
@click.option("--name", help="Name of this scan. [default: that of the folder]")
@click.option(
    "--include", multiple=True, metavar="PATTERN",
    help="Only files that match PATTERN, as in .gitignore; repeatable.",
)  # fmt: skip
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out files that match PATTERN; repeatable.")
@click.option(
    "--max-size", callback=_bytes_meant, metavar="SIZE", default="5MB", show_default=True,
    help="Skip larger files; none for no limit.",
)  # fmt: skip
@click.option("--jobs", "-j", type=click.IntRange(min=1), help="Processes that read files. [default: one per core]")
@click.option(
    "--ctags", type=click.Path(), metavar="FILE",
    help="Add the symbols of a universal-ctags JSON file; - reads them from standard input.",
)  # fmt: skip
@click.option(
    "--root", "source_roots", multiple=True, metavar="FOLDER",
    help="Folder of the tree that Python modules are imported from, such as api; repeatable.",
)  # fmt: skip
@click.option("--verbose", "-v", is_flag=True, help="Name every file that was skipped or could not be read.")
@basic_options
@kept("no scan was begun")
def scan(
    path: str | None,
    target: str | None,
    name: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    max_size: int | None,
    jobs: int | None,
    ctags: str | None,
    source_roots: tuple[str, ...],
    verbose: bool,
) -> None:
    """Record a snapshot of the tree, or of the one file, at PATH.

    Without PATH, each of the configured roots is recorded, and --json prints a list. --include replaces the
    configured include patterns, --exclude the configured exclude patterns, and --root the configured source roots.

    Only files that changed since earlier scans are read and written. A file that cannot be read or parsed is recorded
    with the reason, and the scan goes on. Creates the store if it is missing.

    \b
    Example:
      scanstore scan src/ --exclude 'vendor/'
      ctags --options=NONE -R --links=no --output-format=json --fields='*' --extras=+p -f - . |
        scanstore scan . --ctags -
    """
    piped = ctags == "-"
    for given, what in ((path, "folder or file"), (None if piped else ctags, "ctags file")):
        if given is not None and not os.path.exists(given):
            raise Misuse(f"there is no {what} {given!r}")
    trees = _roots(target, ctags) if path is None else [path]
    include, exclude = _patterns("include", include), _patterns("exclude", exclude)
    tags: str | BinaryIO | None = binary_input() if piped else ctags
    reports: list[_Report] = []
    with open_store(create=True) as store:
        for tree in trees:
            started = time.monotonic()
            known = store.scans.list(limit=1)
            try:
                with progress("looking", "files") as display:
                    recorded = store.scans.record(
                        tree, target=target, name=name, include=include, exclude=exclude, max_size=max_size, jobs=jobs,
                        roots=source_roots or _source_roots(tree), ctags=tags,
                        progress=None if display is None else partial(_show, display),
                    )  # fmt: skip
            except KeyboardInterrupt:
                begun = [scan for scan in store.scans.list(limit=1) if scan not in known]
                if begun:
                    files = "recorded files are kept, and the next scan continues"
                    keep(f"scan {begun[0].id} is {begun[0].status}; {files}")
                raise
            keep(f"scan {recorded.id} is {recorded.status}, and all recorded files are kept")
            seconds = time.monotonic() - started
            before = previous(store, recorded)
            diff = None if before is None else store.scans.diff(before, recorded)
            reports.append(_Report(recorded, store.scans.summary(recorded), seconds, before, diff, store))
    # The store is closed by now, so its file has the size that it keeps.
    data = [each.as_json() for each in reports]
    tell(data if path is None else data[0], chain.from_iterable(each.lines(verbose) for each in reports))


def _roots(target: str | None, ctags: str | None) -> list[str]:
    """Return the folders that the configuration lists, all of which are there."""
    found = configuration()
    if not found.roots:
        raise click.UsageError("Missing argument 'PATH'.")
    for root in found.roots:
        if not os.path.isdir(root):
            raise Misuse(f"{found.file}: roots has {root!r}, but there is no such folder; create it, or correct roots")
    for option, value in (("--target", target), ("--ctags", ctags)):
        if value is not None and len(found.roots) > 1:
            raise Misuse(f"{option} is for one tree, and {found.file} has {len(found.roots):,} roots; give PATH")
    return list(found.roots)


def _source_roots(tree: str) -> list[str]:
    """Return the configured source roots in a tree."""
    top = os.path.realpath(tree)
    return [root for root in configuration().source_roots if lies_in(root, top) and os.path.isdir(root)]


def _patterns(key: Literal["include", "exclude"], given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the patterns of an option, else those of the configuration, which are checked."""
    if given:
        return given
    found = configuration()
    kept: tuple[str, ...] = getattr(found, key)
    try:
        parts.walk.patterns(key, kept)
    except parts.errors.InvalidArgument as error:
        raise Misuse(f"{found.file}: {error}") from None
    return kept


def _show(display: Display, done: int, total: int, path: str) -> None:
    display.what, display.detail = ("resolving", "") if done == total else ("reading", path)
    display(done, total)


class _Report:
    """What a scan has to say for itself."""

    def __init__(
        self, scan: Scan, summary: Summary, seconds: float, before: Scan | None, diff: FileDiff | None, store: Store
    ) -> None:
        self.scan, self.summary, self.seconds, self.before, self.diff = scan, summary, seconds, before, diff
        loaded = scan.options.get("ctags")
        self.loaded: dict[str, Any] | None = loaded if isinstance(loaded, dict) else None
        self.store = store.path
        self.option = plain_text(db_option())
        #: What makes a further command mean this scan, where the current folder does not.
        self.which = "" if _is_default(store, scan) else f" --scan {scan.id}"

    def as_json(self) -> dict[str, object]:
        diff, loaded = self.diff, self.loaded
        return {
            "store": self.store,
            "scan": self.scan,
            "summary": self.summary,
            "seconds": round(self.seconds, 3),
            "since": None if diff is None or self.before is None else {"scan": self.before.id, **diff_json(diff)},
            "ctags": None if loaded is None else {
                **loaded, "broken": [{"line": line, "reason": reason} for line, reason in loaded["broken"]],
            },
        }  # fmt: skip

    def lines(self, verbose: bool) -> Iterator[str]:
        yield plain_text(f"Scanned {self.scan.root or self.scan.target} as scan {self.scan.id} in {self.seconds:.1f} s")
        yield from summary_lines(self.summary, verbose=verbose)
        if self.loaded is not None:
            yield from self._ctags_lines(self.loaded, verbose)
        if self.diff is not None and self.before is not None:
            yield f"since scan {self.before.id}: {diff_line(self.diff)}"
        yield plain_text(f"store: {self.store}, {size(_file_bytes(self.store))}")
        if is_quiet():
            return
        if self.diff is not None and self.before is not None and any(self.diff):
            yield dim(f"next: scanstore symbols diff {self.before.id} {self.scan.id}{self.option}")
        elif self.summary.symbols:
            yield dim(f"next: scanstore symbols find NAME{self.which}{self.option}")

    def _ctags_lines(self, loaded: dict[str, Any], verbose: bool) -> Iterator[str]:
        yield f"ctags: {count(loaded['symbols'], 'symbol')} in {count(loaded['files'], 'file')} added"
        if loaded["outside"]:
            yield plain_text(f"ctags files that this scan does not have: {len(loaded['outside']):,}")
        broken = loaded["broken"]
        if broken:
            yield f"ctags lines that could not be used: {len(broken):,}"
            shown = broken if verbose else broken[:SHOWN]
            yield from aligned(((f"line {line}", reason) for line, reason in shown), indent="  ")
            yield from _rest(len(broken) - len(shown))


def _is_default(store: Store, scan: Scan) -> bool:
    """Whether a command without --scan and --target is about the target of this scan."""
    try:
        return target_here(store, here(), trees=True) == scan.target
    except parts.errors.Ambiguous:
        return False


def summary_lines(summary: Summary, *, verbose: bool = False) -> Iterator[str]:
    """A scan in figures, for people."""
    how = [f"{summary.indexed:,} read", f"{summary.reused:,} known before"]
    how += [f"{summary.skipped:,} skipped"] if summary.skipped else []
    how += [f"{summary.failed:,} with errors"] if summary.failed else []
    edges = ", ".join(f"{number:,} {resolution}" for resolution, number in summary.resolutions.items())
    rows = (
        ("files", summary.files, ", ".join(how)), ("lines", summary.lines, ""), ("chunks", summary.chunks, ""),
        ("symbols", summary.symbols, ""), ("references", summary.references, edges), ("imports", summary.imports, ""),
    )  # fmt: skip
    yield from aligned(((what, f"{number:,}", more) for what, number, more in rows), right=(1,), indent="  ")
    if summary.skipped_files:
        reasons = Counter(file.reason for file in summary.skipped_files)
        yield plain_text("skipped: " + ", ".join(f"{number:,} {reason}" for reason, number in reasons.most_common()))
        if verbose:
            yield from _notes(summary.skipped_files)
    if summary.failed_files:
        shown = summary.failed_files if verbose else summary.failed_files[:SHOWN]
        yield "not read or not parsed:"
        yield from _notes(shown)
        yield from _rest(len(summary.failed_files) - len(shown))
        if any(file.reason.startswith(INDEXER_ERROR) for file in summary.failed_files):
            yield f"an {INDEXER_ERROR} is a defect of the indexer, not of the file: please report it with the file"
    if summary.languages:
        yield "languages:"
        yield from aligned(map(_language_row, summary.languages), right=(1,), indent="  ")


def _language_row(row: Language) -> tuple[str, str, str]:
    parts = (row.failed, "with errors"), (row.skipped, "skipped")
    unseen = [f"{number:,} {what}" for number, what in parts if number]
    found = ", ".join(
        count(getattr(row, kind), kind[:-1]) if kind in row.recorded else f"no {kind} recorded"
        for kind in ("symbols", "references")
    )
    if row.files == row.failed + row.skipped:
        found = ""
    elif not row.recorded:
        found = "of unknown languages" if row.language == "other" else "not indexed: try --ctags"
    return row.language, count(row.files, "file"), "; ".join(filter(None, [found, ", ".join(unseen)]))


def _notes(files: list[FileNote]) -> Iterator[str]:
    return aligned(files, indent="  ")


def _rest(number: int) -> Iterator[str]:
    if number:
        yield dim(f"  and {number:,} more; --verbose shows all")


def diff_line(diff: FileDiff) -> str:
    """`2 changed, 1 added`, or that nothing did."""
    parts = ("added", diff.added), ("removed", diff.removed), ("changed", diff.changed), ("moved", diff.moved)
    return ", ".join(f"{len(files):,} {what}" for what, files in parts if files) or "no file changed"


def diff_json(diff: FileDiff) -> dict[str, object]:
    """The same as plain values."""
    moved = [{"from": old, "to": new} for old, new in diff.moved]
    return {"added": diff.added, "removed": diff.removed, "changed": diff.changed, "moved": moved}


def _file_bytes(path: str) -> int:
    return sum(os.path.getsize(path + end) for end in ("", "-wal") if os.path.exists(path + end))
