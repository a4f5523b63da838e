"""The examples: each runs, prints its result, and ends with the same result after any number of kills."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scanstore import Store

EXAMPLES = Path(__file__).parents[1] / "examples"
STORES = {
    "review_pipeline": "review.db",
    "session_analysis": "sessions.db",
    "media_library": "media.db",
    "document_audits": "audits.db",
}
RESULTS = {
    "review_pipeline": """\
critical CWE-95 Unsafe eval admin.py:2
high CWE-89 Unsafe execute orders.py:2
scan completed chunks {'done': 5} drafts {'rejected': 1, 'verified': 2}
answers paid for: {'finder': 4, 'judge-1': 3, 'judge-2': 3, 'judge-3': 3}
""",
    "session_analysis": """\
cleaning.txt: 85.00, Risky: 90 days (prompt 2)
old.txt: 90.00, Risky: automatically (prompt 2)
rent.txt: 40.00, Risky: unlimited, in advance (prompt 2)
supplier.txt: 100.00, Risky: nothing (prompt 2)
session completed files 5/5 tasks {'completed': 4, 'failed': 1}
mean score 78.75
""",
    "media_library": """\
s0 Sunset at sea []
s1 Morning ['beach']
s2 Old harbour []
s3 ice ['beach']
s4 untitled_07 []
s5 Rain ['beach']
titles applied ['applied', 'applied', 'rejected']
tags reverted ['reverted', 'reverted', 'reverted']
jobs {'completed': 1}
""",
    "document_audits": """\
cellar.txt: approved by ben: read the paper original (score 100)
garage.txt: approved by deductions(major=15) (score 98)
  minor CAL-02: no date of calibration
hall.txt: approved by deductions(major=15) (score 100)
kitchen.txt: rejected by ben: the resistance is too high (score 85)
  major GND-01: 5.2 ohm at P2
roof.txt: rejected by deductions(major=15) (score 75)
  critical GND-01: 48.0 ohm at P1
