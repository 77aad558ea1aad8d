"""How much memory a hunt's processes hold over many cases: flat, or it would not last a night.

`python benchmarks/endurance.py` hunts for a hundred thousand cases with one worker, notes what the process that keeps
the records and the one that holds the target have in memory, and draws it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Final

import numpy as np

from fuzz.campaign.footprint import bytes_held
from fuzz.campaign.hunt import Hunt
from fuzz.campaign.plan import Plan
from fuzz.campaign.store import write
from fuzz.circumstances import circumstances
from fuzz.report.drawing import BLUE, INK, bare, picture

_DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
_LOOK_SECONDS: Final = 1.0
_MOST_POINTS: Final = 400
# What comes before is loading, and caches that fill.
_SETTLED: Final = 0.1


def main() -> int:
    """Hunt, write down what was seen, draw it, and return 1 if the target was accused."""
    options = _options()
    hunt, seen, status = watched(options)
    half = seen[int(_SETTLED * len(seen)) :]
    document: dict[str, Any] = {
        **circumstances(options.device),
        "target": options.target,
        "cases": hunt.census.tried,
        "processes_lost": hunt.census.restarts,
        "columns": ["cases", "MiB that the hunt holds", "MiB that the target's process holds"],
        "seen": half[:: max(1, len(half) // _MOST_POINTS)],
        "MiB_per_100000_cases": {name: round(slope(half, column), 1)
                                 for column, name in ((1, "hunt"), (2, "target's process"))},
    }  # fmt: skip
    write(options.json, json.dumps(document, indent=None) + "\n")
    write(options.picture, svg(document))
    sys.stdout.write(f"{document['cases']} cases, growth {document['MiB_per_100000_cases']}\n{options.json}\n")
    return status


def watched(options: argparse.Namespace) -> tuple[Hunt, list[tuple[int, float, float]], int]:
    """Hunt, and note once a second after how many cases which process holds how much."""
    seen: list[tuple[int, float, float]] = []
    over = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(target=options.target, out=Path(folder) / "out", seed=1, max_cases=options.cases,
                    device=options.device)  # fmt: skip
        hunt = Hunt(plan)

        def look() -> None:
            while not over.wait(_LOOK_SECONDS):
                held = [bytes_held(pid) / 2**20 for pid in (os.getpid(), *children())]
                if len(held) > 1 and hunt.census.tried:
                    seen.append((hunt.census.tried, round(held[0], 1), round(max(held[1:]), 1)))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            status = hunt.run()
        finally:
            over.set()
            thread.join()
    return hunt, seen, status


def children() -> list[int]:
    """Return the processes that this one has started."""
    tasks = Path("/proc/self/task")
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def slope(seen: list[tuple[int, float, float]], column: int) -> float:
    """Return by how many MiB a process grows over 100,000 cases: the slope of the line of least squares."""
    cases, held = (np.array([row[place] for row in seen]) for place in (0, column))
    return float(np.polyfit(cases, held, 1)[0] * 1e5)


def svg(document: dict[str, Any]) -> str:
    """Return the picture: memory over cases."""
    cases, hunt, target = zip(*document["seen"], strict=True)
    with picture(6.5, 3.0) as drawing:
        place = drawing.axes()
        place.plot(cases, target, color=BLUE, linewidth=1.2)
        place.plot(cases, hunt, color=INK, linewidth=1.2)
        for held, name, colour in ((target, "the target's process", BLUE), (hunt, "the hunt", INK)):
            above = cases[0], max(held[: len(held) // 8])
            place.annotate(name, above, (0, 8), textcoords="offset points", color=colour)
        place.set(xlabel="cases", ylabel="MiB held", xlim=(0, None), ylim=(0, 1.25 * max(*target, *hunt)))
        bare(place)
    return drawing.svg


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="fused")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cpu is Triton's interpreter")
    parser.add_argument("--json", type=Path, default=_DOCS / "measurements" / "endurance.json")
    parser.add_argument("--picture", type=Path, default=_DOCS / "pictures" / "endurance.svg")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
