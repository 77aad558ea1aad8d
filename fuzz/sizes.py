"""How large a call is, as a bug may need it: two bugs that show from different sizes on are two."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from fuzz.case import Case
from fuzz.layout import CaseError


class Sizes(msgspec.Struct, frozen=True):
    """Sizes of a call; channels are those of one group.

    Attributes:
        rows: Of the output, like `columns`.
    """

    n: int
    rows: int
    columns: int
    c_in: int
    c_out: int
    kh: int
    kw: int


def sizes_of(case: Case) -> Sizes:
    """Return the sizes of a case."""
    rows, columns = case.out_size
    return Sizes(case.n, rows, columns, case.c_in // case.groups, case.c_out // case.groups, case.kh, case.kw)


def size_words(facet: str, sizes: Sizes) -> str:
    """Return a size that goes by the name of a facet, as a person writes it."""
    return "×".join(map(str, _EXTENTS[facet](sizes)))


def reaches(facet: str, sizes: Sizes, other: Sizes) -> bool:
    """Return whether a size is as large as another: one of more dimensions by their product."""
    return math.prod(_EXTENTS[facet](sizes)) >= math.prod(_EXTENTS[facet](other))


def just_below(facet: str, case: Case, sizes: Sizes) -> Iterator[Case]:
    """Yield the case with a size that is next below another's, in each way in which it can be, the thorough one last.

    Args:
        facet: Which size.
        case: The case.
        sizes: The other's.
    """
    now = sizes_of(case)
    for smaller in _SMALLER[facet](now, sizes):
        with contextlib.suppress(CaseError):
            resized = _resized(case, smaller)
            # Padding may leave no image that is small enough.
            if smaller != now and sizes_of(resized) == smaller:
                yield resized


def _resized(case: Case, sizes: Sizes) -> Case:
    changes: dict[str, Any] = {
        "n": sizes.n,
        "c_in": case.groups * sizes.c_in,
        "c_out": case.groups * sizes.c_out,
        "kh": sizes.kh,
        "kw": sizes.kw,
    }
    resized = msgspec.structs.replace(case, **changes)
    above, left, below, right = resized.sides
    h = (sizes.rows - 1) * case.stride[0] + resized.window[0] - above - below
    w = (sizes.columns - 1) * case.stride[1] + resized.window[1] - left - right
    return msgspec.structs.replace(resized, h=max(1, h), w=max(1, w))


def _lower(name: str) -> Callable[[Sizes, Sizes], Iterator[Sizes]]:
    def smaller(now: Sizes, than: Sizes) -> Iterator[Sizes]:
        most = getattr(than, name) - 1
        if most >= 1:
            yield msgspec.structs.replace(now, **{name: min(getattr(now, name), most)})

    return smaller


def _smaller_image(now: Sizes, than: Sizes) -> Iterator[Sizes]:
    yield from _lower("rows")(now, than)
    yield from _lower("columns")(now, than)
    positions = than.rows * than.columns - 1
    if positions >= 1 and now.rows >= 1:
        rows = min(now.rows, positions)
        yield msgspec.structs.replace(now, rows=rows, columns=min(now.columns, positions // rows))


def _smaller_kernel(now: Sizes, than: Sizes) -> Iterator[Sizes]:
    yield from _lower("kh")(now, than)
    yield from _lower("kw")(now, than)
    if reaches("kernel size", now, than) and than.kh * than.kw > 1:
        # What a kernel that is not square shows goes on as long as it is none.
        yield msgspec.structs.replace(now, kh=1, kw=1)


_EXTENTS: Final[dict[str, Callable[[Sizes], tuple[int, ...]]]] = {
    "batch": lambda sizes: (sizes.n,),
    "input channels": lambda sizes: (sizes.c_in,),
    "output channels": lambda sizes: (sizes.c_out,),
    "image size": lambda sizes: (sizes.rows, sizes.columns),
    "kernel size": lambda sizes: (sizes.kh, sizes.kw),
}
_SMALLER: Final[dict[str, Callable[[Sizes, Sizes], Iterator[Sizes]]]] = {
    "batch": _lower("n"),
    "input channels": _lower("c_in"),
    "output channels": _lower("c_out"),
    "image size": _smaller_image,
    "kernel size": _smaller_kernel,
}
