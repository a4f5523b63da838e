"""Lists, cards and answers: one description each, printed for people or as JSON."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from click.testing import CliRunner, Result

from scanstore.cli import main, output
from scanstore.cli.absence import none
from scanstore.cli.base import basic_options, json_lines_option, rows_options
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
        "plum\t20\t\t2026-03-01T12:00:00.000Z\n"
        "melon\t1500\tlarge\t\n"
        "a\\x1b[2Jb\\nc\t\t\t\n"
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
    assert run(lambda: output.listing(rows, (Column("id", right=True), "note"))).stdout == "1\t\n20\tx\n"


def options_for(*names: str) -> Callable[[Command], Command]:
    return lambda command: rows_options(*names)(basic_options(command))


list_options = options_for("name", "grams", "size", "picked")
note_options = options_for("id", "note")


def listed(*args: str) -> Result:
    return run(lambda: output.listing(FRUIT[:2], COLUMNS, "no fruit"), *args, option=list_options)


def test_a_cell_has_no_tab_of_its_own() -> None:
    rows = [{"id": "a\tb", "note": "c"}]
    assert run(lambda: output.listing(rows, ("note", "id"))).stdout == "a\\tb\tc\n"
    told = run(lambda: output.listing(rows, ("note", "id")), "--tsv", option=note_options)
    assert told.stdout == "id\tnote\na\\tb\tc\n"


def test_csv_has_a_head_and_quotes_cells() -> None:
    rows = [{"id": 1, "note": 'a, "b"'}, {"id": 2, "note": "c\nd"}]
    told = run(lambda: output.listing(rows, ("id", "note")), "--csv", option=note_options)
    assert told.stdout == 'id,note\n1,"a, ""b"""\n2,c\\nd\n'
    told = run(lambda: output.listing([], ("id", "note"), "no notes"), "--csv", option=note_options)
    assert (told.stdout, told.stderr) == ("id,note\n", "no notes\n")


def test_columns_are_chosen_in_their_order() -> None:
    assert listed("--columns", "size, name").stdout == "\tplum\nlarge\tmelon\n"
    assert listed("--columns", "grams,name", "--tsv").stdout == "grams\tname\n20\tplum\n1500\tmelon\n"
    refused = listed("--columns", "name,colour")
    assert refused.exit_code == 2 and not refused.stdout
    assert "no column 'colour' to print; there are: name, grams, size, picked" in refused.stderr


def test_json_has_the_chosen_columns_with_numbers_as_numbers() -> None:
    told = json.loads(listed("--json", "--columns", "size,grams,picked").stdout)
    assert told == [
        {"size": None, "grams": 20, "picked": "2026-03-01T12:00:00.000Z"},
        {"size": "large", "grams": 1500, "picked": None},
    ]


def test_options_that_make_no_sense_are_refused_before_anything_is_read() -> None:
    def read() -> None:
        raise AssertionError("nothing is to be read")

    for words, message in (
        (("--json", "--csv"), "--json cannot be used with --csv or --tsv"),
        (("--tsv", "--json"), "--json cannot be used with --csv or --tsv"),
        (("--csv", "--tsv"), "--csv and --tsv are both given"),
        (("--columns", "a"), "no column 'a' to print; there are: name, grams, size, picked"),
        (("--sort", "name,-a"), "no column 'a' to sort by; there are: name, grams, size, picked"),
        (("--limit", "0"), "0 is not in the range"),
    ):
        refused = run(read, *words, option=list_options)
        assert refused.exit_code == 2 and message in refused.stderr and not refused.stdout


@pytest.mark.parametrize("colour", [True, False])
def test_a_table_fits_the_terminal(colour: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    rows = [{"id": 1, "status": "failed", "note": "word " * 30}]
    lines = list(output._drawn(rows, [Column("id"), Column("status"), Column("note")]))
    plain = [click.unstyle(line) for line in lines]
    assert plain[0].split() == ["ID", "STATUS", "NOTE"] and len(plain) > 3
    assert max(map(len, plain)) <= 60
    assert ("\x1b[1m" in lines[0]) == ("\x1b[31m" in lines[1]) == ("\x1b" in "".join(lines)) == colour


def test_a_table_elsewhere_has_no_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    assert list(output._drawn([{"id": 1, "status": "failed"}], [Column("id"), Column("status")])) == [
        "ID  STATUS", "1   failed"
    ]  # fmt: skip


def test_an_empty_list_is_noted_for_people_only() -> None:
    told = run(lambda: output.listing([], COLUMNS, "no fruit"))
    assert (told.stdout, told.stderr) == ("", "no fruit\n")
    told = run(lambda: output.listing([], COLUMNS, "no fruit"), "--json")
    assert (told.stdout, told.stderr) == ("[]\n", "")


def test_an_empty_list_says_whether_options_narrowed_it() -> None:
    def empty() -> None:
        output.listing([], COLUMNS, none("fruit", "pick some"))

    told = run(empty, "--limit", "1", "--sort", "name", "--kind", "x", option=list_options)
    assert run(empty).stderr == told.stderr == "no fruit here; pick some\n"
    assert run(empty, "--colour", "red").stderr == "no fruit like that\n"


@pytest.mark.parametrize(("args", "first"), [((), "melon\t1500\tlarge\t\n"), (("--json",), '{"name": "melon"')])
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


def test_an_error_is_json_where_json_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)
    for args, code in (
        (("scans", "show", "99"), 1), (("jobs", "list", "--status", "asleep"), 2), (("jobs", "show"), 2),
        (("jobs", "list", "--nope"), 2), (("jobs", "liszt"), 2), (("liszt",), 2), (("jobs", "list", "--sort", "x"), 2),
        (("report",), 1), (("sarif", "dump"), 2), (("scans", "show", "1", "--scan", "2"), 2),
    ):  # fmt: skip
        plain = CliRunner().invoke(main, args)
        assert plain.exit_code == code and "Error: " in plain.stderr or args == ("sarif", "dump")
        for place in range(len(args) + 1):
            told = CliRunner().invoke(main, [*args[:place], "--json", *args[place:]])
            assert told.stdout == "" and told.exit_code
            error = json.loads(told.stderr)
            assert error["exit_code"] == told.exit_code and not error["error"].startswith("Usage")
            assert place < len(args) or error["error"] in plain.stderr or args == ("sarif", "dump")
    assert "Usage:" in CliRunner().invoke(main, ["jobs", "show", "--nope", "--", "--json"]).stderr


def test_notes_are_json_where_json_was_asked_for() -> None:
    told = run(lambda: output.note(EVIL), "--json")
    assert json.loads(told.stderr) == {"note": EVIL}
    assert run(lambda: output.note("seen")).stderr == "seen\n"


def test_a_defect_is_json_where_json_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(importlib.import_module("scanstore.cli.jobs"), "open_store", fail)
    told = json.loads(CliRunner().invoke(main, ["jobs", "list", "--json"]).stderr)
    assert told["error"] == "ZeroDivisionError: by zero" and told["exit_code"] == 1 and told["traceback"]


def test_a_question_is_not_asked_under_json(tmp_path: Path) -> None:
    store = str(tmp_path / "a.db")
    assert CliRunner().invoke(main, ["init", "--db", store]).exit_code == 0
    told = CliRunner().invoke(main, ["drop", "--db", store, "--json"], input="y\n")
    assert told.exit_code == 2 and "--yes" in json.loads(told.stderr)["error"] and Path(store).exists()
