"""Drafts and votes as models write them: put into the stored form, or, for drafts, set aside with the reason.

Models answer ``"**High**"``, line 0, a confidence of "90%", or keys that were not asked for. One such draft must not
lose the rest of an answer that was paid for. A value that can be read is converted, and an optional one that cannot be
read is left out. A draft that still fails the checks of ``payloads`` is set aside, and the others are stored.

No SQL. Change here: which spellings of a value are understood.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from scanstore.analysis.payloads import DRAFT_KEYS, check_draft
from scanstore.db.arguments import check_iterable
from scanstore.db.state_machine import SEVERITIES
from scanstore.db.values import dump_json
from scanstore.errors import InvalidArgument, shown
from scanstore.indexing.facts import LARGEST_LINE
from scanstore.snapshots.models import SetAside

if TYPE_CHECKING:
    from scanstore.analysis.payloads import CheckedDraft, Place

MOST_TITLE = 200  #: characters of a title or type; the whole title is kept in the reason
SAME = {"informational": "info", "information": "info", "moderate": "medium"}  #: other words for severities
NUMBER = r"(-?\d+(?:\.\d+)?)"
TOLD = 3  #: set-aside drafts that a message names


def sort_drafts(
    drafts: Iterable[Mapping[str, object]], *, chunk: Place | None = None
) -> tuple[list[CheckedDraft], list[SetAside]]:
    """Return the drafts in their stored form, and those that cannot be stored.

    Raises InvalidArgument if ``drafts`` is not a list.
    """
    kept: list[CheckedDraft] = []
    aside: list[SetAside] = []
    for number, draft in enumerate(check_iterable(drafts, "drafts")):
        given: object = draft
        try:
            if not isinstance(given, Mapping):
                raise InvalidArgument(f"it is {shown(given)}; it must be a mapping with keys such as title")
            kept.append(check_draft("", _normalised(given, chunk), chunk))
        except InvalidArgument as error:
            aside.append(SetAside(number, given, str(error)))
    return kept, aside


def convert_votes(votes: Iterable[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """Return votes with the values that can be read, for :func:`scanstore.analysis.payloads.check_votes`.

    A decision is never guessed: only the marks around it are removed. Raises InvalidArgument if ``votes`` is not a
    list.
    """
    return [_vote(each) if isinstance(each, Mapping) else each for each in check_iterable(votes, "votes")]


def _vote(vote: Mapping[str, object]) -> dict[str, object]:
    given = _named(vote)
    decision, severity = given.get("decision"), _severity(given.get("severity"))
    return {
        "model": given.get("model"),
        "decision": _plain(decision.rstrip(" .!")) if isinstance(decision, str) else decision,
        "confidence": _confidence(given.get("confidence")),
        "severity": severity if severity in SEVERITIES else None,
        **{key: _text(given.get(key)) for key in ("reason", "attack_vector", "data_flow")},
    }


def summary(aside: list[SetAside], total: int) -> str:
    """Return one line that says how many drafts were set aside, and why."""
    reasons = "; ".join(f"draft {each.number}: {each.reason}" for each in aside[:TOLD])
    more = f"; and {len(aside) - TOLD} more" if len(aside) > TOLD else ""
    return f"{len(aside)} of {total} draft{'' if total == 1 else 's'} set aside: {reasons}{more}"


def _normalised(draft: Mapping[str, object], chunk: Place | None) -> dict[str, object]:
    given = _named(draft)
    line, end = _line(given.get("line_number")), _line(given.get("end_line"))
    span = given.get("line_number")
    if end is None and isinstance(span, str) and (found := re.search(r"\d+\s*(?:-|–|to)\s*(\d+)", span)):
        end = _line(found[1])
    title, reason = _plain(given.get("title")), _text(given.get("reason"))
    if isinstance(title, str) and len(title) > MOST_TITLE:
        reason = f"{title}\n\n{reason}".rstrip()
    source = given.get("source")
    values = {
        "title": _cut(title),
        "vulnerability_type": _cut(_plain(given.get("vulnerability_type"))),
        "severity": _severity(given.get("severity")),
        "file_path": _path(given.get("file_path"), chunk),
        "line_number": line,
        "end_line": None if line is None or end is None or end < line else end,
        "snippet": _text(given.get("snippet")),
        "reason": reason,
        "cwe": _cwe(given.get("cwe")),
        "confidence": _confidence(given.get("confidence")),
        "auto_detected": given.get("auto_detected") in (True, "true", "True", "yes"),
        "source": source if isinstance(source, str) and source.strip() else None,
    }
    assert tuple(values) == DRAFT_KEYS
    return values


def _named(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values with plain keys: ``Line Number`` is ``line_number``."""
    named = {key: value for key, value in values.items() if isinstance(key, str)}
    return {re.sub(r"[\s-]+", "_", key.strip().lower()): value for key, value in named.items()} | named


def _plain(value: object) -> object:
    """Return a text without the marks of Markdown around it."""
    if not isinstance(value, str):
        return value
    text = re.sub(r"^#+\s+", "", value.strip())
    while len(text) > 2 and text[0] == text[-1] and text[0] in "*`":
        text = text[1:-1].strip()
    return text


def _cut(value: object) -> object:
    return f"{value[: MOST_TITLE - 1]}…" if isinstance(value, str) and len(value) > MOST_TITLE else value


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return "\n".join(value)
    return dump_json(value)


def _severity(value: object) -> object:
    """Return the one severity that a text names, such as ``**High** (8.1)``; other values unchanged."""
    words = re.findall("[a-z]+", value.lower()) if isinstance(value, str) else []
    found = {SAME.get(word, word) for word in words}.intersection(SEVERITIES)
    return found.pop() if len(found) == 1 and not {"no", "not"}.intersection(words) else value


def _line(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and 1 <= number <= LARGEST_LINE and number == int(number) else None


def _confidence(value: object) -> int | None:
    """Return per cent, from a number, ``90%``, ``0.9`` or ``9/10``."""
    number = _number(value)
    if number is None:
        return None
    if isinstance(value, str) and (of := re.search(rf"{NUMBER}\s*/\s*(\d+)", value)) and int(of[2]):
        number = 100 * number / int(of[2])
    elif 0 < number <= 1 and ("%" not in value if isinstance(value, str) else isinstance(value, float)):
        number = 100 * number if isinstance(value, float) or number < 1 else number
    return round(number) if 0 <= number <= 100 else None


def _number(value: object) -> float | None:
    """Return a number, or the first one in a text."""
    if isinstance(value, str):
        found = re.search(NUMBER, value[:100])
        value = None if found is None else float(found[1])
    if isinstance(value, bool) or not isinstance(value, int | float) or isinstance(value, float) and math.isnan(value):
        return None
    return float(value) if abs(value) < 2**53 else None


def _cwe(value: object) -> str | None:
    """Return the first CWE that a value names."""
    if isinstance(value, list) and value:
        return _cwe(value[0])
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else value
    if not isinstance(text, str):
        return None
    found = re.search(r"(?i)(?:cwe[-_ :]*|^\s*)0*([1-9]\d{0,5})(?!\d)", text)
    return None if found is None else f"CWE-{found[1]}"


def _path(value: object, chunk: Place | None) -> object:
    """Return the path of a draft. With a chunk, the file may be named by a part of its path."""
    if not isinstance(value, str):
        return None if chunk is not None else value
    path = value.strip().replace("\\", "/").removeprefix("./")
    if chunk is None:
        return path
    known, named = f"/{chunk.file_path}", f"/{path.lstrip('/')}"
    return None if not path or known.endswith(named) or named.endswith(known) else path
