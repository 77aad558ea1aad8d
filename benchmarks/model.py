"""How well the static gate's model foretells times: every configuration for the headline shape, on the code for Ada.

Run as `TRITON_OVERRIDE_ARCH=sm89 python benchmarks/model.py --json FILE` on a GPU of at least that architecture:
Triton then generates what it does for an RTX 4090, the card runs it, the model foretells it with the card's own rates.
`--times FILE` takes the times from such a file, and needs no GPU: for a model that was changed. `--products FILE` does
the same with the plain products that benchmarks/ada.py has timed, one program in many tiles.

Times are of whole calls, medians of `ROUNDS`, one configuration after the other, with the clock that the card had
meanwhile. Errors are of the time that is foretold at that clock: a card that is capped by power is not at its boost.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from ada import SIZE, TILES, product_kernel

from fuzz.campaign.store import json_text
from fuzz.circumstances import circumstances
from fuzz.gate.build import Call, call_name
from fuzz.gate.capture import on_card
from fuzz.gate.clocks import ClockLog
from fuzz.gate.devices import CARDS, Card, card_name
from fuzz.gate.model import occupancy, predict
from fuzz.gate.sass import disassemble, usage
from fuzz.gate.static import build
from fuzz.gate.stopwatch import Inputs, Stopwatch
from fuzz.gate.workload import HEADLINE, operands
from fuzz.target import load_target

ROUNDS = 15
TARGETS = ("fused", "two-pass")
LEAST_SECONDS = 0.4  # so that the driver is asked for the clock often enough
KINDS = (("float32", "tf32"), ("float32", "ieee"), ("float16", "default"))


def times(target: str) -> list[dict[str, Any]]:
    """Median milliseconds of a target's calls, and the clock, by the names that the static gate gives."""
    loaded = load_target(target)
    found = []
    for dtype, precision in KINDS:
        case = msgspec.structs.replace(HEADLINE, dtype=dtype, precision=precision)
        x, weight, bias = operands(case, "cuda")
        inputs = Inputs([x])
        for config in (None, *loaded.abilities.configs):
            call = loaded.bind(msgspec.structs.replace(case, config=config))
            name = call_name(config, dtype, precision)
            ms, mhz = timed(functools.partial(call, weight=weight, bias=bias), inputs)
            found.append({"target": target, "name": name, "ms": ms, "mhz": mhz})
    return found


def timed(call: Callable[..., torch.Tensor], inputs: Inputs) -> tuple[float, float]:
    """Median milliseconds of a call, and the clock in MHz."""
    stopwatch = Stopwatch()

    def once() -> float:
        x = inputs.next()[1]
        return stopwatch.time(lambda: call(x))[0]

    first = [once() for _ in range(3)][-1]
    with ClockLog(f"GPU-{torch.cuda.get_device_properties().uuid}") as log:
        taken = [once() for _ in range(max(ROUNDS, int(1e3 * LEAST_SECONDS / (first + 1))))]
    return round(statistics.median(taken), 4), statistics.median(reading.clock for reading in log.readings)


def foretold(card: Card, workers: int) -> dict[tuple[str, str], Call]:
    """What the static gate says of the same calls."""
    built = build(TARGETS, card, workers)
    return {(target, call.name): call for target, calls in built.items() for call in calls}


def beside(measured: list[dict[str, Any]], calls: dict[tuple[str, str], Call], card: Card) -> list[dict[str, Any]]:
    """Measured and foretold times, one row for each program: configurations that launch the same are one."""
    rows: dict[Any, dict[str, Any]] = {}
    for one in measured:
        call = calls[one["target"], one["name"]]
        key = one["target"], *(built.name for built in call.builds)
        slower = card.clock / 1e6 / one["mhz"]
        row = {**one, "foretold_at_boost": round(call.milliseconds or 0.0, 4)}
        row["foretold"] = round(row["foretold_at_boost"] * slower, 4)
        rows.setdefault(key, {**row, "bound_by": call.builds[-1].pipe if len(call.builds) == 1 else _longest(call)})
    return list(rows.values())


def _longest(call: Call) -> str:
    return max(call.builds, key=lambda built: built.milliseconds or 0.0).pipe


