"""Nothing of a scanned tree or of the current folder is ever imported, and files are indexed even without workers."""

from __future__ import annotations

import ast
import errno
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sampling import sampled
from stressing import LONG

import scanstore
from scanstore import Store
from scanstore.cli import main
from scanstore.indexing import pool
from scanstore.indexing.facts import MOST_TEXT
from scanstore.indexing.files import fingerprint, index, load
from scanstore.indexing.python.indexer import PythonIndexer
from scanstore.models import Scan, ScanFile
from scanstore.snapshots.git import provenance

PACKAGE = Path(scanstore.__file__).parent
ROOT = PACKAGE.parent

#: What a tree may contain to be imported in place of something else.
TRAPS = (
    "ast.py", "json.py", "hashlib.py", "marshal.py", "signal.py", "re.py", "gc.py", "os.py", "typing.py", "zlib.py",
    "sitecustomize.py", "usercustomize.py", "encodings/__init__.py", "collections/__init__.py", "json/decoder.py",
    "scanstore/__init__.py", "scanstore/indexing/__init__.py", "scanstore/indexing/worker.py", "peewee.py", "click.py",
    "lib/python{0}.{1}/os.py", "lib/python{0}.{1}/site-packages/usercustomize.py",
)  # fmt: skip


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """The file that exists when anything of the tree has run."""
    return tmp_path / "proof"


@pytest.fixture
def tree(tmp_path: Path, proof: Path) -> Path:
    """A folder of 30 plain modules, and of everything that could run when it is found by mistake."""
    folder = tmp_path / "tree"
    folder.mkdir()
    for number in range(30):
        (folder / f"m{number}.py").write_text(f"def f{number}():\n    return {number}\n")
    for name in TRAPS:
        file = folder / name.format(*sys.version_info)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"open({str(proof)!r}, 'a').write('{name} ran\\n')\n")
        (file.parent / "trap.pth").write_text(f"import os; open({str(proof)!r}, 'a').write('pth ran')\n")
    return folder


def modules_of(scan: Scan) -> dict[str, str | None]:
    """The Python files of a scan, each with its error."""
    rows = ScanFile.select().where(ScanFile.scan == scan, ScanFile.file_path.endswith(".py"))
    return {row.file_path: row.error for row in rows}


def environment(**more: str) -> dict[str, str]:
    """An environment in which Python finds this checkout, and nothing else was said."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SCANSTORE"))}
    return {**plain, "PYTHONPATH": str(ROOT), **more}


def command(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as the console script does: without the current folder on the path."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "scanstore", *args],
        env=environment(), cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_standing_in_a_tree_with_a_module_of_the_parser_s_name(tmp_path: Path, proof: Path) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    for number in range(30):
        (folder / f"m{number}.py").write_text(f"x = {number}\n")
    (folder / "ast.py").write_text('import os; open("../proof", "w").write("ran")\n')
    told = command("scan", ".", "--db", "../x.db", "--jobs", "2", "--json", cwd=folder)
    assert told.returncode == 0, told.stderr
    assert not proof.exists()
    assert json.loads(told.stdout)["summary"]["files"] == 31
    with Store(tmp_path / "x.db") as store:
        (scan,) = store.scans.list()
        assert len(modules_of(scan)) == 31 and not any(modules_of(scan).values())
        assert store.check() == []


# Workers, whatever the environment says when they start


SCAN = """
import os, sys
from scanstore.indexing import pool
from scanstore.store import Store
def here(*args): raise SystemExit("indexed in the calling process")
pool._index_here = here
os.environ.update(arg.split("=", 1) for arg in sys.argv[2:])
with Store(sys.argv[1]) as store:
    store.scans.record(".", jobs=2)
