"""README.md and docs/ name every command, and the tests and links that they name exist. `test_pages` runs them.

``PYTHONPATH=.:tests/support python tests/test_readme.py`` writes the generated parts again: the schema, the
commands, the packages, the modules; and the links of the README, once the project has an address.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import click
import pytest
from import_graph import STEPS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
DOCS = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted((ROOT / "scanstore").rglob("*.py"))
}


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def commands(group: click.Command, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    if not isinstance(group, click.Group):
        return {path: group}
    context = click.Context(group)
    found = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found |= commands(command, (*path, name))
    return found


# Commands


def test_every_command_is_on_a_page() -> None:
    """The generated list does not count: it says that a command exists, not what it is for."""
    from scanstore.cli import main

    written = re.sub(r"(?s)<!-- commands -->.*<!-- /commands -->", "", DOCS)
    found = commands(main)
    assert len(found) > 20
    for words in found:
        plain = " ".join(words)
        group, _, verb = plain.rpartition(" ")
        shown = re.search(rf"\b{re.escape(plain)}\b", written)
        listed = group and re.search(rf"{re.escape(group)} [\w/-]*\b{re.escape(verb)}\b", written)
        assert shown or listed, f"`{plain}` is on no page: name it in README.md or in docs/"


# Promises and links


def test_each_promise_has_its_test() -> None:
    promises = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| promise \| proved by \|\n\|---\|---\|\n((?:\|.*\n)+)", promises, re.MULTILINE)
    table = "".join(tables).splitlines()
    assert len(table) > 50
    for row in table:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert tests, f"no test proves: {row}"
        for path, test in tests:
            text = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), f"{path}::{test}"


@cache
def anchors(page: Path) -> set[str]:
    """The anchors that a code host gives to the headings of a page."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        plain = LINK.sub(lambda link: link[0][1:].partition("]")[0], heading).replace("`", "")
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found[anchor] = found.get(anchor, -1) + 1
        if found[anchor]:
            found[f"{anchor}-{found[anchor]}"] = 0
    return set(found)


def address() -> str | None:
    """The address below which a code host shows the files, from the `Source` of setup.cfg's `project_urls`."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    urls = settings["metadata"].get("project_urls")
    found = re.search(r"^Source *= *(https://\S+?)/?$", urls or "", re.MULTILINE)
    assert found or urls is None, "project_urls needs a line such as: Source = https://..."
    return f"{found[1]}/blob/HEAD/" if found else None


def with_address(readme: str, address: str | None) -> str:
    """The README with links that work where it is shown without the other files, as on a page of a package index."""
    if address is None:
        return readme
    return re.sub(r"(?<=\]\()(?!https://|#)(?=[^)\s]+\))", lambda _: address, readme)


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """Each link of a page to another one: as written, its file and its anchor."""
    own = address()
    for target in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        target = target.removeprefix(own) if own else target
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            yield target, (page.parent / path).resolve() if path else page.resolve(), anchor


@pytest.mark.parametrize(
    "page", [*PAGES, *sorted((ROOT / "docs" / "tasks").glob("*.md")), ROOT / "CHANGELOG.md"], ids=named
)
def test_links_lead_somewhere(page: Path) -> None:
    for target, path, anchor in links(page):
        assert path.is_relative_to(ROOT.resolve()) and path.exists(), f"{named(page)}: {target}"
        assert not anchor or anchor in anchors(path), f"{named(page)}: there is no heading for {target}"


def test_the_readme_leads_to_every_page() -> None:
    linked = {path for _, path, _ in links(PAGES[0])}
    frame = {"index.md", "changelog.md", "contributing.md", "security.md"}  # pages of the built documentation only
    assert {page.resolve() for page in PAGES[1:] if page.name not in frame} <= linked
    assert len(README.splitlines()) <= 150, "move what is not for the first minutes to a page of docs/"


def test_the_readme_shows_a_picture() -> None:
    (source,) = re.findall(r'<img src="([^"]+)"', README)
    assert (ROOT / source).read_bytes().startswith(b"\x89PNG") and (ROOT / source).stat().st_size <= 120_000


def test_pages_named_in_code_exist() -> None:
    """Docstrings, comments and messages name a page as docs/NAME.md, with an anchor where they like."""
    for folder in ("scanstore", "migrations", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8", errors="replace")
            for name, anchor in re.findall(r"\b(docs/[a-z-]+\.md)(?:#([\w-]+))?", text):
                assert (ROOT / name).exists(), f"{named(path)}: {name}"
                assert not anchor or anchor in anchors(ROOT / name), f"{named(path)}: {name}#{anchor}"


def test_the_links_of_the_readme_have_the_address_of_the_project() -> None:
    assert README == with_address(README, address()), "run: PYTHONPATH=.:tests/support python tests/test_readme.py"
    text = "[a](docs/a.md#b) [b](https://sqlite.org) [c](#c) ![d](docs/d.png)"
    host = "https://example.org/blob/HEAD/"
    linked = f"[a]({host}docs/a.md#b) [b](https://sqlite.org) [c](#c) ![d]({host}docs/d.png)"
    assert with_address(text, host) == with_address(linked, host) == linked
    assert with_address(text, None) == text


@pytest.mark.parametrize("word", ["@@", "TODO", "FIXME"])
def test_the_pages_are_finished(word: str) -> None:
    assert word not in DOCS


# Generated parts


def schema() -> str:
    """The tables that have a model."""
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


def command_table() -> str:
    """Every command with the first sentence of its help."""
    from scanstore.cli import main

    lines = ["| command | |", "|---|---|"]
    for words, command in sorted(commands(main).items()):
        lines.append(f"| `scanstore {' '.join(words)}` | {cell(command.help or '')} |")
    return "\n".join(lines)


def module_table() -> str:
    """Every module with the first sentence of its docstring."""
    lines = ["| module | |", "|---|---|"]
    for name, path in MODULES.items():
        lines.append(f"| `{name}` | {first_sentence(path)} |")
    return "\n".join(lines)


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring."""
    (docstring,) = re.findall(r'\A(?:#.*\n)*r?"""(.*?)"""', path.read_text(encoding="utf-8"), re.DOTALL)
    return cell(docstring)


def cell(text: str) -> str:
    """The first sentence of a text, for a cell of a table."""
    plain = re.sub(r":\w+:`[~.]*([^`]+)`", r"`\1`", " ".join(text.split("\n\n")[0].split()))
    sentence = re.split(r"(?<=[.?!]) (?=[A-Z])", plain)[0]
    return sentence.replace("``", "`").replace("|", r"\|")


def package_table() -> str:
    """The packages and the modules beside them, from the ground up, with the first sentence of each docstring."""
    lines = ["| step | | |", "|---|---|---|"]
    for number, names in enumerate(STEPS):
        for name in names:
            folder = ROOT / "scanstore" / name
            path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
            lines.append(f"| {number} | `{name}{'/' if folder.is_dir() else ''}` | {first_sentence(path)} |")
    return "\n".join(lines)


GENERATED: dict[str, dict[str, Callable[[], str]]] = {
    "docs/schema.md": {"schema": schema},
    "docs/command-line.md": {"commands": command_table},
    "docs/design.md": {"packages": package_table, "modules": module_table},
}
PART = re.compile(r"<!-- (\w+) -->\n(.*?)<!-- /\1 -->", re.DOTALL)


@pytest.mark.parametrize("page", GENERATED)
def test_generated_parts_are_up_to_date(page: str) -> None:
    written = dict(PART.findall((ROOT / page).read_text(encoding="utf-8")))
    assert written.keys() == GENERATED[page].keys()
    for name, part in GENERATED[page].items():
        again = "write it again: PYTHONPATH=.:tests/support python tests/test_readme.py"
        assert written[name].rstrip("\n") == part(), again


if __name__ == "__main__":
    PAGES[0].write_text(with_address(README, address()), encoding="utf-8")
    for page, parts in GENERATED.items():
        text = (ROOT / page).read_text(encoding="utf-8")
        for name, part in parts.items():
            new = f"<!-- {name} -->\n{part()}\n<!-- /{name} -->"
            text = re.sub(rf"<!-- {name} -->\n.*?<!-- /{name} -->", lambda found, new=new: new, text, flags=re.DOTALL)  # type: ignore[misc]
        (ROOT / page).write_text(text, encoding="utf-8")
