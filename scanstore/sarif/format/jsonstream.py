"""A streaming JSON reader: the caller walks the outer objects and arrays, and inner values are decoded one by one.

The standard decoder is fast but needs the whole text, and incremental parsers are not in the standard library and often
slower. This reader runs the standard decoder on a window that slides over the text. An error in a single value (`flaw`)
is distinct from one that ends the reading (InvalidArgument), so that the caller can skip one value. Limits are set here
(`MAX_DEPTH`, `MAX_VALUE`).
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from scanstore.errors import InvalidArgument

__all__ = ["MAX_DEPTH", "MAX_VALUE", "Reader"]

MAX_DEPTH = 40
"""Levels of nesting above which a value is flawed; what a finding needs is fewer than 20."""
MAX_VALUE = 2**26
"""Characters above which a value that is decoded in one piece ends the reading."""

_BLOCK = 2**18
_SPACE = re.compile(r"[ \t\n\r]*")
_MARK = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}"]', re.DOTALL)
# A lone surrogate, or a possible one: a high surrogate without a low one, or after one more backslash, which may make
# it plain text; a low surrogate without a high one. A text without a match contains no lone surrogate.
_HALF = re.compile(
    r"\\u[dD](?:[89abAB](?:(?!..\\u[dD][c-fC-F])|(?<=\\\\u[dD].))|[c-fC-F](?<!\\u[dD][89abAB]..\\u[dD].))", re.DOTALL
)
_AFTER = re.compile(r"[ \t\n\r]*+([,\]])[ \t\n\r]*+")
_NESTS = (dict, list)
_NEAR = 16  # characters: only strings and numbers are longer


class Reader:
    """A position in a JSON text. ``flaw`` is the reason why the last value cannot be used, or None.

    The text is UTF-8 with or without a byte order mark, or UTF-16 with one. If a name is repeated in an object, its
    last value counts. ``name`` is the name of the text in errors.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name = name
        self.flaw: str | None = None
        self._stream = stream
        head = stream.read(_BLOCK)
        if not isinstance(head, bytes):
            raise InvalidArgument(f"{name} is open as text; open it in binary mode")
        wide = head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        kind = codecs.getincrementaldecoder("utf-16" if wide else "utf-8-sig")
        self._decoder = kind("surrogatepass" if wide else "surrogateescape")
        self._text = ""
        self._at = 0
        self._dropped = 0  # characters before the window
        self._ended = False
        self._odd: str | None = None
        self._plain = False  # the window contains no lone surrogate
        self._scan = json.JSONDecoder(parse_constant=self._constant, parse_float=self._float).raw_decode
        self._feed(head)

    def peek(self) -> str:
        """Return the first character of the next value or mark, or an empty text at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def members(self) -> Iterator[str]:
        """Yield the names in the object that begins here. Read each value before the next name."""
        self._expect("{")
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            if self.peek() != '"':
                raise self.broken("a name in double quotes was expected")
            key = str(self.value())
            self._expect(":")
            yield key
            if self._expect(",}") == "}":
                return

    def elements(self) -> Iterator[int]:
        """Yield the indexes of the array that begins here. Read each value before the next index."""
        self._expect("[")
        if self.peek() == "]":
            self._at += 1
            return
        index = 0
        while True:
            yield index
            if self._expect(",]") == "]":
                return
            index += 1

    def values(self) -> Iterator[tuple[list[object], str | None]]:
        """Decode the array that begins here, some elements at a time. An element with a flaw is yielded alone."""
        self._expect("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            some = self._some()
            if some:
                yield some, None
            else:
                yield [self.value()], self.flaw
            if self._expect(",]") == "]":
                return

    def value(self) -> object:
        """Decode the value that begins here. Return None and set ``flaw`` if it is nested too deeply."""
        while True:
            self.peek()
            self.flaw = self._odd = None
            try:
                value, end = self._scan(self._text, self._at)
            except RecursionError:
                self._left_out(f"is nested more than {MAX_DEPTH} levels deep")
                return None
            except json.JSONDecodeError as error:
                near = error.pos > len(self._text) - _NEAR or error.msg.startswith("Unterminated string")
                if near and self._more():
                    continue
                raise self.broken(error.msg, error.pos) from None
            except ValueError:  # int() has a limit
                self._left_out("holds a number of too many digits")
                return None
            if end == len(self._text) and self._text[end - 1] not in '"}]' and self._more():
                continue  # a number may continue
            self.flaw = self._flaw(value, self._text[self._at : end])
            self._at = end
            return value

    def finish(self) -> None:
        """Raise InvalidArgument if anything but white space follows."""
        if self.peek():
            raise self.broken("something follows the end")

    def broken(self, reason: str, at: int | None = None) -> InvalidArgument:
        """Return the error that ends the reading, with its position."""
        position = self._dropped + (self._at if at is None else at)
        cut = "; it ends too early" if self._ended and position >= self._dropped + len(self._text) - 1 else ""
        return InvalidArgument(f"{self.name} is not JSON: {reason} at character {position:,}{cut}")

    def _some(self) -> list[object]:
        """Decode the next elements that are completely in the window and have no flaw. `value` decodes the others.

        Large arrays are read here, so the work per element is minimal.
        """
        values: list[object] = []
        self.peek()
        if not self._plain:
            return values
        self._odd = None
        text, at, scan, count, after = self._text, self._at, self._scan, self._text.count, _AFTER.match
        most = at + _BLOCK
        try:
            while at < most:
                value, end = scan(text, at)
                mark = after(text, end)
                deep = count("{", at, end) + count("[", at, end) > MAX_DEPTH and _deep(value)
                if mark is None or deep or self._odd is not None:
                    break
                values.append(value)
                self._at = end
                if mark[1] == "]":
                    break
                at = mark.end()
        except (ValueError, RecursionError):  # `value` reports the flaw, or reads on
            pass
        return values

    def _expect(self, marks: str) -> str:
        found = self.peek()
        if not found or found not in marks:
            raise self.broken(" or ".join(repr(mark) for mark in marks) + " was expected")
        self._at += 1
        return found

    def _more(self) -> bool:
        """Advance the window, at least doubling its rest. Return False at the end of the text."""
        if self._ended:
            return False
        self._dropped += self._at
        self._text = self._text[self._at :]
        self._at = 0
        if len(self._text) > MAX_VALUE:
            raise InvalidArgument(
                f"{self.name} holds a value of more than {MAX_VALUE:,} characters, from character {self._dropped:,}"
            )
        self._feed(self._stream.read(max(_BLOCK, len(self._text))))
        return True

    def _feed(self, data: bytes) -> None:
        self._ended = not data
        try:
            self._text += self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise self.broken(f"{error.reason} in UTF-16") from None
        self._plain = _encodes(self._text) and _HALF.search(self._text) is None

    def _left_out(self, reason: str) -> None:
        """Skip the value that begins here without decoding it."""
        self.flaw = reason
        depth = 0
        if self._text[self._at] not in "[{":
            raise self.broken(f"a value {reason}")
        while True:
            for match in _MARK.finditer(self._text, self._at):
                mark = match[0]
                if mark == '"':  # the end of the string is not in the window yet
                    break
                self._at = match.end()
                depth += (mark in "[{") - (mark in "]}")
                if depth == 0:
                    return
            if not self._more():
                raise self.broken("a bracket is not closed", len(self._text))

    def _flaw(self, value: object, text: str) -> str | None:
        if self._odd is not None:
            return f"holds {self._odd}, which is no JSON number"
        if text.count("{") + text.count("[") > MAX_DEPTH and _deep(value):
            return f"is nested more than {MAX_DEPTH} levels deep"
        if self._plain:
            return None
        if not _encodes(text):
            return "holds bytes that are not UTF-8"
        if _HALF.search(text) and not _encodes(json.dumps(value, ensure_ascii=False)):
            return "holds half a character (a lone surrogate)"
        return None

    def _constant(self, text: str) -> None:
        self._odd = text

    def _float(self, text: str) -> float:
        number = float(text)
        if math.isinf(number):
            self._odd = f"{text:.20}"
        return number


def _deep(value: object) -> bool:
    level: list[Any] = [value] if type(value) in _NESTS else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in _NESTS
        ]
        if not level:
            return False
    return True


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
