"""One case under NVIDIA's compute-sanitizer, which sees each access of a kernel on the device.

The sanitizer knows allocations, not tensors. So the trial goes without red zones and poison, and PyTorch's caching
allocator, inside whose blocks the sanitizer is blind, is off.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.campaign.isolation import IsolatedTarget, UsageError
from fuzz.case import Case
from fuzz.verdict import Verdict

TOOLS: Final = ("memcheck", "racecheck", "initcheck")
# The device rounds allocations up to 512 bytes; without padding, what lies in between counts as allocated.
_OPTIONS: Final = {"memcheck": ("--padding", "65536")}
_DEVICE: Final = "cuda"
_CASE_SECONDS: Final = 900.0
_END_SECONDS: Final = 120.0
_SHOWN_LINES: Final = 40


@dataclass(frozen=True)
class Sanitized:
    """What came of a case under the sanitizer.

    Attributes:
        verdict: What the trial itself found.
        errors: How many errors the sanitizer counted.
        log: What it wrote, shortened.
        versions: Versions of torch and triton.
    """

    verdict: Verdict
    errors: int
    log: str
    versions: dict[str, str]


def sanitize(case: Case, target: str, tool: str) -> Sanitized:
    """Run a case under one of the sanitizer's tools.

    Raises:
        UsageError: There is no sanitizer, no CUDA device, or no summary in what the sanitizer wrote.
    """
    program = shutil.which("compute-sanitizer")
    if program is None:
        raise UsageError(f"--sanitize {tool}: compute-sanitizer, a part of the CUDA toolkit, must be on the PATH")
    with tempfile.TemporaryDirectory() as folder:
        # %p is the process: one that is lost has a successor, which must not write over what was found.
        log = Path(folder) / "%p.log"
        under = (program, "--tool", tool, *_OPTIONS.get(tool, ()), "--log-file", str(log))
        environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        with IsolatedTarget(target, _DEVICE, under=under, environment=environment) as isolated:
            verdict = isolated.run(case, _CASE_SECONDS)
            isolated.finish(_END_SECONDS)
            versions = isolated.versions
        logs = sorted(Path(folder).glob("*.log"), key=lambda path: path.stat().st_mtime)
        text = "".join(path.read_text(errors="replace") for path in logs)
    return Sanitized(verdict, _errors(text, tool), _shortened(text), versions)


def _errors(text: str, tool: str) -> int:
    found = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", text)
    if not found:
        raise UsageError(
            f"--sanitize {tool}: compute-sanitizer wrote no summary: {_shortened(text) or 'nothing at all'}"
        )
    return sum(map(int, found))


def _shortened(text: str) -> str:
    lines = [line.removeprefix("========= ") for line in text.splitlines()]
    kept = [line for line in lines if line.strip("= ") and "Host Frame" not in line]
    return "\n".join(kept[:_SHOWN_LINES])
