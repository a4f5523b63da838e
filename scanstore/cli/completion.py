"""`scanstore completion`: shell completion of commands, options, and the names and ids in the store.

Change here: the values of each parameter, and the place of each shell's script.
"""

from __future__ import annotations

import os
import re
import shlex
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import click

from scanstore import parts
from scanstore.cli import candidates
from scanstore.cli.base import Failure, Misuse, group, json_option
from scanstore.cli.output import plain_text, say, tell
from scanstore.db import open_files

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

NAME = "scanstore"
VARIABLE = "_SCANSTORE_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
MARK = "# Written by: scanstore completion install"

#: By the name of a parameter, or by its command and name where that means something else: the values to offer.
FINDS: dict[str, candidates.Find] = {
    "a": candidates.scans, "audit": candidates.audits, "b": candidates.scans, "baseline": candidates.scan_ids,
    "by": candidates.users, "chunk": candidates.chunks, "config_type": candidates.prompt_types,
    "draft": candidates.drafts, "field": candidates.fields, "finding": candidates.findings,
    "findings": candidates.findings, "job": candidates.jobs, "key": candidates.settings, "parent": candidates.jobs,
    "performer": candidates.named("performer"), "plan": candidates.plans, "primary_analyzer": candidates.models,
    "role": candidates.roles, "rule": candidates.rules, "scan": candidates.scans, "scan_too": candidates.scans,
    "scene": candidates.scenes, "scenes": candidates.scenes, "session": candidates.sessions,
    "studio": candidates.named("studio"), "suppressions": candidates.suppressions, "symbol": candidates.symbols,
    "tables": candidates.tables, "tag": candidates.named("tag"), "target": candidates.targets,
    "task_type": candidates.job_types, "timezone": candidates.zones, "tool": candidates.tools,
    "type": candidates.job_types, "types": candidates.job_types, "user": candidates.users,
    "version": candidates.prompt_versions,
    "jobs cancel ids": candidates.jobs, "jobs retry ids": candidates.jobs, "plans apply ids": candidates.changes,
    "plans retry ids": candidates.changes, "plans review ids": candidates.changes,
    "sarif load scan": candidates.scan_ids, "scans remove scan": candidates.scan_ids,
    "chunks list file": candidates.files, "drafts list file": candidates.files,
    "findings list file": candidates.files, "symbols find file": candidates.files,
    "symbols callees file": candidates.files, "symbols callers file": candidates.files,
    "symbols impact file": candidates.files, "symbols importers file": candidates.files,
    "symbols imports file": candidates.files, "symbols tests-of file": candidates.files,
    "models remove name": candidates.models, "models show name": candidates.models,
    "models update name": candidates.models, "schedules disable name": candidates.schedules,
    "schedules enable name": candidates.schedules, "schedules remove name": candidates.schedules,
    "symbols find name": candidates.symbols, "symbols graph root": candidates.symbols,
    "symbols rename old": candidates.symbols,
}  # fmt: skip
#: Parameters for which the shell offers files or folders.
PATHS = {
    "copy": "file", "damaged": "file", "db": "file", "file": "file", "file_too": "file", "folder": "dir", "new": "file",
    "other": "file", "backup path": "file", "sarif load root": "dir", "source_roots": "dir",
}  # fmt: skip


def attach(command: click.Command, path: str = "") -> None:
    """Attach completion values to the parameters of a command and of its subcommands."""
    for parameter in command.params:
        names = (f"{path} {parameter.name}".strip(), str(parameter.name))
        find = next((FINDS[name] for name in names if name in FINDS), None)
        kind = next((PATHS[name] for name in names if name in PATHS), None)
        if isinstance(parameter.type, click.Choice | click.Path | click.File):
            continue
        if find is not None:
            parameter.shell_complete = partial(candidates.offered, find)  # type: ignore[method-assign]
        elif kind is not None:
            parameter.shell_complete = partial(_path, kind)  # type: ignore[method-assign]
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            attach(each, f"{path} {name}".strip())


def _path(kind: str, _: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type=kind)]


# The scripts


class Script(NamedTuple):
    """The script of a shell: its path, its text, and the remaining step for the user."""

    shell: str
    path: str
    text: str
    todo: str


def script(shell: str) -> Script:
    """Return the script of a shell for this user."""
    path, todo = _place(shell)
    _register()
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise Misuse(f"there is no completion for {shell}; give {', '.join(SHELLS)}")
    root = click.get_current_context().find_root().command
    lines = kind(root, {}, NAME, VARIABLE).source().lstrip("\n").split("\n")
    lines.insert(1 if lines[0].startswith("#compdef") else 0, MARK)  # zsh looks at the first line
    return Script(shell, path, "\n".join(lines), todo)


