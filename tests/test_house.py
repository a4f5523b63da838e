"""The house rules that no type checker sees: what is exported, who imports whom, and that models equal the schema."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import pkgutil
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import import_graph
import needs
import peewee
import pytest
from typechecking import run_mypy

import scanstore
from scanstore import Store, models, parts
from scanstore.db.database import SCHEMA_VERSION
from scanstore.llm.models import ModelSlot
from scanstore.snapshots import facts

PACKAGE = Path(scanstore.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(PACKAGE)], "scanstore.") if ".migrations" not in m.name)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def libraries(path: Path) -> set[str]:
    """What a file imports anywhere, by the first part of its name."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


@cache
def module_imports(name: str) -> set[str]:
    """Modules that a module imports when it is loaded (not inside functions, not for type checking)."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    found: set[str] = set()
    for node in parsed(Path(spec.origin)).body:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found


def test_nothing_is_done_to_the_interpreter_of_the_caller() -> None:
    """Only worker processes set up their own garbage collector."""
    forbidden = {
        "gc": {"disable", "enable", "freeze", "unfreeze", "set_threshold", "set_debug"},
        "sys": {"setrecursionlimit", "setswitchinterval", "settrace", "setprofile"},
        "threading": {"stack_size"},
    }
    worker = PACKAGE / "indexing" / "worker.py"
    found: list[str] = []
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(parsed(file)):
            match node:
                case ast.Attribute(value=ast.Name(id=module), attr=name) if name in forbidden.get(module, ()):
                    found.append(f"{file.relative_to(PACKAGE).as_posix()}: {module}.{name}")
                case ast.ImportFrom(module=str(module), names=names):
                    taken = {alias.name for alias in names} & forbidden.get(module, set())
                    assert not taken, f"{file}: from {module} import {taken}"
    assert set(found) == {f"{worker.relative_to(PACKAGE).as_posix()}: gc.disable"}


def test_exports_are_pinned() -> None:
    assert sorted(scanstore.__all__) == [
        "Ambiguous",
        "AsyncStore",
        "BindRefused",
        "Busy",
        "Conflict",
        "Damaged",
        "DiskFull",
        "FileReplaced",
        "ForeignSchema",
        "IllegalMove",
        "InvalidArgument",
        "LeaseLost",
        "MigrationFailed",
        "MissingFolder",
        "NewerSchema",
        "NoSlot",
        "NoStore",
        "NotAScanstore",
        "NotFound",
        "OpenRefused",
        "OutdatedSchema",
        "ReadOnly",
        "ReadTimeout",
        "ScanstoreError",
        "SqliteTooOld",
        "StorageError",
        "Store",
        "StoreClosed",
        "WrongKey",
        "WrongStore",
        "WrongTask",
        "__version__",
        "check_db_health",
        "drop_db",
        "init_db",
        "open",
        "seed_db",
    ]
    for name in scanstore.__all__:
        assert getattr(scanstore, name) is not None
    with pytest.raises(AttributeError):
        scanstore.nothing  # noqa: B018


def test_every_error_is_exported() -> None:
    from scanstore import errors

    tree = {e.__name__ for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)}
    assert tree <= set(scanstore.__all__)


def test_no_module_is_in_a_circle_of_imports() -> None:
    """Over the whole graph: imports at load, inside functions, and for type checkers."""
    edges = import_graph.graph()
    told = "\n".join(import_graph.described(group, edges) for group in import_graph.circles(edges))
    assert not told, told


def test_packages_import_only_what_stands_below_them() -> None:
    """Imports inside functions and those for type checkers count too."""
    edges = import_graph.graph()
    rooms = {import_graph.room(name) for name in edges}
    assert rooms == set(import_graph.RANK), "name each package once in STEPS"
    assert len(import_graph.RANK) == sum(map(len, import_graph.STEPS))
    for name, targets in edges.items():
        own = import_graph.room(name)
        for target, found in targets.items():
            other = import_graph.room(target)
            upward = own != other and import_graph.RANK[other] >= import_graph.RANK[own]
            assert not upward, f"{name} imports from {target}: {'; '.join(map(str, found))}"


DOMAINS = (
    *("scans", "symbols", "llm", "chunks", "drafts", "verified", "findings", "sarif", "search", "library", "plans"),
    *("jobs", "schedules", "settings", "accounts", "sessions", "audits"),
)


def test_an_import_inside_a_function_has_a_reason() -> None:
    """Start-up cost, or a library that is an extra. Other modules are imported at the top."""
    found = []
    for name, path in import_graph.own_modules().items():
        lines = path.read_text(encoding="utf-8").splitlines()
        for function in ast.walk(parsed(path)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scanstore"):
                        assert "  # " in lines[(node.end_lineno or 0) - 1], f"{name}:{node.lineno} needs a reason"
                        found.append(f"{name}:{node.lineno}")
    assert len(set(found)) <= 60


def test_a_domain_holds_its_database_and_nothing_else() -> None:
    with Store(":memory:") as store:
        for name in DOMAINS:
            own = vars(getattr(store, name))
            given = {"store": store} if name == "jobs" else {}  # its handlers get it as ``job.store``
            assert own == {"db": store.database, **given}, name


def test_models_stand_below_what_works_on_them() -> None:
    """They import the ground, leases, other models, and modules of their own package that import no models."""
    homes = {model.__module__ for model in (*all_models(), ModelSlot)} - {"scanstore.settings"}  # a domain of one file
    assert all(name.endswith(".models") or name == "scanstore.snapshots.facts" for name in homes), homes
    for name in homes:
        for target in import_graph.graph()[name]:
            place = import_graph.room(target)
            words = place == import_graph.room(name) and not homes & set(import_graph.graph()[target])
            ground = place in ("db", "errors", "leases") or target == "scanstore.indexing.facts"
            assert target in homes or ground or words, f"{name} imports {target}"


@needs.fork
def test_every_foreign_key_of_a_domain_leads_somewhere(new_file: Path) -> None:
    """Also of those that point at models of a package above, which is loaded with the domain."""
    code = """
