"""`Case`: everything that decides one trial, as a value.

A case holds no tensors and no randomness: shapes, memory layouts, the name of a value family and a seed. The same
case gives the same tensors, bit for bit, on any machine (`fuzz.tensors`), which is what makes a failure replayable.
The defaults are the simplest values, so a shrunk case says by what it still sets what the failure needs.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal, get_args

import msgspec

from fuzz.checksum import checksum
from fuzz.layout import CONTIGUOUS, MAX_ELEMENTS, CaseError, Layout, arguments, check_layout, same, within

FORMAT_VERSION: Final = 2
_MAX_OPTION: Final = 2**20
_MAX_SPRINKLES: Final = 2**20
_MAX_EARLIER: Final = 64

Dtype = Literal["float32", "float16", "bfloat16", "float64"]
Precision = Literal["default", "ieee", "tf32"]
TensorName = Literal["x", "weight", "bias"]
Special = Literal["nan", "inf", "-inf"]
Family = Literal[
    "ones",
    "lattice",
    "impulse",
    "winner",
    "positive",
    "negative",
    "uniform",
    "gaussian",
    "near_tie",
    "coherent",
    "cancelling",
    "wide",
    "shifted",
    "subnormal",
    "huge",
    "subnormal_weight",
    "huge_weight",
    "zeros",
]

# What came before the call that is judged, in the same process and on the same module (`fuzz.earlier`).
Earlier = Literal[
    "same",
    "contents",
    "layout",
    "weight layout",
    "bias layout",
    "larger",
    "smaller",
    "scale",
    "bias",
    "argument",
    "dtype",
    "c_in",
    "c_out",
]
# A second call whose result follows from that of the first (`fuzz.relations`).
Relation = Literal[
    "repeat",
    "other layout",
    "permuted channels",
    "duplicate channel",
    "permuted batch",
    "one image",
    "crop",
    "explicit padding",
    "scale times power of two",
    "negated",
    "channel of zeros",
    "other config",
    "other stream",
]

DTYPES: Final[tuple[Dtype, ...]] = get_args(Dtype)
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)
# Families of very small or very large numbers.
EXTREME_FAMILIES: Final[tuple[Family, ...]] = ("shifted", "subnormal", "huge", "subnormal_weight", "huge_weight")
EARLIER: Final[tuple[Earlier, ...]] = get_args(Earlier)
RELATIONS: Final[tuple[Relation, ...]] = get_args(Relation)


class Sprinkle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Special values put into a tensor at positions that the case's seed decides.

    Attributes:
        tensor: The tensor that receives them.
        value: What is written.
        count: At how many positions (fewer where the tensor is smaller).
    """

    tensor: TensorName
    value: Special
    count: int = 1


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, eq=False):
    """One call of the operation on one set of tensors.

    `x [n, c_in, h, w]`, `weight [c_out, c_in/groups, kh, kw]`, `bias [c_out]` or none, `scale` a float.

    Attributes:
        same: Whether the padding is PyTorch's "same": as many zeros as make the output as large as x, the odd one below
            and right. It stands in place of `padding`, and needs stride 1.
        precision: How float32 products are judged: `ieee`, `tf32`, or `default`, which is what PyTorch itself would do
            on the device.
        config: Name of a launch configuration, for targets that have named ones.
        values: The value family (`fuzz.values`).
        specials: NaN and infinities on top of the value family.
        earlier: Calls before the one that is judged, in order.
        relation: A second call that must agree with the first.
        seed: Seed of every value that is not fixed by the fields above.
    """

    n: int = 1
    c_in: int = 1
    h: int = 1
    w: int = 1
    c_out: int = 1
    kh: int = 1
    kw: int = 1
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    same: bool = False
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = False
    scale: float = 1.0
    dtype: Dtype = "float32"
    precision: Precision = "default"
    config: str | None = None
    x_layout: Layout = CONTIGUOUS
    weight_layout: Layout = CONTIGUOUS
    bias_layout: Layout = CONTIGUOUS
    values: Family = "ones"
    specials: tuple[Sprinkle, ...] = ()
    earlier: tuple[Earlier, ...] = ()
    relation: Relation | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every rule; raises `CaseError`."""
        _check(self)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """Shape of x."""
        return self.n, self.c_in, self.h, self.w

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape of the weight."""
        return self.c_out, self.c_in // self.groups, self.kh, self.kw

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output, as in `torch.nn.Conv2d`; below 1 where PyTorch rejects the case."""
        above, left, below, right = self.sides
        sizes = zip((self.h + above + below, self.w + left + right), self.window, self.stride, strict=True)
        height, width = ((size - window) // step + 1 for size, window, step in sizes)
        return height, width

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of what one output value sees of the padded x."""
        return self.dilation[0] * (self.kh - 1) + 1, self.dilation[1] * (self.kw - 1) + 1

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Rows and columns of zeros above, left, below and right."""
        if not self.same:
            return *self.padding, *self.padding
        above, left = ((size - 1) // 2 for size in self.window)
        return above, left, self.window[0] - 1 - above, self.window[1] - 1 - left

    @property
    def reduction_length(self) -> int:
        """Number of products in one output value of one channel."""
        return self.c_in // self.groups * self.kh * self.kw

    @property
    def calls(self) -> int:
        """How often one trial calls the target."""
        return 2 * (1 + len(self.earlier)) + (self.relation is not None)

    @property
    def multiplications(self) -> int:
        """Products in the whole call; 0 where PyTorch rejects the case."""
        height, width = (max(0, size) for size in self.out_size)
        return self.n * height * width * self.c_out * self.reduction_length

    def __eq__(self, other: object) -> bool:
        """Compare by what is written, so that NaN equals itself and -0.0 differs from 0.0."""
        return isinstance(other, Case) and self._written() == other._written()

    def __ne__(self, other: object) -> bool:
        """Return the opposite of `==`, which a msgspec structure would not do by itself."""
        return not self == other

    def __hash__(self) -> int:
        """Hash what is compared."""
        return hash(self._written())

    def _written(self) -> tuple[Any, ...]:
        return tuple(repr(value) if isinstance(value, float) else value for value in msgspec.structs.astuple(self))

    def __repr__(self) -> str:
        """Return the constructor call that rebuilds this case: the shape, and whatever else is not at its default."""
        return f"Case({arguments(self, always=('n', 'c_in', 'h', 'w', 'c_out', 'kh', 'kw'))})"


class CaseFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a `case.json` holds: the case, and the target that it was found on."""

    case: Case
    target: str = "fused"
    note: str = ""


