"""min over output channels of scale * (conv2d(x, weight) + bias), as one Triton kernel.

The convolution is an implicit matrix product. Its rows are output positions, flattened (n, oh, ow); its columns are the
output channels of one group; its inner dimension K runs over (kh, kw, c), channels fastest. One program owns BLOCK_M
positions, walks over all tiles of channels with a running minimum in registers, and writes BLOCK_M numbers.

Names:

    x [N, C_in, H, W]    weight [C_out, C, KH, KW]    bias [C_out]    out [N, 1, OH, OW]    C = C_in / groups
    M                    number of positions, N * OH * OW
    stride_xn            step in elements along dimension n of x; likewise stride_xc, stride_wo (C_out of weight), ...
    stride_h, pad_h, dil_h   the convolution's own stride, padding (above), dilation; likewise _w
    BLOCK_M, BLOCK_N, BLOCK_K    positions, channels, inner products in one tile
    offs_m, offs_n, offs_k       indices that a tile covers; mask_m, mask_n, mask_k tell which of them exist
    h0, w0               where the window of a position begins in x; negative inside the padding
    group_channels       output channels of one group; tiles_per_group the channel tiles that cover them
    ONE_TAP              whether a K tile stays inside one (kh, kw) (many channels) or runs across them (few)
    PADDED               whether a window can reach outside x
    INDEX_64             whether some offset needs 64 bits
"""

import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def tile_indices(tile, BLOCK: tl.constexpr, INDEX_64: tl.constexpr):
    """The indices tile * BLOCK + [0, BLOCK), widened before they are multiplied."""
    index: tl.constexpr = tl.int64 if INDEX_64 else tl.int32
    return tl.full([BLOCK], tile, index) * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def window_origin(offs_m, OH, OW, stride_h, stride_w, pad_h, pad_w):
    """Image and upper left corner of the window of every position; not OH * OW, which may not fit in 32 bits."""
    row = offs_m // OW
    return row // OH, (row % OH) * stride_h - pad_h, (offs_m % OW) * stride_w - pad_w


