"""Overlap of two masks, with the convention for empty masks spelled out."""

from __future__ import annotations

import numpy as np


def dice(first: np.ndarray, second: np.ndarray, *, both_empty: float) -> float:
    """Dice coefficient of two boolean masks of the same shape; ``both_empty`` is returned if neither has a voxel."""
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else both_empty
