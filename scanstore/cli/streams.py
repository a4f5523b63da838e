"""The standard streams of a command, any of which may be missing: closed by the caller, or absent as in pythonw.

Python has None in the place of such a stream. No other module of the command line uses `sys.stdin` and its like.

Change here: what a command does without one.
"""

from __future__ import annotations

import sys
from typing import BinaryIO, TextIO

import click


class StreamClosed(click.ClickException):
    """A stream that a command needs is not there; one line, and the command ends with 2."""

    exit_code = 2


def outputs() -> list[TextIO]:
    """Return the streams that a command prints on, those that are there."""
    return [stream for stream in (sys.stdout, sys.stderr) if stream is not None]


def is_terminal(name: str) -> bool:
    """Whether `stdin`, `stdout` or `stderr` is a terminal."""
    stream: TextIO | None = getattr(sys, name)
    return stream is not None and not stream.closed and stream.isatty()


def errors() -> TextIO:
    """Return where the progress display goes, which is the terminal that `is_terminal` found."""
    return sys.stderr


def flush() -> None:
    """Flush the output printed so far."""
    if sys.stdout is not None:
        sys.stdout.flush()


def binary_input() -> BinaryIO:
    """Return the standard input as bytes. Raises Closed."""
    if sys.stdin is None:
        raise StreamClosed("the standard input is closed, so there is nothing to read; pipe something into it")
    return sys.stdin.buffer


def text_input(*, line: bool = False) -> str:
    """Return what the standard input holds as text, or its first line. Raises ClickException for any other file."""
    stream = binary_input()
    try:
        return (stream.readline() if line else stream.read()).decode()
    except UnicodeDecodeError:
        raise click.ClickException("what came in is not text in UTF-8; give it in that encoding") from None


def secret(name: str, *, piped: bool) -> str:
    """Return a password or a key: typed twice without echo, or the first line of the standard input."""
    if piped:
        return text_input(line=True).rstrip("\r\n")
    return str(click.prompt(name, hide_input=True, confirmation_prompt=True, err=True))


def binary_output() -> BinaryIO:
    """Return the standard output as bytes. Raises Closed."""
    if sys.stdout is None:
        raise StreamClosed("the standard output is closed, so nothing can be written to it; give a file")
    return sys.stdout.buffer
