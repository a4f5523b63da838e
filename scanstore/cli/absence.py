"""What is said with an empty answer: it claims absence only where the scan has looked.

A question of which nothing was looked at is not answered: the command ends with 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.cli.base import Failure
from scanstore.cli.output import note

if TYPE_CHECKING:
    from scanstore.languages import Gap
    from scanstore.scan_rows import Scan
    from scanstore.store import Store


def gap_of(store: Store, scan: Scan, kind: str, *, path: str | None = None) -> Gap:
    """Return what of the scan, or of the language of one file, was not looked at for symbols, references or imports."""
    from scanstore.languages import gap, language_of

    return gap(store.symbols.coverage(scan=scan), kind, only=None if path is None else language_of(path))


def nothing(store: Store, scan: Scan, message: str, kind: str, *, path: str | None = None) -> None:
    """Say that an answer is empty, and where it was not looked; fail when it was looked nowhere."""
    found = gap_of(store, scan, kind, path=path)
    if found.whole:
        raise Failure(f"this cannot be answered from scan {scan.id}: {found.text}")
    note(found.after(message))


def incomplete(store: Store, scan: Scan, kind: str, *, path: str | None = None) -> None:
    """Say beside an answer which languages are not part of it; fail when none is."""
    found = gap_of(store, scan, kind, path=path)
    if found.whole:
        raise Failure(f"this cannot be answered from scan {scan.id}: {found.text}")
    if found.missing:
        note(f"not part of this: {found.text}")


def nothing_in(store: Store, scan: Scan, path: str, message: str) -> None:
    """Say that a file imports nothing; fail for a file that was not looked at."""
    from scanstore.models import ScanFile

    row = ScanFile.get(ScanFile.scan == scan, ScanFile.file_path == path)
    if row.error is not None:
        raise Failure(f"{path} was not looked at in scan {scan.id}: {row.error}")
    nothing(store, scan, message, "imports", path=path)
