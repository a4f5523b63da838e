"""Measures reports: loading, recognising what is known, writing, and the memory that large ones take.

Each time is CPU seconds of a fresh process against `json.loads` or `json.dumps` of the same document in the same
process, so that the ratios hold on a busy machine. The bars are at the `at_most` lines.

    python benchmarks/sarif.py [--results 25000] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _common import Bench, median, part, peak_memory, serve, show

RULES = 40
FILES = 1250


def results(count: int, *, said: int = 0) -> Any:
    """Yield so many results in many files, each on a line of its own, with so many characters of remarks."""
    for n in range(count):
        line = 1 + n // FILES * 13 + n % 7
        text = f"    value_{n} = function_{n % 977}(request.args[{n}])"
        region = {"startLine": line, "startColumn": 5, "endLine": line, "endColumn": 40, "snippet": {"text": text}}
        uri = {"uri": f"src/pkg{n % 50}/mod{n % FILES}.py", "uriBaseId": "SRCROOT"}
        one = {
            "ruleId": f"R{n % RULES}",
            "ruleIndex": n % RULES,
            "level": "warning",
            "message": {"text": f"Call of function_{n % 977} with value {n} that comes from the user"},
            "locations": [{"physicalLocation": {"artifactLocation": uri, "region": region}}],
            "partialFingerprints": {"primaryLocationLineHash": f"{n * 2654435761 % 2**64:x}:1"},
        }
        if said:
            one["properties"] = {"remark": "x" * said}
        yield one


def write(path: Path, count: int, *, said: int = 0) -> None:
    """Write a report, result by result."""
    rules = [
        {
            "id": f"R{n}",
            "name": f"Rule{n}",
            "shortDescription": {"text": f"Rule number {n}"},
            "fullDescription": {"text": f"A longer description of rule {n}"},
            "help": {"text": "Check what comes from the user."},
            "properties": {"tags": ["security", f"external/cwe/cwe-{70 + n}"], "security-severity": f"{3 + n % 7}.0"},
        }
        for n in range(RULES)
    ]
    head = {"driver": {"name": "Demo", "version": "1.2", "rules": rules}}
    with open(path, "w") as file:
        file.write(f'{{"version":"2.1.0","runs":[{{"tool":{json.dumps(head)},"results":[')
        for n, one in enumerate(results(count, said=said)):
            file.write((",\n" if n else "") + json.dumps(one))
        file.write("]}]}")


@part
def loading(*, db: str, report: str, rounds: int) -> dict[str, Any]:
    """Load a report into a new target, the same results again as another report, and write them."""
    from scanstore import Store

    content = Path(report).read_bytes()
    found: dict[str, list[float]] = {"loads": [], "dumps": [], "load": [], "again": [], "dump": []}

    def timed(name: str, work: Any) -> Any:
        begun = time.process_time()
        value = work()
        found[name].append(time.process_time() - begun)
        return value

    with Store(db) as store:
        for n in range(rounds):
            document = timed("loads", lambda: json.loads(content))
            timed("dumps", lambda: json.dumps(document))  # noqa: B023
            document = None
            first = timed("load", lambda: store.sarif.load(report, target=f"{n}"))  # noqa: B023
            other = Path(f"{report}.again")
            other.write_bytes(content + b"\n")
            second = timed("again", lambda: store.sarif.load(other, target=f"{n}"))  # noqa: B023
            timed("dump", lambda: store.sarif.dump(second.scan, f"{report}.out"))  # noqa: B023
    told: dict[str, Any] = {name: median(times) for name, times in found.items()}
    return {**told, "new": first.new, "unchanged": second.unchanged, "bytes": len(content)}


@part
def remembering(*, db: str, report: str) -> float:
    """Load a report; return the most memory that it took, in MB."""
    from scanstore import Store

    with Store(db) as store:
        store.sarif.load(report, target="t")
        store.sarif.dump(None, f"{report}.out")
    return peak_memory()


def main() -> int:
    """Run the benchmark, print its table, return 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=25_000, help="results in the report [default: 25000]")
    parser.add_argument("--quick", action="store_true", help="once instead of three times, and smaller files")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    if options.results < 1:
        parser.error("--results must be at least one")
    rounds = 1 if options.quick else 3
    with tempfile.TemporaryDirectory(prefix="scanstore-sarif-") as folder:
        work = Path(folder)
        bench = Bench(__file__, work)
        report = work / "report.sarif"
        write(report, options.results)
        spent = bench.run(loading, db=str(work / "a.db"), report=str(report), rounds=rounds)
        figures = f"{options.results:,} results, {spent['bytes'] / 1e6:.1f} MB"
        bench.at_most(
            "load", 8, spent["load"] / spent["loads"], " x json.loads",
            f"{spent['load']:.2f} s against {spent['loads']:.2f} s; {figures}, {spent['new']:,} new",
        )  # fmt: skip
        bench.at_most(
            "load of what is known", 2, spent["again"] / spent["load"], " x load",
            f"{spent['again']:.2f} s; {spent['unchanged']:,} unchanged",
        )  # fmt: skip
        bench.at_most(
            "dump", 8, spent["dump"] / spent["dumps"], " x json.dumps",
            f"{spent['dump']:.2f} s against {spent['dumps']:.2f} s",
        )  # fmt: skip
        few = min(options.results, 2000)
        small, large = work / "small.sarif", work / "large.sarif"
        write(small, few, said=100)
        write(large, few, said=10_000 if options.quick else 100_000)
        little, much = (bench.run(remembering, db=f"{path}.db", report=str(path)) for path in (small, large))
        sizes = [path.stat().st_size / 1e6 for path in (small, large)]
        bench.at_most(
            "memory, the same results in a larger file", 300, much, " MB",
            f"{little:.0f} MB for {sizes[0]:.1f} MB, {much:.0f} MB for {sizes[1]:.1f} MB",
        )  # fmt: skip
    facts = {
        "results": options.results, "rounds": rounds, "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
    }  # fmt: skip
    show(bench.rows, facts, as_json=options.json)
    return 0 if all(row.ok is not False for row in bench.rows) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        serve(sys.argv[2:])
    else:
        raise SystemExit(main())
