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
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from killing import ROLES, Ledger
from power import Disk
from stressing import Tell, chance, copied, done, fill, report, rounds, sound, tables
from syscalls import Event, Server, events, server  # noqa: F401  a fixture

from scanstore import NotAScanstore, NotFound, ScanstoreError, Store, WrongKey, backups, drop_db, migrating
from scanstore.cli import main
from scanstore.database import SCHEMA_VERSION
from scanstore.models import Scan

Notes = list[list[Any]]
ACKS = "acks"
ONE, TWO = (f"x'{letter * 64}'" for letter in "ab")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("power") / "full.db"
    fill(path)
    return path


def telling(root: Path) -> Tell:
    """Acknowledge by a line of a file that is written down with everything else, and so has its place in the order."""
    file = os.open(root / ACKS, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    return lambda note: os.write(file, json.dumps(note).encode() + b"\n")


def recorded(server: Server, root: Path, trace: Path, work: str, *arguments: Any) -> tuple[Disk, list[Event]]:  # noqa: F811
    """Run some work of this module; return the disk as it was before, and what was done to it."""
    disk = Disk(root)
    trace.unlink(missing_ok=True)
    outcome = server.run(f"stress_power:{work}", os.fspath(root), *arguments, watch=root, trace=trace, limit=120)
    assert outcome.status == 0, outcome.raised
    return disk, events(trace)


def losses(disk: Disk, happened: list[Event], image: Path, some: random.Random, times: int) -> Iterator[Notes]:
    """Lose power so many times, half of them right after an acknowledgement; what is left is in the folder `image`."""
    acks = os.fspath(disk.folder / ACKS)
    after = [n + 1 for n, event in enumerate(happened) if event.kind == "W" and event.path == acks]
    cuts = sorted(
        some.choice(after) if after and some.random() < 0.5 else some.randint(0, len(happened)) for _ in range(times)
    )
    at, notes = 0, []
    for cut in cuts:
        for event in happened[at:cut]:
            disk.apply(event)
            if event.kind == "W" and event.path == acks:
                notes.append(json.loads(event.data))
        at = cut
        shutil.rmtree(image, ignore_errors=True)
        for name, content in disk.lost(some).items():
            (image / name).parent.mkdir(parents=True, exist_ok=True)
            (image / name).write_bytes(content)
        yield list(notes)


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
        elif len(marks) < told:
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
        assert backups.verify(image / "copies" / Path(copies[-1]).name) == SCHEMA_VERSION
    if any(note[0] == "dump" for note in notes):
        assert "end" in json.loads((image / "copies/dump.jsonl").read_bytes().splitlines()[-1])
    return max(told - len(marks), 0)


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_what_was_acknowledged_survives_a_power_loss(
    server: Server,  # noqa: F811
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
        disk, happened = recorded(server, root, trace, "mixed", durability, salt, rounds(12, 60))
        image = tmp_path / "image"
        for notes in losses(disk, happened, image, chance("cuts", durability, salt), rounds(3, 15)):
            (lost,) = done(lambda tell, notes=notes: tell(seen_after(image, notes, durability)))  # type: ignore[misc]
            missing, times, told = missing + lost, times + 1, told + len(notes)
        shutil.rmtree(root)
    assert not missing or durability == "normal"
    print(f"\n{times} power losses ({durability}), {told} acknowledgements looked for, {missing} marks missing at the end")


# What makes a whole file or makes it another one ----------------------------------------------------------------------
#
# Each kind of work has three parts: what is there before, what is done, and what must be there after a loss.


class Work:
    def before(self, root: Path, full: Path) -> None: ...

    def do(self, root: Path, tell: Tell, durability: str) -> None:
        raise NotImplementedError

    def after(self, image: Path, told: Notes, durability: str) -> str:
        """Look at what is left; tell what it was."""
        raise NotImplementedError


def kinds(told: Notes) -> set[str]:
    return {note[0] for note in told}


class New(Work):
    """A store that was not there."""

    def do(self, root: Path, tell: Tell, durability: str) -> None:
        with Store(root / "scan.db", durability=durability) as store:
            for n in range(4):
                store.settings[f"mark {n}"] = n
                tell([n])
        with Store(root / "scan.db", durability=durability) as store:
            store.settings["mark 4"] = 4
            tell([4])

    def after(self, image: Path, told: Notes, durability: str) -> str:
        count = len(told)
        there = (image / "scan.db").exists()
        with Store(image / "scan.db") as store:
            marks = store.settings.to_dict()
            assert marks == {f"mark {n}": n for n in range(len(marks))} and len(marks) <= count + 1
            assert durability == "normal" or len(marks) >= count
            assert store.check() == []
        return "none" if not there else f"{len(marks)} rows"


class Migrate(Work):
    """A store of an older schema."""

    def __init__(self, schema: int) -> None:
        self.schema = schema

    def before(self, root: Path, full: Path) -> None:
        migrating.down(copied(full, root / "scan.db"), to=self.schema, backup=False)

    def do(self, root: Path, tell: Tell, durability: str) -> None:
        with Store(root / "scan.db", durability=durability) as store:
            tell(["migrated"])
            store.settings["after"] = 1
            tell(["written"])

    def after(self, image: Path, told: Notes, durability: str) -> str:
        path = image / "scan.db"
        sound(path)
        version = sum(step.applied for step in migrating.status(path))
        assert version == SCHEMA_VERSION or version == self.schema and not told
        if version == SCHEMA_VERSION:
            (copy,) = (name for name in image.glob("*.backup-*") if "partial" not in name.name)
            assert backups.verify(copy) == self.schema
        with Store(path) as store:
            assert store.check() == [] and Scan.select().count()
            assert durability == "normal" or "written" not in kinds(told) or store.settings["after"] == 1
        return f"schema {version}"


class Restore(Work):
    """A copy in the place of a store, of none, or of one that cannot be opened."""

    def __init__(self, what: str) -> None:
        self.what = what

    def before(self, root: Path, full: Path) -> None:
        copied(full, root / "copy.db")
        if self.what == "a store":
            with Store(root / "scan.db") as store, store.transaction():
                for n in range(200):
                    store.settings[f"key {n}"] = "x" * 1000
        elif self.what == "damage":
            content = bytearray(full.read_bytes())
            content[:4096] = bytes(4096)
            (root / "scan.db").write_bytes(content)

    def do(self, root: Path, tell: Tell, durability: str) -> None:
        backups.restore(root / "copy.db", root / "scan.db")
        tell(["restored"])
        with Store(root / "scan.db", durability=durability) as store:
            store.settings["after"] = 1
            tell(["written"])

    def after(self, image: Path, told: Notes, durability: str) -> str:
        path = image / "scan.db"
        if not told and self._is_old(image):
            return "old"
        kept = [name for name in image.glob("*.before-restore-*") if "partial" not in name.name]
        assert (len(kept) == 1) == (self.what != "nothing")
        if self.what == "a store":
            assert backups.verify(kept[0]) == SCHEMA_VERSION
        sound(path)
        with Store(path) as store:
            assert store.check() == [] and Scan.select().count() and len(store.settings) < 200
            assert durability == "normal" or "written" not in kinds(told) or store.settings["after"] == 1
        return "new"

    def _is_old(self, image: Path) -> bool:
        path = image / "scan.db"
        if self.what == "nothing":
            return not path.exists()
        if self.what == "damage":
            return path.read_bytes()[:4096] == bytes(4096)
        with Store(path) as store:
            assert store.check() == []
            return len(store.settings) == 200


class Rekey(Work):
    """A change of the key."""

    def __init__(self, old: str | None, new: str | None) -> None:
        self.keys = old, new

    def before(self, root: Path, full: Path) -> None:
        shutil.copy(full, root / "scan.db")
        if self.keys[0] is not None:
            Store(root / "scan.db").rekey(self.keys[0])

    def do(self, root: Path, tell: Tell, durability: str) -> None:
        Store(root / "scan.db", key=self.keys[0]).rekey(self.keys[1])
        tell(["changed"])
        with Store(root / "scan.db", key=self.keys[1], durability=durability) as store:
            store.settings["after"] = 1
            tell(["written"])

    def after(self, image: Path, told: Notes, durability: str) -> str:
        try:
            store, found = Store(image / "scan.db", key=self.keys[1]), "new"
        except (WrongKey, NotAScanstore):
            assert not told
            store, found = Store(image / "scan.db", key=self.keys[0]), "old"
        with store:
            assert store.check() == [] and Scan.select().count()
            assert durability == "normal" or "written" not in kinds(told) or store.settings["after"] == 1
        return found


class Load(Work):
    """A dump, of this schema or an older one, into a new store."""

    def before(self, root: Path, full: Path) -> None:
        with Store(full) as store:
            store.dump(root / "dump.jsonl", include_secrets=True)

    def do(self, root: Path, tell: Tell, durability: str) -> None:
        with Store(root / "scan.db", durability=durability) as store:
            store.load(root / "dump.jsonl")
            tell(["loaded"])

    def after(self, image: Path, told: Notes, durability: str) -> str:
        with Store(image / "scan.db") as store:
            assert store.check() == []
            if not Scan.select().count():
                assert not told or durability == "normal"
                return "empty"
        empty = {name for name, count in tables(image / "scan.db").items() if not count}
        assert not {name for name in empty if "search" not in name}, "these are made when they are asked"
        return "full"


class Repair(Work):
    """A damaged store, saved into a new one."""

    def before(self, root: Path, full: Path) -> None:
        content = bytearray(full.read_bytes())
        content[30 * 4096 : 31 * 4096] = bytes(4096)
        (root / "damaged.db").write_bytes(content)

    def do(self, root: Path, tell: Tell, durability: str) -> None:
        Store.repair(root / "damaged.db", root / "scan.db")
        tell(["repaired"])

    def after(self, image: Path, told: Notes, durability: str) -> str:
        if not told and not (image / "scan.db").exists():
            return "none"
        sound(image / "scan.db")
        with Store(image / "scan.db") as store:
            assert store.check() == [] and Scan.select().count()
        return "whole"


class Write(Work):
    """A file for others, in the place of an older one."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def before(self, root: Path, full: Path) -> None:
        shutil.copy(full, root / "scan.db")
        (root / "out").write_text("the old one")

    def do(self, root: Path, tell: Tell, durability: str) -> None:
        with Store(root / "scan.db") as store:
            scan = max(scan.id for scan in store.scans.list() if scan.target == "elsewhere")
            if self.kind == "dump":
                store.dump(root / "out")
            elif self.kind == "sarif":
                store.sarif.dump(scan, root / "out")
        if self.kind == "report":
            arguments = ["--db", os.fspath(root / "scan.db"), "--format", "json", "-o", os.fspath(root / "out")]
            result = CliRunner().invoke(main, ["report", *arguments, "--scan", str(scan)])
            if isinstance(result.exception, SystemExit):
                raise ScanstoreError(result.output)
            if result.exception is not None:
                raise result.exception
        tell(["written"])

    def after(self, image: Path, told: Notes, durability: str) -> str:
        content = (image / "out").read_text()
        if content == "the old one":
            assert not told
            return "old"
        json.loads(content.splitlines()[-1] if self.kind == "dump" else content)
        return "new"


class Drop(Work):
    """A store that is deleted."""

    def before(self, root: Path, full: Path) -> None:
        shutil.copy(full, root / "scan.db")

    def do(self, root: Path, tell: Tell, durability: str) -> None:
        drop_db(root / "scan.db", confirm=True)
        tell(["dropped"])

    def after(self, image: Path, told: Notes, durability: str) -> str:
        if not (image / "scan.db").exists():
            with pytest.raises(NotFound):
                Store(image / "scan.db", read_only=True)
            return "none"
        assert not told
        with Store(image / "scan.db") as store:
            assert store.check() == [] and Scan.select().count()
        return "whole"


WORKS: dict[str, Work] = {
    "new": New(),
    **{f"migrate from {schema}": Migrate(schema) for schema in range(1, SCHEMA_VERSION)},
    **{f"restore over {what}": Restore(what) for what in ("a store", "nothing", "damage")},
    "encrypt": Rekey(None, ONE),
    "change the key": Rekey(ONE, TWO),
    "decrypt": Rekey(TWO, None),
    "load": Load(),
    "repair": Repair(),
    **{f"write a {kind}": Write(kind) for kind in ("dump", "sarif", "report")},
    "drop": Drop(),
}


def one(_: Tell, folder: str, name: str, durability: str) -> None:
    WORKS[name].do(Path(folder), telling(Path(folder)), durability)


@pytest.mark.parametrize("name", WORKS)
def test_a_file_is_the_old_one_or_the_new_one(server: Server, full: Path, tmp_path: Path, name: str) -> None:  # noqa: F811
    if isinstance(WORKS[name], Rekey):
        pytest.importorskip("sqlcipher3")
    found, some = Counter[str](), chance("power", name)
    for durability in ("full", "normal")[: rounds(1, 2)]:
        root, image = tmp_path / durability, tmp_path / "image"
        root.mkdir()
        WORKS[name].before(root, full)
        disk, happened = recorded(server, root, tmp_path / "trace", "one", name, durability)

        def look(tell: Tell) -> None:
            tell(WORKS[name].after(image, notes, durability))  # noqa: B023  at once

        for notes in losses(disk, happened, image, some, rounds(3, 12)):
            found[done(look)[0]] += 1
    print(f"\n{found.total()} power losses, {name}; afterwards: {dict(found)}")
