"""What a language server knows about the uses of symbols: a second judge beside mypy (`truth.py`).

    python benchmarks/language_server.py FOLDER[:PART] …     each holds packages

The Python files of FOLDER are copied and recorded. Pyright is asked for all references to each class, function,
property and module variable below PART, of which those below PART count. Its answers are held against the references
that the store has for the same symbol, by file and line. Two numbers decide:

- recall: of the lines that the server names, how many the store has;
- precision: of the lines that the store has with a trusted resolution, how many the server names.

The server cannot judge names in texts, such as those of ``__all__``, places where a name is bound again, as these are
no uses, and calls that do not name the method, such as those of ``__call__``: they count neither way. Nor can it judge
code that it holds for unreachable on this platform and version of Python. Variables of classes are asked about as well,
but have a line of their own and no part in the two numbers.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TRUSTED = ("exact", "imported", "inherited")
KINDS = ("class", "function", "method", "property", "variable")


def sources(folder: Path, into: Path) -> Path:
    """Copy the Python files of a project without its settings, which may hide files from the server."""
    into = into.resolve() / folder.resolve().name

    def not_source(parent: str, names: list[str]) -> list[str]:
        return [name for name in names if not name.endswith((".py", ".pyi")) and not Path(parent, name).is_dir()]

    shutil.copytree(folder, into, ignore=not_source, symlinks=True)
    paths = [name for name in ("src", "lib") if (into / name).is_dir()]
    (into / "pyrightconfig.json").write_text(json.dumps({"extraPaths": paths}))
    return into


class LanguageServer:
    """A client of ``pyright-langserver`` over pipes, one request at a time.

    ``python`` is the interpreter whose packages the server may read.
    """

    def __init__(self, root: Path, *, python: str | None = None) -> None:
        self.root = root
        self.settings = {
            "diagnosticMode": "openFilesOnly",
            "indexing": False,
            "pythonPath": python or sys.executable,
        }
        beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        command = shutil.which("pyright-langserver", path=beside)
        if command is None:
            raise SystemExit("language_server: pyright is missing; pip install 'pyright[nodejs]'")
        self.process = subprocess.Popen(
            [command, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.last = 0
        self.opened: set[Path] = set()
        self.ready = False
        self.request(
            "initialize",
            {
                "processId": None,
                "rootUri": root.as_uri(),
                "workspaceFolders": [{"uri": root.as_uri(), "name": "tree"}],
                "capabilities": {"workspace": {"configuration": True, "workspaceFolders": True}},
            },
        )
        self.notify("initialized", {})
        for _ in range(600):  # an answer before all files are listed lacks some of them
            self.request("workspace/symbol", {"query": "no_symbol_has_this_name"})
            if self.ready:
                break
            time.sleep(0.1)

    def send(self, message: dict[str, object]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        length = 0
        while (line := self.process.stdout.readline().strip()) or not length:
            if not line and self.process.poll() is not None:
                raise SystemExit("language_server: the server has stopped")
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        message: dict[str, Any] = json.loads(self.process.stdout.read(length))
        return message

    def request(self, method: str, params: object) -> Any:
        self.last += 1
        self.send({"id": self.last, "method": method, "params": params})
        while True:
            message = self.receive()
            if "method" in message and "id" in message:  # the server asks for its settings
                asked = message["method"] == "workspace/configuration"
                items = message.get("params", {}).get("items", ()) if asked else ()
                answer = [self.settings for _ in items]
                self.send({"id": message["id"], "result": answer or None})
            elif message.get("id") == self.last:
                return message.get("result")
            elif message.get("method") == "window/logMessage":
                self.ready |= "source file" in message["params"]["message"]

    def notify(self, method: str, params: object) -> None:
        self.send({"method": method, "params": params})

    def open(self, path: Path) -> None:
        self.opened.add(path)
        text = path.read_text(encoding="utf-8")
        document = {"uri": path.as_uri(), "languageId": "python", "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": document})

    def close(self, path: Path) -> None:
        self.opened.discard(path)
        self.notify("textDocument/didClose", {"textDocument": {"uri": path.as_uri()}})

    def definitions(self, path: Path, line: int, column: int) -> list[tuple[Path, int, int]]:
        """Return the file, line and column of each definition of the name at a place; lines count from 1."""
        position = {"line": line - 1, "character": column}
        found = self.request("textDocument/definition", {"textDocument": {"uri": path.as_uri()}, "position": position})
        places = []
        for each in found or ():
            start = each["range"]["start"]
            places.append((Path(unquote(urlsplit(each["uri"]).path)), start["line"] + 1, start["character"]))
        return places

    def references(self, path: Path, line: int, column: int) -> set[tuple[str, int, int]]:
        """Return the file, line and column of each reference to the symbol at a place; lines count from 1."""
        found = self.request(
            "textDocument/references",
            {
                "textDocument": {"uri": path.as_uri()},
                "position": {"line": line - 1, "character": column},
                "context": {"includeDeclaration": False},
            },
        )
        places = set()
        for each in found or ():
            file = Path(unquote(urlsplit(each["uri"]).path))
            if file.is_relative_to(self.root):
                start = each["range"]["start"]
                places.add((file.relative_to(self.root).as_posix(), start["line"] + 1, start["character"]))
        return places

    def stop(self) -> None:
        self.request("shutdown", None)
        self.notify("exit", None)
        self.process.wait(10)


def names_at(lines: list[str], name: str, start: int) -> tuple[int, int] | None:
    """Return the line and column of a symbol's name at its definition."""
    pattern = re.compile(rf"\b{re.escape(name)}\b")
    for number in range(start, min(start + 3, len(lines)) + 1):
        found = pattern.search(lines[number - 1])
        if found:
            return number, found.start()
    return None


