"""What every command shares: the groups, the common options, opening the store, and how errors end.

Change here how a store is found and opened from the command line and which exception becomes which exit code.
"""

from __future__ import annotations

import errno
import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from scanstore import parts
from scanstore.cli.output import (
    ASKED,
    CHOSEN,
    JSON,
    LIMIT,
    SEPARATED,
    SORTED,
    check_rows_options,
    here,
    note,
    note_json,
    plain_text,
    tree_folder,
)
from scanstore.cli.provenance import scan_line, target_here
from scanstore.cli.streams import outputs
from scanstore.db.paths import below, composed, escape_path, name_in, root_name, spelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scanstore.snapshots.models import Scan
    from scanstore.store import Store

Decorated = TypeVar("Decorated", bound=Callable[..., object])

DEFAULT_STORE = "scanstore.db"
INTERRUPTED = 130
_DB = "scanstore.cli.db"
_TARGET = "scanstore.cli.target"
_TOLD = "scanstore.cli.told"
MOST = 20  # targets that a message names


class Failure(click.ClickException):
    """One line on stderr; the command ends with 1."""

    def __init__(self, message: str) -> None:
        super().__init__(plain_text(message))


class Misuse(Failure):
    """One line on stderr; the command ends with 2."""

    exit_code = 2


class JsonFailure(click.ClickException):
    """An error of a command that was called with `--json`: one JSON object on stderr."""

    def show(self, file: object = None) -> None:
        note_json({"error": self.message, "exit_code": self.exit_code})


class JsonMisuse(JsonFailure):
    """Wrong usage of a command that was called with `--json`."""

    exit_code = 2


