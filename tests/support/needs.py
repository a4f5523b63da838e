"""What some tests need and not every system has; such a test is skipped, and the reason names what is missing.

What a test itself asks of `os`, `signal` or a module is noticed when it does (see `lacking`). A test whose child
process needs something says so with one of the marks: ``@needs.fork``.

Change here: what counts as missing, rather than failed.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
import os
import stat
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import scanstore

PACKAGE = os.path.dirname(scanstore.__file__)
HERE = str(Path(__file__).parents[1])
STAND_IN = str(Path(__file__).with_name("windows_files.py"))  # in the place of a module that lacks something

fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
signals = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs signals that a process can catch")


class Missing:
    """Stands for what this system lacks; the test that uses it is skipped."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        pytest.skip(f"needs {self.name}")


def package(name: str, extra: str) -> None:
    """Fail a test that lacks a Python package of an extra, with the command that installs it.

    To skip it would let a run pass that has not looked.
    """
    if importlib.util.find_spec(name) is None:
        pytest.fail(f"needs {name}: python -m pip install -e '.[{extra}]'", pytrace=False)


def module(name: str) -> Any:
    """Import a module that not every system has."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return Missing(name)


def is_root() -> bool:
    """Whether this user may read and write everything."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def is_private(path: str | os.PathLike[str], mode: int = 0o600) -> bool:
    """Whether only its owner may read a file; where files have no modes, its folder decides."""
    return os.name != "posix" or stat.S_IMODE(os.stat(path).st_mode) == mode


def lacking(error: BaseException) -> str | None:
    """Return what the system lacks when a test, and not scanstore, failed for asking for it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != STAND_IN]
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        place = error.obj.__name__
        if place in ("os", "signal") and frames and frames[-1].filename.startswith(HERE):
            return f"needs {place}.{error.name}"
    if isinstance(error, ModuleNotFoundError) and error.name in ("fcntl", "grp", "pty", "pwd", "resource", "termios"):
        return f"needs {error.name}"
    if isinstance(error, ValueError) and str(error) == "cannot find context for 'fork'":
        return "needs os.fork"
    if isinstance(error, OSError) and not any(frame.filename.startswith(PACKAGE) for frame in frames):
        code = getattr(error, "winerror", None)
        if code == 1314:
            return "needs the right to make symbolic links"
        if code == 123 or error.errno == errno.EILSEQ:  # Windows and macOS
            return f"needs file names such as {ascii(error.filename)}"
    return None
