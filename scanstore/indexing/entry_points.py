"""The functions and classes that a project's metadata names: scripts and entry points.

``pyproject.toml`` names them in ``[project.scripts]``, ``[project.gui-scripts]``, ``[project.entry-points.*]`` and in
the tables of Poetry; ``setup.cfg`` in ``[options.entry_points]``. An installed command calls the named function, so
each entry is recorded as a use of it. These files have no symbols. Change here: the tables that are read (``_tables``).

Reading takes linear time: ``tomllib`` needs quadratic time only for keys of many parts, which are refused.
"""

from __future__ import annotations

import re
import tomllib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from scanstore.indexing.chunking import whole
from scanstore.indexing.facts import UNRESOLVED, FileFacts, ReferenceRow, Strings

LARGEST = 1_000_000  # bytes
MOST_PARTS = 64  # of a dotted key
#: Sections of setup.cfg; the second is that of pbr.
SECTIONS = ("options.entry_points", "entry_points")

_REFERENCE = re.compile(r"\s*+([^\W\d][\w.]*+)\s*+(?::\s*+([^\W\d][\w.]*+)\s*+)?(?:\[[^\]\n]*+\]\s*+)?")
_QUOTED = re.compile(r"\"((?:[^\"\\\n]|\\.){0,300}+)\"|'([^'\n]{0,300}+)'")
_HEADER = re.compile(r"^[ \t]*+\[{1,2}([^\]\n]*+)\]", re.MULTILINE)
_PART = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')[ \t]*+"
_LONG_KEY = re.compile(rf"(?<![\w-])(?:{_PART}\.[ \t]*+){{{MOST_PARTS}}}")


class EntryPoint(NamedTuple):
    line: int
    module: str
    attribute: str | None


class EntryPointIndexer:
    """Reads ``pyproject.toml`` and ``setup.cfg``."""

    name = "entry-points/1"
    endings = ("/pyproject.toml", "/setup.cfg")

    def index(self, content: bytes, *, path: str, module: str) -> FileFacts:
        if len(content) > LARGEST:
            raise SyntaxError(f"it has more than {LARGEST:,} bytes, so its entry points were not read")
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        found = _of_toml(text) if path.endswith(".toml") else _of_ini(text)
        strings = Strings()
        rows: list[ReferenceRow] = []
        for line, name, attribute in sorted(found, key=lambda each: each.line):
            written = strings(f"{name}.{attribute}" if attribute else name)
            target = strings(f"={name}:.{attribute}" if attribute else f"{name}:")
            rows.append((line, None, "use", written, target, None, UNRESOLVED, 0))
        count, chunk = whole(content)
        return FileFacts(line_count=count, strings=strings.list(), references=rows, chunks=[chunk])


def _of_toml(text: str) -> list[EntryPoint]:
    """Return the entry points of a pyproject.toml. Raises SyntaxError for text that is not TOML."""
    if _LONG_KEY.search(text):
        raise SyntaxError(f"a key has more than {MOST_PARTS} parts")
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SyntaxError(f"not TOML: {error}") from None
    named = [(table, value) for table, value in _tables(tables) if _REFERENCE.fullmatch(value)]
    lines = _Lines(text, {value for _, value in named}) if named else None
    return [_entry(lines.next(table, value), value) for table, value in named] if lines is not None else []


def _tables(tables: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the values that may name a function, each with its table."""
    project, tool = _table(tables, "project"), _table(tables, "tool")
    poetry = _table(tool, "poetry")
    for name, table in (("project", project), ("tool.poetry", poetry)):
        for key in ("scripts", "gui-scripts"):
            for value in _table(table, key).values():
                if isinstance(value, dict):  # of Poetry
                    value = value.get("reference") or value.get("callable")
                if isinstance(value, str):
                    yield f"{name}.{key}", value
        key = "entry-points" if table is project else "plugins"
        for group, entries in _table(table, key).items():
            for value in entries.values() if isinstance(entries, dict) else ():
                if isinstance(value, str):
                    yield f"{name}.{key}.{group}", value


def _table(tables: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = tables.get(key)
    return found if isinstance(found, dict) else {}


class _Lines:
    """The lines of the quoted texts of a TOML file, in the order of the file."""

    def __init__(self, text: str, values: set[str]) -> None:
        self.headers: dict[str, int] = {}
        self.places: dict[str, deque[int]] = {}
        headers = [(m.start(), m[1]) for m in _HEADER.finditer(text)]
        quotes = [(m.start(), m[2] if m[1] is None else m[1]) for m in _QUOTED.finditer(text)]
        line, last = 1, 0
        marks = [(start, True, name) for start, name in headers] + [(s, False, v) for s, v in quotes if v in values]
        for start, is_header, value in sorted(marks):
            line += text.count("\n", last, start)
            last = start
            if is_header:
                self.headers.setdefault(re.sub(r"[\s\"']", "", value), line)
            else:
                self.places.setdefault(value, deque()).append(line)

    def next(self, table: str, value: str) -> int:
        """Return the next line with this value below the header of its table; else the line of the header."""
        begin = self.headers.get(re.sub(r"[\s\"']", "", table), 0)
        lines = self.places.get(value)
        while lines:
            line = lines.popleft()
            if line > begin:
                return line
        return max(begin, 1)


def _of_ini(text: str) -> list[EntryPoint]:
    """Return the entry points of a setup.cfg. Lines of another form are ignored."""
    found = []
    section = ""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if line.startswith("["):
            section = line[1:].partition("]")[0].strip()
        elif section in SECTIONS and stripped and stripped[0] not in "#;":
            # `group =` begins a group, and its first entry may be on the same line. Other entries are indented.
            value = stripped.partition("=")[2]
            if not line[0].isspace():
                value = value.partition("=")[2]
            value = value.partition(" #")[0]
            if _REFERENCE.fullmatch(value):
                found.append(_entry(number, value))
    return found


def _entry(line: int, value: str) -> EntryPoint:
    match = _REFERENCE.fullmatch(value)
    assert match is not None
    return EntryPoint(line, match[1].strip("."), match[2].strip(".") if match[2] else None)
