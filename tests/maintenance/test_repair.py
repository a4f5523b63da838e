"""What is left of a damaged store is saved, what is lost is said, and what comes out of it is sound."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import needs
import pytest
from click.testing import CliRunner
from comparing import assert_same, shown
from sampling import sampled

from scanstore import Store
from scanstore.cli import main
from scanstore.db.database import SCHEMA_VERSION
from scanstore.errors import Damaged, InvalidArgument, MissingFolder, NewerSchema, NotAScanstore, NotFound, StorageError
from scanstore.maintenance.repair.repair import DERIVED, Repaired, repair
from scanstore.maintenance.repair.salvaged_tables import quoted
from scanstore.maintenance.repair.sqlite_pages import Nonsense, Pages

Rows = dict[str, set[str]]
NOTED = re.compile(r',?"unfinished":true| \(repaired\)')  # that a scan to come has to read files anew


DATES = ("2014", "2006-08", "2014-03-02", None)


def build(path: Path, tree: Path) -> None:
    """A store with rows of most kinds, on some hundred pages."""
    for n in range(40):
        body = "".join(
            f"def f{i}(a, b):\n    '''Part {i} of {n}.'''\n    return m{(n + i) % 40}.f{i}(a)\n" for i in range(12)
        )
        (tree / f"m{n}.py").write_text(f"import m{(n + 1) % 40}\n{body}")
    with Store(path) as store:
        store.scans.record(tree, jobs=1)
        (tree / "m3.py").write_text("def changed(): pass\n")
        scan = store.scans.analyze(store.scans.record(tree, jobs=1))
        store.llm.add("m", api_key="planted", analysis_prompt_template="p" * 9000)  # flows over
        draft = {"title": "t", "vulnerability_type": "x", "severity": "low", "line_number": 2, "reason": "r" * 500}
        for chunk in store.chunks.work(scan):
            with store.llm.call("m", purpose="analysis", chunk=chunk) as call:
                call.response = "[]"
            store.chunks.complete(chunk, drafts=[draft])
        for row in store.drafts.work(scan):
            store.drafts.record_votes(row, [{"model": "m", "decision": "verified"}])
        for verified in store.verified.work(scan):
            store.findings.publish(verified)
        for finding in store.findings.list(scan=scan)[:10]:
            store.findings.triage(finding, "confirmed", by="ann", reason="seen")
        with store.library.sync("scene") as run:
            store.library.upsert_scenes(
                [
                    {"id": str(n), "title": f"Scene {n}", "details": "d" * 900, "scene_date": DATES[n % 4]}
                    for n in range(200)
                ],
                run=run,
            )
        plan = store.plans.add("tidy")
        for n in range(100):
            store.plans.propose(plan, str(n), "title", "set", proposed=f"Better {n}")
        store.plans.submit(plan)
        for n in range(60):
            store.jobs.enqueue(f"type{n}", meta={"n": n, "text": "j" * 300})
            store.settings.set(f"key{n}", {"n": [n, None, 1.5, -n, 2**40, "ü" * n]})
        assert store.check() == []


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    (folder / "tree").mkdir()
    build(folder / "s.db", folder / "tree")
    return folder / "s.db"


@pytest.fixture
def damaged(sound: Path, tmp_path: Path) -> Path:
    shutil.copy(sound, tmp_path / "damaged.db")
    return tmp_path / "damaged.db"


def content(path: Path) -> Rows:
    connection = sqlite3.connect(path)
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0").fetchall()
    left_out = (
        "sqlite_stat", "finding_search", "symbol_search", "name_search", "search_changes", "migratehistory",
        "file_identity", "scan_figures", "scan_counts", "scan_groups",
    )  # fmt: skip
    found = {
        name: {NOTED.sub("", repr(row)) for row in connection.execute("SELECT * FROM " + quoted(name))}
        for (name,) in names
        if not name.startswith(left_out)
    }
    connection.close()
    return found


def pages_of(path: Path) -> dict[int, str]:
    """Which page belongs to which table or index."""
    connection = sqlite3.connect(path)
    found = dict(connection.execute("SELECT pageno, name FROM dbstat").fetchall())
    connection.close()
    return found


def overwrite(path: Path, page: int, data: bytes = b"\0" * 4096) -> None:
    with open(path, "r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(data)


def saved(done: Repaired, table: str) -> Any:
    return next(found for found in done.tables if found.table == table)


def assert_sound(path: Path) -> None:
    with Store(path) as store:
        assert store.check() == []
        store.search("part")  # the full-text index is made anew
        assert store.check() == []
    connection = sqlite3.connect(path)
    with Store(":memory:") as new:
        wanted = set(new.database.execute_sql("SELECT type, name, sql FROM sqlite_schema").fetchall())
    have = set(connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'"))
    connection.close()
    assert {row for row in wanted if "sqlite_stat" not in row[1]} == have  # triggers too


def test_of_a_sound_store_every_row_is_saved(damaged: Path, tmp_path: Path) -> None:
    before = damaged.read_bytes()
    done = repair(damaged, tmp_path / "new.db")
    assert done.whole and done.problems == [] and done.path == str(tmp_path / "new.db")
    assert damaged.read_bytes() == before
    old, new = content(damaged), content(tmp_path / "new.db")
    for name in set(old) - {"model_slots"}:
        assert new[name] == {row for row in old[name] if name != "work_counts" or not row.endswith(" 0)")}, name
    assert saved(done, "settings") == ("settings", 60, 0, 0)
    assert_sound(tmp_path / "new.db")
    assert not [name for name in os.listdir(tmp_path) if ".partial-" in name or name.startswith("new.db-")]
    assert needs.is_private(tmp_path / "new.db")


def test_a_lost_page_costs_its_rows_only_and_their_number_is_known(damaged: Path, tmp_path: Path) -> None:
    leaves = [page for page, name in pages_of(damaged).items() if name == "names"]
    connection = sqlite3.connect(damaged)
    pages = connection.execute(
        "SELECT pageno, ncell FROM dbstat WHERE name = 'names' AND pagetype = 'leaf' ORDER BY pageno"
    ).fetchall()
    total = connection.execute("SELECT count(*) FROM names").fetchone()[0]
    connection.close()
    page, rows = pages[len(pages) // 2]
    assert page in leaves
    overwrite(damaged, page)
    done = repair(damaged, tmp_path / "new.db")
    assert not done.whole
    assert saved(done, "names") == ("names", total - rows, rows, 1)
    assert saved(done, "settings").lost == 0
    assert done.problems == []
    assert_sound(tmp_path / "new.db")


@pytest.mark.parametrize("table", sampled(["symbol_facts", "reference_facts", "names", "scan_files"]))
def test_the_next_scan_misses_nothing_of_what_is_lost(damaged: Path, sound: Path, tmp_path: Path, table: str) -> None:
    pages = [page for page, name in pages_of(damaged).items() if name == table]
    for page in pages[1::3]:
        overwrite(damaged, page)
    done = repair(damaged, tmp_path / "new.db")
    assert not done.whole
    with Store(tmp_path / "new.db") as store, Store(tmp_path / "clean.db") as clean:
        of_all = [other.scans.record(sound.parent / "tree", jobs=1) for other in (store, clean)]
        first, second = (shown(other, scan.id) for other, scan in zip((store, clean), of_all, strict=True))
        assert_same(first, second, "after the repair, and in a new store")
        assert store.check() == []


@pytest.mark.parametrize("which", [0, -1])
def test_a_row_that_goes_on_on_a_lost_page_is_lost(damaged: Path, tmp_path: Path, which: int) -> None:
    connection = sqlite3.connect(damaged)
    pages = connection.execute(
        "SELECT pageno FROM dbstat WHERE name = 'model_configs' AND pagetype = 'overflow' ORDER BY path"
    ).fetchall()
    connection.close()
    overwrite(damaged, pages[which][0])
    done = repair(damaged, tmp_path / "new.db")
    assert saved(done, "model_configs").lost == 1 and done.problems == []
    assert_sound(tmp_path / "new.db")


def test_a_time_that_somebody_wrote_in_another_way_costs_no_row(damaged: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(damaged)
    connection.execute("UPDATE jobs SET run_at = '2026-11-22 01:46'")
    connection.commit()
    connection.close()
    done = repair(damaged, tmp_path / "new.db")
    assert saved(done, "jobs").lost == 0 and done.problems == []
    assert ["run_at" in warning for warning in done.warnings] == [True] and not done.whole
    with Store(tmp_path / "new.db") as store:
        assert {job.to_dict()["run_at"] for job in store.jobs.list()} == {"2026-11-22T01:46:00.000Z"}


def test_a_lost_inner_page_costs_no_row_of_the_pages_below(damaged: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(damaged)
    inner = connection.execute(
        "SELECT name, pageno FROM dbstat WHERE pagetype = 'internal' AND name IN ('names', 'scenes', 'file_versions')"
    ).fetchall()
    connection.close()
    assert {name for name, _ in inner} >= {"names", "scenes"}
    for _, page in inner:
        overwrite(damaged, page, b"\xff" * 4096)
    done = repair(damaged, tmp_path / "new.db")
    assert {name: saved(done, name).lost for name, _ in inner} == dict.fromkeys((name for name, _ in inner), 0)
    assert_sound(tmp_path / "new.db")


def test_without_the_first_page_all_is_there(damaged: Path, tmp_path: Path) -> None:
    overwrite(damaged, 1)
    repair(damaged, tmp_path / "new.db")
    old, new = content(damaged.parent / "new.db"), content(tmp_path / "new.db")
    assert old == new and len(new["settings"]) == 60 and len(new["scenes"]) == 200
    assert_sound(tmp_path / "new.db")


def flips(path: Path, chosen: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(chosen.choice((5, 50, 400))):
        data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    path.write_bytes(data)


def holes(path: Path, chosen: random.Random) -> None:
    count = os.path.getsize(path) // 4096
    for _ in range(chosen.choice((3, 30, 100))):
        overwrite(path, chosen.randrange(1, count + 1), chosen.choice((b"\0" * 4096, chosen.randbytes(4096))))


def cut(path: Path, chosen: random.Random) -> None:
    os.truncate(path, chosen.randrange(os.path.getsize(path) * 7 // 10, os.path.getsize(path)))


def swapped(path: Path, chosen: random.Random) -> None:
    data = path.read_bytes()
    count = len(data) // 4096
    for _ in range(10):
        overwrite(path, chosen.randrange(2, count + 1), data[(at := chosen.randrange(count) * 4096) : at + 4096])


def noise(path: Path, chosen: random.Random) -> None:
    """900 kB of it, in one piece."""
    length = min(900_000, os.path.getsize(path) // 2)
    with open(path, "r+b") as file:
        file.seek(chosen.randrange(os.path.getsize(path) - length))
        file.write(chosen.randbytes(length))


@pytest.mark.parametrize("seed", range(int(os.environ.get("SCANSTORE_REPAIRS", "1"))))
@pytest.mark.parametrize("damage", [flips, holes, cut, swapped, noise], ids=lambda f: f.__name__)
def test_whatever_happened_what_comes_out_is_sound_and_was_there(
    sound: Path, damaged: Path, tmp_path: Path, damage: Callable[[Path, random.Random], None], seed: int
) -> None:
    damage(damaged, random.Random(f"{damage.__name__}{seed}"))
    done = repair(damaged, tmp_path / "new.db")
    with Store(tmp_path / "new.db") as store:
        problems = store.check()
        assert sorted(p.what for p in problems) == sorted(p.what for p in done.problems)
        assert not [p for p in problems if "damaged" in p.what or "point at rows" in p.what], problems
    old, new = content(sound), content(tmp_path / "new.db")
    if damage is not flips:  # a flipped bit inside a text is another text
        lost = {name for name in old if name not in (*DERIVED, "sqlite_sequence") and old[name] - new[name]}
        assert not (done.whole and lost) and lost <= set(done.affected), lost - set(done.affected)
        for name in ("names", "settings", "lineages", "finding_events", "tags", "chunk_facts"):
            assert new[name] <= old[name], name
    for table in done.tables:
        assert table.rows == len(new[table.table])
        assert table.table not in DERIVED
    assert sum(map(len, new.values())) > 100


def test_what_is_only_in_the_log_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Store(path) as store:
        store.settings.set("old", 1)
        store.optimize()
        for n in range(50):
            store.settings.set(f"key{n}", "x" * 500)
        shutil.copy(path, tmp_path / "copy.db")
        shutil.copy(f"{path}-wal", tmp_path / "copy.db-wal")
    with open(tmp_path / "copy.db-wal", "ab") as log:
        log.write(b"half a frame")
    done = repair(tmp_path / "copy.db", tmp_path / "new.db")
    assert saved(done, "settings") == ("settings", 51, 0, 0) and done.whole
    assert_sound(tmp_path / "new.db")


def test_an_older_schema_is_saved_into_the_newest(damaged: Path, tmp_path: Path) -> None:
    with Store(damaged) as store:
        store.migrate_down(to=5)
    done = repair(damaged, tmp_path / "new.db")
    assert saved(done, "scenes").rows == 200 and done.problems == []
    assert_sound(tmp_path / "new.db")


def test_deleted_rows_do_not_come_back(damaged: Path, tmp_path: Path) -> None:
    with Store(damaged) as store:
        for n in range(60):
            store.settings.remove(f"key{n}")
        store.settings.set("only", "x" * 20_000)
    pages = [page for page, name in pages_of(damaged).items() if name == "scenes"]
    overwrite(damaged, pages[-1])
    done = repair(damaged, tmp_path / "new.db")
    assert saved(done, "settings").rows == 1
    with Store(tmp_path / "new.db") as store:
        assert store.settings.get("only") == "x" * 20_000


def test_ids_that_were_given_are_not_given_again(damaged: Path, tmp_path: Path) -> None:
    with Store(damaged) as store:
        last = store.plans.add("gone")
        store.plans.remove(last)
    repair(damaged, tmp_path / "new.db")
    with Store(tmp_path / "new.db") as store:
        assert store.plans.add("new").id > last.id


def test_refusals_leave_nothing(damaged: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    (tmp_path / "text").write_text("short")
    (tmp_path / "noise").write_bytes(random.Random(1).randbytes(40960))
    (tmp_path / "empty").touch()
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("PRAGMA application_id=77")
        other.execute("CREATE TABLE t (x)")
    other.close()
    shutil.copy(damaged, tmp_path / "newer.db")
    with sqlite3.connect(tmp_path / "newer.db") as newer:
        newer.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    newer.close()
    before = sorted(os.listdir(tmp_path))
    for name, error in (
        ("gone", NotFound), ("text", NotAScanstore), ("empty", NotAScanstore), ("noise", Damaged),
        ("other.db", NotAScanstore), ("newer.db", NewerSchema),
    ):  # fmt: skip
        with pytest.raises(error):
            Store.repair(tmp_path / name, new)
    with pytest.raises(InvalidArgument, match="exists"):
        repair(damaged, damaged)
    with pytest.raises(NotAScanstore, match="is no file"):
        repair(tmp_path, new)
    with pytest.raises(MissingFolder, match="create it"):
        repair(damaged, tmp_path / "no" / "new.db")
    assert sorted(os.listdir(tmp_path)) == before


def test_what_the_disk_does_not_give_is_a_page_that_is_lost(damaged: Path) -> None:
    pages = Pages(os.fspath(damaged))
    last = pages.count
    assert len(pages.page(last)) == 4096
    os.truncate(damaged, 4096 * (last - 1))
    with pytest.raises(Nonsense):
        pages.page(last)
    handle = pages._handle

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, "of this sector")

    pages._handle = Failing()  # type: ignore[assignment]
    with pytest.raises(Nonsense):
        pages.page(1)
    pages._handle = handle
    assert pages.page(1)
    pages.close()


def test_a_file_that_may_not_be_read(damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("scanstore.maintenance.repair.sqlite_pages.open", refusing, raising=False)
    with pytest.raises(StorageError, match="cannot be read: Permission denied"):
        repair(damaged, tmp_path / "new.db")
    assert os.listdir(tmp_path) == ["damaged.db"]


def test_command(damaged: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["repair", str(damaged), str(tmp_path / "a.db")])
    assert result.exit_code == 0 and "nothing was found missing" in result.output
    page = next(page for page, name in pages_of(damaged).items() if name == "scenes" and page > 3)
    overwrite(damaged, page)
    result = CliRunner().invoke(main, ["repair", str(damaged), str(tmp_path / "b.db")])
    assert result.exit_code == 1 and "scenes" in result.output and "unreadable" in result.output
    result = CliRunner().invoke(main, ["repair", str(damaged), str(tmp_path / "c.db"), "--json"])
    found = json.loads(result.output)
    assert result.exit_code == 1 and found["whole"] is False
    assert {"table", "rows", "lost", "bad_pages"} == set(found["tables"][0])
    assert "planted" not in result.output
