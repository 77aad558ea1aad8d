"""A sound candidate that splits the products over programs and adds the parts in a second kernel."""

import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def partial_kernel(
    x_ptr, w_ptr, part_ptr,
    positions, C_IN, H, W, C_OUT, KH, KW, OH, OW, per_split,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program: one tile of positions and channels, and its share of the products."""
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(2)
    mask_m, mask_n = offs_m < positions, offs_n < C_OUT
    n, oh, ow = offs_m // (OH * OW), offs_m // OW % OH, offs_m % OW
    k_size = C_IN * KH * KW
    last = min(k_size, (split + 1) * per_split)
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for k0 in range(split * per_split, last, BLOCK_K):
        offs_k = k0 + tl.arange(0, BLOCK_K)
        mask_k = offs_k < last
        row = oh[:, None] + (offs_k // KW % KH)[None, :]
        col = ow[:, None] + (offs_k % KW)[None, :]
        x_offset = ((n[:, None] * C_IN + (offs_k // (KH * KW))[None, :]) * H + row) * W + col
        x = tl.load(x_ptr + x_offset, mask=mask_m[:, None] & mask_k[None, :], other=0.0)
        w = tl.load(
            w_ptr + offs_n[None, :] * k_size + offs_k[:, None], mask=mask_n[None, :] & mask_k[:, None], other=0.0
        )
        acc = tl.dot(x, w, acc)
    offset = (split * positions + offs_m)[:, None] * C_OUT + offs_n[None, :]
    tl.store(part_ptr + offset, acc, mask=mask_m[:, None] & mask_n[None, :])


@triton.jit
def combine_kernel(
    part_ptr, b_ptr, out_ptr, scale, positions, C_OUT, splits, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_m = offs_m < positions
    best = tl.full([BLOCK_M], float("inf"), tl.float32)
    nan_seen = tl.zeros([BLOCK_M], tl.int32)
    for n0 in range(0, C_OUT, BLOCK_N):
        offs_n = n0 + tl.arange(0, BLOCK_N)
        mask = mask_m[:, None] & (offs_n < C_OUT)[None, :]
        total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for split in range(splits):
            offset = (split * positions + offs_m)[:, None] * C_OUT + offs_n[None, :]
            total += tl.load(part_ptr + offset, mask=mask, other=0.0)
        bias = tl.load(b_ptr + offs_n, mask=offs_n < C_OUT, other=0.0)
        value = tl.where(mask, (total + bias[None, :]) * scale, float("inf"))
        nan_seen = tl.maximum(nan_seen, tl.max((value != value).to(tl.int32), axis=1))
        best = tl.minimum(best, tl.min(value, axis=1))
    tl.store(out_ptr + offs_m, tl.where(nan_seen != 0, float("nan"), best), mask=mask_m)


class ModelNew(nn.Module):
    """Conv2d, times a scale, minimum over channels."""

    def __init__(self, in_channels, out_channels, kernel_size, scale_factor):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.scale_factor = scale_factor

    def forward(self, x):
        x, weight = x.contiguous(), self.conv.weight.contiguous()
        batch, c_in, height, width = x.shape
        c_out, _, kh, kw = weight.shape
        oh, ow = height - kh + 1, width - kw + 1
        out = torch.empty((batch, 1, oh, ow), device=x.device, dtype=x.dtype)
        positions = out.numel()
        if positions == 0:
            return out
        per_split = triton.cdiv(c_in * kh * kw, 3)
        splits = triton.cdiv(c_in * kh * kw, per_split)
        parts = torch.empty((splits, positions, c_out), device=x.device, dtype=torch.float32)
        partial_kernel[(triton.cdiv(positions, 32), triton.cdiv(c_out, 32), splits)](
            x, weight, parts,
            positions, c_in, height, width, c_out, kh, kw, oh, ow, per_split,
            BLOCK_M=32, BLOCK_N=32, BLOCK_K=16,
        )  # fmt: skip
        combine_kernel[(triton.cdiv(positions, 64),)](
            parts, self.conv.bias, out, self.scale_factor, positions, c_out, splits, BLOCK_M=64, BLOCK_N=32
        )
        return out
