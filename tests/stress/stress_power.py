"""Power: it goes at any moment, and what was acknowledged before is there afterwards, whole.

Work runs in a process whose changes to files are written down, its acknowledgements among them. The disk is then played
back to any moment, loses what it had not promised to keep (see power.py for what that is), and a process that has seen
nothing of all that opens what is left.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from killing import ROLES, Ledger
from making import WORKS, Notes, Rekey
from power import Disk
from stressing import Tell, chance, done, fill, rounds, sound
from syscalls import Event, Watcher, events

from scanstore import Store
from scanstore.db.database import SCHEMA_VERSION
from scanstore.maintenance import backup

ACKS = "acks"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("power") / "full.db"
    fill(path)
    return path


def telling(root: Path) -> Tell:
    """Acknowledge by a line of a file that is written down with everything else, and so has its place in the order."""
    file = os.open(root / ACKS, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    return lambda note: os.write(file, json.dumps(note).encode() + b"\n")


def recorded(watcher: Watcher, root: Path, trace: Path, work: str, *arguments: Any) -> tuple[Disk, list[Event]]:
    """Run some work of this module; return the disk as it was before, and what was done to it."""
    disk = Disk(root)
    trace.unlink(missing_ok=True)
    outcome = watcher.run(f"stress_power:{work}", os.fspath(root), *arguments, watch=root, trace=trace, limit=600)
    assert outcome.status == 0, outcome.raised
    return disk, events(trace)


def losses(disk: Disk, happened: list[Event], image: Path, some: random.Random, times: int) -> Iterator[Notes]:
    """Lose power so many times; what is left is in the folder `image`, and what had been acknowledged is returned.

    Two of them come right after an acknowledgement, and take all that they may; half of the others come then.
    """
    acks = os.fspath(disk.folder / ACKS)
    after = [n + 1 for n, event in enumerate(happened) if event.kind == "W" and event.path == acks]
    cuts = [(cut, True) for cut in some.sample(after, min(len(after), 2))]
    for _ in range(times - len(cuts)):
        cuts.append((some.choice(after) if some.random() < 0.5 else some.randint(0, len(happened)), False))
    at, notes = 0, []
    for cut, worst in sorted(cuts):
        for event in happened[at:cut]:
            disk.apply(event)
            if event.kind == "W" and event.path == acks:
                notes.append(json.loads(event.data))
        at = cut
        shutil.rmtree(image, ignore_errors=True)
        for name, content in disk.lost(some, worst=worst).items():
            (image / name).parent.mkdir(parents=True, exist_ok=True)
            (image / name).write_bytes(content)
        yield list(notes)


def asking(question: Callable[..., Any], *arguments: Any) -> Callable[[Tell], object]:
    """Tell the answer to a question, for a process of its own to ask it."""
    return lambda tell: tell(question(*arguments))


# That the disk loses what it may --------------------------------------------------------------------------------------


def writes(_: Tell, folder: str, synced: str) -> None:
    """Replace a file, with or without waiting for its content and its name."""
    root = Path(folder)
    with open(root / "part", "wb") as stream:
        stream.write(b"new" * 1000)
        stream.flush()
        if "content" in synced:
            os.fsync(stream.fileno())
    os.replace(root / "part", root / "file")
    if "name" in synced:
        handle = os.open(root, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    telling(root)(["written"])


@pytest.mark.parametrize(
    ("synced", "left"),
    [("", b"old"), ("content", b"old"), ("name", b""), ("content and name", b"new" * 1000)],
)
def test_what_was_not_synced_is_lost(watcher: Watcher, tmp_path: Path, synced: str, left: bytes) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(b"old")
    disk, happened = recorded(watcher, root, tmp_path / "trace", "writes", synced)
    (notes,) = losses(disk, happened, tmp_path / "image", chance("synced"), 1)
    assert notes == [["written"]] and (tmp_path / "image/file").read_bytes() == left
    seen = {file.lost(chance(n), "sectors") for n in range(20) for file in [disk.names[os.fspath(root / "file")]]}
    assert (len(seen) > 1) == ("content" not in synced), "some of it, when it was not waited for"


# Mixed work on one store ----------------------------------------------------------------------------------------------


def mixed(_: Tell, folder: str, durability: str, salt: int, steps: int) -> None:
    """Steps of all roles, in any order, with a mark after each; the store is closed and opened again meanwhile."""
    root, step, some = Path(folder), 0, chance("power", durability, salt)
    tell = telling(root)
    while step < steps:
        with Store(root / "scan.db", durability=durability) as store:
            roles = {}
            for _ in range(some.randint(4, 12)):
                name = some.choice(sorted(ROLES))
                if name not in roles:
                    roles[name] = ROLES[name](store, root, tell, chance(salt, name, step))
                next(roles[name])
                store.settings[f"mark {step}"] = step
                tell(["mark", step])
                step += 1
            for role in roles.values():
                role.close()  # type: ignore[attr-defined]


def seen_after(image: Path, notes: Notes, durability: str) -> int:
    """Look for everything; return how many acknowledged marks are missing."""
    sound(image / "scan.db")
    told = sum(note[0] == "mark" for note in notes)
    with Store(image / "scan.db", timeout=5) as store:
        marks = {value for name, value in store.settings.to_dict().items() if name.startswith("mark ")}
        assert marks == set(range(len(marks))), "what is missing is the end"
        assert len(marks) <= told + 1
        ledger, end = Ledger(), len(notes)
        if durability == "full":
            assert len(marks) >= told, notes[-1]
        elif len(marks) <= told:  # what came after the last of them may be missing too
            end = notes.index(["mark", len(marks) - 1]) if marks else 0
        kept = notes[:end]
        ledger.add([*kept, *(note for note in notes[end:] if note[0] in ("reverting", "pruning"))])
        ledger.kills = 1 if durability == "full" else len(notes)
        ledger.notes.pop("mark", None)
        ledger.verify(store)
        store.settings["after"] = True
    with Store(image / "scan.db") as store:
        assert store.settings["after"] and store.check() == []
    copies = [note[1] for note in notes if note[0] == "backup"]  # these are files: they are there, whatever it is
    if copies:
        assert backup.verify(image / "copies" / Path(copies[-1]).name) == SCHEMA_VERSION
    if any(note[0] == "dump" for note in notes):
        assert "end" in json.loads((image / "copies/dump.jsonl").read_bytes().splitlines()[-1])
    return max(told - len(marks), 0)


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_what_was_acknowledged_survives_a_power_loss(
    watcher: Watcher,
    full: Path,
    tmp_path: Path,
    durability: str,
) -> None:
    """With "full" all of it; with "normal" the store is whole, and what is missing is what came last."""
    missing, times, told = 0, 0, 0
    for salt in range(rounds(1, 10)):
        root = tmp_path / f"root{salt}"
        for name in ("tree", "copies", "others"):
            (root / name).mkdir(parents=True)
        for n in range(8):
            body = "".join(f"def f{k}(x):\n    return f{k + 1}(x)\n\n\n" for k in range(4))
            (root / f"tree/m{n}.py").write_text(f"from m{(n + 1) % 8} import f0\n\n\n{body}")
        shutil.copy(full, root / "full.db")
        Store(root / "scan.db").close()
        trace = tmp_path / "trace"
        disk, happened = recorded(watcher, root, trace, "mixed", durability, salt, rounds(8, 60))
        image = tmp_path / "image"
        for notes in losses(disk, happened, image, chance("cuts", durability, salt), rounds(2, 15)):
            (lost,) = done(asking(seen_after, image, notes, durability), seconds=300)
            missing, times, told = missing + lost, times + 1, told + len(notes)
        shutil.rmtree(root)
    assert not missing or durability == "normal"
    print(f"\n{times} power losses, {durability}: looked for {told:,} acknowledged things, {missing} marks are missing")


# What makes a whole file or makes it another one ----------------------------------------------------------------------


def one(_: Tell, folder: str, name: str, durability: str) -> None:
    WORKS[name].do(Path(folder), telling(Path(folder)), durability)


@pytest.mark.parametrize("name", WORKS)
def test_a_file_is_the_old_one_or_the_new_one(watcher: Watcher, full: Path, tmp_path: Path, name: str) -> None:
    if isinstance(WORKS[name], Rekey):
        pytest.importorskip("sqlcipher3")
    found, some = Counter[str](), chance("power", name)
    for durability in ("full", "normal")[: rounds(1, 2)]:
        root, image = tmp_path / durability, tmp_path / "image"
        root.mkdir()
        WORKS[name].before(root, full)
        disk, happened = recorded(watcher, root, tmp_path / "trace", "one", name, durability)
        for notes in losses(disk, happened, image, some, rounds(2, 12)):
            found.update(done(asking(WORKS[name].after, image, notes, durability)))
    print(f"\n{found.total()} power losses, {name}; afterwards: {dict(found)}")
