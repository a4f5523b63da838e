"""Converts the file addresses of a report to paths inside the scanned tree, or returns why this is impossible.

All untrusted paths go through this module. A returned path is relative, has slashes and no `..`, and is spelled as in
scans. The disk is read only for the spelling of the root and, on case-insensitive systems, of the files in it. Links
inside the tree are checked by the code that reads the file.

A root on Windows is a drive or a network share. It is compared case-insensitively, on every system.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from scanstore.db.paths import as_listed, composed, escape_path, ordinary, slashed, spelled, unescape_path

__all__ = ["Outside", "Places", "address"]

MOST_BASES = 40
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_ON_WINDOWS = re.compile(r"//[^/]|/[A-Za-z]:(/|\Z)")
_ROOT_NAMES = frozenset(
    {"SRCROOT", "SOURCEROOT", "SRC", "PROJECTROOT", "REPOROOT", "REPOSITORYROOT", "ROOT", "ROOTPATH"}
)


class Outside(Exception):
    """The reason why an address is not a path inside the tree."""


class _Address(NamedTuple):
    """The path of an address. An absolute path has a leading slash, or two with a host name."""

    path: str
    host: str = ""


class Places:
    """The roots of one run: ``bases`` are its `originalUriBaseIds`, ``root`` is the folder of the tree, or None.

    Absolute addresses below the root, or below the base that represents it, become relative. ``windows`` says that the
    report is read on Windows.
    """

    def __init__(
        self,
        bases: Mapping[str, object],
        root: str | os.PathLike[str] | None = None,
        *,
        windows: bool | None = None,
    ) -> None:
        self._bases = bases
        self._windows = os.name == "nt" if windows is None else windows
        self._folder = None if root is None else os.fsdecode(root)
        self._known: dict[tuple[str, str | None], str | Outside] = {}
        absolute = {name: path for name in bases if (path := self._absolute_base(name)) is not None}
        named = [name for name in absolute if name.strip("%").upper() in _ROOT_NAMES]
        self._source = named[0] if named else next(iter(absolute)) if len(absolute) == 1 else None
        self._roots = [] if self._source is None else [absolute[self._source]]
        if root is not None:
            given = os.fsdecode(root)
            if self._windows and os.name != "nt":  # a path of another system, which cannot be looked up here
                self._roots.append(_rooted(slashed(given, windows=True)))
            else:
                folder = os.path.abspath(given)
                folders = (folder, os.path.realpath(folder), spelled(folder))
                self._roots += [_rooted(slashed(each, windows=self._windows)) for each in folders]

    def path(self, uri: str, base: str | None = None) -> str:
        """Return the path inside the tree. Raises Outside."""
        key = uri, base
        found = self._known.get(key)
        if found is None:
            try:
                found = _inside(self._resolved(uri, base, ()))
                if not found:
                    raise Outside("names no file")
                found = escape_path(composed(found), windows=self._windows)
                found = found if self._folder is None else as_listed(self._folder, found)
            except Outside as reason:
                found = Outside(*reason.args)
            self._known[key] = found
        if isinstance(found, Outside):
            raise found
        return found

    def _resolved(self, uri: str, base: str | None, seen: tuple[str, ...]) -> str:
        """Return the path below the root, before its dots are resolved."""
        found = _decoded(uri, self._windows)
        if found.path.startswith("/"):
            return self._below(found)
        return found.path if base is None else posixpath.join(self._prefix(base, seen), found.path)

    def _prefix(self, base: str, seen: tuple[str, ...]) -> str:
        if base in seen:
            raise Outside(f"has the base {base!r:.80}, which is defined by itself")
        if len(seen) >= MOST_BASES:
            raise Outside(f"has the base {base!r:.80} behind more than {MOST_BASES} others")
        entry = self._bases.get(base)
        if base == self._source or not isinstance(entry, dict) or not isinstance(entry.get("uri"), str):
            return ""
        parent = entry.get("uriBaseId")
        return self._resolved(entry["uri"], parent if isinstance(parent, str) else None, (*seen, base))

    def _below(self, address: _Address) -> str:
        clean = _cleaned(address.path)
        # With four slashes after `file:`, the last two may begin a host name, or be superfluous.
        for path in (clean,) if address.host or not clean.startswith("//") else (clean, clean[1:]):
            for root in self._roots:
                same = str.casefold if _ON_WINDOWS.match(root) else str
                if same((path + "/")[: len(root)]) == same(root):
                    return path[len(root) :]
        if address.host:
            raise Outside(f"is on another machine, {address.host!r:.80}")
        raise Outside("is outside of the scanned tree")

    def _absolute_base(self, name: str) -> str | None:
        entry = self._bases[name]
        uri = entry.get("uri") if isinstance(entry, dict) else None
        if not isinstance(uri, str):
            return None
        try:
            path = _decoded(uri, self._windows).path
        except Outside:
            return None
        return _rooted(path) if path.startswith("/") else None


@lru_cache(maxsize=4096)
def address(path: str) -> str:
    """Return the relative URI of a stored path."""
    from urllib.parse import quote

    return quote(os.fsencode(unescape_path(path)), safe="/")


def _cleaned(path: str) -> str:
    """Return an absolute path without dots. Two leading slashes stay, because they begin a host name."""
    return posixpath.normpath(("//" if path.startswith("//") else "/") + path.lstrip("/"))


def _rooted(folder: str) -> str:
    clean = _cleaned(folder if folder.startswith("/") else "/" + folder)
    return clean if clean.endswith("/") else clean + "/"


def _decoded(uri: str, windows: bool) -> _Address:
    """Return the path of a URI. Raises Outside unless it is a file on this machine or on a share."""
    rest = ordinary(uri).replace("\\", "/")
    host = ""
    scheme = _SCHEME.match(rest)
    if scheme and len(scheme[1]) == 1:  # a drive
        rest = "/" + rest
    elif scheme and scheme[1].lower() == "file":
        rest = rest[5:]
        if rest.startswith("//"):
            host, slash, rest = rest[2:].partition("/")
            rest = slash + rest
            if re.fullmatch("[A-Za-z]:", host):  # some tools write file://C:/a.py
                host, rest = "", f"/{host}{rest}"
    elif scheme:
        raise Outside(f"is no file but an address of {scheme[1].lower()!r:.80}")
    elif rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        rest = slash + rest
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    if "%2f" in rest.lower():
        raise Outside("hides a slash")
    path = _unquoted(rest)
    if "\0" in path:
        raise Outside("holds a null character")
    if windows:
        path = path.replace("\\", "/")
        path = "/" + path if re.match("[A-Za-z]:", path) else path
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise Outside("is not Unicode") from None
    host = _unquoted(host)
    if host.lower() in ("", "localhost", "127.0.0.1", "::1"):
        return _Address(path)
    if "/" in host or "\\" in host or "\0" in host:
        raise Outside(f"is on another machine, {host!r:.80}")
    return _Address(f"//{host}{path}", host)


def _unquoted(text: str) -> str:
    """Decode percent-encoded bytes to a file name of the system."""
    if "%" not in text:
        return text
    return os.fsdecode(unquote_to_bytes(text.encode("utf-8", "surrogatepass")))


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
