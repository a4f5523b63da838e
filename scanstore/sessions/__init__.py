"""Analysis sessions: uploaded files, prompts, tasks and results.

``models`` has the rows, and ``uploads``, ``tasks`` and ``prompts`` each have their part of the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.sessions.models import ResultRecord
    from scanstore.sessions.prompts import Prompts
    from scanstore.sessions.sessions import Sessions, SessionStats
    from scanstore.sessions.uploads import Added, UploadRecord
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "models": ("ResultRecord",),
            "prompts": ("Prompts",),
            "sessions": ("SessionStats", "Sessions"),
            "uploads": ("Added", "UploadRecord"),
        },
    )

__all__ = ["Added", "Prompts", "ResultRecord", "SessionStats", "Sessions", "UploadRecord"]
