"""Value families: the same numbers everywhere, and each family with the property that makes it worth drawing."""

from __future__ import annotations

import hashlib
import math

import msgspec
import numpy as np
import pytest
import torch
from everything import EVERYTHING
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d

from fuzz.case import DTYPES, FAMILIES, Case, Dtype, Family, Sprinkle
from fuzz.layout import Layout
from fuzz.strategies import cases, sprinkles
from fuzz.tensors import TORCH_DTYPE
from fuzz.values import Shapes, Values, draw_values

LATTICES: tuple[Family, ...] = ("ones", "lattice", "impulse", "winner", "positive", "negative", "near_tie")
SMALLEST_SUBNORMAL = {"float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133, "float64": 2.0**-1074}


def shapes_of(case: Case) -> Shapes:
    """Full shapes, as for tensors without stride 0."""
    shapes: Shapes = {"x": case.x_shape, "weight": case.weight_shape}
    if case.bias:
        shapes["bias"] = (case.c_out,)
    return shapes


def drawn(case: Case) -> Values:
    return draw_values(case, shapes_of(case))


def with_family(family: Family, **fixed: object) -> st.SearchStrategy[Case]:
    """Small drawn cases of one family, without special values."""
    return cases(EVERYTHING, effort=0.25).map(
        lambda case: msgspec.structs.replace(case, values=family, specials=(), **fixed)
    )


def rounded(case: Case, values: Values) -> dict[str, torch.Tensor]:
    """The numbers in the case's dtype."""
    return {name: torch.from_numpy(array).to(TORCH_DTYPE[case.dtype]) for name, array in values.items()}


def convolved(case: Case, tensors: dict[str, torch.Tensor], *, magnitude: bool = False) -> torch.Tensor:
    """The convolution in float64, or that of absolute values."""
    exact = {name: tensor.double().abs() if magnitude else tensor.double() for name, tensor in tensors.items()}
    return conv2d(exact["x"], exact["weight"], exact.get("bias"), case.stride, case.padding, case.dilation, case.groups)


def has_output(case: Case) -> bool:
    return case.n > 0 and min(case.out_size) > 0


# The same numbers on every machine.


@given(cases(EVERYTHING))
def test_a_case_always_gives_the_same_bits(case: Case) -> None:
    first, again = drawn(case), drawn(msgspec.structs.replace(case))
    assert list(first) == list(shapes_of(case)), "a value for every tensor that the case has"
    for name, array in first.items():
        assert array.dtype == np.float64
        assert array.shape == shapes_of(case)[name], f"{name} has shape {array.shape}"
        assert array.tobytes() == again[name].tobytes(), f"{name} differs between two draws of {case}"


PINNED: dict[Family, str] = {
    "ones": "b9b6485cc119c8b25689a184890b5247",
    "lattice": "42fb4d958df2dbe52957ed8d4c7cbe77",
    "impulse": "29177c30956f06c53460a062b21ff690",
    "winner": "769946ae56495e8433f10f9ef157c30d",
    "positive": "d04373aaa55dce8b0fbaeac7fb7342a9",
    "negative": "f398f209790bef6fecf9616e781dc629",
    "uniform": "d030ea993b84a5a75fc9ac6f08d04544",
    "gaussian": "b17a7d5603ee20a1e05b7c7e3a5d3d62",
    "near_tie": "ce0dc8fa04749c4ec1c22a495fe23198",
    "coherent": "4b508e266a89c8ece51b9f12d9cd2f34",
    "cancelling": "f98fcb8b56480787ca04e484a815e5b4",
    "wide": "a32ffaff0f5adee92b0afc6ce46ba049",
    "shifted": "cdc9a03abb417f7953e8c798d7f23f75",
    "subnormal": "a6e7964f7f7a64cc83f58c64c08e123c",
    "huge": "308ee0c0916de4e0b0d013fd4e94d32b",
    "subnormal_weight": "78e5c4a0b10f617d44e678bea2c42e25",
    "zeros": "7840912ddb5833d23a431ee05c92e9da",
    "huge_weight": "1758acd0f58332aff6c97d4c1c28a36b",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_bits_are_pinned(family: Family) -> None:
    """Kept failures are replayed from their seeds: if a family's bits change, they all silently become other cases."""
    case = Case(
        n=2,
        c_in=4,
        h=6,
        w=7,
        c_out=34,
        kh=3,
        kw=2,
        groups=2,
        bias=True,
        scale=-0.75,
        dtype="float16" if family == "coherent" else "float32",
        values=family,
        specials=(Sprinkle("weight", "-inf", 2),),
        seed=20240229,
    )
    digest = hashlib.sha256()
    for name, array in drawn(case).items():
        digest.update(name.encode() + array.astype("<f8").tobytes())
    assert digest.hexdigest()[:32] == PINNED[family], (
        f"{family} draws other numbers than it used to. If that is meant, raise FORMAT_VERSION in fuzz/case.py, "
        "so that old case files are refused, and pin the new digest"
    )


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**53, 2**62, 2**63, 2**64 - 2])
def test_every_bit_of_the_seed_counts(seed: int) -> None:
    case = Case(h=4, w=4, values="gaussian", seed=seed)
    following = msgspec.structs.replace(case, seed=seed + 1)
    assert (drawn(case)["x"] != drawn(following)["x"]).any(), f"seeds {seed} and {seed + 1} give the same numbers"


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "ones"])
def test_seeds_differ(family: Family) -> None:
    case = Case(n=1, c_in=3, h=4, w=4, c_out=5, kh=3, kw=3, values=family)
    seen = {drawn(msgspec.structs.replace(case, seed=seed))["weight"].tobytes() for seed in range(8)}
    assert len(seen) > 1, f"{family} gives the same weight for eight seeds"


