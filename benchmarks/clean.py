"""How many cases our own kernels pass, and how near their errors come to what is allowed.

Run as `python benchmarks/clean.py [--targets fused two-pass] [--hunts N] [--seconds S] --json FILE`. It starts N hunts
side by side, each a process of its own with its own seed, takes the targets in turn, and adds up what they report.
`TRITON_OVERRIDE_ARCH=sm89` in the environment makes a newer card run the code of an Ada one, and is written down. Exit
status 1 if any hunt found a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from fuzz.circumstances import circumstances


def main() -> int:
    """Hunt, add up, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--targets", nargs="+", default=["fused", "two-pass"])
    parser.add_argument("--hunts", type=int, default=2, help="processes side by side, each with one worker")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1, help="seed of the first hunt")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--dtype", action="append", default=[], help="for targets that promise float32 alone")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gpus = visible_gpus()
        hunts = [start(number, options, Path(folder), gpus) for number in range(options.hunts)]
        for hunt in hunts:
            hunt.wait()
        summaries = [json.loads((Path(folder) / str(n) / "summary.json").read_bytes()) for n in range(options.hunts)]
    document = {**circumstances(summaries[0]["device"]), "gpus": len(gpus), "hunts": options.hunts, "targets": {}}
    for place, target in enumerate(options.targets):
        document["targets"][target] = total(summaries[place :: len(options.targets)])
    options.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return int(any(each["failures"] or not each["cases"] for each in document["targets"].values()))


def visible_gpus() -> list[str]:
    """Return the numbers of the GPUs that hunts may use; none where there is no driver."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()


def start(number: int, options: argparse.Namespace, folder: Path, gpus: list[str]) -> subprocess.Popen[bytes]:
    """Start one hunt, on the next of the GPUs."""
    target = options.targets[number % len(options.targets)]
    command = [sys.executable, "-m", "fuzz", "run", "--target", target, "--time", f"{options.seconds:g}s"]
    command += ["--workers", "1", "--seed", str(options.seed + number), "--out", str(folder / str(number))]
    command += ["--device", options.device, *(word for dtype in options.dtype for word in ("--dtype", dtype))]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else None
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def total(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up the summaries of one target."""
    features: Counter[str] = Counter()
    worst: dict[str, float] = {}
    for summary in summaries:
        features.update(summary["features"])
        for name, ratio in summary["worst_error_ratio"].items():
            worst[name] = max(ratio, worst.get(name, 0.0))
    return {
        "cases": sum(summary["cases"] for summary in summaries),
        "seconds": max(summary["seconds"] for summary in summaries),
        "declined": sum(summary["declined"] for summary in summaries),
        "processes_lost": sum(summary["restarts"] for summary in summaries),
        "seeds": [summary["seed"] for summary in summaries],
        "failures": [failure for summary in summaries for failure in summary["failures"]],
        "worst_error_ratio": dict(sorted(worst.items())),
        "features": dict(sorted(features.items())),
    }


if __name__ == "__main__":
    sys.exit(main())
