"""Prompts: versions that never change, exactly one default of each user and type, and the one a result points at."""

from __future__ import annotations

import json
import multiprocessing
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from scanstore import Conflict, InvalidArgument, NotFound, Store
from scanstore.cli import main
from scanstore.models import Configuration, User


@pytest.fixture
def ada(store: Store) -> User:
    return store.accounts.add("ada@x.org")


def versions(store: Store, user: User, kind: str = "summary") -> list[tuple[int, str, bool]]:
    return [(row.version, row.prompt_content, row.is_default) for row in store.sessions.prompts.list(user, type=kind)]


def test_a_configuration_has_the_fields_and_defaults_of_the_document(store: Store, ada: User) -> None:
    row = Configuration.get_by_id(Configuration.create(user=ada, config_type="t", prompt_content="x").id)
    assert (row.user, row.version, row.is_default) == (ada, 1, False)
    assert row.created_at.tzinfo is not None and uuid.UUID(row.id)
    raw = "INSERT INTO configurations (id, user_id, config_type, prompt_content) VALUES ('i', ?, 'u', 'x')"
    store.database.execute_sql(raw, (ada.id,))
    assert store.sessions.prompts.get(ada, "u", version=1).is_default is False
    assert list(ada.configurations.order_by(Configuration.config_type)) == store.sessions.prompts.list(ada)


def test_the_first_is_the_default_until_another_is(store: Store, ada: User) -> None:
    first = store.sessions.prompts.add(ada, "summary", "one")
    assert (first.version, first.is_default) == (1, True)
    second = store.sessions.prompts.add(ada.id, " summary ", "two")
    assert (second.version, second.is_default, second.config_type) == (2, False, "summary")
    assert store.sessions.prompts.get(ada, "summary") == first
    assert store.sessions.prompts.get(ada, "summary", version=2) == second
    third = store.sessions.prompts.add(uuid.UUID(ada.id), "summary", "three", default=True)
    assert third.is_default and store.sessions.prompts.get(ada, "summary") == third
    assert store.sessions.prompts.set_default(ada, "summary", 2).is_default
    assert store.sessions.prompts.set_default(ada, "summary", 2).is_default
    assert versions(store, ada) == [(3, "three", False), (2, "two", True), (1, "one", False)]
    assert store.check() == []


def test_the_same_content_again_adds_nothing(store: Store, ada: User) -> None:
    first = store.sessions.prompts.add(ada, "summary", "one")
    assert store.sessions.prompts.add(ada, "summary", "one") == first
    store.sessions.prompts.add(ada, "summary", "two")
    assert store.sessions.prompts.add(ada, "summary", "two", default=True).version == 2
    assert store.sessions.prompts.get(ada, "summary").version == 2
    assert store.sessions.prompts.add(ada, "summary", "one").version == 3  # the latest says something else
    assert store.sessions.prompts.add(ada, "summary", "one ").version == 4  # blanks count


def test_prompts_are_found_and_listed(store: Store, ada: User) -> None:
    prompts = store.sessions.prompts
    one, two = (prompts.add(ada, "summary", text) for text in ("one", "two"))
    assert (prompts.find(ada, "summary"), prompts.find(ada, "summary", version=2)) == (one, two)
    assert prompts.find(ada, "summary", version=3) is prompts.find(ada, "other") is None
    assert prompts.list(ada, limit=1) == [two] and prompts.list(ada, offset=1) == [one]
    assert prompts.list(ada, sort="id", type="summary") == [one, two]
    for options in ({"limit": -1}, {"offset": None}, {"sort": "prompt_content"}, {"type": " "}):
        with pytest.raises(InvalidArgument, match=f"{next(iter(options))} is|cannot be sorted"):
            prompts.list(ada, **options)
    for call, given in ((prompts.add, "one"), (prompts.restore, 1)):
        with pytest.raises(InvalidArgument, match="default is 'no'; it must be True or False"):
            call(ada, "summary", given, default="no")  # type: ignore[operator]


