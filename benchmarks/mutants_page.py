"""Writes docs/mutants.md and its picture from what was measured: `mutants --json` and `benchmarks/kernelbench.py`.

Run as `python benchmarks/mutants_page.py` after both.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

from fuzz.mutation.equivalents import one_line
from fuzz.mutation.matrix import LANES, row, rows
from fuzz.mutation.record import Record, read_record
from fuzz.mutation.score import Result
from fuzz.report.matrix_picture import matrix_svg

_DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
_SOURCE_WIDTH: Final = 90
# Those that do not run are no mutants that a check could let pass, and the same program should pass.
_COUNTED: Final = ("killed", "timed out", "survived")


def main() -> None:
    """Write the page and the picture."""
    record = read_record(_DOCS / "measurements" / "mutants.json")
    protocol = json.loads((_DOCS / "measurements" / "kernelbench.json").read_text(encoding="utf-8"))
    accepted = accepted_by_operator(record, protocol)
    (_DOCS / "pictures").mkdir(exist_ok=True)
    (_DOCS / "pictures" / "mutants.svg").write_text(matrix_svg(record, accepted), encoding="utf-8")
    (_DOCS / "mutants.md").write_text(page(record, protocol, accepted), encoding="utf-8")


def accepted_by_operator(record: Record, protocol: dict[str, Any]) -> dict[str, Counter[str]]:
    """Return for each tolerance how many mutants of each operator the protocol accepts."""
    counts: dict[str, Counter[str]] = {_name(tolerance): Counter() for tolerance in protocol["tolerances"]}
    for kernel in record.kernels:
        for result in kernel.results:
            if result.status in _COUNTED:
                for tolerance in protocol["accepted"][kernel.target][result.name]:
                    counts[_name(tolerance)][result.operator] += 1
    return counts


def _name(tolerance: object) -> str:
    return f"allclose {float(str(tolerance)):.0e}".replace("e-0", "e-")


def page(record: Record, protocol: dict[str, Any], accepted: dict[str, Counter[str]]) -> str:
    """Return the page's text."""
    return "\n".join(
        [
            *_head(record),
            *_protocol(record, protocol, accepted),
            *_lanes(record),
            *_operators(record),
            "## Survivors",
            "",
            *_listed(record, "survived"),
            "## The same program",
            "",
            "Each was tried as well, and gives the same bits as the kernel for every case of the corpus; what only",
            "chooses between sound ways passed all cases instead.",
            "",
            *_listed(record, "equivalent"),
            "## Not mutated",
            "",
            "Host code that no trial comes to: a mutant of it would say nothing about the suite. It is gradients, what",
            "only a GPU runs, and what only arguments of other types reach; `tests/fused` tests these.",
            "",
            *[f"- `{kernel.file}`, parts of: {', '.join(kernel.unreached) or 'nothing'}" for kernel in record.kernels],
            "",
        ]
    )


def _head(record: Record) -> list[str]:
    total = row("all", record.results)
    versions = ", ".join(f"{name} {version}" for name, version in record.circumstances["versions"].items())
    machine, counted = record.circumstances["machine"], total.killed + total.survived
    return [
        "# Mutants",
        "",
        "Written by `python benchmarks/mutants_page.py` from [measurements](measurements); run that again instead of",
        "editing this file.",
        "",
        f"{total.made} wrong changes to `fused/conv_scale_min.py` and `fused/two_pass.py` were tried one at a time,",
        f"each on {record.max_cases} cases, or those of them that come to it. {total.broken} do not run at all.",
        f"Of the others {total.equivalent} compute the same, which is said below for each, and",
        f"**{total.killed} of {counted} were killed**: half of them within",
        f"{total.median:g} cases, 95 % within {total.most}. The whole took",
        f"{record.seconds / 60:.1f} minutes on {machine['cores']} cores of {machine['processor']} ({versions}).",
        *([f"It was interrupted: {record.untried} more are left."] if record.untried else []),
        "",
        "A mutant counts as killed only by a case that the kernel without the change passes. `python -m fuzz mutants`",
        "measures it again, `--target FILE` does it for another kernel, and `--only NAME` tries one mutant.",
        "",
        "![Kill matrix](pictures/mutants.svg)",
        "",
    ]


def _protocol(record: Record, protocol: dict[str, Any], accepted: dict[str, Counter[str]]) -> list[str]:
    total, shape = row("all", record.results), protocol["shape"]
    counted = total.killed + total.survived
    return [
        "## The same mutants under KernelBench's protocol",
        "",
        f"One shape (x {shape['x']}, {shape['c_out']} channels, {shape['kernel']}×{shape['kernel']}, scale",
        f"{shape['scale']:g}: KernelBench's own, scaled down to what Triton's interpreter can do), inputs from",
        f"`torch.rand`, {protocol['trials']} trials, `torch.allclose` (`benchmarks/kernelbench.py`).",
        "",
        "| check | mutants that it accepts | of |",
        "| --- | --- | --- |",
        f"| `python -m fuzz mutants` | {total.survived} | {counted} |",
        *[f"| {name} | {counts.total()} | {counted} |" for name, counts in accepted.items()],
        "",
    ]


def _lanes(record: Record) -> list[str]:
    total = row("all", record.results)
    return [
        "## By lane",
        "",
        "`first`: it refused the mutant first. `sees`: it refuses the case that killed the mutant, where the lanes",
        "before it are blind. `alone`: no other lane refuses that case. [correctness.md](correctness.md) has them all.",
        "",
        "| lane | first | sees | alone |",
        "| --- | --- | --- | --- |",
        *[f"| {lane} | {total.first[lane]} | {total.seen[lane]} | {total.alone[lane]} |" for lane in LANES],
        "",
    ]


def _operators(record: Record) -> list[str]:
    return [
        "## By operator",
        "",
        "| operator | mutants | do not run | killed | the same | survived | median cases | 95 % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *[
            f"| {each.operator} | {each.made} | {each.broken} | {each.killed} | {each.equivalent} | {each.survived} "
            f"| {each.median:g} | {each.most} |"
            for each in rows(record.results)
        ],
        "",
    ]


def _listed(record: Record, status: str) -> list[str]:
    found = [(kernel.file, result) for kernel in record.kernels for result in kernel.results if result.status == status]
    if not found:
        return ["None.", ""]
    return [*(f"- `{file}`, {_change(result)}" for file, result in found), ""]


def _change(result: Result) -> str:
    before, after = (one_line(text)[:_SOURCE_WIDTH] for text in (result.before, result.after))
    why = f": {result.message}" if result.message else ""
    return f"line {result.line}, {result.name.rpartition('/')[0]}: `{before}` → `{after}`{why}"


if __name__ == "__main__":
    main()
