"""Kill: whatever is killed while it writes, all that it was told is done is there, and nothing is half-done.

Several processes at a time work on one store and are killed one by one, at any moment; what they had noted before is
looked for after each round, and the store is checked. A file lives through many rounds; the long form takes several,
since all that was ever noted is looked for each time. Real processes, real SIGKILL.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from killing import ROLES, Ledger, Role
from stressing import LONG, Child, Tell, chance, copied, done, fill, rounds, sound

from scanstore import Store
from scanstore.db.database import SCHEMA_VERSION
from scanstore.maintenance import backup

FILES = 12
AT_ONCE = 4  # processes
ROUNDS = 50  # of one store


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


def groups(some: random.Random) -> Iterator[list[str]]:
    """Some roles at a time, each as often as any other."""
    names: list[str] = []
    while True:
        while len(names) < AT_ONCE:
            names += some.sample(sorted(ROLES), len(ROLES))
        yield [names.pop() for _ in range(AT_ONCE)]


def test_what_was_acknowledged_survives_any_kill(root: Path) -> None:
    some, kills, counts, slowest = chance("kill"), 0, Counter[str](), 0.0
    together, left = groups(some), rounds(4, 500)
    while left:
        ledger, worst = Ledger(), 0.0
        path = root / "scan.db"
        Store(path).close()
        for number in range(min(left, ROUNDS)):
            worst = max(worst, killed_together(root, path, next(together), ledger, some, f"{left} {number}"))
        left -= min(left, ROUNDS)
        ended(root, path, ledger)
        for file in (*root.glob("scan.db*"), *root.glob("copies/*")):
            file.unlink()
        kills, counts, slowest = kills + ledger.kills, counts + ledger.counts, max(worst, slowest)
        print(f"\n{kills} kills", end="", flush=True)
    assert counts and (LONG != 1 or set(counts) >= set(ACKNOWLEDGED))
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    print(f"\n{kills} kills, reopened in {slowest * 1000:.0f} ms at most; acknowledged {counts.total():,}: {kinds}")


def killed_together(
    root: Path, path: Path, names: list[str], ledger: Ledger, some: random.Random, salt: object
) -> float:
    """A round: the processes are killed, and all that was ever noted is there; how long the next opening took."""
    children = [Child(worker(ROLES[name], path, root, f"{salt} {n}")) for n, name in enumerate(names)]
    for child in children:
        if some.random() < 0.6:  # in the midst of its work; else it may be opening the store
            wait_for(child)
        time.sleep(min(some.expovariate(1 / 0.04), 0.3))
        told = child.kill()
        assert child.status == -9, told[-1]  # none of them ends by itself
        ledger.add(told)
    assert not [name for name in root.glob("copies/*.backup-*") if "partial" not in name.name and not whole(name)]
    began = time.perf_counter()
    with Store(path, timeout=5) as store:
        took = time.perf_counter() - began
        ledger.verify(store)
    sound(path)
    for other in root.glob("others/*"):
        other.unlink()
    return took


def ended(root: Path, path: Path, ledger: Ledger) -> None:
    """What was written to other files is whole, and what the dead have left goes with the next copy."""
    newest = max(ledger.of("backup"), default=None)
    assert newest is None or Path(newest).exists()
    with Store(path) as store:
        backup.backup(store.database, folder=root / "copies", keep=3)
        told_of = store.dump(root / "copies/dump.jsonl").rows
    lines = (root / "copies/dump.jsonl").read_bytes().splitlines()
    assert json.loads(lines[-1])["end"] >= told_of
    assert not list(root.glob("copies/*part*")), "what the dead have left is swept by the next copy"


ACKNOWLEDGED = (
    "audit", "backup", "chunk", "completed", "counted", "decision", "dump", "finding", "gone", "job", "merged", "plan",
    "scan", "scenes", "task", "tidied", "vacuum",
)  # fmt: skip


def wait_for(child: Child, seconds: float = 0.5) -> None:
    """Wait until it has told something, but not for long: it may be waiting for the other."""
    deadline = time.monotonic() + seconds
    while not child.told() and time.monotonic() < deadline:
        time.sleep(0.002)


def worker(role: Role, path: Path, root: Path, salt: str) -> Callable[[Tell], object]:
    def work(tell: Tell) -> None:
        with Store(path, timeout=30) as store:
            for _ in role(store, root, tell, chance(salt)):
                pass

    return work


def whole(copy: Path) -> bool:
    return 0 < backup.verify(copy) <= SCHEMA_VERSION


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
