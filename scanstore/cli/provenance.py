"""The target of a command, by the current folder, and the line that names the scan of an answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scanstore import parts
from scanstore.cli.output import count
from scanstore.db.paths import spelled

if TYPE_CHECKING:
    from scanstore.snapshots.models import Scan
    from scanstore.snapshots.scans import Scans, Target
    from scanstore.store import Store

SAME = "; no file has changed since"


def recorded_scans(store: Store) -> Scans:
    """Return the scans of a store without their analysis, which takes a sixth of a query's time to import."""
    return parts.scans.Scans(store.database)


def target_here(store: Store, folder: str | None, *, trees: bool) -> str | None:
    """Return the target whose root contains a folder, the innermost one; else the only target of the store.

    With ``trees``, targets with a tree come before those that only have reports. None in an empty store. Raises
    Ambiguous when several targets have that root, and when none contains the folder and there are several.
    """

    around: dict[int, list[Target]] = {}
    if folder is not None:
        place = Path(folder)
        for target in recorded_scans(store).targets():
            root = _root(target)
            if root is not None and place.is_relative_to(root):
                around.setdefault(len(root.parts), []).append(target)
    if not around:
        return parts.scans.sole_target(store.database, trees=trees)
    inner = around[max(around)]
    names = [each.target for each in parts.scans.answering(inner, trees=trees) or inner]
    if len(names) > 1:
        raise parts.errors.Ambiguous(f"{len(names)} targets have the root {folder}", names)
    return names[0]


def _root(target: Target) -> Path | None:
    """The real path of the folder that a target is about; None where it is not known or not a folder."""

    place = parts.freshness.place_of(target.root if target.root is not None else target.target)
    real = None if place is None else Path(spelled(place))
    return real if real is not None and real.is_dir() else None


def scan_line(store: Store, scan: Scan) -> tuple[str, str]:
    """Say which scan an answer is from and when it was made, and then how many files have changed since."""
    when = scan.completed_at or scan.started_at or scan.created_at
    if scan.revision is None:
        more = f"; it is {scan.status}, and not all of the tree was recorded"
    else:
        more = _later(store, scan)
    return f"scan {scan.id} of {scan.target}, {when:%Y-%m-%d %H:%M} UTC", f"{_changes(store, scan)}{more}"


def _later(store: Store, scan: Scan) -> str:
    """Say that a later scan of the tree has not become the latest, because not all of it was recorded."""
    others = recorded_scans(store).list(target=scan.target, limit=20)
    newer = [one for one in others if one.id > scan.id and one.revision is None]
    return f"; scan {newer[0].id} after it is {newer[0].status}, and not all of the tree was recorded" if newer else ""


def _changes(store: Store, scan: Scan) -> str:

    if scan.root is None:
        return ""
    found = parts.freshness.changes_since(store.database, scan)
    if found is None:
        return "; its folder is not here"
    if found.files:
        verb = "has" if found.files == 1 else "have"
        return f"; {'' if found.complete else 'at least '}{count(found.files, 'file')} {verb} changed since"
    return SAME if found.complete else "; not all of its files were compared with it"
