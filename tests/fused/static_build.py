"""Compiles the kernels for a GPU that need not be there; prints one JSON line per build.

Run as a program, in a process where Triton does not interpret: `python static_build.py 89`, or, for what only a
Hopper GPU launches, `python static_build.py 90 flat`.
"""

import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget

from fuzz.gate.sass import usage

fused = importlib.import_module("fused.conv_scale_min")
baseline = importlib.import_module("fused.two_pass")

GENERAL_KERNELS = (
    fused.conv_scale_min_kernel,
    fused.mend_kernel,
    baseline.conv_scale_kernel,
    baseline.channel_min_kernel,
)
POINTERS = {"float32": "*fp32", "float16": "*fp16", "bfloat16": "*bf16", "float64": "*fp64"}
GENERAL = ("small", "tiny", "medium", "large")


Build = tuple[str, Any, dict[str, str], dict[str, Any]]


def builds(kind: str) -> Iterator[Build]:
    """(name, kernel, types of its pointers, values of its constexpr parameters) of everything that has to compile."""
    if kind == "flat":
        yield from flat_builds()
    else:
        yield from general_builds()
        yield from fast_builds()


def general_builds() -> Iterator[Build]:
    """The kernels that take everything."""
    for dtype, pointer in POINTERS.items():
        types = dict.fromkeys(("x_ptr", "weight_ptr", "bias_ptr", "out_ptr"), pointer)
        types["mid_ptr"] = POINTERS["float64" if dtype == "float64" else "float32"]
        for precision in ("ieee", "tf32") if dtype == "float32" else ("ieee",):
            for config in GENERAL:
                tiles = fused.named_configs()[config]
                # Few channels take another path through K; to bfloat16 it is what it is to float16.
                for channels in (64,) if dtype == "bfloat16" or config == "large" else (64, 3):
                    launched = fused.tiles_for(tiles, getattr(torch, dtype), precision, channels)
                    # Every combination of the flags would take minutes; each of them is on once with each dtype.
                    flags = {
                        "ONE_TAP": channels >= launched["BLOCK_K"],
                        "PADDED": channels == 3,
                        "INDEX_64": config == "tiny" and channels == 3,
                        "PRECISION": precision,
                    }
                    name = f"conv_scale_min {config} {dtype} {precision} C={channels}"
                    yield name, fused.conv_scale_min_kernel, types, {**launched, **flags}
        precision = "tf32" if dtype == "float32" else "ieee"
        launched = fused.tiles_for(baseline.conv_tiles(), getattr(torch, dtype), precision, 64)
        flags = {"ONE_TAP": True, "PADDED": False, "INDEX_64": False, "PRECISION": precision}
        yield f"two_pass conv {dtype}", baseline.conv_scale_kernel, types, {**launched, **flags}
        flags = {**baseline.min_tiles(), "INDEX_64": False}
        yield f"two_pass min {dtype}", baseline.channel_min_kernel, {**types, "out_ptr": pointer}, flags


