"""Dump and load: write a whole store as JSON Lines, and create a store from such a dump.

The first line says which format and schema it is, a line with a table's name and columns stands before its rows, each
row is one array, and the last line counts them, so that a file which was cut off is noticed. Nothing in it tells when
it was written: equal stores give equal bytes. Values that JSON lacks are spelled ``{"$b": base64}`` for bytes and
``{"$f": "inf"}`` for an infinite number. ::

    {"scanstore":1,"schema":7,"secrets":false}
    {"table":"settings","columns":["key","value","description","created_at","updated_at"]}
    ["page_size","50",null,"2026-01-01T00:00:00.000000Z","2026-01-01T00:00:00.000000Z"]
    {"end":1}

Tables and columns are those of the file's own schema, so this module does not change with it. Left out is what belongs
to the file and not to its content: the history of its migrations and the full-text indexes, which a search makes again.
A store with tables of the user's own has their statements in the second line, ``{"own":[[type, name, table, SQL]]}``;
``load`` creates the tables and indexes among these, see :mod:`scanstore.db.user_schema`.

A dump may come from a stranger. ``load`` therefore reports the loaded rows that others will trust: accounts with their
roles, and scans whose folder lies outside the current one. With ``accounts=False`` it leaves accounts out, and with
them every row that cannot be without its account. A hash that takes too much to verify is refused.

Change here: the format (and then VERSION), omitted tables, secret columns.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, NoReturn, Protocol

import peewee

from scanstore.db import atomic_files, foreign_schema, user_schema
from scanstore.db.arguments import check_list, check_path
from scanstore.db.connections import connect
from scanstore.db.database import SCHEMA_VERSION, Database
from scanstore.db.files import quoted, refusing
from scanstore.db.notebooks import described
from scanstore.db.paths import lies_in, spelled, unescape_path
from scanstore.db.progress import Meter
from scanstore.db.sqlite_errors import translated
from scanstore.db.user_schema import LeftOut, UserPart
from scanstore.errors import IllegalMove, InvalidArgument, NewerSchema, ReadOnly, StorageError, shown
from scanstore.maintenance.compaction import ESTIMATE
from scanstore.maintenance.derived import NOTES, SEARCHES
from scanstore.maintenance.dump_tables import LEFT_OUT as LEFT_OUT
from scanstore.maintenance.dump_tables import DumpTable, names_of, tables_of
from scanstore.maintenance.ownership import Run, remove_unowned
from scanstore.maintenance.unfilled import filled

if TYPE_CHECKING:
    from scanstore.db.progress import ProgressCallback

VERSION = 1
BATCH = 500  #: rows in memory at a time
LONGEST = 2**30  #: bytes of a line; SQLite holds no row that needs more
SECRETS = frozenset(("api_key", "hashed_password"))
ACCOUNTS = "users"
COUNTERS = "sqlite_sequence"  # so that no number is given out again

SqlValue = str | int | float | bytes | None
Lines = Iterator[bytes]
Older = tuple[sqlite3.Connection, dict[str, int], list[LeftOut]]  # a store, and what was left out of it
File = str | os.PathLike[str] | BinaryIO


class Readable(Protocol):
    """A binary file, as far as loading needs one."""

    def readline(self, size: int = -1, /) -> bytes: ...


@described
class Transferred(NamedTuple):
    """What a dump or a load has moved: ``tables`` says how many rows of each; ``rows`` and ``bytes`` are of all.

    ``own_left_out`` names the virtual tables, views and triggers of the user's own, which ``load`` does not make.
    """

    rows: int
    bytes: int
    tables: dict[str, int]
    own_left_out: list[LeftOut]


class LoadedAccount(NamedTuple):
    """An account that came with a dump. ``active`` tells whether it may log in."""

    email: str
    role: str
    active: bool


@described
class Loaded(NamedTuple):
    """What a load has moved, as in :class:`Transferred`, and what to look at before the store is trusted.

    ``accounts`` are all that are in the store now, ``roots`` the folders of its scans that lie outside the current
    folder, and ``left_out`` says how many rows of each table were not loaded because ``accounts`` was false.
    ``own_left_out`` names the user's own tables, indexes, views and triggers that were not made, with the reason.
    """

    rows: int
    bytes: int
    tables: dict[str, int]
    accounts: list[LoadedAccount]
    roots: list[str]
    left_out: dict[str, int]
    own_left_out: list[LeftOut]


# Writing


def dump(
    db: Database,
    file: File,
    *,
    include_secrets: bool = False,
    tables: Iterable[str] | None = None,
    progress: ProgressCallback | None = None,
) -> Transferred:
    """Write a store, as it is at one moment, to a path or an open binary file, while others write to it.

    A file at a path is replaced when all is written and safe on the disk, and readable by its owner only. Keys of
    models and hashes of passwords are null unless ``include_secrets``. With ``tables`` only those are written, to be
    read by others: such a file cannot be loaded. Memory stays flat. ``progress`` is called with the written rows and
    all rows. Raises InvalidArgument, MissingFolder, StorageError.
    """
    meter = Meter(progress)
    known = [table.name for table in tables_of(db.execute_sql)]
    wanted = None if tables is None else [tables] if isinstance(tables, str) else check_list(tables, "tables")
    for name in wanted or ():
        if name not in known:
            raise InvalidArgument(f"{db.name} has no table {shown(name)}; it has: {', '.join(known)}")
    told: dict[str, int] = {}
    size = 0
    with atomic_files.writing(file, store=db.file) as stream, db.atomic("DEFERRED"):
        own = _own(db.execute_sql, SCHEMA_VERSION) if wanted is None else []
        for name in known if meter else ():
            if wanted is None or name in wanted:
                meter.total += db.execute_sql(f"SELECT count(*) FROM main.{quoted(name)}").fetchone()[0]
        for part in lines(db.execute_sql, SCHEMA_VERSION, told, include_secrets=include_secrets, tables=wanted):
            stream.write(part)
            size += len(part)
            if meter:
                meter.at(sum(told.values()))
        meter.end()
    return Transferred(sum(told.values()), size, told, user_schema.left_out(own))


def lines(
    run: Run,
    schema: int,
    told: dict[str, int],
    *,
    include_secrets: bool = False,
    tables: list[str] | None = None,
) -> Generator[bytes, None, None]:
    """Yield a dump in pieces of whole lines; ``told`` gets the number of rows of each table."""
    yield _line(
        {"scanstore": VERSION, "schema": schema, "secrets": include_secrets}
        | ({} if tables is None else {"tables": sorted(set(tables))})
    )
    if tables is None and (own := _own(run, schema)):
        yield _line({"own": own})
    for table in tables_of(run):
        if tables is None or table.name in tables:
            told[table.name] = 0
            yield from _rows(run, table, told, frozenset() if include_secrets else SECRETS)
    end = sum(told.values())
    if tables is None:
        has = run("SELECT count(*) FROM sqlite_schema WHERE name = ?", (COUNTERS,)).fetchone()[0]
        if has:
            counters: dict[str, int] = {COUNTERS: 0}
            yield from _rows(run, DumpTable(COUNTERS, ["name", "seq"], ["name"]), counters, frozenset())
            end += counters[COUNTERS]
    yield _line({"end": end})


def _own(run: Run, schema: int) -> list[UserPart]:
    return user_schema.parts(lambda sql: run(sql).fetchall(), schema)


def _rows(run: Run, table: DumpTable, told: dict[str, int], hidden: frozenset[str]) -> Iterator[bytes]:
    yield _line({"table": table.name, "columns": table.columns})
    columns = ", ".join("NULL" if column.lower() in hidden else quoted(column) for column in table.columns)
    cursor = run(f"SELECT {columns} FROM main.{quoted(table.name)} ORDER BY {names_of(table.key)}")
    try:
        while rows := cursor.fetchmany(BATCH):
            told[table.name] += len(rows)
            yield b"".join(map(_line, rows))
    finally:
        cursor.close()


def _bytes(value: bytes) -> dict[str, str]:
    return {"$b": base64.b64encode(value).decode("ascii")}


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_bytes)


def _line(value: Iterable[object]) -> bytes:
    try:
        return _encoder.encode(value).encode() + b"\n"
    except ValueError:  # NaN is not kept by SQLite: it must be an infinite number
        return _encoder.encode([_finite(each) for each in value]).encode() + b"\n"


def _finite(value: object) -> object:
    return {"$f": str(value)} if value in (float("inf"), float("-inf")) else value


# Reading


def load(db: Database, file: File, *, accounts: bool = True, progress: ProgressCallback | None = None) -> Loaded:
    """Fill an empty store with what a path or an open binary file holds; atomic.

    A dump of an older schema is taken through the migrations. Triggers do not run: counts and times are as they were.
    Memory stays flat. Without ``accounts``, users are left out, and so are the rows that need one, such as sessions and
    audits. ``progress`` is called with the bytes that were read and all bytes, or 0 for a pipe; a dump of an older
    schema is read twice, and counts twice. Raises InvalidArgument with the number of the line, NewerSchema, NotFound,
    and IllegalMove for a store that has rows.
    """
    meter = Meter(progress)
    if db.read_only:
        raise ReadOnly(f"{db.name} was opened with read_only; open it without to load something into it")
    with _source(file) as stream:
        size = _size_of(stream) if meter else 0
        reader = _Reader(stream, meter)
        schema = reader.header()
        if schema == SCHEMA_VERSION:
            meter.total = size
            return _into(db, reader, accounts)
        meter.total = 2 * size
        if db.key is not None:
            raise IllegalMove(
                f"the dump is of schema {schema}, and {db.name} is encrypted: what is migrated would lie beside it in"
                " plain; load it into a store without a key, and encrypt that with: scanstore rekey"
            )
        with atomic_files.beside(f"{db.file}.older", db.name) as older:
            try:
                connection, left_out, own = _migrated(older, schema, reader, accounts)
                with (
                    closing(connection),
                    closing(lines(connection.execute, SCHEMA_VERSION, {}, include_secrets=True)) as pieces,
                ):
                    newer = _Reader(_Pieces(pieces), meter, size, reader.rows if size else 0)
                    newer.header()
                    told = _into(db, newer, accounts=True)
                    return told._replace(bytes=reader.bytes, left_out=left_out, own_left_out=own + told.own_left_out)
            except sqlite3.Error as error:
                raise translated(error, f"the file beside {db.name} into which the dump is read first") from error


def _migrated(path: str, schema: int, reader: _Reader, accounts: bool) -> Older:
    """Fill a store of an older schema; return a connection to it after migration, and the omitted parts."""
    from scanstore.db import migrations  # start-up: loads the migrator

    migrations.up(path, to=schema)
    connection = connect(path, "mode=rw")
    try:
        connection.execute("BEGIN IMMEDIATE")
        _, left_out, own = _fill(connection, connection.execute, connection.executemany, reader, accounts, schema)
        connection.execute("COMMIT")
    finally:
        connection.close()
    migrations.up(path, backup=False)
    return connect(path, "mode=ro"), left_out, own


def _into(db: Database, reader: _Reader, accounts: bool) -> Loaded:
    run = db.execute_sql
    with db.atomic():
        if (found := filled(run)) is not None:
            raise IllegalMove(
                f"{db.name} has rows in {found} already; load into a new store, and merge that into this one"
            )
        for name in (*(index.table for index in SEARCHES), NOTES):  # of rows that are gone
            run(f"DELETE FROM {name}").fetchall()
        connection = db.connection()  # type: ignore[no-untyped-call]
        told, left_out, own = _fill(connection, run, db.executemany, reader, accounts, SCHEMA_VERSION)
        for sql in ESTIMATE:
            run(sql).fetchall()
        reader.meter.end()
        return Loaded(sum(told.values()), reader.bytes, told, _accounts(run), _roots(run), left_out, own)


def _fill(
    connection: sqlite3.Connection, run: Run, many: Run, reader: _Reader, accounts: bool, schema: int
) -> tuple[dict[str, int], dict[str, int], list[LeftOut]]:
    """Insert the rows of a dump, inside a transaction; return how many of each table, how many were left out, and what
    was not made of the user's own schema.
    """
    run("PRAGMA defer_foreign_keys = ON").fetchall()
    triggers = run(
        "SELECT t.name, t.sql FROM sqlite_schema AS t JOIN sqlite_schema AS o ON o.name = t.tbl_name"
        " WHERE t.type = 'trigger' AND o.type = 'table' ORDER BY t.rowid"
    ).fetchall()
    for name, _ in triggers:
        run(f"DROP TRIGGER {quoted(name)}").fetchall()
    own = user_schema.recreate(connection, reader.own, schema)
    unmade = {part.name for part in own if part.kind == "table"}
    known = {table.name: table for table in tables_of(run)}
    told = dict.fromkeys(known, 0)
    left_out: dict[str, int] = {}
    known[COUNTERS] = DumpTable(COUNTERS, ["name", "seq"], ["name"])
    while (section := reader.section(known, unmade)) is not None:
        table, columns = section
        if table not in known:
            left_out[table] = sum(1 for _ in reader.values(len(columns), []))
            continue
        sql = f"INSERT INTO {quoted(table)} ({names_of(columns)}) VALUES ({', '.join('?' * len(columns))})"
        secret = _never_null(run, table, columns)
        before = reader.rows
        rows = reader.values(len(columns), secret)
        if table == ACCOUNTS and not accounts:
            left_out[table] = sum(1 for _ in rows)
            continue
        if table == ACCOUNTS and "hashed_password" in columns:
            rows = _affordable(rows, columns.index("hashed_password"), reader)
        if table == COUNTERS:  # the rows have set them already
            run(f"DELETE FROM {COUNTERS}").fetchall()
        try:
            _insert(many, sql, rows, reader)
        except (StorageError, BadLine):
            raise
        except (InvalidArgument, peewee.PeeweeException, sqlite3.Error, OverflowError, UnicodeError) as error:
            if isinstance(error, sqlite3.Error) and isinstance(translated(error, table), StorageError):
                raise  # the disk is at fault, not the row
            raise BadLine(f"line {reader.line}: {table} does not take this row: {error}") from error
        if table != COUNTERS:
            told[table] = reader.rows - before
    if not accounts:
        for table, number in remove_unowned(run, ACCOUNTS, {each.name: each.key for each in tables_of(run)}).items():
            told[table] -= number
            left_out[table] = number
    for table, _, parent, _ in run("PRAGMA foreign_key_check").fetchall():
        raise InvalidArgument(f"the file is not whole: a row of {table} points at a row of {parent} that is not in it")
    for table in unmade:
        run(f"DELETE FROM {COUNTERS} WHERE name = ?", (table,)).fetchall()
    for _, sql in triggers:
        run(sql).fetchall()
    return told, {table: number for table, number in left_out.items() if number}, own


def _insert(many: Run, sql: str, rows: Iterator[list[SqlValue]], reader: _Reader) -> None:
    """Insert rows while they are read, and report each batch."""
    before = -1
    while before < reader.rows:
        before = reader.rows
        many(sql, islice(rows, BATCH))
        reader.report()


def _never_null(run: Run, table: str, columns: list[str]) -> list[int]:
    """The places of secret columns, where no secret is an empty text: a table of the user's own may have NULL there."""
    places = [n for n, column in enumerate(columns) if column.lower() in SECRETS]
    if places and table.lower() not in foreign_schema.names(SCHEMA_VERSION):
        never = {row[1] for row in run(f"PRAGMA main.table_xinfo({quoted(table)})").fetchall() if row[3]}
        return [n for n in places if columns[n] in never]
    return places


