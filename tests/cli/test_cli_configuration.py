"""Where the command line finds the store and the configuration file, and what it does by them."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import needs
import pytest
from click.testing import CliRunner, Result

from scanstore import Store
from scanstore.cli import configuration, discovery, main
from scanstore.db.state_machine import SEVERITIES

Run = Callable[..., Result]
Alter = Callable[..., None]
OTHER = 12345


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in the home folder; the current folder is two folders below it. Stores that are made are checked."""
    for variable in ("SCANSTORE_DB", "DATABASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    home = tmp_path / "home"
    below = home / "project" / "src" / "deep"
    below.mkdir(parents=True)
    (below / "a.py").write_text("def first():\n    return 1\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(below)
    yield home / "project"
    monkeypatch.undo()
    for path in tmp_path.rglob("*.db"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size:
            with Store(path) as store:
                assert store.check() == []


@pytest.fixture
def run(project: Path) -> Run:
    def invoke(*args: str, code: int = 0, **options: Any) -> Result:
        result = CliRunner().invoke(main, args, prog_name="scanstore", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return invoke


class Altered:
    """The module os, in which some paths have another owner or device."""

    def __init__(self) -> None:
        self.fields: dict[str, dict[int, int]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _changed(self, path: Any, status: os.stat_result) -> os.stat_result:
        fields = self.fields.get(os.path.abspath(path), {})
        return os.stat_result([fields.get(number, value) for number, value in enumerate(status[:10])])

    def stat(self, path: Any) -> os.stat_result:
        return self._changed(path, os.stat(path))

    def lstat(self, path: Any) -> os.stat_result:
        return self._changed(path, os.lstat(path))


@pytest.fixture
def alter(monkeypatch: pytest.MonkeyPatch) -> Alter:
    """Give paths another owner, or another device."""
    altered = Altered()
    monkeypatch.setattr(discovery, "os", altered)

    def change(*paths: Path, owner: int | None = None, device: int | None = None) -> None:
        given = {4: owner, 2: device}
        for path in paths:
            altered.fields[str(path)] = {field: value for field, value in given.items() if value is not None}

    return change


def make(path: Path, **settings: str) -> Path:
    with Store(path) as store:
        for name, value in {"where": str(path), **settings}.items():
            store.settings[name] = value
    return path


def one_line(result: Result) -> str:
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.output, result.stderr
    return result.stderr.strip()


def shown(run: Run, *args: str, code: int = 0) -> dict[str, tuple[Any, str]]:
    rows = json.loads(run("config", "show", "--json", *args, code=code).stdout)
    return {row["name"]: (row["value"], row["source"]) for row in rows}


def used(run: Run, *args: str) -> str:
    """The store that a command reads."""
    return run("settings", "get", "where", *args).stdout.strip()


# Where the store is


def test_the_nearest_store_upwards_is_used_and_named(run: Run, project: Path) -> None:
    above = make(project / "scanstore.db")
    done = run("settings", "get", "where")
    assert done.stdout == f"{above}\n"
    assert one_line(done) == f"store: {above}, found above the current folder"
    assert run("settings", "get", "where", "--json").stderr == ""
    for line in run("report", "--json", code=1).stderr.splitlines():
        json.loads(line)
    nearer = make(project / "src" / "scanstore.db")
    assert used(run) == str(nearer)
    here = make(Path("scanstore.db").absolute())
    assert run("settings", "get", "where").stderr == "" and used(run) == str(here)
    here.unlink()
    Path("scanstore.db").mkdir()  # a folder is not a store
    assert used(run) == str(nearer)


def test_a_scan_below_the_store_is_recorded_in_it(run: Run, project: Path) -> None:
    make(project / "scanstore.db")
    done = run("scan", ".")
    assert not Path("scanstore.db").exists()
    assert done.stdout.splitlines()[-1] == "next: scanstore symbols find NAME"  # which finds the same store
    assert "first" in run("symbols", "find", "first").stdout
    with Store(project / "scanstore.db") as store:
        assert [scan.target for scan in store.scans.list()] == [str(project / "src" / "deep")]


def test_without_a_store_one_is_made_in_the_current_folder(run: Run, project: Path) -> None:
    assert one_line(run("stats", code=1)) == "Error: no store at scanstore.db; make one with: scanstore scan PATH"
    run("scan", ".")
    assert Path("scanstore.db").is_file() and not list(project.glob("*.db"))


def test_the_order(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, by_file = make(Path("scanstore.db").absolute()), make(project / "file.db")
    url, variable, option = (make(project / name) for name in ("url.db", "variable.db", "option.db"))
    assert used(run) == str(here)
    (project / "scanstore.toml").write_text('db = "file.db"')
    assert used(run) == str(by_file)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{url}")
    assert used(run) == str(url)
    monkeypatch.setenv("SCANSTORE_DB", str(variable))
    assert used(run) == str(variable)
    assert used(run, "--db", str(option)) == str(option)
    for args, source in (((), "$SCANSTORE_DB"), (("--db", str(option)), "--db")):
        assert shown(run, *args)["store"][1] == source


def test_home_folders_and_urls(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spaced = make(project.parent / "in home.db")
    relative = make(project / "src" / "near.db")
    for text in ("~/in home.db", f"sqlite:///{spaced}".replace(" ", "%20"), "sqlite:///~/in%20home.db"):
        assert used(run, "--db", text) == str(spaced)
        monkeypatch.setenv("SCANSTORE_DB", text)
        assert used(run) == str(spaced)
        with Store() as store:
            assert store.path == str(spaced)
    monkeypatch.delenv("SCANSTORE_DB")
    assert used(run, "--db", "sqlite:///../near.db") == str(relative)
    monkeypatch.setenv("DATABASE_URL", "sqlite+pysqlite:///../near.db")
    assert used(run) == str(relative)
    with Store() as store:
        assert store.path == str(relative)
    Path("~").mkdir()
    with Store("~/in home.db") as store:  # a path that a program gives is used as it is
        assert store.path == str(Path("~/in home.db").absolute())
    assert used(run, "--db", f"./{make(Path('~/own.db'))}") == "~/own.db"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("postgresql://me:s3cret@host/web?password=s3cret", "'postgresql://…@host/web?password=…', which is no file"),
        ("mysql://me:s3cret", "'mysql://me:…', which is no file of SQLite; write sqlite:///scan.db"),
        ("sqlite:///a.db?mode=ro&key=s3cret", "what follows it: mode, key"),
        ("sqlite://host/a.db", "'sqlite://host/a.db', which is no file of SQLite"),
        ("~nobody-at-all/a.db", "the home folder of '~nobody-at-all' is unknown; write the whole path"),
    ],
)
def test_what_is_no_store_is_refused_with_the_remedy(
    run: Run, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    line = one_line(run("stats", "--db", text, code=2))
    assert line.startswith("Error: --db is '") and told in line and "s3cret" not in line
    monkeypatch.setenv("SCANSTORE_DB", text)
    assert one_line(run("scan", ".", code=2)).startswith("Error: $SCANSTORE_DB is '")
    if "://" in text:
        monkeypatch.delenv("SCANSTORE_DB")
        monkeypatch.setenv("DATABASE_URL", text)
        line = one_line(run("init", code=2))
        assert line.startswith("Error: $DATABASE_URL is '") and "s3cret" not in line
        assert shown(run, code=1)["store"] == (None, "unknown")


def test_no_password_of_another_databases_words_is_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "password=s3cret host=db user = me")
    assert one_line(run("init", code=2)).startswith("Error: $DATABASE_URL is 'password=… host=… user =…', which is no")
    assert [path.name for path in Path().iterdir()] == ["a.py"]


def test_memory_is_what_it_was(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no store at :memory:" in one_line(run("stats", "--db", ":memory:", code=1))
    assert "no store at :memory:" in one_line(run("stats", "--db", "sqlite://", code=1))
    assert "Scanned" in run("scan", ".", "--db", ":memory:").stdout
    assert [path.name for path in Path().iterdir()] == ["a.py"]


@pytest.mark.parametrize("command", ["stats", "check", "symbols find f", "jobs list", "init"])
@pytest.mark.parametrize("given", [":memory:", "sqlite://", "sqlite:///:memory:"])
def test_a_store_in_memory_is_explained(run: Run, command: str, given: str) -> None:
    line = one_line(run(*command.split(), "--db", given, code=2 if command == "init" else 1))
    assert "in memory ends with its command" in line and "give the path of a file, such as --db scanstore.db" in line
    assert "nothing to read in it; name a file" in run("health", "--db", given, code=1).stdout
    assert shown(run, "--db", given)["store"] == (":memory:", "--db")
    told = "the store is in memory and ends with this command; to keep it, give the path of a file"
    assert told in run("jobs", "add", "sync", "--db", given).stderr
    assert [path.name for path in Path().iterdir()] == ["a.py"]


@pytest.mark.parametrize("blank", ["", " ", "\t", " \n"])
@pytest.mark.parametrize("command", ["stats", "scan .", "init", "health", "drop --yes", "migrate up", "check"])
def test_a_blank_path_names_no_file(run: Run, monkeypatch: pytest.MonkeyPatch, command: str, blank: str) -> None:
    told = "names no file; write --db scanstore.db"
    assert told in one_line(run(*command.split(), "--db", blank, code=2))
    assert "FILE is" in one_line(run("check", blank, code=2))
    if blank:
        for variable in ("SCANSTORE_DB", "DATABASE_URL"):
            with monkeypatch.context() as patch:
                patch.setenv(variable, blank)
                line = one_line(run(*command.split(), code=2))
                assert line.startswith(f"Error: ${variable} is ") and "or unset it" in line
    assert [path.name for path in Path().iterdir()] == ["a.py"]


def test_hints_repeat_the_option_where_it_is_needed(run: Run, project: Path) -> None:
    def hint(*args: str) -> str:
        return run("scan", ".", *args).stdout.splitlines()[-1].removeprefix("next: scanstore symbols find NAME")

    above = make(project / "scanstore.db")
    assert hint("--db", str(above)) == ""
    assert hint("--db", "../../scanstore.db") == "" and hint() == ""
    assert hint("--db", "scanstore.db") == ""  # which is the nearest one by now
    assert hint("--db", str(above)) == f" --db {shlex.quote(str(above))}"
    assert hint("--db", "~/other.db") == " --db '~/other.db'"
    (project / "scanstore.toml").write_text("db = 1")
    assert "--db other.db" in one_line(run("stats", "--db", "other.db", code=1))


# The limits of the search


def test_the_home_folder_is_searched_only_from_within(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, outer = make(project.parent / "scanstore.db"), make(project.parent.parent / "scanstore.db")
    assert "no store at scanstore.db" in one_line(run("stats", code=1))
    monkeypatch.chdir(project.parent)
    assert used(run) == str(home)
    home.unlink()
    assert "no store at scanstore.db" in one_line(run("stats", code=1))  # and nothing above it
    monkeypatch.chdir(project.parent.parent)  # above the home folder
    assert used(run) == str(outer)
    (project.parent.parent / "other" / "deep").mkdir(parents=True)
    monkeypatch.chdir(project.parent.parent / "other" / "deep")  # outside of it
    assert used(run) == str(outer)
    link = project.parent.parent / "home link"
    link.symlink_to(project.parent)
    monkeypatch.setenv("HOME", str(link))
    monkeypatch.chdir(project)
    assert "no store at scanstore.db" in one_line(run("stats", code=1))


def test_the_search_ends_at_the_file_system(run: Run, project: Path, alter: Alter) -> None:
    make(project / "scanstore.db")
    (project / "scanstore.toml").write_text("nonsense")
    (project / "src" / "scanstore.toml").write_text('gates = ["new-low"]')
    alter(project, device=1)
    assert "no store at scanstore.db" in one_line(run("stats", code=1))
    assert shown(run)["gates"][0] == ["new-low"]
    (project / "src" / "scanstore.toml").unlink()
    assert shown(run)["file"][0] is None


@pytest.mark.parametrize("name", ["scanstore.db", "scanstore.toml", "pyproject.toml"])
def test_files_of_other_users_are_passed_over(run: Run, project: Path, alter: Alter, name: str) -> None:
    top = make(project / "scanstore.db")
    (project / "scanstore.toml").write_text('gates = ["new-high"]')
    text = 'gates = ["any-low"]'
    foreign = project / "src" / name
    if name == "scanstore.db":
        make(foreign)
    else:
        foreign.write_text(f"[tool.scanstore]\n{text}" if name == "pyproject.toml" else text)
    for owner in (OTHER, OTHER if needs.is_root() else 0):
        alter(foreign, owner=owner)
        done = run("settings", "get", "where")
        assert done.stdout == f"{top}\n"
        whose = f"it belongs to {'user 12345' if owner else 'root'}, not to you"
        assert done.stderr.count(f"{foreign} is not ") == 1 and whose in done.stderr
        assert shown(run)["gates"] == (["new-high"], str(project / "scanstore.toml"))
    alter(foreign)
    alter(foreign.parent, owner=OTHER)  # somebody could have put it there
    done = run("settings", "get", "where")
    assert done.stdout == f"{top}\n" and "its folder belongs to user 12345" in done.stderr


def test_a_file_of_another_user_that_is_no_configuration_is_not_mentioned(
    run: Run, project: Path, alter: Alter
) -> None:
    make(Path("scanstore.db"))
    (project / "pyproject.toml").write_text("[tool.other]\nx = 1")
    alter(project / "pyproject.toml", owner=OTHER)
    assert run("stats").stderr == "" and run("scan", ".").stderr == ""


def test_gates_in_a_file_of_another_user_are_unknown_and_do_not_pass(run: Run, project: Path, alter: Alter) -> None:
    make(Path("scanstore.db"))
    run("scan", ".")
    (project / "scanstore.toml").write_text('gates = ["any-low"]')
    alter(project / "scanstore.toml", owner=OTHER)
    for args in (("report",), ("sarif", "load", "no.sarif", "--target", "t")):
        skipped, error = run(*args, code=2).stderr.splitlines()
        assert "scanstore.toml is not read: it belongs to user 12345" in skipped
        assert error.startswith("Error: the gates of a configuration that is not read are unknown; give --fail-on")
    assert run("report", "--fail-on", "none").stdout


def test_a_store_of_another_user_in_the_current_folder_must_be_named(run: Run, alter: Alter) -> None:
    here = make(Path("scanstore.db").absolute())
    alter(here, owner=OTHER)
    for args in (("stats",), ("scan", "."), ("drop", "--yes")):
        line = one_line(run(*args, code=2))
        assert "belongs to user 12345, not to you; to use it, give --db scanstore.db" in line
    assert used(run, "--db", "scanstore.db") == str(here)
    with Store(here) as store:
        assert store.scans.list() == []


def test_a_link_to_a_store_of_another_user_is_not_followed(run: Run, project: Path, alter: Alter) -> None:
    foreign = make(project / "theirs.db")
    link = project / "src" / "scanstore.db"
    link.symlink_to(foreign)
    assert used(run) == str(foreign)
    alter(link, owner=OTHER)  # `stat` of the link is that of the file it leads to
    done = run("stats", code=1)
    assert "it belongs to user 12345" in done.stderr and "no store at scanstore.db" in done.stderr
    (project / "scanstore.toml").write_text('db = "theirs.db"')
    alter(foreign, owner=OTHER)
    assert "belongs to user 12345" in one_line(run("stats", code=2))


@pytest.mark.skipif(not needs.is_root(), reason="only root gives files away")
def test_real_owners(run: Run, project: Path) -> None:
    for name, text in (("scanstore.db", None), ("scanstore.toml", 'gates = ["any-low"]')):
        path = project / name
        make(path) if text is None else path.write_text(text)
        os.chown(path, OTHER, OTHER)
    done = run("stats", code=1)
    assert done.stderr.count("belongs to user 12345") == 2 and "no store at scanstore.db" in done.stderr
    assert shown(run)["gates"] == ([], "default")
    outside = make(project.parent.parent / "outside.db")
    os.chown(outside, OTHER, OTHER)
    (project / "src" / "scanstore.db").symlink_to(outside)
    assert str(project / "src" / "scanstore.db") in run("stats", code=1).stderr
    os.chown(outside, 0, 0)
    assert used(run) == str(outside)
    os.chown(project / "src" / "scanstore.db", OTHER, OTHER, follow_symlinks=False)
    assert str(project / "src" / "scanstore.db") in run("stats", code=1).stderr


def test_folders_that_are_gone_or_closed(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(project / "scanstore.db")
    if os.name != "nt" and not needs.is_root():
        (project / "src").chmod(0o300)  # cannot be listed, which is not needed
        assert used(run) == str(project / "scanstore.db")
        (project / "src").chmod(0o000)
        assert "no store at scanstore.db" in run("stats", code=1).stderr
        (project / "src").chmod(0o700)
    monkeypatch.setattr(os, "getcwd", _gone)
    assert "no store at scanstore.db" in one_line(run("stats", code=1))


def _gone() -> str:
    raise FileNotFoundError(2, "No such file or directory")


# Commands that make or destroy a store


@pytest.mark.parametrize("named_by", ["place", "file"])
def test_a_store_above_is_not_destroyed_by_accident(run: Run, project: Path, named_by: str) -> None:
    above = make(project / ("scanstore.db" if named_by == "place" else "own.db"))
    if named_by == "file":
        (project / "scanstore.toml").write_text('db = "own.db"')
    copy = make(project / "copy.db")
    Path("dump.jsonl").write_text("")
    for args in (
        ("drop", "--yes"), ("restore", str(copy)), ("load", "dump.jsonl"), ("seed",), ("rekey", "--key-stdin"),
        ("migrate", "down"),
    ):  # fmt: skip
        line = one_line(run(*args, code=2))
        assert f"the store {above} is not in the current folder" in line and f"give --db {above} if it is meant" in line
    with Store(above) as store:
        assert store.settings["where"] == str(above)
    run("seed", "--db", str(above))
    assert f"Deleted {above}" in run("drop", "--yes", "--db", str(above)).stdout
    assert not above.exists()


def test_init_makes_a_store_here(run: Run, project: Path) -> None:
    above = make(project / "scanstore.db")
    done = run("init")
    assert done.stdout == f"Created {Path('scanstore.db').absolute()}\n"
    assert one_line(done) == f"{above} is left alone; commands in this folder use the new store from now on"
    run("settings", "set", "where", "here")
    assert used(run) == "here" and used(run, "--db", str(above)) == str(above)
    assert "Deleted" in run("drop", "--yes").stdout and above.exists()


# The configuration file


def test_the_nearest_file_counts_alone(run: Run, project: Path) -> None:
    (project / "scanstore.toml").write_text('gates = ["new-high"]\nexclude = ["x"]')
    (project / "src" / "pyproject.toml").write_text("[project]\nname = 'scanstore-user'\n[tool.ruff]\n")
    assert shown(run)["gates"] == (["new-high"], str(project / "scanstore.toml"))  # the other has no table
    (project / "src" / "pyproject.toml").write_text("[tool.scanstore]\ngates = ['any-low']")
    assert shown(run)["gates"] == (["any-low"], str(project / "src" / "pyproject.toml"))
    Path("pyproject.toml").write_text("[project]\nname = ")  # broken, but none of ours
    assert shown(run)["gates"] == (["any-low"], str(project / "src" / "pyproject.toml"))
    assert shown(run)["exclude"] == ([], "default")
    (project / "src" / "scanstore.toml").write_bytes(b"\xef\xbb\xbfgates = ['ANY-info', 'any-info']\r\n")
    assert shown(run)["gates"] == (["any-info"], str(project / "src" / "scanstore.toml"))


def test_a_file_of_the_scanned_path_is_not_read(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "scanstore.toml").write_text("db = 1")
    other = project.parent / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    run("scan", str(project))
    assert (other / "scanstore.db").is_file()


WRONG = {
    "an unknown key": ('dbs = "x.db"', "dbs is 'x.db'; there is no such key: use db, exclude"),
    "a table for pyproject": ('[tool.scanstore]\ndb = "x"', "without [tool.scanstore]"),
    "db is a number": ("db = 1", 'db is 1; write a path such as "scanstore.db"'),
    "db is empty": ('db = " "', "db is ' '; write a path"),
    "db is the folder": ('db = "src/.."', "that is the folder itself"),
    "db is outside": ('db = "../x.db"', "/home/x.db, outside of"),
    "db is absolute": ('db = "/etc/x.db"', "that is /etc/x.db, outside of"),
    "db is in the home folder": ('db = "~/x.db"', "only paths below the file's folder are allowed"),
    "db is a URL": ('db = "sqlite:///x.db"', "only paths below the file's folder are allowed"),
    "db has a NUL": (r'db = "a\u0000b"', r"db is 'a\x00b'; write a path"),
    "exclude is a text": ('exclude = "x"', "exclude is 'x'; write a list of patterns"),
    "include has a number": ('include = ["x", 3]', "include[1] is 3; write a list of patterns"),
    "roots leave the folder": ('roots = ["src", "src/../.."]', "roots[1] is 'src/../..'; that is"),
    "an unknown severity": ('severities = {"B101" = "nasty"}', "severities.'B101' is 'nasty'; write one of: critical"),
    "a severity of no rule": ('severities = {"*" = "low"}', "name a rule, such as"),
    "a rule twice": ('severities = {"a:B" = "low", "A:b" = "info"}', "the rule is there twice"),
    "severities are a list": ('severities = ["low"]', "write a table such as"),
    "an unknown gate": ('gates = ["new-nasty"]', "gates[0] is 'new-nasty'; write one of: new-critical"),
    "gates are a text": ('gates = "new-high"', 'write a list such as ["new-high"]'),
    "no gate is an empty list": ('gates = ["none"]', "gates[0] is 'none'; write one of"),
    "not TOML": ("db = ", "is not TOML: "),
    "a number of thousands of digits": ("db = " + "9" * 5000, "is not TOML: "),
    "nested too deeply": ("db = " + "[" * 100_000, "is not TOML: it is nested too deeply"),
    "escapes for the terminal": ('"\\u001b[31m" = 1', r"\x1b[31m is 1; there is no such key"),
}


@pytest.mark.parametrize(("text", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_an_error_that_names_it(run: Run, project: Path, text: str, told: str) -> None:
    file = project / "scanstore.toml"
    file.write_text(text)
    line = one_line(run("scan", ".", code=2))
    assert line.startswith(f"Error: {file}") and told in line and line.isprintable() and len(line) < 700
    assert not Path("scanstore.db").exists() and not list(project.rglob("*.db"))
    # Commands that need nothing of it work; `config show` reports it.
    run("--help")
    run("--version")
    run("scan", "--help")
    assert "Created" in run("init", "--db", "named.db").stdout
    assert "0 scans" in run("stats", "--db", "named.db").stdout
    done = run("config", "show", code=1)
    assert line in done.stderr and "file\t\twrong\n" in done.stdout
    assert json.loads(run("stats", "--json", code=2).stderr)["error"] == line.removeprefix("Error: ")


def test_files_that_cannot_be_read(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project / "scanstore.toml"
    file.write_bytes(b'db = "\xff"')
    assert "is not UTF-8: byte 6 is 0xff" in one_line(run("stats", code=2))
    file.write_bytes(b"#" * (configuration.LARGEST + 1))
    assert "has more than 1,000,000 bytes" in one_line(run("stats", code=2))
    file.write_text("")
    monkeypatch.setattr(os, "open", _forbidden)
    assert f"{file} cannot be read: Permission denied" in one_line(run("stats", code=2))


def _forbidden(*_: object) -> int:
    raise PermissionError(13, "Permission denied")


def test_a_configuration_that_is_a_broken_link_is_not_passed_over(run: Run, project: Path, alter: Alter) -> None:
    make(project / "scanstore.db")
    link = project / "scanstore.toml"
    try:
        link.symlink_to("moved.toml")
    except OSError:
        pytest.skip("needs links")
    assert f"{link} cannot be read: No such file" in one_line(run("report", code=2))
    if hasattr(os, "geteuid"):
        alter(link, owner=os.geteuid() + 1)
        assert "is not read: it belongs to" in run("config", "show").stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_and_folders_are_passed_over(run: Run, project: Path) -> None:
    os.mkfifo(project / "src" / "scanstore.toml")  # opening it would wait for a writer
    (project / "src" / "pyproject.toml").mkdir()
    os.mkfifo(project / "src" / "scanstore.db")
    (project / "scanstore.toml").write_text('db = "x.db"')
    assert shown(run)["store"] == (str(project / "x.db"), f"db of {project / 'scanstore.toml'}")


def test_links_do_not_lead_out_of_the_folder(run: Run, project: Path) -> None:
    outside = make(project.parent / "outside.db")
    (project / "in.db").symlink_to(outside)
    (project / "folder").symlink_to(project.parent)
    for path in ("in.db", "folder/outside.db", "folder/new.db", "src/../folder/new.db"):
        (project / "scanstore.toml").write_text(f'db = "{path}"')
        line = one_line(run("settings", "set", "x", "1", code=2))
        assert f"db is '{path}'" in line and f"outside of {project}" in line and "use --db" in line
    (project / "scanstore.toml").write_text('roots = ["folder"]')
    assert "roots[0] is 'folder'" in one_line(run("scan", code=2))
    (project / "inner").symlink_to("src")
    (project / "scanstore.toml").write_text('db = "inner/x.db"')
    assert run("settings", "set", "x", "1").stdout and (project / "src" / "x.db").is_file()
    assert sorted(path.name for path in project.parent.glob("*.db")) == ["outside.db"]


def test_nothing_is_expanded_or_run(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "other")
    (project / "scanstore.toml").write_text('db = "$PLACE.db"\nexclude = ["$(touch here)", "`touch here`"]')
    run("scan", ".")
    assert (project / "$PLACE.db").is_file()
    assert [path.name for path in Path().iterdir()] == ["a.py"]


# What commands do by it


def scanned(path: Path) -> dict[str, list[str]]:
    with Store(path) as store:
        return {
            os.path.basename(scan.target): sorted(file.file_path for file in scan.files)
            for scan in reversed(store.scans.list())
        }


def test_patterns_of_scan(run: Run, project: Path) -> None:
    for name in ("b.py", "c.txt", "d.py"):
        Path(name).write_text("")
    (project / "scanstore.toml").write_text('exclude = ["b.py"]\ninclude = ["*.py"]')
    run("scan", ".")
    assert scanned(Path("scanstore.db")) == {"deep": ["a.py", "d.py"]}
    run("scan", ".", "--exclude", "d.py")
    assert scanned(Path("scanstore.db")) == {"deep": ["a.py", "b.py"]}
    run("scan", ".", "--include", "*.txt")
    assert scanned(Path("scanstore.db")) == {"deep": ["c.txt"]}
    (project / "scanstore.toml").write_text('exclude = ["[z-a"]\ninclude = ["!"]')
    line = one_line(run("scan", ".", code=2))
    assert line.startswith(f"Error: {project / 'scanstore.toml'}: include has '!', which is no pattern")


def test_roots_of_scan(run: Run, project: Path) -> None:
    (project / "lib").mkdir()
    (project / "lib" / "b.py").write_text("")
    file = project / "pyproject.toml"
    file.write_text('[tool.scanstore]\nroots = ["src/deep", "lib", "./lib"]\ndb = "own.db"')
    done = run("scan", "--json")
    assert [entry["scan"]["target"] for entry in json.loads(done.stdout)] == [
        str(project / "src" / "deep"), str(project / "lib")
    ]  # fmt: skip
    assert done.stderr == ""
    text = run("scan").stdout
    assert text.count("Scanned ") == 2
    assert scanned(project / "own.db") == {"deep": ["a.py"], "lib": ["b.py"]}
    assert isinstance(json.loads(run("scan", ".", "--json").stdout), dict)  # with PATH, they are not used
    for option in ("--target", "--ctags"):
        line = one_line(run("scan", option, str(file), code=2))
        assert f"{option} is for one tree, and {file} has 2 roots; give PATH" in line
    file.write_text('[tool.scanstore]\nroots = ["src", "gone"]')
    line = one_line(run("scan", code=2))
    assert f"{file}: roots has '{project / 'gone'}', but there is no such folder" in line
    assert not Path("scanstore.db").exists()
    file.write_text("[tool.scanstore]")
    assert "Missing argument 'PATH'." in run("scan", code=2).stderr


REPORT: dict[str, Any] = {
    "version": "2.1.0",
    "runs": [
        {
            "tool": {"driver": {"name": "Bandit"}},
            "results": [
                {"ruleId": rule, "level": "error", "message": {"text": f"problem of {rule}"}}
                for rule in ("B101", "B102", "B103")
            ],
        }
    ],
}


def test_severities_of_loaded_findings(run: Run, project: Path) -> None:
    Path("one.sarif").write_text(json.dumps(REPORT))
    file = project / "scanstore.toml"
    file.write_text('[severities]\n"bandit:B101" = "info"\n"B102" = "Low"\n"bandit:*" = "critical"\n"B101" = "medium"')

    def load(told: str, *args: str) -> dict[str, str]:
        done = run("sarif", "load", "one.sarif", "--target", "t", *args)
        assert told in done.output
        with Store("scanstore.db") as store:
            return {one.rule_id: one.severity for one in store.findings.list()}

    severities = {"B101": "info", "B102": "low", "B103": "critical"}
    assert load("3 new") == severities
    assert load("loaded before, as scan 1") == severities
    file.write_text('[severities]\n"other:B101" = "info"\n"BANDIT:b102" = "low"\n"B103" = "critical"')
    assert load("1 updated") == {**severities, "B101": "high"}
    assert load("loaded before, as scan 2")["B101"] == "high"
    file.write_text("")
    assert load("2 updated") == dict.fromkeys(severities, "high")
    file.write_text('[severities]\n"B101" = "high"')  # changes nothing
    assert load("loaded before, as scan 3") == dict.fromkeys(severities, "high")
    file.write_text('[severities]\n"B101" = "low"')
    assert load("1 updated") == {**dict.fromkeys(severities, "high"), "B101": "low"}


def gated(run: Run, project: Path, gates: str) -> Path:
    Path("one.sarif").write_text(json.dumps(REPORT))
    file = project / "scanstore.toml"
    file.write_text(gates)
    return file


@pytest.mark.parametrize("command", ["report", "load"])
def test_gates(run: Run, project: Path, command: str) -> None:
    file = gated(run, project, 'gates = ["any-critical", "any-high", "new-low"]')
    load = ("sarif", "load", "one.sarif", "--target", "t")
    args = ("report",) if command == "report" else load
    if command == "report":
        run(*load, code=1)
    done = run(*args, code=1)
    for gate in ("any-high", "new-low"):  # every one is judged
        assert f"{gate} (gates of {file}): 3 findings" in done.stderr
    assert "any-critical" not in done.stderr
    assert "gates of" not in run(*args, "--fail-on", "any-high", code=1).stderr
    assert "gates" not in run(*args, "--fail-on", "any-critical").stderr  # which replaces them
    assert "gates" not in run(*args, "--fail-on", "NONE").stderr
    file.write_text("gates = []")
    run(*args)
    file.write_text("gates = 3")
    before = Path("scanstore.db").read_bytes()
    assert "gates is 3" in one_line(run(*args, code=2))
    assert Path("scanstore.db").read_bytes() == before


# Showing it


def test_show(run: Run, project: Path) -> None:
    file = project / "scanstore.toml"
    assert shown(run)["file"] == (None, "no scanstore.toml or pyproject.toml with a configuration here or above")
    assert shown(run)["store"] == (str(Path("scanstore.db").absolute()), "in the current folder")
    file.write_text('db = "x.db"\nroots = ["src"]\nexclude = ["a", "b"]\nseverities = {B1 = "low", B2 = "info"}')
    assert run("config", "show").stdout.splitlines() == [
        f"store\t{project / 'x.db'}\tdb of {file}",
        f"file\t{file}\tabove the current folder",
        f"db\t{project / 'x.db'}\t{file}",
        f"exclude\ta, b\t{file}",
        "include\t\tdefault",
        f"roots\t{project / 'src'}\t{file}",
        f"severities\tB1 = low, B2 = info\t{file}",
        "gates\t\tdefault",
        "unused-ignore\t\tdefault",
        "source-roots\t\tdefault",
    ]
    assert shown(run)["severities"] == ({"B1": "low", "B2": "info"}, str(file))
    assert run("config", "show", "--columns", "name,value", "--csv").stdout.splitlines()[:2] == [
        "name,value", f"store,{project / 'x.db'}"
    ]  # fmt: skip
    assert not (project / "x.db").exists()


def test_the_words_are_those_of_the_store() -> None:
    assert configuration.SEVERITIES == SEVERITIES
    assert configuration.NAMES == ("scanstore.toml", "pyproject.toml")
