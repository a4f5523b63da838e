"""Voting policies: pure functions from the votes on a draft to a verdict, without access to a store.

A policy is any callable that takes a list of ballots and returns a :class:`Verdict`. The policies here are named
tuples, so they compare, pickle and print by value. They share these rules. An outcome needs more than its share of all
expected votes, so no later vote can change a decision. A tie, or too few votes, leaves the draft undecided. An
abstention is a cast vote that supports no outcome. Votes for "verified" and for "weakness" both speak against rejecting
a draft: together they make it a weakness, once "verified" alone can no longer win.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from scanstore.errors import InvalidArgument, shown

if TYPE_CHECKING:
    from scanstore.db.words import Outcome, VoteDecision

OUTCOMES: tuple[Outcome, ...] = ("verified", "rejected", "weakness", "undecided")
AGREEING: dict[Outcome, tuple[VoteDecision, ...]] = {
    "verified": ("verified",),
    "rejected": ("rejected",),
    "weakness": ("verified", "weakness"),
}


class Ballot(NamedTuple):
    """One vote: ``decision`` is verified, rejected, weakness or abstain, ``confidence`` per cent, ``weight`` how many
    votes the model was configured to have."""

    decision: VoteDecision
    confidence: int | None = None
    weight: float = 1
    model: str = ""


class Verdict(NamedTuple):
    """An outcome with its confidence in per cent. For an undecided draft, ``missing`` describes the missing votes."""

    outcome: Outcome
    confidence: int | None = None
    missing: str = ""


class Policy(Protocol):
    """A voting policy. It is called with all ballots of a round inside a transaction, so it should be fast."""

    def __call__(self, ballots: list[Ballot], /) -> Verdict: ...


class Majority(NamedTuple):
    """More than half of ``of`` expected votes decide. With None, the cast votes are all that are expected. Each model
    has one vote.
    """

    of: int | None = None

    def __call__(self, ballots: Sequence[Ballot]) -> Verdict:
        expected = _expected(self.of, ballots)
        still = expected - len(ballots)
        outcome = _outcome(_sums(ballots, [1] * len(ballots)), expected / 2, still)
        if outcome is not None:
            return Verdict(outcome, mean_confidence(outcome, ballots))
        if still:
            return Verdict("undecided", None, f"{_votes(still)} of {expected}")
        if not ballots:
            return Verdict("undecided", None, "any vote at all")
        counts = _counts(ballots)
        leading = max(counts.get("rejected", 0), counts.get("verified", 0) + counts.get("weakness", 0))
        needed = _votes(expected - 2 * leading + 1)
        return Verdict("undecided", None, f"a tie of {_spelled(counts)}: {needed}")


class Unanimous(NamedTuple):
    """All of ``of`` expected votes must agree. With None, the cast votes are all that are expected. A mix of verified
    and weakness gives a weakness.
    """

    of: int | None = None

    def __call__(self, ballots: Sequence[Ballot]) -> Verdict:
        expected = _expected(self.of, ballots)
        if not expected:
            return Verdict("undecided", None, "any vote at all")
        counts = _counts(ballots)
        agreed = [
            outcome
            for outcome, decisions in AGREEING.items()
            if sum(counts.get(decision, 0) for decision in decisions) == len(ballots)
        ]
        if not agreed:
            return Verdict("undecided", None, f"agreement: there are {_spelled(counts)}; one of them has to change")
        if len(ballots) < expected:
            return Verdict("undecided", None, f"{_votes(expected - len(ballots))} of {expected}")
        return Verdict(agreed[0], mean_confidence(agreed[0], ballots))


class Weighted(NamedTuple):
    """More than ``threshold`` (0.5 up to 1) of the weight of all cast votes decides.

    ``weights`` maps names of models to numbers of at least 0. For other models, the configured ``votes`` is the weight.
    """

    weights: Mapping[str, float] | None = None
    threshold: float = 0.5

    def __call__(self, ballots: Sequence[Ballot]) -> Verdict:
        if not _is_number(self.threshold) or not 0.5 <= self.threshold < 1:
            raise InvalidArgument(f"threshold is {shown(self.threshold)}; give a number from 0.5 up to, but not, 1")
        if self.weights is not None and not isinstance(self.weights, Mapping):
            raise InvalidArgument(f"weights is {shown(self.weights)}; give numbers by the names of models")
        for model, weight in (self.weights or {}).items():
            if not _is_number(weight) or not 0 <= weight < 1e15:
                raise InvalidArgument(
                    f"the weight of model {shown(model)} is {shown(weight)}; give a number from 0 up to 10**15"
                )
        weights = [(self.weights or {}).get(ballot.model, ballot.weight) for ballot in ballots]
        total = math.fsum(weights)
        sums = _sums(ballots, weights)
        outcome = _outcome(sums, total * self.threshold, 0) if total else None
        if outcome is not None:
            return Verdict(outcome, mean_confidence(outcome, ballots))
        if not ballots:
            return Verdict("undecided", None, "any vote at all")
        shares = ", ".join(f"{decision} {weight:g}" for decision, weight in sorted(sums.items()))
        return Verdict("undecided", None, f"more than {self.threshold:g} of the weight {total:g}: it is {shares}")


class MinimumConfidence(NamedTuple):
    """Applies ``policy`` to the votes with a confidence of at least ``at_least`` per cent. Votes with a lower
    confidence, or without one, are ignored.
    """

    at_least: int
    policy: Policy = Majority()

    def __call__(self, ballots: Sequence[Ballot]) -> Verdict:
        if not _is_number(self.at_least) or not 0 <= self.at_least <= 100:
            raise InvalidArgument(f"at_least is {shown(self.at_least)}; give a number from 0 to 100")
        counting = [
            ballot for ballot in ballots if ballot.confidence is not None and ballot.confidence >= self.at_least
        ]
        verdict = judge(self.policy, counting)
        unsure = len(ballots) - len(counting)
        if verdict.outcome != "undecided" or not unsure:
            return verdict
        does = "vote does" if unsure == 1 else "votes do"
        return verdict._replace(missing=f"{verdict.missing} ({unsure} {does} not count: below {self.at_least})")


def judge(policy: Policy, ballots: Sequence[Ballot]) -> Verdict:
    """Return the verdict of a policy on the ballots. Raises InvalidArgument if its result is not a verdict."""
    if not callable(policy):
        raise InvalidArgument(f"policy is {shown(policy)}; give one such as Majority(of=3), or a function of ballots")
    verdict: object = policy(list(ballots))
    if isinstance(verdict, Verdict) and verdict.outcome in OUTCOMES and isinstance(verdict.missing, str):
        sure: object = verdict.confidence
        if sure is None or (isinstance(sure, int) and not isinstance(sure, bool) and 0 <= sure <= 100):
            return verdict
    raise InvalidArgument(
        f"the policy {shown(policy)} returned {shown(verdict)}; it must return a Verdict with one of the outcomes"
        f" {', '.join(OUTCOMES)} and a whole confidence from 0 to 100, or None"
    )


def mean_confidence(outcome: Outcome, ballots: Sequence[Ballot]) -> int | None:
    """Return the rounded mean confidence of the votes for an outcome, or None if none has a confidence."""
    sure = [b.confidence for b in ballots if b.decision in AGREEING.get(outcome, ()) and b.confidence is not None]
    return int(sum(sure) / len(sure) + 0.5) if sure else None


def share(outcome: Outcome, ballots: Sequence[Ballot]) -> int:
    """Return the percentage of votes for an outcome, which replaces a missing confidence."""
    agreeing = sum(b.decision in AGREEING.get(outcome, ()) for b in ballots)
    return int(100 * agreeing / len(ballots) + 0.5) if ballots else 0


def _outcome(sums: Mapping[str, float], half: float, still: float) -> Outcome | None:
    """Return the decision with more than ``half``, if the ``still`` missing votes cannot change it."""
    verified, weakness = sums.get("verified", 0), sums.get("weakness", 0)
    if verified > half:
        return "verified"
    if sums.get("rejected", 0) > half:
        return "rejected"
    if math.fsum((verified, weakness)) > half and verified + still <= half:
        return "weakness"
    return None


def _expected(of: object, ballots: Sequence[Ballot]) -> int:
    if of is not None and (isinstance(of, bool) or not isinstance(of, int) or not 1 <= of < 2**31):
        raise InvalidArgument(f"of is {shown(of)}; give how many votes are expected, at least 1, or None")
    return max(of or 0, len(ballots))


def _sums(ballots: Sequence[Ballot], weights: Sequence[float]) -> dict[str, float]:
    """Return the weight of each decision, independent of the order of the ballots."""
    groups: dict[str, list[float]] = {}
    for ballot, weight in zip(ballots, weights, strict=True):
        groups.setdefault(ballot.decision, []).append(weight)
    return {decision: math.fsum(group) for decision, group in groups.items()}


def _counts(ballots: Sequence[Ballot]) -> dict[str, int]:
    order = ("verified", "weakness", "rejected", "abstain")
    counts = {decision: sum(b.decision == decision for b in ballots) for decision in order}
    return {decision: count for decision, count in counts.items() if count}


def _spelled(counts: Mapping[str, int]) -> str:
    parts = [f"{count} {decision}" for decision, count in counts.items()]
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _votes(count: int) -> str:
    return "1 more vote" if count == 1 else f"{count} more votes"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
