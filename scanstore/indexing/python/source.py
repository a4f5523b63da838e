"""Python source as text: decoding, and the excerpts that are stored with a symbol or a reference."""

from __future__ import annotations

import ast
import codecs
import re

LONGEST_CHAIN = 40  # steps of one expression; longer ones occur only in generated code
LONGEST_TEXT = 240

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

#: Codecs for single words, whose time is quadratic in the length of the text. Source files do not use them.
_FOR_WORDS = frozenset(("punycode", "idna"))
_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")


def decode(content: bytes) -> str:
    """Return the decoded source text, with ``\\n`` line ends. Raises SyntaxError or UnicodeDecodeError."""
    encoding = "utf-8-sig"
    for line in content.split(b"\n", 2)[:2]:
        match = _CODING.match(line)
        if match and not content.startswith(b"\xef\xbb\xbf"):
            encoding = match[1].decode("ascii")
            break
    try:
        if codecs.lookup(encoding).name in _FOR_WORDS:
            raise LookupError(encoding)
        text = content.decode(encoding)
    except LookupError:
        raise SyntaxError(f"unknown encoding: {encoding}") from None
    except UnicodeDecodeError:
        raise
    except ValueError as error:  # a codec without a more specific error
        raise SyntaxError(f"not {encoding}: {error}") from None
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text


