"""The tests that reach a symbol, found by the conventions of pytest and unittest.

A test is a function or method whose name starts with ``test``: of a module or class in a file ``test_*.py``,
``*_test.py`` or ``tests.py``, or of a class in any file whose base is called ``...TestCase``. A set-up method belongs
to all tests of its class or module. A test with a parameter named like a fixture uses this fixture: the only one of
that name in its class, its file and the ``conftest.py`` of its folder and the folders above. If there are several or
only others, the link is a guess. Change here: what a test, a fixture and a set-up method are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from scanstore.db.notebooks import described as in_notebooks
from scanstore.symbols.graph import INCOMING, Graph, Node, packed
from scanstore.symbols.overrides import CONTAINERS, Hierarchy
from scanstore.symbols.reach import FoundLink, ReferenceSearch, described

if TYPE_CHECKING:
    from scanstore.db.words import SymbolType

OF_CLASS = frozenset(
    "setUp tearDown asyncSetUp asyncTearDown setUpClass tearDownClass setUpTestData setup_method teardown_method"
    " setup_class teardown_class".split()
)
OF_MODULE = frozenset(
    "setUpModule tearDownModule setup_module teardown_module setup_function teardown_function".split()
)
_FILE = re.compile(r"(?:test_.*|.*_test|tests)\.pyw?")
_FIXTURE = re.compile(r"(?:[\w.]*\.)?(?:yield_)?fixture\b")
_QUOTED = re.compile(r"""["']([^"']*)["']""")

# Tests, fixtures, and classes that use fixtures, of a whole scan.
TESTS = """
SELECT s.version_id, s.ordinal, f.file_path, n.text, q.text, s.symbol_type, s.start_line, s.metadata
  FROM scan_files AS f
  CROSS JOIN symbol_facts AS s ON s.version_id = f.version_id
  CROSS JOIN names AS n ON n.id = s.name_id CROSS JOIN names AS q ON q.id = s.qualified_name_id
 WHERE f.scan_id = {scan} AND s.symbol_type IN ('class', 'function', 'method')
   AND (n.text LIKE 'test%' AND s.symbol_type <> 'class' OR s.metadata LIKE '%fixture%')
 ORDER BY f.file_path, s.start_line
"""
FIXTURES = """
SELECT s.version_id, s.ordinal
  FROM json_each(?1) AS w
  CROSS JOIN symbol_facts AS s ON s.version_id = (w.value >> 24) AND s.ordinal = (w.value & 16777215)
 WHERE s.metadata LIKE '%fixture%'
"""
MODULES = """
SELECT s.version_id, q.text
  FROM json_each(?1) AS w
  CROSS JOIN symbol_facts AS s ON s.version_id = w.value AND s.symbol_type = 'module'
  CROSS JOIN names AS q ON q.id = s.qualified_name_id
"""
BASES = """
SELECT s.version_id, s.ordinal, n.text, s.metadata ->> '$.bases'
  FROM json_each(?1) AS w
  CROSS JOIN symbol_facts AS s ON s.version_id = (w.value >> 24) AND s.ordinal = (w.value & 16777215)
  CROSS JOIN names AS n ON n.id = s.name_id
