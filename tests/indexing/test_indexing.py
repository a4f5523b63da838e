"""The Python indexer, one file at a time: symbols, references, imports; and the cutting into chunks."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanstore.indexing.chunking import LONG_CLASS, SHORT_FILE, body_hash, hashed, partition, whole
from scanstore.indexing.facts import EXACT, EXTERNAL, RESOLUTIONS, FileFacts, interface_text, pack_words, unpack_words
from scanstore.indexing.files import index
from scanstore.indexing.python.indexer import PythonIndexer


def facts(text: str | bytes, path: str = "pkg/mod.py", module: str = "pkg.mod") -> FileFacts:
    content = text if isinstance(text, bytes) else textwrap.dedent(text).lstrip("\n").encode()
    return index(PythonIndexer(), content, path=path, module=module)


def symbols(text: str) -> list[tuple[str, str, int, int]]:
    found = facts(text)
    assert found.error is None
    return [(found.strings[q].removeprefix("pkg.mod."), kind, a, b) for _, q, kind, a, b, _, _ in found.symbols[1:]]


def metadata(text: str, name: str) -> Any:
    found = facts(text)
    (row,) = [s for s in found.symbols if found.strings[s[0]] == name]
    return json.loads(row[5]) if row[5] else None


def calls(text: str, kind: str = "call") -> list[tuple[str, str | None, str]]:
    """What is written, the symbol of this file or the path that it means, and how sure that is."""
    found = facts(text)
    out = []
    for _, _, what, written, path, ordinal, resolution, _ in found.references:
        if what == kind:
            target = found.strings[found.symbols[ordinal][1]] if ordinal is not None else None
            out.append(
                (
                    found.strings[written],
                    target or (found.strings[path] if path is not None else None),
                    RESOLUTIONS[resolution],
                )
            )
    return out


# -- symbols -------------------------------------------------------------------------------------------------


def test_every_kind_of_symbol_with_its_lines() -> None:
    text = """
        '''Doc.'''
        import os
        LIMIT: int = 3
        a, b = 1, 2

        @decorated
        class Outer(Base, metaclass=Meta):
            field = 1
            typed: str

            def method(self):
                local = 1
                def inner():
                    class Deep:
                        pass

            class Inner:
                async def run(self): ...

        async def main():
            pass

        if True:
            def conditional():
                pass
        with open('x') as handle:
            inside = 1
    """
    assert symbols(text) == [
        ("LIMIT", "variable", 3, 3),
        ("a", "variable", 4, 4),
        ("b", "variable", 4, 4),
        ("Outer", "class", 7, 18),
        ("Outer.field", "variable", 8, 8),
        ("Outer.typed", "variable", 9, 9),
        ("Outer.method", "method", 11, 15),
        ("Outer.method.<locals>.inner", "function", 13, 15),
        ("Outer.method.<locals>.inner.<locals>.Deep", "class", 14, 15),
        ("Outer.Inner", "class", 17, 18),
        ("Outer.Inner.run", "method", 18, 18),
        ("main", "function", 20, 21),
        ("conditional", "function", 24, 25),
        ("inside", "variable", 27, 27),
    ]
    module = facts(text).symbols[0]
    assert (module[2], module[3], module[4]) == ("module", 1, 27) and json.loads(str(module[5])) == {
        "docstring": "Doc."
    }


@pytest.mark.parametrize("line", ["a, b = f()", "a, *b = 1, 2", "(a, [b]) = f()"])
def test_unpacked_names_are_variables(line: str) -> None:
    assert [name for name, *_ in symbols(line + "\n")] == ["a", "b"]


def test_metadata_of_a_function() -> None:
    text = """
        @wraps(other)
        @a.b
        async def f(p, /, q: int, *args: str, k: 'Thing' = None, **kw) -> dict[str,
                int]:
            '''One.

            Two.
            '''
        def plain(): pass
    """
    assert metadata(text, "f") == {
        "params": [
            {"name": "p", "kind": "positional"},
            {"name": "q", "annotation": "int"},
            {"name": "args", "kind": "*", "annotation": "str"},
            {"name": "k", "kind": "keyword", "annotation": "'Thing'", "default": "None"},
            {"name": "kw", "kind": "**"},
        ],
        "return_type": "dict[str, int]",
        "decorators": ["wraps(other)", "a.b"],
        "docstring": "One.\n\nTwo.",
        "async": True,
    }
    assert metadata(text, "plain") == {"params": []}


def test_metadata_is_cut_by_characters_not_bytes() -> None:
    text = "def f(größe: 'Länge' = 'ß', *, ü: Ünï = 1) -> 'Maß': pass\n"
    assert metadata(text, "f") == {
        "params": [
            {"name": "größe", "annotation": "'Länge'", "default": "'ß'"},
            {"name": "ü", "kind": "keyword", "annotation": "Ünï", "default": "1"},
        ],
        "return_type": "'Maß'",
    }


def test_long_source_in_metadata_is_shortened() -> None:
    found = metadata("def f(x=" + "[" + "1, " * 500 + "]): pass\n", "f")["params"][0]["default"]
    assert len(found) < 300 and found.endswith("…")


# -- references ----------------------------------------------------------------------------------------------


def test_calls_inside_the_file_are_exact() -> None:
    text = """
        def f(): return g()
        def g(): f(); h()
        class h: pass
        def outer():
            def f(): pass
            f()
    """
    assert calls(text) == [
        ("g", "pkg.mod.g", "exact"),
        ("f", "pkg.mod.f", "exact"),
        ("h", "pkg.mod.h", "exact"),
        ("f", "pkg.mod.outer.<locals>.f", "exact"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "def f(): pass\nf = wrap(f)\nf()\n",
        "def f(): pass\ng = lambda f: f()\n",
        "def f(): pass\ng = [f() for f in things]\n",
        "def f(): pass\nfor f in things: pass\nf()\n",
        "def f(): pass\ndef g():\n    global f\n    f = 1\nf()\n",
    ],
)
def test_a_name_with_several_bindings_is_never_exact(text: str) -> None:
    assert ("f", "pkg.mod.f", "exact") not in calls(text)


def test_a_name_that_is_imported_or_defined_is_resolved_later() -> None:
    found = calls("try:\n    from m import f\nexcept ImportError:\n    def f(): pass\nf()\n")
    assert [c for c in found if c[0] == "f"] == [("f", "pkg.mod:.f", "unresolved")]


def test_a_local_name_hides_an_outer_one() -> None:
    for hiding in ("f = 1", "for f in x: pass", "with x as f: pass", "import f", "[f := 1]", "f: int"):
        found = [c for c in calls(f"def f(): pass\ndef g(x):\n    {hiding}\n    f()\n") if c[0] == "f"]
        assert ("f", "pkg.mod.f", "exact") not in found, hiding
    assert ("f", "pkg.mod.f", "exact") not in calls("def f(): pass\ndef g(f): f()\n")
    assert ("f", "pkg.mod.f", "exact") not in calls("def f(): pass\ndef g(x):\n    try: x\n    except E as f: f()\n")
    assert ("f", "pkg.mod.f", "exact") not in calls("def f(): pass\ndef g(x):\n    match x:\n        case [f]: f()\n")


def test_class_scopes_are_not_seen_from_methods() -> None:
    text = """
        def f(): pass
        class A:
            def f(self): pass
            f(1)
            def g(self):
                f()
    """
    assert calls(text) == [("f", "pkg.mod.A.f", "exact"), ("f", "pkg.mod.f", "exact")]


def test_builtins_are_external_unless_bound() -> None:
    assert calls("print(len('x'))\n") == [("print", None, "external"), ("len", None, "external")]
    assert calls("def print(): pass\nprint()\n") == [("print", "pkg.mod.print", "exact")]


def test_imports_as_written_and_as_meant() -> None:
    text = """
        import a.b, c as d
        from . import x
        from ..up import y as z
        from e.f import *
        from .... import too_far
        from __future__ import annotations
    """
    found = facts(text)
    assert [
        (line, found.strings[module], json.loads(names), None if path is None else found.strings[path])
        for line, module, names, path in found.imports
    ] == [
        (1, "a.b", [], "a.b:"),
        (1, "c", ["* as d"], "c:"),
        (2, ".", ["x"], "pkg:"),
        (3, "..up", ["y as z"], "up:"),
        (4, "e.f", ["*"], "e.f:"),
        (5, "....", ["too_far"], None),
        (6, "__future__", ["annotations"], "__future__:"),
    ]


def test_relative_imports_of_a_package_and_of_a_module() -> None:
    for path, module, meant in (
        ("p/q/__init__.py", "p.q", "p.q.x:"),
        ("p/q.py", "p.q", "p.x:"),
        ("p/q/__init__.pyi", "p.q", "p.q.x:"),
    ):
        found = facts("from .x import f\n", path, module)
        (row,) = found.imports
        assert (None if row[3] is None else found.strings[row[3]]) == meant, path


def test_facts_are_a_function_of_the_content(tmp_path: Any) -> None:
    text = "from m import *\nclass A(B, C):\n    def f(self): return self.g(x.y(z))\n" * 20
    assert facts(text) == facts(text)
    assert facts(text) == facts(text.replace("\n", "\r\n").encode())
    assert facts(text) == facts(b"\xef\xbb\xbf" + text.encode())


def test_rows_point_at_what_is_there() -> None:
    with open(__file__, "rb") as file:
        found = facts(file.read())
    count, known = len(found.strings), len(found.symbols)
    for name, qualified, _, start, end, _, _ in found.symbols:
        assert 0 <= name < count and 0 <= qualified < count and 1 <= start <= end <= found.line_count
    for line, origin, kind, written, path, ordinal, resolution, confidence in found.references:
        assert kind in ("call", "import", "inherit", "use") and 1 <= line <= found.line_count and 0 <= written < count
        assert origin is not None and 0 <= origin < known and (ordinal is None or 0 <= ordinal < known)
        assert path is None or (0 <= path < count and ordinal is None)
        assert 0 <= confidence <= 100 and (ordinal is None or resolution >= 2)
        assert resolution != EXACT or ordinal is not None
        assert resolution != EXTERNAL or ordinal is None
    assert isinstance(json.loads(interface_text(found.interface or b""))["names"], dict)


def test_words_survive_packing() -> None:
    assert unpack_words(pack_words({"b", "a", "größe"})) == ["a", "b", "größe"]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_facts(content: bytes) -> None:
    found = facts(content)
    assert found.chunks and (found.error is None) == bool(found.symbols)


LINES = st.sampled_from(
    [
        "def f(a: A, *b, **c) -> B:",
        "class A(B, f(), C[int]):",
        "async def g():",
        "    x.y()[0].z(lambda q: q())",
        "    def m(self): return self.n()",
        "  pass",
        "x = y = z()",
        "for i in f(): i()",
        "with a() as b, c() as (d, e): b()",
        "@d.e(f)",
        "@g",
        "import a.b as c, d",
        "from . import *",
        "from ..a.b import c as d",
        "try:",
        "except E as e: e()",
        "    global x",
        "    nonlocal x",
        "match x:",
        "    case A(b=c) | {**d}: c()",
        "del x",
        "x: 'List[A]' = []",
        "(yield)",
        "    return await x()",
        "a[b()] += c()",
        "f'{a()!r:{b()}}'",
        "[a() for a in b() if c()]",
        "if (n := f()): n()",
        "else:",
        "finally:",
        "    super().__init__()",
        "    @property",
        "'doc'",
        "global x",
        "nonlocal y",
        "return",
        "lambda: (yield)",
        "*a, b = c()",
        "",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(LINES, max_size=12))
def test_whatever_parses_is_indexed(lines: list[str]) -> None:
    """Nothing but a syntax error keeps a file from being read."""
    found = facts("\n".join(lines).encode())
    assert found.error is None or found.error.startswith("syntax error"), found.error


# -- chunks --------------------------------------------------------------------------------------------------


def test_chunks_of_a_file() -> None:
    body = "\n".join(
        ["def one():", *["    x = 1"] * 30, "", "# about two", "@decorated", "class Two:", *["    y = 1"] * 20, "z = 3"]
    )
    found = facts("import os\n\n" + body)
    named = [(kind, None if name is None else found.strings[name], a, b) for kind, name, a, b, _ in found.chunks]
    assert named == [("function", "one", 1, 33), ("class", "Two", 34, 58)]
    (only,) = facts("def one(): pass\n").chunks
    assert only[:4] == ("full_file", None, 1, 1)


def test_a_long_class_is_cut_by_its_methods() -> None:
    lines = ["class Long:"]
    for n in range(50):
        lines += [f"    def m{n}(self):", *["        pass"] * 9]
    found = facts("\n".join(lines) + "\n")
    named = [(kind, found.strings[name or 0], a, b) for kind, name, a, b, _ in found.chunks]
    assert [n for _, n, _, _ in named] == [f"Long.m{n}" for n in range(50)]
    assert named[0] == ("function", "Long.m0", 1, 11) and named[-1][3] == 501


def test_a_chunk_s_hash_depends_on_its_own_lines_only() -> None:
    text = "".join(f"def f{n}():\n    return {n}\n\n\n" for n in range(30))
    before = {c[0:1] + (n,): c[4] for n, c in enumerate(facts(text).chunks)}
    after = {c[0:1] + (n,): c[4] for n, c in enumerate(facts(text.replace("return 7\n", "return 70\n")).chunks)}
    assert [key[1] for key in before if before[key] != after[key]] == [7]
    shifted = facts("def new():\n    pass\n\n\n" + text).chunks
    assert [c[4] for c in shifted[2:]] == [c[4] for c in facts(text).chunks[1:]]


@given(st.data())
def test_chunks_partition_the_lines(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 200))
    edges = sorted(data.draw(st.lists(st.integers(1, max(count, 1)), max_size=20)))
    spans = [("function", f"f{n}", a, b) for n, (a, b) in enumerate(zip(edges[::2], edges[1::2], strict=False))]
    found = partition(spans, count)
    assert found[0][2] == 1 and found[-1][3] == max(count, 1)
    for (_, _, first, last), (_, _, following, _) in zip(found, found[1:], strict=False):
        assert first <= last and following == last + 1
    if count <= SHORT_FILE or not spans:
        assert [f[0] for f in found] == ["full_file"]
    lines = [str(n) for n in range(count)]
    assert "\n".join(lines) == "\n".join("\n".join(lines[a - 1 : b]) for _, _, a, b in found)
    assert len(hashed(found, lines)) == len(found)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "def f():\n    pass\n",
                "@d\n@e(\n  1)\nasync def g():\n\n    return 1\n",
                "class A:\n" + "    x = 1\n" * 3,
                "x = 1\n",
                "\n",
                "# c\n",
                "def a(): pass; b = 1\n",
                "class B: pass\n",
                "if x:\n    def h():\n        pass\n",
                "def k(): pass\ndef k(): pass\n",
                "'''\ndef no():\n'''\n",
                "class Long:\n" + "".join(f"    def m{n}(self):\n        pass\n" for n in range(LONG_CLASS // 2 + 5)),
                "\x0c\n",
                "x = (\n1,\n\n2)\n",
            ]
        ),
        max_size=25,
    ),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_chunks_of_real_files_partition_their_lines(parts: list[str], end: str) -> None:
    text = "".join(parts)
    found = facts(text.replace("\n", end).encode())
    assert found.error is None and found.line_count == text.count("\n")
    assert found.chunks[0][2] == 1 and found.chunks[-1][3] == max(found.line_count, 1)
    for (_, _, first, last, _), (_, _, following, _, _) in zip(found.chunks, found.chunks[1:], strict=False):
        assert first <= last and following == last + 1


@given(st.binary(max_size=400))
def test_a_file_that_is_not_cut_is_one_chunk(content: bytes) -> None:
    count, (kind, name, first, last, _) = whole(content)
    assert (kind, name, first, last) == ("full_file", None, 1, max(count, 1))
    assert count == len(content.split(b"\n")) - (not content or content.endswith(b"\n"))


def test_a_body_s_hash_survives_indentation() -> None:
    lines = ["def f():", "    return 1", "", "    # end"]
    assert body_hash(lines) == body_hash(["    " + line if line else line for line in lines])
    assert body_hash(lines) != body_hash([*lines[:1], "    return 2", *lines[2:]])
    assert body_hash([]) == body_hash([""]) and -(2**63) <= body_hash(lines) < 2**63


def test_every_kind_of_statement_is_walked() -> None:
    """Patterns with keywords, star patterns, mappings; global, nonlocal, del, assert, async everything."""
    text = """
        import asyncio
        async def f(x, *a, k=1, **kw):
            global g; g = 1
            async with x as y, y: pass
            async for i in x: await i()
            match x:
                case int(real=1, imag=0) | str(): h()
                case {"k": [1, *rest], **others} if h(): pass
                case None | True: pass
                case (1 | 2) as n: pass
            try: raise ValueError from None
            except* TypeError as e: h()
            assert h(), f"{h()!r:>{n}}"
            del x[0], x.y
            return [j async for j in x if h()], {**kw}, (yield_ := 1), lambda: (yield)
        def h():
            n = 0
            def inner():
                nonlocal n
                n += 1
            while n: break
            else: inner()
        class C(metaclass=type, key=h()): ...
    """
    found = calls(text)
    assert [name for name, *_ in found].count("h") == 7
    assert ("inner", "pkg.mod.h.<locals>.inner", "exact") in found


# -- errors of our own -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["global", "nonlocal"])
def test_names_declared_elsewhere_in_a_class(word: str) -> None:
    text = f"def outer():\n    y = 0\n    class C:\n        {word} y\n        y = 1\n        z = 2\n"
    found = [name for name, *_ in symbols(text)]
    assert found == ["outer", "outer.<locals>.C", *(["y"] if word == "global" else []), "outer.<locals>.C.z"]


def test_what_a_class_declares_global_belongs_to_the_module() -> None:
    text = """
        class C:
            global y, f, D
            y = 1
            def f(self):
                return self
            class D: pass
        y; f(); D()
    """
    assert [(name, kind) for name, kind, *_ in symbols(text)] == [
        ("C", "class"), ("y", "variable"), ("f", "function"), ("D", "class"),
    ]  # fmt: skip
    assert calls(text) == [("f", "pkg.mod.f", "exact"), ("D", "pkg.mod.D", "exact")]


DEEP = 400


@pytest.mark.parametrize(
    "text",
    [
        "def f(a: Coroutine[()], b: tuple[()], c: Union[()]) -> Optional[()]: pass",
        "class C:\n    nonlocal gone\n    gone = 1\n",
        "x = " + "a if b else " * DEEP + "c\nx()",
        "def f():\n" + "".join(f" a{n} = {'x if y else ' * 60}a{n + 1}\n" for n in range(60)) + " a0()",
        "def f():\n"
        + "".join(f" a{n}: {'list[' * 60}'{'list[' * 30}a{n + 1}{']' * 30}'{']' * 60}\n" for n in range(60))
        + " a0()",
        "x = " + "super(" * 90 + "a" + ")" * 90 + ".b()",
    ],
)
def test_odd_and_deep_code_is_indexed(text: str) -> None:
    assert facts(text).error is None


@pytest.mark.parametrize(
    "content",
    [
        b"# coding: punycode\nx=1",
        b"# coding: undefined\nx",
        b"x = 1\0",
        b"# coding: utf-7\nx = '+2AA-'",
        b"# coding: hex\nx",
    ],
)
def test_what_is_wrong_with_the_file_is_no_error_of_the_indexer(content: bytes) -> None:
    error = facts(content).error
    assert error is None or error.startswith(("syntax error", "not "))


class Failing:
    name, endings = "failing/1", (".x",)

    def __init__(self, fail: Any) -> None:
        self.fail = fail

    def index(self, content: bytes, *, path: str, module: str) -> FileFacts:
        return self.fail()  # type: ignore[no-any-return]


def test_an_error_of_the_indexer_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from scanstore.indexing.python import indexer

    def broken(self: Any) -> FileFacts:
        return {}["y"]  # type: ignore[no-any-return, index]

    def unreadable() -> None:
        json.loads("{")

    monkeypatch.setattr(indexer._Reader, "facts", broken)
    error = str(facts("x = 1\n").error)
    assert error.startswith("indexer error: KeyError: 'y' (scanstore.indexing.python.indexer, line ")
    assert facts("x = (\n").error == "syntax error: '(' was never closed (line 1)"
    found = index(Failing(unreadable), b"x\n", path="a.x", module="")
    assert str(found.error).startswith("indexer error: JSONDecodeError: ") and f"({__name__}, line " in str(found.error)
    assert len(found.chunks) == 1
    assert "returned NoneType" in str(index(Failing(lambda: None), b"x\n", path="a.x", module="").error)


NAMES = st.sampled_from(["a", "b", "self", "__all__", "T"])
EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b", "1", "'s'", "None", "...", "super()", "T"]),
    lambda e: st.one_of(
        st.builds("({0} if {1} else {0})".format, e, e),
        st.builds("{0}.a({1}, *{0}, k={1})".format, e, e),
        st.builds("[{0} for {2} in {1} if {0}]".format, e, e, NAMES),
        st.builds("(lambda {1}, *c: {0})".format, e, NAMES),
        st.builds("({1} := {0})".format, e, NAMES),
        st.builds("{0}[{1}, ()]".format, e, e),
        st.builds("(await {0})".format, e),
    ),
    max_leaves=4,
)


def _indented(text: str) -> str:
    return textwrap.indent(text, " ")


STATEMENTS = st.recursive(
    st.one_of(
        st.builds("global {}".format, NAMES),
        st.builds("nonlocal {}".format, NAMES),
        st.builds("del {}, {}.a".format, NAMES, NAMES),
        st.builds("{} = {} = {}".format, NAMES, NAMES, EXPRESSIONS),
        st.builds("({}, [b.c, *{}]) = {}".format, NAMES, NAMES, EXPRESSIONS),
        st.builds("{}: {} = {}".format, NAMES, EXPRESSIONS, EXPRESSIONS),
        st.builds("{} += {}".format, NAMES, EXPRESSIONS),
        st.builds("from {} import {}".format, st.sampled_from([".", "...", "a.b"]), st.sampled_from(["*", "a as b"])),
        EXPRESSIONS,
    ),
    lambda s: st.one_of(
        st.builds("{}\n{}".format, s, s),
        st.builds("@{}\nclass {}({}):\n{}".format, EXPRESSIONS, NAMES, EXPRESSIONS, s.map(_indented)),
        st.builds("def {}(self, a: {} = 1, /, *b) -> {}:\n{}".format, NAMES, EXPRESSIONS, EXPRESSIONS,
                  s.map(_indented)),
        st.builds("async def {}(*, b=1, **c):\n{}".format, NAMES, s.map(_indented)),
        st.builds("async with {} as {}:\n{}".format, EXPRESSIONS, NAMES, s.map(_indented)),
        st.builds("for {} in {}:\n{}".format, NAMES, EXPRESSIONS, s.map(_indented)),
        st.builds("try:\n{0}\nexcept* {1} as {2}:\n{0}".format, s.map(_indented), EXPRESSIONS, NAMES),
        st.builds("match {0}:\n case [a, *{1}] | {{'k': b, **{1}}} | C(x={1}):\n{2}".format, EXPRESSIONS, NAMES,
                  s.map(lambda text: textwrap.indent(text, "  "))),
    ),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.no_cover
@settings(max_examples=150)
@given(STATEMENTS)
def test_no_program_trips_the_indexer(text: str) -> None:
    error = facts(text.encode()).error
    assert error is None or error.startswith(("syntax error", "nested", "too large")), text
