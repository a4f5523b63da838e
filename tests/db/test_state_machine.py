"""Moves between statuses: every legal one happens with its columns, every other one is refused and changes nothing."""

from __future__ import annotations

from itertools import product

import pytest

from scanstore import IllegalMove, NotFound, Store
from scanstore.db.rules import change_rows
from scanstore.db.state_machine import SCAN_STATUSES, SCANS, move
from scanstore.snapshots.models import Scan


@pytest.mark.parametrize(("before", "after"), list(product(SCAN_STATUSES, SCAN_STATUSES)))
def test_scans_move_only_where_their_life_leads(store: Store, before: str, after: str) -> None:
    scan = store.scans.add("t")
    with store.bound():
        change_rows(Scan, status=before).where(Scan.id == scan.id).execute()
    if before in SCANS.moves[after]:
        move(store.database, SCANS, scan.id, after, error="why")
        assert (store.scans.get(scan).status, store.scans.get(scan).error) == (after, "why")
    else:
        with pytest.raises(IllegalMove, match=f"scan {scan.id} is {before} and cannot become {after}; ") as caught:
            move(store.database, SCANS, scan.id, after, error="why")
        assert SCANS.remedies.get(before, "look at it first") in str(caught.value)
        assert (store.scans.get(scan).status, store.scans.get(scan).error) == (before, None)


def test_a_row_that_is_gone_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="scan 9 does not exist"):
        move(store.database, SCANS, 9, "failed")


def test_a_scan_that_was_cancelled_meanwhile_does_not_complete(store: Store) -> None:
    scan = store.scans.add("t")
    store.symbols.record_file(scan, "a.c", "1", symbols=[{"name": "f"}])
    move(store.database, SCANS, scan.id, "cancelled")
    with pytest.raises(IllegalMove, match="cancelled"):
        store.scans.finish(scan)
    row = store.scans.get(scan)
    assert (row.status, row.revision, row.completed_at) == ("cancelled", None, None)
    assert store.check() == []


def test_every_status_has_a_way_out_or_is_an_end() -> None:
    assert set(SCANS.moves) == set(SCAN_STATUSES)
    leaving = {origin for origins in SCANS.moves.values() for origin in origins}
    assert leaving == set(SCAN_STATUSES)