# What strangers may bring


def _affordable(rows: Iterable[list[SqlValue]], place: int, reader: _Reader) -> Generator[list[SqlValue], None, None]:
    """Yield the rows of accounts; refuse a hash that takes more than the limits to verify."""
    from scanstore.accounts.passwords import refuse_excess  # start-up: hashes are rarely needed

    for row in rows:
        try:
            refuse_excess(row[place], "hashed_password")
        except InvalidArgument as error:
            raise BadLine(f"line {reader.line}: {error}; or load it without accounts") from None
        yield row


def _accounts(run: Run) -> list[LoadedAccount]:
    rows = run("SELECT email, role, is_active FROM users ORDER BY role = 'user', role, email_key").fetchall()
    return [LoadedAccount(email, role, bool(active)) for email, role, active in rows]


def _roots(run: Run) -> list[str]:
    """Folders of scans that lie outside the current one. They are compared as text: no foreign path is touched."""
    here = spelled(os.curdir)
    found = []
    for (root,) in run("SELECT DISTINCT root FROM scans WHERE root IS NOT NULL ORDER BY root").fetchall():
        if not lies_in(os.path.normpath(os.path.join(here, unescape_path(root))), here):
            found.append(root)
    return found


class BadLine(InvalidArgument):
    """A line of a dump cannot be used; nothing was written."""


