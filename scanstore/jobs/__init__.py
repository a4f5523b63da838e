"""Background jobs: a queue, workers that lease jobs, progress, cancellation, and schedules.

``models`` has the rows with their statuses, ``leasing`` the methods for workers, ``cancelling`` the cancellation of a
job with its parts, ``worker`` the loop that runs handlers, ``schedules`` the recurring jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.jobs.jobs import Jobs
    from scanstore.jobs.schedules import ScheduledRun, Schedules
    from scanstore.jobs.worker import Worked
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"jobs": ("Jobs",), "schedules": ("ScheduledRun", "Schedules"), "worker": ("Worked",)},
    )

__all__ = ["Jobs", "ScheduledRun", "Schedules", "Worked"]
