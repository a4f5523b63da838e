"""The groups of commands, and the handling of their errors.

Change here: the exit code of each exception, and the format of an error.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import click

from scanstore.cli.interrupts import INTERRUPTED, is_interrupt, tell_interrupted
from scanstore.cli.output import ASKED, note, note_json, plain_text
from scanstore.cli.streams import outputs


class Failure(click.ClickException):
    """One line on stderr; the command ends with 1."""

    def __init__(self, message: str) -> None:
        super().__init__(plain_text(message))


class Misuse(Failure):
    """One line on stderr; the command ends with 2."""

    exit_code = 2


class JsonFailure(click.ClickException):
    """An error of a command that was called with `--json`: one JSON object on stderr."""

    def show(self, file: object = None) -> None:
        note_json({"error": self.message, "exit_code": self.exit_code})


class JsonMisuse(JsonFailure):
    """Wrong usage of a command that was called with `--json`."""

    exit_code = 2


class Group(click.Group):
    """A group whose help lists the commands in the order of the file, not alphabetically."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class Root(Group):
    """The outermost group. It lists the commands in sections, and translates the errors of all of them."""

    sections: dict[str, tuple[str, ...]] = {}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = formatter.width - 6 - max(map(len, self.commands))
        for title, names in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(width)) for name in names])

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in outputs():
            # Characters outside the terminal's encoding are printed as escapes instead of raising an error.
            if reconfigure := getattr(stream, "reconfigure", None):
                reconfigure(errors="backslashreplace")
        try:
            return super().main(*args, **kwargs)
        except Exception as error:  # a defect: its message may quote untrusted text, so it is escaped
            import traceback

            if not kwargs.get("standalone_mode", True):
                raise
            lines = traceback.format_exc().splitlines()
            given = args[0] if args else kwargs.get("args")
            if _asks_json(sys.argv[1:] if given is None else given):
                note_json({"error": f"{type(error).__name__}: {error}", "exit_code": 1, "traceback": lines})
            else:
                for line in lines:
                    note(line)
            sys.exit(1)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        asked = _asks_json(args)
        try:
            with _json_errors(asked), _refusals(), _plain_errors():
                context = super().make_context(info_name, args, parent, **extra)
        except (KeyboardInterrupt, click.Abort) as error:
            if isinstance(error, click.Abort) and not is_interrupt(error):
                raise
            tell_interrupted(None, as_json=asked)
            raise click.exceptions.Exit(INTERRUPTED) from None
        if asked:
            context.meta[ASKED] = True
        return context

    def invoke(self, ctx: click.Context) -> object:
        with _json_errors(ASKED in ctx.meta):
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> object:
        try:
            with _refusals(), _plain_errors():
                return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort) as error:
            if isinstance(error, click.Abort) and not is_interrupt(error):
                raise
            tell_interrupted(ctx, as_json=ASKED in ctx.meta)
            ctx.exit(INTERRUPTED)
        except Exception as error:
            # Not imported before: a domain error can only come from a module that has imported it.
            errors = sys.modules.get("scanstore.errors")
            if errors is not None and isinstance(error, errors.ScanstoreError):
                raise Failure(str(error)) from error
            raise


def _asks_json(args: Iterable[str]) -> bool:
    """Return whether a command line has the option `--json`, in any position."""
    return "--json" in takewhile(lambda word: word != "--", args)


@contextmanager
def _json_errors(asked: bool) -> Iterator[None]:
    """Print an error as a JSON object if JSON was asked for: also one of a command line that cannot be parsed."""
    try:
        yield
    except click.Abort as error:
        if not asked or is_interrupt(error):
            raise
        raise JsonFailure("the question was not answered; see --help for the option that answers it") from None
    except click.ClickException as error:
        if not asked:
            raise
        kind = JsonMisuse if error.exit_code == Misuse.exit_code else JsonFailure
        raise kind(error.format_message()) from error


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn a refusal of the operating system into an error of one line, also while a help text is printed."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # the reader has closed the pipe: click ends silently
        if error.errno == errno.ENOSPC:
            raise Failure(f"nothing more can be written: {error.strerror}; free some space and try again") from None
        if error.filename is None and error.errno == errno.ENOENT and not _has_folder():
            raise Failure("the current folder was deleted; change to another one and try again") from None
        what = "the terminal or a file" if error.filename is None else os.fsdecode(error.filename)
        raise Failure(f"{what} cannot be read or written: {error.strerror or error}; check its disk") from None
    except UnicodeEncodeError as error:  # bytes of the command line that are invalid in its encoding
        raise Misuse(f"{ascii(error.object)[:80]} is not valid text; give it in UTF-8") from None


def _has_folder() -> bool:
    """Whether the current folder still exists."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Escape click's messages about arguments, because the shell may have filled in names of files."""
    try:
        yield
    except click.UsageError as error:
        if error.message.isprintable() or isinstance(error, click.exceptions.NoArgsIsHelpError):
            raise
        raise click.UsageError(plain_text(error.format_message()), error.ctx) from error
