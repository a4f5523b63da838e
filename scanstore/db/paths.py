r"""Paths: their spellings on each system, and how they are stored, compared and opened.

One folder has many spellings: `c:\Proj`, `C:\proj` and `\\?\C:\Proj` on Windows; `~/Proj` and `~/proj`, with composed
or decomposed letters, on macOS. A stored path has a single spelling. It is valid text: a name that is not Unicode is
stored with escapes (see `escape_path`), so every caller opens a stored path through `stored_root` and `file_in`, which
undo the escapes. On macOS the letters of a stored path are composed, because both forms name the same file there. On
other systems the two forms are two files, and are left unchanged.

Functions that depend on the system take it as an argument, so that each can be tested on any machine. Change here:
what counts as the same path, and which files and folders are never opened.
"""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
import stat
import sys
from contextlib import suppress

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from typing import Literal

WINDOWS = os.name == "nt"
MACOS = sys.platform == "darwin"
#: Whether a `stat` result can reveal a junction or a cloud file, so that it is needed for folders too.
TELLING = hasattr(os.stat_result, "st_file_attributes") or hasattr(os.stat_result, "st_flags")

JUNCTION = "junction"
IN_CLOUD = "in the cloud, not on this disk"

_NAME_SURROGATE = 0x20000000  # bit of a reparse tag that marks another name for a file, such as a link
_RECALLED = 0x400000 | 0x40000 | 0x1000  # FILE_ATTRIBUTE_RECALL_ON_DATA_ACCESS, _RECALL_ON_OPEN, _OFFLINE
_RECALLED_FOLDER = 0x40000  # a folder can be listed without downloading its files, unless this flag is set
_DATALESS = 0x40000000  # SF_DATALESS of macOS
_LONGEST = 1024  # bytes of a path on macOS

# On Windows a backslash separates names, and only a lone surrogate is invalid Unicode. It is stored as its three bytes.
# A backslash is escaped only where it would otherwise be read as such bytes or as an escape.
_HALF = r"xed\\x[ab][0-9a-f]\\x[89ab][0-9a-f]"
# These patterns are texts, which `re` compiles on first use, because opening a store does not use them.
_TO_ESCAPE = {
    False: r"\\(?=x[0-9a-f]{2})|[\udc80-\udcff]",
    True: rf"\\(?=x5c|{_HALF})|[\udc80-\udcff]",
}
_ESCAPED = {
    False: r"\\x(?:[89a-f][0-9a-f]|5c(?=x[0-9a-f]{2}))",
    True: rf"\\x5c(?=x5c|{_HALF})|\\{_HALF}",
}
_BYTE = r"\\x([0-9a-f]{2})"
_EXTENDED = r"(?i)[\\/]{2}\?[\\/](?:(UNC)[\\/]|(?=[A-Z]:))"


# How a path is stored


def escape_path(name: str, *, windows: bool | None = None) -> str:
    r"""Convert a file name of the operating system to text that can be stored as UTF-8, reversibly.

    A byte that is not UTF-8 becomes `\xff`; in a name that contains such an escape, the backslash becomes `\x5c`, so
    that all names stay distinct. Everything else is unchanged.

    >>> escape_path(b"caf\xe9.py".decode("utf-8", "surrogateescape"))
    'caf\\xe9.py'
    >>> escape_path(r"C:\x86\app", windows=True)
    'C:\\x86\\app'
    """
    if not name.isascii():
        # The path of a file does not depend on the locale.
        with suppress(UnicodeEncodeError):  # no file has such a name
            name = _bytes(name, windows).decode("utf-8", "surrogateescape")
    pattern = _TO_ESCAPE[WINDOWS if windows is None else windows]
    return re.sub(pattern, lambda match: f"\\x{ord(match[0]) & 0xFF:02x}", name)