class Source:
    """The lines of one file, from which the text of syntax nodes is cut (their columns count UTF-8 bytes)."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        if self.lines and not self.lines[-1]:
            self.lines.pop()
        self.ascii = text.isascii()
        self.encoded: tuple[int, bytes] = (-1, b"")  # the last used line, encoded

    def cut(self, node: ast.AST | None) -> str:
        """Return the text of a node, on one line and at most :data:`LONGEST_TEXT` characters."""
        if node is None:
            return ""
        if type(node) is ast.Name:
            return node.id
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1  # type: ignore[attr-defined]
        start, end = node.col_offset, node.end_col_offset  # type: ignore[attr-defined]
        try:
            if first == last:
                line = self.lines[first]
                if not self.ascii and self.encoded[0] != first:
                    self.encoded = (first, line.encode())
                text: str = line[start:end] if self.ascii else self.encoded[1][start:end].decode()
            else:
                parts = self.lines[first : last + 1]
                parts[0], parts[-1] = parts[0].encode()[start:].decode(), parts[-1].encode()[:end].decode()
                text = " ".join(part.strip() for part in parts)
        except (IndexError, UnicodeError):
            return ""
        return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"

    def text(self, node: ast.AST) -> str:
        """Return the whole text of a node, with its lines."""
        first: int = node.lineno - 1  # type: ignore[attr-defined]
        last: int = node.end_lineno - 1  # type: ignore[attr-defined]
        start: int = node.col_offset  # type: ignore[attr-defined]
        end: int = node.end_col_offset  # type: ignore[attr-defined]
        try:
            if first == last:
                line: str = self.lines[first]
                if self.ascii:
                    return line[start:end]
                if self.encoded[0] != first:
                    self.encoded = (first, line.encode())
                return self.encoded[1][start:end].decode()
            parts = self.lines[first : last + 1]
            parts[0], parts[-1] = parts[0].encode()[start:].decode(), parts[-1].encode()[:end].decode()
            return "\n".join(parts)
        except (IndexError, UnicodeError):
            return ""

    def params(self, args: ast.arguments) -> list[dict[str, str]]:
        out: list[dict[str, str]] = []
        positional = [
            (a, "positional" if n < len(args.posonlyargs) else "")
            for n, a in enumerate([*args.posonlyargs, *args.args])
        ]
        missing = len(positional) - len(args.defaults)
        for place, (arg, kind) in enumerate(positional):
            default = args.defaults[place - missing] if place >= missing else None
            out.append(self.param(arg, kind, default))
        if args.vararg is not None:
            out.append(self.param(args.vararg, "*", None))
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            out.append(self.param(arg, "keyword", default))
        if args.kwarg is not None:
            out.append(self.param(args.kwarg, "**", None))
        return out

    def param(self, arg: ast.arg, kind: str, default: ast.expr | None) -> dict[str, str]:
        out = {"name": arg.arg}
        if kind:
            out["kind"] = kind
        if arg.annotation is not None:
            out["annotation"] = self.cut(arg.annotation)
        if default is not None:
            out["default"] = self.cut(default)
        return out


def as_written(node: ast.expr) -> str:
    """Return the text of a called expression or decorator as written, such as ``a.b().c``."""
    parts: list[str] = []
    current = node
    while len(parts) < LONGEST_CHAIN:
        if isinstance(current, ast.Attribute):
            parts.append("." + current.attr)
            current = current.value
        elif isinstance(current, ast.Name):
            parts.append(current.id)
            break
        elif isinstance(current, ast.Call):
            parts.append("()")
            current = current.func
        elif isinstance(current, ast.Subscript):
            parts.append("[]")
            current = current.value
        elif isinstance(current, ast.Await):
            current = current.value
        else:
            parts.append("''" if isinstance(current, (ast.Constant, ast.JoinedStr)) else "…")
            break
    else:
        parts.append("…")
    return "".join(reversed(parts))[-LONGEST_TEXT:]


def absolute_module(package: str, level: int, module: str | None, path: str) -> str | None:
    """Return the absolute module name of a ``from`` statement, or None if it leaves the tree.

    If it leaves the top package of the file at ``path``, the name is a place in the tree: ``/a.b``.
    """
    if level == 0:
        return module
    parts = package.split(".") if package else []
    place = ""
    if level > len(parts):
        place = "/"
        parts = path.split("/")[:-1]
        if level - 1 > len(parts):
            return None
    parts = parts[: len(parts) - (level - 1)]
    name = ".".join([*parts, module] if module else parts)
    return place + name if name else None


def is_none(node: object) -> bool:
    return type(node) is ast.Constant and node.value is None


def docstring(node: Definition) -> str | None:
    body = node.body
    if body and type(body[0]) is ast.Expr and type(body[0].value) is ast.Constant and type(body[0].value.value) is str:
        return ast.get_docstring(node)
    return None


def span(node: Definition) -> tuple[int, int]:
    """Return the first line (including decorators) and the last line of a definition."""
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return first, node.end_lineno or node.lineno


def returns_self(node: ast.FunctionDef | ast.AsyncFunctionDef, self_name: str) -> bool:
    """Whether the last statement is ``return self``, as in fluent interfaces and ``__enter__``."""
    last = node.body[-1]
    return type(last) is ast.Return and type(last.value) is ast.Name and last.value.id == self_name


def returns_type_of_self(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the first argument and the result are annotated with one type variable: ``def f(self: T) -> T``, or
    ``def f(cls: type[T]) -> T``.
    """
    if node.returns is None or not (node.args.posonlyargs or node.args.args):
        return False
    annotation = [*node.args.posonlyargs, *node.args.args][0].annotation
    if isinstance(annotation, ast.Subscript) and as_written(annotation.value).rpartition(".")[2] in ("type", "Type"):
        annotation = annotation.slice
    name = _name_of(annotation)
    return name is not None and name == _name_of(node.returns)


def _name_of(annotation: ast.expr | None) -> str | None:
    """Return the name in an annotation, quoted or not."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value if annotation.value.isidentifier() else None
    return annotation.id if isinstance(annotation, ast.Name) else None


# The fields of a node that may contain calls, last first, for each node type without its own handler below.
CHILDREN: dict[type, tuple[str, ...]] = {}


def children_of(kind: type[ast.AST]) -> tuple[str, ...]:
    """Find the fields of a node type that may contain calls, and cache them in ``CHILDREN``."""
    plain = "ctx op ops kind name attr id arg rest kwd_attrs conversion str is_async type_params".split()
    fields = () if kind is ast.MatchSingleton else tuple(f for f in reversed(kind._fields) if f not in plain)
    CHILDREN[kind] = fields
    return fields