def tiles(card: Card, ada: dict[str, Any]) -> list[dict[str, Any]]:
    """Measured and foretold times of the plain products of benchmarks/ada.py."""
    rows = []
    with on_card(card) as launches:
        left, right, out = (torch.empty(SIZE, SIZE, dtype=torch.half, device="cuda") for _ in range(3))
        for block_m, block_n, block_k, warps, stages in TILES:
            name = f"{block_m}x{block_n}x{block_k}, {warps} warps, {stages} stages"
            product_kernel[(1,)](
                left, right, out, SIZE, block_m, block_n, block_k, 8, num_warps=warps, num_stages=stages
            )
            launch = launches[-1]
            held = occupancy(card, usage(launch.cubin)[0], launch)
            told = predict(card, disassemble(launch.cubin), SIZE**3, warps, held.blocks)
            assert told is not None
            slower = card.clock / 1e6 / ada["product_mhz"]
            measured = 2 * SIZE**3 / ada["product"][name] / 1e9
            rows.append({"name": name, "ms": round(measured, 4), "foretold": round(told.milliseconds * slower, 4)})
            rows[-1]["bound"] = round(told.bound * slower, 4)
    return rows


def agreement(rows: list[dict[str, Any]], foretold: str = "foretold") -> dict[str, float]:
    """Spearman's rank correlation, and errors as parts of the measured time."""
    measured, told = (np.array([row[key] for row in rows]) for key in ("ms", foretold))
    errors = told / measured - 1
    return {
        "programs": len(rows),
        "rank_correlation": round(float(np.corrcoef(_ranks(measured), _ranks(told))[0, 1]), 3),
        "mean_absolute_error": round(float(np.abs(errors).mean()), 3),
        "mean_error": round(float(errors.mean()), 3),
        "worst_error": round(float(errors[np.abs(errors).argmax()]), 3),
    }


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def main() -> None:
    """Measure or read times, foretell them, print both, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--times", type=Path, help="a file of this program, whose times are taken")
    parser.add_argument("--products", type=Path, help="a file of benchmarks/ada.py, of the same kind of card")
    options = parser.parse_args()
    if os.environ.get("TRITON_OVERRIDE_ARCH") != "sm89":
        parser.error("set TRITON_OVERRIDE_ARCH=sm89: without it the card's own code would be timed")
    if options.times:
        figures = json.loads(options.times.read_text(encoding="utf-8"))
    else:
        card = card_name(torch.cuda.get_device_name())
        figures = {**circumstances("cuda"), "card": card, "times": [one for target in TARGETS for one in times(target)]}
    card = CARDS[figures["card"]]
    figures["rows"] = rows = beside(figures["times"], foretold(card, len(os.sched_getaffinity(0))), card)
    figures["all"] = agreement(rows)
    figures["within twice the best of their kind"] = agreement(fast(rows))
    if options.products:
        ada = json.loads(options.products.read_text(encoding="utf-8"))
        figures["product_rows"] = products = tiles(card, ada)
        figures["plain products"] = agreement(products)
        figures["plain products, by the busiest pipe alone"] = agreement(products, "bound")
    for row in sorted(rows, key=lambda row: row["ms"]):
        sys.stdout.write(
            f"{row['target']:9s} {row['name']:28s} measured {row['ms']:8.3f} ms, foretold {row['foretold']:8.3f} "
            f"at {row['mhz']:.0f} MHz, {row['bound_by']}\n"
        )
    for name, found in figures.items():
        if isinstance(found, dict) and "rank_correlation" in found:
            sys.stdout.write(f"{name}: {found}\n")
    if options.json:
        options.json.write_text(json_text(figures), encoding="utf-8")


def fast(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those within twice the best of their dtype and precision: what one chooses among."""
    kind = {id(row): " ".join(row["name"].split(" float")[1:]) for row in rows}
    best = {name: min(row["ms"] for row in rows if kind[id(row)] == name) for name in kind.values()}
    return [row for row in rows if row["ms"] <= 2 * best[kind[id(row)]]]


if __name__ == "__main__":
    main()
