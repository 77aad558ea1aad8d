"""These tests make their own tensors: they belong where the kernels run."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _tensors_where_kernels_run(device: torch.device) -> Iterator[None]:
    with torch.device(device):
        yield
