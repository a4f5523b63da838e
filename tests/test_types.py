"""What type checkers tell users of the package."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import public_signatures

import scanstore

ROOT = Path(scanstore.__file__).parent.parent
#: Where no other type would be true.
UNTYPED = (
    *("AsyncStore.__getattr__", "AsyncDomain.__", "AsyncCall.__"),  # they return what the method of the store does
    *("Cursor.", "Connection."),  # sqlite3 itself says nothing of the values in rows
    r"\w+Field\.(db_value|python_value|adapt) ",  # Peewee calls these, and declares some of them
    "Base.id ",  # each model has its own
    "Job.store ",  # a Store, which stands above the jobs
    "Page.items ",
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
from scanstore.plans import Proposal, ProposalRecord

with Store(":memory:") as store:
    value: JsonValue = store.settings["page_size"]
    reveal_type(store.settings.get("page_size", 50, type=int) + 1)
    reveal_type(store.settings.get("page_size", type=int))
    known: bool = store.settings.get("page_size", b"") != b""
    reveal_type(store.settings.define("retries", 3, type=int, description="Tries"))
    value = store.settings.define("folders", ["a"])
    reveal_type(store.settings.update("retries", lambda count: count + 1, default=0, type=int))
    value = store.settings.update("folders", lambda value: ["a", value])
    reveal_type(store.library.get("scene", "1").title)
    reveal_type(store.library.find("tag", "comedy"))
    record: SceneRecord = {"id": "1", "title": "A", "performers": ["2", {"id": "3", "name": "B"}]}
    store.library.upsert_scenes([record, {"id": "2"}])
    store.library.upsert_scenes(store.library.records())
    change: ProposalRecord = {"finding": 1, "field": "severity", "action": "set", "proposed": "low"}
    store.plans.propose_many(1, [Proposal("1", "tags", "add", ["t1"]), change])
    store.llm.add("llama", max_tokens=4096, is_verifier=True)
    store.scans.analyze(scope="changed", primary_analyzer="llama", pause_after=None, retry_delay=1)
    store.sessions.add_uploads("1", [{"file_path": "a", "file_size": 1, "sha256": b""}])
"""
REVEALED = ["int", "int | None", "int", "int", "str", "list[Tag]"]


@cache
def mypy(text: str, folder: Path) -> list[str]:
    """What mypy says of a script, line by line."""
    script = folder / "use.py"
    script.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache"), str(script)]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout
    return [line.partition("use.py:")[2] for line in told.splitlines()[:-1]]


def test_calls_have_the_types_of_their_values(tmp_path: Path) -> None:
    told = mypy(GOOD, tmp_path)
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
    'store.library.upsert_scenes([{"id": "1", "titel": "A"}])': 'Extra key "titel"',
    'store.library.upsert_scenes([{"title": "A"}])': 'Missing key "id"',
    'store.library.upsert_tags([{"id": 1}])': 'expression has type "int"',
    'store.plans.propose_many(1, [{"scene": "1", "field": "title", "action": "set"}])': "incompatible type",
    'store.sessions.add_uploads("1", [{"file_path": "a", "file_size": "1"}])': 'expression has type "str"',
    'store.settings.get("n", 1, type=int) + "1"': "Unsupported operand types",
}


def test_wrong_names_and_types_are_refused(tmp_path: Path) -> None:
    lines = mypy("from scanstore import Store\nstore = Store()\n" + "\n".join(WRONG), tmp_path)
    told: dict[int, str] = {}
    for line in lines:
        number, _, said = line.partition(":")
        told[int(number)] = told.get(int(number), "") + said
    for number, (call, said) in enumerate(WRONG.items(), 3):
        assert said in told.get(number, ""), f"{call}: {told.get(number, 'accepted')}"
