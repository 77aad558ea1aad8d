"""What the hunt and a worker somewhere else say to each other: one JSON object a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from fuzz.abilities import Abilities
from fuzz.campaign.buckets import Bucket
from fuzz.campaign.hunter import Assignment, Hunter, Round, Trial
from fuzz.campaign.isolation import InfrastructureError, UsageError
from fuzz.case import decode_case, encode_case
from fuzz.coverage import LineCoverage
from fuzz.verdict import Verdict


class Hunting(msgspec.Struct, frozen=True, tag=True):
    """Do `Hunter.hunt`. Answered by `Tried`, any number of times, and `Done` or `Failed`, as each order is."""

    order: Round


class Attempting(msgspec.Struct, frozen=True, tag=True):
    """Do `Hunter.attempt`."""

    case: str
    purpose: str
    span: float
    known: tuple[Bucket, ...]


class Judging(msgspec.Struct, frozen=True, tag=True):
    """Do `Hunter.judge`."""

    case: str
    purpose: Literal["shrink", "hang?"]


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The target is loaded; `room` is that of `fuzz.campaign.protocol.Starting`."""

    device: str
    versions: dict[str, str]
    abilities: Abilities
    room: int | None = None


class Tried(msgspec.Struct, frozen=True, tag=True):
    """A trial."""

    case: str
    verdict: Verdict
    purpose: str
    lines: tuple[str, ...]
    lost: int


class Done(msgspec.Struct, frozen=True, tag=True):
    """An order was carried out; `tried` says whether `Hunter.attempt` made a trial."""

    coverage: tuple[LineCoverage, ...] = ()
    tried: bool = False


class Failed(msgspec.Struct, frozen=True, tag=True):
    """An order, or loading the target, raised one of the two errors that a hunter raises."""

    kind: Literal["usage", "infrastructure"]
    reason: str


Order = Hunting | Attempting | Judging
Answer = Ready | Tried | Done | Failed
_ORDERS: Final = msgspec.json.Decoder(Order)
_ANSWERS: Final = msgspec.json.Decoder(Answer)


def decode_order(data: bytes) -> Order:
    """Return an order; raises `msgspec.ValidationError` for anything else."""
    order: Order = _ORDERS.decode(data)
    return order


def decode_answer(data: bytes) -> Answer:
    """Return an answer; raises `msgspec.ValidationError` for anything else."""
    answer: Answer = _ANSWERS.decode(data)
    return answer


def loaded(assignment: bytes) -> tuple[Hunter | None, Ready | Failed]:
    """Make the hunter that an assignment, as JSON, asks for; return it, if it can be had, and the answer to give."""
    try:
        hunter = Hunter(msgspec.json.decode(assignment, type=Assignment))
    except (UsageError, InfrastructureError) as error:
        return None, failed_of(error)
    return hunter, Ready(hunter.device, hunter.versions, hunter.abilities, hunter.room)


def carry_out(hunter: Hunter, order: Order, answer: Callable[[Answer], None]) -> None:
    """Do what an order says, and give the answers."""

    def deliver(trial: Trial) -> None:
        answer(tried_of(trial))

    try:
        tried = False
        if isinstance(order, Hunting):
            hunter.hunt(order.order, deliver)
        elif isinstance(order, Attempting):
            case = decode_case(order.case)
            tried = hunter.attempt(case, order.purpose, order.span, order.known, deliver)
        else:
            deliver(hunter.judge(decode_case(order.case), order.purpose))
        coverage = () if isinstance(order, Judging) else hunter.coverage
        answer(Done(coverage, tried))
    except (UsageError, InfrastructureError) as error:
        answer(failed_of(error))


def tried_of(trial: Trial) -> Tried:
    """Return a trial as it travels."""
    return Tried(encode_case(trial.case).decode(), trial.verdict, trial.purpose, trial.lines, trial.lost)


def failed_of(error: UsageError | InfrastructureError) -> Failed:
    """Return an error as it travels."""
    return Failed("usage" if isinstance(error, UsageError) else "infrastructure", str(error))


def error_of(failed: Failed) -> UsageError | InfrastructureError:
    """Return the error that a hunter raised."""
    return UsageError(failed.reason) if failed.kind == "usage" else InfrastructureError(failed.reason)
