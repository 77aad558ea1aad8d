"""Writes docs/gate-measured.md from docs/measurements: what the gate found, card by card, and how well it foretells.

Run as `python benchmarks/gate_page.py`; it needs no GPU. The files are of `python -m fuzz gate runtime --json`,
`python -m fuzz profile --json` and benchmarks/model.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from fuzz.gate.measurement import Measurement
from fuzz.gate.profile import Profile, known_profiles
from fuzz.gate.runtime import Judgement, judge
from fuzz.gate.thresholds import read_thresholds
from fuzz.report.gate import profile_text, runtime_text

DOCS = Path(__file__).resolve().parent.parent / "docs"
RUNS = (1, 2, 3)
CARDS = ("h100", "h200")
HEAD = """\
# What the gate measured

Written by `benchmarks/gate_page.py` from the files in [measurements](measurements) that it names. [gate.md](gate.md)
says how to read it.
"""


def read(name: str) -> Any:
    """A file of docs/measurements."""
    return json.loads((DOCS / "measurements" / name).read_text(encoding="utf-8"))


def judged(name: str) -> Judgement:
    """A measurement, judged by the thresholds as they are now."""
    measured = msgspec.convert(read(name)["measurement"], Measurement)
    return judge(measured, *read_thresholds(measured.card))


def ratios(runs: list[Judgement]) -> list[str]:
    """A table of every comparison that is in all runs, and how far the runs are apart."""
    rows = ["| workload | against | " + " | ".join(f"run {run}" for run in RUNS) + " | apart |", "|---" * 6 + "|"]
    values = [{(claim.workload, claim.against): claim.found.value for claim in run.claims} for run in runs]
    for key in values[0]:
        if all(key in run for run in values):
            found = [run[key] for run in values]
            cells = [*key, *(f"{value:.3f}" for value in found), f"{max(found) / min(found) - 1:.1%}"]
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def on(card: str) -> list[str]:
    """What was measured on a card."""
    runs = [judged(f"gate-{card}-{run}.json") for run in RUNS]
    slowed = [judged(f"gate-{card}-slowed-{run}.json") for run in RUNS]
    profiles = msgspec.convert(read(f"profile-{card}.json")["kernels"], list[Profile])
    lines = [f"## {runs[0].measurement.card}: `gate runtime`, the first of three runs (gate-{card}-1.json)", ""]
    lines += [*fenced(runtime_text(runs[0])), "", "### Three runs, one after the other", "", *ratios(runs), ""]
    lines += [f"- run {number}: exit status {run.status}" for number, run in zip(RUNS, runs, strict=True)]
    lines += ["", f"### A kernel that was made a tenth slower (gate-{card}-slowed-1.json …; tests/gate/slowed.py)", ""]
    for number, run in zip(RUNS, slowed, strict=True):
        lines += [f"- run {number}: exit status {run.status}, {runtime_text(run).splitlines()[-1]}"]
    return [
        *lines,
        "",
        f"### `profile` (profile-{card}.json)",
        "",
        *fenced(profile_text(profiles, known_profiles())),
        "",
    ]


def foretold(model: dict[str, Any]) -> list[str]:
    """Tables of the model's agreement with what was measured."""
    found = {name: part for name, part in model.items() if isinstance(part, dict) and "rank_correlation" in part}
    rows = ["| | programs | rank correlation | mean error | mean absolute error | worst |", "|---" * 6 + "|"]
    for name, part in found.items():
        errors = (part[key] for key in ("mean_error", "mean_absolute_error", "worst_error"))
        cells = [name, str(part["programs"]), f"{part['rank_correlation']:.2f}", *(f"{error:+.0%}" for error in errors)]
        rows.append(f"| {' | '.join(cells)} |")
    rows += ["", "| target | program | MHz | measured, ms | foretold, ms | bound by |", "|---" * 6 + "|"]
    for row in sorted(model["rows"], key=lambda row: row["ms"]):
        cells = [row["target"], row["name"], f"{row['mhz']:.0f}", f"{row['ms']:.2f}", f"{row['foretold']:.2f}"]
        rows.append(f"| {' | '.join([*cells, row['bound_by']])} |")
    return rows


def fenced(text: str) -> list[str]:
    """A text as it was printed."""
    return ["```", text.rstrip(), "```"]


def main() -> None:
    """Write the page."""
    model = read("model-h100.json")
    where = f"on an {model['card']}, with the code that is generated for sm_89 (model-h100.json)"
    lines = [HEAD, *(line for card in CARDS for line in on(card))]
    lines += [f"## What the static gate foretells and what was measured, {where}", "", *foretold(model)]
    (DOCS / "gate-measured.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
