"""What the driver says of a card while something runs on it: clocks, why they are not higher, heat and power."""

from __future__ import annotations

import subprocess
import threading
from types import TracebackType
from typing import Final, Self

from fuzz.gate.measurement import Reading

# NVML's nvmlClocksEventReasons: what holds clocks down. Power is the usual one, and lasts; the others come and go.
REASONS: Final = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
_FIELDS: Final = "clocks.sm,clocks.mem,clocks_throttle_reasons.active,temperature.gpu,power.draw"
_EVERY_MS: Final = 50


class ClockLog:
    """Reads the card while the context lasts.

    Args:
        uuid: Which card, as `nvidia-smi -L` names it.

    Attributes:
        readings: In order; a driver that does not answer leaves them empty.
    """

    def __init__(self, uuid: str) -> None:
        self.readings: list[Reading] = []
        self._query = (
            "nvidia-smi", f"--id={uuid}", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits", f"-lms={_EVERY_MS}"
        )  # fmt: skip

    def __enter__(self) -> Self:
        """Begin to read."""
        self._process = subprocess.Popen(self._query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            reading = parse_reading(line)
            if reading is not None:
                self.readings.append(reading)


def parse_reading(line: str) -> Reading | None:
    """Return what a line of the driver's answer says; None for one that is torn, or says that it cannot tell."""
    try:
        clock, memory, reasons, temperature, power = line.split(",")
        return Reading(float(clock), float(memory), int(reasons, 16), float(temperature), float(power))
    except ValueError:
        return None
