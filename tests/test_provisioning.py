"""Making, dropping and filling whole stores, and telling whether one can be worked with."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import needs
import pytest
from click.testing import CliRunner

import scanstore
from scanstore import (
    Busy,
    Conflict,
    InvalidArgument,
    MissingFolder,
    NotAScanstore,
    NotFound,
    Store,
    check_db_health,
    drop_db,
    init_db,
    provisioning,
    seed_db,
)
from scanstore.cli import main
from scanstore.db.database import SCHEMA_VERSION
from scanstore.db.files import APPLICATION_ID
from scanstore.models import ModelConfig, Performer, Scene, ScheduledTask, Setting, Studio, Tag
from scanstore.provisioning import SAMPLE, SECTIONS


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The path of a store with a row in it."""
    with Store(tmp_path / "s.db") as store:
        store.settings["x"] = 1
    return tmp_path / "s.db"


def files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# init


def test_init_makes_a_store_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert init_db(tmp_path / "s.db") == str(tmp_path / "s.db")
    with Store(tmp_path / "s.db", migrate=False) as store:
        store.settings["x"] = 1
    assert init_db(str(tmp_path / "s.db")) == str(tmp_path / "s.db")
    with Store(tmp_path / "s.db") as store:
        assert store.settings["x"] == 1 and store.check() == []
    monkeypatch.setenv("SCANSTORE_DB", str(tmp_path / "env.db"))
    assert init_db() == str(tmp_path / "env.db")
    assert files(tmp_path) == ["env.db", "s.db"]


