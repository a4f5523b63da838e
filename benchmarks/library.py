"""What syncing a library costs, against SQL written by hand, and what applying a plan to it costs.

    python benchmarks/library.py                  20,000 scenes with 5 performers and 10 tags each
    python benchmarks/library.py --quick          a tenth of them
    python benchmarks/library.py --rows N
    python benchmarks/library.py --json           one JSON object

The records are made before the clock starts. New, the same again, and again with 1 % of the scenes changed are each
timed in a process of their own. By hand is one `executemany` for each of the six tables, in one transaction on a bare
connection to a file of the same schema: the very rows that the sync has written, read from its file before the clock
starts. The plan sets as many titles, approved, and is applied here, without a handler; linear means that a change of a
plan costs as much as one of a plan of a quarter.

Everything runs in processes of its own (see `_common.py`). Exits with 1 when a bar is missed.
What may be changed here: the parts, the bars, the sizes.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _common import Bench, Clock, median, part, serve, show  # noqa: E402

PERFORMERS, TAGS = 5, 10  # of each scene
TABLES = ("studios", "performers", "tags", "scenes", "scene_performers", "scene_tags")
ROUNDS = 3


def listing(scenes: int, *, changed: int = 0) -> list[dict[str, Any]]:
    """The records of so many scenes; the first `changed` have another title and another tag."""
    chosen = random.Random(5)
    people = [{"id": str(9_000 + n), "name": f"Performer {n}"} for n in range(max(scenes // 10, 20))]
    topics = [{"id": str(n), "name": f"Tag {n}"} for n in range(400)]
    makers = [{"id": f"s{n}", "name": f"Studio {n}"} for n in range(100)]
    found = [
        {
            "id": str(100_000 + n),
            "title": f"Scene {n}",
            "paths": [f"/media/library/{n % 100}/scene_{n}.mp4"],
            "organized": n % 3 == 0,
            "details": "What happens in it, in a sentence or two of text. " * 3,
            "created_date": "2026-03-01T12:00:00Z",
            "scene_date": "2026-02-28",
            "studio": dict(chosen.choice(makers)),
            "performers": [dict(one) for one in chosen.sample(people, PERFORMERS)],
            "tags": [dict(one) for one in chosen.sample(topics, TAGS)],
        }
        for n in range(scenes)
    ]
    for record in found[:changed]:
        record["title"] += " again"
        record["tags"] = record["tags"][1:]
    return found


@part
def sync(db: str, scenes: int, changed: int = 0) -> dict[str, Any]:
    """Seconds of one sync."""
    import scanstore.library.upserts  # noqa: F401  not to be timed
    from scanstore import Store

    records = listing(scenes, changed=changed)
    with Store(db, durability="normal") as store:
        library = store.library
        clock = Clock()
        with library.sync("scene") as run:
            counts = library.upsert_scenes(records, run=run)
        return {**clock.stop(), **counts._asdict()}


@part
def by_hand(db: str, rows_of: str) -> dict[str, Any]:
    """Seconds of writing the rows of another store's file."""
    from scanstore import Store

    Store(db).close()
    with sqlite3.connect(rows_of) as source:
        rows = {name: source.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in TABLES}
    connection = sqlite3.connect(db, isolation_level=None)
    connection.executescript("PRAGMA foreign_keys=ON; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-32000")
    clock = Clock()
    connection.execute("BEGIN IMMEDIATE")
    for name, values in rows.items():
        connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(values[0]))})", values)
    connection.execute("COMMIT")
    return {**clock.stop(), "rows": sum(map(len, rows.values()))}


@part
def apply(db: str, changes: int) -> dict[str, Any]:
    """Seconds of applying a plan that sets so many titles."""
    from scanstore import Store
    from scanstore.plans.plans import Proposal

    with Store(db, durability="normal") as store:
        plan = store.plans.add(f"{changes} titles")
        scenes = store.library.list(limit=changes)
        store.plans.propose_many(
            plan, [Proposal(row.id, "title", "set", proposed=f"{row.title} of {plan.id}") for row in scenes]
        )
        store.plans.submit(plan)
        store.plans.review(plan, "approve")
        clock = Clock()
        outcome = store.plans.apply(plan)
        return {**clock.stop(), "applied": outcome.applied}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the scenes")
    parser.add_argument("--rows", type=int, help="scenes [default: 20,000]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.part:
        serve(options.part)
        return 0
    scenes = options.rows if options.rows is not None else 2_000 if options.quick else 20_000
    if scenes < 100:
        parser.error("--rows must be at least 100")
    with tempfile.TemporaryDirectory(prefix="scanstore-library-") as folder:
        work = Path(folder)
        bench = Bench(__file__, work)
        parts: dict[str, list[dict[str, Any]]] = {name: [] for name in ("new", "hand", "same", "some")}
        for number in range(ROUNDS):
            db = str(work / f"library{number}.db")
            parts["new"].append(bench.run(sync, db=db, scenes=scenes))
            parts["hand"].append(bench.run(by_hand, db=str(work / f"hand{number}.db"), rows_of=db))
            parts["same"].append(bench.run(sync, db=db, scenes=scenes))
            parts["some"].append(bench.run(sync, db=db, scenes=scenes, changed=scenes // 100))
        spent = {name: median(run["own"] for run in runs) for name, runs in parts.items()}
        rows = parts["hand"][0]["rows"]
        bench.at_least(
            "new, speed against by hand", 0.5, spent["hand"] / spent["new"], " x",
            f"{spent['new']:.2f} s against {spent['hand']:.2f} s of CPU; {rows:,} rows",
        )  # fmt: skip
        bench.at_most(
            "the same again, time against new", 0.5, spent["same"] / spent["new"], " x", f"{spent['same']:.2f} s of CPU"
        )
        some = parts["some"][0]
        bench.row(
            "again with 1 % changed, time against new", "", f"{spent['some'] / spent['new']:.2f} x", None,
            f"{spent['some']:.2f} s of CPU; {some['updated']:,} updated, {some['links_removed']:,} links removed",
        )  # fmt: skip
        few = min((bench.run(apply, db=db, changes=scenes // 4) for _ in range(ROUNDS)), key=lambda run: run["own"])
        many = min((bench.run(apply, db=db, changes=scenes) for _ in range(ROUNDS)), key=lambda run: run["own"])
        bench.at_least(
            f"plan of {many['applied']:,} changes, applied", 2000, many["applied"] / many["wall"], " /s",
            f"{many['wall']:.2f} s",
        )  # fmt: skip
        each = [run["own"] / run["applied"] for run in (few, many)]
        bench.at_most(
            f"a change of it, against one of {few['applied']:,}", 1.5, each[1] / each[0], " x",
            f"{each[1] * 1e6:.0f} us against {each[0] * 1e6:.0f} us of CPU",
        )  # fmt: skip
    facts = {"scenes": scenes, "python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version}
    show(bench.rows, facts, as_json=options.json)
    return 0 if all(row.ok is not False for row in bench.rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