def test_restoring_is_one_more_version(store: Store, ada: User) -> None:
    for text in ("one", "two", "three"):
        store.sessions.prompts.add(ada, "summary", text)
    row = store.sessions.prompts.restore(ada, "summary", 2)
    assert (row.version, row.prompt_content, row.is_default) == (4, "two", False)
    assert store.sessions.prompts.restore(ada, "summary", 2).version == 4  # done already
    row = store.sessions.prompts.restore(ada, "summary", 4, default=True)
    assert row.version == 4 and row.is_default
    assert [content for _, content, _ in versions(store, ada)] == ["two", "three", "two", "one"]


def test_users_and_types_do_not_mix(store: Store, ada: User) -> None:
    bob = store.accounts.add("bob@x.org")
    for user in (ada, bob):
        for kind in ("summary", "review"):
            for n in range(3):
                store.sessions.prompts.add(user, kind, f"{user.email} {kind} {n}", default=n == 1)
    for user in (ada, bob):
        assert store.sessions.prompts.get(user, "review").prompt_content == f"{user.email} review 1"
        rows = store.sessions.prompts.list(user)
        assert [(row.config_type, row.version) for row in rows] == [
            (kind, n) for kind in ("review", "summary") for n in (3, 2, 1)
        ]
        assert sum(row.is_default for row in rows) == 2


def test_a_version_cannot_be_changed_by_anybody(store: Store, ada: User) -> None:
    row = store.sessions.prompts.add(ada, "summary", "one")
    other = store.accounts.add("bob@x.org")
    for change in (
        {"prompt_content": "x"},
        {"version": 2},
        {"config_type": "x"},
        {"user": other},
        {"id": uuid.uuid4()},
    ):
        with pytest.raises(Conflict, match="a version of a prompt cannot be changed; save a new one"):
            Configuration.update(**change).execute()
    row.prompt_content = "changed"
    with pytest.raises(Conflict, match="cannot be changed"):
        row.save()
    assert versions(store, ada) == [(1, "one", True)]


def test_the_database_keeps_one_default_and_one_of_each_version(store: Store, ada: User) -> None:
    store.sessions.prompts.add(ada, "summary", "one")
    with pytest.raises(Conflict):
        Configuration.create(user=ada, config_type="summary", prompt_content="x", version=2, is_default=True)
    with pytest.raises(Conflict):
        Configuration.create(user=ada, config_type="summary", prompt_content="x", version=1)
    with pytest.raises(Conflict):
        Configuration.create(user=ada, config_type="summary", prompt_content="x", version=0)
    assert versions(store, ada) == [(1, "one", True)]


@pytest.mark.parametrize("kind", ["", "  ", "x" * 51, None, 5, "a\0b", "\ud800"], ids=ascii)
def test_bad_types_are_refused(store: Store, ada: User, kind: Any) -> None:
    for use in (
        lambda: store.sessions.prompts.add(ada, kind, "x"), lambda: store.sessions.prompts.get(ada, kind),
        lambda: store.sessions.prompts.restore(ada, kind, 1), lambda: store.sessions.prompts.set_default(ada, kind, 1),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument, match="config_type is .*at most 50"):
            use()
    assert store.sessions.prompts.list(ada) == []


@pytest.mark.parametrize("content", ["", " \n", None, 5, b"x", "a\0b", "\ud800"], ids=ascii)
def test_bad_contents_are_refused(store: Store, ada: User, content: Any) -> None:
    with pytest.raises(InvalidArgument, match="content of a prompt"):
        store.sessions.prompts.add(ada, "summary", content)
    assert store.sessions.prompts.list(ada) == []


@pytest.mark.parametrize("version", [0, -1, 1.0, "1", True, 2**40])
def test_bad_versions_are_refused(store: Store, ada: User, version: Any) -> None:
    store.sessions.prompts.add(ada, "summary", "one")
    for use in (store.sessions.prompts.get, store.sessions.prompts.restore, store.sessions.prompts.set_default):
        with pytest.raises(InvalidArgument, match="version is .* from 1 up"):
            use(ada, "summary", version=version)
        if use != store.sessions.prompts.get:
            with pytest.raises(InvalidArgument, match="version is None"):
                use(ada, "summary", version=None)
    assert versions(store, ada) == [(1, "one", True)]


