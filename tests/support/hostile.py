"""What the tests of hostile input share: hostile words, records of other tools to be spoiled, and what may come
of it."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

from stressing import Hung

from scanstore import ScanstoreError

SQL = (
    "'; DROP TABLE scans; --",
    '"; DELETE FROM settings; --',
    "' OR '1'='1",
    "x') UNION SELECT api_key FROM model_configs --",
    "%' OR 1 --",
    "\\' OR 1=1 /*",
    '" NEAR( AND NOT OR *^:{}',
)
ODD = (*SQL, "", " ", "\0", "\ud800", "../../etc/passwd", "/etc/passwd", "é\u202e\u0000x", "[" * 3000, "9" * 400, "-1")


@contextlib.contextmanager
def limited(seconds: int = 20) -> Iterator[None]:
    """Raise Hung in what takes longer."""

    def hung(*_: object) -> None:
        raise Hung(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refused_or_fine(action: Callable[[], Any]) -> str:
    """Do it; only an error of ours, in one line that can be printed, may come."""
    with limited():
        try:
            action()
        except ScanstoreError as error:
            text = str(error)
            assert text and len(text) < 2100, text[:200]
            return "refused"
    return "fine"


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


# Records of other tools -----------------------------------------------------------------------------------------------

TAG = {
    "_type": "tag",
    "name": "f",
    "path": "a.c",
    "line": 1,
    "end": 3,
    "kind": "function",
    "scope": "x",
    "scopeKind": "s",
}
