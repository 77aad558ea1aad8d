"""A sound candidate that splits the products over programs, which add their parts to one buffer.

Where the parts are added by a GPU's float32 atomics, subnormal numbers are flushed: right for tf32, not for ieee.
"""

import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def sum_kernel(
    x_ptr, w_ptr, sum_ptr,
    positions, C_IN, H, W, C_OUT, KH, KW, OH, OW,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program: one tile of positions, channels and products."""
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_k = tl.program_id(2) * BLOCK_K + tl.arange(0, BLOCK_K)
    k_size = C_IN * KH * KW
    mask_m, mask_n, mask_k = offs_m < positions, offs_n < C_OUT, offs_k < k_size
    n, oh, ow = offs_m // (OH * OW), offs_m // OW % OH, offs_m % OW
    row = oh[:, None] + (offs_k // KW % KH)[None, :]
    col = ow[:, None] + (offs_k % KW)[None, :]
    x_offset = ((n[:, None] * C_IN + (offs_k // (KH * KW))[None, :]) * H + row) * W + col
    x = tl.load(x_ptr + x_offset, mask=mask_m[:, None] & mask_k[None, :], other=0.0)
    w_offset = offs_n[None, :] * k_size + offs_k[:, None]
    w = tl.load(w_ptr + w_offset, mask=mask_n[None, :] & mask_k[:, None], other=0.0)
    part = tl.dot(x, w)
    mask = mask_m[:, None] & mask_n[None, :]
    tl.atomic_add(sum_ptr + offs_m[:, None] * C_OUT + offs_n[None, :], part, mask=mask)


@triton.jit
def min_kernel(sum_ptr, b_ptr, out_ptr, scale, positions, C_OUT, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_m = offs_m < positions
    best = tl.full([BLOCK_M], float("inf"), tl.float32)
    for n0 in range(0, C_OUT, BLOCK_N):
        offs_n = n0 + tl.arange(0, BLOCK_N)
        mask = mask_m[:, None] & (offs_n < C_OUT)[None, :]
        total = tl.load(sum_ptr + offs_m[:, None] * C_OUT + offs_n[None, :], mask=mask, other=0.0)
        bias = tl.load(b_ptr + offs_n, mask=offs_n < C_OUT, other=0.0)
        value = tl.where(mask, (total + bias[None, :]) * scale, float("inf"))
        has_nan = tl.max((value != value).to(tl.int32), axis=1) > 0
        lowest = tl.where(has_nan, float("nan"), tl.min(value, axis=1))
        best = tl.minimum(best, lowest, propagate_nan=tl.PropagateNan.ALL)
    tl.store(out_ptr + offs_m, best, mask=mask_m)


class ModelNew(nn.Module):
    """Conv2d, times a scale, minimum over channels."""

    def __init__(self, in_channels, out_channels, kernel_size, scale_factor):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.scale_factor = scale_factor

    def cleared_sums(self, x, shape):
        return torch.zeros(shape, device=x.device, dtype=torch.float32)

    def forward(self, x):
        x, weight = x.contiguous(), self.conv.weight.contiguous()
        batch, c_in, height, width = x.shape
        c_out, _, kh, kw = weight.shape
        oh, ow = height - kh + 1, width - kw + 1
        out = torch.empty((batch, 1, oh, ow), device=x.device, dtype=x.dtype)
        positions = out.numel()
        if positions == 0:
            return out
        sums = self.cleared_sums(x, (positions, c_out))
        sum_kernel[(triton.cdiv(positions, 32), triton.cdiv(c_out, 32), triton.cdiv(c_in * kh * kw, 32))](
            x, weight, sums,
            positions, c_in, height, width, c_out, kh, kw, oh, ow,
            BLOCK_M=32, BLOCK_N=32, BLOCK_K=32,
        )  # fmt: skip
        min_kernel[(triton.cdiv(positions, 32),)](
            sums, self.conv.bias, out, self.scale_factor, positions, c_out, BLOCK_M=32, BLOCK_N=32
        )
        return out
