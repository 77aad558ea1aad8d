"""The abilities that most test modules draw cases for."""

from __future__ import annotations

from fuzz.abilities import Abilities

# A target that can be asked everything.
EVERYTHING = Abilities(
    kind="function",
    convolution_options=True,
    optional_bias=True,
    precision=True,
    configs=("small", "large"),
    every_dtype=True,
)
