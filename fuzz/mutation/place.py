"""Where a node of a kernel file stands, and what an operator is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import libcst as cst


@dataclass(frozen=True)
class Place:
    """Where a node stands.

    Attributes:
        parent: The node around it.
        in_kernel: Whether that is in a function under `triton.jit`.
        parameters: Names of that function's parameters.
        functions: Names of the functions that the file defines or imports.
        is_stored: Whether the node is an argument of a store.
    """

    parent: cst.CSTNode
    in_kernel: bool
    parameters: tuple[str, ...]
    functions: frozenset[str]
    is_stored: bool


Operator = Callable[[cst.CSTNode, Place], Iterator[str]]
