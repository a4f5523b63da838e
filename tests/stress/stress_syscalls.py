"""System calls: each may fail, at any time, once or from then on, or write less than it was told.

Work runs in a process in which one call on its files fails, the Nth of a kind. Each call of ours either returns, and
then what it did is there, or raises an error of ours; it never hangs. Afterwards a process without faults finds a sound
store, nothing half-done, and no file that the next such work would not remove.

What fails can be repeated: SCANSTORE_FAULT="dumps write 3 ENOSPC more" runs this one.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import pytest
from killing import ROLES, Ledger
from making import WORKS, Rekey, Write
from stressing import Tell, chance, done, fill, rounds, sound
from syscalls import Done, Watcher

from scanstore import NotAScanstore, ScanstoreError, Store, WrongKey
from scanstore.db.database import SCHEMA_VERSION
from scanstore.maintenance import backup

STEPS = 2
SHORT = "SHORT"  # half of what was to be written; all later writes find the disk full, with "more"
ERRORS = {
    "open": ("EACCES", "EIO", "ENOSPC", "EMFILE"),
    "read": ("EIO",),
    "write": ("EIO", "ENOSPC", SHORT),
    "truncate": ("EIO", "EACCES"),
    "sync": ("EIO", "ENOSPC"),
    "rename": ("EIO", "EACCES", "ENOSPC"),
    "unlink": ("EIO", "EACCES"),
    "lock": ("EIO", "EPERM"),
    "map": ("EIO", "ENOMEM"),
}


BLAMED = ("Damaged", "NotAScanstore", "WrongKey", "BadLine", "InvalidArgument", "NotFound", "Conflict", "IllegalMove")

OLDER_DUMP = f"load schema {SCHEMA_VERSION - 1}"

# What once was wrong: the work, the kind, where among its calls, and the error.
STANDING = (
    ("encrypt", "read", 0.95, "EIO"),
    ("change the key", "write", 0.95, "EIO"),
    (OLDER_DUMP, "read", 0.6, "EIO"),
    (OLDER_DUMP, "write", 0.6, "ENOSPC"),
)


class Fault(NamedTuple):
    work: str
    kind: str
    at: int
    error: str
    more: bool

    def __str__(self) -> str:
        return f"{self.work} {self.kind} {self.at} {self.error} {'more' if self.more else 'once'}"

    @classmethod
    def parsed(cls, text: str) -> Fault:
        work, kind, at, error, more = text.rsplit(" ", 4)
        return cls(work, kind, int(at), error, more == "more")


# Work, under faults ---------------------------------------------------------------------------------------------------


def role(tell: Tell, folder: str, name: str) -> None:
    """Some steps of a role, each of which may be refused; then a write, which may be refused too."""
    root, some = Path(folder), chance("syscalls", name)
    with refusable(tell), Store(root / "scan.db", timeout=2) as store:
        for _ in range(STEPS):
            with refusable(tell):
                role = ROLES[name](store, root, tell, some)
                next(role)
                role.close()  # type: ignore[attr-defined]
        with refusable(tell):
            store.settings["mark"] = 1
            tell(["mark"])


def file(tell: Tell, folder: str, name: str) -> None:
    with refusable(tell):
        WORKS[name].do(Path(folder), tell, "full")


class refusable:  # noqa: N801  reads as a word
    """Tell what was refused, and what was raised that is no error of ours."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def __enter__(self) -> None: ...

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        ours = any(f"{os.sep}scanstore{os.sep}" in frame.filename for frame in traceback.extract_tb(at))
        if isinstance(error, ScanstoreError) or isinstance(error, OSError) and not ours:  # or a test's own copying
            self.tell(["refused", type(error).__name__, str(error)])
        elif error is not None:
            self.tell(["raw", "".join(traceback.format_exception(error))])
        return True


# Looking, without -----------------------------------------------------------------------------------------------------


def look(root: Path, name: str, told: list[Any]) -> None:
    if name in WORKS:
        WORKS[name].after(root, told, "full")
        return
    sound(root / "scan.db")
    with Store(root / "scan.db", timeout=5) as store:
        ledger = Ledger()
        ledger.add([note for note in told if note[0] != "mark"])
        ledger.kills = STEPS
        ledger.verify(store)
        assert ["mark"] not in told or store.settings["mark"] == 1
    copies = [note[1] for note in told if note[0] == "backup"]
    if copies:
        assert backup.verify(copies[-1]) == SCHEMA_VERSION
    if any(note[0] == "dump" for note in told):
        assert "end" in json.loads((root / "copies/dump.jsonl").read_bytes().splitlines()[-1])


def again(tell: Tell, root: Path, name: str) -> None:
    """The next work of that kind, without faults: it succeeds, and removes what was left."""
    work = WORKS.get(name)
    if work is None:
        role(tell, os.fspath(root), name)
    elif isinstance(work, Write) or name.startswith("restore") or not (root / "scan.db").exists():
        file(tell, os.fspath(root), name)
    else:
        try:
            store = Store(root / "scan.db", key=work.keys[1] if isinstance(work, Rekey) else None)
        except (WrongKey, NotAScanstore):
            store = Store(root / "scan.db", key=work.keys[0])  # type: ignore[attr-defined]
        with store:
            store.backup()


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if "partial" in path.name or path.name.endswith(".part")]


