"""Which process is alive: those of this machine are looked up, those of others are left to their leases.

In most of these tests the operating system says what it is told to. One test makes real pid namespaces, as containers
have them.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import struct
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from stressing import rounds

import scanstore
from scanstore.db import atomic_files, clocks, operating_system
from scanstore.db import processes as workers
from scanstore.db.processes import alive, gone, me, shares_clock
from scanstore.leases import engine
from scanstore.store import Store

UNKNOWN = ""


class System:
    """What the operating system says, until it is told to say something else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.starts: dict[int, str | None] = {os.getpid(): "100"}
        monkeypatch.setattr(operating_system, "started", self.starts.get)
        self.says(machine="m", boot="b", namespace="n", host="h")

    def says(self, *, host: str | None = None, **told: str) -> str:
        """Change what is said of this machine; return who this process is then."""
        for name, value in told.items():
            self.monkeypatch.setattr(operating_system, name, lambda value=value: value)
        if host is not None:
            self.monkeypatch.setattr(platform, "node", lambda: host)
        workers._forget()
        return me()

    def worker(self, number: int, start: str = "7", **place: str) -> str:
        """The identity of a process that runs there."""
        before = {name: getattr(operating_system, name)() for name in ("machine", "boot", "namespace")}
        found = self.says(**place).partition(":")[0]
        self.says(**before)
        return f"{found}:{number}" + (f"@{start}" if start else "")


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    yield System(monkeypatch)
    workers._forget()


# The identity


def test_an_identity_is_short_and_says_nothing_about_its_user() -> None:
    first = me()
    assert me() is first and first.rpartition(":")[2].partition("@")[0] == str(os.getpid())
    assert len(first) <= 48 and len(quote(first, safe="")) <= 52 and first.isascii()
    for secret in (platform.node(), operating_system.machine(), operating_system.boot(), operating_system.namespace()):
        assert not secret or secret not in first
    assert alive(first) and shares_clock(first) and not gone(first)


