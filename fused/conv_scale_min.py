"""min over output channels of scale * (conv2d(x, weight) + bias), without the convolution ever being stored.

The convolution is an implicit matrix product. Its rows are output positions, its columns the output channels of one
group; its inner dimension K runs over (kh, kw, c), channels fastest. One program owns BLOCK_M positions, walks over all
tiles of channels with a running minimum in registers, and writes BLOCK_M numbers.

`conv_scale_min_kernel` takes any strides, dtypes, groups and scales; its positions are flattened (n, oh, ow). The fast
kernels have operands of 16 bits that lie channels last. Programs of `strip_kernel` walk down strips of an image; those
of `flat_kernel` take pixels in a row, for windows of stride 1 without padding. Where x does not lie so, either
`pack_kernel` makes a copy first, or each program packs the rows that it comes to into a ring of its own, which stays in
the cache. float32 takes that path, too: float16 has the significand of tf32, at twice the rate, and two of them
together have nearly that of float32. Where float16's narrow range may spoil a result, the result becomes NaN, and
`mend_kernel` computes it again from float32 (docs/kernel.md).

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

and in the kernels of the fast path:

    strip                TILE_W columns of outputs; a step is TILE_H of its rows, so BLOCK_M = TILE_H * TILE_W
    CHANNELS             C rounded up to a multiple of BLOCK_K; the padding is zeros. Where C is small, they are all
                         (kw, c) of a window's row, gathered: what is left is a convolution with KW = 1 over OW columns
    PITCH                what lies between two columns of the packed x: CHANNELS of every group
    start, factor [C_out]    what belongs to a sum besides products, the bias, and what then makes a value of it
    ONE_FACTOR           whether all channels have the same factor, so that sums can be compared as they are
    BIAS_FIRST           whether sums begin with the bias, or it is added at the end, for want of registers to keep it
    X_FACTOR             what float32 is multiplied by before it becomes float16; 1 means that nothing is converted
    MERGED               whether pixels of several images may be in one tile
    RING                 whether programs pack rows themselves; a step reads WINDOW_H rows of RING_W, NEW_H of them new
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
    ONE_TAP: tl.constexpr, PADDED: tl.constexpr, PRECISION: tl.constexpr,
    INDEX_64: tl.constexpr,
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
        x_offsets = x_rows[:, None] + x_columns[None, :]
        if ONE_TAP:
            x_tile = tl.load(x_ptr + x_offsets, mask=mask_x, other=0.0)
        else:  # Threads load along positions: few channels lie together.
            x_tile = tl.trans(tl.load(x_ptr + tl.trans(x_offsets), mask=tl.trans(mask_x), other=0.0))

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


@triton.jit
def smallest_channel(
    x_ptr, weight_ptr, bias_ptr, scale_high, scale_mid, scale_low, offs_m,
    M, C, H, W, OH, OW, KH, KW, group_channels, tiles_per_group, channel_tiles, k_tiles,
    stride_xn, stride_xc, stride_xh, stride_xw,
    stride_wo, stride_wc, stride_wh, stride_ww, stride_b,
    stride_h, stride_w, pad_h, pad_w, dil_h, dil_w,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    ONE_TAP: tl.constexpr, PADDED: tl.constexpr, PRECISION: tl.constexpr,
    INDEX_64: tl.constexpr,
):  # fmt: skip
    """The minimum over all channels at the positions offs_m [BLOCK_M], in the accumulator's type."""
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

    return tl.where(nan_seen != 0, float("nan"), best)


@triton.jit(
    # Triton compiles anew for each argument that is 1 or a multiple of 16: with 28 integers, for nearly every call.
    # What it could widen are loads of channels that lie together, and those calls the fast path takes, mostly.
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
    ONE_TAP: tl.constexpr, PADDED: tl.constexpr, PRECISION: tl.constexpr,
    INDEX_64: tl.constexpr,
):  # fmt: skip
    """One program: the minimum over all channels at BLOCK_M positions."""
    offs_m = tile_indices(tl.program_id(0), BLOCK_M, INDEX_64)
    best = smallest_channel(
        x_ptr, weight_ptr, bias_ptr, scale_high, scale_mid, scale_low, offs_m,
        M, C, H, W, OH, OW, KH, KW, group_channels, tiles_per_group, channel_tiles, k_tiles,
        stride_xn, stride_xc, stride_xh, stride_xw, stride_wo, stride_wc, stride_wh, stride_ww, stride_b,
        stride_h, stride_w, pad_h, pad_w, dil_h, dil_w,
        BLOCK_M, BLOCK_N, BLOCK_K, ONE_TAP, PADDED, PRECISION, INDEX_64,
    )  # fmt: skip
    tl.store(out_ptr + offs_m, best.to(out_ptr.dtype.element_ty), mask=offs_m < M)


@triton.jit
def mend_tile(
    x_ptr, weight_ptr, bias_ptr, out_ptr, scale_high, scale_mid, scale_low, offs_m,
    M, C, H, W, OH, OW, KH, KW, group_channels, tiles_per_group, channel_tiles, k_tiles,
    stride_xn, stride_xc, stride_xh, stride_xw,
    stride_wo, stride_wc, stride_wh, stride_ww, stride_b,
    stride_h, stride_w, pad_h, pad_w, dil_h, dil_w,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    ONE_TAP: tl.constexpr, PADDED: tl.constexpr, PRECISION: tl.constexpr, INDEX_64: tl.constexpr,
):  # fmt: skip
    """Compute again what is NaN among the results at the positions offs_m [BLOCK_M], below M."""
    found = tl.load(out_ptr + offs_m, mask=offs_m < M, other=0.0)
    if tl.max((found != found).to(tl.int32), 0) != 0:
        best = smallest_channel(
            x_ptr, weight_ptr, bias_ptr, scale_high, scale_mid, scale_low, offs_m,
            M, C, H, W, OH, OW, KH, KW, group_channels, tiles_per_group, channel_tiles, k_tiles,
            stride_xn, stride_xc, stride_xh, stride_xw, stride_wo, stride_wc, stride_wh, stride_ww, stride_b,
            stride_h, stride_w, pad_h, pad_w, dil_h, dil_w,
            BLOCK_M, BLOCK_N, BLOCK_K, ONE_TAP, PADDED, PRECISION, INDEX_64,
        )  # fmt: skip
        tl.store(out_ptr + offs_m, best.to(out_ptr.dtype.element_ty), mask=found != found)


