"""The text of an empty answer: it claims absence only if the scan recorded the facts of the question.

A question of which nothing was looked at is not answered: the command ends with 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.base import Failure
from scanstore.cli.output import note

if TYPE_CHECKING:
    from scanstore.indexing.languages import Gap
    from scanstore.snapshots.models import Scan
    from scanstore.store import Store


COMMANDLINE = click.core.ParameterSource.COMMANDLINE


def narrowed() -> bool:
    """Whether an option of the command leaves rows out of its list."""
    context = click.get_current_context()
    options = (each for each in context.command.params if isinstance(each, click.Option) and each.expose_value)
    names = {str(each.name) for each in options if each.name not in ("limit", "scan", "kind")}
    return any(context.get_parameter_source(name) is COMMANDLINE for name in names)


def none(kind: str, hint: str) -> str:
    """Return the note below an empty list of this kind of rows."""
    return f"no {kind} like that" if narrowed() else f"no {kind} here; {hint}"


def gap_of(store: Store, scan: Scan, kind: str, *, path: str | None = None) -> Gap:
    """Return what of the scan, or of the language of one file, was not looked at for symbols, references or imports."""
    found = parts.languages.gap(
        store.symbols.coverage(scan=scan), kind, only=None if path is None else parts.languages.language_of(path)
    )
    if scan.revision is not None:
        return found
    # What names mean is found out when all files are there.
    text = f"scan {scan.id} is {scan.status}, and not all of its tree was recorded; scan the tree again"
    return found._replace(
        whole=found.whole or kind != parts.languages.SYMBOLS, text="; ".join(filter(None, (text, found.text)))
    )


def known_file(store: Store, scan: Scan, path: str | None) -> None:
    """Fail when nothing was found in a file because the scan does not have it."""
    models = parts.models
    if (
        path is not None
        and not models.ScanFile.select().where(models.ScanFile.scan == scan, models.ScanFile.file_path == path).exists()
    ):
        raise Failure(f"scan {scan.id} has no file {path!r}; paths are relative to {scan.root or 'its root'}")


def known_tool(store: Store, target: str, tool: str | None) -> None:
    """Fail when a tool has no findings because it has never looked in a target, or is misspelled."""
    models = parts.models
    if tool is None or tool == parts.looks.OWN:
        return
    scans = models.Scan.select(models.Scan.id).where(models.Scan.target == target)
    rows = (
        table.select(table.tool).where(table.scan.in_(scans)).distinct() for table in (models.ToolRun, models.Finding)
    )
    tools = sorted({parts.looks.OWN, *(row.tool for found in rows for row in found)})
    if tool not in tools:
        raise Failure(f"the tool {tool!r} has not run for {target}; its tools are: {', '.join(tools)}")


def reported_file(store: Store, target: str, path: str | None) -> None:
    """Fail when a file has no findings because no scan of a target has it, or it is misspelled."""
    models = parts.models
    if path is None:
        return
    scans = models.Scan.select(models.Scan.id).where(models.Scan.target == target)
    files = models.ScanFile.select().where(models.ScanFile.file_path == path, models.ScanFile.scan.in_(scans))
    seen = (
        models.Finding.select().join(models.Scan).where(models.Scan.target == target, models.Finding.file_path == path)
    )
    if not files.exists() and not seen.exists():
        raise Failure(f"no scan of {target} has a file {path!r}; paths are relative to the root of the tree")


def limits(store: Store, scan: Scan, kind: str, empty: str = "", *, path: str | None = None) -> None:
    """Note which languages and files an answer does not cover; fail when it covers none.

    `empty` is the text of an empty answer.
    """
    found = gap_of(store, scan, kind, path=path)
    if found.whole:
        raise Failure(f"this cannot be answered from scan {scan.id}: {found.text}")
    if empty:
        note(found.after(empty))
    elif found.text:
        note(f"not included: {found.text}")


def nothing_in(store: Store, scan: Scan, path: str, message: str) -> None:
    """Say that a file imports nothing; fail for a file that was not looked at."""
    models = parts.models
    row = models.ScanFile.get(models.ScanFile.scan == scan, models.ScanFile.file_path == path)
    if row.error is not None:
        raise Failure(f"{path} was not read in scan {scan.id}: {row.error}")
    limits(store, scan, "imports", message, path=path)
