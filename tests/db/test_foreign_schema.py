"""Files from strangers: whatever their schema holds, it is refused by name before it runs, and can be dropped.

Each file is given to all doors in a process of its own, which is killed when it hangs: SQLite does not come back from
an endless query for a signal. By default a file goes to a quarter of the doors, and a door
sees every fourth file; SCANSTORE_LONG=1 gives every file to all doors, and older files of each version with each kind
of what is foreign.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from sampling import sampled
from stressing import LONG, RAW, done

from scanstore import Store, check_db_health, errors, seed_db
from scanstore.cli import main
from scanstore.db import files, fingerprints, foreign_schema, migrations, schema, schema_digest
from scanstore.db.connections import connect
from scanstore.db.database import SCHEMA_VERSION
from scanstore.dependencies import get_db_context
from scanstore.maintenance import backup
from scanstore.maintenance.cleaning import drop_foreign
from scanstore.maintenance.repair.repair import repair

LIMIT = 60  # seconds for all doors of a file
ENDLESS = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) AS id, 1 AS name FROM c"
OWN = "CREATE TABLE mine (x); "


def alter(name: str, old: str, new: str) -> str:
    """Change the statement of a part as no ALTER can."""
    return f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}') WHERE name = '{name}'"


def smuggle(kind: str, name: str, sql: str) -> str:
    """Put a row into the schema that CREATE would refuse."""
    return f"INSERT INTO sqlite_master VALUES ('{kind}', '{name}', '{name}', 0, '{sql}')"


#: what is done to a store, and what the refusal names
FOREIGN = {
    "a view for a table": (f"DROP TABLE scenes; CREATE VIEW scenes AS {ENDLESS}", "view scenes is in the place"),
    "a view for the history": (
        f"DROP TABLE migratehistory; CREATE VIEW migratehistory AS {ENDLESS}",
        "view migratehistory is in the place",
    ),
    "a view for a table, in capitals": (f"DROP TABLE settings; CREATE VIEW SETTINGS AS {ENDLESS}", "view SETTINGS is"),
    "another view": (f"DROP VIEW symbols; CREATE VIEW symbols AS {ENDLESS}", "view symbols is not the one"),
    "a table for a view": ("DROP VIEW symbols; CREATE TABLE symbols (id, name)", "table symbols is in the place"),
    "a view for an index table of the search": (
        f"DELETE FROM sqlite_master WHERE name = 'finding_search_content';"
        f" {smuggle('view', 'finding_search_content', 'CREATE VIEW finding_search_content AS ' + ENDLESS)}",
        "view finding_search_content is in the place",
    ),
    "a virtual table for a table": (
        "DROP TABLE settings; CREATE VIRTUAL TABLE settings USING fts5 (key, value)",
        "table settings is not the one",
    ),
    "a table of others": ("DROP TABLE settings; CREATE TABLE settings (key, value)", "table settings is not the one"),
    "a trigger": (
        "CREATE TRIGGER evil AFTER INSERT ON settings BEGIN DELETE FROM scans; END",
        "trigger evil on settings is not one of",
    ),
    "a trigger under a name of ours": (
        "DROP TRIGGER tr_jobs_parent_id;"
        "CREATE TRIGGER tr_jobs_parent_id AFTER INSERT ON JOBS BEGIN DELETE FROM scans; END",
        "trigger tr_jobs_parent_id on JOBS is not the one",
    ),
    "a trigger on a view of ours": (
        "CREATE TRIGGER evil INSTEAD OF DELETE ON symbols BEGIN DELETE FROM scans; END",
        "trigger evil on symbols is not one of",
    ),
    "a trigger on a table of the user's": (
        OWN + "CREATE TRIGGER evil AFTER INSERT ON mine BEGIN /* FROM mine */ DELETE\nFROM [Scans]; END",
        "trigger evil writes to scans",
    ),
    "a trigger that updates": (
        OWN + "CREATE TRIGGER evil AFTER INSERT ON mine BEGIN UPDATE OR IGNORE \"settings\" SET value = ''; END",
        "trigger evil writes to settings",
    ),
    "a trigger that our deletes reach": (
        "CREATE TABLE mine (x PRIMARY KEY REFERENCES scans (id) ON DELETE CASCADE);"
        "CREATE TABLE more (x REFERENCES mine (x) ON DELETE CASCADE);"
        f"CREATE TRIGGER evil AFTER DELETE ON more BEGIN SELECT * FROM ({ENDLESS}); END",
        "trigger evil runs when",
    ),
    "a generated column": (
        "ALTER TABLE settings ADD COLUMN extra GENERATED ALWAYS AS (hex(zeroblob(100000000)))",
        "table settings is not the one",
    ),
    "a stored generated column": (
        alter("settings", "key TEXT", "extra AS (1) STORED, key TEXT"),
        "table settings is not the one",
    ),
    "another default": (alter("settings", "TEXT NOT NULL", "TEXT NOT NULL DEFAULT (1)"), "table settings is not the"),
    "another check": (alter("jobs", "progress INTEGER", "progress INTEGER CHECK (1)"), "table jobs is not the one"),
    "another collation": (alter("settings", "TEXT NOT NULL", "TEXT COLLATE NOCASE NOT NULL"), "table settings is not"),
    "an index with a function": (
        "CREATE INDEX mine ON settings (hex(zeroblob(length(value) * 100000000)))",
        "index mine calls a function",
    ),
    "an index with a condition that calls": (
        "CREATE INDEX mine ON settings (key) WHERE value LIKE '%a%'",
        "index mine calls a function",
    ),
    "a unique index": ("CREATE UNIQUE INDEX mine ON settings (value)", "index mine is UNIQUE"),
    "a view for json_each": (f"CREATE VIEW json_each AS {ENDLESS}", "view json_each has a name that SQLite keeps"),
    "a table for dbstat": ("CREATE TABLE DbStat (name, pgsize, aggregate)", "table DbStat has a name that SQLite keep"),
    "a view for the counters": (
        "DELETE FROM sqlite_master WHERE name = 'sqlite_sequence';"
        + smuggle("view", "sqlite_sequence", f"CREATE VIEW sqlite_sequence AS {ENDLESS}"),
        "sqlite_sequence",
    ),
}  # fmt: skip

#: what the user may have of his own
FINE = {
    "a table, a view and an index": OWN + "CREATE VIEW seen AS SELECT x FROM mine; CREATE UNIQUE INDEX ix ON mine (x)",
    "an endless view that nobody reads": f"CREATE VIEW never AS {ENDLESS}",
    "an index on ours": "CREATE INDEX mine ON findings (title COLLATE NOCASE DESC, severity)",
    "an index on some rows": "CREATE INDEX mine ON jobs (queue) WHERE status IN ('failed') AND (progress > 1)",
    "a trigger of its own": OWN + "CREATE TRIGGER own AFTER INSERT ON mine BEGIN DELETE FROM mine WHERE x IS NULL; END",
    "a trigger that reads ours": OWN
    + "CREATE TRIGGER own AFTER INSERT ON mine BEGIN UPDATE mine SET x = (SELECT count(*) FROM scans); END",
    "a table that points at ours": "CREATE TABLE mine (x REFERENCES scans (id) ON DELETE CASCADE)",
    "tables in a circle": "CREATE TABLE a (x PRIMARY KEY REFERENCES b); CREATE TABLE b (x PRIMARY KEY REFERENCES a)",
    "a table with a name that is SQL": f'CREATE TABLE "settings"", ({ENDLESS}) --" (x, "y"" FROM (nothing) --")',
    "a full-text index": OWN + "CREATE VIRTUAL TABLE words USING fts5 (x, content = 'mine')",
    "a full-text index of an endless view": f"CREATE VIEW never AS {ENDLESS};"
    "CREATE VIRTUAL TABLE words USING fts5 (name, content = 'never', content_rowid = 'id')",
    "statistics": "ANALYZE",
}


def behind_doors(path: Path, number: int | None = None) -> dict[str, list[str]]:
    """What each way to a file came to: "fine" or the name of an error, and its words. With a number, those that the
    file of that number is given to.
    """
    folder = path.parent / "doors"
    folder.mkdir()

    def inside(call: Callable[[Store], object]) -> object:
        with Store(path) as store:
            return call(store)

    def merged() -> object:
        with Store(folder / "victim.db") as victim:
            try:
                return victim.merge(path)
            finally:
                victim.settings.ensure("alive", 1)
                assert victim.check() == []

    def depended() -> object:
        os.environ["SCANSTORE_DB"] = str(path)
        with get_db_context() as store:
            return store.check()

    def health() -> None:
        found = check_db_health(path, thorough=True)
        if found.problems:
            raise errors.ScanstoreError("; ".join(found.problems))

    calls: dict[str, Callable[[], object]] = {
        "open": lambda: inside(lambda store: store.settings.ensure("new", 1)),
        "read": lambda: Store(path, read_only=True).close(),
        "check": lambda: inside(lambda store: store.check()),
        "merge": merged,
        "verify": lambda: backup.verify(path),
        "restore": lambda: backup.restore(path, folder / "restored.db"),
        "up": lambda: migrations.up(path),
        "status": lambda: migrations.status(path),
        "health": health,
        "stats": lambda: inside(lambda store: store.stats()),
        "dump": lambda: inside(lambda store: store.dump(io.BytesIO())),
        "prune": lambda: inside(lambda store: store.prune(keep_last=1, dry_run=False)),
        "seed": lambda: seed_db(path),
        "dependencies": depended,
        "repair": lambda: repair(path, folder / "saved.db"),
    }
    told = {}
    for place, (name, call) in enumerate(calls.items()):
        if not (LONG or number is None or name == "open" or (number + place) % 4 == 0):
            continue
        try:
            told[name] = ["fine", str(call())[:200]]
        except errors.ScanstoreError as error:
            told[name] = [type(error).__name__, str(error)]
    return told


def spoil(path: Path, script: str, *, key: str | None = None) -> Path:
    connection = connect(str(path), "mode=rw", key=key)
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("PRAGMA writable_schema=ON")
    connection.executescript(script)
    connection.close()
    return path


def doors(path: Path, number: int | None = None) -> dict[str, list[str]]:
    (told,) = done(lambda tell: tell(behind_doors(path, number)), seconds=LIMIT)
    found: dict[str, list[str]] = told
    return found


@pytest.fixture
def file(tmp_path: Path, new_file: Path) -> Path:
    """A store with a scan's target, a setting and a job."""
    path = tmp_path / "strange.db"
    shutil.copy(new_file, path)
    with Store(path) as store:
        store.settings.ensure("page", 5)
        store.jobs.enqueue("sync")
    return path


# Refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", sampled(FOREIGN))
def test_what_is_foreign_is_refused_by_name_at_all_doors(file: Path, what: str) -> None:
    script, named = FOREIGN[what]
    spoil(file, script)
    before = file.read_bytes()
    told = doors(file, list(FOREIGN).index(what))
    assert file.read_bytes() == before and len(told) >= 4
    for door, (kind, text) in told.items():
        if door == "repair":
            assert kind in ("fine", "Damaged")
        else:
            assert kind in ("ForeignSchema", "ScanstoreError") and named in text and "check --fix" in text, (door, text)


@pytest.mark.parametrize("what", sampled(FINE))
def test_what_is_the_users_own_is_accepted(file: Path, what: str) -> None:
    spoil(file, FINE[what])
    told = doors(file, list(FINE).index(what))
    assert {door: found for door, found in told.items() if found[0] != "fine"} == {} and len(told) >= 4
    assert {told[door][1] for door in ("check", "dependencies") if door in told} <= {"[]"}
    with Store(file) as store:
        assert store.check(fix=True) == [] and store.settings.get("page") == 5


@pytest.mark.parametrize(
    ("version", "what"),
    [
        pytest.param(version, what, id=f"{what}-{version}")
        for n, version in enumerate((1, 2, 4, 6))
        for m, what in enumerate(("a view", "a trigger", "a table to come"))
        if LONG or (n + m) % 3 == 0
    ],
)
def test_an_older_file_is_compared_before_it_is_migrated(tmp_path: Path, version: int, what: str) -> None:
    path = tmp_path / "old.db"
    migrations.up(path, to=version)
    script, named = {
        "a view": (f"DROP TABLE migratehistory; CREATE VIEW migratehistory AS {ENDLESS}", "migratehistory"),
        "a trigger": ("CREATE TRIGGER evil AFTER INSERT ON migratehistory BEGIN DELETE FROM scans; END", "evil"),
        "a table to come": (f"CREATE VIEW audit_events AS {ENDLESS}", "audit_events"),
    }[what]
    spoil(path, script)
    before = path.read_bytes()
    told = doors(path)
    assert path.read_bytes() == before and not list(tmp_path.glob("*.backup*"))
    for door in ("open", "check", "verify", "restore", "up", "status", "stats", "dump", "dependencies"):
        assert told[door][0] == "ForeignSchema" and named in told[door][1], (door, told[door])
    assert told["read"][0] == told["merge"][0] == "OutdatedSchema"
    assert drop_foreign(path)
    with Store(path) as store:
        assert store.check() == []


