"""Values as they are stored: times as text that sorts, JSON that is one text for one value, hashes and long texts."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from scanstore.errors import Damaged, InvalidArgument, shown


def utcnow() -> datetime:
    """Return the time, aware and in UTC, cut to the milliseconds that are stored."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


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
    """Return the time that a text of the file stands for; raises Damaged."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError(text)
        return moment
    except (ValueError, TypeError):
        raise Damaged(f"{text!r} is in the file for a time; find it with: scanstore check") from None


_encoded = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode  # made but once


def dump_json(value: object) -> str:
    """Return a value as compact JSON text; raise InvalidArgument when it has none, or is nested too deep.

    A value that is nested deeper might be written, and then not be readable by a caller that is deep in its own stack.
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
    """Return what a HashField stores for a value; raise InvalidArgument when it is neither text nor bytes."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise InvalidArgument(f"{shown(value)} is not a hash; give hexadecimal text or bytes")
    # bytes.fromhex() alone would skip blanks, and the text would not read back as it was.
    if value and len(value) % 2 == 0 and value.isalnum():
        try:
            return bytes.fromhex(value)
        except ValueError:
            pass
    return value


def pack(text: str) -> bytes:
    """Any text, compressed; broken characters survive."""
    import zlib

    return zlib.compress(text.encode("utf-8", "surrogatepass"))


def unpack(data: bytes) -> str:
    """The text again."""
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
