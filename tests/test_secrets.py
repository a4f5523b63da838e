"""Planted secrets never come out: not by any representation, command, dump, report, log, error or file mode."""

from __future__ import annotations

import gc
import json
import logging
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import needs
import pytest
from click.testing import CliRunner

from scanstore import Store, models
from scanstore.accounts.models import User
from scanstore.cli import main
from scanstore.db.database import Database
from scanstore.db.fields import Base
from scanstore.llm.models import ModelConfig
from scanstore.maintenance.dump import SECRETS

HASH = "$2b$04$" + "PLANTEDxHASHxOFxAxPASSWORDx" + "abcdefghijklmnopqrstuvwxyz"
KEY = "sk-PLANTED-KEY-0123456789"
OTHER = "sk-PLANTED-OTHER-0123456789"
PASSWORD = "PLANTED-password-that-is-long"
PLANTED = "PLANTED"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.py").write_text("import os\n\ndef f():\n    return os.getcwd()\n")
    with Store(tmp_path / "s.db") as store:
        model = store.llm.add("m", api_key=KEY)
        store.accounts.add("ada@x.org", hashed_password=HASH[:60])
        scan = store.scans.analyze(store.scans.record(tmp_path / "tree", target="t"))
        for chunk in store.chunks.work(scan):
            with store.llm.call(model, purpose="analysis", chunk=chunk, keep=True) as call:
                call.response = f"the key {KEY} came back"
            store.chunks.complete(
                chunk, drafts=[{"title": "t", "vulnerability_type": "x", "severity": "low", "line_number": 1}]
            )
        for draft in store.drafts.work(scan):
            store.drafts.record_votes(draft, [{"model": "m", "decision": "verified"}])
        for verified in store.verified.work(scan):
            store.findings.publish(verified)
        rows = {column: store.database.execute_sql(f"SELECT {column} FROM {table}").fetchall()[0][0]
                for table, column in (("model_configs", "api_key"), ("users", "hashed_password"))}  # fmt: skip
        assert all(PLANTED in value for value in rows.values())  # they are there to be found
    return tmp_path / "s.db"


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    """Everything that anybody logs, at DEBUG, with the tracebacks."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler, root = Keep(), logging.getLogger()
    loggers = [root, logging.getLogger("peewee"), logging.getLogger("scanstore")]
    before = [each.level for each in loggers]
    root.addHandler(handler)
    for each in loggers:
        each.setLevel(logging.DEBUG)
    yield lambda: "\n".join(lines)
    root.removeHandler(handler)
    for each, level in zip(loggers, before, strict=True):
        each.setLevel(level)


def every_model() -> list[type[Base]]:
    return [getattr(models, name) for name in models.__all__]


def test_every_secret_column_is_known() -> None:
    secret = {name for model in every_model() for name in model.__secret__}
    assert secret == set(SECRETS) == {"api_key", "hashed_password"}
    columns = {name for model in every_model() for name in model._meta.columns}
    suspicious = {c for c in columns if any(word in c for word in ("password", "secret", "api_key", "credential"))}
    assert suspicious == secret


def test_no_representation_of_a_row_shows_one(file: Path) -> None:
    with Store(file) as store:
        for row in (*ModelConfig.select(), *User.select()):
            assert PLANTED not in f"{row!r} {row} {row.to_dict()} {json.dumps(row.to_dict(), default=str)}"
            assert PLANTED in str(row.to_dict(secrets=True))
        for model in every_model():
            page = store.page(model)
            assert PLANTED not in repr([row.__data__ for row in page.items if type(row).__name__ != "ModelCall"])
        gc.collect()


def test_no_dump_report_or_figure_shows_one(file: Path) -> None:
    with Store(file) as store:
        out = file.parent / "out.jsonl"
        store.dump(out)
        text = out.read_text(encoding="utf-8")
        assert PLANTED not in text and text.count('"m"')
        store.dump(out, include_secrets=True)
        assert KEY in out.read_text() and HASH[:60] in out.read_text()  # when they are asked for
        for kind in ("text", "json", "csv", "markdown", "html"):
            assert PLANTED not in store.report(format=kind)
        assert PLANTED not in repr((store.stats(), store.check(), store.llm.usage(), store.llm.list()))


def test_no_log_shows_one(file: Path, logged: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSTORE_SLOW_MS", "0")
    with Store(file) as store:
        store.llm.add("second", api_key=OTHER)
        store.llm.update("second", api_key=OTHER + "2")
        row = store.llm.get("second")
        row.api_key = OTHER + "3"
        row.save()
        ModelConfig.update(api_key=OTHER + "4").where(ModelConfig.api_key == OTHER + "3").execute()
        ModelConfig.insert_many([{"name": "third", "api_key": OTHER}]).execute()
        list(ModelConfig.select().where(ModelConfig.api_key == OTHER))
        user = store.accounts.add("eve@x.org", hashed_password=HASH[:60])
        User.update(hashed_password=HASH[:59] + "w").where(User.id == user.id).execute()
        store.accounts.authenticate("ada@x.org", PASSWORD)
        store.search("f")
    text = logged()
    assert "INSERT INTO" in text and "scanstore.slow" not in text  # names are not in the plain format, lines are
    assert PLANTED not in text, text[text.index(PLANTED) - 300 :][:600]


def failures(store: Store) -> Iterator[Callable[[], Any]]:
    run = store.database.execute_sql
    yield lambda: store.llm.add("m", api_key=OTHER)  # there already
    yield lambda: store.llm.add("new", api_key=OTHER, max_tokens=-1)
    yield lambda: store.llm.add("new", api_key=[OTHER])  # type: ignore[arg-type]
    yield lambda: store.llm.add("new", api_key=OTHER + "\ud800")
    yield lambda: store.llm.update("m", api_key=OTHER, name="")
    yield lambda: store.llm.update("missing", api_key=OTHER)
    yield lambda: store.accounts.add("ada@x.org", hashed_password=HASH[:60])
    yield lambda: store.accounts.add("new@x.org", hashed_password=PASSWORD)  # not a hash
    yield lambda: store.accounts.add("no address", hashed_password=HASH[:60])
    yield lambda: store.accounts.add("new@x.org", hashed_password=7)  # type: ignore[arg-type]
    yield lambda: store.accounts.add("new@x.org", password=PASSWORD, hashed_password=HASH[:60])
    yield lambda: run("INSERT INTO model_configs (name, api_key) VALUES ('m', ?)", (OTHER,))
    yield lambda: run("UPDATE users SET hashed_password = ? || NULL, email = NULL", (HASH,))
    yield lambda: ModelConfig.create(name="m", api_key=OTHER)
    yield lambda: User.create(email="ada@x.org", email_key="ada@x.org", hashed_password=HASH)
    yield lambda: Store(store.path, key=PLANTED + "\0")
    yield lambda: Store(store.path, key=PLANTED)


def test_no_error_shows_one(file: Path, logged: Callable[[], str]) -> None:
    with Store(file) as store:
        for fail in failures(store):
            with pytest.raises(Exception) as caught:  # noqa: PT011  whatever it is
                fail()
            chain: BaseException | None = caught.value
            while chain is not None:  # what a traceback prints, and what an error tracker collects
                assert PLANTED not in f"{chain} {chain!r} {chain.args}", chain
                chain = chain.__cause__ or chain.__context__
            text = "".join(traceback.format_exception_only(caught.value))
            assert PLANTED not in text
    assert PLANTED not in logged()


ARGUMENTS = {
    ("scan",): ["tree"], ("search",): ["f"], ("dump",): ["-"], ("load",): ["none.jsonl"], ("merge",): ["none.db"],
    ("scans", "show"): ["1"], ("scans", "progress"): ["1"], ("models", "show"): ["m"], ("llm", "usage"): [],
    ("models", "add"): ["fresh", "--api-key-stdin"], ("models", "update"): ["m", "--api-key-stdin"],
    ("users", "add"): ["new@x.org", "--password-stdin"], ("users", "passwd"): ["ada@x.org", "--password-stdin"],
    ("symbols", "find"): ["f"], ("symbols", "show"): ["a.f"], ("symbols", "callers"): ["a.f"],
    ("chunks", "list"): ["1"], ("drafts", "list"): ["1"], ("drafts", "show"): ["1"], ("findings", "show"): ["1"],
    ("findings", "history"): ["1"],
    ("report",): ["--format", "json"], ("sarif", "dump"): [], ("settings", "get"): ["x"],
    ("prune",): ["--keep-last", "1"], ("sessions", "list"): [], ("rekey",): ["--key-stdin"],
    ("health",): [], ("check",): ["--fix"], ("users", "remove"): ["nobody@x.org"],
}  # fmt: skip


def leaves(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        elif (*path, name) not in (("drop",), ("jobs", "work")):
            yield (*path, name)


@pytest.mark.no_cover
def test_no_command_shows_one(file: Path, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]) -> None:
    monkeypatch.chdir(file.parent)
    monkeypatch.setenv("SCANSTORE_DB", str(file))
    said = 0
    for path in leaves():
        if path == ("rekey",):
            continue
        for more in ([], ["--json"]):
            args = [*path, *ARGUMENTS.get(path, []), *more]
            result = CliRunner().invoke(main, args, input=f"{OTHER}\n")
            assert PLANTED not in result.output, args
            assert result.exception is None or isinstance(result.exception, SystemExit), args
            said += len(result.output)
    assert said > 10_000
    assert PLANTED not in logged()


def test_only_the_owner_may_read_any_file(file: Path) -> None:
    old = os.umask(0)
    try:
        with Store(file) as store:
            store.settings["a"] = 1
            store.dump(file.parent / "out.jsonl")
            store.backup(file.parent / "copy.db")
            with Store(file.parent / "new.db") as new:
                new.settings["b"] = 2
                made = [
                    file,
                    *(file.parent.glob("*.db-*")),
                    *(file.parent / n for n in ("out.jsonl", "copy.db", "new.db")),
                ]
                assert len(made) >= 6
                for path in made:
                    assert needs.is_private(path), path
            backup = store.migrate_down(steps=1).backup
        assert backup is not None and needs.is_private(backup)
    finally:
        os.umask(old)


def test_the_key_of_a_store_is_not_in_its_representations() -> None:
    database = Database(":memory:")
    database.key = PLANTED
    assert PLANTED not in repr(database) + str(database)
