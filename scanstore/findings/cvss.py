"""CVSS scores and vectors, with the ``cvss`` library, an extra that only this module imports, on first use.

A score needs no library. A vector does, because only the library can validate it.
"""

from __future__ import annotations

import math

from scanstore.errors import InvalidArgument, shown

EXAMPLE = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"


def rated(score: object, vector: object) -> tuple[float | None, str | None]:
    """Return the checked score and vector. Without a score, the base score of the vector is used.

    Versions 2, 3.0, 3.1 and 4.0 are supported. Raises InvalidArgument for a score outside 0 to 10, a malformed vector,
    a score that does not match its vector, and a vector without the library.
    """
    number = None if score is None else _number(score)
    if vector is None or vector == "":
        return number, None
    clean, scores = _read(vector)
    if number is None:
        return scores[0], clean
    if not any(math.isclose(number, known, abs_tol=0.05) for known in scores):
        known = " or ".join(str(known) for known in dict.fromkeys(scores))
        raise InvalidArgument(f"cvss_score is {number} and cvss_vector {clean} says {known}; leave one of them out")
    return number, clean


def _number(score: object) -> float:
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 10:
        raise InvalidArgument(f"cvss_score is {shown(score)}; it must be a number from 0 to 10")
    return float(score)


def _read(vector: object) -> tuple[str, list[float]]:
    """Return a vector in its canonical order, and its scores, the base score first."""
    if not isinstance(vector, str):
        raise InvalidArgument(f"cvss_vector is {shown(vector)}; write it like {EXAMPLE}")
    try:
        import cvss as library
    except ImportError as error:
        raise InvalidArgument(
            "cvss_vector cannot be checked without the cvss library; pip install 'scanstore[cvss]', or leave it out"
        ) from error
    text = vector.strip().strip("()")
    version = "CVSS4" if text.startswith("CVSS:4") else "CVSS3" if text.startswith("CVSS:") else "CVSS2"
    try:
        read = getattr(library, version)(text)
        return str(read.clean_vector()), [float(known) for known in read.scores() if known is not None]
    except library.CVSSError as error:
        raise InvalidArgument(f"cvss_vector is {vector!r}: {error}; write it like {EXAMPLE}") from error
