"""Imports point one way, and the process that keeps the records stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# From the bottom up: a room may import those before it.
ORDER = [
    "checksum",
    "layout",
    "case",
    "abilities",
    "earlier_call",
    "second_call",
    "sizes",
    "verdict",
    "rounding",
    "memory",
    "store_log",
    "coverage",
    "kernel_syntax",
    "facets",
    "call_sizes",
    "strategies",
    "variation",
    "values",
    "on_device",
    "tensors",
    "arithmetic",
    "reference",
    "exactness",
    "scaling",
    "oracle",
    "relations",
    "judge",
    "guards",
    "interpreter_arithmetic",
    "interpreter_reduction",
    "interpreter_lines",
    "interpreter_access",
    "interpreter",
    "surroundings",
    "target",
    "machine",
    "session",
    "earlier",
    "errors",
    "trial",
    "shrinking",
    "report.summary",
    "circumstances",
    "campaign.marks",
    "campaign.redis_database",
    "campaign.shared_database",
    "campaign.overlay",
    "campaign.protocol",
    "campaign.worker",
    "campaign.nursery",
    "campaign.footprint",
    "campaign.process",
    "campaign.isolation",
    "campaign.sanitizer",
    "campaign.buckets",
    "campaign.failure",
    "campaign.reading",
    "campaign.journal",
    "campaign.store",
    "campaign.sighting",
    "campaign.traits",
    "campaign.census",
    "campaign.distill",
    "campaign.ledger",
    "campaign.investigation",
    "report.wrong_elements",
    "report.text",
    "campaign.bugs",
    "campaign.drawing",
    "campaign.pace",
    "campaign.plan",
    "campaign.frontier",
    "campaign.hunter",
    "campaign.orders",
    "campaign.crew",
    "campaign.job",
    "campaign.status",
    "campaign.examples",
    "campaign.desk",
    "campaign.follow_up",
    "campaign.engine",
    "campaign.ray_engine",
    "campaign.hunt",
    "campaign.interrupt",
    "options",
    "report.progress",
    "mutation.syntax",
    "mutation.place",
    "mutation.access_operators",
    "mutation.host_operators",
    "mutation.value_operators",
    "mutation.operators",
    "mutation.mutant",
    "mutation.reach",
    "mutation.subject",
    "mutation.equivalents",
    "mutation.catalogue",
    "mutation.trials",
    "mutation.score",
    "mutation.selection",
    "mutation.record",
    "mutation.matrix",
    "mutation.command",
    "report.mutants",
    "report.matrix_picture",
    "report.drawing",
    "report.hunt_pictures",
    "report.source_coverage",
    "report.page",
    "gate.devices",
    "gate.workload",
    "gate.child",
    "gate.sass",
    "gate.pipes",
    "gate.pipeline",
    "gate.capture",
    "gate.model",
    "gate.build",
    "gate.baseline",
    "gate.walk",
    "gate.static",
    "gate.measurement",
    "gate.interval",
    "gate.clocks",
    "gate.stopwatch",
    "gate.inspection",
    "gate.timing",
    "gate.thresholds",
    "gate.runtime",
    "gate.profiled",
    "gate.profile",
    "report.gate",
    "report.gate_picture",
    "gate.command",
    "testing.sharding",
    "testing.database",
    "cli_gate",
    "cli_mutants",
    "cli",
    "__main__",
]


def modules(package: str) -> list[Path]:
    return sorted(path for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py")


def imported(path: Path) -> set[str]:
    """Every module that a file imports at run time, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


def room(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "fuzz").with_suffix("").parts)


@pytest.mark.parametrize("path", modules("fused"), ids=lambda path: path.stem)
def test_fused_knows_nothing_of_the_rest(path: Path) -> None:
    assert not {name for name in imported(path) if name.split(".")[0] in ("fuzz", "tests")}


@pytest.mark.parametrize("path", modules("fuzz"), ids=room)
def test_imports_inside_fuzz_point_down(path: Path) -> None:
    assert room(path) in ORDER, f"give {room(path)} its place in ORDER and in docs/architecture.md"
    below = ORDER[: ORDER.index(room(path))]
    above = {name for name in imported(path) if name.startswith("fuzz.") and name.removeprefix("fuzz.") not in below}
    assert not above, f"{room(path)} imports {above}, which lie above it"
    assert not {name for name in imported(path) if name.split(".")[0] in ("fused", "tests")}


@pytest.mark.parametrize("module", ["fuzz.cli", "fuzz.campaign.hunt", "fuzz.gate.command"])
def test_the_process_that_keeps_records_imports_no_torch(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'triton', 'fused') if name in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert seen.stdout.strip() == "[]", (
        "the hunting process must not import these: a target's crash would take it along"
    )
