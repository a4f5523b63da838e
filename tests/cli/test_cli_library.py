"""The library on the command line: synced from files of records, listed, counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scanstore import Store
from scanstore.cli import main
from scanstore.library.models import SyncRun

Run = Callable[..., Result]
SCENES: list[dict[str, Any]] = [
    {
        "id": "1", "title": "One\x1b[31m", "scene_date": "2026-02-28", "organized": True,
        "studio": {"id": "s1", "name": "Maker"},
        "performers": [{"id": "p1", "name": "Ann"}, {"id": "p2", "name": "Ann"}],
        "tags": [{"id": "t1", "name": "outdoor"}, {"id": "t2", "name": "t1"}],
    },
    {"id": "2", "title": "Two", "tags": [{"id": "t2", "name": "t1"}]},
]  # fmt: skip


def lines(records: list[Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command line in a folder with a file of two scenes and no store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)
    Path("scenes.jsonl").write_text(lines(SCENES) + "\n")

    def invoke(*args: str, code: int = 0, **options: Any) -> Result:
        result = CliRunner().invoke(main, ["library", *args], prog_name="scanstore", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    yield invoke
    with Store() as store:
        assert store.check() == []


def test_sync_list_and_stats(run: Run) -> None:
    said = run("sync", "scenes.jsonl")
    assert said.stdout == "2 scenes: 2 created, 0 updated, 0 unchanged; 5 links added, 0 removed\n" and not said.stderr
    again = json.loads(run("sync", "scenes.jsonl", "--json").stdout)
    assert (again["run"], again["unchanged"], again["unseen"], again["pruned"]) == (2, 2, [], 0)
    assert run("list").stdout.splitlines() == ["1\t2026-02-28\tOne\\x1b[31m\tMaker", "2\t\tTwo\t"]
    assert run("list", "--tag", "outdoor").stdout.startswith("1\t")
    assert (
        run("list", "--tag", "t1", "--json").stdout == run("list", "--organized", "--json").stdout
    )  # an id, not a name
    assert run("list", "--performer", "p2", "--studio", "Maker", "--limit", "5").stdout.startswith("1\t")
    assert run("list", "--kind", "tag").stdout.splitlines() == ["t1\toutdoor\t1", "t2\tt1\t2"]
    assert [row["scenes"] for row in json.loads(run("list", "--kind", "tag", "--json").stdout)] == [1, 2]
    assert run("list", "--organized", "--performer", "p1", "--tag", "t2", "--studio", "s1").stdout
    empty = run("list", "--not-organized", "--studio", "s1")
    assert (empty.stdout, empty.stderr) == ("", "no scenes like that\n")
    told = run("stats").stdout
    assert "scenes               2\n" in told and "links to tags        3\n" in told
    assert "last sync of scenes  completed  20" in told
    assert json.loads(run("stats", "--json").stdout)["synced"]["scene"]["unchanged"] == 2


def test_partial_dates_are_printed_as_they_came(run: Run) -> None:
    dated = [{"id": "1", "title": "a", "scene_date": "2014"}, {"id": "2", "title": "b", "scene_date": "2006-08"}]
    run("sync", "-", input=lines(dated))
    assert run("list").stdout.splitlines() == ["1\t2014\ta\t", "2\t2006-08\tb\t"]
    listed = run("list", "--json").stdout
    assert [row["scene_date"] for row in json.loads(listed)] == ["2014", "2006-08"]
    assert "2 unchanged" in run("sync", "-", input=lines(json.loads(listed))).stdout


def test_what_list_prints_as_json_can_be_synced(run: Run) -> None:
    run("sync", "scenes.jsonl")
    records = json.loads(run("list", "--json").stdout)
    said = run("sync", "-", "--prune", input=lines(records))
    assert said.stdout == "2 scenes: 0 created, 0 updated, 2 unchanged; 0 links added, 0 removed; 0 pruned\n"


def test_prune(run: Run) -> None:
    run("sync", "scenes.jsonl")
    one = lines(SCENES[:1])
    said = run("sync", "-", input=one)
    assert said.stderr == "1 scene that the store has was not in the input; --prune removes what a full listing lacks\n"
    assert json.loads(run("sync", "-", "--prune", "--json", input=one).stdout)["unseen"] == ["2"]
    assert len(run("list").stdout.splitlines()) == 1
    tags = '{"id": "t2", "name": "t2"}\n'
    assert run("sync", "-", "--kind", "tag", "--prune", input=tags).stdout == (
        "1 tag: 0 created, 1 updated, 0 unchanged; 1 pruned\n"
    )
    assert "has seen no tags" in run("sync", "-", "--kind", "tag", "--prune", code=1, input="").stderr
    assert run("sync", "-", "--kind", "tag", input="").stdout == "0 tags: 0 created, 0 updated, 0 unchanged\n"


def test_bad_input_is_one_line(run: Run) -> None:
    assert run("sync", "none.jsonl", code=1).stderr == (
        "Error: none.jsonl cannot be read: no such file or directory; check the path\n"
    )
    bad = run("sync", "-", code=1, input=lines(SCENES) + "{oops\n").stderr
    assert bad.startswith("Error: line 3 of the input is not JSON: ") and len(bad.splitlines()) == 1
    wrong = '{"id": "1", "title": 5}'
    assert "record 1 (scene '1'): title is 5" in run("sync", "-", "--strict", code=1, input=wrong).stderr
    assert "failed" in run("stats").stdout
    aside = run("sync", "-", input=wrong)
    assert aside.stdout == ("0 scenes: 0 created, 0 updated, 0 unchanged; 0 links added, 0 removed; 1 rejected\n")
    assert aside.stderr == "rejected: record 1 (scene '1'): title is 5; it must be text\n"
    many = lines([{"id": str(n), "title": n} for n in range(12)])
    assert run("sync", "-", input=many).stderr.endswith("2 more records rejected; --json lists the first 100\n")
    told = json.loads(run("sync", "-", "--json", input=many).stdout)
    assert told["rejected"] == 12 and told["rejections"][2]["id"] == "2" and not told["unseen"]
    assert "no scenes yet; write some with: scanstore library sync FILE\n" == run("list").stderr
    assert run("list", "--kind", "tag").stderr.endswith("sync FILE --kind tag\n")
    assert "nothing was synced" not in run("stats").stderr  # it was, and failed
    assert "--tag is about scenes" in run("list", "--kind", "tag", "--tag", "x", code=2).stderr
    assert "--organized is about scenes" in run("list", "--kind", "tag", "--organized", code=2).stderr
    run("sync", "scenes.jsonl")
    assert "'x' is no tag; list them --kind tag" in run("list", "--tag", "x", code=1).stderr
    assert "'Ann' has 2 performers, give an id: p1, p2" in run("list", "--performer", "Ann", code=1).stderr


def test_a_sync_of_another_machine_can_be_taken_over(run: Run) -> None:
    with Store():
        SyncRun.create(kind="scene", process="elsewhere:1@1")
    assert "--take-over" in run("sync", "scenes.jsonl", code=1).stderr
    assert run("sync", "scenes.jsonl", "--take-over").stdout.startswith("2 scenes: 2 created")
