"""An encrypted store: nothing of it can be read without its key, everything works with it, and it can be changed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import needs
import pytest
from click.testing import CliRunner
from sampling import sampled
from stressing import RAW

from scanstore import (
    Busy,
    Conflict,
    Damaged,
    IllegalMove,
    InvalidArgument,
    NotAScanstore,
    Store,
    WrongKey,
    check_db_health,
    drop_db,
    init_db,
)
from scanstore.cli import main
from scanstore.maintenance import backup
from scanstore.maintenance.repair.repair import repair
from scanstore.maintenance.repair.sqlite_pages import Nonsense

KEY = "it's a \"key\"; --'"
WORD = "Pl4inW0rd"


def need() -> None:
    pytest.importorskip("sqlcipher3", reason="the extra scanstore[encryption] is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with a store for each key, made once: a connection takes long to work out what a passphrase means."""
    need()
    folders = {key: tmp_path_factory.mktemp("encrypted") for key in (KEY, RAW)}
    for key, folder in folders.items():
        (folder / "tree").mkdir()
        (folder / "tree/a.py").write_text(f"def {WORD}():\n    '''Say {WORD}.'''\n")
        with Store(folder / "s.db", key=key) as store:
            store.scans.record(folder / "tree", target="t")
            store.settings["word"] = WORD
            assert store.search(WORD) and store.check() == []
    return folders


@pytest.fixture
def file(tmp_path: Path, made: dict[str, Path]) -> Path:
    """A store with a passphrase."""
    shutil.copytree(made[KEY], tmp_path, dirs_exist_ok=True)
    return tmp_path / "s.db"


@pytest.fixture
def raw(tmp_path: Path, made: dict[str, Path]) -> Path:
    """A store with a raw key: for what does not depend on how the key is given."""
    shutil.copytree(made[RAW], tmp_path, dirs_exist_ok=True)
    return tmp_path / "s.db"


def readable(path: Path) -> bool:
    return any(WORD.encode() in each.read_bytes() for each in path.parent.glob(path.name + "*"))