def bound_at(path: Path) -> set[tuple[int, int]]:
    """Return the lines and columns where a file binds a name or an attribute."""
    places: set[tuple[int, int]] = set()
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:
        return places
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            places.add((node.lineno, node.col_offset))
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            places.add((node.end_lineno or 0, (node.end_col_offset or 0) - len(node.attr)))
    return places


def measure(
    root: Path, part: str, *, python: str | None, sample: int, missed: int, wrong: int, seed: int
) -> Counter[str]:
    from scanstore import Store

    score: Counter[str] = Counter()
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "uses.db") as store:
        root = sources(root, Path(folder))
        server = LanguageServer(root, python=python)
        began = time.perf_counter()
        scan = store.scans.record(root)
        recorded = time.perf_counter() - began
        texts: dict[str, list[str]] = {}
        from scanstore.models import Symbol

        same: dict[tuple[str, str], list[int]] = {}  # overloads, and definitions in the branches of an if
        defined: dict[tuple[str, int], set[str]] = {}
        for each in Symbol.select().where(Symbol.scan == scan):
            same.setdefault((each.file_path, each.qualified_name), []).append(each.id)
            for line in range(each.start_line, each.start_line + 1):
                defined.setdefault((each.file_path, line), set()).add(each.name)
        every = Symbol.select().where(Symbol.scan == scan, Symbol.symbol_type != "module")
        symbols = [each for each in every if each.file_path.startswith(part) and each.file_path.endswith(".py")]
        classes = {each.qualified_name for each in every if each.symbol_type == "class"}
        bound: dict[str, set[tuple[int, int]]] = {}
        rng.shuffle(symbols)
        missing: list[str] = []
        false: list[str] = []
        for symbol in symbols[:sample] if sample else symbols:
            if symbol.file_path not in texts:
                path = root / symbol.file_path
                texts[symbol.file_path] = path.read_text(encoding="utf-8").splitlines()
                server.open(path)
            place = names_at(texts[symbol.file_path], symbol.name, symbol.start_line)
            if place is None:
                continue
            metadata = dict(symbol.metadata or {})
            kind = symbol.symbol_type
            if kind in ("method", "function") and any("property" in d for d in metadata.get("decorators", ())):
                kind = "property"
            elif kind == "variable" and symbol.qualified_name.rpartition(".")[0] in classes:
                kind = "attribute"
            known = set()
            for file, line, column in server.references(root / symbol.file_path, *place):
                if not file.startswith(part):
                    continue
                if file not in bound:
                    bound[file] = bound_at(root / file)
                elsewhere = (line, column) not in bound[file] and symbol.name not in defined.get((file, line), ())
                if elsewhere and not in_text(root, texts, (file, line), symbol.name):
                    known.add((file, line))
            rows = [
                row for each in same[symbol.file_path, symbol.qualified_name] for row in store.symbols.references(each)
            ]
            trusted = {
                (r.from_file, r.from_line) for r in rows if r.resolution in TRUSTED and r.from_file.startswith(part)
            }
            score[f"{kind} known"] += len(known)
            score[f"{kind} found"] += len(known & trusted)
            if kind != "attribute" and not symbol.name.startswith("__"):
                score["trusted"] += len(trusted)
                score["right"] += len(trusted & known)
                false += [f"{f}:{n} {symbol.qualified_name} [{kind}]" for f, n in sorted(trusted - known)]
            missing += [f"{f}:{n} {symbol.qualified_name} [{kind}]" for f, n in sorted(known - trusted)]
        server.stop()
        known = sum(score[f"{kind} known"] for kind in KINDS)
        found = sum(score[f"{kind} found"] for kind in KINDS)
        print(f"\n{root.name}: {len(symbols)} symbols, recorded in {recorded:.1f} s")
        precision = score["right"] / max(1, score["trusted"])
        print(f"  recall {found / max(1, known):.2%} of {known}, precision {precision:.2%}")
        for kind in (*KINDS, "attribute"):
            print(f"    {kind:<10}{score[kind + ' found']:>7} of {score[kind + ' known']:>7}")
        for title, places, most in (("missed", missing, missed), ("not known to the server", false, wrong)):
            for place in rng.sample(places, min(most, len(places))):
                file, _, rest = place.partition(":")
                line = int(rest.split()[0])
                print(f"  {title} {place}: {texts_of(root, texts, file)[line - 1].strip()[:100]}")
    return score


def texts_of(root: Path, texts: dict[str, list[str]], file: str) -> list[str]:
    if file not in texts:
        texts[file] = (root / file).read_text(encoding="utf-8").splitlines()
    return texts[file]


def in_text(root: Path, texts: dict[str, list[str]], place: tuple[str, int], name: str) -> bool:
    """Whether a line names a symbol only in quotes, as in ``__all__``."""
    line = texts_of(root, texts, place[0])[place[1] - 1]
    return bool(re.fullmatch(rf"\s*[\"']{re.escape(name)}[\"'],?\s*", line))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", metavar="FOLDER[:PART]")
    parser.add_argument("--python", metavar="PATH", help="the interpreter whose packages the server reads")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="ask about N symbols of each tree")
    parser.add_argument("--missed", type=int, default=0, metavar="N", help="list N missed lines")
    parser.add_argument("--wrong", type=int, default=0, metavar="N", help="list N lines that the server does not name")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    for folder in options.folders:
        name, _, part = folder.partition(":")
        measure(
            Path(name).resolve(),
            part,
            python=options.python,
            sample=options.sample,
            missed=options.missed,
            wrong=options.wrong,
            seed=options.seed,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
