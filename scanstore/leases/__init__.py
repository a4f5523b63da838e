"""Leases: each row is claimed by one worker, freed when the worker dies, and protected from late workers.

``work`` has the calls of a worker, ``engine`` the statements, ``queue`` describes each queue that uses them, ``checks``
checks the arguments.
"""

from __future__ import annotations

from scanstore.db.exports import lazy

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from scanstore.leases.queue import Queue, Recovered, State, Stop
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"queue": ("Queue", "Recovered", "State", "Stop")},
    )

__all__ = ["Queue", "Recovered", "State", "Stop"]
