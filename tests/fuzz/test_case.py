"""`Case`: what is written is what is read, and a file that breaks a rule says which one."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import msgspec
import pytest
import torch
from everything import EVERYTHING
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.case import (
    DTYPES,
    FAMILIES,
    FORMAT_VERSION,
    PRECISIONS,
    Case,
    CaseFile,
    Sprinkle,
    decode_case,
    encode_case,
    read_case_file,
    write_case_file,
)
from fuzz.layout import CaseError, Layout
from fuzz.strategies import cases

NAMES_FOR_EVAL = {"Case": Case, "Layout": Layout, "Sprinkle": Sprinkle}
SCALES = (math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1.7976931348623157e308, 0.1)


@st.composite
def any_case(draw: st.DrawFn) -> Case:
    """A drawn case, at times with a scale that JSON or a comparison could lose."""
    case = draw(cases(EVERYTHING))
    scale = draw(st.one_of(st.just(case.scale), st.sampled_from(SCALES), st.floats()))
    return msgspec.structs.replace(case, scale=scale)


def case_files() -> st.SearchStrategy[CaseFile]:
    return st.builds(CaseFile, case=any_case(), target=st.text(max_size=20), note=st.text(max_size=20))


def refusal(text: bytes | str) -> str:
    """The words with which a case file is refused."""
    with pytest.raises(CaseError) as caught:
        read_case_file(text)
    return str(caught.value)


def read_or_refuse(text: bytes | str) -> CaseFile | str:
    """What a text holds, or the words with which it is refused."""
    try:
        return read_case_file(text)
    except CaseError as refused:
        return str(refused)


def file_with(**fields: Any) -> str:
    return json.dumps({"version": FORMAT_VERSION, "case": fields})


# What is written is what is read.


@given(any_case())
@example(Case(scale=math.nan))
@example(Case(scale=-math.inf))
@example(Case(scale=-0.0))
def test_json_round_trip(case: Case) -> None:
    again = decode_case(encode_case(case))
    assert again == case, f"JSON lost something: wrote {case}, read {again}"
    assert repr(again.scale) == repr(case.scale), f"scale {case.scale!r} came back as {again.scale!r}"
    assert hash(again) == hash(case), "equal cases must have equal hashes, or the shrinker runs them twice"


@given(any_case())
def test_repr_pastes_into_code(case: Case) -> None:
    again = eval(repr(case), dict(NAMES_FOR_EVAL))
    assert again == case, f"{case!r} builds another case: {encode_case(again)!r}"
    assert "\n" not in repr(case), "a case is shown on one line"


@given(case_files())
def test_case_file_round_trip(file: CaseFile) -> None:
    text = write_case_file(file)
    assert read_case_file(text) == file, f"the file's text reads as something else:\n{text}"
    assert read_case_file(text.encode()) == file, "bytes and text must read the same"
    assert text.endswith("}\n"), "a committed file ends with a newline"


@pytest.mark.parametrize(
    "text",
    [
        '{"n": 1, "seed": 0, "bias": false, "config": null, "specials": []}',
        '{"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1]}',
        '{"scale": 1.0}',
        '{"dtype": "float32", "precision": "default", "values": "ones"}',
        '{"x_layout": {}, "weight_layout": {"order": [], "step": []}, "bias_layout": {"margin": 0}}',
    ],
)
def test_a_default_that_is_written_out_changes_nothing(text: str) -> None:
    """Cases are looked up and compared: by their values, not by which object holds a default."""
    case = decode_case(text)
    assert case == Case(), f"{text} is the default case, but compares as {encode_case(case)!r}"
    assert hash(case) == hash(Case())
    assert encode_case(case) == b"{}", "a default must be left out wherever it came from"


def test_unequal_is_the_opposite_of_equal() -> None:
    case, same, other = Case(c_out=33, scale=math.nan), Case(c_out=33, scale=math.nan), Case(c_out=34, scale=math.nan)
    assert not case != same, "`!=` must compare by value too: the shrinker and the facets ask with it"  # noqa: SIM202
    assert case != other
    assert case in [other, same]


def test_equality_tells_scales_apart() -> None:
    assert Case(scale=math.nan) == Case(scale=math.nan), "a case with a NaN scale must equal itself"
    assert Case(scale=-0.0) != Case(scale=0.0), "the sign of a zero scale decides signs of the result"
    assert Case() != object(), "a case equals only cases"


def test_default_case_is_the_simplest() -> None:
    case = Case()
    assert encode_case(case) == b"{}", "a default that is written out is not treated as the simplest"
    assert repr(case) == "Case(n=1, c_in=1, h=1, w=1, c_out=1, kh=1, kw=1)", "shape only: nothing else is set"
    for value, choices in ((case.values, FAMILIES), (case.dtype, DTYPES), (case.precision, PRECISIONS)):
        assert value == choices[0], f"lists start with the simplest entry, which must be the default: {value!r}"
    assert case.out_size == (1, 1)
    assert case.reduction_length == case.multiplications == 1


@given(any_case())
def test_sizes_are_those_of_pytorch(case: Case) -> None:
    height, width = case.out_size
    for out, size, k, s, p, d in (
        (height, case.h, case.kh, case.stride[0], case.padding[0], case.dilation[0]),
        (width, case.w, case.kw, case.stride[1], case.padding[1], case.dilation[1]),
    ):
        fits = len(range(0, size + 2 * p - d * (k - 1), s))
        assert max(0, out) == fits, f"{fits} windows fit, out_size says {out} for {case}"
    assert case.multiplications == max(0, height) * max(0, width) * case.n * case.c_out * case.reduction_length


# A file that breaks a rule says which one, on one line.

MALFORMED = [
    ("truncated", '{"version": 2, "case": {"n": 2', "not JSON"),
    ("empty", "", "not JSON"),
    ("not JSON", "Case(n=1)", "not JSON"),
    ("not UTF-8", b'{"version": 2, "case": {}, "note": "\xff"}', "not JSON"),
    ("UTF-16", file_with().encode("utf-16"), "not JSON"),
    ("lone surrogate", '{"version": 2, "case": {}, "note": "\ud800"}', "not JSON"),
    ("nested too deep", "[" * 100_000, "not JSON"),
    ("number out of range", '{"version": 2, "case": {"scale": 1e999}}', "range"),
    ("NaN literal", '{"version": 2, "case": {"scale": NaN}}', "not JSON"),
    ("a list", "[]", "object"),
    ("a number", "1", "object"),
    ("null", "null", "object"),
    ("no version", '{"case": {}}', "version"),
    ("no case", '{"version": 2}', "case"),
    ("later version", '{"version": 3, "case": {}}', "version=3"),
    ("version as text", '{"version": "1", "case": {}}', "version='1'"),
    ("case is a list", '{"version": 2, "case": []}', "object"),
    ("case is null", '{"version": 2, "case": null}', "object"),
    ("target is a number", '{"version": 2, "case": {}, "target": 3}', "target"),
    ("note is a list", '{"version": 2, "case": {}, "note": []}', "note"),
    ("unknown field of the file", '{"version": 2, "case": {}, "taget": "two-pass"}', "taget"),
    ("unknown field", file_with(channels=3), "channels"),
    ("unknown field with a line break", file_with(**{"a\nb": 3}), "unknown field"),
    ("unknown field of a layout", file_with(x_layout={"strides": [1]}), "strides"),
    ("unknown field of a sprinkle", file_with(specials=[{"tensor": "x", "value": "nan", "at": 0}]), "at"),
    ("text for a number", file_with(n="1"), "$.n"),
    ("fraction for a number", file_with(h=1.5), "$.h"),
    ("bool for a number", file_with(w=True), "$.w"),
    ("number for a bool", file_with(bias=1), "$.bias"),
    ("null for a number", file_with(c_in=None), "$.c_in"),
    ("one number for a pair", file_with(stride=2), "$.stride"),
    ("three numbers for a pair", file_with(padding=[1, 1, 1]), "$.padding"),
    ("text for the scale", file_with(scale="one"), "$.scale"),
    ("list for the scale", file_with(scale=[]), "$.scale"),
    ("unknown dtype", file_with(dtype="int8"), "$.dtype"),
    ("unknown precision", file_with(precision="bf16x3"), "$.precision"),
    ("unknown family", file_with(values="random"), "$.values"),
    ("unknown special", file_with(specials=[{"tensor": "x", "value": "zero"}]), "$.specials[0].value"),
    ("unknown tensor", file_with(specials=[{"tensor": "out", "value": "nan"}]), "$.specials[0].tensor"),
    ("negative batch", file_with(n=-1), "n=-1"),
    *((f"{name} of 0", file_with(**{name: 0}), f"{name}=0") for name in ("c_in", "h", "w", "c_out", "kh", "kw")),
    ("no groups", file_with(groups=0), "groups=0"),
    ("groups that do not divide c_in", file_with(groups=2, c_in=3, c_out=2), "c_in=3"),
    ("groups that do not divide c_out", file_with(groups=2, c_in=2, c_out=3), "c_out=3"),
    ("stride 0", file_with(stride=[1, 0]), "stride=0"),
    ("negative padding", file_with(padding=[0, -1]), "padding=-1"),
    ("dilation 0", file_with(dilation=[0, 1]), "dilation=0"),
    ("negative seed", file_with(seed=-1), "seed=-1"),
    ("seed of 65 bits", file_with(seed=2**64), f"seed={2**64}"),
    ("no sprinkles", file_with(specials=[{"tensor": "x", "value": "nan", "count": 0}]), "count=0"),
    ("order that repeats", file_with(x_layout={"order": [0, 0, 1, 2]}), "x_layout.order"),
    ("order of too few", file_with(weight_layout={"order": [1, 0]}), "weight_layout.order"),
    ("order of too many", file_with(bias_layout={"order": [0, 1]}), "bias_layout.order"),
    ("step of too few", file_with(x_layout={"step": [2]}), "x_layout.step"),
    ("step 0", file_with(bias_layout={"step": [0]}), "bias_layout.step"),
    ("negative margin", file_with(x_layout={"margin": -1}), "x_layout.margin"),
    ("negative offset", file_with(x_layout={"offset": -1}), "x_layout.offset"),
    ("negative unit_stride", file_with(x_layout={"unit_stride": -1}), "x_layout.unit_stride"),
    ("expand of no dimension", file_with(bias_layout={"expand": [1]}), "bias_layout.expand"),
    ("expand twice", file_with(x_layout={"expand": [1, 1]}), "x_layout.expand"),
]

TERABYTES = [
    ("batch", file_with(n=2**40), "n="),
    ("batch beyond 64 bits", file_with(n=10**40), "n="),
    ("kernel", file_with(kh=2**32, kw=2**32), "weight of shape"),
    ("padding", file_with(padding=[2**20, 2**20]), "output"),
    ("padding that dilation takes back", file_with(kh=2, padding=[2**61, 0], dilation=[2**62, 1]), "padding"),
    ("offset", file_with(x_layout={"offset": 2**20}), "x_layout"),
    ("margins", file_with(x_layout={"margin": 1024}), "x_layout"),
    ("steps", file_with(n=64, c_in=64, h=64, w=64, x_layout={"step": [1024] * 4}), "x_layout"),
    ("stride of a dimension of size 1", file_with(x_layout={"unit_stride": 2**70}), "x_layout"),
    ("stride", file_with(stride=[2**70, 1]), "stride"),
    ("sprinkles", file_with(specials=[{"tensor": "x", "value": "nan", "count": 2**50}]), "count"),
]


@pytest.mark.parametrize(
    ("text", "named"), [pytest.param(text, named, id=name) for name, text, named in MALFORMED + TERABYTES]
)
def test_malformed_file_is_refused_with_one_line(text: bytes | str, named: str) -> None:
    message = refusal(text)
    assert named in message, f"the message must name the problem, {named!r}: {message!r}"
    assert len(message.splitlines()) == 1, f"a refusal is one line: {message!r}"


@given(file=case_files(), data=st.data())
def test_every_truncation_is_refused(file: CaseFile, data: st.DataObject) -> None:
    text = write_case_file(file).encode()
    length = data.draw(st.integers(0, len(text) - 1), label="bytes that are left")
    if length == len(text) - 1:
        assert read_case_file(text[:length]) == file, "only the last newline is missing"
    else:
        assert "not JSON" in refusal(text[:length])


def test_every_truncation_of_one_file_is_refused() -> None:
    text = write_case_file(CaseFile(case=Case(n=2, scale=math.inf, specials=(Sprinkle("x", "nan"),)))).encode()
    for length in range(len(text) - 1):
        assert "not JSON" in refusal(text[:length])


FIELD_NAMES = tuple(info.name for info in msgspec.structs.fields(Case))
JSON_LEAF = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-2, 3), st.floats(allow_nan=False, allow_infinity=False)
) | st.sampled_from(("nan", "inf", "x", "float16", "lattice", ""))
JSON_VALUE = st.recursive(
    JSON_LEAF | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def nearly_case_files(draw: st.DrawFn) -> str:
    """A case file with anything at all in some of its fields."""
    names = st.sampled_from((*FIELD_NAMES, "x_layout", "specials")) | st.text(max_size=5)
    layout = st.dictionaries(
        st.sampled_from(("order", "step", "margin", "offset", "expand", "unit_stride")),
        JSON_VALUE | st.lists(st.integers(-1, 5), max_size=5),
    )
    sprinkle = st.lists(st.fixed_dictionaries({"tensor": JSON_LEAF, "value": JSON_LEAF, "count": JSON_LEAF}))
    fields = draw(st.dictionaries(names, JSON_VALUE | layout | sprinkle, max_size=4))
    version = draw(st.sampled_from((1, 1, 1, 0, "1", None)) | JSON_VALUE)
    return json.dumps({"version": version, "case": fields, **draw(st.dictionaries(st.text(max_size=5), JSON_VALUE))})


@given(st.one_of(st.binary(), st.text(), JSON_VALUE.map(json.dumps), nearly_case_files()))
def test_any_input_reads_or_is_refused_with_one_line(text: bytes | str) -> None:
    file = read_or_refuse(text)
    if isinstance(file, str):
        assert len(file.splitlines()) == 1, f"a refusal is one line: {file!r}"
    else:
        assert read_case_file(write_case_file(file)) == file, f"what was accepted cannot be written: {file}"


@given(file=case_files(), data=st.data())
def test_one_changed_byte_reads_or_is_refused(file: CaseFile, data: st.DataObject) -> None:
    text = bytearray(write_case_file(file).encode())
    place = data.draw(st.integers(0, len(text) - 1), label="place")
    text[place] = data.draw(st.integers(0, 255), label="byte")
    outcome = read_or_refuse(bytes(text))
    assert isinstance(outcome, CaseFile) or len(outcome.splitlines()) == 1, f"a refusal is one line: {outcome!r}"


@pytest.mark.parametrize(
    ("kernel", "dilation", "sides"), [(1, 1, (0, 0)), (2, 1, (0, 1)), (3, 1, (1, 1)), (4, 2, (3, 3)), (2, 3, (1, 2))]
)
def test_same_padding_puts_the_odd_one_below_and_right(kernel: int, dilation: int, sides: tuple[int, int]) -> None:
    case = Case(h=9, w=5, kh=kernel, kw=kernel, dilation=(dilation, dilation), same=True)
    before, after = sides
    assert case.sides == (before, before, after, after)
    assert case.out_size == (9, 5), "the output is as large as x"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that it pads
        out = torch.conv2d(torch.zeros(case.x_shape), torch.zeros(case.weight_shape), padding="same", dilation=dilation)
    assert tuple(out.shape[2:]) == case.out_size


@pytest.mark.parametrize("fields", [{"stride": (2, 1)}, {"padding": (1, 0)}])
def test_same_padding_stands_alone(fields: dict[str, tuple[int, int]]) -> None:
    with pytest.raises(CaseError, match="same=True needs stride"):
        Case(h=5, w=5, same=True, **fields)  # type: ignore[arg-type]  # stride or padding
