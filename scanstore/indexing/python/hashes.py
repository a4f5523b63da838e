"""The hash of a symbol, in two halves: one of its text, one of its code.

The text of a function or class is all of its lines with its decorators. Its code is the rest without the signature, the
docstring, comments, blank lines and common indentation. The code of a class excludes its functions, classes and
variables, which are symbols of their own. For a variable, the code is its value. A diff of two scans tells from the
halves, and from the recorded signature and docstring, which part of a symbol has changed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from hashlib import blake2b

from scanstore.indexing.python.source import Definition, Source, docstring, span

_STRING = '"""[^"\\\\]*(?:(?:\\\\.|"(?!""))[^"\\\\]*)*"""|"(?!"")[^"\\\\\\n]*(?:\\\\.[^"\\\\\\n]*)*"|""'
_TOKEN = re.compile(f"#[^\\n]*|(?P<string>{_STRING}|{_STRING.replace(chr(34), chr(39))})|(?P<odd>[\"'])", re.DOTALL)


_EXTENDED = re.compile(r"\b__all__\s*(?:\+=|\.)")  # names are added to it later
LONGEST_VALUE = 30  #: characters of a recorded value


class _Unclear(Exception):
    """Where a string ends cannot be told without a parser."""


def joined(text: str, code: str) -> int:
    """Return the hashes of a text and of its code as the halves of one signed 64-bit number."""
    first = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    second = blake2b(code.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(first + second, "big", signed=True)


def definition_hash(node: Definition, source: Source) -> int:
    """Return the hash of a function or class."""
    first, last = span(node)
    text = _dedented(source.lines[first - 1 : last])
    return joined(text, _class_code(node, source) if isinstance(node, ast.ClassDef) else _function_code(node, source))


def variable_hash(value: ast.AST | None, annotation: str, source: Source) -> int:
    """Return the hash of a variable with this value."""
    text = "" if value is None else source.text(value)
    return joined(f"{text}\0{annotation}", code_of(text.split("\n")))


def shown_value(name: str, value: ast.AST | None, source: Source) -> object:
    """Return the recorded value of a variable: a short literal, or the names of a complete ``__all__``."""
    if name == "__all__":
        extended = any("__all__" in line and _EXTENDED.search(line) for line in source.lines)
        if not isinstance(value, (ast.List, ast.Tuple)) or extended:
            return None
        names = [each.value for each in value.elts if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        return names if len(names) == len(value.elts) else None
    if name.startswith("_") or not isinstance(value, (ast.Constant, ast.UnaryOp)):
        return None
    text = source.text(value)
    return text if len(text) <= LONGEST_VALUE and "\n" not in text else None


def _function_code(node: ast.FunctionDef | ast.AsyncFunctionDef, source: Source) -> str:
    body = node.body[1:] if docstring(node) is not None else node.body
    while body and _is_nothing(body[0]):
        body = body[1:]
    if not body:
        return ""
    first = body[0]
    start = span(first)[0] if isinstance(first, Definition) else first.lineno
    lines = source.lines[start - 1 : node.end_lineno or start]
    if lines and not isinstance(first, Definition):
        before = lines[0][: first.col_offset]
        if before and not before.isspace():  # the signature or the docstring is on the same line
            lines[0] = lines[0].encode("utf-8", "surrogatepass")[first.col_offset :].decode("utf-8", "replace")
    return code_of(lines)


def _class_code(node: ast.ClassDef, source: Source) -> str:
    bound: set[str] = set()
    parts = []
    for statement in node.body[1:] if docstring(node) is not None else node.body:
        if isinstance(statement, Definition):
            bound.add(statement.name)
            continue
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        is_member = len(names) == len(targets) > 0 and not names & bound
        bound |= names
        if not is_member and not _is_nothing(statement):
            parts.append(code_of(source.text(statement).split("\n")))
    return "\n".join(parts)


def _is_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return statement.value.value is Ellipsis
    return isinstance(statement, ast.Pass)


def _dedented(lines: Sequence[str]) -> str:
    """Return the lines as a text without the indentation of the first one."""
    text = "\n".join(lines)
    first = lines[0] if lines else ""
    cut = len(first) - len(first.lstrip())
    return text[cut:].replace("\n" + first[:cut], "\n") if cut else text


def code_of(lines: Sequence[str]) -> str:
    """Return source lines without common indentation, comments, blank lines and spaces at the ends of lines.

    Strings are kept as they are. If it is unclear where a string ends, only the indentation is removed.
    """
    text = _dedented(lines)
    if "#" in text or '"""' in text or "'''" in text or "\\\n" in text:
        try:
            text = _TOKEN.sub(_token, text)
        except _Unclear:
            return text
    if " \n" in text or "\t\n" in text or "\f\n" in text or text[-1:].isspace():
        text = "\n".join([line.rstrip() for line in text.split("\n")])
    while "\n\n" in text:
        text = text.replace("\n\n", "\n")
    return text.strip("\n")


def _token(match: re.Match[str]) -> str:
    found = match[0]
    if match["odd"]:
        raise _Unclear
    if not match["string"]:
        return ""
    start = match.start()
    prefix = match.string[max(start - 2, 0) : start]
    if "{" in found and any(letter in "fFtT" for letter in prefix):
        # Since Python 3.12 the field of an f-string may contain the quote that ends it.
        fields = found.replace("{{", "").replace("}}", "")
        if fields.count("{") != fields.count("}"):
            raise _Unclear
    return found.replace("\n", "\0")  # lines of a string are no lines of code