def test_what_is_not_there_is_said(store: Store, ada: User) -> None:
    store.sessions.prompts.add(ada, "summary", "one")
    for use in (store.sessions.prompts.get, store.sessions.prompts.restore, store.sessions.prompts.set_default):
        with pytest.raises(NotFound, match=f"no version 7 of prompt 'summary' of user {ada.id}; store.sessions"):
            use(ada, "summary", version=7)
        with pytest.raises(NotFound, match="no version 1 of prompt 'review'"):
            use(ada, "review", version=1)
    with pytest.raises(NotFound, match="no prompt 'review' .*store.sessions.prompts.add"):
        store.sessions.prompts.get(ada, "review")
    nobody = uuid.uuid4()
    for ask in (
        lambda: store.sessions.prompts.add(nobody, "summary", "x"), lambda: store.sessions.prompts.list(nobody),
        lambda: store.sessions.prompts.get(nobody, "summary"),
        lambda: store.sessions.prompts.restore(nobody, "summary", 1),
    ):  # fmt: skip
        with pytest.raises(NotFound, match=f"no user {nobody}"):
            ask()
    assert versions(store, ada) == [(1, "one", True)]


def test_without_a_default_the_latest_is_meant(store: Store, ada: User) -> None:
    for n in (1, 2, 3):
        Configuration.create(user=ada, config_type="summary", prompt_content=f"by hand {n}", version=n)
    assert store.sessions.prompts.get(ada, "summary").version == 3
    assert not store.sessions.prompts.add(ada, "summary", "by the way").is_default
    assert store.sessions.prompts.get(ada, "summary").version == 4
    store.sessions.prompts.set_default(ada, "summary", 1)
    assert store.sessions.prompts.get(ada, "summary").version == 1
    assert store.check() == []


def _save_often(path: str, user: str, name: str, barrier: Any) -> None:
    with Store(path) as store:
        barrier.wait()
        for n in range(25):
            store.sessions.prompts.add(user, "summary", f"{name} {n}", default=n % 3 == 0)


def test_two_processes_save_versions(store: Store, ada: User) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    workers = [context.Process(target=_save_often, args=(store.path, ada.id, n, barrier)) for n in ("a", "b")]
    for each in workers:
        each.start()
    for each in workers:
        each.join(60)
        assert each.exitcode == 0
    found = versions(store, ada)
    assert [version for version, _, _ in found] == list(range(50, 0, -1))
    assert {content for _, content, _ in found} == {f"{name} {n}" for name in "ab" for n in range(25)}
    assert sum(default for _, _, default in found) == 1
    assert store.check() == []


