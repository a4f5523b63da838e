"""Models and migrations of the user's own, with their own history: every verb carries both."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee
import pytest
from peewee_migrate import Router

from scanstore import Store
from scanstore.db import migrations
from scanstore.db.fields import Base
from scanstore.models import Scan

FIRST = """
def migrate(migrator, database, *, fake=False):
    migrator.sql("CREATE TABLE review (id INTEGER PRIMARY KEY, text TEXT NOT NULL,"
                 " scan_id INTEGER NOT NULL REFERENCES scans (id) ON DELETE CASCADE)")
    migrator.sql("CREATE INDEX review_scan_id ON review (scan_id)")

def rollback(migrator, database, *, fake=False):
    migrator.sql("DROP TABLE review")
"""
SECOND = """
import peewee as pw

def migrate(migrator, database, *, fake=False):
    @migrator.create_model
    class Note(pw.Model):
        text = pw.TextField()
        class Meta:
            table_name = "note"

def rollback(migrator, database, *, fake=False):
    migrator.remove_model("note")
"""
THIRD = """
import peewee as pw

def migrate(migrator, database, *, fake=False):
    migrator.add_fields("note", stars=pw.IntegerField(default=0))

def rollback(migrator, database, *, fake=False):
    migrator.remove_fields("note", "stars")
"""
STEPS = {"001_reviews": FIRST, "002_notes": SECOND, "003_stars": THIRD}


class Review(Base):
    scan = peewee.ForeignKeyField(Scan, on_delete="CASCADE", backref="+")
    text = peewee.TextField()


class Note(peewee.Model):
    text = peewee.TextField()
    stars = peewee.IntegerField(default=0)


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    (tmp_path / "steps").mkdir()
    for name, text in STEPS.items():
        (tmp_path / "steps" / f"{name}.py").write_text(text)
    return tmp_path / "steps"


def route(store: Store, steps: Path) -> Router:
    return Router(store.database, migrate_dir=steps, migrate_table="myhistory")


def content(path: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
            for table in ("review", "note", "myhistory")
        }


def assert_whole(path: Path, steps: Path, before: dict[str, list[Any]]) -> None:
    assert content(path) == before
    with Store(path) as store:
        assert store.check() == []
        mine = route(store, steps)
        assert mine.done == list(STEPS) and mine.diff == []
        mine.run()
        assert [review.scan.name for review in Review.select()] == [scan.name for scan in store.scans.list()]
    assert content(path) == before


@pytest.fixture
def path(tmp_path: Path, steps: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "a.py").write_text("x = 1\n")
    path = tmp_path / "s.db"
    with Store(path) as store:
        route(store, steps).run()
        Review.create(scan=store.scans.record(tmp_path / "shop"), text="good")
        with store.database.bind_ctx([Note]):
            Note.create(text="short", stars=3)
    return path


def test_a_users_migrations_go_up_and_down(path: Path, steps: Path) -> None:
    assert_whole(path, steps, content(path))
    with Store(path) as store:
        mine = route(store, steps)
        mine.rollback()
        assert {column.name for column in store.database.get_columns("note")} == {"id", "text"}
        mine.rollback()
        mine.rollback()
        assert store.check() == [] and not {"note", "review"} & set(store.database.get_tables())
        mine.run()
        assert store.check() == [] and Review.select().count() == 0


def test_dump_and_load_carry_them(path: Path, steps: Path, tmp_path: Path) -> None:
    with Store(path) as store, Store(tmp_path / "new.db") as new:
        store.dump(tmp_path / "s.jsonl")
        assert new.load(tmp_path / "s.jsonl").own_left_out == []
    assert_whole(tmp_path / "new.db", steps, content(path))


def test_merge_carries_them(path: Path, steps: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "new.db") as new:
        assert new.merge(path).skipped == {}
        assert new.merge(path).added == 0
    assert_whole(tmp_path / "new.db", steps, content(path))


def test_repair_and_backup_carry_them(path: Path, steps: Path, tmp_path: Path) -> None:
    assert Store.repair(path, tmp_path / "saved.db").whole
    assert_whole(tmp_path / "saved.db", steps, content(path))
    with Store(path) as store:
        store.backup(tmp_path / "copy.db")
    assert_whole(tmp_path / "copy.db", steps, content(path))


def test_scanstores_migrations_leave_them_alone(path: Path, steps: Path) -> None:
    before = content(path)
    migrations.down(path, to=7)
    assert content(path) == before
    migrations.up(path)
    assert_whole(path, steps, before)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM migratehistory WHERE name LIKE '%reviews'").fetchone() == (0,)
