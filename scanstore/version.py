"""The version of the package, for all that state it."""

__version__ = "0.1.0"
