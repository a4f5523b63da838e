"""Hostile input: whatever comes in by any door is taken, or refused in one line; no traceback, no hang, no crash.

The doors: reports and records of other tools, the words of the command line, every text and path of the API, and the
file itself. What strangers wrote must not be obeyed by SQL, by a browser, or by the file system.
"""

from __future__ import annotations

import contextlib
import copy
import html.parser
import inspect
import io
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from stressing import SEED, Child, Hung, Tell, chance, fill, report, rounds

from scanstore import ScanstoreError, Store, seed_db
from scanstore.cli import main
from scanstore.models import Scan, Symbol

MEMORY = 1_500_000_000  #: bytes of address space that a process with a hostile file may take
SQL = (
    "'; DROP TABLE scans; --",
    '"; DELETE FROM settings; --',
    "' OR '1'='1",
    "x') UNION SELECT api_key FROM model_configs --",
    "%' OR 1 --",
    "\\' OR 1=1 /*",
    '" NEAR( AND NOT OR *^:{}',
)
ODD = (*SQL, "", " ", "\0", "\ud800", "../../etc/passwd", "/etc/passwd", "é\u202e\u0000x", "[" * 3000, "9" * 400, "-1")


@contextlib.contextmanager
def limited(seconds: int = 20) -> Iterator[None]:
    """Raise Hung in what takes longer."""

    def hung(*_: object) -> None:
        raise Hung(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "full.db"
    fill(path)
    return path


def refused_or_fine(action: Callable[[], Any]) -> str:
    """Do it; only an error of ours, in one line that can be printed, may come."""
    with limited():
        try:
            action()
        except ScanstoreError as error:
            text = str(error)
            assert text and len(text) < 5000, text[:200]
            return "refused"
    return "fine"


def fuzz(short: int) -> Callable[[Any], Any]:
    """Hypothesis for as long as is asked for, with chance of ours; the store is the same for all examples."""

    def decorate(test: Any) -> Any:
        health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
        options = settings(max_examples=rounds(short, 2000), deadline=None, suppress_health_check=health)
        return seed(SEED)(options(test))

    return decorate


# What other tools wrote -----------------------------------------------------------------------------------------------

texts = st.one_of(st.sampled_from(ODD), st.text(max_size=20))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all parts of a JSON value."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@st.composite
def changed(draw: st.DrawFn, original: Any) -> Any:
    """A value some parts of which are another, gone, or there twice."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        spots = list(places(value))
        if not spots:
            break
        *path, key = draw(st.sampled_from(spots))
        holder = value
        for step in path:
            holder = holder[step]
        how = draw(st.sampled_from(("replace", "replace", "remove", "double")))
        if how == "replace":
            holder[key] = draw(values)
        elif how == "remove":
            del holder[key]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[draw(texts)] = copy.deepcopy(holder[key])
    return value


@st.composite
def scratched(draw: st.DrawFn, original: bytes) -> bytes:
    """Bytes of which some are others, cut off, or there twice."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        how = draw(st.sampled_from(("change", "cut", "insert", "double")))
        if how == "change" and content:
            content[at] = draw(st.integers(0, 255))
        elif how == "cut":
            del content[at : at + draw(st.integers(1, 2000))]
        elif how == "insert":
            content[at:at] = draw(st.binary(max_size=8))
        else:
            content[at:at] = content[at : at + draw(st.integers(1, 200))]
    return bytes(content)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


@fuzz(50)
@given(
    st.one_of(changed(report()).map(as_json), scratched(as_json(report())), st.binary(max_size=50), values.map(as_json))
)
def test_reports(store: Store, content: bytes) -> None:
    refused_or_fine(lambda: store.sarif.load(io.BytesIO(content), target="t"))
    assert store.check() == []


TAG = {
    "_type": "tag",
    "name": "f",
    "path": "a.c",
    "line": 1,
    "end": 3,
    "kind": "function",
    "scope": "x",
    "scopeKind": "s",
}


@fuzz(30)
@given(st.lists(st.one_of(changed(TAG).map(as_json), scratched(as_json(TAG)), st.just(as_json(TAG))), max_size=4))
def test_tags(store: Store, tmp_path: Path, lines: list[bytes]) -> None:
    (tmp_path / "tree").mkdir(exist_ok=True)
    (tmp_path / "tree/a.c").write_text("int f() {}\n")
    (tmp_path / "tags").write_bytes(
        b'{"_type": "ptag", "name": "JSON_OUTPUT_VERSION", "path": "0.0"}\n' + b"\n".join(lines)
    )
    scan = store.scans.start("ctags", root=tmp_path / "tree")
    refused_or_fine(lambda: store.symbols.load_ctags(scan, tmp_path / "tags"))
    store.scans.finish(scan)
    store.scans.remove(scan)
    assert store.check() == []


SCENE = {
    "id": "1", "title": "One", "details": "d", "date": "2026-01-02", "organized": True, "paths": ["/a/b.mp4"],
    "studio": {"id": "s", "name": "S"}, "tags": [{"id": "t", "name": "T"}], "performers": [{"id": "p", "name": "P"}],
}  # fmt: skip


@fuzz(50)
@given(
    st.sampled_from(("scenes", "performers", "tags", "studios")),
    st.lists(st.one_of(changed(SCENE), values), max_size=3),
)
def test_records(store: Store, kind: str, records: list[Any]) -> None:
    refused_or_fine(lambda: getattr(store.library, f"upsert_{kind}")(records))
    assert store.check() == []


SEEDS = {
    "settings": {"page": 5}, "studios": [{"id": "s", "name": "S"}], "tags": [{"id": "t", "name": "T"}],
    "performers": [{"id": "p", "name": "P"}], "scenes": [{"id": "1", "title": "One", "studio": "s", "tags": ["t"]}],
    "models": [{"name": "m", "api_key": "env:K"}],
    "schedules": [{"name": "n", "task_type": "sync", "schedule": "0 3 * * *"}],
}  # fmt: skip
SAMPLE = b"""
[settings]
page = 5
[[models]]
name = "m"
[[schedules]]
name = "n"
task_type = "t"
schedule = "0 3 * * *"
"""


@fuzz(50)
@given(st.one_of(changed(SEEDS), scratched(SAMPLE)))
def test_first_rows(store: Store, tmp_path: Path, source: Any) -> None:
    if isinstance(source, bytes):
        (tmp_path / "seed.toml").write_bytes(source)
        source = tmp_path / "seed.toml"
    refused_or_fine(lambda: seed_db(store, source))
    assert store.check() == []


@pytest.fixture(scope="module")
def dumped(full: Path) -> bytes:
    stream = io.BytesIO()
    with Store(full) as store:
        store.dump(stream, include_secrets=True)
    return stream.getvalue()


@fuzz(15)
@given(data=st.data())
def test_dumps(new_file: Path, tmp_path: Path, dumped: bytes, data: st.DataObject) -> None:
    lines = dumped.splitlines()
    content = dumped
    if data.draw(st.booleans()):
        content = data.draw(scratched(dumped))
    else:
        number = data.draw(st.integers(0, len(lines) - 1))
        lines[number] = as_json(data.draw(changed(json.loads(lines[number]))))
        content = b"\n".join(lines) + b"\n"
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"new.db{suffix}").unlink(missing_ok=True)
    shutil.copy(new_file, tmp_path / "new.db")
    with Store(tmp_path / "new.db", durability="normal") as store:
        if refused_or_fine(lambda: store.load(io.BytesIO(content))) == "refused":
            assert Scan.select().count() == 0 and len(store.settings) == 0, "nothing was written"
            assert store.check() == []
        else:
            refused_or_fine(store.check)


