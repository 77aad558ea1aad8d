"""A sound candidate whose tiles are chosen by the autotuner, which first drops configs that do not fit the sizes."""

import torch
import torch.nn as nn
import triton
import triton.language as tl

CONFIGS = [
    triton.Config({"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": 16, "EVEN_K": even}, num_warps=4)
    for even in (True, False)
    for block_m, block_n in ((32, 16), (64, 32))
]


def fitting(configs, arguments, **kwargs):
    """Keep the unmasked loop over products for sizes that are whole tiles."""
    products = kwargs.get("k_size", arguments.get("k_size"))
    return [config for config in configs if config.kwargs["EVEN_K"] == (products % config.kwargs["BLOCK_K"] == 0)]


@triton.autotune(
    configs=CONFIGS, key=["positions", "C_OUT", "k_size"], prune_configs_by={"early_config_prune": fitting}
)
@triton.jit
def conv_min_kernel(
    x_ptr, w_ptr, b_ptr, out_ptr, scale,
    positions, k_size, C_IN, H, W, C_OUT, KH, KW, OH, OW,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, EVEN_K: tl.constexpr,
):  # fmt: skip
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_m = offs_m < positions
    n, oh, ow = offs_m // (OH * OW), offs_m // OW % OH, offs_m % OW
    best = tl.full([BLOCK_M], float("inf"), tl.float32)
    for n0 in range(0, C_OUT, BLOCK_N):
        offs_n = n0 + tl.arange(0, BLOCK_N)
        mask_n = offs_n < C_OUT
        acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for k0 in range(0, k_size, BLOCK_K):
            offs_k = k0 + tl.arange(0, BLOCK_K)
            row = oh[:, None] + (offs_k // KW % KH)[None, :]
            col = ow[:, None] + (offs_k % KW)[None, :]
            mask_x, mask_w = mask_m[:, None], mask_n[None, :]
            if not EVEN_K:
                mask_x = mask_x & (offs_k < k_size)[None, :]
                mask_w = mask_w & (offs_k < k_size)[:, None]
            x_offset = ((n[:, None] * C_IN + (offs_k // (KH * KW))[None, :]) * H + row) * W + col
            x = tl.load(x_ptr + x_offset, mask=mask_x, other=0.0)
            w = tl.load(w_ptr + offs_n[None, :] * k_size + offs_k[:, None], mask=mask_w, other=0.0)
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

    def forward(self, x):
        x = x.contiguous()
        batch, c_in, height, width = x.shape
        c_out, _, kh, kw = self.conv.weight.shape
        oh, ow = height - kh + 1, width - kw + 1
        out = torch.empty((batch, 1, oh, ow), device=x.device, dtype=x.dtype)
        positions = out.numel()
        if positions == 0:
            return out
        conv_min_kernel[lambda meta: (triton.cdiv(positions, meta["BLOCK_M"]),)](
            x, self.conv.weight.contiguous(), self.conv.bias, out, self.scale_factor,
            positions, c_in * kh * kw, c_in, height, width, c_out, kh, kw, oh, ow,
        )  # fmt: skip
        return out
