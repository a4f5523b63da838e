"""The configuration file of a project: `scanstore.toml`, or the table `[tool.scanstore]` of `pyproject.toml`.

Only the nearest file is used; `scanstore.cli.discovery` finds it. It is never read from a scanned path. The whole
file is checked before any value is used: a wrong key or value is an error, because a gate that is silently left out
would pass.

The file may come from an untrusted source, such as a cloned repository. So it names no code, nothing in it is
executed or expanded, and its paths cannot leave its folder, not even by links. Change here: the keys and their
values.
"""

from __future__ import annotations

import os
import re
import reprlib
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from scanstore.cli.discovery import Candidate, files, stranger
from scanstore.db.paths import lies_in

if TYPE_CHECKING:
    from scanstore.db.words import Severity

NAMES = ("scanstore.toml", "pyproject.toml")
SEVERITIES = ("critical", "high", "medium", "low", "info")
GATES = tuple(f"{which}-{severity}" for which in ("new", "any") for severity in SEVERITIES)
LARGEST = 1_000_000  # bytes
ABOVE = "found above the current folder"

_VALUES = reprlib.Repr()
_VALUES.maxstring = _VALUES.maxother = _VALUES.maxlong = 80


class Refused(Exception):
    """A configuration file, or a place that it names, cannot be used; the message is for the user."""


class ProjectConfiguration(NamedTuple):
    """The values of a file. Without a file, all values are empty.

    Paths are absolute. `above` is true if the file is above the current folder. `passed` has the reasons why files of
    other users were not read. `keys` are the keys of the file.
    """

    file: str | None = None
    above: bool = False
    db: str | None = None
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    severities: Mapping[str, Severity] = {}
    gates: tuple[str, ...] = ()
    unused_ignore: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()


def read() -> ProjectConfiguration:
    """Return the configuration for the current folder. Raises Refused."""
    passed = []
    for candidate in files(*NAMES, broken=NAMES[0]):
        if candidate.stranger:
            if _mentions_scanstore(candidate.path):
                remedy = "give its values as options, or take it over with chown"
                passed.append(f"{candidate.path} is not read: {candidate.stranger}; {remedy}")
            continue
        table = _table(candidate)
        if table is not None:
            values: dict[str, Any] = {
                key.replace("-", "_"): _checked(candidate.path, key, value) for key, value in table.items()
            }
            found = ProjectConfiguration(candidate.path, candidate.above, keys=tuple(table), passed=tuple(passed))
            return found._replace(**values)
    return ProjectConfiguration(passed=tuple(passed))


# The file


def _table(candidate: Candidate) -> Mapping[str, object] | None:
    """Return the keys of a file, or None for a pyproject.toml without the table `[tool.scanstore]`."""
    file = candidate.path
    project = os.path.basename(file) == NAMES[1]
    try:
        content = _content(file if candidate.above else os.path.basename(file))
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror or error}; make it readable, or remove it") from None
    if content is None:
        return None
    if len(content) > LARGEST:
        raise Refused(f"{file} has more than {LARGEST:,} bytes; keep the configuration in a small scanstore.toml")
    if project and b"scanstore" not in content:
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"{file} is not UTF-8: byte {error.start:,} is {error.object[error.start]:#04x}; "
                      "save it in that encoding") from None  # fmt: skip
    import tomllib

    try:
        whole = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refused(f"{file} is not TOML: {reason:.300}; correct it") from None
    if not project:
        return whole
    tools = whole.get("tool")
    table = tools.get("scanstore") if isinstance(tools, dict) else None
    if table is None or isinstance(table, dict):
        return table
    raise _wrong(file, "tool.scanstore", table, "write the table [tool.scanstore]")


def _content(path: str) -> bytes | None:
    """Return the first bytes of a regular file, at most one more than allowed, or None for another kind of file.

    The path may have become a pipe in the meantime, and reading a pipe would wait for a writer.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return None
        return stream.read(LARGEST + 1)


def _mentions_scanstore(path: str) -> bool:
    """Return whether another user's file may be a configuration, so that a remark about it is useful."""
    if os.path.basename(path) == NAMES[0]:
        return True
    try:
        return b"scanstore" in (_content(path) or b"")
    except OSError:
        return False


# Its values


def _wrong(file: str, key: str, value: object, remedy: str) -> Refused:
    try:
        shown = _VALUES.repr(value)
    except RecursionError:
        shown = f"a {type(value).__name__} that is nested too deeply"
    return Refused(f"{file}: {key} is {shown}; {remedy}")


def _checked(file: str, key: str, value: object) -> object:
    check = _CHECKS.get(key)
    if check is None:
        other = "; its keys stand at the top, without [tool.scanstore]" if key == "tool" else ""
        raise _wrong(file, key, value, f"there is no such key: use {', '.join(_CHECKS)}{other}")
    return check(file, key, value)