# The words of the command line ----------------------------------------------------------------------------------------


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


WAITING = {("jobs", "work"), ("jobs", "wait"), ("jobs", "watch"), ("schedules", "run")}  # for ever, if told to


def arguments(command: click.Command, some: random.Random) -> list[str]:
    words = [*ODD, "1", "0", "scan.db", ".", "-", "--", "nan", "2026-01-01", "1e999", "open", "high"]
    given: list[str] = []
    for parameter in command.params:
        number = parameter.nargs if parameter.nargs > 0 else some.randrange(1, 3)
        if isinstance(parameter, click.Argument):
            given += [some.choice(words) for _ in range(number)]
        elif parameter.name not in ("help",) and some.random() < 0.3 and "--db" not in parameter.opts:
            given.append(parameter.opts[0])
            if not getattr(parameter, "is_flag", False):
                choices = list(getattr(parameter.type, "choices", ()))
                given += [some.choice([*words, *choices, *choices]) for _ in range(number)]
    return given


def test_command_lines(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)
    some, codes = chance("cli"), Counter[int]()
    known = [each for each in commands() if each[0] not in WAITING]
    for number in range(rounds(100, 4000)):
        if number % 25 == 0:
            for path in tmp_path.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            shutil.copy(full, tmp_path / "scanstore.db")
        path, command = some.choice(known)
        words = [*path, *(word.replace("\0", "") for word in arguments(command, some))]
        with limited():
            result = CliRunner().invoke(main, words, prog_name="scanstore", input="")
        assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exception)
        assert "Traceback" not in result.output and result.exit_code in (0, 1, 2), (words, result.output)
        codes[result.exit_code] += 1
    assert codes[0] and codes[2]
    print(f"\ncommand lines by exit code: {dict(sorted(codes.items()))}")


