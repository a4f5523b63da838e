"""A dump holds all content, gives the same bytes for the same content, and loads whole or not at all."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sampling import sampled

from scanstore import (
    IllegalMove,
    InvalidArgument,
    MissingFolder,
    NewerSchema,
    NotFound,
    ReadOnly,
    ScanstoreError,
    Store,
    seed_db,
)
from scanstore.cli import main
from scanstore.db import migrations  # fmt: skip
from scanstore.maintenance.dump import LEFT_OUT, lines, tables_of

ROOT = Path(__file__).parents[1]
USER = """
INSERT INTO users (id, email, email_key, hashed_password, full_name) VALUES ('u', 'a@b', 'a@b', 'HASH', 'Ä\n\u2028')
"""
SECRETS = (b"sk-PLANTED", b"HASH")


def dumped(store: Store, **options: Any) -> bytes:
    stream = io.BytesIO()
    told = store.dump(stream, **options)
    assert told.bytes == len(stream.getvalue())
    return stream.getvalue()


def fill(store: Store) -> None:
    scan = store.scans.analyze(store.scans.record(ROOT / "callgraph" / "shop"))
    store.llm.add("m", api_key="sk-PLANTED")
    draft = {"title": "t", "vulnerability_type": "x", "severity": "low", "line_number": 2}
    for n, chunk in enumerate(store.chunks.work(scan)):
        with store.llm.call("m", purpose="analysis", chunk=chunk) as call:
            call.response = "[]"
        store.chunks.complete(chunk, drafts=[{**draft, "title": f"t{n}"}])
    for row in store.drafts.work(scan):
        store.drafts.record_votes(row, [{"model": "m", "decision": "verified"}])
    for verified in store.verified.work(scan):
        store.findings.publish(verified)
    (finding, *_) = store.findings.list()
    store.findings.comment(finding, "look", by="ann")
    seed_db(store)
    plan = store.plans.add("tidy")
    store.plans.propose(plan, "sc-2", "title", "set", proposed="A talk")
    store.jobs.enqueue("sync", scenes=["sc-1"], parent=store.jobs.enqueue("all"))
    gone = store.scans.add("gone")
    store.scans.remove(gone)
    store.database.execute_sql(USER).fetchall()
    store.database.execute_sql(
        "INSERT INTO analysis_sessions (id, user_id, session_name) VALUES ('s', 'u', 'S')"
    ).fetchall()
    store.database.execute_sql(
        "INSERT INTO file_uploads (id, analysis_session_id, file_name, file_path, file_size, file_type)"
        " VALUES ('f', 's', 'n', 'n', 1, 't')"
    ).fetchall()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with Store(tmp_path_factory.mktemp("full") / "s.db") as store:
        fill(store)
        assert store.check() == []
        return dumped(store, include_secrets=True)


def test_dump_load_dump_gives_the_same_bytes(full: bytes, store: Store) -> None:
    told = store.load(io.BytesIO(full))
    assert dumped(store, include_secrets=True) == full
    assert store.check() == []
    assert told.rows == sum(told.tables.values()) and told.tables["scans"] == 1
    assert store.search("t0")  # the full-text index is made again
    assert store.findings.history(store.findings.list()[0])
    assert store.scans.add("next").id == 3  # 2 was given out once


def test_every_table_is_dumped_or_named(full: bytes, store: Store) -> None:
    names = {
        name
        for _, name, kind, *_ in store.database.execute_sql("PRAGMA main.table_list").fetchall()
        if kind == "table" and not name.startswith("sqlite_")
    }
    told = {json.loads(line)["table"] for line in full.splitlines() if line.startswith(b'{"table"')}
    assert told == names - LEFT_OUT | {"sqlite_sequence"}
    assert [t.name for t in tables_of(store.database.execute_sql)].index("scans") > 0


def test_parents_come_before_those_that_point_at_them(store: Store) -> None:
    order = [table.name for table in tables_of(store.database.execute_sql)]
    for name in order:
        for row in store.database.execute_sql(f"PRAGMA foreign_key_list({name})").fetchall():
            assert order.index(row[2]) <= order.index(name)


def test_secrets_are_left_out_unless_asked_for(full: bytes, store: Store) -> None:
    assert all(secret in full for secret in SECRETS)
    store.load(io.BytesIO(full))
    plain = dumped(store)
    assert not any(secret in plain for secret in SECRETS)
    with Store(":memory:") as copy:
        copy.load(io.BytesIO(plain))
        assert dumped(copy) == plain
        assert copy.llm.get("m").api_key == ""
        assert copy.check() == []


def test_a_dump_is_of_one_moment_while_others_write(store: Store) -> None:
    stop = threading.Event()

    def writer() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            with store.transaction():
                store.settings[f"a{n}"] = n
                store.llm.add(f"m{n}")

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        counts = []
        for _ in range(20):
            told = store.dump(io.BytesIO())
            counts.append(told.tables["settings"])
            assert told.tables["settings"] == told.tables["model_configs"]
    finally:
        stop.set()
        thread.join()
    assert counts == sorted(counts) and counts[-1] > counts[0]


def test_the_file_is_private_and_replaced_whole(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text("old")
    path.chmod(0o644)
    os.umask(os.umask(0o022))
    store.dump(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir() if "jsonl" in p.name) == ["d.jsonl"]
    before = path.read_bytes()
    with pytest.raises(InvalidArgument, match="no table 'nope'"):
        store.dump(path, tables=["nope"])
    assert path.read_bytes() == before
    with pytest.raises(MissingFolder):
        store.dump(tmp_path / "no" / "d.jsonl")
    with pytest.raises(InvalidArgument, match="the store itself"):
        store.dump(store.path)


def test_one_table_alone_is_for_others_to_read(full: bytes, store: Store) -> None:
    store.load(io.BytesIO(full))
    part = dumped(store, tables=["settings"])
    assert json.loads(part.splitlines()[0])["tables"] == ["settings"]
    with Store(":memory:") as copy, pytest.raises(InvalidArgument, match="some tables only"):
        copy.load(io.BytesIO(part))


def test_values_that_json_lacks_come_back(store: Store) -> None:
    store.llm.add("m")
    run = store.database.execute_sql
    run("INSERT INTO model_calls (model, purpose, process, status, started_at, ended_at, cost, prompt)"
        " VALUES ('m', 'x', 'p', 'failed', 't', 't', 9e999, x'00ff'), ('m', 'y', 'p', 'failed', 't', 't', 0.1, x'')"
        ).fetchall()  # fmt: skip
    text = dumped(store)
    assert b'{"$f":"inf"}' in text and b'{"$b":"AP8="}' in text
    with Store(":memory:") as copy:
        copy.load(io.BytesIO(text))
        rows = copy.database.execute_sql("SELECT cost, prompt FROM model_calls ORDER BY id").fetchall()
        assert rows == [(float("inf"), b"\x00\xff"), (0.1, b"")]
        assert dumped(copy) == text


def edited(full: bytes, change: Callable[[list[bytes]], None]) -> bytes:
    found = full.splitlines(keepends=True)
    change(found)
    return b"".join(found)


def row_of(found: list[bytes], table: str) -> int:
    return next(n for n, line in enumerate(found) if line.startswith(f'{{"table":"{table}"'.encode())) + 1


def replace_row(table: str, line: bytes) -> Callable[[list[bytes]], None]:
    def change(found: list[bytes]) -> None:
        found[row_of(found, table)] = line + b"\n"

    return change


def broken(message: str, change: Callable[[list[bytes]], None]) -> Any:
    return pytest.param(message, change, id=message)


BAD = [
    broken("line 1: this is no dump", lambda f: f.__setitem__(0, b"[]\n")),
    broken("line 1 is not JSON", lambda f: f.__setitem__(0, b"SQLite format 3\0\n")),
    broken("line 1: there is no such format", lambda f: f.__setitem__(0, b'{"scanstore":0,"schema":1}\n')),
    broken("no such format or schema", lambda f: f.__setitem__(0, b'{"scanstore":1,"schema":0}\n')),
    broken("was cut off here", lambda f: f.pop()),
    broken("rows came and the dump had", lambda f: f.pop(-2)),
    broken("something comes after the end", lambda f: f.append(b"[1]\n")),
    broken("there is no table", lambda f: f.__setitem__(1, b'{"table":"x; DROP TABLE scans","columns":["id"]}\n')),
    broken("there is no table \"sqlite", lambda f: f.__setitem__(1, b'{"table":"sqlite_schema","columns":["sql"]}\n')),
    broken("has other columns", lambda f: f.__setitem__(1, f[1].replace(b'"id"', b'"id) --"'))),
    broken("should be here", lambda f: f.__setitem__(1, b"7\n")),
    broken("was here before", lambda f: f.insert(2, f[1])),
    broken("values stand where", replace_row("names", b'[1,"a","b"]')),
    broken("is no value of a column", replace_row("names", b'[1,{"a":1}]')),
    broken("is no value of a column ", replace_row("names", b'[1,{"$b":"*"}]')),
    broken("is no value of a column  ", replace_row("names", b"[1,true]")),
    broken("does not take this row", replace_row("names", b"[1,null]")),
    broken("does not take this row ", replace_row("names", b'["x","y"]')),
    broken("does not take this row  ", replace_row("names", b"[99999999999999999999999,\"y\"]")),
    broken("does not take this row   ", replace_row("names", b'[1,"\\ud800"]')),
    broken("is not JSON ", replace_row("names", b"[1,NaN]")),
    broken("is not JSON  ", replace_row("names", b"[" * 100_000)),
    broken("is not JSON   ", replace_row("names", b'[1,"\xff"]')),
    broken("points at a row of", lambda f: (f.pop(row_of(f, "lineages")), _less(f))[0]),
]  # fmt: skip


def _less(found: list[bytes]) -> None:
    found[-1] = json.dumps({"end": json.loads(found[-1])["end"] - 1}).encode() + b"\n"


@pytest.mark.parametrize(("message", "change"), BAD)
def test_a_bad_line_is_named_and_nothing_is_written(
    full: bytes, store: Store, message: str, change: Callable[[list[bytes]], None]
) -> None:
    before = dumped(store)
    triggers = store.database.execute_sql("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    with pytest.raises(InvalidArgument, match=message.strip()) as raised:
        store.load(io.BytesIO(edited(full, change)))
    assert "line" in str(raised.value) or "not whole" in str(raised.value)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400
    assert dumped(store) == before
    assert (
        store.database.execute_sql("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'").fetchall() == triggers
    )
    store.load(io.BytesIO(full))
    assert store.check() == []


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_to_a_dump_it_is_refused_or_loads(full: bytes, new_file: Path, data: st.DataObject) -> None:
    where = data.draw(st.integers(0, len(full) - 1))
    kind = data.draw(st.sampled_from(("cut", "flip", "drop")))
    if kind == "cut":
        text = full[:where]
    elif kind == "flip":
        text = full[:where] + bytes([data.draw(st.integers(0, 255))]) + full[where + 1 :]
    else:
        text = full[:where] + full[where + data.draw(st.integers(1, 200)) :]
    with Store(":memory:") as store:
        try:
            store.load(io.BytesIO(text))
        except ScanstoreError as error:
            assert kind != "cut" or isinstance(error, InvalidArgument)
            assert store.scans.list() == []
        else:
            assert kind != "cut"


def test_a_newer_dump_is_refused(full: bytes, store: Store) -> None:
    for head in (b'{"scanstore":2,"schema":7}\n', b'{"scanstore":1,"schema":99}\n'):
        with pytest.raises(NewerSchema, match="install a newer scanstore"):
            store.load(io.BytesIO(edited(full, lambda f, head=head: f.__setitem__(0, head))))


def test_partial_dates_are_dumped_and_loaded(store: Store, tmp_path: Path) -> None:
    dates = {"1": "2014", "2": "2006-08", "3": "2014-03-02T00:00:00.000Z", "4": None}
    with Store(tmp_path / "other.db") as other:
        other.library.upsert_scenes([{"id": key, "scene_date": value} for key, value in dates.items()])
        other.dump(tmp_path / "other.jsonl")
    store.load(tmp_path / "other.jsonl")
    assert {row["id"]: row["scene_date"] for row in store.library.records()} == dates


@pytest.mark.parametrize("schema", sampled([1, 3, 5, 10]))
def test_a_dump_of_an_older_schema_is_migrated(tmp_path: Path, store: Store, schema: int) -> None:
    path = tmp_path / "old.db"
    with Store(path) as old:
        old.scans.record(ROOT / "callgraph" / "shop")
        seed_db(old)
    migrations.down(path, to=schema)
    connection = sqlite3.connect(path)
    text = b"".join(lines(connection.execute, schema, {}, include_secrets=True))
    connection.close()
    told = store.load(io.BytesIO(text))
    assert told.bytes == len(text) and told.tables["scans"] == 1
    assert store.check() == []
    with Store(path) as migrated:
        assert dumped(migrated, include_secrets=True) == dumped(store, include_secrets=True)
    assert [p.name for p in Path(store.path).parent.iterdir() if p.name.startswith(".scanstore")] == []


def test_where_nothing_may_be_loaded(full: bytes, store: Store, tmp_path: Path) -> None:
    store.settings["a"] = 1
    with pytest.raises(IllegalMove, match="has rows in settings already"):
        store.load(io.BytesIO(full))
    with pytest.raises(NotFound):
        store.load(tmp_path / "none.jsonl")
    with pytest.raises(ScanstoreError, match="cannot be read"):
        store.load(tmp_path)
    with Store(store.path, read_only=True) as reader:
        assert reader.dump(io.BytesIO()).tables["settings"] == 1
        with pytest.raises(ReadOnly):
            reader.load(io.BytesIO(full))


def test_commands(full: bytes, tmp_path: Path) -> None:
    run = CliRunner().invoke
    given = tmp_path / "in.jsonl"
    given.write_bytes(full)
    db, copy = str(tmp_path / "a.db"), str(tmp_path / "b.db")
    loaded = run(main, ["load", str(given), "--db", db])
    assert loaded.exit_code == 0 and "rows in" in loaded.stdout, loaded.output
    out = tmp_path / "out.jsonl"
    assert run(main, ["dump", str(out), "--include-secrets", "--db", db]).exit_code == 0
    assert out.read_bytes() == full
    shown = run(main, ["dump", "-", "--db", db])
    assert shown.exit_code == 0 and not any(secret in shown.stdout_bytes for secret in SECRETS)
    told = json.loads(run(main, ["dump", str(out), "--json", "--db", db]).stdout)
    assert told["rows"] == sum(told["tables"].values()) and told["bytes"] == out.stat().st_size
    again = run(main, ["load", str(given), "--db", db])
    assert again.exit_code == 1 and "already" in again.stderr
    given.write_bytes(full[:-20])
    cut = run(main, ["load", str(given), "--db", copy])
    assert cut.exit_code == 1 and cut.stderr.startswith("Error: line ") and not Path(copy).exists()
    assert run(main, ["init", "--db", copy]).exit_code == 0
    merged = run(main, ["merge", db, "--db", copy])
    assert merged.exit_code == 0 and "added" in merged.stdout, merged.output
    assert json.loads(run(main, ["merge", db, "--db", copy, "--json"]).stdout)["added"] == 0
    assert "no store at" in run(main, ["merge", str(tmp_path / "none.db"), "--db", copy]).stderr


# -- what a stranger's dump brings -------------------------------------------------------------------------------


OWNED = (
    "users", "analysis_sessions", "configurations", "file_uploads", "analysis_tasks", "analysis_results",
    "audit_tasks", "audit_analyses", "audit_findings", "audit_events",
)  # fmt: skip


def populate(store: Store) -> None:
    """Give users everything that can be theirs, beside what belongs to nobody."""
    fill(store)
    store.accounts.add("root@example.org", role="admin", hashed_password="$2b$12$" + "a" * 53)
    ada = store.accounts.add("ada@example.org")
    prompt = store.sessions.prompts.add(ada, "general", "List what is wrong.")
    session = store.sessions.add(ada, "contracts")
    store.sessions.tasks.add(session, "review", task_id="t1")
    (task,) = store.sessions.tasks.claim(session)
    result = {"result_content": "Nothing.", "score": "98.50", "configuration": prompt}
    store.sessions.tasks.complete(task, result=result)
    store.audits.add(ada, "waiting.pdf", 1)
    store.audits.add(ada, "done.pdf", 1)
    (audit, _) = store.audits.claim(worker="w", limit=2)
    analysis = {
        "equipment_type": "PANEL", "test_type": "grounding", "equipment_tag": "PNL-01", "confidence_score": 0.9,
        "extraction_result": {}, "validation_result": [],
    }  # fmt: skip
    found = {"severity": "minor", "rule_id": "GND-01", "message": "too much resistance"}
    store.audits.complete(audit, analysis=analysis, findings=[found])
    store.accounts.deactivate(ada)
    for name in OWNED:
        assert store.database.execute_sql(f"SELECT count(*) FROM {name}").fetchone()[0], name
    assert store.check() == []


@pytest.fixture(scope="module")
def peopled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with Store(tmp_path_factory.mktemp("peopled") / "s.db") as store:
        populate(store)
        return dumped(store, include_secrets=True)


def rows_of(text: bytes) -> dict[str, list[bytes]]:
    """The lines of each table of a dump."""
    found: dict[str, list[bytes]] = {}
    for line in text.splitlines():
        if line.startswith(b'{"table"'):
            lines_of_table = found[json.loads(line)["table"]] = []
        elif line.startswith(b"["):
            lines_of_table.append(line)
    return found


def test_a_load_lists_accounts_with_roles_and_folders_outside(
    peopled: bytes, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = store.load(io.BytesIO(peopled))
    assert [tuple(account) for account in told.accounts] == [
        ("root@example.org", "admin", True),
        ("a@b", "user", True),
        ("ada@example.org", "user", False),
    ]
    assert told.roots == [str((ROOT / "callgraph" / "shop").resolve())] and told.left_out == {}
    assert dumped(store, include_secrets=True) == peopled


@pytest.mark.parametrize(
    ("root", "outside"),
    [
        (".", False), ("src", False), ("{here}", False), ("{here}/src/deep", False), ("{here}/src/../lib", False),
        ("/", True), ("/etc", True), ("..", True), ("../other", True), ("{here}/..", True), ("{here}x", True),
        ("{here}/../../root/.ssh", True), ("src/../../x", True), ("", False),
    ],
)  # fmt: skip
def test_which_folders_lie_outside(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str, outside: bool
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    root = root.format(here=here)
    store.scans.add("t")
    store.database.execute_sql("UPDATE scans SET root = ?", (root,))
    with Store(":memory:") as copy:
        assert copy.load(io.BytesIO(dumped(store))).roots == ([root] if outside else [])


@pytest.mark.parametrize("older", [False, True], ids=["of this schema", "of an older schema"])
def test_without_accounts_nothing_that_needs_one_is_loaded(
    peopled: bytes, store: Store, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    if older:
        monkeypatch.setattr(
            "scanstore.maintenance.dump.SCHEMA_VERSION", json.loads(peopled.splitlines()[0])["schema"] + 1
        )
    told = store.load(io.BytesIO(peopled), accounts=False)
    before, after = rows_of(peopled), rows_of(dumped(store, include_secrets=True))
    assert set(told.left_out) == set(OWNED) and told.accounts == []
    assert told.left_out == {name: len(before[name]) for name in OWNED}
    assert all(told.tables[name] == 0 == len(after[name]) for name in OWNED)
    others = before.keys() - set(OWNED) - {"sqlite_sequence"}
    assert {name: before[name] for name in others} == {name: after[name] for name in others}
    assert told.rows == sum(told.tables.values()) == sum(len(before[name]) for name in others)
    assert store.check() == []
    assert b"a@b" not in Path(store.path).read_bytes() + Path(f"{store.path}-wal").read_bytes()
    ada = store.accounts.add("ada@example.org")  # the store is as good as any other
    assert store.sessions.add(ada, "contracts") and store.audits.add(ada, "x.pdf", 1)
    assert store.check() == []


def test_rows_of_one_s_own_tables_follow_their_foreign_keys(store: Store) -> None:
    schema = """
    CREATE TABLE own_notes (id INTEGER PRIMARY KEY, user_id TEXT REFERENCES users ON DELETE SET NULL);
    CREATE TABLE own_keys (user_id TEXT NOT NULL REFERENCES users (id), n INTEGER, PRIMARY KEY (user_id, n))
        WITHOUT ROWID;
    CREATE TABLE own_uses (id INTEGER PRIMARY KEY, user_id TEXT, n INTEGER, above INTEGER REFERENCES own_uses (id),
        FOREIGN KEY (user_id, n) REFERENCES own_keys (user_id, n));
    """
    rows = """
    INSERT INTO own_notes VALUES (1, 'u'), (2, NULL);
    INSERT INTO own_keys VALUES ('u', 1), ('u', 2);
    INSERT INTO own_uses VALUES (1, 'u', 1, NULL), (2, NULL, NULL, 1), (3, NULL, NULL, 2), (4, NULL, NULL, NULL);
    """
    store.database.execute_sql(USER).fetchall()
    for statement in (schema + rows).split(";")[:-1]:
        store.database.execute_sql(statement).fetchall()
    text = dumped(store, include_secrets=True)
    with Store(":memory:") as copy:
        for statement in schema.split(";")[:-1]:
            copy.database.execute_sql(statement).fetchall()
        told = copy.load(io.BytesIO(text), accounts=False)
        assert told.left_out == {"users": 1, "own_keys": 2, "own_uses": 3}
        assert copy.database.execute_sql("SELECT * FROM own_notes").fetchall() == [(1, None), (2, None)]
        assert copy.database.execute_sql("SELECT id FROM own_uses").fetchall() == [(4,)]
        assert copy.check() == []


def test_a_dump_that_is_not_whole_is_refused_without_accounts_too(peopled: bytes, store: Store) -> None:
    cut = edited(peopled, lambda lines: lines.__setitem__(-1, b'{"end":1}\n'))
    with pytest.raises(InvalidArgument, match="rows came and the dump had 1"):
        store.load(io.BytesIO(cut), accounts=False)
    assert sum(store.dump(io.BytesIO()).tables.values()) == 0


def test_the_command_lists_what_was_brought(peopled: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    Path("in.jsonl").write_bytes(peopled)
    told = run(main, ["load", "in.jsonl"]).stdout
    lines_told = [line.split() for line in told.splitlines()]
    assert ["root@example.org", "admin"] in lines_told and ["a@b", "user"] in lines_told
    assert ["ada@example.org", "user", "deactivated"] in lines_told and "--no-accounts" in told
    assert f"outside the current one:\n  {(ROOT / 'callgraph' / 'shop').resolve()}\n" in told
    told = run(main, ["load", "in.jsonl", "--no-accounts", "--db", "b.db"]).stdout
    assert "left out: " in told and "3 users" in told and "2 audit_tasks" in told and "admin" not in told
    found = json.loads(run(main, ["load", "in.jsonl", "--no-accounts", "--db", "c.db", "--json"]).stdout)
    assert found["left_out"]["users"] == 3 and found["accounts"] == [] and len(found["roots"]) == 1
    found = json.loads(run(main, ["load", "in.jsonl", "--db", "d.db", "--json"]).stdout)
    assert found["accounts"][0] == {"email": "root@example.org", "role": "admin", "active": True}


def test_long_lists_are_cut_in_the_command(store: Store, tmp_path: Path) -> None:
    for number in range(25):
        store.accounts.add(f"u{number:02}@b", role="user" if number else "owner")
        store.scans.add(f"t{number}")
    store.database.execute_sql("UPDATE scans SET root = '/nowhere/' || id")
    (tmp_path / "in.jsonl").write_bytes(dumped(store))
    told = CliRunner().invoke(main, ["load", str(tmp_path / "in.jsonl"), "--db", str(tmp_path / "b.db")]).stdout
    assert told.index("owner") < told.index("u01@b") and "and 5 more accounts; --json shows all" in told
    assert "and 5 more folders; --json shows all" in told
