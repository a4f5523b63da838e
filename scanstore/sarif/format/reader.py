"""Reads SARIF 2.1.0: one pass that checks the document and reads its runs, one that yields the results.

Two passes are needed, because a run may list its tool, rules and files after its results, and because a truncated
document must yield nothing. A small document is decoded once and kept in memory; a large one is decoded twice, a few
results at a time. An error in a single result is a `SarifProblem`, and the result is skipped. Change here: how a
document is walked. Runs and results are read in `run_reader`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO, NamedTuple

from scanstore.db.files import refused
from scanstore.errors import InvalidArgument
from scanstore.sarif.format.jsonstream import Reader
from scanstore.sarif.format.parts import Bad, read_artifact, rule_key, shown
from scanstore.sarif.format.run_reader import Head, RunReader, lost_run
from scanstore.sarif.format.vocabulary import VERSION, Lost, Result, Rule, Run, SarifProblem

__all__ = ["SarifProblem", "Result", "Rule", "Run", "read"]

SMALL = 2**24
"""Bytes up to which a document is held decoded, which takes some seven times as much memory."""


class _Event(NamedTuple):
    """A value of the document: of a run, or of the document itself (run -1); number -1 is the begin of an array, or of
    a run. The elements of an array follow in lists, each with the number of its first; one with a flaw is alone."""

    run: int
    name: str
    number: int | None
    value: Any
    flaw: str | None


def read(
    file: str | os.PathLike[str] | BinaryIO,
    *,
    problems: list[SarifProblem],
    root: str | os.PathLike[str] | None = None,
    lost: list[Lost] | None = None,
) -> Iterator[Run | Result]:
    """Yield each run and then its results, in the order of the document. Memory does not grow with the document.

    ``file`` is a path or an open binary file, read from its current position. ``root`` is the folder of the paths; it
    is not read, and only makes absolute addresses inside it relative. Unusable parts are skipped and appended to
    ``problems``: a whole run, a result, or a path (then the result has no ``uri``). A yielded run may have skipped
    results, so a missing result does not prove a fix. Completely unusable runs are appended to ``lost`` before anything
    is yielded.

    Raises InvalidArgument, before anything is yielded, for a file that is not complete JSON, or not SARIF 2.1.0.
    """
    name = str(file) if isinstance(file, str | os.PathLike) else str(getattr(file, "name", "the file"))
    opened = _opener(file, name)
    document: dict[str, object] = {}
    heads: dict[int, Head] = {}
    missing: list[Lost] = []
    held: deque[_Event] | None = None
    with opened() as stream:
        small = _fits(stream)
        events: Iterable[_Event] = _walk(Reader(stream, name))
        if small:
            events = held = deque(events)
        for event in events:
            if event.run < 0:
                document[event.name] = [] if event.number == -1 else {"flaw": event.flaw} if event.flaw else event.value
            elif event.name == "" and event.number is None:
                reason = event.flaw or "is no object"
                problems.append(SarifProblem(f"$.runs[{event.run}]", reason))
                missing.append(Lost(event.run, None, f"the run cannot be used: {reason}", None))
            else:
                _take(heads.setdefault(event.run, Head({}, [], set(), [])), event, problems)
    _check(document, name, problems)
    readers: dict[int, RunReader] = {}
    for index, head in heads.items():
        try:
            external = bool(document.get("inlineExternalProperties"))
            readers[index] = RunReader(index, head, problems, root, external=external)
        except Bad as bad:
            problems.append(SarifProblem(f"$.runs[{index}]{bad.args[0]}", bad.args[1] + "; the whole run is left out"))
            missing.append(lost_run(index, head, " ".join(bad.args).lstrip(".")))
    if lost is not None:
        lost += sorted(missing)
    return _results(_again(opened, name) if held is None else _released(held), readers, problems)


def _results(
    events: Iterable[_Event], readers: dict[int, RunReader], problems: list[SarifProblem]
) -> Iterator[Run | Result]:
    reader: RunReader | None = None
    for run, key, first, values, flaw in events:
        if key == "" and first is not None:
            reader = readers.get(run)
            if reader is not None:
                yield reader.run
        elif key == "results" and first is not None and first >= 0 and reader is not None:
            for number, value in enumerate(values, first):
                try:
                    if flaw:
                        raise Bad("", flaw)
                    result = reader.result(number, value)
                except Bad as bad:
                    problems.append(SarifProblem(f"$.runs[{run}].results[{number}]{bad.args[0]}", bad.args[1]))
                else:
                    yield result


def _again(opened: Callable[[], AbstractContextManager[BinaryIO]], name: str) -> Iterator[_Event]:
    with opened() as stream:
        yield from _walk(Reader(stream, name))


def _released(held: deque[_Event]) -> Iterator[_Event]:
    while held:
        yield held.popleft()


def _fits(stream: BinaryIO) -> bool:
    """Whether the rest of the stream is a small document."""
    start = stream.tell()
    end = stream.seek(0, os.SEEK_END)
    stream.seek(start)
    return end - start <= SMALL


def _opener(file: str | os.PathLike[str] | BinaryIO, name: str) -> Callable[[], AbstractContextManager[BinaryIO]]:
    """Return a function that opens the file at its beginning, as often as needed."""
    if isinstance(file, str | os.PathLike):
        path = file

        def by_path() -> BinaryIO:
            try:
                return open(path, "rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                raise InvalidArgument(f"{name} cannot be read: {error.strerror}; give the path of a report") from error
            except OSError as error:
                raise refused(error, name, "read") from error

        return by_path
    stream, copied = file, not file.seekable()  # a pipe
    if copied:
        stream = tempfile.TemporaryFile()  # noqa: SIM115  closed with the last who may read it
        shutil.copyfileobj(file, stream)
        stream.seek(0)
    start = stream.tell()

    def by_seeking() -> AbstractContextManager[BinaryIO]:
        stream.seek(start)
        return nullcontext(stream)

    if copied:
        weakref.finalize(by_seeking, stream.close)
    return by_seeking


def _walk(text: Reader) -> Iterator[_Event]:
    if text.peek() != "{":
        text.value()  # to detect a file that is not JSON
        raise InvalidArgument(f"{text.name} is JSON but no SARIF: it holds no object")
    seen = set()
    for name in text.members():
        if name == "runs" and name in seen:
            raise InvalidArgument(f"{text.name} names $.runs twice")
        seen.add(name)
        if name == "runs" and text.peek() == "[":
            yield _Event(-1, name, -1, None, None)
            for run in text.elements():
                yield from _walk_run(text, run)
        else:
            yield _Event(-1, name, None, text.value(), text.flaw)
    text.finish()


def _walk_run(text: Reader, run: int) -> Iterator[_Event]:
    if text.peek() != "{":
        yield _Event(run, "", None, text.value(), text.flaw)
        return
    yield _Event(run, "", -1, None, None)
    seen = set()
    for name in text.members():
        if name in seen:
            raise InvalidArgument(f"{text.name} names $.runs[{run}].{name:.80} twice")
        seen.add(name)
        if name in ("results", "artifacts") and text.peek() == "[":
            yield _Event(run, name, -1, None, None)
            first = 0
            for values, flaw in text.values():
                yield _Event(run, name, first, values, flaw)
                first += len(values)
        else:
            yield _Event(run, name, None, text.value(), text.flaw)


def _check(document: dict[str, object], name: str, problems: list[SarifProblem]) -> None:
    version = document.get("version")
    if not isinstance(version, str):
        raise InvalidArgument(f"{name} is no SARIF: $.version is {shown(version)}; it must be '{VERSION}'")
    if not version.startswith(VERSION):
        raise InvalidArgument(f"{name} is SARIF {version:.20}; only {VERSION} is read, convert it first")
    if document.get("runs") != []:
        raise InvalidArgument(f"{name} is no SARIF: $.runs is {'no array' if 'runs' in document else 'missing'}")
    if document.get("inlineExternalProperties"):
        problems.append(SarifProblem("$.inlineExternalProperties", "external properties are not supported; left out"))


def _take(head: Head, event: _Event, problems: list[SarifProblem]) -> None:
    """Add an event to its run."""
    run, name, number, value, flaw = event
    if name == "":
        return
    if number is None:
        if flaw:
            problems.append(SarifProblem(f"$.runs[{run}].{name:.80}", flaw + "; left out"))
            head.unread.append(name)
        elif name in ("results", "artifacts") and value is not None:
            problems.append(SarifProblem(f"$.runs[{run}].{name}", f"is {shown(value)}; it must be an array"))
            head.unread.append(name)
        else:
            head.members[name] = value
        if name == "results" and (flaw or value is not None):
            head.members[name] = False
    elif number < 0:
        if name == "results":
            head.members["results"] = 0
    elif name == "results":
        head.members["results"] = number + len(value)
        for one in value:
            if type(one) is dict:
                try:
                    head.used.add(rule_key(one))
                except Bad:
                    continue
    else:
        head.artifacts.extend(map(read_artifact, value))
