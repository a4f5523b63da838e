"""Objects of the user's own modules: the handlers of `jobs work --import` and the function of `plans apply --handler`.

The current folder comes last on Python's path, so that a file in it can add a module but never replace one: the folder
may hold foreign code. Change here how MODULE:NAME is looked up.
"""

from __future__ import annotations

import importlib
import os
import sys

from scanstore.cli.base import Failure, Misuse

#: For the help of every option that takes MODULE:NAME.
WHERE = "The current folder is appended to Python's path, so installed modules of the same name come first."


def load_object(place: str, *, needs: str, give: str, default: str = "") -> object:
    """Import the object that MODULE:NAME names; without a name, the one called ``default``.

    ``needs`` and ``give`` complete the error for a place that names nothing. Any failure ends the command.
    """
    module, _, name = place.partition(":")
    name = name or default
    if not module or not name or module.startswith("."):
        raise Misuse(f"{place!r} names no {needs}; give {give}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: object = importlib.import_module(module)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise Failure(f"module {module} cannot be imported: {reason}{passed_over(module)}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            reason = f"AttributeError: module {module} has no {name}; give {give}"
            raise Failure(f"{place} cannot be imported: {reason}{passed_over(module)}")
        found = getattr(found, part)
    return found


def passed_over(module: str) -> str:
    """Say that a module of the current folder was not used because another one of that name comes first, if so."""
    top = module.partition(".")[0]
    here = os.path.realpath(os.getcwd())
    candidates = [os.path.join(here, f"{top}.py"), os.path.join(here, top)]
    mine = next((path for path in candidates if os.path.exists(path)), None)
    loaded = sys.modules.get(top)
    if mine is None or loaded is None:
        return ""
    origin = getattr(loaded, "__file__", None)
    if origin is not None and os.path.realpath(origin).startswith(mine):
        return ""
    shown = "a built-in module of Python" if origin is None else origin
    return f". {top} is {shown}, which comes before the {os.path.basename(mine)} of the current folder; rename yours"
