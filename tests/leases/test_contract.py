"""What every kind of leased work promises: chunks, drafts, verified findings, jobs, session tasks and audits.

The same tests run for each. A new kind is added to ``tests/support/leased_work.py``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from leased_work import KINDS, Kind, Night, kind

from scanstore import Store
from scanstore.errors import InvalidArgument, LeaseLost, NotFound
from scanstore.leases import engine

pytestmark = pytest.mark.parametrize("name", KINDS)
LEASE = 60.0


@pytest.fixture
def store(night_store: Store) -> Store:
    return night_store


@pytest.fixture
def work(store: Store, name: str) -> Kind:
    return kind(store, name)


def expire(store: Store, work: Kind, night: Night) -> None:
    """All leases run out, and their workers are of a machine that cannot be asked."""
    night.sleep(timedelta(seconds=2 * LEASE))
    store.database.execute_sql(f"UPDATE {work.table} SET process = 'elsewhere:7@1' WHERE lease_until IS NOT NULL")


def test_a_row_is_leased_to_one_worker(work: Kind) -> None:
    total = work.state().ready
    first = work.claim(worker="ann", limit=2, lease=LEASE)
    rest = work.claim(worker="bob", limit=1000, lease=LEASE)
    assert len(first) == 2 and len({row.id for row in (*first, *rest)}) == len(first) + len(rest)
    assert {row.worker for row in first} == {"ann"} and all(row.attempt == 1 for row in (*first, *rest))
    state = work.state()
    assert (state.ready, state.leased) == (total - len(first) - len(rest), len(first) + len(rest))
    assert not state.finished


def test_a_completed_row_is_done_once(work: Kind) -> None:
    (row,) = work.claim(worker="ann", lease=LEASE)
    before = work.state().done
    work.complete(row)
    work.complete(row)  # the worker did not see the answer to the first call
    assert work.state().done == before + 1
    assert row.id not in {other.id for other in work.claim(worker="bob", limit=1000)}


def test_a_released_row_is_unchanged_and_free(work: Kind) -> None:
    (row,) = work.claim(worker="ann", lease=LEASE)
    ready = work.state().ready
    work.release(row)
    assert work.state().ready == ready + 1 and work.get(row.id).retry_count == 0
    assert row.id in {other.id for other in work.claim(worker="bob", limit=1000)}


def test_a_failed_row_is_tried_again_later_until_its_retries_are_used_up(work: Kind, night: Night) -> None:
    total = work.state().ready
    for _ in range(100):
        for row in work.claim(worker="ann", limit=1000, lease=LEASE):
            work.fail(row)
        state = work.state()
        if state.failed == total:
            break
        assert not state.finished and (state.ready or state.next_at is not None)
        night.sleep(timedelta(hours=1))
    assert work.state().failed == total and work.claim(worker="ann") == []


def test_a_worker_whose_row_was_claimed_again_is_refused(work: Kind, store: Store, night: Night) -> None:
    (late,) = work.claim(worker="ann", lease=LEASE)
    expire(store, work, night)
    again = work.claim(worker="ann", limit=1000, lease=LEASE)  # the same name: the attempt tells them apart
    assert late.id in {row.id for row in again}
    for call in (work.fail, work.release, work.complete):
        with pytest.raises(LeaseLost):
            call(late)
    assert work.get(late.id).attempt == 2 and work.get(late.id).worker == "ann"


def test_a_heartbeat_extends_the_lease(work: Kind, night: Night) -> None:
    (row,) = work.claim(worker="ann", lease=LEASE)
    first = work.get(row.id).lease_until
    night.sleep(timedelta(seconds=LEASE / 2))
    work.heartbeat(row)
    assert work.get(row.id).lease_until > first


def test_recover_frees_expired_leases_and_counts_them(work: Kind, store: Store, night: Night) -> None:
    rows = work.claim(worker="ann", limit=3, lease=LEASE)
    assert work.recover() == (0, 0)
    expire(store, work, night)
    assert work.recover() == (len(rows), 0) and work.recover() == (0, 0)
    assert all(work.get(row.id).lost_count == 1 and work.get(row.id).retry_count == 0 for row in rows)


def test_a_loop_that_waits_sees_the_unfinished_rows(work: Kind, store: Store, night: Night) -> None:
    scope = None if work.scope is None else work.calls._scope(work.scope)

    def agree() -> None:
        whole, left = work.state(), engine.state(store.database, work.calls.queue, scope, finished=False)
        assert left[:3] == whole[:3] and (left.next_at, left.finished) == (whole.next_at, whole.finished)

    agree()
    done, failed, *_ = work.claim(worker="ann", limit=3, lease=LEASE)
    agree()
    work.complete(done)
    work.fail(failed)
    assert work.state().delayed == 1 and work.state().leased > 0
    agree()
    expire(store, work, night)
    assert work.state().ready > 1
    agree()
    while rows := work.claim(worker="bob", limit=1000, lease=LEASE):
        for row in rows:
            work.complete(row)
    assert work.state().finished
    agree()


def test_bad_arguments_lease_nothing(work: Kind) -> None:
    bad: list[dict[str, Any]] = [{"limit": 0}, {"limit": "x"}, {"lease": 0}, {"lease": float("nan")}, {"worker": ""}]
    for given in (*bad, {"worker": 7}):
        with pytest.raises(InvalidArgument):
            work.claim(**given)
    if work.table != "jobs":  # Jobs.work takes handlers
        for given in ({"stop": 5}, {"stop": "now"}, {"wait": 1}):
            with pytest.raises(InvalidArgument, match=f"{next(iter(given))} is"):
                next(work.work(**given))
    with pytest.raises((InvalidArgument, NotFound)):
        work.get("no such row")
    assert work.state().leased == 0
