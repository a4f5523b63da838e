"""The domains of a store, and the modules behind its own methods, loaded on first use.

A new domain is one line here and one property of :class:`scanstore.store.Store`.
"""

from __future__ import annotations

from scanstore.db.exports import lazy

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from scanstore import errors, models
    from scanstore.accounts.accounts import Accounts
    from scanstore.analysis import asking, calls
    from scanstore.analysis.chunks import Chunks
    from scanstore.analysis.drafts import Drafts
    from scanstore.analysis.llm_calls import Models
    from scanstore.analysis.publishing import StoreFindings
    from scanstore.analysis.scans import StoreScans
    from scanstore.analysis.verified import Verified
    from scanstore.audits.audits import Audits
    from scanstore.db import (
        atomic_files,
        encryption,
        locations,
        logs,
        migrations,
        pagination,
        rows,
        state_machine,
        values,
    )
    from scanstore.findings import looks
    from scanstore.indexing import languages, walk
    from scanstore.jobs.jobs import Jobs
    from scanstore.jobs.schedules import Schedules
    from scanstore.library.library import Library
    from scanstore.llm import slots
    from scanstore.maintenance import backup, cleaning, compaction, dump, health, pruning, rekeying, unfilled
    from scanstore.maintenance.merge import merge
    from scanstore.maintenance.repair import repair
    from scanstore.plans.plans import Plans
    from scanstore.report import gather
    from scanstore.sarif.sarif import Sarif
    from scanstore.search import Search
    from scanstore.sessions.sessions import Sessions
    from scanstore.settings import Settings
    from scanstore.snapshots import freshness, scans
    from scanstore.symbols.symbols import Symbols
else:
    __getattr__, __dir__ = lazy(
        "scanstore",
        {
            "accounts.accounts": ("Accounts",),
            "analysis.chunks": ("Chunks",),
            "analysis.drafts": ("Drafts",),
            "analysis.llm_calls": ("Models",),
            "analysis.publishing": ("StoreFindings",),
            "analysis.scans": ("StoreScans",),
            "analysis.verified": ("Verified",),
            "audits.audits": ("Audits",),
            "jobs.jobs": ("Jobs",),
            "jobs.schedules": ("Schedules",),
            "library.library": ("Library",),
            "plans.plans": ("Plans",),
            "sarif.sarif": ("Sarif",),
            "search": ("Search",),
            "sessions.sessions": ("Sessions",),
            "settings": ("Settings",),
            "symbols.symbols": ("Symbols",),
            "analysis.asking": (),
            "analysis.calls": (),
            "errors": (),
            "db.encryption": (),
            "db.locations": (),
            "db.migrations": (),
            "db.pagination": (),
            "db.rows": (),
            "llm.slots": (),
            "maintenance.backup": (),
            "maintenance.compaction": (),
            "maintenance.dump": (),
            "maintenance.health": (),
            "maintenance.merge.merge": (),
            "maintenance.pruning": (),
            "maintenance.rekeying": (),
            "maintenance.unfilled": (),
            "maintenance.repair.repair": (),
            "report.gather": (),
            "snapshots.scans": (),
            "db.atomic_files": (),
            "db.logs": (),
            "db.state_machine": (),
            "db.values": (),
            "findings.looks": (),
            "indexing.languages": (),
            "indexing.walk": (),
            "maintenance.cleaning": (),
            "models": (),
            "snapshots.freshness": (),
        },
        into=__name__,
        # Models with a foreign key to rows of the domain, for the backrefs of these rows.
        first={
            "Sarif": ("analysis.models",),
            "Search": ("analysis.models",),
            "gather": ("analysis.models",),
            "Library": ("analysis.models", "plans.models"),
            "Plans": ("analysis.models",),
            "Accounts": ("audits.models", "sessions.models"),
            "Sessions": ("audits.models",),
            "Audits": ("sessions.models",),
        },
    )

__all__ = [
    "Accounts", "Audits", "Chunks", "Drafts", "Jobs", "Library", "Models", "Plans", "Sarif", "Schedules", "Search",
    "Sessions", "Settings", "StoreFindings", "StoreScans", "Symbols", "Verified", "asking", "atomic_files",
    "backup", "calls", "cleaning", "compaction", "dump", "encryption", "errors", "freshness", "gather", "health",
    "languages", "locations", "logs", "looks", "merge", "migrations", "models", "pagination", "pruning", "rekeying",
    "repair", "rows", "scans", "slots", "state_machine", "unfilled", "values", "walk",
]  # fmt: skip
