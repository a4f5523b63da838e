"""Readers and writers of other tools' formats: pure mappings from their records to plain tuples, with no SQL.

A format is one module or a few. These modules do not import the store. They never raise on a bad record, but return its
location and the reason as data. They stream, so that the caller controls the memory. This file exports no names: import
a reader from its own module.
"""
