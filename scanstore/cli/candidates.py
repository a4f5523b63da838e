"""The values that a shell offers for a parameter: names and ids from the store.

A completion only reads: it never creates, migrates or changes a store, and it prints nothing. It offers no values if
the store cannot be read at once. Change here: the values of each kind of parameter, and the text beside a value.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from itertools import chain
from operator import or_
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from scanstore import parts
from scanstore.cli.base import find_target, is_one_scan, named_target, store_key, store_path
from scanstore.cli.output import plain_text, shown

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from scanstore.db.fields import Numbered
    from scanstore.snapshots.models import Scan
    from scanstore.store import Store

MOST = 50  # values that are offered
LOOKED_AT = 500  # rows, the newest, that are compared with the beginning of an id
SECONDS = 0.3  # the time limit for a lock, and then for the answer
LAST = "\U0010ffff"  # the character after all others
LONGEST = 60  # characters of a help text

#: A value, and what it is.
Candidate: TypeAlias = tuple[object, object]
#: Finds values in a store, given the context of the command and the beginning of the value.
Find: TypeAlias = "Callable[[Store, click.Context, str], Iterable[Candidate]]"


def offered(find: Find, context: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Return at most 50 values with this beginning. After any error the list is empty."""
    try:
        with _silent(), context.scope(cleanup=False), _opened() as store:
            return list(_items(find(store, context, incomplete), incomplete))
    except Exception:
        return []


def _items(found: Iterable[Candidate], incomplete: str) -> Iterator[CompletionItem[str]]:
    from click.shell_completion import CompletionItem

    seen = set()
    for value, about in found:
        text = str(value)
        if text.startswith(incomplete) and text not in seen and _is_safe(text):
            seen.add(text)
            yield CompletionItem(text, help=_help(about))
        if len(seen) == MOST:
            return


def _is_safe(text: str) -> bool:
    """Return whether a text is safe to type. Names in a store may come from untrusted sources."""
    return bool(text) and not text.startswith("-") and text.isprintable() and plain_text(text) == text


def _help(about: object) -> str | None:
    text = plain_text(" ".join(shown(about).split()))
    return (text if len(text) <= LONGEST else text[: LONGEST - 1] + "…") or None


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Discard all output, which would appear between the words that the user is typing."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _opened() -> Iterator[Store]:
    """Open the store of the command line to read from it, for a short time."""
    from scanstore.store import Store  # start-up of the command line

    class Reader(Store):
        _brief = True

    path = store_path()
    if not os.path.isfile(path):  # to open a pipe would wait for a writer
        raise FileNotFoundError(path)
    end = time.monotonic() + SECONDS
    with Reader(path, read_only=True, migrate=False, timeout=SECONDS, key=store_key()) as store:
        database: Any = store.database
        database.connection().set_progress_handler(lambda: time.monotonic() > end, 1000)
        yield store


# Scans and their content


def targets(store: Store, _: click.Context, __: str) -> Iterator[Candidate]:
    """The targets of all scans."""
    yield from ((each.target, each.root) for each in store.scans.targets())


def scan_ids(store: Store, _: click.Context, __: str) -> Iterator[Candidate]:
    """The ids of scans, the newest first."""
    for scan in store.scans.list(limit=LOOKED_AT):
        yield scan.id, f"{scan.status}, {shown(scan.started_at)[:16]}, {scan.target}"


def scans(store: Store, context: click.Context, incomplete: str) -> Iterable[Candidate]:
    """The ids of scans, and the targets, which stand for their latest scans."""
    return chain(scan_ids(store, context, incomplete), targets(store, context, incomplete))


def _scan(store: Store, context: click.Context) -> Scan:
    """The scan that the command line is about so far."""
    given: str | None = context.params.get("scan")
    if given is not None and is_one_scan(given):
        return store.scans.get(int(given))
    target = find_target(store, trees=True) if given is None else named_target(store, given)
    return store.scans.latest() if target is None else store.scans.latest(target)


