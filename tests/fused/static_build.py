"""Compiles the kernels for a GPU that need not be there; prints one JSON line per build.

Run as a program, in a process where Triton does not interpret: `python static_build.py 89`.
"""

import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget

fused = importlib.import_module("fused.conv_scale_min")
baseline = importlib.import_module("fused.two_pass")

POINTERS = {"float32": "*fp32", "float16": "*fp16", "bfloat16": "*bf16", "float64": "*fp64"}
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def builds() -> Iterator[tuple[str, Any, str, dict[str, Any]]]:
    """(name, kernel, dtype, values of its constexpr parameters) of everything that has to compile."""
    for dtype in POINTERS:
        for precision in ("ieee", "tf32") if dtype == "float32" else ("ieee",):
            for config, tiles in fused.named_configs().items():
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
                    yield name, fused.conv_scale_min_kernel, dtype, {**launched, **flags}
        precision = "tf32" if dtype == "float32" else "ieee"
        launched = fused.tiles_for(baseline.conv_tiles(), getattr(torch, dtype), precision, 64)
        flags = {"ONE_TAP": True, "PADDED": False, "INDEX_64": False, "PRECISION": precision}
        yield f"two_pass conv {dtype}", baseline.conv_scale_kernel, dtype, {**launched, **flags}
        yield f"two_pass min {dtype}", baseline.channel_min_kernel, dtype, {**baseline.min_tiles(), "INDEX_64": False}


def parameter_type(name: str, dtype: str, constants: dict[str, Any]) -> str:
    """The type that a launch would give the kernel's parameter `name`."""
    if name in constants:
        return "constexpr"
    if name == "mid_ptr":
        return POINTERS["float64" if dtype == "float64" else "float32"]
    if name.endswith("_ptr"):
        return POINTERS[dtype]
    return "i32"


def stack_bytes(cubin: bytes) -> int:
    """Bytes of local memory per thread: what registers could not hold."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True)
    found = re.search(r"STACK:(\d+)", usage.stdout)
    assert found is not None, usage.stdout
    return int(found[1])


def main(capability: int) -> None:
    """Build all; a build that fails is a line too."""
    for name, kernel, dtype, values in builds():
        constants = {key: value for key, value in values.items() if key not in ("num_warps", "num_stages")}
        options = {key: values[key] for key in ("num_warps", "num_stages")}
        signature = {key: parameter_type(key, dtype, constants) for key in kernel.arg_names}
        line: dict[str, Any] = {"name": name}
        try:
            source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants)
            built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
            line |= {"stack": stack_bytes(built.asm["cubin"]), "shared": built.metadata.shared}
        except Exception as error:  # reported line by line, judged by the test
            line["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
