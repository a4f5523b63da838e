"""The times of schedules: cron expressions in a time zone, and the checks of a schedule's columns.

Change here: the accepted schedules, and how the next time is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from scanstore.db.arguments import check_bool, check_text
from scanstore.db.values import dump_json, utcnow
from scanstore.errors import InvalidArgument, shown

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


def next_run(schedule: str, *, timezone: str = "UTC", after: datetime | None = None) -> datetime:
    """Return the first time after ``after`` (default: now) that matches a cron expression, aware and in UTC.

    Raises InvalidArgument for an invalid expression, one without a run in the next 50 years, and an unknown zone.
    """
    from cronsim import CronSim, CronSimError

    if after is None:
        after = utcnow()
    if not isinstance(schedule, str) or len(schedule.split()) != 5:
        raise InvalidArgument(f"schedule is {shown(schedule)}; {FIELDS}")
    try:
        moments = CronSim(schedule, after.astimezone(_zone(timezone)))
        # In a repeated hour the library may return the first occurrence, which may be in the past.
        return next(moment for moment in (each.astimezone(UTC) for each in moments) if moment > after)
    except CronSimError as error:
        raise InvalidArgument(f"schedule is {schedule!r}: {str(error).lower()}; {FIELDS}") from None
    except StopIteration:
        raise InvalidArgument(f"schedule {schedule!r} never comes; choose a day that there is") from None
    except OverflowError:
        raise InvalidArgument(
            f"schedule {schedule!r} has no next time after {after.isoformat()}; give a time of the years 1 to 9999"
        ) from None


FIELDS = "write five fields: minute, hour, day of month, month, day of week, such as '0 3 * * *'"


def _zone(name: Any) -> ZoneInfo:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, LookupError, ValueError, TypeError, AttributeError):
        raise InvalidArgument(
            f"timezone is {name!r}, which this machine does not know; write a name like 'Europe/Berlin'"
        ) from None


def check_task(**columns: object) -> dict[str, object]:
    """Return the checked columns of a task."""
    for column in ("name", "task_type"):
        if column in columns:
            columns[column] = check_text(columns[column], column)
    check_bool(columns.get("enabled", True), "enabled")
    if "config" in columns:
        if not isinstance(columns["config"], Mapping):
            raise InvalidArgument(f"config is {shown(columns['config'])}; give a dictionary, the input of its jobs")
        columns["config"] = dict(columns["config"])
        dump_json(columns["config"])
    return columns
