"""Tables of the user's own: each verb carries them, with rows and indexes, or names what it leaves out."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee
import pytest
from click.testing import CliRunner, Result
from stressing import RAW

from scanstore import InvalidArgument, MigrationFailed, Store, drop_db
from scanstore.cli import main
from scanstore.db import migrations
from scanstore.db.fields import Base, JSONField
from scanstore.maintenance.dump import lines
from scanstore.maintenance.merge.merge import MergeResult
from scanstore.models import Scan

SHOP = Path(__file__).parents[1] / "callgraph" / "shop"
OWN = """
CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, scan INTEGER REFERENCES Scans (id), text TEXT NOT NULL,
                    "to" INTEGER REFERENCES notes);
CREATE TABLE "odd ""näme'" (a, b TEXT COLLATE NOCASE, "c d" REAL DEFAULT 1.5, rowid TEXT);
CREATE TABLE keyed (b TEXT, a INTEGER, c BLOB, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE typed (a INTEGER NOT NULL CHECK (a <> 7), b ANY, v INT AS (a * 2), s INT AS (a * 3) STORED, z TEXT) STRICT;
CREATE TABLE empty (a);
CREATE TABLE hens (id INTEGER PRIMARY KEY, egg INTEGER REFERENCES eggs (id) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE eggs (id INTEGER PRIMARY KEY, hen INTEGER REFERENCES HENS (id), owner TEXT REFERENCES users);
CREATE TABLE logins (api_key TEXT NOT NULL, Hashed_Password BLOB);
CREATE INDEX ix_notes_text ON notes (text) WHERE text <> '';
CREATE UNIQUE INDEX ix_typed ON typed (a, lower(z));
CREATE INDEX ix_mine ON settings (description);
"""
ROWS = """
INSERT INTO notes (scan, text) VALUES (1, 'one'), (NULL, ''), (1, char(0, 9731));
UPDATE notes SET "to" = 1 WHERE id = 3;
DELETE FROM notes WHERE id = 2;
INSERT INTO notes (id, text) VALUES (90, 'gone'); DELETE FROM notes WHERE id = 90;
INSERT INTO "odd ""näme'" VALUES (1, 'B', 9e999, 'x'), (NULL, 'b', -0.5, NULL), (x'00ff', NULL, 2, 'x');
INSERT INTO keyed VALUES ('k', 2, x''), ('k', 1, NULL);
INSERT INTO typed (a, b, z) VALUES (1, 1.5, 'x'), (2, x'00', NULL);
INSERT INTO users (id, email, email_key, hashed_password, full_name) VALUES ('u', 'a@b', 'a@b', 'HASH', 'A');
INSERT INTO hens VALUES (1, 1), (2, NULL), (3, 3);
INSERT INTO eggs VALUES (1, 2, NULL), (2, 1, NULL), (3, 3, 'u');
INSERT INTO logins VALUES ('sk-OWN', x'01'), ('', NULL);
"""
NEVER = """
CREATE VIEW mine AS SELECT * FROM notes;
CREATE TRIGGER follow AFTER INSERT ON typed BEGIN DELETE FROM keyed; END;
CREATE VIRTUAL TABLE words USING fts5 (text);
INSERT INTO words VALUES ('one two');
"""
NAMES = ("notes", "odd \"näme'", "keyed", "typed", "empty", "hens", "eggs", "logins", "author", "book")


class Author(Base):
    name = peewee.TextField(unique=True)
    meta = JSONField(null=True)


class Book(Base):
    author = peewee.ForeignKeyField(Author, backref="books", on_delete="CASCADE")
    scan = peewee.ForeignKeyField(Scan, backref="+", null=True, on_delete="SET NULL")
    title = peewee.TextField()


def script(store: Store, text: str) -> None:
    statement = ""
    for piece in text.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            store.database.execute_sql(statement).fetchall()
            statement = ""


def make(path: Path) -> Store:
    store = Store(path)
    with store.bound(), store.transaction():
        scan = store.scans.record(SHOP)
        script(store, OWN + ROWS)
        store.database.create_tables([Author, Book])
        author = Author.create(name="Ä", meta={"a": [1]})
        Book.create(author=author, scan=scan, title="T")
    return store


def own(path: Path | str, *names: str) -> dict[str, Any]:
    """What a file has of the user's own."""
    with closing(sqlite3.connect(path)) as connection:
        found: dict[str, Any] = {}
        for name in names or NAMES:
            quoted = '"' + name.replace('"', '""') + '"'
            rows = connection.execute(f"SELECT * FROM {quoted}").fetchall()
            schema = connection.execute(
                "SELECT type, name, sql FROM sqlite_master WHERE tbl_name = ? AND type <> 'trigger' ORDER BY name",
                (name,),
            ).fetchall()
            found[name] = schema, sorted(rows, key=repr)
        found["counters"] = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'notes'").fetchall()
        found["mine"] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'ix_mine'").fetchall()
        return found


def cli(*args: object, code: int = 0) -> Result:
    done = CliRunner().invoke(main, [str(arg) for arg in args])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "s.db"
    make(path).close()
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "s.db"))


