"""Convolution, bias, scale and minimum over the output channels in one Triton kernel."""

from fused.conv_scale_min import ModelNew, conv_scale_min

__all__ = ["ModelNew", "conv_scale_min"]
