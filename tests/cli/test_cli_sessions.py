"""Analysis sessions on the command line: listed, shown, removed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scanstore import Store
from scanstore.cli import main

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command line in a folder with no store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)

    def invoke(*args: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, ["sessions", *args], prog_name="scanstore")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    yield invoke
    if Path("scanstore.db").exists():
        with Store() as store:
            assert store.check() == []


@pytest.fixture
def ids() -> Callable[[], list[str]]:
    """Make a store with two sessions, one of them with something in it."""

    def make() -> list[str]:
        with Store() as store:
            ada, bob = (store.accounts.add(f"{name}@example.org") for name in ("ada", "bob"))
            one, two = store.sessions.add(ada, "one\x1b[31m"), store.sessions.add(bob, "two")
            store.sessions.uploads.add(
                one,
                [{"file_path": "a.pdf", "file_size": 1500}, {"file_path": "b\nc", "file_size": 7}],
            )
            upload = store.sessions.uploads.list(one)[0]
            store.sessions.uploads.mark(upload, "processing")
            store.sessions.uploads.mark(upload, "error", error="no text")
            for name in ("t1", "t2"):
                store.sessions.tasks.add(one, "read", task_id=name)
            first, second = store.sessions.tasks.claim(one, limit=2)
            store.sessions.tasks.complete(first, result={"result_content": "Fine.\n", "score": "87.5"})
            store.sessions.tasks.fail(second, "it broke\nin line 2", retry=False)
            return [one.id, two.id]

    return make


def test_list(run: Run, ids: Callable[[], list[str]]) -> None:
    one, two = ids()
    assert run("list").stdout.splitlines() == [
        f"{two}\tcreated\t0 of 0 files\tbob@example.org\ttwo",
        f"{one}\tprocessing\t1 of 2 files\tada@example.org\tone\\x1b[31m",
    ]
    assert run("list", "--user", "ADA@example.org").stdout.startswith(f"{one}\tprocessing")
    assert len(run("list", "--limit", "1").stdout.splitlines()) == 1
    [row] = json.loads(run("list", "--status", "created", "--json").stdout)
    assert (row["id"], row["session_name"], row["total_files"]) == (two, "two", 0)
    none = run("list", "--status", "failed")
    assert (none.stdout, none.stderr) == ("", "no sessions like that\n")
    assert "no user" in run("list", "--user", "eve@example.org", code=1).stderr
    run("list", "--status", "done", code=2)


def test_show(run: Run, ids: Callable[[], list[str]]) -> None:
    one, _ = ids()
    said = run("show", one).stdout
    assert said.startswith("one\\x1b[31m, processing, 1 of 2 files\n")
    for line in (
        "  user     ada@example.org\n",
        "\nfiles:\n  error     1.5 kB  a.pdf  no text\n  uploaded     7 B  b\\nc\n",
        "\ntasks:\n  completed  100 %  read  t1\n  failed       0 %  read  t2  it broke\n",
        "\nresults:\n  completed  87.50  read\n",
    ):
        assert line in said
    data = json.loads(run("show", one, "--json").stdout)
    assert data["results"][0]["result_content"] == "Fine.\n" and data["results"][0]["score"] == 87.5
    assert [each["upload_status"] for each in data["files"]] == ["error", "uploaded"]
    assert [each["task_id"] for each in data["tasks"]] == ["t1", "t2"]


def test_remove(run: Run, ids: Callable[[], list[str]]) -> None:
    one, two = ids()
    assert run("remove", one).stdout == "Removed session 'one\\x1b[31m'\n"
    assert json.loads(run("remove", two, "--json").stdout) == {"removed": two}
    assert run("list").stderr == "no sessions here; add one with: store.sessions.add(user, name)\n"
    for command in ("show", "remove"):
        said = run(command, one, code=1).stderr
        assert said.startswith(f"Error: no session {one}; ") and len(said.splitlines()) == 1
        assert "is not a session" in run(command, "one", code=1).stderr


def test_without_a_store(run: Run) -> None:
    assert "no store at scanstore.db" in run("list", code=1).stderr
    assert not Path("scanstore.db").exists()
