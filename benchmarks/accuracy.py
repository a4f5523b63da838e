"""How often the call graph is right, and how much of it is found.

    python benchmarks/accuracy.py                          click, rich, pathspec and scanstore itself
    python benchmarks/accuracy.py click --wrong 20 --missed 20
    python benchmarks/accuracy.py --truth-only --sample 30 what the judge knows; nothing is recorded
    python benchmarks/accuracy.py --server FOLDER[:PART] … another judge, for sources in folders

Each package is copied into an empty folder, recorded into a new store, and every call edge is held against
what mypy knows about that very call (`truth.py`). Two numbers decide:

- precision: of the edges called exact, imported or inherited at sites whose truth is known, how many are
  right. Right means that the target is the definition that is called; for a class its constructor will do
  as well.
- recall: of the known calls that stay inside the package, how many have such an edge to the right target.

Sites on one line with the same written name count once. Exits with 1 when a bar is missed. What may be
changed here is the reading of the edges (`claims`), the tables, and the packages; what is true belongs into
`truth.py`.

With `--server`, the judge is pyright as a language server: it is asked for the definitions of the called name, once a
call site. The Python files of FOLDER are copied and recorded, and only call sites below PART are judged. A third number
decides as well: calls whose target is in the folder, but which the store says go outside of it. The server does not
judge

- calls of an expression without a name, such as `make()()` and `table[key]()`;
- code that it holds for unreachable on this platform and version of Python;
- receivers of unknown type: parameters without an annotation, and packages that its interpreter (`--python`) lacks;
- calls of variables and properties, unless an assignment gives the variable another name of a function or class. A
  parameter without an annotation may hold anything, so that a trusted edge of its call is wrong.
"""

from __future__ import annotations

import argparse
import ast
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

from language_server import LanguageServer, sources  # noqa: E402
from truth import Definition, Kind, Site, SourceFile, Truth, collect, module_name, written_name  # noqa: E402

PACKAGES = ("click", "rich", "pathspec", "scanstore")
CLAIMED = ("exact", "imported", "inherited")
PRECISION_BAR = 0.98
RECALL_BAR = 0.70
SERVER_PRECISION_BAR = 0.995
SERVER_RECALL_BAR = 0.97
HARD = {"sqlalchemy/orm": 0.95}  # the parts whose recall has a lower bar


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
    overrides: frozenset[str] = frozenset()  # the `Class.method` of each class that the target's class derives from


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
    alternatives: int = 0
    alternatives_found: int = 0

    @property
    def called_external(self) -> int:
        """How many calls of the project the store says go outside of it."""
        return sum(any(claim.resolution == "external" for claim in told) for _, told in self.missed_sites)

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
        bases: dict[str, set[str]] = defaultdict(set)
        for edge in store.symbols.edges(scan, reference_type="inherit"):
            bases[edge.from_symbol or ""].add(edge.target or edge.name)
        for edge in store.symbols.edges(scan, reference_type="call"):
            yield Claim(
                edge.from_file,
                edge.from_line,
                edge.name,
                str(getattr(edge.resolution, "value", edge.resolution)),
                edge.target,
                edge.target_file,
                edge.target_line,
                overrides(edge.target or "", _last(edge.name), bases),
            )


def overrides(method: str, name: str, bases: dict[str, set[str]]) -> frozenset[str]:
    """Return what a method that is called by a name may override, as `Class.name` without modules."""
    owner = method.rpartition(".")[0]
    found: set[str] = set()
    waiting = {owner}
    while waiting:
        new = bases.get(waiting.pop(), set()) - found
        found |= new
        waiting |= new
    return frozenset(f"{_last(each)}.{name}" for each in found)


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
            trusted = [claim for claim in told if claim.resolution in CLAIMED]
            score.alternatives += len(site.alternatives)
            score.alternatives_found += sum(any(is_right(c, each) for c in trusted) for each in site.alternatives)
            if not hit:
                score.missed_sites.append((site, told))
    return score


def _judge(claim: Claim, site: Site) -> bool | None:
    """Tell whether an edge is right; None where it says nothing that could be wrong."""
    if claim.resolution == "unresolved":
        return None
    if claim.overrides & site.overridable and not is_right(claim, site.targets):
        return None
    if claim.target_file is None:
        if claim.resolution == "external":
            return None if site.kind == "value" else site.kind == "external"
        return None
    return is_right(claim, site.targets)


