"""Every block of README.md and docs/ runs, from an empty folder and twice: see `tests/support/pages.py`.

``PYTHONPATH=.:tests/support python tests/test_pages.py docs/findings.md`` writes the output of a page again.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import needs
import pytest
from pages import ROOT, Page, Run, Untrue, commands, lacks, rewritten

from scanstore import Store

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


# How many blocks of a page are not run; the comment above each says why.
NOT_RUN = {"CONTRIBUTING.md": 3, "README.md": 2, "docs/command-line.md": 2, "docs/installation.md": 2}


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read(page: Path) -> Page:
    return Page(page.read_text(encoding="utf-8"))


def run(page: Page, folder: Path) -> None:
    if missing := lacks(page.needs):
        pytest.skip(f"needs {', '.join(missing)}")
    todo = Run(page, folder)
    todo()
    if todo.skipped:
        pytest.skip("; ".join(todo.skipped))


# `test_tasks.py` runs the pages of tasks once; here they run twice.
RUN = [
    pytest.param(page, marks=pytest.mark.extras) if page.parent.name == "tasks" else page
    for page in PAGES
    if read(page).blocks
]


@needs.fork
@pytest.mark.parametrize("path", RUN, ids=named)
def test_a_page_does_what_it_says(path: Path, tmp_path: Path) -> None:
    run(read(path), tmp_path)


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_reader_sees_the_names_of_files(path: Path) -> None:
    """The comments are not shown."""
    for block in read(path).blocks:
        assert "file" not in block.marks or f"`{block.marks['file']}`" in block.above, f"line {block.line}"


def test_the_query_of_the_page_about_stores_uses_an_index() -> None:
    (sql,) = [block.body for block in read(ROOT / "docs" / "store.md").blocks if block.kind == "sql"]
    with Store(":memory:") as store:
        plan = " ".join(row[3] for row in store.database.execute_sql(f"EXPLAIN QUERY PLAN {sql}"))
    assert "SEARCH s USING INDEX" in plan


def test_few_blocks_are_not_run() -> None:
    found = {named(page): read(page).not_run() for page in PAGES}
    assert {name: len(reasons) for name, reasons in found.items() if reasons} == NOT_RUN
    assert all(len(reason) > 10 for reasons in found.values() for reason in reasons)


CONSOLE = """```console
$ echo one; echo "two
> three"
one
…
three
$ scanstore settings set a 1 --db x.db && scanstore settings get a --db x.db | sed 's/1/2/'
…
2
$ scanstore settings get b --db x.db; cd .. && echo $?
…
0
$ pwd
/home/me
```
"""


@needs.fork
def test_commands_are_run_as_in_a_shell(tmp_path: Path) -> None:
    (block,) = Page(CONSOLE).blocks
    assert [command.line.split()[0] for command in commands(block)] == ["echo", "scanstore", "scanstore", "pwd"]
    run(Page(CONSOLE), tmp_path)


@needs.fork
def test_blocks_share_names_where_a_page_says_so(tmp_path: Path) -> None:
    mark = "<!-- continues -->"
    text = "```python\na = 1\n```\n\n<!-- continues -->\n```python\nprint(a)\n```\n\n```text\n1\n```\n"
    run(Page(text), tmp_path / "with")
    with pytest.raises(Untrue, match="NameError"):
        run(Page(text.replace(mark, "")), tmp_path / "without")


@needs.fork
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "prints"),
        ("```python\nprint(1)\n```\n", "prints"),
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```console\n$ echo 1\n2\n```\n", "prints"),
        ("```console\n$ echo 1 s\n1.5 m\n```\n", "prints"),
        ("```console\n$ false\n```\n", "the page does not say so"),
        ("```console\n$ mkdir a\n```\n", "the second time"),
        ("```sql\nSELECT 1;\n```\n\n```text\n2\n```\n", "prints"),
        ("```toml\na = 1\n```\n", "neither run nor marked"),
        ("```text\na\n```\n", "neither run nor marked"),
    ],
)
def test_a_page_that_is_not_true_is_found(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(Untrue, match=message):
        run(Page(text), tmp_path)


def test_a_page_says_what_it_needs() -> None:
    text = "# Page\n\n<!-- needs: nosuchmodule -->\n\nA `<!-- needs: other -->` is text.\n\n```console\n$ true\n```\n"
    assert lacks(Page(text).needs) == ["nosuchmodule"]
    assert lacks("bandit json", "$ bandit -r app\n", {"json"}) == [*lacks("bandit", "$ bandit -r app\n"), "json"]


@needs.fork
def test_the_output_of_a_page_is_written_again(tmp_path: Path) -> None:
    text = "```console\n$ echo '2.5 s'\n4.2 s\n$ echo a b\n\n$ true\n```\n"
    again = "```console\n$ echo '2.5 s'\n4.2 s\n$ echo a b\na b\n$ true\n```\n"
    assert rewritten(Page(text), tmp_path) == again


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the output of pages again.")
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="run the page once and keep what it makes here")
    given = parser.parse_args()
    for path in given.pages:
        with tempfile.TemporaryDirectory() as made:
            text = rewritten(read(path), given.keep or Path(made), 1 if given.keep else 2)
        path.write_text(text, encoding="utf-8")