@triton.jit(
    do_not_specialize=[
        "scale_high", "scale_mid", "scale_low", "M", "C", "H", "W", "OH", "OW", "KH", "KW", "group_channels",
        "tiles_per_group", "channel_tiles", "k_tiles", "stride_xn", "stride_xc", "stride_xh", "stride_xw",
        "stride_wo", "stride_wc", "stride_wh", "stride_ww", "stride_b",
        "stride_h", "stride_w", "pad_h", "pad_w", "dil_h", "dil_w",
    ],
    do_not_specialize_on_alignment=["x_ptr", "weight_ptr", "bias_ptr", "out_ptr"],
)  # fmt: skip
def mend_kernel(
    x_ptr, weight_ptr, bias_ptr, out_ptr, scale_high, scale_mid, scale_low,
    M, C, H, W, OH, OW, KH, KW, group_channels, tiles_per_group, channel_tiles, k_tiles,
    stride_xn, stride_xc, stride_xh, stride_xw,
    stride_wo, stride_wc, stride_wh, stride_ww, stride_b,
    stride_h, stride_w, pad_h, pad_w, dil_h, dil_w,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    ONE_TAP: tl.constexpr, PADDED: tl.constexpr, PRECISION: tl.constexpr, INDEX_64: tl.constexpr,
    SPANS: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    """One program: look through its share of the results, SPANS times SPAN at once, and mend what is NaN there.

    Spans go round among the programs: NaNs lie together, and one program would mend them all.
    """
    index: tl.constexpr = tl.int64 if INDEX_64 else tl.int32
    PARTS: tl.constexpr = SPAN // BLOCK_M
    for turn in range(tl.cdiv(M, tl.num_programs(0) * (SPANS * SPAN))):
        spans = tile_indices(turn, SPANS, INDEX_64) * tl.num_programs(0) + tl.program_id(0)
        offs_m = (spans * SPAN)[:, None] + tl.arange(0, SPAN)[None, :]
        found = tl.load(out_ptr + offs_m, mask=offs_m < M, other=0.0)
        if tl.max(tl.max((found != found).to(tl.int32), 1), 0) != 0:
            for part in range(SPANS * PARTS):
                span = (tl.full([], turn, index) * SPANS + part // PARTS) * tl.num_programs(0) + tl.program_id(0)
                if span * SPAN < M:
                    mend_tile(
                        x_ptr, weight_ptr, bias_ptr, out_ptr, scale_high, scale_mid, scale_low,
                        span * SPAN + (part % PARTS) * BLOCK_M + tl.arange(0, BLOCK_M),
                        M, C, H, W, OH, OW, KH, KW, group_channels, tiles_per_group, channel_tiles, k_tiles,
                        stride_xn, stride_xc, stride_xh, stride_xw,
                        stride_wo, stride_wc, stride_wh, stride_ww, stride_b,
                        stride_h, stride_w, pad_h, pad_w, dil_h, dil_w,
                        BLOCK_M, BLOCK_N, BLOCK_K, ONE_TAP, PADDED, PRECISION, INDEX_64,
                    )  # fmt: skip


@triton.jit
def smaller_or_nan(left, right):
    """The smaller of two numbers; NaN if either is, which a minimum on the GPU drops unless it is told."""
    return tl.minimum(left, right, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def half_or_nan(value, HALF: tl.constexpr):
    """The value in the 16-bit type; NaN where that type has no number so large, or the value is not finite."""
    return tl.where(tl.abs(value) <= 65504.0, value, float("nan")).to(HALF)


@triton.jit
def rest_of_half(value, high, HALF: tl.constexpr):
    """What the 16-bit number `high` leaves of a value, in that type, too: together they have 22 bits."""
    return (value - high.to(tl.float32)).to(HALF)


@triton.jit
def weight_channels(
    source, offs_c, C, row_channels, exists, mask_tap, stride_wc, stride_ww, GATHERED: tl.constexpr
):  # fmt: skip
    """The channels offs_c [BLOCK_C] of one output channel's taps, [TAPS, BLOCK_C]; `source` points at the taps.

    Threads load along channels, as they store them: those of other taps are in the same lines, which L1 keeps.
    """
    if GATHERED:
        offsets = (offs_c // C).to(tl.int64) * stride_ww + (offs_c % C).to(tl.int64) * stride_wc
    else:
        offsets = offs_c.to(tl.int64) * stride_wc
    mask = exists & (offs_c < row_channels)[None, :] & mask_tap
    return tl.load(source + offsets[None, :], mask=mask, other=0.0)


@triton.jit
def largest_bits(source, elements):
    """The bits of the largest |number| among `elements` of float32 that lie together."""
    BLOCK: tl.constexpr = 8192
    largest = tl.zeros([BLOCK], tl.int32)
    for first in range(0, elements, BLOCK):
        offsets = first + tl.arange(0, BLOCK)
        value = tl.load(source + offsets, mask=offsets < elements, other=0.0)
        largest = tl.maximum(largest, value.to(tl.int32, bitcast=True) & 0x7FFFFFFF)
    return tl.max(largest, 0)


@triton.jit
def guard_limit(products, PARTS: tl.constexpr):
    """How many times the largest weight a result must be away from 0 for the fast path to have it right in float32.

    docs/kernel.md derives it; `products` is K, and three PARTS are judged by float32's error instead of tf32's.
    """
    if PARTS == 3:
        return 0.015625  # 2^-6
    return products.to(tl.float32) * 3.814697265625e-06  # 2^-18


@triton.jit
def pack_weight(
    row, weight_ptr, bias_ptr, packed_ptr, start_ptr, factor_ptr, limit_ptr, sign, elements,
    group_channels, group_rows, C, KH, KW, stride_wo, stride_wc, stride_wh, stride_ww, stride_b,
    CHANNELS: tl.constexpr, PARTS: tl.constexpr, X_FACTOR: tl.constexpr, GATHERED: tl.constexpr,
    TAPS: tl.constexpr, BLOCK_C: tl.constexpr, ONE_FACTOR: tl.constexpr,
):  # fmt: skip
    """One row, an output channel of the weight, as [KH, KW, CHANNELS], with its start, factor and limit.

    Each group has `group_rows` of them, of which `group_channels` exist. All is negated for a negative `sign`. A
    channel's limit is its largest weight times `guard_limit`; with ONE_FACTOR, that of all `elements` of the weight,
    which then lie together. Three PARTS are the 16-bit weight, its rest, and the weight again: `pack_input` lays out x
    so that their products add up.
    """
    WHOLE: tl.constexpr = CHANNELS // PARTS
    exists = row % group_rows < group_channels
    channel = (row // group_rows) * group_channels + row % group_rows
    half: tl.constexpr = packed_ptr.dtype.element_ty
    tap = tl.arange(0, TAPS)
    offs_c = tl.arange(0, BLOCK_C)
    if GATHERED:
        taps = tap.to(tl.int64) * stride_wh
        mask_tap = (tap < KH)[:, None]
        row_channels = C * KW
        row_taps = KH
    else:
        taps = (tap // KW).to(tl.int64) * stride_wh + (tap % KW).to(tl.int64) * stride_ww
        mask_tap = (tap < KH * KW)[:, None]
        row_channels = C
        row_taps = KH * KW
    source = (weight_ptr + channel.to(tl.int64) * stride_wo) + taps[:, None]
    value = weight_channels(source, offs_c, C, row_channels, exists, mask_tap, stride_wc, stride_ww, GATHERED)
    power = sign
    inverse = 1.0
    if X_FACTOR != 1:
        if ONE_FACTOR:
            bits = largest_bits(weight_ptr, elements)
        else:
            largest = value.to(tl.int32, bitcast=True) & 0x7FFFFFFF
            for c0 in range(BLOCK_C, WHOLE, BLOCK_C):
                more = weight_channels(
                    source, c0 + offs_c, C, row_channels, exists, mask_tap, stride_wc, stride_ww, GATHERED
                )  # fmt: skip
                largest = tl.maximum(largest, more.to(tl.int32, bitcast=True) & 0x7FFFFFFF)
            bits = tl.max(tl.max(largest, 1), 0)
        # The power of two that brings the largest weight to 2^14, and its inverse: both normal numbers, with X_FACTOR.
        exponent = tl.maximum(tl.minimum(268 - (bits >> 23), 244), 14)
        power = (exponent << 23).to(tl.float32, bitcast=True) * sign
        inverse = ((254 - exponent) << 23).to(tl.float32, bitcast=True) * (1.0 / X_FACTOR)
        size = bits.to(tl.float32, bitcast=True)
        # Below 2^-103 there is no such power: no result is then far enough from 0, as where a weight is not finite.
        limit = size * guard_limit(row_channels * row_taps, PARTS)
        tl.store(limit_ptr + row, tl.where((bits == 0) | (bits >= 24 << 23), limit, float("inf")))
    target = (packed_ptr + row.to(tl.int64) * (row_taps * CHANNELS)) + ((tap * CHANNELS)[:, None] + offs_c[None, :])
    for c0 in range(0, WHOLE, BLOCK_C):
        if WHOLE > BLOCK_C:
            value = weight_channels(
                source, c0 + offs_c, C, row_channels, exists, mask_tap, stride_wc, stride_ww, GATHERED
            )  # fmt: skip
        mask = (c0 + offs_c < WHOLE)[None, :] & mask_tap
        if X_FACTOR != 1:
            scaled = value * power
            packed = half_or_nan(scaled, half)
            if PARTS == 3:
                tl.store(target + (c0 + WHOLE), rest_of_half(scaled, packed, half), mask=mask)
                tl.store(target + (c0 + 2 * WHOLE), packed, mask=mask)
        else:
            packed = tl.where(sign < 0.0, -value, value)
        tl.store(target + c0, packed, mask=mask)
    tl.store(factor_ptr + row, inverse)
    # A channel that does not exist never wins.
    start = tl.where(exists, 0.0, float("inf"))
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + channel.to(tl.int64) * stride_b, mask=exists, other=0.0).to(tl.float32)
        start = tl.where(exists, bias * (power * X_FACTOR), float("inf"))
    tl.store(start_ptr + row, start)


@triton.jit
def pack_input(
    place, x_ptr, packed_ptr, C, W, KW, OW, pixels, blocks, stride_xn, stride_xc, stride_xh, stride_xw,
    stride_w, pad_w, dil_w,
    CHANNELS: tl.constexpr, PITCH: tl.constexpr, PARTS: tl.constexpr, GATHERED: tl.constexpr,
    JOINED: tl.constexpr, UNIT_C: tl.constexpr, UNIT_W: tl.constexpr, X_FACTOR: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """BLOCK_M pixels of an image and BLOCK_C channels of a group to [N, H, W, PITCH]; `place` says which.

    GATHERED, it is [N, H, OW, PITCH], and a pixel holds the row of x under its window, zeros where that is padding.
    JOINED says that x has no gap between rows, and none between columns; UNIT_C, that there is none between channels,
    and UNIT_W, none between columns. Three PARTS are x in 16 bits, the same again, and the rest.
    """
    WHOLE: tl.constexpr = CHANNELS // PARTS
    GROUPS: tl.constexpr = PITCH // CHANNELS
    offs_c = (place % (WHOLE // BLOCK_C)) * BLOCK_C + tl.arange(0, BLOCK_C)
    place = place // (WHOLE // BLOCK_C)
    group = place % GROUPS
    place = place // GROUPS
    image = (place // blocks).to(tl.int64)
    pixel = (place % blocks) * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_pixel = pixel < pixels
    corner = x_ptr + (image * stride_xn + (group * C).to(tl.int64) * stride_xc)
    if GATHERED:
        tap = offs_c // C
        w = (pixel % OW * stride_w - pad_w)[None, :] + (tap * dil_w)[:, None]
        columns = w if UNIT_W else w * stride_xw
        offsets = ((pixel // OW) * stride_xh)[None, :] + columns + (offs_c % C * stride_xc)[:, None]
        mask = mask_pixel[None, :] & (tap < KW)[:, None] & (w >= 0) & (w < W)
        # Threads load along positions, which lie nearer together than taps and channels.
        value = tl.trans(tl.load(corner + offsets, mask=mask, other=0.0))
    else:
        offset = pixel if JOINED else (pixel // W) * stride_xh + (pixel % W) * stride_xw
        columns = offs_c if UNIT_C else offs_c * stride_xc
        mask = mask_pixel[:, None] & (offs_c < C)[None, :]
        value = tl.load(corner + (offset[:, None] + columns[None, :]), mask=mask, other=0.0)
    half: tl.constexpr = packed_ptr.dtype.element_ty
    targets = (packed_ptr + (image * pixels * PITCH + group * CHANNELS)) + (pixel[:, None] * PITCH + offs_c[None, :])
    if X_FACTOR != 1:
        scaled = value * X_FACTOR
        packed = half_or_nan(scaled, half)
        if PARTS == 3:
            tl.store(targets + WHOLE, packed, mask=mask_pixel[:, None])
            tl.store(targets + 2 * WHOLE, rest_of_half(scaled, packed, half), mask=mask_pixel[:, None])
    else:
        packed = value
    tl.store(targets, packed, mask=mask_pixel[:, None])


@triton.jit(
    do_not_specialize=[
        "sign", "elements", "rows", "group_channels", "group_rows", "C", "KH", "KW", "stride_wo", "stride_wc",
        "stride_wh", "stride_ww", "stride_b", "W", "OW", "pixels", "blocks", "stride_xn", "stride_xc", "stride_xh",
        "stride_xw", "stride_w", "pad_w", "dil_w",
    ],
    do_not_specialize_on_alignment=["weight_ptr", "bias_ptr"],
)  # fmt: skip
def pack_kernel(
    weight_ptr, bias_ptr, packed_weight_ptr, start_ptr, factor_ptr, limit_ptr, x_ptr, packed_x_ptr, sign,
    elements, rows, group_channels, group_rows, C, KH, KW, stride_wo, stride_wc, stride_wh, stride_ww, stride_b,
    W, OW, pixels, blocks, stride_xn, stride_xc, stride_xh, stride_xw, stride_w, pad_w, dil_w,
    CHANNELS: tl.constexpr, PITCH: tl.constexpr, PARTS: tl.constexpr, X_FACTOR: tl.constexpr, GATHERED: tl.constexpr,
    TAPS: tl.constexpr, WEIGHT_C: tl.constexpr, ONE_FACTOR: tl.constexpr,
    JOINED: tl.constexpr, UNIT_C: tl.constexpr, UNIT_W: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One program: one of the `rows` of the weight, or, after those, one tile of x, unless that is read as it lies."""
    program = tl.program_id(0)
    if program < rows:
        pack_weight(
            program, weight_ptr, bias_ptr, packed_weight_ptr, start_ptr, factor_ptr, limit_ptr, sign, elements,
            group_channels, group_rows, C, KH, KW, stride_wo, stride_wc, stride_wh, stride_ww, stride_b,
            CHANNELS, PARTS, X_FACTOR, GATHERED, TAPS, WEIGHT_C, ONE_FACTOR,
        )  # fmt: skip
    elif packed_x_ptr is not None:
        pack_input(
            program - rows, x_ptr, packed_x_ptr, C, W, KW, OW, pixels, blocks,
            stride_xn, stride_xc, stride_xh, stride_xw, stride_w, pad_w, dil_w,
            CHANNELS, PITCH, PARTS, GATHERED, JOINED, UNIT_C, UNIT_W, X_FACTOR, BLOCK_M, BLOCK_C,
        )  # fmt: skip


@triton.jit
def ring_load(
    channels, chunk, rows, h0, w0, H, W, C, stride_xh, stride_xc, stride_xw,
    CHUNK_W: tl.constexpr, CHUNK_COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, BLOCK_K: tl.constexpr,
    UNIT_W: tl.constexpr,
):  # fmt: skip
    """One chunk of x, [8, BLOCK_K / 8, CHUNK_W], zeros outside the image; `channels` points at (c, 0, 0).

    In this shape Triton gives each thread eight channels of one column: what it loads along a row it stores along the
    channels, without an exchange between threads.
    """
    chunks_of_channels: tl.constexpr = CHANNELS // BLOCK_K
    place = chunk // chunks_of_channels
    first = (chunk % chunks_of_channels) * BLOCK_K
    row = place // CHUNK_COLUMNS
    h = h0 + row
    w = w0 + (place % CHUNK_COLUMNS) * CHUNK_W + tl.arange(0, CHUNK_W)
    offs_c = first + tl.arange(0, BLOCK_K // 8)[None, :] * 8 + tl.arange(0, 8)[:, None]
    mask = ((row < rows) & (h >= 0) & (h < H)) & (w >= 0) & (w < W)
    columns = w if UNIT_W else w * stride_xw
    return tl.load(
        (channels + (h * stride_xh + first * stride_xc))[:, :, None] + columns[None, None, :],
        mask=mask[None, None, :] & (offs_c < C)[:, :, None],
        other=0.0,
        eviction_policy="evict_first",
    )


@triton.jit
def ring_store(
    ring_ptr, value, chunk, rows, row0, RING_H: tl.constexpr, RING_W: tl.constexpr, CHUNK_W: tl.constexpr,
    CHUNK_COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, BLOCK_K: tl.constexpr, X_FACTOR: tl.constexpr,
):  # fmt: skip
    """Put a chunk into its place in the ring [RING_H, RING_W, CHANNELS], in 16 bits."""
    chunks_of_channels: tl.constexpr = CHANNELS // BLOCK_K
    place = chunk // chunks_of_channels
    row = place // CHUNK_COLUMNS
    column0 = (place % CHUNK_COLUMNS) * CHUNK_W
    column = tl.arange(0, CHUNK_W)
    half: tl.constexpr = ring_ptr.dtype.element_ty
    packed = half_or_nan(value * X_FACTOR, half) if X_FACTOR != 1 else value
    slot = (row0 + row) % RING_H
    corner = ring_ptr + ((slot * RING_W + column0) * CHANNELS + (chunk % chunks_of_channels) * BLOCK_K)
    offs_c = tl.arange(0, BLOCK_K // 8)[None, :] * 8 + tl.arange(0, 8)[:, None]
    mask = (row < rows) & (column0 + column < RING_W)
    tl.store(
        corner + ((column * CHANNELS)[None, None, :] + offs_c[:, :, None]),
        packed,
        mask=mask[None, None, :],
    )


@triton.jit
def strip_store(
    out_image, best, unit, limit, magnitude, oh, ow, OH, OW, X_FACTOR: tl.constexpr
):  # fmt: skip
    """Store the results at oh, ow [BLOCK_M], given the minima of their sums, best [BLOCK_M]."""
    value = vouched(best * unit, limit, X_FACTOR)
    result = (value * magnitude).to(out_image.dtype.element_ty)
    tl.store(out_image + (oh * OW + ow), result, mask=(oh < OH) & (ow < OW))


@triton.jit
def vouched(best, limit, X_FACTOR: tl.constexpr):
    """The values, NaN where float16 cannot vouch for one: too near to 0, or not finite."""
    if X_FACTOR == 1:
        return best
    size = tl.abs(best)
    return tl.where((size >= limit) & (size < float("inf")), best, float("nan"))


@triton.jit
def largest_limit(limit_ptr, offs_n, CHANNEL_TILES: tl.constexpr, BLOCK_N: tl.constexpr, X_FACTOR: tl.constexpr):
    """The largest of all channels' limits, for `vouched`."""
    limit = 0.0
    if X_FACTOR != 1:
        for channel_tile in range(CHANNEL_TILES):
            limit = tl.maximum(limit, tl.max(tl.load(limit_ptr + channel_tile * BLOCK_N + offs_n), 0))
    return limit


@triton.jit(
    do_not_specialize=[
        "magnitude", "C", "H", "W", "OH", "OW", "stride_xn", "stride_xc", "stride_xh", "stride_xw", "strips", "steps",
        "total", "group_channels",
    ],
)  # fmt: skip
def strip_kernel(
    x_ptr, weight_ptr, start_ptr, factor_ptr, limit_ptr, ring_ptr, out_ptr, magnitude, C, H, W, OH, OW,
    stride_xn, stride_xc, stride_xh, stride_xw, strips, steps, total, group_channels,
    CHANNELS: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr, PAD_W: tl.constexpr, DIL_H: tl.constexpr, DIL_W: tl.constexpr,
    TILE_H: tl.constexpr, TILE_W: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    WINDOW_H: tl.constexpr, RING_W: tl.constexpr, CHUNK_W: tl.constexpr,
    CHANNEL_TILES: tl.constexpr, TILES_PER_GROUP: tl.constexpr, EVEN_N: tl.constexpr, RING: tl.constexpr,
    PADDED: tl.constexpr, UNIT_W: tl.constexpr, LANE: tl.constexpr, X_FACTOR: tl.constexpr, STAGES: tl.constexpr,
    ONE_FACTOR: tl.constexpr, BIAS_FIRST: tl.constexpr,
):  # fmt: skip
    """One program: a share of all steps, one after another, down the strips of the images.

    The loop runs over steps, tiles of channels and tiles of K at once, so that loads for the next step are under way
    while the last one ends. `magnitude` is |scale|. All strides of x but that of the dimension along which it is loaded
    are given in units of LANE elements, and so is W for a ring.
    """
    BLOCK_M: tl.constexpr = TILE_H * TILE_W
    NEW_H: tl.constexpr = TILE_H * STRIDE_H
    RING_H: tl.constexpr = WINDOW_H + 2 * NEW_H
    CHUNK_COLUMNS: tl.constexpr = (RING_W + CHUNK_W - 1) // CHUNK_W
    K_CHUNKS: tl.constexpr = CHANNELS // BLOCK_K
    K_TILES: tl.constexpr = KH * KW * K_CHUNKS
    TURNS: tl.constexpr = K_TILES * CHANNEL_TILES
    program = tl.program_id(0).to(tl.int64)
    first = ((program * total) // tl.num_programs(0)).to(tl.int32)
    last = (((program + 1) * total) // tl.num_programs(0)).to(tl.int32)
    ring = ring_ptr + program * (RING_H * RING_W * CHANNELS)
    # Multiplied by a constant: Triton sees what loads it may widen, and need not compile for each set of strides.
    stride_xn = stride_xn * LANE
    stride_xh = stride_xh * LANE
    if RING:
        stride_xc = stride_xc * LANE
        W = W * LANE
    else:
        stride_xw = stride_xw * LANE

    offs_m = tl.arange(0, BLOCK_M)
    tile_row = offs_m // TILE_W
    tile_column = offs_m % TILE_W
    offs_n = tl.arange(0, BLOCK_N)
    offs_k = tl.arange(0, BLOCK_K)
    weight_tile = (offs_n * (K_TILES * BLOCK_K))[None, :] + offs_k[:, None]  # [BLOCK_K, BLOCK_N]
    limit = largest_limit(limit_ptr, offs_n, CHANNEL_TILES, BLOCK_N, X_FACTOR)
    start = tl.load(start_ptr + offs_n)
    factor = tl.load(factor_ptr + offs_n)
    unit = tl.load(factor_ptr) if ONE_FACTOR else 1.0
    for segment in range((last - 1) // steps - first // steps + 1):
        strip = first // steps + segment
        begin = tl.maximum(first - strip * steps, 0)
        end = tl.minimum(last - strip * steps, steps)
        image = (strip // strips).to(tl.int64)
        column0 = (strip % strips) * TILE_W
        w0 = column0 * STRIDE_W - PAD_W
        x_image = x_ptr + image * stride_xn
        out_image = out_ptr + image * OH * OW
        if RING:
            x_tile = (tile_column * (STRIDE_W * CHANNELS))[:, None] + offs_k[None, :]  # [BLOCK_M, BLOCK_K]
            channels = x_image + (tl.arange(0, BLOCK_K // 8)[None, :] * 8 + tl.arange(0, 8)[:, None]) * stride_xc
            tl.debug_barrier()
            for chunk in tl.range(0, (WINDOW_H + NEW_H) * CHUNK_COLUMNS * K_CHUNKS, num_stages=1):
                value = ring_load(
                    channels, chunk, WINDOW_H + NEW_H, begin * NEW_H - PAD_H, w0, H, W, C,
                    stride_xh, stride_xc, stride_xw, CHUNK_W, CHUNK_COLUMNS, CHANNELS, BLOCK_K, UNIT_W,
                )  # fmt: skip
                ring_store(
                    ring, value, chunk, WINDOW_H + NEW_H, begin * NEW_H,
                    RING_H, RING_W, CHUNK_W, CHUNK_COLUMNS, CHANNELS, BLOCK_K, X_FACTOR,
                )  # fmt: skip
            tl.debug_barrier()
        else:
            columns = w0 + tile_column * STRIDE_W
            if not PADDED:
                # What lies past the last window is computed and not stored.
                columns = tl.minimum(columns, W - (KW - 1) * DIL_W - 1)
            x_tile = (columns * stride_xw)[:, None] + offs_k[None, :]

        best = tl.full([BLOCK_M], float("inf"), tl.float32)
        if BIAS_FIRST:
            if CHANNEL_TILES != 1:
                start = tl.load(start_ptr + offs_n)
            acc = tl.broadcast_to(start[None, :], [BLOCK_M, BLOCK_N])
        else:
            acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for turn in tl.range(0, (end - begin) * TURNS, num_stages=STAGES):
            step = begin + turn // TURNS
            channel_tile = (turn // K_TILES) % CHANNEL_TILES
            k_tile = turn % K_TILES
            kh = k_tile // (KW * K_CHUNKS)
            kw = (k_tile // K_CHUNKS) % KW
            c0 = (k_tile % K_CHUNKS) * BLOCK_K
            if TILES_PER_GROUP != CHANNEL_TILES:
                c0 += (channel_tile // TILES_PER_GROUP) * CHANNELS
            row0 = step * NEW_H + kh * DIL_H
            if RING:
                corner = ring + (kw * (DIL_W * CHANNELS) + c0)
                if TILE_H == 1:
                    x_part = tl.load((corner + (row0 % RING_H) * (RING_W * CHANNELS)) + x_tile)
                else:
                    slot = (row0 + tile_row * STRIDE_H) % RING_H
                    x_part = tl.load((corner + slot * (RING_W * CHANNELS))[:, None] + x_tile)
                # The rows of the step after the next one are packed meanwhile. Threads hand each other what they load,
                # so there is a barrier in every turn, and no row is read within a step of being written.
                chunk = turn % TURNS
                value = ring_load(
                    channels, chunk, NEW_H, step * NEW_H + (WINDOW_H + NEW_H - PAD_H), w0, H, W, C,
                    stride_xh, stride_xc, stride_xw, CHUNK_W, CHUNK_COLUMNS, CHANNELS, BLOCK_K, UNIT_W,
                )  # fmt: skip
            else:
                corner = x_image + ((row0 - PAD_H) * stride_xh + (kw * DIL_W) * stride_xw + c0)
                rows = tile_row * STRIDE_H
                if PADDED:
                    h, w = row0 - PAD_H + rows, columns + kw * DIL_W
                    mask = (h >= 0) & (h < H) & (w >= 0) & (w < W)
                    x_part = tl.load((corner + rows * stride_xh)[:, None] + x_tile, mask=mask[:, None], other=0.0)
                elif TILE_H == 1:
                    x_part = tl.load(corner + x_tile)
                else:
                    rows = tl.minimum(rows, H - 1 - row0)
                    x_part = tl.load((corner + rows * stride_xh)[:, None] + x_tile)
            weight_part = tl.load((weight_ptr + (channel_tile * BLOCK_N * K_TILES + k_tile) * BLOCK_K) + weight_tile)
            acc = tl.dot(x_part, weight_part, acc)
            if RING:
                ring_store(
                    ring, value, chunk, NEW_H, step * NEW_H + (WINDOW_H + NEW_H),
                    RING_H, RING_W, CHUNK_W, CHUNK_COLUMNS, CHANNELS, BLOCK_K, X_FACTOR,
                )  # fmt: skip
            if k_tile == K_TILES - 1:
                sums = acc
                if not BIAS_FIRST:
                    if CHANNEL_TILES != 1:
                        start = tl.load(start_ptr + (channel_tile * BLOCK_N + offs_n))
                    sums += start[None, :]
                if not ONE_FACTOR:
                    if CHANNEL_TILES != 1:
                        factor = tl.load(factor_ptr + (channel_tile * BLOCK_N + offs_n))
                    sums *= factor[None, :]
                if not EVEN_N:
                    # Zero weights give NaN where x is infinite.
                    exists = (channel_tile % TILES_PER_GROUP) * BLOCK_N + offs_n < group_channels
                    sums = tl.where(exists[None, :], sums, float("inf"))
                best = smaller_or_nan(best, tl.reduce(sums, 1, smaller_or_nan))
                if BIAS_FIRST:
                    if CHANNEL_TILES != 1:
                        start = tl.load(start_ptr + ((channel_tile + 1) % CHANNEL_TILES * BLOCK_N + offs_n))
                    acc = tl.broadcast_to(start[None, :], [BLOCK_M, BLOCK_N])
                else:
                    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
                if channel_tile == CHANNEL_TILES - 1:
                    strip_store(
                        out_image, best, unit, limit, magnitude, step * TILE_H + tile_row, column0 + tile_column,
                        OH, OW, X_FACTOR,
                    )  # fmt: skip
                    best = tl.full([BLOCK_M], float("inf"), tl.float32)


@triton.jit
def reciprocal(divisor):
    """(factor, shift) for `quotient`, once for many divisions by the same positive number of 32 bits."""
    powers = tl.full([32], 1, tl.int64) << tl.arange(0, 32)
    shift = tl.sum((powers < divisor).to(tl.int32), 0)  # 2^shift is the first power of two that is not smaller
    ceiling = ((tl.full([], 1, tl.int64) << (shift + 31)) + (divisor - 1)) // divisor
    return ceiling.to(tl.uint32), shift.to(tl.uint32)


@triton.jit
def quotient(number, factor, shift):
    """Numbers from 0 to 2^31 - 1 // the divisor, by a product (Granlund and Montgomery 1994, theorem 4.2)."""
    return (tl.umulhi(number.to(tl.uint32) * 2, factor) >> shift).to(tl.int32)


@triton.jit(
    do_not_specialize=[
        "magnitude", "pixels", "H", "W", "OH", "OW", "stride_xw", "apart", "tiles", "total", "group_channels",
    ],
)  # fmt: skip
def flat_kernel(
    x_ptr, weight_ptr, start_ptr, factor_ptr, limit_ptr, out_ptr, magnitude, pixels, H, W, OH, OW, stride_xw,
    apart, tiles, total, group_channels,
    PITCH: tl.constexpr, CHANNELS: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    DIL_H: tl.constexpr, DIL_W: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    CHANNEL_TILES: tl.constexpr, TILES_PER_GROUP: tl.constexpr, EVEN_N: tl.constexpr, X_FACTOR: tl.constexpr,
    ONE_FACTOR: tl.constexpr, MERGED: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """One program: every so many of all tiles of pixels, a window of stride 1 beginning at each pixel.

    All `pixels` of x lie in one row, `stride_xw` apart, so that one tap of a tile is a rectangle of memory. There are
    `tiles` to an image, and images begin `apart` pixels from each other; or, MERGED, all are tiled as if they were one.
    Where a window would reach past the end of a row or an image, what is computed is not stored. Warps of their own
    load both operands, as Triton arranges for loads by descriptors in a loop that is to be specialized, and the others
    never wait for an address.
    """
    K_CHUNKS: tl.constexpr = CHANNELS // BLOCK_K
    K_TILES: tl.constexpr = KH * KW * K_CHUNKS
    x = tl.make_tensor_descriptor(x_ptr, [pixels, PITCH], [stride_xw, 1], [BLOCK_M, BLOCK_K])
    weight = tl.make_tensor_descriptor(
        weight_ptr, [CHANNEL_TILES * BLOCK_N, K_TILES * BLOCK_K], [K_TILES * BLOCK_K, 1], [BLOCK_N, BLOCK_K]
    )
    offs_m = tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, BLOCK_N)
    limit = largest_limit(limit_ptr, offs_n, CHANNEL_TILES, BLOCK_N, X_FACTOR)
    start_0 = tl.load(start_ptr + offs_n)
    factor_0 = tl.load(factor_ptr + offs_n)
    unit = tl.load(factor_ptr) if ONE_FACTOR else 1.0
    tiles_factor, tiles_shift = reciprocal(tiles)
    width_factor, width_shift = reciprocal(W)
    program, programs = tl.program_id(0), tl.num_programs(0)
    for turn in tl.range(0, (total - program + programs - 1) // programs, warp_specialize=True):
        tile = program + turn * programs
        image = quotient(tile, tiles_factor, tiles_shift)
        offset = (tile - image * tiles) * BLOCK_M
        pixel = image * apart + offset
        best = tl.full([BLOCK_M], float("inf"), tl.float32)
        for channel_tile in range(CHANNEL_TILES):
            start = start_0 if CHANNEL_TILES == 1 else tl.load(start_ptr + (channel_tile * BLOCK_N + offs_n))
            acc = tl.broadcast_to(start[None, :], [BLOCK_M, BLOCK_N])
            for k_tile in tl.range(0, K_TILES, num_stages=STAGES):
                kh = k_tile // (KW * K_CHUNKS)
                kw = (k_tile // K_CHUNKS) % KW
                c0 = (k_tile % K_CHUNKS) * BLOCK_K
                if TILES_PER_GROUP != CHANNEL_TILES:
                    c0 += (channel_tile // TILES_PER_GROUP) * CHANNELS
                x_part = x.load([pixel + (kh * DIL_H) * W + kw * DIL_W, c0])
                weight_part = weight.load([channel_tile * BLOCK_N, k_tile * BLOCK_K])
                acc = tl.dot(x_part, weight_part.T, acc)
            if not ONE_FACTOR:
                factor = factor_0 if CHANNEL_TILES == 1 else tl.load(factor_ptr + (channel_tile * BLOCK_N + offs_n))
                acc *= factor[None, :]
            if not EVEN_N:
                # Zero weights give NaN where x is infinite.
                exists = (channel_tile % TILES_PER_GROUP) * BLOCK_N + offs_n < group_channels
                acc = tl.where(exists[None, :], acc, float("inf"))
            best = smaller_or_nan(best, tl.reduce(acc, 1, smaller_or_nan))
        origin = offset + offs_m
        h = quotient(origin, width_factor, width_shift)
        w = origin - h * W
        if MERGED:
            of = h // H
            w = tl.where(origin < pixels, w, OW)
            out_image = out_ptr + of.to(tl.int64) * (OH * OW)
            h -= of * H
        else:
            out_image = out_ptr + image.to(tl.int64) * (OH * OW)
        strip_store(out_image, best, unit, limit, magnitude, h, w, OH, OW, X_FACTOR)


@triton.jit(
    do_not_specialize=[
        "M", "H", "W", "OH", "OW", "KW", "k_tiles", "k_chunks", "channel_tiles", "tiles_per_group", "group_channels",
        "splits", "rows",
        "stride_xn", "stride_xh", "stride_xw", "stride_h", "stride_w", "pad_h", "pad_w", "dil_h", "dil_w",
    ],
)  # fmt: skip
def partial_kernel(
    x_ptr, weight_ptr, start_ptr, factor_ptr, sums_ptr, M, H, W, OH, OW, KW, k_tiles, k_chunks, channel_tiles,
    tiles_per_group, group_channels, splits, rows, stride_xn, stride_xh, stride_xw,
    stride_h, stride_w, pad_h, pad_w, dil_h, dil_w,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PADDED: tl.constexpr, LANE: tl.constexpr,
    WHOLE_K: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_M positions, one tile of channels, one of `splits` shares of K.

    For calls with too few positions to occupy the card; strides of x are in units of LANE elements. What is stored are
    sums [splits, M, rows of the weight]; with WHOLE_K there is one share, and what is stored is the minimum over the
    tile, [M, channel_tiles].
    """
    place = tl.program_id(0)
    split = place % splits
    channel_tile = (place // splits) % channel_tiles
    offs_m = (place // splits // channel_tiles) * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_m = offs_m < M
    image, h0, w0 = window_origin(offs_m, OH, OW, stride_h, stride_w, pad_h, pad_w)
    offs_n = channel_tile * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_k = tl.arange(0, BLOCK_K)

    stride_xh = stride_xh * LANE
    stride_xw = stride_xw * LANE
    x_tile = (image * (stride_xn * LANE) + h0 * stride_xh + w0 * stride_xw)[:, None] + offs_k[None, :]
    x_group = x_ptr + (channel_tile // tiles_per_group) * (k_chunks * BLOCK_K)
    weight_tile = (offs_n * (k_tiles * BLOCK_K))[None, :] + offs_k[:, None]
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for k_tile in range((split * k_tiles) // splits, ((split + 1) * k_tiles) // splits):
        tap = k_tile // k_chunks
        down, right = (tap // KW) * dil_h, (tap % KW) * dil_w
        mask = mask_m
        if PADDED:
            h, w = h0 + down, w0 + right
            mask = mask & (h >= 0) & (h < H) & (w >= 0) & (w < W)
        corner = x_group + (down * stride_xh + right * stride_xw + (k_tile % k_chunks) * BLOCK_K)
        x_part = tl.load(corner + x_tile, mask=mask[:, None], other=0.0)
        weight_part = tl.load((weight_ptr + k_tile * BLOCK_K) + weight_tile)
        acc = tl.dot(x_part, weight_part, acc)
    if WHOLE_K:
        value = (acc + tl.load(start_ptr + offs_n)[None, :]) * tl.load(factor_ptr + offs_n)[None, :]
        # Zero weights give NaN where x is infinite.
        exists = (channel_tile % tiles_per_group) * BLOCK_N + tl.arange(0, BLOCK_N) < group_channels
        value = tl.where(exists[None, :], value, float("inf"))
        tl.store(sums_ptr + (offs_m * channel_tiles + channel_tile), tl.reduce(value, 1, smaller_or_nan), mask=mask_m)
    else:
        sums = sums_ptr + (split * M).to(tl.int64) * rows
        tl.store(sums + (offs_m[:, None] * rows + offs_n[None, :]), acc, mask=mask_m[:, None])


@triton.jit(
    do_not_specialize=[
        "magnitude", "columns", "rows", "group_rows", "scale_high", "scale_mid", "scale_low", "M", "C", "H", "W",
        "OH", "OW", "KH", "KW", "group_channels", "tiles_per_group", "channel_tiles", "k_tiles",
        "stride_xn", "stride_xc", "stride_xh", "stride_xw", "stride_wo", "stride_wc", "stride_wh", "stride_ww",
        "stride_b", "stride_h", "stride_w", "pad_h", "pad_w", "dil_h", "dil_w",
    ],
    do_not_specialize_on_alignment=["x_ptr", "weight_ptr", "bias_ptr", "out_ptr"],
)  # fmt: skip
def finish_kernel(
    sums_ptr, start_ptr, factor_ptr, limit_ptr, magnitude, columns, rows, group_rows,
    x_ptr, weight_ptr, bias_ptr, out_ptr, scale_high, scale_mid, scale_low,
    M, C, H, W, OH, OW, KH, KW, group_channels, tiles_per_group, channel_tiles, k_tiles,
    stride_xn, stride_xc, stride_xh, stride_xw,
    stride_wo, stride_wc, stride_wh, stride_ww, stride_b,
    stride_h, stride_w, pad_h, pad_w, dil_h, dil_w,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    ONE_TAP: tl.constexpr, PADDED: tl.constexpr, PRECISION: tl.constexpr, INDEX_64: tl.constexpr,
    OWN_M: tl.constexpr, OWN_N: tl.constexpr, ROWS: tl.constexpr, SPLITS: tl.constexpr, WHOLE_K: tl.constexpr,
    X_FACTOR: tl.constexpr,
):  # fmt: skip
    """One program: OWN_M results from what `partial_kernel` stored for them, OWN_N of the `columns` at once.

    `rows` is how many the packed weight has, at most ROWS. What float16 cannot vouch for is mended at once.
    """
    index: tl.constexpr = tl.int64 if INDEX_64 else tl.int32
    first = tl.program_id(0) * OWN_M
    own = first + tl.arange(0, OWN_M)
    mask_own = own < M
    best = tl.full([OWN_M], float("inf"), tl.float32)
    for column0 in range(0, columns, OWN_N):
        column = column0 + tl.arange(0, OWN_N)
        mask = mask_own[:, None] & (column < columns)[None, :]
        sums = sums_ptr + (own[:, None] * columns + column[None, :])
        if WHOLE_K:
            value = tl.load(sums, mask=mask, other=float("inf"))
        else:
            value = tl.zeros([OWN_M, OWN_N], tl.float32)
            for split in tl.static_range(SPLITS):
                value += tl.load(sums + tl.full([], split, tl.int64) * M * columns, mask=mask, other=0.0)
            exists = (column < columns) & (column % group_rows < group_channels)
            start = tl.load(start_ptr + column, mask=exists, other=0.0)
            factor = tl.load(factor_ptr + column, mask=exists, other=0.0)
            value = tl.where(exists[None, :], (value + start[None, :]) * factor[None, :], float("inf"))
        best = smaller_or_nan(best, tl.reduce(value, 1, smaller_or_nan))
    limit = 0.0
    if X_FACTOR != 1:
        row = tl.arange(0, ROWS)
        limit = tl.max(tl.load(limit_ptr + row, mask=row < rows, other=0.0), 0)
    result = vouched(best, limit, X_FACTOR) * magnitude
    tl.store(out_ptr + own, result.to(out_ptr.dtype.element_ty), mask=mask_own)
    if X_FACTOR != 1:  # noqa: SIM102 - decided when this is compiled, the other one when it runs
        if tl.max(((result != result) & mask_own).to(tl.int32), 0) != 0:
            # Other threads stored what is read now.
            tl.debug_barrier()
            for offset in range(0, OWN_M, BLOCK_M):
                mend_tile(
                    x_ptr, weight_ptr, bias_ptr, out_ptr, scale_high, scale_mid, scale_low,
                    tl.full([BLOCK_M], first + offset, index) + tl.arange(0, BLOCK_M), tl.minimum(first + OWN_M, M),
                    C, H, W, OH, OW, KH, KW, group_channels, tiles_per_group, channel_tiles, k_tiles,
                    stride_xn, stride_xc, stride_xh, stride_xw, stride_wo, stride_wc, stride_wh, stride_ww, stride_b,
                    stride_h, stride_w, pad_h, pad_w, dil_h, dil_w,
                    BLOCK_M, BLOCK_N, BLOCK_K, ONE_TAP, PADDED, PRECISION, INDEX_64,
                )  # fmt: skip


def named_configs() -> dict[str, dict[str, int]]:
    """The tile configurations by name, simplest first.

    tl.dot wants at least 16 in each dimension. float64 launches with smaller tiles than named here: see `tiles_for`.
    Those called strip, flat, ring and split are the fast path's, and mean "medium" where it does not take a call; flat
    means strip where `takes_flat` says no.
    """
    large, tiny = {"BLOCK_N": 128, "BLOCK_K": 64}, {"num_warps": 4, "num_stages": 2}
    return {
        "small": {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 32, "num_warps": 4, "num_stages": 2},
        "tiny": {"BLOCK_M": 16, "BLOCK_N": 32, "BLOCK_K": 16, "num_warps": 4, "num_stages": 2},
        "medium": {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 3},
        "large": {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 32, "num_warps": 8, "num_stages": 3},
        "strip": {**large, "BLOCK_M": 128, "BIAS_FIRST": False, "num_warps": 4, "num_stages": 3},
        "large strip": {**large, "BLOCK_M": 256, "BIAS_FIRST": True, "num_warps": 8, "num_stages": 4},
        "flat": {**large, "BLOCK_M": 256, "num_warps": 4, "num_stages": 4},
        "ring": {**large, "BLOCK_M": 128, "BIAS_FIRST": True, "num_warps": 4, "num_stages": 3},
        "split": {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 3},
        "large split": {**large, "BLOCK_M": 128, "num_warps": 8, "num_stages": 3},
        "tiny strip": {**tiny, "BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 16, "BIAS_FIRST": False},
        "tiny flat": {**tiny, "BLOCK_M": 32, "BLOCK_N": 16, "BLOCK_K": 16},
        "tiny ring": {**tiny, "BLOCK_M": 32, "BLOCK_N": 16, "BLOCK_K": 32, "BIAS_FIRST": True},
        "tiny split": {**tiny, "BLOCK_M": 16, "BLOCK_N": 32, "BLOCK_K": 16},
    }


def config_for(positions: int, group_channels: int) -> str:
    """The name of the configuration that `config=None` means: tiles no larger than the work that there is."""
    if group_channels <= 32 or positions <= 4096:
        return "small"
    return "medium" if group_channels <= 64 or positions <= 65536 else "large"


def fast_configs() -> tuple[str, ...]:
    """The names of the fast path's configurations."""
    names = "strip", "large strip", "flat", "ring", "split", "large split"
    return *names, "tiny strip", "tiny flat", "tiny ring", "tiny split"


def packed_bounds(weight: torch.Tensor, groups: int) -> tuple[int, int]:
    """Upper bounds, whatever the tiles, of the packed x's channels and of the packed weight's rows.

    Channels, and rows of the weight, are rounded up to tiles; three parts take three times as many channels.
    """
    return 3 * groups * (weight.shape[1] * weight.shape[3] + 64), 3 * weight.shape[0] + 16 * groups


def takes_strips(
    x: torch.Tensor, weight: torch.Tensor, scale: float, groups: int, precision: str, out: torch.Tensor
) -> bool:
    """Whether the fast path can compute a call.

    It has offsets of 32 bits inside an image, and an ordinary scale: 0, infinity and NaN do not commute with a minimum.
    For ieee there must be products enough for float32 to lose as much as three products of halves (docs/kernel.md).
    """
    _, channels, kernel_h, kernel_w = weight.shape
    height, columns = x.shape[2], max(x.shape[3], out.shape[3])
    reach = sum((size - 1) * step for size, step in zip(x.shape[1:], x.stride()[1:], strict=True))
    pitch, rows = packed_bounds(weight, groups)
    largest = max(reach, height * columns * pitch, out.shape[2] * out.shape[3], rows * kernel_h * pitch // groups)
    return (
        x.dtype != torch.float64
        and (x.dtype != torch.float32 or precision == "tf32" or channels * kernel_h * kernel_w >= 16)
        and 2.0**-126 <= abs(scale) < 2.0**127
        and largest < 2**31 - 2**24
    )


def takes_splits(x: torch.Tensor, weight: torch.Tensor, groups: int, out: torch.Tensor) -> bool:
    """Whether what `takes_strips` takes may be split: all offsets into x, its copy and the sums have 32 bits."""
    reach = sum((size - 1) * step for size, step in zip(x.shape, x.stride(), strict=True))
    pitch, rows = packed_bounds(weight, groups)
    copy = x.shape[0] * x.shape[2] * max(x.shape[3], out.shape[3]) * pitch
    return max(reach, copy, out.numel() * rows) < 2**31 - 2**24


def is_worth_packing(x: torch.Tensor, weight: torch.Tensor, groups: int, out: torch.Tensor) -> bool:
    """Whether 16-bit operands take less time than they cost: there are products enough, and the copy of x is not huge.

    With few channels a pixel is rounded up to 16 of them, or holds the whole row of x under its window.
    """
    channels, _, kernel_w = weight.shape[1:]
    gathered = gathers(channels, kernel_w)
    columns = out.shape[3] if gathered else x.shape[3]
    packed = triton.cdiv(channels * kernel_w if gathered else channels, 16) * 16
    return out.numel() * weight.numel() >= 2**24 and packed * columns <= 8 * channels * x.shape[3]


def gathers(channels: int, kernel_w: int) -> bool:
    """Whether the taps along the width are gathered into the channels, which are too few for a tile of their own."""
    return channels < 16 and kernel_w > 1


def mend_tiles() -> dict[str, int]:
    """The tiles of `mend_tile`: few positions, since single ones are broken, so that it is soon done."""
    return {"BLOCK_M": 16, "BLOCK_N": 128, "BLOCK_K": 32, "num_warps": 4, "num_stages": 2}


def chosen_config(
    config: str | None,
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: float,
    groups: int,
    precision: str,
    window: dict[str, int],
    out: torch.Tensor,
) -> str:
    """The name of the configuration that computes a call for which the user asked for `config`.

    Where there are far fewer tiles of positions than programs that run at once, the channels and K are shared out, too.
    """
    fast = takes_strips(x, weight, scale, groups, precision, out)
    if config is not None:
        possible = fast and ("split" not in config or takes_splits(x, weight, groups, out))
        if "flat" in config and not takes_flat(x, weight, groups, precision, window):
            config = config.replace("flat", "strip")
        return config if possible or config not in fast_configs() else "medium"
    if not fast or x.device.type != "cuda" or not is_worth_packing(x, weight, groups, out):
        return config_for(out.numel(), weight.shape[0] // groups)
    programs, _ = residents(x.device, 4)
    positions = triton.cdiv(out.numel(), 128)
    if 3 * positions < programs and takes_splits(x, weight, groups, out):
        tiles = positions * triton.cdiv(weight.shape[0], 128)
        return "large split" if 2 * tiles >= programs else "split"
    hopper = torch.cuda.get_device_capability(x.device)[0] >= 9
    if suits_rings(x, weight, groups, precision, window, out, programs, hopper):
        return "ring"
    if not hopper:
        return "strip"
    multiprocessors = programs // 2
    if takes_flat(x, weight, groups, precision, window) and suits_flat(x, weight, groups, window, out, multiprocessors):
        return "flat"
    return "large strip" if suits_large_strips(weight, groups, out, multiprocessors) else "strip"


def suits_rings(
    x: torch.Tensor,
    weight: torch.Tensor,
    groups: int,
    precision: str,
    window: dict[str, int],
    out: torch.Tensor,
    programs: int,
    hopper: bool,
) -> bool:
    """Whether it takes less time if programs pack x for themselves than if that is done before, in a pass over memory.

    Measured where that is so: on strips of one row, with 64 channels at once, loaded 16 bytes at a time. A program's
    first rows, and those of each strip, are packed before it can begin, so it needs many steps; fewer on Ada, whose
    tensor cores take twice the clocks and whose memory thrice the time. On Hopper a step of many turns takes longer
    here than in a large strip by more than its share of that pass.
    """
    layout, lane = half_layout(x, weight, groups, precision, named_configs()["ring"]), 16 // x.element_size()
    sizes = strip_sizes(window, layout, lies_well(x, layout), out)
    return (
        sizes["CHUNK_W"] > 0
        and sizes["TILE_H"] == 1
        and layout["k_chunks"] == 1
        and layout["block_k"] == 64
        and (layout["k_tiles"] * layout["channel_tiles"] <= 12 or not hopper)
        and x.stride(3) == 1
        and not any(number % lane for number in (*x.stride()[:3], x.shape[3], window["PAD_W"]))
        and strip_steps(out, layout["BLOCK_M"]) >= (64 if hopper else 16) * programs
    )


def suits_large_strips(weight: torch.Tensor, groups: int, out: torch.Tensor, multiprocessors: int) -> bool:
    """Whether one program of eight warps on a multiprocessor is faster than two of four.

    It loads the weight half as often, but nothing hides its first loads and what it does at the end of a step: there
    have to be steps, and turns of the loop in each of them; and it must not have more positions past the edges.
    """
    c_out, channels, kernel_h, kernel_w = weight.shape
    steps = triton.cdiv(strip_steps(out, 256), multiprocessors)
    turns = triton.cdiv(kernel_h * kernel_w * channels, 64)
    return (
        c_out // groups > 32
        and turns >= 3
        and steps >= 6
        and 20 * steps <= 11 * triton.cdiv(strip_steps(out, 128), multiprocessors)
    )


def takes_flat(x: torch.Tensor, weight: torch.Tensor, groups: int, precision: str, window: dict[str, int]) -> bool:
    """Whether a window can begin at each pixel, over nothing but pixels, which lie in a row or are to be packed.

    Descriptors want an x that is read as it lies to begin at a multiple of 16 bytes; where it will be is not known
    while torch.compile traces. Triton gives loads to warps of their own on sm_90 only, and aborts where there is no
    loop over K; no other versions than these were tried.
    """
    layout = half_layout(x, weight, groups, precision, named_configs()["flat"])
    left = window_left(window, [0, 0, 0, 0], layout)
    inside = all(left["O" + d] + (left["K" + d] - 1) * left["DIL_" + d] == left[d] for d in ("H", "W"))
    placed = is_plain(x) and x.data_ptr() % 16 == 0 and lies_in_a_row(x) if lies_well(x, layout) else True
    able = triton.__version__[:4] in ("3.6.", "3.7.") and layout["k_tiles"] > 1
    hopper = triton.knobs.runtime.override_arch in (None, "sm90", "sm90a")  # what Triton compiles for, if not the card
    on_card = x.device.type == "cpu" or (hopper and torch.cuda.get_device_capability(x.device)[0] == 9)
    few = x.shape[0] * left["H"] * left["W"] < 2**31 - 2**24
    return able and on_card and placed and inside and few and left["STRIDE_H"] == left["STRIDE_W"] == 1


def suits_flat(
    x: torch.Tensor, weight: torch.Tensor, groups: int, window: dict[str, int], out: torch.Tensor, multiprocessors: int
) -> bool:
    """Whether tiles of pixels are faster than strips, as measured on Hopper: a tile is, by more than five per cent.

    There is one program on a multiprocessor, so that nothing hides its first loads; it needs tiles, and each of them
    turns of the loop.
    """
    _, channels, kernel_h, kernel_w = weight.shape
    left = {**window, "W": window["OW"]} if gathers(channels, kernel_w) else window
    tiles = triton.cdiv(flat_tiles(x.shape[0], left, 256)["total"], multiprocessors)
    return (
        weight.shape[0] // groups > 32
        and triton.cdiv(kernel_h * kernel_w * channels, 64) >= 3
        and tiles >= 3
        and 40 * tiles <= 21 * triton.cdiv(strip_steps(out, 128), multiprocessors)
    )


def lies_in_a_row(x: torch.Tensor) -> bool:
    """Whether all pixels of x are equally far from each other in memory, across rows and images, and none overlap."""
    n, channels, height, width = x.shape
    rows = height == 1 or x.stride(2) == width * x.stride(3)
    apart = n == 1 or x.stride(0) == height * width * x.stride(3)
    return rows and apart and x.stride(3) >= channels


def flat_tiles(images: int, left: dict[str, int], block_m: int) -> dict[str, int]:
    """The tiles of pixels, by their names in `flat_kernel`: of each image, or of all as one if those are fewer.

    Both end where the last window begins.
    """
    apart, rest = left["H"] * left["W"], (left["H"] - left["OH"]) * left["W"]
    tiles, merged_tiles = triton.cdiv(apart - rest, block_m), triton.cdiv(images * apart - rest, block_m)
    merged = merged_tiles < images * tiles
    return {
        "apart": apart, "tiles": merged_tiles if merged else tiles, "total": merged_tiles if merged else images * tiles,
        "MERGED": merged,
    }  # fmt: skip


def strip_steps(out: torch.Tensor, block_m: int) -> int:
    """How many steps of BLOCK_M positions the strips of all images have."""
    tile_w = strip_width(block_m, *out.shape[2:])
    steps: int = out.shape[0] * triton.cdiv(out.shape[2], block_m // tile_w) * triton.cdiv(out.shape[3], tile_w)
    return steps


def strip_block_k(channels: int, largest: int) -> int:
    """BLOCK_K for this many channels, at most `largest`: padding costs products, and small tiles cost more loads."""
    costs = {64: 1.0, 32: 1.2, 16: 1.6}
    sizes = [size for size in costs if size <= largest]
    return min(sizes, key=lambda size: triton.cdiv(channels, size) * size * costs[size])


def strip_width(block_m: int, out_h: int, out_w: int) -> int:
    """TILE_W: the widest with the fewest positions past the edges, among the ways to lay out BLOCK_M positions."""
    widths = [width for width in (128, 64, 32, 16) if width <= block_m]
    return min(
        widths,
        key=lambda width: triton.cdiv(out_w, width) * width * triton.cdiv(out_h, block_m // width) * (block_m // width),
    )


def ring_chunk_width(new_rows: int, columns: int, k_chunks: int, turns: int) -> int:
    """CHUNK_W with which a step's `turns` of the loop can pack the new rows of the next but one; 0 if there is none.

    Loads run up to three turns ahead, hence at least four.
    """
    for width in (16, 32):
        if new_rows * triton.cdiv(columns, width) * k_chunks <= turns and turns >= 4:
            return width
    return 0


def strip_sizes(window: dict[str, int], layout: dict[str, int], direct: bool, out: torch.Tensor) -> dict[str, int]:
    """The sizes of a strip's steps and of a ring, by their names in `strip_kernel`.

    CHUNK_W is 0 where programs cannot pack x themselves: it is not to be packed, which `direct` says; it has groups, or
    three parts, or is gathered; or a step has too few turns.
    """
    tile_w = strip_width(layout["BLOCK_M"], *out.shape[2:])
    tile_h = layout["BLOCK_M"] // tile_w
    ring_w = (tile_w - 1) * window["STRIDE_W"] + (window["KW"] - 1) * window["DIL_W"] + 1
    turns = layout["k_tiles"] * layout["channel_tiles"]
    plain = layout["parts"] == layout["groups"] == 1 and not layout["gathered"] and not direct
    chunk_w = ring_chunk_width(tile_h * window["STRIDE_H"], ring_w, layout["k_chunks"], turns) if plain else 0
    window_h = (tile_h - 1) * window["STRIDE_H"] + (window["KH"] - 1) * window["DIL_H"] + 1
    return {"TILE_H": tile_h, "TILE_W": tile_w, "WINDOW_H": window_h, "RING_W": ring_w, "CHUNK_W": chunk_w}


def split_count(programs: int, tiles: int, k_tiles: int) -> int:
    """Into how many shares K is divided: as many as occupy the card, with four tiles of K at least in each."""
    wanted = min(programs // tiles, k_tiles // 4)
    return max(size for size in (1, 2, 4, 8) if size <= max(1, wanted))


def residents(device: torch.device, warps: int) -> tuple[int, int]:
    """How many programs of that many warps run at once, and the bytes of shared memory that each may have.

    Accumulators leave room for eight warps on a multiprocessor.
    """
    if device.type != "cuda":
        return 3, 49152
    card = torch.cuda.get_device_properties(device)
    together = 8 // warps
    return together * card.multi_processor_count, card.shared_memory_per_multiprocessor // together - 2048


def half_type(dtype: torch.dtype) -> torch.dtype:
    """The 16-bit type in which the fast path multiplies."""
    return torch.bfloat16 if dtype == torch.bfloat16 else torch.float16


def window_of(
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    sides: list[int],
    dilation: list[int],
    out: torch.Tensor,
) -> dict[str, int]:
    """The sizes of a convolution, as the kernels of the fast path call them."""
    return {
        "H": x.shape[2], "W": x.shape[3], "OH": out.shape[2], "OW": out.shape[3],
        "KH": weight.shape[2], "KW": weight.shape[3], "STRIDE_H": stride[0], "STRIDE_W": stride[1],
        "PAD_H": sides[0], "PAD_W": sides[1], "DIL_H": dilation[0], "DIL_W": dilation[1], "PADDED": any(sides),
    }  # fmt: skip


def window_left(window: dict[str, int], sides: list[int], layout: dict[str, int]) -> dict[str, int]:
    """What a convolution has left to do once the taps along the width are gathered, if they are."""
    if not layout["gathered"]:
        return window
    return {
        **window, "W": window["OW"], "KW": 1, "STRIDE_W": 1, "PAD_W": 0, "DIL_W": 1, "PADDED": any(sides[::2]),
    }  # fmt: skip


def half_layout(
    x: torch.Tensor, weight: torch.Tensor, groups: int, precision: str, config: dict[str, int]
) -> dict[str, int]:
    """How the fast path lays out its operands; `config`'s tiles, no larger than they need be."""
    gathered = gathers(weight.shape[1], weight.shape[3])
    channels, group_channels = weight.shape[1] * (weight.shape[3] if gathered else 1), weight.shape[0] // groups
    block_k = strip_block_k(channels, config["BLOCK_K"])
    block_n = min(config["BLOCK_N"], max(16, triton.next_power_of_2(group_channels)))
    parts = 3 if x.dtype == torch.float32 and precision == "ieee" else 1
    k_chunks, tiles_per_group = triton.cdiv(channels, block_k) * parts, triton.cdiv(group_channels, block_n)
    return {
        **config,
        "x_factor": 256 if x.dtype == torch.float32 else 1,
        "parts": parts,
        "groups": groups,
        "gathered": gathered,
        "block_k": block_k,
        "channels": k_chunks * block_k,
        "k_chunks": k_chunks,
        "k_tiles": weight.shape[2] * (1 if gathered else weight.shape[3]) * k_chunks,
        "block_n": block_n,
        "group_channels": group_channels,
        "tiles_per_group": tiles_per_group,
        "channel_tiles": groups * tiles_per_group,
        "rows": groups * tiles_per_group * block_n,
    }


def lies_well(x: torch.Tensor, layout: dict[str, int]) -> bool:
    """Whether x can be read as it lies: 16 bits, channels last, rows of 16 bytes, nothing to be gathered."""
    whole = x.shape[1] == layout["groups"] * layout["channels"] and not layout["gathered"]
    steps = [x.stride(dim) % 8 for dim in (0, 2, 3)]
    return layout["x_factor"] == 1 and x.stride(1) == 1 and whole and not any(steps)


def has_one_factor(x: torch.Tensor, weight: torch.Tensor, layout: dict[str, int]) -> bool:
    """Whether all channels are packed with one factor: 16 bits need none, and float32 the largest of all weights.

    Each program that packs a channel looks for that, hidden behind the packing of x if there is enough of that.
    """
    together = weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last)
    return layout["x_factor"] == 1 or (together and 4 * weight.numel() * layout["rows"] <= x.numel())


def packing(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    window: dict[str, int],
    layout: dict[str, int],
    as_it_lies: bool,
    one_factor: bool,
) -> tuple[
    dict[str, tuple[list[int], torch.dtype]],
    tuple[object, ...],
    dict[str, str],
    list[int],
]:
    """How to bring both operands into the form that the fast path reads, for `run_plan`.

    Returns the buffers; the launch of `pack_kernel`; the pointers of what is read afterwards, x and the weight with
    what makes results of sums; and the strides of x, [N, C, H, W], as it is read. Unless that is as it lies, x becomes
    [N, H, W, groups * channels] in 16 bits; gathered, W is that of the output. The weight becomes [rows, KH * KW,
    channels]; start, factor and limit are float32 [rows].
    """
    half, pitch, rows, parts = (
        half_type(x.dtype),
        layout["groups"] * layout["channels"],
        layout["rows"],
        layout["parts"],
    )
    taps = layout["k_tiles"] // layout["k_chunks"]
    n, _, height, width = x.shape
    columns = window["OW"] if layout["gathered"] else width
    blocks = triton.cdiv(height * columns, 128)
    tiles = 0 if as_it_lies else n * blocks * layout["groups"] * (layout["k_chunks"] // parts)
    padded_taps = triton.next_power_of_2(taps)
    buffers = {"packed_weight": ([rows, taps, layout["channels"]], half)}
    buffers |= dict.fromkeys(("start", "factor", "limit"), ([rows], torch.float32))
    if not as_it_lies:
        buffers["packed_x"] = ([n, height, columns, pitch], half)
    packed = {"x_ptr": "x" if as_it_lies else "packed_x", "weight_ptr": "packed_weight"}
    numbers = {"start_ptr": "start", "factor_ptr": "factor", "limit_ptr": "limit"}
    pointers = {
        "weight_ptr": "weight", "bias_ptr": None if bias is None else "bias", "packed_weight_ptr": "packed_weight",
        "x_ptr": "x", "packed_x_ptr": None if as_it_lies else "packed_x", **numbers,
    }  # fmt: skip
    arguments = {
        "sign": -1.0 if scale < 0 else 1.0, "elements": weight.numel(), "rows": rows,
        "group_channels": layout["group_channels"], "group_rows": rows // layout["groups"],
        "C": weight.shape[1], "KH": window["KH"], "KW": window["KW"],
        "stride_wo": weight.stride(0), "stride_wc": weight.stride(1), "stride_wh": weight.stride(2),
        "stride_ww": weight.stride(3), "stride_b": 0 if bias is None else bias.stride(0),
        "W": width, "OW": window["OW"], "pixels": height * columns, "blocks": blocks,
        "stride_xn": x.stride(0), "stride_xc": x.stride(1), "stride_xh": x.stride(2), "stride_xw": x.stride(3),
        "stride_w": window["STRIDE_W"], "pad_w": window["PAD_W"], "dil_w": window["DIL_W"],
        "CHANNELS": layout["channels"], "PITCH": pitch, "PARTS": parts, "X_FACTOR": layout["x_factor"],
        "GATHERED": layout["gathered"], "TAPS": padded_taps,
        "WEIGHT_C": min(triton.next_power_of_2(layout["channels"] // parts), max(1, 8192 // padded_taps)),
        "JOINED": x.stride(3) == 1 and x.stride(2) == width, "UNIT_C": x.stride(1) == 1,
        "UNIT_W": x.stride(3) == 1, "BLOCK_M": 128, "BLOCK_C": layout["block_k"], "ONE_FACTOR": one_factor,
        "num_warps": 8,
    }  # fmt: skip
    strides = list(x.stride()) if as_it_lies else [height * columns * pitch, 1, columns * pitch, pitch]
    return buffers, (pack_kernel, rows + tiles, pointers, arguments), {**packed, **numbers}, strides


def channel_sizes(layout: dict[str, int], room: int) -> dict[str, object]:
    """What kernels know of channels and their tiles; `room` is the shared memory that a program may have, in bytes."""
    block_n, block_k = layout["block_n"], layout["block_k"]
    return {
        "group_channels": layout["group_channels"], "CHANNELS": layout["channels"], "BLOCK_N": block_n,
        "BLOCK_K": block_k, "CHANNEL_TILES": layout["channel_tiles"], "TILES_PER_GROUP": layout["tiles_per_group"],
        "EVEN_N": layout["group_channels"] % block_n == 0, "X_FACTOR": layout["x_factor"],
        "STAGES": max(2, min(layout["num_stages"], room // (2 * block_k * (layout["BLOCK_M"] + block_n)))),
    }  # fmt: skip


def strips_plan(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    window: dict[str, int],
    sides: list[int],
    layout: dict[str, int],
    ring_wanted: bool,
    out: torch.Tensor,
) -> tuple[dict[str, tuple[list[int], torch.dtype]], list[tuple[object, ...]]]:
    """How to fill `out` by strips, for `run_plan`; for float32, with NaN where they cannot vouch for a result."""
    left = window_left(window, sides, layout)
    programs, room = residents(x.device, layout["num_warps"])
    direct = lies_well(x, layout)
    sizes = strip_sizes(left, layout, direct, out)
    ring = ring_wanted and sizes["CHUNK_W"] > 0
    one_factor = has_one_factor(x, weight, layout)
    buffers, pack, pointers, strides = packing(
        x, weight, bias, scale, window, layout, as_it_lies=ring or direct, one_factor=one_factor
    )

    strips, steps = triton.cdiv(out.shape[3], sizes["TILE_W"]), triton.cdiv(out.shape[2], sizes["TILE_H"])
    total = out.shape[0] * strips * steps
    programs = min(programs, total)
    if ring:
        rows = sizes["WINDOW_H"] + 2 * sizes["TILE_H"] * left["STRIDE_H"]
        buffers["ring"] = ([programs, rows, sizes["RING_W"], layout["channels"]], half_type(x.dtype))
    pointers = {**pointers, "ring_ptr": "ring" if ring else "packed_weight", "out_ptr": "out"}
    lane = 16 // (x.element_size() if ring or direct else 2)
    columns = left["W"]
    while ring and any(number % lane for number in (*strides[:3], columns)):
        lane //= 2
    unit_w = strides[3] == 1
    strides = [step if dim == (3 if ring else 1) else step // lane for dim, step in enumerate(strides)]
    arguments = {
        **left, **channel_sizes(layout, room), "magnitude": abs(scale), "C": x.shape[1],
        "W": columns // lane if ring else columns,
        "stride_xn": strides[0], "stride_xc": strides[1], "stride_xh": strides[2], "stride_xw": strides[3],
        "strips": strips, "steps": steps, "total": total,
        **sizes, "CHUNK_W": sizes["CHUNK_W"] or 16, "RING": ring, "UNIT_W": unit_w, "LANE": lane,
        # A ring leaves registers for that on Ada, what takes its place does not.
        "ONE_FACTOR": one_factor, "BIAS_FIRST": layout["BIAS_FIRST"] and ring == ring_wanted,
        "num_warps": layout["num_warps"],
    }  # fmt: skip
    return buffers, [pack, (strip_kernel, programs, pointers, arguments)]


def flat_plan(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    window: dict[str, int],
    layout: dict[str, int],
    out: torch.Tensor,
) -> tuple[dict[str, tuple[list[int], torch.dtype]], list[tuple[object, ...]]]:
    """How to fill `out` by tiles of pixels, for `run_plan`; for float32, with NaN as in `strips_plan`."""
    left = window_left(window, [0, 0, 0, 0], layout)
    one_factor = has_one_factor(x, weight, layout)
    buffers, pack, pointers, strides = packing(
        x, weight, bias, scale, window, layout, as_it_lies=lies_well(x, layout), one_factor=one_factor
    )
    tiles = flat_tiles(x.shape[0], left, layout["BLOCK_M"])
    # Eight warps hold the sums; those that load need few registers.
    programs, room = residents(x.device, 8)
    sizes = ("H", "W", "OH", "OW", "KH", "KW", "DIL_H", "DIL_W")
    arguments = {
        **{name: left[name] for name in sizes}, **tiles, **channel_sizes(layout, room), "magnitude": abs(scale),
        "pixels": x.shape[0] * tiles["apart"], "stride_xw": strides[3], "BLOCK_M": layout["BLOCK_M"],
        "PITCH": layout["groups"] * layout["channels"], "ONE_FACTOR": one_factor, "num_warps": layout["num_warps"],
    }  # fmt: skip
    launch_flat = flat_kernel, min(programs, tiles["total"]), {**pointers, "out_ptr": "out"}, arguments
    return buffers, [pack, launch_flat]


def split_plan(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    window: dict[str, int],
    sides: list[int],
    layout: dict[str, int],
    mending: tuple[dict[str, str | None], dict[str, object]],
    out: torch.Tensor,
) -> tuple[dict[str, tuple[list[int], torch.dtype]], list[tuple[object, ...]]]:
    """How to fill `out` by shares of the channels and of K, for `run_plan`.

    `mending` are the pointers and other arguments of `mend_tile`.
    """
    left, direct = window_left(window, sides, layout), lies_well(x, layout)
    buffers, pack, pointers, strides = packing(
        x, weight, bias, scale, window, layout, as_it_lies=direct, one_factor=False
    )
    positions, block_m, channel_tiles = out.numel(), layout["BLOCK_M"], layout["channel_tiles"]
    tiles = triton.cdiv(positions, block_m) * channel_tiles
    splits = split_count(residents(x.device, 4)[0], tiles, layout["k_tiles"])
    columns = channel_tiles if splits == 1 else layout["rows"]
    buffers["sums"] = ([splits, positions, columns], torch.float32)
    arguments = {
        "M": positions, "H": left["H"], "W": left["W"],
        "OH": left["OH"], "OW": left["OW"], "KW": left["KW"], "k_tiles": layout["k_tiles"],
        "k_chunks": layout["k_chunks"], "channel_tiles": channel_tiles, "tiles_per_group": layout["tiles_per_group"],
        "group_channels": layout["group_channels"], "splits": splits, "rows": layout["rows"],
        "stride_xn": strides[0] // 8, "stride_xh": strides[2] // 8, "stride_xw": strides[3] // 8,
        "stride_h": left["STRIDE_H"], "stride_w": left["STRIDE_W"], "pad_h": left["PAD_H"], "pad_w": left["PAD_W"],
        "dil_h": left["DIL_H"], "dil_w": left["DIL_W"], "BLOCK_M": block_m, "BLOCK_N": layout["block_n"],
        "BLOCK_K": layout["block_k"], "PADDED": left["PADDED"], "LANE": 8, "WHOLE_K": splits == 1,
        "num_warps": layout["num_warps"], "num_stages": layout["num_stages"],
    }  # fmt: skip
    limit = {"limit_ptr": pointers.pop("limit_ptr")}
    partial = (partial_kernel, tiles * splits, {**pointers, "sums_ptr": "sums"}, arguments)
    own_n = min(1024, triton.next_power_of_2(columns))
    own_m = max(1, 512 // own_n)
    finishing = {
        **mending[1], "magnitude": abs(scale), "group_channels": layout["group_channels"], "columns": columns,
        "rows": layout["rows"], "group_rows": layout["rows"] // layout["groups"], "OWN_M": own_m, "OWN_N": own_n,
        "ROWS": triton.next_power_of_2(layout["rows"]), "SPLITS": splits, "WHOLE_K": splits == 1,
        "X_FACTOR": layout["x_factor"],
    }  # fmt: skip
    # The tensors of the call itself for mending, what was packed for the rest.
    named = {**pointers, **limit, "sums_ptr": "sums", **mending[0]}
    return buffers, [pack, partial, (finish_kernel, triton.cdiv(positions, own_m), named, finishing)]


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


def under_autocast(*tensors):
    """The tensors as `torch.autocast`, where it is on, hands them to a convolution: in its type, all but float64."""

    def cast(tensor):
        if not isinstance(tensor, torch.Tensor):
            return tensor
        kind = tensor.device.type
        if kind not in ("cpu", "cuda") or not torch.is_autocast_enabled(kind):
            return tensor
        eligible = tensor.is_floating_point() and tensor.dtype != torch.float64
        return tensor.to(torch.get_autocast_dtype(kind)) if eligible else tensor

    return [cast(tensor) for tensor in tensors]


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

    Tiles, and what all programs of `mend_kernel` look through at once, run past the end, hence the margin.
    """
    reaches = [
        sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True)) for tensor in tensors
    ]
    return max(reaches + counts) >= 2**31 - 2**22


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
    """Every argument of a convolution kernel but the tensors; that which it writes has `stored` elements."""
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
        "ONE_TAP": one_tap, "PADDED": any(sides),
        "INDEX_64": needs_64_bits(tensors, counts), "PRECISION": precision, **tiles,
    }  # fmt: skip


def set_scratch(device: torch.device) -> None:
    """Give Triton memory for the descriptors that programs make, as torch.compile does, too, before its launches."""
    triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device=device))


def launch(kernel, programs: int, device: torch.device, arguments: dict[str, object]):
    """Start `programs` programs of `kernel`; torch.compile sees the launch through wrap_triton.

    Returns what Triton compiled, if it did.
    """
    if programs >= 2**31:
        raise RuntimeError(f"{programs} programs are more than one launch can have: take larger tiles")
    if not isinstance(kernel, triton.JITFunction):  # the interpreter's, which wrap_triton does not know everywhere
        return kernel[(programs,)](**arguments)
    if device.type == "cpu":
        raise RuntimeError("x.device=cpu needs Triton's interpreter: set TRITON_INTERPRET=1 before triton is imported")
    with torch.cuda.device(device):
        if kernel is flat_kernel:
            set_scratch(device)
        return torch.library.wrap_triton(kernel)[(programs,)](**arguments)


def is_plain(*tensors: torch.Tensor | None) -> bool:
    """Whether the tensors, where there are any, hold numbers: those with which torch.compile traces do not."""
    return all(type(tensor) in (torch.Tensor, nn.Parameter) for tensor in tensors if tensor is not None)


def remembered(planner):
    """Decorator: plan each kind of call once. What a plan depends on is what the key is made of, and the card."""
    known: dict[object, object] = {}

    def recall(x, weight, bias, scale, stride, sides, dilation, groups, precision, config, out):
        arguments = (x, weight, bias, scale, stride, sides, dilation, groups, precision, config, out)
        if not is_plain(x, weight, bias):
            for size in weight.shape:
                int(size)  # makes a symbolic size a constant, as tiles are: formulas of it would take minutes to trace
            return planner(*arguments)
        key = (
            x.dtype, x.device, x.shape, x.stride(), x.data_ptr() % 16, weight.shape, weight.stride(),
            None if bias is None else bias.stride(), scale.hex(), *stride, *sides, *dilation, groups, precision, config,
        )  # fmt: skip
        plan = known.get(key)
        if plan is None:
            if len(known) >= 1024:  # Shapes may never come again.
                known.clear()
            plan = known[key] = planner(*arguments)
        return plan

    return recall


@remembered
def plan_of(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    stride: list[int],
    sides: list[int],
    dilation: list[int],
    groups: int,
    precision: str,
    config: str | None,
    out: torch.Tensor,
) -> tuple[
    dict[str, tuple[list[int], torch.dtype]],
    list[tuple[object, ...]],
    list[tuple[object, ...]],
]:
    """What computes a call, for `run_plan`: buffers, launches, and an empty list for what compiling them gives.

    A buffer is (shape, dtype); a launch is (kernel, programs, pointers, other arguments), and pointers are names of
    buffers, or of the call's tensors: x, weight, bias, out. Of the tensors no more is used than how they lie.
    """
    window = window_of(x, weight, stride, sides, dilation, out)
    name = chosen_config(config, x, weight, scale, groups, precision, window, out)
    tiles = named_configs()[name]
    fast = name in fast_configs()
    general = tiles_for(mend_tiles() if fast else tiles, x.dtype, precision, weight.shape[1])
    arguments = conv_arguments(
        x, weight, bias, scale, stride, sides, dilation, groups, precision, general, stored=out.numel()
    )
    pointers = {"x_ptr": "x", "weight_ptr": "weight", "bias_ptr": None if bias is None else "bias", "out_ptr": "out"}
    if not fast:
        programs = triton.cdiv(out.numel(), general["BLOCK_M"])
        return {}, [(conv_scale_min_kernel, programs, pointers, arguments)], []
    layout = half_layout(x, weight, groups, precision, tiles)
    if "split" in name:
        return *split_plan(x, weight, bias, scale, window, sides, layout, (pointers, arguments), out), []
    if "flat" in name:
        buffers, launches = flat_plan(x, weight, bias, scale, window, layout, out)
    else:
        buffers, launches = strips_plan(x, weight, bias, scale, window, sides, layout, "ring" in name, out)
    if x.dtype == torch.float32:
        programs, _ = residents(x.device, 4)
        spans = next((size for size in (8, 32) if out.numel() <= size * 64 * programs), 128)
        launches.append((mend_kernel, programs, pointers, {**arguments, "SPANS": spans, "SPAN": 64}))
    return buffers, launches, []


def run_plan(plan, x, weight, bias, out):
    """Fill `out` as `plan_of` says.

    The first time Triton finds, or compiles, what belongs to the arguments, and takes longer to look at them than a
    small launch lasts. The next times that is at hand, and nothing differs but the pointers.
    """
    buffers, launches, compiled = plan
    tensors = {"x": x, "weight": weight, "bias": bias, "out": out}
    tensors |= {name: x.new_empty(shape, dtype=dtype) for name, (shape, dtype) in buffers.items()}
    if compiled:
        with torch.cuda.device(x.device):
            if any(kernel is flat_kernel for kernel, *_ in launches):
                set_scratch(x.device)
            for ready, grid, values, places in compiled:
                arguments = list(values)
                for place, source in places:
                    arguments[place] = tensors[source]
                ready[grid](*arguments)
        return
    found = []
    for kernel, programs, pointers, others in launches:
        bound = {**others, **{name: tensors.get(source) for name, source in pointers.items()}}
        ready = launch(kernel, programs, x.device, bound)
        if isinstance(ready, triton.compiler.CompiledKernel):
            names = kernel.arg_names
            values = [None if name in pointers else bound[name] for name in names]
            places = [(names.index(name), source) for name, source in pointers.items() if source is not None]
            found.append((ready, (programs, 1, 1), values, places))
    if is_plain(x, weight, bias) and len(found) == len(launches):
        compiled.extend(found)


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
    plan = plan_of(x, weight, bias, scale, stride, sides, dilation, groups, product, config, out)
    run_plan(plan, x, weight, bias, out)
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
        Under `torch.autocast` the operands are first cast, as a convolution's are.

    Raises:
        TypeError, RuntimeError, IndexError, OverflowError: where the PyTorch expression above raises them, and
            RuntimeError for an x that is not 4-D.
        ValueError: unknown precision or config.
        NotImplementedError: a dtype that is not listed above, or a scale that is a tensor.
    """
    if config is not None and config not in named_configs():
        raise ValueError(f"config={config!r} must be None or one of {', '.join(map(repr, named_configs()))}")
    x, weight, bias = under_autocast(x, weight, bias)
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
