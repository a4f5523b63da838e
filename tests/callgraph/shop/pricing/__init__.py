"""A package that hands on what its modules define, one name under another name."""

# ruff: noqa
# fmt: off
from .rules import discount, parse
from .rules import retry as again

__all__ = ["again", "discount", "parse"]
