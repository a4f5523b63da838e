"""Checks of the arguments that every call of a worker takes: the worker, its lease, an error, a stop signal."""

from __future__ import annotations

from scanstore.db.arguments import check_integer, check_text
from scanstore.db.processes import me
from scanstore.errors import InvalidArgument, shown


def describe_error(error: str | BaseException) -> str:
    """Return the text that is kept of an error: ``ValueError: no such file``."""
    if isinstance(error, BaseException):
        name = type(error).__name__
        return f"{name}: {error}" if str(error) else name
    return check_text(error, "error")


def check_lease(worker: str | None, lease: float, limit: int = 1) -> str:
    """Return the name of the worker, by default this process. Raises InvalidArgument for an invalid lease."""
    if worker is not None and (not isinstance(worker, str) or not worker.strip()):
        raise InvalidArgument(f"worker is {shown(worker)}; give a name, or leave it out for the name of this process")
    if isinstance(lease, bool) or not isinstance(lease, int | float) or not 0 < lease <= 30 * 86400:
        raise InvalidArgument(f"lease is {shown(lease)}; give seconds, more than 0 and at most 30 days")
    check_integer(limit, "limit", least=1, most=2**63 - 1)
    return worker if worker is not None else me()


def check_stop(stop: object) -> None:
    """Raise InvalidArgument unless a stop signal is None or has the two methods of :class:`Stop`."""
    if stop is not None and not all(callable(getattr(stop, name, None)) for name in ("is_set", "wait")):
        raise InvalidArgument(f"stop is {shown(stop)}; give a threading.Event")
