"""Shrinking a failing `Case` to the one that a person would have written.

Hypothesis shrinks the choices behind a case. A campaign shrinks the case itself: its fields have known simplest values,
so a whole group of them can be tried at once, which matters where each failing trial costs a dead process or a
time-out. First delta debugging finds which fields matter at all (Zeller, Hildebrandt, IEEE TSE 28(2), 2002), then each
of those is lowered as far as it goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from fuzz.abilities import Abilities
from fuzz.case import DTYPES, EARLIER, FAMILIES, RELATIONS, Case, Sprinkle
from fuzz.earlier_call import earlier_call
from fuzz.layout import CHANNELS_LAST, CONTIGUOUS, CaseError, Layout
from fuzz.second_call import second_call

SIMPLEST: Final = Case()
_FIELDS: Final = tuple(info.name for info in msgspec.structs.fields(Case))
_INTEGERS: Final = ("n", "groups", "c_in", "c_out", "kh", "kw", "h", "w")
_PAIRS: Final = ("stride", "padding", "dilation")
_LAYOUTS: Final = ("x_layout", "weight_layout", "bias_layout")
_SIMPLE_SCALES: Final = (1.0, 2.0, -1.0, 0.5, 0.0)
_SEEDS: Final = (0, 1, 2)
_TILES: Final = (128, 64, 32, 16)
# Families that tell elements apart: with another one of them a smaller size may do.
_TELLING: Final = FAMILIES[1:4]

# What another call may differ in; one that the target cannot be asked is no failure.
_ABLE: Final = Abilities(kind="function", convolution_options=True, optional_bias=True, every_dtype=True)

Fails = Callable[[Case], bool]


@dataclass
class Shrinker:
    """Lowers one failing case.

    Args:
        case: A case that fails.
        fails: Runs a case and says whether it fails in the same way.
        may_go_on: Asked before each trial; once it says no, the simplest case so far stands.
    """

    case: Case
    fails: Fails
    may_go_on: Callable[[], bool] = lambda: True
    _known: dict[Case, bool] = field(default_factory=dict)

    def shrink(self) -> Case:
        """Return the simplest failing case that was found."""
        self._drop_fields()
        while self.may_go_on() and any([self._lower(candidates) for candidates in _CANDIDATES]):
            pass
        return self.case

    def _drop_fields(self) -> None:
        """Leave as few fields as possible away from their simplest value."""
        kept = [name for name in _FIELDS if getattr(self.case, name) != getattr(SIMPLEST, name)]
        if self._try({}, base=SIMPLEST):
            return
        original, parts = self.case, 2
        while len(kept) >= 2:
            size = -(-len(kept) // parts)
            chunks = [kept[start : start + size] for start in range(0, len(kept), size)]
            rests = [[name for name in kept if name not in chunk] for chunk in chunks]
            smaller = next(
                (names for names in chunks + rests if len(names) < len(kept) and self._keep(original, names)), None
            )
            if smaller is not None:
                kept, parts = smaller, 2
            elif parts >= len(kept):
                return
            else:
                parts = min(len(kept), 2 * parts)

    def _keep(self, original: Case, names: list[str]) -> bool:
        return self._try({name: getattr(original, name) for name in names}, base=SIMPLEST)

    def _lower(self, candidates: Callable[[Case], Iterator[dict[str, Any]]]) -> bool:
        """Take simpler neighbours while there are any that fail; say whether there were."""
        progress = False
        while self.may_go_on() and any(self._try(changes, base=self.case) for changes in candidates(self.case)):
            progress = True
        return progress

    def _try(self, changes: dict[str, Any], base: Case) -> bool:
        """Take the changed case if it fails, with its own seed or with a small one."""
        try:
            changed = msgspec.structs.replace(base, **changes)
        except CaseError:
            return False
        # With other numbers a simpler case may fail, too; the seed by itself only ever goes down.
        seeds = (changed.seed,) if changes.keys() == {"seed"} else (changed.seed, *_SEEDS)
        for candidate in dict.fromkeys(msgspec.structs.replace(changed, seed=seed) for seed in seeds):
            if candidate != self.case and self._fails(candidate):
                self.case = candidate
                return True
        return False

    def _fails(self, case: Case) -> bool:
        if case not in self._known:
            if not self.may_go_on():
                return False
            self._known[case] = self.fails(case)
        return self._known[case]


def ordinary(case: Case) -> Iterator[Case]:
    """Yield a case with numbers that are neither infinite nor NaN instead; nothing where it has none that are.

    The scale is made ordinary, too: times 0 every number is the same, and a flaw may need either sign.
    """
    if case.specials or not math.isfinite(case.scale):
        for scale in dict.fromkeys((case.scale if math.isfinite(case.scale) else 1.0, 1.0, -1.0)):
            plain = msgspec.structs.replace(case, specials=(), scale=scale)
            for family in _TELLING:
                yield from (msgspec.structs.replace(plain, values=family, seed=seed) for seed in _SEEDS)


def _simpler_integers(case: Case) -> Iterator[dict[str, Any]]:
    for name in _INTEGERS:
        value = getattr(case, name)
        least = case.groups if name in ("c_in", "c_out") else 1
        small = [least * k for k in (1, 2, 3, 4)]
        # By whole tiles, so that what is left over stays the same.
        tiles = [value - least * tile for tile in _TILES]
        parts = [value // 2, value * 3 // 4, value - max(1, value // 8), value - least]
        for lower in dict.fromkeys([*small, *parts, *tiles]):
            if least <= lower < value:
                yield {name: lower}
    if case.groups > 2:
        yield {"groups": 2, "c_in": case.c_in // case.groups * 2, "c_out": case.c_out // case.groups * 2}
    if case.n == 0:
        yield {"n": 1}


def _simpler_shapes(case: Case) -> Iterator[dict[str, Any]]:
    """Move several sizes at once where one alone would make the call invalid."""
    if (case.kh, case.kw) != (1, 1):
        yield {"kh": 1, "kw": 1, "h": max(1, case.h - case.kh + 1), "w": max(1, case.w - case.kw + 1)}
    if case.kh != case.kw:
        least = min(case.kh, case.kw)
        yield {"kh": least, "kw": least}
    for kernel, extent in (("kh", "h"), ("kw", "w")):
        size = getattr(case, kernel)
        if size > 1:
            yield {kernel: size - 1, extent: max(1, getattr(case, extent) - 1)}
    if case.h > 1 and case.w > 1:
        yield {"h": case.h - 1, "w": case.w - 1}


def _simpler_pairs(case: Case) -> Iterator[dict[str, Any]]:
    for name in _PAIRS:
        first, second = getattr(case, name)
        least = getattr(SIMPLEST, name)[0]
        for lower in dict.fromkeys([least, least + 1]):
            if lower < first:
                yield {name: (lower, second)}
            if lower < second:
                yield {name: (first, lower)}


def _simpler_layouts(case: Case) -> Iterator[dict[str, Any]]:
    for name in _LAYOUTS:
        layout: Layout = getattr(case, name)
        if layout == CONTIGUOUS:
            continue
        for changes in _simpler_layout(layout):
            yield {name: msgspec.structs.replace(layout, **changes)}


def _simpler_layout(layout: Layout) -> Iterator[dict[str, Any]]:
    for info in msgspec.structs.fields(Layout):
        if getattr(layout, info.name) != info.default:
            yield {info.name: info.default}
    for name in ("margin", "offset", "unit_stride"):
        if getattr(layout, name) > 1:
            yield {name: 1}
    if len(layout.expand) > 1:
        yield from ({"expand": (dim,)} for dim in layout.expand)
    for dim, step in enumerate(layout.step):
        for lower in dict.fromkeys(lower for lower in (1, 2, step // 2, step * 3 // 4) if 0 < lower < step):
            yield {"step": (*layout.step[:dim], lower, *layout.step[dim + 1 :])}
    for order in (CHANNELS_LAST.order, (0, 1, 3, 2)):
        if len(layout.order) == 4 and layout.order not in (CHANNELS_LAST.order, order):
            yield {"order": order}


def _simpler_specials(case: Case) -> Iterator[dict[str, Any]]:
    for place, sprinkle in enumerate(case.specials):
        rest = case.specials[:place], case.specials[place + 1 :]
        yield {"specials": (*rest[0], *rest[1])}
        for simpler in (
            Sprinkle("x", sprinkle.value, sprinkle.count),
            Sprinkle(sprinkle.tensor, "nan", sprinkle.count),
            Sprinkle(sprinkle.tensor, sprinkle.value, 1),
        ):
            if simpler != sprinkle:
                yield {"specials": (*rest[0], simpler, *rest[1])}
        if sprinkle.value == "-inf":
            upright = Sprinkle(sprinkle.tensor, "inf", sprinkle.count)
            yield {"specials": (*rest[0], upright, *rest[1]), "scale": 1.0}


def _simpler_history(case: Case) -> Iterator[dict[str, Any]]:
    for place in range(len(case.earlier)):
        yield {"earlier": (*case.earlier[:place], *case.earlier[place + 1 :])}
    if len(case.earlier) == 1:
        yield from ({"earlier": (step,)} for step in EARLIER[: EARLIER.index(case.earlier[0])])
    if case.relation is not None:
        yield {"relation": None}
        yield from ({"relation": name} for name in RELATIONS[: RELATIONS.index(case.relation)])
    yield from (_fields_of(other) for other in _other_calls(case))


def _other_calls(case: Case) -> Iterator[Case]:
    """Yield the other calls of a case, each by itself: where a call ends a process, it need not be the judged one."""
    others = [earlier_call(case, step, _ABLE) for step in case.earlier]
    if case.relation is not None:
        others.append(second_call(case))
    yield from (other for other in others if other is not None)


def _fields_of(case: Case) -> dict[str, Any]:
    return {name: getattr(case, name) for name in _FIELDS}


def _other_values(case: Case) -> Iterator[dict[str, Any]]:
    """Leave a dead end: plain numbers instead of special ones, or a smaller size with other numbers."""
    for other in ordinary(case):
        yield {name: getattr(other, name) for name in ("specials", "scale", "values", "seed")}
    if case.values != SIMPLEST.values:
        if case.seed > max(_SEEDS):
            yield from ({"values": family, "seed": seed} for family in _TELLING for seed in _SEEDS)
        for name in _INTEGERS:
            least = case.groups if name in ("c_in", "c_out") else 1
            if getattr(case, name) > least:
                yield from ({name: least, "values": family} for family in _TELLING)


def _simpler_choices(case: Case) -> Iterator[dict[str, Any]]:
    scales = _SIMPLE_SCALES if math.isfinite(case.scale) else (*_SIMPLE_SCALES, math.nan, math.inf)
    for name, order in (("values", FAMILIES), ("dtype", DTYPES), ("scale", scales)):
        value = getattr(case, name)
        for simpler in order[: order.index(value)] if value in order else order:
            yield {name: simpler}
    if math.copysign(1.0, case.scale) < 0:
        # Numbers that are simpler may need the other sign.
        yield {"scale": -case.scale}
        yield {"scale": -case.scale, "values": SIMPLEST.values}
    if case.same:
        yield {"same": False}
        yield {"same": False, "padding": case.sides[:2]}
    if case.bias:
        yield {"bias": False, "bias_layout": CONTIGUOUS}
    for name in ("precision", "config"):
        if getattr(case, name) != getattr(SIMPLEST, name):
            yield {name: getattr(SIMPLEST, name)}
    yield from ({"seed": seed} for seed in _SEEDS if seed < case.seed)


_CANDIDATES: Final = (
    _simpler_choices,
    _simpler_specials,
    _simpler_history,
    _simpler_layouts,
    _simpler_pairs,
    _simpler_shapes,
    _simpler_integers,
    _other_values,
)