class Group(click.Group):
    """A group whose help lists the commands in the order of the file, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class Root(Group):
    """The outermost group. It lists the commands in sections, and translates the errors of all of them."""

    sections: dict[str, tuple[str, ...]] = {}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = formatter.width - 6 - max(map(len, self.commands))
        for title, names in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(width)) for name in names])

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in outputs():
            # What the terminal's encoding does not have is spelled out instead of raising.
            if reconfigure := getattr(stream, "reconfigure", None):
                reconfigure(errors="backslashreplace")
        try:
            return super().main(*args, **kwargs)
        except Exception as error:  # a defect: its message may quote what strangers wrote, so it is escaped
            import traceback

            if not kwargs.get("standalone_mode", True):
                raise
            lines = traceback.format_exc().splitlines()
            given = args[0] if args else kwargs.get("args")
            if _asks_json(sys.argv[1:] if given is None else given):
                note_json({"error": f"{type(error).__name__}: {error}", "exit_code": 1, "traceback": lines})
            else:
                for line in lines:
                    note(line)
            sys.exit(1)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        asked = _asks_json(args)
        with _json_errors(asked), _refusals(), _plain_errors():
            context = super().make_context(info_name, args, parent, **extra)
        if asked:
            context.meta[ASKED] = True
        return context

    def invoke(self, ctx: click.Context) -> object:
        with _json_errors(ASKED in ctx.meta):
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> object:
        try:
            with _refusals(), _plain_errors():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            if ASKED in ctx.meta:
                note_json({"error": "interrupted", "exit_code": INTERRUPTED})
            else:
                note("Interrupted.", fresh_line=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:
            # Not imported before: a domain error can only come from a module that has imported it.
            errors = sys.modules.get("scanstore.errors")
            if errors is not None and isinstance(error, errors.ScanstoreError):
                raise Failure(str(error)) from error
            raise


def _asks_json(args: Iterable[str]) -> bool:
    """Whether a command line has the option `--json`, at any place."""
    return "--json" in takewhile(lambda word: word != "--", args)


@contextmanager
def _json_errors(asked: bool) -> Iterator[None]:
    """Print an error as a JSON object if JSON was asked for: also one of a command line that cannot be parsed."""
    try:
        yield
    except click.Abort:
        if not asked:
            raise
        raise JsonFailure("the question was not answered; see --help for the option that answers it") from None
    except click.ClickException as error:
        if not asked:
            raise
        kind = JsonMisuse if error.exit_code == Misuse.exit_code else JsonFailure
        raise kind(error.format_message()) from error


@contextmanager
def _refusals() -> Iterator[None]:
    """Say in one line what the system refused, help texts included."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # nobody reads any more: click ends silently
        if error.errno == errno.ENOSPC:
            raise Failure(f"nothing more can be written: {error.strerror}; free some space and try again") from None
        what = "the terminal or a file" if error.filename is None else os.fsdecode(error.filename)
        raise Failure(f"{what} cannot be read or written: {error.strerror or error}; check its disk") from None
    except UnicodeEncodeError as error:  # bytes of the command line that are no text in its encoding
        raise Misuse(f"{ascii(error.object)[:80]} is no text that can be written; give it in UTF-8") from None


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Escape what click says about arguments, which may be names of files that the shell has filled in."""
    try:
        yield
    except click.UsageError as error:
        if error.message.isprintable() or isinstance(error, click.exceptions.NoArgsIsHelpError):
            raise
        raise click.UsageError(plain_text(error.format_message()), error.ctx) from error


# Options that commands have in common


def _be_verbose(_: click.Context, __: click.Parameter, times: int) -> None:
    if times:
        import logging

        parts.logs.to_stderr(logging.INFO if times == 1 else logging.DEBUG)


#: `--verbose`: what the store logs, on stderr; given twice, every statement too.
verbose_option = click.option(
    "-v",
    "--verbose",
    count=True,
    expose_value=False,
    callback=_be_verbose,
    help="Log to stderr what the store does; -vv logs every statement.",
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


#: `--db`, which may stand at any level.
store_option = click.option(
    "--db",
    metavar="FILE",
    expose_value=False,
    callback=_remember(_DB),
    help=f"The store. [default: $SCANSTORE_DB, else {DEFAULT_STORE}]",
)
#: `--json`, which `listing`, `card` and `tell` follow.
json_option = _json_option("Print one JSON document instead.")
json_lines_option = _json_option("Print one JSON object per line instead.")
#: `--target`, which `find_scan` and `find_pair` follow.
target_option = click.option(
    "--target",
    metavar="TARGET",
    expose_value=False,
    callback=_remember(_TARGET),
    help="The name or folder of a target. [default: the one that the current folder is in]",
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
        option("--limit", LIMIT, "At most this many.", metavar="N", type=number, default=limit, show_default=True),
        option("--csv", SEPARATED, "Print CSV with a head instead.", flag_value=",", type=click.UNPROCESSED),
        option("--tsv", SEPARATED, "Print TSV with a head instead.", flag_value="\t", type=click.UNPROCESSED),
    ]


def limit_option(default: int | None = None) -> Callable[[Decorated], Decorated]:
    """Return `--limit`, as the argument `limit`."""
    number = click.IntRange(min=1)
    text = "At most this many."
    return click.option("--limit", type=number, default=default, show_default=True, metavar="N", help=text)


def basic_options(command: Decorated) -> Decorated:
    """Add the options of every command: `--json` and `--db`."""
    return json_option(store_option(command))


def group(command: Callable[[], None]) -> Group:
    """Make a group of commands, named and described by a function, with the option `--db`."""
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

    merged = click.option("--scan", "scan_too", metavar="SCAN", help="The same as the argument.")(target_option(merged))
    return cast(Decorated, click.argument("scan", metavar="[SCAN]", required=False)(merged))


def common(command: Decorated) -> Decorated:
    """Add the options of every question: `--scan`, `--target`, `--json`, `--db`."""
    return scan_option(basic_options(command))


# The store


def store_path() -> str:
    """The path of the store that this command is about."""
    given = click.get_current_context().meta.get(_DB)
    return given if given is not None else os.environ.get("SCANSTORE_DB") or DEFAULT_STORE


def db_option() -> str:
    """The ``--db`` that a further command needs to mean the same store, with a space before it; empty when none was
    given, since $SCANSTORE_DB and the default are the same then.
    """
    given = click.get_current_context().meta.get(_DB)
    if given is None or given == (os.environ.get("SCANSTORE_DB") or DEFAULT_STORE):
        return ""
    return f" --db {shlex.quote(given)}"


def name_store(path: str) -> None:
    """Make a file that was given as an argument the store that this command is about."""
    click.get_current_context().meta[_DB] = path


def store_key() -> str | None:
    """The key of the store, when it is encrypted; never on the command line, which others can see."""
    return os.environ.get("SCANSTORE_KEY") or None


def existing_store_path() -> str:
    """The same, when there is a file; fails with the remedy otherwise."""
    path = store_path()
    if path and (not os.path.exists(path) or os.path.isfile(path) and not os.path.getsize(path)):
        raise Failure(f"no store at {path}; make one with: scanstore scan PATH{db_option()}")
    return path


@contextmanager
def open_store(*, create: bool = False, write: bool = False) -> Iterator[Store]:
    """Open the store for a command, migrating an older one and saying so.

    Only `create` makes a file that was not there. Without `write` and `create`, a place that cannot be written
    to is read all the same.
    """
    from scanstore.store import Store  # start-up of the command line

    path = store_path() if create else existing_store_path()
    new = create and not os.path.exists(path)
    try:
        store = Store(path, migrate=new)
    except parts.errors.OutdatedSchema:
        done = parts.migrations.up(path, key=store_key())
        backup = f"; the file as it was: {done.backup}" if done.backup else ""
        note(f"Migrated {path}: {', '.join(done) or 'by another process'}{backup}")
        store = Store(path)
    except parts.errors.ReadOnly:
        if create or write:
            raise
        store = Store(path, read_only=True)
    with store:
        yield store


def find_scan(store: Store, given: str | None, *, findings: bool = False) -> Scan:
    """Return the scan that a command is about, and say on stderr which one it is.

    It is the one of an id, or the latest of a target: the given one, else that of `--target`, else the one that the
    current folder is in. Where ``findings`` are asked for, the latest is one that looked for them.
    """
    scan = _chosen(store, given, findings)
    note_scan(store, scan)
    return scan


def note_scan(store: Store, scan: Scan) -> None:
    """Say on stderr which scan an answer is from, and how many files have changed since; once for each scan."""
    told = click.get_current_context().meta.setdefault(_TOLD, set())
    if scan.id not in told:
        told.add(scan.id)
        note(scan_line(store, scan))


def _chosen(store: Store, given: str | None, findings: bool) -> Scan:
    latest = store.findings.latest if findings else store.scans.latest
    if given is None or not given.strip():
        target = find_target(store, trees=not findings)
        return latest() if target is None else latest(target)
    if chosen_target() is not None:
        raise Misuse(f"a scan has its target: leave out {given!r} or --target")
    if is_one_scan(given):
        return store.scans.get(int(given))
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
    known = {each.target for each in store.scans.targets()}
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
        raise Misuse(f"{len(names):,} targets may be meant; say which one with --target TARGET: {shown}") from None


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
