"""Graphs as text for other tools: DOT (Graphviz), GraphML (yEd, Gephi, networkx) and Mermaid (Markdown).

Names and paths are untrusted. Each format has one function that escapes text, and all names and paths go through it.
Invisible characters are escaped; in GraphML, which programs read, only characters that XML does not allow. To add a
format, write its function and register it in ``WRITERS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from scanstore.db.plain_text import plain_text

if TYPE_CHECKING:
    from scanstore.db.words import GraphFormat


class Node(NamedTuple):
    """A node of a graph: ``id`` is a unique number; ``kind`` is a type of symbol, or ``file``."""

    id: int
    label: str
    kind: str
    file: str
    line: int | None = None


class Link(NamedTuple):
    """An arrow between two nodes, by their ids, ``confidence`` 0 to 1; ``guessed`` links are drawn dashed."""

    source: int
    target: int
    kind: str
    confidence: float = 1.0
    guessed: bool = False


def write(form: GraphFormat, nodes: Iterable[Node], links: Iterable[Link]) -> Iterator[str]:
    """Stream a graph in one of ``FORMATS``, line by line, without line ends.

    Nodes and links are written in the given order. Consecutive nodes of one file become a cluster.
    """
    return WRITERS[form](nodes, links)


def _clusters(nodes: Iterable[Node]) -> Iterator[tuple[str | None, Iterator[Node]]]:
    """Group the nodes by file. Nodes that are files are in no group."""
    return groupby(nodes, lambda node: None if node.kind == "file" else node.file)


# DOT

_ENTITY = re.compile(r"&(?=#?\w+;)")


def _dot_text(text: str) -> str:
    """Return a quoted string. Besides quotes, Graphviz interprets backslash escapes and HTML entities."""
    inner = plain_text(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_ENTITY.sub("&amp;", inner)}"'


def _dot(nodes: Iterable[Node], links: Iterable[Link]) -> Iterator[str]:
    yield "digraph {"
    yield "  rankdir=LR;"
    yield "  node [shape=box];"
    for number, (file, members) in enumerate(_clusters(nodes), 1):
        if file is not None:
            yield f"  subgraph cluster_{number} {{"
            yield f"    label={_dot_text(file)};"
        for node in members:
            place = node.file if node.line is None else f"{node.file}:{node.line}"
            yield f"    n{node.id} [label={_dot_text(node.label)}, tooltip={_dot_text(f'{node.kind} {place}')}];"
        if file is not None:
            yield "  }"
    for link in links:
        guess = "" if not link.guessed else f' [style=dashed, label="{link.confidence:.0%}"]'
        yield f"  n{link.source} -> n{link.target}{guess};"
    yield "}"


# GraphML

_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NOT_PLAIN = re.compile("[^ -~]")
_KEYS = (
    ("label", "node", "label", "string"),
    ("kind", "node", "kind", "string"),
    ("file", "node", "file", "string"),
    ("line", "node", "line", "int"),
    ("relation", "edge", "kind", "string"),
    ("confidence", "edge", "confidence", "double"),
)


def _xml_text(text: str) -> str:
    """Return element text in ASCII, which is valid in every encoding. Line breaks and tabs are kept."""
    allowed = _NOT_IN_XML.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
    escaped = allowed.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _NOT_PLAIN.sub(lambda match: f"&#{ord(match[0])};", escaped)


def _xml_data(**values: object) -> str:
    return "".join(
        f'<data key="{key}">{_xml_text(str(value))}</data>' for key, value in values.items() if value is not None
    )


def _graphml(nodes: Iterable[Node], links: Iterable[Link]) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
    for key, owner, name, kind in _KEYS:
        yield f'  <key id="{key}" for="{owner}" attr.name="{name}" attr.type="{kind}"/>'
    yield '  <graph edgedefault="directed">'
    for node in nodes:
        data = _xml_data(label=node.label, kind=node.kind, file=node.file, line=node.line)
        yield f'    <node id="n{node.id}">{data}</node>'
    for link in links:
        data = _xml_data(relation=link.kind, confidence=link.confidence)
        yield f'    <edge source="n{link.source}" target="n{link.target}">{data}</edge>'
    yield "  </graph>"
    yield "</graphml>"


# Mermaid


def _mermaid_text(text: str) -> str:
    """Return a quoted string in which only letters, digits and path characters are unescaped.

    All other characters are written as codes, because Mermaid interprets directives, styles, Markdown and HTML inside
    quotes too.
    """
    safe = "".join(c if c.isalnum() or c in " ._-/" else f"#{ord(c)};" for c in plain_text(text))
    return f'"{safe or " "}"'  # an empty string is a syntax error


def _mermaid(nodes: Iterable[Node], links: Iterable[Link]) -> Iterator[str]:
    yield "flowchart LR"
    for number, (file, members) in enumerate(_clusters(nodes), 1):
        if file is not None:
            yield f"  subgraph f{number}[{_mermaid_text(file)}]"
        for node in members:
            yield f"    n{node.id}[{_mermaid_text(node.label)}]"
        if file is not None:
            yield "  end"
    for link in links:
        arrow = "-->" if not link.guessed else f"-.->|{_mermaid_text(f'{link.confidence:.0%}')}|"
        yield f"  n{link.source} {arrow} n{link.target}"


_Writer = Callable[[Iterable[Node], Iterable[Link]], Iterator[str]]
WRITERS: dict[GraphFormat, _Writer] = {
    "dot": _dot,
    "graphml": _graphml,
    "mermaid": _mermaid,
}
FORMATS = tuple(WRITERS)
