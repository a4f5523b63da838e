"""Models, their secrets, and answers that are paid for once."""

from __future__ import annotations

import json
import logging
import subprocess
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stressing import Program

from scanstore.analysis import answer_cache
from scanstore.analysis.models import Analyzer, CachedAnswer, VerifiedFinding
from scanstore.errors import Conflict, IllegalMove, InvalidArgument, NotFound, WrongStore
from scanstore.llm.models import ModelConfig
from scanstore.snapshots.models import Scan, ScanFileChunk
from scanstore.store import Store

SECRET = "sk-planted-Zx81"
SOURCE = f"""def top():
    return 0

def f(x):
    return eval(x)

def g(x):
    return exec(x)

def long():
{"    pass" * 40}
""".replace("pass ", "pass\n ")  # long enough to be cut into chunks
MOVED = SOURCE.replace("return 0", "one = 1\n    return one")  # moves what follows, without a change


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "a.py").write_text(SOURCE)
    return root


@pytest.fixture
def scan(store: Store, tree: Path) -> Scan:
    return store.scans.record(tree)


def chunk_of(scan: Scan, name: str) -> ScanFileChunk:
    found = ScanFileChunk.get_or_none(ScanFileChunk.scan == scan, ScanFileChunk.symbol_name == name)
    assert found is not None
    return found


def add_draft(store: Store, scan: Scan, chunk: ScanFileChunk | None = None, **columns: Any) -> int:
    if chunk is not None:
        store.database.execute_sql(
            "INSERT OR IGNORE INTO chunk_work (id, scan_file_id, scan_id) VALUES (?, ?, ?)",
            (chunk.id, chunk.scan_file_id, scan.id),
        )
    row = {
        "scan_id": scan.id, "chunk_id": None if chunk is None else chunk.id, "file_path": "a.py", "title": "Eval of x",
        "title_key": "eval of x", "vulnerability_type": "injection", "severity": "high", "line_number": 5,
        "snippet": "eval(x)", **columns,
    }  # fmt: skip
    marks = ", ".join("?" * len(row))
    return int(
        store.database.execute_sql(
            f"INSERT INTO draft_findings ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
        ).lastrowid
        or 0
    )


def add_verified(store: Store, scan: Scan, draft: int) -> int:
    sql = (
        "INSERT INTO verified_findings (draft_id, scan_id, title, confidence, adjusted_severity)"
        " VALUES (?, ?, 't', 90, 'high')"
    )
    return int(store.database.execute_sql(sql, (draft, scan.id)).lastrowid or 0)


# Configurations


def test_a_model_is_found_by_name_id_and_row_and_read_anew(store: Store) -> None:
    model = store.llm.add(" m ", base_url="http://x", votes=3, is_verifier=True)
    ModelConfig.update(votes=5).execute()
    for given in ("m", model.id, model):
        found = store.llm.get(given)
        assert found is not model and (found.name, found.votes, found.is_verifier) == ("m", 5, True)
    for wrong in (True, None, 1.5, b"m", 0, -1, 2**63, 2**70, ModelConfig(name="m")):
        for read in (store.llm.get, store.llm.find):
            with pytest.raises(InvalidArgument, match="not a model"):
                read(wrong)  # type: ignore[operator]
    assert store.llm.find("m") == model == store.llm.find(model)
    assert store.llm.remove(model) == {"model_configs": 1}
    for gone in ("m", model.id, model, 99):
        with pytest.raises(NotFound, match="store.llm.list"):
            store.llm.get(gone)
        assert store.llm.find(gone) is None