def unescape_path(path: str, *, windows: bool | None = None) -> str:
    """Return the original name of an escaped path, for `open` and similar functions.

    No other escapes are undone, so no text becomes a slash, a dot or a NUL character.
    """
    if "\\x" in path:
        pattern = _ESCAPED[WINDOWS if windows is None else windows]
        path = re.sub(pattern, lambda match: re.sub(_BYTE, lambda one: _unescaped(int(one[1], 16)), match[0]), path)
    if path.isascii():
        return path
    try:
        content = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # no file has such a name
        return path
    return content.decode("utf-8", "surrogatepass") if windows else os.fsdecode(content)


def _unescaped(byte: int) -> str:
    return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)


def _bytes(name: str, windows: bool | None) -> bytes:
    return name.encode("utf-8", "surrogatepass") if windows else os.fsencode(name)


def _normal(form: Literal["NFC", "NFD"], text: str) -> str:
    import unicodedata  # a large library, which most programs do not need

    return unicodedata.normalize(form, text)


def composed(path: str, *, macos: bool | None = None) -> str:
    """Return the form in which a name is stored and searched: on macOS with composed letters."""
    if path.isascii() or not (MACOS if macos is None else macos):
        return path
    return _normal("NFC", path)


def root_name(path: str) -> str:
    """Return the text under which a scanned folder is stored. All spellings of a folder have one text."""
    return escape_path(spelled(path))


def spelled(path: str) -> str:
    """Return the real path, with each name as its folder lists it."""
    real = os.path.realpath(path)
    if WINDOWS:  # on Windows this gives the final name
        return real
    if not MACOS:
        return _listed(real)
    # A file is not opened, because closing a database file would release all locks of this process on it.
    folder, name = (real, "") if os.path.isdir(real) else os.path.split(real)
    told = _told(folder)
    folder = _listed(folder) if told is None else told
    return name_in(folder, name) if name else folder


