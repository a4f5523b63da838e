r"""Paths: how systems spell them, and how a spelling is stored, compared and opened again.

One folder has many spellings: `c:\Proj`, `C:\proj` and `\\?\C:\Proj` on Windows; `~/Proj` and `~/proj`, with composed
or decomposed letters, on macOS. A stored path has one. It is text that every database takes: a name that is not
Unicode is stored with escapes (see `escape_path`), so whatever opens a stored path goes through `stored_root` and
`file_in`, which undo them. On macOS the letters of a stored path are composed, since one name has both forms there;
elsewhere the two forms are two files, and are left alone.

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
#: Whether a `stat` result can tell a junction or a file in the cloud, so that folders are worth one.
TELLING = hasattr(os.stat_result, "st_file_attributes") or hasattr(os.stat_result, "st_flags")

JUNCTION = "junction"
IN_CLOUD = "in the cloud, not on this disk"

_NAME_SURROGATE = 0x20000000  # bit of a reparse tag: what it stands at is another name, as a link is
_RECALLED = 0x400000 | 0x40000 | 0x1000  # FILE_ATTRIBUTE_RECALL_ON_DATA_ACCESS, _RECALL_ON_OPEN, _OFFLINE
_RECALLED_FOLDER = 0x40000  # a folder is listed without its files; only this one has no listing yet
_DATALESS = 0x40000000  # SF_DATALESS of macOS
_LONGEST = 1024  # bytes of a path on macOS

# On Windows a backslash stands between names, and only half a surrogate pair is no Unicode: it is stored as its three
# bytes, and a backslash is escaped only where such bytes, or its own escape, would be read instead.
_HALF = r"xed\\x[ab][0-9a-f]\\x[89ab][0-9a-f]"
# These patterns are texts, which `re` compiles when they are first used: opening a store uses none of them.
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
    r"""Make a file name that the operating system gave storable as UTF-8, reversibly.

    A byte that is not UTF-8 becomes `\xff`; a name that spells such an escape itself has its
    backslash written as `\x5c`, so no two names become one. Everything else stays as it is.

    >>> escape_path(b"caf\xe9.py".decode("utf-8", "surrogateescape"))
    'caf\\xe9.py'
    >>> escape_path(r"C:\x86\app", windows=True)
    'C:\\x86\\app'
    """
    if not name.isascii():
        # The same file has the same path whatever the locale says of its bytes.
        with suppress(UnicodeEncodeError):  # no file is called that
            name = _bytes(name, windows).decode("utf-8", "surrogateescape")
    pattern = _TO_ESCAPE[WINDOWS if windows is None else windows]
    return re.sub(pattern, lambda match: f"\\x{ord(match[0]) & 0xFF:02x}", name)


def unescape_path(path: str, *, windows: bool | None = None) -> str:
    """Give back the name that `escape_path` was given, for `open` and its like.

    Nothing else is undone: no text becomes a slash, a dot or a NUL character.
    """
    if "\\x" in path:
        pattern = _ESCAPED[WINDOWS if windows is None else windows]
        path = re.sub(pattern, lambda match: re.sub(_BYTE, lambda one: _unescaped(int(one[1], 16)), match[0]), path)
    if path.isascii():
        return path
    try:
        content = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # nothing is called that
        return path
    return content.decode("utf-8", "surrogatepass") if windows else os.fsdecode(content)


def _unescaped(byte: int) -> str:
    return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)


def _bytes(name: str, windows: bool | None) -> bytes:
    return name.encode("utf-8", "surrogatepass") if windows else os.fsencode(name)


def _normal(form: Literal["NFC", "NFD"], text: str) -> str:
    import unicodedata  # a library of its own, which most programs do without

    return unicodedata.normalize(form, text)


def composed(path: str, *, macos: bool | None = None) -> str:
    """Return the form in which a name is stored and looked for: on macOS with composed letters."""
    if path.isascii() or not (MACOS if macos is None else macos):
        return path
    return _normal("NFC", path)


def root_name(path: str) -> str:
    """Return the text under which a folder that is scanned is stored, the same for each of its spellings."""
    return escape_path(spelled(path))


def spelled(path: str) -> str:
    """Return the real path, each name in it as its folder lists it."""
    real = os.path.realpath(path)
    if WINDOWS:  # where that is the final name
        return real
    if not MACOS:
        return _listed(real)
    # A file is not opened: to close a database would end every lock that this process has on it.
    folder, name = (real, "") if os.path.isdir(real) else os.path.split(real)
    told = _told(folder)
    folder = _listed(folder) if told is None else told
    return name_in(folder, name) if name else folder


def _told(path: str) -> str | None:
    """The name of an open folder by macOS itself; None for another name of it, and where that is refused."""
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
    """Return the path of a name in a folder, as the folder lists it; a link stays one."""
    return os.path.join(folder, _name_in(folder, name))


def _name_in(folder: str, name: str) -> str:
    """Folders that tell upper from lower case are not listed."""
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
    """Whether two paths lead to one file, however they are spelled."""
    try:
        return path == other or os.path.samefile(path, other)
    except (OSError, ValueError):  # one of them is missing
        return False


# Where a stored path leads


def stored_root(root: str) -> str:
    """Return the path that the root of a scan was stored for."""
    path = unescape_path(root)
    # A root that was stored without escapes is what it says.
    return root if path != root and os.path.exists(root) and not os.path.exists(path) else path


def file_in(top: str, path: str) -> str | None:
    """Return where a stored path lies below a folder, as the real path to open; None when it leads out of there.

    A scan of a single file has that file for its `top`.
    """
    top = os.path.realpath(top)
    if os.path.isfile(top):
        return top
    name = unescape_path(path)
    full = os.path.join(top, name)
    if MACOS and not name.isascii() and not os.path.lexists(full):  # on a disk that keeps the forms apart
        other = os.path.join(top, _normal("NFD", name))
        full = other if os.path.lexists(other) else full
    full = os.path.realpath(full)
    return full if lies_in(full, top) or (MACOS and lies_in(spelled(full), spelled(top))) else None


def as_listed(top: str, path: str) -> str:
    """Return a stored path as the folders below `top` spell it, where other spellings lead to the same file."""
    full = file_in(top, path) if WINDOWS or MACOS else None
    inside = below(spelled(full), spelled(top)) if full is not None and os.path.exists(full) else None
    found = path if inside is None else escape_path(composed(inside))
    return found if _alike(found) == _alike(path) else path


def lies_in(path: str, folder: str, *, windows: bool | None = None) -> bool:
    """Whether an absolute path is a folder, or below it."""
    return below(path, folder, windows=windows) is not None


def below(path: str, folder: str, *, windows: bool | None = None) -> str | None:
    """Return an absolute path relative to a folder, with slashes; None when it lies elsewhere, as on another drive."""
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
    r"""Return an absolute path as it follows `file://`.

    >>> uri_path(r"C:\Users\me\scan.db", windows=True)
    '/C:/Users/me/scan.db'
    """
    path = slashed(file, windows=windows)
    return "/" + path if (WINDOWS if windows is None else windows) and not path.startswith("/") else path


# What is never entered or read


def is_junction(status: os.stat_result) -> bool:
    """Whether this is, by `lstat`, a folder of Windows that stands for another one."""
    return stat.S_ISDIR(status.st_mode) and bool(getattr(status, "st_reparse_tag", 0) & _NAME_SURROGATE)


def is_in_cloud(status: os.stat_result) -> bool:
    """Whether to read this file, or to list this folder, would first download it."""
    wanted = _RECALLED_FOLDER if stat.S_ISDIR(status.st_mode) else _RECALLED
    attributes: int = getattr(status, "st_file_attributes", 0)
    flags: int = getattr(status, "st_flags", 0)
    return bool(attributes & wanted or flags & _DATALESS)


def kept_in_cloud(full: str) -> bool:
    """Whether to read the file at a path would first download it; False for one that is missing."""
    try:
        return TELLING and is_in_cloud(os.stat(full))
    except OSError:
        return False
