"""Hostile input: whatever comes in by any door is taken, or refused in one line; no traceback, no hang, no crash.

The doors are reports and records of other tools, dumps, and the words of the command line. What strangers wrote and
whom it is to deceive is in stress_injection, the file itself in stress_damage.
"""

from __future__ import annotations

import copy
import io
import json
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hostile import ODD, TAG, as_json, limited, refused_or_fine
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from stressing import SEED, chance, fill, report, rounds

from scanstore import InvalidArgument, Store, seed_db
from scanstore.cli import main
from scanstore.maintenance.cleaning import drop_foreign
from scanstore.models import Scan


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "full.db"
    fill(path)
    return path


def fuzz(short: int) -> Callable[[Any], Any]:
    """Hypothesis for as long as is asked for, with chance of ours; the store is the same for all examples."""

    def decorate(test: Any) -> Any:
        health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
        options = settings(max_examples=rounds(short, 2000), deadline=None, suppress_health_check=health)
        return seed(SEED)(options(test))

    return decorate


# What other tools wrote -----------------------------------------------------------------------------------------------

texts = st.one_of(st.sampled_from(ODD), st.text(max_size=20))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all parts of a JSON value."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@st.composite
def changed(draw: st.DrawFn, original: Any) -> Any:
    """A value some parts of which are another, gone, or there twice."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        spots = list(places(value))
        if not spots:
            break
        *path, key = draw(st.sampled_from(spots))
        holder = value
        for step in path:
            holder = holder[step]
        how = draw(st.sampled_from(("replace", "replace", "remove", "double")))
        if how == "replace":
            holder[key] = draw(values)
        elif how == "remove":
            del holder[key]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[draw(texts)] = copy.deepcopy(holder[key])
    return value


@st.composite
def scratched(draw: st.DrawFn, original: bytes) -> bytes:
    """Bytes of which some are others, cut off, or there twice."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        how = draw(st.sampled_from(("change", "cut", "insert", "double")))
        if how == "change" and content:
            content[at] = draw(st.integers(0, 255))
        elif how == "cut":
            del content[at : at + draw(st.integers(1, 2000))]
        elif how == "insert":
            content[at:at] = draw(st.binary(max_size=8))
        else:
            content[at:at] = content[at : at + draw(st.integers(1, 200))]
    return bytes(content)


@fuzz(25)
@given(
    st.one_of(changed(report()).map(as_json), scratched(as_json(report())), st.binary(max_size=50), values.map(as_json))
)
def test_reports(store: Store, content: bytes) -> None:
    refused_or_fine(lambda: store.sarif.load(io.BytesIO(content), target="t"))
    assert store.check() == []


@fuzz(15)
@given(st.lists(st.one_of(changed(TAG).map(as_json), scratched(as_json(TAG)), st.just(as_json(TAG))), max_size=4))
def test_tags(store: Store, tmp_path: Path, lines: list[bytes]) -> None:
    (tmp_path / "tree").mkdir(exist_ok=True)
    (tmp_path / "tree/a.c").write_text("int f() {}\n")
    (tmp_path / "tags").write_bytes(
        b'{"_type": "ptag", "name": "JSON_OUTPUT_VERSION", "path": "0.0"}\n' + b"\n".join(lines)
    )
    scan = store.scans.add("ctags", root=tmp_path / "tree")
    refused_or_fine(lambda: store.symbols.load_ctags(scan, tmp_path / "tags"))
    store.scans.finish(scan)
    store.scans.remove(scan)
    assert store.check() == []


SCENE = {
    "id": "1", "title": "One", "details": "d", "date": "2026-01-02", "organized": True, "paths": ["/a/b.mp4"],
    "studio": {"id": "s", "name": "S"}, "tags": [{"id": "t", "name": "T"}], "performers": [{"id": "p", "name": "P"}],
}  # fmt: skip


@fuzz(25)
@given(
    st.sampled_from(("scenes", "performers", "tags", "studios")),
    st.lists(st.one_of(changed(SCENE), values), max_size=3),
)
def test_records(store: Store, kind: str, records: list[Any]) -> None:
    refused_or_fine(lambda: getattr(store.library, f"upsert_{kind}")(records))
    assert store.check() == []


SEEDS = {
    "settings": {"page": 5}, "studios": [{"id": "s", "name": "S"}], "tags": [{"id": "t", "name": "T"}],
    "performers": [{"id": "p", "name": "P"}], "scenes": [{"id": "1", "title": "One", "studio": "s", "tags": ["t"]}],
    "models": [{"name": "m", "api_key": "env:K"}],
    "schedules": [{"name": "n", "task_type": "sync", "schedule": "0 3 * * *"}],
}  # fmt: skip
SAMPLE = b"""
[settings]
page = 5
[[models]]
name = "m"
[[schedules]]
name = "n"
task_type = "t"
schedule = "0 3 * * *"
"""


@fuzz(25)
@given(st.one_of(changed(SEEDS), scratched(SAMPLE)))
def test_first_rows(store: Store, tmp_path: Path, source: Any) -> None:
    if isinstance(source, bytes):
        (tmp_path / "seed.toml").write_bytes(source)
        source = tmp_path / "seed.toml"
    refused_or_fine(lambda: seed_db(store, source))
    assert store.check() == []


