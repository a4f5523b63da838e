"""The lists of scans, symbols, findings, models and analyses: one check of the window, and a window of the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scanstore.errors import InvalidArgument, NotFound
from scanstore.models import Finding
from scanstore.store import Store

TREE = {
    "a.py": "import b\nclass A:\n    def f(self):\n        g()\n\nclass B(A):\n    pass\n\ndef g():\n    b.k()\n",
    "b.py": "import a\nfrom a import g\n\ndef k():\n    g()\n\ndef m():\n    g()\n\nclass C(a.A):\n    pass\n",
    "c.py": "import d\nimport b\nimport a\ndef h():\n    pass\n",
    "p/__init__.py": "from . import missing, lost\nimport p.gone\n",
    "d.py": "import c\ndef unused_one():\n    pass\ndef unused_two():\n    pass\n",
}
GOOD = {"vulnerability_type": "x", "severity": "high", "file_path": "a.py"}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with several rows of every list."""
    root = tmp_path_factory.mktemp("tree")
    for name, text in TREE.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    with Store(":memory:") as store:
        for name in ("m", "n"):
            store.llm.add(name)
        store.scans.add("other")
        scan = store.scans.analyze(store.scans.record(root, jobs=1))
        drafts = store.drafts.add(scan, [{**GOOD, "title": t, "line_number": n} for n, t in enumerate("xyz", 1)])
        for chunk in store.chunks.claim(scan, limit=100):
            store.chunks.complete(chunk)
        for draft in drafts:
            store.drafts.record_votes(draft, [{"model": m, "decision": "verified"} for m in ("m", "n")])
        for verified in store.verified.list(scan):
            store.findings.publish(verified)
        for _ in range(2):
            with store.llm.call("m", purpose="p", scan=scan) as call:
                call.response = "r"
        for n in range(3):
            store.findings.comment(1, f"c{n}", by="ann")
            store.findings.suppress(rule=f"r{n}", target=scan.target, reason="why")
        yield store


def target(store: Store) -> str:
    return store.scans.latest().target


LISTS: dict[str, Callable[..., Any]] = {
    "scans.list": lambda s, **o: s.scans.list(**o),
    "scans.targets": lambda s, **o: s.scans.targets(**o),
    "symbols.find": lambda s, **o: s.symbols.find("a", match="contains", **o),
    "symbols.find by import": lambda s, **o: s.symbols.find("b.g", **o),
    "symbols.list": lambda s, **o: s.symbols.list(**o),
    "symbols.references": lambda s, **o: s.symbols.references("a.g", **o),
    "symbols.callers": lambda s, **o: s.symbols.callers("a.g", **o),
    "symbols.callees": lambda s, **o: s.symbols.callees("a.A.f", depth=None, **o),
    "symbols.impact": lambda s, **o: s.symbols.impact("a.A", **o),
    "symbols.subclasses": lambda s, **o: s.symbols.subclasses("a.A", **o),
    "symbols.bases": lambda s, **o: s.symbols.bases("a.B", **o),
    "symbols.imports": lambda s, **o: s.symbols.imports("c.py", **o),
    "symbols.importers": lambda s, **o: s.symbols.importers("a.py", **o),
    "symbols.import_cycles": lambda s, **o: s.symbols.import_cycles(**o),
    "symbols.unresolved_imports": lambda s, **o: s.symbols.unresolved_imports(**o),
    "symbols.unreferenced": lambda s, **o: s.symbols.unreferenced(**o),
    "findings.list": lambda s, **o: s.findings.list(**o),
    "findings.list of a scan": lambda s, **o: s.findings.list(s.scans.latest(), **o),
    "findings.list suppressed": lambda s, **o: s.findings.list(suppressed=False, **o),
    "findings.history": lambda s, **o: s.findings.history(1, **o),
    "findings.sightings": lambda s, **o: s.findings.sightings(1, **o),
    "findings.suppressions": lambda s, **o: s.findings.suppressions(**o),
    "findings.suppressions active": lambda s, **o: s.findings.suppressions(active=True, **o),
    "llm.list": lambda s, **o: s.llm.list(**o),
    "llm.calls": lambda s, **o: s.llm.calls(**o),
    "chunks.list": lambda s, **o: s.chunks.list(s.scans.latest(), **o),
    "drafts.list": lambda s, **o: s.drafts.list(s.scans.latest(), **o),
    "drafts.votes": lambda s, **o: s.drafts.votes(1, **o),
    "verified.list": lambda s, **o: s.verified.list(s.scans.latest(), **o),
}
ALONE = {"findings.sightings", "symbols.bases", "symbols.unresolved_imports", "symbols.find by import"}
SORTED = [name for name in LISTS if name in {
    "scans.list", "symbols.list", "symbols.imports", "symbols.unresolved_imports", "findings.list",
    "findings.list of a scan", "findings.history", "findings.sightings", "findings.suppressions", "llm.list",
    "llm.calls", "chunks.list", "drafts.list", "verified.list",
}]  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_a_list_has_a_window(full: Store, name: str) -> None:
    rows = LISTS[name]
    every = rows(full)
    assert len(every) >= (1 if name in ALONE else 2)
    for options, part in (
        ({"limit": 0}, []), ({"limit": 1}, every[:1]), ({"offset": 1}, every[1:]), ({"offset": 99}, []),
        ({"limit": 1, "offset": 1}, every[1:2]), ({"limit": 2**63 - 1, "offset": 0}, every), ({"limit": None}, every),
        ({"limit": 2**63 - 1, "offset": 2**63 - 1}, []),
    ):  # fmt: skip
        assert rows(full, **options) == part, options
    for bad in (-1, "2", True, 1.5, float("nan"), 2**63, [1]):
        for word in ("limit", "offset"):
            with pytest.raises(InvalidArgument, match=f"^{word} is .*; give a whole number from 0 to"):
                rows(full, **{word: bad})
    with pytest.raises(InvalidArgument, match="^offset is None"):
        rows(full, offset=None)


