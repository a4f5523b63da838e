"""`scanstore check|stats|prune|rekey`: check the store, show its size, remove old rows, and change its key."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.base import (
    Misuse,
    basic_options,
    existing_store_path,
    name_store,
    named_store_path,
    open_store,
    rows_options,
    store_key,
    store_path,
)
from scanstore.cli.interrupts import finish, keep, kept
from scanstore.cli.output import (
    Column,
    Columns,
    aligned,
    arranged,
    count,
    listing,
    note,
    only_rows,
    plain_text,
    shortened,
    size,
    tell,
)
from scanstore.cli.progress import progress
from scanstore.cli.streams import secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scanstore.db.words import PruneKind
    from scanstore.maintenance.health import Problem, Stats, TableStats
    from scanstore.maintenance.pruning import Pruned


@click.command()
@click.argument("file", required=False)
@click.option(
    "--fix", is_flag=True,
    help="Repair the problems that can be repaired, and drop foreign parts of the schema.",
)  # fmt: skip
@rows_options("state", "what", "remedy")
@basic_options
@click.pass_context
@kept()
def check(context: click.Context, file: str | None, fix: bool) -> None:
    """Check the store, or FILE, for damage and inconsistent rows. The exit code is 1 if problems are left.

    A file with foreign views or triggers, or with foreign tables in place of scanstore's own, is not opened. --fix
    drops them without running them, and removes nothing else.

    \b
    Example:
      scanstore check && echo well
      scanstore check --fix
      scanstore check --fix from-a-stranger.db
    """
    if file is not None:
        name_store(file)
    if fix:
        keep("finished repairs are kept; check it again")
    problems = _checked(fix)
    listing(problems, PROBLEMS, f"{os.path.realpath(store_path())}: no problems")
    context.exit(0 if all(problem.fixed for problem in problems) else 1)


def _checked(fix: bool) -> list[parts.health.Problem]:
    """The problems of the store; for a store whose schema is refused, the foreign parts that were or should be
    dropped."""
    try:
        return _problems(fix)
    except (parts.errors.ForeignSchema, parts.errors.Damaged) as error:
        if not fix:
            if not isinstance(error, parts.errors.ForeignSchema):
                raise
            return [
                parts.health.Problem(part, f"drop it with: scanstore check --fix {store_path()}")
                for part in error.parts
            ]

        done = [
            parts.health.Problem(what, "nothing is to be done", True)
            for what in parts.cleaning.drop_foreign(store_path(), key=store_key())
        ]
        try:
            return done + _problems(fix)
        except parts.errors.ForeignSchema as left:
            remedy = f"save the rows with: scanstore repair {store_path()} NEW"
            return done + [parts.health.Problem(part, remedy) for part in left.parts]


def _problems(fix: bool) -> list[Problem]:
    with open_store(write=fix) as store:
        with progress(f"Checking {store_path()}", "checks") as display:
            return store.check(fix=fix, progress=display)


PROBLEMS: Columns[Problem] = (
    Column("state", lambda problem: "fixed" if problem.fixed else "open"),
    "what",
    Column("remedy", lambda problem: "" if problem.fixed else problem.remedy),
)


@click.command()
@rows_options("name", "rows", "bytes")
@basic_options
def stats() -> None:
    """Show the size of the store and of its tables.

    The growth by the latest scans is shown too. --csv, --tsv and --columns print the tables only. --sort and --limit
    apply to the tables.

    \b
    Example:
      scanstore stats
      scanstore stats --sort -bytes --limit 5
    """
    with open_store() as store:
        found = store.stats()
        tables = parts.rows.Rows(arranged(found.tables, TABLES), parts.health.TableStats)
        if only_rows():
            listing(tables, TABLES)
        else:
            found = found._replace(tables=tables)
            tell(found, _stats_lines(found))


TABLES: Columns[TableStats] = ("name", Column("rows", right=True), Column("bytes", right=True))


def _stats_lines(found: Stats) -> Iterator[str]:
    per_line = f", {found.bytes / found.lines:.0f} bytes per line" if found.lines else ""
    free = f", {size(found.free)} of it free (scanstore vacuum)" if found.free > found.bytes // 10 else ""
    yield plain_text(found.path)
    yield f"{size(found.bytes)}, {count(found.scans, 'scan')}, {count(found.lines, 'line')} of source{per_line}{free}"
    rows = [
        (table.name, f"{table.rows:,}", "rows", None if table.bytes is None else size(table.bytes))
        for table in found.tables
        if table.rows
    ]
    empty = [table.bytes or 0 for table in found.tables if not table.rows]
    if empty:
        rows.append((count(len(empty), "other table"), "no", "rows", size(sum(empty)) if any(empty) else None))
    yield from aligned(rows, right=(1, 3), indent="  ")
    if found.growth:
        yield "growth"
    yield from aligned(
        (
            (f"scan {g.scan}", g.at[:10], f"{g.files:,}", "new files", f"{g.lines:,}", "lines", size(g.bytes), g.target)
            for g in found.growth
        ),
        right=(2, 4, 6),
        indent="  ",
    )


@click.command()
@click.option(
    "--older-than", metavar="SPAN",
    help="Only rows that finished longer ago than this, such as 12h, 90d or 8w.",
)  # fmt: skip
@click.option(
    "--keep-last", type=click.IntRange(0), metavar="N",
    help="Keep the N newest scans of each target, and the N newest jobs.",
)  # fmt: skip
@click.option(
    "--what",
    "kinds",
    multiple=True,
    type=click.Choice(("scans", "jobs", "calls", "answers")),
    help="The kinds of rows to remove; repeatable. [default: scans, jobs]",
)
@click.option("--dry-run", is_flag=True, help="Count the rows only, as without --yes.")
@click.option("--yes", is_flag=True, help="Remove the rows.")
@basic_options
@kept()
def prune(
    older_than: str | None, keep_last: int | None, kinds: tuple[PruneKind, ...], dry_run: bool, yes: bool
) -> None:
    """Remove old scans and jobs.

    Model calls and cached answers are pruned only if --what names them; of calls, only the prompts and responses are
    removed. The latest scan of each target and all decisions about findings stay. `scanstore vacuum` shrinks the file
    afterwards.

    \b
    Example:
      scanstore prune --older-than 90d --keep-last 5
      scanstore prune --older-than 90d --keep-last 5 --yes
    """
    if older_than is None and keep_last is None:
        raise Misuse("choose the rows: give --older-than, --keep-last or both")
    if dry_run and yes:
        raise Misuse("give --dry-run or --yes, not both")

    chosen = kinds or ("scans", "jobs")
    named = " and ".join(filter(None, (", ".join(chosen[:-1]), chosen[-1])))
    with open_store(write=yes) as store:
        try:
            with progress("Removing", chosen[0] if len(chosen) == 1 else "items") as display:

                def told(done: int, total: int) -> None:
                    if done and yes:
                        keep(f"{done:,} of {total:,} {named} were removed; the same command removes the rest")
                    if display is not None:
                        display(done, total)

                done = store.prune(
                    older_than=older_than, keep_last=keep_last, dry_run=not yes, what=chosen,
                    progress=told,
                )  # fmt: skip
        except parts.errors.InvalidArgument as error:
            raise Misuse(str(error)) from None
    tell(done, _pruned_lines(done))


def _pruned_lines(done: Pruned) -> Iterator[str]:
    rows = ((f"scan {s.id}", s.status, s.ended_at[:16].replace("T", " "), s.target) for s in done.scans)
    yield from shortened(aligned(rows, indent="  "), "scan", "  ")
    parts = [
        count(number, what)
        for number, what in (
            (len(done.scans), "scan"),
            (done.jobs, "job"),
            (done.calls, "call's texts" if done.calls == 1 else "calls' text"),
            (done.answers, "answer"),
        )
        if number
    ]
    for scan, table in done.held.items():
        note(f"kept: scan {scan}; rows of {table} refer to it")
    if not parts:
        yield "Nothing to remove"
    elif done.dry_run:
        yield f"{', '.join(parts)} would be removed; remove with: --yes"
    else:
        yield f"Removed {', '.join(parts)}"


@click.command()
@click.option("--key-stdin", is_flag=True, help="Read the new key from the first line of standard input.")
@click.option("--remove", is_flag=True, help="Decrypt the store; it has no key afterwards.")
@basic_options
@kept()
def rekey(key_stdin: bool, remove: bool) -> None:
    """Encrypt the store with a new key.

    The command asks for the new key; the current key is $SCANSTORE_KEY. The change is atomic. The store must not be
    open elsewhere. If you lose the key, the data is lost. A store above the current folder must be named with --db.

    \b
    Example:
      scanstore rekey
      SCANSTORE_KEY=old scanstore rekey --key-stdin < new.txt
    """
    if key_stdin and remove:
        raise Misuse("give --key-stdin or --remove, not both")

    named_store_path()
    path, old = existing_store_path(), store_key()
    if remove and old is None:
        raise Misuse("the store's key is needed to decrypt it: set SCANSTORE_KEY")
    new = None if remove else secret("New key", piped=key_stdin)
    with progress(f"Encrypting {path}" if new is not None else f"Decrypting {path}"):
        parts.rekeying.rekey(os.path.realpath(path), path, old, new)
    finish()
    tell(
        {"store": os.path.realpath(path), "encrypted": not remove},
        f"{path}: {'decrypted' if remove else 'encrypted with the new key'}",
    )


COMMANDS = (check, stats, prune, rekey)
