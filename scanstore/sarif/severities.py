"""The caller's severities of rules, which count before those of a report.

A rule is named as ``tool:rule``, ``rule``, or ``tool:*`` for all other rules of a tool, in capitals or not; the first
of these that is there counts. The changes are part of the report's identity, so that the same file is a new report
when they are others than before, and a repetition when they are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from scanstore.db.arguments import check_choice
from scanstore.db.state_machine import SEVERITIES
from scanstore.db.values import dump_json
from scanstore.errors import InvalidArgument, shown

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from scanstore.db.words import Severity


class Severities:
    """The severities that a caller has given, and which of them changed something in a report."""

    def __init__(self, given: Mapping[str, Severity] | None) -> None:
        """Check them. Raises InvalidArgument."""
        self._given: dict[str, Severity] = {}
        self._changes: set[tuple[str, str, str]] = set()
        if given is not None and not isinstance(given, Mapping):
            raise InvalidArgument(f"severities is {shown(given)}; give a mapping such as {{'bandit:B101': 'info'}}")
        for rule, severity in (given or {}).items():
            key = rule.strip().casefold() if isinstance(rule, str) else ""
            if key in ("", "*", ":*"):
                raise InvalidArgument(
                    f"severities has {shown(rule)}, no name of a rule; write 'B101', 'bandit:B101' or 'bandit:*'"
                )
            if key in self._given:
                raise InvalidArgument(f"severities has {shown(rule)} twice, in capitals or not; keep one of them")
            self._given[key] = check_choice(severity, f"severities[{shown(rule)}]", SEVERITIES)

    def __bool__(self) -> bool:
        return bool(self._given)

    def of(self, tool: str, rule: str, severity: str) -> str:
        """Return the severity of a result, which its report says is ``severity``."""
        for key in (f"{tool}:{rule}" if rule else "", rule, f"{tool}:*"):
            chosen = self._given.get(key.strip().casefold()) if key else None
            if chosen is not None:
                if chosen != severity:
                    self._changes.add((tool, rule, chosen))
                return chosen
        return severity

    def identity(self, digest: str) -> str:
        """Return the hash of a report of which all results were asked for, with the changes."""
        if not self._changes:
            return digest
        return hashlib.sha256(f"{digest} {dump_json(sorted(self._changes))}".encode()).hexdigest()
