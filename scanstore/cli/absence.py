"""What is said with an empty answer: it claims absence only where the scan has looked.

A question of which nothing was looked at is not answered: the command ends with 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.cli.base import Failure
from scanstore.cli.output import note

if TYPE_CHECKING:
    from scanstore.indexing.languages import Gap
    from scanstore.snapshots.models import Scan
    from scanstore.store import Store


def gap_of(store: Store, scan: Scan, kind: str, *, path: str | None = None) -> Gap:
    """Return what of the scan, or of the language of one file, was not looked at for symbols, references or imports."""
    from scanstore.indexing.languages import SYMBOLS, gap, language_of

    found = gap(store.symbols.coverage(scan=scan), kind, only=None if path is None else language_of(path))
    if scan.revision is not None:
        return found
    # What names mean is found out when all files are there.
    text = f"scan {scan.id} is {scan.status}, and not all of its tree was recorded; scan the tree again"
    return found._replace(whole=found.whole or kind != SYMBOLS, text="; ".join(filter(None, (text, found.text))))


def known_file(store: Store, scan: Scan, path: str | None) -> None:
    """Fail when nothing was found in a file because the scan does not have it."""
    from scanstore.models import ScanFile

    if path is not None and not ScanFile.select().where(ScanFile.scan == scan, ScanFile.file_path == path).exists():
        raise Failure(f"scan {scan.id} has no file {path!r}; paths are relative to {scan.root or 'its root'}")


def known_tool(store: Store, target: str, tool: str | None) -> None:
    """Fail when a tool has no findings because it has never looked in a target, or is misspelled."""
    from scanstore.findings.looks import OWN
    from scanstore.models import Finding, Scan, ToolRun

    if tool is None or tool == OWN:
        return
    scans = Scan.select(Scan.id).where(Scan.target == target)
    rows = (table.select(table.tool).where(table.scan.in_(scans)).distinct() for table in (ToolRun, Finding))
    tools = sorted({OWN, *(row.tool for found in rows for row in found)})
    if tool not in tools:
        raise Failure(f"the tool {tool!r} has not looked in {target}; its tools are: {', '.join(tools)}")


def reported_file(store: Store, target: str, path: str | None) -> None:
    """Fail when a file has no findings because no scan of a target has it, or it is misspelled."""
    from scanstore.models import Finding, Scan, ScanFile

    if path is None:
        return
    scans = Scan.select(Scan.id).where(Scan.target == target)
    files = ScanFile.select().where(ScanFile.file_path == path, ScanFile.scan.in_(scans))
    seen = Finding.select().join(Scan).where(Scan.target == target, Finding.file_path == path)
    if not files.exists() and not seen.exists():
        raise Failure(f"no scan of {target} has a file {path!r}; paths are relative to the root of the tree")


def nothing(store: Store, scan: Scan, message: str, kind: str, *, path: str | None = None) -> None:
    """Say that an answer is empty, and where it was not looked; fail when it was looked nowhere."""
    found = gap_of(store, scan, kind, path=path)
    if found.whole:
        raise Failure(f"this cannot be answered from scan {scan.id}: {found.text}")
    note(found.after(message))


def incomplete(store: Store, scan: Scan, kind: str, *, path: str | None = None) -> None:
    """Say beside an answer which languages and files are not part of it; fail when none is."""
    found = gap_of(store, scan, kind, path=path)
    if found.whole:
        raise Failure(f"this cannot be answered from scan {scan.id}: {found.text}")
    if found.text:
        note(f"not part of this: {found.text}")


def nothing_in(store: Store, scan: Scan, path: str, message: str) -> None:
    """Say that a file imports nothing; fail for a file that was not looked at."""
    from scanstore.models import ScanFile

    row = ScanFile.get(ScanFile.scan == scan, ScanFile.file_path == path)
    if row.error is not None:
        raise Failure(f"{path} was not looked at in scan {scan.id}: {row.error}")
    nothing(store, scan, message, "imports", path=path)
