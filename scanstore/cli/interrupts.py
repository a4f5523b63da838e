"""Ctrl-C: one line about the work that was kept, and exit code 130.

A command that writes declares its sentence with `kept`. If the sentence depends on the progress of the command, it
calls `keep` with a function. Commands that only read print "Interrupted." alone.

Change here: the output of an interrupted command.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar, cast

import click

from scanstore.cli.output import FINISHED, is_finished, note, note_json

INTERRUPTED = 130
NOTHING = "nothing was changed"
_KEPT = "scanstore.cli.kept"
_Decorated = TypeVar("_Decorated", bound=Callable[..., object])


def kept(sentence: str = NOTHING) -> Callable[[_Decorated], _Decorated]:
    """Declare the sentence for an interrupt before the command has finished. By default, nothing was changed."""

    def declare(command: _Decorated) -> _Decorated:
        @functools.wraps(command)
        def declared(*args: object, **options: object) -> object:
            keep(sentence)
            return command(*args, **options)

        vars(declared)["kept"] = sentence
        return cast(_Decorated, declared)

    return declare


def keep(sentence: str | Callable[[], str]) -> None:
    """Change the sentence from now on. A function is called when the interrupt comes."""
    click.get_current_context().meta[_KEPT] = sentence


def finish() -> None:
    """Note that the work is done and only its result remains to be printed."""
    click.get_current_context().meta[FINISHED] = True


def declared(command: click.Command) -> str | None:
    """Return the sentence that a command has declared."""
    found = getattr(command.callback, "kept", None)
    return found if isinstance(found, str) else None


def tell_interrupted(context: click.Context | None, *, as_json: bool = False) -> None:
    """Print the one line of an interrupted command, or a JSON object."""
    sentence = None if context is None else context.meta.get(_KEPT)
    if callable(sentence):
        sentence = sentence()
    elif sentence and context is not None and is_finished(context):
        sentence = "the work was done, and only its result was not printed"
    text = f"Interrupted: {sentence}." if sentence else "Interrupted."
    if as_json:
        note_json({"error": text, "exit_code": INTERRUPTED})
    else:
        note(text, fresh_line=True)


def is_interrupt(error: BaseException) -> bool:
    """Return whether this error is a Ctrl-C in a prompt, which click has converted."""
    return isinstance(error, click.Abort) and isinstance(error.__cause__ or error.__context__, KeyboardInterrupt)
