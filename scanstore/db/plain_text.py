"""Escaping of untrusted text before it reaches a terminal, a log or a report.

Names, code and messages come from other people. Every character that Python does not consider printable is escaped:
controls (C0, C1, DEL), every format character (category Cf: marks that turn the direction of text, zero-width
characters, the tags from U+E0000 to U+E007F), line and paragraph separators, surrogates, and characters that are not
assigned.
"""

from __future__ import annotations

#: Blanks that Python does not consider printable, but that are harmless.
BLANKS = "\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"


def plain_text(text: str, keep: str = "") -> str:
    """Return the text with all unprintable characters escaped, except those in ``keep``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)
