"""How Windows treats files, for tests on other systems: what is open is neither replaced nor renamed nor deleted.

`layer()` makes ``os.replace``, ``os.rename``, ``os.unlink`` and ``os.remove`` (and so `shutil`, `pathlib` and
`tempfile`) refuse a file that this process has open, with the `winerror` of Windows, and shows every module of
scanstore an `os` whose name is ``nt`` and which lacks what Windows lacks. As a plugin (``-p windows_files``) it does so
for every test. What it cannot show: sharing modes, files that stay until their last handle is closed, paths.
"""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import signal
import stat
import sys
import types
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import scanstore
from scanstore.db import open_files

DESCRIPTORS = "/proc/self/fd"
MESSAGES = {
    5: "Access is denied",
    32: "The process cannot access the file because it is being used by another process",
    183: "Cannot create a file when that file already exists",
}
# What CPython's `os` and `signal` have on POSIX systems only.
POSIX_ONLY = frozenset(
    "fork forkpty getuid geteuid getgid getegid getgroups setuid setgid seteuid register_at_fork fchown chown lchown"
    " mkfifo mknod killpg getpgid setsid statvfs fstatvfs uname sched_getaffinity sched_yield pread pwrite sync"
    " fchdir initgroups openpty ttyname wait3 wait4 WNOHANG sysconf confstr getpriority nice posix_fadvise"
    " posix_spawn O_NOFOLLOW O_NONBLOCK O_DIRECTORY O_CLOEXEC O_SYNC O_DSYNC".split()
)
POSIX_SIGNALS = ("SIGKILL", "SIGHUP", "SIGSTOP", "SIGCONT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGPIPE")
POSIX_MODULES = ("fcntl", "resource", "pwd", "grp", "pty", "termios", "tty")


class Lacking(types.ModuleType):
    """A module without some of its names, and with others."""

    def __init__(self, real: types.ModuleType, missing: Collection[str], **others: object) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(_real=real, _missing=missing, **others)

    def __getattr__(self, attribute: str) -> Any:
        if attribute in self._missing:
            text = f"module {self.__name__!r} has no attribute {attribute!r}"
            raise AttributeError(text, name=attribute, obj=self)
        return getattr(self._real, attribute)


def os_of_windows() -> Lacking:
    return Lacking(os, POSIX_ONLY, name="nt")


def imported_by(folder: str) -> set[str]:
    """The names of all modules that the Python files of a folder import anywhere."""
    found: set[str] = set()
    for path in Path(folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    return found


def leave_posix(*folders: str) -> None:
    """Let this process import, from now on, no module that Windows lacks, and `os` and `signal` as they are there.

    What the files of the folders import from elsewhere is imported before: it is not what is tried.
    """
    for name in sorted(set().union(*map(imported_by, folders))):
        if not name.startswith("scanstore") and not any(Path(__file__).parents[1].rglob(f"{name}.py")):
            with suppress(ImportError):
                importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "scanstore"]:
        del sys.modules[name]
    sys.modules.update(dict.fromkeys(POSIX_MODULES))  # type: ignore[arg-type]  None makes the import fail
    sys.modules["os"] = os_of_windows()
    sys.modules["signal"] = Lacking(signal, POSIX_SIGNALS)


class Layer:
    """What was refused, as (function, path), and which files another program holds until when it is asked so often."""

    def __init__(self) -> None:
        self.refusals: list[tuple[str, str]] = []
        self.held: dict[str, int] = {}

    def hold(self, path: object, times: int = 10**9) -> None:
        """Let another program hold a file, until it was asked for so many times."""
        self.held[os.path.realpath(str(path))] = times

    def refuse(self, function: str, path: Any, code: int) -> None:
        self.refusals.append((function, os.fsdecode(path)))
        number = 17 if code == 183 else 13
        error = OSError(number, MESSAGES[code], os.fsdecode(path))
        error.winerror = code  # type: ignore[attr-defined, unused-ignore]
        raise error

    def is_open(self, path: Any, folder: int | None = None) -> bool:
        if left := self.held.get(os.path.realpath(os.fsdecode(path)), 0):
            self.held[os.path.realpath(os.fsdecode(path))] = left - 1
            return True
        try:
            there = os.stat(path, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return False
        for name in os.listdir(DESCRIPTORS):
            try:
                found = os.stat(f"{DESCRIPTORS}/{name}")
            except OSError:  # the one that lists the folder
                continue
            if (found.st_dev, found.st_ino) == (there.st_dev, there.st_ino):
                return True
        return False


def _unlinking(layer: Layer, real: Callable[..., None]) -> Callable[..., None]:
    def unlink(path: Any, *, dir_fd: int | None = None) -> None:
        if layer.is_open(path, dir_fd):
            layer.refuse("unlink", path, 32)
        try:
            mode = os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode
        except OSError:
            mode = 0
        if stat.S_ISREG(mode) and not mode & stat.S_IWUSR:  # Windows has one bit: read-only
            layer.refuse("unlink", path, 5)
        real(path, dir_fd=dir_fd)

    return unlink


def _renaming(layer: Layer, real: Callable[..., None], *, replaces: bool) -> Callable[..., None]:
    def rename(source: Any, target: Any, **more: Any) -> None:
        if layer.is_open(source):
            layer.refuse(real.__name__, source, 32)
        if os.path.lexists(target) and os.path.realpath(source) != os.path.realpath(target):
            if not replaces:
                layer.refuse(real.__name__, target, 183)
            if layer.is_open(target) or not os.access(target, os.W_OK):
                layer.refuse(real.__name__, target, 5)
        real(source, target, **more)

    return rename


@contextmanager
def layer(*, seconds: float = 0.1) -> Iterator[Layer]:
    """Windows' rules for the time of the block; a file that is held is asked for again for so many seconds."""
    for module in pkgutil.walk_packages(scanstore.__path__, "scanstore."):
        if not module.name.startswith("scanstore.migrations") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    made = Layer()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("unlink", "remove"):
            patch.setattr(os, name, _unlinking(made, getattr(os, name)))
        patch.setattr(os, "replace", _renaming(made, os.replace, replaces=True))
        patch.setattr(os, "rename", _renaming(made, os.rename, replaces=False))
        patch.setattr(open_files, "WINDOWS", True)
        patch.setattr(open_files, "SECONDS", seconds)
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == "scanstore" and vars(module).get("os") is os:
                patch.setattr(module, "os", os_of_windows())
        patch.setitem(sys.modules, "fcntl", None)
        yield made


@pytest.fixture
def windows() -> Iterator[Layer]:
    """Windows' rules for files, for one test: its own where it runs on Windows."""
    if os.name == "nt":
        yield Layer()
        return
    if not os.path.isdir(DESCRIPTORS):
        pytest.skip("finds the open files in /proc")
    with layer() as made:
        yield made


@pytest.fixture(autouse=True)
def windows_everywhere(request: pytest.FixtureRequest) -> Iterator[None]:
    """The same for every test of a run that has this module as a plugin."""
    if not request.config.pluginmanager.has_plugin("windows_files"):
        yield
        return
    with layer():
        yield
