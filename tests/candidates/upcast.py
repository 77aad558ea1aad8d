"""A sound candidate that widens half-precision operands to float32 before anything else, and rounds once at the end."""

import torch
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
    n, oh, ow = offs_m // (OH * OW), offs_m // OW % OH, offs_m % OW
    k_size = C_IN * KH * KW
    best = tl.full([BLOCK_M], float("inf"), tl.float32)
    for n0 in range(0, C_OUT, BLOCK_N):
        offs_n = n0 + tl.arange(0, BLOCK_N)
        mask_n = offs_n < C_OUT
        acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for k0 in range(0, k_size, BLOCK_K):
            offs_k = k0 + tl.arange(0, BLOCK_K)
            mask_k = offs_k < k_size
            row = oh[:, None] + (offs_k // KW % KH)[None, :]
            col = ow[:, None] + (offs_k % KW)[None, :]
            x_offset = ((n[:, None] * C_IN + (offs_k // (KH * KW))[None, :]) * H + row) * W + col
            x = tl.load(x_ptr + x_offset, mask=mask_m[:, None] & mask_k[None, :], other=0.0).to(tl.float32)
            w_offset = offs_n[None, :] * k_size + offs_k[:, None]
            w = tl.load(w_ptr + w_offset, mask=mask_n[None, :] & mask_k[:, None], other=0.0).to(tl.float32)
            # Products summed by hand: what tl.dot would round to tf32 stays whole here.
            acc += tl.sum(x[:, :, None] * w[None, :, :], axis=1)
        bias = tl.load(b_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)
        value = tl.where(mask_n[None, :], (acc + bias[None, :]) * scale, float("inf"))
        has_nan = tl.max((value != value).to(tl.int32), axis=1) > 0
        lowest = tl.where(has_nan, float("nan"), tl.min(value, axis=1))
        best = tl.minimum(best, lowest, propagate_nan=tl.PropagateNan.ALL)
    tl.store(out_ptr + offs_m, best.to(out_ptr.dtype.element_ty), mask=mask_m)


def conv_scale_min(x, weight, bias, scale):
    x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
    batch, c_in, height, width = x.shape
    c_out, _, kh, kw = weight.shape
    oh, ow = height - kh + 1, width - kw + 1
    out = torch.empty((batch, 1, oh, ow), device=x.device, dtype=x.dtype)
    positions = out.numel()
    if positions == 0:
        return out
    conv_min_kernel[(triton.cdiv(positions, 32),)](
        x, weight, bias, out, scale,
        positions, c_in, height, width, c_out, kh, kw, oh, ow,
        BLOCK_M=32, BLOCK_N=32, BLOCK_K=8,
    )  # fmt: skip
    return out
