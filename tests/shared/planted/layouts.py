"""Flaws in what is assumed about strides, and in the convolution's own stride, padding, dilation and groups."""

from planted.flaw import Flaw, in_rooms

X_STRIDES = "x.stride(0), x.stride(1), x.stride(2), x.stride(3),"
WEIGHT_STRIDES = "weight.stride(0), weight.stride(1), weight.stride(2), weight.stride(3),"

LAYOUTS = {
    "stride_assumed": Flaw(
        base="tiled",
        sound="x = x.contiguous()",
        flawed="assert x.stride() is not None",
        wrong="x is taken for contiguous",
    ),
    "channels_last_taken_as_is": Flaw(
        base="tiled",
        sound="x = x.contiguous()",
        flawed="x = x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()",
        wrong="an x in channels_last counts as contiguous",
    ),
    "columns_assumed_dense": Flaw(
        base="strided",
        sound=X_STRIDES,
        flawed="x.stride(0), x.stride(1), x.stride(2), 1,",
        wrong="neighbours in a row of x are taken to lie side by side",
    ),
    "rows_assumed_dense": Flaw(
        base="strided",
        sound=X_STRIDES,
        flawed="x.stride(0), x.stride(1), width * x.stride(3), x.stride(3),",
        wrong="rows of x are taken to lie side by side",
    ),
    "zero_stride_taken_for_unset": Flaw(
        base="strided",
        sound=X_STRIDES,
        flawed="x.stride(0) or x[0].numel(), x.stride(1), x.stride(2), x.stride(3),",
        wrong="a batch stride of 0, which an expanded x has, is replaced",
    ),
    "channels_last_assumed_dense": Flaw(
        base="scalar_loops",
        sound="*x.stride(),",
        flawed="*(x.stride() if x.stride(1) != 1 else (x[0].numel(), 1, width * c_in, c_in)),",
        wrong="a channel stride of 1 is taken for dense channels_last",
    ),
    "view_offset_dropped": Flaw(
        base="strided",
        sound="grid = (triton.cdiv(positions, 32),)",
        flawed="grid = (triton.cdiv(positions, 32),)\n    x = x.as_strided(x.shape, x.stride(), 0)",
        wrong="x is taken to begin where its storage begins",
    ),
    "weight_assumed_contiguous": Flaw(
        base="strided",
        sound=WEIGHT_STRIDES,
        flawed="c_in * kh * kw, kh * kw, kw, 1,",
        wrong="the weight is taken for contiguous",
    ),
    "taps_assumed_dense": Flaw(
        base="strided",
        sound=WEIGHT_STRIDES,
        flawed="weight.stride(0), weight.stride(1), kw * weight.stride(3), weight.stride(3),",
        wrong="rows of a filter are taken to lie side by side",
    ),
    "bias_assumed_contiguous": Flaw(
        base="strided",
        sound="0 if bias is None else bias.stride(0),",
        flawed="0 if bias is None else 1,",
        wrong="the bias is taken for contiguous",
    ),
    "alignment_promised": Flaw(
        base="two_kernels",
        sound="w = tl.load(w_ptr + w_offset,",
        flawed="w = tl.load(tl.multiple_of(w_ptr, 16) + w_offset,",
        wrong="the compiler is told that the weight begins at a multiple of 16 elements",
    ),
}

OPTIONS = {
    "strides_swapped": Flaw(
        base="strided",
        sound="stride[0], stride[1], padding[0],",
        flawed="stride[1], stride[0], padding[0],",
        wrong="the strides of rows and columns are exchanged",
    ),
    "dilations_swapped": Flaw(
        base="strided",
        sound="(kh * dil_h)[None, :]",
        flawed="(kh * dil_w)[None, :]",
        wrong="rows are dilated as columns are",
    ),
    "padding_above_and_left_only": Flaw(
        base="strided",
        sound="(row >= 0) & (row < H) & (col >= 0) & (col < W)",
        flawed="(row >= 0) & (col >= 0)",
        wrong="the padding below and right is read from memory",
    ),
    "padding_right_unmasked": Flaw(
        base="strided",
        sound="(row >= 0) & (row < H) & (col >= 0) & (col < W)",
        flawed="(row >= 0) & (row < H) & (col >= 0)",
        wrong="the padding on the right holds the next row",
    ),
    "padding_repeats_border": Flaw(
        base="strided",
        sound="inside = (row >= 0) & (row < H) & (col >= 0) & (col < W)",
        flawed=(
            "inside = row > -H - W\n"
            "                row = tl.minimum(tl.maximum(row, 0), H - 1)\n"
            "                col = tl.minimum(tl.maximum(col, 0), W - 1)"
        ),
        wrong="the padding repeats the border instead of being zero",
    ),
    "single_tap_needs_no_padding": Flaw(
        base="strided",
        sound="mask_x = mask_m[:, None] & mask_k[None, :] & inside",
        flawed="mask_x = mask_m[:, None] & mask_k[None, :] & (inside | (KH * KW == 1))",
        wrong="a 1×1 kernel is taken to need no padding",
    ),
    "inputs_of_first_group": Flaw(
        base="strided",
        sound="(group * C + c)[None, :] * x_c",
        flawed="c[None, :] * x_c",
        wrong="every group reads the inputs of the first",
    ),
    "filters_of_first_group": Flaw(
        base="strided",
        sound="channel = (group * channels + offs_n).to(tl.int64)",
        flawed="channel = offs_n.to(tl.int64)",
        wrong="every group uses the filters of the first",
    ),
    "bias_of_first_group": Flaw(
        base="strided",
        sound="b_ptr + channel * b_o",
        flawed="b_ptr + offs_n * b_o",
        wrong="every group gets the bias of the first",
    ),
    "filters_across_groups": Flaw(
        base="strided",
        sound="mask_n = offs_n < channels",
        flawed="mask_n = group * channels + offs_n < channels * groups",
        wrong="the last tile of a group takes filters of the next, with the wrong inputs",
    ),
    "minimum_of_last_group": Flaw(
        base="strided",
        sound="for group in range(groups):",
        flawed='for group in range(groups):\n        best = tl.full([BLOCK_M], float("inf"), acc_type)',
        wrong="the running minimum starts afresh with every group",
    ),
    "size_without_dilation": Flaw(
        base="strided",
        sound="(size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1",
        flawed="(size + 2 * padding - kernel) // stride + 1",
        wrong="the size of the output leaves out the dilation",
    ),
    "size_rounded_up": Flaw(
        base="strided",
        sound="(size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1",
        flawed="-((dilation * (kernel - 1) + 1 - size - 2 * padding) // stride) + 1",
        wrong="the size of the output is rounded up where a stride leaves rows or columns over",
    ),
    "missing_bias_read": Flaw(
        base="strided",
        sound="x, weight, bias, factor, out,",
        flawed="x, weight, weight if bias is None else bias, factor, out,",
        wrong="the pointer that stands for a missing bias is read",
    ),
}

FLAWS = in_rooms({"layouts": LAYOUTS, "convolution options": OPTIONS})
