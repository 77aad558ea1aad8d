"""Floors: what a call costs a card at least."""

from __future__ import annotations

import msgspec
import pytest

from fuzz.gate.devices import CARDS, Card
from fuzz.gate.workload import HEADLINE, floor, partial_products


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_kinds_of_product_in_the_order_of_their_cost(card: Card) -> None:
    ieee, tf32, half = (
        floor(card, msgspec.structs.replace(HEADLINE, **changed)).milliseconds
        for changed in ({"precision": "ieee"}, {"precision": "tf32"}, {"dtype": "float16"})
    )
    assert ieee > tf32 >= half > 0


def test_floors_of_the_target_card() -> None:
    tf32 = floor(CARDS["RTX 4090"], msgspec.structs.replace(HEADLINE, precision="tf32"))
    assert round(tf32.operations / 1e9, 1) == 608.8
    assert (round(tf32.milliseconds, 2), round(tf32.memory, 2)) == (3.69, 1.08)


def test_products_in_parts() -> None:
    full = msgspec.structs.replace(HEADLINE, precision="ieee")
    assert partial_products(full, ["HMMA.16816.F32"]) == 3
    assert partial_products(full, ["HMMA.16816.F32.BF16"]) == 6
    assert partial_products(full, []) == 1
    assert partial_products(HEADLINE, ["HMMA.16816.F32"]) == 1