@triton.jit
def taps_and_channels(tile, C, KW, BLOCK_K: tl.constexpr, ONE_TAP: tl.constexpr, INDEX_64: tl.constexpr):
    """The (kh, kw, c) of one K tile, each [BLOCK_K]; past the end, kh >= KH or c >= C."""
    if ONE_TAP:
        tiles_per_tap = tl.cdiv(C, BLOCK_K)
        tap = tl.full([BLOCK_K], tile // tiles_per_tap, tl.int32)
        offs_c = tile_indices(tile % tiles_per_tap, BLOCK_K, INDEX_64)
    else:
        offs_k = tile_indices(tile, BLOCK_K, INDEX_64)
        tap = offs_k // C
        offs_c = offs_k % C
    return tap // KW, tap % KW, offs_c


@triton.jit
def scaled_conv_tile(
    x_ptr, weight_ptr, bias_ptr, scale_high, scale_mid, scale_low, image, h0, w0, mask_m, channel_tile,
    C, H, W, KH, KW, group_channels, tiles_per_group, k_tiles,
    stride_xn, stride_xc, stride_xh, stride_xw,
    stride_wo, stride_wc, stride_wh, stride_ww, stride_b, dil_h, dil_w,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    ONE_TAP: tl.constexpr, PADDED: tl.constexpr, PRECISION: tl.constexpr, INDEX_64: tl.constexpr,
):  # fmt: skip
    """(conv + bias) * scale for BLOCK_M positions and one tile of channels, with those channels and their mask."""
    index: tl.constexpr = tl.int64 if INDEX_64 else tl.int32
    accumulator: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32

    group = tl.full([], channel_tile // tiles_per_group, index)
    offs_n = tile_indices(channel_tile % tiles_per_group, BLOCK_N, INDEX_64)
    mask_n = offs_n < group_channels
    channel = group * group_channels + offs_n  # [BLOCK_N]

    x_rows = image * stride_xn + h0 * stride_xh + w0 * stride_xw  # [BLOCK_M]
    weight_columns = channel * stride_wo  # [BLOCK_N]
    acc = tl.zeros([BLOCK_M, BLOCK_N], accumulator)
    for k_tile in range(k_tiles):
        kh, kw, c = taps_and_channels(k_tile, C, KW, BLOCK_K, ONE_TAP, INDEX_64)
        # Both operands are zeroed past the end of K: a zero on one side only would meet a NaN on the other.
        mask_k = (kh < KH) & (c < C)  # [BLOCK_K]

        down = kh.to(index) * dil_h
        right = kw.to(index) * dil_w
        mask_x = mask_m[:, None] & mask_k[None, :]  # [BLOCK_M, BLOCK_K]
        if PADDED:
            h = h0[:, None] + down[None, :]
            w = w0[:, None] + right[None, :]
            mask_x &= (h >= 0) & (h < H) & (w >= 0) & (w < W)
        x_columns = down * stride_xh + right * stride_xw + (group * C + c) * stride_xc
        x_tile = tl.load(x_ptr + (x_rows[:, None] + x_columns[None, :]), mask=mask_x, other=0.0)

        weight_rows = kh.to(index) * stride_wh + kw.to(index) * stride_ww + c * stride_wc
        weight_tile = tl.load(  # [BLOCK_K, BLOCK_N]
            weight_ptr + (weight_rows[:, None] + weight_columns[None, :]),
            mask=mask_k[:, None] & mask_n[None, :],
            other=0.0,
        )
        acc = tl.dot(x_tile, weight_tile, acc, input_precision=PRECISION, out_dtype=accumulator)

    if bias_ptr is not None:
        bias = tl.load(bias_ptr + channel * stride_b, mask=mask_n, other=0.0).to(accumulator)
        acc += bias[None, :]
    # A Python float reaches a kernel as fp32: its 64 bits travel as three integers instead.
    scale_bits = (tl.full([], scale_high, tl.int64) << 42) | (tl.full([], scale_mid, tl.int64) << 21)
    scale_bits |= tl.full([], scale_low, tl.int64)
    scale = scale_bits.to(tl.float64, bitcast=True).to(accumulator)
    return acc * scale, channel, mask_n


@triton.jit
def fold_channels(best, nan_seen, value, mask):
    """Fold the channels of value [BLOCK_M, BLOCK_N] into the running minimum and into its NaN flag.

    A channel that does not exist becomes the identity +inf here, after scaling: before, a negative scale would flip it
    and a zero scale would make it NaN. The flag exists because a minimum on the GPU drops NaN.
    """
    is_nan = value != value
    best = tl.minimum(best, tl.min(tl.where(mask & (value == value), value, float("inf")), axis=1))
    return best, tl.maximum(nan_seen, tl.max((mask & is_nan).to(tl.int32), axis=1))


@triton.jit(
    # Triton compiles anew for each argument that is 1 or a multiple of 16: with 28 integers, for nearly every call. It
    # does not pay here, since no load is contiguous along a tile.
    do_not_specialize=[
        "scale_high", "scale_mid", "scale_low", "M", "C", "H", "W", "OH", "OW", "KH", "KW", "group_channels",
        "tiles_per_group", "channel_tiles", "k_tiles", "stride_xn", "stride_xc", "stride_xh", "stride_xw",
        "stride_wo", "stride_wc", "stride_wh", "stride_ww", "stride_b",
        "stride_h", "stride_w", "pad_h", "pad_w", "dil_h", "dil_w",
    ],
    do_not_specialize_on_alignment=["x_ptr", "weight_ptr", "bias_ptr", "out_ptr"],
)  # fmt: skip
def conv_scale_min_kernel(
    x_ptr, weight_ptr, bias_ptr, out_ptr, scale_high, scale_mid, scale_low,
    M, C, H, W, OH, OW, KH, KW, group_channels, tiles_per_group, channel_tiles, k_tiles,
    stride_xn, stride_xc, stride_xh, stride_xw,
    stride_wo, stride_wc, stride_wh, stride_ww, stride_b,
    stride_h, stride_w, pad_h, pad_w, dil_h, dil_w,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    ONE_TAP: tl.constexpr, PADDED: tl.constexpr, PRECISION: tl.constexpr, INDEX_64: tl.constexpr,
):  # fmt: skip
    """One program: the minimum over all channels at BLOCK_M positions."""
    offs_m = tile_indices(tl.program_id(0), BLOCK_M, INDEX_64)
    mask_m = offs_m < M
    image, h0, w0 = window_origin(offs_m, OH, OW, stride_h, stride_w, pad_h, pad_w)

    accumulator: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    best = tl.full([BLOCK_M], float("inf"), accumulator)
    nan_seen = tl.zeros([BLOCK_M], tl.int32)
    for channel_tile in range(channel_tiles):
        value, _, mask_n = scaled_conv_tile(
            x_ptr, weight_ptr, bias_ptr, scale_high, scale_mid, scale_low, image, h0, w0, mask_m, channel_tile,
            C, H, W, KH, KW, group_channels, tiles_per_group, k_tiles,
            stride_xn, stride_xc, stride_xh, stride_xw,
            stride_wo, stride_wc, stride_wh, stride_ww, stride_b, dil_h, dil_w,
            BLOCK_M, BLOCK_N, BLOCK_K, ONE_TAP, PADDED, PRECISION, INDEX_64,
        )  # fmt: skip
        best, nan_seen = fold_channels(best, nan_seen, value, mask_n[None, :])

    best = tl.where(nan_seen != 0, float("nan"), best)
    tl.store(out_ptr + offs_m, best.to(out_ptr.dtype.element_ty), mask=mask_m)


def named_configs() -> dict[str, dict[str, int]]:
    """The tile configurations by name, simplest first.

    tl.dot wants at least 16 in each dimension. float64 launches with smaller tiles than named here: see `tiles_for`.
    """
    return {
        "small": {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 32, "num_warps": 4, "num_stages": 2},
        "tiny": {"BLOCK_M": 16, "BLOCK_N": 32, "BLOCK_K": 16, "num_warps": 4, "num_stages": 2},
        "medium": {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 3},
        "large": {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 32, "num_warps": 8, "num_stages": 3},
    }


def config_for(positions: int, group_channels: int) -> str:
    """The name of the configuration that `config=None` means: tiles no larger than the work that there is."""
    if group_channels <= 32 or positions <= 4096:
        return "small"
    return "medium" if group_channels <= 64 or positions <= 65536 else "large"


def tiles_for(config: dict[str, int], dtype: torch.dtype, precision: str, channels: int) -> dict[str, int]:
    """`config` as it is launched for C = `channels`: smaller where its tiles would spill registers."""
    limits = {}
    if dtype == torch.float64:
        limits = {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 16, "num_warps": 4, "num_stages": 2}
    elif dtype == torch.float32 and config["BLOCK_M"] > 32 and (precision == "ieee" or channels < 32):
        # Without tensor cores threads hold whole operands; with few channels every element finds its own tap.
        limits = {"BLOCK_K": 16}
    return {name: min(value, limits.get(name, value)) for name, value in config.items()}


def resolved_precision(precision: str | None, x: torch.Tensor) -> str:
    """How products of `x` are formed: None means "tf32" where PyTorch may use it for a convolution, else "ieee".

    The choice exists for float32 alone; every other dtype has one way to be multiplied, called "ieee" here.
    """
    if x.dtype != torch.float32:
        return "ieee"
    if precision is not None:
        return precision
    if x.device.type != "cuda":
        return "ieee"
    # Reading allow_tf32 raises once fp32_precision was set, so ask the newer setting where there is one.
    conv = getattr(torch.backends.cudnn, "conv", None)
    allowed = torch.backends.cudnn.allow_tf32 if conv is None else conv.fp32_precision == "tf32"
    return "tf32" if allowed else "ieee"


def as_integer(name: str, value: object) -> int:
    """`value` as an int; bool and float are refused, as by PyTorch."""
    if isinstance(value, bool) or not (isinstance(value, int) or hasattr(value, "__index__")):
        raise TypeError(f"{name}={value!r} must be an int, not {type(value).__name__}")
    number = value if isinstance(value, int) else int(value.__index__())
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{name}={value!r} must fit in 64 bits")
    return number


def as_pair(name: str, value: object) -> list[int]:
    """`value`, an int or one or two of them, as [height, width]."""
    entries = value if isinstance(value, (tuple, list)) else (value,)
    numbers = [as_integer(name, entry) for entry in entries]
    if len(numbers) not in (1, 2):
        raise RuntimeError(f"{name}={value!r} must be an int or a pair of them, got {len(numbers)} values")
    return numbers * 2 if len(numbers) == 1 else numbers


def as_scale(scale: object) -> float:
    """`scale` as a float, refused where a tensor times it would be."""
    if isinstance(scale, complex):
        raise RuntimeError(f"scale={scale!r} must be real: complex numbers have no minimum")
    if isinstance(scale, torch.Tensor):
        raise NotImplementedError("scale must be a float, not a tensor: reading it would wait for the device")
    # Numbers are not asked for attributes: torch.compile cannot answer that for a symbolic one.
    if not isinstance(scale, (int, float)) and (isinstance(scale, str) or not hasattr(scale, "__float__")):
        raise TypeError(f"scale={scale!r} must be a float, not {type(scale).__name__}")
    if isinstance(scale, int) and not -(2**63) <= scale < 2**64:
        raise OverflowError("scale is an int that does not fit in 64 bits: pass a float")
    return float(scale)


def as_sides(padding: object, stride: list[int], dilation: list[int], kernel: list[int]) -> list[int]:
    """`padding` as [above, left, below, right]; "same" puts the odd one below and right, as PyTorch does."""
    if not isinstance(padding, str):
        pair = as_pair("padding", padding)
        if min(pair) < 0:
            raise RuntimeError(f"padding={padding!r} must not be negative")
        return pair * 2
    if padding == "valid":
        return [0, 0, 0, 0]
    if padding != "same":
        raise RuntimeError(f"padding={padding!r} must be an int, a pair, 'same' or 'valid'")
    if stride != [1, 1]:
        raise RuntimeError(f"padding='same' needs stride 1, got stride={stride}")
    total = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
    before = [size // 2 for size in total]
    return before + [size - first for size, first in zip(total, before, strict=True)]


def check_shapes(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, groups: int) -> None:
    """Raise RuntimeError unless ranks and channels fit together."""
    if x.dim() != 4:
        raise RuntimeError(f"x.dim()={x.dim()} must be 4, [N, C_in, H, W]: without a batch, dimension 1 is no channel")
    if weight.dim() != 4:
        raise RuntimeError(f"weight.dim()={weight.dim()} must be 4, [C_out, C_in/groups, KH, KW]")
    if groups <= 0:
        raise RuntimeError(f"groups={groups} must be positive")
    c_in, c_out = x.shape[1], weight.shape[0]
    if c_out == 0:
        raise RuntimeError("weight.shape[0]=0 must be positive: there is no minimum over no channels")
    if c_in % groups != 0:
        raise RuntimeError(f"x.shape[1]={c_in} must be divisible by groups={groups}")
    if c_out % groups != 0:
        raise RuntimeError(f"weight.shape[0]={c_out} must be divisible by groups={groups}")
    if weight.shape[1] != c_in // groups:
        raise RuntimeError(f"weight.shape[1]={weight.shape[1]} must equal x.shape[1]/groups={c_in // groups}")
    if weight.shape[2] == 0 or weight.shape[3] == 0:
        raise RuntimeError(f"weight.shape[2:]={tuple(weight.shape[2:])} must be positive")
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != c_out):
        raise RuntimeError(f"bias.shape={tuple(bias.shape)} must be (weight.shape[0],)={(c_out,)}")


def check_kinds(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """Raise RuntimeError unless all tensors are dense, on one device and of one dtype, and that one is supported."""
    for name, tensor in (("x", x), ("weight", weight), ("bias", bias)):
        if tensor is None:
            continue
        if tensor.layout != torch.strided:
            raise RuntimeError(f"{name}.layout={tensor.layout} must be torch.strided")
        if tensor.device != x.device:
            raise RuntimeError(f"{name}.device={tensor.device} must equal x.device={x.device}")
        if tensor.dtype != x.dtype:
            raise RuntimeError(f"{name}.dtype={tensor.dtype} must equal x.dtype={x.dtype}")
    if x.dtype.is_complex:
        raise RuntimeError(f"x.dtype={x.dtype} must be real: complex numbers have no minimum")
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        raise NotImplementedError(f"x.dtype={x.dtype} must be one of float32, float16, bfloat16, float64")


def check_windows(
    x: torch.Tensor, weight: torch.Tensor, stride: list[int], sides: list[int], dilation: list[int]
) -> None:
    """Raise unless there is something to convolve and at least one window fits, in height and in width."""
    for axis in (2, 3):
        size, kernel, step = x.shape[axis], weight.shape[axis], dilation[axis - 2]
        around, window = sides[axis - 2] + sides[axis], step * (kernel - 1) + 1
        if size + around < window:
            raise RuntimeError(
                f"the window, dilation*(weight.shape[{axis}]-1)+1={step}*{kernel - 1}+1={window}, must not exceed "
                f"the padded input, x.shape[{axis}]+padding={size}+{around}={size + around}"
            )
    if x.shape[1] == 0:
        raise IndexError(f"x.shape[1]=0 must be positive: {tuple(x.shape)} has no channels")
    if x.shape[0] != 0 and (x.shape[2] == 0 or x.shape[3] == 0):
        raise RuntimeError(f"x.shape={tuple(x.shape)} may be empty in the batch dimension only")


def checked_arguments(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: object,
    stride: object,
    padding: object,
    dilation: object,
    groups: object,
    precision: object,
) -> tuple[float, list[int], list[int], list[int], int]:
    """Bring scale, stride, padding (as four sides), dilation and groups into one form each.

    Raises what `torch.conv2d`, the product and `torch.min` would raise, by type, and ValueError for the precision.
    """
    for name, tensor in (("x", x), ("weight", weight), ("bias", bias)):
        if not isinstance(tensor, torch.Tensor) and not (name == "bias" and tensor is None):
            raise TypeError(f"{name}={tensor!r} must be a torch.Tensor, not {type(tensor).__name__}")
    if precision not in (None, "tf32", "ieee"):
        raise ValueError(f"precision={precision!r} must be one of None, 'tf32', 'ieee'")
    strides, dilations = as_pair("stride", stride), as_pair("dilation", dilation)
    group_count, factor = as_integer("groups", groups), as_scale(scale)
    check_shapes(x, weight, bias, group_count)
    if min(strides) <= 0:
        raise RuntimeError(f"stride={stride!r} must be positive")
    if min(dilations) <= 0:
        raise RuntimeError(f"dilation={dilation!r} must be positive")
    sides = as_sides(padding, strides, dilations, list(weight.shape[2:]))
    check_windows(x, weight, strides, sides, dilations)
    check_kinds(x, weight, bias)
    return factor, strides, sides, dilations, group_count


def float64_bits(value: float) -> tuple[int, int, int]:
    """The upper 22, middle 21 and lower 21 bits of `value`: torch.compile fails on integers beyond 31 bits."""
    raw = memoryview(bytearray(8))
    raw.cast("d")[0] = value
    bits = int(raw.cast("Q")[0])
    return bits >> 42, (bits >> 21) & 0x1FFFFF, bits & 0x1FFFFF


def output_size(
    x: torch.Tensor, weight: torch.Tensor, stride: list[int], sides: list[int], dilation: list[int]
) -> list[int]:
    """[OH, OW]."""
    return [
        (x.shape[2 + axis] + sides[axis] + sides[2 + axis] - dilation[axis] * (weight.shape[2 + axis] - 1) - 1)
        // stride[axis]
        + 1
        for axis in (0, 1)
    ]


def needs_64_bits(tensors: list[torch.Tensor], counts: list[int]) -> bool:
    """Whether an offset into one of `tensors`, or an index below one of `counts`, may not fit in 32 bits.

    Tiles run a little past the end before they are masked, hence the margin.
    """
    reaches = [
        sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True)) for tensor in tensors
    ]
    return max(reaches + counts) >= 2**31 - 2**16


def conv_arguments(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    stride: list[int],
    sides: list[int],
    dilation: list[int],
    groups: int,
    precision: str,
    tiles: dict[str, int],
    stored: int,
) -> dict[str, object]:
    """Every argument of a convolution kernel but the tensor that it writes, which has `stored` elements."""
    n, c_in, height, width = x.shape
    c_out, channels, kernel_h, kernel_w = weight.shape
    out_h, out_w = output_size(x, weight, stride, sides, dilation)
    positions, group_channels = n * out_h * out_w, c_out // groups
    tiles_per_group = triton.cdiv(group_channels, tiles["BLOCK_N"])
    one_tap = channels >= tiles["BLOCK_K"]
    k_tiles = (
        kernel_h * kernel_w * triton.cdiv(channels, tiles["BLOCK_K"])
        if one_tap
        else triton.cdiv(kernel_h * kernel_w * channels, tiles["BLOCK_K"])
    )
    padded = [height + sides[0] + sides[2], width + sides[1] + sides[3]]
    tensors = [x, weight] if bias is None else [x, weight, bias]
    scale_high, scale_mid, scale_low = float64_bits(float(scale))
    counts = [stored, positions, c_in, c_out, channels * kernel_h * kernel_w, *padded]
    return {
        "x_ptr": x, "weight_ptr": weight, "bias_ptr": bias,
        "scale_high": scale_high, "scale_mid": scale_mid, "scale_low": scale_low,
        "M": positions, "C": channels, "H": height, "W": width, "OH": out_h, "OW": out_w,
        "KH": kernel_h, "KW": kernel_w,
        "group_channels": group_channels, "tiles_per_group": tiles_per_group,
        "channel_tiles": groups * tiles_per_group, "k_tiles": k_tiles,
        "stride_xn": x.stride(0), "stride_xc": x.stride(1), "stride_xh": x.stride(2), "stride_xw": x.stride(3),
        "stride_wo": weight.stride(0), "stride_wc": weight.stride(1), "stride_wh": weight.stride(2),
        "stride_ww": weight.stride(3), "stride_b": 0 if bias is None else bias.stride(0),
        "stride_h": stride[0], "stride_w": stride[1], "pad_h": sides[0], "pad_w": sides[1],
        "dil_h": dilation[0], "dil_w": dilation[1],
        "ONE_TAP": one_tap, "PADDED": any(sides), "INDEX_64": needs_64_bits(tensors, counts),
        "PRECISION": precision, **tiles,
    }  # fmt: skip


def launch(kernel, programs: int, device: torch.device, arguments: dict[str, object]) -> None:
    """Start `programs` programs of `kernel`; torch.compile sees the launch through wrap_triton."""
    if programs >= 2**31:
        raise RuntimeError(f"{programs} programs are more than one launch can have: take larger tiles")
    if not isinstance(kernel, triton.JITFunction):  # the interpreter's, which wrap_triton does not know everywhere
        kernel[(programs,)](**arguments)
        return
    if device.type == "cpu":
        raise RuntimeError("x.device=cpu needs Triton's interpreter: set TRITON_INTERPRET=1 before triton is imported")
    with torch.cuda.device(device):
        torch.library.wrap_triton(kernel)[(programs,)](**arguments)


def save_inputs(ctx, inputs, output) -> None:
    """Keep what the gradients need: the inputs, not the intermediate that fusion saves."""
    x, weight, bias, scale, stride, sides, dilation, groups, *_ = inputs
    ctx.save_for_backward(x, weight, bias)
    ctx.options = scale, stride, sides, dilation, groups
    ctx.input_count = len(inputs)


def gradients(ctx, grad):
    """Gradients of x, weight and bias by PyTorch's own operators, at the channel that torch.min picks."""
    x, weight, bias = ctx.saved_tensors
    scale, stride, sides, dilation, groups = ctx.options
    above, left, below, right = sides
    symmetric = (above, left) == (below, right)
    padded = x if symmetric else nn.functional.pad(x, (left, right, above, below))
    padding = [above, left] if symmetric else [0, 0]

    conv = torch.conv2d(padded, weight, bias, stride, padding, dilation, groups)
    winner = torch.min(conv * scale, dim=1, keepdim=True).indices
    grad_conv = torch.zeros_like(conv).scatter(1, winner, grad) * scale
    needed = ctx.needs_input_grad[:3]
    grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        grad_conv, padded, weight, None if bias is None else bias.shape,
        stride, padding, dilation, False, [0, 0], groups, list(needed),
    )  # fmt: skip
    if needed[0] and not symmetric:
        grad_x = grad_x[:, :, above : above + x.shape[2], left : left + x.shape[3]]
    return grad_x, grad_weight, grad_bias, *[None] * (ctx.input_count - 3)


