"""Plans: proposed changes to scenes and findings, which are reviewed, applied and reverted.

``changes`` defines which fields may be changed, ``proposals`` checks proposals, ``preview`` shows them, ``applying``
applies and reverts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.plans.applying import Applied, Reverted
    from scanstore.plans.plans import Plans, Reviewed
    from scanstore.plans.preview import FieldPreview, Preview
    from scanstore.plans.proposals import Proposal, ProposalRecord, Proposed
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "applying": ("Applied", "Reverted"),
            "plans": ("Plans", "Reviewed"),
            "preview": ("FieldPreview", "Preview"),
            "proposals": ("Proposal", "ProposalRecord", "Proposed"),
        },
    )

__all__ = [
    "Applied", "FieldPreview", "Plans", "Preview", "Proposal", "ProposalRecord", "Proposed", "Reverted", "Reviewed",
]  # fmt: skip