def _place(shell: str) -> tuple[str, str]:
    """Return the path from which a shell loads completions, and the step that enables it."""
    data, config = _base("XDG_DATA_HOME", "~/.local/share"), _base("XDG_CONFIG_HOME", "~/.config")
    if shell == "bash":
        path = os.path.join(data, "bash-completion", "completions", NAME)
        line = f"source {shlex.quote(path)}"
        return path, f"open a new shell; without the package bash-completion, add to ~/.bashrc: {line}"
    if shell == "zsh":
        folder = os.path.join(data, "zsh", "site-functions")
        todo = f"add to ~/.zshrc, before the line with compinit: fpath+=({shlex.quote(folder)}); then open a new shell"
        return os.path.join(folder, f"_{NAME}"), todo
    return os.path.join(config, "fish", "completions", f"{NAME}.fish"), "open a new shell"


def _base(variable: str, default: str) -> str:
    given = os.environ.get(variable, "")
    return given if os.path.isabs(given) else os.path.expanduser(default)


def _here(path: str) -> str | None:
    """Return the script at a path, or None. Raises Failure for a file that scanstore has not written."""
    if not os.path.lexists(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError):
        text = ""
    if MARK not in text.splitlines()[:2]:
        raise Failure(f"{path} is not a script of this command, so it is left alone; move it away and try again")
    return text


def _shell(_: click.Context, __: click.Parameter, value: str | None) -> str:
    """Return the given shell, else that of `$SHELL`."""
    if value is not None:
        return value
    name = os.path.basename(os.environ.get("SHELL", ""))
    if name not in SHELLS:
        raise Misuse(f"$SHELL is {name or 'not set'}; name the shell: {', '.join(SHELLS)}")
    return name


SHELL = click.argument("shell", required=False, callback=_shell, type=click.Choice(SHELLS))


@group
def completion() -> None:
    """Complete commands, options, names and ids in your shell."""


@completion.command()
@SHELL
@json_option
def install(shell: str) -> None:
    """Install the completion for SHELL: bash, zsh or fish, by default that of $SHELL.

    The script is written to the folder in which the shell looks for it. Files that this command has not written are
    not overwritten.

    \b
    Example:
      scanstore completion install
      scanstore completion install zsh
    """
    made = script(shell)
    before = _here(made.path)
    if before != made.text:
        os.makedirs(os.path.dirname(made.path), exist_ok=True)
        with parts.atomic_files.writing(made.path, mode=0o666) as file:
            file.write(made.text.encode())
    verb = "Exists already:" if before == made.text else "Wrote" if before is None else "Updated"
    data = {"shell": shell, "path": made.path, "written": before != made.text, "todo": made.todo}
    tell(data, [plain_text(f"{verb} {made.path}"), plain_text(f"To use it, {made.todo}")])


@completion.command()
@SHELL
def show(shell: str) -> None:
    """Print the script for SHELL: bash, zsh or fish, by default that of $SHELL.

    \b
    Example:
      scanstore completion show bash
      eval "$(scanstore completion show bash)"
    """
    say(script(shell).text.rstrip("\n").split("\n"))


@completion.command()
@SHELL
@json_option
def remove(shell: str) -> None:
    """Remove the script that `install` has written for SHELL, by default that of $SHELL.

    \b
    Example:
      scanstore completion remove
    """
    path, _ = _place(shell)
    found = _here(path) is not None
    if found:
        open_files.unlink(path)
    tell({"shell": shell, "path": path, "removed": found}, f"{'Removed' if found else 'Nothing to remove at'} {path}")


# The answers for bash


def _register() -> None:
    """Register completions for bash that keep names with spaces and colons whole."""
    from click.shell_completion import BashComplete, ShellComplete, add_completion_class, split_arg_string

    class Bash(BashComplete):
        name = "bash"
        begun = ""  # the part of the current word that bash keeps, because a colon ends a word in bash

        def source(self) -> str:
            return ShellComplete.source(self)  # without a subprocess that asks for the version of bash

        def get_completion_args(self) -> tuple[list[str], str]:
            given = split_arg_string(os.environ["COMP_WORDS"])[: int(os.environ["COMP_CWORD"]) + 1]
            given += [""] * (int(os.environ["COMP_CWORD"]) + 1 - len(given))
            words = given[:1]
            for word in given[1:]:
                if set(word) == {":"} or words[-1].endswith(":"):
                    words[-1] += word
                else:
                    words.append(word)
            *args, incomplete = words
            self.begun = incomplete[: incomplete.rfind(":") + 1]
            return args[1:], incomplete

        def format_completion(self, item: CompletionItem[str]) -> str:
            # Two backslashes, since the `read` of the script takes one away.
            value = re.sub(r"([^\w@%+=:,./~-])", r"\\\\\1", item.value.removeprefix(self.begun))
            return f"{item.type},{value}"

    add_completion_class(Bash)


def prepare(command: click.Command) -> None:
    """Attach completions to the whole command line."""
    attach(command)
    if VARIABLE in os.environ:
        _register()
