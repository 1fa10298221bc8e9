"""Figures for thin, branching structures in 2D, such as the vessels of a retina."""

from __future__ import annotations

import numpy as np


def sensitivity(prediction: np.ndarray, truth: np.ndarray, *, nothing_there: float) -> float:
    """Share of a structure's pixels that were found.

    Args:
        prediction: Bool, of any shape.
        truth: Bool, of the same shape.
        nothing_there: Returned if the truth has no pixel.
    """
    total = int(truth.sum())
    return int((prediction & truth).sum()) / total if total else nothing_there


def centerline_dice(first: np.ndarray, second: np.ndarray, *, both_empty: float) -> float:
    """Centerline Dice (clDice) of two masks, the same in both orders.

    Shit et al., "clDice - a Novel Topology-Preserving Loss Function for Tubular Structure Segmentation", CVPR 2021:
    the harmonic mean of the share of the first mask's centerline that lies in the second mask and the share of the
    second one's that lies in the first. A branch counts by its length, however thin it is. 0 if one mask is empty.

    Args:
        first: (H, W) bool.
        second: (H, W) bool.
        both_empty: Returned if neither mask has a pixel.
    """
    if not first.any() and not second.any():
        return both_empty
    shares = [
        sensitivity(other, centerline(mask), nothing_there=0.0) for mask, other in ((first, second), (second, first))
    ]
    return 2.0 * shares[0] * shares[1] / sum(shares) if any(shares) else 0.0


def centerline(mask: np.ndarray) -> np.ndarray:
    """Lines one pixel wide with the connections of a mask (H, W), bool; a mask ends at the border of the image.

    Iterative thinning by Gonzalez and Woods, as ITK has it; a free end loses about half of the width there. Other
    methods of thinning give other lines and, by a little, another clDice.
    """
    import SimpleITK as sitk  # slow, and nobody else here needs it

    # ITK continues a mask beyond the border, where one that runs along it would be thinned away.
    thinned = sitk.BinaryThinning(sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8)))
    return sitk.GetArrayFromImage(thinned)[1:-1, 1:-1].astype(bool)