@pytest.fixture(scope="module")
def dumped(full: Path) -> bytes:
    stream = io.BytesIO()
    with Store(full) as store:
        store.dump(stream, include_secrets=True)
    return stream.getvalue()


@fuzz(8)
@given(data=st.data())
def test_dumps(new_file: Path, tmp_path: Path, dumped: bytes, data: st.DataObject) -> None:
    lines = dumped.splitlines()
    content = dumped
    if data.draw(st.booleans()):
        content = data.draw(scratched(dumped))
    else:
        number = data.draw(st.integers(0, len(lines) - 1))
        lines[number] = as_json(data.draw(changed(json.loads(lines[number]))))
        content = b"\n".join(lines) + b"\n"
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"new.db{suffix}").unlink(missing_ok=True)
    shutil.copy(new_file, tmp_path / "new.db")
    with Store(tmp_path / "new.db", durability="normal") as store:
        if refused_or_fine(lambda: store.load(io.BytesIO(content))) == "refused":
            assert Scan.select().count() == 0 and len(store.settings) == 0, "nothing was written"
            assert store.check() == []
        else:
            refused_or_fine(store.check)


# The file's own schema ------------------------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT x AS id FROM c"
NAMES = ("settings", "Scans", "symbols", "ix_jobs_ready", "tr_jobs_parent_id", "mine", "json_each", 'a"b', "é", "")
BODIES = (
    "CREATE {kind} {name} AS {endless}", "CREATE {kind} {name} (x)", "CREATE {kind} {name} (x AS (1), y)",
    "CREATE {kind} {name} AFTER INSERT ON {on} BEGIN DELETE FROM {on}; END", "CREATE {kind} {name} ON {on} (hex(id))",
    "CREATE VIRTUAL {kind} {name} USING fts5 (x, content={on})", "CREATE {kind} {name}", "DROP {kind} {name}", "",
)  # fmt: skip


def test_schemas(full: Path, tmp_path: Path) -> None:
    """Rows of a schema by chance: refused, or good for all that reads, and good again without them."""
    some, outcomes = chance("schema"), Counter[str]()
    for number in range(rounds(12, 1000)):
        path = tmp_path / f"{number}.db"
        shutil.copy(full, path)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA writable_schema=ON")
        for _ in range(some.randrange(1, 4)):
            kind, name, on = (
                some.choice(("table", "view", "index", "trigger", "x")),
                some.choice(NAMES),
                some.choice(NAMES),
            )
            if some.random() < 0.3:
                connection.execute("DELETE FROM sqlite_master WHERE name = ?", (name,))
            sql = some.choice(BODIES).format(kind=kind, name=f'"{name}"', on=f'"{on}"', endless=ENDLESS)
            row = (kind, name, some.choice((name, on)), some.choice((0, 0, 2, 7, 10**6)), sql)
            connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)
        connection.close()

        def use(path: Path = path) -> None:
            with Store(path, durability="normal") as store:
                store.check()
                store.stats()
                store.settings.ensure("new", 1)

        outcomes[refused_or_fine(use)] += 1
        refused_or_fine(lambda path=path: drop_foreign(path))
        outcomes["afterwards " + refused_or_fine(use)] += 1
    print(f"\nschemas by chance: {dict(outcomes)}")
    assert outcomes["refused"] and outcomes["afterwards fine"]


# The words of the command line ----------------------------------------------------------------------------------------


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


WAITING = {("jobs", "work"), ("jobs", "wait"), ("jobs", "watch"), ("schedules", "run")}  # for ever, if told to


def arguments(command: click.Command, some: random.Random) -> list[str]:
    words = [*ODD, "1", "0", "scan.db", ".", "-", "--", "nan", "2026-01-01", "1e999", "open", "high"]
    given: list[str] = []
    for parameter in command.params:
        number = parameter.nargs if parameter.nargs > 0 else some.randrange(1, 3)
        if isinstance(parameter, click.Argument):
            given += [some.choice(words) for _ in range(number)]
        elif parameter.name not in ("help",) and some.random() < 0.3 and "--db" not in parameter.opts:
            given.append(parameter.opts[0])
            if not getattr(parameter, "is_flag", False):
                choices = list(getattr(parameter.type, "choices", ()))
                given += [some.choice([*words, *choices, *choices]) for _ in range(number)]
    return given


def test_command_lines(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)
    some, codes = chance("cli"), Counter[int]()
    known = [each for each in commands() if each[0] not in WAITING]
    for number in range(rounds(75, 4000)):
        if number % 25 == 0:
            for path in tmp_path.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            shutil.copy(full, tmp_path / "scanstore.db")
        path, command = some.choice(known)
        words = [*path, *(word.replace("\0", "") for word in arguments(command, some))]
        with limited():
            result = CliRunner().invoke(main, words, prog_name="scanstore", input="")
        assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exception)
        assert "Traceback" not in result.output and result.exit_code in (0, 1, 2), (words, result.output)
        codes[result.exit_code] += 1
    assert codes[0] and codes[2]
    print(f"\ncommand lines by exit code: {dict(sorted(codes.items()))}")


def test_a_message_is_short_whatever_was_given(store: Store) -> None:
    """And says at its end what to do."""
    with pytest.raises(InvalidArgument) as refused:
        store.llm.add("m", max_concurrent="9" * 100_000)  # type: ignore[arg-type]
    assert len(str(refused.value)) < 2100 and "\n" not in str(refused.value)
