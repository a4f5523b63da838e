"""Language models: their configurations, and how many calls of each may run at once.

Model calls and their answers are in :mod:`scanstore.analysis`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.llm.configs import Configs, ModelChanges, ModelColumns
    from scanstore.llm.slots import Slot
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"configs": ("Configs", "ModelChanges", "ModelColumns"), "slots": ("Slot",)},
    )

__all__ = ["Configs", "ModelChanges", "ModelColumns", "Slot"]
