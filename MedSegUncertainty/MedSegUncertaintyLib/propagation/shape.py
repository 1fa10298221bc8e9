"""What the outlines alone say about a slice: signed distances to them, interpolated between the examples.

Shape-based interpolation (Raya and Udupa, "Shape-based interpolation of multidimensional objects", IEEE TMI 1990) as a
prior for the network: its logit falls off with the distance to the interpolated border, the slower the farther the
next example is. A slice that is marked as empty takes part with a distance below every one of its neighbor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import SimpleITK as sitk

SOFTNESS_MM, SOFTNESS_PER_MM = 0.5, 0.3
"""Width of the prior's border at an example, and how it grows with the distance to the next one."""

REACH = 1.5
"""How far a structure may go on beyond its outermost outlines, in units of their mean distance."""
IMPOSSIBLE = -100.0
"""Logit of what no network may say."""
APART = 0.5
"""Distance of the outermost outlines from which they count as spread over the structure, in units of the radius of the
largest disc inside of them."""


@dataclass(frozen=True)
class ShapePrior:
    """Logits from shape alone, for slices of a stack.

    Args:
        distances: By slice number of each mark, signed distance to its outline in mm, positive inside (size, size);
            None for a slice that is marked as empty.
        slice_mm: Distance of slices.
        stretch: Factor of how far the structure is taken to go on beyond its outlines.
    """

    distances: Mapping[int, np.ndarray | None]
    slice_mm: float
    stretch: float = 1.0

    @classmethod
    def from_masks(
        cls, masks: Mapping[int, np.ndarray], pixel_mm: float, slice_mm: float, stretch: float = 1.0
    ) -> ShapePrior:
        """Prior of marks (size, size), 0 to 1; those without a pixel above one half are empty."""
        return cls({number: signed_distance(mask, pixel_mm) for number, mask in masks.items()}, slice_mm, stretch)

    def distance(self, number: int) -> np.ndarray | None:
        """Interpolated signed distance in mm; None where no outline is near.

        Beyond the outermost example the outline shrinks towards the end that :attr:`ends` foresees.
        """
        below = max((own for own in self.distances if own <= number), default=None)
        above = min((own for own in self.distances if own >= number), default=None)
        if below is None or above is None:
            return self._beyond(number)
        first, second = self.distances[below], self.distances[above]
        if below == above or (first is None and second is None):
            return first
        share = (number - below) / (above - below)
        first = _instead(second) if first is None else first
        second = _instead(first) if second is None else second
        return (1 - share) * first + share * second

    def _beyond(self, number: int) -> np.ndarray | None:
        """Distance in a slice before the first or after the last mark."""
        last = min(self.distances) if number < min(self.distances) else max(self.distances)
        distance, end = self.distances[last], self.ends[0 if number < last else 1]
        if distance is None or end is None:
            # Nothing says that the structure goes on, so inside of the outline nothing is said either.
            return None if distance is None else np.minimum(distance, 0.0)
        shrunk = distance - distance.max() * (number - last) / (end - last)
        return np.minimum(shrunk, 0.0)

    @cached_property
    def limits(self) -> tuple[float | None, float | None]:
        """Beyond which slices the structure is not looked for; None where nothing says so.

        Three outlines or more that lie well apart are taken for spread over the structure: it goes on beyond them by
        at most their mean distance and a half.
        """
        outlined = self._outlined
        numbers = np.array([*outlined])
        if len(numbers) < 3 or self.slice_mm * np.ptp(numbers) < APART * max(own.max() for own in outlined.values()):
            return None, None
        reach = self.stretch * REACH * np.ptp(numbers) / (len(numbers) - 1)
        return float(numbers[0] - reach), float(numbers[-1] + reach)

    @property
    def _outlined(self) -> dict[int, np.ndarray]:
        return {number: own for number, own in sorted(self.distances.items()) if own is not None}

    @cached_property
    def ends(self) -> tuple[float | None, float | None]:
        """Where the structure is expected to end before and after the outlines; None where nothing says so.

        That is at its :attr:`limits`, or nearer if the areas of the outlines say so: those of an ellipsoid's slices lie
        on a parabola, whose ends are those of the ellipsoid.
        """
        low, high = self.limits
        if low is None or high is None:
            return None, None
        outlined = self._outlined
        numbers = np.array([*outlined])
        bend, slope, level = np.polyfit(numbers, [int((own > 0).sum()) for own in outlined.values()], 2)
        inside = slope**2 - 4 * bend * level
        if bend < 0 < inside:
            first, last = sorted((-slope + sign * np.sqrt(inside)) / (2 * bend) for sign in (-1, 1))
            low = max(low, numbers[0] - self.stretch * (numbers[0] - first))
            high = min(high, numbers[-1] + self.stretch * (last - numbers[-1]))
        return float(min(low, numbers[0] - 1)), float(max(high, numbers[-1] + 1))

    def logit(self, number: int) -> np.ndarray | None:
        """Prior logit (size, size) of a slice; None where no outline is near."""
        distance = self.distance(number)
        if distance is None:
            return None
        low, high = self.limits
        if (low is not None and number < low) or (high is not None and number > high):
            return np.full_like(distance, IMPOSSIBLE)
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


def _instead(distance: np.ndarray | None) -> np.ndarray:
    """What stands for an empty slice beside an outline: everywhere outside, by as much as the outline is inside."""
    assert distance is not None
    return distance - 2 * distance.max()
