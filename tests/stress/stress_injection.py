"""Injection: what strangers wrote is not obeyed, by SQL, by the file system, by a browser or by a terminal."""

from __future__ import annotations

import contextlib
import html.parser
import inspect
import io
import json
import os
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hostile import SQL, TAG, as_json, limited, refused_or_fine
from stressing import chance, fill, report, rounds

from scanstore import ScanstoreError, Store
from scanstore.cli import main
from scanstore.models import Scan, Symbol


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "full.db"
    fill(path)
    return path


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
    plan = store.plans.add(text, description=text)
    assert store.settings[text] == text and store.settings.to_dict() == {text: text}
    assert store.library.get("scene", text).title == text == store.library.get("tag", text).name
    assert [scene.id for scene in store.library.list(tag=text)] == [text]
    assert store.jobs.get(job).type == text and store.jobs.find(unique=text).id == job.id
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
    session = store.sessions.add(user, "s")
    for path in (*AWAY, str(tmp_path / "secret.txt")):
        scan = store.scans.add("t", root=tmp_path / "tree")
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
            store.sessions.uploads.add_files(session, tmp_path / "tree", paths=[path])
        tagged = {**TAG, "path": path}
        (tmp_path / "tags").write_bytes(as_json(tagged))
        scan = store.scans.add("t", root=tmp_path / "tree")
        with contextlib.suppress(ScanstoreError):
            store.symbols.load_ctags(scan, tmp_path / "tags")
        store.scans.finish(scan)
        assert Symbol.select().where(Symbol.scan == scan).count() == 0, path
        store.sarif.load(io.BytesIO(as_json(seen_at(path))), target="reports")
    for upload in store.sessions.uploads.list(session):
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
        store.findings.triage(one, "confirmed", by=text, reason=text)
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


# Letters that do something -------------------------------------------------------------------------------------------


def test_names_with_control_characters(store: Store) -> None:
    """They are refused or kept, and never change what is printed."""
    for letter in [*"az09 /\\'\"%\t\n\r\x0b\x7f", "\0", "\x1b[31m", "\u202e", "\ud800"]:
        refused_or_fine(lambda letter=letter: store.scans.finish(store.scans.add(f"t{letter}")))  # type: ignore[misc]
    result = CliRunner().invoke(main, ["scans", "list", "--db", store.path])
    assert result.exit_code == 0 and "\x1b" not in result.output and "\u202e" not in result.output