def test_a_name_is_taken_once(store: Store) -> None:
    store.llm.add("m")
    other = store.llm.add("n")
    with pytest.raises(Conflict, match="there is already a model 'm'; change it with store.llm.update"):
        store.llm.add(" m")
    with pytest.raises(Conflict, match="already a model 'm'"):
        store.llm.update(other, name="m")
    assert [m.name for m in store.llm.list()] == ["m", "n"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("max_tokens", v) for v in (0, -1, 1.0, float("nan"), float("inf"), True, "4096", None, 2**63)),
        *(("max_concurrent", v) for v in (0, False, "2")),
        *(("votes", v) for v in (0, 0.5)),
        *(("is_analyzer", v) for v in (1, "yes", None, float("nan"))),
        *(("base_url", v) for v in (None, 3, b"http://x", "a\ud800", "a\0b")),
        *(("analysis_prompt_template", v) for v in (None, ["x"])),
        *(("api_key", v) for v in (None, SECRET.encode(), 7, f"{SECRET}\ud800")),
        *(("api_key", v) for v in ("env:", "env:MY KEY", "env:1", "env:a-b")),
        *(("name", v) for v in ("", "  ", None, 5)),
    ],
)  # fmt: skip
def test_an_unfit_value_is_refused_and_named(store: Store, column: str, value: Any) -> None:
    model = store.llm.add("m", api_key=SECRET)
    with pytest.raises(InvalidArgument, match="name" if column == "name" else column) as refused:
        store.llm.update(model, **{"votes": 2, column: value})
    assert SECRET not in str(refused.value)
    if column != "name":
        with pytest.raises(InvalidArgument, match=column):
            store.llm.add("n", **{column: value})
    else:
        with pytest.raises(InvalidArgument, match="name"):
            store.llm.add(value)
    assert [(m.name, m.votes, m.api_key) for m in store.llm.list()] == [("m", 1, SECRET)]


def test_unknown_columns_are_refused(store: Store) -> None:
    model = store.llm.add("m")
    for column in ("colour", "id", "created_at", "updated_at"):
        with pytest.raises(InvalidArgument, match=column):
            store.llm.update(model, **{column: 1})


def test_update_changes_what_is_given_and_nothing_else(store: Store) -> None:
    model = store.llm.add("m", base_url="http://x", votes=2)
    changed = store.llm.update(model, max_concurrent=7, is_analyzer=True)
    assert (changed.max_concurrent, changed.is_analyzer, changed.votes, changed.base_url) == (7, True, 2, "http://x")
    assert store.llm.update("m").max_concurrent == 7
    with pytest.raises(NotFound):
        store.llm.update("nobody", votes=2)


def test_a_model_that_voted_stays(store: Store, scan: Scan) -> None:
    model = store.llm.add("m")
    draft = add_draft(store, scan)
    store.database.execute_sql(
        "INSERT INTO votes (draft_id, model_config_id, decision) VALUES (?, ?, 'verified')", (draft, model.id)
    )
    with pytest.raises(Conflict, match="model 'm' has cast 1 vote, .* remove the scans"):
        store.llm.remove("m")
    store.scans.remove(scan)
    store.llm.remove("m")
    assert store.llm.list() == [] and store.check() == []


def test_removing_a_model_keeps_its_calls_and_drops_its_tickets(store: Store) -> None:
    model = store.llm.add("m")
    with store.llm.slot(model), store.llm.call(model, purpose="p") as call:
        call.response = "x"
        store.llm.remove(model)
    (row,) = store.llm.calls()
    assert (row.model, row.model_config_id, row.status) == ("m", None, "answered")
    assert store.database.execute_sql("SELECT count(*) FROM model_slots").fetchone() == (0,)