def _told(path: str) -> str | None:
    """Return the name of an open folder as macOS reports it, or None for another name or an error."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            content: bytes = fcntl.fcntl(handle, fcntl.F_GETPATH, bytes(_LONGEST))  # type: ignore[attr-defined,unused-ignore]
        finally:
            os.close(handle)
        found = os.fsdecode(content.partition(b"\0")[0])
        alike = _alike(os.path.basename(found)) == _alike(os.path.basename(path))
        return found if alike and os.path.samefile(found, path) else None
    except (OSError, AttributeError):
        return None


def _listed(path: str) -> str:
    names = []
    while (name := os.path.basename(path)) and path != os.path.dirname(path):
        names.append(name)
        path = os.path.dirname(path)
    for name in reversed(names):
        path = name_in(path, name)
    return path


def name_in(folder: str, name: str) -> str:
    """Return the path of a name in a folder, as the folder lists it. A link is not resolved."""
    return os.path.join(folder, _name_in(folder, name))


def _name_in(folder: str, name: str) -> str:
    """Case-sensitive folders are not listed."""
    full = os.path.join(folder, name)
    other = "".join(letter.swapcase() if letter.isascii() else letter for letter in name)
    try:
        known = os.lstat(full)
        if not (WINDOWS or MACOS):
            if other == name or not os.path.samestat(os.lstat(os.path.join(folder, other)), known):
                return name
        names = os.listdir(folder)
        if name in names:
            return name
        for each in names:
            if _alike(each) == _alike(name) and os.path.samestat(os.lstat(os.path.join(folder, each)), known):
                return each
    except OSError:
        pass
    return name


def _alike(name: str) -> str:
    return _normal("NFC", name).casefold()


def same_file(path: str, other: str) -> bool:
    """Whether two paths lead to the same file, in any spelling."""
    try:
        return path == other or os.path.samefile(path, other)
    except (OSError, ValueError):  # one of the files is missing
        return False


# Resolving stored paths


def stored_root(root: str) -> str:
    """Return the path of the stored root of a scan."""
    path = unescape_path(root)
    # A root that was stored without escapes is used unchanged.
    return root if path != root and os.path.exists(root) and not os.path.exists(path) else path


def file_in(top: str, path: str) -> str | None:
    """Return the real path of a stored path below a folder, or None if it leads out of the folder.

    For a scan of a single file, `top` is that file.
    """
    top = os.path.realpath(top)
    if os.path.isfile(top):
        return top
    name = unescape_path(path)
    full = os.path.join(top, name)
    if MACOS and not name.isascii() and not os.path.lexists(full):  # on a disk that distinguishes the two forms
        other = os.path.join(top, _normal("NFD", name))
        full = other if os.path.lexists(other) else full
    full = os.path.realpath(full)
    return full if lies_in(full, top) or (MACOS and lies_in(spelled(full), spelled(top))) else None


def as_listed(top: str, path: str) -> str:
    """Return a stored path in the spelling of the folders below `top`, if other spellings lead to the same file."""
    full = file_in(top, path) if WINDOWS or MACOS else None
    inside = below(spelled(full), spelled(top)) if full is not None and os.path.exists(full) else None
    found = path if inside is None else escape_path(composed(inside))
    return found if _alike(found) == _alike(path) else path


def lies_in(path: str, folder: str, *, windows: bool | None = None) -> bool:
    """Whether an absolute path is a folder, or below it."""
    return below(path, folder, windows=windows) is not None


def below(path: str, folder: str, *, windows: bool | None = None) -> str | None:
    """Return an absolute path relative to a folder, with slashes, or None if it is outside, such as on another
    drive.
    """
    if WINDOWS if windows is None else windows:
        path, folder = slashed(path, windows=True), slashed(folder, windows=True)
        same = ntpath.normcase
    else:
        same = posixpath.normcase
    if same(path) == same(folder):
        return ""
    start = folder if folder.endswith("/") else folder + "/"
    return path[len(start) :] if same(path[: len(start)]) == same(start) else None


def slashed(path: str, *, windows: bool | None = None) -> str:
    r"""Return a path with slashes between its names; on Windows without the prefix `\\?\`.

    >>> slashed(r"\\?\UNC\server\share\a.py", windows=True)
    '//server/share/a.py'
    """
    return ordinary(path).replace("\\", "/") if (WINDOWS if windows is None else windows) else path


def ordinary(path: str) -> str:
    r"""Return a Windows path without the prefix that lifts the limit of its length, `\\?\` or `\\?\UNC\`."""
    found = re.match(_EXTENDED, path)
    if found is None:
        return path
    return ("\\\\" if found[1] else "") + path[found.end() :]


def uri_path(file: str, *, windows: bool | None = None) -> str:
    r"""Return an absolute path as the part after `file://`.

    >>> uri_path(r"C:\Users\me\scan.db", windows=True)
    '/C:/Users/me/scan.db'
    """
    path = slashed(file, windows=windows)
    return "/" + path if (WINDOWS if windows is None else windows) and not path.startswith("/") else path


# Folders and files that are never read


def is_junction(status: os.stat_result) -> bool:
    """Whether this `lstat` result is a Windows folder that refers to another one."""
    return stat.S_ISDIR(status.st_mode) and bool(getattr(status, "st_reparse_tag", 0) & _NAME_SURROGATE)


def is_in_cloud(status: os.stat_result) -> bool:
    """Whether reading this file, or listing this folder, would download it."""
    wanted = _RECALLED_FOLDER if stat.S_ISDIR(status.st_mode) else _RECALLED
    attributes: int = getattr(status, "st_file_attributes", 0)
    flags: int = getattr(status, "st_flags", 0)
    return bool(attributes & wanted or flags & _DATALESS)


def kept_in_cloud(full: str) -> bool:
    """Whether reading the file at a path would download it. False for a missing file."""
    try:
        return TELLING and is_in_cloud(os.stat(full))
    except OSError:
        return False
