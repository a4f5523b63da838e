"""Reports of models and rules: drafts and votes as plain mappings, checked before any is stored.

No SQL. A bad value raises an error that names the index of the draft or vote, from 0, and the key. Text is the
exception: models do write NULs and lone surrogates. These become U+FFFD, because rejecting them would lose a paid
answer. ``model_drafts`` is the lenient form of these checks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol, TypedDict

from scanstore.db.arguments import UNSTORABLE, check_choice, check_cwe, check_optional_integer, clean_text
from scanstore.db.paths import composed
from scanstore.db.state_machine import SEVERITIES, VOTES
from scanstore.errors import InvalidArgument, shown
from scanstore.indexing.facts import LARGEST_LINE

DRAFT_KEYS = (
    "title", "vulnerability_type", "severity", "file_path", "line_number", "end_line", "snippet", "reason", "cwe",
    "confidence", "auto_detected", "source",
)  # fmt: skip
VOTE_KEYS = ("model", "decision", "confidence", "severity", "reason", "attack_vector", "data_flow")


class Place(Protocol):
    """The location of drafts, such as a row of ScanFileChunk."""

    @property
    def file_path(self) -> str: ...
    @property
    def start_line(self) -> int: ...


class CheckedDraft(TypedDict):
    """A draft in its stored form, with every key of ``DRAFT_KEYS``."""

    title: str
    vulnerability_type: str
    severity: str
    file_path: str
    line_number: int | None
    end_line: int | None
    snippet: str
    reason: str
    cwe: str | None
    confidence: int | None
    auto_detected: bool
    source: str | None


class CheckedVote(TypedDict):
    """A vote in its stored form, with every key of ``VOTE_KEYS``."""

    model: Any  # a name, an id or a row; Configs.get checks it
    decision: str
    confidence: int | None
    severity: str | None
    reason: str
    attack_vector: str
    data_flow: str


def check_drafts(drafts: Iterable[Mapping[str, object]], *, chunk: Place | None = None) -> list[CheckedDraft]:
    """Return the drafts with every key of ``DRAFT_KEYS``, in their stored form.

    The keys title, vulnerability_type and severity are required, and file_path unless ``chunk`` (a row with a
    file_path) is given. Raises InvalidArgument. Idempotent.
    """
    return [check_draft(f"draft {number}: ", draft, chunk) for number, draft in _each(drafts, "draft", DRAFT_KEYS)]


def check_votes(votes: Iterable[Mapping[str, object]]) -> list[CheckedVote]:
    """Return the votes with every key of ``VOTE_KEYS``. The keys model and decision are required. Raises
    InvalidArgument.
    """
    return [_vote(number, vote) for number, vote in _each(votes, "vote", VOTE_KEYS)]


def relative(drafts: Iterable[CheckedDraft], chunk: Place) -> list[dict[str, object]]:
    """Convert the checked drafts of a chunk to JSON values with line numbers relative to the chunk, from 0."""
    return [_shifted(draft, -chunk.start_line) for draft in drafts]


def absolute(drafts: Iterable[Mapping[str, object]], chunk: Place) -> list[CheckedDraft]:
    """Convert relative drafts to checked drafts at the location of this chunk; the inverse of :func:`relative`."""
    return check_drafts([_shifted(draft, chunk.start_line) for draft in drafts], chunk=chunk)


@lru_cache(maxsize=4096)  # a rule reports the same title for many places
def title_key(title: str) -> str:
    """Normalise a title: without case, punctuation and blanks, so that equivalent titles are equal."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", title).casefold())
    words = "".join(c if c.isalnum() or unicodedata.combining(c) else " " for c in folded).split()
    return " ".join(words) or title.strip().casefold()


