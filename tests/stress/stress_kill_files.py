"""Kill, of what makes a whole file or makes it another one: the file that was there or the new one, never a part.

Each of these wants the store for itself. How long it takes is measured first, then it is killed at any moment of that
time. Real processes, real SIGKILL.
"""

from __future__ import annotations

import io
import itertools
import os
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stressing import Tell, chance, copied, fill, killed, rounds, seconds, sound, tables

from scanstore import NotAScanstore, Store, WrongKey
from scanstore.db import migrations
from scanstore.db.database import SCHEMA_VERSION
from scanstore.maintenance import backup
from scanstore.maintenance import dump as transfer
from scanstore.models import Scan

Work = Callable[[Tell], object]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kill-full") / "full.db"
    fill(path)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder, emptied again by `emptied`."""
    place = tmp_path / "place"
    place.mkdir()
    return place


def emptied(place: Path) -> Path:
    shutil.rmtree(place)
    place.mkdir()
    return place


def killings(work: Work, fresh: Callable[[], object], took: float, some: random.Random, times: int) -> Iterator[bool]:
    """Kill some work at any moment of the time that it takes, and say whether it had told that it is done.

    That is so of one in four: how long it takes changes with what else the machine does.
    """
    for _ in range(times):
        fresh()
        told = bool(killed(work, some.random() * took))
        took *= 0.75 if told else 1.1
        yield told


def partial(place: Path) -> list[str]:
    """What is left of something that was not finished."""
    return [name for name in os.listdir(place) if "part" in name or name.startswith(".")]


def test_a_migration_leaves_the_old_schema_or_the_new_one(full: Path, place: Path, tmp_path: Path) -> None:
    """At any moment; tests of single statements are in stress_migration."""
    some, found, path, took = chance("migrate"), Counter[int](), place / "scan.db", {}
    times, schemas = rounds(3, 60), some.sample(range(1, SCHEMA_VERSION), SCHEMA_VERSION - 1)
    for schema in itertools.islice(itertools.cycle(schemas), times):
        old = tmp_path / f"{schema}.db"

        def work(tell: Tell) -> None:
            Store(path).close()
            tell("migrated")

        if schema not in took:
            migrations.down(copied(full, old), to=schema, backup=False)
            shutil.copy(old, emptied(place) / path.name)
            took[schema] = seconds(work)
        shutil.copy(old, emptied(place) / path.name)
        told = killed(work, some.random() * took[schema])
        took[schema] *= 0.75 if told else 1.1
        sound(path)
        version = sum(step.applied for step in migrations.status(path))
        assert version == SCHEMA_VERSION or version == schema and not told
        found[version] += 1
        for copy in place.glob("*.backup-*Z"):
            sound(copy)
        with Store(path) as store:
            assert store.check() == []
    print(f"\n{times} migrations killed; schema afterwards: {dict(sorted(found.items()))}")


def test_a_restore_leaves_the_old_store_or_the_new_one(full: Path, place: Path, tmp_path: Path) -> None:
    some, found, path = chance("restore"), Counter[str](), place / "scan.db"
    copy, other = copied(full, tmp_path / "copy.db"), tmp_path / "other.db"
    with Store(other) as store:
        with store.transaction():
            for n in range(400):
                store.settings.set(f"key {n}", "x" * 1000)

    def work(tell: Tell) -> None:
        backup.restore(copy, path)
        tell("restored")

    def fresh() -> None:
        shutil.copy(other, emptied(place) / path.name)

    fresh()
    for told in killings(work, fresh, seconds(work), some, rounds(2, 60)):
        with Store(path) as store:
            assert store.check() == []
            old, new = len(store.settings) == 400, Scan.select().count() > 0
        assert old != new and (new or not told)
        found["new" if new else "old"] += 1
        for kept in place.glob("*.before-restore-*"):
            if "partial" not in kept.name:
                sound(kept)
    print(f"\n{found.total()} restores killed; the store afterwards: {dict(found)}")


@pytest.mark.parametrize("schema", [SCHEMA_VERSION, SCHEMA_VERSION - 1])
def test_a_load_leaves_an_empty_store_or_a_full_one(full: Path, place: Path, tmp_path: Path, schema: int) -> None:
    """And the next load takes what is empty."""
    some, found, path, dump = chance("load", schema), Counter[str](), place / "scan.db", tmp_path / "dump.jsonl"
    older = copied(full, tmp_path / "older.db")
    if schema < SCHEMA_VERSION:
        migrations.down(older, to=schema, backup=False)
    connection = sqlite3.connect(older)
    dump.write_bytes(b"".join(transfer.lines(connection.execute, schema, {}, include_secrets=True)))
    connection.close()

    def work(tell: Tell) -> None:
        with Store(path) as store:
            store.load(dump)
            tell("loaded")

    with Store(path) as store:
        nothing = dumped(store)
    took = seconds(work)
    with Store(path) as store:
        content = dumped(store)
    for told in killings(work, lambda: emptied(place), took, some, rounds(1, 40)):
        with Store(path) as store:
            assert store.check() == []
            if dumped(store) == content:
                found["full"] += 1
            else:
                assert not told and dumped(store) == nothing
                found["empty"] += 1
                store.load(dump)
                assert store.check() == [] and dumped(store) == content
        if schema < SCHEMA_VERSION and found["empty"]:
            assert not partial(place), "what the dead have left is swept by the next"
    print(f"\n{found.total()} loads of schema {schema} killed; the store afterwards: {dict(found)}")


def dumped(store: Store) -> bytes:
    stream = io.BytesIO()
    store.dump(stream, include_secrets=True)
    return stream.getvalue()


def test_a_dump_leaves_the_old_file_or_the_new_one(full: Path, place: Path, tmp_path: Path) -> None:
    some, found, source, path = chance("dump"), Counter[str](), tmp_path / "source.db", place / "dump.jsonl"
    shutil.copy(full, source)

    def work(tell: Tell) -> None:
        with Store(source) as store:
            store.dump(path)
        tell("dumped")

    took, new = seconds(work), path.read_bytes()
    for told in killings(work, lambda: path.write_bytes(b"the old one"), took, some, rounds(2, 60)):
        content = path.read_bytes()
        assert content == new or content == b"the old one" and not told
        found["new" if content == new else "old"] += 1
    with Store(source) as store:
        store.dump(path)
    assert os.listdir(place) == [path.name], "what the dead have left is swept by the next"
    print(f"\n{found.total()} dumps killed; the file afterwards: {dict(found)}")


def test_a_repair_leaves_no_new_store_or_a_whole_one(full: Path, place: Path, tmp_path: Path) -> None:
    some, found, damaged, path = chance("repair"), Counter[str](), tmp_path / "damaged.db", place / "new.db"
    content = bytearray(full.read_bytes())
    for page in some.sample(range(2, len(content) // 4096), 3):
        content[page * 4096 : (page + 1) * 4096] = bytes(4096)
    damaged.write_bytes(content)

    def work(tell: Tell) -> None:
        tell(Store.repair(damaged, path).path)

    took, saved = seconds(work), tables(path)
    for told in killings(work, lambda: path.unlink(missing_ok=True), took, some, rounds(1, 40)):
        assert damaged.read_bytes() == content, "it is never written"
        if not path.exists():
            assert not told
            found["none"] += 1
            continue
        sound(path)
        assert tables(path) == saved
        found["whole"] += 1
    path.unlink(missing_ok=True)
    Store.repair(damaged, path)
    assert os.listdir(place) == [path.name] and tables(path) == saved, "what the dead have left is swept by the next"
    print(f"\n{found.total()} repairs killed; the new store afterwards: {dict(found)}")


# Keys as SQLCipher takes them without deriving one, which would take longer than all the rest.
ONE, TWO, THREE = (f"x'{letter * 64}'" for letter in "abc")


@pytest.mark.parametrize("keys", [(None, ONE), (ONE, TWO), (TWO, None)], ids=["to", "from-to", "from"])
def test_a_change_of_the_key_leaves_the_old_one_or_the_new_one(
    full: Path, place: Path, tmp_path: Path, keys: tuple[str | None, str | None]
) -> None:
    pytest.importorskip("sqlcipher3")
    (old, new), some, found = keys, chance("rekey", keys), Counter[str]()
    path, original = place / "scan.db", tmp_path / "original.db"
    shutil.copy(full, original)
    if old is not None:
        Store(original).rekey(old)

    def work(tell: Tell) -> None:
        Store(path, key=old).rekey(new)
        tell("changed")

    def fresh() -> None:
        shutil.copy(original, emptied(place) / path.name)

    fresh()
    for told in killings(work, fresh, seconds(work), some, rounds(1, 40)):
        try:
            store = Store(path, key=new)
            found["new"] += 1
        except (WrongKey, NotAScanstore):
            assert not told
            store = Store(path, key=old)
            found["old"] += 1
        with store:
            assert store.check() == [] and Scan.select().count() > 0
    Store(path, key=store.database.key).rekey(THREE)
    assert not partial(place), "what the dead have left is swept by the next"
    print(f"\n{found.total()} changes of the key killed; the key afterwards: {dict(found)}")
