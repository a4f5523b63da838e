"""How often the call graph is right, and how much of it is found.

    python benchmarks/accuracy.py                          click, rich, pathspec and scanstore itself
    python benchmarks/accuracy.py click --wrong 20 --missed 20
    python benchmarks/accuracy.py --truth-only --sample 30 what the judge knows; nothing is recorded

Each package is copied into an empty folder, recorded into a new store, and every call edge is held against
what mypy knows about that very call (`truth.py`). Two numbers decide:

- precision: of the edges called exact, imported or inherited at sites whose truth is known, how many are
  right. Right means that the target is the definition that is called; for a class its constructor will do
  as well.
- recall: of the known calls that stay inside the package, how many have such an edge to the right target.

Sites on one line with the same written name count once. Exits with 1 when a bar is missed. What may be
changed here is the reading of the edges (`claims`), the tables, and the packages; what is true belongs into
`truth.py`.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from truth import Definition, Site, Truth, collect, module_name  # noqa: E402

PACKAGES = ("click", "rich", "pathspec", "scanstore")
CLAIMED = ("exact", "imported", "inherited")
PRECISION_BAR = 0.98
RECALL_BAR = 0.70


@dataclass(frozen=True)
class Claim:
    """One call edge as the store tells it."""

    file: str
    line: int
    written: str
    resolution: str
    target: str | None
    target_file: str | None
    target_line: int | None


@dataclass
class Score:
    """What came of comparing one package."""

    claimed: int = 0
    calls: int = 0
    right: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    wrong_edges: list[tuple[Claim, Site]] = field(default_factory=list)
    missed_sites: list[tuple[Site, list[Claim]]] = field(default_factory=list)

    @property
    def precision(self) -> float:
        right = sum(self.right[kind] for kind in CLAIMED)
        return right / max(1, right + sum(self.wrong[kind] for kind in CLAIMED))

    @property
    def recall(self) -> float:
        return self.found.total() / max(1, self.known.total())

    def add(self, other: Score) -> None:
        """Count another package's numbers into this one."""
        self.claimed += other.claimed
        self.calls += other.calls
        for name in ("right", "wrong", "found", "known"):
            getattr(self, name).update(getattr(other, name))


def stage(package: str, into: Path) -> Path:
    """Copy an installed package's Python files into an empty folder, from which it is imported as before."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"accuracy: package {package!r} is not installed; pip install it, or name another")
    into.mkdir(parents=True)
    if not spec.submodule_search_locations:
        shutil.copy(spec.origin, into)
        return into

    def not_source(folder: str, names: list[str]) -> Iterable[str]:
        return [name for name in names if not name.endswith(".py") and not Path(folder, name).is_dir()]

    shutil.copytree(next(iter(spec.submodule_search_locations)), into / package, ignore=not_source)
    return into


def claims(tree: Path) -> Iterator[Claim]:
    """Record a tree into a store of its own and stream its call edges."""
    from scanstore import Store

    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "accuracy.db") as store:
        scan = store.scans.record(tree)
        for edge in store.symbols.edges(scan, reference_type="call"):
            yield Claim(
                edge.from_file,
                edge.from_line,
                edge.name,
                str(getattr(edge.resolution, "value", edge.resolution)),
                edge.target,
                edge.target_file,
                edge.target_line,
            )


def is_right(claim: Claim, definitions: Iterable[Definition]) -> bool:
    """Tell whether an edge ends at one of the definitions: same first line, or same qualified name."""
    for definition in definitions:
        if claim.target_file != definition.file:
            continue
        if claim.target_line in definition.lines:
            return True
        name = (claim.target or "").replace(".<locals>", "")
        if name in (definition.qualified_name, f"{module_name(definition.file)}.{definition.qualified_name}"):
            return True
    return False


def compare(truth: Truth, edges: Iterable[Claim]) -> Score:
    """Hold every edge against the truth of its site, and every site against its edges."""
    score = Score()
    by_line: dict[tuple[str, int], list[Claim]] = defaultdict(list)
    for claim in dict.fromkeys(edges):
        score.calls += 1
        score.claimed += claim.resolution in CLAIMED
        by_line[claim.file, claim.line].append(claim)
    sites: dict[tuple[str, int, str], list[Site]] = defaultdict(list)
    last_names: Counter[tuple[str, int, str]] = Counter()
    for site in truth.sites:
        key = (site.file, site.line, site.written)
        if key not in sites:
            last_names[site.file, site.line, _last(site.written)] += 1
        sites[key].append(site)
    for (file, line, written), same in sites.items():
        if len({(site.kind, site.targets) for site in same}) > 1:
            continue  # two calls that are written alike and mean different things
        site = same[0]
        here = by_line.get((file, line), [])
        told = [claim for claim in here if claim.written == written]
        if not told and last_names[file, line, _last(written)] == 1:
            told = [claim for claim in here if _last(claim.written) == _last(written)]
        hit = False
        for claim in told:
            right = _judge(claim, site)
            if right is None:
                continue
            (score.right if right else score.wrong)[claim.resolution] += 1
            if claim.resolution in CLAIMED:
                hit = hit or right
                if not right:
                    score.wrong_edges.append((claim, site))
        if site.kind == "project":
            score.known[site.via] += 1
            score.found[site.via] += hit
            if not hit:
                score.missed_sites.append((site, told))
    return score


def _judge(claim: Claim, site: Site) -> bool | None:
    """Tell whether an edge is right; None where it says nothing that could be wrong."""
    if claim.resolution == "unresolved":
        return None
    if claim.target_file is None:
        if claim.resolution == "external":
            return None if site.kind == "value" else site.kind == "external"
        return None
    return is_right(claim, site.targets)


def _last(written: str) -> str:
    return written.rpartition(".")[2]


def _percent(part: float) -> str:
    return f"{100 * part:6.2f} %"


def report(name: str, score: Score) -> None:
    """Print one package's numbers: in all, per resolution, and per way of spelling the call."""
    print(f"\n{name}: precision {_percent(score.precision)}, recall {_percent(score.recall)}")
    print(f"  {score.calls} call edges, {score.claimed} of them {'/'.join(CLAIMED)}")
    for kind in sorted(score.right.keys() | score.wrong.keys(), key=lambda kind: (kind not in CLAIMED, kind)):
        right, wrong = score.right[kind], score.wrong[kind]
        print(f"  {kind:<12}{right:>7} right{wrong:>6} wrong {_percent(right / max(1, right + wrong))}")
    for via, known in score.known.most_common():
        print(f"    {via:<28}{score.found[via]:>6} of {known:>6} found {_percent(score.found[via] / known)}")


