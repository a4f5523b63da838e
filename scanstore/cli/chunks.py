"""`scanstore chunks`: the states and the list of an analysis's chunks, and retries of failed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.absence import known_file, narrowed
from scanstore.cli.base import Failure, common, find_scan, group, open_store, recorded_path, rows_options
from scanstore.cli.interrupts import kept
from scanstore.cli.output import Column, Columns, aligned, count, listing, place_column, tell, window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scanstore.db.words import ChunkStatus
    from scanstore.leases.queue import State
    from scanstore.snapshots.models import Scan, ScanFileChunk

STATUSES = ("pending", "running", "done", "failed", "skipped")


@group
def chunks() -> None:
    """List the chunks of an analysis, and retry failed ones."""


def not_begun(scan: Scan) -> Failure:
    """Return the note for a scan without an analysis."""
    return Failure(f"the analysis of scan {scan.id} was not begun; begin it with: scanstore scans analyze {scan.id}")


@chunks.command()
@common
def state(scan: str | None) -> None:
    """Count the chunks that are ready, delayed, leased, done, failed and skipped.

    It shows when the next chunk is due, too. The last line says whether the stage is finished: without ready chunks,
    others may still be delayed or leased.

    \b
    Example:
      scanstore chunks state --scan 3
    """
    with open_store() as store:
        row = find_scan(store, scan)
        if row.active_since is None:
            raise not_begun(row)

        found = store.chunks.state(row)
        due = None if found.next_at is None else parts.values.format_time(found.next_at)
        figures = found._asdict()
        del figures["before"]  # no stage is before chunks
        data = {"scan": row.id, **figures, "next_at": due, "finished": found.finished}
        tell(data, _state_lines(row, found, due))


def _state_lines(scan: Scan, found: State, due: str | None) -> Iterator[str]:
    yield f"Scan {scan.id}, {scan.status}"
    names = ("ready", "delayed", "leased", "done", "failed", "skipped")
    rows = [(name, f"{getattr(found, name):,}") for name in names]
    rows += [("lost leases", f"{found.lost:,}")] if found.lost else []
    yield from aligned(rows, right=(1,), indent="  ")
    if due is not None:
        yield f"next due: {due}"
    yield "finished" if found.finished else "not finished"


@chunks.command("list")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only chunks with this status.")
@click.option("--file", metavar="FILE", help="Only chunks of this file of the scan.")
@rows_options("id", "place", "part", "status", "remark")
@common
def list_(status: ChunkStatus | None, file: str | None, scan: str | None) -> None:
    """List the chunks of a scan: id, place, type, status.

    \b
    Example:
      scanstore chunks list --status failed
    """
    with open_store() as store:
        where = find_scan(store, scan)
        path = None if file is None else recorded_path(where, file)
        columns: Columns[ScanFileChunk] = (
            place_column(where),
            Column("part", lambda row: " ".join(filter(None, (row.chunk_type, row.symbol_name)))),
            "status",
            "id",
            Column("remark", _remark),
        )
        only = window(parts.models.ScanFileChunk, columns)
        found = store.chunks.list(where, status=status, file=path, **only)
        if not found:
            known_file(store, where, path)
        listing(found, columns, f"no chunks {'like that ' if narrowed() else ''}in scan {where.id}")


def _remark(chunk: ScanFileChunk) -> str:
    risk = "" if chunk.risk_level == "normal" else f"{chunk.risk_level} risk"
    tried = count(chunk.retry_count, "retry", "retries") if chunk.retry_count else ""
    lost = count(chunk.lost_count, "lost lease") if chunk.lost_count else ""
    held = f"by {chunk.worker}" if chunk.status == "running" else ""
    return ", ".join(filter(None, (risk, tried, lost, held, chunk.error)))


@chunks.command()
@click.argument("chunk", nargs=-1, type=click.IntRange(min=1))
@common
@kept()
def retry(chunk: tuple[int, ...], scan: str | None) -> None:
    """Retry the failed chunks with the ids CHUNK, by default all failed chunks of a scan.

    Each chunk gets its full number of tries again.

    \b
    Example:
      scanstore chunks retry --scan 3
    """
    with open_store(write=True) as store:
        empty, rows = "", [*chunk]
        if not chunk:
            where = find_scan(store, scan)
            empty, rows = (
                f"no chunk of scan {where.id} has failed",
                [row.id for row in store.chunks.list(where, status="failed")],
            )
        waiting = len(store.chunks.retry(*rows))
        again = [f"{count(waiting, 'chunk')} {'waits' if waiting == 1 else 'wait'} again"] if waiting else []
        tell({"waiting": waiting}, again, empty)
