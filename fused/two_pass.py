"""The unfused baseline: one kernel writes scale * (conv + bias) for every channel, a second one takes the minimum.

It exists to be measured against: the intermediate [N, C_out, OH, OW] goes to memory and comes back. Names are those of
`fused.conv_scale_min`; `columns` counts the channels' tiles, P the positions of one image (OH * OW).
"""

import torch
import triton
import triton.language as tl

from fused.conv_scale_min import (
    checked_arguments,
    conv_arguments,
    differentiable_operator,
    empty_output,
    fold_channels,
    launch,
    needs_64_bits,
    resolved_precision,
    scaled_conv_tile,
    tile_indices,
    tiles_for,
    under_autocast,
    window_origin,
)


@triton.jit(
    # As for the fused kernel: few variants.
    do_not_specialize=[
        "scale_high", "scale_mid", "scale_low", "M", "C", "H", "W", "OH", "OW", "KH", "KW", "group_channels",
        "tiles_per_group", "channel_tiles", "k_tiles", "stride_xn", "stride_xc", "stride_xh", "stride_xw",
        "stride_wo", "stride_wc", "stride_wh", "stride_ww", "stride_b",
        "stride_h", "stride_w", "pad_h", "pad_w", "dil_h", "dil_w",
        "stride_in", "stride_ic", "stride_ih", "stride_iw",
    ],
    do_not_specialize_on_alignment=["x_ptr", "weight_ptr", "bias_ptr", "mid_ptr"],
)  # fmt: skip
def conv_scale_kernel(
    x_ptr, weight_ptr, bias_ptr, mid_ptr, scale_high, scale_mid, scale_low,
    M, C, H, W, OH, OW, KH, KW, group_channels, tiles_per_group, channel_tiles, k_tiles,
    stride_xn, stride_xc, stride_xh, stride_xw,
    stride_wo, stride_wc, stride_wh, stride_ww, stride_b,
    stride_h, stride_w, pad_h, pad_w, dil_h, dil_w,
    stride_in, stride_ic, stride_ih, stride_iw,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    ONE_TAP: tl.constexpr, PADDED: tl.constexpr, PRECISION: tl.constexpr,
    INDEX_64: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_M positions of BLOCK_N channels, written to the intermediate."""
    offs_m = tile_indices(tl.program_id(0) // channel_tiles, BLOCK_M, INDEX_64)
    mask_m = offs_m < M
    image, h0, w0 = window_origin(offs_m, OH, OW, stride_h, stride_w, pad_h, pad_w)
    value, channel, mask_n = scaled_conv_tile(
        x_ptr, weight_ptr, bias_ptr, scale_high, scale_mid, scale_low, image, h0, w0, mask_m,
        tl.program_id(0) % channel_tiles,
        C, H, W, KH, KW, group_channels, tiles_per_group, k_tiles,
        stride_xn, stride_xc, stride_xh, stride_xw,
        stride_wo, stride_wc, stride_wh, stride_ww, stride_b, dil_h, dil_w,
        BLOCK_M, BLOCK_N, BLOCK_K, ONE_TAP, PADDED, PRECISION, INDEX_64,
    )  # fmt: skip
    row, column = (offs_m // OW) % OH, offs_m % OW
    rows = image * stride_in + row * stride_ih + column * stride_iw  # [BLOCK_M]
    target = mid_ptr + (rows[:, None] + (channel * stride_ic)[None, :])
    tl.store(target, value, mask=mask_m[:, None] & mask_n[None, :])


@triton.jit(do_not_specialize=["M", "P", "channels", "stride_in", "stride_ic"])
def channel_min_kernel(
    mid_ptr, out_ptr, M, P, channels, stride_in, stride_ic,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, INDEX_64: tl.constexpr,
):  # fmt: skip
    """One program: the minimum over all channels at BLOCK_M positions, BLOCK_N channels at a time."""
    offs_m = tile_indices(tl.program_id(0), BLOCK_M, INDEX_64)
    mask_m = offs_m < M
    rows = (offs_m // P) * stride_in + offs_m % P  # [BLOCK_M]
    best = tl.full([BLOCK_M], float("inf"), mid_ptr.dtype.element_ty)
    nan_seen = tl.zeros([BLOCK_M], tl.int32)
    for tile in range(tl.cdiv(channels, BLOCK_N)):
        offs_n = tile_indices(tile, BLOCK_N, INDEX_64)
        mask = mask_m[:, None] & (offs_n < channels)[None, :]
        value = tl.load(mid_ptr + (rows[:, None] + (offs_n * stride_ic)[None, :]), mask=mask, other=0.0)
        best, nan_seen = fold_channels(best, nan_seen, value, mask)
    best = tl.where(nan_seen != 0, float("nan"), best)
    tl.store(out_ptr + offs_m, best.to(out_ptr.dtype.element_ty), mask=mask_m)


def conv_tiles() -> dict[str, int]:
    """The convolution pass as it was profiled."""
    return {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 3}


def min_tiles() -> dict[str, int]:
    """The minimum pass as it was profiled: 256 positions in a program."""
    return {"BLOCK_M": 256, "BLOCK_N": 4, "num_warps": 4, "num_stages": 3}


def launch_conv(arguments: dict[str, object], mid: torch.Tensor) -> None:
    """First pass: fill `mid` [N, C_out, OH, OW]."""
    image, channel, row, column = mid.stride()
    programs = triton.cdiv(arguments["M"], arguments["BLOCK_M"]) * arguments["channel_tiles"]
    steps = {"stride_in": image, "stride_ic": channel, "stride_ih": row, "stride_iw": column}
    launch(conv_scale_kernel, programs, mid.device, {**arguments, **steps, "mid_ptr": mid})


def launch_min(mid: torch.Tensor, out: torch.Tensor) -> None:
    """Second pass: `mid` [N, C_out, OH, OW], contiguous, to `out` [N, 1, OH, OW]."""
    tiles = min_tiles()
    arguments = {
        "mid_ptr": mid, "out_ptr": out, "M": out.numel(), "P": out.shape[2] * out.shape[3], "channels": mid.shape[1],
        "stride_in": mid.stride(0), "stride_ic": mid.stride(1), "INDEX_64": needs_64_bits([mid], [mid.numel()]),
        **tiles,
    }  # fmt: skip
    launch(channel_min_kernel, triton.cdiv(out.numel(), tiles["BLOCK_M"]), out.device, arguments)


@differentiable_operator("two_pass")
def two_pass_operator(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    stride: list[int],
    sides: list[int],
    dilation: list[int],
    groups: int,
    precision: str | None,
) -> torch.Tensor:
    """Both passes on arguments that were checked."""
    out = empty_output(x, weight, bias, scale, stride, sides, dilation)
    if out.numel() == 0:
        return out
    # The accumulator's type, so that nothing is rounded between the passes.
    accumulator = torch.float64 if x.dtype == torch.float64 else torch.float32
    mid = x.new_empty((out.shape[0], weight.shape[0], *out.shape[2:]), dtype=accumulator)
    product = resolved_precision(precision, x)
    tiles = tiles_for(conv_tiles(), x.dtype, product, weight.shape[1])
    arguments = conv_arguments(
        x, weight, bias, scale, stride, sides, dilation, groups, product, tiles, stored=mid.numel()
    )
    arguments |= {"x_ptr": x, "weight_ptr": weight, "bias_ptr": bias}
    launch_conv(arguments, mid)
    launch_min(mid, out)
    return out


def two_pass(
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
) -> torch.Tensor:
    """`fused.conv_scale_min.conv_scale_min` in two kernels; arguments, result and errors are the same.

    Shapes: x [N, C_in, H, W], weight [C_out, C_in/groups, KH, KW], bias [C_out], result [N, 1, OH, OW]. It allocates
    [N, C_out, OH, OW] in float32 (float64 for float64) for the time of the call.
    """
    x, weight, bias = under_autocast(x, weight, bias)
    factor, strides, sides, dilations, group_count = checked_arguments(
        x, weight, bias, scale, stride, padding, dilation, groups, precision
    )
    out: torch.Tensor = two_pass_operator(x, weight, bias, factor, strides, sides, dilations, group_count, precision)
    return out
