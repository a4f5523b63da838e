"""Leases: each row is claimed by one worker, freed when the worker dies, and protected from late workers.

``engine`` has the statements, ``queue`` describes each queue that uses them.
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
