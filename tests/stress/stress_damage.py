"""Damage: a file with bits flipped, cut off, or of nothing but noise is refused, or reported by `check`.

No traceback, no hang, no crash, no memory blown up, whatever is asked of it.
"""

from __future__ import annotations

import io
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import needs
import pytest
from stressing import Child, Tell, chance, fill, rounds

from scanstore import Damaged, ScanstoreError, Store

resource = needs.module("resource")

MEMORY = 1_500_000_000  #: bytes of address space that a process with a hostile file may take


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "full.db"
    fill(path)
    return path


def looked_at(path: Path) -> Callable[[Tell], object]:
    """Open a store, ask, write, check: only errors of ours may come, and not for want of memory."""

    def work(tell: Tell) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        troubles = 0
        try:
            with Store(path, timeout=2) as store:
                for ask in (
                    store.scans.list, lambda: store.scans.summary(1), lambda: list(store.symbols.edges(scan=1)),
                    lambda: store.findings.list(1), lambda: store.symbols.find("a", match="contains", scan=1),
                    lambda: store.search("flaw"), lambda: store.report(1),
                    store.library.list, store.plans.list, store.jobs.list, store.settings.to_dict, store.accounts.list,
                    lambda: store.settings.set("new", "x" * 9000), lambda: store.jobs.enqueue("x"), store.stats,
                    lambda: store.dump(io.BytesIO()),
                ):  # fmt: skip
                    try:
                        ask()  # type: ignore[operator]
                    except ScanstoreError as error:
                        assert "memory" not in str(error), error
                        # A text or time that is none is noticed by who reads it: to look for such is to read it all.
                        troubles += not re.search("decode|is no time|is no UUID", f"{error} {error.__cause__}")
                tell(["checked", [problem.what for problem in store.check()], troubles])
        except ScanstoreError as error:
            assert "memory" not in str(error), error
            tell(["refused", str(error)])

    return work


def verdict(path: Path) -> list[Any]:
    child = Child(looked_at(path))
    told = child.end(40)
    assert child.status == 0 and told, (child.status, told)
    return told[0]


def test_flipped_bits(full: Path, tmp_path: Path) -> None:
    some, original, outcomes = chance("flips"), full.read_bytes(), Counter[str]()
    for number in range(rounds(12, 1500)):
        content = bytearray(original)
        for _ in range(some.choice((1, 1, 8, 100))):
            at = some.randrange(some.choice((200, 4096, len(content))))
            content[at] ^= 1 << some.randrange(8)
        path = tmp_path / f"{number}.db"
        path.write_bytes(content)
        try:
            found = verdict(path)
        except AssertionError as error:
            raise AssertionError(f"{path} (kept)") from error
        silent = found[0] == "checked" and not found[1]
        # A bit of a text or a number cannot be told from what was written; where reading fails, check says so.
        assert not (silent and found[2]), (number, found)
        outcomes["unnoticed" if silent else "reported" if found[0] == "checked" else "refused"] += 1
        for end in ("", "-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)
    print(f"\nfiles with flipped bits: {dict(outcomes)}")


def test_truncated_files_are_never_taken_for_whole(full: Path, tmp_path: Path) -> None:
    some, original, outcomes = chance("cuts"), full.read_bytes(), Counter[str]()
    sizes = [some.randrange(1, len(original)) for _ in range(rounds(4, 300))]
    for size in [1, 15, 16, 99, 100, 512, 4095, 4096, 4097, len(original) - 4096, len(original) - 1, *sizes]:
        path = tmp_path / f"{size}.db"
        path.write_bytes(original[:size])
        found = verdict(path)
        assert found[0] == "refused" or found[1], f"{size} of {len(original)} bytes are taken for a whole store"
        outcomes[found[0]] += 1
    print(f"\ntruncated files: {dict(outcomes)}")


def test_no_file_of_random_bytes_is_opened(tmp_path: Path) -> None:
    some = chance("noise")
    for number in range(rounds(10, 200)):
        path = tmp_path / f"{number}.db"
        head = some.choice((b"", b"SQLite format 3\0", b"SQLite format 3\0\x10\x00\x02\x02\x00\x40\x20\x20"))
        path.write_bytes(head + some.randbytes(some.choice((1, 100, 5000, 50_000))))
        before = path.read_bytes()
        assert verdict(path)[0] == "refused"
        assert path.read_bytes() == before and list(tmp_path.glob(f"{number}.db*")) == [path]


def spoiled(full: Path, path: Path, *statements: str) -> Path:
    """A full store with which somebody else has meddled."""
    shutil.copy(full, path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA writable_schema=ON")
    for sql in statements:
        connection.execute(sql)
    connection.commit()
    connection.close()
    return path


@pytest.mark.parametrize("index", ["ix_jobs_leased", "ix_jobs_cancelling", "ix_chunk_work_leased", "ix_jobs_ready"])
def test_an_index_that_is_missing_is_made_anew(full: Path, tmp_path: Path, index: str) -> None:
    """Also one without which nothing can be claimed, or looked for at opening."""
    with Store(spoiled(full, tmp_path / "scan.db", f"DROP INDEX {index}")) as store:
        with pytest.raises(Damaged, match=f"{index} is missing; put it right with: scanstore check --fix"):
            store.database.execute_sql(f"SELECT 1 FROM {index[3:].rpartition('_')[0]} INDEXED BY {index}").fetchall()
        assert [problem.fixed for problem in store.check(fix=True)] == [True]
        assert store.check() == []


@pytest.mark.parametrize("wrong", ["replace(sql, 'process', 'prccess')", "CAST(CAST(sql AS BLOB) || x'f4' AS TEXT)"])
def test_a_schema_that_says_something_else_is_damage(full: Path, tmp_path: Path, wrong: str) -> None:
    update = f"UPDATE sqlite_schema SET sql = {wrong} WHERE name = 'jobs'"
    found = verdict(spoiled(full, tmp_path / "scan.db", update))
    assert found[0] == "refused" and "damaged" in found[1] or "the table jobs is not as it should be" in str(found[1])


def test_a_time_that_is_none_is_damage(full: Path, tmp_path: Path) -> None:
    update = "UPDATE jobs SET created_at = '2026-01-01T00:71:00.000Z'"
    with Store(spoiled(full, tmp_path / "scan.db", update)) as store, pytest.raises(Damaged, match="is no time"):
        store.jobs.list()