def test_it_is_computed_once_a_process_and_again_after_a_fork(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(operating_system, "machine", lambda: calls.append(1) or "m")
    workers._forget()
    assert len({me() for _ in range(5)}) == 1 and len(calls) == 1
    number, parent = os.getpid(), me()
    monkeypatch.setattr(os, "getpid", lambda: number)  # a namespace of its own gives a child any number
    child = os.fork()
    if not child:
        code = 1
        try:
            operating_system.namespace = lambda: "its own"
            code = 0 if me() != parent else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_host_names_play_no_part(system: System) -> None:
    before = me()
    assert system.says(host="another-network.local") == before  # two host names for one machine
    there = system.worker(os.getpid(), "100", machine="other")  # the same host name on two machines
    assert there != before and not gone(there) and not alive(there) and not shares_clock(there)
    assert system.says(machine=UNKNOWN) == system.says(host="h")  # the boot is enough
    assert system.says(boot=UNKNOWN) != system.says(host="another")  # and only without one the name must do


def test_another_namespace_is_left_to_its_lease(system: System) -> None:
    there = system.worker(os.getpid(), "100", namespace="container")
    absent = system.worker(5, namespace="container")
    for process in (there, absent):
        assert not gone(process) and not alive(process) and shares_clock(process)
    inside = system.says(namespace="container")
    assert alive(inside) and gone(absent) and not gone(system.worker(5, namespace="n"))


def test_a_reboot_ends_all_that_ran_before(system: System) -> None:
    before, contained = me(), system.worker(3, namespace="container")
    elsewhere = system.worker(3, machine="other")
    system.says(boot="later")
    assert gone(before) and gone(contained) and not gone(elsewhere)
    assert not alive(before) and not shares_clock(before)
    # What does not know its boot, or its machine, does not take another boot for a reboot.
    system.says(boot=UNKNOWN)
    assert not gone(before) and not gone(contained)
    without = system.says(machine=UNKNOWN, boot="b")
    system.says(boot="later")
    assert not gone(without) and not alive(without)


def test_process_ids_are_used_again(system: System) -> None:
    here = lambda number, start: system.worker(number, start)  # noqa: E731
    system.starts |= {5: "7", 6: UNKNOWN}
    assert alive(here(5, "7")) and not gone(here(5, "7"))
    assert gone(here(5, "6")) and not alive(here(5, "6"))  # another process with the same id
    assert gone(here(4, "7")) and gone(here(4, UNKNOWN)) and not alive(here(4, UNKNOWN))
    for process in (here(5, UNKNOWN), here(6, "7"), here(6, UNKNOWN)):  # a start cannot be read: taken for it
        assert not gone(process) and not alive(process) and shares_clock(process)


@pytest.mark.parametrize(
    "text",
    ["h:{pid}@100", "h:1073741824@1", "h.local:12", "ip-10-0:12@3", "a:b", "a-b-c:7@1", ":", "", None, "a-b-c:²",
     "{place}:99999999999999999999@1", "{place}:4294967295", "{place}:-1", "{place}:0", "{place}:", "--:1@1"],
)  # fmt: skip
def test_identities_of_earlier_versions_and_noise_are_left_to_their_leases(system: System, text: str | None) -> None:
    process = text and text.format(pid=os.getpid(), place=me().partition(":")[0])
    assert not gone(process) and not alive(process) and not shares_clock(process)


@pytest.mark.parametrize("value", [b"\0\xff", b""])
def test_bytes_in_the_place_of_an_identity_or_a_time_keep_no_store_from_opening(store: Store, value: bytes) -> None:
    """A damaged or foreign file may hold them. They belong to nobody, and never end by themselves."""
    assert not gone(value) and not alive(value) and not shares_clock(value)  # type: ignore[arg-type]
    store.jobs.enqueue("one")
    store.llm.add("m", max_concurrent=1)
    store.jobs.claim()
    store.llm.slot("m").__enter__()
    call = store.llm.call("m", purpose="talk").__enter__()
    for column in ("process", "lease_until"):
        for table in ("jobs", "model_slots"):
            store.database.execute_sql(f"UPDATE {table} SET {column} = ?", (value,))
        store.database.execute_sql("UPDATE model_calls SET process = ?", (value,))
        with Store(store.path, durability="normal") as after:
            assert after.recover() == (0, 0) and after.jobs.claim() == []
            with pytest.raises(scanstore.NoSlot), after.llm.slot("m", timeout=0):
                pass
    store.database.execute_sql("UPDATE model_calls SET started_at = ?", (value,))
    with pytest.raises(scanstore.Damaged, match="is in the file for a time"):
        store.recover()
    assert call is not None


# What this system says


def test_processes_of_this_system() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = operating_system.started(child.pid)
    assert start and operating_system.started(child.pid) == start and operating_system.started(os.getpid())
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie has ended
    assert operating_system.started(child.pid) is None
    child.communicate()
    assert operating_system.started(child.pid) is None
    assert operating_system.started(1) is not None


def test_without_proc_a_process_that_runs_is_taken_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str, *_: Any, **__: Any) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "readlink", missing)
    monkeypatch.setattr(operating_system, "BOOT_ID", "/nowhere")
    workers._forget()
    try:
        own, place = me(), me().partition(":")[0]
        child = subprocess.Popen(["sleep", "60"])
        theirs = f"{place}:{child.pid}"
        assert "@" not in own and not gone(own) and not alive(own)
        assert not gone(theirs) and not gone(f"{theirs}@12345")
        child.kill()
        child.wait()
        assert gone(theirs)
    finally:
        workers._forget()


