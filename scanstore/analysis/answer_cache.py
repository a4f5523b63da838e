"""The cache of model answers, by subject and analyzer, permanent and shared by all scans.

An *analyzer* is a model with one configuration: its name, ``max_tokens``, the prompt template and the parameters,
combined into one key. The *subject* of a question is identified by its content alone, so the same text in a later scan
finds its answer. Each answer has two independent parts: the raw response, and the drafts that were derived from it.

Change here: when two questions count as the same. A wrong answer costs more than asking again, so in doubt they are
different.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from scanstore.analysis.models import Analyzer
from scanstore.db.database import Database
from scanstore.db.fields import Base, read_row
from scanstore.db.rules import insert_query
from scanstore.db.values import dump_json, pack_hash, unpack
from scanstore.db.view_keys import SHIFT, split
from scanstore.errors import InvalidArgument, NotFound, shown

if TYPE_CHECKING:
    from scanstore.llm.models import ModelConfig

PURPOSES = {"chunk": "analysis", "draft": "verification", "verified": "enrichment"}
KINDS = {
    "scan_file_chunks": "chunk",
    "chunk_work": "chunk",
    "draft_findings": "draft",
    "verified_findings": "verified",
}
MEASURES = ("prompt_tokens", "completion_tokens", "cost")

# Analyzers


def ensure(db: Database, model: ModelConfig, prompt: str | None, parameters: Mapping[str, object]) -> Analyzer:
    """Return the analyzer for these values, and create it if it is new. Safe for several processes at once."""
    template = model.analysis_prompt_template if prompt is None else prompt
    if not isinstance(template, str):
        raise InvalidArgument(f"prompt is {template!r}; give the template as text")
    from hashlib import sha256

    dump_json(dict(parameters))  # raises for NaN, and for values without a JSON form
    prompt_hash = sha256(template.encode("utf-8", "surrogatepass")).hexdigest()
    way = [model.name, model.max_tokens, prompt_hash, dict(parameters)]
    try:
        text = json.dumps(way, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except TypeError as error:  # keys of several types
        raise InvalidArgument(f"the parameters of an analyzer cannot be put in order: {error}") from error
    key = sha256(text.encode()).hexdigest()
    found = Analyzer.get_or_none(Analyzer.key == key)
    if found is None:
        insert_query(
            Analyzer, key=key, model=model.name, prompt_hash=prompt_hash, parameters=dict(parameters)
        ).on_conflict_ignore().execute()
        found = Analyzer.get(Analyzer.key == key)
    return found


def identify(analyzer: Analyzer | int) -> Analyzer:
    """Read the analyzer with this id. Raises NotFound."""
    return read_row(Analyzer, analyzer, "analyzer", "make one with store.llm.analyzer(model)")


# Subjects


class Subject(NamedTuple):
    """The subject of a question. ``id`` is that of the chunk or of the draft; ``content`` identifies the subject."""

    kind: str
    id: int
    scan_id: int
    content: bytes | str


def content_key(db: Database, subject: object, kind: str | None = None) -> Subject:
    """Return the key of the content of a chunk, draft or verified finding, given as row or id.

    Raises NotFound, InvalidArgument.

    Without ``kind``, an id of 2**24 or more is that of a chunk, as all chunk ids are.
    """
    key = subject
    if isinstance(subject, Base):
        found = KINDS.get(subject._meta.table_name, "")
        if not found or (kind == "chunk") != (found == "chunk") and kind is not None:
            raise InvalidArgument(f"{subject!r} is not a {kind or 'chunk, draft or verified finding'}")
        subject.check_home()
        kind = found
        key = subject.__data__.get("draft" if kind == "verified" else "id") or 0
    if isinstance(key, bool) or not isinstance(key, int) or not 0 < key < 2**63:
        raise InvalidArgument(f"{shown(key)} is not a {kind or 'chunk or draft'}; give its row or its id")
    kind = kind or ("chunk" if key >> SHIFT else "draft")
    if kind == "chunk":
        row = db.execute_sql(CHUNK, split(key)).fetchone()
        if row is None:
            raise NotFound(f"no chunk {key}; store.chunks.list(scan) (scanstore chunks list) shows those of a scan")
        return Subject(kind, key, *row)
    row = db.execute_sql(DRAFT, (key,)).fetchone()
    if row is None:
        raise NotFound(f"no draft {key}; store.drafts.list(scan) (scanstore drafts list) shows those of a scan")
    scan_id, *parts = row
    return Subject(kind, key, scan_id, _draft_key(kind, *parts))


def _draft_key(
    asked: str,  # the draft and its verified finding are two subjects
    path: str,
    snippet: str,
    kind: str,
    title: str,
    line: int | None,
    content: bytes | str | None,
    start: int | None,
) -> bytes:
    from hashlib import blake2b

    place: list[object] = [path, snippet, line]
    if content is not None and start is not None:
        place = [_text(content), None if line is None else line - start]
    return blake2b(dump_json([asked, kind, title, *place]).encode(), digest_size=16).digest()


def _text(content: bytes | str) -> object:
    return content if isinstance(content, str) else [content.hex()]  # a text may look like the digits of a hash


CHUNK = """
SELECT f.scan_id, c.content_hash FROM scan_files AS f
  JOIN chunk_facts AS c ON c.version_id = f.version_id WHERE f.id = ? AND c.chunk_index = ?
"""
DRAFT = """
SELECT d.scan_id, d.file_path, d.snippet, d.vulnerability_type, d.title_key, d.line_number, c.content_hash, c.start_line
  FROM draft_findings AS d
  LEFT JOIN scan_files AS f ON f.id = d.chunk_id >> 24
  LEFT JOIN chunk_facts AS c ON c.version_id = f.version_id AND c.chunk_index = d.chunk_id & 16777215
 WHERE d.id = ?
"""


# Answers


def answer(db: Database, analyzer_id: int, content: bytes | str) -> str | None:
    """Return the cached response for a content, or None."""
    row = db.execute_sql(
        "SELECT response FROM analysis_cache WHERE analyzer_id = ? AND content_hash = ?", (analyzer_id, content)
    ).fetchone()
    return None if row is None or row[0] is None else unpack(row[0])


def keep_response(db: Database, analyzer_id: int, content: bytes | str, response: bytes) -> None:
    """Save a packed response, and keep the drafts of an earlier one. In the caller's transaction."""
    _keep(db, "response", analyzer_id, content, response)


def keep_drafts(
    db: Database, analyzer_id: int, content_hash: bytes | str, drafts: Sequence[Mapping[str, object]]
) -> None:
    """Save the drafts of an answer, and keep its response. In the caller's transaction."""
    _keep(db, "drafts", analyzer_id, pack_hash(content_hash), dump_json([dict(draft) for draft in drafts]))


def _keep(db: Database, column: str, analyzer_id: int, content: bytes | str, value: bytes | str) -> None:
    # Do not fail if the analyzer was deleted meanwhile, because that would roll back the rest of the transaction.
    db.execute_sql(
        f"INSERT INTO analysis_cache (analyzer_id, content_hash, {column}) SELECT id, ?, ? FROM analyzers WHERE id = ?"
        f" ON CONFLICT (analyzer_id, content_hash) DO UPDATE SET {column} = excluded.{column}",
        (content, value, analyzer_id),
    )
