"""How much memory a process holds and how much is left: a target that leaks must not take the machine along."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_KIB: Final = 1024
_PROC: Final = Path("/proc")
# Of a container, as it sees itself: what it may hold, what it holds, and in what.
_LIMITS: Final = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def bytes_held(process: int) -> int:
    """Return how many bytes would be free if a process ended; 0 if nobody knows."""
    text = _text(_PROC / str(process) / "status")
    return sum(int(size) for size in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+)", text, re.MULTILINE)) * _KIB


def bytes_left() -> int:
    """Return how many bytes the machine, or the container, can still give; a great many if nobody knows."""
    found = re.search(r"^MemAvailable:\s+(\d+)", _text(_PROC / "meminfo"), re.MULTILINE)
    machine = int(found[1]) * _KIB if found else 2**63
    return min(machine, *(_left_in(*map(Path, paths)) for paths in _LIMITS))


def offer_to_the_kernel(process: int) -> None:
    """Let the kernel end this process before any other, should memory run out; its children inherit that."""
    try:
        (_PROC / str(process) / "oom_score_adj").write_text("1000")
    except OSError:  # it is gone, or there is no such file
        return


def _left_in(limit: Path, usage: Path, details: Path) -> int:
    allowed, used = _text(limit).strip(), _text(usage).strip()
    if not (allowed.isdecimal() and used.isdecimal()):
        return 2**63
    # What was read from files is given up when memory is short.
    cache = re.search(r"^(?:total_)?inactive_file (\d+)", _text(details), re.MULTILINE)
    return int(allowed) - int(used) + (int(cache[1]) if cache else 0)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
