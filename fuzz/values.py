"""Value families: what the numbers in x, weight and bias are.

Every family is a pure function of the case. Randomness comes from the raw 64-bit words of NumPy's Philox generator,
whose stream NumPy keeps fixed across versions and machines (its distributions are not), and only exact operations
follow, so the same case gives the same bits everywhere.

Most families are *lattices*: small integers times a power of two, for which every sound implementation, whatever its
order of summation or precision, gives the same bits. `fuzz.oracle` proves that per case from the numbers themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fuzz.case import Case, Family, TensorName

Values = dict[TensorName, NDArray[np.float64]]
Shapes = dict[TensorName, tuple[int, ...]]

# Largest sum of magnitudes of a lattice, in units: half of what fp32 holds exactly (2^24), and for float16 half of what
# it can represent at all.
_LATTICE_SUM: Final = {"float16": 2**14}
_DEFAULT_LATTICE_SUM: Final = 2**22
# bf16 has 8 significand bits: every integer up to 2^8 is exact in every dtype.
_LARGEST_EXACT: Final = 2**8
# Fewer positions than this hardly give each of 31 channels a place to win.
_MANY_POSITIONS: Final = 62
_PHILOX: Final = np.random.Philox(key=0)
_BEGINNING: Final = _PHILOX.state
_STREAM: Final[dict[TensorName, int]] = {"x": 0, "weight": 1, "bias": 2}


def draw_values(case: Case, shapes: Shapes) -> Values:
    """Return the numbers of every tensor as float64, before rounding to the case's dtype.

    Args:
        case: The case.
        shapes: Shape of each tensor to fill; dimensions of stride 0 have size 1 here.
    """
    values = _FAMILIES[case.values](case, shapes)
    for stream, sprinkle in enumerate(case.specials):
        target = values.get(sprinkle.tensor)
        if target is not None and target.size:
            words = _words(case, 16 + stream, sprinkle.count)
            target.reshape(-1)[(words % np.uint64(target.size)).astype(np.int64)] = float(sprinkle.value)
    return values


def _words(case: Case, stream: int, count: int) -> NDArray[np.uint64]:
    # To make a generator takes longer than to draw most tensors, so one is begun anew with another key.
    key = np.array([case.seed, stream], dtype=np.uint64)
    _PHILOX.state = {**_BEGINNING, "state": {"counter": np.zeros(4, np.uint64), "key": key}}
    words: NDArray[np.uint64] = _PHILOX.random_raw(count)
    return words


def _integers(case: Case, name: TensorName, shape: tuple[int, ...], low: int, high: int) -> NDArray[np.float64]:
    """Integers in [low, high], from the top bits of one word each."""
    words = _words(case, _STREAM[name], math.prod(shape)) >> np.uint64(32)
    drawn: NDArray[np.float64] = ((words * np.uint64(high - low + 1)) >> np.uint64(32)).astype(np.float64)
    drawn = drawn.reshape(shape)
    drawn += low
    return drawn


def _unit_interval(case: Case, name: TensorName, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Uniform in [0, 1), with 53 bits."""
    words = _words(case, _STREAM[name], math.prod(shape)) >> np.uint64(11)
    return words.astype(np.float64).reshape(shape) * 2.0**-53


