"""Flaws in the identity of the minimum, NaN, infinities, the scale, and the order of operations."""

from planted.flaw import Flaw, in_rooms

IDENTITY = {
    "finite_sentinel": Flaw(
        base="tiled",
        sound='tl.full([BLOCK_M], float("inf"), tl.float32)',
        flawed="tl.full([BLOCK_M], 1e30, tl.float32)",
        wrong="the minimum starts at 1e30",
    ),
    "largest_finite_identity": Flaw(
        base="strided",
        sound='best = tl.full([BLOCK_M], float("inf"), acc_type)',
        flawed="best = tl.full([BLOCK_M], 3.4028234663852886e38, acc_type)",
        wrong="the minimum starts at the largest finite number, so that it is never infinite",
    ),
    "half_sentinel": Flaw(
        base="two_kernels",
        sound='best = tl.full([BLOCK_P], float("inf"), tl.float32)',
        flawed="best = tl.full([BLOCK_P], 65504.0, tl.float32)",
        wrong="the minimum starts at float16's largest number, in bfloat16 as well",
        dtypes=("bfloat16",),
    ),
    "padded_channels_zero": Flaw(
        base="tiled",
        sound='tl.where(mask_n[None, :], value, float("inf"))',
        flawed="tl.where(mask_n[None, :], value, 0.0)",
        wrong="missing channels of the last tile count as 0",
    ),
    "missing_channels_from_zero_sum": Flaw(
        base="split_k",
        sound='value = tl.where(mask, (total + bias[None, :]) * scale, float("inf"))',
        flawed="value = (total + bias[None, :]) * scale",
        wrong="missing channels of the last tile are not masked: their sum and bias of 0 count",
    ),
    "identity_before_scale": Flaw(
        base="tiled",
        sound=('value = (acc + bias[None, :]) * scale\n        value = tl.where(mask_n[None, :], value, float("inf"))'),
        flawed='value = tl.where(mask_n[None, :], acc + bias[None, :], float("inf")) * scale',
        wrong="the identity of missing channels is scaled, too: a negative scale turns it around",
    ),
    "maximum_from_zero": Flaw(
        base="negated_max",
        sound='highest = tl.full([BLOCK_P], float("-inf"), tl.float32)',
        flawed="highest = tl.zeros([BLOCK_P], tl.float32)",
        wrong="the maximum of the negated values starts at 0",
    ),
    "keys_from_zero": Flaw(
        base="atomic_min",
        sound="keys = torch.full((batch, 1, oh, ow), INFINITY_BITS, device=x.device, dtype=torch.int32)",
        flawed="keys = torch.zeros((batch, 1, oh, ow), device=x.device, dtype=torch.int32)",
        wrong="the atomic minimum starts at 0",
    ),
    "negative_keys_not_decoded": Flaw(
        base="atomic_min",
        sound="return (keys ^ ((keys >> 31) & 0x7FFFFFFF)).view(torch.float32)",
        flawed="return keys.view(torch.float32)",
        wrong="the ordered integers of negative numbers are taken for their bits",
    ),
}

NAN = {
    "nan_dropped": Flaw(
        base="tiled",
        sound=", propagate_nan=tl.PropagateNan.ALL",
        flawed="",
        wrong="the minimum over tiles of channels drops NaN",
    ),
    "nan_inside_tile_dropped": Flaw(
        base="tiled",
        sound='lowest = tl.where(is_nan, float("nan"), tl.min(value, axis=1))',
        flawed="lowest = tl.min(value, axis=1)",
        wrong="the minimum inside a tile of channels drops NaN",
    ),
    "nan_of_missing_channels": Flaw(
        base="tiled",
        sound=(
            'value = tl.where(mask_n[None, :], value, float("inf"))\n'
            "        is_nan = tl.max((value != value).to(tl.int32), axis=1) > 0"
        ),
        flawed=(
            "is_nan = tl.max((value != value).to(tl.int32), axis=1) > 0\n"
            '        value = tl.where(mask_n[None, :], value, float("inf"))'
        ),
        wrong="missing channels, whose zero weights meet an infinite x, count as NaN",
    ),
    "nan_flag_of_last_tile": Flaw(
        base="strided",
        sound="nan_seen = tl.maximum(nan_seen, tl.max(is_nan.to(tl.int32), axis=1))",
        flawed="nan_seen = tl.max(is_nan.to(tl.int32), axis=1)",
        wrong="only a NaN in the last tile of channels is remembered",
    ),
    "nan_comes_last": Flaw(
        base="atomic_min",
        sound="tl.where(value != value, -(2**31),",
        flawed="tl.where(value != value, 2**31 - 1,",
        wrong="NaN is the greatest of the ordered integers, so that any number beats it",
    ),
    "nan_overwritten_by_next": Flaw(
        base="scalar_loops",
        sound="tl.where((value < best) | (value != value), value, best)",
        flawed="tl.where(value >= best, best, value)",
        wrong="a NaN is taken, but the next channel is taken over it",
    ),
    "nan_kept_on_one_side": Flaw(
        base="rows",
        sound="tl.where((a < b) | (a != a), a, b)",
        flawed="tl.where(a < b, a, b)",
        wrong="a NaN is kept only if it is the second of a pair",
    ),
    "nan_skipped_by_zero_weight": Flaw(
        base="scalar_loops",
        sound="total += x.to(tl.float32) * w.to(tl.float32)",
        flawed="total += tl.where(w != 0, x.to(tl.float32) * w.to(tl.float32), 0.0)",
        wrong="products with a zero weight are skipped, though 0·inf and 0·NaN are NaN",
    ),
}

