"""What a measurement depends on: the machine and the versions, as every file in docs/measurements names them."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

_PACKAGES: Final = ("torch", "triton", "numpy", "hypothesis")
_GPU_QUERY: Final = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")


def circumstances(device: str) -> dict[str, Any]:
    """Return the machine, the device and the versions.

    Args:
        device: Where kernels run: `cpu`, which is Triton's interpreter, or `cuda`.
    """
    return {
        "machine": {"processor": _processor(), "cores": len(os.sched_getaffinity(0))},
        "device": _gpu() if device.startswith("cuda") else "Triton's interpreter on the CPU",
        "architecture": os.environ.get("TRITON_OVERRIDE_ARCH", "native"),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }


def _gpu() -> str:
    return subprocess.run(_GPU_QUERY, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
