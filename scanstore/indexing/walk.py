"""The files of a tree that a scan reads, and their names.

This module lists the files of a tree: their order, their names, and the skipped files with the reason. It reads
folders, `stat` results and ignore files; it never opens a source file. Change here: the default exclusions
(`EXCLUDED_NAMES`, `EXCLUDED_SUFFIXES`, `ENVIRONMENT_MARKER`) and how paths become text or module names.

Ignored and excluded files, and the store's own file, are not listed. A skipped or unreadable file is an `Entry` with a
reason.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from scanstore.db import paths
from scanstore.db.paths import escape_path, unescape_path
from scanstore.errors import InvalidArgument, NotFound, shown
from scanstore.indexing.files import opened

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = [
    "BINARY_PROBE",
    "ENVIRONMENT_MARKER",
    "EXCLUDED_NAMES",
    "EXCLUDED_SUFFIXES",
    "MAX_SIZE",
    "Entry",
    "escape_path",
    "is_binary",
    "module_names",
    "root_package",
    "unescape_path",
    "walk",
]

MAX_SIZE = 5_000_000
"""Bytes above which a file is skipped unless the caller says otherwise."""

LARGEST_IGNORE_FILE = 1 << 20
MOST_PATTERNS = 10_000
"""How many lines the ignore files that count for one folder may have: each one is tried for each path."""

UNHEEDED = "too long for an ignore file, and not heeded"

BINARY_PROBE = 8192
"""How many bytes of a file's head `is_binary` looks at."""

EXCLUDED_NAMES = frozenset(
    {
        # version control
        ".git",
        ".hg",
        ".jj",
        ".svn",
        # caches and output of tools
        "__pycache__",
        ".eggs",
        ".hypothesis",
        ".mypy_cache",
        ".nox",
        ".pytest_cache",
        ".ruff_cache",
        ".tox",
        # third-party code
        "node_modules",
    }
)
"""Names never walked below the root, be they folder, file or link."""

EXCLUDED_SUFFIXES = (".pyc", ".pyo")
"""Endings of files never yielded."""

ENVIRONMENT_MARKER = "pyvenv.cfg"
"""A folder below the root that holds this file is a virtual environment and is not entered."""

_STORE_SIBLINGS = ("", "-wal", "-shm", "-journal")


class Entry(NamedTuple):
    """One file of the tree, or one skipped file or folder.

    `path` is relative to the root, with `/` between names, storable as UTF-8 and unique in the tree (see
    `escape_path`); a folder, which is listed only if it was skipped, ends in `/`. `full` is the absolute path to open.
    `size` is in bytes and `mtime_ns` in nanoseconds, both 0 if they were not measured. `skipped` has the reason in a
    few words, or None for a file to read.
    """

    path: str
    full: str
    size: int
    mtime_ns: int
    skipped: str | None


def walk(
    root: str | os.PathLike[str],
    *,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    max_size: int | None = MAX_SIZE,
    ignore_files: Iterable[str] = (".gitignore",),
    omit: Iterable[str | os.PathLike[str]] = (),
    visit: Callable[[str], object] | None = None,
) -> Iterator[Entry]:
    """Yield the files below `root`, sorted by `Entry.path`.

    Links and junctions are yielded as skipped and never followed. Devices, sockets, pipes, and files and folders that a
    cloud drive would download are yielded as skipped and never opened. Ignore files apply from `root` downwards, each
    to its own folder, as in Git: an ignored folder is not entered. `include` and `exclude` are patterns of the same
    kind, relative to `root`. With `include`, only matching files are yielded. `exclude` takes precedence, so
    `!node_modules/` in it includes a folder that the defaults or an ignore file exclude. `max_size` is in bytes, None
    for no limit. Files in `omit`, and their SQLite and backup siblings, are never yielded. If `root` is a file, only
    that file is yielded. `visit` is called with each folder before it is listed; an exception in it ends the walk.

    Raises NotFound for a missing `root`, and InvalidArgument for an unreadable `root` or an invalid pattern, both
    before the first entry. Errors below the root are yielded, not raised.
    """
    given = os.fsdecode(root)
    top = os.path.abspath(given)
    if max_size is not None and (not isinstance(max_size, int) or max_size < 0):
        raise InvalidArgument(f"max_size is {shown(max_size)}; give a number of bytes, or None for no limit")
    walker = _Walker(
        real=paths.spelled(top),
        include=patterns("include", include),
        exclude=patterns("exclude", exclude),
        max_size=max_size,
        ignore_files=frozenset([ignore_files] if isinstance(ignore_files, str) else ignore_files),
        visit=visit,
    )
    try:
        status = os.stat(top)
        if not stat.S_ISDIR(status.st_mode):
            walker.omit(os.path.dirname(walker.real), omit)
            return iter(walker.single(top, status))
        walker.omit(walker.real, omit)
        first = walker.children(top, "", ())
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"there is no file or folder {given!r}; check the path") from None
    except OSError as error:
        raise InvalidArgument(f"{given!r} cannot be read: {_reason(error)}; check its permissions") from error
    return walker.run(first)


