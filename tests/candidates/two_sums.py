"""A sound candidate that sums the first and the second half of the products apart, and adds the two sums at the end."""

import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def partial_sum(
    x_ptr, w_ptr, n, oh, ow, offs_n, mask_m, mask_n, first, last, k_size, C_IN, H, W, KH, KW,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    acc = tl.zeros([n.shape[0], offs_n.shape[0]], tl.float32)
    for k0 in range(first, last, BLOCK_K):
        offs_k = k0 + tl.arange(0, BLOCK_K)
        mask_k = offs_k < last
        row = oh[:, None] + (offs_k // KW % KH)[None, :]
        col = ow[:, None] + (offs_k % KW)[None, :]
        x_offset = ((n[:, None] * C_IN + (offs_k // (KH * KW))[None, :]) * H + row) * W + col
        x = tl.load(x_ptr + x_offset, mask=mask_m[:, None] & mask_k[None, :], other=0.0)
        w_offset = offs_k[:, None] + (offs_n * k_size)[None, :]
        w = tl.load(w_ptr + w_offset, mask=mask_k[:, None] & mask_n[None, :], other=0.0)
        acc = tl.dot(x, w, acc)
    return acc


@triton.jit
def conv_min_kernel(
    x_ptr, w_ptr, b_ptr, out_ptr, scale,
    positions, C_IN, H, W, C_OUT, KH, KW, OH, OW,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_m = offs_m < positions
    n, oh, ow = offs_m // (OH * OW), offs_m // OW % OH, offs_m % OW
    k_size = C_IN * KH * KW
    half = (k_size + 1) // 2
    best = tl.full([BLOCK_M], float("inf"), tl.float32)
    for n0 in range(0, C_OUT, BLOCK_N):
        offs_n = n0 + tl.arange(0, BLOCK_N)
        mask_n = offs_n < C_OUT
        front = partial_sum(
            x_ptr, w_ptr, n, oh, ow, offs_n, mask_m, mask_n, 0, half, k_size, C_IN, H, W, KH, KW, BLOCK_K
        )
        back = partial_sum(
            x_ptr, w_ptr, n, oh, ow, offs_n, mask_m, mask_n, half, k_size, k_size, C_IN, H, W, KH, KW, BLOCK_K
        )
        bias = tl.load(b_ptr + offs_n, mask=mask_n, other=0.0)
        value = ((front + back) + bias[None, :]) * scale
        value = tl.where(mask_n[None, :], value, float("inf"))
        lost = tl.sum((value != value).to(tl.int32), axis=1)
        lowest = tl.where(lost > 0, float("nan"), tl.min(value, axis=1))
        best = tl.where((best != best) | (best < lowest), best, lowest)
    tl.store(out_ptr + offs_m, best, mask=mask_m)


class ModelNew(nn.Module):
    """Conv2d, times a scale, minimum over channels."""

    def __init__(self, in_channels, out_channels, kernel_size, scale_factor):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.scale_factor = scale_factor

    def forward(self, x):
        x = x.contiguous()
        batch, c_in, height, width = x.shape
        c_out, _, kh, kw = self.conv.weight.shape
        oh, ow = height - kh + 1, width - kw + 1
        out = torch.empty((batch, 1, oh, ow), device=x.device, dtype=x.dtype)
        positions = out.numel()
        if positions == 0:
            return out
        conv_min_kernel[(triton.cdiv(positions, 128),)](
            x, self.conv.weight.contiguous(), self.conv.bias, out, self.scale_factor,
            positions, c_in, height, width, c_out, kh, kw, oh, ow,
            BLOCK_M=128, BLOCK_N=16, BLOCK_K=16,
        )  # fmt: skip
        return out