@given(cases(EVERYTHING), st.sampled_from(("x", "weight", "bias")))
def test_stored_shapes_of_expanded_tensors_are_filled(case: Case, name: str) -> None:
    """Dimensions of stride 0 arrive here with size 1."""
    case = msgspec.structs.replace(case, bias=True)
    shapes = shapes_of(case)
    shapes[name] = tuple(min(1, size) for size in shapes[name])  # type: ignore[index]
    values = draw_values(case, shapes)
    assert {key: array.shape for key, array in values.items()} == shapes


# What each family promises.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_finite_in_every_dtype(family: Family, dtype: Dtype) -> None:
    for seed in range(4):
        case = Case(n=2, c_in=17, h=5, w=5, c_out=33, kh=3, kw=3, bias=True, dtype=dtype, values=family, seed=seed)
        for name, tensor in rounded(case, drawn(case)).items():
            assert bool(tensor.isfinite().all()), f"{name} of {case} overflows {dtype}"


@pytest.mark.parametrize("family", LATTICES)
@settings(max_examples=20)
@given(data=st.data())
def test_lattices_are_exact(family: Family, data: st.DataObject) -> None:
    """At most 8 significant bits, and sums below 2^24: the same in every dtype, order and precision."""
    case = data.draw(with_family(family).filter(has_output))
    values = drawn(case)
    for name, array in values.items():
        assert (array == np.round(array)).all(), f"{name} holds a fraction"
        assert (rounded(case, values)[name].double().numpy() == array).all(), f"{case.dtype} rounds {name}"
    top = float(convolved(case, rounded(case, values), magnitude=True).max())
    assert top < 2**24, f"the sum of magnitudes reaches {top}, fp32 is exact below 2^24"


@given(with_family("ones"))
def test_ones_are_ones(case: Case) -> None:
    assert all((array == 1).all() for array in drawn(case).values())


@pytest.mark.parametrize(("family", "sign"), [("positive", 1), ("negative", -1)])
@given(data=st.data(), scale=st.sampled_from((1.0, -1.0, 0.5, -2.0, 3.0, -0.375)))
def test_one_sided_families_give_scaled_values_of_one_sign(
    family: Family, sign: int, data: st.DataObject, scale: float
) -> None:
    # Where padding covers a whole window, the sum is 0.
    case = data.draw(with_family(family, scale=scale, padding=(0, 0)).filter(has_output))
    scaled = convolved(case, rounded(case, drawn(case))) * scale
    assert bool((scaled * sign > 0).all()), (
        f"{family}, scale {scale}: some scaled value is {float((-sign * scaled).max())}"
    )