def test_a_file_without_a_version_has_no_other_history(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    spoil(path_of_nothing(path), f"PRAGMA application_id = {files.APPLICATION_ID};"
          f"CREATE VIEW migratehistory AS {ENDLESS}")  # fmt: skip
    assert doors(path)["open"][0] == "ForeignSchema"


def path_of_nothing(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize("version", sampled(range(1, SCHEMA_VERSION)))
def test_an_older_file_of_ours_is_migrated(tmp_path: Path, version: int) -> None:
    """Also with a table of the user's own; and every third that was rolled back, or each with SCANSTORE_LONG=1."""
    for name, start in (("up", version), ("down", None))[: 2 if LONG or version % 3 == 1 else 1]:
        path = tmp_path / f"{name}.db"
        migrations.up(path, to=start, backup=False)
        if start is None:
            migrations.down(path, to=version, backup=False)
        spoil(path, OWN + "CREATE INDEX ix_mine ON scans (target)")
        with Store(path) as store:
            assert store.check() == []


@pytest.mark.parametrize(
    ("kind", "name", "sql"),
    [
        ("table", "mine", "CREATE TRIGGER evil AFTER INSERT ON settings BEGIN DELETE FROM jobs; END"),
        ("view", "sqlite_schema", f"CREATE VIEW sqlite_schema AS {ENDLESS}"),
        ("view", "mine", "CREATE VIEW mine AS SELECT"),
        ("trigger", "evil", "CREATE TRIGGER evil AFTER INSERT ON nothing BEGIN SELECT 1; END"),
    ],
)
def test_a_malformed_schema_is_damage_until_it_is_dropped(file: Path, kind: str, name: str, sql: str) -> None:
    spoil(file, smuggle(kind, name, sql))
    with pytest.raises(errors.Damaged):
        Store(file)
    told = command("check", "--fix", str(file))
    assert told.returncode == 0 and f"fixed\tthe {kind} {name}" in told.stdout and "dropped" in told.stdout
    with Store(file) as store:
        assert store.check() == []


def test_a_file_whose_id_was_dropped_gets_another(file: Path) -> None:
    """Its table is made again with a row, so that nothing is left for a second check to fix."""
    spoil(file, "DROP TABLE file_identity; CREATE VIEW file_identity AS SELECT 1")
    assert any("file_identity was made anew" in done for done in drop_foreign(file))
    with Store(file) as store:
        assert store.check() == []


def test_parts_of_ours_that_are_missing_or_damaged_do_not_keep_a_file_shut(file: Path) -> None:
    spoil(file, "DROP INDEX ix_jobs_leased; DROP TRIGGER tr_jobs_parent_id; DROP VIEW scan_file_chunks;"
                "DROP INDEX ix_jobs_ready; CREATE INDEX ix_jobs_ready ON jobs (queue)")  # fmt: skip
    with Store(file) as store:
        found = store.check(fix=True)
        assert len(found) == 5 and all(problem.fixed for problem in found) and store.check() == []


def test_merge_compares_what_it_has_attached(file: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file may be another one than was opened a moment before."""
    real = files.seconds_for

    def swap(path: str, timeout: float | None = None) -> float:
        spoil(file, FOREIGN["a trigger"][0])
        return real(path, timeout)

    monkeypatch.setattr("scanstore.maintenance.merge.merge.seconds_for", swap)
    with pytest.raises(errors.ForeignSchema, match="trigger evil"):
        store.merge(file)
    assert store.database.execute_sql("PRAGMA database_list").fetchall()[1:] == []
    with pytest.raises(errors.ForeignSchema):
        store.merge(file)


# Dropped --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", sampled(FOREIGN))
def test_check_reports_and_fix_drops_what_is_foreign(file: Path, what: str) -> None:
    script, named = FOREIGN[what]
    spoil(file, script)
    if LONG or list(FOREIGN).index(what) % 3 == 0:
        result = CliRunner().invoke(main, ["check", str(file)])
        assert result.exit_code == 1 and named in result.output and f"check --fix {file}" in result.output, result
    told = command("check", "--fix", "--db", str(file), "--json")
    problems = json.loads(told.stdout)
    if what in ("a table of others", "a stored generated column"):  # its rows are stored in another way
        assert told.returncode == 1 and "scanstore repair" in problems[-1]["remedy"]
        return
    assert told.returncode == 0 and all(problem["fixed"] for problem in problems), told
    assert any(named in problem["what"] for problem in problems), problems
    with Store(file) as store:
        assert store.check() == []
        store.jobs.enqueue("more")
        assert len(store.jobs.list()) == 2
        assert "settings" in script.lower().partition("drop table")[2] or store.settings.get("page") == 5


class Told(NamedTuple):
    returncode: int
    stdout: str


def command(*words: str, key: str | None = None) -> Told:
    def work(tell: Callable[[Any], None]) -> None:
        os.environ.update({"SCANSTORE_KEY": key} if key else {})
        result = CliRunner().invoke(main, words)
        tell([result.exit_code, result.stdout])

    schema.made(SCHEMA_VERSION)  # so that no process has to make it
    ((code, text),) = done(work, seconds=LIMIT)
    return Told(code, text)


def test_what_is_the_users_own_is_not_dropped(file: Path) -> None:
    spoil(
        file, OWN + "INSERT INTO mine VALUES (1); CREATE INDEX ix_mine ON settings (value);" + FOREIGN["a trigger"][0]
    )
    done = drop_foreign(file)
    assert done == ["the trigger evil on settings is not one of scanstore's: dropped"]
    assert drop_foreign(file) == []
    with Store(file) as store:
        assert store.database.execute_sql("SELECT x FROM mine").fetchall() == [(1,)]
        assert store.database.execute_sql("SELECT name FROM sqlite_schema WHERE name = 'ix_mine'").fetchall()
        assert store.check() == []


def test_dropping_waits_for_nobody_and_changes_nothing_of_others(file: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound):
        drop_foreign(tmp_path / "none.db")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    before = other.read_bytes()
    with pytest.raises(errors.NotAScanstore):
        drop_foreign(other)
    spoil(file, "PRAGMA user_version = 999")
    with pytest.raises(errors.NewerSchema):
        drop_foreign(file)
    assert other.read_bytes() == before


@pytest.mark.parametrize("what", ["a view for a table", "a trigger", "a generated column"])
def test_encrypted_files_are_compared_too(tmp_path: Path, what: str) -> None:
    pytest.importorskip("sqlcipher3")
    path, key = tmp_path / "secret.db", RAW
    with Store(path, key=key) as store:
        store.settings.ensure("page", 5)
    script, named = FOREIGN[what]
    spoil(path, script, key=key)
    with pytest.raises(errors.ForeignSchema, match=named):
        Store(path, key=key)
    with pytest.raises(errors.ForeignSchema, match=named):
        backup.verify(path, key=key)
    from scanstore.maintenance.rekeying import rekey

    with pytest.raises(errors.ForeignSchema, match=named):
        rekey(str(path), str(path), key, None)
    with Store(tmp_path / "mine.db", key=key) as store, pytest.raises(errors.ForeignSchema, match=named):
        store.merge(path)
    told = command("check", str(path), key=key)
    assert told.returncode == 1 and named in told.stdout
    told = command("check", "--fix", str(path), key=key)
    assert told.returncode == 0, told
    with Store(path, key=key) as store:
        assert store.check() == []
    with pytest.raises(errors.WrongKey):
        drop_foreign(path, key="another")


def test_a_plain_file_is_not_rekeyed_when_it_is_foreign(file: Path) -> None:
    pytest.importorskip("sqlcipher3")
    from scanstore.maintenance.rekeying import rekey

    spoil(file, FOREIGN["a trigger"][0])
    before = file.read_bytes()
    with pytest.raises(errors.ForeignSchema, match="evil"):
        rekey(str(file), str(file), None, "new")
    assert file.read_bytes() == before


# Time -----------------------------------------------------------------------------------------------------------------


def test_a_slow_read_is_given_up(store: Store) -> None:
    connection = store.database.connection()
    start = time.monotonic()
    with pytest.raises(errors.ReadTimeout, match="it.db could not be read in 0.2 seconds.*timeout="):
        with files.limited(connection, "it.db", 0.2):
            store.database.execute_sql(ENDLESS).fetchall()
    assert time.monotonic() - start < 30
    assert store.check() == []
    with files.limited(connection, "it.db", 0):
        store.database.execute_sql("SELECT 1").fetchall()  # which was over before anybody looked
    with pytest.raises(errors.Conflict), files.limited(connection, "it.db", 0.2):
        raise errors.Conflict("another error")


def circle(path: Path, table: str) -> None:
    """Make the pages of a table lead to each other: reading it never ends, though it has no more than twenty levels."""
    with sqlite3.connect(path) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        connection.executescript("CREATE TABLE filler (x); INSERT INTO filler VALUES (zeroblob(200000))")
        (first,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'filler'").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    levels = [root, *range(first + 1, first + 16)]
    with open(path, "r+b") as handle:
        leaf = None
        for number, below in zip(levels, levels[1:], strict=False):
            cells = b"".join(below.to_bytes(4, "big") + bytes([n + 1]) for n in range(100))
            start = 4096 - len(cells)
            pointers = b"".join((start + 5 * n).to_bytes(2, "big") for n in range(100))
            head = b"\x05\0\0" + (100).to_bytes(2, "big") + start.to_bytes(2, "big") + b"\0" + below.to_bytes(4, "big")
            page = head + pointers
            handle.seek(4096 * (number - 1))
            handle.write(page + bytes(start - len(page)) + cells)
            leaf = below
        assert leaf is not None
        handle.seek(4096 * (leaf - 1))
        handle.write(b"\x0d\0\0\0\0\x10\0\0" + bytes(4088))


def test_pages_in_circles_hang_nobody(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path / "mine.db") as mine:
        mine.settings.ensure("other", 1)
    circle(file, "studios")
    code = """if True:
        import sys
        from scanstore import Store, errors, check_db_health
        from scanstore.db import files
        from scanstore.maintenance import backup
        files.SECONDS = 1.0
        for call in (
            lambda: Store(sys.argv[1]).check(),
            lambda: Store(sys.argv[2]).merge(sys.argv[1], timeout=1),
            lambda: backup.verify(sys.argv[1], timeout=1),
            lambda: backup.restore(sys.argv[1], sys.argv[2] + "-restored"),
            lambda: check_db_health(sys.argv[1], thorough=True).problems,
        ):
            try:
                print("fine", repr(call()).replace("\\n", " "))
            except errors.ScanstoreError as error:
                print(type(error).__name__, str(error).replace("\\n", " "))
    """
    told = subprocess.run(
        [sys.executable, "-c", code, str(file), str(tmp_path / "mine.db")], capture_output=True, text=True,
        timeout=LIMIT, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert len(lines) == 5 and "damaged" in lines[0] and "damaged" in lines[4], lines
    assert lines[1].startswith(("ReadTimeout", "Damaged")) and all(line.startswith("Damaged") for line in lines[2:4])
    with Store(tmp_path / "mine.db") as mine:
        assert mine.check() == [] and mine.settings.get("other") == 1


def test_time_for_a_file_grows_with_it(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"")
    assert files.seconds_for(str(path)) == 30
    os.truncate(path, 10_000_000)
    assert files.seconds_for(str(path)) == 40 and files.seconds_for(str(path), 7) == 7


# Fingerprints and pragmas ---------------------------------------------------------------------------------------------


def test_the_fingerprints_are_those_of_the_migrations() -> None:
    """After a migration was added: python -m scanstore.db.schema"""
    with open(schema.FINGERPRINTS, encoding="utf-8") as there:
        assert schema.fingerprints() == there.read(), "write them anew with: python -m scanstore.db.schema"
    assert set(fingerprints.WHOLE) == set(range(SCHEMA_VERSION + 1))


def test_every_way_to_a_version_gives_its_fingerprint(tmp_path: Path) -> None:
    """Step by step, down and up again, and with the SQLite of another library."""
    path = tmp_path / "steps.db"
    for version in [*range(1, SCHEMA_VERSION + 1), *range(SCHEMA_VERSION, 0, -1)]:
        migrations.up(path, to=version, backup=False)
        migrations.down(path, to=version, backup=False)
        connection = connect(str(path), "mode=ro")
        assert foreign_schema.foreign(connection, version) == []
        connection.close()
    Store(path).close()
    connection = connect(str(path), "mode=ro")
    assert schema_digest.whole(connection) == fingerprints.WHOLE[SCHEMA_VERSION]
    connection.close()
    pytest.importorskip("sqlcipher3")
    secret = tmp_path / "secret.db"
    migrations.up(secret, key=RAW)
    connection = connect(str(secret), "mode=ro", key=RAW)
    assert schema_digest.whole(connection) == fingerprints.WHOLE[SCHEMA_VERSION]
    connection.close()


def test_every_connection_is_careful(store: Store, tmp_path: Path) -> None:
    trusted = 0 if "trusted" in files.careful(sqlite3.connect) else 1
    assert trusted == (sqlite3.sqlite_version_info < (3, 41))
    with closing(connect(store.path, "mode=ro")) as connection:
        for run in (store.database.execute_sql, connection.execute):
            assert run("PRAGMA cell_size_check").fetchone() == (1,)
            assert run("PRAGMA trusted_schema").fetchone() == (trusted,)


def test_encrypted_connections_are_careful(tmp_path: Path) -> None:
    pytest.importorskip("sqlcipher3")
    with Store(tmp_path / "secret.db", key=RAW) as store:
        run: Any = store.database.execute_sql
        assert run("PRAGMA cell_size_check").fetchone() == (1,) and run("PRAGMA trusted_schema").fetchone() == (0,)
        store.jobs.enqueue("sync")  # its columns are checked to be JSON
        assert store.check() == []


def test_health_names_what_is_foreign(file: Path) -> None:
    spoil(file, FOREIGN["a trigger"][0])
    health = check_db_health(file)
    assert not health.ok and "trigger evil" in health.problems[0]
