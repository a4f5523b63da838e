"""Jobs: work in the background, queued, leased to workers, watched and cancelled; and jobs that are due repeatedly.

``models`` has the rows with their statuses, ``leasing`` the moves of a job, ``worker`` the loop that runs handlers,
``schedules`` the times.
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