def _bell(case: Case, name: TensorName, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Nearly standard normal: the sum of twelve uniforms less six, which needs no library function."""
    count = math.prod(shape)
    words = (_words(case, _STREAM[name], 12 * count) >> np.uint64(40)).astype(np.float64)
    sums: NDArray[np.float64] = words.reshape(12, count).sum(axis=0)
    return (sums * 2.0**-24 - 6.0).reshape(shape)


def _amplitude(case: Case) -> int:
    """A power of two, different by seed, that keeps every sum of products of a lattice exact."""
    room = _LATTICE_SUM.get(case.dtype, _DEFAULT_LATTICE_SUM) / (case.reduction_length + 1)
    largest = max(0, min(7, int(math.log2(max(1.0, room)) / 2)))
    return 1 << int(_words(case, 8, 1)[0] % np.uint64(largest + 1))


def _each(shapes: Shapes, draw: Callable[[TensorName, tuple[int, ...]], NDArray[np.float64]]) -> Values:
    return {name: draw(name, shape) for name, shape in shapes.items()}


def _toward_the_minimum(case: Case, values: Values, direction: float) -> Values:
    """Give weight and bias the sign that makes every channel's scaled value have the sign of `direction`."""
    sign = -direction if case.scale < 0 else direction
    return {name: array if name == "x" else sign * array for name, array in values.items()}


def _ones(case: Case, shapes: Shapes) -> Values:
    return _each(shapes, lambda name, shape: np.ones(shape))


def _lattice(case: Case, shapes: Shapes) -> Values:
    amplitude = _amplitude(case)
    return _each(shapes, lambda name, shape: _integers(case, name, shape, -amplitude, amplitude))


def _one_sided(case: Case, shapes: Shapes, direction: float) -> Values:
    amplitude = _amplitude(case)
    drawn = _each(shapes, lambda name, shape: _integers(case, name, shape, 1, amplitude))
    return _toward_the_minimum(case, drawn, direction)


def _positive(case: Case, shapes: Shapes) -> Values:
    """Every scaled value above zero: a 0 that stands in for a missing channel becomes the minimum."""
    return _one_sided(case, shapes, 1.0)


def _negative(case: Case, shapes: Shapes) -> Values:
    """Every scaled value below zero: a running maximum, or a min taken before a negative scale, shows."""
    return _one_sided(case, shapes, -1.0)


def _impulse(case: Case, shapes: Shapes) -> Values:
    """One 1 in every image, against weights that are all different: an index error names the element it took.

    The weights of one channel, mostly the last, are below all others.
    """
    values = _each(shapes, lambda name, shape: np.zeros(shape))
    if values["x"].size:
        images = values["x"].reshape(shapes["x"][0], -1)
        hot = (_words(case, _STREAM["x"], len(images)) % np.uint64(images.shape[1])).astype(np.int64)
        images[np.arange(len(images)), hot] = 1.0
    weight = values["weight"].reshape(-1)
    shift = int(_words(case, _STREAM["weight"], 1)[0] % np.uint64(_LARGEST_EXACT))
    weight[:] = -1.0 - (np.arange(weight.size) + shift) % (_LARGEST_EXACT - 1)
    taps = weight.reshape(len(values["weight"]), -1)
    # Below all others, different, and still exact in 8 bits: every second number, and then every fourth.
    place = np.arange(taps.shape[1]) % _LARGEST_EXACT
    half = _LARGEST_EXACT // 2
    lowest = _LARGEST_EXACT + np.where(place < half, 2 * place, 2 * half + 4 * (place - half))
    taps[_chosen_channel(case, len(taps))] = -lowest
    return _toward_the_minimum(case, values, 1.0)


def _winner(case: Case, shapes: Shapes) -> Values:
    """Each of up to 31 channels is the sole minimum wherever x holds its number; or one channel is, everywhere.

    With weight -2t and offset t² the value is (x - t)² - x², least for the channel whose t is x. The offset is the
    bias, or else a second input channel that holds 1. Further channels get an offset that never wins; the seed decides
    which, so that over seeds every channel, the last tile's too, wins somewhere.
    """
    channels, width = shapes["weight"][:2]
    positions = math.prod(shapes["x"][dim] for dim in (0, 2, 3))
    if (not case.bias and width < 2) or positions < _MANY_POSITIONS or _words(case, 10, 1)[0] >> np.uint64(63):
        return _sole_winner(case, shapes)
    order = np.argsort(_words(case, _STREAM["weight"], case.c_out), kind="stable")
    number = np.full(case.c_out, 16.0)
    number[order[:31]] = np.arange(min(31, case.c_out)) - 15.0
    taps = math.prod(shapes["weight"][2:])
    tap = int(_words(case, 9, 1)[0] % np.uint64(taps))
    weight = np.zeros((channels, width, taps))
    weight[:, 0, tap] = np.where(number < 16, -2.0 * number, 0.0)[:channels]
    values: Values = {"x": _integers(case, "x", shapes["x"], -15, 15), "weight": weight}
    if case.bias:
        values["bias"] = number[: math.prod(shapes["bias"])] ** 2
    else:
        weight[:, 1, tap] = (number**2)[:channels]
        values["x"][:, 1 :: case.c_in // case.groups] = 1.0
    values["weight"] = weight.reshape(shapes["weight"])
    return _toward_the_minimum(case, values, 1.0)


def _chosen_channel(case: Case, channels: int) -> int:
    """Return the last channel for three seeds of four, whose tile may hold nothing else, and else any."""
    word = _words(case, 11, 1)[0]
    return int(word % np.uint64(channels)) if word >> np.uint64(62) == 0 else channels - 1


def _sole_winner(case: Case, shapes: Shapes) -> Values:
    """One channel is the minimum everywhere.

    x is positive and its weights are one below the least of all others, so that each of its sums is the lowest.
    """
    amplitude = _amplitude(case)
    values = _each(shapes, lambda name, shape: _integers(case, name, shape, -amplitude, amplitude))
    values["x"] = _integers(case, "x", shapes["x"], 1, amplitude)
    for name in ("weight", "bias"):
        # A stride of 0 along the channels leaves one channel, which all of them are.
        if name in values and len(values[name]) == case.c_out:
            values[name][_chosen_channel(case, case.c_out)] = -amplitude - 1.0
    return _toward_the_minimum(case, values, 1.0)


def _near_tie(case: Case, shapes: Shapes) -> Values:
    """All channels have the same weights but for one unit somewhere: the minimum is decided by the last bit."""
    amplitude = _amplitude(case)
    x = _integers(case, "x", shapes["x"], -amplitude, amplitude)
    row = _integers(case, "weight", (1, *shapes["weight"][1:]), -amplitude, amplitude)
    weight = np.repeat(row, shapes["weight"][0], axis=0)
    flat = weight.reshape(len(weight), -1)
    steps = _words(case, 9, len(flat))
    flat[np.arange(len(flat)), (steps % np.uint64(flat.shape[1])).astype(np.int64)] += (steps >> np.uint64(63)) * 1.0
    values: Values = {"x": x, "weight": weight}
    if "bias" in shapes:
        values["bias"] = _integers(case, "bias", shapes["bias"], 0, 1)
    return values


def _uniform(case: Case, shapes: Shapes) -> Values:
    return _each(shapes, lambda name, shape: _unit_interval(case, name, shape))


def _gaussian(case: Case, shapes: Shapes) -> Values:
    return _each(shapes, lambda name, shape: _bell(case, name, shape))


def _coherent(case: Case, shapes: Shapes) -> Values:
    """One sign, and mantissas just below a rounding boundary: rounding errors add up instead of cancelling.

    The low half of the mantissa is either all ones (what truncation loses most on) or a zero and then ones (what
    rounding to nearest loses most on), so that operands rounded to tf32 or a half type, or a half accumulator, show at
    any reduction length.
    """
    kept, total = {"float32": (10, 23), "float64": (23, 52), "float16": (5, 10), "bfloat16": (3, 7)}[case.dtype]
    below_next = int(_words(case, 9, 1)[0] >> np.uint64(63))
    low = 2.0 ** -(kept + 1 - below_next) - 2.0**-total

    def draw(name: TensorName, shape: tuple[int, ...]) -> NDArray[np.float64]:
        return 1.0 + _integers(case, name, shape, 0, 2**kept - 1) * 2.0**-kept + low

    return _each(shapes, draw)


def _cancelling(case: Case, shapes: Shapes) -> Values:
    """Neighbouring weights have opposite signs and x hardly varies: the sums are small beside their terms."""
    values = _each(shapes, lambda name, shape: 1.0 + 2.0**-6 * _bell(case, name, shape))
    flat = values["weight"].reshape(shapes["weight"][0], -1)
    flat[:, 1::2] *= -1.0
    return values


def _wide(case: Case, shapes: Shapes) -> Values:
    """Exponents spread far apart, but not so far that a sum overflows."""
    reach = {"float16": 5, "float64": 200}.get(case.dtype, 20)

    def draw(name: TensorName, shape: tuple[int, ...]) -> NDArray[np.float64]:
        words = _words(case, _STREAM[name], math.prod(shape)).reshape(shape)
        exponent = ((words >> np.uint64(3)) % np.uint64(2 * reach + 1)).astype(np.int64) - reach
        mantissa = 1.0 + (words >> np.uint64(12)).astype(np.float64) * 2.0**-52
        return np.where(words & np.uint64(1), -1.0, 1.0) * np.ldexp(mantissa, exponent.astype(np.intc))

    return _each(shapes, draw)


def _scaled(values: Values, exponent: int, factor: TensorName) -> Values:
    """Multiply x or the weight, and the bias, by a power of two."""
    scaled = (factor, "bias")
    return {name: np.ldexp(array, exponent) if name in scaled else array for name, array in values.items()}


def _shifted(case: Case, shapes: Shapes) -> Values:
    """Ordinary numbers times one power of two in x and another in the weight: a narrower type inside would lose them.

    For every other seed a lattice, whose sums are exact all the same.
    """
    low, high = {"float16": (-6, 0), "float64": (-300, 300)}.get(case.dtype, (-40, 40))
    words = _words(case, 9, 3)
    exponents = {name: low + int(words[place] % np.uint64(high - low + 1)) for place, name in ((0, "x"), (1, "weight"))}
    exponents["bias"] = exponents["x"] + exponents["weight"]
    values = _lattice(case, shapes) if words[2] >> np.uint64(63) else _gaussian(case, shapes)
    return {name: np.ldexp(array, exponents[name]) for name, array in values.items()}


def _subnormal(case: Case, shapes: Shapes, factor: TensorName = "x") -> Values:
    """Small multiples of the dtype's smallest subnormal number in x and bias."""
    exponent = {"float16": -24, "bfloat16": -133, "float64": -1074}.get(case.dtype, -149)
    return _scaled(_lattice(case, shapes), exponent, factor)


def _huge(case: Case, shapes: Shapes, factor: TensorName = "x") -> Values:
    """Values above 1e30 (float16: near its end), all above zero after scaling for every other seed."""
    exponent = {"float16": 1, "float64": 900}.get(case.dtype, 100)
    one_sided = _words(case, 9, 1)[0] >> np.uint64(63) == 0
    return _scaled(_positive(case, shapes) if one_sided else _lattice(case, shapes), exponent, factor)


def _zeros(case: Case, shapes: Shapes) -> Values:
    """Nothing but zeros in the weight, or for every other seed in x: only the bias and what is no number are left."""
    empty: TensorName = "weight" if _words(case, 9, 1)[0] >> np.uint64(63) else "x"
    return {name: np.zeros_like(array) if name == empty else array for name, array in _lattice(case, shapes).items()}


_FAMILIES: Final[dict[Family, Callable[[Case, Shapes], Values]]] = {
    "ones": _ones,
    "lattice": _lattice,
    "impulse": _impulse,
    "winner": _winner,
    "positive": _positive,
    "negative": _negative,
    "uniform": _uniform,
    "gaussian": _gaussian,
    "near_tie": _near_tie,
    "coherent": _coherent,
    "cancelling": _cancelling,
    "wide": _wide,
    "shifted": _shifted,
    "subnormal": _subnormal,
    "huge": _huge,
    "subnormal_weight": partial(_subnormal, factor="weight"),
    "huge_weight": partial(_huge, factor="weight"),
    "zeros": _zeros,
}
