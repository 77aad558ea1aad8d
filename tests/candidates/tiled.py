"""A sound candidate, as another person would write it: contiguous copies, one tile of channels at a time."""

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
    k_size = C_IN * KH * KW
    best = tl.full([BLOCK_M], float("inf"), tl.float32)
    for n0 in range(0, C_OUT, BLOCK_N):
        offs_n = n0 + tl.arange(0, BLOCK_N)
        mask_n = offs_n < C_OUT
        acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for k0 in range(0, k_size, BLOCK_K):
            offs_k = k0 + tl.arange(0, BLOCK_K)
            mask_k = offs_k < k_size
            c = offs_k // (KH * KW)
            kh = (offs_k // KW) % KH
            kw = offs_k % KW
            row = oh[:, None] + kh[None, :]
            col = ow[:, None] + kw[None, :]
            x_offset = ((n[:, None] * C_IN + c[None, :]) * H + row) * W + col
            x = tl.load(x_ptr + x_offset, mask=mask_m[:, None] & mask_k[None, :], other=0.0)
            w = tl.load(
                w_ptr + offs_n[None, :] * k_size + offs_k[:, None],
                mask=mask_n[None, :] & mask_k[:, None],
                other=0.0,
            )
            acc = tl.dot(x, w, acc)
        bias = tl.load(b_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)
        value = (acc + bias[None, :]) * scale
        value = tl.where(mask_n[None, :], value, float("inf"))
        is_nan = tl.max((value != value).to(tl.int32), axis=1) > 0
        lowest = tl.where(is_nan, float("nan"), tl.min(value, axis=1))
        best = tl.minimum(best, lowest, propagate_nan=tl.PropagateNan.ALL)
    tl.store(out_ptr + offs_m, best.to(out_ptr.dtype.element_ty), mask=mask_m)


class ModelNew(nn.Module):
    """Conv2d, times a scale, minimum over channels."""

    def __init__(self, in_channels, out_channels, kernel_size, scale_factor):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.scale_factor = scale_factor

    def forward(self, x):
        """Run the kernel."""
        x = x.contiguous()
        weight, bias = self.conv.weight.contiguous(), self.conv.bias
        batch, c_in, height, width = x.shape
        c_out, _, kh, kw = weight.shape
        oh, ow = height - kh + 1, width - kw + 1
        out = torch.empty((batch, 1, oh, ow), device=x.device, dtype=x.dtype)
        positions = batch * oh * ow
        if positions == 0:
            return out
        grid = (triton.cdiv(positions, 32),)
        conv_min_kernel[grid](
            x, weight, bias, out, self.scale_factor,
            positions, c_in, height, width, c_out, kh, kw, oh, ow,
            BLOCK_M=32, BLOCK_N=32, BLOCK_K=32,
        )  # fmt: skip
        return out
