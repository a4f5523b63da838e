"""The shared parts of all commands: common options, opening of the store, and the choice of a scan.

Change here how a store is found and opened from the command line and which exception becomes which exit code.
"""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from scanstore import parts
from scanstore.cli import configuration as project
from scanstore.cli.groups import Failure as Failure
from scanstore.cli.groups import Group as Group
from scanstore.cli.groups import Misuse as Misuse
from scanstore.cli.interrupts import finish
from scanstore.cli.output import (
    CHOSEN,
    JSON,
    LIMIT,
    LOGGED,
    QUIET,
    SEPARATED,
    SORTED,
    aside,
    check_rows_options,
    here,
    is_finished,
    is_quiet,
    murmur,
    note,
    tree_folder,
)
from scanstore.cli.progress import progress
from scanstore.cli.provenance import SAME, recorded_scans, scan_line, target_here
from scanstore.db.paths import below, composed, escape_path, name_in, root_name, spelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from scanstore.snapshots.models import Scan
    from scanstore.store import Store

Decorated = TypeVar("Decorated", bound=Callable[..., object])

DEFAULT_STORE = "scanstore.db"
_DB = "scanstore.cli.db"
_TARGET = "scanstore.cli.target"
_TOLD = "scanstore.cli.told"
_PROJECT = "scanstore.cli.configuration"
_PLACE = "scanstore.cli.location"
_PASSED = "scanstore.cli.passed"
IN_FILE = f"give the path of a file, such as --db {DEFAULT_STORE}"
MOST = 20  # targets that a message names


# Options that commands have in common


def _be_verbose(context: click.Context, _: click.Parameter, times: int) -> None:
    if times and not context.resilient_parsing:  # a completion prints nothing
        import logging

        context.meta[LOGGED] = True
        parts.logs.to_stderr(logging.INFO if times == 1 else logging.DEBUG)


#: `--verbose`: what the store logs, on stderr; given twice, every statement too.
verbose_option = click.option(
    "-v",
    "--verbose",
    count=True,
    expose_value=False,
    callback=_be_verbose,
    help="Log the operations of the store to stderr; -vv logs every SQL statement.",
)


def _remember(key: str) -> Callable[[click.Context, click.Parameter, object], None]:
    """Return a callback that keeps an option for the whole command; the innermost one counts."""

    def remember(context: click.Context, _: click.Parameter, value: object) -> None:
        if value is not None and value is not False:
            if key == SEPARATED and context.meta.get(key, value) != value:
                raise click.UsageError("--csv and --tsv are both given; give one of them", context)
            context.meta[key] = value

    return remember


def _json_option(text: str) -> Callable[[Decorated], Decorated]:
    return click.option("--json", is_flag=True, expose_value=False, callback=_remember(JSON), help=text)


_db_option = click.option(
    "--db",
    metavar="FILE",
    expose_value=False,
    callback=_remember(_DB),
    help="Path of the store. [default: $SCANSTORE_DB, else $DATABASE_URL, else the configuration, else the nearest"
    f" {DEFAULT_STORE} upwards]",
)
_quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_remember(QUIET),
    help="Print results, warnings and errors only: no progress, no remarks.",
)


def store_option(command: Decorated) -> Decorated:
    """Add the options that may stand at any level: `--db` and `--quiet`."""
    return _db_option(_quiet_option(command))


#: `--json`, which `listing`, `card` and `tell` follow.
json_option = _json_option("Print one JSON document instead.")
json_lines_option = _json_option("Print one JSON object per line instead.")
#: `--target`, which `find_scan` and `find_pair` follow.
target_option = click.option(
    "--target",
    metavar="TARGET",
    expose_value=False,
    callback=_remember(_TARGET),
    help="The name or folder of a target. [default: the target of the current folder]",
)


def rows_options(*columns: str, limit: int | None = None) -> Callable[[Decorated], Decorated]:
    """Return the options of every list with these columns, which `listing` follows: `--columns`, `--sort`, `--limit`,
    `--csv`, `--tsv`.

    Names that are no columns are refused before the command begins. ``limit`` is the default of `--limit`.
    """

    def add(command: Decorated) -> Decorated:
        @functools.wraps(command)
        def checked(*args: object, **options: object) -> object:
            check_rows_options(columns)
            return command(*args, **options)

        for option in reversed(_rows_options(columns, limit)):
            checked = option(checked)
        return cast(Decorated, checked)

    return add


