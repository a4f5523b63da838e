"""Detection of foreign parts in the schema of a file, before any of it runs.

An untrusted file contains its own schema, which can be malicious: a view over an endless query with the name of one of
our tables hangs every reader of that table, and a trigger changes rows at the next write. Therefore the rows of
``sqlite_master`` are compared with the digests in :mod:`scanstore.db.fingerprints` when a file is opened or attached.
At this point SQLite has parsed the statements but run none of them. The rules:

- Our tables, views and triggers must be exactly those of the migrations. A missing one is damage, which ``check``
  reports; a different one in its place is refused.
- A foreign trigger on one of our tables or views is refused.
- A foreign index on one of our tables may contain columns, and expressions that call only a few harmless functions of
  SQLite. A foreign UNIQUE index is refused, because it would make ``INSERT OR IGNORE`` skip rows.
- Tables, views and indexes of the user are accepted. A trigger on such a table is accepted too, unless it writes to one
  of our tables, or our deletes reach its table through foreign keys.
- A table or view of the user must not have a name that SQLite uses for its own tables and functions (``sqlite_…``,
  ``json_each``, ``dbstat``, ``pragma_…``).

Names are compared case-insensitively, as in SQLite. Change here: which parts are refused. The digests are generated,
see :mod:`scanstore.db.schema`.
"""

from __future__ import annotations

import re
import sqlite3
from functools import lru_cache
from typing import NamedTuple

from scanstore.db.fingerprints import PARTS, WHOLE
from scanstore.db.schema_digest import INTERNAL, digested

Object = tuple[str, str, str, str | None, int]  #: type, name, table, statement and rowid, as in sqlite_master

# Not `sqlite_schema`: SQLite resolves this name to its own table only if the file has no table or view with this name.
OBJECTS = """
SELECT ifnull(CAST(type AS TEXT), ''), ifnull(CAST(name AS TEXT), ''), ifnull(CAST(tbl_name AS TEXT), ''),
       CAST(sql AS TEXT), rowid FROM {}.sqlite_master"""
HISTORY = "migratehistory"
LONGEST = 100_000  #: longer statements are not parsed
# These patterns are not compiled in advance, because most files are recognised by their digest, which takes less time.
FUNCTIONS = r"(json_each|json_tree|dbstat|sqlite_\w*|pragma_\w+)"  #: tables that exist without a file
#: FTS5 creates these; their text may differ between versions of SQLite.
SEARCH = r"(finding|symbol)_search(?=_|$)"
SHADOWS = r"(finding|symbol)_search_(data|idx|content|docsize|config)"
PLAIN = r"(?i)CREATE TABLE '\w+'\((?!.*\b(AS|CHECK|DEFAULT|COLLATE|REFERENCES)\b)[\w, ()]*\)( WITHOUT ROWID)?"
TOKENS = r"""(?s)--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|[\w$]+|->>?|\S"""
CALLING = {"like", "glob", "regexp", "match"}  #: operators that are functions
#: Built-in functions that an index of the user may call: fast and without side effects.
HARMLESS = {
    "abs", "coalesce", "date", "datetime", "hex", "ifnull", "iif", "instr", "json_extract", "julianday", "length",
    "lower", "ltrim", "max", "min", "nullif", "round", "rtrim", "strftime", "substr", "substring", "time", "trim",
    "typeof", "unicode", "upper",
}  # fmt: skip
GROUPING = {"and", "or", "not", "in", "is", "between", "when", "then", "else", "where", "on", ",", "(", "=", "<", ">"}


class ForeignPart(NamedTuple):
    """A foreign part of a schema, and the reason why it is refused."""

    type: str
    name: str
    table: str
    why: str
    rowid: int  #: its rowid in sqlite_master

    def __str__(self) -> str:
        return f"the {ascii(self.type)[1:-1]} {ascii(self.name)[1:-1]} {self.why}"


def foreign(connection: sqlite3.Connection, version: int, schema: str = "main") -> list[ForeignPart]:
    """Return the foreign parts of a schema, in its order. For an unknown version, the digests of all versions are
    accepted.
    """
    rows: list[Object] = connection.execute(OBJECTS.format(schema)).fetchall()
    looks = _Looks(rows, names(version), version)
    return [ForeignPart(*row[:3], why, row[4]) for row in rows if (why := looks.at(*row[:4])) is not None]


@lru_cache
def names(version: int) -> frozenset[str]:
    """Return the names of scanstore's objects in a file of this version, in lower case."""
    return frozenset(name for name in PARTS if _last(name) >= version) if version in WHOLE else frozenset((HISTORY,))


def digest(kind: str, name: str, table: str, sql: str) -> str:
    """Return the digest of one object."""
    return digested("\0".join((kind, name, table, sql)))