def examples(score: Score, *, wrong: int, missed: int, rng: random.Random) -> None:
    """List some of the wrong edges and missed sites, the same ones every time."""
    for claim, site in rng.sample(score.wrong_edges, min(wrong, len(score.wrong_edges))):
        said = f"{claim.resolution} {claim.target} ({claim.target_file}:{claim.target_line})"
        print(f"  wrong   {site.file}:{site.line} {site.written}() said {said}; is {site.kind} {site.callee}")
    for site, told in rng.sample(score.missed_sites, min(missed, len(score.missed_sites))):
        said = ", ".join(f"{claim.resolution} {claim.target or ''}".strip() for claim in told) or "no edge"
        print(f"  missed  {site.file}:{site.line} {site.written}() said {said}; is {site.callee} [{site.via}]")


def report_truth(name: str, truth: Truth, *, sample: int, rng: random.Random) -> None:
    """Print how much the judge knows about one package."""
    kinds = Counter(site.kind for site in truth.sites)
    known = ", ".join(f"{kinds[kind]} {kind}" for kind in ("project", "external", "value"))
    print(
        f"\n{name}: {truth.files} files, {truth.lines} lines, {truth.calls} calls; {len(truth.sites)} known"
        f" ({_percent(len(truth.sites) / max(1, truth.calls)).strip()}: {known}); mypy {truth.seconds:.1f} s"
    )
    for failure in truth.failures:
        print(f"  not judged: {failure}")
    for site in rng.sample(truth.sites, min(sample, len(truth.sites))):
        print(f"  {site.file}:{site.line} {site.written}() is {site.kind} {site.callee} [{site.via}]")
        for target in site.targets:
            print(f"      {target.file}:{','.join(map(str, sorted(target.lines)))} {target.qualified_name}")


def main() -> int:
    """Measure the packages named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("packages", nargs="*", default=list(PACKAGES), metavar="PACKAGE")
    parser.add_argument("--truth-only", action="store_true", help="do not record; tell what mypy knows")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="list N known sites for reading")
    parser.add_argument("--wrong", type=int, default=0, metavar="N", help="list N wrong edges a package")
    parser.add_argument("--missed", type=int, default=0, metavar="N", help="list N missed calls a package")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="which ones are listed")
    options = parser.parse_args()
    root = Path(__file__).resolve().parent.parent
    sys.path.insert(0, str(root))

    total = Score()
    for package in options.packages:
        rng = random.Random(options.seed)
        with tempfile.TemporaryDirectory() as folder:
            tree = stage(package, Path(folder) / "tree")
            truth = collect(tree)
            report_truth(package, truth, sample=options.sample, rng=rng)
            if options.truth_only:
                continue
            started = time.perf_counter()
            score = compare(truth, claims(tree))
            print(f"  recorded and compared in {time.perf_counter() - started:.1f} s")
        report(package, score)
        examples(score, wrong=options.wrong, missed=options.missed, rng=rng)
        total.add(score)
    if options.truth_only:
        return 0
    report("total", total)
    passed = total.precision >= PRECISION_BAR and total.recall >= RECALL_BAR
    print(
        f"\nbars: precision >= {_percent(PRECISION_BAR).strip()}, recall >= {_percent(RECALL_BAR).strip()}:"
        f" {'reached' if passed else 'MISSED'}"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
