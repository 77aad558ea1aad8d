"""A sound candidate with a fixed number of programs, each of which walks over several tiles of positions."""

import torch
import torch.nn as nn
import triton
import triton.language as tl

PROGRAMS = 8


@triton.jit
def tile_minimum(
    x_ptr, w_ptr, b_ptr, scale, offs_m, positions, C_IN, H, W, C_OUT, KH, KW, OH, OW,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    mask_m = offs_m < positions
    n, oh, ow = offs_m // (OH * OW), offs_m // OW % OH, offs_m % OW
    k_size = C_IN * KH * KW
    best = tl.full([offs_m.shape[0]], float("inf"), tl.float32)
    for n0 in range(0, C_OUT, BLOCK_N):
        offs_n = n0 + tl.arange(0, BLOCK_N)
        mask_n = offs_n < C_OUT
        acc = tl.zeros([offs_m.shape[0], BLOCK_N], tl.float32)
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
        value = (acc + tl.load(b_ptr + offs_n, mask=mask_n, other=0.0)[None, :]) * scale
        value = tl.where(mask_n[None, :], value, float("inf"))
        has_nan = tl.max((value != value).to(tl.int32), axis=1) > 0
        lowest = tl.where(has_nan, float("nan"), tl.min(value, axis=1))
        best = tl.minimum(best, lowest, propagate_nan=tl.PropagateNan.ALL)
    return best


@triton.jit
def conv_min_kernel(
    x_ptr, w_ptr, b_ptr, out_ptr, scale,
    tiles, positions, C_IN, H, W, C_OUT, KH, KW, OH, OW,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        offs_m = tile * BLOCK_M + tl.arange(0, BLOCK_M)
        best = tile_minimum(
            x_ptr, w_ptr, b_ptr, scale, offs_m, positions, C_IN, H, W, C_OUT, KH, KW, OH, OW, BLOCK_N, BLOCK_K
        )
        tl.store(out_ptr + offs_m, best, mask=offs_m < positions)


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
        tiles = triton.cdiv(positions, 16)
        conv_min_kernel[(min(tiles, PROGRAMS),)](
            x, self.conv.weight.contiguous(), self.conv.bias, out, self.scale_factor,
            tiles, positions, c_in, height, width, c_out, kh, kw, oh, ow,
            BLOCK_M=16, BLOCK_N=32, BLOCK_K=32,
        )  # fmt: skip
        return out
