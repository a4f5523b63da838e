"""The command line: parse, one call of the API, print.

One small file per noun; `base` is shared by all of them, and `output` is the only way to the terminal. No SQL and no
rules here: what a command can do, a script can do with the same words. Only click is imported at the start, everything
else by the command that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import os

import click

from scanstore.cli import backup, graph, imports, provision, symbols, transfer, upkeep
from scanstore.cli.analysis import recover
from scanstore.cli.audits import audits
from scanstore.cli.base import store_option, verbose_option
from scanstore.cli.chunks import chunks
from scanstore.cli.completion import completion, prepare
from scanstore.cli.config import config
from scanstore.cli.drafts import drafts
from scanstore.cli.findings import findings
from scanstore.cli.groups import Group, Root
from scanstore.cli.jobs import jobs
from scanstore.cli.library import library
from scanstore.cli.llm import llm
from scanstore.cli.migrate import migrate
from scanstore.cli.models import models
from scanstore.cli.plans import plans
from scanstore.cli.prompts import prompts
from scanstore.cli.report import report
from scanstore.cli.sarif import sarif
from scanstore.cli.scan import scan
from scanstore.cli.scans import scans
from scanstore.cli.schedules import schedules
from scanstore.cli.search import search, search_findings
from scanstore.cli.sessions import sessions
from scanstore.cli.settings import settings
from scanstore.cli.targets import targets
from scanstore.cli.users import users
from scanstore.version import __version__

EPILOG = """
\b
Start here:
  scanstore scan src/
  scanstore symbols find NAME
  scanstore symbols callers NAME

\b
Exit codes: 0 success, 1 a problem was found or the command failed, 2 wrong usage, 130 interrupted.
The store is named by --db, else by $SCANSTORE_DB, $DATABASE_URL or the configuration (scanstore.toml, or
[tool.scanstore] in pyproject.toml). Otherwise it is the nearest scanstore.db from the current folder upwards.
`scanstore config show` prints it. $SCANSTORE_KEY is the key of an encrypted store. NO_COLOR=1 turns colours off.

Shell completion: scanstore completion install
"""


@click.group("scanstore", cls=Root, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="scanstore", message="%(prog)s %(version)s")
@store_option
@verbose_option
@click.pass_context
def main(context: click.Context) -> None:
    """Keep the results of scanners, and the decisions about them, in one SQLite file."""
    if os.environ.get("NO_COLOR"):
        context.color = False


main.add_command(scan)
main.add_command(scans)
main.add_command(targets)


@main.group("symbols", cls=Group)
@store_option
def symbols_group() -> None:
    """Query symbols, references and imports."""


for _command in (*symbols.COMMANDS, *graph.COMMANDS, *imports.COMMANDS):
    symbols_group.add_command(_command)
for _group in (
    chunks, drafts, findings, sarif, models, llm, library, plans, jobs, schedules, users, sessions, prompts, audits,
    settings, config, migrate, completion,
):  # fmt: skip
    main.add_command(_group)
findings.add_command(search_findings)
main.add_command(search)
main.add_command(report)
for _command in (*provision.COMMANDS, *upkeep.COMMANDS, *backup.COMMANDS, *transfer.COMMANDS):
    main.add_command(_command)
main.add_command(recover)
main.sections = {
    "Scan and ask": ("scan", "symbols", "scans", "targets", "search"),
    "Findings": ("findings", "sarif", "report"),
    "Review with models": ("chunks", "drafts", "models", "llm"),
    "Library and plans": ("library", "plans"),
    "Jobs": ("jobs", "schedules", "recover"),
    "People and audits": ("users", "sessions", "prompts", "audits"),
    "The file": (
        "check", "stats", "health", "backup", "restore", "dump", "load", "merge", "prune", "optimize", "vacuum",
        "repair", "rekey", "migrate", "settings", "config", "init", "seed", "drop", "completion",
    ),
}  # fmt: skip
prepare(main)
