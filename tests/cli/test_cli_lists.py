"""Lists: the options of all of them, their order, and the table that a terminal gets."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from scanstore import Store
from scanstore.cli import drawing, main, sorting
from scanstore.db.plain_text import plain_text
from scanstore.db.state_machine import SEVERITIES

SIX = {"--json", "--csv", "--tsv", "--columns", "--limit", "--sort"}
SHOWS = "a card: one thing in full, whatever it contains"
CHANGES = "it prints the rows that it changed: a limit would look like a limit of the change"
COUNTS = "it reports what it did: counts, not rows"
FIGURES = "figures of one thing, not rows"
ANOTHER = "it writes a format of its own, or a file"
ANSWER = "one line about the row that it changed"
#: The commands that are no lists. A new command is a list, with all six options, or stands here with its reason.
NO_LIST = {
    "audits review": ANSWER, "audits show": SHOWS, "backup": COUNTS, "chunks retry": COUNTS, "chunks state": FIGURES,
    "completion install": ANSWER, "completion remove": ANSWER, "completion show": ANOTHER, "drafts show": SHOWS,
    "drop": ANSWER, "dump": ANOTHER, "findings comment": ANSWER, "findings show": SHOWS, "findings suppress": CHANGES,
    "findings triage": CHANGES, "findings unsuppress": CHANGES, "health": FIGURES, "init": ANSWER, "jobs add": ANSWER,
    "jobs cancel": CHANGES, "jobs prune": COUNTS, "jobs retry": CHANGES, "jobs show": SHOWS,
    "jobs work": "a line for each job when it ends", "library stats": FIGURES, "library sync": COUNTS, "load": COUNTS,
    "merge": COUNTS, "migrate down": CHANGES, "migrate up": CHANGES, "models add": ANSWER, "models remove": ANSWER,
    "models show": SHOWS, "models update": ANSWER, "optimize": COUNTS, "plans apply": COUNTS, "plans cancel": ANSWER,
    "plans create": ANSWER, "plans preview": "a block for each thing, before and after", "plans remove": ANSWER,
    "plans retry": COUNTS, "plans revert": COUNTS, "plans review": COUNTS, "plans show": SHOWS, "plans submit": ANSWER,
    "prompts default": ANSWER, "prompts restore": ANSWER, "prompts save": ANSWER, "prompts show": SHOWS,
    "prune": COUNTS, "recover": COUNTS, "rekey": ANSWER, "repair": COUNTS, "report": ANOTHER, "restore": COUNTS,
    "sarif dump": ANOTHER, "sarif load": COUNTS, "scan": COUNTS, "scans analyze": ANSWER, "scans cancel": ANSWER,
    "scans pause": ANSWER, "scans progress": FIGURES, "scans remove": CHANGES, "scans rerun": COUNTS,
    "scans resume": ANSWER, "scans risk": COUNTS, "scans show": SHOWS, "schedules add": ANSWER,
    "schedules disable": ANSWER, "schedules enable": ANSWER, "schedules remove": ANSWER, "schedules run-due": CHANGES,
    "seed": COUNTS, "sessions remove": ANSWER, "sessions show": SHOWS, "settings get": SHOWS, "settings set": ANSWER,
    "settings unset": ANSWER, "symbols graph": ANOTHER, "symbols show": SHOWS, "users activate": ANSWER,
    "targets rename": ANSWER, "users add": ANSWER, "users deactivate": ANSWER, "users passwd": ANSWER,
    "users remove": ANSWER, "vacuum": COUNTS,
}  # fmt: skip
#: Words that make a list answer in the store of `full`.
WORDS: dict[str, tuple[str, ...]] = {
    "audits trail": ("AUDIT",), "findings diff": ("1", "2", "--change", "unchanged"), "findings history": ("1",),
    "findings search": ("bad",), "plans changes": ("1",), "prompts list": ("ada@example.org",),
    "scans diff": ("1", "2"), "search": ("use",),
    "sessions files": ("SESSION",), "sessions results": ("SESSION",), "sessions tasks": ("SESSION",),
    "symbols bases": ("Child",), "symbols callees": ("use",), "symbols callers": ("helper",),
    "symbols diff": ("1", "2"), "symbols find": ("use",), "symbols impact": ("helper",), "symbols importers": ("a.py",),
    "symbols imports": ("b.py",), "symbols refs": ("helper",), "symbols subclasses": ("Base",),
    "symbols tests-of": ("helper",),
}  # fmt: skip


CODE = "class Base:\n    pass\n\n\nclass Child(Base):\n    pass\n\n\ndef helper():\n    pass\n"


def commands(group: click.Group = main, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def options(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


LISTS = [name for name, command in commands() if options(command) & (SIX - {"--json", "--limit"})]


def test_every_command_is_a_list_with_all_options_or_says_why_it_is_none() -> None:
    have = {name: options(command) for name, command in commands()}
    assert {name for name in have if name not in LISTS} == set(NO_LIST)
    for name in LISTS:
        assert have[name] >= SIX, name


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Result]]:
    """Return what runs a command in a folder whose store has rows of each kind."""
    folder = tmp_path_factory.mktemp("full")
    before = Path.cwd()
    os.chdir(folder)
    (folder / "src").mkdir()
    (folder / "src/a.py").write_text(CODE)
    (folder / "src/b.py").write_text("import a\nimport src.gone\nfrom a import helper\n\n\ndef use():\n    helper()\n")
    with Store("scanstore.db") as store:
        made = fill(store, folder)
        assert store.check() == []

    def run(*words: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, [made.get(word, word) for word in words])
        assert result.exit_code == code, (words, result.output, result.exception)
        return result

    yield run
    os.chdir(before)


def fill(store: Store, folder: Path) -> dict[str, str]:
    store.scans.record(folder / "src", jobs=1)
    (folder / "src/b.py").write_text("import a\nfrom a import helper\n\n\ndef use():\n    return helper()\n")
    (folder / "src/test_b.py").write_text("from b import use\n\n\ndef test_use():\n    use()\n")
    store.scans.record(folder / "src", jobs=1)
    scan = store.scans.analyze(2)
    for chunk in store.chunks.work(scan):
        store.chunks.complete(chunk, drafts=[
            {"vulnerability_type": "xss", "title": f"{severity} bad", "severity": severity, "line_number": 20 - n,
             "file_path": "a.py"}
            for n, severity in enumerate(("low", "critical", "medium"))
        ])  # fmt: skip
        break
    report = {"version": "2.1.0", "runs": [{
        "tool": {"driver": {"name": "T"}}, "results": [
            {"ruleId": f"r{n}", "message": {"text": f"bad {n}"}, "properties": {"security-severity": str(score)},
             "locations": [{"physicalLocation": {"artifactLocation": {"uri": "a.py"}, "region": {"startLine": n}}}]}
            for n, score in ((9, 9.5), (10, 2.0), (3, 7.5))
        ]}]}  # fmt: skip
    for number in (1, 2):
        path = folder / "report.sarif"
        path.write_text(json.dumps({**report, "properties": {"number": number}}))
        store.sarif.load(path, scan=number)
    store.findings.triage(1, "confirmed", by="ada")
    store.findings.suppress(2, reason="known", by="ada")
    store.jobs.enqueue("sync")
    store.jobs.enqueue("analysis")
    store.schedules.add("nightly", "sync", "0 3 * * *")
    store.llm.add("judge")
    with store.llm.call("judge", purpose="verification", scan=scan) as call:
        call.response = "no"
    store.library.upsert_scenes([{"id": "s1", "title": "One", "tags": [{"id": "t1", "name": "outdoor"}]}])
    plan = store.plans.add("tidy")
    store.plans.propose_many(plan, [{"scene": "s1", "field": "title", "action": "set", "proposed": "Two"}])
    user = store.accounts.add("ada@example.org")
    session = store.sessions.add(user, "first")
    store.sessions.uploads.add(session, [{"file_path": "x.pdf", "file_size": 12}])
    store.sessions.tasks.add(session, "summary")
    store.sessions.results.add(session, analysis_type="summary", result_content="fine", score=9.5)
    store.sessions.results.add(session, analysis_type="summary", result_content="good", score=80)
    store.sessions.prompts.add(user, "summary", "say it")
    audit = store.audits.add(user, "x.pdf", 12)
    store.settings["page_size"] = 50
    return {"AUDIT": str(audit.id), "SESSION": str(session.id)}


def names(command: click.Command) -> list[str]:
    """The columns that the help of a list names."""
    (option,) = [each for each in command.params if "--columns" in each.opts]
    return str(getattr(option, "help", "")).rstrip(".").partition(": ")[2].split(", ")


@pytest.mark.parametrize("name", LISTS)
def test_a_list_prints_the_columns_that_its_help_names(full: Callable[..., Result], name: str) -> None:
    """All of them, in that order; each can be chosen and sorted by, and no order loses or doubles a row."""
    words = (*name.split(), *WORDS.get(name, ()))
    known = names(dict(commands())[name])
    if name == "library list":
        known = known[:4]
    lines = full(*words, "--tsv").stdout.splitlines()
    assert lines[0].split("\t") == [column for column in known if column != "target" or not name.endswith("search")]
    if name not in ("check", "symbols cycles", "symbols unresolved"):
        assert len(lines) > 1, name
    every = sorted(full(*words, "--columns", ",".join(known)).stdout.splitlines())
    assert len(every) == len(lines) - 1
    for number, column in enumerate(known):
        order = f"-{column},{known[0]}" if number % 2 else column
        told = full(*words, "--columns", ",".join(known), "--sort", order).stdout.splitlines()
        assert sorted(told) == every, order
    first = full(*words, "--columns", ",".join(known), "--sort", order, "--limit", "1").stdout.splitlines()
    assert first == told[:1]
    chosen = full(*words, "--json", "--columns", ",".join(known)).stdout
    rows = [json.loads(line) for line in chosen.splitlines()] if name == "symbols edges" else json.loads(chosen)
    assert [list(row) for row in rows] == [known] * len(every)
    for refused in (("--columns", "nope"), ("--sort", "nope"), ("--csv", "--json"), ("--csv", "--tsv")):
        full(*words, *refused, code=2)


def test_rows_are_sorted_by_values(full: Callable[..., Result]) -> None:
    def column(*words: str) -> list[str]:
        return full(*words).stdout.splitlines()

    severities = column("drafts", "list", "--sort", "-severity", "--columns", "severity")
    assert severities == ["critical", "medium", "low"]
    assert column("findings", "list", "--sort", "severity", "--columns", "severity") == ["low", "high", "critical"]
    assert column("findings", "list", "--sort", "place", "--columns", "place") == [
        "src/a.py:3", "src/a.py:9", "src/a.py:10"
    ]  # fmt: skip
    assert column("sessions", "results", "SESSION", "--sort", "-score", "--columns", "score") == ["80.00", "9.50"]
    assert column("jobs", "list", "--sort", "type", "--columns", "type") == ["analysis", "sync"]
    assert column("jobs", "list", "--sort", "-type", "--limit", "1", "--columns", "type") == ["sync"]


def test_one_indexed_column_is_sorted_in_sql(full: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    from scanstore.jobs.jobs import Jobs

    plain = Jobs.list

    def spied(self: Jobs, **options: Any) -> Any:
        asked.append({name: options.get(name) for name in ("limit", "sort")})
        return plain(self, **options)

    monkeypatch.setattr(Jobs, "list", spied)
    for order in (("id",), ("-type",), ("type",), ("remark",), ("status,id",), ()):
        full("jobs", "list", "--limit", "2", *(("--sort", *order) if order else ()))
    assert asked == [
        {"limit": 2, "sort": "id"}, {"limit": 2, "sort": "-type"}, {"limit": None, "sort": None},
        {"limit": None, "sort": None}, {"limit": None, "sort": None}, {"limit": 2, "sort": None},
    ]  # fmt: skip


# The order

VALUES = st.one_of(
    st.none(), st.integers(), st.floats(allow_nan=False), st.booleans(), st.text(max_size=3), st.just(""),
    st.datetimes(timezones=st.just(UTC)), st.tuples(st.text(max_size=2), st.none() | st.integers()),
)  # fmt: skip


@given(st.lists(st.tuples(VALUES, VALUES, st.integers()), max_size=12), st.booleans(), st.booleans())
def test_any_values_can_be_sorted(rows: list[tuple[Any, Any, int]], down: bool, also_down: bool) -> None:
    found = sorting.ordered(rows, [(lambda row: row[0], down), (lambda row: row[1], also_down)])
    assert sorted(map(id, found)) == sorted(map(id, rows))
    missing = [row[0] is None or row[0] == "" for row in found]
    assert missing == sorted(missing)  # rows without a value are the last, both ways
    again = sorting.ordered(found, [(lambda row: row[0], down), (lambda row: row[1], also_down)])
    assert list(map(id, again)) == list(map(id, found))


def test_kinds_of_values_compare_as_people_expect() -> None:
    def order(values: list[object], down: bool = False) -> list[object]:
        return sorting.ordered(values, [(lambda value: value, down)])

    assert order([10, 9, None, 2.5]) == [2.5, 9, 10, None] and order([10, None, 9], True) == [10, 9, None]
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert order([now, now - timedelta(days=1)]) == [now - timedelta(days=1), now]
    assert order([("a", 10), ("a", 9), ("a", None)]) == [("a", None), ("a", 9), ("a", 10)]
    ranks = sorted(SEVERITIES, key=lambda word: sorting.rank(word))  # type: ignore[arg-type, return-value]
    assert ranks == ["info", "low", "medium", "high", "critical"]


# The table

HEADINGS = ("id", "status", "severity", "place", "title", "note", "count", "suppression")
CELLS = st.text(max_size=60) | st.text(st.sampled_from("中文🎉a \t\n\x1b\u202e\u0301-/"), max_size=80)


@given(
    st.lists(st.sampled_from(HEADINGS), min_size=1, max_size=8, unique=True),
    st.lists(st.lists(CELLS, min_size=8, max_size=8), min_size=1, max_size=4),
    st.integers(20, 130),
    st.booleans(),
)
def test_no_line_is_wider_than_the_terminal_and_nothing_is_lost(
    names: list[str], rows: list[list[str]], width: int, coloured: bool
) -> None:
    headings = [drawing.Heading(name, name == "count", False) for name in names]
    cells = [[plain_text(cell) for cell in row[: len(names)]] for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        patch.setenv("FORCE_COLOR", "1")
        if not coloured:
            patch.setenv("NO_COLOR", "1")
        lines = list(drawing.drawn(headings, cells))
    plain = [click.unstyle(line) for line in lines]
    assert max(map(cell_len, plain), default=0) <= width
    assert all(line.isprintable() for line in plain) and (coloured or plain == lines)
    wanted = sorted("".join(cell for row in cells for cell in row).replace(" ", ""))
    told = sorted("".join(plain).replace(" ", ""))
    for character in wanted:
        assert character in told
        told.remove(character)


def test_a_narrow_terminal_gets_a_block_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    headings = [drawing.Heading(name, False, False) for name in ("id", "status", "type", "name", "remark")]
    rows = [["01a22e65-a308-7cfb-8767-f656a6ff138a", "failed", "sync", "", "no luck " * 6], ["2", "open", "x", "", ""]]
    assert list(drawing.drawn(headings, rows)) == [
        "ID      01a22e65-a308-7cfb-8767-f656a6ff",
        "        138a",
        "STATUS  failed",
        "TYPE    sync",
        "REMARK  no luck no luck no luck no luck",
        "        no luck no luck",
        "",
        "ID      2",
        "STATUS  open",
        "TYPE    x",
    ]


def test_marks_are_bold_in_a_table_and_gone_elsewhere(full: Callable[..., Result]) -> None:
    told = full("search", "helper", "--columns", "snippet,title").stdout
    assert drawing.ON not in told and "helper" in told and "\\u" not in told
    heading = [drawing.Heading("snippet", False, True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORCE_COLOR", "1")
        patch.delenv("NO_COLOR", raising=False)
        assert list(drawing.drawn(heading, [[f"a {drawing.ON}b{drawing.OFF} c"]]))[1] == "a \x1b[1mb\x1b[0m c"


def test_only_words_are_coloured_where_words_stand() -> None:
    headings = [drawing.Heading("title", False, False), drawing.Heading("status", False, False)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORCE_COLOR", "1")
        patch.delenv("NO_COLOR", raising=False)
        line = list(drawing.drawn(headings, [["failed", "failed"]]))[1]
    assert line.startswith("failed") and line.count("\x1b[31m") == 1


def test_times_stay_whole_and_long_lists_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    time, path = "2026-11-30T23:08:11.093Z", "/opt/v/lib/python3.11/site-packages/"
    headings = [drawing.Heading(name, False, False) for name in ("id", "started", "target")]
    for width in (60, 20):
        monkeypatch.setenv("COLUMNS", str(width))
        rows = [[str(number), time if number % 2 else "", path * (number % 3)] for number in range(10)]
        whole = list(drawing.drawn(headings, rows))
        assert width == 20 or any(time in line for line in whole)
        monkeypatch.setattr(drawing, "AT_ONCE", 3)
        assert list(drawing.drawn(headings, rows)) == whole
        monkeypatch.setattr(drawing, "AT_ONCE", 1000)
