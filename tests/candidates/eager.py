"""A sound candidate without a kernel: PyTorch itself, as a module."""

import torch
import torch.nn as nn


class ModelNew(nn.Module):
    """Conv2d, times a scale, minimum over channels."""

    def __init__(self, in_channels, out_channels, kernel_size, scale_factor):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.scale_factor = scale_factor

    def forward(self, x):
        value = self.conv(x) * self.scale_factor
        return torch.min(value, dim=1, keepdim=True).values
