"""The repository and revision of a folder, read from git's own files.

git itself is not run, because the repository may be untrusted and its settings can name programs. Change here: how a
branch or an address is read.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from scanstore.indexing.files import opened

MOST = 1 << 20  # maximum size of one of git's files in bytes
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SHORT = re.compile(r"(?:[^@/:\s]+@)?([^/:@\s]{2,}):(?!//)(\S+)")  # host:path, the short form of ssh


class Vcs(NamedTuple):
    """The origin of a scanned tree; ``repository`` is a URI."""

    repository: str
    revision: str | None = None
    branch: str | None = None


def provenance(root: str | None) -> Vcs | None:
    """Return repository, revision and branch of a folder that is the top of a checkout with a remote, or None."""
    if root is None:
        return None
    folder = os.path.join(root, ".git")
    if os.path.isfile(folder):  # a linked work tree, or a submodule
        link = _text(folder)
        if not link.startswith("gitdir:"):
            return None
        folder = os.path.join(root, link[7:].strip())
    shared = os.path.join(folder, _text(os.path.join(folder, "commondir")).strip())
    repository = _remote(_text(os.path.join(shared, "config")))
    head = _text(os.path.join(folder, "HEAD")).strip()
    if repository is None or not head:
        return None
    if not head.startswith("ref:"):
        return Vcs(repository, head if _HASH.fullmatch(head) else None)
    ref = head[4:].strip()
    revision = None
    if ref.startswith("refs/") and ".." not in ref:
        found = (_text(os.path.join(place, ref)).strip() for place in (folder, shared))
        revision = next((one for one in found if _HASH.fullmatch(one)), None)
        if revision is None:
            lines = (line.split() for line in _text(os.path.join(shared, "packed-refs"), 64 * MOST).splitlines())
            revision = next((line[0] for line in lines if len(line) == 2 and line[1] == ref), None)
    return Vcs(repository, revision, ref.removeprefix("refs/heads/"))


def _remote(config: str) -> str | None:
    """Return the address of the remote `origin`, or of the first remote, as a URI without a password."""
    remotes: dict[str, str] = {}
    section = None
    for line in config.splitlines():
        line = line.strip()
        if line.startswith("["):
            named = re.fullmatch(r'\[remote "(.*)"\]', line)
            section = named[1] if named else None
        elif section is not None:
            key, _, value = line.partition("=")
            if key.strip().lower() == "url":
                remotes.setdefault(section, value.strip())
    given = remotes.get("origin") or next(iter(remotes.values()), "")
    short = _SHORT.fullmatch(given)
    if short:
        return f"ssh://{short[1]}/{short[2].lstrip('/')}"
    if not re.match(r"(https?|ssh|git)://\S+\Z", given):
        return None
    return re.sub(r"(?<=://)[^/@]*@", "", given)


def _text(path: str, most: int = MOST) -> str:
    try:
        with os.fdopen(opened(path), "rb") as file:
            return file.read(most).decode("utf-8", "replace")
    except (OSError, ValueError):  # also for a path with a NUL, which a `.git` file may contain
        return ""
