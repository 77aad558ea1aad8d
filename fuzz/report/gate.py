"""What the performance gate found, in words."""

from __future__ import annotations

import statistics

from fuzz.gate.build import Build, Call
from fuzz.gate.devices import Card
from fuzz.gate.measurement import Timing
from fuzz.gate.profile import METRICS, Profile, Profiles
from fuzz.gate.runtime import ROOFLINE, Claim, Judgement, power_capped
from fuzz.gate.static import Finding
from fuzz.gate.walk import Rung, fastest

_HEAD = ("build", "registers", "spilled", "shared", "blocks", "held by", "loads", "ms", "bound by")


def static_text(finding: Finding, card: Card) -> str:
    """The table of a target's builds, what is wrong with them, and the verdict."""
    lines = [f"{finding.target} for the {card.name}, headline shape; ms: its main loop, simulated, or the memory"]
    lines += _table([_HEAD, *map(_row, finding.builds)])
    lines += _table([("call", "ms", "roofline", "of it"), *filter(None, map(_call, finding.calls))])
    lines += [f"worse: {complaint}" for complaint in finding.complaints]
    lines.append(_verdict(finding))
    return "\n".join(lines) + "\n"


def ladder_text(name: str, rungs: list[Rung], card: Card) -> str:
    """The tiles that were tried, in the order in which they were, and the fastest."""
    sizes = list(rungs[0].tile)
    head = (*sizes, "warps", "registers", "spilled", "shared", "blocks", "ms", "bound by", "")
    lines = [f"{name} for the {card.name}: {rungs[0].build.name}", *_table([head, *map(_rung, rungs)])]
    best = fastest(rungs)
    if best is None:
        return "\n".join([*lines, "no tile is to be recommended", ""])
    tile = ", ".join(f"{size} {value}" for size, value in best.tile.items())
    return "\n".join([*lines, f"fastest: {tile}, {best.warps} warps, {best.build.milliseconds:.2f} ms", ""])


def _rung(rung: Rung) -> tuple[str, ...]:
    build, tile = rung.build, tuple(map(str, rung.tile.values()))
    if build.error or not build.clocks:
        return (*tile, str(rung.warps), *[""] * 6, rung.remark)
    figures = build.registers, build.spilled or "", build.shared, build.blocks, f"{build.milliseconds:.2f}", build.pipe
    return (*tile, str(rung.warps), *map(str, figures), rung.remark)


def runtime_text(judgement: Judgement) -> str:
    """The times of all contenders, what they were held against, and the verdict."""
    measured = judgement.measurement
    versions = ", ".join(f"{name} {version}" for name, version in measured.circumstances["versions"].items())
    lines = [f"{measured.target} on {measured.card} ({versions}); thresholds of [{judgement.section}]"]
    for timing in measured.timings:
        lines += ["", f"{timing.workload}: {_circumstances(timing)}", *_comparisons(judgement, timing)]
        lines += [f"wrong: {complaint}" for complaint in timing.complaints]
        if timing.workload in judgement.refusals:
            lines.append(f"no verdict: {judgement.refusals[timing.workload]}")
    lines += [f"{workload}: not timed, {reason}" for workload, reason in measured.skipped.items()]
    return "\n".join([*lines, "", _runtime_verdict(judgement)]) + "\n"


def profile_text(kernels: list[Profile], before: Profiles) -> str:
    """Metrics by kernel, and beside them what the unfused kernels had."""
    columns = [*kernels, *before.kernels]
    rows = [("", *(one.target for one in columns)), ("", *(one.kernel for one in columns))]
    rows += [(name, *(_figure(one.metrics.get(name)) for one in columns)) for name in METRICS]
    return "\n".join([*_table(rows), f"the last {len(before.kernels)}: {before.source}"]) + "\n"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if value == int(value) else f"{value:.2f}"


def _comparisons(judgement: Judgement, timing: Timing) -> list[str]:
    if not timing.milliseconds:
        return []
    claims = {claim.against: claim for claim in judgement.claims if claim.workload == timing.workload}
    rows: list[tuple[str, ...]] = [("", "ms", "times the target's", "99 % interval", "at least", "")]
    for name, time in judgement.medians[timing.workload].items():
        rows.append((name, f"{time.value:.4f}", *(_compared(claims[name]) if name in claims else [""] * 4)))
    if ROOFLINE in claims:
        rows.append((ROOFLINE, "", *_compared(claims[ROOFLINE])))
    return _table(rows)


def _compared(claim: Claim) -> tuple[str, ...]:
    found = claim.found
    asked = "" if claim.threshold is None else f"{claim.threshold:g}"
    return f"{found.value:.3f}", f"{found.low:.3f} – {found.high:.3f}", asked, "missed" if claim.missed else ""


def _circumstances(timing: Timing) -> str:
    if not timing.milliseconds:
        return "not timed, since its results are wrong"
    rounds = len(timing.milliseconds["target"])
    said = f"{rounds} rounds, error {timing.error_ratio:.2g} of the allowed one"
    if not timing.readings:
        return f"{said}, the driver says nothing of its clocks"
    clock = statistics.median(reading.clock for reading in timing.readings)
    heat = max(reading.temperature for reading in timing.readings)
    capped = power_capped(timing.readings)
    return f"{said}, {clock:.0f} MHz, at most {heat:.0f} °C" + (
        f", power held it down in {capped:.0%}" if capped else ""
    )


def _runtime_verdict(judgement: Judgement) -> str:
    if judgement.status == 3:
        return f"no verdict for {', '.join(judgement.refusals)}"
    missed = [claim for claim in judgement.claims if claim.missed and claim.workload not in judgement.refusals]
    wrong = [timing.workload for timing in judgement.measurement.timings if timing.complaints]
    words = [f"wrong results for {', '.join(wrong)}"] if wrong else []
    words += [
        f"{claim.workload} against {claim.against}: {claim.found.low:.3f} at the lower end, must be {claim.threshold:g}"
        for claim in missed
    ]
    return f"missed: {'; '.join(words)}" if words else "passed"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _verdict(finding: Finding) -> str:
    compared = f"{finding.compared} of {len(finding.builds)} builds compared with the baseline"
    if finding.note:
        compared = f"not compared: {finding.note}"
    complaints = "1 complaint" if len(finding.complaints) == 1 else f"{len(finding.complaints) or 'no'} complaints"
    return f"{finding.target}: {complaints}; {compared}"


def _call(call: Call) -> tuple[str, ...] | None:
    """A call as the target chooses to do it, under the roofline."""
    if not (call.name.startswith("chosen ") and call.milliseconds):
        return None
    return call.name, f"{call.milliseconds:.2f}", f"{call.roofline:.2f}", f"{call.roofline / call.milliseconds:.0%}"


def _row(build: Build) -> tuple[str, ...]:
    if build.error:
        return (build.name, *[""] * (len(_HEAD) - 2), "not built")
    return (
        build.name,
        str(build.registers),
        str(build.spilled or ""),
        str(build.shared),
        str(build.blocks),
        build.limit,
        ", ".join(f"{count} {_short(opcode)}" for opcode, count in build.loads.items()),
        "" if build.milliseconds is None else f"{build.milliseconds:.2f}",
        build.pipe if build.milliseconds is not None else "",
    )


def _short(opcode: str) -> str:
    name, *modifiers = opcode.split(".")
    width = next((part for part in reversed(modifiers) if part in ("128", "64", "U16", "U8")), "32")
    return f"{name}.{width}"
