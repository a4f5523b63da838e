"""The progress display: the work, its count and rate, and the time that is left.

It is shown on stderr, only on a terminal, and only for work that takes longer than a moment. A thread of its own draws
it, so a call that reports nothing for a while, such as one statement of SQLite, still shows the elapsed time; the
caller's thread only stores two numbers. The cursor is never hidden, so nothing has to be restored after a kill.

Change here: the delay of the display and its columns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scanstore.cli.output import LOGGED, in_context, is_quiet, plain_text, size, wants_json
from scanstore.cli.streams import errors, is_terminal

if TYPE_CHECKING:
    from rich.progress import Task
    from rich.text import Text

DELAY = 0.5  #: seconds before anything is shown, so that short work does not flicker
PAUSE = 0.1  #: seconds between two drawings
BAR, SHORTEST = 20, 4  # characters of the bar, and on a narrow terminal
FIGURES = 50  # characters of "446,012 of 480,012 rows, 146,068/s, 0:04 left" and the spaces between columns
DETAIL = 40  # characters of a path, its end
BYTES = "bytes"  #: the unit that is shown as kB, MB and GB


class Display:
    """The work of one command. Call it with the finished and all units; the total is 0 while it is unknown."""

    def __init__(self, what: str, unit: str) -> None:
        import threading  # start-up of the command line
        import time

        self.what, self.unit, self.detail = what, unit, ""
        self.done = self.total = 0
        self._clock = time.monotonic
        self._began = self._clock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scanstore-progress", daemon=True)

    def __call__(self, done: int, total: int) -> None:
        self.done, self.total = done, total

    def start(self) -> None:
        """Show the display after a moment."""
        self._thread.start()

    def stop(self) -> None:
        """Erase the display. An interrupt in the meantime is raised at the end."""
        interrupted = None
        while self._thread.is_alive():
            try:
                self._over.set()
                self._thread.join()
            except KeyboardInterrupt as again:
                interrupted = again
        if interrupted is not None:
            raise interrupted

    def figures(self, speed: float | None = None) -> str:
        """Return the counts, the rate and the time that is left, or the elapsed time."""
        done, total, elapsed = self.done, self.total, self._clock() - self._began
        parts = []
        if total:
            parts.append(f"{_count(done, self.unit)} of {_count(total, self.unit)}{self._noun}")
        elif done:
            parts.append(f"{_count(done, self.unit)}{self._noun}")
        if speed and done < total or speed and not total:
            parts.append(f"{_count(round(speed), self.unit)}/s" if speed >= 1 else f"{speed:.1f}/s")
        if speed and done < total:
            parts.append(f"{_time((total - done) / speed)} left")
        else:
            parts.append(_time(elapsed))
        return ", ".join(parts)

    @property
    def _noun(self) -> str:
        return "" if self.unit == BYTES or not self.unit else f" {self.unit}"

    def _run(self) -> None:
        if self._over.wait(DELAY):
            return
        try:
            self._draw()
        except OSError:  # the terminal is gone; the work goes on
            return

    def _draw(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
        from rich.text import Text

        class Terminal(Console):
            def show_cursor(self, show: bool = True) -> bool:
                return False

        class Figures(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(display.figures(task.speed), no_wrap=True)

        display = self
        terminal = Terminal(file=errors(), force_terminal=True, no_color=bool(os.environ.get("NO_COLOR")) or None)
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(max(SHORTEST, min(BAR, terminal.width - len(plain_text(self.what)) - FIGURES))), Figures(),
            TextColumn("{task.fields[detail]}", markup=False, style="dim"), console=terminal,
            transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False,
        ) as bar:  # fmt: skip
            task = bar.add_task(plain_text(self.what), total=None, detail="")
            while True:
                done, total = self.done, self.total
                # When all units are finished, the rest of the work cannot be measured.
                bar.update(
                    task, description=plain_text(self.what), completed=done, total=total if done < total else None,
                    detail=plain_text(self.detail[-DETAIL:]),
                )  # fmt: skip
                bar.refresh()
                if self._over.wait(PAUSE):
                    return


def _count(number: int, unit: str) -> str:
    return size(number) if unit == BYTES else f"{number:,}"


def _time(seconds: float) -> str:
    """Return `0:07` or `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress(what: str, unit: str = "", *, alone: bool = True) -> Iterator[Display | None]:
    """Show the progress of a block, and yield the function that takes its counts: ``progress("Loading x", "bytes")``.

    Yields None if there is no display: without a terminal, with `--json`, `--quiet` or `--verbose`, and if `alone` is
    false because data is printed on the terminal.
    """
    if not alone or not is_shown():
        yield None
        return
    display = Display(what, unit)
    try:
        display.start()
        yield display
    finally:
        display.stop()


def is_shown() -> bool:
    """Return whether stderr is a terminal that can redraw a line."""
    if wants_json() or is_quiet() or in_context(LOGGED):
        return False
    return is_terminal("stderr") and os.environ.get("TERM") != "dumb"