def dumped(store: Store, **options: Any) -> bytes:
    stream = io.BytesIO()
    store.dump(stream, **options)
    return stream.getvalue()


# Dump and load


def test_dump_and_load_carry_them(path: Path, tmp_path: Path) -> None:
    before = own(path)
    with Store(path) as store, Store(tmp_path / "new.db") as new:
        text = dumped(store, include_secrets=True)
        told = new.load(io.BytesIO(text))
        assert told.own_left_out == [] and told.left_out == {}
        assert told.tables["notes"] == 2 and told.tables["book"] == 1
        assert dumped(new, include_secrets=True) == text
        assert new.check() == []
        with new.bound():
            assert Book.get().author.meta == {"a": [1]}
    assert own(tmp_path / "new.db") == before
    Store(tmp_path / "new.db").close()


def test_the_commands_carry_them(path: Path, tmp_path: Path) -> None:
    before = own(path)
    cli("dump", tmp_path / "d.jsonl", "--include-secrets", "--db", path)
    done = cli("load", tmp_path / "d.jsonl", "--db", tmp_path / "new.db")
    assert "left out" not in done.output
    assert own(tmp_path / "new.db") == before
    cli("check", tmp_path / "new.db")
    assert "notes" in cli("dump", "-", "--table", "notes", "--db", path).output


def test_secrets_of_theirs_are_left_out_as_ours_are(path: Path, tmp_path: Path) -> None:
    with Store(path) as store, Store(tmp_path / "new.db") as new:
        text = dumped(store)
        assert b"sk-OWN" not in text
        new.load(io.BytesIO(text))
    assert own(tmp_path / "new.db", "logins")["logins"][1] == [("", None), ("", None)]


def test_a_dump_without_such_tables_is_as_before(store: Store) -> None:
    head, table, *_ = dumped(store).splitlines()
    assert b'"scanstore":1' in head and b'{"table"' in table


def test_views_triggers_and_virtual_tables_are_named(path: Path, tmp_path: Path) -> None:
    before = own(path)
    left = {("view", "mine"), ("trigger", "follow"), ("table", "words")}
    with Store(path) as store:
        script(store, NEVER)
        told = store.dump(tmp_path / "d.jsonl", include_secrets=True)
    assert {(part.kind, part.name) for part in told.own_left_out} == left
    done = cli("dump", tmp_path / "again.jsonl", "--include-secrets", "--db", path)
    assert "left out: the trigger follow; triggers are not carried; create it again" in done.output
    with Store(tmp_path / "new.db") as new:
        loaded = new.load(tmp_path / "d.jsonl")
        assert {(part.kind, part.name) for part in loaded.own_left_out} == left and new.check() == []
    assert own(tmp_path / "new.db") == before
    done = cli("load", tmp_path / "d.jsonl", "--db", tmp_path / "other.db")
    assert all(f"left out: the {kind} {name}; " in done.output for kind, name in left)


def test_accounts_go_with_what_needs_them(path: Path, tmp_path: Path) -> None:
    """An egg that needs a user goes, and so does the hen that needs the egg: the tables point at each other."""
    with Store(path) as store, Store(tmp_path / "new.db") as new:
        told = new.load(io.BytesIO(dumped(store)), accounts=False)
        assert told.left_out == {"users": 1, "eggs": 1, "hens": 1}
        assert told.tables["eggs"] == 2 and told.tables["hens"] == 2 and new.check() == []
    assert [row[0] for row in own(tmp_path / "new.db")["hens"][1]] == [1, 2]
    cli("dump", tmp_path / "d.jsonl", "--db", path)
    done = cli("load", "--no-accounts", tmp_path / "d.jsonl", "--db", tmp_path / "other.db")
    assert "1 eggs" in done.output and "1 hens" in done.output


