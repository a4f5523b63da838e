"""Scripts and entry points in the metadata of a project are uses of the functions that they name."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from scanstore import Store
from scanstore.indexing.entry_points import LARGEST, MOST_PARTS, EntryPointIndexer
from scanstore.indexing.files import index

SHOP = {
    "shop/__init__.py": "",
    "shop/cli.py": "def main(): pass\n\n\nclass App:\n    def run(self): pass\n\n\ndef rest(): pass\n",
}
PROJECT = """\
[project]
name = "shop"
description = '''
shop = "shop.cli:main"
'''

[project.scripts]  # "shop.cli:main"
shop = "shop.cli:main"
other = 'shop.cli : main'

[project.gui-scripts]
window = "shop.cli:App.run [extra]"

[project.entry-points."shop.plugins"]
app = "shop.cli:App"
module = "shop.cli"
outside = "flask.cli:main"
wrong = "not a reference!"

[tool.poetry.scripts]
again = "shop.cli:main"
table = {reference = "shop.cli:rest", type = "console"}
number = 3

[tool.poetry.plugins.group]
plug = "shop.cli:App"
"""
SETUP = """\
[metadata]
name = shop
entry = shop.cli:rest

[options.entry_points]
console_scripts =
    # shop = shop.cli:rest
    shop = shop.cli:main
    other=shop.cli:App.run [extra]  # a comment