def test_a_key_is_shown_nowhere(store: Store, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    seen: list[Any] = []
    store.database.query_hooks.append(seen.append)
    with caplog.at_level(logging.DEBUG, logger="peewee"):
        model = store.llm.add("m", api_key=SECRET)
        store.llm.update(model, api_key=SECRET + "2", votes=2)
        model = store.llm.get("m")
        model.api_key = SECRET + "3"
        model.save()
        ModelConfig.insert_many([{"name": "n", "api_key": SECRET}]).execute()
        ModelConfig.get(ModelConfig.api_key == SECRET)
        with pytest.raises(Conflict) as known:
            store.llm.add("m", api_key=SECRET)
        with pytest.raises(Conflict) as raw:
            ModelConfig.create(name="m", api_key=SECRET)
        with pytest.raises(RuntimeError), store.llm.call(model, purpose="p") as call:
            raise RuntimeError(f"401 for Authorization: Bearer {SECRET}3")
        store.llm.list()
    logged = caplog.text
    assert "INSERT INTO" in logged and "api_key" in logged  # statements are logged, their secrets are not
    row = store.llm.get_call(call.id)
    assert row.error == "RuntimeError: 401 for Authorization: Bearer …"
    shown = [
        logged,
        seen,
        known.value,
        raw.value,
        repr(model),
        str(model),
        json.dumps(model.to_dict()),
        call,
        row.to_dict(),
    ]
    for text in map(str, shown):
        assert "planted" not in text
    assert model.resolved_api_key() == SECRET + "3"
    assert store.check() == []


def test_a_key_of_the_environment_is_not_quoted_either(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    model = store.llm.add("m", api_key="env:MY_KEY")
    assert store.llm.get("m").resolved_api_key() == SECRET
    with pytest.raises(RuntimeError), store.llm.call(model, purpose="p"):
        raise RuntimeError(f"bad key {SECRET}")
    assert store.llm.calls()[0].error == "RuntimeError: bad key …"


# Analyzers


def test_an_analyzer_is_the_same_for_the_same_question_only(store: Store) -> None:
    model = store.llm.add("m", analysis_prompt_template="Look at {code}")
    first = store.llm.analyzer(model, temperature=0, stop=["a"])
    assert (first.model, first.parameters, len(first.key), len(first.prompt_hash)) == (
        "m", {"temperature": 0, "stop": ["a"]}, 64, 64,
    )  # fmt: skip
    assert store.llm.analyzer("m", stop=["a"], temperature=0) == first
    assert store.llm.analyzer("m", prompt="Look at {code}", stop=["a"], temperature=0) == first
    others = [
        store.llm.analyzer("m"),
        store.llm.analyzer("m", prompt="Look", stop=["a"], temperature=0),
        store.llm.analyzer("m", stop=["b"], temperature=0),
        store.llm.analyzer("m", model="x"),
        store.llm.analyzer(store.llm.add("n", analysis_prompt_template="Look at {code}"), stop=["a"], temperature=0),
        store.llm.analyzer(store.llm.update("m", max_tokens=9), stop=["a"], temperature=0),
        store.llm.analyzer(
            store.llm.update("m", max_tokens=4096, analysis_prompt_template="y"), stop=["a"], temperature=0
        ),
    ]
    assert len({a.id for a in [first, *others]}) == 8 == Analyzer.select().count()


def test_an_analyzer_has_the_same_key_in_every_store(store: Store, tmp_path: Path) -> None:
    key = store.llm.analyzer(store.llm.add("m"), temperature=0.5).key
    with Store(tmp_path / "other.db") as other:
        found = other.llm.analyzer(other.llm.add("m"), temperature=0.5)
        assert found.key == key
    with pytest.raises(WrongStore):
        store.llm.answer(found, 1)


@pytest.mark.parametrize(
    "wrong", [{"t": float("nan")}, {"t": [float("inf")]}, {"t": object()}, {"t": {1: 1, "a": 2}}, {"prompt": 5}]
)
def test_parameters_that_are_not_json_are_refused(store: Store, wrong: dict[str, Any]) -> None:
    store.llm.add("m")
    with pytest.raises(InvalidArgument):
        store.llm.analyzer("m", **wrong)
    assert Analyzer.select().count() == 0


def test_many_threads_make_one_analyzer(store: Store) -> None:
    model = store.llm.add("m")
    keys: list[int] = []
    gate = threading.Barrier(6)

    def run() -> None:
        gate.wait()
        keys.append(store.llm.analyzer(model, temperature=1).id)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 6 and len(set(keys)) == 1 == Analyzer.select().count()


# Answers


def paid(text: str, count: list[int]) -> Callable[[], tuple[str, dict[str, Any]]]:
    def function() -> tuple[str, dict[str, Any]]:
        count.append(1)
        return text, {"prompt_tokens": 10, "completion_tokens": 3, "cost": 0.5}

    return function


def test_a_question_is_paid_for_once_and_its_answer_outlives_the_scan(store: Store, scan: Scan, tree: Path) -> None:
    store.llm.add("m")
    analyzer = store.llm.analyzer("m")
    count: list[int] = []
    chunk = chunk_of(scan, "f")
    assert store.llm.answer(analyzer, chunk) is None
    assert store.llm.ask(analyzer, chunk, paid("bad", count)) == "bad"
    assert store.llm.ask(analyzer, chunk.id, paid("other", count)) == "bad"
    assert store.llm.answer(analyzer.id, chunk.id) == "bad" and len(count) == 1
    (call,) = store.llm.calls(scan)
    assert (call.purpose, call.status, call.prompt_tokens, call.completion_tokens, call.cost, call.analyzer_id) == (
        "analysis", "answered", 10, 3, 0.5, analyzer.id,
    )  # fmt: skip
    (tree / "a.py").write_text(MOVED.replace("exec", "print"))
    second = store.scans.record(tree)
    store.scans.remove(scan)
    assert store.llm.ask(analyzer, chunk_of(second, "f"), paid("other", count)) == "bad"  # moved, not changed
    assert store.llm.answer(analyzer, chunk_of(second, "g")) is None
    assert len(count) == 1 and store.check() == []


def test_another_model_prompt_or_parameter_asks_anew(store: Store, scan: Scan) -> None:
    store.llm.add("m")
    store.llm.add("n")
    chunk, count = chunk_of(scan, "f"), []  # type: ignore[var-annotated]
    ways = [
        store.llm.analyzer("m"),
        store.llm.analyzer("n"),
        store.llm.analyzer("m", prompt="other"),
        store.llm.analyzer("m", temperature=1),
    ]
    for number, way in enumerate(ways):
        assert store.llm.ask(way, chunk, paid(str(number), count)) == str(number)
    assert [store.llm.answer(way, chunk) for way in ways] == ["0", "1", "2", "3"]
    assert store.llm.remove_answers(ways[0]) == {"analysis_cache": 1} and store.llm.remove_answers(ways[0]) == {}
    assert [store.llm.answer(way, chunk) for way in ways] == [None, "1", "2", "3"]
    assert store.llm.ask(ways[0], chunk, paid("new", count)) == "new" and len(count) == 5


def test_a_draft_finds_its_answer_in_a_later_scan_of_the_same_text(store: Store, scan: Scan, tree: Path) -> None:
    store.llm.add("m")
    analyzer = store.llm.analyzer("m", prompt="verify")
    count: list[int] = []
    draft = add_draft(store, scan, chunk_of(scan, "f"))
    assert store.llm.ask(analyzer, draft, paid("true", count)) == "true"
    assert store.llm.calls(scan)[0].purpose == "verification" and store.llm.calls(scan)[0].draft_id == draft
    (tree / "a.py").write_text(MOVED)
    second = store.scans.record(tree)
    chunk = chunk_of(second, "f")
    same = add_draft(store, second, chunk, line_number=6)
    assert store.llm.answer(analyzer, same) == "true"
    for n, other in enumerate(
        ({"line_number": 5}, {"title_key": "x"}, {"vulnerability_type": "xss"}, {"line_number": None})
    ):
        assert (
            store.llm.answer(analyzer, add_draft(store, second, chunk, **{"title": str(n), "line_number": 6, **other}))
            is None
        )
    assert store.llm.answer(analyzer, add_draft(store, second, chunk_of(second, "g"), line_number=9)) is None
    loose = add_draft(store, scan, None, title_key="loose")
    store.llm.ask(analyzer, loose, paid("loose", count))
    assert store.llm.answer(analyzer, add_draft(store, second, None, title_key="loose")) == "loose"
    assert store.llm.answer(analyzer, add_draft(store, second, None, title_key="loose", file_path="b.py")) is None
    assert store.llm.answer(analyzer, add_draft(store, second, None, title_key="loose", vulnerability_type="y")) is None
    assert len(count) == 2 and store.check() == []


def test_a_verified_finding_is_another_question_than_its_draft(store: Store, scan: Scan) -> None:
    store.llm.add("m")
    analyzer = store.llm.analyzer("m", prompt="enrich")
    draft = add_draft(store, scan, chunk_of(scan, "f"))
    row = VerifiedFinding.get_by_id(add_verified(store, scan, draft))
    assert store.llm.ask(analyzer, row, paid("rich", [])) == "rich"
    (call,) = store.llm.calls(scan)
    assert (call.purpose, call.draft_id, store.llm.answer(analyzer, row)) == ("enrichment", draft, "rich")
    assert store.llm.answer(analyzer, draft) is None
    assert store.llm.ask(analyzer, draft, paid("judged", [])) == "judged"
    assert store.llm.answer(analyzer, row) == "rich"
    with store.llm.call("m", purpose="enrichment", draft=row) as again:
        again.response = "x"
    assert store.llm.get_call(again.id).draft_id == draft


def test_ask_passes_on_what_the_function_raises_and_keeps_nothing(store: Store, scan: Scan) -> None:
    store.llm.add("m")
    analyzer, chunk = store.llm.analyzer("m"), chunk_of(scan, "f")

    def broken() -> str:
        raise TimeoutError("too slow")

    with pytest.raises(TimeoutError, match="too slow"):
        store.llm.ask(analyzer, chunk, broken)
    (call,) = store.llm.calls()
    assert (call.status, call.error) == ("failed", "TimeoutError: too slow")
    assert store.llm.answer(analyzer, chunk) is None
    assert store.llm.ask(analyzer, chunk, lambda: "plain") == "plain"
    with pytest.raises(IllegalMove, match="transaction"), store.transaction():
        store.llm.ask(analyzer, chunk_of(scan, "g"), lambda: "x")
    with store.transaction():
        assert store.llm.ask(analyzer, chunk, lambda: "x") == "plain"  # known: nothing is asked


@pytest.mark.parametrize(
    "given", [("answer", {"price": 1}), ("answer", {"cost": -1}), ("answer", {"prompt_tokens": 1.5})]
)
def test_an_answer_with_unfit_figures_is_kept_all_the_same(store: Store, scan: Scan, given: Any) -> None:
    store.llm.add("m")
    analyzer, chunk = store.llm.analyzer("m"), chunk_of(scan, "f")
    with pytest.raises(InvalidArgument, match=next(iter(given[1]))):
        store.llm.ask(analyzer, chunk, lambda: given)
    assert store.llm.answer(analyzer, chunk) == "answer"
    assert store.llm.calls()[0].status == "answered"


@pytest.mark.parametrize("given", [None, 5, b"x", ("a",), ("a", 1)])
def test_an_answer_that_is_no_text_is_refused(store: Store, scan: Scan, given: Any) -> None:
    store.llm.add("m")
    analyzer, chunk = store.llm.analyzer("m"), chunk_of(scan, "f")
    with pytest.raises(InvalidArgument, match="returned .* response as text"):
        store.llm.ask(analyzer, chunk, lambda: given)
    assert store.llm.answer(analyzer, chunk) is None and store.llm.calls()[0].status == "failed"


def test_subjects_and_analyzers_that_are_none_are_refused(store: Store, scan: Scan) -> None:
    store.llm.add("m")
    analyzer = store.llm.analyzer("m")
    for wrong in ("a.py", None, True, 1.5, scan, 2**63, -4):
        with pytest.raises(InvalidArgument):
            store.llm.answer(analyzer, wrong)
    for absent in (999, (999 << 24) + 1):
        with pytest.raises(NotFound):
            store.llm.answer(analyzer, absent)
    for wrong in (True, "m", None):
        with pytest.raises(InvalidArgument, match="store.llm.analyzer"):
            store.llm.remove_answers(wrong)  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="store.llm.analyzer"):
        store.llm.remove_answers(99)


def test_whoever_waited_takes_the_answer_that_was_paid_for_meanwhile(db_path: Path, tree: Path) -> None:
    """Four processes ask the same of a model that takes one call at a time: one pays."""
    with Store(db_path) as store:
        scan = store.scans.record(tree)
        store.llm.add("m", max_concurrent=1)
        chunk, analyzer = chunk_of(scan, "f").id, store.llm.analyzer("m").id
    code = textwrap.dedent(f"""
        import sys, time
        from scanstore.store import Store
        with Store({str(db_path)!r}) as store:
            print("ready", flush=True)
            sys.stdin.readline()
            print(store.llm.ask({analyzer}, {chunk}, lambda: time.sleep(0.2) or "from " + sys.argv[1]))
    """)
    pipe = subprocess.PIPE
    workers = [Program(code, n, stdin=pipe, stdout=pipe) for n in range(4)]
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    for worker in workers:  # all of them wait before the first has its answer
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [worker.communicate()[0] for worker in workers]
    assert len(set(told)) == 1 and told[0].startswith("from ")
    with Store(db_path) as store:
        assert len(store.llm.calls()) == 1 and store.check() == []


def test_drafts_and_response_are_kept_side_by_side(store: Store, scan: Scan) -> None:
    store.llm.add("m")
    analyzer, chunk = store.llm.analyzer("m"), chunk_of(scan, "f")
    content = bytes.fromhex(chunk.content_hash)
    drafts = [{"title": "t", "line_number": 1}]
    answer_cache.keep_drafts(store.database, analyzer.id, content, drafts)
    assert store.llm.answer(analyzer, chunk) is None
    store.llm.ask(analyzer, chunk, lambda: "said")
    row = CachedAnswer.get()
    assert (row.drafts, row.response_text, row.content_hash) == (drafts, "said", chunk.content_hash)
    before = row.updated_at
    answer_cache.keep_drafts(store.database, analyzer.id, chunk.content_hash, [])
    row = CachedAnswer.get()
    assert (row.drafts, row.response_text) == ([], "said") and row.updated_at >= before
    assert row.to_dict()["response"] == "said"
    with pytest.raises(InvalidArgument):
        answer_cache.keep_drafts(store.database, analyzer.id, content, [{"confidence": float("nan")}])
    assert store.llm.remove_answers(analyzer) == {"analysis_cache": 1}
