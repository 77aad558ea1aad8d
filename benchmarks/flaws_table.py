"""The measurements of `benchmarks/flaws.py` as the text of docs/flaws.md."""

from __future__ import annotations

import statistics
from collections import Counter
from itertools import groupby
from typing import Any, Final

import msgspec

from fuzz.case import decode_case
from fuzz.layout import arguments

Result = dict[str, Any]

_HEAD: Final = """\
# What the suite finds

Written by `python benchmarks/flaws.py`, and the second table by `python benchmarks/flaws.py --sound`: run these again
instead of editing this file. The figures are in [measurements](measurements).
"""


def table(flaws: Result | None, sound: Result | None) -> str:
    """Return the whole text; a part that was never measured is left out."""
    return "\n".join([_HEAD, *(_flaws(flaws) if flaws else []), *(_sound(sound) if sound else [])])


def _flaws(document: Result) -> list[str]:
    groups = _by_name(document)
    found = sum(any(run["found"] for run in runs) for runs in groups)
    lines = [
        "## Planted flaws",
        "",
        f"Each is one small change in a sound kernel (`tests/shared/planted`). {found} of {len(groups)} were found by "
        f"a hunt of at most {document['seconds']:.0f} s{_repeated(document)}. {_circumstances(document)} Cases and "
        "seconds are those until the flaw was first seen; loading the target comes before, and shrinking on top. "
        f"{_in_short(groups)} "
        "The lanes are those of [correctness.md](correctness.md).",
        "",
        "| room | flaw | cases until found | seconds | lane | shrunk case |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return [*lines, *(_flaw_row(runs) for runs in groups), ""]


def _in_short(groups: list[list[Result]]) -> str:
    hits = [run["failures"][0] for runs in groups for run in runs if run["found"]]
    if not hits:
        return ""
    cases, seconds = ([hit[name] for hit in hits] for name in ("cases", "seconds"))
    lanes = Counter(hit["lane"] for hit in hits).most_common()
    return (
        f"The median is {statistics.median(cases):g} cases and {statistics.median(seconds):g} s, the slowest took "
        f"{max(seconds):g} s. By lane: {', '.join(f'{lane} {count}' for lane, count in lanes)}."
    )


def _flaw_row(runs: list[Result]) -> str:
    first = runs[0]
    hits = [run["failures"][0] for run in runs if run["found"]]
    what = [first["room"], f"`{first['name']}`: {first['wrong']}"]
    if not hits:
        tried = _range([run["tried"] for run in runs])
        return _row([*what, f"not found in {tried}", _range([run["elapsed"] for run in runs]), "", ""])
    missed = f", not found in {len(runs) - len(hits)} of {len(runs)} hunts" if len(hits) < len(runs) else ""
    cases, seconds = ([hit[name] for hit in hits] for name in ("cases", "seconds"))
    lanes = ", ".join(dict.fromkeys(hit["lane"] for hit in hits))
    return _row([*what, _range(cases) + missed, _range(seconds), lanes, _shown(hits[0]["case"])])


def _sound(document: Result) -> list[str]:
    groups = _by_name(document)
    accused = sum(bool(run["failures"]) for runs in groups for run in runs)
    cases = sum(run["tried"] for runs in groups for run in runs)
    lines = [
        "## Sound kernels",
        "",
        f"Each was hunted for {document['seconds']:.0f} s{_repeated(document)}: {cases} cases, "
        f"of which {accused or 'none'} accused a sound kernel. {_circumstances(document)} "
        "The last column is the largest |result − truth| / allowed error.",
        "",
        "| kernel | cases | failures | error / allowed |",
        "| --- | --- | --- | --- |",
    ]
    return [*lines, *(_sound_row(runs) for runs in groups), ""]


def _sound_row(runs: list[Result]) -> str:
    first = runs[0]
    ratios: dict[str, float] = {}
    for run in runs:
        for name, ratio in run.get("worst_error_ratio", {}).items():
            ratios[name] = max(ratio, ratios.get(name, 0.0))
    cases, failures = sum(run["tried"] for run in runs), sum(len(run["failures"]) for run in runs)
    shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    return _row([f"`{first['name']}`: {first['way']}", str(cases), str(failures), shown])


def _by_name(document: Result) -> list[list[Result]]:
    results = document["results"]
    return [list(runs) for _, runs in groupby(results, key=lambda result: result["name"])]


def _repeated(document: Result) -> str:
    return f", once for each of {document['seeds']} seeds" if document["seeds"] > 1 else ""


def _circumstances(document: Result) -> str:
    machine = document["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    jobs = document["hunts_at_a_time"]
    at_a_time = f"up to {jobs} hunts" if jobs > 1 else "one hunt"
    return (
        f"Measured on {machine['cores']} cores of {machine['processor']}, {document['device']}, {versions}, with "
        f"{document['workers']} workers for each hunt and {at_a_time} at a time."
    )


def _range(numbers: list[float]) -> str:
    middle = f"{statistics.median(numbers):g}"
    return middle if len(numbers) == 1 else f"{middle} ({min(numbers):g} to {max(numbers):g})"


def _shown(fields: dict[str, Any]) -> str:
    case = msgspec.structs.replace(decode_case(msgspec.json.encode(fields)), seed=0)
    return f"`{named}`" if (named := arguments(case, always=())) else "the simplest call"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
