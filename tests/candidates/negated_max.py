"""A sound candidate that takes the maximum of the negated values; one program per image and tile of positions."""

import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def conv_max_kernel(
    x_ptr, w_ptr, b_ptr, out_ptr, minus_scale,
    C_IN, H, W, C_OUT, KH, KW, OH, OW,
    BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1)
    offs_p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    mask_p = offs_p < OH * OW
    k_size = C_IN * KH * KW
    highest = tl.full([BLOCK_P], float("-inf"), tl.float32)
    nan_seen = tl.zeros([BLOCK_P], tl.int1)
    for n0 in range(0, C_OUT, BLOCK_N):
        offs_n = n0 + tl.arange(0, BLOCK_N)
        mask_n = offs_n < C_OUT
        acc = tl.zeros([BLOCK_N, BLOCK_P], tl.float32)
        for k0 in range(0, k_size, BLOCK_K):
            offs_k = k0 + tl.arange(0, BLOCK_K)
            mask_k = offs_k < k_size
            c, tap = offs_k // (KH * KW), offs_k % (KH * KW)
            row = (tap // KW)[:, None] + (offs_p // OW)[None, :]
            col = (tap % KW)[:, None] + (offs_p % OW)[None, :]
            x_offset = ((image * C_IN + c)[:, None] * H + row) * W + col
            x = tl.load(x_ptr + x_offset, mask=mask_k[:, None] & mask_p[None, :], other=0.0)
            w_offset = offs_n[:, None] * k_size + offs_k[None, :]
            w = tl.load(w_ptr + w_offset, mask=mask_n[:, None] & mask_k[None, :], other=0.0)
            acc += tl.dot(w, x)
        acc += tl.load(b_ptr + offs_n, mask=mask_n, other=0.0)[:, None]
        negated = tl.where(mask_n[:, None], acc * minus_scale, float("-inf"))
        nan_seen = nan_seen | (tl.max((negated != negated).to(tl.int32), axis=0) != 0)
        highest = tl.maximum(highest, tl.max(negated, axis=0))
    lowest = tl.where(nan_seen, float("nan"), -highest)
    tl.store(out_ptr + image * OH * OW + offs_p, lowest, mask=mask_p)


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
        out = x.new_empty((batch, 1, oh, ow))
        if batch == 0:
            return out
        conv_max_kernel[(triton.cdiv(oh * ow, 64), batch)](
            x, self.conv.weight.contiguous(), self.conv.bias, out, -self.scale_factor,
            c_in, height, width, c_out, kh, kw, oh, ow,
            BLOCK_P=64, BLOCK_N=16, BLOCK_K=32,
        )  # fmt: skip
        return out
