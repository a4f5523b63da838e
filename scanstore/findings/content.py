"""Contents: what a finding says, as it is kept in few bytes, and when two of them say the same.

Everything a row keeps as packed JSON goes through here. Change here: what makes a finding an updated one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, TypedDict

from scanstore.db.values import dump_json
from scanstore.findings.identity import message_key


def pack(value: object) -> bytes:
    """Return a value as compressed JSON, as ``detail`` is stored; equal values give equal bytes."""
    return zlib.compress(dump_json(value).encode())


class Detail(TypedDict, total=False):
    """What a report says of a finding that has no column of its own."""

    level: str
    kind: str
    cwe: list[str]
    fingerprints: dict[str, str]
    partial_fingerprints: dict[str, str]
    code_flows: list[object]
    related: list[object]
    locations: list[object]
    suppressions: list[dict[str, object]]
    guid: str
    properties: dict[str, object]


class RunDetail(TypedDict, total=False):
    """What a report says of a run that has no column of its own."""

    used: list[str]
    off: list[str]
    unsure: list[str]
    successful: bool | None
    automation_id: str | None
    artifacts: list[tuple[str, list[str], str | None]]
    properties: dict[str, object]


def unpack(value: bytes | None) -> object:
    """What :func:`pack` was given; None for None."""
    return None if value is None else json.loads(zlib.decompress(value))


def finding_detail(value: bytes | None) -> Detail:
    """The detail of a finding, empty when it has none."""
    found: Any = unpack(value)
    return found or Detail()


def run_detail(value: bytes | None) -> RunDetail:
    """The detail of a run, empty when it has none."""
    found: Any = unpack(value)
    return found or RunDetail()


def content_of(body: bytes) -> dict[str, object]:
    """The columns of a finding that were kept, with the detail as it was before it was packed."""
    content: dict[str, object] = json.loads(zlib.decompress(body))
    return content


def packed(content: Mapping[str, object]) -> bytes:
    """The columns of a finding, to be kept."""
    detail: Any = content["detail"]
    return pack({**content, "detail": unpack(detail)})


def unpacked(body: bytes) -> dict[str, object]:
    """The columns of a finding that were kept."""
    content = content_of(body)
    return {**content, "detail": None if content["detail"] is None else pack(content["detail"])}


def gist(content: Mapping[str, object]) -> tuple[object, ...]:
    """What makes a finding an updated one when it differs: not numbers in its message, nor white space."""
    said: Any = content
    return (
        said["title"], message_key(said["message"]), said["vulnerability_type"], said["severity"],
        said["cwe"], said["snippet"].split(),
    )  # fmt: skip
