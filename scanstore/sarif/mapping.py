"""What reports in SARIF and rows of findings have in common, for both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scanstore.sarif.format.uris import address
from scanstore.sarif.format.vocabulary import BASE, Rule

BY = "sarif"  #: whose suppressions are those that reports brought


def usual_level(rule: Rule | None, kind: str) -> str:
    """The level of a result that says none."""
    return "none" if kind != "fail" else (rule and rule.level) or "warning"


def shifted(value: object, path: str | None, by: int, *, away: bool) -> object:
    """Places as SARIF has them: those in a file relative to a line of it (``away``), or absolute again.

    Places in the same file then stay equal when only lines above have come or gone.
    """
    if isinstance(value, list | tuple):
        return [shifted(one, path, by, away=away) for one in value]
    if not isinstance(value, dict) or path is None:
        return value
    own = address(path)
    artifact = value.get("artifactLocation")
    here = isinstance(artifact, dict) and artifact.get("uri") == (own if away else "")
    moved: dict[str, object] = {}
    for key, one in value.items():
        if here and key == "artifactLocation":
            moved[key] = {**one, "uri": "" if away else own, "uriBaseId": BASE}
        elif here and key in ("region", "contextRegion") and isinstance(one, dict):
            lines = {name: one[name] + by for name in ("startLine", "endLine") if type(one.get(name)) is int}
            moved[key] = {**one, **lines}
        else:
            moved[key] = one if key == "properties" else shifted(one, path, by, away=away)
    return moved


def justification(suppressions: Sequence[Mapping[str, object]]) -> str | None:
    """Why a result is suppressed by what a report says; None when it is not."""
    statuses = (one.get("status") for one in suppressions)
    if any(not isinstance(each, str | None) or (each or "accepted").lower() != "accepted" for each in statuses):
        return None  # one that does not hold, or whose status is unknown, is enough
    for one in suppressions:
        where = "in the source" if one.get("kind") == "inSource" else "by the report"
        reason = one.get("justification")
        return reason if isinstance(reason, str) and reason.strip() else f"suppressed {where}"
    return None
