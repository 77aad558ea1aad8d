"""Flaws planted in a sound candidate, one small change each: what the suite is tried against."""

from __future__ import annotations

from pathlib import Path

SOUND = Path(__file__).parent / "candidates" / "tiled.py"

# name: (what stands in the sound candidate, what stands in its place)
PLANTED: dict[str, tuple[str, str]] = {
    "nan_dropped": (", propagate_nan=tl.PropagateNan.ALL", ""),
    "finite_sentinel": ('tl.full([BLOCK_M], float("inf"), tl.float32)', "tl.full([BLOCK_M], 1e30, tl.float32)"),
    "padded_channels_zero": ('tl.where(mask_n[None, :], value, float("inf"))', "tl.where(mask_n[None, :], value, 0.0)"),
    "last_products_unmasked": ("mask=mask_m[:, None] & mask_k[None, :], other=0.0", "mask=mask_m[:, None], other=0.0"),
    "stride_assumed": ("x = x.contiguous()", "assert x.stride() is not None"),
    "bias_after_scale": ("(acc + bias[None, :]) * scale", "acc * scale + bias[None, :]"),
    "minimum_before_scale": (
        'value = (acc + bias[None, :]) * scale\n        value = tl.where(mask_n[None, :], value, float("inf"))',
        'value = tl.where(mask_n[None, :], acc + bias[None, :], float("inf"))\n'
        '        value = tl.where(value < float("inf"), tl.min(value, axis=1)[:, None] * scale, value)',
    ),
    "identity_before_scale": (
        'value = (acc + bias[None, :]) * scale\n        value = tl.where(mask_n[None, :], value, float("inf"))',
        'value = tl.where(mask_n[None, :], acc + bias[None, :], float("inf")) * scale',
    ),
    "last_channels_skipped": (
        "range(0, C_OUT, BLOCK_N)",
        "range(0, max(BLOCK_N, C_OUT - C_OUT % BLOCK_N), BLOCK_N)",
    ),
    "columns_beyond_128_wrap": ("ow = offs_m % OW", "ow = (offs_m % OW) % 128"),
    "store_unmasked": (".to(out_ptr.dtype.element_ty), mask=mask_m)", ".to(out_ptr.dtype.element_ty))"),
    "half_precision_products": ("tl.dot(x, w, acc)", "tl.dot(x.to(tl.float16), w.to(tl.float16), acc)"),
    "input_overwritten": ("x = x.contiguous()", "x = x.contiguous().abs_()"),
    "loops": ("x = x.contiguous()", "x = x.contiguous()\n        while self.scale_factor < 0:\n            pass"),
    "crashes": ("x = x.contiguous()", "import ctypes; x.shape[1] < 3 or ctypes.string_at(0); x = x.contiguous()"),
}


def plant(name: str, folder: Path) -> Path:
    """Write the candidate with this flaw and return its path."""
    sound, flawed = PLANTED[name]
    source = SOUND.read_text()
    assert source.count(sound) == 1, f"{name}: the sound candidate has {source.count(sound)} places like {sound!r}"
    path = folder / f"{name}.py"
    path.write_text(source.replace(sound, flawed))
    return path
