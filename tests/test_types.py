"""What type checkers tell users of the package."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pages
import public_signatures
import pytest
from typechecking import run_mypy

import scanstore
from scanstore.analysis import lifecycle, policies
from scanstore.audits import audits
from scanstore.audits import policies as audit_policies
from scanstore.audits.models import STATUSES as AUDIT_STATUSES
from scanstore.db import state_machine, words
from scanstore.indexing import facts
from scanstore.library import library
from scanstore.library.models import MODELS as LIBRARY_MODELS
from scanstore.maintenance.pruning import KINDS as PRUNE_KINDS
from scanstore.plans import changes, plans
from scanstore.report import document, gather
from scanstore.search import KINDS as SEARCH_KINDS
from scanstore.sessions import uploads
from scanstore.symbols import breaking, choosing, comparison, cycles, export, graph_formats, reach, renames, symbols

ROOT = Path(scanstore.__file__).parent.parent
#: Where no other type would be true.
UNTYPED = (
    "AsyncCall.__",  # it returns what the method of the store does
    *("Cursor.", "Connection."),  # sqlite3 itself says nothing of the values in rows
    r"\w+Field\.(db_value|python_value|adapt) ",  # Peewee calls these, and declares some of them
    "Base.id ",  # each model has its own
    "Job.store ",  # a Store, which stands above the jobs
)


def test_public_signatures_say_nothing_of_any() -> None:
    found = [str(each) for each in public_signatures.annotations() if "Any" in public_signatures.words(each.given)]
    left = [each for each in found if not re.search(rf" ({'|'.join(UNTYPED)})", each)]
    assert not left, "\n".join(left)
    for pattern in UNTYPED:
        assert any(re.search(f" {pattern}", each) for each in found), f"{pattern} has types now"


GOOD = """
from scanstore import Store
from scanstore.db.generic_fields import JsonValue
from scanstore.library import SceneRecord
from scanstore.models import Finding
from scanstore.plans import Proposal, ProposalRecord

with Store(":memory:") as store:
    value: JsonValue = store.settings["page_size"]
    reveal_type(store.settings.get("page_size", 50, type=int) + 1)
    reveal_type(store.settings.get("page_size", type=int))
    known: bool = store.settings.get("page_size", b"") != b""
    reveal_type(store.settings.ensure("retries", 3, type=int, description="Tries"))
    value = store.settings.ensure("folders", ["a"])
    value = store.settings.pop("none", None)
    reveal_type(store.settings.remove("retries").total)
    store.sessions.prompts.list("a@example.org", type="summary", limit=10)
    reveal_type(store.settings.update("retries", lambda count: count + 1, default=0, type=int))
    value = store.settings.update("folders", lambda value: ["a", value])
    reveal_type(store.library.get("scene", "1").title)
    reveal_type(store.library.find("tag", "comedy"))
    stored = next(store.library.records())
    studio = "" if stored["studio"] is None else stored["studio"]["name"]
    record: SceneRecord = {"id": "1", "title": "A", "performers": ["2", {"id": "3", "name": "B"}]}
    store.library.upsert_scenes([record, {"id": "2"}])
    store.library.upsert_scenes(store.library.records())
    change: ProposalRecord = {"finding": 1, "field": "severity", "action": "set", "proposed": "low"}
    store.plans.propose_many(1, [Proposal("1", "tags", "add", ["t1"]), change])
    finding = store.findings.list(severity="high")[0]
    store.findings.list(severity=finding.severity, status=finding.status)
    store.findings.triage(finding, "confirmed", by="me")
    store.prune(keep_last=3, what=["scans", "calls"])
    reveal_type(store.page(Finding, sort="-created_at").items[0].title)
    reveal_type(store.audits.trail("1").items)
    store.sessions.results.add("1", analysis_type="review", result_content="{}", score=99.5)
    store.llm.add("llama", max_tokens=4096, is_verifier=True)
    store.scans.analyze(scope="changed", primary_analyzer="llama", pause_after=None, retry_delay=1)
    store.sessions.uploads.add("1", [{"file_path": "a", "file_size": 1, "sha256": b""}])
