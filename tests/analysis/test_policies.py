"""Policies: what votes come to. Pure, so tested by properties: order, finality within the expected votes, agreement."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanstore.analysis.policies import Ballot, Majority, MinimumConfidence, Unanimous, Verdict, Weighted, judge
from scanstore.db.state_machine import VOTES
from scanstore.errors import InvalidArgument

V, R, W, A = (Ballot(decision) for decision in VOTES)
ballots = st.builds(
    Ballot, st.sampled_from(VOTES), st.none() | st.integers(0, 100), st.integers(1, 5), st.sampled_from("abcdef")
)
policies = st.one_of(
    st.builds(Majority, st.none() | st.integers(1, 7)),
    st.builds(Unanimous, st.none() | st.integers(1, 7)),
    st.builds(Weighted, st.none() | st.dictionaries(st.sampled_from("abc"), st.floats(0, 9)), st.floats(0.5, 0.99)),
)
policies = policies | st.builds(MinimumConfidence, st.integers(0, 100), policies)


@pytest.mark.parametrize(
    ("policy", "votes", "outcome"),
    [
        (Majority(), [], "undecided"),
        (Majority(), [V], "verified"),
        (Majority(3), [V], "undecided"),
        (Majority(3), [V, V], "verified"),
        (Majority(3), [R, R], "rejected"),
        (Majority(3), [V, R], "undecided"),
        (Majority(3), [V, R, W], "weakness"),
        (Majority(3), [W, W], "weakness"),
        (Majority(3), [V, W], "undecided"),  # one more could still verify it
        (Majority(), [V, W], "weakness"),
        (Majority(3), [V, A, A], "undecided"),
        (Majority(2), [V, V, V, R], "verified"),
        (Majority(), [A], "undecided"),
        (Unanimous(), [V, V], "verified"),
        (Unanimous(), [V, W], "weakness"),
        (Unanimous(), [V, R], "undecided"),
        (Unanimous(), [V, A], "undecided"),
        (Unanimous(3), [R, R], "undecided"),
        (Unanimous(2), [R, R], "rejected"),
        (Unanimous(), [], "undecided"),
        (Unanimous(2), [], "undecided"),
        (Weighted(), [Ballot("verified", weight=3), R, R], "verified"),
        (Weighted(), [Ballot("verified", weight=2), R, R], "undecided"),
        (Weighted({"x": 0}), [Ballot("rejected", weight=9, model="x"), V], "verified"),
        (Weighted({"x": 0}), [Ballot("rejected", model="x")], "undecided"),
        (Weighted(threshold=0.7), [V, V, R], "undecided"),
        (Weighted(threshold=0.6), [V, V, R], "verified"),
        (Weighted(), [V, W], "weakness"),
        (Weighted(), [], "undecided"),
        (MinimumConfidence(70), [Ballot("rejected", 69), Ballot("rejected"), Ballot("verified", 70)], "verified"),
        (MinimumConfidence(70, Majority(3)), [Ballot("verified", 90), Ballot("verified", 10)], "undecided"),
    ],
)
def test_outcomes(policy: Any, votes: list[Ballot], outcome: str) -> None:
    verdict = judge(policy, votes)
    assert verdict.outcome == outcome
    assert bool(verdict.missing) == (outcome == "undecided")


@pytest.mark.parametrize(
    ("policy", "votes", "missing"),
    [
        (Majority(3), [V, R], "1 more vote of 3"),
        (Majority(3), [], "3 more votes of 3"),
        (Majority(), [], "any vote at all"),
        (Majority(), [V, R], "a tie of 1 verified and 1 rejected: 1 more vote"),
        (Majority(), [V, R, A], "a tie of 1 verified, 1 rejected and 1 abstain: 2 more votes"),
        (Unanimous(3), [V], "2 more votes of 3"),
        (Unanimous(), [V, R], "agreement: there are 1 verified and 1 rejected; one of them has to change"),
        (Weighted(), [V, R], "more than 0.5 of the weight 2: it is rejected 1, verified 1"),
        (MinimumConfidence(50), [V], "any vote at all (1 vote does not count: below 50)"),
    ],
)
def test_what_is_missing_is_said(policy: Any, votes: list[Ballot], missing: str) -> None:
    assert policy(votes).missing == missing


def test_so_many_more_votes_break_a_tie() -> None:
    assert Majority()([V, R, A, V, V]).outcome == "verified"
    assert Majority()([V, R, A, V]).outcome == "undecided"


def test_confidence_is_the_mean_of_those_that_agree() -> None:
    votes = [Ballot("verified", 80), Ballot("verified", 91), Ballot("verified"), Ballot("rejected", 10)]
    assert Majority()(votes).confidence == 86
    assert Majority()([V, V]).confidence is None
    assert Majority()([Ballot("weakness", 10), Ballot("verified", 20)]).confidence == 15


@given(policies, st.lists(ballots, max_size=7), st.randoms())
def test_the_order_of_votes_does_not_matter(policy: Any, votes: list[Ballot], random: Any) -> None:
    shuffled = list(votes)
    random.shuffle(shuffled)
    assert policy(votes) == policy(shuffled)


@given(st.integers(1, 7), st.lists(ballots, max_size=7))
def test_no_vote_within_the_expected_ones_changes_a_majority(of: int, votes: list[Ballot]) -> None:
    decided = None
    for count in range(min(of, len(votes)) + 1):
        outcome = Majority(of)(votes[:count]).outcome
        assert decided in (None, outcome)
        decided = outcome if outcome != "undecided" else None


@given(st.integers(1, 7), st.lists(ballots, max_size=7))
def test_a_majority_is_decided_as_soon_as_it_is_certain(of: int, votes: list[Ballot]) -> None:
    """Undecided means that the votes to come can make a difference, or that all have come."""
    votes = votes[:of]
    if Majority(of)(votes).outcome == "undecided" and len(votes) < of:
        still = of - len(votes)
        ends = {Majority(of)(votes + [Ballot(decision)] * still).outcome for decision in VOTES}
        assert len(ends) > 1 or ends == {"undecided"}


@given(st.lists(ballots, min_size=1, max_size=7))
def test_unanimity_is_a_majority_too(votes: list[Ballot]) -> None:
    outcome = Unanimous()(votes).outcome
    if outcome in ("verified", "rejected"):
        assert Majority()(votes).outcome == outcome


@given(policies, st.lists(ballots, max_size=7))
def test_a_policy_always_gives_a_verdict(policy: Any, votes: list[Ballot]) -> None:
    verdict = judge(policy, votes)
    assert bool(verdict.missing) == (verdict.outcome == "undecided")
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert type(policy).__name__ in repr(policy)


@pytest.mark.parametrize(
    "policy",
    [
        Majority(0), Majority(True), Majority(1.5), Majority("3"), Unanimous(-1), Weighted(threshold=0.4),
        Weighted(threshold=1), Weighted(threshold=float("nan")), Weighted({"x": -1}), Weighted({"x": float("inf")}),
        MinimumConfidence(101), MinimumConfidence(True), MinimumConfidence(5, 7),
        7, None, lambda _: "verified", lambda _: Verdict("maybe"), lambda _: Verdict("verified", 101),
        lambda _: Verdict("verified", True), lambda _: Verdict("verified", 7.5), lambda _: ("verified", 7, ""),
    ],
)  # fmt: skip
def test_what_is_no_policy_is_refused(policy: Callable[..., Any]) -> None:
    with pytest.raises(InvalidArgument):
        judge(policy, [Ballot("verified", 100)])


def test_any_function_may_be_a_policy() -> None:
    assert judge(lambda votes: Verdict("rejected", len(votes)), [V, V]) == Verdict("rejected", 2)
