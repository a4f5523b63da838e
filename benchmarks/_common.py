"""What the benchmarks share: fresh processes for the parts, clocks, medians, the corpus, and the table.

A part is a function that takes plain values and returns plain values, registered with `part`. `Bench.run` runs it
in a new interpreter, so that no part sees another's heap, caches or imports, and so that its peak memory is its
own. Absolute times mean nothing on a shared machine: report ratios of parts that ran next to each other.

Change here: how parts run and how results are shown. What is measured belongs into the benchmark itself.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

Part = TypeVar("Part", bound=Callable[..., Any])

STDLIB_EXCLUDES = ("test/", "site-packages/")
PARTS: dict[str, Callable[..., Any]] = {}


def part(function: Part) -> Part:
    """Register a function that `Bench.run` may call by name in a fresh process."""
    PARTS[function.__name__] = function
    return function


def serve(argv: Sequence[str]) -> None:
    """Be the fresh process: run the part that is named and print what it returns as JSON."""
    name, arguments = argv
    print(json.dumps(PARTS[name](**json.loads(arguments))))


class Bench:
    """Runs the parts of one benchmark script and collects the rows of its table."""

    def __init__(self, script: str, work: Path) -> None:
        self.script = script
        self.environment = environment(work / "compiled")
        self.rows: list[Row] = []

    def run(self, function: Callable[..., Any], /, **arguments: Any) -> Any:
        """Run a registered part in a new interpreter and return its result."""
        command = [sys.executable, self.script, "--part", function.__name__, json.dumps(arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, env=self.environment, check=False)
        if done.returncode:
            raise SystemExit(f"{function.__name__} failed with exit code {done.returncode}; its output is above")
        return json.loads(done.stdout)

    def row(self, measure: str, bar: str, measured: str, ok: bool | None, detail: str = "") -> None:
        """Add one line to the table; `ok` None means that there is no bar."""
        self.rows.append(Row(measure, bar, measured, ok, detail))

    def at_most(self, measure: str, limit: float, value: float, unit: str, detail: str = "") -> None:
        """Add a line whose value must not exceed the limit."""
        self.row(measure, f"<= {limit:g}{unit}", f"{value:.2f}{unit}", value <= limit, detail)

    def at_least(self, measure: str, limit: float, value: float, unit: str, detail: str = "") -> None:
        """Add a line whose value must reach the limit."""
        self.row(measure, f">= {limit:g}{unit}", f"{value:.2f}{unit}", value >= limit, detail)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    measure: str
    bar: str
    measured: str
    ok: bool | None
    detail: str


def environment(compiled: Path) -> dict[str, str]:
    """Our environment, in which a child imports the same scanstore as we do; its bytecode is kept in that folder, so
    that a checkout starts as fast as an installed package."""
    import scanstore

    here = str(Path(scanstore.__file__).resolve().parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **kept,
        "PYTHONPATH": here + (os.pathsep + inherited if inherited else ""),
        "PYTHONPYCACHEPREFIX": str(compiled),
    }


# Clocks


@dataclass(frozen=True)
class Spent:
    """Seconds: on the wall, of CPU in this process, and of CPU in the children that it has waited for."""

    wall: float
    own: float
    children: float

    @property
    def cpu(self) -> float:
        return self.own + self.children


class Clock:
    """Measures from its creation to `stop()`."""

    def __init__(self) -> None:
        self.cpu = _cpu()
        self.wall = time.perf_counter()

    def stop(self) -> dict[str, float]:
        wall = time.perf_counter() - self.wall
        own, children = _cpu()
        return asdict(Spent(wall, own - self.cpu[0], children - self.cpu[1]))


def _cpu() -> tuple[float, float]:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime


def peak_memory() -> float:
    """Return the most memory this process ever had, in MB."""
    try:
        # ru_maxrss would include what the parent had when it started us.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def median(values: Iterable[float]) -> float:
    ranked = sorted(values)
    middle = len(ranked) // 2
    return ranked[middle] if len(ranked) % 2 else (ranked[middle - 1] + ranked[middle]) / 2


def percentile(values: Iterable[float], per_cent: float) -> float:
    """Return the smallest value that at least so many per cent of the values do not exceed."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * per_cent // 100).__int__() - 1)]


# Corpus


def stdlib() -> Path:
    """Return the folder of the running interpreter's standard library."""
    return Path(sysconfig.get_path("stdlib")).resolve()


def store_size(path: Path) -> int:
    """Return the bytes of a database file and of what SQLite keeps beside it."""
    return sum(Path(f"{path}{end}").stat().st_size for end in ("", "-wal", "-shm") if Path(f"{path}{end}").exists())


# Showing


def show(rows: Sequence[Row], facts: dict[str, Any], *, as_json: bool) -> None:
    """Print the table, or one JSON object with the same content."""
    if as_json:
        print(json.dumps({**facts, "rows": [asdict(row) for row in rows]}, indent=2))
        return
    for name, value in facts.items():
        print(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")
    print()
    table = [("measure", "bar", "measured", "ok", "")]
    table += [(r.measure, r.bar, r.measured, {True: "yes", False: "NO", None: ""}[r.ok], r.detail) for r in rows]
    widths = [max(len(line[column]) for line in table) for column in range(4)]
    for place, line in enumerate(table):
        cells = [text.ljust(width) for text, width in zip(line, widths, strict=False)]
        print(" | ".join([*cells, line[4]]).rstrip(" |"))
        if place == 0:
            print("-+-".join("-" * width for width in widths))