"""

SETTINGS = {
    "nothing": {},
    "the current folder first, and a start-up file": {
        "PYTHONPATH": ".", "PYTHONSTARTUP": "ast.py", "PYTHONINSPECT": "1",
    },
    "an empty entry, and another user site": {"PYTHONPATH": os.pathsep, "PYTHONUSERBASE": "."},
    "the path is not safe, and bytecode from here": {
        "PYTHONSAFEPATH": "", "PYTHONPATH": ".", "PYTHONPYCACHEPREFIX": ".",
    },
    "another home": {"PYTHONHOME": "."},
    "warnings are errors, and another encoding": {
        "PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0",
    },
}  # fmt: skip


@pytest.mark.parametrize("settings", sampled(SETTINGS.values(), ids=SETTINGS))
def test_workers_import_nothing_of_the_folder_they_start_in(
    tree: Path, proof: Path, db_path: Path, settings: dict[str, str]
) -> None:
    (tree / "naïve ☃.py").write_text("def accented():\n    pass\n")
    given = [f"{key}={value}" for key, value in settings.items()]
    told = subprocess.run(
        [sys.executable, "-P", "-c", SCAN, str(db_path), *given],
        env=environment(), cwd=tree, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert not proof.exists(), proof.read_text()
    with Store(db_path) as store:
        (scan,) = store.scans.list()
        files = modules_of(scan)
        assert len(files) == 30 + len(TRAPS) + 1 and not any(files.values())
        assert store.symbols.find("f29") and store.symbols.find("accented")
        assert store.check() == []


INDEX = """
import sys
sys.path.insert(0, sys.argv[1])  # before a scanstore that is installed
from scanstore.indexing import pool
def here(*args): raise SystemExit("indexed in the calling process")
pool._index_here = here
assert pool.__file__.startswith(sys.argv[1]), pool.__file__
tasks = [pool.IndexTask(path, path, "") for path in sys.argv[2:]]
for result in pool.run(tasks, 2):
    print(result.error, len(result.facts.symbols))
"""


def modules_of_workers() -> list[Path]:
    ground = [PACKAGE / "db" / name for name in ("__init__.py", "exports.py", "interpreter.py")]
    return [PACKAGE / "__init__.py", *ground, *PACKAGE.rglob("indexing/**/*.py")]


PLACES = ["plain", "with blanks, 'quotes\" and $HOME", f"a{os.pathsep}b", "ü☃", "-c", "%s\n"]


@pytest.mark.parametrize(
    ("name", "archive"),
    [
        pytest.param(name, archive, id=f"{name}-{'a zip archive' if archive else 'a folder'}")
        for n, name in enumerate(PLACES)
        for archive in ([False, True] if LONG else [n % 2 == 1])
    ],
)
def test_the_package_may_be_anywhere(tmp_path: Path, tree: Path, proof: Path, name: str, archive: bool) -> None:
    home = tmp_path / name
    files = {path.relative_to(ROOT): path.read_bytes() for path in modules_of_workers()}
    if archive:
        with zipfile.ZipFile(home, "w") as zipped:
            for path, content in files.items():
                zipped.writestr(path.as_posix(), content)
    else:
        for path, content in files.items():
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (home / path).write_bytes(content)
    told = subprocess.run(
        [sys.executable, "-I", "-c", INDEX, str(home), *map(str, sorted(tree.glob("m*.py")))],
        cwd=tree, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stderr) == (0, "")
    assert not proof.exists()
    assert told.stdout.splitlines().count("None 2") == 30


def test_a_worker_needs_the_standard_library_and_this_package_only() -> None:
    code = """
import sys
before = set(sys.modules)
sys.path.append(sys.argv[1])
import scanstore.indexing.worker
names = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(names - sys.stdlib_module_names))
"""
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT)], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["scanstore"]


# What the user names, the public names of a package, and the modules of a model's own package that complete its rows.
IMPORT_BY_NAME = ("cli/handlers.py", "db/exports.py", "db/rules.py")


def test_programs_are_started_isolated_and_nothing_else_is_imported_by_name() -> None:
    """Whoever adds another place looks at what it can be made to run."""
    watched = ("exec", "eval", "sys.path", "sys.executable", "os.system", "os.popen")
    imported: dict[str, set[str]] = {}
    used: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        where = file.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    imported.setdefault(where, set()).update(alias.name for alias in names)
                case ast.ImportFrom(module=str(module), names=names):
                    imported.setdefault(where, set()).update({module, *(f"{module}.{alias.name}" for alias in names)})
                case ast.Call(func=ast.Name(id=name)) if name in watched:
                    used.setdefault(name, set()).add(where)
                case ast.Attribute(value=ast.Name(id=name), attr=attribute) if f"{name}.{attribute}" in watched:
                    used.setdefault(f"{name}.{attribute}", set()).add(where)
    for where, names in imported.items():
        assert "subprocess" not in names or "scanstore.db.interpreter.isolated" in names, where
        assert not names & {"multiprocessing", "runpy", "pickle"}, where
        assert not {"importlib", "importlib.import_module"} & names or where in IMPORT_BY_NAME, where
    assert used == {
        "exec": {"db/migrations.py"},  # of a folder that the caller names, or of the installed package
        "sys.executable": {"db/interpreter.py"},
        "sys.path": {"cli/handlers.py"},
    }


# Without workers


def no_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", "")


def no_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", None)


def frozen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)


def missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone" / "python"))


def another_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "host"
    program.write_text("#!/bin/sh\necho usage: host FILE; exit 2\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def one_that_never_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "host"
    program.write_text("#!/bin/sh\nexec 1>&-; exec sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def found_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name without a folder, which a search of $PATH would find in the tree."""
    trap = tmp_path / "tree" / "python"
    trap.write_text(f"#!/bin/sh\necho ran > {tmp_path / 'proof'}\n")
    trap.chmod(0o755)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "executable", "python")


