"""How wide the cells of each scale are; known without a network."""

from __future__ import annotations

import math
from collections.abc import Sequence

LATENTS = (1, 1, 1, 1)
"""Latent channels of each scale where nothing else is said."""


def pooling_factors(
    spatial_dims: int, levels: int, poolings: Sequence[int | Sequence[int]] | None
) -> list[tuple[int, ...]]:
    """Per step between levels, how many voxels become one along each axis; 2 where nothing is said.

    Raises:
        ValueError: There are more or fewer steps.
    """
    given = [2] * (levels - 1) if poolings is None else poolings
    if len(given) != levels - 1:
        raise ValueError(f"poolings needs {levels - 1} entries for {levels} levels")
    return [(factor,) * spatial_dims if isinstance(factor, int) else tuple(factor) for factor in given]


def cell_widths(factors: Sequence[tuple[int, ...]], scales: int) -> list[tuple[int, ...]]:
    """Per scale, coarsest first, how many voxels wide a cell is along each axis.

    Raises:
        ValueError: There are not enough levels for as many scales.
    """
    steps = len(factors)
    if not 0 < scales <= steps:
        raise ValueError(f"{steps + 1} levels have room for 1 to {steps} scales of latents, not {scales}")
    below = [factors[: steps - scale] for scale in range(scales)]
    return [tuple(math.prod(axis) for axis in zip(*parts, strict=True)) for parts in below]