class _Folder(NamedTuple):
    """A folder still to be entered; its `path` ends in a slash, so it sorts where its files will."""

    path: str
    full: str
    rules: tuple[tuple[int, GitIgnoreSpec], ...]


class _Walker:
    """The state of one walk: its patterns, its limit, and its omissions."""

    def __init__(
        self,
        *,
        real: str,
        include: GitIgnoreSpec | None,
        exclude: GitIgnoreSpec | None,
        max_size: int | None,
        ignore_files: frozenset[str],
        visit: Callable[[str], object] | None,
    ) -> None:
        self.real = real
        self.include = include
        self.exclude = exclude
        self.max_size = max_size
        self.ignore_files = ignore_files
        self.visit = visit
        self.omitted: dict[str, list[str]] = {}

    def omit(self, base: str, files: Iterable[str | os.PathLike[str]]) -> None:
        """Store the omitted paths by folder relative to `base`, so that each folder looks them up once."""
        for path in [files] if isinstance(files, str) else files:
            text = os.path.abspath(os.fsdecode(path))
            # Both the given name and, for a link, the target file.
            beside = os.path.join(paths.spelled(os.path.dirname(text)), os.path.basename(text))
            for full in {beside, paths.spelled(text)}:
                inside = paths.below(full, base)
                if inside:
                    folder, _, name = inside.rpartition("/")
                    self.omitted.setdefault(_stored(folder + "/" if folder else ""), []).append(name)

    def run(self, first: list[Entry | _Folder]) -> Iterator[Entry]:
        """Walk depth first, with an explicit stack, so that Python's recursion limit does not matter."""
        stack = [iter(first)]
        while stack:
            for item in stack[-1]:
                if isinstance(item, Entry):
                    yield item
                    continue
                try:
                    below = self.children(item.full, item.path, item.rules)
                except OSError as error:
                    yield Entry(item.path, item.full, 0, 0, _reason(error))
                    continue
                stack.append(iter(below))
                break
            else:
                stack.pop()

    def single(self, full: str, status: os.stat_result) -> list[Entry]:
        """Yield the only file of a root that is a file. Only the caller's patterns apply, because the file was named
        explicitly.
        """
        name = os.path.basename(full)
        path = _stored(name)
        real_name = os.path.basename(self.real)
        omitted = self.omitted.get("", [])
        if _is_omitted(name, omitted) or _is_omitted(real_name, omitted):
            return []
        if self.exclude is not None and self.exclude.check_file(path).include:
            return []
        if self.include is not None and not self.include.match_file(path):
            return []
        return [self.measured(path, full, status)]

    def children(self, folder: str, prefix: str, rules: tuple[tuple[int, GitIgnoreSpec], ...]) -> list[Entry | _Folder]:
        """Return the sorted entries of one folder. Raises OSError if it cannot be listed."""
        if self.visit is not None:
            self.visit(folder)
        with os.scandir(folder) as listing:
            found = list(listing)
        names = {entry.name for entry in found}
        apart = _apart(names) if paths.MACOS else frozenset()
        if prefix and ENVIRONMENT_MARKER in names and not self.kept(prefix):
            return []
        unheeded: set[str] = set()
        for entry in found:
            # A link or a pipe with this name is not read, as in Git; a pipe would block.
            if entry.name in self.ignore_files and entry.is_file(follow_symlinks=False) and not _elsewhere(entry):
                try:
                    spec = _ignore_file(entry.path, MOST_PATTERNS - sum(len(spec.patterns) for _, spec in rules))
                except ValueError:
                    unheeded.add(entry.name)
                    continue
                if spec is not None:
                    rules = (*rules, (len(prefix), spec))

        omitted = self.omitted.get(prefix)
        include = self.include
        plain = self.exclude is None and not rules
        items: list[Entry | _Folder] = []
        for entry in found:
            name = entry.name
            if omitted and _is_omitted(name, omitted):
                continue
            default_out = name in EXCLUDED_NAMES or name.endswith(EXCLUDED_SUFFIXES)
            if default_out and plain:
                continue
            text = name
            if not name.isascii() or "\\" in name:
                text = escape_path(name) if name in apart else _stored(name)
            path = prefix + text
            if entry.is_dir(follow_symlinks=False):
                path += "/"
                if plain or not self.is_out(path, default_out, rules):
                    reason = self.closed(entry) if paths.TELLING else None
                    if reason is None:
                        items.append(_Folder(path, entry.path, rules))
                    else:
                        items.append(Entry(path, entry.path, 0, 0, reason))
                continue
            if not plain and self.is_out(path, default_out, rules):
                continue
            if include is not None and not include.match_file(path):
                continue
            item = self.file(entry, path)
            if name in unheeded and item.skipped is None:
                item = item._replace(skipped=UNHEEDED)
            items.append(item)
        items.sort(key=itemgetter(0))
        return items

    def kept(self, path: str) -> bool:
        """Whether the caller's `exclude` includes this path with a `!` pattern."""
        return self.exclude is not None and self.exclude.check_file(path).include is False

    def is_out(self, path: str, default_out: bool, rules: tuple[tuple[int, GitIgnoreSpec], ...]) -> bool:
        """Whether this path is excluded: by `exclude`, else the defaults, else the nearest ignore file."""
        if self.exclude is not None:
            verdict = self.exclude.check_file(path).include
            if verdict is not None:
                return verdict
        if default_out:
            return True
        for offset, spec in reversed(rules):
            verdict = spec.check_file(path[offset:]).include
            if verdict is not None:
                return verdict
        return False

    def closed(self, entry: os.DirEntry[str]) -> str | None:
        """Return the reason why a folder is not entered: it refers to another folder, or is not on this disk."""
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            return _reason(error)
        if paths.is_junction(status):
            return self.link(entry.path, paths.JUNCTION)
        return paths.IN_CLOUD if paths.is_in_cloud(status) else None

    def file(self, entry: os.DirEntry[str], path: str) -> Entry:
        """Return the entry of a file or another object that is not a folder."""
        if entry.is_symlink():
            return Entry(path, entry.path, 0, 0, self.link(entry.path))
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            return Entry(path, entry.path, 0, 0, _reason(error))
        return self.measured(path, entry.path, status)

    def measured(self, path: str, full: str, status: os.stat_result) -> Entry:
        """Return the entry for a known `stat` result."""
        reason = None
        if not stat.S_ISREG(status.st_mode):
            reason = "not a regular file"
        elif paths.TELLING and paths.is_in_cloud(status):
            reason = paths.IN_CLOUD
        elif self.max_size is not None and status.st_size > self.max_size:
            reason = f"larger than {_bytes(self.max_size)}"
        return Entry(path, full, status.st_size, status.st_mtime_ns, reason)

    def link(self, full: str, what: str = "link") -> str:
        """Return the reason why a link is skipped: its target is in the tree, outside, or missing."""
        try:
            target = os.path.realpath(full, strict=True)
        except PermissionError:
            return "permission denied"
        except OSError:
            return f"broken {what}"
        inside = paths.lies_in(target, self.real) or paths.lies_in(paths.spelled(target), self.real)
        return what if inside else f"{what} out of the tree"