import os, sys
import peewee
from scanstore import Store
for name in sys.argv[2:]:
    child = os.fork()  # each begins with no models
    if not child:
        getattr(Store(sys.argv[1]), name)
        loose = [f"{key.model.__name__}.{key.name}" for key in peewee.DeferredForeignKey._unresolved]
        print(name, *loose, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(new_file), *DOMAINS]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert told.split() == list(DOMAINS)


def packages() -> list[str]:
    return [name for name, path in import_graph.own_modules().items() if path.stem == "__init__"]


NO_NAMES = ("scanstore.cli", "scanstore.sarif.format")  # a command, and a folder of formats


@pytest.mark.parametrize("name", [name for name in packages() if name not in NO_NAMES])
def test_a_package_has_a_design_and_public_names_that_are_loaded_when_asked_for(name: str) -> None:
    path = import_graph.own_modules()[name]
    assert len(ast.get_docstring(parsed(path)) or "") > 60
    found = [edge for edges in import_graph.graph()[name].values() for edge in edges if edge.kind == "type"]
    package = importlib.import_module(name)
    assert {word for edge in found for word in edge.names} <= set(package.__all__)
    assert package.__all__ and sorted(package.__all__) == dir(package)
    for word in package.__all__:
        assert getattr(package, word) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018
    loaded = {target for target, edges in import_graph.graph()[name].items() if any(e.kind != "type" for e in edges)}
    assert loaded <= {"scanstore.db.exports"}, f"{name} imports {loaded} when it is loaded"