def test_an_older_dump_is_migrated_with_them(path: Path, tmp_path: Path) -> None:
    before = own(path)
    migrations.down(path, to=7)
    with closing(sqlite3.connect(path)) as connection:
        text = b"".join(lines(connection.execute, 7, {}, include_secrets=True))
    with Store(tmp_path / "new.db") as new:
        assert new.load(io.BytesIO(text)).own_left_out == [] and new.check() == []
    assert own(tmp_path / "new.db") == before


def test_a_table_that_is_there_already_is_filled(path: Path, tmp_path: Path) -> None:
    with Store(path) as store, Store(tmp_path / "new.db") as new:
        new.database.create_tables([Author, Book])
        new.load(io.BytesIO(dumped(store, include_secrets=True)))
    assert own(tmp_path / "new.db") == own(path)


def with_own(store: Store, *parts: list[str]) -> bytes:
    head, *rest = dumped(store).splitlines(keepends=True)
    return head + json.dumps({"own": parts}).encode() + b"\n" + b"".join(rest)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (["table", "x", "x", "CREATE TABLE x AS SELECT * FROM settings"], "not authorized"),
        (["table", "x", "x", "DROP TABLE settings"], "its definition cannot be read"),
        (["table", "x", "x", "CREATE TEMP TABLE x (a)"], "its definition cannot be read"),
        (["table", "x", "x", "CREATE TABLE temp.x (a)"], "another name"),
        (["table", "x", "x", "CREATE TABLE y (a)"], "its definition has another name"),
        (["table", "x", "x", "CREATE TABLE x (a CHECK (no_such(a)))"], "no such function"),
        (["table", "pragma_x", "pragma_x", "CREATE TABLE pragma_x (a)"], "SQLite keeps for itself"),
        (["table", "Jobs", "Jobs", "CREATE TABLE Jobs (a)"], "scanstore uses this name"),
        (["index", "x", "settings", "CREATE UNIQUE INDEX x ON settings (value)"], "UNIQUE"),
        (["index", "x", "settings", "CREATE INDEX x ON settings (zeroblob(value))"], "calls a function"),
        (["trigger", "x", "settings", "CREATE TRIGGER x AFTER INSERT ON jobs BEGIN DELETE FROM tags; END"], "again"),
        (["view", "x", "x", "CREATE VIEW x AS SELECT 1"], "create it again"),
        (["pragma", "x", "x", "PRAGMA user_version = 3"], "its definition cannot be read"),
    ],
)
def test_nothing_but_tables_and_indexes_is_made_of_a_strangers(
    store: Store, tmp_path: Path, part: list[str], why: str
) -> None:
    text = with_own(store, part)
    with Store(tmp_path / "new.db") as new:
        schema = new.database.execute_sql("SELECT * FROM sqlite_master ORDER BY name").fetchall()
        (left,) = new.load(io.BytesIO(text)).own_left_out
        assert left[:2] == tuple(part[:2]) and why in left.reason
        after = new.database.execute_sql("SELECT * FROM sqlite_master WHERE name <> 'sqlite_stat1' ORDER BY name")
        names = [row[1] for row in after.fetchall()]
        assert names == [row[1] for row in schema if row[1] != "sqlite_stat1"]
    with Store(tmp_path / "new.db") as new:
        assert new.check() == []


def test_rows_of_a_table_that_cannot_be_made_are_counted(store: Store, tmp_path: Path) -> None:
    text = with_own(store, ["table", "x", "x", "CREATE TABLE x (a COLLATE none_such PRIMARY KEY)"])
    head, own_line, *rest, end = text.splitlines(keepends=True)
    more = b'{"table":"x","columns":["a"]}\n[1]\n[2]\n'
    last = json.dumps({"end": json.loads(end)["end"] + 2}).encode() + b"\n"
    with Store(tmp_path / "new.db") as new:
        told = new.load(io.BytesIO(b"".join((head, own_line, more, *rest, last))))
        assert told.left_out == {"x": 2} and [part.name for part in told.own_left_out] == ["x"]


@pytest.mark.parametrize("value", ["7", '"x"', "[1]", '[["table","x","x"]]', '[["table","x","x",null]]'])
def test_a_bad_list_of_tables_is_refused(store: Store, tmp_path: Path, value: str) -> None:
    head, *rest = dumped(store).splitlines(keepends=True)
    text = head + f'{{"own":{value}}}\n'.encode() + b"".join(rest)
    with Store(tmp_path / "new.db") as new, pytest.raises(InvalidArgument, match="line 2: "):
        new.load(io.BytesIO(text))