class _Reader:
    """The lines of a dump, checked one by one; ``line`` is the number of the one that was read last."""

    def __init__(self, stream: Readable, meter: Meter, size: int = 0, rows: int = 0) -> None:
        self._stream = stream
        self.meter = meter
        self._size, self._rows = size, rows  # of the dump that these lines follow from, if they follow from one
        self._next: object = None
        self.own: list[UserPart] = []  # the user's own part of the schema
        self.line = 0
        self.rows = 0
        self.bytes = 0
        self._reported = 0
        self._seen: set[str] = set()

    def report(self) -> None:
        """Report the bytes that were read, or an equal share of those of the dump that these lines follow from."""
        if not self._rows:
            self.meter.add(self.bytes - self._reported)
            self._reported = self.bytes
        else:
            self.meter.at(self._size + self._size * min(self.rows, self._rows) // self._rows)

    def header(self) -> int:
        """Read the first line and return the schema."""
        head = self._read()
        if not isinstance(head, dict) or type(head.get("scanstore")) is not int or type(head.get("schema")) is not int:
            raise BadLine("line 1: this is no dump of a scanstore; make one with: scanstore dump")
        if head["scanstore"] > VERSION or head["schema"] > SCHEMA_VERSION:
            raise NewerSchema(
                f"the dump has format {head['scanstore']} and schema {head['schema']}, and this scanstore knows up to"
                f" {VERSION} and {SCHEMA_VERSION}; install a newer scanstore"
            )
        if head["scanstore"] != VERSION or head["schema"] < 1:
            raise BadLine("line 1: there is no such format or schema; make a dump with: scanstore dump")
        if head.get("tables") is not None:
            raise BadLine("line 1: the dump holds some tables only; load one that holds all")
        self._next = self._read()
        if isinstance(self._next, dict) and self._next.keys() == {"own"}:
            own = self._next["own"]
            if not isinstance(own, list) or not all(
                isinstance(part, list) and len(part) == 4 and all(isinstance(text, str) for text in part)
                for part in own
            ):
                raise BadLine("line 2: the user's own tables should be a list of type, name, table and statement")
            self.own = [UserPart(*part) for part in own]
            self._next = self._read()
        return int(head["schema"])

    def section(self, known: dict[str, DumpTable], unmade: set[str]) -> tuple[str, list[str]] | None:
        """The table that comes now, and its columns; None, when all was well, at the end.

        The table is one that is ``known``, or one of the user's own that is ``unmade``.
        """
        head = self._next
        if isinstance(head, dict) and head.keys() == {"end"}:
            if head["end"] != self.rows:
                raise BadLine(f"line {self.line}: {self.rows} rows came and the dump had {head['end']!r:.30}")
            if self._stream.readline(2).strip():
                raise BadLine(f"line {self.line + 1}: something comes after the end of the dump")
            return None
        if not isinstance(head, dict) or head.keys() != {"table", "columns"}:
            raise BadLine(f"line {self.line}: a table's name and columns should be here, not {_short(head)}")
        name, columns = head["table"], head["columns"]
        if not isinstance(name, str) or name not in known and name not in unmade:
            raise BadLine(f"line {self.line}: there is no table {_short(name)}")
        if name in self._seen:
            raise BadLine(f"line {self.line}: {name} was here before")
        self._seen.add(name)
        unknown = [columns]
        if isinstance(columns, list):
            unknown = [c for c in columns if type(c) is not str or name in known and c not in known[name].columns]
        if unknown or not columns or len(set(columns)) < len(columns):
            raise BadLine(f"line {self.line}: {name} has other columns than {_short(unknown or columns)}")
        return name, columns

    def values(self, width: int, secret: list[int]) -> Generator[list[SqlValue], None, None]:
        """The rows up to the next table."""
        plain = {str, int, float, type(None)}
        while True:
            row = self._read()
            if type(row) is not list:
                self._next = row
                return
            if len(row) != width:
                raise BadLine(f"line {self.line}: {len(row)} values stand where {width} columns are")
            if not plain.issuperset(map(type, row)):
                row = [self._value(value) for value in row]
            for n in secret:
                if row[n] is None:
                    row[n] = ""
            self.rows += 1
            yield row

    def _value(self, value: object) -> SqlValue:
        if isinstance(value, dict) and len(value) == 1:
            ((kind, text),) = value.items()
            if kind == "$b" and isinstance(text, str):
                try:
                    return base64.b64decode(text, validate=True)
                except (binascii.Error, ValueError):
                    pass
            if kind == "$f" and text in ("inf", "-inf"):
                return float(text)
        elif value is None or isinstance(value, str | int | float) and not isinstance(value, bool):
            return value
        raise BadLine(f"line {self.line}: {_short(value)} is no value of a column")

    def _read(self) -> Any:
        text = self._stream.readline(LONGEST)
        self.line += 1
        self.bytes += len(text)
        if not text.endswith(b"\n"):
            if len(text) == LONGEST:
                raise BadLine(f"line {self.line} is longer than any row")
            raise BadLine(f"line {self.line}: the dump was cut off here; make it again")
        try:
            return _decoder.decode(text.decode())
        except (ValueError, RecursionError) as error:
            raise BadLine(f"line {self.line} is not JSON: {_short(error)}") from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)


