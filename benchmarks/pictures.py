"""Draws docs/pictures/roofline.svg and ladder.svg from docs/measurements, and what the static gate foretells.

Run as `python benchmarks/pictures.py`; it needs no GPU.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec

from fuzz.case import Case
from fuzz.gate.devices import CARDS
from fuzz.gate.static import build
from fuzz.gate.workload import HEADLINE, floor
from fuzz.report.gate_picture import Point, ladder_svg, roofline_svg

DOCS = Path(__file__).resolve().parent.parent / "docs"
CONTENDERS = ("fused", "compile", "eager")
NAMED = {"headline": "float32", "headline ieee": "ieee", "headline fp16 channels_last": "float16"}
FORETOLD = {"chosen float32 tf32": "float32", "chosen float32 ieee": "ieee", "chosen float16": "float16"}


def measured(name: str) -> Any:
    """A file of docs/measurements."""
    return json.loads((DOCS / "measurements" / name).read_text(encoding="utf-8"))


def case_of(workload: dict[str, Any]) -> Case:
    """The call of a workload of benchmarks/speed.py."""
    k, step, side = workload["k"], workload["stride"], workload["padding"]
    return Case(
        n=workload["n"], c_in=workload["c"], h=workload["h"], w=workload["w"], c_out=workload["c_out"], kh=k, kw=k,
        stride=(step, step), padding=(side, side), groups=workload["groups"], dtype=workload["dtype"],
        precision=workload["precision"] or "default", bias=True,
    )  # fmt: skip


def reached(card: str, speed: dict[str, Any]) -> list[Point]:
    """Every workload of benchmarks/speed.py, as it was measured."""
    points = []
    for workload in speed["workloads"]:
        least = floor(CARDS[card], case_of(workload))
        for contender in CONTENDERS:
            name = NAMED.get(workload["name"], "") if contender == "fused" else ""
            rate = least.operations / workload["ms"][contender] * 1e3
            points.append(Point(name, contender, least.operations / least.bytes, rate))
    return points


def foretold(card: str) -> list[Point]:
    """The headline in each kind of product, as the static gate foretells it, for both kernels."""
    points = []
    for target, calls in build(("fused", "two-pass"), CARDS[card], len(os.sched_getaffinity(0))).items():
        for call in calls:
            if call.name in FORETOLD and call.milliseconds:
                kind = FORETOLD[call.name]
                dtype = "float16" if kind == "float16" else "float32"
                case = msgspec.structs.replace(HEADLINE, dtype=dtype, precision="ieee" if kind == "ieee" else "tf32")
                least = floor(CARDS[card], case)
                rate = least.operations / call.milliseconds * 1e3
                points.append(Point(kind, f"{target}, at best", least.operations / least.bytes, rate))
    return points


def main() -> None:
    """Draw both."""
    speed, ladder = measured("speed-h100.json"), measured("ladder-h100.json")
    here, card = ladder["card"], "RTX 4090"
    roofline = roofline_svg(
        [
            (f"{here}: 28 shapes, measured", CARDS[here], reached(here, speed)),
            (f"{card}: the headline, foretold from machine code", CARDS[card], foretold(card)),
        ]
    )
    (DOCS / "pictures" / "roofline.svg").write_text(roofline, encoding="utf-8")
    floors = {
        kind: floor(CARDS[here], case).milliseconds
        for kind, case in {
            "float32": msgspec.structs.replace(HEADLINE, precision="tf32"),
            "ieee": msgspec.structs.replace(HEADLINE, precision="ieee"),
            "float16": msgspec.structs.replace(HEADLINE, dtype="float16"),
        }.items()
    }
    heading = f"The headline shape on an {here}: ms by version"
    (DOCS / "pictures" / "ladder.svg").write_text(ladder_svg(heading, ladder["ms"], floors), encoding="utf-8")


if __name__ == "__main__":
    main()
