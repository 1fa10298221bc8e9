"""Overlap of masks, with the convention for empty masks spelled out.

Everywhere ``both_empty`` is the overlap of two masks that are both empty: 1.0 where two readers who draw nothing agree,
NaN where such pairs shall not count.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

EXACT_IN_FLOAT32 = 2**24


def dice(first: np.ndarray, second: np.ndarray, *, both_empty: float) -> float:
    """Dice coefficient of two boolean masks of the same shape; ``both_empty`` is returned if neither has a voxel."""
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else both_empty


def pairwise_iou(label_maps: np.ndarray, *, labels: Sequence[int], both_empty: float) -> np.ndarray:
    """Intersection over union of all pairs of each image's label maps.

    Args:
        label_maps: (B, N, *spatial), integers: N label maps of each of B images.
        labels: The L labels to compare, each against all the rest.
        both_empty: For a label that neither map of the pair has.

    Returns:
        (L, B, N, N), float64, exact up to the division.
    """
    images, maps = label_maps.shape[:2]
    flat = label_maps.reshape(images, maps, -1)
    # Sums of products of 0 and 1 are counts, which stay whole numbers in either type.
    kind = np.float32 if flat.shape[2] <= EXACT_IN_FLOAT32 else np.float64
    iou = np.full((len(labels), images, maps, maps), both_empty)
    for result, label in zip(iou, labels, strict=True):
        masks = (flat == label).astype(kind)
        shared = (masks @ masks.swapaxes(1, 2)).astype(np.float64)
        sizes = np.diagonal(shared, axis1=1, axis2=2)
        union = sizes[:, :, None] + sizes[:, None] - shared
        np.divide(shared, union, out=result, where=union > 0)
    return iou


def dice_from_iou(iou: np.ndarray) -> np.ndarray:
    """Dice coefficients of pairs of masks from their IoU; 1 and NaN stay what they are."""
    return 2.0 * iou / (1.0 + iou)


def mean_of_defined(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Mean of what is not NaN; NaN where nothing is left."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.nanmean(values, axis=axis)
