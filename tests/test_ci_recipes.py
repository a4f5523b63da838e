"""The recipes for continuous integration: the files of hosts are well formed, and what they run exists.

`tests/test_pages.py` runs the scripts of the page.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "ci.md").read_text(encoding="utf-8")
FILES: dict[str, str] = dict(re.findall(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```", PAGE, re.DOTALL))
HOSTS = {name: text for name, text in FILES.items() if name.endswith(".yml")}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".sh")}
GITHUB, GITLAB = ".github/workflows/findings.yml", ".gitlab-ci.yml"


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that some words name, and its arguments."""
    from scanstore.cli import main

    command: click.Command = main
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize("name", [*HOSTS, *SCRIPTS])
def test_each_command_of_scanstore_exists_with_its_options(name: str) -> None:
    lines = re.findall(r"^\s*(?:- |- run: |run: )?scanstore (.+?)(?: >> .+)?$", FILES[name], re.MULTILINE)
    assert lines
    for line in lines:
        command, arguments = command_of(shlex.split(line.replace("$", "")))
        command.make_parser(click.Context(command)).parse_args(arguments)


@pytest.mark.parametrize("name", HOSTS)
def test_each_script_that_a_host_runs_is_on_the_page(name: str) -> None:
    assert set(re.findall(r"\bsh (\w+\.sh)", HOSTS[name])) == set(SCRIPTS)


@pytest.mark.parametrize("name", HOSTS)
def test_the_files_of_hosts_are_indented_by_two_spaces(name: str) -> None:
    """And each action has a version. The tests below read the files, if there is a parser."""
    before = 0
    for line in filter(None, HOSTS[name].splitlines()):
        indent = len(line) - len(line.lstrip(" "))
        assert "\t" not in line and indent % 2 == 0 and indent <= before + 2, line
        before = indent
    for action in re.findall(r"uses: (.*)", HOSTS[name]):
        assert re.fullmatch(r"[a-z-]+/[a-z-]+(/[a-z-]+)?@v\d+", action)


def parsed(name: str) -> Any:
    return pytest.importorskip("yaml", reason="needs PyYAML").safe_load(HOSTS[name])


def test_the_workflow_saves_the_store_of_the_main_branch_alone_and_always() -> None:
    workflow = parsed(GITHUB)
    steps = workflow["jobs"]["gate"]["steps"]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    uses = [step.get("uses", "").partition("@")[0] for step in steps]
    runs = [step.get("run", "") for step in steps]
    restore, save = uses.index("actions/cache/restore"), uses.index("actions/cache/save")
    assert restore < runs.index("sh gate.sh bandit.sarif") < save == len(steps) - 1
    assert steps[save]["if"] == "always() && github.ref == 'refs/heads/main'"
    assert steps[save]["with"]["key"] == steps[restore]["with"]["key"]
    assert steps[save]["with"]["key"].startswith(steps[restore]["with"]["restore-keys"])
    assert workflow["permissions"] == {"contents": "read", "security-events": "write"}


def test_the_pipeline_saves_the_store_of_the_default_branch_alone_and_always() -> None:
    job = parsed(GITLAB)["findings"]
    assert job["cache"] == {
        "key": "scanstore", "paths": ["scanstore.db"], "policy": "$STORE_POLICY", "when": "always", "unprotect": True,
    }  # fmt: skip
    request, default = job["rules"]
    assert request["variables"] == {"STORE_POLICY": "pull"} and "merge_request_event" in request["if"]
    assert default["variables"] == {"STORE_POLICY": "pull-push"} and "$CI_DEFAULT_BRANCH" in default["if"]
    assert all(isinstance(line, str) for line in (*job["script"], *job["after_script"]))
