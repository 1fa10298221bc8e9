"""What the outlines alone say about a slice: signed distances to them, interpolated between the examples.

Shape-based interpolation (Raya and Udupa, "Shape-based interpolation of multidimensional objects", IEEE TMI 1990) as a
prior for the network: its logit falls off with the distance to the interpolated border, the slower the farther the
next example is. A slice that is marked as empty takes part with a distance below every one of its neighbor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

SOFTNESS_MM, SOFTNESS_PER_MM = 0.5, 0.3
"""Width of the prior's border at an example, and how it grows with the distance to the next one."""


@dataclass(frozen=True)
class ShapePrior:
    """Logits from shape alone, for slices of a stack.

    Args:
        distances: By slice number of each mark, signed distance to its outline in mm, positive inside (size, size);
            None for a slice that is marked as empty.
        slice_mm: Distance of slices.
    """

    distances: Mapping[int, np.ndarray | None]
    slice_mm: float

    @classmethod
    def from_masks(cls, masks: Mapping[int, np.ndarray], pixel_mm: float, slice_mm: float) -> ShapePrior:
        """Prior of marks (size, size), 0 to 1; those without a pixel above one half are empty."""
        return cls({number: signed_distance(mask, pixel_mm) for number, mask in masks.items()}, slice_mm)

    def distance(self, number: int) -> np.ndarray | None:
        """Interpolated signed distance in mm; None where no outline is near.

        Beyond the outermost example the outline goes on as it is: nothing but an empty mark says where it ends.
        """
        below = max((own for own in self.distances if own <= number), default=None)
        above = min((own for own in self.distances if own >= number), default=None)
        if below is None or above is None or below == above:
            nearest = below if above is None else above
            return None if nearest is None else self.distances[nearest]
        first, second = self.distances[below], self.distances[above]
        if first is None and second is None:
            return None
        share = (number - below) / (above - below)
        first = _beyond(second) if first is None else first
        second = _beyond(first) if second is None else second
        return (1 - share) * first + share * second

    def logit(self, number: int) -> np.ndarray | None:
        """Prior logit (size, size) of a slice; None where no outline is near."""
        distance = self.distance(number)
        if distance is None:
            return None
        gap = self.slice_mm * min(abs(number - own) for own in self.distances)
        return distance / (SOFTNESS_MM + SOFTNESS_PER_MM * gap)


def signed_distance(mask: np.ndarray, pixel_mm: float) -> np.ndarray | None:
    """Distance to the border in mm, positive inside, of a mask (rows, columns) above one half; None if it is empty."""
    inside = mask > 0.5
    if not inside.any():
        return None
    image = sitk.GetImageFromArray(inside.astype(np.uint8))
    outer = sitk.SignedMaurerDistanceMap(image, insideIsPositive=True, squaredDistance=False)
    inner = sitk.SignedMaurerDistanceMap(1 - image, insideIsPositive=False, squaredDistance=False)
    # Maurer's distances are to the outermost pixel inside; the mean of both sides is to the border between pixels.
    return pixel_mm * 0.5 * (sitk.GetArrayFromImage(outer) + sitk.GetArrayFromImage(inner)).astype(np.float32)


def _beyond(distance: np.ndarray | None) -> np.ndarray:
    """What stands for an empty slice beside an outline: everywhere outside, by as much as the outline is inside."""
    assert distance is not None
    return distance - 2 * distance.max()
