"""A sound candidate: one program for a piece of an output row, and a reduction with a combine function of its own."""

import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def lower_or_nan(a, b):
    return tl.where((a < b) | (a != a), a, b)


@triton.jit
def conv_min_rows_kernel(
    x_ptr, w_ptr, b_ptr, out_ptr, scale,
    C_IN, H, W, C_OUT, KH, KW, OH, OW,
    BLOCK_W: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    ow = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    oh, image = tl.program_id(1), tl.program_id(2)
    mask_w = ow < OW
    best = tl.full([BLOCK_W], float("inf"), tl.float32)
    for n0 in range(0, C_OUT, BLOCK_N):
        offs_n = n0 + tl.arange(0, BLOCK_N)
        mask_n = offs_n < C_OUT
        bias = tl.load(b_ptr + offs_n, mask=mask_n, other=0.0)
        acc = tl.zeros([BLOCK_W, BLOCK_N], tl.float32) + bias[None, :]
        for kh in range(KH):
            for kw in range(KW):
                for c0 in range(0, C_IN, BLOCK_K):
                    c = c0 + tl.arange(0, BLOCK_K)
                    mask_c = c < C_IN
                    x_offset = ((image * C_IN + c)[None, :] * H + oh + kh) * W + ow[:, None] + kw
                    x = tl.load(x_ptr + x_offset, mask=mask_w[:, None] & mask_c[None, :], other=0.0)
                    w_offset = ((offs_n[None, :] * C_IN + c[:, None]) * KH + kh) * KW + kw
                    w = tl.load(w_ptr + w_offset, mask=mask_c[:, None] & mask_n[None, :], other=0.0)
                    acc += tl.dot(x, w, input_precision="ieee")
        value = tl.where(mask_n[None, :], acc * scale, float("inf"))
        best = lower_or_nan(best, tl.reduce(value, 1, lower_or_nan))
    tl.store(out_ptr + (image * OH + oh) * OW + ow, best, mask=mask_w)


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
        if batch == 0:
            return out
        conv_min_rows_kernel[(triton.cdiv(ow, 128), oh, batch)](
            x, weight, self.conv.bias, out, self.scale_factor,
            c_in, height, width, c_out, kh, kw, oh, ow,
            BLOCK_W=128, BLOCK_N=32, BLOCK_K=16,
        )  # fmt: skip
        return out
