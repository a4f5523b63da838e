"""Imports of every kind, used from another file."""

# ruff: noqa
# fmt: off
from __future__ import annotations

import shop
import shop.models as m
import shop.pricing.rules
from shop import Article, discount, orders
from shop.orders import *
from shop.pricing import again, parse as read

Alias = m.Item
total = discount


class Window:
    title = "shop"

    def __init__(self, order: Order) -> None:
        self.order = order
        self.log: m.History | None = None
        self.item = Article("lamp", 100)  # -> shop.models.Item imported

    def show(self) -> None:
        self.order.total()  # -> shop.orders.Order.total imported
        self.order.touch()  # -> shop.models.Record.touch inherited
        self.item.rename("lamp")  # -> shop.models.Item.rename imported
        self.item.history.add("lamp")  # ~> shop.models.History.add
        show()  # -> shop.app.show exact


def show() -> None:
    window = Window(shop.orders.Order("first"))  # Window -> shop.app.Window exact; shop.orders.Order -> shop.orders.Order imported
    window.show()  # -> shop.app.Window.show exact
    shop.discount(2.0)  # -> shop.pricing.rules.discount imported
    shop.Item("desk", 20)  # -> shop.models.Item imported
    shop.pricing.rules.helper(1.0)  # -> shop.pricing.rules.helper imported
    shop.pricing.discount(1.0)  # -> shop.pricing.rules.discount imported
    m.Record.build("x")  # -> shop.models.Record.build imported
    m.Item.build("x")  # -> shop.models.Record.build inherited
    orders.process(Order("second"), m.History(None))  # orders.process -> shop.orders.process imported; Order -> shop.orders.Order imported; m.History -> shop.models.History imported
    discount(3.0)  # -> shop.pricing.rules.discount imported
    read("3")  # -> shop.pricing.rules.parse imported
    Alias("mug", 3)  # ~> shop.models.Item
    total(3.0)  # ~> shop.pricing.rules.discount


@again(3)  # -> shop.pricing.rules.retry imported
def late() -> float:
    from .models import load as read_all

    read_all("{}")  # -> shop.models.load imported
    big = BigOrder.make()  # -> shop.orders.BigOrder.make imported
    big.touch()  # ~> shop.models.Record.touch
    bulk = Bulk("bulk")  # -> shop.orders.Bulk imported
    bulk.quote()  # -> shop.orders.Priced.quote inherited
    return bulk.total()  # -> shop.orders.BigOrder.total inherited


if __name__ == "__main__":
    show()  # -> shop.app.show exact
    late()  # -> shop.app.late exact