def fast_builds() -> Iterator[Build]:
    """The kernels of the fast path, for 64 channels and a 3x3 weight; a ring of float32, and 16 bits as they lie."""
    for dtype, pointer in (("float32", "*fp32"), ("float16", "*fp16"), ("bfloat16", "*bf16")):
        half = "*bf16" if dtype == "bfloat16" else "*fp16"
        factor = 256 if dtype == "float32" else 1
        numbers = dict.fromkeys(("start_ptr", "factor_ptr", "limit_ptr", "sums_ptr"), "*fp32")
        types = {"weight_ptr": half, "ring_ptr": half, "packed_weight_ptr": half, "packed_x_ptr": half, **numbers}
        types |= {"out_ptr": pointer, "magnitude": "fp32", "sign": "fp32"}
        for config in (name for name in fused.fast_configs() if "flat" not in name):
            tiles = fused.named_configs()[config]
            blocks = {name: tiles[name] for name in ("BLOCK_N", "BLOCK_K", "num_warps")}
            if "split" in config:
                values = {**blocks, "BLOCK_M": tiles["BLOCK_M"], "PADDED": True, "LANE": 8}
                values["num_stages"] = tiles["num_stages"]
                for whole_k in (False, True):
                    name = f"{config} {dtype}{' whole' * whole_k}"
                    yield name, fused.partial_kernel, {**types, "x_ptr": half}, {**values, "WHOLE_K": whole_k}
                continue
            ring = "ring" in config
            tile_w = min(128, tiles["BLOCK_M"])
            tile_h = tiles["BLOCK_M"] // tile_w
            values = {
                **blocks, "CHANNELS": 64, "KH": 3, "KW": 3, "STRIDE_H": 1, "STRIDE_W": 1, "PAD_H": 0, "PAD_W": 0,
                "DIL_H": 1, "DIL_W": 1, "TILE_H": tile_h, "TILE_W": tile_w, "CHANNEL_TILES": 1,
                "TILES_PER_GROUP": 1, "WINDOW_H": 2 + tile_h, "RING_W": tile_w + 2, "CHUNK_W": 16,
                "EVEN_N": True, "RING": ring, "PADDED": False, "UNIT_W": ring, "LANE": 16 // (4 if factor > 1 else 2),
                "X_FACTOR": factor, "STAGES": 2, "num_stages": 2, "BIAS_FIRST": tiles["BIAS_FIRST"],
            }  # fmt: skip
            for one_factor in (True, False) if factor > 1 else (True,):
                name = f"{config} {dtype}{' one factor' * one_factor}"
                given = {**types, "x_ptr": pointer if ring else half}
                yield name, fused.strip_kernel, given, {**values, "ONE_FACTOR": one_factor}
        given = {**types, "weight_ptr": pointer, "bias_ptr": pointer, "x_ptr": pointer}
        for parts in (1, 3) if dtype == "float32" else (1,):
            for gathered in (False, True):
                block = 16 if gathered else 64
                values = {
                    "CHANNELS": block * parts, "PITCH": block * parts, "PARTS": parts, "X_FACTOR": factor,
                    "GATHERED": gathered, "TAPS": 4 if gathered else 16, "WEIGHT_C": block if gathered else 512,
                    "JOINED": True, "UNIT_C": False, "UNIT_W": True, "BLOCK_M": 128,
                    "BLOCK_C": block, "ONE_FACTOR": factor == 1 or not gathered, "num_warps": 8, "num_stages": 2,
                }  # fmt: skip
                yield f"pack {dtype} {parts}{' gathered' * gathered}", fused.pack_kernel, given, values
        yield f"pack {dtype}, x as it lies", fused.pack_kernel, given, {**values, "packed_x_ptr": None}
        for precision in ("ieee", "tf32") if dtype == "float32" else ("ieee",):
            launched = fused.tiles_for(fused.mend_tiles(), getattr(torch, dtype), precision, 64)
            flags = {"ONE_TAP": True, "PADDED": False, "INDEX_64": False, "PRECISION": precision}
            last = {"OWN_M": 1, "OWN_N": 512, "ROWS": 512, "SPLITS": 8, "WHOLE_K": False, "X_FACTOR": factor}
            yield f"finish {dtype} {precision}", fused.finish_kernel, given, {**launched, **flags, **last}
            if dtype == "float32":
                yield f"mend {precision}", fused.mend_kernel, given, {**launched, **flags, "SPANS": 32, "SPAN": 64}


def flat_builds() -> Iterator[Build]:
    """The kernel whose loads have warps of their own: one tile of channels, several, and several groups."""
    tiles = fused.named_configs()["flat"]
    blocks = {name: tiles[name] for name in ("BLOCK_M", "num_warps", "num_stages")}
    for half, out, factor in (("*fp16", "*fp32", 256), ("*fp16", "*fp16", 1), ("*bf16", "*bf16", 1)):
        types = dict.fromkeys(("start_ptr", "factor_ptr", "limit_ptr"), "*fp32")
        types |= {"x_ptr": half, "weight_ptr": half, "out_ptr": out, "magnitude": "fp32"}
        for channel_tiles, tiles_per_group in ((1, 1), (2, 2), (4, 2)):
            for taps, block_k, block_n in ((3, 64, 128), (2, 16, 16)):
                values = {
                    **blocks, "PITCH": block_k * (channel_tiles // tiles_per_group), "CHANNELS": block_k,
                    "KH": taps, "KW": taps, "DIL_H": 1, "DIL_W": 1, "BLOCK_N": block_n, "BLOCK_K": block_k,
                    "CHANNEL_TILES": channel_tiles, "TILES_PER_GROUP": tiles_per_group, "EVEN_N": channel_tiles == 1,
                    "X_FACTOR": factor, "ONE_FACTOR": factor == 1, "MERGED": taps == 2, "STAGES": 4,
                }  # fmt: skip
                name = f"flat {half[1:]} to {out[1:]}, {channel_tiles} tiles of {block_n} channels, BLOCK_K={block_k}"
                yield name, fused.flat_kernel, types, values


def main(capability: int, kind: str = "") -> None:
    """Build all; a build that fails is a line too."""
    for name, kernel, types, values in builds(kind):
        constants = {key: value for key, value in values.items() if key not in ("num_warps", "num_stages")}
        options = {key: values[key] for key in ("num_warps", "num_stages")}
        signature = {key: "constexpr" if key in constants else types.get(key, "i32") for key in kernel.arg_names}
        line: dict[str, Any] = {"name": name}
        try:
            # What the launch of a fast kernel sees of its own tensors, and would not load 16 bytes at once without.
            aligned = [(index,) for index, key in enumerate(kernel.arg_names) if signature[key].startswith("*")]
            attributes = {} if kernel in GENERAL_KERNELS else {place: [["tt.divisibility", 16]] for place in aligned}
            source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
            built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
            line |= {"stack": usage(built.asm["cubin"])[1], "shared": built.metadata.shared}
            line["specialized"] = "ttg.warp_specialize" in built.asm["ttgir"]
        except Exception as error:  # reported line by line, judged by the test
            line["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