def symbols(store: Store, context: click.Context, incomplete: str) -> Iterator[Candidate]:
    """Symbols by the beginning of their names. Without a beginning none is offered, because there are too many."""
    if incomplete:
        scan = _scan(store, context)
        for row in store.symbols.find(incomplete, scan=scan, match="prefix", limit=2 * MOST):
            name = str(row.qualified_name)
            yield (
                name if name.startswith(incomplete) else row.name,
                f"{row.symbol_type} {row.file_path}:{row.start_line}",
            )


def files(store: Store, context: click.Context, incomplete: str) -> Iterator[Candidate]:
    """The files of a scan, as it names them."""
    model = parts.models.ScanFile
    begins = (model.file_path >= incomplete) & (model.file_path < incomplete + LAST)
    query = model.select(model.file_path).where(model.scan == _scan(store, context).id, begins)
    yield from ((row.file_path, None) for row in query.order_by(model.file_path).limit(2 * MOST))


def chunks(store: Store, context: click.Context, _: str) -> Iterator[Candidate]:
    """The chunks that have failed."""
    for row in store.chunks.list(_scan(store, context), status="failed", limit=LOOKED_AT):
        yield row.id, f"{row.file_path}:{row.start_line} {row.error}"


# Rows with numbers


def _numbered(model: type[Numbered], incomplete: str, *columns: str) -> Iterator[Any]:
    """Return rows whose id has this beginning, the newest first."""
    fields: Any = model._meta.fields
    key: Any = fields["id"]
    query: Any = model.select(key, *(fields[name] for name in columns)).order_by(key.desc()).limit(MOST)
    if incomplete:
        begin = int(incomplete)
        query = query.where(reduce(or_, (key.between(begin * 10**n, (begin + 1) * 10**n - 1) for n in range(12))))
    return iter(query)


def findings(_: Store, __: click.Context, incomplete: str) -> Iterator[Candidate]:
    """The ids of findings."""
    for row in _numbered(parts.models.Finding, incomplete, "severity", "status", "title"):
        yield row.id, f"{row.severity}, {row.status}: {row.title}"


def drafts(_: Store, __: click.Context, incomplete: str) -> Iterator[Candidate]:
    """The ids of drafts."""
    for row in _numbered(parts.models.DraftFinding, incomplete, "severity", "status", "title"):
        yield row.id, f"{row.severity}, {row.status}: {row.title}"


def plans(_: Store, __: click.Context, incomplete: str) -> Iterator[Candidate]:
    """The ids of plans."""
    for row in _numbered(parts.models.AnalysisPlan, incomplete, "status", "name"):
        yield row.id, f"{row.status}: {row.name}"


def _argument(context: click.Context, place: int) -> str:
    """Return an argument of a command. While an option lacks its value, click leaves the arguments unparsed in
    ``context.args``."""
    names = [str(each.name) for each in context.command.params if isinstance(each, click.Argument)]
    given = context.params.get(names[place])
    return str(context.args[place] if given is None else given)


def changes(store: Store, context: click.Context, _: str) -> Iterator[Candidate]:
    """The ids of the changes of a plan."""
    for row in store.plans.changes(int(_argument(context, 0)), limit=LOOKED_AT):
        yield row.id, f"{row.status}: {row.action} {row.field} of {row.target} {row.target_key}"


def suppressions(store: Store, _: click.Context, __: str) -> Iterator[Candidate]:
    """The ids of suppressions that are not lifted."""
    for row in store.findings.suppressions(limit=LOOKED_AT, sort="-id"):
        if row.state != "lifted":
            yield row.id, f"{row.state}: {row.justification}"


# Rows with other keys


def jobs(store: Store, _: click.Context, __: str) -> Iterator[Candidate]:
    """The ids of jobs, the newest first."""
    yield from ((row.id, f"{row.type}, {row.status}") for row in store.jobs.list(limit=LOOKED_AT))


def sessions(store: Store, _: click.Context, __: str) -> Iterator[Candidate]:
    """The ids of sessions, the newest first."""
    yield from ((row.id, f"{row.status}: {row.session_name}") for row in store.sessions.list(limit=LOOKED_AT))