"""
REVEALED = ["int", "int | None", "int", "int", "int", "str", "Rows[Tag]", "str", "Rows[AuditEvent]"]


def mypy(folder: Path, *texts: str, options: Iterable[str] = ("--strict",)) -> list[str]:
    """What mypy says of scripts, line by line, each with the number of its script."""
    scripts = []
    for number, text in enumerate(texts):
        scripts.append(folder / f"script{number}.py")
        scripts[-1].write_text(text, encoding="utf-8")
    told = run_mypy(*options, *map(str, scripts))
    assert told.returncode in (0, 1) and not told.stderr, told.stderr
    return [line.rpartition(f"{folder.name}/")[2] for line in told.stdout.splitlines()[:-1]]


@pytest.mark.extras
def test_calls_have_the_types_of_their_values(tmp_path: Path) -> None:
    told = mypy(tmp_path, GOOD)
    assert not [line for line in told if ": error: " in line], told
    found = re.findall('type is "(.*)"', re.sub(r"\b[a-z_]+\.(?=\w)", "", "\n".join(told)))
    assert found == REVEALED


WRONG = {
    'store.llm.add("m", max_token=1)': 'Unexpected keyword argument "max_token"',
    'store.llm.add("m", votes="two")': 'incompatible type "str"; expected "int"',
    'store.llm.update("m", created_at=None)': 'Unexpected keyword argument "created_at"',
    "store.scans.analyze(retries=3)": 'Unexpected keyword argument "retries"',
    'store.scans.analyze(max_retries="3")': 'incompatible type "str"; expected "int"',
    'store.accounts.update("a@example.org", rol="admin")': 'Unexpected keyword argument "rol"',
    'store.library.upsert_scenes([{"id": "1", "titel": "A"}])': 'expected "SceneRecord',
    'store.library.upsert_scenes([{"title": "A"}])': 'expected "SceneRecord',
    'store.library.upsert_tags([{"id": 1}])': 'expression has type "int"',
    'store.plans.propose_many(1, [{"scene": "1", "field": "title", "action": "set"}])': "incompatible type",
    'store.sessions.uploads.add("1", [{"file_path": "a", "file_size": "1"}])': 'expression has type "str"',
    'store.settings.get("n", 1, type=int) + "1"': "Unsupported operand types",
    'store.findings.list(severity="hihg")': "incompatible type",
    'store.findings.triage(1, "fals_positive", by="me")': "incompatible type",
    'store.report(format="pdf")': "incompatible type",
    'Store(durability="fast")': "incompatible type",
    'store.scans.rerun(1, to="scanning")': "incompatible type",
    'store.scans.set_risk(1, "urgent", ["*.py"])': "incompatible type",
    'store.scans.analyze(scope="all")': "incompatible type",
    'store.library.get("scenes", "1")': "No overload variant",
    'store.library.names("scene")': "incompatible type",
    'store.plans.review(1, "approved")': "incompatible type",
    'store.plans.propose(1, "1", "titel", "set", proposed="A")': "incompatible type",
    'store.symbols.export("svg")': "incompatible type",
    'store.search("sql", kind="findings")': "incompatible type",
    'store.prune(what="scan", keep_last=1)': "incompatible type",
    'store.sarif.dump(None, "a.sarif", only=["absent"])': "incompatible type",
    'store.sessions.results.add("1", analysis_type="review", content="{}")': 'Unexpected keyword argument "content"',
    'store.jobs.list(status="done")': "incompatible type",
    'store.audits.review("1", "aproved", by="me", reason="seen")': "incompatible type",
    'store.sessions.tasks.list("1", status="done")': "incompatible type",
    'store.sessions.uploads.mark("1", "done")': "incompatible type",
    'store.drafts.list(1, status="open")': "incompatible type",
    'assert store.findings.get(1).status == "fals_positive"': "Non-overlapping equality check",
}


@pytest.mark.extras
def test_wrong_names_and_types_are_refused(tmp_path: Path) -> None:
    lines = mypy(tmp_path, "from scanstore import Store\nstore = Store()\n" + "\n".join(WRONG))
    told: dict[int, str] = {}
    for line in lines:
        _, number, said = line.split(":", 2)
        told[int(number)] = told.get(int(number), "") + said
    for number, (call, said) in enumerate(WRONG.items(), 3):
        assert said in told.get(number, ""), f"{call}: {told.get(number, 'accepted')}"


TUPLES = {
    "Durability": ("full", "normal"),
    "PruneKind": PRUNE_KINDS,
    "ScanStatus": state_machine.SCAN_STATUSES,
    "ScanKind": state_machine.SCAN_KINDS,
    "Phase": state_machine.PHASES,
    "SymbolType": facts.SYMBOL_TYPES,
    "ReferenceType": facts.REFERENCE_TYPES,
    "Resolution": facts.RESOLUTIONS,
    "ChangeKind": comparison.CHANGE_KINDS,
    "SymbolChangeFilter": choosing.CHANGES,
    "BreakageKind": breaking.BREAKAGE_KINDS,
    "NameMatch": tuple(symbols.FIND),
    "GraphFormat": graph_formats.FORMATS,
    "GraphDirection": export.DIRECTIONS,
    "ReachedBy": reach.LINKS,
    "CycleKind": cycles.CYCLE_KINDS,
    "RenameKind": renames.KINDS,
    "Risk": state_machine.RISKS,
    "ChunkStatus": state_machine.CHUNK_STATUSES,
    "DraftStatus": state_machine.DRAFT_STATUSES,
    "VerifiedStatus": state_machine.VERIFIED_STATUSES,
    "VoteDecision": state_machine.VOTES,
    "Outcome": policies.OUTCOMES,
    "AnalysisMode": lifecycle.MODES,
    "AnalysisScope": lifecycle.SCOPES,
    "AnalysisStep": tuple(lifecycle.STEPS),
    "CallStatus": state_machine.CALL_STATUSES,
    "Severity": state_machine.SEVERITIES,
    "FindingStatus": state_machine.FINDING_STATUSES,
    "SightingState": state_machine.SIGHTINGS,
    "FindingState": state_machine.FINDING_STATES,
    "ReportFormat": gather.FORMATS,
    "SearchKind": SEARCH_KINDS,
    "LibraryKind": tuple(LIBRARY_MODELS),
    "NamedKind": tuple(library.NAMES),
    "DatePrecision": state_machine.DATE_PRECISIONS,
    "PlanStatus": state_machine.PLAN_STATUSES,
    "PlanDecision": tuple(plans.DECISIONS),
    "ChangeStatus": state_machine.CHANGE_STATUSES,
    "ChangeAction": state_machine.CHANGE_ACTIONS,
    "ChangeField": tuple(changes.FIELDS),
    "JobStatus": state_machine.JOB_STATUSES,
    "SessionStatus": state_machine.SESSION_STATUSES,
    "SessionTaskStatus": state_machine.TASK_STATUSES,
    "UploadStatus": state_machine.UPLOAD_STATUSES,
    "UploadMark": tuple(uploads.MOVES),
    "ResultStatus": state_machine.RESULT_STATUSES,
    "AuditStatus": AUDIT_STATUSES,
    "AuditVerdict": audit_policies.VERDICTS,
    "ReviewVerdict": audits.HUMAN,
    "AuditSeverity": audit_policies.SEVERITIES,
}


def test_every_type_of_words_has_the_words_of_its_tuple() -> None:
    assert set(TUPLES) == {name for name in vars(words) if name[0].isupper()} - {"Literal", "TypeAlias"}
    for name, known in TUPLES.items():
        assert get_args(getattr(words, name)) == known, name
    assert state_machine.SYNC_KINDS == tuple(LIBRARY_MODELS)
    assert set(document.CHANGES) == set(get_args(words.FindingState))


@pytest.mark.extras
def test_scripts_of_the_documentation_have_the_right_types(tmp_path: Path) -> None:
    """Also inside functions that they do not annotate."""
    scripts = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        scripts += [f"# {page.name}\n{script}" for script in pages.scripts(page)]
    options = ("--check-untyped-defs", "--allow-untyped-defs", "--allow-untyped-calls", "--allow-incomplete-defs")
    # Without --strict, comments of the package itself count as unused; its own check is another one.
    said = mypy(tmp_path, *scripts, options=options)
    told = [line for line in said if line.startswith("script") and ": error: " in line]
    assert len(scripts) > 10 and not told, "\n".join(told)


@pytest.mark.extras
def test_examples_have_types(tmp_path: Path) -> None:
    scripts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").glob("*.py"))]
    told = [line for line in mypy(tmp_path, *scripts) if ": error: " in line]
    assert len(scripts) >= 5 and not told, "\n".join(told)


def test_no_argument_is_any_text_where_only_some_words_will_do() -> None:
    names = "action decision direction durability format kind match reference_type risk severity state status"
    found = [
        f"{each.owner} {each.name}"
        for each in public_signatures.annotations()
        if each.name in {*names.split(), "symbol_type", "verdict"} and "str" in public_signatures.words(each.given)
    ]
    assert set(found) == {"Language.lacks kind"}, found