def _stored(name: str) -> str:
    return escape_path(paths.composed(name))


def _apart(names: Iterable[str]) -> frozenset[str]:
    """Return the names of a folder that are equal in composed form, which only some macOS disks allow."""
    forms = Counter(paths.composed(name) for name in names if not name.isascii())
    return frozenset(name for name in names if forms[paths.composed(name)] > 1)


def _elsewhere(entry: os.DirEntry[str]) -> bool:
    """Whether an ignore file is in the cloud and would have to be downloaded."""
    try:
        return paths.TELLING and paths.is_in_cloud(entry.stat(follow_symlinks=False))
    except OSError:
        return False


def _is_omitted(name: str, omitted: list[str]) -> bool:
    for base in omitted:
        if name.startswith(base):
            rest = name[len(base) :]
            if rest in _STORE_SIBLINGS or rest.startswith(".backup-"):
                return True
    return False


def patterns(option: str, lines: Iterable[str]) -> GitIgnoreSpec | None:
    """Return the caller's compiled patterns, or None without any. Raises InvalidArgument for an invalid one."""
    lines = [lines] if isinstance(lines, str) else list(lines)
    if not lines:
        return None
    # in the form of the names they are matched with
    lines = [paths.composed(line) if isinstance(line, str) else line for line in lines]
    for line in lines:
        try:
            _spec([line])
        except (ValueError, TypeError, RecursionError, re.error):
            raise InvalidArgument(
                f"{option} has {shown(line)}, which is no pattern; write it as in a .gitignore file"
            ) from None
    return _spec(lines)


