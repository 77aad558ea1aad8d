"""A verdict as plain text."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz.case import Case
from fuzz.facets import Attribute
from fuzz.report.wrong_elements import wrong_text
from fuzz.verdict import Verdict

if TYPE_CHECKING:
    from fuzz.campaign.investigation import Finding

_CLAIM = {
    "exact": "every sound implementation gives these bits, whatever its order of summation or precision",
    "interval": "the allowed error is an upper bound for any order of summation (docs/correctness.md)",
    "relations": "two calls must agree whose results follow from one another, whatever the right result is",
    "state": "the same call is right on a fresh target: something is kept between calls that should not be",
    "access": "each address that the kernel touched was looked up among the tensors that it was given",
    "guards": "memory around every tensor was compared byte for byte before and after the call",
    "errors": "PyTorch's own behaviour on the same call is what was compared with",
    "process": "the target ran in a process of its own, which was lost",
}


def verdict_text(case: Case, verdict: Verdict) -> str:
    """Return the lines that say what a trial found."""
    if verdict.status == "pass":
        return f"passes: {_pass_detail(verdict)}\n{case!r}"
    if verdict.status == "declined":
        return f"declined: {verdict.message}\n{case!r}"
    lines = [f"{verdict.kind} · {verdict.message}", verdict.where, repr(case)]
    return "\n".join(line for line in lines if line)


def failure_report(name: str, finding: Finding, target: str, folder: Path) -> str:
    """Return the text of a failure's `report.txt`."""
    again = f"python -m fuzz repro {shlex.quote(str(folder / 'failures' / name))}"
    verdict = finding.verdict
    return "\n".join(
        [
            f"failure {name}: {finding.bucket}",
            "",
            verdict_text(finding.case, verdict),
            "",
            *_seen_lines(finding, again),
            *_attribute_lines(finding.attributes),
            f"target:   {target}",
            f"lane:     {verdict.lane}: {_CLAIM[verdict.lane]}",
            f"again:    {again}",
            f"compare:  {again} --target fused",
            "",
        ]
    )


def _seen_lines(finding: Finding, again: str) -> list[str]:
    """Show the case before it was shrunk: a call of one element has no stripes and no tails of tiles."""
    seen, lines = finding.seen, []
    if seen.case != finding.case:
        lines += ["as first seen:", "", verdict_text(seen.case, seen.verdict), f"again: {again}/seen.json", ""]
    if seen.verdict.wrong and seen.verdict.wrong.has_shape:
        lines += [wrong_text(seen.verdict.wrong), ""]
    return lines


def _attribute_lines(found: tuple[Attribute, ...]) -> list[str]:
    if not found:
        return []
    lines = ["what it depends on, each thing taken out in turn:"]
    for attribute in sorted(found, key=lambda attribute: not attribute.necessary):
        outcome = "then passes: necessary" if attribute.necessary else "fails all the same"
        lines.append(f"  {attribute.name}: {attribute.without}: {outcome}")
    return [*lines, ""]


def _pass_detail(verdict: Verdict) -> str:
    if verdict.lane == "exact":
        return "bit for bit"
    if verdict.lane == "interval":
        return f"within the bound, largest error {verdict.error_ratio:.3g} of what is allowed"
    return "rejected, as PyTorch rejects it"
