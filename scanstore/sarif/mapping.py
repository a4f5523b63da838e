"""The mapping between SARIF reports and rows of findings, in both directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scanstore.sarif.format.uris import address
from scanstore.sarif.format.vocabulary import BASE, Rule

BY = "sarif"  #: the author of suppressions that come from reports


def usual_level(rule: Rule | None, kind: str) -> str:
    """Return the default level of a result."""
    return "none" if kind != "fail" else (rule and rule.level) or "warning"


def shifted(value: object, path: str | None, by: int, *, away: bool) -> object:
    """Return SARIF locations with the lines of a file relative to one of its lines (``away``), or absolute again.

    Relative lines stay equal when lines above are added or removed.
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
    """Return the justification if a report suppresses a result, or None."""
    statuses = (one.get("status") for one in suppressions)
    if any(not isinstance(each, str | None) or (each or "accepted").lower() != "accepted" for each in statuses):
        return None  # one rejected suppression, or one with an unknown status, cancels all
    for one in suppressions:
        where = "in the source" if one.get("kind") == "inSource" else "by the report"
        reason = one.get("justification")
        return reason if isinstance(reason, str) and reason.strip() else f"suppressed {where}"
    return None