INFINITY = {
    "infinity_clipped": Flaw(
        base="packed",
        sound="tl.store(out_ptr + offs_m, best, mask=mask_m)",
        flawed=(
            "best = tl.minimum(best, 3.4028234663852886e38, propagate_nan=tl.PropagateNan.ALL)\n"
            "    tl.store(out_ptr + offs_m, best, mask=mask_m)"
        ),
        wrong="an infinite minimum becomes the largest finite number",
    ),
    "weight_clipped": Flaw(
        base="packed",
        sound="return self.conv.weight.detach().permute(2, 3, 1, 0).contiguous()",
        flawed="return self.conv.weight.detach().clamp(-1e20, 1e20).permute(2, 3, 1, 0).contiguous()",
        wrong="weights beyond 1e20 are clipped",
    ),
    "infinity_taken_for_nan": Flaw(
        base="scalar_loops",
        sound="(value < best) | (value != value)",
        flawed="(value < best) | (value - value != 0.0)",
        wrong="an infinite value replaces the minimum, as only a NaN should",
    ),
    "minus_infinity_taken_for_missing": Flaw(
        base="block_pointers",
        sound="nan_seen = tl.maximum(nan_seen, tl.max((value != value).to(tl.int32), axis=0))",
        flawed=(
            "nan_seen = tl.maximum(nan_seen, tl.max((value != value).to(tl.int32), axis=0))\n"
            '        value = tl.where(value == float("-inf"), float("inf"), value)'
        ),
        wrong="a channel of minus infinity counts as missing",
    ),
    "huge_values_clipped": Flaw(
        base="persistent",
        sound="tl.store(out_ptr + offs_m, best, mask=offs_m < positions)",
        flawed=(
            "best = tl.minimum(best, 1e30, propagate_nan=tl.PropagateNan.ALL)\n"
            "        tl.store(out_ptr + offs_m, best, mask=offs_m < positions)"
        ),
        wrong="results above 1e30 become 1e30",
    ),
}

SCALE = {
    "zero_scale_taken_for_unset": Flaw(
        base="tiled",
        sound="x, weight, bias, out, self.scale_factor,",
        flawed="x, weight, bias, out, self.scale_factor or 1.0,",
        wrong="a scale of 0 counts as not given",
    ),
    "sign_of_scale_lost": Flaw(
        base="negated_max",
        sound="self.conv.bias, out, -self.scale_factor,",
        flawed="self.conv.bias, out, -abs(self.scale_factor),",
        wrong="only the magnitude of the scale is used",
    ),
    "extremum_by_sign_of_scale": Flaw(
        base="eager_function",
        sound=" * scale\n    return value.amin(dim=1, keepdim=True)",
        flawed="\n    return (value.amin if scale >= 0 else value.amax)(dim=1, keepdim=True) * scale",
        wrong="the scale follows the minimum, which is right but for a NaN that 0·inf makes in another channel",
    ),
    "subnormal_scale_flushed": Flaw(
        base="packed",
        sound="x, weight, bias, out, self.scale_factor,",
        flawed="x, weight, bias, out, 0.0 if abs(self.scale_factor) < 1e-38 else self.scale_factor,",
        wrong="a subnormal scale counts as 0",
    ),
    "scale_rounded_to_dtype": Flaw(
        base="strided",
        sound="factor = torch.full((1,), scale, device=x.device, dtype=torch.float64)",
        flawed="factor = torch.tensor([scale], device=x.device, dtype=x.dtype)",
        wrong="the scale is rounded to the dtype of the operands",
        dtypes=("float16", "bfloat16"),
    ),
    "scale_in_float32": Flaw(
        base="strided",
        sound="factor = torch.full((1,), scale, device=x.device, dtype=torch.float64)",
        flawed="factor = torch.full((1,), scale, device=x.device, dtype=torch.float32)",
        wrong="the scale of float64 operands is rounded to float32",
        dtypes=("float64",),
    ),
}

ORDER = {
    "bias_after_scale": Flaw(
        base="tiled",
        sound="(acc + bias[None, :]) * scale",
        flawed="acc * scale + bias[None, :]",
        wrong="the bias is added after scaling",
    ),
    "minimum_before_scale": Flaw(
        base="tiled",
        sound=('value = (acc + bias[None, :]) * scale\n        value = tl.where(mask_n[None, :], value, float("inf"))'),
        flawed=(
            "total = acc + bias[None, :]\n"
            "        known = mask_n[None, :] & (total == total)\n"
            '        lowest = tl.min(tl.where(known, total, float("inf")), axis=1)\n'
            "        value = tl.where(total == total, lowest[:, None] * scale, total)\n"
            '        value = tl.where(mask_n[None, :], value, float("inf"))'
        ),
        wrong="the minimum is taken before scaling",
    ),
    "bias_in_every_part": Flaw(
        base="split_k",
        sound=(
            "            total += tl.load(part_ptr + offset, mask=mask, other=0.0)\n"
            "        bias = tl.load(b_ptr + offs_n, mask=offs_n < C_OUT, other=0.0)\n"
            "        value = tl.where(mask, (total + bias[None, :]) * scale"
        ),
        flawed=(
            "            bias = tl.load(b_ptr + offs_n, mask=offs_n < C_OUT, other=0.0)\n"
            "            total += tl.load(part_ptr + offset, mask=mask, other=0.0) + bias[None, :]\n"
            "        value = tl.where(mask, total * scale"
        ),
        wrong="every part of the sum brings the bias along",
    ),
}

FLAWS = in_rooms({"identity": IDENTITY, "NaN": NAN, "infinity": INFINITY, "scale": SCALE, "order of operations": ORDER})