def judged(watcher: Watcher, fault: Fault, template: Path, root: Path) -> tuple[Done, str | None]:
    """Run some work with a fault; return how it ended, and what is wrong with that."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(template, root)
    outcome = watcher.run(
        f"stress_syscalls:{'role' if fault.work in ROLES else 'file'}",
        os.fspath(root),
        fault.work,
        watch=root,
        kinds=fault.kind,
        at=fault.at,
        number=0 if fault.error == SHORT else getattr(errno, fault.error),
        more=fault.more,
        limit=90,  # a lock that could not be given back is waited for, again and again
    )
    if outcome.status is None:
        return outcome, f"hung: {outcome.raised}"
    if outcome.status or outcome.raised:
        return outcome, f"ended with {outcome.status}: {outcome.raised}"
    for note in outcome.told:
        if note[0] == "raw":
            return outcome, note[1]
        # A file that its disk cannot read is damaged: SQLite says so too.
        if note[0] == "refused" and note[1] in BLAMED and (note[1], fault.kind) != ("Damaged", "read"):
            return outcome, f"something else is blamed: {note[2]}"
    told = [note for note in outcome.told if note[0] != "refused"]
    if fault.work in ROLES and not fault.more and len(told) == len(outcome.told) and ["mark"] not in told:
        return outcome, "nothing was refused, and nothing was done"

    def looked(tell: Tell) -> None:
        look(root, fault.work, told)

    def repeated(tell: Tell) -> None:
        again(tell, root, fault.work)

    try:
        done(looked, seconds=30)
        if leftovers(root):
            refused = [note for note in done(repeated, seconds=30) if note[0] in ("refused", "raw")]
            if refused:
                return outcome, f"the next one is refused: {refused}"
            if leftovers(root):
                return outcome, f"left for good: {leftovers(root)}"
    except AssertionError as error:
        return outcome, f"after {outcome.told}: {error}"
    return outcome, None


# The test -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What is there before each work: a folder, made when it is asked for."""
    made: dict[str, Path] = {}
    full = tmp_path_factory.mktemp("syscalls-full") / "full.db"
    fill(full)

    def template(name: str) -> Path:
        key = "" if name in ROLES else name
        if key not in made:
            root = made[key] = tmp_path_factory.mktemp("template")
            if key:
                WORKS[name].before(root, full)
            else:
                for folder in ("tree", "copies", "others"):
                    (root / folder).mkdir()
                for n in range(4):
                    (root / f"tree/m{n}.py").write_text(f"from m{(n + 1) % 4} import f\n\n\ndef f(x):\n    return x\n")
                shutil.copy(full, root / "full.db")
                shutil.copy(full, root / "scan.db")
        return made[key]

    yield template
    for root in made.values():
        shutil.rmtree(root, ignore_errors=True)


def works() -> list[str]:
    try:
        import sqlcipher3  # noqa: F401
    except ImportError:
        return [*ROLES, *(name for name, work in WORKS.items() if not isinstance(work, Rekey))]
    return [*ROLES, *WORKS]


def chosen(watcher: Watcher, templates: Any, root: Path, times: int) -> Iterator[Fault]:
    """Each work in turn and each kind of call in turn, at any of its calls, with any of its errors."""
    some = chance("faults")
    calls: dict[str, dict[str, int]] = {}
    kinds: dict[str, list[str]] = {}
    names = works()
    some.shuffle(names)

    def count(name: str) -> dict[str, int]:
        if name not in calls:
            outcome, wrong = judged(watcher, Fault(name, "", 0, "EIO", False), templates(name), root)
            assert wrong is None and not [note for note in outcome.told if note[0] == "refused"], (name, wrong)
            calls[name] = outcome.calls
        return calls[name]

    for name, kind, place, error in STANDING:
        if name in names:
            yield Fault(name, kind, max(1, round(count(name)[kind] * place)), error, False)
    for n in range(times):
        name = names[n % len(names)]
        if not kinds.get(name):
            kinds[name] = [kind for kind in ERRORS if count(name)[kind]]
            some.shuffle(kinds[name])
        kind = kinds[name].pop()
        more = some.choice((True, False)) and kind != "lock"  # for one that never comes it waits
        yield Fault(name, kind, some.randint(1, calls[name][kind]), some.choice(ERRORS[kind]), more)


def test_a_call_that_fails_is_refused_or_does_what_it_says(watcher: Watcher, templates: Any, tmp_path: Path) -> None:
    wrong: list[str] = []
    hits, refusals = Counter[str](), Counter[str]()
    asked = os.environ.get("SCANSTORE_FAULT")
    faults = [Fault.parsed(asked)] if asked else chosen(watcher, templates, tmp_path / "root", rounds(8, 1100))
    for fault in faults:
        outcome, found = judged(watcher, fault, templates(fault.work), tmp_path / "root")
        hits[f"{fault.kind} {fault.error}"] += outcome.failed > 0
        refusals.update(note[1] for note in outcome.told if note[0] == "refused")
        if found is not None:
            wrong.append(f"{fault}: {found}")
            print(f"\n{wrong[-1]}", flush=True)
        if hits.total() % 100 == 0:
            print(f"\n{hits.total()} faults met", end="", flush=True)
    print(f"\n{hits.total()} faults met: {dict(sorted(hits.items()))}; refused: {dict(refusals.most_common())}")
    assert not wrong, f"{len(wrong)} violations:\n" + "\n\n".join(wrong)
