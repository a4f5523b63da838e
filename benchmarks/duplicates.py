"""How much of the package is written twice: pairs of functions with six or more equal lines in a row.

    python benchmarks/duplicates.py            the pairs, with their places, the longest runs first
    python benchmarks/duplicates.py --json     the count

Names and literals are ignored: each line is compared by its keywords, operators and brackets, and by where names and
literals stand in it. Docstrings, comments and blank lines do not count, and neither does what a function is called with
(its signature). A function inside another one belongs to the outer one.
"""

from __future__ import annotations

import ast
import io
import json
import keyword
import sys
import tokenize
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "scanstore"
RUN = 6


def shapes(source: str) -> dict[int, str]:
    """The shape of each line that has code, by its number."""
    found: dict[int, list[str]] = defaultdict(list)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            found[token.start[0]].append(token.string if keyword.iskeyword(token.string) else "n")
        elif token.type in (tokenize.NUMBER, tokenize.STRING):
            found[token.start[0]].append("1")
        elif token.type == tokenize.OP:
            found[token.start[0]].append(token.string)
    return {line: " ".join(words) for line, words in found.items()}


def functions(path: Path) -> dict[str, list[str]]:
    """The bodies of a module's functions as shapes of lines, by their place."""
    source = path.read_text(encoding="utf-8")
    lines = shapes(source)
    found = {}
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                waiting.append(node)
                continue
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body and node.end_lineno:
                rows = [lines[number] for number in range(body[0].lineno, node.end_lineno + 1) if number in lines]
                found[f"{path.relative_to(PACKAGE.parent)}:{node.lineno} {node.name}"] = rows
    return found


def longest(one: list[str], other: list[str]) -> int:
    """The length of the longest run of equal lines."""
    best, before = 0, [0] * (len(other) + 1)
    for row in one:
        now = [0] * (len(other) + 1)
        for column, shape in enumerate(other):
            if row == shape:
                now[column + 1] = before[column] + 1
                best = max(best, now[column + 1])
        before = now
    return best


def pairs() -> list[tuple[int, str, str]]:
    """Each pair of functions with a run of equal lines, and its length; the longest first."""
    bodies: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        bodies.update(functions(path))
    homes: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for name, rows in bodies.items():
        for start in range(len(rows) - RUN + 1):
            homes[tuple(rows[start : start + RUN])].add(name)
    found = {tuple(sorted((a, b))) for names in homes.values() for a in names for b in names if a < b}
    return sorted(((longest(bodies[a], bodies[b]), a, b) for a, b in found), reverse=True)


def main() -> None:
    found = pairs()
    if "--json" in sys.argv[1:]:
        print(json.dumps({"pairs": len(found), "run": RUN}))
        return
    for length, one, other in found:
        print(f"{length:4}  {one}  =  {other}")
    print(f"{len(found)} pairs of functions with {RUN} or more equal lines in a row")


if __name__ == "__main__":
    main()
