"""Bugs of the built-in kernels that no operator makes: what takes several edits, or an idea.

Each is text that stands in the kernel file exactly once, and what stands there instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fuzz.mutation.mutant import Mutant

_ROOM: Final = "catalogue"


@dataclass(frozen=True, kw_only=True)
class Bug:
    """One hand-made bug.

    Attributes:
        wrong: What is wrong, in one line.
        edits: Pairs of what stands in the file, and what stands there instead.
    """

    wrong: str
    edits: tuple[tuple[str, str], ...]

    def mutant(self, name: str, text: str) -> Mutant:
        """Return the bug in a file's text.

        Raises:
            ValueError: Something that is to be changed does not stand there exactly once.
        """
        changed = text
        for before, after in self.edits:
            count = changed.count(before)
            if count != 1:
                raise ValueError(f"catalogue bug {name}: {before!r} stands in the kernel {count} times, must be once")
            changed = changed.replace(before, after)
        first = self.edits[0]
        line = text[: text.index(first[0])].count("\n") + 1
        return Mutant(
            name=f"{_ROOM}/{name}",
            function=_ROOM,
            operator=_ROOM,
            line=line,
            before=first[0],
            after=f"{self.wrong}: {first[1]}",
            text=changed,
        )


_FUSED: Final = {
    "bias after scale": Bug(
        wrong="the bias is added after the scale",
        edits=(
            ("    return acc * scale, channel, mask_n\n", "    return acc * scale + shift, channel, mask_n\n"),
            ("        acc += bias[None, :]\n", "        shift = bias[None, :]\n    else:\n        shift = 0.0\n"),
        ),
    ),
    "identity before scale": Bug(
        wrong="channels that do not exist become +inf before the scale",
        edits=(
            (
                "    return acc * scale, channel, mask_n\n",
                '    acc = tl.where(mask_n[None, :], acc, float("inf"))\n    return acc * scale, channel, mask_n\n',
            ),
            ("tl.where(mask & (value == value), value,", "tl.where(value == value, value,"),
        ),
    ),
    "minimum before scale": Bug(
        wrong="the minimum is taken before the scale, whose sign is lost",
        edits=(("    return acc * scale, channel, mask_n\n", "    return acc * tl.abs(scale), channel, mask_n\n"),),
    ),
    "scale in half precision": Bug(
        wrong="the scale is rounded to float16",
        edits=(("bitcast=True).to(accumulator)\n", "bitcast=True).to(tl.float16).to(accumulator)\n"),),
    ),
    "sums in half precision": Bug(
        wrong="partial sums are rounded to float16 between the tiles",
        edits=(
            (
                "input_precision=PRECISION, out_dtype=accumulator)\n",
                "input_precision=PRECISION, out_dtype=accumulator).to(tl.float16).to(accumulator)\n",
            ),
        ),
    ),
    "subnormals flushed": Bug(
        wrong="subnormal numbers of x count as zero in every precision",
        edits=(
            (
                "        weight_rows = kh.to(index)",
                "        x_tile = tl.where(tl.abs(x_tile) < 1.18e-38, 0.0, x_tile).to(x_ptr.dtype.element_ty)\n"
                "        weight_rows = kh.to(index)",
            ),
        ),
    ),
    "only the last tile's NaN": Bug(
        wrong="a NaN counts in the last tile of channels alone",
        edits=(
            (
                "tl.maximum(nan_seen, tl.max((mask & is_nan).to(tl.int32), axis=1))",
                "nan_seen * 0 + tl.max((mask & is_nan).to(tl.int32), axis=1)",
            ),
        ),
    ),
    "an infinity taken for a NaN": Bug(
        wrong="an infinite channel counts as NaN",
        edits=(("    is_nan = value != value\n", "    is_nan = value - value != 0\n"),),
    ),
    "early exit for scale 0": Bug(
        wrong="a scale of 0 gives zeros, also where a channel is NaN or infinite",
        edits=(
            (
                "    if out.numel() == 0:\n        return out\n",
                "    if out.numel() == 0 or scale == 0:\n        return out.zero_()\n",
            ),
        ),
    ),
    "early exit for a weight of zeros": Bug(
        wrong="a weight of zeros gives zeros, whatever bias and x are",
        edits=(
            (
                "    if out.numel() == 0:\n        return out\n",
                "    if out.numel() == 0 or not weight.any():\n        return out.zero_()\n",
            ),
        ),
    ),
    "result kept": Bug(
        wrong="a call on the same memory and shapes gets the earlier result",
        edits=(
            (
                "    out: torch.Tensor = conv_scale_min_operator(\n",
                "    key = (x.data_ptr(), weight.data_ptr(), x.shape, weight.shape, factor, x.dtype)\n"
                "    kept = conv_arguments.__dict__\n"
                "    if key in kept:\n        return kept[key].clone()\n"
                "    out: torch.Tensor = conv_scale_min_operator(\n",
            ),
            ("    return out\n\n\nclass ModelNew", "    kept[key] = out\n    return out\n\n\nclass ModelNew"),
        ),
    ),
    "weight kept": Bug(
        wrong="a weight in the same memory is taken for the one that was there before",
        edits=(
            (
                "    product = resolved_precision(precision, x)\n",
                "    kept = conv_arguments.__dict__\n"
                "    weight = kept.setdefault((weight.data_ptr(), weight.shape, weight.dtype), weight.clone())\n"
                "    product = resolved_precision(precision, x)\n",
            ),
        ),
    ),
    "strides kept": Bug(
        wrong="the strides of x are remembered by its shape",
        edits=(
            (
                "    padded = [height",
                "    steps = conv_arguments.__dict__.setdefault(x.shape, x.stride())\n    padded = [height",
            ),
            (
                '"k_tiles": k_tiles,\n        "stride_xn": x.stride(0), "stride_xc": x.stride(1), '
                '"stride_xh": x.stride(2), "stride_xw": x.stride(3),',
                '"k_tiles": k_tiles,\n        "stride_xn": steps[0], "stride_xc": steps[1], '
                '"stride_xh": steps[2], "stride_xw": steps[3],',
            ),
        ),
    ),
    "output kept": Bug(
        wrong="calls of one shape share the memory of their results",
        edits=(
            (
                "    if out.numel() == 0:\n        return out\n",
                "    out = conv_arguments.__dict__.setdefault((out.shape, out.dtype), out)\n"
                "    if out.numel() == 0:\n        return out\n",
            ),
        ),
    ),
    "x scaled in place": Bug(
        wrong="x is multiplied by the scale where it lies",
        edits=(
            (
                "    product = resolved_precision(precision, x)\n",
                "    x.data.mul_(scale)\n    product = resolved_precision(precision, x)\n",
            ),
            (
                "scale_high, scale_mid, scale_low = float64_bits(float(scale))",
                "scale_high, scale_mid, scale_low = float64_bits(1.0)",
            ),
        ),
    ),
    "bias by its place in the group": Bug(
        wrong="every group gets the bias of the first",
        edits=(("tl.load(bias_ptr + channel * stride_b,", "tl.load(bias_ptr + offs_n * stride_b,"),),
    ),
    "bias dropped beyond a tile": Bug(
        wrong="channels from the second tile on get no bias",
        edits=(
            (
                "    if bias_ptr is not None:\n        bias = tl.load(bias_ptr + channel * stride_b,",
                "    if bias_ptr is not None and channel_tile == 0:\n"
                "        bias = tl.load(bias_ptr + channel * stride_b,",
            ),
        ),
    ),
    "a window that does not fit": Bug(
        wrong="an input smaller than its window is not refused",
        edits=(("        if size + around < window:\n", "        if size + around < 0:\n"),),
    ),
    "padding taken for wrapping": Bug(
        wrong="positions in the padding read the other end of the row",
        edits=(
            (
                "            w = w0[:, None] + right[None, :]\n",
                "            w = (w0[:, None] + right[None, :] + W) % W\n",
            ),
        ),
    ),
}

_TWO_PASS: Final = {
    "intermediate in half precision": Bug(
        wrong="the intermediate is rounded to float16",
        edits=(
            (
                "accumulator = torch.float64 if x.dtype == torch.float64 else torch.float32",
                "accumulator = torch.float64 if x.dtype == torch.float64 else torch.float16",
            ),
        ),
    ),
    "intermediate kept": Bug(
        wrong="the second pass reads the intermediate of an earlier call of its shape",
        edits=(
            (
                "    launch_conv(arguments, mid)\n",
                "    kept, key = launch_conv.__dict__, (x.data_ptr(), mid.shape, mid.dtype)\n"
                "    if key not in kept:\n"
                "        kept[key] = mid\n        launch_conv(arguments, mid)\n    mid = kept[key]\n",
            ),
        ),
    ),
    "the first pass skips the last channel": Bug(
        wrong="the last channel of the intermediate is not written",
        edits=(
            (
                "tl.store(target, value, mask=mask_m[:, None] & mask_n[None, :])",
                "tl.store(target, value, mask=mask_m[:, None] & (mask_n & (channel != group_channels - 1))[None, :])",
            ),
        ),
    ),
}

_BY_FILE: Final = {"conv_scale_min.py": _FUSED, "two_pass.py": _TWO_PASS}


def bugs_of(target: str, file: str, text: str) -> list[Mutant]:
    """Return the hand-made bugs of a built-in kernel; none for any other.

    Raises:
        ValueError: The kernel has changed and its catalogue has not.
    """
    bugs = _BY_FILE[file] if target in ("fused", "two-pass") else {}
    return [bug.mutant(name, text) for name, bug in bugs.items()]
