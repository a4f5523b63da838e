"""Crashes: a scan that is killed at any moment leaves a store that opens, checks clean and carries on.

Real processes, real signals. SCANSTORE_KILLS sets how often the long version kills.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stressing import Program

from scanstore.db.rules import change_rows
from scanstore.errors import NotAScanstore
from scanstore.indexing import pool
from scanstore.models import Scan, ScanFile
from scanstore.store import Store

FILES = 60


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many files that import and call each other, large enough for several commits."""
    root = tmp_path_factory.mktemp("crash") / "tree"
    root.mkdir()
    for n in range(FILES):
        lines = [f"from m{(n + 1) % FILES} import f0, Thing", f"import m{(n + 7) % FILES} as other", ""]
        for k in range(9):
            lines += [
                f"def f{k}(x: Thing):",
                f"    '''Does {k} things.'''",
                f"    other.f{(k + 1) % 9}(x)",
                "    return f0(x).go()",
                "",
            ]
        lines += [
            "class Thing:",
            "    def go(self):",
            "        return self.stop()",
            "    def stop(self):",
            "        return Thing()",
        ]
        (root / f"m{n}.py").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def clean(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    with Store(tmp_path_factory.mktemp("clean") / "scan.db", durability="normal") as store:
        return graph(store, store.scans.record(tree))


def graph(store: Store, scan: Scan) -> list[Any]:
    files = [
        (f.file_path, f.file_hash, f.status, f.error)
        for f in ScanFile.select().where(ScanFile.scan == scan).order_by(ScanFile.file_path)
    ]
    return [
        files,
        list(store.symbols.edges(scan)),
        store.scans.summary(scan)._replace(scan=0, target="", indexed=0, reused=0),
    ]


def start(db: Path, tree: Path, *, jobs: int | None = 1, code: str = "", **options: Any) -> subprocess.Popen[str]:
    """A process that records the tree; it says so when it begins and prints each batch as it goes."""
    script = f"""
        import sys
        from scanstore.store import Store
        def told(done, total, path):
            print(done, flush=True)
        {code}
        with Store({os.fspath(db)!r}, timeout=60) as store:
            print("open", flush=True)
            scan = store.scans.record({os.fspath(tree)!r}, jobs={jobs}, progress=told)
            print("completed", scan.id, flush=True)
    """
    if not options:
        return Program(textwrap.dedent(script), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def killed_scan_leaves_a_good_store(db: Path, status: tuple[str, ...]) -> None:
    """What must hold right after the kill, seen by SQLite itself and by us."""
    if not db.exists():
        return
    with sqlite3.connect(db) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
    raw.close()
    with Store(db, timeout=5) as store:
        assert store.check() == []
        for scan in store.scans.list():
            assert scan.status in status and (scan.status == "completed") == (scan.revision is not None)


OFTEN = "import scanstore.snapshots.tree_scan as t; t.FACTS_PER_COMMIT = 150"  # some thirty commits a scan


def kill_and_carry_on(db: Path, tree: Path, clean: list[Any], *, after: float, said: str | None, jobs: int) -> int:
    """Kill a scan some seconds after its start, or after it said something, then scan again; returns how many files
    the dead scan had recorded."""
    worker = start(db, tree, jobs=jobs, code=OFTEN)
    assert worker.stdout is not None
    while said is not None and (line := worker.stdout.readline()) and line.strip() != said:
        pass
    time.sleep(after)
    worker.send_signal(signal.SIGKILL)
    out, _ = worker.communicate()
    acknowledged = "completed" in out
    # The kill may fall between the last commit and the word about it: complete, but not acknowledged.
    killed_scan_leaves_a_good_store(db, ("running", "completed"))
    if not db.exists():
        assert not acknowledged
        return 0
    with Store(db, timeout=5, durability="normal") as store:
        dead = [scan for scan in store.scans.list() if scan.status == "running"]
        ended = any(scan.status == "completed" for scan in store.scans.list())
        assert ended or not acknowledged
        before = ScanFile.select().where(ScanFile.scan.in_([scan.id for scan in dead])).count() if dead else 0
        scan = store.scans.record(tree, jobs=1)
        assert graph(store, scan) == clean
        assert {s.status for s in store.scans.list() if s.id != scan.id} <= {"failed", "completed"}
        for other in store.scans.list(status="failed"):
            assert "ended before" in str(other.error) and other.revision is None
            store.scans.remove(other)
        assert list(store.symbols.edges(scan)) == clean[1]
        assert store.check() == []
        store.scans.remove(scan)
        if not ended:
            assert store.database.execute_sql("SELECT count(*) FROM file_versions").fetchone()[0] == 0
    return before


def kills(db: Path, tree: Path, clean: list[Any], times: int, seed: int) -> None:
    chance = random.Random(seed)
    began = time.monotonic()
    worker = start(db, tree)
    assert "completed" in worker.communicate()[0]
    whole = time.monotonic() - began
    partly = 0
    for n in range(times):
        for suffix in ("", "-wal", "-shm"):
            Path(f"{db}{suffix}").unlink(missing_ok=True)
        if n % 2:  # evenly over the run, with some chance: imports, migration, walking, indexing, resolving
            said, moment = None, whole * (n + chance.random()) / times
        else:  # among the commits
            said, moment = str(chance.randrange(1, FILES)), chance.random() * 0.02
        partly += 0 < kill_and_carry_on(db, tree, clean, after=moment, said=said, jobs=1 + n // 2 % 2) < FILES
    assert partly, "no kill came between two commits"


@pytest.mark.no_cover
def test_a_scan_killed_at_any_moment_leaves_a_good_store_and_the_next_one_carries_on(
    db_path: Path, tree: Path, clean: list[Any]
) -> None:
    kills(db_path, tree, clean, 6, seed=1)


@pytest.mark.slow
@pytest.mark.skipif("SCANSTORE_KILLS" not in os.environ, reason="set SCANSTORE_KILLS=100 for many more")
def test_a_scan_killed_very_often(db_path: Path, tree: Path, clean: list[Any]) -> None:
    kills(db_path, tree, clean, int(os.environ["SCANSTORE_KILLS"]), seed=int(time.time()))


def test_a_scan_killed_between_two_commits_keeps_what_was_recorded(db_path: Path, tree: Path, clean: list[Any]) -> None:
    """The files of the dead scan's commits are not read again by the next one."""
    worker = start(db_path, tree, code=OFTEN)
    assert worker.stdout is not None
    for line in worker.stdout:
        if line.strip() == "45":
            break
    worker.kill()
    worker.communicate()
    killed_scan_leaves_a_good_store(db_path, ("running",))
    with Store(db_path) as store:
        (dead,) = store.scans.list()
        recorded = ScanFile.select().where(ScanFile.scan == dead).count()
        assert 0 < recorded < FILES
        assert store.scans.list(status="completed") == []
        scan = store.scans.record(tree, jobs=1)
        assert store.scans.summary(scan).indexed == FILES - recorded
        assert graph(store, scan) == clean
        assert store.scans.get(dead).status == "failed"


def test_killed_scans_do_not_disturb_the_completed_one(db_path: Path, tree: Path, clean: list[Any]) -> None:
    with Store(db_path, durability="normal") as store:
        whole = store.scans.record(tree, jobs=1)
    for line in ("open", str(FILES)):
        worker = start(db_path, tree)
        assert worker.stdout is not None
        for said in worker.stdout:
            if said.strip() == line:
                break
        worker.kill()
        worker.communicate()
        with Store(db_path, timeout=5) as store:
            if line == "open":
                assert store.scans.latest().id == whole.id
            assert graph(store, store.scans.latest()) == clean
            assert store.check() == []


def checkpoint_killed_after_the_first_page(path: Path, into: Path) -> None:
    """Copy a database that is in use as a kill in the midst of its checkpoint would leave it: the first page tells of
    pages that are in the log alone."""
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{into}{suffix}")
    with contextlib.closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA wal_checkpoint").fetchone()[0] == 0
    assert path.stat().st_size > into.stat().st_size
    with open(into, "r+b") as file:
        file.write(path.read_bytes()[:4096])


@pytest.mark.parametrize("read_only", [False, True])
def test_a_killed_checkpoint_is_no_damage(store: Store, tmp_path: Path, read_only: bool) -> None:
    store.database.execute_sql("PRAGMA wal_autocheckpoint=0").fetchall()
    with store.transaction():
        for n in range(300):
            store.llm.add(f"m{n}", api_key="x" * 1000)
    checkpoint_killed_after_the_first_page(Path(store.path), tmp_path / "killed.db")
    with Store(tmp_path / "killed.db", read_only=read_only) as again:
        assert len(again.llm.list()) == 300
        assert again.check() == []


def test_a_killed_checkpoint_of_another_program_is_left_to_it(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as raw:
        raw.executescript("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA application_id=7")
        raw.execute("PRAGMA wal_checkpoint")
        raw.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(1000000))")
        checkpoint_killed_after_the_first_page(tmp_path / "other.db", tmp_path / "killed.db")
    before = {path: path.read_bytes() for path in tmp_path.glob("killed.db*")}
    with pytest.raises(NotAScanstore):
        Store(tmp_path / "killed.db")
    assert {path: path.read_bytes() for path in tmp_path.glob("killed.db*")} == before


@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupting_a_scan_leaves_it_cancelled_and_no_worker_behind(db_path: Path, tree: Path, jobs: int) -> None:
    worker = start(db_path, tree, jobs=jobs, code=OFTEN, start_new_session=True)
    assert worker.stdout is not None
    for line in worker.stdout:
        if line.strip() == "40":
            break
    os.killpg(worker.pid, signal.SIGINT)  # as the terminal does: to the workers too
    out, err = worker.communicate(timeout=20)
    assert worker.returncode in (-signal.SIGINT, 130) and "KeyboardInterrupt" in err and "completed" not in out
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.killpg(worker.pid, 0)
            time.sleep(0.05)
    killed_scan_leaves_a_good_store(db_path, ("cancelled",))
    with Store(db_path) as store:
        (scan,) = store.scans.list()
        assert scan.error == "interrupted" and scan.revision is None and scan.worker is None
        assert store.scans.list(status="completed") == []


def test_an_exception_on_the_way_leaves_the_scan_failed_with_its_reason(
    store: Store, tree: Path, clean: list[Any]
) -> None:
    def stop(done: int, total: int, path: str) -> None:
        if done > 30:
            raise OSError("the terminal is gone")

    for jobs in (1, 2):
        with pytest.raises(OSError, match="the terminal is gone"):
            store.scans.record(tree, jobs=jobs, progress=stop, target=f"broken {jobs}")
        (scan,) = store.scans.list(target=f"broken {jobs}")
        assert (scan.status, scan.error, scan.revision) == ("failed", "the terminal is gone", None)
    assert graph(store, store.scans.record(tree)) == clean
    assert store.check() == []


def children(pid: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    command = file.read()
            except OSError:
                continue
            if parent == pid and b"scanstore.indexing.worker" in command:
                found.append(int(entry))
    return found


@pytest.fixture
def murdered(store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scan]:
    """A scan one of whose workers was killed while it worked."""
    monkeypatch.setattr(pool, "MOST_RESULTS", 2)  # so that files are left, however late this process is
    begin, busy = pool._Watch.begin, list[int]()
    signals = [signal.SIGSTOP, signal.SIGKILL]  # stopped first, so that it cannot finish the files that it is given

    def note(watch: pool._Watch, worker: subprocess.Popen[bytes], size: int) -> None:
        busy.append(worker.pid)  # it has a file: one that only starts would cost none
        begin(watch, worker, size)

    def kill(done: int, total: int, path: str) -> None:
        if signals and done >= (5 if signals[0] == signal.SIGSTOP else 20):
            os.kill(busy[0], signals.pop(0))

    monkeypatch.setattr(pool._Watch, "begin", note)
    scan = store.scans.record(tree, jobs=2, progress=kill)
    assert not signals
    yield scan


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="finds the workers in /proc")
def test_a_killed_worker_costs_one_file_at_most(store: Store, tree: Path, murdered: Scan) -> None:
    summary = store.scans.summary(murdered)
    assert murdered.status == "completed" and summary.files == FILES
    assert summary.failed == len(summary.failed_files) == 1
    assert summary.failed_files[0].reason == "the parser crashed on this file"
    assert store.check() == []


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="finds the workers in /proc")
def test_the_scan_after_a_killed_worker_reads_that_file_again(
    store: Store, tree: Path, clean: list[Any], murdered: Scan
) -> None:
    assert graph(store, store.scans.record(tree)) == clean


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="finds the workers in /proc")
def test_workers_end_when_the_parent_is_killed(db_path: Path, tree: Path) -> None:
    parent = start(db_path, tree, jobs=2)
    assert parent.stdout is not None
    for line in parent.stdout:
        if line.strip() == "10":
            break
    workers = children(parent.pid)
    assert workers
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(os.path.exists(f"/proc/{pid}") for pid in workers):
        time.sleep(0.05)
    left = [
        pid
        for pid in workers
        if os.path.exists(f"/proc/{pid}") and b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert left == []


@pytest.mark.parametrize("known", [False, True])
def test_two_processes_record_the_same_target_at_once(db_path: Path, tree: Path, clean: list[Any], known: bool) -> None:
    with Store(db_path, durability="normal") as store:
        if known:
            store.scans.record(tree, jobs=1)
    both = [start(db_path, tree), start(db_path, tree)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and "completed" in out, err
    with Store(db_path) as store:
        scans = store.scans.list()
        assert [s.status for s in scans] == ["completed"] * (2 + known)
        assert sorted(s.revision for s in scans) == list(range(1, 3 + known))
        for scan in scans:
            assert graph(store, scan) == clean
        assert store.database.execute_sql("SELECT count(*) FROM file_versions").fetchone()[0] == FILES
        assert store.check() == []


def test_two_processes_record_different_states_of_one_target_at_once(db_path: Path, tmp_path: Path) -> None:
    """Whichever completes first, each scan shows its own tree."""
    roots = []
    for n in range(2):
        root = tmp_path / f"tree{n}"
        root.mkdir()
        for k in range(20):
            (root / f"m{k}.py").write_text(f"def f{n}(): pass\nimport m{k - 1}\nm{k - 1}.f0()\nm{k - 1}.f1()\n")
        roots.append(root)
    Store(db_path).close()
    script = """
        import sys
        from scanstore.store import Store
        with Store(sys.argv[1], timeout=60) as store:
            for _ in range(8):
                print(store.scans.record(sys.argv[2], target="both", jobs=1).id)
    """
    both = [Program(textwrap.dedent(script), db_path, root, stdout=subprocess.PIPE) for root in roots]
    ids = [[int(line) for line in process.communicate(timeout=120)[0].split()] for process in both]
    with Store(db_path) as store:
        assert len(ids[0]) == len(ids[1]) == 8
        for n, scans in enumerate(ids):
            for scan in scans:
                bound = {
                    e.name.rpartition(".")[2] for e in store.symbols.edges(scan, reference_type="call") if e.target
                }
                assert bound == {f"f{n}"}, scan
        assert sorted(s.revision for s in store.scans.list()) == list(range(1, 17))
        assert store.check() == []


def test_a_scan_that_runs_elsewhere_is_left_alone(store: Store, tree: Path) -> None:
    """Only a dead process of this machine is known to be dead."""
    one = store.scans.add("t")
    change_rows(Scan, worker="another-machine:1").where(Scan.id == one).execute()
    two = store.scans.add("t")
    assert [store.scans.get(s).status for s in (one, two)] == ["running", "running"]
    assert f":{os.getpid()}" in store.scans.get(two).worker
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = store.scans.get(two).worker.rpartition(":")[0]
    change_rows(Scan, worker=f"{host}:{gone.pid}").where(Scan.id == one).execute()
    store.scans.add("t")
    assert [store.scans.get(s).status for s in (one, two)] == ["failed", "running"]


def test_removing_scans_while_one_is_recorded_keeps_the_new_one_whole(
    db_path: Path, tree: Path, clean: list[Any]
) -> None:
    """Another process sweeps names and versions that the recorder has just looked up."""
    with Store(db_path, durability="normal", timeout=60) as store:
        for n in range(2):
            root = tree.parent / f"old{n}"
            root.mkdir(exist_ok=True)
            for path in sorted(tree.iterdir())[: 30 * (n + 1)]:
                (root / path.name).write_text(path.read_text() + f"\n\ndef extra{n}(): pass\n")
            store.scans.record(root, jobs=1, target=f"old{n}")
        worker = start(db_path, tree, code=OFTEN)
        assert worker.stdout is not None
        old = store.scans.list()
        for line in worker.stdout:
            if line.strip().isdigit() and int(line) in (15, 35):
                store.scans.remove(old.pop())
        out, err = worker.communicate()
        assert worker.returncode == 0, err
        assert store.check() == []
        assert graph(store, store.scans.latest(os.fspath(tree))) == clean
