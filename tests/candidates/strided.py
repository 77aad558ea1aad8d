"""A sound candidate that takes every option of a convolution, any strides and four dtypes."""

import torch
import triton
import triton.language as tl


@triton.jit
def conv_min_kernel(
    x_ptr, w_ptr, b_ptr, scale_ptr, out_ptr,
    positions, C, H, W, OH, OW, KH, KW, channels, groups,
    x_n, x_c, x_h, x_w, w_o, w_c, w_h, w_w, b_o,
    stride_h, stride_w, pad_h, pad_w, dil_h, dil_w,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """C input channels and `channels` output channels in each of the groups."""
    acc_type: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    offs_m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_m = offs_m < positions
    image = offs_m // (OH * OW)
    top = (offs_m // OW) % OH * stride_h - pad_h
    left = offs_m % OW * stride_w - pad_w
    scale = tl.load(scale_ptr).to(acc_type)
    products = C * KH * KW
    best = tl.full([BLOCK_M], float("inf"), acc_type)
    nan_seen = tl.zeros([BLOCK_M], tl.int32)
    for group in range(groups):
        for n0 in range(0, channels, BLOCK_N):
            offs_n = n0 + tl.arange(0, BLOCK_N)
            mask_n = offs_n < channels
            channel = (group * channels + offs_n).to(tl.int64)
            acc = tl.zeros([BLOCK_M, BLOCK_N], acc_type)
            for k0 in range(0, products, BLOCK_K):
                offs_k = k0 + tl.arange(0, BLOCK_K)
                mask_k = offs_k < products
                c = (offs_k // (KH * KW)).to(tl.int64)
                kh = (offs_k // KW) % KH
                kw = offs_k % KW
                row = top[:, None] + (kh * dil_h)[None, :]
                col = left[:, None] + (kw * dil_w)[None, :]
                inside = (row >= 0) & (row < H) & (col >= 0) & (col < W)
                x_offset = image[:, None] * x_n + (group * C + c)[None, :] * x_c + row * x_h + col * x_w
                mask_x = mask_m[:, None] & mask_k[None, :] & inside
                x = tl.load(x_ptr + x_offset, mask=mask_x, other=0.0)
                w_offset = (c * w_c + kh * w_h + kw * w_w)[:, None] + (channel * w_o)[None, :]
                w = tl.load(w_ptr + w_offset, mask=mask_k[:, None] & mask_n[None, :], other=0.0)
                acc = tl.dot(x, w, acc, input_precision="ieee", out_dtype=acc_type)
            if b_ptr is not None:
                acc += tl.load(b_ptr + channel * b_o, mask=mask_n, other=0.0).to(acc_type)[None, :]
            value = acc * scale
            value = tl.where(mask_n[None, :], value, float("inf"))
            is_nan = value != value
            nan_seen = tl.maximum(nan_seen, tl.max(is_nan.to(tl.int32), axis=1))
            best = tl.minimum(best, tl.min(tl.where(is_nan, float("inf"), value), axis=1))
    best = tl.where(nan_seen > 0, float("nan"), best)
    tl.store(out_ptr + offs_m, best.to(out_ptr.dtype.element_ty), mask=mask_m)


def out_extent(size, kernel, stride, padding, dilation):
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def conv_scale_min(x, weight, bias=None, scale=1.0, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    batch, _, height, width = x.shape
    c_out, c_in, kh, kw = weight.shape
    oh = out_extent(height, kh, stride[0], padding[0], dilation[0])
    ow = out_extent(width, kw, stride[1], padding[1], dilation[1])
    out = torch.empty((batch, 1, oh, ow), device=x.device, dtype=x.dtype)
    positions = out.numel()
    if positions == 0:
        return out
    # A Python float would reach the kernel as float32, which is not enough for float64 operands.
    factor = torch.full((1,), scale, device=x.device, dtype=torch.float64)
    grid = (triton.cdiv(positions, 32),)
    conv_min_kernel[grid](
        x, weight, bias, factor, out,
        positions, c_in, height, width, oh, ow, kh, kw, c_out // groups, groups,
        x.stride(0), x.stride(1), x.stride(2), x.stride(3),
        weight.stride(0), weight.stride(1), weight.stride(2), weight.stride(3),
        0 if bias is None else bias.stride(0),
        stride[0], stride[1], padding[0], padding[1], dilation[0], dilation[1],
        BLOCK_M=32, BLOCK_N=32, BLOCK_K=16,
    )  # fmt: skip
    return out
