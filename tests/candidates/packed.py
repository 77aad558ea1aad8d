"""A sound candidate that reorders the weight to (kh, kw, c, c_out), so that a tile of products stays in one tap."""

import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def conv_min_kernel(
    x_ptr, w_ptr, b_ptr, out_ptr, scale,
    positions, C_IN, H, W, C_OUT, KH, KW, OH, OW,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_m = offs_m < positions
    n = offs_m // (OH * OW)
    oh = (offs_m // OW) % OH
    ow = offs_m % OW
    best = tl.full([BLOCK_M], float("inf"), tl.float32)
    for n0 in range(0, C_OUT, BLOCK_N):
        offs_n = n0 + tl.arange(0, BLOCK_N)
        mask_n = offs_n < C_OUT
        acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for tap in range(KH * KW):
            x_corner = (n * C_IN * H + oh + tap // KW) * W + ow + tap % KW
            for c0 in range(0, C_IN, BLOCK_K):
                offs_c = c0 + tl.arange(0, BLOCK_K)
                mask_c = offs_c < C_IN
                x_offset = x_corner[:, None] + (offs_c * H * W)[None, :]
                x = tl.load(x_ptr + x_offset, mask=mask_m[:, None] & mask_c[None, :], other=0.0)
                w_offset = (tap * C_IN + offs_c)[:, None] * C_OUT + offs_n[None, :]
                w = tl.load(w_ptr + w_offset, mask=mask_c[:, None] & mask_n[None, :], other=0.0)
                acc = tl.dot(x, w, acc)
        bias = tl.load(b_ptr + offs_n, mask=mask_n, other=0.0)
        value = tl.where(mask_n[None, :], (acc + bias[None, :]) * scale, float("inf"))
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

    def packed_weight(self):
        return self.conv.weight.detach().permute(2, 3, 1, 0).contiguous()

    def empty_output(self, x, shape):
        return torch.empty(shape, device=x.device, dtype=x.dtype)

    def forward(self, x):
        x = x.contiguous()
        weight, bias = self.packed_weight(), self.conv.bias
        batch, c_in, height, width = x.shape
        kh, kw, _, c_out = weight.shape
        oh, ow = height - kh + 1, width - kw + 1
        out = self.empty_output(x, (batch, 1, oh, ow))
        positions = out.numel()
        if positions == 0:
            return out
        conv_min_kernel[(triton.cdiv(positions, 64),)](
            x, weight, bias, out, self.scale_factor,
            positions, c_in, height, width, c_out, kh, kw, oh, ow,
            BLOCK_M=64, BLOCK_N=16, BLOCK_K=16,
        )  # fmt: skip
        return out
