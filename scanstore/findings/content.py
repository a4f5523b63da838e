"""Contents: what a finding says, as it is kept in few bytes, and when two of them say the same.

Everything a row keeps as packed JSON goes through here. Change here: what makes a finding an updated one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from scanstore.db.values import dump_json
from scanstore.findings.identity import message_key


def pack(value: object) -> bytes:
    """JSON in few bytes, the same for the same value: as ``detail`` of a finding or a run is stored."""
    return zlib.compress(dump_json(value).encode())


def unpack(value: bytes | None) -> Any:
    """What :func:`pack` was given; None for None."""
    return None if value is None else json.loads(zlib.decompress(value))


def packed(content: Mapping[str, Any]) -> bytes:
    """The columns of a finding, to be kept."""
    return pack({**content, "detail": unpack(content["detail"])})


def unpacked(body: bytes) -> dict[str, Any]:
    """The columns of a finding that were kept."""
    content: dict[str, Any] = unpack(body)
    return {**content, "detail": None if content["detail"] is None else pack(content["detail"])}


def gist(content: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes a finding an updated one when it differs: not numbers in its message, nor white space."""
    return (
        content["title"], message_key(content["message"]), content["vulnerability_type"], content["severity"],
        content["cwe"], content["snippet"].split(),
    )  # fmt: skip