def test_the_parts_of_a_store_are_there() -> None:
    """The table that is loaded lazily names the same as the imports for type checkers, and all of it exists."""
    named: set[str] = set()
    for target, edges in import_graph.graph()["scanstore.parts"].items():
        for edge in edges:
            if edge.kind == "type":
                named.update(edge.names or [target.rpartition(".")[2]])
    assert named == set(parts.__all__) == set(dir(parts))
    for word in parts.__all__:
        assert getattr(parts, word) is not None


@pytest.mark.extras
def test_type_checkers_see_every_public_name(tmp_path: Path) -> None:
    lines = []
    for name in packages():
        if name not in NO_NAMES:
            words = sorted(importlib.import_module(name).__all__)
            lines += [f"from {name} import {word} as {word}_{len(lines)}" for word in words]
            lines += [f"reveal_type({line.split()[-1]})" for line in lines[-len(words) :]]
    script = tmp_path / "names.py"
    script.write_text("\n".join(lines))
    told = run_mypy("--strict", str(script)).stdout
    assert ": error: " not in told and '"Any"' not in told and told.count("Revealed type") == len(lines) // 2, told


TYPES = """
from scanstore import Store
from scanstore.models import Finding, Scan

with Store(":memory:") as store:
    scan = store.scans.latest()
    reveal_type(scan.id)
    reveal_type(scan.completed_at)
    reveal_type(scan.files)
    finding = store.findings.list()[0]
    reveal_type(finding.title)
    reveal_type(finding.scan_id)
    reveal_type(Finding.severity == "high")
    reveal_type(Scan.id)
    reveal_type(store.jobs.enqueue("x").attempt)
"""
REVEALED = [
    *("int", "datetime | None", "ModelSelect[ScanFile]"),
    *("str", "int | None", "Expression"),
    *("AutoField[int]", "int"),
]


@pytest.mark.extras
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_type_checkers_know_the_columns_of_rows(checker: str, tmp_path: Path) -> None:
    needs.package(checker, "test")
    (tmp_path / "use.py").write_text(TYPES)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)]}))
    script = tmp_path / "use.py"
    if checker == "mypy":
        told = run_mypy("--strict", str(script)).stdout
    else:
        command = [sys.executable, "-m", checker, "--pythonpath", sys.executable, str(script)]
        told = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout
    found = re.findall(r'(?:Revealed type is|Type of ".*" is) "(.*)"', told)
    assert [re.sub(r"\b[a-z_]+\.", "", one.replace("builtins.", "")) for one in found] == REVEALED, told


def test_circles_are_found_with_their_edges() -> None:
    sources = {
        "scanstore.a": "from scanstore import b",
        "scanstore.b": "def f():\n    from scanstore.c import g, h",
        "scanstore.c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from scanstore.a import X\n"
        "else:\n    from scanstore.d import Y",
        "scanstore.d": "import scanstore.e",
        "scanstore.e": "from . import d",
        "scanstore.f": "from scanstore.a import X",
    }
    modules = dict.fromkeys(sources, Path())
    edges = {name: import_graph.edges_of(name, ast.parse(text), modules) for name, text in sources.items()}
    first, second = import_graph.circles(edges)
    assert second == ["scanstore.d", "scanstore.e"]
    text = import_graph.described(first, edges)
    assert text.splitlines() == [
        "3 modules import each other in a circle: scanstore.a, scanstore.b, scanstore.c",
        "  scanstore.a imports from scanstore.b: the module (load)",
        "  scanstore.b imports from scanstore.c: g, h (lazy)",
        "  scanstore.c imports from scanstore.a: X (type)",
    ]


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("click", {"scanstore.cli"}),
        ("rich", {"scanstore.cli"}),
        ("peewee_migrate", {"scanstore.db.migrations"}),
        ("playhouse", {"scanstore.db.generic_fields", "scanstore.db.encryption"}),
        ("sqlcipher3", set()),
        ("cronsim", {"scanstore.jobs.times"}),
        ("argon2", {"scanstore.accounts.passwords"}),
        ("bcrypt", {"scanstore.accounts.passwords"}),
    ],
)
def test_libraries_stay_in_their_rooms(library: str, homes: set[str]) -> None:
    for path in PACKAGE.rglob("*.py"):
        name = "scanstore." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        used = library in libraries(path)
        assert not used or any(name.startswith(home) for home in homes), f"{name} imports {library}"