def test_a_proc_of_another_namespace_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.readlink
    monkeypatch.setattr(os, "readlink", lambda path: "1" if path == "/proc/self" else real(path))
    assert operating_system.started(os.getpid()) == "" and operating_system.started(2**30) is None


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_a_python_that_cannot_ask_leaves_all_to_the_leases(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    """One that was built without ctypes, say."""
    monkeypatch.setattr(operating_system, "SYSTEM", system)
    monkeypatch.setattr(operating_system, "MACHINE_IDS", ())
    monkeypatch.setattr(operating_system, "BOOT_ID", "/nowhere")
    for name in ("ctypes", "ctypes.wintypes", "winreg"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr(os, "readlink")
    operating_system._libc.cache_clear()
    operating_system._kernel32.cache_clear()
    workers._forget()
    try:
        own = me()
        assert "@" not in own and own.split("-")[1] == "0"
        assert not gone(own) and not alive(own) and not shares_clock(own)
        first = operating_system.windows_running_time()
        assert 0 <= operating_system.windows_running_time() - first < 60
    finally:
        workers._forget()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_another_time_namespace_is_left_to_its_lease() -> None:
    """There the start times of the same processes are others, so the living would look dead."""
    code = "import sys; from scanstore.db.processes import *; print(me(), gone(sys.argv[1]), alive(sys.argv[1]))"
    inside = ["unshare", "--time", "--boottime", "90000", "--monotonic", "90000", "--fork"]
    command = [*inside, sys.executable, "-c", code, me()]
    env = os.environ | {"PYTHONPATH": str(Path(scanstore.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip("may not make a time namespace")
    there, *found = done.stdout.split()
    assert found == ["False", "False"] and not gone(there) and not alive(there) and not shares_clock(there)


def test_containers_share_a_machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "id").write_text("3f2a\n")
    monkeypatch.setattr(operating_system, "SYSTEM", "linux")
    monkeypatch.setattr(operating_system, "MACHINE_IDS", (str(tmp_path / "no"), str(tmp_path / "id")))
    monkeypatch.setattr(operating_system, "MOUNTS", str(tmp_path / "mounts"))

    def machine(namespace: str, mounts: str) -> str:
        monkeypatch.setattr(operating_system, "namespace", lambda: namespace)
        (tmp_path / "mounts").write_text(mounts + "600 587 0:95 / /proc rw,nosuid - proc proc rw\n")
        return operating_system.machine()

    overlay = "587 400 0:94 / / rw,relatime - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/o/{}/diff,workdir=/w\n"
    first, second = (machine("pid:[4026532001]", overlay.format(name)) for name in ("one", "two"))
    assert first != second and machine("pid:[4026532999]", overlay.format("one")) == first  # started again
    plain = "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    assert machine("pid:[4026531836]", overlay.format("one")) == machine("pid:[4026532001]", plain) == "3f2a"
    assert machine("pid:[4026532001]", plain.replace(" / / ", " /subvol/c1 / ")) == "3f2a/subvol/c1"
    (tmp_path / "id").write_text("uninitialized\n")
    assert operating_system.machine() == ""


def test_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a C library of our own, which answers as that of macOS does."""
    known = {7: (1_700_000_000, 42, 2, 7), 8: (1_700_000_001, 0, operating_system.ZOMBIE, 8), 9: (1, 1, 2, 10)}

    def sysctl(request: Any, count: int, found: Any, size: Any, *_: Any) -> int:
        assert list(request)[:3] == [1, 14, 1] and count == 4
        seconds, microseconds, state, number = known.get(request[3], (0, 0, 0, 0))
        record = struct.pack("=qi20xib3xi604x", seconds, microseconds, 0x4004, state, number)
        assert len(record) == 648
        size._obj.value = len(record) if request[3] in known else 0
        found[: len(record)] = record
        return 0

    def by_name(name: bytes, found: Any, size: Any, *_: Any) -> int:
        found.value = {b"kern.bootsessionuuid": b"B00T-1D"}[name]
        return 0

    def host(found: Any, wait: Any) -> int:
        assert list(wait) == [1, 0]
        found[:] = bytes(range(16))
        return 0

    library = types.SimpleNamespace(sysctl=sysctl, sysctlbyname=by_name, gethostuuid=host)
    monkeypatch.setattr(operating_system, "SYSTEM", "darwin")
    monkeypatch.setattr(operating_system, "_libc", lambda: library)
    asked: list[int] = []
    monkeypatch.setattr(operating_system, "_exists", lambda number: asked.append(number) or "")
    assert operating_system.machine() == bytes(range(16)).hex() and operating_system.boot() == "B00T-1D"
    assert operating_system.started(7) == "1700000000.000042" and operating_system.started(8) is None and asked == []
    assert (operating_system.started(6), operating_system.started(9)) == ("", "") and asked == [
        6,
        9,
    ]  # none; another layout
    monkeypatch.setattr(operating_system, "_libc", types.SimpleNamespace)
    assert (operating_system.machine(), operating_system.boot(), operating_system.started(7)) == ("", "", "")


def test_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a kernel32 and a registry of our own, which answer as those of Windows do."""
    closed, failed = [], [0]
    codes = {4: 259, 8: 0, 12: 259}

    def opened(access: int, inherit: bool, number: int) -> int | None:
        assert (access, inherit) == (0x1000, False)
        failed[0] = 5 if number == 16 else 87
        return number if number in codes else None

    def code(handle: int, found: Any) -> int:
        found._obj.value = codes[handle]
        return 1

    def times(handle: int, created: Any, *others: Any) -> int:
        assert len(others) == 3
        created._obj.dwHighDateTime, created._obj.dwLowDateTime = 1, handle
        return int(handle != 12)

    def ticks(found: Any) -> int:
        found._obj.value = 25_000_000
        return 1

    class Key:
        def __enter__(self) -> Key:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    registry: Any = types.ModuleType("winreg")
    registry.HKEY_LOCAL_MACHINE, registry.KEY_READ, registry.KEY_WOW64_64KEY = 0, 1, 256
    registry.OpenKey = lambda root, path, zero, access: Key()
    registry.QueryValueEx = lambda key, name: ({"MachineGuid": "guid"}[name], 1)
    monkeypatch.setitem(sys.modules, "winreg", registry)

    class Kernel:
        def __init__(self, name: str, use_last_error: bool) -> None:
            assert name == "kernel32" and use_last_error
            self.OpenProcess, self.GetExitCodeProcess, self.GetProcessTimes = opened, code, times
            self.QueryUnbiasedInterruptTime = ticks

        @staticmethod
        def CloseHandle(handle: int) -> None:  # noqa: N802
            closed.append(handle)

    monkeypatch.setattr(ctypes, "WinDLL", Kernel, raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: failed[0], raising=False)
    monkeypatch.setattr(operating_system, "SYSTEM", "win32")
    monkeypatch.setattr(operating_system, "BOOT_ID", "/nowhere")
    operating_system._kernel32.cache_clear()
    try:
        assert operating_system.machine() == "guid" and operating_system.boot() == ""
        assert (
            operating_system.started(4) == str((1 << 32) + 4) and operating_system.started(8) is None
        )  # ended, with a handle left
        assert (operating_system.started(20), operating_system.started(16), operating_system.started(12)) == (
            None,
            "",
            "",
        )
        assert closed == [4, 8, 12] and operating_system.windows_running_time() == 2.5
    finally:
        operating_system._kernel32.cache_clear()


# A store


@pytest.mark.parametrize("end", ["reboot", "exit", "exit without start times"])
def test_all_that_a_process_held_is_free_once_it_has_ended(system: System, store: Store, end: str) -> None:
    """At once, before any lease ends: work, a place of a model, a call, a sync, and the scan of a target."""
    own = os.getpid()
    if end == "exit without start times":
        system.starts[own] = UNKNOWN
    system.says()
    store.jobs.enqueue("one")
    store.llm.add("m", max_concurrent=1)
    assert len(store.jobs.claim(lease=10**6)) == 1
    scan = store.scans.add("parsed")
    for block in (store.llm.slot("m"), store.llm.call("m", purpose="talk"), store.library.sync("tag")):
        block.__enter__()
    assert store.recover() == (0, 0)
    if end == "reboot":
        system.says(boot="later")  # process ids and start times may well come again
    else:
        system.starts[own] = None
        number = next(number for number in range(2, 99) if number != own)
        system.starts[number] = "101"
        system.monkeypatch.setattr(os, "getpid", lambda: number)
    with Store(store.path, durability="normal") as after:
        assert after.recovered == (1, 0) and len(after.jobs.claim()) == 1
        assert after.llm.calls()[0].status == "abandoned"
        with after.llm.slot("m", timeout=0), after.library.sync("tag"):
            pass
        after.scans.add("another")
        assert after.scans.get(scan).status == "running"
        after.scans.add("parsed")
        assert "ended before the scan was complete" in after.scans.get(scan).error
        assert "ended" in after.library.runs()[-1].error


# Files


@pytest.mark.parametrize("kind", ["dead", "old", "other", "noise", "live"])
def test_partial_files_of_the_dead_go_at_once_and_of_the_unknown_after_a_day(tmp_path: Path, kind: str) -> None:
    place, number = me().split(":")
    owner = {
        "dead": f"{place}:{2**30}@1", "old": f"{platform.node()}:{2**30}@1", "other": f"{place[::-1]}:{number}",
        "noise": "my own notes", "live": me(),
    }[kind]  # fmt: skip
    left = tmp_path / f"scan.db.0123abcd.partial-{quote(owner, safe='')}"
    beside = left.with_name(left.name + "-wal")
    own = tmp_path / f"scanstore-{quote(owner, safe='')}-x1y2"
    (own / "deep").mkdir(parents=True)

    def remains(days: float, log_days: float) -> tuple[bool, bool, bool]:
        for path, age in ((left, days), (beside, log_days)):
            path.touch()
            os.utime(path, (time.time() - age * 86400,) * 2)
        atomic_files.sweep(str(tmp_path))
        return left.exists(), beside.exists(), own.exists()

    never, at_once = kind in ("noise", "live"), kind == "dead"
    assert remains(0.9, 0.9) == (not at_once, not at_once, True)
    assert remains(1.1, 0.9) == (not at_once, not at_once, True)  # one of them is still written to
    assert remains(1.1, 1.1) == (never, never, True)
    shutil.rmtree(atomic_files.own_folder(str(tmp_path), "memory"))
    assert own.exists() is not at_once
    for path in (own, own / "deep") if own.exists() else ():
        os.utime(path, (time.time() - 31 * 86400,) * 2)
    shutil.rmtree(atomic_files.own_folder(str(tmp_path), "memory"))
    assert own.exists() is never


# Two pid namespaces, one store

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
CROWD = """
import fcntl, os, sys, time, traceback
sys.path[:0] = sys.argv[1:2]
from scanstore.store import Store
from scanstore.db.processes import me
file, folder, count = *sys.argv[2:4], int(sys.argv[4])

def said(place, line):
    log = os.open(os.path.join(folder, place), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, (line + "\\n").encode())
    os.close(log)

def enter():
    for place in sorted(p for p in os.listdir(folder) if p.startswith("place")):
        held = open(os.path.join(folder, place))
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return held
        except BlockingIOError:
            held.close()
    said("log", "OVERRUN")

def work(store):
    while jobs := store.jobs.claim(worker=me(), lease=600):
        (job,) = jobs
        said("claims", f"{job.id} {job.attempt}")
        with store.llm.slot("m", lease=600):
            place = enter()
            recovered = store.recover()
            said("log", f"recovered {recovered.waiting} {recovered.failed}")
            if place is not None:
                place.close()
        store.jobs.complete(job)

pids = []
for _ in range(count):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            with Store(file, timeout=60, durability="normal") as store:
                said("who", me())
                while not os.path.exists(os.path.join(folder, "go")):
                    time.sleep(0.005)
                work(store)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    pids.append(pid)
print("ready", flush=True)
sys.exit(any([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]))
"""


def test_two_pid_namespaces_share_a_store(store: Store, tmp_path: Path) -> None:
    """As two containers do: equal process ids, and nobody can see the other's processes."""
    try:
        permitted = subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    except OSError:
        permitted = False
    if not permitted:
        pytest.skip("unshare --pid --mount-proc is not permitted here: run this test as root to have it")
    count, jobs = rounds(3, 8), rounds(24, 400)
    folder = tmp_path / "crowd"
    folder.mkdir()
    for number in range(2):
        (folder / f"place{number}").touch()
    store.llm.add("m", max_concurrent=2)
    for _ in range(jobs):
        store.jobs.enqueue("one")
    root = str(Path(operating_system.__file__).parents[1])
    crowds = [
        subprocess.Popen(
            [*UNSHARE, sys.executable, "-c", CROWD, root, store.path, str(folder), str(count)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        for crowd in crowds:
            assert crowd.stdout is not None and crowd.stdout.readline() == "ready\n"
        who = wait_for(lambda: (folder / "who").exists() and lines(folder, "who"), 2 * count)
        assert {process.partition("@")[0].rpartition(":")[2] for process in who} == {
            str(number) for number in range(2, count + 2)
        }
        assert len({process.partition(":")[0] for process in who}) == 2
        assert not any(map(gone, who)) and not any(map(alive, who))
        (folder / "go").touch()
        for crowd in crowds:
            assert crowd.communicate(timeout=300)[1] == "" and crowd.returncode == 0
    finally:
        for crowd in crowds:
            crowd.kill()
            crowd.communicate()
    assert sorted(lines(folder, "claims")) == sorted(f"{job.id} 1" for job in store.jobs.list(limit=None))
    assert set(lines(folder, "log")) == {"recovered 0 0"}
    state = store.jobs.state()
    assert (state.done, state.lost, state.finished) == (jobs, 0, True) and store.check() == []


def lines(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text().splitlines()


def wait_for(found: Callable[[], Any], count: int) -> list[str]:
    end = time.monotonic() + 30
    while len(seen := found() or []) < count:
        assert time.monotonic() < end, seen
        time.sleep(0.01)
    return list(seen)


def test_a_lease_in_another_namespace_goes_by_the_running_time(
    store: Store, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine sleeps, and nobody can tell whether a process of another container lives."""
    for _ in range(2):
        store.jobs.enqueue("one")
    (row,) = store.jobs.claim(worker="ann", lease=60)
    store.database.execute_sql("UPDATE jobs SET process = ? WHERE id = ?", (system.worker(9, namespace="c"), row.id))
    real, began = engine.utcnow, clocks.monotonic()
    monkeypatch.setattr(engine, "utcnow", lambda: real() + timedelta(hours=8))
    assert store.jobs.recover() == (0, 0)
    monkeypatch.setattr(clocks, "monotonic", lambda: began + 61)  # it hangs, or has died
    monkeypatch.setattr(engine, "utcnow", lambda: real() + timedelta(hours=8, seconds=121))
    assert store.jobs.recover() == (1, 0)
