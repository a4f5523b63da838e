"""Graphs for other tools: any text is safe in every format, all formats say the same, and it is what the scan knows."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from scanstore import Store
from scanstore.cli import main
from scanstore.errors import InvalidArgument, NotFound
from scanstore.models import Scan
from scanstore.symbols.graph_formats import FORMATS, Link, Node, write

TREE = {
    "shop/__init__.py": "from .core import work\n",
    "shop/core.py": """
        from .util import helper

        class Base:
            def run(self):
                return self.step()
            def step(self):
                return helper() + helper()

        def work():
            return helper()

        def lonely():
            pass
    """,
    "shop/util.py": """
        def helper():
            return deep()

        def deep():
            return deeper()

        def deeper():
            return deeper
    """,
    "main.py": """
        import shop.core
        from shop import work

        def start(thing):
            work()
            thing.step_only_here()

        class Other:
            def step_only_here(self):
                return start(self)

        start(1)
    """,
}

NASTY = [
    'a"b', "back\\slash", "end\\", '\\"', "\\n \\N \\G \\l", "line\nbreak\r\ttab", "<script>alert(1)</script>",
    "&amp; R&D &#60; &lt", "#quot; #35; ; :", "`code` *b* **c** _d_", "[x](y) {z} |p|", "%%{init: {}}%%", "%% no",
    "end", "subgraph graph style: #x; classDef", "größe 中文 😀", "\0\x1b[31m\x7f\x9b\u202e\ufffe", "\udcff", "]]>",
    "<!-- -->", "--> n1", "",
]  # fmt: skip


class Drawn(NamedTuple):
    """What a reader of a format makes of it."""

    labels: dict[str, str]  # by id
    clusters: list[tuple[str, list[str]]]
    links: list[tuple[str, str]]
    guessed: int

    @property
    def named(self) -> set[tuple[str, str]]:
        return {(self.labels[a], self.labels[b]) for a, b in self.links}


def spelled(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# Readers: small, and stricter than the real ones: a line that is not understood is an error.


def _dot_string(token: str) -> str:
    """What Graphviz shows for a quoted string: no stray quote, then its escapes, then HTML entities."""
    assert re.fullmatch(r'"(?:[^"\\\n]|\\["\\])*"', token), token
    return re.sub(r"\\(.)", r"\1", token[1:-1]).replace("&amp;", "&")


DOT_STRING = r'("(?:[^"\\]|\\.)*")'


def read_dot(lines: list[str]) -> Drawn:
    drawn = Drawn({}, [], [], 0)
    guessed = 0
    assert (lines[0], lines[-1]) == ("digraph {", "}")
    for line in map(str.strip, lines[1:-1]):
        if match := re.fullmatch(rf"n(\d+) \[label={DOT_STRING}, tooltip={DOT_STRING}\];", line):
            assert match[1] not in drawn.labels
            drawn.labels[match[1]] = _dot_string(match[2])
            _dot_string(match[3])
            if drawn.clusters and drawn.clusters[-1][0] is not None:
                drawn.clusters[-1][1].append(match[1])
        elif match := re.fullmatch(r'n(\d+) -> n(\d+)( \[style=dashed, label="\d+%"\])?;', line):
            drawn.links.append((match[1], match[2]))
            guessed += match[3] is not None
        elif match := re.fullmatch(rf"label={DOT_STRING};", line):
            drawn.clusters.append((_dot_string(match[1]), []))
        else:
            assert line in ("rankdir=LR;", "node [shape=box];", "}") or re.fullmatch(r"subgraph cluster_\d+ {", line)
    return drawn._replace(guessed=guessed)


def read_graphml(lines: list[str]) -> Drawn:
    text = "\n".join(lines)
    assert text.isascii()
    space = "{http://graphml.graphdrawing.org/xmlns}"
    tree = ElementTree.fromstring(text)
    keys = {key.get("id"): (key.get("for"), key.get("attr.name")) for key in tree.iter(f"{space}key")}
    labels, files = {}, {}
    for node in tree.iter(f"{space}node"):
        data = {keys[d.get("key")]: d.text or "" for d in node}
        labels[node.attrib["id"][1:]] = data["node", "label"]
        if data["node", "kind"] != "file":
            files.setdefault(data["node", "file"], []).append(node.attrib["id"][1:])
    edges = list(tree.iter(f"{space}edge"))
    guessed = sum(float(d.text or "") <= 0.5 for e in edges for d in e if d.get("key") == "confidence")
    links = [(e.attrib["source"][1:], e.attrib["target"][1:]) for e in edges]
    return Drawn(labels, list(files.items()), links, guessed)


def _mermaid_string(token: str) -> str:
    assert re.fullmatch(r"(?:[\w ./-]|#\d+;)+", token), token
    return re.sub(r"#(\d+);", lambda m: chr(int(m[1])), token) if token != " " else ""


def read_mermaid(lines: list[str]) -> Drawn:
    drawn = Drawn({}, [], [], 0)
    guessed = 0
    assert lines[0] == "flowchart LR"
    within = False
    for line in map(str.strip, lines[1:]):
        if match := re.fullmatch(r'n(\d+)\["([^"]*)"\]', line):
            assert match[1] not in drawn.labels
            drawn.labels[match[1]] = _mermaid_string(match[2])
            if within:
                drawn.clusters[-1][1].append(match[1])
        elif match := re.fullmatch(r'n(\d+) (-->|-\.->\|"\d+#37;"\|) n(\d+)', line):
            drawn.links.append((match[1], match[3]))
            guessed += match[2] != "-->"
        elif match := re.fullmatch(r'subgraph f\d+\["([^"]*)"\]', line):
            assert not within
            within = True
            drawn.clusters.append((_mermaid_string(match[1]), []))
        else:
            assert line == "end" and within
            within = False
    return drawn._replace(guessed=guessed)


READERS: dict[str, Callable[[list[str]], Drawn]] = {"dot": read_dot, "graphml": read_graphml, "mermaid": read_mermaid}


def draw(form: str, nodes: list[Node], links: list[Link]) -> list[str]:
    lines = list(write(form, nodes, links))
    assert all("\n" not in line and "\r" not in line and line.isprintable() for line in lines)
    return lines


def whole(texts: list[str]) -> tuple[list[Node], list[Link]]:
    nodes = [Node(n, text, "function", f"dir/{text}.py", n) for n, text in enumerate(texts, 1)]
    links = [Link(n, n % len(texts) + 1, "call", 0.5 if n % 2 else 1.0, bool(n % 2)) for n in range(1, len(texts) + 1)]
    return nodes, links


# Writers


@pytest.mark.parametrize("form", FORMATS)
def test_no_text_breaks_out_of_its_place(form: str) -> None:
    nodes, links = whole(NASTY)
    lines = draw(form, nodes, links)
    drawn = READERS[form](lines)
    if form == "graphml":  # what XML has is there as it was
        assert drawn.labels["6"] == "line\nbreak\r\ttab"
        assert drawn.labels["17"] == "\\x00\\x1b[31m\x7f\x9b\u202e\\ufffe" and drawn.labels["18"] == "\\udcff"
        shown = {key: spelled(label) for key, label in drawn.labels.items()}
    else:
        shown = drawn.labels
        assert [file for file, _ in drawn.clusters] == [spelled(node.file) for node in nodes]
        assert [members for _, members in drawn.clusters] == [[str(node.id)] for node in nodes]
    assert shown == {str(node.id): spelled(node.label) for node in nodes}
    assert drawn.links == [(str(link.source), str(link.target)) for link in links]
    assert drawn.guessed == sum(link.guessed for link in links)
    assert form == "dot" or "<script>" not in "".join(lines)


# A single blank is how Mermaid has to spell nothing at all.
TEXTS = st.text(st.characters(codec=None, exclude_categories=())).filter(lambda text: text != " ")


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_any_text_is_read_back(texts: list[str]) -> None:
    nodes, links = whole(texts)
    for form in FORMATS:
        drawn = READERS[form](draw(form, nodes, links))
        assert [spelled(label) for label in drawn.labels.values()] == [spelled(text) for text in texts]
        assert len(drawn.links) == len(links)


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_still_a_graph(form: str) -> None:
    assert READERS[form](draw(form, [], [])) == Drawn({}, [], [], 0)


@pytest.mark.parametrize("form", FORMATS)
def test_a_graph_is_never_held_whole(form: str) -> None:
    endless = (Node(n, f"f{n}", "function", f"{n // 10}.py", n) for n in count(1))
    assert len(list(islice(write(form, endless, []), 5000))) == 5000
    lines = write(form, [Node(1, "f", "function", "a.py", 1)], (Link(1, 1, "call") for _ in count()))
    assert len(list(islice(lines, 5000))) == 5000


def test_files_are_nodes_of_no_cluster() -> None:
    nodes = [Node(1, "a.py", "file", "a.py"), Node(2, "b.py", "file", "b.py")]
    for form in FORMATS:
        assert READERS[form](draw(form, nodes, [Link(1, 2, "import")])).clusters == []
    assert "line" not in "".join(draw("graphml", nodes, [])).partition("<graph ")[2]


@pytest.mark.extras
@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz: apt install graphviz")
def test_graphviz_draws_it() -> None:
    nodes, links = whole(NASTY)
    text = "\n".join(draw("dot", nodes, links))
    svg = subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True, check=True).stdout
    tree = ElementTree.fromstring(svg)
    kinds = [g.get("class") for g in tree.iter("{http://www.w3.org/2000/svg}g")]
    assert (kinds.count("node"), kinds.count("edge"), kinds.count("cluster")) == (len(nodes), len(links), len(nodes))
    shown = {t.text for t in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {spelled(text).strip() for text in NASTY if text} <= {(text or "").strip() for text in shown}


# Of a scan


def plant(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(textwrap.dedent(text).lstrip("\n"))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "tree", TREE)


@pytest.fixture
def scan(store: Store, root: Path) -> Iterator[Scan]:
    yield store.scans.record(root, jobs=1)
    assert store.check() == []


def drawn(store: Store, form: str = "dot", **options: Any) -> Drawn:
    return READERS[form](list(store.symbols.export(form, **options)))


HELPER, DEEP, DEEPER = "shop.util.helper", "shop.util.deep", "shop.util.deeper"
RUN, STEP, WORK, START = "shop.core.Base.run", "shop.core.Base.step", "shop.core.work", "main.start"
CALLS = {(RUN, STEP), (STEP, HELPER), (WORK, HELPER), (HELPER, DEEP), (DEEP, DEEPER), (START, WORK)}
ONLY_HERE = "main.Other.step_only_here"


def test_the_whole_call_graph(store: Store, scan: Scan) -> None:
    found = drawn(store)
    assert found.named == CALLS | {("main", START), (ONLY_HERE, START)}
    assert len(found.links) == len(found.named)  # each pair once, however often it calls
    assert set(found.labels.values()) == {end for pair in found.named for end in pair}
    assert [file for file, _ in found.clusters] == ["main.py", "shop/core.py", "shop/util.py"]
    edges = {
        (e.from_symbol, e.target) for e in store.symbols.edges(reference_type="call")
        if e.target is not None and e.resolution in ("exact", "imported", "inherited")
    }  # fmt: skip
    assert found.named == edges


def test_every_format_says_the_same(store: Store, scan: Scan) -> None:
    for options in ({}, {"imports": True}, {"root": STEP, "direction": "both"}, {"guesses": True}):
        assert drawn(store, "dot", **options) == drawn(store, "mermaid", **options)
        assert drawn(store, "dot", **options) == drawn(store, "graphml", **options)


def test_guesses_are_asked_for_and_marked(store: Store, scan: Scan) -> None:
    assert drawn(store).guessed == 0
    found = drawn(store, guesses=True)
    assert found.guessed == 1 and found.named - drawn(store).named == {(START, ONLY_HERE)}
    assert not drawn(store, root=START, depth=1).named & {(START, ONLY_HERE)}
    assert (START, ONLY_HERE) in drawn(store, root=START, depth=1, guesses=True).named


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, {(HELPER, DEEP), (DEEP, DEEPER)}),
        ({"depth": 1}, {(HELPER, DEEP)}),
        ({"direction": "callers", "depth": 1}, {(STEP, HELPER), (WORK, HELPER)}),
        ({"direction": "callers"}, {(STEP, HELPER), (WORK, HELPER), (RUN, STEP), (START, WORK)}),
        ({"direction": "both", "depth": 1}, {(STEP, HELPER), (WORK, HELPER), (HELPER, DEEP)}),
        ({"direction": "both", "depth": None}, CALLS | {("main", START), (ONLY_HERE, START)}),
    ],
)
def test_around_a_symbol(store: Store, scan: Scan, options: dict[str, Any], wanted: set[tuple[str, str]]) -> None:
    (helper,) = store.symbols.find(HELPER)
    for given_root in (HELPER, helper, helper.id):
        assert drawn(store, root=given_root, **options).named == wanted


def test_a_symbol_alone_is_drawn(store: Store, scan: Scan) -> None:
    found = drawn(store, root="shop.core.lonely", direction="both")
    assert list(found.labels.values()) == ["shop.core.lonely"] and found.links == []


def test_imports(store: Store, scan: Scan) -> None:
    pairs = {("main.py", "shop/__init__.py"), ("main.py", "shop/core.py"), ("shop/__init__.py", "shop/core.py"),
             ("shop/core.py", "shop/util.py")}  # fmt: skip
    assert drawn(store, imports=True).named == pairs
    core = {"root": "shop/core.py", "imports": True}
    assert drawn(store, **core).named == {("shop/core.py", "shop/util.py")}
    assert drawn(store, **core, direction="callers").named == pairs - {("shop/core.py", "shop/util.py")}
    assert drawn(store, **core, direction="both", depth=1).named == pairs
    assert drawn(store, imports=True, root="main.py", depth=1).named == pairs - {("shop/core.py", "shop/util.py")}
    assert drawn(store, imports=True, root=store.symbols.find(HELPER)[0], depth=None).labels == {"1": "shop/util.py"}


@pytest.mark.parametrize("options", [{}, {"imports": True}, {"root": HELPER, "direction": "both"}])
def test_the_same_tree_gives_the_same_lines(store: Store, tmp_path: Path, root: Path, options: dict[str, Any]) -> None:
    """In another store, and after scans in which it was different."""
    (root / "shop/util.py").write_text("import main\n\n\ndef helper():\n    pass\n")
    store.scans.record(root, jobs=1)
    (root / "aaa.py").write_text("import main\n\n\ndef f():\n    main.start(2)\n")
    store.scans.record(root, jobs=1)
    (root / "aaa.py").unlink()
    plant(root, TREE)
    scan = store.scans.record(root, jobs=1)
    with Store(tmp_path / "other.db") as other:
        other.scans.record(root, jobs=1)
        for form in FORMATS:
            lines = list(other.symbols.export(form, **options))
            assert lines == list(store.symbols.export(form, **options))
            assert lines == list(store.symbols.export(form, scan=scan, **options))
            assert lines != list(store.symbols.export(form, scan=scan.id - 2, **options))


def test_more_symbols_than_are_looked_up_at_once(store: Store, tmp_path: Path) -> None:
    parts = [f"def f{n}():\n    f{n + 1}()\n" for n in range(2500)]
    plant(tmp_path / "big", {"a.py": "".join(parts) + "def f2500():\n    pass\n"})
    store.scans.record(tmp_path / "big", jobs=1)
    found = drawn(store)
    assert len(found.labels) == 2501 and len(found.links) == 2500
    assert all(found.labels[a].rpartition("f")[2] == str(int(found.labels[b].rpartition("f")[2]) - 1)
               for a, b in found.links)  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"format": "svg"},
        {"direction": "up"},
        {"depth": 0},
        {"depth": True},
        {"depth": "2"},
        {"root": 1.5},
        {"imports": True, "root": 7},
    ],
)
def test_bad_arguments_are_refused_at_once(store: Store, scan: Scan, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        store.symbols.export(**{"format": "dot", **options})


@pytest.mark.parametrize("options", [{"root": "nope"}, {"root": 99 << 24}, {"imports": True, "root": "nope.py"},
                                     {"scan": 77}])  # fmt: skip
def test_what_is_not_there_is_said_at_once(store: Store, scan: Scan, options: dict[str, Any]) -> None:
    with pytest.raises(NotFound):
        store.symbols.export("dot", **options)


def test_a_scan_removed_meanwhile_is_not_half_a_graph(store: Store, scan: Scan) -> None:
    lines = store.symbols.export("dot", scan=scan)
    next(lines)
    store.scans.remove(scan)
    with pytest.raises(NotFound, match="output is incomplete"):
        list(lines)


@pytest.mark.parametrize("options", [{}, {"root": HELPER, "direction": "both"}])
def test_it_runs_on_indexes(store: Store, scan: Scan, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    asked: list[tuple[str, Any]] = []
    real = type(store.database).execute_sql

    def execute_sql(database: Any, sql: str, params: Any = None) -> Any:
        asked.append((sql, params))
        return real(database, sql, params)

    monkeypatch.setattr(type(store.database), "execute_sql", execute_sql)
    list(store.symbols.export("dot", **options))
    monkeypatch.undo()
    mine = [(sql, params) for sql, params in asked if "AS source" in sql or "w.value, q.text" in sql]
    assert len(mine) == 2
    for sql, params in mine:
        plan = [row[3] for row in store.database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", params).fetchall()]
        assert not [step for step in plan if re.match(r"SCAN (?!w\b|\(subquery)", step) or "AUTOMATIC" in step], plan


# From the command line


@pytest.fixture
def run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)

    def invoke(*args: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, args, prog_name="scanstore")
        assert result.exit_code == code, result.output
        return result

    invoke("scan", "tree")
    return invoke


def test_the_command_draws(run: Callable[..., Result]) -> None:
    with Store("scanstore.db") as store:
        for form in FORMATS:
            lines = run("symbols", "graph", "--format", form).stdout.splitlines()
            assert lines == list(store.symbols.export(form))
        lines = run("symbols", "graph", "--root", "helper", "--depth", "all", "--direction", "callers").stdout
        assert lines.splitlines() == list(store.symbols.export("dot", root=HELPER, depth=None, direction="callers"))
        for file in ("shop/core.py", "tree/shop/core.py"):
            lines = run("symbols", "graph", "--imports", "--root", file, "--scan", "1").stdout
            assert lines.splitlines() == list(store.symbols.export("dot", root="shop/core.py", imports=True))
        number = str(store.symbols.find(HELPER)[0].id)
        run("scan", "tree")
        shown = run("symbols", "graph", "--root", number).stdout.splitlines()
        assert shown == list(store.symbols.export("dot", root=HELPER, scan=1))
        assert "dashed" in run("symbols", "graph", "--guesses").stdout
        assert store.check() == []


def test_the_command_refuses(run: Callable[..., Result]) -> None:
    assert "add --root" in run("symbols", "graph", "--depth", "3", code=2).stderr
    assert "add --root" in run("symbols", "graph", "--direction", "both", code=2).stderr
    assert "no symbol 'nope'" in run("symbols", "graph", "--root", "nope", code=1).stderr
    assert "has no file 'nope.py'" in run("symbols", "graph", "--imports", "--root", "nope.py", code=1).stderr
    run("symbols", "graph", "--format", "svg", code=2)


def test_the_terminal_obeys_no_stranger(run: Callable[..., Result], tmp_path: Path) -> None:
    evil = "a\x1b]0;owned\x07\nb\u202e.py"
    plant(tmp_path / "evil", {evil: "def f():\n    g()\ndef g():\n    pass\n", "b.py": "x = 1\n"})
    run("scan", "evil")
    for form in FORMATS:
        for option in ("--no-guesses", "--imports"):
            output = run("symbols", "graph", "--format", form, option, "--scan", "evil").output
            assert not set(output) & set("\x1b\x07\x9b\u202e\r\t"), output
