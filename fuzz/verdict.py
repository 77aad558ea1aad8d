"""`Verdict`: what one trial found, as data. Showing it is `fuzz.report`'s job."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Status = Literal["pass", "fail", "declined"]
Lane = Literal["exact", "interval", "relations", "state", "guards", "access", "errors", "process"]
Kind = Literal[
    "ok",
    "declined",
    "wrong-value",
    "missing-nan",
    "unexpected-nan",
    "unwritten",
    "wrong-shape",
    "wrong-dtype",
    "wrong-type",
    "input-modified",
    "out-of-bounds-write",
    "out-of-bounds-read",
    "stored-twice",
    "race",
    "result-modified",
    "relation-broken",
    "raised",
    "not-rejected",
    "crash",
    "killed",
    "timeout",
]

# One defect shows as several kinds: an unmasked tail gives a NaN next to a poisoned gap and a wrong number next to
# data. A person calls that one bug, so kinds are grouped before failures are compared. A NaN that is missing stands by
# itself: it takes a special value, which would otherwise creep into cases that fail without one.
_MANIFESTATION: Final[dict[str, str]] = {
    "wrong-value": "wrong result",
    "missing-nan": "missing NaN",
    "unexpected-nan": "wrong result",
    "unwritten": "wrong result",
    "wrong-shape": "wrong kind of result",
    "wrong-dtype": "wrong kind of result",
    "wrong-type": "wrong kind of result",
    "input-modified": "memory damaged",
    "out-of-bounds-write": "memory damaged",
    "out-of-bounds-read": "out-of-bounds read",
    "stored-twice": "race",
    "race": "race",
    "result-modified": "memory damaged",
    "relation-broken": "relation broken",
    "raised": "raised",
    "not-rejected": "not rejected",
    "crash": "crash",
    "killed": "crash",
    "timeout": "timeout",
}


class WrongElements(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where an output `[n, 1, h_out, w_out]` is wrong: the image with the most wrong elements, as rows of text.

    Attributes:
        image: Which of the n images is shown.
        images: How many of them have wrong elements.
        wrong: How many elements of this one are wrong.
        height: Its h_out.
        width: Its w_out.
        rows: The image from above: `#` where an element of a cell is wrong, `.` where all are right.
        cell: Height and width of a cell, in elements; cells at the lower and right border may be smaller.
    """

    image: int
    images: int
    wrong: int
    height: int
    width: int
    rows: tuple[str, ...]
    cell: tuple[int, int] = (1, 1)

    @property
    def has_shape(self) -> bool:
        """Whether there is anything to see: some cells are right."""
        return any("." in row for row in self.rows)


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of one trial.

    Attributes:
        lane: Which check decided.
        message: One line for a person: what was seen, what is admissible.
        where: Which part of the output is wrong, as far as the data can tell; may be empty.
        error_ratio: Largest error / allowed error, both before the last rounding, over the elements that the interval
            lane judged; above 1 is a failure, 0 where nothing was judged there.
        seconds: Time that the judged call took; of a trial that passes, the quicker of both.
        winners: The lowest and the highest channel that hold a minimum; None unless the trial passes with a result.
        wrong: Where the output is wrong, as a picture; None where there is no output to look at.
    """

    status: Status
    kind: Kind = "ok"
    lane: Lane = "exact"
    message: str = ""
    where: str = ""
    error_ratio: float = 0.0
    seconds: float = 0.0
    winners: tuple[int, int] | None = None
    wrong: WrongElements | None = None

    @property
    def failed(self) -> bool:
        """Whether the target is at fault."""
        return self.status == "fail"

    @property
    def manifestation(self) -> str:
        """The group of kinds in which one defect shows itself; empty unless this verdict is a failure."""
        return _MANIFESTATION[self.kind] if self.failed else ""

    def without(self, blind: frozenset[Lane]) -> Verdict:
        """Return this verdict, or a pass where it is a failure that one of these lanes saw."""
        return Verdict(status="pass", lane=self.lane) if self.failed and self.lane in blind else self


def failure(
    kind: Kind,
    lane: Lane,
    message: str,
    *,
    where: str = "",
    error_ratio: float = 0.0,
    wrong: WrongElements | None = None,
) -> Verdict:
    """Return a failing verdict."""
    return Verdict(
        status="fail", kind=kind, lane=lane, message=message, where=where, error_ratio=error_ratio, wrong=wrong
    )


def declined(reason: str) -> Verdict:
    """Return the verdict where a call is not tried, or is not meant to work."""
    return Verdict(status="declined", kind="declined", lane="errors", message=reason)