@given(with_family("impulse").filter(lambda case: case.n > 0))
def test_impulse_names_the_element_it_took(case: Case) -> None:
    values = drawn(case)
    hot = (values["x"] == 1).reshape(case.n, -1).sum(axis=1)
    assert (hot == 1).all(), f"each image has one 1, not {hot}"
    assert set(np.unique(values["x"])) <= {0.0, 1.0}
    weight = values["weight"].reshape(-1)
    step = 255
    near = min(step, weight.size)
    assert len(np.unique(weight[:near])) == near, f"{near} neighbouring weights are not all different"
    assert (weight != 0).all(), "a weight of 0 cannot be told from a missing one"


@pytest.mark.parametrize("scale", [1.0, -2.0])
@pytest.mark.parametrize(
    ("fields", "seeds"),
    [
        ({"c_out": 20, "bias": True}, 6),
        ({"c_out": 20, "c_in": 2}, 6),
        ({"c_out": 20, "c_in": 6, "groups": 2}, 12),
        ({"c_out": 20, "bias": True, "kh": 3, "kw": 2}, 6),
        ({"c_out": 130, "bias": True}, 60),
        ({"c_out": 65, "c_in": 3, "dtype": "bfloat16"}, 40),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_winner_makes_every_channel_the_sole_minimum_somewhere(
    fields: dict[str, object], seeds: int, scale: float
) -> None:
    """Otherwise a skipped channel, the last tile's for example, goes unseen."""
    won: set[int] = set()
    for seed in range(seeds):
        case = Case(n=2, h=16, w=16, scale=scale, values="winner", seed=seed, **fields)  # type: ignore[arg-type]
        scaled = convolved(case, rounded(case, drawn(case))) * scale
        least = scaled.amin(dim=1, keepdim=True)
        sole = (scaled == least).sum(dim=1, keepdim=True) == 1
        won |= set(((scaled == least) & sole).nonzero()[:, 1].tolist())
    never = sorted(set(range(case.c_out)) - won)
    assert not never, f"channels {never} are never the sole minimum in {seeds} seeds"


@given(with_family("near_tie").filter(has_output))
def test_near_tie_is_decided_by_one_unit(case: Case) -> None:
    values = drawn(case)
    weight = values["weight"].reshape(case.c_out, -1)
    apart = np.abs(weight - weight.min(axis=0)).sum(axis=1)
    assert apart.max() <= 1, "the weights of two channels differ by one unit at most, each from the common row"


def mantissa(array: np.ndarray, bits: int) -> np.ndarray:
    """The explicit mantissa bits of numbers in [1, 2)."""
    return ((array - 1.0) * 2.0**bits).astype(np.int64)


@given(with_family("coherent"))
def test_coherent_lies_below_a_rounding_boundary(case: Case) -> None:
    kept, total = {"float32": (10, 23), "float64": (23, 52), "float16": (5, 10), "bfloat16": (3, 7)}[case.dtype]
    values = drawn(case)
    low = total - kept
    for name, array in values.items():
        assert ((array >= 1) & (array < 2)).all(), f"{name} has numbers outside [1, 2)"
        exact = rounded(case, values)[name].double().numpy()
        assert (exact == array).all(), f"{case.dtype} rounds {name} before the kernel sees it"
        tails = set((mantissa(array, total) & (2**low - 1)).reshape(-1).tolist())
        assert tails <= {2**low - 1, 2 ** (low - 1) - 1}, f"the low {low} bits of {name} are {sorted(map(bin, tails))}"
        assert len(tails) <= 1, "one pattern per case, or the errors do not add up"


def test_coherent_draws_both_patterns() -> None:
    seen = {
        int(mantissa(drawn(Case(values="coherent", seed=seed))["x"], 23)[0, 0, 0, 0]) & 0x1FFF for seed in range(16)
    }
    assert seen == {0x1FFF, 0x0FFF}, f"truncation and rounding to nearest have their own worst case, saw {seen}"


# By family, the factor that is near an end of the range.
EXTREME_FACTOR = {"subnormal": "x", "huge": "x", "subnormal_weight": "weight", "huge_weight": "weight"}


@given(with_family("subnormal") | with_family("subnormal_weight"))
def test_subnormal_is_made_of_the_smallest_numbers(case: Case) -> None:
    """At most 128 steps, which is where bfloat16's subnormals end; other dtypes have more of them."""
    step, factor = SMALLEST_SUBNORMAL[case.dtype], EXTREME_FACTOR[case.values]
    tensors = rounded(case, drawn(case))
    tiny = torch.finfo(TORCH_DTYPE[case.dtype]).tiny
    for name in (factor, "bias"):
        if name in tensors:
            size = tensors[name].double().abs()
            assert bool((size <= tiny).all()), f"{name} holds {float(size.max())}, subnormal ends at {tiny}"
            assert bool((size <= 128 * step).all())
    exact = drawn(case)[factor]
    assert (tensors[factor].double().numpy() == exact).all(), f"{case.dtype} rounds {factor}"


@pytest.mark.parametrize("family", ["subnormal", "subnormal_weight"])
def test_subnormal_draws_numbers_that_flushing_would_lose(family: Family) -> None:
    factor = EXTREME_FACTOR[family]
    for dtype in DTYPES:
        case = Case(h=8, w=8, c_out=8, dtype=dtype, values=family, seed=1)
        tiny = rounded(case, drawn(case))[factor]
        lost = (tiny != 0) & (tiny.double().abs() < torch.finfo(TORCH_DTYPE[dtype]).tiny)
        assert bool(lost.any()), f"{dtype}: flushing subnormals would change nothing"


@given((with_family("huge") | with_family("huge_weight")).filter(has_output))
def test_huge_is_huge_and_does_not_overflow(case: Case) -> None:
    tensors = rounded(case, drawn(case))
    limit = torch.finfo(TORCH_DTYPE[case.dtype]).max
    top = float(convolved(case, tensors, magnitude=True).max())
    assert top <= limit, f"a sum of magnitudes of {top} overflows {case.dtype} before it is scaled"
    if case.dtype != "float16":
        factor = tensors[EXTREME_FACTOR[case.values]]
        nonzero = factor[factor != 0].double().abs()
        assert bool((nonzero > 1e30).all()), f"{EXTREME_FACTOR[case.values]} holds {float(nonzero.min())}"


@given(with_family("cancelling").filter(lambda case: has_output(case) and case.reduction_length >= 8))
def test_cancelling_sums_are_small_beside_their_terms(case: Case) -> None:
    case = msgspec.structs.replace(case, bias=False, padding=(0, 0))
    if not has_output(case):
        return
    tensors = rounded(case, drawn(case))
    ratio = convolved(case, tensors).abs() / convolved(case, tensors, magnitude=True)
    assert float(ratio.median()) < 0.3, f"half of the sums keep {float(ratio.median()):.2f} of their terms"


def test_wide_spreads_exponents_without_overflow() -> None:
    for dtype, decades in (("float32", 8), ("float16", 2), ("bfloat16", 8), ("float64", 80)):
        case = Case(c_in=64, h=8, w=8, c_out=33, kh=3, kw=3, bias=True, dtype=dtype, values="wide", seed=3)
        tensors = rounded(case, drawn(case))
        size = tensors["x"].double().abs()
        spread = math.log10(float(size.max() / size.min()))
        assert spread > decades, f"{dtype}: magnitudes spread over {spread:.1f} decades"
        top = float(convolved(case, tensors).abs().max())
        assert top <= torch.finfo(TORCH_DTYPE[dtype]).max, f"{dtype}: a sum of {top} overflows"


@given(with_family("shifted").filter(has_output))
def test_shifted_neither_overflows_nor_underflows(case: Case) -> None:
    """Products and sums are normal numbers of float32, and the results of float16 fit."""
    tensors = rounded(case, drawn(case))
    top = float(convolved(case, tensors, magnitude=True).max())
    limit = torch.finfo(TORCH_DTYPE[case.dtype]).max
    assert top <= limit, f"a sum of magnitudes of {top} overflows {case.dtype} before it is scaled"
    least = [tensor[tensor != 0].double().abs().min() for tensor in tensors.values() if bool((tensor != 0).any())]
    accumulator = torch.float64 if case.dtype == "float64" else torch.float32
    assert math.prod(map(float, least[:2])) > torch.finfo(accumulator).tiny, "a product is subnormal where it is summed"


def test_shifted_has_exact_and_inexact_cases_of_many_magnitudes() -> None:
    for dtype, spread in (("float32", 60), ("float16", 4), ("bfloat16", 60), ("float64", 400)):
        seen = [drawn(Case(h=4, w=4, dtype=dtype, values="shifted", seed=seed))["x"] for seed in range(40)]
        exponents = [math.frexp(float(np.abs(x).max()))[1] for x in seen]
        assert max(exponents) - min(exponents) > spread, (
            f"{dtype}: magnitudes differ by 2^{max(exponents) - min(exponents)}"
        )
        whole = [len(np.unique(np.frexp(x[x != 0])[0] * 2.0**8 % 1)) <= 1 for x in seen]
        assert 0 < sum(whole) < len(whole), f"{dtype}: every other seed should give small integers times a power of two"


@pytest.mark.parametrize(("family", "low", "high"), [("uniform", 0.0, 1.0), ("gaussian", -6.0, 6.0)])
def test_ordinary_families_have_the_moments_of_their_name(family: Family, low: float, high: float) -> None:
    x = drawn(Case(c_in=16, h=32, w=32, values=family, seed=5))["x"]
    mean, deviation = (0.5, math.sqrt(1 / 12)) if family == "uniform" else (0.0, 1.0)
    assert low <= x.min() <= x.max() <= high
    assert abs(x.mean() - mean) < 0.05, f"{family} has mean {x.mean()}"
    assert abs(x.std() - deviation) < 0.05, f"{family} has standard deviation {x.std()}"


# Special values land where they are named.


@given(cases(EVERYTHING), sprinkles())
def test_specials_land_in_the_tensor_they_name(case: Case, specials: tuple[Sprinkle, ...]) -> None:
    case = msgspec.structs.replace(case, specials=specials)
    plain = drawn(msgspec.structs.replace(case, specials=()))
    for name, array in drawn(case).items():
        asked = [sprinkle for sprinkle in specials if sprinkle.tensor == name]
        special = ~np.isfinite(array)
        assert (array == plain[name])[~special].all(), f"sprinkling changed other elements of {name}"
        if not asked or not array.size:
            assert not special.any(), f"{name} holds special values that nobody asked for"
            continue
        assert 1 <= special.sum() <= sum(sprinkle.count for sprinkle in asked), f"{special.sum()} in {name}: {asked}"
        last = float(asked[-1].value)
        found = np.isnan(array) if math.isnan(last) else array == last
        assert found.any(), f"{name} holds no {asked[-1].value}"


def test_specials_move_with_the_seed() -> None:
    places = set()
    for seed in range(8):
        x = drawn(Case(c_in=3, h=8, w=8, specials=(Sprinkle("x", "nan"),), seed=seed))["x"]
        places.add(int(np.isnan(x).reshape(-1).argmax()))
    assert len(places) > 4, f"eight seeds put a NaN at {sorted(places)} only"


def test_layout_does_not_change_the_numbers() -> None:
    case = Case(c_in=3, h=4, w=5, c_out=2, values="gaussian", seed=9)
    moved = msgspec.structs.replace(case, x_layout=Layout(order=(0, 2, 3, 1), offset=3))
    assert all((drawn(moved)[name] == array).all() for name, array in drawn(case).items())
