"""Starting a Python process in isolated mode.

The child must never run code of the current folder or of a tree that is being scanned. It starts isolated (``-I``: no
current folder, no ``PYTHON...`` variables, no user site) and without site-packages (``-S``: no ``.pth`` files, no
``sitecustomize``), so that it imports the standard library only. scanstore's own code is passed with ``-c``.

Change here: the options of every Python that scanstore starts.
"""

from __future__ import annotations

import os
import sys


def isolated(code: str, *arguments: str) -> list[str] | None:
    """Return the command that runs ``code`` in an isolated Python, with ``arguments`` in ``sys.argv[1:]``.

    Returns None if no Python can be started: in a frozen application, whose executable is the application, or if the
    absolute path of the interpreter is unknown. A relative path would be looked up in the current folder.
    """
    if getattr(sys, "frozen", False) or not os.path.isabs(sys.executable or ""):
        return None
    options = ["-I", "-S", "-W", "ignore", *(["-B"] if sys.dont_write_bytecode else [])]
    return [sys.executable, *options, "-c", code, *arguments]