class Asking:
    """Asks a language server whom the calls of a tree call."""

    def __init__(self, root: Path, part: str, server: LanguageServer) -> None:
        self.root = root
        self.server = server
        self.sources: dict[str, SourceFile | None] = {}
        self.files = [
            path.relative_to(root).as_posix() for path in sorted((root / part).rglob("*.py")) if path.is_file()
        ]

    def truth(self, sample: int, rng: random.Random) -> Truth:
        """Ask about a sample of the call sites, or about all of them if ``sample`` is 0."""
        started = time.perf_counter()
        truth = Truth()
        sites: list[tuple[str, ast.Call]] = []
        for file in self.files:
            source = self.source(file)
            if source is None:
                truth.failures.append(f"{file}: not Python, or not UTF-8")
                continue
            truth.files += 1
            truth.lines += source.line_count
            truth.calls += len(source.calls)
            sites += [(file, call) for call in source.calls.values() if _name_place(call.func)]
        if sample:
            sites = sorted(rng.sample(sites, min(sample, len(sites))), key=lambda site: (site[0], site[1].lineno))
        last = ""
        for file, call in sites:
            if file != last:
                for path in tuple(self.server.opened):
                    self.server.close(path)
            last = file
            site = self.site(file, call)
            if site is not None:
                truth.sites.append(site)
        truth.seconds = time.perf_counter() - started
        return truth

    def source(self, file: str) -> SourceFile | None:
        """Parse a file of the tree, once."""
        if file not in self.sources:
            try:
                (self.root / file).read_text(encoding="utf-8")  # the server is given text
                self.sources[file] = SourceFile(self.root / file, file)
            except (SyntaxError, ValueError, RecursionError):
                self.sources[file] = None
        return self.sources[file]

    def site(self, file: str, call: ast.Call) -> Site | None:
        """Return what the server knows about a call, or None if that is not enough to judge it."""
        found: list[Definition] = []
        names: list[Definition] = []  # the variables on the way, which an edge may end at as well
        methods: set[str] = set()
        outside = values = bare = 0
        waiting = [(file, call.func)]
        asked: set[tuple[Path, int]] = set()
        while waiting:
            where, name = waiting.pop()
            for path, line, column in self.definitions(where, name):
                if (path, line) in asked:
                    continue
                asked.add((path, line))
                inside = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
                source = self.source(inside)
                if source is not None and (method := source.callable_at(line, column)) is not None:
                    methods.add(".".join(method.qualified_name.split(".")[-2:]))
                if not path.is_relative_to(self.root):
                    outside += 1
                elif source is None:
                    values += 1
                elif (definition := source.callable_at(line, column)) is not None:
                    found.append(definition)
                elif (value := source.aliases.get(line)) is not None:
                    names.append(Definition(inside, "", frozenset({line})))
                    waiting.append((inside, value))
                else:
                    values += 1
                    bare += (line, _last(written_name(name))) in source.bare_parameters
        kind: Kind = "project" if found else "external" if outside else "value"
        if not found and (values != bare or not (outside or bare)):
            return None
        groups = tuple(dict.fromkeys(found))
        written = written_name(call.func)
        callee = ", ".join(f"{each.file}:{each.qualified_name}" for each in groups) or kind
        alternatives = tuple((each,) for each in groups)
        return Site(
            file,
            call.lineno,
            written,
            kind,
            _way(call.func),
            callee,
            (*groups, *names),
            alternatives,
            frozenset(methods),
        )

    def definitions(self, file: str, name: ast.expr) -> list[tuple[Path, int, int]]:
        """Ask for the definitions of the last name of an expression."""
        place = _name_place(name)
        source = self.source(file)
        if place is None or source is None:
            return []
        line, column = place
        path = self.root / file
        before = path.read_bytes().splitlines()[line - 1][:column].decode(errors="replace")
        if path not in self.server.opened:  # the file of an alias
            self.server.open(path)
        return self.server.definitions(path, line, len(before.encode("utf-16-le")) // 2)


def _name_place(func: ast.expr) -> tuple[int, int] | None:
    """Return the line and the column in bytes of the last name of an expression."""
    if isinstance(func, ast.Name):
        return func.lineno, func.col_offset
    if isinstance(func, ast.Attribute) and func.end_lineno and func.end_col_offset is not None:
        return func.end_lineno, func.end_col_offset - len(func.attr.encode())
    return None


def _way(func: ast.expr) -> str:
    """Say how a call is spelt."""
    if not isinstance(func, ast.Attribute):
        return "name"
    receiver = func.value
    if isinstance(receiver, ast.Name):
        return {"self": "self", "cls": "cls"}.get(receiver.id, "name.attribute")
    if isinstance(receiver, ast.Attribute):
        return "self.attribute" if written_name(receiver).startswith("self.") else "dotted attribute"
    if isinstance(receiver, ast.Call):
        return "super()" if written_name(receiver.func) == "super" else "result of a call"
    return {ast.Subscript: "subscript", ast.Await: "await"}.get(type(receiver), "other expression")


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


def judged(name: str, score: Score) -> bool:
    """Print what only the server's answers show, and tell whether a folder reaches its bars."""
    bar = next((bar for part, bar in HARD.items() if name.endswith(part)), SERVER_RECALL_BAR)
    print(f"  in the folder, but called external: {score.called_external} of {len(score.missed_sites)} missed calls")
    print(f"  targets, each of a call that may go to several: {score.alternatives_found} of {score.alternatives} found")
    return score.precision >= SERVER_PRECISION_BAR and score.recall >= bar and not score.called_external


def examples(score: Score, tree: Path, *, wrong: int, missed: int, rng: random.Random) -> None:
    """List some of the wrong edges and missed sites, the same ones every time."""
    for claim, site in rng.sample(score.wrong_edges, min(wrong, len(score.wrong_edges))):
        said = f"{claim.resolution} {claim.target} ({claim.target_file}:{claim.target_line})"
        print(f"  wrong   {site.file}:{site.line} {site.written}() said {said}; is {site.kind} {site.callee}")
        print(f"              {line_of(tree, site)}")
    for site, told in rng.sample(score.missed_sites, min(missed, len(score.missed_sites))):
        said = ", ".join(f"{claim.resolution} {claim.target or ''}".strip() for claim in told) or "no edge"
        print(f"  missed  {site.file}:{site.line} {site.written}() said {said}; is {site.callee} [{site.via}]")
        print(f"              {line_of(tree, site)}")


def line_of(tree: Path, site: Site) -> str:
    """Return the text of the line that a call starts on."""
    return (tree / site.file).read_text(encoding="utf-8", errors="replace").split("\n")[site.line - 1].strip()[:110]


def report_truth(name: str, truth: Truth, *, sample: int, rng: random.Random) -> None:
    """Print how much the judge knows about one package."""
    kinds = Counter(site.kind for site in truth.sites)
    known = ", ".join(f"{kinds[kind]} {kind}" for kind in ("project", "external", "value"))
    print(
        f"\n{name}: {truth.files} files, {truth.lines} lines, {truth.calls} calls; {len(truth.sites)} known"
        f" ({_percent(len(truth.sites) / max(1, truth.calls)).strip()}: {known}); judged in {truth.seconds:.1f} s"
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
    parser.add_argument("--server", action="store_true", help="judge by pyright; the arguments are FOLDER[:PART]")
    parser.add_argument("--sites", type=int, default=0, metavar="N", help="ask the server about N call sites a folder")
    parser.add_argument("--python", metavar="PATH", help="the interpreter whose packages the server reads")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

    total = Score()
    passed = True
    for package in options.packages:
        rng = random.Random(options.seed)
        with tempfile.TemporaryDirectory() as folder:
            if options.server:
                name, _, part = package.partition(":")
                tree = sources(Path(name), Path(folder))
                server = LanguageServer(tree, python=options.python)
                truth = Asking(tree, part, server).truth(options.sites, rng)
                server.stop()
            else:
                tree = stage(package, Path(folder) / "tree")
                truth = collect(tree)
            report_truth(package, truth, sample=options.sample, rng=rng)
            if options.truth_only:
                continue
            started = time.perf_counter()
            score = compare(truth, claims(tree))
            print(f"  recorded and compared in {time.perf_counter() - started:.1f} s")
            report(package, score)
            if options.server:
                passed &= judged(package, score)
            examples(score, tree, wrong=options.wrong, missed=options.missed, rng=rng)
        total.add(score)
    if options.truth_only:
        return 0
    report("total", total)
    if options.server:
        print(f"\nbars of each folder: {'reached' if passed else 'MISSED'}")
        return 0 if passed else 1
    passed = total.precision >= PRECISION_BAR and total.recall >= RECALL_BAR
    print(
        f"\nbars: precision >= {_percent(PRECISION_BAR).strip()}, recall >= {_percent(RECALL_BAR).strip()}:"
        f" {'reached' if passed else 'MISSED'}"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
