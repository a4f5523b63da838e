"""The caller's severities of rules, which replace those of a report.

A key is ``tool:rule``, ``rule``, or ``tool:*`` for all other rules of a tool, in this order of precedence. Case is
ignored. The changed severities are part of the report's identity: loading a file again is a repetition only if they
are unchanged.
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
    """The severities of the caller, and the changes that they made in a report."""

    def __init__(self, given: Mapping[str, Severity] | None) -> None:
        """Check the severities. Raises InvalidArgument for an invalid key or severity."""
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
        """Return the severity of a result; ``severity`` is that of its report."""
        for key in (f"{tool}:{rule}" if rule else "", rule, f"{tool}:*"):
            chosen = self._given.get(key.strip().casefold()) if key else None
            if chosen is not None:
                if chosen != severity:
                    self._changes.add((tool, rule, chosen))
                return chosen
        return severity

    def identity(self, digest: str) -> str:
        """Return the hash of a report combined with the changes, after all results have been looked up."""
        if not self._changes:
            return digest
        return hashlib.sha256(f"{digest} {dump_json(sorted(self._changes))}".encode()).hexdigest()
