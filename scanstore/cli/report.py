"""`scanstore report`: the findings, changes and decisions of a target, and the gates."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import click

from scanstore import parts
from scanstore.cli.base import (
    Misuse,
    configuration,
    find_scan,
    is_one_scan,
    open_store,
    scan_option,
    store_option,
    store_path,
)
from scanstore.cli.configuration import GATES as RULES
from scanstore.cli.destination import REPORTS, check_ending, check_file, output_argument
from scanstore.cli.output import count, note

if TYPE_CHECKING:
    from scanstore.report.document import Report

FORMATS = ("text", "json", "csv", "markdown", "html")
fail_on_option = click.option(
    "--fail-on", "rule", type=click.Choice((*RULES, "none"), case_sensitive=False), metavar="WHICH-SEVERITY",
    help="End with 1 if an open or confirmed finding is at least this severe. new-high counts findings that are new,"
    " came back or became more severe since the previous run of their tool; any-high counts all of them. Also end with"
    " 1 if a tool failed, results are missing, or no tool has run. none turns all gates off."
    " [default: the gates of the configuration]",
)  # fmt: skip


@click.command()
@output_argument
@click.option(
    "--format",
    type=click.Choice(FORMATS, case_sensitive=False),
    help="The format. [default: by the ending of FILE, else text]",
)
@click.option(
    "--baseline", metavar="ID", type=click.IntRange(min=1), help="Compare with this scan. [default: the previous one]"
)
@fail_on_option
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@scan_option
@store_option
@click.pass_context
def report(
    context: click.Context, file: str | None, format: str | None, baseline: int | None, rule: str | None,
    scan: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Report the open findings and the changes since an earlier scan.

    The report is written to FILE, or to the standard output. The ending of FILE decides the format: JSON, CSV,
    Markdown or one HTML page, else text. An ending of another known format, such as .sarif, is refused unless --format
    is given. The report has all findings of a target, each with its change since the
    previous run of its tool; --scan ID reports only findings that this scan saw.

    \b
    Example:
      scanstore report --fail-on new-high
      scanstore report findings.html
    """
    if format is None and not as_json:
        check_ending(file, f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}", REPORTS, "add --format text")
    name = "json" if as_json else format or REPORTS.get(os.path.splitext(file or "")[1].lower(), "text")
    gates = gates_of(rule)
    with open_store() as store:
        check_file(store, file)
        found = parts.gather.gather(
            store.database, find_scan(store, scan, findings=True), baseline, only=is_one_scan(scan)
        )
    pieces = parts.gather.writer(name)(found)
    if file is None:
        for piece in pieces:
            click.echo(piece, nl=False)
    else:
        with parts.atomic_files.writing(file, mode=0o666, store=os.path.realpath(store_path())) as stream:
            stream.writelines(piece.encode() for piece in pieces)
        note(f"{file}: {count(len(found.items), 'finding')} of scan {found.scan.id}")
    if file is not None or name in ("csv", "json"):
        warn(found.troubles)
    judge(context, found, gates, found.troubles)


def warn(troubles: Iterable[str]) -> None:
    """Say why findings may be missing."""
    for trouble in troubles:
        note(f"not an all-clear: {trouble}")


class FailOn(NamedTuple):
    """A rule of `--fail-on`, and the file that sets it; empty for the option itself."""

    rule: str
    file: str = ""

    @property
    def name(self) -> str:
        """The rule, with what sets it if that is not the command line."""
        return f"{self.rule} (gates of {self.file})" if self.file else self.rule


def gates_of(rule: str | None) -> list[FailOn]:
    """Return the gates to judge: that of `--fail-on`, else those of the configuration."""
    if rule is not None:
        return [] if rule.lower() == "none" else [FailOn(rule.lower())]
    set_by = configuration()
    if set_by.passed:
        raise Misuse("the gates of a configuration that is not read are unknown; give --fail-on WHICH-SEVERITY or none")
    return [FailOn(each, set_by.file or "") for each in set_by.gates]


def judge(context: click.Context, found: Report, gates: Iterable[FailOn], troubles: list[str]) -> None:
    """Name the findings that fail a gate, and end with 1 if there are any, or if some may be missing."""
    failed = [gate for gate in gates if _fails(found, gate, troubles)]
    if failed:
        context.exit(1)


def _fails(found: Report, gate: FailOn, troubles: list[str]) -> bool:
    rule = gate.name
    failing = found.failing(gate.rule)
    for item in failing[:10]:
        was = f", was {item.severity_before}" if item.worse else ""
        change = item.change.replace("_", " ")
        note(f"{item.severity}, {change}{was}: {item.title} ({item.place}, finding {item.id})")
    if failing:
        note(f"{rule}: {count(len(failing), 'finding')}")
    if troubles:
        note(f"{rule}: cannot be decided, because not everything was checked: {troubles[0]}"
             + (f" (and {len(troubles) - 1:,} more)" if len(troubles) > 1 else ""))  # fmt: skip
    return bool(failing or troubles)
