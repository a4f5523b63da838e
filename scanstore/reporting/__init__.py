"""Reports in each format: pure functions from :mod:`scanstore.reporting.contents` to text; no SQL, no store.

Everything in a report was said by strangers: each writer escapes all of it, for the place where it puts it.
"""
