"""The `repr` and the HTML of rows and results: short, readable, escaped, without secrets and without a query."""

from __future__ import annotations

import copy
import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import peewee
import pytest

from scanstore import Store
from scanstore import models as all_models
from scanstore.db.fields import Base
from scanstore.db.labels import LONGEST, tokens
from scanstore.db.notebooks import described
from scanstore.db.rows import Rows
from scanstore.findings.listing import FindingDiff
from scanstore.models import Finding, ModelConfig, PlanChange, Scan, ScanFile, Scene, Setting, Sighting, Symbol, User

PLANTED = "s3cr3t"
LONG = "a\x1b[31m\n‮<b onmouseover='x()'>\"&'" + "ü" * 500
#: Columns that may hold secrets or whole texts.
HIDDEN = {"prompt", "response", "prompt_content", "meta", "result", "config", "result_content", "body", "detail"}


def below(kind: type[Base]) -> Iterator[type[Base]]:
    for each in kind.__subclasses__():
        if each.__module__.startswith("scanstore."):
            yield each
            yield from below(each)


BASES = set("Numbered Timestamped Identified Claimable Leased LeasedRow LeasedTask SyncedRow NamedRow".split())
MODELS = sorted({each for each in below(Base) if each.__name__ not in BASES}, key=lambda each: each.__name__)


def blank(model: Any, /, **values: object) -> Any:
    row = model(__no_default__=True)
    row.__data__.update(values)
    return row


