"""A repair is whole only if nothing is missing, and says what may be; logs and a user's own tables are saved too."""

from __future__ import annotations

import random
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from stressing import SEED, chance, fill, rounds
from test_repair import assert_sound, content, overwrite, pages_of, saved

from scanstore import Store
from scanstore.cli import main
from scanstore.errors import Damaged, InvalidArgument, NotAScanstore, NotFound, WrongKey
from scanstore.maintenance.repair.repair import DERIVED, Repaired, repair
from scanstore.maintenance.repair.write_ahead_log import checksum

NOISE = random.Random(7).randbytes(4096)


@pytest.fixture
def full(tmp_path: Path) -> Path:
    fill(tmp_path / "full.db")
    return tmp_path / "full.db"


@contextmanager
def editing(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection:
        yield connection
        connection.commit()


def rows_of(path: Path) -> dict[str, set[str]]:
    """The rows that a repair should save."""
    return {name: rows for name, rows in content(path).items() if name not in (*DERIVED, "sqlite_sequence")}


def missing(old: dict[str, set[str]], new: dict[str, set[str]]) -> set[str]:
    return {name for name, rows in old.items() if rows - new.get(name, set())}


def warned(done: Repaired, words: str) -> bool:
    return not done.whole and any(words in warning for warning in done.warnings)


# Every page


def test_no_page_is_lost_in_silence(full: Path, tmp_path: Path) -> None:
    """Whatever single page is gone, a repair is whole only if every row is there, and names the tables that have lost
    any. SCANSTORE_LONG=1 goes through all pages.
    """
    some, original, old = chance("repair pages"), full.read_bytes(), rows_of(full)
    pages = len(original) // 4096
    chosen = [(page, kind) for page in range(1, pages + 1) for kind in ("noise", "zeros")]
    start, step = some.randrange(40), max(len(chosen) // rounds(9, len(chosen)), 1)
    figures, rows = {"whole": 0, "rows missing": 0, "not whole, all there": 0, "of these with tables named": 0}, 0
    path, new = tmp_path / "damaged.db", tmp_path / "new.db"
    chosen = chosen[start % step :: step]
    for page, kind in chosen:
        path.write_bytes(original)
        overwrite(path, page, some.randbytes(4096) if kind == "noise" else bytes(4096))
        new.unlink(missing_ok=True)
        done = repair(path, new)
        there = rows_of(new)
        gone = missing(old, there)
        assert not (done.whole and gone), (page, kind, gone)
        assert gone <= set(done.affected), (page, kind, gone, done.affected)
        assert done.whole or page in [unread.page for unread in done.unread], (page, kind)
        rows += sum(len(old[name] - there.get(name, set())) for name in gone)
        figures["whole"] += done.whole
        figures["rows missing"] += bool(gone)
        figures["not whole, all there"] += not done.whole and not gone
        figures["of these with tables named"] += not done.whole and not gone and bool(done.affected)
    print(f"\nseed {SEED}: {len(chosen)} of {2 * pages} damaged pages: {figures}; {rows} rows lost")


def test_a_sound_store_with_rows_in_every_table_is_whole(full: Path, tmp_path: Path) -> None:
    done = repair(full, tmp_path / "new.db")
    assert done.whole and (done.unread, done.affected, done.left_out, done.warnings) == ([], [], [], [])
    assert missing(rows_of(full), rows_of(tmp_path / "new.db")) == set()
    again = repair(tmp_path / "new.db", tmp_path / "again.db")
    assert again.whole and rows_of(tmp_path / "again.db") == rows_of(tmp_path / "new.db")


def test_a_sound_empty_store_is_whole(tmp_path: Path) -> None:
    Store(tmp_path / "empty.db").close()
    done = repair(tmp_path / "empty.db", tmp_path / "new.db")
    assert done.whole and sum(table.rows for table in done.tables) == 0
    assert_sound(tmp_path / "new.db")


@pytest.mark.parametrize("mode", ["FULL", "INCREMENTAL"])
def test_pages_that_say_where_others_hang_hold_no_rows(full: Path, tmp_path: Path, mode: str) -> None:
    with editing(full) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute(f"PRAGMA auto_vacuum={mode}")
        connection.execute("VACUUM")
    overwrite(full, 2)
    assert repair(full, tmp_path / "new.db").whole
    assert missing(rows_of(full), rows_of(tmp_path / "new.db")) == set()


# The shape of the file


def with_free_pages(path: Path) -> tuple[int, list[int]]:
    """Delete rows of many pages; return the first page of the list of free pages, and the pages that it lists."""
    with Store(path) as store:
        for n in range(30):
            store.settings.set(f"key{n}", "x" * 3000)
        for n in range(30):
            store.settings.remove(f"key{n}")
    data = path.read_bytes()
    (trunk,) = struct.unpack_from(">I", data, 32)
    (count,) = struct.unpack_from(">I", data, (trunk - 1) * 4096 + 4)
    assert count > 10
    return trunk, list(struct.unpack_from(f">{count}I", data, (trunk - 1) * 4096 + 8))


def test_a_free_page_holds_nothing_that_could_be_lost(full: Path, tmp_path: Path) -> None:
    _, leaves = with_free_pages(full)
    for page, data in zip(leaves, (NOISE, bytes(4096)), strict=False):
        overwrite(full, page, data)
    done = repair(full, tmp_path / "new.db")
    assert done.whole and missing(rows_of(full), rows_of(tmp_path / "new.db")) == set()


@pytest.mark.parametrize("data", [NOISE, bytes(4096)], ids=["noise", "zeros"])
def test_a_damaged_list_of_free_pages_is_said(full: Path, tmp_path: Path, data: bytes) -> None:
    trunk, leaves = with_free_pages(full)
    overwrite(full, trunk, data)
    done = repair(full, tmp_path / "new.db")
    assert warned(done, "list of free pages")
    assert {trunk, *leaves} == {unread.page for unread in done.unread}
    assert missing(rows_of(full), rows_of(tmp_path / "new.db")) == set()


def test_a_file_that_is_cut_off_is_never_whole(full: Path, tmp_path: Path) -> None:
    _, leaves = with_free_pages(full)
    data, old = full.read_bytes(), rows_of(full)
    pages = len(data) // 4096
    for keep in (pages - 1, pages - 2, max(leaves)):
        cut = tmp_path / f"{keep}.db"
        cut.write_bytes(data[: keep * 4096 - 10])
        done = repair(cut, tmp_path / f"{keep}-new.db")
        assert warned(done, "cut off")
        assert missing(old, rows_of(tmp_path / f"{keep}-new.db")) <= set(done.affected)


def leaf_with(path: Path, table: str, least: int = 2) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(
            connection.execute(
                "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' AND ncell >= ?", (table, least)
            ).fetchone()[0]
        )


def test_a_page_with_fewer_rows_than_it_had_is_noticed(full: Path, tmp_path: Path) -> None:
    """Its cells do not fill it any more, whether or not an index has one for each row."""
    for table in ("names", "users", "audit_findings", "symbol_facts"):
        path = tmp_path / f"{table}.db"
        shutil.copy(full, path)
        page = leaf_with(path, table, 1)
        data = bytearray(path.read_bytes()[(page - 1) * 4096 : page * 4096])
        data[3:5] = (int.from_bytes(data[3:5], "big") - 1).to_bytes(2, "big")
        overwrite(path, page, bytes(data))
        done = repair(path, tmp_path / f"new-{table}.db")
        assert not done.whole and table in done.affected, table


@pytest.mark.parametrize("target", ["another table", "a loop", "nowhere", "twice"])
def test_a_pointer_that_leads_astray(full: Path, tmp_path: Path, target: str) -> None:
    old = rows_of(full)
    with closing(sqlite3.connect(full)) as connection:
        (inner,) = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'symbol_facts' AND pagetype = 'internal'"
        ).fetchone()
    place = (inner - 1) * 4096 + 8  # the last page below
    data = bytearray(full.read_bytes())
    (first,) = struct.unpack_from(">H", data, place + 4)
    below = struct.unpack_from(">I", data, (inner - 1) * 4096 + first)[0]
    number = {"another table": leaf_with(full, "names"), "a loop": inner, "nowhere": 999_999, "twice": below}[target]
    struct.pack_into(">I", data, place, number)
    full.write_bytes(data)
    done = repair(full, tmp_path / "new.db")
    assert not done.whole and "symbol_facts" in done.affected
    assert missing(old, rows_of(tmp_path / "new.db")) == set(), "the page is found, though nothing leads to it"


def test_tables_that_the_list_of_tables_does_not_have_are_named(full: Path, tmp_path: Path) -> None:
    with editing(full) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("DELETE FROM sqlite_schema WHERE tbl_name IN ('jobs', 'scene_tags', 'scene_performers')")
    old = rows_of(full)
    done = repair(full, tmp_path / "new.db")
    assert not done.whole and {"jobs", "scene_tags", "scene_performers"} <= set(done.affected)
    # Rows of one shape are told apart by what they point at.
    assert missing(old, rows_of(tmp_path / "new.db")) == set()


def test_an_index_that_has_more_than_its_table_shows_what_is_lost(full: Path, tmp_path: Path) -> None:
    """A page that was written by an older state of the table makes sense by itself."""
    page = leaf_with(full, "users", 1)
    with Store(full) as store:
        before = full.read_bytes()[(page - 1) * 4096 : page * 4096]
        store.accounts.add("eve@example.org", hashed_password="$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g")
    overwrite(full, page, before)
    done = repair(full, tmp_path / "new.db")
    assert not done.whole and saved(done, "users").lost == 1 and done.affected == ["users"]


def test_a_counter_that_says_more_than_there_is_shows_it_too(full: Path, tmp_path: Path) -> None:
    with editing(full) as connection:
        connection.execute("UPDATE plan_counts SET count = count + 3")
    done = repair(full, tmp_path / "new.db")
    assert not done.whole and saved(done, "plan_changes").lost == 3 and done.affected == ["plan_changes"]


@pytest.mark.parametrize("which", ["text", "blob"])
def test_the_zeroed_end_of_a_row_is_no_end(full: Path, tmp_path: Path, which: str) -> None:
    with editing(full) as connection:
        connection.execute("CREATE TABLE own (a)")
        connection.execute("INSERT INTO own VALUES (?)", ("x" * 9000 if which == "text" else b"x" * 9000,))
        connection.execute("INSERT INTO own VALUES (zeroblob(30000))")
    assert repair(full, tmp_path / "sound.db").whole
    with closing(sqlite3.connect(full)) as connection:
        pages = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'own' AND pagetype = 'overflow' AND path LIKE '/000+%'"
            " ORDER BY path"
        ).fetchall()
    overwrite(full, pages[-1][0])
    done = repair(full, tmp_path / "new.db")
    assert not done.whole and saved(done, "own")[1:3] == (1, 1) and pages[-1][0] in [u.page for u in done.unread]


