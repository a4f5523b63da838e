"""Kill: whatever is killed while it writes, all that it was told is done is there, and nothing is half-done.

Two processes at a time work on one store and are killed at any moment; what they had noted before is looked for after
each round, and the store is checked. The same file lives through all rounds. Real processes, real SIGKILL.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from killing import ROLES, Ledger, Role
from stressing import LONG, Child, Tell, chance, copied, done, fill, rounds, sound

from scanstore import Store, backups
from scanstore.database import SCHEMA_VERSION

FILES = 12


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small tree, a full store to be merged, and an empty folder for copies."""
    root = tmp_path_factory.mktemp("kill")
    for folder in ("tree", "copies", "others"):
        (root / folder).mkdir()
    for n in range(FILES):
        body = "".join(f"def f{k}(x):\n    return f{k + 1}(x)\n\n\n" for k in range(5))
        (root / f"tree/m{n}.py").write_text(f"from m{(n + 1) % FILES} import f0\n\n\n{body}")
    fill(root / "full.db")
    return root


def pairs(some: random.Random) -> Iterator[tuple[str, str]]:
    """Two roles at a time, each as often as any other."""
    while True:
        names = some.sample(sorted(ROLES), len(ROLES))
        yield from zip(names[::2], names[1::2], strict=True)


def test_what_was_acknowledged_survives_any_kill(root: Path) -> None:
    some, path, ledger, worst = chance("kill"), root / "scan.db", Ledger(), 0.0
    Store(path).close()
    for number, (_, names) in enumerate(zip(range(rounds(7, 150)), pairs(some), strict=False)):
        children = [Child(worker(ROLES[name], path, root, number)) for name in names]
        for child in children:
            if some.random() < 0.6:  # in the midst of its work; else it may be opening the store
                wait_for(child)
            time.sleep(min(some.expovariate(1 / 0.06), 0.5))
            told = child.kill()
            assert child.status == -9, told[-1]  # none of them ends by itself
            ledger.add(told)
        assert not [name for name in root.glob("copies/*.backup-*") if "partial" not in name.name and not whole(name)]
        began = time.perf_counter()
        with Store(path, timeout=5) as store:
            worst = max(worst, time.perf_counter() - began)
            ledger.verify(store)
        sound(path)
        for other in root.glob("others/*"):
            other.unlink()
    newest = max(ledger.of("backup"), default=None)
    assert newest is None or Path(newest).exists()
    with Store(path) as store:
        backups.backup(store.database, folder=root / "copies", keep=3)
        told_of = store.dump(root / "copies/dump.jsonl").rows
    lines = (root / "copies/dump.jsonl").read_bytes().splitlines()
    assert json.loads(lines[-1])["end"] >= told_of
    assert not list(root.glob("copies/*part*")), "what the dead have left is swept by the next copy"
    assert ledger.counts and (LONG != 1 or set(ledger.counts) >= set(ACKNOWLEDGED))
    print(f"\n{ledger.kills} kills, reopened in {worst * 1000:.0f} ms at most; acknowledged and found, {ledger}")


ACKNOWLEDGED = (
    "audit", "backup", "chunk", "completed", "counted", "decision", "dump", "finding", "gone", "job", "merged", "plan",
    "scan", "scenes", "task", "tidied", "vacuum",
)  # fmt: skip


def wait_for(child: Child, seconds: float = 0.5) -> None:
    """Wait until it has told something, but not for long: it may be waiting for the other."""
    deadline = time.monotonic() + seconds
    while not child.told() and time.monotonic() < deadline:
        time.sleep(0.002)


def worker(role: Role, path: Path, root: Path, number: int) -> Callable[[Tell], object]:
    def work(tell: Tell) -> None:
        with Store(path, timeout=30) as store:
            for _ in role(store, root, tell, chance(role.__name__, number)):
                pass

    return work


def whole(copy: Path) -> bool:
    return 0 < backups.verify(copy) <= SCHEMA_VERSION


def test_a_killed_process_holds_nothing(root: Path, tmp_path: Path) -> None:
    """A place of a model, a lease, the write lock: all free for the next one at once."""
    path = copied(root / "full.db", tmp_path / "scan.db")

    def hold(tell: Tell) -> None:
        with Store(path) as store:
            store.llm.add("own", max_concurrent=1)
            job = store.jobs.enqueue("held", max_retries=5)
            with store.llm.slot("own", lease=600):
                (claimed,) = store.jobs.claim("held", lease=600)
                assert claimed.id == job.id
                with store.transaction():
                    store.settings["half"] = True
                    tell(str(job.id))
                    time.sleep(60)

    child = Child(hold)
    job = child.first()
    child.kill()

    def take(tell: Tell) -> None:
        with Store(path, timeout=2) as store:
            assert "half" not in store.settings
            with store.llm.slot("own", timeout=2):
                tell([str(claimed.id) for claimed in store.jobs.claim("held")])
            assert store.check() == []

    assert done(take, seconds=20) == [[job]]