# Merge


def merged(mine: Path, theirs: Path) -> MergeResult:
    with Store(mine) as ours:
        result = ours.merge(theirs)
        assert ours.check() == []
        again = ours.merge(theirs)
        assert again.added == 0 and again.skipped == result.skipped
        for name in set(NAMES) & set(result.tables):
            assert sum(again.tables[name]) == sum(result.tables[name])
    return result


def test_merge_takes_over_what_is_missing(path: Path, tmp_path: Path) -> None:
    before = own(path)
    with Store(tmp_path / "mine.db") as mine:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "a.py").write_text("x = 1\n")
        mine.scans.record(tmp_path / "tree")
    result = merged(tmp_path / "mine.db", path)
    assert result.skipped == {} and result.tables["notes"] == (2, 0)
    after = own(tmp_path / "mine.db")
    # Scan 1 there is scan 2 here.
    assert [row[:2] for row in after["notes"][1]] == [(1, 2), (3, 2)]
    assert after["notes"][0] == before["notes"][0] and after["counters"] == before["counters"]
    assert [row[2] for row in after["book"][1]] == [2]
    for name in set(before) - {"notes", "book"}:
        assert after[name] == before[name], name


def test_merge_names_what_it_leaves_out(path: Path, tmp_path: Path) -> None:
    with Store(path) as store:
        script(store, NEVER + "CREATE TABLE links (a REFERENCES author, b REFERENCES plan_changes)")
        script(store, "CREATE TABLE about (a REFERENCES author); INSERT INTO about VALUES (1)")
    shutil.copy(path, tmp_path / "mine.db")
    with Store(tmp_path / "mine.db") as mine:
        script(mine, "DELETE FROM keyed WHERE a = 1; DROP TABLE typed; CREATE VIEW Typed AS SELECT 1")
        script(mine, "DROP TABLE empty; CREATE TABLE empty (z); DROP TABLE about; DROP TABLE links")
        script(mine, "UPDATE author SET name = 'B'; DROP VIEW mine")
    result = merged(tmp_path / "mine.db", path)
    assert set(result.skipped) == {
        "the view mine", "the trigger follow", "the table words", "the table keyed (2 rows)",
        "the table typed (2 rows)", "the table empty (0 rows)", "the table author (1 rows)", "the table book (1 rows)",
        "the table about (1 rows)", "the table links (0 rows)",
    }  # fmt: skip
    assert "1 of its rows are only there" in result.skipped["the table keyed (2 rows)"]
    assert "scanstore dump FILE --table keyed --db OTHER" in result.skipped["the table keyed (2 rows)"]
    assert "points at author" in result.skipped["the table about (1 rows)"]
    assert result.tables["notes"] == (0, 2)
    done = cli("merge", path, "--db", tmp_path / "mine.db")
    assert "left out: the table keyed (2 rows); both stores have it" in done.output


def test_rows_that_point_at_what_is_not_merged_are_named(tmp_path: Path) -> None:
    with Store(tmp_path / "theirs.db") as theirs:
        script(
            theirs,
            "CREATE TABLE runs (job TEXT REFERENCES jobs (id), up INTEGER REFERENCES runs (n), n INTEGER UNIQUE)",
        )
        key = theirs.jobs.enqueue("work").id
        theirs.settings["here"] = 1
        theirs.database.execute_sql("INSERT INTO runs VALUES (?, NULL, 1), (NULL, 1, 2), (NULL, NULL, 3)", (key,))
        script(theirs, "CREATE TABLE said (k TEXT REFERENCES settings (key)); INSERT INTO said VALUES ('here')")
    Store(tmp_path / "mine.db").close()
    with Store(tmp_path / "mine.db") as mine:
        result = mine.merge(tmp_path / "theirs.db")
        assert mine.check() == []
        assert mine.database.execute_sql("SELECT n FROM runs").fetchall() == [(3,)]
    assert "2 rows of runs" in result.skipped and result.tables["runs"] == (1, 0) and result.tables["said"] == (1, 0)


# The other verbs


