"""What the README shows is what happens: its scripts print what stands below them, its commands exist."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from pathlib import Path

import click
import pytest
from stressing import done

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", README, re.DOTALL)


def commands(group: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(group, click.Group):
        return [path]
    context = click.Context(group)
    found = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found += commands(command, (*path, name))
    return found


def test_scripts_print_what_the_readme_says(tmp_path: Path) -> None:
    """One after the other in one folder, as a reader would try them, each with names of its own."""
    assert len(SCRIPTS) == README.count("```python")
    shutil.copytree(ROOT / "tests" / "callgraph", tmp_path / "tests" / "callgraph")
    for script, printed in SCRIPTS:
        (printed_now,) = done(lambda tell, script=script: tell(print_of(script, tmp_path)))
        assert printed_now == printed, script


def print_of(script: str, folder: Path) -> str:
    """Run a script; it is by itself in this process, and has its own environment."""
    for name in [name for name in os.environ if name.startswith("SCANSTORE")]:
        del os.environ[name]
    os.chdir(folder)
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()) as told, contextlib.redirect_stderr(errors):
        exec(compile(script, "<README>", "exec", dont_inherit=True), {"__name__": "__main__"})
    assert errors.getvalue() == ""
    return told.getvalue()


def test_the_sql_of_the_readme_runs(tmp_path: Path) -> None:
    from scanstore import Store

    (sql,) = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
    with Store(tmp_path / "scan.db") as store:
        store.scans.record(ROOT / "tests" / "callgraph" / "shop")
        rows = store.database.execute_sql(sql).fetchall()
        plan = " ".join(row[3] for row in store.database.execute_sql(f"EXPLAIN QUERY PLAN {sql}"))
    assert len(rows) == 5
    assert "SEARCH s USING INDEX" in plan


def schema() -> str:
    """The tables that have a model, as the README lists them."""
    import peewee

    from scanstore import models

    lines = ["| table | model | columns |", "|---|---|---|"]
    for name in sorted(models.__all__, key=lambda name: getattr(models, name)._meta.table_name):
        meta = getattr(models, name)._meta
        columns = [
            f"{field.column_name} → {field.rel_model._meta.table_name}"
            if isinstance(field, peewee.ForeignKeyField)
            else field.column_name
            for field in meta.sorted_fields
        ]
        lines.append(f"| `{meta.table_name}` | `{name}` | {', '.join(columns)} |")
    return "\n".join(lines)


def test_the_schema_of_the_readme_is_that_of_the_models() -> None:
    """Made anew by: python tests/test_readme.py"""
    (written,) = re.findall(r"<!-- schema -->\n(.*)\n<!-- /schema -->", README, re.DOTALL)
    assert written == schema()


def test_each_promise_of_the_readme_has_its_test() -> None:
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", README)
    assert len(named) > 25
    for path, test in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), f"{path}::{test}"


def test_every_command_is_in_the_readme() -> None:
    from scanstore.cli import main

    found = commands(main)
    assert len(found) > 20
    for words in found:
        plain = " ".join(words)
        group, _, verb = plain.rpartition(" ")
        named = re.search(rf"\b{re.escape(plain)}\b", README)
        listed = group and re.search(rf"{re.escape(group)} [\w/]*\b{re.escape(verb)}\b", README)
        assert named or listed, f"{plain} is not in the README"


def test_commands_of_the_readme_exist() -> None:
    from scanstore.cli import main

    known = {" ".join(words) for words in commands(main)}
    groups = {" ".join(words[:-1]) for words in commands(main) if len(words) > 1}
    for line in re.findall(r"^\$ (scanstore [^|\n]*)", README, re.MULTILINE):
        words = line.split()[1:3]
        assert " ".join(words) in known or words[0] in known, line
        assert words[0] in known | groups, line


@pytest.mark.parametrize("word", ["@@", "TODO", "FIXME"])
def test_the_readme_is_finished(word: str) -> None:
    assert word not in README


if __name__ == "__main__":
    (ROOT / "README.md").write_text(
        re.sub(r"(?s)<!-- schema -->\n.*<!-- /schema -->", f"<!-- schema -->\n{schema()}\n<!-- /schema -->", README)
    )
