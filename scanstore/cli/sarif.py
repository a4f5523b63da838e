"""`scanstore sarif`: load reports of other tools, and write reports for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.base import (
    Failure,
    basic_options,
    configuration,
    find_scan,
    group,
    is_one_scan,
    open_store,
    scan_option,
)
from scanstore.cli.destination import check_ending, check_file, output_argument
from scanstore.cli.interrupts import finish, keep, kept
from scanstore.cli.output import count, json_stream, note, plain_text, shortened, spoken, tell, wants_json
from scanstore.cli.progress import progress
from scanstore.cli.report import fail_on_option, gates_of, judge, warn
from scanstore.cli.streams import binary_input, flush, is_terminal
from scanstore.db.paths import root_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scanstore.db.words import FindingState
    from scanstore.sarif.exporting import Dumped
    from scanstore.sarif.sarif import ImportResult

COUNTED = ("new", "unchanged", "updated", "reopened", "fixed")
STATES = (*COUNTED, "not_checked")


@group
def sarif() -> None:
    """Load and write reports in SARIF."""


@sarif.command()
@click.argument("file", metavar="FILE")
@click.option("--target", metavar="TARGET", help="The target of the report: a path, or the name of a repository.")
@click.option("--root", metavar="DIR", help="The scanned folder; its lines help to recognise findings.")
@click.option(
    "--scan", type=click.IntRange(min=1), metavar="ID",
    help="Add the results to this scan instead of a new one.",
)  # fmt: skip
@click.option(
    "--scope", multiple=True, metavar="PATTERN",
    help="The tool scanned only files that match PATTERN; repeatable.",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="Refuse the report of a failed tool, and a report with unusable parts.")
@fail_on_option
@basic_options
@click.pass_context
@kept("nothing was loaded")
def load(
    context: click.Context, file: str, target: str | None, root: str | None, scan: int | None, scope: tuple[str, ...],
    strict: bool, rule: str | None,
) -> None:  # fmt: skip
    """Load a SARIF 2.1.0 report; count new, fixed, reopened findings. FILE may be - for the standard input.

    Creates the store if it is missing. Loading the latest report again only records that its tool ran. The report of
    a failed tool marks no finding as fixed, and --fail-on ends with 1. Severities of the configuration replace those
    of the report.

    \b
    Example:
      scanstore sarif load bandit.sarif --target . --root .
      semgrep --sarif src/ | scanstore sarif load - --target . --scope src/ --fail-on new-high
    """
    if target is None and scan is None:
        raise click.UsageError("give the target of the report: --target TARGET, or --scan ID")
    gates, severities = gates_of(rule), configuration().severities
    if file != "-" and not os.path.exists(file):  # before a store is created
        raise Failure(f"{file} cannot be read: there is no such file; give the path of a report")
    with open_store(create=True) as store:
        name = root_name(target) if target is not None and os.path.isdir(target) else target
        source = binary_input() if file == "-" else file
        with progress(f"Loading {spoken(file)}", "results") as display:
            found = store.sarif.load(
                source, target=name, root=root, scan=scan, scope=scope or None, severities=severities or None,
                strict=strict, progress=display,
            )  # fmt: skip
        finish()
        tell(found, _lines(found))
        if gates:
            # A report that comes again is not the latest scan when another tool has looked since.
            latest = found.again and scan is None
            about = parts.gather.gather(store.database, None if latest else found.scan, target=name if latest else None)
            judge(context, about, gates, found.troubles)


@sarif.command()
@output_argument
@scan_option
@click.option(
    "--only", multiple=True, type=click.Choice(STATES, case_sensitive=False),
    help="Only findings in this state; repeatable.",
)
@click.option("--github", is_flag=True, help="Keep within GitHub's limits, and report omissions.")
@basic_options
@kept("no file was written")
def dump(file: str | None, scan: str | None, only: tuple[FindingState, ...], github: bool) -> None:
    """Write the findings of a target or a scan as SARIF 2.1.0.

    The report is written to FILE, or to the standard output. It has the findings of all tools for the target of the
    current folder. --scan names another target, or a single scan by its id. --json prints the counts of written and
    omitted results; the report needs a FILE then.

    \b
    Example:
      scanstore sarif dump findings.sarif
      scanstore sarif dump upload.sarif --only new --only reopened --github
    """
    if wants_json() and file is None:
        raise click.UsageError("--json needs a file for the report: give FILE")
    check_ending(file, "SARIF", (".sarif", ".sarif.json", ".json"), "write to the standard output")
    if file is None:
        keep("the output is not complete")
    with open_store() as store:
        check_file(store, file)
        where = find_scan(store, scan, findings=True)
        flush()
        wanted = only or None
        stream = json_stream() if file is None else file
        alone = file is not None or not is_terminal("stdout")
        shown = progress(f"Writing {spoken(file or '-', 'output')}", "results", alone=alone)
        if is_one_scan(scan):
            with shown as display:
                told = store.sarif.dump(where, stream, only=wanted, github=github, progress=display)
            troubles = store.findings.troubles(scan=where)
        else:
            with shown as display:
                told = store.sarif.dump(
                    None, stream, target=where.target, only=wanted, github=github, progress=display
                )
            troubles = store.findings.troubles(where.target)
    warn(troubles)
    tell(told, ())
    if not wants_json():
        _note_left(told, file)


def _lines(found: ImportResult) -> Iterator[str]:
    for line in shortened((f"{problem.path} {problem.reason}" for problem in found.problems), "problem"):
        note(line)
    if found.again:
        note(f"this report was loaded before, as scan {found.scan}; only the time of the last run was updated")
    else:
        parts = [f"{getattr(found, state):,} {state}" for state in COUNTED if getattr(found, state)]
        if found.not_checked:
            parts.append(f"{found.not_checked:,} not checked")
        if found.skipped:
            parts.append(f"{count(found.skipped, 'result')} left out")
        told = f"scan {found.scan}: {count(found.results, 'result')} in {count(found.runs, 'run')}"
        yield plain_text(f"{told}{': ' if parts else ''}{', '.join(parts)}")
    warn(found.troubles)


def _note_left(told: Dumped, file: str | None) -> None:
    if file is not None:
        note(f"{file}: {count(told.results, 'result')} of scan {told.scan}")
    for number, what in (
        (told.left_out_runs, "run"), (told.left_out, "result"), (told.locations, "location"),
        (told.flow_locations, "step of a flow"),
    ):  # fmt: skip
        if number:
            note(f"left out: {count(number, what, 'steps of flows' if what.startswith('step') else None)}")
    if told.hidden:
        note(f"GitHub will not show {count(told.hidden, 'result')}")
    if told.bytes_over:
        note(f"GitHub may refuse the file: zipped, it is {count(told.bytes_over, 'byte')} too large")