def test_backup_restore_and_vacuum_carry_them(path: Path, tmp_path: Path) -> None:
    before = own(path)
    with Store(path) as store:
        store.vacuum()
        store.optimize()
        store.backup(tmp_path / "copy.db")
        script(store, "DROP TABLE notes")
    Store.restore(tmp_path / "copy.db", path)
    assert own(path) == before
    cli("vacuum", "--db", path)
    cli("backup", tmp_path / "two.db", "--db", path)
    cli("restore", tmp_path / "two.db", "--db", tmp_path / "new.db")
    assert own(path) == before and own(tmp_path / "new.db") == before


def test_migrations_carry_them(path: Path) -> None:
    before = own(path)
    with pytest.raises(MigrationFailed, match="row 3 of eggs points at nothing in users .* nothing was changed"):
        migrations.down(path, to=1)
    migrations.down(path, to=7)
    assert own(path) == before
    migrations.up(path)
    assert own(path) == before
    cli("migrate", "down", "--db", path)
    assert own(path) == before
    cli("migrate", "up", "--db", path)
    assert own(path) == before
    with Store(path) as store:
        assert store.check() == []


def test_check_looks_at_them(path: Path) -> None:
    with Store(path) as store:
        assert store.check() == []
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO notes (scan, text) VALUES (77, 'x')")
        connection.execute("INSERT INTO keyed VALUES (CAST(x'ff' AS TEXT), 5, NULL)")
    with Store(path) as store:
        found = [problem.what for problem in store.check()]
    assert found == [
        "1 rows of notes point at rows of Scans that are gone", "1 values of \"b\" in keyed are not text in UTF-8",
    ]  # fmt: skip
    assert "rows of notes" in cli("check", path, code=1).output


def test_prune_leaves_what_they_point_at(path: Path, tmp_path: Path) -> None:
    """A dry run says so too, and removes nothing that it does not name."""
    with Store(path) as store:
        script(store, "CREATE TABLE tickets (job TEXT NOT NULL REFERENCES jobs (id) ON DELETE SET NULL)")
        jobs = [store.jobs.enqueue("work") for _ in range(2)]
        for job in jobs:
            store.jobs.cancel(job)
        store.database.execute_sql("INSERT INTO tickets VALUES (?)", (jobs[0].id,))
        (tmp_path / "shop").mkdir()
        for text in ("a = 1\n", "b = 2\n", "c = 3\n"):
            (tmp_path / "shop" / "a.py").write_text(text)
            store.scans.record(tmp_path / "shop", target="t")
        script(store, "INSERT INTO notes (scan, text) VALUES (3, 'keep')")
        script(store, "CREATE TABLE marks (file INTEGER REFERENCES scan_files)")
        told = store.prune(keep_last=0)
        assert [scan.id for scan in told.scans] == [2] and told.held == {3: "notes"} and told.jobs == 1
        script(store, "INSERT INTO marks SELECT min(id) FROM scan_files WHERE scan_id = 2")
        assert store.prune(keep_last=0).held == {2: "marks", 3: "notes"}
        script(store, "DELETE FROM marks")
        done = cli("prune", "--keep-last", "0", "--yes", "--db", path)
        assert "kept: scan 3; rows of notes refer to it" in done.output and "Removed 1 scan, 1 job" in done.output
        assert [scan.id for scan in store.scans.list()] == [4, 3, 1]
        assert store.jobs.get(jobs[0]).status == "cancelled" and store.check() == []


def test_prune_keeps_a_scan_that_what_it_holds_is_needed_of(path: Path) -> None:
    with Store(path) as store:
        script(store, "DELETE FROM notes; CREATE TABLE marks (name INTEGER REFERENCES file_versions)")
        store.scans.record(SHOP, exclude=["*.py"])
        script(store, "INSERT INTO marks SELECT min(id) FROM file_versions")
        before = dumped(store)
        assert [scan.id for scan in store.prune(keep_last=0).scans] == [1]
        done = store.prune(keep_last=0, dry_run=False)
        assert done.scans == [] and done.held == {1: "a table of your own"}
        assert dumped(store) == before and store.check() == []


def test_drop_deletes_them_with_the_store(path: Path) -> None:
    drop_db(path, confirm=True)
    assert not path.exists()


def test_a_key_can_be_changed_with_them(path: Path) -> None:
    pytest.importorskip("sqlcipher3")
    before = own(path)
    Store(path).rekey(RAW)
    with Store(path, key=RAW) as store:
        assert store.check() == []
        text = dumped(store, include_secrets=True)
        store.rekey(None)
    assert own(path) == before
    with Store(path) as store:
        assert dumped(store, include_secrets=True) == text