def _short(value: object) -> str:
    try:
        text = str(value) if isinstance(value, Exception) else json.dumps(value)
    except RecursionError:
        text = "something too deep"
    return text if len(text) <= 60 else f"{text[:57]}..."


class _Pieces:
    """Pieces of whole lines, to be read line by line like a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._lines = chain.from_iterable(piece.splitlines(keepends=True) for piece in pieces)

    def readline(self, _: int = -1) -> bytes:
        return next(self._lines, b"")


def _size_of(stream: Readable) -> int:
    """Return the number of bytes that are left to read; 0 for a pipe."""
    if not (hasattr(stream, "seekable") and stream.seekable() and hasattr(stream, "tell") and hasattr(stream, "seek")):
        return 0
    start = int(stream.tell())
    end = int(stream.seek(0, os.SEEK_END))
    stream.seek(start)
    return end - start


@contextmanager
def _source(file: File) -> Iterator[Readable]:
    if not isinstance(file, str | os.PathLike):
        if not hasattr(file, "readline") or hasattr(file, "encoding"):
            raise InvalidArgument(f"file is {shown(file)}; give a path, or a file opened in binary mode")
        with refusing("the dump", "read"):
            yield file
        return
    name = check_path(file, "file")
    with refusing(name, "read"), open(name, "rb") as stream:
        yield stream