class Versions(RuleBasedStateMachine):
    """Whatever is saved, restored and made the default: versions only grow, and a list of texts says what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(":memory:").__enter__()
        self.users = [self.store.accounts.add(f"{n}@x.org") for n in range(2)]
        self.known: dict[tuple[int, str], list[str]] = {(n, kind): [] for n in range(2) for kind in ("a", "b")}
        self.default: dict[tuple[int, str], int] = {}

    which = st.tuples(st.integers(0, 1), st.sampled_from("ab"))
    texts = st.sampled_from(["one", "two", "three"])

    @rule(which=which, text=texts, default=st.booleans())
    def save(self, which: tuple[int, str], text: str, default: bool) -> None:
        row = self.store.sessions.prompts.add(self.users[which[0]], which[1], text, default=default)
        self.came(which, text, default, row)

    @rule(which=which, version=st.integers(1, 6), default=st.booleans())
    def restore(self, which: tuple[int, str], version: int, default: bool) -> None:
        call = lambda: self.store.sessions.prompts.restore(self.users[which[0]], which[1], version, default=default)  # noqa: E731
        if version > len(self.known[which]):
            with pytest.raises(NotFound):
                call()
        else:
            self.came(which, self.known[which][version - 1], default, call())

    @rule(which=which, version=st.integers(1, 6))
    def make_default(self, which: tuple[int, str], version: int) -> None:
        call = lambda: self.store.sessions.prompts.set_default(self.users[which[0]], which[1], version)  # noqa: E731
        if version > len(self.known[which]):
            with pytest.raises(NotFound):
                call()
        else:
            assert call().version == version
            self.default[which] = version

    def came(self, which: tuple[int, str], text: str, default: bool, row: Configuration) -> None:
        known = self.known[which]
        if not known or known[-1] != text:
            known.append(text)
        if default or len(known) == 1 and which not in self.default:
            self.default[which] = len(known)
        assert (row.version, row.prompt_content) == (len(known), text)
        assert row.is_default == (self.default[which] == row.version)

    @invariant()
    def all_is_known(self) -> None:
        for (n, kind), known in self.known.items():
            rows = self.store.sessions.prompts.list(self.users[n], type=kind)
            assert [(row.version, row.prompt_content) for row in rows][::-1] == list(enumerate(known, 1))
            assert [row.version for row in rows if row.is_default] == ([self.default[n, kind]] if known else [])
            if known:
                assert self.store.sessions.prompts.get(self.users[n], kind).version == self.default[n, kind]

    def teardown(self) -> None:
        assert self.store.check() == []
        self.store.__exit__(None, None, None)


TestVersions = Versions.TestCase
TestVersions.settings = settings(max_examples=8, stateful_step_count=20, deadline=None)


# -- the command line --------------------------------------------------------------------------------------------

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)
    with Store() as store:
        store.accounts.add("ada@x.org")

    def invoke(*args: str, code: int = 0, **options: Any) -> Result:
        result = CliRunner().invoke(main, ("prompts", *args), prog_name="scanstore", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    yield invoke
    with Store() as store:
        assert store.check() == []


def test_prompts_are_saved_shown_restored(run: Run, tmp_path: Path) -> None:
    assert run("list", "ada@x.org").stderr.startswith("no prompts here; save one with")
    (tmp_path / "prompt.txt").write_text("Summarise\nthis: \x1b[2J")
    assert run("save", "ada@x.org", "summary", "prompt.txt").stdout == "Prompt summary: version 1, the default\n"
    assert run("save", "ADA@x.org", "summary", "-", input="Shorter.").stdout == "Prompt summary: version 2\n"
    lines = run("list", "ada@x.org", "--type", "summary").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["summary", "2"], ["summary", "1"]]
    assert "default" in lines[1] and lines[0].endswith("Shorter.") and lines[1].endswith(r"Summarise this: \x1b[2J")
    shown = run("show", "ada@x.org", "summary")
    assert shown.stdout == "Summarise\nthis: \\x1b[2J\n" and shown.stderr == "summary, version 1, the default\n"
    assert run("show", "ada@x.org", "summary", "--version", "2").stdout == "Shorter.\n"
    assert json.loads(run("show", "ada@x.org", "summary", "--json").stdout)["prompt_content"].endswith("\x1b[2J")
    assert run("default", "ada@x.org", "summary", "2").stdout == "Prompt summary: version 2, the default\n"
    again = json.loads(run("restore", "ada@x.org", "summary", "1", "--default", "--json").stdout)
    assert (again["version"], again["is_default"]) == (3, True)
    assert [row["version"] for row in json.loads(run("list", "ada@x.org", "--json").stdout)] == [3, 2, 1]


def test_bad_usage_of_prompts_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").touch()
    for args, message in (
        (("show", "ada@x.org", "summary"), "no prompt 'summary'"),
        (("list", "bob@x.org"), "no user bob@x.org"),
        (("save", "ada@x.org", "summary", "bytes"), "bytes is not text in UTF-8"),
        (("save", "ada@x.org", "summary", "empty"), "content of a prompt must be text"),
        (("restore", "ada@x.org", "summary", "3"), "no version 3"),
    ):
        result = run(*args, code=1)
        assert message in result.stderr and result.stderr.count("\n") == 1, result.stderr
    run("save", "ada@x.org", "summary", "missing.txt", code=2)
    run("default", "ada@x.org", "summary", "0", code=2)