def _next_name(columns: Sequence[str], _: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete the last of several names of columns."""
    done, comma, last = incomplete.rpartition(",")
    minus = "-" * last.startswith("-")
    return [f"{done}{comma}{minus}{name}" for name in columns if f"{minus}{name}".startswith(last)]


def _rows_options(
    columns: Sequence[str], limit: int | None
) -> list[Callable[[Callable[..., object]], Callable[..., object]]]:
    def option(name: str, key: str, text: str, **more: Any) -> Callable[..., Callable[..., object]]:
        return click.option(name, expose_value=False, callback=_remember(key), help=text, **more)

    names = {"metavar": "NAMES", "shell_complete": functools.partial(_next_name, columns)}
    number = click.IntRange(min=1)
    return [
        option("--columns", CHOSEN, f"Print these columns only: {', '.join(columns)}.", **names),
        option("--sort", SORTED, "Sort by these columns; -NAME reverses the order.", **names),
        option("--limit", LIMIT, "Print at most N rows.", metavar="N", type=number, default=limit, show_default=True),
        option("--csv", SEPARATED, "Print CSV with a header instead.", flag_value=",", type=click.UNPROCESSED),
        option("--tsv", SEPARATED, "Print TSV with a header instead.", flag_value="\t", type=click.UNPROCESSED),
    ]


def limit_option(default: int | None = None) -> Callable[[Decorated], Decorated]:
    """Return `--limit`, as the argument `limit`."""
    number = click.IntRange(min=1)
    text = "Print at most N rows."
    return click.option("--limit", type=number, default=default, show_default=True, metavar="N", help=text)


def basic_options(command: Decorated) -> Decorated:
    """Add the options of every command: `--json`, `--db` and `--quiet`."""
    return json_option(store_option(command))


def group(command: Callable[[], None]) -> Group:
    """Make a group of commands, named and described by a function, with the options `--db` and `--quiet`."""
    return click.group(cls=Group)(store_option(command))


def scan_option(command: Decorated) -> Decorated:
    """Add `--scan`, as the argument `scan`, and `--target`."""
    text = "A scan's id, or a target for its latest. [default: the latest of --target]"
    return click.option("--scan", metavar="SCAN", help=text)(target_option(command))


def scan_argument(command: Decorated) -> Decorated:
    """Add SCAN, which may also be given as `--scan`, as the argument `scan`, and `--target`."""

    @functools.wraps(command)
    def merged(*args: object, scan: str | None, scan_too: str | None, **options: object) -> object:
        if scan is not None and scan_too is not None:
            raise Misuse(f"SCAN and --scan are both given, {scan} and {scan_too}; give one of them")
        return command(*args, scan=scan_too if scan is None else scan, **options)

    merged = click.option(
        "--scan", "scan_too", metavar="SCAN",
        help="Another way to give the argument SCAN.",
    )(target_option(merged))
    return cast(Decorated, click.argument("scan", metavar="[SCAN]", required=False)(merged))


def common(command: Decorated) -> Decorated:
    """Add the options of every question: `--scan`, `--target`, `--json`, `--db`."""
    return scan_option(basic_options(command))


# The store


def configuration() -> project.ProjectConfiguration:
    """The configuration of the project that the current folder is in; it is read once, and only when it is needed."""
    try:
        found = _project()
    except project.Refused as error:
        raise Misuse(str(error)) from None
    note_once(found.passed)
    return found


def _project() -> project.ProjectConfiguration:
    meta = click.get_current_context().meta
    if _PROJECT not in meta:
        meta[_PROJECT] = project.read()
    return cast(project.ProjectConfiguration, meta[_PROJECT])


def note_once(lines: Iterable[str], say: Callable[[str], None] = note) -> None:
    """Say each line once in a command, such as why a file of another user was passed over."""
    told = click.get_current_context().meta.setdefault(_PASSED, set())
    for line in lines:
        if line not in told:
            told.add(line)
            say(line)


def store_path() -> str:
    """The path of the store that this command is about."""
    found = _place()
    note_once(found.passed)
    if found.above:
        note_once([f"store: {found.path}, {found.origin}"], murmur)
    return found.path


def _place() -> project.Location:
    """Return the place of the store. It is determined once per command."""
    given, places = given_store(), click.get_current_context().meta.setdefault(_PLACE, {})
    if given not in places:
        places[given] = location(given)
    return cast(project.Location, places[given])


def given_store() -> str | None:
    """The value of `--db`."""
    given: str | None = click.get_current_context().meta.get(_DB)
    return given


def location(given: str | None) -> project.Location:
    """Return where the store is, if ``given`` is the value of ``--db``, and what says so."""
    try:
        if given is not None:
            return project.Location(parts.locations.path_of(given, "--db"), "--db")
        named = parts.locations.from_environment()
        if named is not None:
            return project.Location(named[1], f"${named[0]}")
        return project.location(DEFAULT_STORE, _project)
    except (project.Refused, parts.errors.InvalidArgument) as error:
        raise Misuse(str(error)) from None


def named_store_path(*, creates: bool = False) -> str:
    """The same, for a command that fills, replaces or deletes the store, or changes what opens it: never one that was
    found above the current folder.
    """
    found = _place()
    if found.above:
        other = f", or --db {DEFAULT_STORE} for a new one here" if creates else ""
        raise Misuse(
            f"the store {found.path} is not in the current folder ({found.origin});"
            f" give --db {shlex.quote(found.path)} if it is meant{other}"
        )
    return store_path()


def new_store_path() -> str:
    """The same, for a command that makes a store: one that was found above is left alone."""
    found = _place()
    if found.origin == project.ABOVE:
        name_store(DEFAULT_STORE)
        aside(f"{found.path} is left alone; commands in this folder use the new store from now on")
    return store_path()


def db_option() -> str:
    """The ``--db`` that a further command needs to mean the same store, with a space before it; empty when none was
    given, or the one that is taken without it.
    """
    given = given_store()
    if given is None:
        return ""
    try:
        if absolute(location(given).path) == absolute(location(None).path):
            return ""
    except click.ClickException:  # what would be taken without it cannot be used
        pass
    return f" --db {shlex.quote(given)}"


def absolute(path: str) -> str:
    """The absolute path, if there is a current folder."""
    if path == parts.locations.MEMORY:
        return path
    try:
        return os.path.abspath(path)
    except OSError:  # the current folder was deleted
        return path


def name_store(path: str) -> None:
    """Make a file that was given as an argument the store that this command is about."""
    if not path.strip():
        raise Misuse(f"FILE is {path!r:.40}, which names no file; give the path of a store")
    plain = parts.locations.is_plain(path)
    click.get_current_context().meta[_DB] = path if plain else os.path.join(os.curdir, path)


def store_key() -> str | None:
    """The key of the store, when it is encrypted; never on the command line, which others can see."""
    return os.environ.get("SCANSTORE_KEY") or None


def existing_store_path() -> str:
    """The same, when there is a file; fails with the remedy otherwise."""
    path = store_path()
    if path == parts.locations.MEMORY:
        raise Failure(f"no store at {path}, because a store in memory ends with its command; {IN_FILE}")
    if path and (not os.path.exists(path) or os.path.isfile(path) and not os.path.getsize(path)):
        raise Failure(f"no store at {path}; make one with: scanstore scan PATH{db_option()}")
    return path


@contextmanager
def open_store(*, create: bool = False, write: bool = False) -> Iterator[Store]:
    """Open the store for a command, migrating an older one and saying so.

    Only `create` makes a file that was not there. If the command then fails or is interrupted before its first row is
    written, the new file is removed. Without `write` and `create`, a place that cannot be written to is read all the
    same.
    """
    path = store_path() if create else existing_store_path()
    if path == parts.locations.MEMORY:
        note_once([f"the store is in memory and ends with this command; to keep it, {IN_FILE}"], murmur)
    new = create and path != parts.locations.MEMORY and not os.path.lexists(path)
    try:
        with _opened(path, new=new, write=write or create) as store:
            new = new and store.database.created  # another process may have been faster
            yield store
            finish()
    except BaseException:
        if new and not is_finished(click.get_current_context()):
            parts.unfilled.remove_unfilled(path, store_key())
        raise


def _opened(path: str, *, new: bool, write: bool) -> Store:
    from scanstore.store import Store  # start-up of the command line

    try:
        return Store(path, migrate=new or path == parts.locations.MEMORY)
    except parts.errors.OutdatedSchema:
        with progress(f"Migrating {path}"):
            done = parts.migrations.up(path, key=store_key())
        backup = f"; the file as it was: {done.backup}" if done.backup else ""
        note(f"Migrated {path}: {', '.join(done) or 'by another process'}{backup}")
        return Store(path)
    except parts.errors.ReadOnly:
        if write:
            raise
        return Store(path, read_only=True)


def find_scan(store: Store, given: str | None, *, findings: bool = False) -> Scan:
    """Return the scan that a command is about, and say on stderr which one it is.

    It is the one of an id, or the latest of a target: the given one, else that of `--target`, else the one that the
    current folder is in. Where ``findings`` are asked for, the latest is one that looked for them.
    """
    scan = _chosen(store, given, findings)
    note_scan(store, scan)
    return scan


def note_scan(store: Store, scan: Scan) -> None:
    """Say on stderr which scan an answer is from, and how many files have changed since; once for each scan.

    With `--quiet`, only if the answer may not be about the present files.
    """
    told = click.get_current_context().meta.setdefault(_TOLD, set())
    if scan.id not in told:
        told.add(scan.id)
        line, state = scan_line(store, scan)
        if not is_quiet() or state not in ("", SAME):
            note(line + state)


def _chosen(store: Store, given: str | None, findings: bool) -> Scan:
    latest = store.findings.latest if findings else recorded_scans(store).latest
    if given is None or not given.strip():
        target = find_target(store, trees=not findings)
        return latest() if target is None else latest(target)
    if chosen_target() is not None:
        raise Misuse(f"a scan has its target: leave out {given!r} or --target")
    if is_one_scan(given):
        return recorded_scans(store).get(int(given))
    name = named_target(store, given)
    if name is None:
        raise Failure(f"no completed scan of {given!r}; give a scan's id, or a target of: scanstore scans list")
    return latest(name)


def chosen_target() -> str | None:
    """The target of `--target`, as it was given."""
    given: str | None = click.get_current_context().meta.get(_TARGET)
    return given


def named_target(store: Store, given: str) -> str | None:
    """The target meant by its name, or by a path that leads there."""
    known = {each.target for each in recorded_scans(store).targets()}
    return next((name for name in (given, root_name(given)) if name in known), None)


def known_target(store: Store, given: str) -> str:
    """The same; fails when there is none."""
    name = named_target(store, given)
    if name is None:
        raise Failure(f"there is no target {given!r}; see the targets with: scanstore scans list")
    return name


def find_target(store: Store, *, trees: bool = False) -> str | None:
    """The target of `--target`, else the one that the current folder is in, else the only one; None without any.

    Ends with 2 when there are several, since a guess would be an answer about the wrong one.
    """

    given = chosen_target()
    if given is not None:
        return known_target(store, given)
    try:
        return target_here(store, here(), trees=trees)
    except parts.errors.Ambiguous as error:
        names = error.candidates
        more = f" and {len(names) - MOST:,} more" if len(names) > MOST else ""
        shown = ", ".join(map(str, names[:MOST])) + more
        raise Misuse(f"{len(names):,} targets are possible; choose one with --target TARGET: {shown}") from None


def is_one_scan(given: str | None) -> bool:
    """Whether a scan itself was named by its id, and not a target."""
    return given is not None and given.strip().isascii() and given.strip().isdecimal()


def find_pair(store: Store, a: str | None, b: str | None, *, findings: bool = False) -> tuple[Scan, Scan]:
    """The two scans of a diff: by default the latest of a target and the one before.

    Where ``findings`` are asked for, the latest is one that looked for them, and the one before is of the same tools.
    """
    if a is not None:
        first = find_scan(store, a, findings=findings)
        latest = store.findings.latest if findings else store.scans.latest
        second = latest(first.target) if b is None else find_scan(store, b, findings=findings)
        note_scan(store, second)
        return first, second
    last = find_scan(store, None, findings=findings)
    before = store.findings.baseline(last) if findings else previous(store, last)
    if before is None:
        alone = "the first of {} in which its tools looked" if findings else "the only one of {}"
        other = ", or name two scans" if findings else ""
        raise Failure(f"scan {last.id} is {alone.format(last.target)}; scan it again to compare{other}")
    note_scan(store, before)
    return before, last


def previous(store: Store, scan: Scan) -> Scan | None:
    """The completed scan of the same target before this one."""
    others = store.scans.list(target=scan.target)
    recorded = (other for other in others if other.revision is not None and other.kind == scan.kind)
    return next((other for other in recorded if abs(other.revision or 0) < abs(scan.revision or 0)), None)


def recorded_path(scan: Scan, given: str) -> str:
    """The path under which a scan knows a file: the path as seen from the current folder, else as given."""
    base = tree_folder(scan)
    if base is None or (here() is None and not os.path.isabs(given)):
        return given
    folder, name = os.path.split(given)
    if not os.path.lexists(given):
        return given
    inside = below(name_in(spelled(folder or os.curdir), name), base)
    return given if inside is None else escape_path(composed(inside))