def encode_case(case: Case) -> bytes:
    """Return the case as one line of JSON."""
    return msgspec.json.encode(_plain(case))


def decode_case(text: bytes | str) -> Case:
    """Return the case that `encode_case` wrote; raises `CaseError` where the text breaks a rule."""
    return case_of(_parse(text))


def write_case_file(file: CaseFile) -> str:
    """Return the text of a `case.json`."""
    case = _plain(file.case)
    document = {"version": FORMAT_VERSION, "target": file.target, "note": file.note, "case": case}
    document["checksum"] = checksum(case)
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def read_case_file(text: bytes | str) -> CaseFile:
    """Return what a `case.json` holds; raises `CaseError` with one line that says what is wrong."""
    document = _parse(text)
    if not isinstance(document, dict) or "case" not in document or "version" not in document:
        raise CaseError('a case file is a JSON object with "version" and "case"')
    if document["version"] != FORMAT_VERSION:
        raise CaseError(
            f"version={document['version']!r} is not one that this program reads (it reads {FORMAT_VERSION})"
        )
    unknown = sorted(document.keys() - {"version", "target", "note", "case", "checksum"})
    if unknown:
        raise CaseError(f"a case file has no field named {unknown[0]!r}")
    target, note = document.get("target", "fused"), document.get("note", "")
    if not isinstance(target, str) or not isinstance(note, str):
        raise CaseError('"target" and "note" must be strings')
    case = case_of(document["case"])
    # A case that somebody has written by hand has none.
    if document.get("checksum") not in (None, checksum(document["case"])):
        raise CaseError('"case" is not what "checksum" was made from: without that field the case counts as it stands')
    return CaseFile(case=case, target=target, note=note)


def _parse(text: bytes | str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise CaseError(f"not JSON: {_one_line(error)}") from None


def _plain(case: Case) -> dict[str, Any]:
    """Turn a case into JSON's own types; JSON has no NaN and no infinity, so such a scale is written as its name."""
    defaults = {info.name: info.default for info in msgspec.structs.fields(Case)}
    plain: dict[str, Any] = msgspec.to_builtins(case)
    fields = {name: value for name, value in plain.items() if not same(getattr(case, name), defaults[name])}
    if not math.isfinite(case.scale):
        fields["scale"] = str(case.scale)
    return fields


def case_of(fields: Any) -> Case:
    """Return the case that a JSON object stands for; raises `CaseError` where it breaks a rule."""
    if isinstance(fields, dict) and fields.get("scale") in ("nan", "inf", "-inf"):
        fields = {**fields, "scale": float(fields["scale"])}
    try:
        return msgspec.convert(fields, Case)
    except msgspec.ValidationError as error:
        raise CaseError(_one_line(error)) from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _check(case: Case) -> None:
    """Raise `CaseError` unless every field is in range; a kernel larger than its input is, as an error case."""
    for name, least in (("n", 0), ("c_in", 1), ("h", 1), ("w", 1), ("c_out", 1), ("kh", 1), ("kw", 1), ("groups", 1)):
        within(name, getattr(case, name), least, MAX_ELEMENTS)
    for name, least in (("stride", 1), ("padding", 0), ("dilation", 1)):
        for value in getattr(case, name):
            within(name, value, least, _MAX_OPTION)
    if case.same and (case.stride, case.padding) != ((1, 1), (0, 0)):
        raise CaseError(f"same=True needs stride (1, 1) and padding (0, 0), got {case.stride} and {case.padding}")
    for name in ("c_in", "c_out"):
        if getattr(case, name) % case.groups:
            raise CaseError(f"{name}={getattr(case, name)} must be a multiple of groups={case.groups}")
    within("seed", case.seed, 0, 2**64 - 1)
    within("number of earlier calls", len(case.earlier), 0, _MAX_EARLIER)
    for sprinkle in case.specials:
        within("specials.count", sprinkle.count, 1, _MAX_SPRINKLES)
    for name, shape in (("x", case.x_shape), ("weight", case.weight_shape), ("bias", (case.c_out,))):
        if math.prod(shape) > MAX_ELEMENTS:
            raise CaseError(f"{name} of shape {shape} has more than {MAX_ELEMENTS} elements")
        check_layout(f"{name}_layout", getattr(case, f"{name}_layout"), shape)
    if case.n * math.prod(max(0, size) for size in case.out_size) > MAX_ELEMENTS:
        raise CaseError(f"an output of size {case.out_size} has more than {MAX_ELEMENTS} elements")