def _each(items: object, noun: str, keys: tuple[str, ...]) -> Iterable[tuple[int, Mapping[str, object]]]:
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        raise InvalidArgument(f"{noun}s is {shown(items)}; give a list of mappings")
    for number, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise InvalidArgument(f"{noun} {number} is {shown(item)}; it must be a mapping with keys such as {keys[0]}")
        unknown = [key for key in item if key not in keys]
        if unknown:
            names = ", ".join(sorted(f"{key!a:.80}" for key in unknown))
            raise InvalidArgument(f"{noun} {number} has no key {names}; there are: {', '.join(keys)}")
        yield number, item


def check_draft(where: str, draft: Mapping[str, object], chunk: Place | None) -> CheckedDraft:
    """Return one draft in its stored form. ``where`` begins the messages of InvalidArgument."""
    get = draft.get
    line = check_optional_integer(get("line_number"), where + "line_number", 1, LARGEST_LINE)
    end = check_optional_integer(get("end_line"), where + "end_line", 1, LARGEST_LINE)
    if end is not None and (line is None or end < line):
        raise InvalidArgument(
            f"{where}end_line is {end} and line_number {line}; a draft ends where it begins, or later"
        )
    auto = get("auto_detected", False)
    if not isinstance(auto, bool):
        raise InvalidArgument(f"{where}auto_detected is {auto!r}; it must be True or False")
    source = get("source")
    return {
        "title": clean_text(get("title"), where + "title", needed=True),
        "vulnerability_type": clean_text(get("vulnerability_type"), where + "vulnerability_type", needed=True),
        "severity": check_choice(get("severity"), where + "severity", SEVERITIES),
        "file_path": _path(where + "file_path", get("file_path"), chunk),
        "line_number": line,
        "end_line": end,
        "snippet": clean_text(get("snippet"), where + "snippet"),
        "reason": clean_text(get("reason"), where + "reason"),
        "cwe": check_cwe(get("cwe"), where + "cwe"),
        "confidence": check_optional_integer(get("confidence"), where + "confidence", 0, 100),
        "auto_detected": auto,
        "source": None if source is None else clean_text(source, where + "source", needed=True),
    }


def _path(where: str, path: object, chunk: Place | None) -> str:
    if chunk is not None:
        if path is not None and path != chunk.file_path and composed(str(path)) != chunk.file_path:
            raise InvalidArgument(f"{where} is {path!r} and its chunk is of {chunk.file_path!r}; leave it out")
        return str(chunk.file_path)
    if not isinstance(path, str) or not path.strip() or re.search(UNSTORABLE, path):
        raise InvalidArgument(f"{where} is {path!r}; give a path relative to the root of the scan, or a chunk")
    return composed(path)


def _vote(number: int, vote: Mapping[str, object]) -> CheckedVote:
    where, get = f"vote {number}: ", vote.get
    model, severity = get("model"), get("severity")
    if model is None or isinstance(model, bool):
        raise InvalidArgument(f"{where}model is {model!r}; give the name of a configured model, its id or row")
    return {
        "model": model,
        "decision": check_choice(get("decision"), where + "decision", VOTES),
        "confidence": check_optional_integer(get("confidence"), where + "confidence", 0, 100),
        "severity": None if severity is None else check_choice(severity, where + "severity", SEVERITIES),
        "reason": clean_text(get("reason"), where + "reason"),
        "attack_vector": clean_text(get("attack_vector"), where + "attack_vector"),
        "data_flow": clean_text(get("data_flow"), where + "data_flow"),
    }


def _shifted(draft: Mapping[str, Any], by: int) -> dict[str, object]:
    moved = {key: value for key, value in draft.items() if key != "file_path"}
    line, end = draft.get("line_number"), draft.get("end_line")
    if line is not None:
        moved["line_number"] = line + by
        moved["end_line"] = None if end is None else end + by
        if by > 0 and line + by < 1:  # its line was above the chunk, and this chunk is at the start of its file
            moved["line_number"] = moved["end_line"] = None
    return moved


# Single values of drafts and votes
