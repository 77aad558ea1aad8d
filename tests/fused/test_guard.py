"""The fast path computes float32 from float16: its guard is attacked where float16's range ends.

The bound is the oracle's (docs/correctness.md): A · [(1 + γ)(2u + u²) + γ] with u = 2^-10 for tf32 and 0 for ieee.
"""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fused.conv_scale_min import conv_scale_min, fast_configs

CONFIGS = [name for name in fast_configs() if name.startswith("tiny")]
SHAPE, KERNEL = (1, 17, 5, 6), (5, 17, 2, 2)
OPERAND_ROUNDING = {"tf32": 2.0**-10, "ieee": 0.0}
# Where float16 ends, given the factor 2^8, where it is subnormal, where nothing is left, and where float32 ends.
EDGES = [-149, -126, -110, -40, -34, -33, -32, -25, -24, -23, -22, -15, -1, 0, 6, 7, 8, 9, 15, 16, 40, 60]


def magnitudes(exponent: int) -> st.SearchStrategy[float]:
    """Numbers of about this exponent; 2^8 · (2 - 2^-10), which float16 still holds, is one of them."""
    return st.sampled_from([1.0, 1.0 + 2.0**-23, 1.5, 2.0 - 2.0**-9, 2.0 - 2.0**-10, 2.0 - 2.0**-23]).map(
        lambda significand: significand * 2.0**exponent
    )


edges = st.sampled_from(EDGES).flatmap(magnitudes)


def operand(shape: tuple[int, ...], usual: float, odd: float, places: list[int], seed: int) -> torch.Tensor:
    """A tensor of ±`usual`, with ±`odd` at some places."""
    draw = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, shape, generator=draw, device="cpu") * 2.0 - 1.0
    values = torch.full(shape, usual, dtype=torch.float32, device="cpu")
    values.view(-1)[[place % values.numel() for place in places]] = odd
    return values * signs


def allowed(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: float, precision: str) -> torch.Tensor:
    """What each channel's value may be off by; what is below 2^-126 may be lost in tf32."""
    size = torch.conv2d(x.abs(), weight.abs(), bias.abs())
    count = weight[0].numel() + 2
    gamma = count * 2.0**-23 / (1 - count * 2.0**-23)
    rounding = OPERAND_ROUNDING[precision]
    lost = 0.0
    if precision == "tf32":
        lost = 2.0**-126 * weight[0].numel() * (x.abs().max().item() + weight.abs().max().item() + 1)
    error = size * ((1 + gamma) * (2 * rounding + rounding**2) + gamma) + count * 2.0**-149 + lost
    return abs(scale) * (error + 2.0**-22 * size) + 2.0**-149


# Outside a trial the interpreter takes its time over a minimum that keeps NaN.
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    config=st.sampled_from(CONFIGS),
    precision=st.sampled_from(["tf32", "ieee"]),
    usual=st.tuples(edges, st.sampled_from([0.0, 1.0]) | edges),
    odd=st.tuples(edges, edges),
    places=st.lists(st.integers(0, 500), max_size=3),
    bias=st.sampled_from([0.0, 1.0, -(2.0**-20)]),
    scale=st.sampled_from([1.0, -1.0]),
    seed=st.integers(0, 2**16),
)
def test_no_magnitude_spoils_a_result(
    config: str,
    precision: str,
    usual: tuple[float, float],
    odd: tuple[float, float],
    places: list[int],
    bias: float,
    scale: float,
    seed: int,
) -> None:
    x = operand(SHAPE, usual[0], odd[0], places, seed)
    weight = operand(KERNEL, usual[1], odd[1], places, seed + 1)
    shift = torch.full((KERNEL[0],), bias, dtype=torch.float32)
    out = conv_scale_min(
        *(t.to(torch.get_default_device()) for t in (x, weight, shift)), scale, precision=precision, config=config
    )
    wide = [tensor.double().cpu() for tensor in (x, weight, shift)]
    values = torch.conv2d(*wide) * scale
    slack = allowed(*wide, scale, precision)
    low, high = (values - slack).amin(1, keepdim=True), (values + slack).amin(1, keepdim=True)
    found = out.double().cpu()
    # A sum that may overflow may be infinite.
    right = ((found >= low) & (found <= high)) | (found.isinf() & (high.abs().maximum(low.abs()) > 3e38))
    assert right.all(), (
        f"{config}, {precision}: {found[~right][0]} is not in [{low[~right][0]}, {high[~right][0]}]: the guard of the "
        "fast path (guard_limit, half_or_nan) lets through what float16 cannot hold"
    )