# SQL in every text ----------------------------------------------------------------------------------------------------

DOMAINS = (
    "scans", "symbols", "llm", "chunks", "drafts", "verified", "findings", "sarif", "library", "plans", "jobs",
    "schedules", "settings", "accounts", "sessions", "audits",
)  # fmt: skip
LEFT_OUT = {"model", "run_worker", "work", "wait"}  # these wait for something, or are no calls


def methods(store: Store) -> Iterator[tuple[str, Callable[..., Any], inspect.Signature]]:
    for domain in DOMAINS:
        owner = getattr(store, domain)
        for name, _ in sorted(inspect.getmembers(type(owner), callable)):
            if not name.startswith("_") and name not in LEFT_OUT:
                method = getattr(owner, name)
                yield f"{domain}.{name}", method, inspect.signature(method)


def filled(parameter: inspect.Parameter, text: str, some: random.Random) -> Any:
    """A value for a parameter: the hostile text wherever one may stand, else something small."""
    kind = str(parameter.annotation)
    if "Mapping" in kind or "Any" in kind and parameter.name == "records":
        return [{"id": text, "title": text, "name": text, "file_path": text}] if "Iterable" in kind else {text: text}
    if "Iterable" in kind:
        return [text]
    if "Callable" in kind:
        return lambda *_: text
    if "bool" in kind:
        return some.random() < 0.5
    if "str" in kind or "PathLike" in kind or kind == "Any":
        return text
    if "timedelta" in kind or "datetime" in kind:
        return None
    return 1


def schema(path: Path) -> list[Any]:
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2").fetchall()
    connection.close()
    return found