def _text(file: str, key: str, value: object, remedy: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise _wrong(file, key, value, remedy)
    return value


def _list(file: str, key: str, value: object, remedy: str) -> list[str]:
    if not isinstance(value, list):
        raise _wrong(file, key, value, remedy)
    return [_text(file, f"{key}[{number}]", each, remedy) for number, each in enumerate(value)]


def _db(file: str, key: str, value: object) -> str:
    path = _inside(file, key, value, 'write a path such as "scanstore.db"')
    if lies_in(os.path.realpath(os.path.dirname(file)), path):
        raise _wrong(file, key, value, "that is the folder itself; write the path of a file in it")
    return path


def _roots(file: str, key: str, value: object) -> tuple[str, ...]:
    remedy = 'write a list of folders such as ["src"]'
    folders = _list(file, key, value, remedy)
    return tuple(dict.fromkeys(_inside(file, f"{key}[{n}]", each, remedy) for n, each in enumerate(folders)))


def _inside(file: str, key: str, value: object, remedy: str) -> str:
    """Return the real path of a text relative to the file's folder. Raises Refused for a path outside that folder."""
    text = _text(file, key, value, remedy)
    if text.startswith(("~", ":memory:")) or re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        raise _wrong(file, key, value, f"only paths below the file's folder are allowed; {remedy}, or use --db")
    folder = os.path.realpath(os.path.dirname(file))
    try:
        path = os.path.realpath(os.path.join(folder, text))
    except (OSError, ValueError):  # not a file name, or links in a circle
        raise _wrong(file, key, value, remedy) from None
    if not lies_in(path, folder):
        raise _wrong(file, key, value, f"that is {path}, outside of {folder}; {remedy}, or use --db for another place"
                     if key == "db" else f"that is {path}, outside of {folder}; {remedy}")  # fmt: skip
    return path


def _patterns(file: str, key: str, value: object) -> tuple[str, ...]:
    return tuple(_list(file, key, value, 'write a list of patterns such as ["vendor/"]'))


def _names(file: str, key: str, value: object) -> tuple[str, ...]:
    return tuple(_list(file, key, value, 'write a list of patterns of names such as ["visit_*"]'))


def _severities(file: str, key: str, value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise _wrong(file, key, value, 'write a table such as {"bandit:B101" = "info"}')
    found: dict[str, str] = {}
    known: set[str] = set()
    for rule, severity in value.items():
        name = f"{key}.{rule!r:.80}"
        if not rule.strip() or rule.strip() in ("*", ":*"):
            raise _wrong(file, name, severity, 'name a rule, such as "B101", "bandit:B101" or "bandit:*"')
        if rule.strip().casefold() in known:
            raise _wrong(file, name, severity, "the rule is there twice, in capitals or not; keep one of them")
        known.add(rule.strip().casefold())
        found[rule.strip()] = _word(file, name, severity, SEVERITIES)
    return found


def _gates(file: str, key: str, value: object) -> tuple[str, ...]:
    words = _list(file, key, value, 'write a list such as ["new-high"]')
    return tuple(dict.fromkeys(_word(file, f"{key}[{n}]", each, GATES) for n, each in enumerate(words)))


def _word(file: str, key: str, value: object, words: Sequence[str]) -> str:
    found = value.strip().lower() if isinstance(value, str) else ""
    if found not in words:
        raise _wrong(file, key, value, f"write one of: {', '.join(words)}")
    return found


_CHECKS: dict[str, Callable[[str, str, object], object]] = {
    "db": _db, "exclude": _patterns, "include": _patterns, "roots": _roots, "severities": _severities, "gates": _gates,
    "unused-ignore": _names,
}  # fmt: skip


# The place of the store


class Location(NamedTuple):
    """The place of a command's store, and the source that names it.

    `above` is true if the store, or the configuration file that names it, is above the current folder. `passed` has
    the reasons why files of other users were not used.
    """

    path: str
    origin: str
    above: bool = False
    passed: tuple[str, ...] = ()


def own(path: str, origin: str) -> str:
    """Return the path of a store that the command line does not name. Raises Refused for a store of another user."""
    reason = stranger(path) if os.path.lexists(path) else ""
    if reason:
        raise Refused(f"{path}, {origin}, is not used: {reason}; to use it, give --db {path}")
    return path


def location(default: str, configuration: Callable[[], ProjectConfiguration]) -> Location:
    """Return the place of a store that neither the command line nor the environment names. Raises Refused."""
    found = configuration()
    if found.db is not None:
        origin = f"db of {found.file}"
        return Location(own(found.db, origin), origin, above=found.above, passed=found.passed)
    passed = list(found.passed)
    for candidate in files(default):
        if candidate.stranger:
            passed.append(f"{candidate.path} is not used: {candidate.stranger}; to use it, give --db {candidate.path}")
        elif candidate.above:
            return Location(candidate.path, ABOVE, above=True, passed=tuple(passed))
        else:
            return Location(default, "in the current folder", passed=tuple(passed))
    return Location(own(default, "in the current folder"), "in the current folder", passed=tuple(passed))