gui_scripts = window = shop.cli:App
broken = :
"""


def record(store: Store, root: Path, tree: dict[str, str]) -> list[tuple[str, int, str, str, str | None]]:
    """Record a tree. Return its references from files that are not Python."""
    for path, text in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    scan = store.scans.record(root, jobs=1)
    edges = [e for e in store.symbols.edges(scan) if not e.from_file.endswith(".py")]
    assert all(e.reference_type == "use" and e.from_symbol is None for e in edges)
    return [(e.from_file, e.from_line, e.name, e.resolution, e.target) for e in edges]


def test_scripts_and_entry_points_of_pyproject(store: Store, tmp_path: Path) -> None:
    assert record(store, tmp_path / "tree", {**SHOP, "pyproject.toml": PROJECT}) == [
        ("pyproject.toml", 8, "shop.cli.main", "imported", "shop.cli.main"),
        ("pyproject.toml", 9, "shop.cli.main", "imported", "shop.cli.main"),
        ("pyproject.toml", 12, "shop.cli.App.run", "imported", "shop.cli.App.run"),
        ("pyproject.toml", 15, "shop.cli.App", "imported", "shop.cli.App"),
        ("pyproject.toml", 16, "shop.cli", "imported", "shop.cli"),
        ("pyproject.toml", 17, "flask.cli.main", "external", None),
        ("pyproject.toml", 21, "shop.cli.main", "imported", "shop.cli.main"),
        ("pyproject.toml", 22, "shop.cli.rest", "imported", "shop.cli.rest"),
        ("pyproject.toml", 26, "shop.cli.App", "imported", "shop.cli.App"),
    ]


def test_entry_points_of_setup_cfg(store: Store, tmp_path: Path) -> None:
    assert record(store, tmp_path / "tree", {**SHOP, "setup.cfg": SETUP}) == [
        ("setup.cfg", 8, "shop.cli.main", "imported", "shop.cli.main"),
        ("setup.cfg", 9, "shop.cli.App.run", "imported", "shop.cli.App.run"),
        ("setup.cfg", 10, "shop.cli.App", "imported", "shop.cli.App"),
    ]


def test_refs_show_them_and_unused_leaves_their_functions_out(store: Store, tmp_path: Path) -> None:
    record(store, tmp_path / "tree", {**SHOP, "sub/pyproject.toml": '[project.scripts]\nshop = "shop.cli:main"\n'})
    (reference,) = store.symbols.references("shop.cli.main")
    assert (reference.from_file, reference.from_line, reference.from_symbol_id) == ("sub/pyproject.toml", 2, None)
    assert [s.name for s in store.symbols.unreferenced()] == ["App", "run", "rest"]
    assert store.symbols.impact("shop.cli.main") == []  # no symbol of the tree depends on it
    assert store.symbols.callers("shop.cli.main") == []


def test_a_changed_script_resolves_anew(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    record(store, root, {**SHOP, "pyproject.toml": '[project.scripts]\nshop = "shop.cli:late"\n'})
    assert "late" not in [s.name for s in store.symbols.unreferenced()]
    found = record(store, root, {"shop/cli.py": "def late(): pass\n"})
    assert found == [("pyproject.toml", 2, "shop.cli.late", "imported", "shop.cli.late")]
    assert store.scans.summary().indexed == 1
    assert store.check() == []


def test_these_files_prove_nothing_about_other_files(store: Store, tmp_path: Path) -> None:
    tree = {**SHOP, "pyproject.toml": PROJECT, "x.toml": "a = 1\n", "mypyproject.toml": "[broken\n"}
    record(store, tmp_path / "tree", tree)
    assert [(row.language, row.files, row.recorded) for row in store.symbols.coverage()] == [
        ("Python", 2, ("symbols", "references", "imports")),
        ("other", 3, ()),
    ]
    chunks = [(c.file_path, c.chunk_type, c.start_line, c.end_line) for c in store.chunks.list(store.scans.latest())]
    assert ("pyproject.toml", "full_file", 1, PROJECT.count("\n")) in chunks


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("pyproject.toml", b"[project\n", "syntax error: not TOML: Expected ']'"),
        ("pyproject.toml", b"\xff\xfe", "not utf-8: "),
        ("pyproject.toml", b"a = " + b"[" * 100_000, "nested too deeply to be parsed"),
        ("pyproject.toml", b".".join([b"a"] * 100_000) + b" = 1", "syntax error: a key has more than"),
        ("pyproject.toml", b'["' + b'"."'.join([b"a"] * 50_000) + b'"]', "syntax error: a key has more than"),
        ("setup.cfg", b"#" * (LARGEST + 1), "syntax error: it has more than 1,000,000 bytes"),
    ],
)
def test_a_broken_file_has_its_error_and_the_scan_goes_on(
    store: Store, tmp_path: Path, name: str, text: bytes, reason: str
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / name).write_bytes(text)
    assert record(store, root, SHOP) == []
    summary = store.scans.summary()
    assert summary.failed == 1 and summary.failed_files[0].path == name
    assert summary.failed_files[0].reason.startswith(reason)
    assert len(store.symbols.list(symbol_type="function")) == 2


HOSTILE = {
    "comment of quotes": lambda n: "# " + '\\"' * n,
    "open quotes": lambda n: "# " + "'\"" * n,
    "one word": lambda n: "# " + "a" * n,
    "short keys": lambda n: "# " + ("a." * (MOST_PARTS - 2) + "; ") * (n // MOST_PARTS),
    "headers": lambda n: "".join(f"[project.entry-points.g{i}]\n" for i in range(n // 20)),
    "same scripts": lambda n: "[project.scripts]\n" + "".join(f'a{i} = "p:f"\n' for i in range(n // 12)),
    "spaces": lambda n: "[project.scripts]\na = '" + " " * n + "'",
    "brackets": lambda n: "# " + "[" * n,
    "names": lambda n: "[project.scripts]\na = '" + "a" * n + "'",
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("file", ["pyproject.toml", "setup.cfg"])
def test_hostile_files_are_read_in_linear_time(kind: str, file: str) -> None:
    indexer = EntryPointIndexer()
    text = HOSTILE[kind](300_000)
    if file == "setup.cfg":
        text = "[options.entry_points]\nconsole_scripts =\n    " + text.replace("\n", "\n    ")
    begun = time.perf_counter()
    facts = index(indexer, text.encode(), path=file, module="")
    assert time.perf_counter() - begun < 5
    assert facts.error is None
