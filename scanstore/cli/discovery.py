"""The folders in which a command looks for a store and a configuration file: the current one and those above it.

The search ends below the home folder, and at the root of the file system that the current folder is on. The home folder
itself is looked at only when it is the current folder, and then alone. So a store or a configuration in the home folder
never applies to everything below it. A current folder outside the home folder is searched up to the root of its file
system.

A file of another owner is skipped. A file in another owner's folder above the current one is skipped too, because
that owner could have put it there. A symbolic link belongs to its own owner and to the owner of its target; both must
be the user. Windows has no such owners, so nothing is skipped there.

Change here: the folders, and the rules for files of other users.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple


class Candidate(NamedTuple):
    """A regular file that was found: its absolute path, whether it is above the current folder, and the reason not to
    use it. The reason is empty if the file may be used.
    """

    path: str
    above: bool
    stranger: str = ""


def folders() -> list[str]:
    """Return the folders to search, the nearest first. The list is empty when the current folder was deleted."""
    try:
        folder, here = os.getcwd(), os.stat(os.curdir)
    except OSError:
        return []
    home = _status(os.path.expanduser("~"))
    found = [folder]
    if home is not None and os.path.samestat(here, home):
        return found
    while (above := os.path.dirname(folder)) != folder:
        status = _status(above)
        if status is None or status.st_dev != here.st_dev or (home is not None and os.path.samestat(status, home)):
            break
        found.append(above)
        folder = above
    return found


def files(*names: str, broken: str = "") -> Iterator[Candidate]:
    """Yield the regular files of these names, the nearest folder first, and in one folder in the order of the names.

    A symbolic link of the name ``broken`` is yielded too if it leads nowhere.
    """
    for number, folder in enumerate(folders()):
        for name in names:
            path = os.path.join(folder, name)
            # The path of a file in the current folder may lead through folders that cannot be searched.
            near = name if number == 0 else path
            status = _status(near)
            if stat.S_ISREG(status.st_mode) if status is not None else name == broken and os.path.islink(near):
                yield Candidate(path, number > 0, stranger(near, folder if number else None))


def stranger(path: str, folder: str | None = None) -> str:
    """Return the reason why a file, or its folder, counts as another user's. Empty for the user's own files, and on
    Windows."""
    user = os.geteuid() if hasattr(os, "geteuid") else None
    if user is None:
        return ""
    try:
        owners = [os.lstat(path).st_uid]
        if (status := _status(path)) is not None:  # a link may lead nowhere
            owners.append(status.st_uid)
        outer = None if folder is None else os.stat(folder).st_uid
    except (OSError, ValueError):
        return ""  # removed meanwhile
    for owner in owners:
        if owner != user:
            return f"it belongs to {_named(owner)}, not to you"
    return "" if outer in (None, user) else f"its folder belongs to {_named(outer)}, not to you"


def _named(owner: int | None) -> str:
    return "root" if owner == 0 else f"user {owner}"


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None