def test_sql_in_every_text_of_the_api(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a text says, no table comes or goes, and no row that was not asked for."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "scan.db"
    shutil.copy(full, path)
    before, some, outcomes = schema(path), chance("sql"), Counter[str]()
    with Store(path, durability="normal") as store:
        store.settings["witness"] = 1
        for text in SQL[: rounds(1, len(SQL))]:
            for name, method, signature in methods(store):
                for optional in (False, True):
                    if optional and "remove" in name:
                        continue
                    options = {
                        key: filled(parameter, text, some)
                        for key, parameter in signature.parameters.items()
                        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
                        and (parameter.default is inspect.Parameter.empty or optional and some.random() < 0.5)
                    }
                    positional = [
                        options.pop(key)
                        for key, parameter in signature.parameters.items()
                        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and key in options
                    ]
                    with limited():
                        try:
                            result = method(*positional, **options)
                            if isinstance(result, Iterator):
                                list(result)
                            elif isinstance(result, contextlib.AbstractContextManager) and name != "library.sync":
                                with result:
                                    pass
                            outcomes["fine"] += 1
                        except (ScanstoreError, TypeError) as error:
                            outcomes[type(error).__name__] += 1
                        except Exception as error:
                            raise AssertionError(f"{name}{positional}{options}") from error
            assert store.settings["witness"] == 1
            for words in (text, [text]):
                refused_or_fine(lambda words=words: store.search(words))  # type: ignore[misc]
            refused_or_fine(lambda text=text: store.page(Scan, sort=text))  # type: ignore[misc]
            refused_or_fine(lambda text=text: store.counts(Scan, text))  # type: ignore[misc]
            refused_or_fine(lambda text=text: store.report(format=text))  # type: ignore[misc]
        assert store.check() == []
    assert schema(path) == before
    assert outcomes["fine"] > 50
    print(f"\ncalls with SQL in their texts: {dict(outcomes)}")


@pytest.mark.parametrize("number", range(len(SQL)))
def test_hostile_texts_come_back_as_they_were(store: Store, number: int) -> None:
    text = SQL[number]
    store.settings[text] = text
    store.library.upsert_scenes([{"id": text, "title": text, "tags": [{"id": text, "name": text}]}])
    job = store.jobs.enqueue(text, meta={text: text}, unique=text)
    plan = store.plans.create(text, description=text)
    assert store.settings[text] == text and store.settings.to_dict() == {text: text}
    assert store.library.get_scene(text).title == text == store.library.get("tag", text).name
    assert [scene.id for scene in store.library.list(tag=text)] == [text]
    assert store.jobs.get(job).type == text and store.jobs.live(text).id == job.id
    assert [claimed.id for claimed in store.jobs.claim(text)] == [job.id]
    assert store.plans.get(plan).name == text and store.plans.find(text).description == text
    assert store.check() == []


# Paths that lead elsewhere --------------------------------------------------------------------------------------------

AWAY = (
    "../secret.txt",
    "a/../../secret.txt",
    "..\\secret.txt",
    "/etc/passwd",
    "~/secret.txt",
    "a\0b",
    "C:\\x",
    "//h/x",
    "..",
)


def test_paths_that_lead_out_of_the_tree_are_refused(store: Store, tmp_path: Path) -> None:
    """Nothing outside is read into the store, or shown as the text of a chunk."""
    (tmp_path / "secret.txt").write_text("the secret\n")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link.py").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "tree/a.py").write_text("x = 1\n")
    user = store.accounts.add("ann@x.org")
    session = store.sessions.create(user, "s")
    for path in (*AWAY, str(tmp_path / "secret.txt")):
        scan = store.scans.start("t", root=tmp_path / "tree")
        with contextlib.suppress(ScanstoreError):
            store.symbols.record_file(
                scan, path, "00", symbols=[{"name": "f", "start_line": 1, "end_line": 1}],
                chunks=[{"chunk_type": "full_file", "start_line": 1, "end_line": 1}], line_count=1,
            )  # fmt: skip
        store.scans.finish(scan)
        for chunk in store.chunks.list(scan):
            with contextlib.suppress(ScanstoreError):
                assert "secret" not in store.chunks.text(chunk) and "root:" not in store.chunks.text(chunk), path
        with contextlib.suppress(ScanstoreError):
            store.sessions.add_files(session, tmp_path / "tree", [path])
        tagged = {**TAG, "path": path}
        (tmp_path / "tags").write_bytes(as_json(tagged))
        scan = store.scans.start("t", root=tmp_path / "tree")
        with contextlib.suppress(ScanstoreError):
            store.symbols.load_ctags(scan, tmp_path / "tags")
        store.scans.finish(scan)
        assert Symbol.select().where(Symbol.scan == scan).count() == 0, path
        store.sarif.load(io.BytesIO(as_json(seen_at(path))), target="reports")
    for upload in store.sessions.uploads(session):
        assert "secret" not in upload.file_path and not os.path.isabs(upload.file_path)
    for finding in store.findings.list(store.scans.latest("reports")):
        assert finding.file_path is None or not (
            ".." in Path(finding.file_path).parts or os.path.isabs(finding.file_path)
        )
    assert store.check() == []


def seen_at(path: str) -> dict[str, Any]:
    found = report()
    for result in found["runs"][0]["results"]:
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] = path
    return found


