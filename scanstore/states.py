"""Statuses and the words for them: every value a status column may hold, in the order of its life."""

from __future__ import annotations

SCAN_STATUSES = ("queued", "running", "paused", "completed", "failed", "cancelled")
PHASES = ("queued", "ingestion", "indexing", "chunking", "scanning", "verifying", "enriching", "completed")
FILE_STATUSES = ("pending", "running", "done", "failed", "skipped")
CHUNK_STATUSES = FILE_STATUSES
RISKS = ("high", "normal", "low")
