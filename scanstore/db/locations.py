"""The path of a store that the environment or the command line names, as a path or as an SQLite URL.

``~`` and ``~user`` at the beginning mean a home folder, as in a shell. ``sqlite:///scan.db`` is a path relative to
the current folder, ``sqlite:////srv/scan.db`` an absolute one. A path that a program passes to ``Store`` is used
unchanged, without this module.

Change here: the environment variables, and what a URL may contain.
"""

from __future__ import annotations

import os
import re

from scanstore.db.files import MEMORY as MEMORY
from scanstore.errors import InvalidArgument

DEFAULT = "scanstore.db"
VARIABLES = ("SCANSTORE_DB", "DATABASE_URL")

_URL = r"[A-Za-z][A-Za-z0-9+.-]+://"  # a drive of Windows has one letter
_SQLITE = r"(?is)sqlite(?:\+\w+)?://(?:/([^?#]*)(?:\?([^#]*))?)?"
_REMEDY = {"DATABASE_URL": ", or set $SCANSTORE_DB"}


def default_path() -> str:
    """Return the default path of a store: that of $SCANSTORE_DB, else of $DATABASE_URL, else ``scanstore.db``.

    Raises InvalidArgument for a URL of another database.
    """
    found = from_environment()
    return DEFAULT if found is None else found[1]


def from_environment() -> tuple[str, str] | None:
    """Return the environment variable that names the store, and the path; None when none is set.

    Raises InvalidArgument for a URL of another database.
    """
    for variable in VARIABLES:
        if value := os.environ.get(variable):
            return variable, path_of(value, f"${variable}", url=variable == "DATABASE_URL")
    return None


def path_of(value: str, what: str, *, url: bool = False) -> str:
    """Return the path of a text: a path, which may begin with ``~``, or an SQLite URL. If ``url`` is true, the text
    must be a URL. Percent-encoded characters of a URL are decoded.

    ``what`` names the text in errors. Raises InvalidArgument for a URL of another database, a URL with a query or a
    host, a blank text, and the home folder of an unknown user.
    """
    if not value.strip():
        do = "set it to the path of a store, or unset it" if what.startswith("$") else f"write {what} {DEFAULT}"
        raise InvalidArgument(f"{what} is {value!r:.40}, which names no file; {do}")
    if not url and re.match(_URL, value) is None:
        return _expanded(value, value, what)
    found = re.fullmatch(_SQLITE, value)
    remedy = "write sqlite:///scan.db" + ("" if url else " or a path") + _REMEDY.get(what[1:], "")
    if found is None:
        raise InvalidArgument(f"{what} is {without_secrets(value)!r:.200}, which is no file of SQLite; {remedy}")
    if found[2] is not None:
        names = ", ".join(part.partition("=")[0] for part in re.split("[&;]", found[2]) if part)
        raise InvalidArgument(
            f"{what} is {without_secrets(value)!r:.200}, and parameters of a URL are not supported; leave out the"
            f" question mark and what follows it: {names:.100} (a question mark in a file's name is %3F)"
        )
    return _expanded(_decoded(found[1] or ""), found[1] or "", what) or MEMORY


def is_plain(value: str) -> bool:
    """Return whether a text is a path to be used unchanged: it is not a URL and does not begin with ``~``."""
    return not value.startswith("~") and re.match(_URL, value) is None


def without_secrets(url: str) -> str:
    """Return a URL with everything that may be a password or a key replaced by an ellipsis.

    >>> without_secrets("postgres://me:secret@host/web?sslkey=abc")
    'postgres://…@host/web?sslkey=…'
    """
    url = re.sub(r"(?s)^([\w+.-]*:(?://)?)?.*@", r"\1…@", url)
    if re.match(_URL, url) is None:  # such as "host=localhost password=secret"
        url = re.sub(r"(^|\s)(\w+\s*)=\s*[^\s;&]*", r"\1\2=…", url)
    url = re.sub(r"(//[^/?#@:]*):(?!\d+(?:[/?#]|$))[^/?#@]*", r"\1:…", url)  # not followed by a host: not a port
    return re.sub(r"([?&;#][^=&;#]*)=[^&;#]*", r"\1=…", url)


def _decoded(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote_to_bytes

    return os.fsdecode(unquote_to_bytes(os.fsencode(text)))


def _expanded(path: str, written: str, what: str) -> str:
    """Return the path with the home folder in place of ``~``, if ``written`` begins with a tilde (``%7E`` does not
    count)."""
    if not written.startswith("~") or "\0" in path:
        return path
    found = os.path.expanduser(path)
    if found.startswith("~"):
        user = re.split(r"[/\\]", path)[0]
        raise InvalidArgument(
            f"{what} is {path!r:.200}, and the home folder of {user!r:.100} is unknown; write the whole path, or"
            f" {f'./{path}'!r:.200} for a file of this name"
        )
    return found