@pytest.mark.parametrize(
    "broken", [no_python, no_path, frozen, missing, another_program, one_that_never_answers, found_by_name]
)
def test_without_workers_files_are_indexed_here(
    tree: Path, proof: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[pytest.MonkeyPatch, Path], None],
) -> None:  # fmt: skip
    broken(monkeypatch, tmp_path)
    monkeypatch.chdir(tree)
    (tree / "bad.py").write_text("def (:\n")
    scan = store.scans.record(".", jobs=2)
    files = modules_of(scan)
    assert len(files) == 30 + len(TRAPS) + 1
    assert [path for path, error in files.items() if error] == ["bad.py"] and "syntax error" in str(files["bad.py"])
    assert store.symbols.find("f29") and not proof.exists()
    assert store.check() == []


def test_files_that_vanish_are_skipped_here_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    (result,) = pool.run([pool.IndexTask(str(tmp_path / "gone.py"), "gone.py", "gone")], 2)
    assert (result.digest, result.facts, result.error) == (None, None, "no such file or directory")


@pytest.mark.parametrize("side", ["write_frame", "read_frame"])
def test_a_pipe_that_says_einval_is_a_dead_worker(
    tree: Path, store: Store, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """As pipes of Windows do, whose other end is closed."""
    real, broken, lock = getattr(pool, side), [], threading.Lock()

    def fake(stream: Any, *args: Any) -> Any:
        value = real(stream, *args) if side == "read_frame" else args[0][2]
        with lock:
            if not broken and value != pool.READY and (side == "read_frame" or value == "m7.py"):
                broken.append(value)
                raise OSError(errno.EINVAL, "Invalid argument")
        return value if side == "read_frame" else real(stream, *args)

    monkeypatch.setattr(pool, side, fake)
    scan = store.scans.record(tree, jobs=2)
    assert len(broken) == 1
    errors = [error for error in modules_of(scan).values() if error]
    assert errors == [pool.CRASHED]
    assert store.scans.get(scan.id).status == "completed" and store.check() == []


# Handlers of the user


HANDLERS = """
import sys
def note(job):
    with open("done", "a") as file:
        print(sys.path[-1], file=file)
def push(change):
    note(None)
handlers = {"note": note}
nothing = 5
"""


def test_the_current_folder_comes_last_for_handlers(tree: Path, proof: Path, tmp_path: Path) -> None:
    (tree / "mytasks.py").write_text(HANDLERS)
    db = str(tmp_path / "jobs.db")
    with Store(db) as store:
        store.jobs.enqueue("note")
    told = command("jobs", "work", "--import", "mytasks", "--until-empty", "--db", db, cwd=tree)
    assert told.returncode == 0, told.stderr
    assert (tree / "done").read_text().split() == [str(tree)]
    told = command("plans", "apply", "1", "--handler", "mytasks:push", "--db", db, cwd=tree)
    assert "no plan 1" in told.stderr  # the module was found
    assert not proof.exists()


TAKEN = ["json:handlers", "json:detect_encoding.handlers", "gc", "csv", "json:__name__"]


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_that_python_has_taken_is_explained(tree: Path, proof: Path, tmp_path: Path, name: str) -> None:
    top = name.partition(":")[0]
    (tree / "csv.py").write_text(HANDLERS)
    db = str(tmp_path / "jobs.db")
    Store(db).close()
    both = ["jobs", "work", "--import", name], ["plans", "apply", "1", "--handler", f"{top}:handlers"]
    for args in both if LONG else both[TAKEN.index(name) % 2 :][:1]:
        told = command(*args, "--db", db, cwd=tree)
        assert told.returncode == 1 and len(told.stderr.splitlines()) == 1
        assert f"comes before the {top}.py of the current folder; rename yours" in told.stderr
    assert not proof.exists()


def test_a_missing_name_of_ones_own_module_is_not_blamed_on_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_tasks_of_this_test.py").write_text("x = 5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Store("scanstore.db").close()
    for args in (["jobs", "work", "--import"], ["plans", "apply", "1", "--handler"]):
        for name in ("nothing", "x"):
            told = CliRunner().invoke(main, [*args, f"own_tasks_of_this_test:{name}"])
            assert told.exit_code == 1 and "rename" not in told.output and "own_tasks_of_this_test" in told.output
    assert sys.path[-1] == str(tmp_path)


@pytest.mark.parametrize("args", [["jobs", "work"], ["plans", "apply"], ["plans", "revert"]])
def test_the_help_says_where_handlers_are_looked_for(args: list[str]) -> None:
    told = CliRunner().invoke(main, [*args, "--help"], terminal_width=300)
    assert "The current folder is appended to Python's path" in told.output


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
@pytest.mark.parametrize("place", [".git", ".git/HEAD", ".git/config", ".git/commondir", ".git/packed-refs"])
def test_a_pipe_among_git_s_files_is_not_waited_for(tmp_path: Path, place: str) -> None:
    if place != ".git":
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git/HEAD").write_text("ref: refs/heads/main\n")
        (tmp_path / ".git/config").write_text('[remote "origin"]\nurl = https://example.org/x\n')
        (tmp_path / place).unlink(missing_ok=True)
    os.mkfifo(tmp_path / place)
    assert (provenance(str(tmp_path)) is None) == (place in (".git", ".git/HEAD", ".git/config"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.py")
    for read in (load, fingerprint):
        with pytest.raises(OSError, match="not a regular file"):
            read(str(tmp_path / "x.py"))


def test_a_file_that_takes_too_long_costs_that_file_only(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser of some versions of Python needs hours for a line like this one, and cannot be interrupted."""
    monkeypatch.setattr(pool, "PATIENCE", 2.0)
    monkeypatch.setattr(pool, "LEAST_SHARE", 1.0)
    monkeypatch.setattr(pool, "PATIENCE_PER_MB", 0.0)
    monkeypatch.setattr(pool, "LOOK_EVERY", 0.05)
    (tmp_path / "a.py").write_text("x = f'" + "{a}" * 300_000 + "'\n" + "lambda: 0;" * 300_000)
    (tmp_path / "b.py").write_text("y = 1\n" * 6_000)
    scan = store.scans.record(tmp_path)
    told = {file.file_path: (file.status, file.error) for file in scan.files}
    assert told == {"a.py": ("failed", pool.SLOW), "b.py": ("done", None)}


@pytest.mark.parametrize(
    "source",
    [
        "# coding: punycode\n" + "a" * 200_000 + "-" + "9" * 200_000,
        "# coding: idna\n" + "a" * 2_000_000,
        "class " + "A" * 200_000 + ":\n" + "".join(f" def a{n}(self): pass\n" for n in range(1_000)),
        ", ".join(f"a{n}" for n in range(20_000)) + " = x\n",
        "def f(): pass\n" * 3_000 + "f()\n" * 10_000,
        "for x in y: pass\n" * 5_000 + "x = 1\n" * 5_000,
        "def é(" + ", ".join(f"a{n}: b{n}" for n in range(10_000)) + "): pass\n",
    ],
    ids=["punycode", "idna", "names in names", "one line", "definitions of one name", "one variable", "no ascii"],
)
def test_no_python_takes_time_or_room_by_the_square(source: str) -> None:
    began = time.process_time()
    facts = index(PythonIndexer(), source.encode(), path="a.py", module="a")
    assert time.process_time() - began < 5
    assert sum(map(len, facts.strings)) <= MOST_TEXT
