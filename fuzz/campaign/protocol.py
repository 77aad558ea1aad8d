"""What the hunting process and the process that holds the target say to each other: one JSON object a message."""

from __future__ import annotations

from typing import Any

import msgspec

from fuzz.abilities import Abilities
from fuzz.case import Case, decode_case, encode_case
from fuzz.coverage import LineCoverage
from fuzz.verdict import Lane, Verdict


class Load(msgspec.Struct, frozen=True, tag=True):
    """Load a target. Answered by `Loaded` or `Refused`.

    `bare`: trials go without red zones and poison. `sources`: by path, texts that stand in for files (`Overlay`).
    `digests`: say which bits came out.
    """

    target: str
    device: str
    bare: bool = False
    sources: dict[str, str] = {}
    digests: bool = False


class Try(msgspec.Struct, frozen=True, tag=True):
    """Run one case. Answered by `Tried`, `Refused` or, if `fresh`, `Stale`.

    `fresh` asks for a target that no call has been made on: what an earlier trial left in it must not matter. What the
    lanes named in `blind` see is left out.
    """

    case: str
    fresh: bool = False
    blind: frozenset[Lane] = frozenset()


class Starting(msgspec.Struct, frozen=True, tag=True):
    """The process has imported torch and triton and is about to import the target.

    `room` says for how many such processes the machine's GPUs have memory; None where tensors live on the CPU.
    """

    device: str
    versions: dict[str, str]
    room: int | None = None


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The target is ready; `marks` are those that it left while it was loaded."""

    abilities: Abilities
    marks: frozenset[int] = frozenset()


class Tried(msgspec.Struct, frozen=True, tag=True):
    """What the trial found.

    `spent` says that the process cannot be used again, `digest` what bits came out, `marks` what an instrumented target
    left.
    """

    verdict: Verdict
    spent: bool = False
    coverage: tuple[LineCoverage, ...] = ()
    digest: str = ""
    marks: frozenset[int] = frozenset()


class Stale(msgspec.Struct, frozen=True, tag=True):
    """The target cannot be loaded a second time in this process."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The user asked for something that cannot be had; one line says what."""

    reason: str


Message = Load | Try | Starting | Loaded | Tried | Stale | Refused

_DECODER = msgspec.json.Decoder(Message)


def encode(message: Message) -> bytes:
    """Return a message as JSON."""
    return msgspec.json.encode(message)


def decode(data: bytes) -> Message:
    """Return the message that `encode` wrote; raises `msgspec.DecodeError` for anything else."""
    try:
        message: Message = _DECODER.decode(data)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from None
    return message


def ask_to_try(case: Case, *, fresh: bool, blind: frozenset[Lane]) -> Try:
    """Return the message that asks for a trial."""
    return Try(encode_case(case).decode(), fresh, blind)


def asked_case(message: Try) -> Case:
    """Return the case of a `Try`."""
    return decode_case(message.case)


def versions_of(*modules: Any) -> dict[str, str]:
    """Return name and version of some imported packages."""
    return {module.__name__: str(module.__version__) for module in modules}