def test_nothing_below_the_command_line_imports_it() -> None:
    for name in MODULES:
        if not name.startswith(("scanstore.cli", "scanstore.__main__")):
            assert not any(i.startswith("scanstore.cli") for i in module_imports(name)), name


RIDDLE = re.compile(
    r"\b(what (is|was|has|it|they)|nobody|somebody|whoever|that is none|is none|who(ever)? asks)\b", re.IGNORECASE
)


def test_sentences_have_a_noun_for_their_subject() -> None:
    """In docstrings, and in the help and errors that are written as text."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and not re.search("SELECT", node.value):
                for sentence in re.split(r"(?<=[.:;])\s+", node.value):
                    if RIDDLE.search(sentence):
                        found.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {' '.join(sentence.split())}")
    assert len(found) <= 24, "\n".join(found)


def test_no_public_class_name_stands_twice() -> None:
    homes: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(path.relative_to(PACKAGE).as_posix())
    assert not {name: places for name, places in homes.items() if len(places) > 1}


def test_functions_are_not_written_twice() -> None:
    """By the count of ``benchmarks/duplicates.py``."""
    told = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "duplicates.py", "--json"], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(told)["pairs"] <= 40


def test_no_file_is_too_long() -> None:
    long = {p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text(encoding="utf-8").splitlines())) > 600}
    assert not long


def test_schema_version_is_the_newest_migration() -> None:
    newest = max(int(p.name[:3]) for p in (ROOT / "migrations").glob("[0-9][0-9][0-9]_*.py"))
    assert newest == SCHEMA_VERSION


def all_models() -> list[type[peewee.Model]]:
    found = [getattr(models, name) for name in models.__all__]
    found += [m for m in vars(facts).values() if isinstance(m, type) and m.__module__ == facts.__name__]
    return found


def affinity(declared: str) -> str:
    declared = declared.upper()
    if "INT" in declared or declared == "AUTO":
        return "INTEGER"
    if "CHAR" in declared or "TEXT" in declared:
        return "TEXT"
    return "REAL" if declared in ("REAL", "FLOAT") else declared


TABLES = [m for m in all_models() if m.__name__ not in ("Symbol", "SymbolReference", "ImportRelation", "ScanFileChunk")]
VIEWS = [m for m in all_models() if m not in TABLES]
# And the tables that SQLite makes for them.
FULL_TEXT = ("finding_search", "symbol_search", "name_search", "search_changes")


@pytest.mark.parametrize("model", TABLES, ids=lambda m: m.__name__)
def test_migrated_table_equals_its_model(model: type[peewee.Model]) -> None:
    """Columns, types, nulls, keys, foreign keys with their delete rule, unique and plain indexes."""
    meta = model._meta
    with Store(":memory:") as store:
        run = store.database.execute_sql
        table = meta.table_name
        columns = {row[1]: row for row in run(f'PRAGMA table_xinfo("{table}")')}  # computed ones too
        assert set(columns) == set(meta.columns)
        for name, field in meta.columns.items():
            _, _, declared, notnull, _, key, _ = columns[name]
            assert affinity(declared) == affinity(field.ddl_datatype(store.database.get_sql_context()).sql), name
            if not key:
                assert bool(notnull) != field.null, name
        keys = [name for name, row in sorted(columns.items(), key=lambda c: c[1][5]) if row[5]]
        wanted = [f.column_name for f in meta.get_primary_keys()]
        assert keys == wanted
        foreign = {row[3]: (row[2], row[6]) for row in run(f'PRAGMA foreign_key_list("{table}")')}
        for field in meta.refs:
            parent = field.rel_model._meta.table_name
            parent = "chunk_work" if parent == "scan_file_chunks" else parent  # the table below the view
            if parent == "names" or (table == "bindings" and parent == "file_versions"):
                assert field.column_name not in foreign  # interned, see scanstore/snapshots/facts.py
                continue
            assert foreign.pop(field.column_name) == (parent, field.on_delete)
        assert not foreign
        indexes, partial = set(), set()
        for _, name, unique, origin, is_partial in run(f'PRAGMA index_list("{table}")').fetchall():
            if origin != "pk":
                cols = tuple(row[2] for row in run(f'PRAGMA index_info("{name}")'))
                indexes.add((cols, bool(unique)))
                partial.update([(cols, bool(unique))] * is_partial)
        declared_indexes = set()
        for index in meta.fields_to_index():
            declared_indexes.add((tuple(f.column_name for f in index._expressions), bool(index._unique)))
        assert declared_indexes <= indexes
        assert indexes - declared_indexes <= partial  # of these only their statement knows


@pytest.mark.parametrize("model", VIEWS, ids=lambda m: m.__name__)
def test_view_has_the_columns_of_its_model(model: type[peewee.Model]) -> None:
    with Store(":memory:") as store:
        columns = {row[1] for row in store.database.execute_sql(f'PRAGMA table_info("{model._meta.table_name}")')}
        assert columns == set(model._meta.columns)


def test_every_table_has_a_model() -> None:
    with Store(":memory:") as store:
        names = {
            n for (n,) in store.database.execute_sql("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")
        }
        names = {n for n in names if not n.startswith("sqlite_")} - {
            *("migratehistory", "file_identity"),
            *("chunk_work", "work_counts", "call_counts", "model_slots", "plan_counts"),  # nobody needs rows of these
            *("answer_claims", "scan_figures", "scan_counts", "scan_groups"),
            "reference_targets",  # for SQL; the calls of store.symbols know all targets
        }
        names = {n for n in names if not n.startswith(FULL_TEXT)}
        assert names == {m._meta.table_name for m in all_models()}


def test_constraints_and_indexes_are_named() -> None:
    with Store(":memory:") as store:
        for name, sql in store.database.execute_sql("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"):
            if name == "migratehistory" or name.startswith(("sqlite_", *FULL_TEXT[:3])):
                continue
            for constraint in re.findall(r"CONSTRAINT (\w+)", sql):
                assert re.match(r"(pk|uq|ck|fk)_", constraint), constraint
            if sql.startswith("CREATE INDEX"):
                assert name.startswith("ix_"), name
            bare = re.sub(r"CONSTRAINT \w+ (PRIMARY KEY|UNIQUE|CHECK|FOREIGN KEY)", "", sql)
            if sql.startswith("CREATE TABLE"):
                assert not re.search(r"PRIMARY KEY|UNIQUE|CHECK|FOREIGN KEY", bare), name


def test_a_worker_of_indexing_imports_no_database() -> None:
    code = "import sys, scanstore.indexing.worker; print(*sorted({'peewee', 'sqlite3'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.strip() == ""


def test_opening_a_store_imports_little() -> None:
    """Neither the migrator nor anything that indexing or the command line needs."""
    code = """
import sys
typed = "typing" in sys.modules
from scanstore import Store
Store(sys.argv[1]).close()
unwanted = ["typing"] * (not typed)
unwanted += ("click", "rich", "pathspec", "multiprocessing", "cronsim", "zoneinfo", "tomllib", "argon2", "asyncio")
print(*sorted(m for m in sys.modules if m.split(".")[0] in unwanted))
"""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        Store(f"{folder}/a.db").close()
        out = subprocess.run(
            [sys.executable, "-c", code, f"{folder}/a.db"], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
    assert out.strip() == ""
