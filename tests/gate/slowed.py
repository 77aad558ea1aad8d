"""The fused kernel, slower on purpose: a part of the images is computed twice."""

from fused.conv_scale_min import conv_scale_min as fused

# One tenth, and what its own launches cost.
AGAIN = 0.1


def conv_scale_min(x, weight, bias=None, scale=1.0, *, stride=1, padding=0, dilation=1, groups=1, precision=None):
    """Compute the first images, forget them, then compute all."""
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "precision": precision}
    fused(x[: round(AGAIN * len(x))], weight, bias, scale, **options)
    return fused(x, weight, bias, scale, **options)
