"""A sound candidate that unfolds x into a padded matrix and reads both operands through tensor descriptors."""

import torch
import torch.nn as nn
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

BLOCK_M, BLOCK_N, BLOCK_K = 32, 32, 32


@triton.jit
def matmul_min_kernel(
    columns, weight, b_ptr, out_ptr, scale, k_size, positions, C_OUT,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Columns [positions, padded k_size] and weight [C_OUT, padded k_size], as descriptors."""
    first = tl.program_id(0) * BLOCK_M
    best = tl.full([BLOCK_M], float("inf"), tl.float32)
    for n0 in range(0, C_OUT, BLOCK_N):
        acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for k0 in range(0, k_size, BLOCK_K):
            acc = tl.dot(columns.load([first, k0]), weight.load([n0, k0]).T, acc)
        offs_n = n0 + tl.arange(0, BLOCK_N)
        bias = tl.load(b_ptr + offs_n, mask=offs_n < C_OUT, other=0.0)
        value = tl.where((offs_n < C_OUT)[None, :], (acc + bias[None, :]) * scale, float("inf"))
        has_nan = tl.max((value != value).to(tl.int32), axis=1) > 0
        lowest = tl.where(has_nan, float("nan"), tl.min(value, axis=1))
        best = tl.minimum(best, lowest, propagate_nan=tl.PropagateNan.ALL)
    offs_m = first + tl.arange(0, BLOCK_M)
    tl.store(out_ptr + offs_m, best, mask=offs_m < positions)


class ModelNew(nn.Module):
    """Conv2d, times a scale, minimum over channels."""

    def __init__(self, in_channels, out_channels, kernel_size, scale_factor):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.scale_factor = scale_factor

    def forward(self, x):
        batch, _, height, width = x.shape
        weight = self.conv.weight
        c_out, _, kh, kw = weight.shape
        oh, ow = height - kh + 1, width - kw + 1
        out = torch.empty((batch, 1, oh, ow), device=x.device, dtype=x.dtype)
        if batch == 0:
            return out
        columns = nn.functional.unfold(x, (kh, kw)).transpose(1, 2).reshape(batch * oh * ow, -1)
        k_size = columns.shape[1]
        # A descriptor wants rows that begin at multiples of 16 bytes.
        padding = (0, -k_size % 4)
        rows = nn.functional.pad(columns, padding).contiguous()
        filters = nn.functional.pad(weight.reshape(c_out, -1), padding).contiguous()
        matmul_min_kernel[(triton.cdiv(out.numel(), BLOCK_M),)](
            TensorDescriptor.from_tensor(rows, [BLOCK_M, BLOCK_K]),
            TensorDescriptor.from_tensor(filters, [BLOCK_N, BLOCK_K]),
            self.conv.bias, out, self.scale_factor, k_size, out.numel(), c_out,
            BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K,
        )  # fmt: skip
        return out
