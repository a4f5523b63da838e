"""The machine verdict about the findings of an audit, by a replaceable policy. No SQL.

The default policy, :class:`Deductions`, starts at 100 points and deducts 25 for each critical finding, 10 for each
major and 2 for each minor one, down to 0. A critical finding gives ``rejected``. A score below 95, or a confidence
below 0.7 or unknown, gives ``review``. Otherwise the verdict is ``approved``.

Any object with a ``name`` and a method ``judge`` is a policy; the name is stored with every verdict. Change here: the
verdicts, and the default policy. A policy that judges differently needs another name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from scanstore.errors import InvalidArgument, shown

if TYPE_CHECKING:
    from scanstore.db.words import AuditSeverity, AuditVerdict

VERDICTS: tuple[AuditVerdict, ...] = ("approved", "review", "rejected")
# Of the findings of an audit, the most severe first.
SEVERITIES: tuple[AuditSeverity, ...] = ("critical", "major", "minor", "info")


class AuditJudgement(NamedTuple):
    """A verdict, and how well the document complies: 0 to 100."""

    verdict: AuditVerdict
    compliance_score: float


class AuditPolicy(Protocol):
    """The protocol of a policy."""

    @property
    def name(self) -> str:
        """The name of the policy, which identifies it."""

    def judge(self, findings: Sequence[Mapping[str, object]], confidence: float | None) -> AuditJudgement:
        """Return a judgement from the findings (``severity`` in lower case, ``rule_id``, ``message``, ``evidence``,
        ``remediation``) and the confidence of the extraction, 0 to 1, or None if unknown.
        """


class Deductions(NamedTuple):
    """Deducts points for each finding by its severity. A score below ``enough``, or a confidence below ``sure``, gives
    ``review``.

    >>> Deductions().judge([{"severity": "minor"}], 0.9)
    AuditJudgement(verdict='approved', compliance_score=98.0)
    >>> Deductions(minor=10).name
    'deductions(minor=10)'
    """

    critical: float = 25
    major: float = 10
    minor: float = 2
    info: float = 0
    enough: float = 95
    sure: float = 0.7

    @property
    def name(self) -> str:
        """``deductions``, with the arguments that are not the defaults."""
        told = [f"{key}={value}" for key, value in self._asdict().items() if value != self._field_defaults[key]]
        return f"deductions({', '.join(told)})" if told else "deductions"

    def judge(self, findings: Sequence[Mapping[str, object]], confidence: float | None) -> AuditJudgement:
        """Return the verdict and the score for these findings."""
        severities = [finding["severity"] for finding in findings]
        off = sum(severities.count(severity) * getattr(self, severity) for severity in SEVERITIES)
        score = max(0.0, 100.0 - off)
        if "critical" in severities:
            return AuditJudgement("rejected", score)
        unsure = confidence is None or confidence < self.sure
        return AuditJudgement("review" if unsure or score < self.enough else "approved", score)


STANDARD = Deductions()


def judged(
    policy: AuditPolicy, findings: Sequence[Mapping[str, object]], confidence: float | None
) -> tuple[AuditJudgement, str]:
    """Return the judgement and the name of a policy. Raises InvalidArgument for an invalid policy or judgement."""
    name = getattr(policy, "name", None)
    if not isinstance(name, str) or not name.strip() or not callable(getattr(policy, "judge", None)):
        raise InvalidArgument(f"policy is {shown(policy)}; give an object with a name and a method judge")
    verdict, score = policy.judge(findings, confidence)
    if verdict not in VERDICTS:
        raise InvalidArgument(f"policy {name} says {shown(verdict)}; it must be one of: {', '.join(VERDICTS)}")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 100:
        raise InvalidArgument(f"policy {name} gives a score of {shown(score)}; it must be a number from 0 to 100")
    return AuditJudgement(verdict, float(score)), name