def _spec(lines: list[str]) -> GitIgnoreSpec:
    """Compile patterns. Raises ValueError and others for an invalid one."""
    from scanstore.indexing import wildcards  # start-up: loads pathspec

    return wildcards.spec(lines)


def _ignore_file(full: str, room: int) -> GitIgnoreSpec | None:
    """Return the patterns of an ignore file. Unreadable lines and files are ignored.

    Raises ValueError for a file of more than ``room`` lines or :data:`LARGEST_IGNORE_FILE` bytes.
    """
    try:
        with os.fdopen(opened(full), "rb") as file:
            content = file.read(LARGEST_IGNORE_FILE + 1)
    except OSError:
        return None
    if len(content) > LARGEST_IGNORE_FILE or content.count(b"\n") > room:
        raise ValueError(full)
    lines = []
    for line in content.decode("utf-8-sig", "replace").split("\n"):
        line = paths.composed(line.removesuffix("\r"))
        try:
            _spec([line])
        except (ValueError, re.error):
            continue
        lines.append(line)
    return _spec(lines)


def _reason(error: OSError) -> str:
    """Return an error of the operating system as the reason of a skipped entry."""
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return "vanished"
    return (error.strerror or str(error)).lower()


def _bytes(count: int) -> str:
    """Return a readable size in decimal units, never rounded across a limit."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.10g} {unit}"
    return f"{count} bytes"


def is_binary(head: bytes) -> bool:
    """Return whether a file that begins with `head` is binary.

    A file is binary if one of its first `BINARY_PROBE` bytes is NUL, unless it has a byte order mark of UTF-16 or
    UTF-32 and decodes as such. An empty file is text.
    """
    head = head[:BINARY_PROBE]
    if b"\0" not in head:
        return False
    for encoding, marks in (
        ("utf-32", (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),
        ("utf-16", (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)),
    ):
        if head.startswith(marks):
            try:
                # Decode incrementally, because the probe may end inside a character.
                codecs.getincrementaldecoder(encoding)().decode(head)
            except UnicodeDecodeError:
                return True
            return False
    return True


def module_names(paths: Iterable[str], package: str = "", roots: Iterable[str] = ()) -> dict[str, str]:
    """Map every `.py` and `.pyi` among `paths` to the dotted name it is imported by.

    Paths are relative with slashes, as in `Entry.path`; a folder is a package if its `__init__.py` (or `.pyi`) is among
    them. A file below a package is named from the topmost package down. Any other file is named by its path, without a
    leading `src/` or `lib/`. If topmost packages in several places, or other files, would have the same name, they are
    named by their whole path, because an import could mean either of them. (A stub shares the name of its source.)
    `package` is the dotted name of the root itself (see `root_package`) and is the prefix of every name. Characters
    that are invalid in identifiers are kept.

    Files below one of ``roots``, folders such as ``api`` or "" for the whole tree, are named from that folder down, and
    from the innermost one if several contain a file. If two of them have the same name, the earlier root keeps it.

    >>> module_names(["src/pkg/__init__.py", "src/pkg/a.py", "tools/run.py"])
    {'src/pkg/__init__.py': 'pkg', 'src/pkg/a.py': 'pkg.a', 'tools/run.py': 'tools.run'}
    >>> module_names(["api/services/x.py"], roots=["api"])
    {'api/services/x.py': 'services.x'}
    """
    rank = {root: place for place, root in reversed(list(enumerate(roots)))}
    split: list[tuple[str, str, str]] = []
    packages: set[str] = set()
    for path in paths:
        stem, dot, suffix = path.rpartition(".")
        if not dot or suffix not in ("py", "pyi", "pyw"):
            continue
        folder, _, name = stem.rpartition("/")
        if name == "__init__":
            packages.add(folder)
        split.append((path, folder, name))

    tops: dict[str, list[str]] = {}
    for folder in packages:
        parts = folder.split("/")
        if not any("/".join(parts[:n]) in packages for n in range(1, len(parts))):
            tops.setdefault(parts[-1], []).append(folder)
    ambiguous = {folder for folders in tops.values() if len(folders) > 1 for folder in folders}

    # Folder -> (its dotted name, whether that was named from a package down).
    known: dict[str, tuple[str, bool]] = {"": (package, bool(package))}
    for folder in ("src", "lib"):
        if folder not in packages and not package:
            known[folder] = ("", False)

    def named(folder: str) -> tuple[str, bool]:
        waiting = []
        while folder not in known:
            waiting.append(folder)
            folder = folder.rpartition("/")[0]
        for folder in reversed(waiting):
            parent, _, base = folder.rpartition("/")
            above, inside = known[parent]
            if folder in ambiguous and not inside:
                known[folder] = (folder.replace("/", "."), True)
            elif folder in packages and not inside:
                known[folder] = (base, True)
            else:
                known[folder] = (f"{above}.{base}" if above else base, inside)
        return known[folder]

    names: dict[str, str] = {}
    owners: dict[str, tuple[str, str]] = {}
    root_of = {folder: _innermost(folder, rank) for _, folder, _ in split} if rank else {}

    def order(item: tuple[str, str, str]) -> tuple[int, bool, int, str]:
        root = root_of.get(item[1])
        return len(rank) if root is None else rank[root], item[2] != "__init__", item[0].count("/"), item[0]

    split.sort(key=order)
    for path, folder, name in split:
        root = root_of.get(folder)
        if root is None or (folder == root and name == "__init__"):
            above = (known.get(folder) or named(folder))[0]
        else:
            above = folder[len(root) :].lstrip("/").replace("/", ".")
        if not above:
            names[path] = name
        else:
            names[path] = above if name == "__init__" else f"{above}.{name}"
        if owners.setdefault(names[path], (folder, name)) != (folder, name):
            names[path] = f"{folder}/{name}".replace("/", ".").lstrip(".")
    return names


def _innermost(folder: str, roots: Mapping[str, int]) -> str | None:
    """Return the innermost root that contains a folder."""
    while folder not in roots:
        if not folder:
            return None
        folder = folder.rpartition("/")[0]
    return folder


def root_package(root: str | os.PathLike[str]) -> str:
    """Return the dotted name of the package that `root` is, or "" for another folder.

    Goes up from the real folder (a file's own folder) while there is an `__init__.py` or `.pyi`.

    A root of `/x/site-packages/rich` is `rich`; one of `/repo/src/pkg/sub` is `pkg.sub`.
    """
    folder = os.path.realpath(os.fsdecode(root))
    if not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    parts: list[str] = []
    while any(os.path.isfile(os.path.join(folder, name)) for name in ("__init__.py", "__init__.pyi")):
        folder, name = os.path.split(folder)
        if not name:
            break
        parts.append(_stored(name))
    return ".".join(reversed(parts))