def test_without_the_extra_a_key_is_refused_clearly(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['sqlcipher3'] = None\n"
        "from scanstore import Store\n"
        "try: Store(sys.argv[1], key='k')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "s.db"], capture_output=True, text=True, check=True)
    assert "pip install 'scanstore[encryption]'" in done.stdout and "'k'" not in done.stdout
    assert os.listdir(tmp_path) == []


def test_nothing_can_be_read_without_the_key(file: Path) -> None:
    with Store(file, key=KEY) as store:
        store.settings["more"] = WORD * 9
        assert not readable(file)  # the log neither
        assert all(map(needs.is_private, file.parent.glob("s.db*")))
    assert not readable(file) and file.read_bytes()[:6] != b"SQLite"
    before = file.read_bytes()
    with pytest.raises(NotAScanstore, match=r"or its key if it is encrypted \(key=, or \$SCANSTORE_KEY"):
        Store(file)
    for wrong in ("x", KEY + " "):
        with pytest.raises(WrongKey, match="cannot be read with this key") as caught:
            Store(file, key=wrong)
        assert not [word for word in str(caught.value).split() if word == wrong]
    assert file.read_bytes() == before and sorted(os.listdir(file.parent)) == ["s.db", "tree"]


@pytest.mark.parametrize("key", ["", "a\0b", 7, b"bytes", "\ud800"])
def test_bad_keys_are_refused(tmp_path: Path, key: Any) -> None:
    need()
    with pytest.raises(InvalidArgument, match="key is not usable"):
        Store(tmp_path / "s.db", key=key)
    assert os.listdir(tmp_path) == []


def test_everything_works_with_it(file: Path) -> None:
    with Store(file, key=KEY, slow_ms=0) as store:
        assert store.settings["word"] == WORD
        assert store.symbols.find(WORD) and store.search(WORD)
        stats = store.stats()
        assert (stats.scans, stats.lines) == (1, 2) and isinstance(stats.free, int)
        with pytest.raises(Conflict, match="such a row exists already"):
            store.database.execute_sql("INSERT INTO settings (key, value) VALUES ('word', '1')")
        with pytest.raises(RuntimeError), store.transaction():
            store.settings["word"] = "gone"
            raise RuntimeError
        assert store.settings["word"] == WORD
        store.jobs.enqueue("x")
        store.jobs.complete(store.jobs.claim("x")[0])
        store.dump(file.parent / "out.jsonl")
        assert store.check() == []
    with Store(file, key=KEY, read_only=True) as store:
        assert store.settings["word"] == WORD
    with Store(":memory:", key=KEY) as store:
        store.settings["a"] = 1


def test_the_environment_gives_the_key(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSTORE_KEY", KEY)
    with Store(file) as store:
        assert store.settings["word"] == WORD
    with Store(":memory:") as store:
        assert store.database.key is None
    result = CliRunner().invoke(main, ["settings", "get", "word", "--db", str(file)])
    assert result.exit_code == 0 and WORD in result.output


def test_migrations_and_their_backups_stay_encrypted(raw: Path) -> None:
    with Store(raw, key=RAW) as store:
        names = store.migrate_down(steps=1)
        assert names.backup is not None
    assert not readable(raw)
    with Store(names.backup, key=RAW) as copy:
        assert copy.settings["word"] == WORD
    with Store(raw, key=RAW) as store:
        assert store.settings["word"] == WORD and store.migrate_status()[-1].applied and store.check() == []


def test_copies_are_encrypted_and_can_be_put_back(raw: Path) -> None:
    copy = raw.parent / "copy.db"
    with Store(raw, key=RAW) as store:
        assert store.backup(copy).bytes > 0
        store.settings["word"] = "later"
        assert store.vacuum().after and store.optimize().after
    assert not readable(copy) and needs.is_private(copy)
    with Store(raw.parent / "other.db", key=RAW.replace("5a", "5b")) as other:
        with pytest.raises(InvalidArgument, match="not a copy of a store, or it has another key; give another path"):
            other.backup(copy)
    backup.restore(copy, raw, key=RAW)
    with Store(raw, key=RAW) as store:
        assert store.settings["word"] == WORD
    assert not readable(raw)


@pytest.mark.parametrize(("old", "new"), [(KEY, "other"), (RAW, None), (None, RAW)])
def test_rekey(request: pytest.FixtureRequest, old: str | None, new: str | None) -> None:
    file: Path = request.getfixturevalue("file" if old == KEY else "raw")
    if old is None:
        Store(file, key=RAW).rekey(None)
    store = Store(file, key=old)
    store.rekey(new)
    assert store.closed
    with Store(file, key=new) as again:
        assert again.settings["word"] == WORD and again.symbols.find(WORD) and again.search(WORD)
        again.settings["later"] = WORD
        assert again.check() == []
    assert readable(file) == (new is None)
    assert needs.is_private(file)
    assert sorted(os.listdir(file.parent)) == ["s.db", "tree"]
    if old != new:
        with pytest.raises((WrongKey, NotAScanstore)):
            Store(file, key=old)


def test_rekey_waits_for_nobody_and_harms_nobody(raw: Path) -> None:
    with Store(raw, key=RAW) as reader:
        for new in ("new", None):
            with pytest.raises(Busy, match="is open in this or another process"):
                Store(raw, key=RAW, timeout=0.1).rekey(new)
        reader.settings["word"] = WORD
    with Store(raw, key=RAW) as store:
        with store.transaction(), pytest.raises(IllegalMove, match="inside a transaction"):
            store.rekey("x")
        with pytest.raises(InvalidArgument, match="not usable"):
            store.rekey("")
        assert store.check() == []
    with Store(":memory:") as memory, pytest.raises(InvalidArgument, match="needs no other key"):
        memory.rekey("x")


@pytest.mark.parametrize("new", ["new", None])
def test_a_killed_rekey_leaves_the_old_key_or_the_new_one(file: Path, new: str | None) -> None:
    with Store(file, key=KEY) as store, store.transaction():
        for n in range(3000):
            store.settings[f"k{n}"] = os.urandom(200).hex()
    code = "import sys; from scanstore.db import encryption as e; print(flush=True); e.rekey(*sys.argv[1:4], {!r})"
    key: str | None = KEY
    for delay in (0.01, 0.4):  # while the key is made of the words, while pages are written
        process = subprocess.Popen(
            [sys.executable, "-c", code.format(new), file, "s.db", KEY], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for key in (KEY, new):
            try:
                with Store(file, key=key) as store:
                    assert len(store.settings) == 3001 and store.check() == []
                break
            except (WrongKey, NotAScanstore):
                continue
        else:
            pytest.fail("neither key opens it")
        if key == new:
            Store(file, key=new).rekey(KEY)


def test_the_command(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*args: str, given: str = "", code: int = 0) -> str:
        result = CliRunner().invoke(main, ["rekey", "--db", str(file), *args], input=given)
        assert result.exit_code == code, result.output
        assert "n3w" not in result.output and KEY not in result.output
        return result.output

    assert "set SCANSTORE_KEY" in run("--remove", code=2)
    assert "not both" in run("--remove", "--key-stdin", code=2)
    monkeypatch.setenv("SCANSTORE_KEY", KEY)
    assert "encrypted with the new key" in run("--key-stdin", given="n3w\n")
    assert "cannot be read with this key" in run("--key-stdin", given="x\n", code=1)
    monkeypatch.setenv("SCANSTORE_KEY", "n3w")
    assert "not usable" in run("--key-stdin", given="\n", code=1)
    assert '"encrypted": false' in run("--remove", "--json")
    monkeypatch.delenv("SCANSTORE_KEY")
    with Store(file) as store:
        assert store.settings["word"] == WORD
    assert "encrypted with the new key" in run(given="n3w\nn3w\n")


# Damage


def fill(file: Path, key: str) -> None:
    """Some hundred pages, of which the last settings are in the log alone, as a crash leaves it."""
    code = (
        "import os, sys; from scanstore import Store; s = Store(sys.argv[1], key=sys.argv[2], durability='normal')\n"
        "for part in (range(300), range(300, 320)):\n"
        "    s.optimize()\n"
        "    with s.transaction():\n"
        "        for n in part: s.settings[f'mark{n}'] = f'{n} ' * 200\n"
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, file, key], check=False).returncode == 9


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need()
    folder = tmp_path_factory.mktemp("filled")
    (folder / "a.py").write_text(f"def {WORD}():\n    return {WORD}\n")
    with Store(folder / "s.db", key=RAW) as store:
        store.scans.record(folder, jobs=1)
        store.settings["word"] = WORD * 50
    fill(folder / "s.db", RAW)
    return folder / "s.db"


@pytest.fixture
def damaged(filled: Path, tmp_path: Path) -> Path:
    """A copy that can be damaged."""
    for end in ("", "-wal"):
        shutil.copy(f"{filled}{end}", f"{tmp_path / 's.db'}{end}")
    return tmp_path / "s.db"


def rows(path: Path, key: str = RAW) -> dict[str, set[Any]]:
    tables = ("settings", "names", "symbol_facts", "scan_files", "scans")
    with Store(path, key=key) as store:
        assert store.check() == []
        run = store.database.execute_sql
        return {table: set(run(f"SELECT * FROM {table}").fetchall()) for table in tables}


def flip(file: Path, *places: int) -> None:
    data = bytearray(file.read_bytes())
    for place in places:
        data[place] ^= 1
    file.write_bytes(data)


def page_with(file: Path, text: bytes, key: str = RAW) -> int:
    from scanstore.maintenance.repair.sqlcipher_pages import Cipher

    data = file.read_bytes()
    cipher = Cipher(key, data[:16])
    pages = range(1, len(data) // 4096 + 1)
    return next(n for n in pages if text in cipher.page(n, data[n * 4096 - 4096 : n * 4096]))


@pytest.mark.parametrize("key", sampled([RAW, f"x'{'5a' * 32}{'0f' * 16}'", KEY], 3))
def test_of_a_sound_store_every_row_is_saved_and_nothing_is_written_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    need()
    file, new = tmp_path / "s.db", tmp_path / "new.db"
    with Store(file, key=key) as store:
        store.settings["word"] = WORD * 50
    fill(file, key)
    before, log = file.read_bytes(), Path(f"{file}-wal").read_bytes()
    seen = []
    check = repair.__globals__["_check"]

    def checking(partial: str, key: str) -> Any:
        seen.extend(each for each in tmp_path.iterdir() if each.name.startswith("new.db"))
        assert not any(WORD.encode() in each.read_bytes() for each in seen)
        return check(partial, key)

    monkeypatch.setattr("scanstore.maintenance.repair.repair._check", checking)
    done = repair(file, new, key=key)
    assert seen and done.whole and done.problems == []
    assert sorted(os.listdir(tmp_path)) == ["new.db", "s.db", "s.db-shm", "s.db-wal"]
    assert file.read_bytes() == before and Path(f"{file}-wal").read_bytes() == log
    assert not readable(new) and new.read_bytes()[:6] != b"SQLite" and needs.is_private(new)
    found = rows(new, key)
    assert found == rows(file, key) and len(found["settings"]) == 321


def test_what_is_left_of_a_damaged_store_is_saved(damaged: Path, tmp_path: Path) -> None:
    old = rows(damaged)  # and the log is in the file
    flip(damaged, page_with(damaged, b"mark77") * 4096 - 1000)
    done = Store.repair(damaged, tmp_path / "new.db", key=RAW)
    (lost,) = [table for table in done.tables if table.lost or table.bad_pages]
    assert lost.table == "settings" and 310 < lost.rows < 321 and lost.bad_pages == 1
    new = rows(tmp_path / "new.db")
    assert len(new["settings"]) == lost.rows and new["settings"] < old["settings"]
    assert {**new, "settings": None} == {**old, "settings": None}


def test_without_the_first_page_all_is_there_as_long_as_the_salt_is(damaged: Path, tmp_path: Path) -> None:
    old = rows(damaged)
    flip(damaged, 2000)
    with pytest.raises(WrongKey):
        Store(damaged, key=RAW)
    repair(damaged, tmp_path / "new.db", key=RAW)
    assert rows(tmp_path / "new.db") == old
    flip(damaged, 3)
    with pytest.raises(WrongKey, match="or restore a backup if that is the one"):
        repair(damaged, tmp_path / "other.db", key=RAW)
    assert "other.db" not in os.listdir(tmp_path)


def test_a_repair_that_cannot_be_leaves_nothing(damaged: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "plain.db") as plain:
        plain.settings["a"] = 1
    (tmp_path / "empty").touch()
    before = sorted(os.listdir(tmp_path))
    for path, key, error, why in (
        (damaged, "wr0ng", WrongKey, "cannot be read with this key"),
        (damaged, None, Damaged, "or give its key if it is encrypted"),
        (tmp_path / "plain.db", RAW, WrongKey, "is not encrypted"),
        (tmp_path / "empty", RAW, NotAScanstore, "shorter than a page"),
        (damaged, "", InvalidArgument, "not usable"),
    ):
        with pytest.raises(error, match=why) as caught:
            repair(path, tmp_path / "new.db", key=key)
        assert "wr0ng" not in str(caught.value) and RAW not in str(caught.value)
        assert sorted(os.listdir(tmp_path)) == before


def test_a_page_in_the_place_of_another_is_not_read(damaged: Path) -> None:
    data = damaged.read_bytes()
    from scanstore.maintenance.repair.sqlcipher_pages import Cipher

    cipher = Cipher(RAW, data[:16])
    page = data[8192:12288]
    assert cipher.page(3, page)
    with pytest.raises(Nonsense):
        cipher.page(4, page)


def test_the_command_repairs_with_the_key_of_the_environment(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new.db"
    refused = CliRunner().invoke(main, ["repair", str(damaged), str(new)])
    assert refused.exit_code == 1 and "give its key" in refused.output and not new.exists()
    monkeypatch.setenv("SCANSTORE_KEY", RAW)
    done = CliRunner().invoke(main, ["repair", str(damaged), str(new)])
    assert done.exit_code == 0 and "nothing was found missing" in done.output and RAW not in done.output
    assert rows(new) == rows(damaged)


@pytest.mark.parametrize("new", ["other", None])
def test_a_damaged_store_keeps_its_key(damaged: Path, tmp_path: Path, new: str | None) -> None:
    rows(damaged)
    flip(damaged, page_with(damaged, b"mark77") * 4096 - 1000)
    with pytest.raises(Damaged, match="scanstore repair"):
        Store(damaged, key=RAW).rekey(new)
    with Store(damaged, key=RAW) as store:
        assert store.settings["word"] == WORD * 50
    assert os.listdir(tmp_path) == ["s.db"]


# Beginning and end


def test_an_encrypted_store_is_made_looked_at_and_dropped_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need()
    file = tmp_path / "s.db"
    assert init_db(file, key=RAW) == str(file)
    assert check_db_health(file, key=RAW, thorough=True).ok and not check_db_health(file, key="x").ok
    fill(file, RAW)
    for key, error in ((None, NotAScanstore), ("x", WrongKey), ("", InvalidArgument)):
        with pytest.raises(error) as caught:
            drop_db(file, confirm=True, key=key)
        assert "needs its key" in str(caught.value) or key is not None
    monkeypatch.setattr("scanstore.provisioning.PATIENCE", 0.01)
    with Store(file, key=RAW) as store:
        with pytest.raises(Busy):
            drop_db(file, confirm=True, key=RAW)
        assert len(store.settings) == 320 and store.check() == []
    assert drop_db(file, confirm=True, key=RAW) == str(file)
    assert os.listdir(tmp_path) == []
    init_db(file)
    with pytest.raises(WrongKey, match="is not encrypted"):
        drop_db(file, confirm=True, key=RAW)
    drop_db(file, confirm=True)
    monkeypatch.setenv("SCANSTORE_KEY", RAW)
    init_db(file)
    fill(file, RAW)
    done = CliRunner().invoke(main, ["drop", "--yes", "--db", str(file)])
    assert done.exit_code == 0 and os.listdir(tmp_path) == [], done.output


def test_stores_of_the_same_key_are_merged(file: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "other.db", key=KEY) as other:
        other.settings["more"] = 1
    with Store(tmp_path / "plain.db") as plain:
        plain.settings["none"] = 1
    with Store(file, key=KEY) as store:
        assert store.merge(tmp_path / "other.db").added == 1
        with pytest.raises(WrongKey, match="is not encrypted"):
            store.merge(tmp_path / "plain.db")
        assert dict(store.settings) == {"word": WORD, "more": 1}
        assert store.check() == []
