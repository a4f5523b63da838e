"""The packed content of a finding, and the comparison of two contents.

All columns with packed JSON are written and read through this module. Change here: when a finding counts as updated.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, TypedDict

from scanstore.db.values import dump_json
from scanstore.findings.identity import message_key


def pack(value: object) -> bytes:
    """Return a value as compressed JSON, the format of ``detail``. Equal values give equal bytes."""
    return zlib.compress(dump_json(value).encode())


class Detail(TypedDict, total=False):
    """The values of a finding in a report that have no column."""

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
    """The values of a run in a report that have no column."""

    used: list[str]
    off: list[str]
    unsure: list[str]
    successful: bool | None
    automation_id: str | None
    artifacts: list[tuple[str, list[str], str | None]]
    properties: dict[str, object]


def unpack(value: bytes | None) -> object:
    """Return the original value of :func:`pack`; None for None."""
    return None if value is None else json.loads(zlib.decompress(value))


def finding_detail(value: bytes | None) -> Detail:
    """Return the detail of a finding, or an empty mapping."""
    found: Any = unpack(value)
    return found or Detail()


def run_detail(value: bytes | None) -> RunDetail:
    """Return the detail of a run, or an empty mapping."""
    found: Any = unpack(value)
    return found or RunDetail()


def content_of(body: bytes) -> dict[str, object]:
    """Return the stored columns of a finding, with the unpacked detail."""
    content: dict[str, object] = json.loads(zlib.decompress(body))
    return content


def packed(content: Mapping[str, object]) -> bytes:
    """Pack the columns of a finding."""
    detail: Any = content["detail"]
    return pack({**content, "detail": unpack(detail)})


def unpacked(body: bytes) -> dict[str, object]:
    """Unpack the stored columns of a finding."""
    content = content_of(body)
    return {**content, "detail": None if content["detail"] is None else pack(content["detail"])}


def gist(content: Mapping[str, object]) -> tuple[object, ...]:
    """Return the content that is compared to detect an updated finding, without white space and numbers in the
    message.
    """
    said: Any = content
    return (
        said["title"], message_key(said["message"]), said["vulnerability_type"], said["severity"],
        said["cwe"], said["snippet"].split(),
    )  # fmt: skip
