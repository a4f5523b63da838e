"""All output of commands: escaping, lists, cards, JSON, and paths that a terminal can open.

A command that lists rows calls `listing`, a command that shows one row calls `card`, and any other calls `tell`. With
`--json`, each of them prints JSON instead.

File names and source text come from strangers. Nothing of them reaches the terminal before `plain_text` has
spelled out whatever is not printable, so no escape sequence and no line break of theirs is ever obeyed.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from numbers import Number
from typing import TYPE_CHECKING, BinaryIO, Generic, NamedTuple, TypeAlias, TypedDict, TypeVar, cast

import click

from scanstore import parts
from scanstore.cli import drawing, sorting
from scanstore.cli.streams import binary_output, is_terminal
from scanstore.db import paths
from scanstore.db.plain_text import plain_text as plain_text

if TYPE_CHECKING:
    from scanstore.db.fields import Base
    from scanstore.snapshots.models import Scan

_Row = TypeVar("_Row", contravariant=True)

JSON = "scanstore.cli.json"  # in the context of a command that was called with --json
ASKED = "scanstore.cli.asked"  # in the context of a command line with --json, whether or not the command knows it
SEPARATED = "scanstore.cli.separated"  # in the context of a command with --csv or --tsv: the separator
CHOSEN = "scanstore.cli.columns"  # in the context of a command with --columns: the names of the columns
QUIET = "scanstore.cli.quiet"  # in the context of a command that was called with --quiet
LOGGED = "scanstore.cli.logged"  # in the context of a command that was called with --verbose
FINISHED = "scanstore.cli.finished"  # in the context of a command whose work is done
SORTED = "scanstore.cli.sort"  # in the context of a command with --sort: the names of the columns
LIMIT = "scanstore.cli.limit"  # in the context of a command with --limit: the number
_AT_ONCE = 1000
_LISTED = 20  # lines of a list that is shortened
_NOT_ALIGNED = 60  # a cell wider than this does not push its whole column to the right


def say(lines: Iterable[str]) -> bool:
    """Print lines that are ready for the terminal; return whether there was one."""
    if (context := click.get_current_context(silent=True)) is not None:
        context.meta[FINISHED] = True
    stream, said = iter(lines), False
    while batch := list(islice(stream, _AT_ONCE)):
        click.echo("\n".join(batch))
        said = True
    return said


def note(line: str, *, fresh_line: bool = False) -> None:
    """Print a remark on stderr, out of the way of the data; with `--json`, as a JSON object on a line."""
    if wants_json() or _meta(ASKED):
        note_json({"note": line})
        return
    if fresh_line and is_terminal("stderr"):
        click.echo(err=True)  # the terminal has shown ^C
    click.echo(plain_text(line), err=True)


def aside(line: str) -> None:
    """Print a remark or a hint that only people need, without `--json` and `--quiet`."""
    if not _meta(ASKED) and not wants_json() and not is_quiet():
        note(line)


def caution(line: str) -> None:
    """Print a warning that people need even with `--quiet`; JSON has it already."""
    if not wants_json():
        note(line)


def murmur(line: str) -> None:
    """Print a remark that only people need, less loud, without `--json` and `--quiet`."""
    if not _meta(ASKED) and not wants_json() and not is_quiet():
        click.echo(dim(plain_text(line)), err=True)


def dim(text: str) -> str:
    """Return the text, less loud."""
    return click.style(text, dim=True)


def paragraph(text: str, *, indent: str = "  ") -> Iterator[str]:
    """Yield the lines of a longer text, each escaped: its line breaks are kept, and nothing else is obeyed."""
    for line in text.strip("\r\n").splitlines():
        yield f"{indent}{plain_text(line.expandtabs())}".rstrip()


def tell(value: object, lines: str | Iterable[str], empty: str = "") -> None:
    """Print the lines of an answer; with `--json`, its value.

    A text is one line, and is escaped; several lines are ready for the terminal. Without any, `empty` is noted.
    """
    if wants_json():
        say_json(value)
    elif not say([plain_text(lines)] if isinstance(lines, str) else lines) and empty:
        note(empty)


# Lists


class Column(NamedTuple, Generic[_Row]):
    """A column of a list: its name, and the attribute or function that gives its cells.

    The attribute is by default the one called like the column. Cells of a `right` column are flush right. `--sort`
    compares the `key`, by default the cells. An `extra` column is only printed where `--columns` names it. In the
    cells of a `marked` column, `drawing.ON` and `drawing.OFF` enclose the emphasised text.
    """

    name: str
    value: str | Callable[[_Row], object] = ""
    right: bool = False
    key: str | Callable[[_Row], object] = ""
    extra: bool = False
    marked: bool = False

    def cell(self, row: _Row) -> str:
        """Return the text of this column in a row."""
        return shown(_value(row, self.value or self.name))

    def sorts(self, row: _Row) -> object:
        """Return what `--sort` compares."""
        found = _value(row, self.key or self.value or self.name)
        return sorting.rank(found) if self.name == "severity" else found

    def plain(self, row: _Row) -> object:
        """Return the cell for JSON: a number where the column is sorted by one, else its text or None."""
        found = _value(row, self.key or self.value or self.name)
        if found is None or isinstance(found, (int, float)):
            return found
        return float(str(found)) if isinstance(found, Number) else self.cell(row)


def _value(row: _Row, value: str | Callable[[_Row], object]) -> object:
    if callable(value):
        return value(row)
    found: object = row[value] if isinstance(row, Mapping) else getattr(row, value)
    return found


#: The columns of a list; a text is the column of an attribute.
Columns: TypeAlias = Sequence[str | Column[_Row]]


class Window(TypedDict, total=False):
    """The `limit=` and `sort=` of a list of the API."""

    limit: int | None
    sort: str | None


def window(model: type[Base], columns: Columns[_Row]) -> Window:
    """Return what a list of the API can do of `--limit` and `--sort` by itself, before any row is read.

    It sorts by one column, which is indexed. For any other order it gives all rows, and `listing` sorts and cuts them.
    """
    by = _by()
    if not by:
        return {"limit": _limit()}
    name, descending = by[0]
    column = next((each for each in _every(columns) if each.name == name), None)
    field = None if column is None or column.key or name == "severity" else column.value or name
    if len(by) > 1 or field not in parts.pagination.sorts(model, nullable=descending):
        return {}
    return {"limit": _limit(), "sort": f"{'-' * descending}{field}"}


def row_limit() -> int | None:
    """Return the `limit=` for a list of the API that cannot sort: that of `--limit`, and None where all rows must be
    sorted.
    """
    return None if _by() else _limit()


def _limit() -> int | None:
    return cast("int | None", _meta(LIMIT))


def _by() -> list[sorting.Order]:
    given = cast("str | None", _meta(SORTED))
    return [] if given is None else sorting.orders(given)


def arranged(rows: Iterable[_Row], columns: Columns[_Row]) -> Iterable[_Row]:
    """Return rows in the order of `--sort`, and no more of them than `--limit` says."""
    by = _by()
    if by:
        known = {column.name: column for column in _every(columns)}
        check_names([name for name, _ in by], list(known), "sort by")
        rows = sorting.ordered(rows, [(known[name].sorts, descending) for name, descending in by])
    limit = _limit()
    return rows if limit is None else islice(rows, limit)


def listing(
    rows: Iterable[_Row],
    columns: Columns[_Row],
    empty: str = "",
    *,
    data: Callable[[_Row], object] | None = None,
    stream: bool = False,
) -> None:
    """Print rows as a table with a head on a terminal, and elsewhere as lines of cells between tabs.

    `--sort` and `--limit` are followed, and `--columns` chooses columns. With `--json`, prints the rows themselves, or
    the `data` of each, or objects with the chosen columns; with `--csv` or `--tsv`, a head and a line for each row.
    Without rows, `empty` is noted. A `stream` is printed while its rows come, never as a table, and its JSON is a line
    for each row.
    """
    rows = arranged(rows, columns)
    chosen, separator = _chosen(columns), cast("str | None", _meta(SEPARATED))
    if wants_json():
        values = _json_values(rows, chosen, data)
        if stream:
            say(json_lines(values))
        else:
            say_json(list(values))
        return
    if separator is not None:
        lines = _separated(rows, chosen, separator)
        say([next(lines)])
        if not say(lines) and empty:
            note(empty)
    elif stream or not is_terminal("stdout"):
        told = say("\t".join(_cell(column, row) for column in chosen) for row in rows)
        if not told and empty:
            note(empty)
    else:
        tell(None, _drawn(rows, chosen), empty)


def only_rows() -> bool:
    """Whether an option asks for the rows alone, of a command that prints more than them."""
    return _meta(SEPARATED) is not None or _meta(CHOSEN) is not None


def _json_values(
    rows: Iterable[_Row], chosen: Sequence[Column[_Row]], data: Callable[[_Row], object] | None
) -> Iterable[object]:
    if _meta(CHOSEN) is not None:
        return ({column.name: column.plain(row) for column in chosen} for row in rows)
    return rows if data is None else map(data, rows)


def check_rows_options(columns: Sequence[str]) -> None:
    """Raise UsageError for a column of `--columns` or `--sort` that a list does not have, and for options that exclude
    each other.
    """
    if wants_json() and _meta(SEPARATED) is not None:
        raise click.UsageError("--json cannot be used with --csv or --tsv")
    given = cast("str | None", _meta(CHOSEN))
    if given is not None:
        check_names(_names(given), columns, "print")
    check_names([name for name, _ in _by()], columns, "sort by")


def check_names(names: Iterable[str], known: Sequence[str], verb: str) -> None:
    """Raise UsageError for a name that is no known column."""
    for name in names:
        if name not in known:
            raise click.UsageError(f"no column {plain_text(name)!r} to {verb}; there are: {', '.join(known)}")


def _names(given: str) -> list[str]:
    return [name.strip() for name in given.split(",")]


def _chosen(columns: Columns[_Row]) -> list[Column[_Row]]:
    """Return the columns that `--columns` names, in its order; else all but the extra ones, the id first."""
    every = sorted(_every(columns), key=lambda column: column.name != "id")
    given = cast("str | None", _meta(CHOSEN))
    if given is None:
        return [column for column in every if not column.extra]
    known = {column.name: column for column in every}
    check_names(_names(given), list(known), "print")
    return [known[name] for name in _names(given)]


def _cell(column: Column[_Row], row: _Row) -> str:
    """Return an escaped cell for anything but a table."""
    text = column.cell(row)
    return plain_text(text.replace(drawing.ON, "").replace(drawing.OFF, "") if column.marked else text)


def _separated(rows: Iterable[_Row], columns: Sequence[Column[_Row]], separator: str) -> Iterator[str]:
    """Yield a head and a line for each row, quoted as RFC 4180 says where the separator is a comma."""
    import csv
    import io

    def line(cells: list[str]) -> str:
        if separator == "\t":
            return "\t".join(cells)
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(cells)
        return text.getvalue()

    yield line([column.name for column in columns])
    for row in rows:
        yield line([_cell(column, row) for column in columns])


def _drawn(rows: Iterable[_Row], columns: Sequence[Column[_Row]]) -> Iterator[str]:
    """Yield the lines of a table for the terminal."""
    heads = [drawing.Heading(column.name, column.right, column.marked) for column in columns]
    return drawing.drawn(heads, ([_escaped(column, row) for column in columns] for row in rows))


def _escaped(column: Column[_Row], row: _Row) -> str:
    """Return an escaped cell for a table, with its marks."""
    text = column.cell(row)
    return re.sub(f"[^{drawing.ON}{drawing.OFF}]+", lambda part: plain_text(part[0]), text) if column.marked else (
        plain_text(text)
    )  # fmt: skip


def table(rows: Iterable[_Row], columns: Columns[_Row], *, indent: str = "", head: bool = False) -> Iterator[str]:
    """Yield rows as lines of aligned columns, below their names if there is to be a `head`: a part of an answer."""
    every = _every(columns)
    cells = [[column.cell(row) for column in every] for row in rows]
    names = [[column.name for column in every]] if head and cells else []
    return aligned(names + cells, right=[n for n, column in enumerate(every) if column.right], indent=indent)


def _every(columns: Columns[_Row]) -> list[Column[_Row]]:
    return [Column(column) if isinstance(column, str) else column for column in columns]


def shown(value: object) -> str:
    """Return a value as a cell shows it: a time in UTC, nothing for None."""
    if isinstance(value, str):
        return value
    from datetime import datetime

    if isinstance(value, datetime):
        return parts.values.format_time(value)
    return "" if value is None else str(value)


def aligned(rows: Iterable[Sequence[object]], *, right: Sequence[int] = (), indent: str = "") -> Iterator[str]:
    """Align rows of cells and yield them as lines; columns listed in `right` are flush right.

    Cells are escaped. The last column is neither padded nor cut.
    """
    cells = [[plain_text(shown(cell)) for cell in row] for row in rows]
    count = max(map(len, cells), default=0)
    widths = [min(max((len(row[n]) for row in cells if n < len(row)), default=0), _NOT_ALIGNED) for n in range(count)]
    for row in cells:
        padded = [
            cell.rjust(widths[n]) if n in right else cell.ljust(widths[n]) if n < len(row) - 1 else cell
            for n, cell in enumerate(row)
        ]
        yield (indent + "  ".join(padded)).rstrip()


# Cards

Fact: TypeAlias = tuple[str, object]
#: A name, and the text or the lines below it. Lines are ready for the terminal; without a name there is no heading.
Section: TypeAlias = tuple[str, str | Iterable[str]]


def card(data: object, title: str, facts: Iterable[Fact], *sections: Section) -> None:
    """Print one thing: its title, a line for each fact, then longer texts and lists; with `--json`, its data.

    Facts and sections without a value are left out.
    """
    tell(data, _card_lines(title, facts, sections))


def _card_lines(title: str, facts: Iterable[Fact], sections: Iterable[Section]) -> Iterator[str]:
    yield click.style(plain_text(title), bold=True)
    yield from fact_lines(facts)
    for name, content in sections:
        lines = list(paragraph(content) if isinstance(content, str) else content)
        if any(lines):
            yield from ("", f"{plain_text(name)}:") if name else ("",)
            yield from lines


def fact_lines(facts: Iterable[Fact]) -> Iterator[str]:
    """Yield `name  value` for each fact that has a value."""
    return aligned([fact for fact in facts if fact[1] not in (None, "")], indent="  ")


# Places


def places(scan: Scan) -> Callable[[str, int | None], str]:
    """Return a function that spells `file:line`: from the current folder, where editors and terminals make it a
    link, when the tree is in there; else from the top of the tree, which keeps it short.
    """
    base, folder = tree_folder(scan), here()
    inside = None if base is None or folder is None else paths.below(base, folder)
    prefix = paths.escape_path(inside) + "/" if inside else ""

    def place(path: str, line: int | None = None) -> str:
        return f"{prefix}{path}" if line is None else f"{prefix}{path}:{line}"

    return place


def place_column(scan: Scan, path: str = "file_path", line: str = "start_line") -> Column[object]:
    """Return the column with the place of a row, given the names of its path and its line."""
    place = places(scan)
    return Column(
        "place",
        lambda row: place(getattr(row, path), getattr(row, line)),
        key=lambda row: (getattr(row, path), getattr(row, line)),
    )


def here() -> str | None:
    """The real path of the current folder, as its file system spells it; None when it was deleted."""
    try:
        return paths.spelled(os.curdir)
    except OSError:
        return None


def tree_folder(scan: Scan) -> str | None:
    """The folder that the paths of a scan are relative to, when it is on this machine."""
    if scan.root is None:
        return None
    root = paths.stored_root(scan.root)
    if os.path.isfile(root):
        return paths.spelled(os.path.dirname(root))
    return paths.spelled(root) if os.path.isdir(root) else None


def shortened(lines: Iterable[str], what: str, indent: str = "") -> Iterator[str]:
    """Yield the first lines of a longer list, and how many more there are."""
    every = list(lines)
    yield from every[:_LISTED]
    if len(every) > _LISTED:
        yield f"{indent}and {count(len(every) - _LISTED, f'more {what}')}; --json shows all"


def spoken(file: str, stream: str = "input") -> str:
    """Return the name of a file for a sentence, in which - is the standard input or output."""
    return f"the standard {stream}" if file == "-" else file


def count(number: int, what: str, plural: str | None = None) -> str:
    """Return `1 file`, `2,345 files`."""
    return f"{number:,} {what if number == 1 else plural or what + 's'}"


def size(number: int) -> str:
    """Return a number of bytes for people: `12.3 MB`."""
    if number < 1000:
        return f"{number} B"
    if number < 999_950:
        return f"{number / 1e3:.1f} kB"
    return f"{number / 1e6:.1f} MB" if number < 999_950_000 else f"{number / 1e9:.1f} GB"


# JSON


def wants_json() -> bool:
    """Whether the command was called with `--json`."""
    return _meta(JSON) is not None


def is_quiet() -> bool:
    """Whether the command was called with `--quiet`."""
    return in_context(QUIET)


def is_finished(context: click.Context) -> bool:
    """Whether the work of a command is done."""
    return FINISHED in context.meta


def in_context(key: str) -> bool:
    """Whether the context of the command has a key."""
    return _meta(key) is not None


def _meta(key: str) -> object:
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(key)


def plain_value(value: object) -> object:
    """Return rows, named tuples and what holds them as values that `json` can write."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "_asdict"):
        return {key: plain_value(item) for key, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    return value


def say_json(value: object) -> None:
    """Print one JSON document: ASCII, so that every locale carries it."""
    import json

    click.echo(json.dumps(plain_value(value), indent=2))


def note_json(value: Mapping[str, object]) -> None:
    """Print one JSON object on a line of stderr."""
    import json

    click.echo(json.dumps(value), err=True)


def json_stream() -> BinaryIO:
    """Return the standard output for a document of JSON, which is written in ASCII when it is a terminal."""
    stream = binary_output()
    return cast(BinaryIO, _AsciiJson(stream)) if is_terminal("stdout") else stream


class _AsciiJson:
    """Writes characters other than printable ASCII as JSON escapes. It only occurs in strings, so the values stay the
    same."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def write(self, data: bytes) -> int:
        text = self._decoder.decode(data)
        self._stream.write(_NOT_ASCII.sub(_json_escape, text).encode("ascii"))
        return len(data)

    def flush(self) -> None:
        self._stream.flush()


_NOT_ASCII = re.compile("[^\n\r\t -~]+")


def _json_escape(found: re.Match[str]) -> str:
    import json

    return json.dumps(found[0])[1:-1]


def json_lines(values: Iterable[object]) -> Iterator[str]:
    """Yield each value as a line of JSON."""
    import json

    for value in values:
        yield json.dumps(plain_value(value))
