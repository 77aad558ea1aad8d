"""What the performance gate found, in words."""

from __future__ import annotations

from fuzz.gate.build import Build
from fuzz.gate.devices import Card
from fuzz.gate.static import Finding

_HEAD = ("build", "registers", "spilled", "shared", "blocks", "held by", "loads", "ms", "bound by")


def static_text(finding: Finding, card: Card) -> str:
    """The table of a target's builds, what is wrong with them, and the verdict."""
    rows = [_HEAD, *map(_row, finding.builds)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [f"{finding.target} for the {card.name}, headline shape; ms is what the main loop needs, simulated"]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"worse: {complaint}" for complaint in finding.complaints]
    lines.append(_verdict(finding))
    return "\n".join(lines) + "\n"


def _verdict(finding: Finding) -> str:
    compared = f"{finding.compared} of {len(finding.builds)} builds compared with the baseline"
    if finding.note:
        compared = f"not compared: {finding.note}"
    complaints = "1 complaint" if len(finding.complaints) == 1 else f"{len(finding.complaints) or 'no'} complaints"
    return f"{finding.target}: {complaints}; {compared}"


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