class Parsed(HTMLParser):
    """The elements and texts of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def check_html(text: str) -> list[str]:
    """Fail if the HTML has anything but tables with inline styles. Return its texts."""
    parsed = Parsed(text)
    assert parsed.tags <= {"div", "table", "thead", "tbody", "tr", "th", "td", "b", "span"}
    assert {name for name, _ in parsed.attributes} <= {"style"}
    assert "url(" not in text and "expression" not in text and all(each.isprintable() for each in parsed.texts)
    return parsed.texts


def check_repr(text: str) -> None:
    assert len(text) <= LONGEST and text.isprintable() and text[0] == "<" and text[-1] == ">", text


def test_the_tests_know_all_models() -> None:
    assert {getattr(all_models, name) for name in all_models.__all__} < set(MODELS)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_model_declares_the_columns_that_describe_a_row(model: Any) -> None:
    assert model.__shown__, "declare __shown__"
    names = [token.name for token in tokens(model.__shown__)]
    assert set(names) <= set(model._meta.fields) and len(names) == len(set(names))
    assert not set(names) & (model.__secret__ | HIDDEN)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_no_row_makes_its_repr_fail(model: Any) -> None:
    """There is no current store here, so that a query would raise NoStore."""

    class Broken:
        def __repr__(self) -> str:
            raise ValueError

    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    fields = model._meta.sorted_field_names
    for value in (LONG, Broken(), deep, 10**5000, b"\xff" * 99, {"a": LONG}, [1] * 9999, "\ud800", True, 0.5, None):
        for row in (blank(model, **dict.fromkeys(fields, value)), blank(model)):
            check_repr(repr(row))
            check_html(row._repr_html_())
            check_html(Rows([row])._repr_html_())
    for name in fields:
        check_repr(repr(blank(model, **{name: LONG})))
    check_repr(repr(model.__new__(model)))
    check_repr(repr(copy.copy(blank(model, **dict.fromkeys(fields, "x")))))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_no_secret_is_shown(model: Any) -> None:
    hidden = {name for name in model._meta.fields if name in model.__secret__ | HIDDEN}
    row = blank(model, **{name: PLANTED if name in hidden else None for name in model._meta.fields})
    assert PLANTED not in repr(row) + str(row) + row._repr_html_() + Rows([row])._repr_html_()


def test_rows_are_described_by_what_a_person_needs() -> None:
    when = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    place = {"file_path": "app.py", "line_number": 12}
    for row, told in (
        (blank(Scan, id=3, status="completed", target="/src"), "<Scan 3 completed: /src>"),
        (
            blank(Finding, id=7, severity="high", status="open", title="SQL injection", **place),
            "<Finding 7 high open: SQL injection, app.py:12>",
        ),
        (blank(Finding, title="T", file_path="a.py"), "<Finding: T, a.py>"),
        (blank(Finding, id=7), "<Finding 7>"),
        (
            blank(PlanChange, id=2, status="approved", target="scene", target_key="s1", action="set", field="title",
                  current_value="Old", proposed_value="New"),
            "<PlanChange 2 approved: scene s1 set title 'Old' → 'New'>",
        ),
        (
            blank(Sighting, scan=1, finding=2, state="new", **place),
            "<Sighting scan 1 finding 2 new: app.py:12>",
        ),
        (blank(ScanFile, id=1, status="done", file_path="a.py", scan=1), "<ScanFile 1 done: a.py, scan 1>"),
        (blank(Scene, id="s1", title="Sea", scene_date=when), "<Scene s1: Sea, 2026-03-01 09:30>"),
        (blank(User, id="u", role="admin", email="ada@example.org"), "<User u admin: ada@example.org>"),
        (blank(Setting, key="page_size", value=50), "<Setting page_size>"),
        (blank(ModelConfig, id=1, name="m", api_key=PLANTED), "<ModelConfig 1: m>"),
    ):  # fmt: skip
        assert repr(row) == str(row) == told
    path = "/home/" + "x" * 200 + "/end.py"
    assert repr(blank(Symbol, symbol_type="module", file_path=path, start_line=1)).endswith("x/end.py:1>")


def test_a_model_of_a_user_is_shown_by_its_name(store: Store) -> None:
    class Note(Base):
        name = peewee.TextField()
        token = peewee.TextField()
        __secret__ = frozenset({"token"})

    row = Note(id=1, name="x", token=PLANTED)
    assert repr(row) == "<Note 1 'x'>" and check_html(row._repr_html_())[:3] == ["Note", "id", "1"]
    assert PLANTED not in row._repr_html_()


def test_partly_read_and_old_rows_are_shown_without_a_query(tmp_path: Path) -> None:
    with Store(":memory:") as store:
        scan = Scan.create(target="a")
        file = ScanFile.create(scan=scan, file_path="a.py")
        partly = ScanFile.select(ScanFile.file_path).get()
        assert repr(partly) == "<ScanFile: a.py>"
        row = ScanFile.get(ScanFile.id == file.id)
        assert store.check() == []
    assert repr(row) == f"<ScanFile {file.id} pending: a.py, scan {scan.id}>"  # the store is closed
    assert "a.py" in row._repr_html_() and "a.py" in Rows([row])._repr_html_()
    assert repr(ScanFile(scan=scan, file_path="b.py")) == f"<ScanFile pending: b.py, scan {scan.id}>"


def test_results_count_long_lists() -> None:
    rows = Rows([blank(Finding, id=n) for n in range(1000)], Finding)
    empty = Rows([], Finding)
    diff = FindingDiff(rows, empty, rows[:1], empty, empty, empty)
    assert repr(diff) == (
        "FindingDiff(new=[1,000 items], fixed=[], reopened=[<Finding 0>], updated=[], unchanged=[], not_checked=[])"
    )
    texts = " ".join(check_html(diff._repr_html_()))  # type: ignore[attr-defined]
    assert "new : 1,000" in texts and "and 990 more" in texts and "fixed none" in texts


def test_results_of_a_store_are_tables(store: Store, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.py").write_text("def f():\n    return g()\n")
    scan = store.scans.record(tmp_path / "tree", target="<tree>")
    plan = store.plans.add("p<script>")
    store.library.upsert_scenes([{"id": "s1", "title": "Old"}])
    store.plans.propose(plan, "s1", "title", "set", proposed="New")
    (tmp_path / "tree" / "a.py").write_text("def h():\n    return g()\n")
    again = store.scans.record(tmp_path / "tree", target="<tree>")
    store.scans.analyze(again)
    user = store.accounts.add("ada@example.org")
    session = store.sessions.add(user, "s")
    shown: list[Any] = [
        scan, store.scans.list(), store.scans.summary(scan), store.scans.diff(scan, again), store.scans.targets(),
        store.symbols.diff(scan, again), store.symbols.list(), store.findings.list(), store.findings.diff(scan, again),
        store.plans.get(plan), store.plans.list(), store.plans.changes(plan), store.plans.preview(plan),
        store.scans.progress(again), store.chunks.state(again), store.jobs.state(), store.llm.usage(),
        store.page(Scan), store.stats(), session, store.sessions.stats(), store.audits.stats(), store.library.stats(),
        store.recover(), store.migrate_status(), store.check(), store.plans.get(plan).counts,
    ]  # fmt: skip
    for each in shown:
        text = each._repr_html_()
        texts = check_html(text)
        assert texts and "<tree>" not in text and "<script>" not in text, type(each)
        assert len(repr(each)) < 3000
    assert "<tree>" in check_html(store.scans.list()._repr_html_())
    assert store.check() == []


def test_a_table_shows_severities_in_colour_and_the_number_of_all_rows() -> None:
    rows = Rows([blank(Finding, id=n, severity="high", title="<i>") for n in range(60)], Finding)
    text = rows._repr_html_()
    assert text.count("background:#b3261e") == 50 and "the first 50 of 60 rows" in text
    texts = check_html(text)
    assert texts[:5] == ["id", "severity", "status", "title", "file path"] and "<i>" in texts
    assert "0 rows" in Rows([], Finding)._repr_html_() and "severity" in Rows([], Finding)._repr_html_()


def contrast(colour: str) -> float:
    """Return the contrast of white text on a colour, by the formula of WCAG 2.1."""
    parts_ = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts_]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def test_colours_work_on_light_and_dark_pages() -> None:
    from scanstore.db import html as tables_

    assert all(contrast(colour) >= 4.5 for colour in tables_.COLOURS.values())
    rows = Rows([blank(Finding, id=1, severity="low")], Finding)
    given = re.findall(r"(?<![-\w])(?:color|background):([^;\"]+)", html.unescape(rows._repr_html_()))
    assert set(given) == {tables_.COLOURS["low"], "#fff"}  # all other text has the colour of the page


def test_described_results_stay_named_tuples() -> None:
    from typing import NamedTuple

    @described
    class Found(NamedTuple):
        a: int
        b: list[int]

    assert repr(Found(1, [2])) == "Found(a=1, b=[2])" and repr(Found(1, [2] * 5)) == "Found(a=1, b=[5 items])"
    assert Found(1, [2]) == (1, [2]) and Found(1, [2])._replace(a=2).a == 2
