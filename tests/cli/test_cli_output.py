"""Lists, cards and answers: one description each, printed for people or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import click
import pytest
from click.testing import CliRunner, Result

from scanstore.cli import output
from scanstore.cli.absence import none
from scanstore.cli.base import basic_options, json_lines_option, limit_option
from scanstore.cli.output import Column, Columns, Section

Command = Callable[..., object]
EVIL = "a\x1b[2Jb\nc"


class Fruit(NamedTuple):
    name: str
    weight: int | None
    picked: datetime | None = None


FRUIT = [Fruit("plum", 20, datetime(2026, 3, 1, 12, tzinfo=UTC)), Fruit("melon", 1500), Fruit(EVIL, None)]
COLUMNS: Columns[Fruit] = (
    "name",
    Column("grams", "weight", right=True),
    Column("size", lambda fruit: "large" if (fruit.weight or 0) > 1000 else None),
    "picked",
)


def run(call: Callable[[], object], *args: str, option: Callable[[Command], Command] = basic_options) -> Result:
    """Call a function as a command with the options of a list, and with two of its own."""

    @limit_option()
    @click.option("--kind")
    @click.option("--colour")
    def body(**_: object) -> None:
        call()

    result = CliRunner().invoke(click.command(option(body)), args)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_list_has_a_line_for_each_row() -> None:
    assert run(lambda: output.listing(FRUIT, COLUMNS, "no fruit")).stdout == (
        "plum            20         2026-03-01T12:00:00.000Z\n"
        "melon         1500  large\n"
        "a\\x1b[2Jb\\nc\n"
    )  # fmt: skip


def test_a_list_as_json_is_the_rows_or_their_data() -> None:
    rows = FRUIT[1:]
    assert json.loads(run(lambda: output.listing(rows, COLUMNS), "--json").stdout)[0] == {
        "name": "melon", "weight": 1500, "picked": None,
    }  # fmt: skip
    named = run(lambda: output.listing(iter(rows), COLUMNS, data=lambda fruit: fruit.name), "--json")
    assert json.loads(named.stdout) == ["melon", EVIL]


def test_rows_may_be_mappings() -> None:
    rows = [{"id": 1, "note": None}, {"id": 20, "note": "x"}]
    assert run(lambda: output.listing(rows, (Column("id", right=True), "note"))).stdout == " 1\n20  x\n"


def test_an_empty_list_is_noted_for_people_only() -> None:
    told = run(lambda: output.listing([], COLUMNS, "no fruit"))
    assert (told.stdout, told.stderr) == ("", "no fruit\n")
    told = run(lambda: output.listing([], COLUMNS, "no fruit"), "--json")
    assert (told.stdout, told.stderr) == ("[]\n", "")


def test_an_empty_list_says_whether_options_narrowed_it() -> None:
    def empty() -> None:
        output.listing([], COLUMNS, none("fruit", "pick some"))

    assert run(empty).stderr == run(empty, "--limit", "1", "--kind", "x").stderr == "no fruit here; pick some\n"
    assert run(empty, "--colour", "red").stderr == "no fruit like that\n"


@pytest.mark.parametrize(("args", "first"), [((), "melon  1500  large\n"), (("--json",), '{"name": "melon"')])
def test_a_stream_is_printed_while_its_rows_come(
    args: tuple[str, ...], first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand rows are printed before the next one is asked for."""
    asked: list[int] = []
    printed: list[int] = []

    def rows() -> Iterator[Fruit]:
        for number in range(2500):
            asked.append(number)
            yield FRUIT[1]

    def echo(text: str) -> None:
        printed.append(len(asked))
        sys.stdout.write(f"{text}\n")

    monkeypatch.setattr(click, "echo", echo)
    told = run(lambda: output.listing(rows(), COLUMNS, stream=True), *args, option=json_lines_option)
    assert printed == [1000, 2000, 2500]
    assert told.stdout.count("\n") == 2500 and told.stdout.startswith(first)


def test_a_table_may_have_a_head() -> None:
    lines = list(output.table(FRUIT[:2], COLUMNS[:2], indent=" ", head=True))
    assert lines == [" name   grams", " plum      20", " melon   1500"]
    assert list(output.table([], COLUMNS, head=True)) == []


def test_a_card_leaves_out_facts_and_sections_without_a_value() -> None:
    facts = [("weight", 0), ("colour", None), ("taste", ""), ("picked", FRUIT[0].picked), ("from", EVIL)]

    def show() -> None:
        texts: list[Section] = [("story", "one\n two\n"), ("end", " \n")]
        output.card({"name": "plum"}, EVIL, facts, *texts, ("parts", iter(["  stone"])), ("", ["ripe"]), ("x", []))

    assert run(show).stdout == (
        "a\\x1b[2Jb\\nc\n"
        "  weight  0\n"
        "  picked  2026-03-01T12:00:00.000Z\n"
        "  from    a\\x1b[2Jb\\nc\n"
        "\nstory:\n  one\n   two\n"
        "\nparts:\n  stone\n"
        "\nripe\n"
    )  # fmt: skip
    assert json.loads(run(show, "--json").stdout) == {"name": "plum"}


def test_an_answer_is_its_lines_or_its_value() -> None:
    assert run(lambda: output.tell([1], EVIL)).stdout == "a\\x1b[2Jb\\nc\n"
    assert run(lambda: output.tell([1], ["a", "b"])).stdout == "a\nb\n"
    assert run(lambda: output.tell([1], (), "nothing")).stderr == "nothing\n"
    told = run(lambda: output.tell([1], (), "nothing"), "--json")
    assert (json.loads(told.stdout), told.stderr) == ([1], "")
    assert run(lambda: output.aside("by the way")).stderr == "by the way\n"
    assert run(lambda: output.aside("by the way"), "--json").output == ""


def test_a_longer_list_is_shortened() -> None:
    assert list(output.shortened(map(str, range(20)), "row")) == [str(n) for n in range(20)]
    assert list(output.shortened(map(str, range(21)), "row"))[-1] == "and 1 more row; --json shows all"
    assert list(output.shortened(map(str, range(1040)), "row", "  "))[-1] == "  and 1,020 more rows; --json shows all"