"""


@in_notebooks
class ReachingTest(NamedTuple):
    """A test that reaches a symbol: ``path`` has the qualified names from the test to the symbol, ``distance`` is the
    number of steps between them, and ``exact`` means that none of them is a guess. ``line`` is that of the first step.
    """

    id: int
    name: str
    qualified_name: str
    symbol_type: SymbolType
    file_path: str
    start_line: int
    end_line: int
    distance: int
    exact: bool
    line: int | None
    path: list[str]


def reaching_tests(graph: Graph, start: Node, *, depth: int | None, guesses: bool) -> list[ReachingTest]:
    """Return the tests that reach a symbol, nearest first."""
    conventions = Conventions(graph)
    search = ReferenceSearch(
        graph, INCOMING, ("call", "inherit", "use"), guesses=guesses, constructors=True, heads=True,
        overrides="listed", more=conventions.links, ends=conventions.ends,
    )  # fmt: skip
    found = search.run(start, depth)
    paths = {node: search.path(node) for node in found if node in conventions.known}
    names = described(graph, {node for path in paths.values() for node in path})
    rows = []
    for node, path in paths.items():
        way = found[node]
        spelled: list[str] = []
        for each in path:
            if each in names and spelled[-1:] != [names[each][2]]:  # a setter after its getter is no step
                spelled.append(names[each][2])
        rows.append(ReachingTest(*names[node], way.distance, way.exact, way.line, spelled))
    rows.sort(key=lambda row: (row.distance, row.file_path, row.start_line, row.id))
    return rows


class _Case(NamedTuple):
    """A test, or a fixture and the name under which it is requested."""

    node: Node
    path: str
    around: str  # the qualified name of its class or module
    name: str
    line: int
    requests: frozenset[str]
    method: bool
    everywhere: bool = False  # used by all tests that see it


class Conventions:
    """The tests of a scan and their links to fixtures and set-up methods."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.hierarchy = Hierarchy(graph)
        self.known: set[Node] = set()
        self._modules: dict[int, str] = {}
        self._names: dict[Node, tuple[str, str]] = {}  # the name and file of each node
        self._cases: list[_Case] | None = None
        self._fixtures: dict[str, list[_Case]] = {}
        self._requests: dict[str, list[_Case]] = {}
        self._by_node: dict[Node, _Case] = {}

    def ends(self, nodes: Sequence[Node]) -> set[Node]:
        """Return the tests among nodes that were reached, and remember them."""
        found = self.tests(nodes)
        self.known |= found
        return found

    def tests(self, nodes: Sequence[Node]) -> set[Node]:
        """Return the tests among nodes."""
        rows = described(self.graph, nodes)
        self._names.update((node, (name, path)) for node, (_, name, _, _, path, _, _) in rows.items())
        named = {node: row for node, row in rows.items() if row[1].startswith("test")}
        found = self._functions({node: row for node, row in named.items() if row[3] == "function"})
        found |= self._methods([node for node, row in named.items() if row[3] == "method"])
        return found

    def _functions(self, rows: dict[Node, tuple[int, str, str, SymbolType, str, int, int]]) -> set[Node]:
        asked = json.dumps(sorted({v for v, _ in rows} - self._modules.keys()))
        self._modules.update(self.graph.db.execute_sql(MODULES, (asked,)).fetchall())
        return {
            node
            for node, (_, name, qualified, _, path, _, _) in rows.items()
            if in_test_file(path) and qualified.removesuffix(name).rstrip(".") == self._modules.get(node[0])
        }

    def _methods(self, nodes: Sequence[Node]) -> set[Node]:
        """Return the methods of classes that pytest or unittest collect: themselves, or by a subclass."""
        owners = {
            (v, n): (v, owner) for v, n, owner, _ in self.graph.db.execute_sql(CONTAINERS, (packed(nodes),)).fetchall()
        }
        self.hierarchy.load(owners.values())
        near = {each: {each} | self.hierarchy.below((each,)) for each in owners.values()}
        asked = {c for classes in near.values() for c in classes | self.hierarchy.above(classes)}
        names: dict[Node, str] = {}
        cases: set[Node] = set()
        for v, n, name, bases in self.graph.db.execute_sql(BASES, (packed(sorted(asked)),)).fetchall():
            names[v, n] = name
            if any(str(base).partition("[")[0].endswith("TestCase") for base in json.loads(bases or "[]")):
                cases.add((v, n))
        found = set()
        for node, owner in owners.items():
            classes = near[owner]
            named = in_test_file(self._names[node][1]) and any(names.get(c, "").startswith("Test") for c in classes)
            if named or any(({c} | self.hierarchy.above((c,))) & cases for c in classes):
                found.add(node)
        return found

    # -- fixtures and set-up ---------------------------------------------------------------------------------------

    def links(self, sources: Sequence[Node]) -> Iterator[FoundLink]:
        """Yield the links from fixtures and set-up methods to the tests and fixtures that use them."""
        unknown = [node for node in sources if node not in self._names]
        if unknown:
            self.tests(unknown)
        made = set(self.graph.db.execute_sql(FIXTURES, (packed(sources),)).fetchall())
        for node in sources:
            name = self._names.get(node, ("", ""))[0]
            if name in OF_CLASS or name in OF_MODULE:
                yield from self._after(node, name)
            if node in made:
                self._load()
                if node in self._by_node:
                    yield from self._users(self._by_node[node])

    def _after(self, node: Node, name: str) -> Iterator[FoundLink]:
        """Yield links to the tests that run after a set-up method."""
        cases = [case for case in self._load() if not case.name]
        if name in OF_MODULE:
            inside = [case.node for case in cases if case.node[0] == node[0]]
        else:
            (around,) = self.graph.db.execute_sql(CONTAINERS, (packed([node]),)).fetchall()[:1] or [None]
            if around is None:
                return
            owner = (node[0], around[2])
            self.hierarchy.load([owner])
            classes = {owner} | self.hierarchy.below((owner,))
            names = {(v, row[2]) for (v, _), row in described(self.graph, classes).items()}
            inside = [case.node for case in cases if (case.node[0], case.around) in names]
        for each in sorted(self.tests(inside)):
            yield FoundLink(node, each, "setup", True)

    def _users(self, fixture: _Case) -> Iterator[FoundLink]:
        for case in self._load() if fixture.everywhere else ():
            if not case.name and _sees(case, fixture):
                yield FoundLink(fixture.node, case.node, "fixture", True, case.line)
        for case in self._requests.get(fixture.name, ()):
            others = [each for each in self._fixtures[fixture.name] if each.node != case.node]
            visible = [each for each in others if _sees(case, each)]
            if fixture in (visible or others):
                yield FoundLink(fixture.node, case.node, "fixture", len(visible) == 1, case.line)

    def _load(self) -> list[_Case]:
        """Return the tests (with an empty ``name``) and fixtures of the scan."""
        if self._cases is None:
            rows = self.graph.db.execute_sql(TESTS.format(scan=self.graph.scan)).fetchall()
            marked: dict[tuple[int, str], frozenset[str]] = {}  # what each class requests for its tests
            cases: list[_Case] = []
            for v, n, path, name, qualified, kind, line, text in rows:
                metadata = json.loads(text) if text else {}
                decorators = [str(each) for each in metadata.get("decorators", ())]
                given = frozenset(
                    word for each in decorators if "usefixtures(" in each for word in _QUOTED.findall(each)
                )
                if kind == "class":
                    marked[v, qualified] = given
                    continue
                made = next((each for each in decorators if _FIXTURE.match(each)), None)
                if made is None and not name.startswith("test"):
                    continue
                around = qualified[: -len(name) - 1]
                requests = given | _requested(metadata.get("params", ()), decorators)
                requests |= marked.get((v, around), frozenset())
                label = "" if made is None else _label(made) or name
                case = _Case((v, n), path, around, label, line, requests, kind == "method",
                             made is not None and "autouse=True" in made.replace(" ", ""))  # fmt: skip
                cases.append(case)
                if made is not None:
                    self._fixtures.setdefault(label, []).append(case)
                    self._by_node[v, n] = case
            tests = self.tests([case.node for case in cases if not case.name])
            self._cases = [case for case in cases if case.name or case.node in tests]
            for case in self._cases:
                for name in case.requests:
                    self._requests.setdefault(name, []).append(case)
        return self._cases


