"""Quantile contours: regions that at least a given share of the samples agree on."""

from __future__ import annotations

import math

import numpy as np

CONTOUR_LEVELS = (0.05, 0.50, 0.95)
"""Share of samples: at least 5 % (outer), 50 % (median), 95 % (core). The three regions are nested."""


def contour_mask(agreement: np.ndarray, count: int, level: float) -> np.ndarray:
    """Voxels that at least ``level`` of ``count`` samples label as the structure.

    Args:
        agreement: Fraction of samples per voxel, any shape.
        count: Number of samples behind it.
        level: Share in (0, 1]; at least one sample is always needed.

    Returns:
        Boolean array of the same shape.
    """
    needed = max(1, math.ceil(level * count - 1e-9))
    return np.rint(agreement * count) >= needed