audits 5 verdicts {'approved': 3, 'review': 0, 'rejected': 2} reviewed 2
""",
}
STEPS = {
    "review_pipeline": ["read orders.py", "judged version.py:2 rejected", "judged admin.py:2 verified"],
    "session_analysis": ["session contracts", "failed logo.png", "analysed archive/old.txt"],
    "media_library": ["synced 6 new", "pushed s2 title", "applied tags", "reverted s0 tags"],
    "document_audits": ["queued hall.txt", "audited roof.txt rejected", "reviewed cellar.txt"],
}
# What an interrupted attempt leaves behind: it is part of the history, and each kill adds to it.
HISTORY = {"model_calls", "call_counts", "sync_runs", "audit_events", "sqlite_sequence", "sqlite_stat1"}
RECORDED = {"scans", "scan_files", "chunk_work"}  # of a scan that was killed while it recorded files


def start(script: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent), "PYTHONWARNINGS": "error"}
    return subprocess.Popen(
        [sys.executable, EXAMPLES / f"{script}.py", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=True,  # so that its worker processes are killed too
    )


def run(script: str, folder: Path, *arguments: str) -> str:
    process = start(script, folder, *arguments)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    return output


def kill(process: subprocess.Popen[str]) -> bool:
    """Kill a script with its workers. Return whether it was still running."""
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return running


def after(lines: int) -> Callable[[subprocess.Popen[str]], None]:
    def wait(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()

    return wait


def moment(most: float) -> Callable[[subprocess.Popen[str]], None]:
    return lambda _: time.sleep(random.uniform(0.2, 1) * most)


def rows(store: Store) -> dict[str, int]:
    """Return the number of rows of each table, except those of the history of attempts."""
    left_out = HISTORY | (RECORDED if len(store.scans.list()) > 1 else set())
    tables = store.database.execute_sql("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
    names = sorted({name for (name,) in tables} - {"sqlite_schema"} - left_out)
    return {name: store.database.execute_sql(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}


def finished(script: str, folder: Path) -> dict[str, int]:
    """Check the store and return the numbers of its rows."""
    with Store(folder / STORES[script]) as store:
        assert store.check() == []
        return rows(store)


@pytest.mark.parametrize("script", STORES)
def test_an_example_prints_its_result(script: str, tmp_path: Path) -> None:
    printed = run(script, tmp_path)
    assert printed.endswith(RESULTS[script])
    for step in STEPS[script]:
        assert step in printed  # the ends of lines of parallel workers may be mixed
    finished(script, tmp_path)


@pytest.mark.extras
@pytest.mark.parametrize("script", STORES)
def test_an_example_ends_the_same_after_kills(script: str, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    began = time.monotonic()
    run(script, plain)
    took = time.monotonic() - began
    expected = finished(script, plain)

    again = run(script, plain)  # changes nothing
    assert again.endswith(RESULTS[script])
    assert not [step for step in STEPS[script][1:] if step in again]
    assert finished(script, plain) == expected

    if not hasattr(os, "killpg"):
        return
    moments = {"lines": [after(1), after(3), after(2)], "times": [moment(took), moment(took)]}
    for name, waits in moments.items():
        folder = tmp_path / name
        folder.mkdir()
        killed = 0
        for wait in waits:
            process = start(script, folder)
            wait(process)
            killed += kill(process)
        assert killed or name == "times"
        assert run(script, folder).endswith(RESULTS[script]), name
        found = finished(script, folder)
        assert {table: number for table, number in expected.items() if table in found} == found, name


@pytest.mark.extras
def test_a_scan_of_known_texts_asks_no_model(tmp_path: Path) -> None:
    run("review_pipeline", tmp_path)
    (tmp_path / "sample_tree" / "area.py").write_text("def area(r):\n    return 3 * r * r\n", encoding="utf-8")
    printed = run("review_pipeline", tmp_path, "--rescan")
    assert "read area.py" in printed and "read old/area.py" not in printed
    assert "answers paid for: {'finder': 5, 'judge-1': 3, 'judge-2': 3, 'judge-3': 3}\n" in printed

    printed = run("nightly", tmp_path, "review.db")
    assert "check: 0 problems\noptimize: done\nreport: nightly-" in printed
    (report,) = tmp_path.glob("nightly-*.txt")
    assert "admin.py\n  2  critical  unchanged  Unsafe eval" in report.read_text(encoding="utf-8")


@pytest.mark.extras
def test_the_nightly_job_is_done_once_a_day_and_keeps_three_copies(tmp_path: Path) -> None:
    printed = run("nightly", tmp_path)
    assert "0 older copies removed\nprune: 0 scans, 0 jobs, texts of 0 calls\ncheck: 0 problems\n" in printed
    (report,) = tmp_path.glob("nightly-*.txt")
    before = report.read_bytes()
    assert run("nightly", tmp_path) == f"done today: {report.name}\n"
    assert report.read_bytes() == before and len(list((tmp_path / "copies").iterdir())) == 1

    if hasattr(os, "killpg"):
        for lines in (1, 2, 3):
            report.unlink(missing_ok=True)
            process = start("nightly", tmp_path)
            after(lines)(process)
            kill(process)
        report.unlink(missing_ok=True)
        run("nightly", tmp_path)
        assert report.exists()
        assert len([path for path in (tmp_path / "copies").iterdir() if ".partial" not in path.name]) == 3
    with Store(tmp_path / "scanstore.db") as store:
        assert store.check() == []


def notebook() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((EXAMPLES / "explore.ipynb").read_text(encoding="utf-8"))
    return loaded


def test_the_notebook_is_valid_and_has_no_output() -> None:
    book = notebook()
    assert set(book) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    for cell in book["cells"]:
        code = cell["cell_type"] == "code"
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | (
            {"outputs", "execution_count"} if code else set()
        )
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_the_cells_of_the_notebook_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in notebook()["cells"]:
        if cell["cell_type"] == "code" and (cell["id"] != "frame" or importlib.util.find_spec("pandas") is not None):
            exec(compile("".join(cell["source"]), f"cell {cell['id']}", "exec"), names)
    printed = capsys.readouterr().out
    assert "function: json.loads, __init__.py:" in printed and "\nfunction " in printed
    assert names["finding"].title and names["store"].closed
