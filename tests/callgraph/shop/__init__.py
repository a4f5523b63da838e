"""Re-exports: the public names of the shop live in its modules."""

# ruff: noqa
# fmt: off
from .models import Item
from .models import Item as Article
from .pricing import *
from . import orders

__all__ = ["Article", "Item", "discount", "orders"]
