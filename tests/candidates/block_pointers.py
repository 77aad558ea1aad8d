"""A sound candidate that unfolds x into a matrix with PyTorch and multiplies it through block pointers."""

import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def matmul_min_kernel(
    columns_ptr, w_ptr, b_ptr, out_ptr, scale, k_size, pixels, C_OUT,
    BLOCK_N: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Columns [image, k_size, pixels], weight [C_OUT, k_size]."""
    image, first = tl.program_id(1), tl.program_id(0) * BLOCK_P
    best = tl.full([BLOCK_P], float("inf"), tl.float32)
    nan_seen = tl.zeros([BLOCK_P], tl.int32)
    for n0 in range(0, C_OUT, BLOCK_N):
        weight = tl.make_block_ptr(w_ptr, (C_OUT, k_size), (k_size, 1), (n0, 0), (BLOCK_N, BLOCK_K), (1, 0))
        columns = tl.make_block_ptr(
            columns_ptr + image * k_size * pixels, (k_size, pixels), (pixels, 1), (0, first), (BLOCK_K, BLOCK_P), (1, 0)
        )
        acc = tl.zeros([BLOCK_N, BLOCK_P], tl.float32)
        for _ in range(0, k_size, BLOCK_K):
            w = tl.load(weight, boundary_check=(0, 1), padding_option="zero")
            x = tl.load(columns, boundary_check=(0, 1), padding_option="zero")
            acc = tl.dot(w, x, acc)
            weight = tl.advance(weight, (0, BLOCK_K))
            columns = tl.advance(columns, (BLOCK_K, 0))
        offs_n = n0 + tl.arange(0, BLOCK_N)
        bias = tl.load(b_ptr + offs_n, mask=offs_n < C_OUT, other=0.0)
        value = tl.where((offs_n < C_OUT)[:, None], (acc + bias[:, None]) * scale, float("inf"))
        nan_seen = tl.maximum(nan_seen, tl.max((value != value).to(tl.int32), axis=0))
        best = tl.minimum(best, tl.min(value, axis=0))
    best = tl.where(nan_seen > 0, float("nan"), best)
    out = tl.make_block_ptr(out_ptr + image * pixels, (pixels,), (1,), (first,), (BLOCK_P,), (0,))
    tl.store(out, best, boundary_check=(0,))


class ModelNew(nn.Module):
    """Conv2d, times a scale, minimum over channels."""

    def __init__(self, in_channels, out_channels, kernel_size, scale_factor):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.scale_factor = scale_factor

    def forward(self, x):
        batch, _, height, width = x.shape
        c_out, _, kh, kw = self.conv.weight.shape
        oh, ow = height - kh + 1, width - kw + 1
        out = torch.empty((batch, 1, oh, ow), device=x.device, dtype=x.dtype)
        if batch == 0:
            return out
        columns = nn.functional.unfold(x, (kh, kw)).contiguous()
        matmul_min_kernel[(triton.cdiv(oh * ow, 32), batch)](
            columns, self.conv.weight.contiguous(), self.conv.bias, out, self.scale_factor,
            columns.shape[1], oh * ow, c_out,
            BLOCK_N=32, BLOCK_P=32, BLOCK_K=16,
        )  # fmt: skip
        return out
