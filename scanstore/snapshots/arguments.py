"""The arguments that a path keeps of a call, for functions whose result has the type of an argument."""

from __future__ import annotations


def split_call(path: str) -> tuple[str, str]:
    """Return the called path and the arguments of ``path``, which ends with a call."""
    depth = 0
    for place in range(len(path) - 1, -1, -1):
        depth += (path[place] == ")") - (path[place] == "(")
        if not depth:
            return path[:place], path[place + 1 : -1]
    return path, ""


def argument_path(result: str, arguments: str) -> str | None:
    """Return the path of a result like ``$0~``, given the arguments of the call; None if the argument is unknown."""
    depth, given = 0, [""]
    for character in arguments:
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            given.append("")
        else:
            given[-1] += character
    place = int(result[1])
    return given[place] + result[2:] if place < len(given) and given[place] else None