def test_a_store_of_which_only_the_list_of_tables_is_left(full: Path, tmp_path: Path) -> None:
    listed = {page for page, name in pages_of(full).items() if name == "sqlite_schema"}
    for page in range(1, full.stat().st_size // 4096 + 1):
        if page not in listed:
            overwrite(full, page)
    with pytest.raises(Damaged, match="nothing left"):
        repair(full, tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


def test_a_transaction_that_sqlite_would_take_back_is_said(full: Path, tmp_path: Path) -> None:
    with editing(full) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA cache_size=2")
        connection.execute("BEGIN")
        connection.execute("UPDATE settings SET value = '3'")
        connection.execute("UPDATE names SET text = text || 'x'")
        shutil.copy(full, tmp_path / "copy.db")
        shutil.copy(f"{full}-journal", tmp_path / "copy.db-journal")
        connection.rollback()
    done = repair(tmp_path / "copy.db", tmp_path / "new.db")
    assert warned(done, "copy.db-journal was not read")


# Rows that can be read


def test_a_row_that_had_to_be_changed_is_named_too(full: Path, tmp_path: Path) -> None:
    """The session counted a file that is lost, so that the row of the session is another one now."""
    overwrite(full, leaf_with(full, "file_uploads", 1))
    done = repair(full, tmp_path / "new.db")
    assert done.affected == ["analysis_sessions", "file_uploads"] and saved(done, "analysis_sessions").lost == 0
    assert done.problems == []


@pytest.mark.parametrize(
    "time", ["2026-02-30T00:00:00.000Z", "2026-01-01T00:71:00.000Z", "soon", "0001-01-01T00:00+14:00"]
)
def test_a_row_with_a_time_that_is_none_is_lost(full: Path, tmp_path: Path, time: str) -> None:
    with editing(full) as connection:
        connection.execute("UPDATE settings SET updated_at = ? WHERE key = (SELECT min(key) FROM settings)", (time,))
    done = repair(full, tmp_path / "new.db")
    assert not done.whole and saved(done, "settings").lost == 1 and done.affected == ["settings"]
    with Store(tmp_path / "new.db") as store:
        assert len(store.settings.to_dict()) == saved(done, "settings").rows and store.check() == []


# Logs


def logged(path: Path) -> tuple[Path, dict[str, set[str]]]:
    """A store of which a good part is only in its log."""
    with Store(path) as store:
        store.settings.set("old", 1)
        store.optimize()
        for n in range(20):
            store.settings.set(f"key{n}", "x" * 500)
        copy = path.with_name("copy.db")
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
    return copy, rows_of(path)


def unlogged(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


@pytest.mark.parametrize("state", ["zero-length", "missing", "set aside", "set aside, by its own name"])
def test_a_log_alone_is_saved(tmp_path: Path, state: str) -> None:
    copy, old = logged(tmp_path / "s.db")
    given = copy
    if state == "zero-length":
        copy.write_bytes(b"")
    else:
        copy.unlink()
    if state.startswith("set aside"):
        unlogged(copy).rename(f"{copy}-wal.orphaned")
    if state.endswith("name"):
        given = Path(f"{copy}-wal.orphaned")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = repair(given, tmp_path / "new.db")
    new = rows_of(tmp_path / "new.db")
    assert old["settings"] - new["settings"] == set() and len(new["settings"]) == 21
    assert not done.whole and done.unread, "the other pages were never in the log"
    assert {path: path.read_bytes() for path in before} == before
    assert_sound(tmp_path / "new.db")
    if state == "set aside":
        shutil.copy(f"{copy}-wal.orphaned", f"{copy}-wal.orphaned-2")
        with pytest.raises(InvalidArgument, match="orphaned, .*orphaned-2"):
            repair(given, tmp_path / "other.db")


def test_a_log_that_holds_every_page_is_a_whole_store(full: Path, tmp_path: Path) -> None:
    with Store(full) as store:
        store.settings.set("a", 1)
    old = rows_of(full)
    frames = [full.read_bytes()[at : at + 4096] for at in range(0, full.stat().st_size, 4096)]
    head = struct.pack(">6I", 0x377F0682, 3007000, 4096, 0, 5, 9)
    sums = checksum("<", head)
    log = head + struct.pack(">2I", *sums)
    for number, page in enumerate(frames, 1):
        first = struct.pack(">2I", number, len(frames) * (number == len(frames)))
        sums = checksum("<", page, checksum("<", first, sums))
        log += first + struct.pack(">4I", 5, 9, *sums) + page
    full.write_bytes(b"")
    unlogged(full).write_bytes(log)
    done = repair(full, tmp_path / "new.db")
    assert done.whole and missing(old, rows_of(tmp_path / "new.db")) == set()


def test_without_file_and_log_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        repair(tmp_path / "none.db", tmp_path / "new.db")
    (tmp_path / "none.db").touch()
    for log in (b"", b"noise", NOISE):
        unlogged(tmp_path / "none.db").write_bytes(log)
        with pytest.raises((NotAScanstore, Damaged)):
            repair(tmp_path / "none.db", tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


def frames_of(log: Path) -> list[int]:
    return list(range(32, log.stat().st_size - 4119, 4120))


@pytest.mark.parametrize("part", ["a page", "a frame's header", "the log's header", "zeros"])
def test_of_a_damaged_log_as_much_is_read_as_sqlite_would(tmp_path: Path, part: str) -> None:
    copy, _ = logged(tmp_path / "s.db")
    log = unlogged(copy)
    places = frames_of(log)
    at = places[len(places) // 2]
    with open(log, "r+b") as file:
        file.seek({"a page": at + 2000, "a frame's header": at, "the log's header": 0, "zeros": at}[part])
        file.write(bytes(4120) if part == "zeros" else NOISE[:24])
    shutil.copy(copy, tmp_path / "sqlite.db")
    shutil.copy(log, tmp_path / "sqlite.db-wal")
    done = repair(copy, tmp_path / "new.db")
    assert warned(done, "write-ahead log is damaged")
    assert rows_of(tmp_path / "new.db")["settings"] == content(tmp_path / "sqlite.db")["settings"]


def test_the_ends_of_a_log_that_are_no_damage(tmp_path: Path) -> None:
    """Frames of the log as it was before it was used again, and of a transaction that was never committed."""
    copy, old = logged(tmp_path / "s.db")
    log = unlogged(copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        connection.execute("UPDATE settings SET value = '2' WHERE key = 'old'")
        connection.commit()
        shutil.copy(copy, tmp_path / "again.db")
        shutil.copy(log, tmp_path / "again.db-wal")
        connection.execute("PRAGMA cache_size=5")
        connection.execute("CREATE TABLE own (a)")
        connection.execute(
            "INSERT INTO own WITH n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n WHERE a < 200)"
            " SELECT hex(zeroblob(1000)) || a FROM n"
        )
        connection.execute("SELECT count(*) FROM own").fetchone()
        shutil.copy(copy, tmp_path / "open.db")
        shutil.copy(log, tmp_path / "open.db-wal")
        connection.rollback()
    for name in ("again", "open"):
        done = repair(tmp_path / f"{name}.db", tmp_path / f"{name}-new.db")
        assert done.whole, (name, done.warnings, done.unread)
        new = rows_of(tmp_path / f"{name}-new.db")["settings"]
        assert len(new) == 21 and len(old["settings"] - new) == 1 and "own" not in new


# A user's own tables

OWN = """
CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, scan INTEGER REFERENCES scans (id), text TEXT NOT NULL);
CREATE TABLE "odd ""name" (a, b TEXT COLLATE NOCASE, "c d" REAL DEFAULT 1.5);
CREATE TABLE keyed (b TEXT, a INTEGER, c BLOB, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE typed (a INTEGER NOT NULL CHECK (a <> 7), b ANY, v INT AS (a * 2), s INT AS (a * 3) STORED, z TEXT) STRICT;
CREATE TABLE empty (a);
CREATE INDEX ix_notes_text ON notes (text) WHERE text <> '';
CREATE UNIQUE INDEX ix_typed ON typed (a, b);
CREATE INDEX ix_mine ON settings (json_extract(value, '$'));
"""


def add_own(path: Path) -> None:
    with editing(path) as connection:
        connection.executescript(OWN)
        for n in range(1, 400):
            connection.execute("INSERT INTO notes (scan, text) VALUES (?, ?)", (n % 3 or None, f"note {n} " * 9))
            connection.execute("INSERT INTO keyed VALUES (?, ?, ?)", (f"k{n}", -n, b"\0" * n))
        connection.execute("DELETE FROM notes WHERE id > 390")
        connection.execute("""INSERT INTO "odd ""name" (rowid, a, b) VALUES (77, 1, 'B'), (-5, NULL, 'c')""")
        connection.execute("INSERT INTO typed (a, b, z) VALUES (1, 1.5, 'x'), (2, x'00', NULL)")


def own_rows(path: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(path)) as connection:
        found: dict[str, Any] = {
            name: connection.execute(f"SELECT {what} FROM {name}").fetchall()
            for name, what in (
                ("notes", "*"), ('"odd ""name"', "rowid, *"), ("keyed", "*"), ("typed", "rowid, *"), ("empty", "*"),
            )
        }  # fmt: skip
        found["schema"] = connection.execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE name LIKE '%notes%' OR name IN"
            " ('odd \"name', 'keyed', 'typed', 'ix_typed', 'ix_mine', 'empty') ORDER BY name"
        ).fetchall()
        found["given"] = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'notes'").fetchall()
    return found


def test_a_users_own_tables_are_carried(full: Path, tmp_path: Path) -> None:
    add_own(full)
    old = own_rows(full)
    assert len(old["schema"]) == 8 and old["given"] == [(399,)]
    done = repair(full, tmp_path / "new.db")
    assert own_rows(tmp_path / "new.db") == old
    assert done.whole and saved(done, "notes") == ("notes", 390, 0, 0)
    with Store(tmp_path / "new.db") as store:
        assert store.check() == []


def test_a_row_that_breaks_a_rule_of_the_users_own_is_kept(full: Path, tmp_path: Path) -> None:
    add_own(full)
    with editing(full) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        connection.execute("INSERT INTO typed (a) VALUES (7)")
    done = repair(full, tmp_path / "new.db")
    assert own_rows(tmp_path / "new.db") == own_rows(full) and saved(done, "typed") == ("typed", 3, 0, 0)
    assert ["typed" in problem.what for problem in done.problems] == [True]


def test_what_is_lost_of_a_users_own_table_is_said(full: Path, tmp_path: Path) -> None:
    add_own(full)
    old = own_rows(full)
    for table in ("notes", "keyed"):
        path = tmp_path / f"{table}.db"
        shutil.copy(full, path)
        pages = [page for page, name in pages_of(path).items() if name == table]
        overwrite(path, pages[len(pages) // 2], NOISE)
        done = repair(path, tmp_path / f"new-{table}.db")
        new = own_rows(tmp_path / f"new-{table}.db")
        assert not done.whole and done.affected == [table] and 0 < len(new[table]) < len(old[table])
        assert set(new[table]) < set(old[table])
        assert all(new[name] == old[name] for name in old if name != table)


def test_what_cannot_be_carried_is_named(full: Path, tmp_path: Path) -> None:
    add_own(full)
    with editing(full) as connection:
        connection.executescript(
            """
            CREATE VIEW mine AS SELECT * FROM notes;
            CREATE TRIGGER hurt AFTER INSERT ON settings BEGIN DELETE FROM scenes; END;
            CREATE VIRTUAL TABLE words USING fts5 (text);
            INSERT INTO words VALUES ('one two');
            ALTER TABLE settings ADD COLUMN colour TEXT DEFAULT 'red';
            DROP TRIGGER tr_jobs_status;
            CREATE TRIGGER tr_jobs_status BEFORE UPDATE ON jobs BEGIN DELETE FROM scenes; END;
            """
        )
    old = rows_of(full)
    done = repair(full, tmp_path / "new.db")
    left = {(each.kind, each.name) for each in done.left_out}
    shadows = {("table", f"words_{part}") for part in ("data", "idx", "content", "docsize", "config")}
    assert left == shadows | {
        ("view", "mine"), ("trigger", "hurt"), ("table", "words"), ("column", "settings.colour"),
        ("trigger", "tr_jobs_status"),
    }  # fmt: skip
    assert not done.whole and done.affected == [] and done.unread == [] and done.warnings == []
    new = rows_of(tmp_path / "new.db")
    assert missing({name: old[name] for name in new if name != "settings"}, new) == set()
    assert len(new["settings"]) == len(old["settings"]) and own_rows(tmp_path / "new.db") == own_rows(full)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE own AS WITH n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n) SELECT a FROM n",
        "DELETE FROM scenes",
        "CREATE TEMP TABLE own (a)",
        "CREATE TABLE other (a)",
        "ATTACH 'x.db' AS x",
    ],
)
def test_nothing_of_a_strangers_schema_runs_but_definitions(full: Path, tmp_path: Path, sql: str) -> None:
    with editing(full) as connection:
        connection.execute("CREATE TABLE own (a)")
        connection.execute("INSERT INTO own VALUES (1)")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'own'", (sql,))
    done = repair(full, tmp_path / "new.db")
    assert not done.whole and [(left.kind, left.name) for left in done.left_out] == [("table", "own")]
    new = rows_of(tmp_path / "new.db")
    assert len(new["scenes"]) == 3 and not {"own", "other"} & set(new)


def test_a_view_in_the_place_of_a_table_is_never_asked(full: Path, tmp_path: Path) -> None:
    with editing(full) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.executescript(
            "DROP TABLE scenes;"
            "CREATE VIEW scenes AS WITH n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n) SELECT * FROM n"
        )
    done = repair(full, tmp_path / "new.db")
    assert not done.whole and "scenes" in done.affected
    assert [(left.kind, left.name) for left in done.left_out] == [("view", "scenes")]


# Encrypted stores


def test_an_encrypted_store_gets_the_same_verdicts(tmp_path: Path) -> None:
    pytest.importorskip("sqlcipher3", reason="the extra scanstore[encryption] is not installed")
    key, file = "x'" + "ab" * 32 + "'", tmp_path / "s.db"
    with Store(file, key=key) as store:
        for n in range(60):
            store.settings.set(f"key{n}", f"{n}" * 300)
        store.optimize()
        store.settings.set("late", "mark")
        shutil.copy(file, tmp_path / "copy.db")
        shutil.copy(f"{file}-wal", tmp_path / "copy.db-wal")
    assert repair(tmp_path / "copy.db", tmp_path / "whole.db", key=key).whole
    data, verdicts = file.read_bytes(), set()
    some = chance("encrypted pages")
    for page in sorted(some.sample(range(2, len(data) // 4096 + 1), rounds(6, 60))):
        damaged = tmp_path / f"{page}.db"
        damaged.write_bytes(data)
        overwrite(damaged, page, some.choice((NOISE, bytes(4096))))
        done = repair(damaged, tmp_path / f"{page}-new.db", key=key)
        with Store(tmp_path / f"{page}-new.db", key=key) as store:
            lost = 61 - len(store.settings.to_dict())
        assert not (done.whole and lost) and (not lost or done.affected == ["settings"])
        assert done.whole or page in [unread.page for unread in done.unread]
        verdicts.add(done.whole)


@pytest.mark.parametrize("grown", [True, False])
def test_an_encrypted_log_alone_is_saved_if_it_has_the_first_page(tmp_path: Path, grown: bool) -> None:
    pytest.importorskip("sqlcipher3", reason="the extra scanstore[encryption] is not installed")
    key, file, copy = "x'" + "ab" * 32 + "'", tmp_path / "s.db", tmp_path / "copy.db"
    with Store(file, key=key) as store:
        store.settings.set("a", "b")
        store.optimize()
        store.settings.set("a", "c" * (9000 if grown else 1))
        shutil.copy(f"{file}-wal", f"{copy}-wal")
    copy.touch()
    before = unlogged(copy).read_bytes()
    if not grown:
        with pytest.raises(Damaged, match="first page"):
            repair(copy, tmp_path / "log.db", key=key)
    else:
        assert not repair(copy, tmp_path / "log.db", key=key).whole
        with Store(tmp_path / "log.db", key=key) as store:
            assert store.settings.get("a") == "c" * 9000
        with pytest.raises(WrongKey):
            repair(copy, tmp_path / "other.db", key="x'" + "cd" * 32 + "'")
    assert unlogged(copy).read_bytes() == before and copy.read_bytes() == b""


# The command


def test_the_command_names_pages_and_tables(full: Path, tmp_path: Path) -> None:
    add_own(full)
    with editing(full) as connection:
        connection.execute("CREATE VIEW mine AS SELECT 1")
    page = leaf_with(full, "notes")
    index = leaf_with(full, "ix_jobs_status", 1)
    overwrite(full, page, NOISE)
    overwrite(full, index, NOISE)
    result = CliRunner().invoke(main, ["repair", str(full), str(tmp_path / "new.db")])
    assert result.exit_code == 1
    for line in (
        f"{page} of notes", f"{index} of ix_jobs_status", "tables that may have lost rows: notes",
        "left out: view mine: views are not carried; create it again",
    ):  # fmt: skip
        assert line in result.output
    assert "nothing was found missing" not in result.output