def audits(store: Store, _: click.Context, __: str) -> Iterator[Candidate]:
    """The ids of audits, the newest first."""
    yield from ((row.id, f"{row.status}: {row.original_filename}") for row in store.audits.list(limit=LOOKED_AT))


def users(store: Store, _: click.Context, __: str) -> Iterator[Candidate]:
    """The addresses of users."""
    yield from ((row.email, row.full_name) for row in store.accounts.list(limit=LOOKED_AT))


def prompt_types(store: Store, context: click.Context, _: str) -> Iterator[Candidate]:
    """The types of the prompts of a user."""
    for row in store.sessions.prompts.list(_argument(context, 0), limit=LOOKED_AT):
        yield row.config_type, None


def prompt_versions(store: Store, context: click.Context, _: str) -> Iterator[Candidate]:
    """The versions of a prompt."""
    for row in store.sessions.prompts.list(_argument(context, 0), type=_argument(context, 1)):
        yield row.version, row.prompt_content


def schedules(store: Store, _: click.Context, __: str) -> Iterator[Candidate]:
    """The names of schedules."""
    yield from ((row.name, f"{row.task_type}, {row.schedule}") for row in store.schedules.list(limit=LOOKED_AT))


def models(store: Store, _: click.Context, __: str) -> Iterator[Candidate]:
    """The names of language models."""
    yield from ((row.name, row.base_url) for row in store.llm.list(limit=LOOKED_AT))


def settings(store: Store, _: click.Context, __: str) -> Iterator[Candidate]:
    """The names of settings."""
    yield from ((row.key, row.description) for row in store.settings.list(limit=LOOKED_AT))


def scenes(store: Store, _: click.Context, __: str) -> Iterator[Candidate]:
    """The ids of scenes."""
    yield from ((row.id, row.title) for row in store.library.list(limit=LOOKED_AT))


def named(kind: str) -> Find:
    """Return a function that finds the names of performers, tags or studios."""

    def find(store: Store, _: click.Context, __: str) -> Iterator[Candidate]:
        names: Callable[..., Iterable[Any]] = store.library.names
        yield from ((row.name, f"{row.id}, {row.scenes} scenes") for row in names(kind, limit=10 * LOOKED_AT))

    return find


# Distinct values of columns


def _words(*columns: str) -> Find:
    """Return a function that finds the distinct values of columns, each written as `Model.column`."""

    def find(_: Store, __: click.Context, incomplete: str) -> Iterator[Candidate]:
        for column in columns:
            name, attribute = column.split(".")
            model: Any = getattr(parts.models, name)
            field = getattr(model, attribute)
            query = model.select(field).where(field >= incomplete, field < incomplete + LAST).distinct()
            yield from ((getattr(row, attribute), None) for row in query.order_by(field).limit(2 * MOST))

    return find


tools = _words("Finding.tool", "ToolRun.tool")
job_types = _words("Job.type", "ScheduledTask.task_type")
roles = _words("User.role")
fields = _words("PlanChange.field")


def rules(_: Store, context: click.Context, incomplete: str) -> Iterator[Candidate]:
    """The rules that have found something, of one tool if it is given."""
    model = parts.models.Finding
    query = model.select(model.rule_id, model.tool).where(model.rule_id >= incomplete).distinct()
    tool = context.params.get("tool")
    if tool is not None:
        query = query.where(model.tool == tool)
    yield from ((row.rule_id, row.tool) for row in query.order_by(model.rule_id).limit(2 * MOST))


def tables(store: Store, _: click.Context, __: str) -> Iterator[Candidate]:
    """The tables of the store."""
    yield from ((name, None) for name in store.database.get_tables())


def zones(_: Store, __: click.Context, ___: str) -> Iterator[Candidate]:
    """The names of time zones."""
    from zoneinfo import available_timezones

    yield from ((name, None) for name in sorted(available_timezones()))
