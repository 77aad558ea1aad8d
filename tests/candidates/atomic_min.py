"""A sound candidate that spreads the channels over programs, which meet in an atomic minimum of ordered integers."""

import torch
import torch.nn as nn
import triton
import triton.language as tl

# The bits of +inf: the largest number stands for a minimum over no channel.
INFINITY_BITS = 0x7F800000


@triton.jit
def ordered_bits(value):
    """Integers in the order of the numbers; NaN comes before all of them, so that a minimum keeps it."""
    bits = value.to(tl.int32, bitcast=True)
    return tl.where(value != value, -(2**31), bits ^ ((bits >> 31) & 0x7FFFFFFF))


@triton.jit
def conv_min_kernel(
    x_ptr, w_ptr, b_ptr, key_ptr, scale,
    positions, C_IN, H, W, C_OUT, KH, KW, OH, OW,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_m, mask_n = offs_m < positions, offs_n < C_OUT
    n, oh, ow = offs_m // (OH * OW), offs_m // OW % OH, offs_m % OW
    k_size = C_IN * KH * KW
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for k0 in range(0, k_size, BLOCK_K):
        offs_k = k0 + tl.arange(0, BLOCK_K)
        mask_k = offs_k < k_size
        row = oh[:, None] + (offs_k // KW % KH)[None, :]
        col = ow[:, None] + (offs_k % KW)[None, :]
        x_offset = ((n[:, None] * C_IN + (offs_k // (KH * KW))[None, :]) * H + row) * W + col
        x = tl.load(x_ptr + x_offset, mask=mask_m[:, None] & mask_k[None, :], other=0.0)
        w_offset = offs_n[None, :] * k_size + offs_k[:, None]
        w = tl.load(w_ptr + w_offset, mask=mask_n[None, :] & mask_k[:, None], other=0.0)
        acc = tl.dot(x, w, acc)
    bias = tl.load(b_ptr + offs_n, mask=mask_n, other=0.0)
    value = tl.where(mask_n[None, :], (acc + bias[None, :]) * scale, float("inf"))
    keys = tl.min(ordered_bits(value), axis=1)
    tl.atomic_min(key_ptr + offs_m, keys, mask=mask_m)


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
        keys = torch.full((batch, 1, oh, ow), INFINITY_BITS, device=x.device, dtype=torch.int32)
        positions = keys.numel()
        if positions == 0:
            return torch.empty((batch, 1, oh, ow), device=x.device, dtype=x.dtype)
        conv_min_kernel[(triton.cdiv(positions, 32), triton.cdiv(c_out, 16))](
            x, weight, self.conv.bias, keys, self.scale_factor,
            positions, c_in, height, width, c_out, kh, kw, oh, ow,
            BLOCK_M=32, BLOCK_N=16, BLOCK_K=32,
        )  # fmt: skip
        return (keys ^ ((keys >> 31) & 0x7FFFFFFF)).view(torch.float32)
