"""`scanstore scans analyze|progress|pause|resume|cancel|rerun|risk` and `recover`: the life of an analysis.

Watching is a plain loop of asking how far it has come: redrawn in place on a terminal, one line for each change in a
pipe. Nothing is held open between two looks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import click

from scanstore.cli.base import Failure, basic_options, find_scan, open_store, scan_argument
from scanstore.cli.chunks import not_begun
from scanstore.cli.interrupts import kept
from scanstore.cli.output import Fact, aside, count, fact_lines, json_lines, plain_text, say, tell, wants_json
from scanstore.cli.streams import flush, is_terminal

if TYPE_CHECKING:
    from scanstore.analysis.lifecycle import AnalysisConfig, Progress
    from scanstore.db.words import AnalysisStep, Risk
    from scanstore.snapshots.models import Scan
    from scanstore.store import Store

MODES = ("primary_verifiers", "primary_only")
SCOPES = ("full", "changed")
STEPS = ("scan", "verify", "enrich")
RISKS = ("high", "normal", "low")
OVER = ("completed", "paused", "cancelled", "failed")
WORK = ("chunks", "drafts", "verified")
WAITING = ("pending", "running", "verifying", "enriching")


def _limit(_: click.Context, __: click.Parameter, value: str | None) -> int | str | None:
    """A number of errors, `none`, or None when it was not given."""
    if value is None or value == "none":
        return value
    if not (value.isascii() and value.isdecimal() and int(value) > 0):
        raise click.BadParameter(f"{value!r} is not a number of errors; give 1 or more, or none")
    return int(value)


@click.command()
@scan_argument
@click.option(
    "--mode", "analysis_mode", type=click.Choice(MODES),
    help="Complete the scan after verification, or (primary_only) after the chunks.",
)  # fmt: skip
@click.option(
    "--scope", type=click.Choice(SCOPES),
    help="All chunks, or only those that the previous scan did not have.",
)  # fmt: skip
@click.option(
    "--concurrency", "scanner_concurrency", type=click.IntRange(min=1), metavar="N",
    help="Maximum chunks leased at the same time.",
)  # fmt: skip
@click.option(
    "--verifiers", "verifier_concurrency", type=click.IntRange(min=1), metavar="N",
    help="Maximum drafts leased at the same time.",
)  # fmt: skip
@click.option(
    "--enrichers", "enricher_concurrency", type=click.IntRange(min=1), metavar="N",
    help="Maximum verified findings leased at the same time.",
)
@click.option("--analyzer", "primary_analyzer", metavar="MODEL", help="The model that analyses the chunks.")
@click.option("--retry-delay", type=click.FloatRange(min=0), metavar="S", help="Seconds before the first retry.")
@click.option("--max-retries", type=click.IntRange(min=0), metavar="N", help="Retries after the first try.")
@click.option(
    "--max-lost", type=click.IntRange(min=0), metavar="N",
    help="Times that a row may lose its lease before it fails.",
)  # fmt: skip
@click.option("--pause-after", callback=_limit, metavar="N|none", help="Consecutive errors that pause the analysis.")
@basic_options
@kept()
def analyze(scan: str | None, **given: Any) -> None:
    """Start the analysis of a scan. SCAN is an id or a target, by default the target of the current folder.

    Your scripts do the work: they claim chunks with store.chunks.work(SCAN). You can repeat the command: given
    settings are changed, all others stay.

    \b
    Example:
      scanstore scans analyze 3 --scope changed --concurrency 8
    """
    config = {name: None if value == "none" else value for name, value in given.items() if value is not None}
    with open_store(write=True) as store:
        row = store.scans.analyze(find_scan(store, scan), **cast("AnalysisConfig", config))
        chunks = _counts(store.scans.progress(row).chunks) or "none"
        tell(row, f"Analysis of scan {row.id} of {row.target}: {row.status}, chunks: {chunks}")
        if row.status != "completed":
            aside(f"claim them in a script with store.chunks.work({row.id}); scanstore scans progress --watch shows it")


def _counts(counts: dict[str, int]) -> str:
    """`2 running, 1,234 done`; unfinished work comes first."""
    known = sorted(counts, key=lambda status: (WAITING.index(status) if status in WAITING else 9, status))
    return ", ".join(f"{counts[status]:,} {status}" for status in known)


# How far it has come


def _pause(_: click.Context, __: click.Parameter, value: float) -> float:
    if not 0.05 <= value <= 3600:
        raise click.BadParameter(f"{value} is not a number of seconds from 0.05 to 3600")
    return value


@click.command()
@scan_argument
@click.option("--watch", is_flag=True, help="Continue until the analysis is completed, paused, cancelled or failed.")
@click.option(
    "--interval",
    type=float,
    callback=_pause,
    default=1.0,
    show_default=True,
    metavar="S",
    help="Seconds between updates.",
)
@basic_options
@click.pass_context
def progress(context: click.Context, scan: str | None, watch: bool, interval: float) -> None:
    """Show the progress of an analysis. SCAN is an id or a target, by default the target of the current folder.

    With --watch, a terminal is redrawn in place; in a pipe or a file, each change is a line (with --json, a line of
    JSON). The exit code is 0 when the analysis is completed, and 1 when it is paused, cancelled or failed.

    \b
    Example:
      scanstore scans progress 3 --watch
    """
    with open_store() as store:
        row = find_scan(store, scan)
        found = store.scans.progress(row)
        if row.active_since is None and not any(getattr(found, kind) for kind in WORK):
            raise not_begun(row)
        if watch:
            with _screen(row) as show:
                status = _watch(store, row, interval, show)
            context.exit(0 if status == "completed" else 1)
        tell(found, _lines(row, found))


def _watch(store: Store, scan: Scan, interval: float, show: Callable[[Progress], None]) -> str:
    while True:
        found = store.scans.progress(scan)
        show(found)
        if found.status in OVER:
            return found.status
        time.sleep(interval)


@contextmanager
def _screen(scan: Scan) -> Iterator[Callable[[Progress], None]]:
    """What shows one progress after the other."""
    if wants_json() or not is_terminal("stdout"):
        last: list[Progress] = []

        def line(found: Progress) -> None:
            known = found._replace(rate=None, eta=None)  # these change by themselves
            if [known] != last:
                last[:] = [known]
                say(json_lines([found]) if wants_json() else [plain_text(_line(found))])
                flush()

        yield line
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(no_color=bool(os.environ.get("NO_COLOR")) or None)
    with Live(console=console, auto_refresh=False) as live:
        yield lambda found: live.update(Text("\n".join(_lines(scan, found))), refresh=True)


def _lines(scan: Scan, found: Progress) -> Iterator[str]:
    phase = "" if found.phase == found.status else f", {found.phase}"
    yield plain_text(f"Scan {scan.id} of {scan.target}: {found.status}{phase}")
    facts: list[Fact] = []
    for kind in WORK:
        counts = getattr(found, kind)
        facts.append((kind, f"{_share(counts)} ({_counts(counts)})" if counts else "none"))
    facts.append(("findings", f"{found.findings:,}" if found.findings else "none"))
    if found.calls:
        spend = f"{count(found.calls, 'call')}, {count(found.tokens, 'token')}, cost {found.cost:,.4f}"
        facts.append(("models", spend))
    if found.rate:
        left = "" if not found.eta else f", about {_duration(found.eta)} left of {found.phase}"
        facts.append(("rate", f"{found.rate:,.1f} a minute{left}"))
    if found.error:
        facts.append(("error" if found.status == "failed" else "reason", found.error))
    yield from fact_lines(facts)


def _line(found: Progress) -> str:
    parts = [f"{kind} {_share(getattr(found, kind), '/')}" for kind in WORK]
    reason = f": {found.error}" if found.error else ""
    return f"{found.status} {found.phase}  {', '.join(parts)}, {count(found.findings, 'finding')}" + (
        f", {count(found.calls, 'call')}, cost {found.cost:,.4f}{reason}" if found.calls else reason
    )


def _share(counts: dict[str, int], of: str = " of ") -> str:
    total = sum(counts.values())
    return f"{total - sum(counts.get(status, 0) for status in WAITING):,}{of}{total:,}"


def _duration(seconds: float) -> str:
    """Return `40 s`, `5 min`, `2 h 10 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


# Turning it


def _turn(verb: str, text: str, *, reasoned: bool) -> click.Command:
    """Make the command that calls `store.scans.<verb>`."""

    @basic_options
    @kept()
    def turn(scan: str, **options: object) -> None:
        with open_store(write=True) as store:
            row = getattr(store.scans, verb)(find_scan(store, scan), **options)
            tell(row, f"Scan {row.id} of {row.target} is {row.status}")

    if reasoned:
        turn = click.option("--reason", "-r", metavar="TEXT", help="The reason, shown with the scan.")(turn)
    return click.command(verb, help=text)(click.argument("scan")(turn))


pause = _turn(
    "pause",
    """Pause an analysis. No more work of the scan is handed out until it is resumed.

    Work already handed out can still be completed.

    \b
    Example:
      scanstore scans pause 3 --reason 'too expensive'
    """,
    reasoned=True,
)
resume = _turn(
    "resume",
    """Resume a paused analysis. Cancelled and failed analyses can be resumed too.

    \b
    Example:
      scanstore scans resume 3
    """,
    reasoned=False,
)
cancel = _turn(
    "cancel",
    """Cancel an analysis. No more work of the scan is handed out.

    Work already handed out can still be completed. `scanstore scans resume` continues the analysis.

    \b
    Example:
      scanstore scans cancel 3
    """,
    reasoned=True,
)


@click.command()
@click.argument("scan")
@click.option("--to", type=click.Choice(STEPS), required=True, help="The step to go back to.")
@click.option("--failed-only", is_flag=True, help="Only the items that failed in this step.")
@basic_options
@kept()
def rerun(scan: str, to: AnalysisStep, failed_only: bool) -> None:
    """Run a step of an analysis again.

    The steps after it run again too. Nothing is deleted, and cached answers are reused.

    \b
    Example:
      scanstore scans rerun 3 --to verify
    """
    with open_store(write=True) as store:
        row = find_scan(store, scan)
        again = store.scans.rerun(row, to=to, failed_only=failed_only)
        names = ("chunk", "draft", "verified finding")
        waiting = [count(number, name) for name, number in zip(names, again, strict=True) if number]
        verb = "wait" if waiting and sum(again) > 1 else "waits"
        text = f"Scan {row.id}: {' and '.join(waiting) or 'nothing'} {verb} again"
        tell({"scan": row.id, **again._asdict()}, text)


@click.command()
@click.argument("scan")
@click.argument("risk", type=click.Choice(RISKS))
@click.argument("pattern", nargs=-1, required=True)
@basic_options
@kept()
def risk(scan: str, risk: Risk, pattern: tuple[str, ...]) -> None:
    """Set the risk of files. It decides the order in which they are analysed.

    PATTERN selects files, as in .gitignore. Chunks of files with high risk are handed out first, those with low risk
    last. The exit code is 1 if no file matches.

    \b
    Example:
      scanstore scans risk 3 high 'auth/' '*_crypto.py'
    """
    with open_store(write=True) as store:
        row = find_scan(store, scan)
        files = store.scans.set_risk(row, risk, pattern)
        text = f"{count(files, 'file')} of scan {row.id} {'has' if files == 1 else 'have'} {risk} risk now"
        tell({"scan": row.id, "risk": risk, "files": files}, text if files else ())
        if not files:
            raise Failure(f"no file of scan {row.id} matches {' or '.join(pattern)}")


@click.command()
@basic_options
@kept("freed work stays free, and the next recover frees the rest")
def recover() -> None:
    """Free the work of dead processes and expired leases. Workers do this too when they claim work.

    \b
    Example:
      scanstore recover
    """
    with open_store(write=True) as store:
        waiting, failed = store.recover()
        if store.recovered is not None:  # most of it was found when the store was opened
            waiting, failed = waiting + store.recovered.waiting, failed + store.recovered.failed
        verb = "waits" if waiting == 1 else "wait"
        text = f"{count(waiting, 'piece')} of work {verb} again, {failed:,} failed for good"
        tell({"waiting": waiting, "failed": failed}, text if waiting or failed else "Nothing was lost")


COMMANDS = (analyze, progress, pause, resume, cancel, rerun, risk)