# HTML in every text that reaches the report ---------------------------------------------------------------------------

MARKUP = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><b onmouseover=x>&lt;</style></title></textarea>-->]]>"
)


class Tags(html.parser.HTMLParser):
    """The tags of a page, and the attributes that run something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag] += 1
        self.found.update(name for name, value in attrs if name.startswith("on"))
        self.found.update(
            "javascript" for _, value in attrs if value and value.strip().lower().startswith("javascript:")
        )


def reported(path: Path, text: str) -> dict[str, str]:
    """The reports about findings all of whose texts say something."""
    with Store(path) as store:
        for _ in range(2):
            found = report(text)
            driver = found["runs"][0]["tool"]["driver"]
            driver.update(name=f"tool {text}", informationUri=f"javascript:{text}", fullName=text, version=text)
            driver["rules"] = [
                {"id": text, "name": text, "shortDescription": {"text": text}, "helpUri": f"javascript:{text}",
                 "help": {"text": text, "markdown": text}, "properties": {"tags": [text]}}
            ]  # fmt: skip
            for result in found["runs"][0]["results"]:
                place = result["locations"][0]["physicalLocation"]
                place["artifactLocation"]["uri"] = f"shop/{text}.py".replace("/script", "script")
                place["region"]["snippet"]["text"] = text
                result.update(ruleId=text, properties={"tags": [text], "security-severity": text})
                result["suppressions"] = [{"kind": "external", "justification": text}]
            scan = store.scans.get(store.sarif.load(io.BytesIO(as_json(found)), target=f"t {text}").scan)
        one, *_ = store.findings.list(scan)
        store.findings.triage(one, "confirmed", by=text, note=text)
        store.findings.comment(one, text, by=text)
        assert store.check() == []
        return {kind: store.report(scan, format=kind) for kind in ("html", "markdown", "csv", "json", "text")}


def test_markup_in_every_text_of_a_report(tmp_path: Path) -> None:
    hostile, plain = reported(tmp_path / "a.db", MARKUP), reported(tmp_path / "b.db", "plain")
    tags: list[Counter[str]] = []
    for page in (hostile, plain):
        parser = Tags()
        parser.feed(page["html"])
        parser.close()
        tags.append(parser.found)
    assert {tag for tag in tags[0] if tags[0][tag] != tags[1][tag]} <= set(), "the same tags, whatever the texts say"
    assert "<script>alert" not in hostile["html"] and "onerror=alert(2)>" not in hostile["html"]
    assert "alert(1)" in hostile["html"], "it is there, as a text"
    assert "<script>" not in hostile["markdown"] and "<img" not in hostile["markdown"]
    assert json.loads(hostile["json"])
    formula = reported(tmp_path / "c.db", "=1+1")["csv"]
    assert not any(cell.startswith("=") for line in formula.splitlines() for cell in line.replace('"', "").split(","))


# The file itself ------------------------------------------------------------------------------------------------------


def looked_at(path: Path) -> Callable[[Tell], object]:
    """Open a store, ask, write, check: only errors of ours may come, and not for want of memory."""

    def work(tell: Tell) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        troubles = 0
        try:
            with Store(path, timeout=2) as store:
                for ask in (
                    store.scans.list, store.scans.summary, lambda: list(store.symbols.edges()), store.findings.list,
                    lambda: store.symbols.find("a", match="contains"), lambda: store.search("flaw"), store.report,
                    store.library.list, store.plans.list, store.jobs.list, store.settings.to_dict, store.accounts.list,
                    lambda: store.settings.set("new", "x" * 9000), lambda: store.jobs.enqueue("x"), store.stats,
                    lambda: store.dump(io.BytesIO()),
                ):  # fmt: skip
                    try:
                        ask()  # type: ignore[operator]
                    except ScanstoreError as error:
                        assert "memory" not in str(error), error
                        # A text that is none is noticed by who reads it: looking for such takes decoding them all.
                        troubles += "decode" not in str(error.__cause__)
                tell(["checked", [problem.what for problem in store.check()], troubles])
        except ScanstoreError as error:
            assert "memory" not in str(error), error
            tell(["refused", str(error)])

    return work


def verdict(path: Path) -> list[Any]:
    child = Child(looked_at(path))
    told = child.end(40)
    assert child.status == 0 and told, (child.status, told)
    return told[0]


def test_flipped_bits(full: Path, tmp_path: Path) -> None:
    some, original, outcomes = chance("flips"), full.read_bytes(), Counter[str]()
    for number in range(rounds(12, 1500)):
        content = bytearray(original)
        for _ in range(some.choice((1, 1, 8, 100))):
            at = some.randrange(some.choice((200, 4096, len(content))))
            content[at] ^= 1 << some.randrange(8)
        path = tmp_path / f"{number}.db"
        path.write_bytes(content)
        try:
            found = verdict(path)
        except AssertionError as error:
            raise AssertionError(f"{path} (kept)") from error
        silent = found[0] == "checked" and not found[1]
        # A bit of a text or a number cannot be told from what was written; where reading fails, check says so.
        assert not (silent and found[2]), (number, found)
        outcomes["unnoticed" if silent else "reported" if found[0] == "checked" else "refused"] += 1
        for end in ("", "-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)
    print(f"\nfiles with flipped bits: {dict(outcomes)}")


def test_truncated_files_are_never_taken_for_whole(full: Path, tmp_path: Path) -> None:
    some, original, outcomes = chance("cuts"), full.read_bytes(), Counter[str]()
    sizes = [some.randrange(1, len(original)) for _ in range(rounds(4, 300))]
    for size in [1, 15, 16, 99, 100, 512, 4095, 4096, 4097, len(original) - 4096, len(original) - 1, *sizes]:
        path = tmp_path / f"{size}.db"
        path.write_bytes(original[:size])
        found = verdict(path)
        assert found[0] == "refused" or found[1], f"{size} of {len(original)} bytes are taken for a whole store"
        outcomes[found[0]] += 1
    print(f"\ntruncated files: {dict(outcomes)}")


def test_no_file_of_random_bytes_is_opened(tmp_path: Path) -> None:
    some = chance("noise")
    for number in range(rounds(10, 200)):
        path = tmp_path / f"{number}.db"
        head = some.choice((b"", b"SQLite format 3\0", b"SQLite format 3\0\x10\x00\x02\x02\x00\x40\x20\x20"))
        path.write_bytes(head + some.randbytes(some.choice((1, 100, 5000, 50_000))))
        before = path.read_bytes()
        assert verdict(path)[0] == "refused"
        assert path.read_bytes() == before and list(tmp_path.glob(f"{number}.db*")) == [path]


def test_names_with_control_characters(store: Store) -> None:
    """They are refused or kept, and never change what is printed."""
    for letter in [*"az09 /\\'\"%\t\n\r\x0b\x7f", "\0", "\x1b[31m", "\u202e", "\ud800"]:
        refused_or_fine(lambda letter=letter: store.scans.finish(store.scans.start(f"t{letter}")))  # type: ignore[misc]
    result = CliRunner().invoke(main, ["scans", "list", "--db", store.path])
    assert result.exit_code == 0 and "\x1b" not in result.output and "\u202e" not in result.output
