"""Full-text search finds what is stored now, ranked, in the right scans, and takes any text for a query."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stressing import Program

from scanstore import InvalidArgument, NotFound, ReadOnly, Store
from scanstore import search as search_module
from scanstore.cli import main
from scanstore.db import migrations
from scanstore.db.rules import change_rows, insert_row
from scanstore.findings.models import Finding, FindingEvent, Sighting
from scanstore.models import Symbol

ROOT = Path(__file__).parent.parent
SHOP = '''\
"""A shop for bread."""


class HTTPBasket:
    def parseRequestBody(self, items):
        """Read the customer's wishes, spelled as they like."""
        return items


def load_session_cookie(jar):
    return jar
'''
APP = "import shop\n\n\ndef main():\n    return shop.load_session_cookie({})\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "shop.py").write_text(SHOP)
    (tmp_path / "tree" / "app.py").write_text(APP)
    return tmp_path / "tree"


def add(store: Store, scan: Any, title: str, **columns: Any) -> Finding:
    """A finding that this scan saw."""
    values = {"rule_id": "r", "vulnerability_type": "x", "severity": "low", "file_path": "a.py", **columns}
    finding = Finding.create(lineage=scan.lineage_id, scan=scan, first_scan=scan, title=title, **values)
    return finding


def note(finding: Finding, text: str) -> FindingEvent:
    return FindingEvent.create(finding=finding, action="comment", by="ann", note=text)


def ids(store: Store, text: str, **options: Any) -> list[int]:
    return [hit.id for hit in store.search(text, **{"kind": "finding", **options})]


def names(store: Store, text: str, **options: Any) -> list[str]:
    return [hit.title for hit in store.search(text, **{"kind": "symbol", **options})]


# Findings


def test_the_best_comes_first_with_its_place_and_a_snippet(store: Store, tree: Path) -> None:
    scan = store.scans.record(tree)
    far = add(store, scan, "Weak hash", message="nothing to do with it, but there is an injection of SQL in the login")
    near = add(store, scan, "SQL injection in the login form", line_number=3)
    add(store, scan, "Open redirect", message="after the login")
    found = store.search("sql injection login")
    assert [hit.id for hit in found] == [near.id, far.id] and found[0].rank > found[1].rank > 0
    assert found[0][:4] == ("finding", near.id, "SQL injection in the login form", "a.py:3")
    assert found[0].snippet == "«SQL» «injection» in the «login» form"
    assert found[1].place == "a.py"
    assert store.search("sql", marks=("<b>", "</b>"))[0].snippet == "<b>SQL</b> injection in the login form"
    assert ids(store, "sql injection", limit=1) == [near.id]
    assert ids(store, "sql", limit=0) == [] and len(ids(store, "login", limit=None)) == 3
    assert store.check() == []


@pytest.mark.parametrize(
    "column", ["title", "message", "vulnerability_details", "remediation_steps", "snippet", "note on it"]
)
def test_each_text_is_searched_and_followed_as_it_changes(store: Store, tree: Path, column: str) -> None:
    finding = add(store, store.scans.record(tree), "some title")
    assert ids(store, "zebra") == []
    if column == "note on it":
        event = note(finding, "a zebra crossing")
    else:
        setattr(finding, column, "a zebra crossing")
        finding.save()
    assert ids(store, "zebra") == [finding.id]
    note(finding, "unrelated")
    change_rows(Finding, status="confirmed").where(Finding.id == finding).execute()
    assert ids(store, "zebra") == [finding.id]
    if column == "note on it":
        change_rows(FindingEvent, note="a lion").where(FindingEvent.id == event).execute()
    else:
        Finding.update({column: "a lion"}).where(Finding.id == finding).execute()
    assert ids(store, "zebra") == [] and ids(store, "lion unrelated") == [finding.id]
    assert store.check() == []
    if column == "note on it":
        store.database.execute_sql("DELETE FROM finding_events WHERE id = ?", (event.id,))
        assert ids(store, "lion") == [] and ids(store, "unrelated") == [finding.id]
    finding.delete_instance(recursive=True)
    assert ids(store, "lion") == ids(store, "unrelated") == []
    assert store.check() == []


def test_ids_are_those_of_the_row_whatever_the_triggers_insert(store: Store, tree: Path) -> None:
    scan = store.scans.record(tree)
    first, second = add(store, scan, "one"), add(store, scan, "two")
    assert (second.id, note(second, "n").id, note(first, "n").id) == (first.id + 1, 1, 2)


def test_what_was_rolled_back_is_not_found(store: Store, tree: Path) -> None:
    scan = store.scans.record(tree)
    kept = add(store, scan, "kept zebra")
    with pytest.raises(ZeroDivisionError), store.transaction():
        add(store, scan, "lost zebra")
        assert len(ids(store, "zebra")) == 2
        raise ZeroDivisionError
    assert ids(store, "zebra") == [kept.id]
    assert store.check() == []


def test_of_a_word_that_most_have_the_newest_are_ranked(
    store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = store.scans.record(tree)
    keys = [add(store, scan, "the " * (9 - n)).id for n in range(8)]
    assert ids(store, "the", limit=3) == keys[:3]
    monkeypatch.setattr(search_module, "MOST_RANKED", 4)
    assert ids(store, "the", limit=3) == keys[4:7]
    assert ids(store, "the", limit=6) == keys[2:] and ids(store, "the", limit=None) == keys


# Words


def test_words_phrases_beginnings_and_what_is_left_out(store: Store, tree: Path) -> None:
    scan = store.scans.record(tree)
    one = add(store, scan, "Injected shell commands").id
    two = add(store, scan, "Command shell, naïve injection").id
    assert ids(store, "SHELL injections") == [one, two] or ids(store, "SHELL injections") == [two, one]
    assert ids(store, '"shell commands"') == [one]
    assert ids(store, "naive") == ids(store, "NAI\u0308VE") == [two]
    assert ids(store, "shell -naïve") == [one]
    assert ids(store, 'shell -"command shell"') == [one]
    assert ids(store, "inj*") == ids(store, "INJ*", limit=5) and len(ids(store, "inj*")) == 2
    assert ids(store, "inj") == []
    # Nothing has both: what has either. Nothing to leave it out of: it is looked for.
    assert set(ids(store, 'naive "shell commands"')) == {one, two}
    assert ids(store, "-naive") == [two]
    assert ids(store, "naive absent -shell") == []


NASTY = [
    "", " ", '"', '""', '"""', "'", "-", "--", "- -", "*", "**", "a*b*", "^a", "NEAR(a b, 2)", "NEAR", "AND", "OR",
    "NOT", "a AND", "NOT NOT a", "(", ")", "((a)", "a:b", "title:a", "{title} : a", "a + b", '"a', 'a" b', '-"', '-"a',
    "\0", "a\0b", "\ud800", "🙂", "a 🙂", "𞤀", "a 𞤀 -𞤀", "e\u0301\u0301", "\u0301", "a;--", "%_\\", "日本語",
    "x" * 10_000, "a " * 5_000, "a. " * 3_333, '"' * 10_000, "-a " * 3_333, "(" * 10_000,
    " ".join(f"w{n}" for n in range(2_000)),
    "aB" * 5_000, "\n\t\r", "a-b--c", "@!#$%^&*()_+|~={}[]<>?,./", "_", "__", "_a_",
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY, ids=lambda text: ascii(text[:12]))
def test_no_text_is_an_error(store: Store, tree: Path, text: str) -> None:
    finding = add(store, store.scans.record(tree), "a b c near and or not title x")
    found = store.search(text, kind="finding")
    assert isinstance(found, list)
    words = [word for word in text.split() if word in ("a", "AND", "NEAR", "NOT")]
    assert not words or [hit.id for hit in found] == [finding.id]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.one_of(st.sampled_from('ab "-*^(){}:+NEAROT'), st.characters()), max_size=40))
def test_no_text_at_all_is_an_error(store: Store, text: str) -> None:
    assert store.search(text) == []


def test_every_word_of_a_text_finds_it_again(store: Store, tree: Path) -> None:
    scan = store.scans.record(tree)

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.from_regex(r"[A-Za-z]{1,12}", fullmatch=True), min_size=1, max_size=6))
    def check(words: list[str]) -> None:
        finding = add(store, scan, " ".join(words))
        try:
            assert finding.id in ids(store, " ".join(reversed(words)), limit=None)
            assert finding.id in ids(store, f'"{" ".join(words)}"', limit=None)
        finally:
            finding.delete_instance(recursive=True)

    check()
    assert store.check() == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text": 5}, "text is 5"),
        ({"text": None}, "text is None"),
        ({"kind": "file"}, "kind is 'file'; it must be one of: finding, symbol"),
        ({"limit": -1}, "limit is -1"),
        ({"limit": "many"}, "limit is 'many'"),
        ({"scan": 1, "target": "t"}, "scan and target are both given"),
    ],
)
def test_bad_input_is_refused(store: Store, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said.replace("(", r"\(")):
        store.search(**{"text": "a", **options})


def test_unknown_scans_and_targets_are_not_found(store: Store) -> None:
    for options in ({"scan": 9}, {"target": "nowhere"}):
        with pytest.raises(NotFound):
            store.search("a", **options)
    assert store.search("a") == []


# Symbols


def test_symbols_are_found_by_the_parts_of_their_names_and_by_their_docstrings(store: Store, tree: Path) -> None:
    scan = store.scans.record(tree)
    method = "shop.HTTPBasket.parseRequestBody"
    for text in ("parseRequestBody", "request body", "parserequestbody", "parse BODY", "basket parse", "customer wish"):
        assert names(store, text)[0] == method, text
    for text in ("load_session_cookie", "session cookies", "loadSessionCookie", "cookie shop"):
        assert names(store, text) == ["shop.load_session_cookie"], text
    assert names(store, "http basket")[0] == "shop.HTTPBasket"
    (hit,) = store.search("spelled")
    assert hit[:4] == ("symbol", hit.id, method, "shop.py:5")
    assert hit.snippet == "Read the customer's wishes, «spelled» as they like."
    symbol = Symbol.get(Symbol.id == hit.id)
    assert (symbol.qualified_name, symbol.scan_id) == (method, scan.id)
    assert store.check() == []


def test_recording_a_scan_writes_nothing_for_the_search(store: Store, tree: Path) -> None:
    def rows() -> int:
        return int(store.database.execute_sql("SELECT count(*) FROM symbol_search_docsize").fetchone()[0])

    store.scans.record(tree)
    (tree / "shop.py").write_text(SHOP + "\n\ndef new_thing():\n    pass\n")
    store.scans.record(tree)
    assert rows() == 0
    assert names(store, "thing") == ["shop.new_thing"]
    first = rows()
    assert first == Symbol.select().where(Symbol.scan == store.scans.latest()).count()
    before = store.database.connection().total_changes
    assert names(store, "thing") == ["shop.new_thing"]
    assert store.database.connection().total_changes == before  # all is known
    (tree / "app.py").write_text(APP + "\n\ndef other():\n    pass\n")
    store.scans.record(tree)
    assert names(store, "other") == ["app.other"]
    assert rows() == first + 3  # the one file that is new: module, main, other
    assert store.check() == []


def test_symbols_are_those_of_the_latest_scan_of_each_target_or_as_asked(store: Store, tree: Path) -> None:
    old = store.scans.record(tree)
    (tree / "shop.py").write_text(SHOP.replace("cookie", "biscuit"))
    new = store.scans.record(tree)
    other = store.scans.record(tree, target="copy")
    assert names(store, "cookie") == [] and names(store, "cookie", scan=old) == ["shop.load_session_cookie"]
    assert len(names(store, "biscuit")) == 2  # in both targets
    assert names(store, "biscuit", target="copy") == names(store, "biscuit", scan=new) == ["shop.load_session_biscuit"]
    (hit,) = store.search("biscuit", target="copy")
    assert Symbol.get(Symbol.id == hit.id).scan_id == other.id
    assert store.check() == []


def test_findings_are_those_that_a_scan_saw_or_of_a_target(store: Store, tree: Path) -> None:
    one, two = store.scans.record(tree), store.scans.record(tree)
    other = store.scans.record(tree, target="copy")
    early, late, far = (add(store, scan, "zebra", line_number=7) for scan in (one, two, other))
    insert_row(Sighting, scan=two, finding=early, state="fixed")
    assert set(ids(store, "zebra")) == {early.id, late.id, far.id}
    assert ids(store, "zebra", scan=two) == [late.id] and ids(store, "zebra", scan=one.id) == [early.id]
    assert ids(store, "zebra", target="copy") == [far.id]
    assert set(ids(store, "zebra", target=one.target)) == {early.id, late.id}
    assert store.search("zebra", scan=one)[0].place == "a.py:7"  # where that scan saw it


def test_a_symbol_added_by_hand_is_found(store: Store) -> None:
    scan = store.scans.add("hand")
    Symbol.create(scan=scan, name="firstThing", symbol_type="function", file_path="x.py")
    store.scans.finish(scan)
    assert names(store, "thing") == ["firstThing"]
    Symbol.create(scan=scan, name="secondThing", symbol_type="function", file_path="x.py")
    assert sorted(names(store, "thing")) == ["firstThing", "secondThing"]
    assert store.check() == []


def test_removed_scans_leave_nothing_behind(store: Store, tree: Path) -> None:
    scan = store.scans.record(tree)
    finding = add(store, scan, "cookie")
    assert len(store.search("cookie")) == 2
    store.scans.remove(scan)
    assert store.check() == []
    # The next file may get the number of one that is gone.
    (tree / "shop.py").write_text("def unrelated():\n    pass\n")
    (tree / "app.py").unlink()
    again = store.scans.record(tree)
    assert store.search("cookie", kind="symbol") == [] and names(store, "unrelated") == ["shop.unrelated"]
    assert store.search("cookie", scan=again) == []
    assert ids(store, "cookie") == [f.id for f in Finding.select().where(Finding.id == finding.id)]
    assert store.check() == []


def test_taking_up_goes_on_where_it_was_broken_off(store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.scans.record(tree)
    monkeypatch.setitem(search_module.AT_ONCE, "symbol", 1)
    words_of, calls = search_module.words_of, []

    def failing(name: str) -> str:
        calls.append(name)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return words_of(name)

    monkeypatch.setattr(search_module, "words_of", failing)
    with pytest.raises(KeyboardInterrupt):
        store.search("main")
    assert 0 < store.database.execute_sql("SELECT count(*) FROM symbol_search_docsize").fetchone()[0] < 7
    assert store.check() == []
    monkeypatch.undo()
    assert names(store, "main") == ["app.main"] and names(store, "cookie") == ["shop.load_session_cookie"]
    assert store.check() == []


def test_new_findings_are_taken_up_in_the_order_of_their_ids(
    store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = store.scans.record(tree)
    found = [add(store, scan, "zebra") for _ in range(4)]
    note(found[2], "a noted one, above one that is only new")
    monkeypatch.setitem(search_module.AT_ONCE, "finding", 2)
    batches = search_module.Search._batches

    def broken(self: Any, kind: str, keys: list[int], meter: Any) -> Any:
        yield next(batches(self, kind, keys, meter))
        raise KeyboardInterrupt

    monkeypatch.setattr(search_module.Search, "_batches", broken)
    with pytest.raises(KeyboardInterrupt):
        store.search("zebra", kind="finding")
    assert store.check() == []
    monkeypatch.undo()
    assert sorted(ids(store, "zebra")) == [one.id for one in found] and ids(store, "noted") == [found[2].id]
    assert store.check() == []


SEARCHER = """
import sys
from scanstore import Store, search
search.AT_ONCE.update(finding=3, symbol=1)
with Store(sys.argv[1]) as store:
    print(len(store.search("thing", limit=None)))
"""


@pytest.mark.slow
def test_processes_that_search_first_together_take_up_everything_once(tmp_path: Path, tree: Path) -> None:
    for number in range(30):
        (tree / f"m{number}.py").write_text(f"def thing_{number}():\n    pass\n")
    with Store(tmp_path / "s.db") as store:
        scan = store.scans.record(tree)
        for _ in range(20):
            add(store, scan, "thing")

    def start() -> Program:
        return Program(SEARCHER, tmp_path / "s.db", stdout=subprocess.PIPE)

    killed, running = start(), [start() for _ in range(4)]
    time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    said = [process.communicate(timeout=60)[0] for process in running]
    assert [int(each) for each in said] == [20 + 30] * 4  # findings and functions
    with Store(tmp_path / "s.db") as store:
        assert len(store.search("thing", kind="finding", limit=None)) == 20
        assert store.check() == []


# The file


def test_a_read_only_store_is_searched_unless_something_is_new(tmp_path: Path, tree: Path) -> None:
    path = tmp_path / "s.db"
    with Store(path) as store:
        add(store, store.scans.record(tree), "zebra")
    with Store(path, read_only=True) as store:
        for kind in ("finding", "symbol", None):
            with pytest.raises(ReadOnly, match="search once where it can be written to"):
                store.search("zebra", kind=kind)
        assert store.search("") == []
    with Store(path) as store:
        assert len(store.search("zebra")) == 1
    with Store(path, read_only=True) as store:
        assert len(store.search("zebra")) == 1 and len(store.search("cookie")) == 1
        assert store.check() == []


DAMAGE = {
    "DELETE FROM finding_search WHERE rowid = 1": "findings that the full-text search misses",
    "INSERT INTO finding_search (rowid, title) VALUES (99, 'x')": "findings that the full-text search misses",
    "DELETE FROM symbol_search WHERE rowid = (SELECT max(id) FROM symbol_search_docsize)": (
        "symbols that the full-text search misses"
    ),
    "INSERT INTO symbol_search (rowid, name) VALUES (99 << 24, 'x')": "symbols that the full-text search misses",
    "UPDATE finding_search_content SET c0 = 'other words'": "finding_search is not the index of its text",
    "UPDATE symbol_search_content SET c0 = 'other words'": "symbol_search is not the index of its text",
}


@pytest.mark.parametrize("sql", DAMAGE)
def test_damage_is_found(tmp_path: Path, tree: Path, sql: str) -> None:
    with Store(tmp_path / "s.db") as store:
        scan = store.scans.record(tree)
        add(store, scan, "zebra")
        add(store, scan, "yak")
        store.search("zebra")
        add(store, scan, "not taken up yet")
        assert store.check() == []
    with sqlite3.connect(tmp_path / "s.db") as connection:
        assert connection.execute(sql).rowcount > 0
    connection.close()
    with Store(tmp_path / "s.db") as store:
        problems = store.check()
        assert any(DAMAGE[sql] in problem.what for problem in problems), problems
        for table in ("finding_search", "symbol_search"):
            if "not the index" in DAMAGE[sql]:
                store.database.execute_sql(f"INSERT INTO {table} ({table}) VALUES ('rebuild')").fetchall()
        assert not any("not the index" in problem.what for problem in store.check())


def test_findings_and_symbols_of_the_schema_before_are_found(tmp_path: Path, tree: Path) -> None:
    path = tmp_path / "s.db"
    with Store(path) as store:
        finding = add(store, store.scans.record(tree), "zebra")
        note(finding, "ask the keeper")
        assert len(store.search("zebra")) == 1
    migrations.down(path, to=3)
    connection = sqlite3.connect(path)
    left = connection.execute("SELECT name FROM sqlite_schema WHERE name LIKE '%search%'").fetchall()
    connection.execute("UPDATE findings SET title = 'gnu'")
    connection.commit()
    connection.close()
    assert left == []
    with Store(path) as store:
        assert ids(store, "gnu keeper") == [finding.id] and ids(store, "zebra") == []
        assert names(store, "cookie") == ["shop.load_session_cookie"]
        assert store.check() == []


def test_findings_that_were_new_at_a_change_of_schema_are_found(tmp_path: Path, tree: Path) -> None:
    path = tmp_path / "s.db"
    with Store(path) as store:
        scan = store.scans.record(tree)
        known = add(store, scan, "zebra")
        assert ids(store, "zebra") == [known.id]
        first = add(store, scan, "yak")

    def noted() -> list[int]:
        connection = sqlite3.connect(path)
        rows = connection.execute("SELECT id FROM search_changes WHERE kind = 'finding' ORDER BY id").fetchall()
        connection.close()
        return [key for (key,) in rows]

    assert noted() == []
    migrations.down(path, to=5)
    assert noted() == [first.id]
    connection = sqlite3.connect(path)
    columns = "lineage_id, rule_id, title, vulnerability_type, severity, file_path"
    connection.execute(f"INSERT INTO findings ({columns}) SELECT {columns} FROM findings ORDER BY id")
    connection.execute(
        "INSERT INTO sightings (scan_id, finding_id, state) SELECT 1, id, 'new' FROM findings WHERE id > 2"
    )
    connection.commit()
    connection.close()
    assert noted() == [first.id, 3, 4]
    with Store(path) as store:
        add(store, store.scans.latest(), "zebra and yak")
        assert store.check() == []
        assert (ids(store, "zebra"), ids(store, "yak")) == ([1, 3, 5], [2, 4, 5])
        assert noted() == [] and store.check() == []


def test_statements_run_on_indexes(store: Store, tree: Path) -> None:
    store.scans.record(tree)
    store.database.execute_sql("DROP TABLE IF EXISTS sqlite_stat1").fetchall()  # a small store is scanned, and rightly
    store.database.execute_sql("ANALYZE sqlite_schema").fetchall()
    for name, values in {
        "MISSING": ("[1]",), "TEXTS": ("[1]",), "SETTLED": ("finding", "[1]"),
        "FORGET_FINDINGS": ("[1]",), "LEARN_FINDINGS": ("[1]",), "FORGET_SYMBOLS": ("[1]",),
        "FINDING": ("a", 1, "", "", 1), "SYMBOL": ("a", 1, "", ""), "SYMBOLS": ("a", 1, "[1]", 9), "LATEST": (1,),
        "finding": (), "symbol": (),
    }.items():  # fmt: skip
        statement = search_module.CHANGED.get(name) or getattr(search_module, name)
        for row in store.database.execute_sql("EXPLAIN QUERY PLAN " + statement, values).fetchall():
            whole = row[3].startswith("SCAN ") and "VIRTUAL TABLE" not in row[3]
            # All targets, for the latest scan of each; what the subquery found; all else by an index.
            allowed = row[3].startswith(("SCAN l USING", "SCAN (subquery"))
            assert not whole or allowed, (name, row[3])


# The command line


def test_the_command_line_prints_and_escapes(tmp_path: Path, tree: Path) -> None:
    path = str(tmp_path / "s.db")
    with Store(path) as store:
        add(store, store.scans.record(tree), "zebra \x1b[31m", message="the zebra\nsays [no]")
    run = CliRunner().invoke
    result = run(main, ["search", "--db", path, "zebra"])
    assert result.exit_code == 0 and "\x1b" not in result.output and "\ue000" not in result.output
    (line,) = result.stdout.splitlines()
    assert line.split("\t")[:4] == ["1", "a.py", "finding", "zebra \\x1b[31m"] and "zebra" in line.split("\t")[4]
    (hit,) = json.loads(run(main, ["search", "--db", path, "--json", "cookie", "session"]).stdout)
    assert (hit["kind"], hit["title"], hit["place"]) == ("symbol", "shop.load_session_cookie", "shop.py:10")
    assert json.loads(run(main, ["findings", "search", "--db", path, "--json", "cookie"]).stdout) == []
    assert json.loads(run(main, ["search", "--db", path, "--json", "--kind", "finding", "--", "-cookie"]).stdout) == []
    assert (
        len(json.loads(run(main, ["findings", "search", "--db", path, "--json", "--scan", "1", "zebra"]).stdout)) == 1
    )
    nothing = run(main, ["search", "--db", path, '"'])
    assert nothing.exit_code == 0 and nothing.stdout == "" and "no row has the words" in nothing.stderr
    assert run(main, ["search", "--db", path]).exit_code == 2
    assert run(main, ["search", "--db", path, "--target", "nowhere", "x"]).exit_code == 1