def digests(name: str, version: int) -> set[str]:
    """Return the valid digests of one of our objects in a version; for an unknown version, those of all versions."""
    found = set()
    for part in PARTS[name].split()[1:]:
        text, _, span = part.partition(":")
        first, _, last = span.partition("-")
        if version not in WHOLE or int(first) <= version <= int(last or version):
            found.add(text)
    return found


def _last(name: str) -> int:
    """Return the last version with this object."""
    return max(int(part.rpartition("-")[2] or max(WHOLE)) for part in PARTS[name].split()[1:])


class _Looks:
    """The checks for foreign parts, for one schema."""

    def __init__(self, rows: list[Object], known: frozenset[str], version: int) -> None:
        self.rows, self.known, self.version = rows, known, version
        self.reached: set[str] | None = None

    def at(self, kind: str, name: str, table: str, sql: str | None) -> str | None:
        """Return the reason why this part is foreign, or None."""
        key, of = name.lower(), table.lower()
        if kind == "index" and sql is None:
            return None  # of a constraint
        if kind not in ("table", "index", "view", "trigger") or sql is None:
            return "is no part of a schema"
        if kind in ("table", "view") and re.fullmatch(FUNCTIONS, key):
            return None if kind == "table" and INTERNAL.get(key) == sql else "has a name that SQLite keeps for itself"
        if key in self.known and kind != "index":
            return self._ours(kind, name, table, sql)
        if kind == "trigger":
            return f"on {ascii(table)[1:-1]} is not one of scanstore's" if of in self.known else self._trigger(of, sql)
        if kind == "index" and of in self.known and digest(kind, name, table, sql) not in self._digests(key):
            return _index(sql)
        return None

    def _digests(self, key: str) -> set[str]:
        return digests(key, self.version) if key in PARTS else set()

    def _ours(self, kind: str, name: str, table: str, sql: str) -> str | None:
        if digest(kind, name, table, sql) in self._digests(name.lower()):
            return None
        if kind == "table" and re.fullmatch(SHADOWS, name) and re.fullmatch(PLAIN, sql):
            return None
        wanted = PARTS[name.lower()].partition(" ")[0]
        if kind != wanted:
            return f"is in the place of scanstore's {wanted}"
        if kind == "trigger":
            return f"on {ascii(table)[1:-1]} is not the one that scanstore makes"
        return "is not the one that scanstore makes"

    def _trigger(self, of: str, sql: str) -> str | None:
        """Check a trigger on a table of the user."""
        if len(sql) > LONGEST:
            return "is too long to be looked into"
        if written := sorted(_written(_tokens(sql)) & self.known):
            return f"writes to {written[0]}"
        if self.reached is None:
            self.reached = self._reachable()
        return "runs when rows of scanstore's tables change" if of in self.reached else None

    def _reachable(self) -> set[str]:
        """Return the user's tables whose foreign keys lead to our tables, directly or through other tables of
        the user.
        """
        parents: dict[str, set[str]] = {}
        for kind, name, _, sql, _ in self.rows:
            if kind == "table" and name.lower() not in self.known and sql is not None:
                words = _tokens(sql)
                parents[name.lower()] = {b for a, b in zip(words, words[1:], strict=False) if a == "references"}
        reached = set(self.known)
        while more := {name for name, above in parents.items() if name not in reached and above & reached}:
            reached |= more
        return reached - self.known


def _tokens(sql: str) -> list[str]:
    """Return the words of a statement, in lower case, without comments and quotes."""
    found = []
    for word in re.findall(TOKENS, sql):
        if word[0] in "'\"`[":
            found.append(word[1:-1].replace(word[0] * 2, word[0]).lower())
        elif not word.startswith(("--", "/*")):
            found.append(word.lower())
    return found


def _written(words: list[str]) -> set[str]:
    """Return the tables to which the statements of a trigger write."""
    found = set()
    for place, word in enumerate(words):
        following = words[place + 1 : place + 4]
        if word == "update" and following[:1] == ["or"]:
            found.update(following[2:3])
        elif word in ("into", "update"):
            found.update(following[:1])
        elif word == "delete" and following[:1] == ["from"]:
            found.update(following[1:2])
    return found


def _index(sql: str) -> str | None:
    """Check a foreign index on one of our tables."""
    if len(sql) > LONGEST:
        return "is too long to be looked into"
    words = _tokens(sql)
    if words[1:2] == ["unique"]:
        return "is UNIQUE, which would refuse rows of scanstore's"
    start = words.index("(") if "(" in words else len(words)
    for before, word in zip(words[start:], words[start + 1 :], strict=False):
        if word in CALLING or word == "(" and before not in GROUPING | HARMLESS:
            return "calls a function"
        if before == "collate" and word not in ("binary", "nocase", "rtrim"):
            return f"needs a collation {word!a:.40}"
    return None
