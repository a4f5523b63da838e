"""What makes a whole file or makes it another one, and what must be there when that was cut short: the file that was
there or the new one, never a part.

Each kind of work has three parts: what is there before, what is done, and what must be there after. A new one goes into
WORKS, and its power is then lost and its system calls fail.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from stressing import LONG, Tell, copied, sound, tables

from scanstore import NotAScanstore, ScanstoreError, Store, WrongKey, drop_db
from scanstore.cli import main
from scanstore.db import migrations
from scanstore.db.database import SCHEMA_VERSION
from scanstore.maintenance import backup, dump
from scanstore.models import Scan

Notes = list[list[Any]]
SCHEMAS = range(1, SCHEMA_VERSION)  # the earlier ones
ONE, TWO = (f"x'{letter * 64}'" for letter in "ab")


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
        migrations.down(copied(full, root / "scan.db"), to=self.schema, backup=False)

    def do(self, root: Path, tell: Tell, durability: str) -> None:
        with Store(root / "scan.db", durability=durability) as store:
            tell(["migrated"])
            store.settings["after"] = 1
            tell(["written"])

    def after(self, image: Path, told: Notes, durability: str) -> str:
        path = image / "scan.db"
        sound(path)
        version = sum(step.applied for step in migrations.status(path))
        assert version == SCHEMA_VERSION or version == self.schema and not told
        if version == SCHEMA_VERSION:
            (copy,) = (name for name in image.glob("*.backup-*") if "partial" not in name.name)
            assert backup.verify(copy) == self.schema
        with Store(path) as store:
            assert store.check() == [] and Scan.select().count()
            assert durability == "normal" or "written" not in kinds(told) or store.settings["after"] == 1
        return f"schema {version}"


class Restore(Work):
    """A copy in the place of a store, of none, or of one that cannot be opened."""

    def __init__(self, what: str, *, links: bool = True) -> None:
        self.what, self.links = what, links

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
        if not self.links:
            os.link = _refused
        backup.restore(root / "copy.db", root / "scan.db")
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
            assert backup.verify(kept[0]) == SCHEMA_VERSION
        elif self.what == "damage":  # all of it but the first page is as in the copy
            assert kept[0].read_bytes() == bytes(4096) + (image / "copy.db").read_bytes()[4096:]
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


def _refused(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "a file system without second names")


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
    """A dump of that schema into a new store."""

    def __init__(self, schema: int) -> None:
        self.schema = schema

    def before(self, root: Path, full: Path) -> None:
        older = copied(full, root / "older.db")
        if self.schema < SCHEMA_VERSION:
            migrations.down(older, to=self.schema, backup=False)
        with closing(sqlite3.connect(older)) as connection:
            lines = dump.lines(connection.execute, self.schema, {}, include_secrets=True)
            (root / "dump.jsonl").write_bytes(b"".join(lines))
        self.filled = {name for name, count in tables(older).items() if count} - {"model_slots"}
        older.unlink()

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
        now = {name for name, count in tables(image / "scan.db").items() if count}
        assert {name for name in self.filled if "search" not in name} <= now  # those come when they are asked
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
            return "none"
        assert not told
        with Store(image / "scan.db") as store:
            assert store.check() == [] and Scan.select().count()
        return "whole"


WORKS: dict[str, Work] = {
    "new": New(),
    **{f"migrate from {schema}": Migrate(schema) for schema in (SCHEMAS if LONG else SCHEMAS[:: len(SCHEMAS) - 1])},
    **{f"restore over {what}": Restore(what) for what in ("a store", "nothing", "damage")},
    "restore over damage without links": Restore("damage", links=False),
    "encrypt": Rekey(None, ONE),
    "change the key": Rekey(ONE, TWO),
    "decrypt": Rekey(TWO, None),
    **{f"load schema {schema}": Load(schema) for schema in (SCHEMA_VERSION, SCHEMA_VERSION - 1)},
    "repair": Repair(),
    **{f"write a {kind}": Write(kind) for kind in ("dump", "sarif", "report")},
    "drop": Drop(),
}
