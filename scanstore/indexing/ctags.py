"""Reads the output of universal-ctags with `--output-format=json`: one JSON object per line, one tag each.

With this module, all languages that ctags supports can be recorded without another parser. It maps a line to a
`CtagsTag`, or to a `Broken` with the reason. The caller groups the tags by file, because ctags sorts them by name.
Change here which kind becomes which symbol type (`_FUNCTIONS`, `_METHODS`, `_CLASSES`).

Create the input with

    ctags -R --output-format=json --fields='*' --exclude=tags.json -f tags.json .

These fields are used: name, path, line and kind (required); end, scope, scopeKind, language, signature, access,
inherits, typeref, roles, extras (optional). The format is described in ctags-json-output(5).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from scanstore.db.paths import below, composed, escape_path, slashed, spelled
from scanstore.errors import InvalidArgument

__all__ = ["MAX_LINE", "Broken", "CtagsTag", "read"]

MAX_LINE = 1_000_000
"""Characters (bytes, for a binary file) above which a line is not parsed."""

_MAX_NUMBER = 2**31 - 1

_FUNCTIONS = frozenset("func function generator prototype procedure program rpc sub subprogram subroutine task".split())
_METHODS = frozenset(
    "accessor constructor destructor getter method methodSpec setter singletonMethod submethod".split()
)
_CLASSES = frozenset(
    "annotation category class derivedMode enum exception implementation interface message mixin object "
    "protocol record role service struct structure talias trait type typealias typedef typespec union".split()
)
_CLASS_LIKE = _CLASSES - {"talias", "type", "typealias", "typedef"}

# Extra tags that repeat a definition or are not one.
_NOT_DEFINITIONS = frozenset({"inputFile", "qualified", "reference", "pseudo"})

_SEPARATORS = re.compile(r"::|[./#\\]|->|\"\"")


class CtagsTag(NamedTuple):
    """One definition, in the terms of the store.

    `path` is relative with slashes. `symbol_type` is function, class, method or variable; the kind of ctags is in
    `metadata["kind"]`. Lines count from 1 and `end_line >= start_line`; they are equal when ctags gave no end.
    `metadata` holds kind, and where given: language, signature, access, typeref (text), inherits and extras (lists of
    text), scope_kind.
    """

    path: str
    name: str
    qualified_name: str
    symbol_type: str
    start_line: int
    end_line: int
    metadata: dict[str, object]


class Broken(NamedTuple):
    """A line without a valid tag: its number in the input, from 1, and the reason."""

    line_number: int
    reason: str


def read(lines: Iterable[str | bytes], *, root: str | os.PathLike[str] | None = None) -> Iterator[CtagsTag | Broken]:
    """Yield the tag of each line, in order, with one line in memory at a time.

    `lines` is an open file, text or binary, or any iterable of lines. Lines that define nothing (blank ones,
    pseudo-tags, references, `--extras=+q` duplicates) yield nothing. An unusable line is yielded as `Broken`, never
    raised. `root` is the folder of the paths: an absolute path inside it is made relative. Without `root`, every
    absolute path is `Broken`, and so is a path that leaves the tree. Bytes that are not UTF-8 are replaced.

    Raises InvalidArgument, at the first line, for a file in ctags' own format instead of JSON.
    """
    top = None if root is None else os.path.abspath(os.fsdecode(root))
    tops = [] if top is None else [*dict.fromkeys((top, os.path.realpath(top), spelled(top)))]
    for number, line in enumerate(_bounded(lines), 1):
        if number == 1 and line[:6] == (b"!_TAG_" if isinstance(line, bytes) else "!_TAG_"):
            raise InvalidArgument(
                "this is a tags file in ctags' own format; make one with `ctags --output-format=json --fields='*'`"
            )
        if len(line) > MAX_LINE:
            yield Broken(number, f"the line is longer than {MAX_LINE:,} characters")
            continue
        text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
        text = text.strip().removeprefix("\ufeff")
        if not text:
            continue
        try:
            found = _tag(text, tops)
        except _BrokenLine as broken:
            yield Broken(number, str(broken))
            continue
        if found is not None:
            yield found


def _bounded(lines: Iterable[str | bytes]) -> Iterator[str | bytes]:
    """Yield the lines. Overlong lines of an open file are truncated, so that the rest is never in memory."""
    readline = getattr(lines, "readline", None)
    if readline is None:
        yield from lines
        return
    while line := readline(MAX_LINE + 1):
        yield line
        while len(line) > MAX_LINE and line[-1:] != (b"\n" if isinstance(line, bytes) else "\n"):
            line = readline(MAX_LINE + 1)


class _BrokenLine(Exception):
    """The reason why a line is not a valid tag; caught inside this module."""


def _tag(text: str, tops: list[str]) -> CtagsTag | None:
    """Return the tag of one line, or None if it defines nothing. Raises `_BrokenLine`."""
    try:
        record = json.loads(text)
    except RecursionError:
        raise _BrokenLine("not JSON: nested too deeply") from None
    except ValueError as error:
        raise _BrokenLine(f"not JSON: {getattr(error, 'msg', error)}") from None
    if not isinstance(record, dict):
        raise _BrokenLine("not a JSON object")
    kind_of_line = record.get("_type", "tag")
    if kind_of_line != "tag":
        if isinstance(kind_of_line, str):
            return None
        raise _BrokenLine("_type is not text")

    extras = _words(record, "extras")
    if not _NOT_DEFINITIONS.isdisjoint(extras):
        return None
    roles = _words(record, "roles")
    if roles and "def" not in roles:
        return None

    name = _needed(record, "name")
    path = _relative(_needed(record, "path"), tops)
    start = _line(record, "line")
    if start is None:
        raise _BrokenLine("no line number; run ctags with --fields='*'")
    end = _line(record, "end")
    if end is None:
        end = start
    elif end < start:
        raise _BrokenLine(f"end {end} is before line {start}")

    kind = _text(record, "kind") or ""
    scope = _text(record, "scope") or ""
    scope_kind = _text(record, "scopeKind") or ""
    language = _text(record, "language")
    signature = _text(record, "signature")

    metadata: dict[str, object] = {"kind": kind}
    for key, value in (
        ("language", language),
        ("signature", signature),
        ("access", _text(record, "access")),
        ("typeref", _text(record, "typeref")),
        ("scope_kind", scope_kind),
        ("inherits", _bases(record)),
        ("extras", extras),
    ):
        if value:
            metadata[key] = value
    return CtagsTag(
        path,
        name,
        _qualified(scope, name),
        _symbol_type(kind, scope_kind, language, signature),
        start,
        end,
        metadata,
    )


def _symbol_type(kind: str, scope_kind: str, language: str | None, signature: str | None) -> str:
    """Return the symbol type for a kind of ctags. Unknown kinds are variables."""
    if kind == "member":
        # For Python, member is a method; for the C family, a field.
        return "method" if language == "Python" or signature else "variable"
    if kind in _FUNCTIONS:
        return "method" if scope_kind in _CLASS_LIKE else "function"
    if kind in _METHODS:
        return "method"
    return "class" if kind in _CLASSES else "variable"


def _qualified(scope: str, name: str) -> str:
    """Return scope and name joined by dots, for every language."""
    if not scope:
        return name
    parts = [part for part in _SEPARATORS.split(scope) if part]
    return ".".join([*parts, name])


def _relative(path: str, tops: list[str]) -> str:
    """Return the normalised path relative to the tree. Raises `_BrokenLine` if it is outside."""
    if "\0" in path:
        raise _BrokenLine("the path holds a NUL character")
    plain = slashed(path)
    if os.path.isabs(path) or plain.startswith("/"):
        if not tops:
            raise _BrokenLine(f"absolute path {path!r}, and no root to make it relative to")
        plain = os.path.normpath(plain)
        for top in tops:
            if inside := below(plain, top):
                return escape_path(composed(inside))
        raise _BrokenLine(f"path {path!r} is outside {tops[0]!r}")
    parts: list[str] = []
    for part in plain.split("/"):
        if part == "..":
            if not parts:
                raise _BrokenLine(f"path {path!r} leaves the tree")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if not parts:
        raise _BrokenLine(f"path {path!r} names no file")
    return escape_path(composed("/".join(parts)))


def _needed(record: dict[str, object], key: str) -> str:
    value = _text(record, key)
    if not value:
        raise _BrokenLine(f"no {key}")
    return value


def _text(record: dict[str, object], key: str) -> str | None:
    value = record.get(key)
    if value is None or value is False:  # ctags writes false for a field that does not apply
        return None
    if not isinstance(value, str):
        raise _BrokenLine(f"{key} is {_shown(value)}, not text")
    if not value.isascii():
        # JSON can contain a lone surrogate (\ud800), which cannot be stored as UTF-8.
        value = value.encode("utf-8", "replace").decode("utf-8")
    return value


def _words(record: dict[str, object], key: str) -> list[str]:
    """Return a comma-separated field as a list. Some versions of ctags write a JSON list."""
    value = record.get(key)
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return value
    return [word for word in (_text(record, key) or "").split(",") if word and word != "-"]


def _bases(record: dict[str, object]) -> list[str]:
    """Return the `inherits` field as a list. `Map<K,V>` and `Generic[K, V]` are one base each."""
    bases: list[str] = []
    depth = 0
    current = ""
    for character in ",".join(_words(record, "inherits")):
        if character in "<[({":
            depth += 1
        elif character in ">])}":
            depth -= 1
        if character == "," and depth <= 0:
            bases.append(current.strip())
            current = ""
        else:
            current += character
    bases.append(current.strip())
    return [base for base in bases if base]


def _line(record: dict[str, object], key: str) -> int | None:
    value = record.get(key)
    if value is None:
        return None
    if type(value) is not int:
        raise _BrokenLine(f"{key} is {_shown(value)}, not a whole number")
    if not 1 <= value <= _MAX_NUMBER:
        raise _BrokenLine(f"{key} is {_shown(value)}; lines count from 1")
    return value


def _shown(value: object) -> str:
    """Return a value truncated for a message."""
    if isinstance(value, (list, dict)):
        return "an array" if isinstance(value, list) else "an object"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