@pytest.mark.parametrize("name", SORTED)
def test_a_list_of_a_query_is_sorted_by_a_column(full: Store, name: str) -> None:
    rows = LISTS[name]
    by = "finding" if name == "findings.sightings" else "id"
    assert list(reversed(rows(full, sort=by))) == rows(full, sort=f"-{by}")
    assert sorted(map(repr, rows(full, sort=by))) == sorted(map(repr, rows(full)))
    assert rows(full, sort=f"-{by}", limit=1) == rows(full, sort=f"-{by}")[:1]
    for bad in ("colour", "", 5, ["id"]):
        with pytest.raises(InvalidArgument, match="cannot be sorted by"):
            rows(full, sort=bad)


def test_findings_are_sorted_in_memory_as_in_a_query(full: Store) -> None:
    for column in ("id", "scan", "first_scan", "lineage", "verified"):
        for sort in (column, f"-{column}"):
            query = full.page(Finding, sort=sort).items
            assert [row.id for row in full.findings.list(sort=sort)] == [row.id for row in query], sort


def test_a_row_is_found_or_none(full: Store) -> None:
    scan, finding = full.scans.latest(), full.findings.get(1)
    assert full.scans.find(scan.id) == full.scans.find(scan) == scan and full.scans.find(99) is None
    assert full.findings.find(1) == full.findings.find(finding) == finding and full.findings.find(99) is None
    for read in (full.scans.find, full.scans.get, full.findings.find, full.findings.get, full.llm.get_call):
        for bad in (0, -1, True, 2**63, "x", None, 1.5):
            with pytest.raises(InvalidArgument):
                read(bad)  # type: ignore[operator]
    for missing in (full.scans.get, full.findings.get, full.llm.get_call):
        with pytest.raises(NotFound):
            missing(99)


def test_a_decision_without_a_name_has_none(full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCANSTORE_USER", raising=False)
    full.findings.triage(2, "confirmed", reason="seen")
    event = full.findings.history(2)[-1]
    assert (event.by, event.note, event.to_dict()["by"]) == (None, "seen", None)
    held = full.findings.suppress(2, reason="later")
    assert held.by is None and full.findings.suppress(2, reason="later").id == held.id
    assert full.findings.suppressions(sort="-id")[0].by is None
    for form in ("html", "json", "text", "csv", "markdown"):
        assert "by None" not in full.report(format=form)
    full.sarif.dump(None, tmp_path / "out.sarif", target=target(full))
    assert full.findings.unsuppress(held).lifted_by is None
    monkeypatch.setenv("SCANSTORE_USER", "eve")
    assert full.findings.comment(2, "and by a name").by == "eve"
    assert full.check() == []
