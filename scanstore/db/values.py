"""Storage formats of values: times as sortable text, canonical JSON, hashes and long texts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from scanstore.errors import Damaged, InvalidArgument, shown


def utcnow() -> datetime:
    """Return the current time, aware and in UTC, truncated to milliseconds."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def later(now: datetime, span: timedelta) -> datetime:
    """Return a later time, limited to the latest possible one, because times in the file may be of any year."""
    try:
        return now + span
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def format_time(value: datetime) -> str:
    """Return an aware time as text like `2026-11-22T01:46:31.123Z`; raise InvalidArgument for a naive one."""
    if value.tzinfo is not UTC:
        if value.tzinfo is None or value.utcoffset() is None:
            raise InvalidArgument(f"{value.isoformat()} has no time zone; pass an aware datetime")
        try:
            value = value.astimezone(UTC)
        except OverflowError:
            raise InvalidArgument(
                f"{value.isoformat()} is not a time in UTC, where no calendar has it; give one of the years 1 to 9999"
            ) from None
    return value.isoformat(timespec="milliseconds")[:23] + "Z"


def read_time(text: str) -> datetime:
    """Parse a stored time. Raises Damaged."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError(text)
        return moment
    except (ValueError, TypeError):
        raise Damaged(f"{text!r} is in the file for a time; find it with: scanstore check") from None


_encoded = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode  # created once


def dump_json(value: object) -> str:
    """Return a value as compact JSON text. Raises InvalidArgument if it has no JSON form or is nested too deep.

    A more deeply nested value could be written, but a caller with a deep stack could not read it.
    """
    try:
        text = _encoded(value)
        if text.count("[") + text.count("{") > DEEPEST and _too_deep(value):
            raise InvalidArgument(f"a value cannot be stored as JSON: it is nested more than {DEEPEST} levels deep")
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except InvalidArgument:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"a value cannot be stored as JSON: {error}") from error
    return text


def pack_hash(value: object) -> str | bytes:
    """Return the stored form of a HashField value. Raises InvalidArgument if it is neither text nor bytes."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise InvalidArgument(f"{shown(value)} is not a hash; give hexadecimal text or bytes")
    # bytes.fromhex() alone would skip blanks, so the text would change.
    if value and len(value) % 2 == 0 and value.isalnum():
        try:
            return bytes.fromhex(value)
        except ValueError:
            pass
    return value


def pack(text: str) -> bytes:
    """Return any text compressed. Lone surrogates are preserved."""
    import zlib

    return zlib.compress(text.encode("utf-8", "surrogatepass"))


def unpack(data: bytes) -> str:
    """Return the original text."""
    import zlib

    return zlib.decompress(data).decode("utf-8", "surrogatepass")


DEEPEST = 300  #: levels of lists and mappings in a JSON value


def _too_deep(value: object) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            child
            for each in level
            if isinstance(each, dict | list | tuple)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True
