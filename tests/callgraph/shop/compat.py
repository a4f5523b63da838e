"""Names that depend on what is installed."""

# ruff: noqa
# fmt: off
from __future__ import annotations

import sys

try:
    from speedups import fast
except ImportError:

    def fast(price: float) -> float:
        return price


if sys.version_info >= (3, 0):

    def tidy(price: float) -> float:
        return round(price, 2)  # -> none

else:

    def tidy(price: float) -> float:
        return price


def both(price: float) -> float:
    return tidy(fast(price))  # tidy -> shop.compat.tidy exact; fast ~> shop.compat.fast