def in_test_file(path: str) -> bool:
    """Whether pytest and unittest look for tests in a file of this name."""
    return _FILE.fullmatch(path.rpartition("/")[2]) is not None


def _requested(params: object, decorators: list[str]) -> frozenset[str]:
    """Return the parameters that pytest fills with fixtures."""
    if not isinstance(params, list):
        return frozenset()
    given = {
        word.strip()
        for each in decorators
        if "parametrize(" in each and "indirect" not in each
        for text in _QUOTED.findall(each)
        for word in text.split(",")
    }
    names = {
        each.get("name", "")
        for each in params
        if isinstance(each, dict) and "default" not in each and each.get("kind", "") in ("", "keyword")
    }
    return frozenset(names - given)


def _label(decorator: str) -> str | None:
    """Return the name that a fixture's decorator gives it."""
    found = re.search(r"""\bname\s*=\s*["']([^"']+)["']""", decorator)
    return found[1] if found else None


def _sees(case: _Case, fixture: _Case) -> bool:
    """Whether pytest finds a fixture for a test or for another fixture."""
    if case.path == fixture.path:
        return not fixture.method or f"{case.around}.".startswith(f"{fixture.around}.")
    folder, _, file = fixture.path.rpartition("/")
    return file == "conftest.py" and not fixture.method and (not folder or case.path.startswith(folder + "/"))
