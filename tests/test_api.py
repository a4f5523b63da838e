"""Every public method of every domain keeps the same conventions: verbs, options, windows of lists, and errors."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scanstore import Store
from scanstore.errors import InvalidArgument, WrongStore

#: Words that are not used for calls: each has a verb of its own in every domain.
BANNED = {
    "create", "define", "unset", "forget", "tick", "pick", "sole_target", "delete", "insert", "save_prompt", "fetch",
    "get_scene", "of_scene", "update_progress",
}  # fmt: skip
#: Parameters that may be given by position: the subject of a call and what is done with it.
SUBJECTS = {
    "a", "b", "analyzer", "analysis", "audit", "audits", "body", "by", "call", "change", "chunk", "config_type",
    "content", "decision", "default", "draft", "drafts", "email", "error", "field", "action", "file", "file_size",
    "files", "finding", "findings", "format", "function", "handlers", "item", "items", "job", "jobs", "key", "keys",
    "kind", "model", "name", "new", "old", "original_filename", "password", "path", "paths", "patterns", "plan",
    "proposals", "query", "reason", "records", "risk", "root", "scan", "scenes", "schedule", "scope", "session",
    "status", "subject", "suppression", "symbol", "target", "result", "task", "task_type", "text", "type", "upload",
    "user",
    "value", "verdict", "verified", "version", "votes", "what", "content_hash", "row", "scene", "words", "key_or_name",
}  # fmt: skip


class Call(NamedTuple):
    """A public method of a domain."""

    domain: str
    name: str
    method: Callable[..., Any]

    @property
    def parameters(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self.method).parameters.values())[1:]

    @property
    def returns(self) -> str:
        return str(inspect.signature(self.method).return_annotation)

    def __str__(self) -> str:
        return f"{self.domain}.{self.name}"


def calls_of(domain: str, kind: type) -> Iterator[Call]:
    for name in dir(kind):
        member = inspect.getattr_static(kind, name)
        if name.startswith("_"):
            continue
        if inspect.isfunction(member):
            yield Call(domain, name, member)


def all_calls() -> list[Call]:
    found: list[Call] = []
    with Store(":memory:") as store:
        for name, member in vars(Store).items():
            if not isinstance(member, cached_property):
                continue
            domain = getattr(store, name)
            found += calls_of(name, type(domain))
            for part in dir(type(domain)):
                if isinstance(inspect.getattr_static(type(domain), part), cached_property):
                    found += calls_of(f"{name}.{part}", type(getattr(domain, part)))
    return found


CALLS = all_calls()


def test_each_thing_has_one_verb() -> None:
    assert len(CALLS) > 150
    assert not {str(call) for call in CALLS if call.name in BANNED}


def test_options_are_given_by_name() -> None:
    positional = {
        f"{call}({parameter.name})"
        for call in CALLS
        for parameter in call.parameters
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name not in SUBJECTS
    }
    assert not positional


def test_reasons_and_persons_have_one_name() -> None:
    other = {"note", "justification", "comment", "who", "person", "author"}
    assert not {f"{call}({p.name})" for call in CALLS for p in call.parameters if p.name in other}
    required = {
        str(call) for call in CALLS for p in call.parameters if p.name == "by" and p.default is p.empty
    }  # fmt: skip
    assert not required


def test_removals_count_rows_by_table() -> None:
    wrong = {
        str(call): call.returns for call in CALLS if call.name.startswith("remove") and "Removed" not in call.returns
    }
    assert not wrong


def test_a_row_comes_back_from_each_call_of_leased_work() -> None:
    for call in CALLS:
        if call.name in ("heartbeat", "release", "fail") and call.domain != "sessions":
            assert call.returns not in ("None", "str", "bool"), call


def test_lists_of_rows_have_a_window() -> None:
    rows = re.compile(r"^(List|list)\[")
    #: Not lists of rows: names, drafts that were just added, work that was just claimed.
    apart = {
        "claim", "retry", "add", "keys", "values", "items", "run_due", "due", "find", "coverage", "usage",
        "import_cycles", "troubles",
    }  # fmt: skip
    without = set()
    for call in CALLS:
        if rows.match(call.returns) and call.name not in apart:
            names = {p.name for p in call.parameters}
            if not {"limit", "offset"} <= names:
                without.add(str(call))
    assert not without


# Wrong arguments ------------------------------------------------------------------------------------------------------

NOT_NUMBERS: tuple[Any, ...] = (-1, 2**63, True, "2", 1.5, float("nan"), b"1")
NOT_IDS: tuple[Any, ...] = (0, -1, 2**63, True, 1.5, float("nan"), b"x", object())
NOT_TEXTS: tuple[Any, ...] = (5, True, b"x", 1.5, object())
NOT_TIMES: tuple[Any, ...] = ("soon", 5, True, datetime(2026, 1, 1))  # noqa: DTZ001  naive
WRONG: dict[str, tuple[Any, ...]] = {
    "limit": NOT_NUMBERS, "offset": NOT_NUMBERS, "sort": ("colour", "-", 5, True), "priority": ("2", True, 1.5, 2**63),
    "max_retries": NOT_NUMBERS, "max_lost": NOT_NUMBERS, "file_size": NOT_NUMBERS,
    "lease": (0, -1, True, "5", float("nan"), float("inf")), "worker": ("", 5, True), "reason": NOT_TEXTS,
    "by": NOT_TEXTS, "queue": ("", *NOT_TEXTS), "now": NOT_TIMES, "run_at": NOT_TIMES, "expires": NOT_TIMES,
    "status": ("no such status", 5, True), "severity": ("urgent", 5, True), "role": NOT_TEXTS, "type": NOT_TEXTS,
    "symbol_type": ("thing", 5), "reference_type": ("thing", 5), "match": ("about", 5), "risk": ("tiny", 5),
    "decision": ("maybe", 5), "verdict": ("maybe", 5), "direction": ("up", 5),
    "scan": NOT_IDS, "plan": NOT_IDS, "finding": NOT_IDS, "draft": NOT_IDS, "chunk": NOT_IDS, "verified": NOT_IDS,
    "suppression": NOT_IDS, "call": NOT_IDS, "a": NOT_IDS,
    "job": ("x", *NOT_IDS), "session": ("x", *NOT_IDS), "audit": ("x", *NOT_IDS), "upload": ("x", *NOT_IDS),
    "item": (*NOT_IDS,), "email": ("", *NOT_TEXTS), "name": ("", *NOT_TEXTS), "key": ("", *NOT_TEXTS),
    "older_than": ("soon", -5, True, timedelta(days=-1)),
    "page": (0, *NOT_NUMBERS), "per_page": (0, *NOT_NUMBERS),
}  # fmt: skip
#: A parameter of one call that has another meaning, and takes such values.
EXCEPT: set[str] = {
    "settings.get(key)", "settings.update(default)", "accounts.authenticate(email)", "accounts.set_password(user)",
}  # fmt: skip


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, new_file: Path) -> Iterator[tuple[Store, dict[str, Any]]]:
    """A store with a row of each kind, and a right value for each parameter."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "src").mkdir()
    (folder / "src" / "shop.py").write_text(
        "def price(item):\n    return item.cost\n\n\ndef total(i):\n    return price(i)\n"
    )
    shutil.copy(new_file, folder / "scan.db")
    with Store(folder / "scan.db") as store:
        known = rows(store, folder)
        with store.bound():
            yield store, known


