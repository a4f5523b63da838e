"""Readers and writers of other tools' formats: pure mappings from their records to plain tuples, with no SQL.

A format is one module, or a few. They import nothing of the store, never raise on a bad record (that comes back as
data, with its place and the reason) and stream, so that size is the caller's choice. This file stays empty of names: a
reader is imported from its own module, and only when it is wanted.
"""
