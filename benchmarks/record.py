"""Run benchmarks and write their results into docs/performance.md, each between its marks.

    python benchmarks/record.py                 all of them: run it on a quiet machine; half an hour
    python benchmarks/record.py sarif search    these two
    python benchmarks/record.py --quick sarif   with the option of that script; the page says so

A part of the page says which command made it, when and on what. A missed limit is written as such, and the exit code is
1. What may be changed here: what a part of the page looks like.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
PART = re.compile(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", re.DOTALL)
SIGNS = {"<=": "≤", ">=": "≥"}


def names(page: str) -> list[str]:
    """Return the benchmarks that have a part of the page, in its order."""
    return [match[1] for match in PART.finditer(page)]


def run(name: str, options: Sequence[str]) -> dict[str, Any]:
    """Run a benchmark and return what it measured."""
    done = subprocess.run(
        [sys.executable, HERE / f"{name}.py", "--json", *options], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode not in (0, 1) or not done.stdout:
        raise SystemExit(f"{name} failed with exit code {done.returncode}; its output is above")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def part(command: str, found: Mapping[str, Any]) -> str:
    """Return the Markdown of one benchmark: its origin, its input, and a table with a row for each measure."""
    facts = [f"{key.replace('_', ' ')} {told(value)}" for key, value in found.items() if key not in ("rows", *KNOWN)]
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    lines = [f"`{command}`, {date.today()}: {machine}{''.join(f'; {fact}' for fact in facts)}.", ""]
    lines += ["| measure | limit | measured | |", "|---|---|---|---|"]
    for row in found["rows"]:
        limit = re.sub("^[<>]=", lambda sign: SIGNS[sign[0]], row["bar"])
        measured = row["measured"] + (" (missed)" if row["ok"] is False else "")
        lines.append("| " + " | ".join(cell(text) for text in (row["measure"], limit, measured, row["detail"])) + " |")
    return "\n".join(lines)


KNOWN = ("python", "sqlite")  #: facts that the line has anyway


def told(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def cell(text: str) -> str:
    return text.replace("|", r"\|").replace(" x", " ×")


def written(page: str, name: str, text: str) -> str:
    """Return the page with another part."""
    new = f"<!-- {name} -->\n{text}\n<!-- /{name} -->"
    return PART.sub(lambda match: new if match[1] == name else match[0], page)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run benchmarks and write their results into docs/performance.md.")
    parser.add_argument("name", nargs="*", help="benchmarks (default: all on the page)")
    parser.add_argument("--quick", action="store_true", help="pass --quick on")
    options = parser.parse_args(argv)
    known = names(PAGE.read_text(encoding="utf-8"))
    if unknown := [name for name in options.name if name not in known]:
        parser.error(f"the page has no part for {', '.join(unknown)}; it has: {', '.join(known)}")
    passed = ["--quick"] if options.quick else []
    ok = True
    for name in options.name or known:
        found = run(name, passed)
        text = part(" ".join(["python", f"benchmarks/{name}.py", *passed]), found)
        page = PAGE.read_text(encoding="utf-8")  # again: a benchmark takes long
        PAGE.write_text(written(page, name, text), encoding="utf-8")
        ok = ok and all(row["ok"] is not False for row in found["rows"])
        print(f"{name}: written into {PAGE.name}", flush=True)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
