"""Turns the addresses of files in a report into paths inside the scanned tree, or says why they are none.

This is the gate for paths that other people wrote: whatever leaves it is relative, has slashes and no `..`. Nothing
here looks at the disk but to tell the real name of the root; links inside the tree are the reader's business.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

__all__ = ["Outside", "Places", "address"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_ROOT_NAMES = frozenset(
    {"SRCROOT", "SOURCEROOT", "SRC", "PROJECTROOT", "REPOROOT", "REPOSITORYROOT", "ROOT", "ROOTPATH"}
)


class Outside(Exception):
    """The reason why an address is no path inside the tree."""


class Places:
    """The roots of one run: ``bases`` are its `originalUriBaseIds`, ``root`` is the folder of the tree, if known.

    Absolute addresses below the root, or below the base that stands for it, become relative.
    """

    def __init__(self, bases: Mapping[str, Any], root: str | os.PathLike[str] | None = None) -> None:
        self._bases = bases
        self._known: dict[tuple[str, str | None], str | Outside] = {}
        absolute = {name: path for name in bases if (path := self._absolute_base(name)) is not None}
        named = [name for name in absolute if name.strip("%").upper() in _ROOT_NAMES]
        self._source = named[0] if named else next(iter(absolute)) if len(absolute) == 1 else None
        self._roots = [] if self._source is None else [absolute[self._source]]
        if root is not None:
            folder = os.path.abspath(os.fsdecode(root))
            self._roots += [_rooted(folder), _rooted(os.path.realpath(folder))]

    def path(self, uri: str, base: str | None = None) -> str:
        """The path inside the tree; raises Outside."""
        key = uri, base
        found = self._known.get(key)
        if found is None:
            try:
                found = _inside(self._resolved(uri, base, ()))
                if not found:
                    raise Outside("names no file")
            except Outside as reason:
                found = Outside(*reason.args)
            self._known[key] = found
        if isinstance(found, Outside):
            raise found
        return found

    def _resolved(self, uri: str, base: str | None, seen: tuple[str, ...]) -> str:
        """The path below the root, its dots not yet resolved."""
        path = _decoded(uri)
        if path.startswith("/"):
            return self._below(path)
        return path if base is None else posixpath.join(self._prefix(base, seen), path)

    def _prefix(self, base: str, seen: tuple[str, ...]) -> str:
        if base in seen:
            raise Outside(f"has the base {base!r:.80}, which is defined by itself")
        entry = self._bases.get(base)
        if base == self._source or not isinstance(entry, dict) or not isinstance(entry.get("uri"), str):
            return ""
        parent = entry.get("uriBaseId")
        return self._resolved(entry["uri"], parent if isinstance(parent, str) else None, (*seen, base))

    def _below(self, path: str) -> str:
        clean = posixpath.normpath("/" + path.lstrip("/"))
        for root in self._roots:
            if (clean + "/").startswith(root):
                return clean[len(root) :]
        raise Outside("is outside of the scanned tree")

    def _absolute_base(self, name: str) -> str | None:
        entry = self._bases[name]
        uri = entry.get("uri") if isinstance(entry, dict) else None
        if not isinstance(uri, str):
            return None
        try:
            path = _decoded(uri)
        except Outside:
            return None
        return _rooted(path) if path.startswith("/") else None


@lru_cache(maxsize=4096)
def address(path: str) -> str:
    """The relative URI of a path with slashes."""
    from urllib.parse import quote

    return quote(path, safe="/")


def _rooted(folder: str) -> str:
    clean = posixpath.normpath("/" + folder.replace("\\", "/").lstrip("/"))
    return clean if clean == "/" else clean + "/"


def _decoded(uri: str) -> str:
    """The path of a URI, absolute ones with a leading slash; raises Outside for what is no file of this machine."""
    rest = uri.replace("\\", "/")
    scheme = _SCHEME.match(rest)
    if scheme and len(scheme[1]) == 1:  # a drive
        rest = "/" + rest
    elif scheme and scheme[1].lower() == "file":
        rest = rest[5:]
        if rest.startswith("//"):
            host, slash, rest = rest[2:].partition("/")
            if host.lower() not in ("", "localhost"):
                raise Outside(f"is on another machine, {host!r:.80}")
            rest = slash + rest
    elif scheme:
        raise Outside(f"is no file but an address of {scheme[1].lower()!r:.80}")
    elif rest.startswith("//"):
        raise Outside("is on another machine")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    if "%2f" in rest.lower():
        raise Outside("hides a slash")
    try:
        path = unquote(rest, errors="strict")
    except UnicodeDecodeError:
        raise Outside("is not UTF-8") from None
    if "\0" in path:
        raise Outside("holds a null character")
    return path


def _inside(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if ".." in part.split("\\"):
            if not parts or part != "..":
                raise Outside("leaves the scanned tree")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