def free_operator_name(name: str) -> str:
    """`name`, or the first of name_2, name_3, ... that no other copy of this file has registered."""
    taken, number = name, 1
    while hasattr(torch.ops.fused_fuzz, taken):
        number += 1
        taken = f"{name}_{number}"
    return taken


def differentiable_operator(name: str):
    """Decorator: make a launching function a PyTorch operator with shapes for tracing, and with gradients.

    torch.compile looks inside a triton_op; there is nothing to look at when Triton interprets the kernel.
    """
    traceable = isinstance(conv_scale_min_kernel, triton.JITFunction)
    registrar = getattr(torch.library, "triton_op" if traceable else "custom_op")

    def register(function):
        operator = registrar(f"fused_fuzz::{free_operator_name(name)}", function, mutates_args=())
        operator.register_fake(empty_output)
        operator.register_autograd(gradients, setup_context=save_inputs)
        return operator

    return register


def empty_output(
    x: torch.Tensor, weight: torch.Tensor, bias, scale, stride: list[int], sides: list[int], dilation: list[int], *_
) -> torch.Tensor:
    """The output, [N, 1, OH, OW], before anything is written to it."""
    return x.new_empty([x.shape[0], 1, *output_size(x, weight, stride, sides, dilation)])


@differentiable_operator("conv_scale_min")
def conv_scale_min_operator(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    stride: list[int],
    sides: list[int],
    dilation: list[int],
    groups: int,
    precision: str | None,
    config: str | None,
) -> torch.Tensor:
    """The fused kernel on arguments that were checked."""
    out = empty_output(x, weight, bias, scale, stride, sides, dilation)
    if out.numel() == 0:
        return out
    product = resolved_precision(precision, x)
    name = config or config_for(out.numel(), weight.shape[0] // groups)
    tiles = tiles_for(named_configs()[name], x.dtype, product, weight.shape[1])
    arguments = conv_arguments(
        x, weight, bias, scale, stride, sides, dilation, groups, product, tiles, stored=out.numel()
    )
    programs = triton.cdiv(out.numel(), tiles["BLOCK_M"])
    launch(conv_scale_min_kernel, programs, x.device, {**arguments, "out_ptr": out})
    return out


def conv_scale_min(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    scale: float = 1.0,
    *,
    stride: int | tuple[int, int] | list[int] = 1,
    padding: int | tuple[int, int] | list[int] | str = 0,
    dilation: int | tuple[int, int] | list[int] = 1,
    groups: int = 1,
    precision: str | None = None,
    config: str | None = None,
) -> torch.Tensor:
    """`torch.min(torch.conv2d(x, weight, bias, ...) * scale, dim=1, keepdim=True).values` in one kernel.

    Args:
        x: [N, C_in, H, W], float32, float16, bfloat16 or float64, with any strides. N may be 0.
        weight: [C_out, C_in/groups, KH, KW], dtype and device of x, any strides.
        bias: [C_out] or None, likewise.
        scale: factor of every convolved value; rounded to float32 unless x is float64.
        stride: of the convolution, an int or (height, width).
        padding: zeros around x, an int, (height, width), "same" or "valid".
        dilation: distance between the kernel's taps, an int or (height, width).
        groups: number of groups that input and output channels are split into.
        precision: how float32 is multiplied, "tf32" or "ieee"; None follows PyTorch's setting for convolutions.
        config: a name from `named_configs()`; None picks one by the shape.

    Returns:
        [N, 1, OH, OW], contiguous, dtype and device of x. Sums are kept in float32 (float64 for float64) and rounded
        once, at the end. An element is NaN exactly when some channel's value is. Differentiable in x, weight and bias.

    Raises:
        TypeError, RuntimeError, IndexError, OverflowError: where the PyTorch expression above raises them, and
            RuntimeError for an x that is not 4-D.
        ValueError: unknown precision or config.
        NotImplementedError: a dtype that is not listed above, or a scale that is a tensor.
    """
    if config is not None and config not in named_configs():
        raise ValueError(f"config={config!r} must be None or one of {', '.join(map(repr, named_configs()))}")
    factor, strides, sides, dilations, group_count = checked_arguments(
        x, weight, bias, scale, stride, padding, dilation, groups, precision
    )
    out: torch.Tensor = conv_scale_min_operator(
        x, weight, bias, factor, strides, sides, dilations, group_count, precision, config
    )
    return out


class ModelNew(nn.Module):
    """Convolution, scale, minimum over channels: parameters `conv.weight` and `conv.bias` of an nn.Conv2d."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, scale_factor: float) -> None:
        """Draw the parameters as nn.Conv2d(in_channels, out_channels, kernel_size) does."""
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.scale_factor = scale_factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x [N, in_channels, H, W] to [N, 1, OH, OW]."""
        return conv_scale_min(x, self.conv.weight, self.conv.bias, self.scale_factor)