@pytest.fixture(scope="module")
def other(full: tuple[Store, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A second store with the same rows: their numbers are the same too."""
    folder = tmp_path_factory.mktemp("other")
    shutil.copytree(Path(full[1]["path"]), folder / "src")
    store = Store(folder / "other.db")
    with store.bound():
        known = rows(store, folder)
    yield store, known
    store.close()


def rows(store: Store, folder: Path) -> dict[str, Any]:
    scan = store.scans.record(folder / "src", jobs=1)
    store.scans.analyze(scan)
    model = store.llm.add("m")
    chunk = store.chunks.claim(scan)[0]
    store.chunks.complete(
        chunk, drafts=[{"title": "t", "vulnerability_type": "x", "severity": "high", "line_number": 1}]
    )
    draft = store.drafts.claim(scan)[0]
    store.drafts.record_votes(draft, [{"model": "m", "decision": "verified"}])
    (verified,) = store.verified.list(scan)
    finding = store.findings.publish(verified)
    suppression = store.findings.suppress(rule="other", reason="r", by="ann")
    user = store.accounts.add("ann@x.org")
    session = store.sessions.add(user, "s")
    task = store.sessions.tasks.add(session, "read")
    store.sessions.uploads.add(session, [{"file_path": "a", "file_size": 1}])
    store.sessions.prompts.add(user, "general", "text")
    audit = store.audits.add(user, "a.pdf", 1)
    job = store.jobs.enqueue("one")
    store.library.upsert_tags([{"id": "1", "name": "one"}])
    plan = store.plans.add("p")
    store.schedules.add("nightly", "one", "*/5 * * * *")
    store.settings.set("size", 5)
    analyzer = store.llm.analyzer("m", prompt="p")
    symbol = store.symbols.find("price")[0]
    return {
        "scan": scan, "a": scan, "model": model, "chunk": chunk, "draft": draft, "verified": verified,
        "finding": finding, "suppression": suppression, "user": user, "session": session, "plan": plan, "audit": audit,
        "job": job, "analyzer": analyzer, "symbol": symbol, "task": task, "analysis": audit,
        "upload": store.sessions.uploads.list(session)[0], "path": str(folder / "src"),
    }  # fmt: skip


#: Right values of parameters that take no row.
VALUES: dict[str, Any] = {
    "kind": "tag", "name": "x", "config_type": "general", "file": "shop.py", "key": "size", "type": "one",
    "status": "open", "text": "x", "schedule": "*/5 * * * *", "task_type": "read", "email": "bob@x.org",
    "target": "src",
    "reason": "r", "version": 1, "content": "x", "patterns": ["*.py"], "risk": "low", "drafts": [],
    "decision": "approved", "verdict": "approved", "votes": [], "default": 5, "value": 5, "files": [], "error": "no",
    "original_filename": "b.pdf", "file_size": 1, "format": "json", "old": 1, "new": 2, "field": "title",
    "action": "set", "path": "src", "words": "price", "records": [], "proposals": [], "what": "x",
    "purpose": "verify", "handlers": {"one": print}, "function": str, "root": ".", "proposed": "x", "by": "ann",
    "content_hash": "0" * 64, "password": "secret", "unique": "x",
    "analysis_values": {"equipment_type": "p", "test_type": "x"},
}  # fmt: skip
#: The row that leased work takes, by domain.
ITEMS = {
    "chunks": "chunk", "drafts": "draft", "verified": "verified", "jobs": "job", "audits": "audit",
    "sessions.tasks": "task",
}  # fmt: skip


#: Parameters whose name has another meaning in one call: the value that they take.
SPECIAL = {
    "llm.ask(subject)": "chunk", "llm.answer(subject)": "chunk", "plans.review(decision)": "approve",
    "audits.complete(analysis)": "analysis_values", "symbols.record_file(path)": "a.py",
    "findings.triage(status)": "open",
    "sessions.uploads.mark(status)": "processing", "settings.update(default)": "value",
    "plans.propose(target)": "finding",
    "plans.propose(field)": "severity", "plans.propose(proposed)": "low",
}  # fmt: skip


def domain_of(store: Store, call: Call) -> Any:
    domain: Any = store
    for part in call.domain.split("."):
        domain = getattr(domain, part)
    return domain


def required(call: Call, known: dict[str, Any], without: str) -> dict[str, Any]:
    """Right values for the parameters that a call needs, but for one."""
    given: dict[str, Any] = {}
    for parameter in call.parameters:
        optional = parameter.default is not parameter.empty or parameter.kind in (
            parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD,
        )  # fmt: skip
        if parameter.name == without or optional:
            continue
        name = SPECIAL.get(f"{call}({parameter.name})", parameter.name)
        name = ITEMS.get(call.domain, "") if name == "item" else name
        value = known.get(name, VALUES.get(name, name))
        assert value is not None, f"the tests have no value for {call}({name})"
        whole = f"{call}({parameter.name})" == "plans.propose(target)"
        given[parameter.name] = value if whole else getattr(value, "id", value)
    return given


def made(store: Store, call: Call, given: dict[str, Any]) -> None:
    """Make a call, and take the first row of a stream."""
    before = [p.name for p in call.parameters if p.kind is p.POSITIONAL_ONLY]
    found = getattr(domain_of(store, call), call.name)(*map(given.pop, before), **given)
    if inspect.isgenerator(found):
        next(found, None)


def wrong_calls() -> list[tuple[Call, str]]:
    return [
        (call, parameter.name)
        for call in CALLS
        for parameter in call.parameters
        if parameter.name in WRONG and f"{call}({parameter.name})" not in EXCEPT
    ]


@pytest.mark.parametrize(("call", "name"), wrong_calls(), ids=lambda value: str(value))
def test_a_wrong_argument_is_refused_alike(full: tuple[Store, dict[str, Any]], call: Call, name: str) -> None:
    store, known = full
    given = required(call, known, name)
    accepted = []
    for value in WRONG[name]:
        try:
            made(store, call, {**given, name: value})
        except InvalidArgument:
            continue
        except Exception as error:
            accepted.append((value, repr(error)[:90]))
        else:
            accepted.append((value, "accepted"))
    assert not accepted


def row_calls() -> list[tuple[Call, str]]:
    names = {
        "scan", "a", "model", "chunk", "draft", "verified", "finding", "suppression", "user", "session", "plan",
        "audit",
        "job", "analyzer", "task", "upload", "item",
    }  # fmt: skip
    return [
        (call, parameter.name)
        for call in CALLS
        for parameter in call.parameters
        if parameter.name in names and call.domain != "schedules" and f"{call}({parameter.name})" not in EXCEPT
    ]


@pytest.mark.parametrize(("call", "name"), row_calls(), ids=lambda value: str(value))
def test_a_row_of_another_store_is_refused(
    full: tuple[Store, dict[str, Any]], other: tuple[Store, dict[str, Any]], call: Call, name: str
) -> None:
    """Its id is that of another row here."""
    row = full[1][ITEMS.get(call.domain, "") if name == "item" else name]
    with pytest.raises(WrongStore):
        made(other[0], call, {**required(call, other[1], name), name: row})
