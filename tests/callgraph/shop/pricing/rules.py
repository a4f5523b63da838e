"""Functions: decorated, overloaded, nested, handed around as values."""

# ruff: noqa
# fmt: off
from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import contextmanager
from typing import Iterator, TypeVar, overload

from ..compat import fast, tidy

F = TypeVar("F", bound=Callable[..., float])  # -> none


def retry(times: int) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        @functools.wraps(function)  # -> none
        def wrapper(*args: float) -> float:
            limit(times)  # -> shop.pricing.rules.limit exact
            return function(*args)  # -> none

        return wrapper  # type: ignore[return-value]

    return decorate


def limit(times: int) -> int:
    return min(times, ceiling())  # min -> none; ceiling -> shop.pricing.rules.ceiling exact


def ceiling() -> int:
    return 3


@retry(2)  # -> shop.pricing.rules.retry exact
def discount(price: float) -> float:
    return tidy(price) * fast(price)  # tidy -> shop.compat.tidy imported; fast ~> shop.compat.fast


@overload
def parse(text: str) -> float: ...
@overload
def parse(text: None) -> None: ...
def parse(text: str | None) -> float | None:
    return None if text is None else discount(float(text))  # discount -> shop.pricing.rules.discount exact; float -> none


@contextmanager
def sale(rate: float) -> Iterator[float]:
    yield discount(rate)  # -> shop.pricing.rules.discount exact


@functools.lru_cache(maxsize=None)  # -> none
def cached(rate: int) -> float:
    return cached(rate - 1) if rate else parse("1")  # cached -> shop.pricing.rules.cached exact; parse -> shop.pricing.rules.parse exact


def closure(prices: list[float]) -> list[float]:
    factor = ceiling()  # -> shop.pricing.rules.ceiling exact

    def scale(price: float) -> float:
        return helper(price) * factor  # -> shop.pricing.rules.closure.helper exact

    def helper(price: float) -> float:
        return price

    scaled = [scale(price) for price in prices]  # -> shop.pricing.rules.closure.scale exact
    return sorted(map(scale, scaled), key=lambda price: helper(price))  # sorted -> none; map -> none; helper -> shop.pricing.rules.closure.helper exact


def helper(price: float) -> float:
    with sale(price) as rate:  # -> shop.pricing.rules.sale exact
        return rate


def apply(price: float, function: Callable[[float], float] = helper) -> float:
    return function(price)  # -> none


def calls(price: float) -> float:
    return apply(price, helper) + (lambda: helper(price))()  # apply -> shop.pricing.rules.apply exact; helper -> shop.pricing.rules.helper exact; ? -> none