def test_init_refuses_what_can_be_no_store(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to be taken for one" * 9)
    for path, error in ((tmp_path / "text", NotAScanstore), (tmp_path, NotAScanstore), (":memory:", InvalidArgument),
                        (tmp_path / "no/s.db", MissingFolder), ("", InvalidArgument)):  # fmt: skip
        with pytest.raises(error):
            init_db(path)
    assert files(tmp_path) == ["text"]


def test_init_migrates_an_older_one(made: Path) -> None:
    with Store(made) as store:
        store.migrate_down(4)
    init_db(made)
    assert check_db_health(made).ok


# drop


def test_drop_deletes_the_store_and_its_log_and_nothing_else(made: Path) -> None:
    with Store(made) as store:
        backup = store.migrate_down(4).backup
    (made.parent / "s.db.txt").write_text("mine")
    assert drop_db(made, confirm=True) == str(made)
    assert files(made.parent) == sorted(["s.db.txt", os.path.basename(backup)])
    with pytest.raises(NotFound, match="does not exist, so it cannot be dropped"):
        drop_db(made, confirm=True)


def test_drop_takes_a_log_that_a_crash_left(made: Path) -> None:
    code = "import os, sys; from scanstore import Store; s = Store(sys.argv[1]); s.settings['y'] = 2; os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(made)], check=False).returncode == 9
    assert "s.db-wal" in files(made.parent)
    drop_db(made, confirm=True)
    assert files(made.parent) == []


@pytest.mark.parametrize("confirm", [False, None, 1, "yes"])
def test_drop_wants_to_be_told_twice(made: Path, confirm: Any) -> None:
    with pytest.raises(InvalidArgument, match="deletes everything in .*confirm=True"):
        drop_db(made, confirm=confirm)
    assert files(made.parent) == ["s.db"]


def test_drop_refuses_other_files(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    (tmp_path / "text").write_text("not a database, but long enough to be taken for one" * 9)
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    before = files(tmp_path)
    for name in before:
        with pytest.raises(NotAScanstore):
            drop_db(tmp_path / name, confirm=True)
    assert files(tmp_path) == before


def test_drop_refuses_a_store_that_is_open_here(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanstore.provisioning.PATIENCE", 0.01)
    with Store(made) as store:
        with pytest.raises(Busy, match="is in use, so it is not dropped; close it everywhere first"):
            drop_db(made, confirm=True)
        store.settings["x"] = 2
    with Store(made) as store:
        assert store.settings["x"] == 2 and store.check() == []
    drop_db(made, confirm=True)


@pytest.mark.parametrize("options", ["", ", read_only=True"])
def test_drop_refuses_a_store_that_is_open_elsewhere(made: Path, options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanstore.provisioning.PATIENCE", 0.01)
    code = f"import sys; from scanstore import Store; s = Store(sys.argv[1]{options}); print(s.settings['x']); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(made)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "1\n"
    with pytest.raises(Busy):
        drop_db(made, confirm=True)
    process.communicate("\n", timeout=30)
    with Store(made) as store:
        assert store.settings["x"] == 1
    drop_db(made, confirm=True)
    assert files(made.parent) == []


# health


def test_a_healthy_store(made: Path) -> None:
    before = made.read_bytes()
    found = check_db_health(made)
    assert found.ok and found.problems == [] and found.path == str(made) and found.writable
    assert (found.schema_version, found.sqlite) == (SCHEMA_VERSION, sqlite3.sqlite_version)
    assert found.bytes == len(before) and made.read_bytes() == before
    assert found.unchecked == ["the contents of rows and indexes"]
    complete = found._replace(unchecked=["whether the full-text indexes fit their texts"])
    assert check_db_health(made, thorough=True) == complete


def test_what_is_in_the_way_is_told_not_raised(made: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to be taken for one" * 9)
    (tmp_path / "empty").touch()
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    for path, version in ((old, 1), (new, 999)):
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE t (x)")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
    cases = {
        tmp_path / "none.db": "does not exist; make it with init_db (scanstore init)", tmp_path / "text": "is not a",
        tmp_path / "empty": "is empty; make a store of it", tmp_path: "is a folder",
        tmp_path / "no/s.db": "needs the folder",
        old: "has schema 1 and this scanstore needs", new: "install a newer scanstore", ":memory:": "name a file",
        "": "is not a path",
    }  # fmt: skip
    before = files(tmp_path)
    for path, problem in cases.items():
        found = check_db_health(path)
        assert not found.ok and found.schema_version is None and found.unchecked == ["the whole file"]
        assert len(found.problems) == 1 and problem in found.problems[0]
    assert files(tmp_path) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def leave_a_log(path: Path) -> None:
    """Be killed with a change that is in the log alone."""
    code = (
        "import os, sys; from scanstore import Store; s = Store(sys.argv[1]); s.settings['left'] = 1;"
        " os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode != 0
    assert Path(f"{path}-wal").stat().st_size


@pytest.mark.parametrize("thorough", [False, True])
def test_health_leaves_no_file_beside_the_store(made: Path, tmp_path: Path, thorough: bool) -> None:
    before = contents(tmp_path)
    assert check_db_health(made, thorough=thorough).ok
    options = ["--thorough"] if thorough else []
    assert CliRunner().invoke(main, ["health", "--db", str(made), *options]).exit_code == 0
    assert contents(tmp_path) == before
    Path(f"{made}-wal").touch()  # such as a store that is open has before its first write
    before = contents(tmp_path)
    assert check_db_health(made, thorough=thorough).ok and contents(tmp_path) == before


def test_the_log_of_a_killed_process_is_read_and_stays(made: Path, tmp_path: Path) -> None:
    leave_a_log(made)
    before = contents(tmp_path)
    assert check_db_health(made, thorough=True).ok and sorted(contents(tmp_path)) == sorted(before)
    after = contents(tmp_path)
    assert all(after[name] == before[name] for name in before if not name.endswith("-shm"))


def test_health_sees_a_store_that_others_write_meanwhile(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read without locks is read again once the file has changed."""
    looked = []
    real = provisioning._look

    def look(*args: Any, alone: bool) -> Any:
        looked.append(alone)
        found = real(*args, alone=alone)
        if alone:
            with Store(made) as store:
                store.settings["a"] = 1
        return found

    monkeypatch.setattr(provisioning, "_look", look)
    assert check_db_health(made).ok and looked == [True, False]


@pytest.mark.skipif(not needs.is_root(), reason="needs root to become somebody else")
@pytest.mark.parametrize("log", [False, True])
def test_health_in_a_folder_that_may_only_be_read(tmp_path: Path, made: Path, log: bool) -> None:
    if log:
        leave_a_log(made)
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name) / "place"
        folder.mkdir()
        for file in tmp_path.glob(f"{made.name}*"):
            Path(shutil.copy(file, folder)).chmod(0o444)
        Path(name).chmod(0o755)
        folder.chmod(0o555)
        before = contents(folder)
        code = (
            "import os, sys; from scanstore import check_db_health as look, Store; look(sys.argv[2], thorough=True);"
            " os.setgid(65534); os.setuid(65534);"
            " found = look(sys.argv[1], thorough=True); print(found.ok, found.writable, found.problems)"
        )
        command = [sys.executable, "-c", code, str(folder / made.name), str(made)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stdout.startswith("True False") or log and "changes waiting" in done.stdout, done
        assert contents(folder) == before


def test_a_file_that_was_cut_off_is_not_healthy(made: Path) -> None:
    with open(made, "r+b") as file:
        file.truncate(4096 * 40)
    found = check_db_health(made)
    assert not found.ok and "restore a backup" in found.problems[0]


def pages_of_rows(path: Path) -> list[int]:
    """Fill a store with rows, and return the numbers of leaf pages of its largest table."""
    with Store(path) as store:
        for number in range(100):
            store.settings[f"key {number}"] = "x" * 3000
    with sqlite3.connect(path) as connection:
        sql = "SELECT pageno FROM dbstat WHERE name = 'settings' AND pagetype = 'leaf' ORDER BY pageno"
        found = [page for (page,) in connection.execute(sql)]
    connection.close()
    return found


@pytest.mark.parametrize("damage", [bytes(4096), b"\xff" * 4096, bytes(8)])
def test_a_damaged_page_of_rows_is_not_healthy(made: Path, damage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    page = pages_of_rows(made)[-5]
    with open(made, "r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(damage)
    found = check_db_health(made)
    assert not found.ok and "the file is damaged" in found.problems[0] and "scanstore repair" in found.problems[0]
    monkeypatch.setattr(provisioning, "QUICK", 1000)  # as for a large file
    large = check_db_health(made)
    assert large.ok and large.unchecked == ["most pages of the file", "the contents of rows and indexes"]
    told = CliRunner().invoke(main, ["health", "--db", str(made)]).stdout.splitlines()
    assert "no problems found" in told[0] and told[1].startswith("not checked: most pages of the file, the contents")
    assert told[1].endswith(f"check with: scanstore check --db {made}")
    assert not check_db_health(made, thorough=True).ok


def test_thorough_looks_for_damage(made: Path) -> None:
    with Store(made) as store:
        store.schedules.add("x", "sync", "* * * * *")
        store.database.execute_sql("UPDATE scheduled_tasks SET next_run = NULL")
    assert check_db_health(made).ok
    found = check_db_health(made, thorough=True)
    assert not found.ok and "schedules that are enabled without a next run" in found.problems[0]


# seed

FIRST = {
    "settings": {"page_size": 10, "colours": ["red"]},
    "studios": [{"id": "s", "name": "Studio"}],
    "performers": [{"id": "p", "name": "Performer"}],
    "tags": [{"id": "t", "name": "tag"}],
    "scenes": [{"id": "1", "title": "One", "studio": "s", "performers": ["p"], "tags": ["t"]}],
    "models": [{"name": "m", "max_concurrent": 3}],
    "schedules": [{"name": "nightly", "task_type": "sync", "schedule": "0 3 * * *"}],
}
ONES = {"settings": 2, "studios": 1, "performers": 1, "tags": 1, "scenes": 1, "models": 1, "schedules": 1}
TABLES = (Setting, Studio, Performer, Tag, Scene, ModelConfig, ScheduledTask)


def content() -> list[dict[str, Any]]:
    return [row.to_dict() for table in TABLES for row in table.select()]


def test_the_sample_shows_every_section(store: Store) -> None:
    added = seed_db(store)
    assert set(added) == set(SECTIONS) and all(added.values())
    scene = Scene.get_by_id("sc-1")
    assert scene.scene_date == datetime(2024, 5, 17, tzinfo=UTC) and scene.organized and scene.studio.name
    assert sorted(p.id for p in scene.performers) == ["pf-1", "pf-2"]
    assert store.schedules.run_due(now=datetime(2099, 1, 1, tzinfo=UTC)) == []
    assert store.check() == []


def test_again_it_adds_nothing_and_changes_nothing(store: Store) -> None:
    assert seed_db(store, FIRST) == ONES
    before = content()
    assert seed_db(store, FIRST) == dict.fromkeys(ONES, 0)
    assert content() == before
    assert store.check() == []


def test_what_was_changed_stays_and_what_is_missing_comes(store: Store) -> None:
    seed_db(store, FIRST)
    store.settings["page_size"] = 99
    store.llm.update("m", max_concurrent=7)
    store.schedules.update("nightly", schedule="0 5 * * *")
    store.library.upsert_scenes([{"id": "1", "title": "Mine", "tags": []}])
    Performer.update(name="Other").execute()
    store.schedules.remove("nightly")
    more = {**FIRST, "scenes": [*FIRST["scenes"], {"id": "2", "title": "Two", "performers": ["p"]}]}  # type: ignore[misc]
    assert seed_db(store, more) == {**dict.fromkeys(ONES, 0), "scenes": 1, "schedules": 1}
    assert store.settings["page_size"] == 99 and store.llm.get("m").max_concurrent == 7
    assert Scene.get_by_id("1").title == "Mine" and list(Scene.get_by_id("1").tags) == []
    assert Performer.get_by_id("p").name == "Other"
    assert store.check() == []


@pytest.mark.parametrize("name", ["first.json", "first.JSON", "first.toml"])
def test_files_and_paths(tmp_path: Path, name: str) -> None:
    text = Path(SAMPLE).read_text(encoding="utf-8") if name.endswith("toml") else json.dumps(FIRST)
    (tmp_path / name).write_text(text)
    added = seed_db(tmp_path / "s.db", tmp_path / name)
    assert added["studios"] == 1
    with Store(tmp_path / "s.db") as store:
        assert Scene.select().count() == added["scenes"]
        assert store.check() == []


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"setings": {}}, "has a section 'setings'; there may be: settings, studios"),
        ({"settings": []}, "settings in the source must be a table"),
        ({"tags": {"t": "x"}}, "tags in the source must be a list of tables"),
        ({"tags": ["x"]}, "tags in the source must be a list of tables"),
        ({"tags": [{"id": "t", "name": ""}]}, "name"),
        ({"tags": [{"name": "x"}]}, "id"),
        ({"scenes": [{"id": "1", "tags": [{"id": "t", "name": "x"}]}]}, "entry 1 of scenes: name its studio"),
        ({"schedules": [{"name": "x"}]}, "entry 1 of schedules: missing a required argument: 'task_type'"),
        ({"schedules": [{"name": "x", "task_type": "a", "schedule": "x"}]}, "write five fields"),
        ({"schedules": [{"name": "x", "when": 1}]}, "entry 1 of schedules: "),
        ({"models": [{"name": "x", "wings": 2}]}, "wings"),
        ({"models": [{"base_url": "x"}]}, "entry 1 of models: missing a required argument: 'name'"),
        ({"settings": {"": 1}}, "is no name of a setting"),
        ({"tags": [{"id": ["t"], "name": "x"}]}, "id"),
        ({"schedules": [{"name": {}, "task_type": "a", "schedule": "0 3 * * *"}]}, "name is {}"),
        ({"models": [{5: 1}]}, "entry 1 of models"),
    ],
)
def test_what_is_wrong_is_refused_and_nothing_written(store: Store, source: Any, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        seed_db(store, {"settings": {"a": 1}, "studios": [{"id": "s", "name": "S"}], **source})
    assert content() == []
    assert store.check() == []


def test_a_name_that_another_tag_has_is_a_conflict(store: Store) -> None:
    store.library.upsert_tags([{"id": "other", "name": "tag"}])
    with pytest.raises(Conflict):
        seed_db(store, FIRST)
    assert [row["id"] for row in content()] == ["other"]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.toml", "settings = ", "a.toml is not TOML"), ("a.json", "{", "a.json is not JSON"),
        ("a.json", "[]", "is no table of sections"), ("a.json", "[" * 100_000, "is not JSON"),
        ("a.toml", "a = '\xff'", "is not TOML"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_before_a_store_is_made(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidArgument, match=why):
        seed_db(tmp_path / "s.db", tmp_path / name)
    with pytest.raises(NotFound, match="there is no file"):
        seed_db(tmp_path / "s.db", tmp_path / "none.toml")
    assert files(tmp_path) == [name]


def test_the_functions_are_exported_lazily() -> None:
    code = "import sys, scanstore; print('scanstore.provisioning' in sys.modules); print(scanstore.init_db.__module__)"
    folder = Path(scanstore.__file__).parent.parent
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder).stdout
    assert out.split() == ["False", "scanstore.provisioning"]
