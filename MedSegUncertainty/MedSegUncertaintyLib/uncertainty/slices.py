"""Slices to look at first: where along an axis the samples differ more than in the slices around."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

SMOOTHING_MM = 3.0
"""Standard deviation of the Gaussian along the axis, so that neighbors of one uncertain place count as one."""
LOWEST_SHARE = 0.05
"""Peaks below this share of the highest one are left out: the tails of a structure are full of tiny ones."""


@dataclass(frozen=True)
class UncertainSlice:
    """A slice in which the samples differ more than in those around it.

    Attributes:
        index: Along the axis, in the array that was ranked.
        share: Its share of the summed variance.
        center_ijk: Voxel index (I, J, K; fractional, in the array) of the center of its variance.
    """

    index: int
    share: float
    center_ijk: tuple[float, float, float]


def rank_slices(variance: np.ndarray, axis: int, spacing_mm: float) -> list[UncertainSlice]:
    """Local maxima of the variance summed over slices and smoothed along the axis, the highest first.

    Args:
        variance: (K, J, I), not negative; of one structure, or summed over structures.
        axis: Array axis that the slices are perpendicular to (0: K, 1: J, 2: I).
        spacing_mm: Voxel size along it.

    Returns:
        Empty where nothing varies.
    """
    others = tuple(other for other in range(3) if other != axis)
    profile = variance.sum(axis=others, dtype=np.float64)
    total = profile.sum()
    if not total:
        return []
    smooth = _smoothed(profile, SMOOTHING_MM / spacing_mm)
    height = np.round(smooth / smooth.max(), 9)  # rounding errors are no peaks
    peaks = sorted((index for index in _peaks(height) if height[index] >= LOWEST_SHARE), key=lambda n: -height[n])
    # Between two uncertain slices the smoothed profile may be highest where nothing varies.
    varying = np.flatnonzero(profile)
    indices = dict.fromkeys(int(varying[np.abs(varying - peak).argmin()]) for peak in peaks)
    return [UncertainSlice(n, float(profile[n] / total), _center(variance, axis, n)) for n in indices]


def _smoothed(profile: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean along a profile; beyond its ends there is nothing, which lowers neither end."""
    reach = min(math.ceil(3 * sigma), len(profile) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    inside = slice(reach, reach + len(profile))
    return np.convolve(profile, kernel)[inside] / np.convolve(np.ones_like(profile), kernel)[inside]


def _peaks(profile: np.ndarray) -> list[int]:
    """Indices that are higher than what lies beside them; the middle of a flat top."""
    runs = [(value, list(places)) for value, places in itertools.groupby(range(len(profile)), key=profile.__getitem__)]
    heights = [-np.inf, *(value for value, _ in runs), -np.inf]
    return [
        places[len(places) // 2]
        for number, (value, places) in enumerate(runs, start=1)
        if heights[number - 1] < value > heights[number + 1]
    ]


def _center(variance: np.ndarray, axis: int, index: int) -> tuple[float, float, float]:
    part = np.take(variance, [index], axis=axis).astype(np.float64)
    k, j, i = (
        float((part.sum(axis=tuple(other for other in range(3) if other != n)) @ np.arange(part.shape[n])) / part.sum())
        for n in range(3)
    )
    center = [i, j, k]
    center[2 - axis] = float(index)
    return (center[0], center[1], center[2])
