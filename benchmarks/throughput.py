"""How many cases a second a hunt tries, by its number of workers.

`python benchmarks/throughput.py --workers 1 2` hunts with each number in turn, several times over, so that a machine
that slows down slows all of them. Hunts of one seed draw the same cases, or nearly so, however many workers share them:
what is measured is how long so many of them take. It goes to a file of docs/measurements.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fuzz.campaign.hunt import Hunt
from fuzz.campaign.plan import Plan
from fuzz.campaign.store import write
from fuzz.circumstances import circumstances

_MEASUREMENTS: Final = Path(__file__).resolve().parent.parent / "docs" / "measurements"
_LOOK_SECONDS: Final = 0.05


def main() -> int:
    """Measure, print the medians, and write down all of it."""
    options = _options()
    speeds: dict[int, list[float]] = {workers: [] for workers in options.workers}
    for number in range(options.rounds):
        for workers in options.workers:
            speed = cases_per_second(options, workers, seed=number)
            speeds[workers].append(round(speed, 2))
            sys.stdout.write(f"{workers} workers: {speed:.2f} cases/s\n")
            sys.stdout.flush()
    medians = {workers: statistics.median(found) for workers, found in speeds.items()}
    first = options.workers[0]
    document: dict[str, Any] = {
        **circumstances(options.device),
        "target": options.target,
        "cases": options.cases,
        "cases_before": options.warm_up,
        "cases_per_second": speeds,
        "median": medians,
        "of_linear": {workers: round(median * first / (medians[first] * workers), 3)
                      for workers, median in medians.items()},
    }  # fmt: skip
    write(options.json, json.dumps(document, indent=1) + "\n")
    sys.stdout.write(f"of linear scaling: {document['of_linear']}\n{options.json}\n")
    return 0


def cases_per_second(options: argparse.Namespace, workers: int, seed: int) -> float:
    """Hunt, and return the speed once all workers are at work."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(
            target=options.target,
            out=Path(folder) / "out",
            seed=seed,
            max_cases=options.warm_up + options.cases,
            workers=workers,
            device=options.device,
        )
        hunt = Hunt(plan)
        with _watched(hunt) as seen:
            hunt.run()
    begin = next(entry for entry in seen if entry[1] >= options.warm_up)
    return (seen[-1][1] - begin[1]) / (seen[-1][0] - begin[0])


@contextmanager
def _watched(hunt: Hunt) -> Iterator[list[tuple[float, int]]]:
    """Note now and then how many cases a hunt has tried."""
    seen: list[tuple[float, int]] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_SECONDS):
            seen.append((hunt.elapsed, hunt.census.tried))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        time.sleep(_LOOK_SECONDS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="fused")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--cases", type=int, default=600, help="how many are timed")
    parser.add_argument("--warm-up", type=int, default=200, help="how many come before")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cpu is Triton's interpreter")
    parser.add_argument("--json", type=Path, default=_MEASUREMENTS / "throughput-cpu.json")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
