"""The benchmark scripts run: on a tiny tree, without a word about time."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import needs
import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "snapshot.py"
CLAIMS = ROOT / "benchmarks" / "claims.py"
SEARCH = ROOT / "benchmarks" / "search.py"
SARIF = ROOT / "benchmarks" / "sarif.py"

RECORD = ROOT / "benchmarks" / "record.py"

SHOP = """\
def price(item):
    total = item.cost
    return total


class Basket:
    def total(self, items):
        return sum(price(item) for item in items)
"""
APP = """\
from shop import Basket, price


def main(items):
    basket = Basket()
    return basket.total(items), price(items[0])
"""


def run(*arguments: str, script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, env=environment, timeout=240
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "left_out").mkdir(parents=True)
    (tree / "shop.py").write_text(SHOP)
    (tree / "app.py").write_text(APP)
    (tree / "broken.py").write_text("def (:\n")
    (tree / "notes.txt").write_text("bread\n")
    (tree / "left_out" / "more.py").write_text(SHOP)
    return tree


def rows(text: str) -> dict[str, dict[str, Any]]:
    return {row["measure"]: row for row in json.loads(text)["rows"]}


@pytest.mark.extras
def test_snapshot_prints_every_measure_once(corpus: Path) -> None:
    done = run("--quick", "--json", "--corpus", str(corpus), "--exclude", "left_out/")
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert (found["files"], found["python_files"], found["not_parsed"]) == (4, 3, 1)
    assert found["python_lines"] == sum(text.count("\n") for text in (SHOP, APP, "def (:\n"))
    measured = rows(done.stdout)
    assert len(measured) == len(found["rows"])
    barred = [measure for measure, row in measured.items() if row["bar"]]
    assert len(barred) == 14
    for wanted in ("first record()", "file size", "nothing changed", "one file changed", "bulk writer", "references of",
                   "impact", "peak memory", "import scanstore", "--help", "symbols find"):  # fmt: skip
        assert any(measure.startswith(wanted) or wanted in measure for measure in barred), wanted
    assert done.returncode == (0 if all(measured[measure]["ok"] for measure in barred) else 1)
    assert "shop.py" in measured["re-scan, one file changed, time"]["detail"]
    assert "app.py" in measured["re-scan, one file changed, time"]["detail"]
    # One row for each file, and the scan itself: what the unchanged tree may cost.
    assert measured["re-scan, nothing changed, rows per file"]["measured"] == f"{5 / 4:.2f}"


def test_a_corpus_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    done = run("--corpus", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "is not a folder" in done.stderr


def test_the_edit_changes_one_function_and_adds_one() -> None:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        import snapshot
    finally:
        sys.path.remove(str(SCRIPT.parent))
    text = snapshot.edited(SHOP, 3)
    names = [node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert sorted(names) == ["added_3", "price", "total"]
    assert sum("changed_3" in line for line in text.splitlines()) == 1
    assert snapshot.edited("x = 1\n", 1) is None


@pytest.mark.extras
def test_claims_prints_every_measure_once() -> None:
    done = run("--quick", "--json", "--chunks", "120", "--processes", "3", script=CLAIMS)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert (found["chunks"], found["processes"], found["rounds"]) == (120, 3, 1)
    measured = rows(done.stdout)
    assert len(measured) == len(found["rows"])
    barred = [measure for measure, row in measured.items() if row["bar"]]
    assert len(barred) == 7
    for wanted in ("exactly once", "locked", "against sqlite3 by hand", "a claim with 1,200 rows done, against 120",
                   "release", "progress() of 1,320 chunks"):  # fmt: skip
        assert any(wanted in measure for measure in barred), wanted
    assert done.returncode == (0 if all(measured[measure]["ok"] for measure in barred) else 1)
    # What does not depend on the machine.
    assert measured["3 processes: chunks not done exactly once"]["ok"]
    assert measured["3 processes: 'database is locked'"]["ok"]
    assert "1,320 model calls" in measured["progress() of 1,320 chunks, many calls"]["detail"]


def test_a_drain_without_processes_is_a_usage_error() -> None:
    done = run("--processes", "0", script=CLAIMS)
    assert done.returncode == 2
    assert "at least one" in done.stderr


@pytest.mark.extras
def test_sarif_prints_every_measure_once() -> None:
    done = run("--quick", "--json", "--results", "300", script=SARIF)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert (found["results"], found["rounds"]) == (300, 1)
    measured = rows(done.stdout)
    assert len(measured) == len(found["rows"]) == 4
    assert "300 new" in measured["load"]["detail"]
    assert "300 unchanged" in measured["load of what is known"]["detail"]
    assert done.returncode == (0 if all(row["ok"] for row in measured.values()) else 1)


def test_a_report_without_results_is_a_usage_error() -> None:
    done = run("--results", "0", script=SARIF)
    assert done.returncode == 2
    assert "at least one" in done.stderr


@pytest.mark.extras
def test_search_prints_every_measure_once() -> None:
    done = run("--rows", "400", "--json", script=SEARCH)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert found["searched_rows"] == 400
    measured = rows(done.stdout)
    assert len(measured) == len(found["rows"]) == 2
    assert [measure for measure, row in measured.items() if row["bar"]] == ["search over 400 rows, p95"]
    assert "200 findings, 200 symbols" in measured["first search, which takes all up"]["detail"]


def test_a_search_among_too_few_rows_is_a_usage_error() -> None:
    done = run("--rows", "1", script=SEARCH)
    assert done.returncode == 2
    assert "at least 80" in done.stderr


@pytest.mark.extras
@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("library", ["--rows", "200"]),
        ("audits", ["--quick"]),
        ("async_face", ["--quick"]),
        ("transfer", ["--rows", "400"]),
        ("maintenance", ["--quick"]),
        ("pages", ["--scale", "0.01"]),
    ],
)
def test_the_others_print_every_measure_once(script: str, arguments: list[str]) -> None:
    done = run(*arguments, "--json", script=ROOT / "benchmarks" / f"{script}.py")
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)["rows"]
    assert len(rows(done.stdout)) == len(found) > 1
    assert done.returncode == (0 if all(row["ok"] is not False for row in found) else 1)


# The page


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(RECORD.parent))
    import record

    return record


def test_each_benchmark_with_limits_has_a_part_of_the_page_with_its_command(record: Any) -> None:
    page = record.PAGE.read_text(encoding="utf-8")
    tables = {path.stem for path in RECORD.parent.glob("[a-z]*.py") if "\nfrom _common import" in path.read_text()}
    assert len(tables) == 10 and set(record.names(page)) == tables
    for match in record.PART.finditer(page):
        assert f"`python benchmarks/{match[1]}.py" in match[0]


def test_a_part_of_the_page_has_the_measures_of_a_run(record: Any, tmp_path: Path) -> None:
    rows = [
        {"measure": "load", "bar": "<= 8 x json", "measured": "9.00 x json", "ok": False, "detail": "1 | 2"},
        {"measure": "speed", "bar": "", "measured": "3 /s", "ok": None, "detail": ""},
    ]
    text = record.part("python benchmarks/sarif.py", {"results": 25_000, "python": "3", "rows": rows})
    first, _, *table = text.splitlines()
    assert first.startswith("`python benchmarks/sarif.py`, ") and first.endswith("; results 25,000.")
    assert table[2:] == [r"| load | ≤ 8 × json | 9.00 × json (missed) | 1 \| 2 |", "| speed |  | 3 /s |  |"]
    page = "Before.\n<!-- sarif -->\nold\n<!-- /sarif -->\n<!-- other -->\nkept\n<!-- /other -->\n"
    new = record.written(page, "sarif", text)
    assert new == page.replace("old", text) and record.names(new) == ["sarif", "other"]


def test_an_unknown_part_of_the_page_is_a_usage_error(record: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        record.main(["truth"])
    assert ended.value.code == 2 and "it has: snapshot, claims, sarif" in capsys.readouterr().err


@pytest.mark.extras
def test_a_language_server_judges_calls_and_uses(tmp_path: Path) -> None:
    needs.package("pyright", "test")
    tree = tmp_path / "tree"
    (tree / "src").mkdir(parents=True)
    (tree / "src" / "shop.py").write_text(SHOP)
    (tree / "src" / "app.py").write_text(APP)
    (tree / "pyproject.toml").write_text('[tool.pyright]\ninclude = ["elsewhere"]\n')
    done = run("--server", f"{tree}:src", script=ROOT / "benchmarks" / "accuracy.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 known (100.00 %: 4 project, 1 external, 0 value)" in done.stdout
    assert "precision 100.00 %, recall 100.00 %" in done.stdout
    assert "called external: 0 of 0" in done.stdout
    done = run(str(tree), script=ROOT / "benchmarks" / "language_server.py")
    assert done.returncode == 0, done.stderr
    assert "recall 100.00% of 6, precision 100.00%" in done.stdout
