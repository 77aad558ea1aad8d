"""How much of what is wrong the suite finds, and whether it accuses what is right.

`python benchmarks/flaws.py` hunts every planted flaw (`tests/shared/planted`), each by a hunt of its own that replays
nothing; `python benchmarks/flaws.py --sound` hunts the sound kernels. What was measured goes to docs/measurements, and
docs/flaws.md is written from there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
from flaws_table import table

from fuzz.campaign.hunt import Hunt
from fuzz.campaign.isolation import InfrastructureError, UsageError
from fuzz.campaign.plan import Plan
from fuzz.campaign.reading import read_case, read_records
from fuzz.campaign.store import write
from fuzz.case import Case, encode_case
from fuzz.circumstances import circumstances
from fuzz.verdict import Verdict

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "shared"))

from planted import PLANTED, SOUND, plant, plant_sound  # noqa: E402  # the tests' folder is no installed package

_MEASUREMENTS: Final = ROOT / "docs" / "measurements"
_TABLE: Final = ROOT / "docs" / "flaws.md"
CORES: Final = 2
_SECONDS: Final = {"flaws": 60.0, "sound": 300.0}

Result = dict[str, Any]
Limits = dict[str, Any]
Measure = Callable[[str, int, Path, Limits], Result]


def main() -> int:
    """Measure, write down what was measured, and return 1 if a flaw was missed or a sound kernel accused."""
    options = _options()
    known, measure = (SOUND, measure_sound) if options.sound else (PLANTED, measure_flaw)
    names = options.only or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.stderr.write(f"flaws: there is none called {unknown[0]}\n")
        return 2
    half = "sound" if options.sound else "flaws"
    limits = {"seconds": options.seconds or _SECONDS[half], "device": options.device}
    document = {**circumstances(options.device), "hunts_at_a_time": options.jobs, "workers": CORES}
    document |= {"seconds": limits["seconds"], "seeds": options.seeds, "results": []}
    tasks = [(name, seed) for name in names for seed in range(1, options.seeds + 1)]
    file = options.json or (None if options.only else _MEASUREMENTS / f"{half}.json")
    if options.only and file and file.exists():
        _keep_others(json.loads(file.read_text()), document, names)
    for result in _measured(measure, tasks, limits, options.jobs):
        document["results"].append(result)
        sys.stdout.write(f"{_line(result)}\n")
        sys.stdout.flush()
        if file:
            # After each one, so that an interrupted measurement keeps what it has.
            document["results"].sort(key=lambda result: list(known).index(result["name"]))
            _write(file, json.dumps(document, indent=1, ensure_ascii=False))
    if options.table or not options.only:
        _write_table(options.table or _TABLE, {half: document})
    return int(any("error" in result or result["found"] == options.sound for result in document["results"]))


def _keep_others(measured: Result, document: Result, names: list[str]) -> None:
    """Take over what a file holds of all others, if they were measured under the same circumstances."""
    own = ("results", "hunts_at_a_time")
    if all(measured.get(key) == value for key, value in document.items() if key not in own):
        document["results"] = [result for result in measured["results"] if result["name"] not in names]
        document["hunts_at_a_time"] = max(document["hunts_at_a_time"], measured["hunts_at_a_time"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sound", action="store_true", help="hunt the sound kernels instead")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="these alone; they take their place in the file that --json names"
    )
    parser.add_argument("--seconds", type=float, help="length of one hunt: 60, for sound kernels 300")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="hunts of each, with the seeds 1 to N")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cpu is Triton's interpreter")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="hunts at a time, on two cores each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the measurements go")
    parser.add_argument("--table", type=Path, metavar="FILE", help="where the table goes: docs/flaws.md")
    return parser.parse_args()


def _measured(measure: Measure, tasks: list[tuple[str, int]], limits: Limits, jobs: int) -> Iterable[Result]:
    """Hunt in processes of their own, each on two cores of its own, and yield results in the order of the tasks."""
    shares = multiprocessing.Queue()
    cores = sorted(os.sched_getaffinity(0))
    for job in range(jobs):
        shares.put([cores[(CORES * job + core) % len(cores)] for core in range(CORES)])
    with ProcessPoolExecutor(jobs, initializer=_take_cores, initargs=(shares,)) as pool:
        yield from pool.map(_one, itertools.repeat(measure), tasks, itertools.repeat(limits))


def _take_cores(shares: multiprocessing.Queue[list[int]]) -> None:
    os.sched_setaffinity(0, shares.get())


def _one(measure: Measure, task: tuple[str, int], limits: Limits) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        return measure(*task, Path(folder), limits)


def measure_flaw(name: str, seed: int, folder: Path, limits: Limits) -> Result:
    """Hunt one planted flaw until it is found and shrunk, or the time is up."""
    flaw = PLANTED[name]
    result: Result = {"name": name, "room": flaw.room, "base": flaw.base, "wrong": flaw.wrong, "seed": seed}
    plan = Plan(
        target=str(plant(name, folder)),
        out=folder / "out",
        seed=seed,
        workers=CORES,
        dtypes=flaw.dtypes,
        exit_first=True,
        **limits,
    )
    return {**result, **_hunted(plan)}


def measure_sound(name: str, seed: int, folder: Path, limits: Limits) -> Result:
    """Hunt one sound kernel for as long as the time lasts."""
    sound = SOUND[name]
    plan = Plan(
        target=str(plant_sound(name, folder)),
        out=folder / "out",
        seed=seed,
        workers=CORES,
        dtypes=sound.dtypes,
        **limits,
    )
    return {"name": name, "base": sound.base, "way": sound.way, "seed": seed, **_hunted(plan)}


def _hunted(plan: Plan) -> Result:
    hunt = Hunt(plan)
    try:
        hunt.run()
    except (UsageError, InfrastructureError) as error:
        return {"found": False, "tried": 0, "error": str(error), "failures": []}
    failures = []
    for failure in hunt.failures.values():
        case = read_case(plan.out / failure.case_file).case
        verdict = _verdict_on(case, plan.out)
        failures.append(
            {
                "cases": failure.cases_to_find,
                "seconds": failure.seconds_to_find,
                "lane": verdict.lane,
                "kind": verdict.kind,
                "bucket": failure.bucket,
                "message": failure.message.replace(str(plan.out.parent), ""),
                "case": json.loads(encode_case(case)),
            }
        )
    census = hunt.census
    return {
        "found": bool(failures),
        "tried": census.cases,
        "declined": sum(census.declined.values()),
        "elapsed": round(hunt.elapsed, 1),
        "worst_error_ratio": dict(sorted(census.worst_error_ratio.items())),
        "failures": failures,
    }


def _verdict_on(case: Case, out: Path) -> Verdict:
    """Return the last failing verdict on a case in the records of a hunt."""
    written = json.loads(encode_case(case))
    verdicts = [
        msgspec.convert(record["verdict"], Verdict)
        for record in read_records(out / "records.jsonl")
        if record["event"] == "trial" and record["case"] == written
    ]
    return next(verdict for verdict in reversed(verdicts) if verdict.failed)


def _line(result: Result) -> str:
    if "error" in result:
        return f"{result['name']}: {result['error']}"
    keys = ("cases", "seconds", "lane", "kind", "bucket", "case")
    found = [" · ".join(str(failure[key]) for key in keys) for failure in result["failures"]]
    return f"{result['name']}: {' | '.join(found) or 'nothing'} ({result['tried']} tried in {result['elapsed']} s)"


def _write_table(file: Path, measured: dict[str, Result]) -> None:
    """Write the table of what was measured now, and of the other half as it was measured last."""
    for half in ("flaws", "sound"):
        kept = _MEASUREMENTS / f"{half}.json"
        if half not in measured and kept.exists():
            measured[half] = json.loads(kept.read_text())
    _write(file, table(measured.get("flaws"), measured.get("sound")))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, text.rstrip("\n") + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
