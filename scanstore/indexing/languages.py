"""Coverage by language: which files of a scan were indexed, and which facts were recorded.

An empty answer claims absence, and is only valid for files whose indexer records the needed facts: "no callers"
requires that references were recorded. The indexer of a file decides which facts are recorded:

========================== ======================================================================================
Python, by the built-in    symbols, references and imports
ctags                      symbols
files with entry points    nothing: the references in them are no facts of a language
an indexer of your own     what it recorded in any file of that language in the scan
none, or the file failed   nothing
========================== ======================================================================================

Change here which file ending is which language (``ENDINGS``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scanstore.indexing.facts import TEXT

OTHER = "other"
SYMBOLS, REFERENCES, IMPORTS = KINDS = ("symbols", "references", "imports")
BUILT_IN, CTAGS, ENTRY_POINTS = "python/", "ctags/", "entry-points/"

_NAMED = {
    "Ada": "adb ads", "Assembly": "asm s", "C": "c h", "C#": "cs", "C++": "cc cpp cxx hh hpp hxx",
    "Clojure": "clj cljs",
    "CSS": "css less scss", "D": "d", "Dart": "dart", "Elixir": "ex exs", "Elm": "elm", "Erlang": "erl hrl",
    "F#": "fs fsx", "Fortran": "f f90 f95 f03 for", "Go": "go", "Groovy": "gradle groovy", "Haskell": "hs",
    "HTML": "htm html", "Java": "java", "JavaScript": "cjs js jsx mjs", "Julia": "jl", "Kotlin": "kt kts",
    "Lisp": "cl el lisp", "Lua": "lua", "Nim": "nim", "Objective-C": "m mm", "OCaml": "ml mli", "Pascal": "dpr pas pp",
    "Perl": "pl pm", "PHP": "php", "PowerShell": "ps1 psm1", "Protobuf": "proto", "Python": "py pyi pyw", "R": "r",
    "Ruby": "rake rb", "Rust": "rs", "Scala": "sc scala", "Shell": "bash sh zsh", "Solidity": "sol", "SQL": "sql",
    "Svelte": "svelte", "Swift": "swift", "Tcl": "tcl", "TypeScript": "cts mts ts tsx", "Verilog": "sv v vh",
    "VHDL": "vhd vhdl", "Visual Basic": "bas vb", "Vue": "vue", "Zig": "zig",
}  # fmt: skip
ENDINGS = {ending: language for language, endings in _NAMED.items() for ending in endings.split()}


def language_of(path: str) -> str:
    """Return the language of a file by its ending, ``other`` for an unknown one.

    >>> language_of("cmd/root.go"), language_of("Makefile")
    ('Go', 'other')
    """
    _, dot, ending = path.rpartition("/")[2].rpartition(".")
    return ENDINGS.get(ending.lower(), OTHER) if dot else OTHER


class Language(NamedTuple):
    """One language of a scan.

    ``indexed`` files were read by an indexer; ``failed`` and ``skipped`` files were not. ``recorded`` names the facts
    that were recorded for the indexed files: ``symbols``, ``references``, ``imports``.
    """

    language: str
    files: int
    indexed: int
    failed: int
    skipped: int
    symbols: int
    references: int
    imports: int
    recorded: tuple[str, ...]

    def lacks(self, kind: str) -> bool:
        """Whether the language has readable files, but no facts of this kind are recorded for any of them."""
        return self.files > self.failed + self.skipped and kind not in self.recorded


class FileGroup(NamedTuple):
    """Files of a scan with the same ending, indexer (empty: none) and status; ``broken`` if they have an error."""

    ending: str
    indexer: str
    status: str
    broken: int
    files: int
    lines: int
    symbols: int
    references: int
    imports: int
    chunks: int


def coverage(groups: Iterable[FileGroup]) -> list[Language]:
    """Count the files of a scan by language, most files first; files of unknown languages are ``other``, last."""
    found: dict[str, list[int]] = {}
    recorded: dict[str, set[str]] = {}
    for group in groups:
        language = language_of(f".{group.ending}")
        sums = found.setdefault(language, [0] * 7)
        kinds = recorded.setdefault(language, set())
        read = bool(group.indexer) and group.indexer != TEXT and not group.broken
        counts = (group.symbols, group.references, group.imports)
        states: tuple[object, ...] = (True, read, group.status == "failed", group.status == "skipped")
        for n, more in enumerate((*(group.files if state else 0 for state in states), *counts)):
            sums[n] += more
        if not group.broken and group.indexer.startswith(BUILT_IN):
            kinds.update(KINDS)
        elif group.indexer.startswith(CTAGS):
            kinds.add(SYMBOLS)
        elif not group.indexer.startswith(ENTRY_POINTS):  # which are no references of the other files with that ending
            kinds.update(kind for kind, count in zip(KINDS, counts, strict=True) if count)
    rows = []
    for language, (files, indexed, failed, skipped, symbols, references, imports) in found.items():
        kinds = recorded[language]
        in_order = tuple(kind for kind in KINDS if kind in kinds)
        rows.append(Language(language, files, indexed, failed, skipped, symbols, references, imports, in_order))
    return sorted(rows, key=lambda row: (row.language == OTHER, -row.files, row.language))


class Gap(NamedTuple):
    """The reason why an empty answer proves nothing, or only a part.

    ``missing``: languages without recorded facts of this kind. ``whole``: no file in question has such facts. ``text``
    is the reason as a sentence, and empty if there is no gap.
    """

    missing: list[str]
    whole: bool
    text: str

    def after(self, message: str) -> str:
        """Return the message followed by the text of the gap."""
        return f"{message}; {self.text}" if self.text else message


def gap(languages: Sequence[Language], kind: str, *, only: str | None = None) -> Gap:
    """Return the gap in a scan's answer about ``kind``, in all languages or in one."""
    asked = [row for row in languages if only in (None, row.language)]
    # A text file has no calls, so files of unknown languages count only if they are asked about.
    lacking = [row for row in asked if row.lacks(kind) and (only is not None or row.language != OTHER)]
    parts = []
    if lacking:
        parts.append(f"no {kind} are recorded for {_listed(lacking)} ({_remedy(lacking, kind)})")
    failed, skipped = (sum(getattr(row, what) for row in languages) for what in ("failed", "skipped"))
    if failed or skipped:
        how = [f"{number:,} {what}" for number, what in ((failed, "with errors"), (skipped, "skipped")) if number]
        files = "1 file" if failed + skipped == 1 else f"{failed + skipped:,} files"
        parts.append(
            f"{files} of the scan {'was' if failed + skipped == 1 else 'were'} not read: {', '.join(how)}"
        )
    able = any(kind in row.recorded for row in asked)
    if not able and not parts:
        what = "files" if only is None else name(only) if only == OTHER else f"files of {only}"
        parts.append(f"no {kind} are recorded for {_listed(asked)}" if asked else f"it has no {what}")
    return Gap([row.language for row in lacking], not able, "; ".join(parts))


def _listed(rows: Iterable[Language]) -> str:
    return ", ".join(f"{name(row.language)} ({count(row.files)})" for row in rows)


def name(language: str) -> str:
    """Return the name of a language for a sentence."""
    return "files of unknown languages" if language == OTHER else language


def count(files: int) -> str:
    """Return ``1 file``, ``2,345 files``."""
    return "1 file" if files == 1 else f"{files:,} files"


def _remedy(rows: Iterable[Language], kind: str) -> str:
    if kind == SYMBOLS:
        return "try: scanstore scan PATH --ctags FILE"
    return "ctags records symbols only; give store.scans.record an indexer that records them"
