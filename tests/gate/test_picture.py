"""Pictures: SVG that is the same for the same figures, with every name in it."""

from __future__ import annotations

from xml.etree import ElementTree

from fuzz.gate.devices import CARDS
from fuzz.report.gate_picture import Point, ladder_svg, roofline_svg

LADDERS = {"float32": {"two-pass": 20.4, "chosen": 1.35}, "float16": {"two-pass": 26.9, "chosen": 0.83}}


def words(svg: str) -> set[str]:
    ElementTree.fromstring(svg)  # it is XML
    return {text.text for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text") if text.text}


def test_a_ladder_names_versions_and_times() -> None:
    svg = ladder_svg("A heading", LADDERS, {"float32": 0.62, "float16": 0.62})
    assert {"A heading", "two-pass", "chosen", "20.40", "0.83", "roofline 0.62"} <= words(svg)
    assert svg == ladder_svg("A heading", LADDERS, {"float32": 0.62, "float16": 0.62}), "it changes for nothing"


def test_rooflines_name_cards_and_series() -> None:
    points = [Point("float32", "fused", 560.0, 4e14), Point("", "eager", 30.0, 5e12)]
    svg = roofline_svg([(name, card, points) for name, card in CARDS.items()])
    assert {*CARDS, "fused", "eager", "float32", "16 bits", "tf32, float32 without tensor cores"} <= words(svg)
