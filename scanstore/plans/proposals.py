"""Proposals for a plan: each is checked and completed with the current value, then all are written at once.

Change here: the fields of a proposal, and its possible targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Required, TypedDict

from scanstore.db.database import Database
from scanstore.db.notebooks import described
from scanstore.db.state_machine import CHANGE_TARGETS
from scanstore.db.values import dump_json
from scanstore.errors import InvalidArgument, NotFound, shown
from scanstore.findings.models import Finding
from scanstore.library.models import Scene
from scanstore.plans.changes import AT_ONCE, Checked, check, digest, field_named, missing, read, referred

if TYPE_CHECKING:
    from scanstore.db.words import ChangeAction, ChangeField

COLUMNS = (
    *("plan_id", "target", "target_key", "scene_id", "finding_id", "field", "action", "current_value"),
    *("proposed_value", "proposed_hash", "confidence"),
)
INSERT = f"""
INSERT INTO plan_changes ({", ".join(COLUMNS)}) VALUES ({", ".join("?" * len(COLUMNS))})
    ON CONFLICT (plan_id, target, target_key, field, action, proposed_hash) DO NOTHING
"""
KEYS = ("scene", "finding", "field", "action", "proposed", "current", "confidence")


class Proposal(NamedTuple):
    """A proposed change, see :meth:`scanstore.plans.plans.Plans.propose`."""

    target: Scene | Finding | str | int
    field: ChangeField
    action: ChangeAction
    proposed: object
    current: object = ...
    confidence: float | None = None


class ProposalRecord(TypedDict, total=False):
    """A change to be proposed, of a ``scene`` or a ``finding``; ``current`` and ``confidence`` may be left out."""

    scene: Scene | str
    finding: Finding | int
    field: Required[ChangeField]
    action: Required[ChangeAction]
    proposed: Required[object]
    current: object
    confidence: float | None


@described
class Proposed(NamedTuple):
    """The number of new proposals, and of those that the plan already contains."""

    created: int
    known: int


def checked(proposals: object) -> list[Checked]:
    """Return proposals in their stored form. InvalidArgument names the index of the invalid one, from 0."""
    if isinstance(proposals, str | bytes | Mapping | Proposal) or not isinstance(proposals, Iterable):
        raise InvalidArgument(f"proposals is {shown(proposals)}; give a list of Proposals")
    return [_checked(number, each) for number, each in enumerate(proposals)]


def _checked(number: int, proposal: object) -> Checked:
    where = f"proposal {number}: "
    if isinstance(proposal, Proposal):
        return check(where, *proposal)
    if not isinstance(proposal, Mapping):
        raise InvalidArgument(f"{where}it is {shown(proposal)}; give a Proposal or a mapping")
    unknown = [key for key in proposal if key not in KEYS]
    if unknown:
        raise InvalidArgument(f"{where}there is no {unknown[0]!a:.80}; there are {', '.join(KEYS)}")
    if ("scene" in proposal) == ("finding" in proposal):
        raise InvalidArgument(f"{where}it must have scene or finding, and not both")
    if "proposed" not in proposal:
        raise InvalidArgument(f"{where}proposed is missing; say what the value is to be")
    get = proposal.get
    field = field_named(where + "field", get("field"))
    if field.target not in proposal:
        raise InvalidArgument(f"{where}field is {field.name!r}, which is of a {field.target}; name one")
    return check(
        where, proposal[field.target], field.name, get("action"), get("proposed"), get("current", ...),
        get("confidence"),
    )  # fmt: skip


def insert(db: Database, plan_id: int, proposals: list[Checked]) -> int:
    """Write the changes that the plan does not contain yet, with the current value if none was given. Return their
    number.
    """
    rows = _rows(db, plan_id, proposals)
    return db.executemany(INSERT, rows).rowcount if rows else 0


def stored(db: Database, plan_id: int, *proposal: Any) -> dict[str, object]:
    """Return the columns of one proposal in their stored form. Raises InvalidArgument, NotFound."""
    return dict(zip(COLUMNS, _rows(db, plan_id, [check("", *proposal)])[0], strict=True))


def _rows(db: Database, plan_id: int, proposals: list[Checked]) -> list[tuple[object, ...]]:
    now = _captured(db, proposals)
    rows: list[tuple[object, ...]] = []
    for field, key, action, proposed, current, confidence in proposals:
        scene, finding = (key, None) if field.target == "scene" else (None, key)
        if current is ...:
            current = now[field.target][key][field.name]
        rows.append((
            plan_id, field.target, str(key), scene, finding, field.name, action, dump_json(current),
            dump_json(proposed), digest(proposed), confidence,
        ))  # fmt: skip
    return rows


def _captured(db: Database, proposals: list[Checked]) -> dict[str, dict[Any, dict[str, Any]]]:
    """Return the current values, by target and key. Raises NotFound for missing targets and references."""
    found: dict[str, dict[Any, dict[str, Any]]] = {}
    for target in CHANGE_TARGETS:
        concerned = [each for each in proposals if each.field.target == target]
        keys = list(dict.fromkeys(each.key for each in concerned))
        names = {each.field.name for each in concerned if each.current is ...}
        found[target] = {}
        for start in range(0, len(keys), AT_ONCE):
            found[target] |= read(db, target, keys[start : start + AT_ONCE], names)
        if lost := [key for key in keys if key not in found[target]]:
            hint = "sync the library first" if target == "scene" else "scanstore findings list shows the known ones"
            raise NotFound(f"no {target} {_some(lost)}; {hint}")
    needed: dict[str, dict[str, None]] = {}
    for each in proposals:
        if each.field.refers and each.action != "remove":
            ids = needed.setdefault(each.field.refers, {})
            ids.update(dict.fromkeys(referred(each.field, each.proposed)))
    for table, ids in needed.items():
        if lost := missing(db, table, ids):
            kind = table[:-1]
            hint = f"give the id of a {kind} (scanstore library list --kind {kind}), and sync a new one first"
            raise NotFound(f"no {kind} {_some(lost)}; {hint}")
    return found


def _some(keys: list[Any]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(repr(key) for key in keys[:3]) + more
