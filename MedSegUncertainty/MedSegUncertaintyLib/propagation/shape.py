"""What the outlines alone say about a slice: signed distances to them, interpolated between the examples.

Shape-based interpolation (Raya and Udupa, "Shape-based interpolation of multidimensional objects", IEEE TMI 1990) as a
prior for the network: its logit falls off with the distance to the interpolated border, the slower the farther the
next example is. A slice that is marked as empty takes part with a distance below every one of its neighbor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import SimpleITK as sitk

SOFTNESS_MM, SOFTNESS_PER_MM = 0.5, 0.3
"""Width of the prior's border at an example, and how it grows with the distance to the next one."""

REACH = 1.5
"""How far a structure may go on beyond outlines that are spread over it, in units of their mean distance."""
LONG = 2.0
"""The same where they are not, in units of the radius of the largest disc inside of an outline: structures are taken to
be about as long as they are wide, rather than to fill all of the volume."""
IMPOSSIBLE = -100.0
"""Logit of what no network may say."""
APART = 0.5
"""Distance of the outermost of three outlines or more from which they may be spread, in units of that radius."""
SPREAD = 2.0
"""They are, if their areas say that it ends within this many of their mean distances."""


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
        distance = self.distances[last]
        if distance is None:
            return None
        end = self.ends[0 if number < last else 1]
        shrunk = distance - distance.max() * (number - last) / (end - last)
        # Nothing says that the structure goes on, so inside of the outline nothing is said either.
        return np.minimum(shrunk, 0.0)

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Beyond which slices the structure is not looked for where no mark lies ahead."""
        outlined = self._outlined
        if not outlined:
            return -math.inf, math.inf
        numbers = [*outlined]
        span = numbers[-1] - numbers[0]
        step, radius = span / max(1, len(numbers) - 1), max(own.max() for own in outlined.values()) / self.slice_mm
        is_apart = len(numbers) >= 3 and span >= APART * radius
        low, high = (
            self.stretch * max(REACH * step, 0.0 if is_apart and rest <= SPREAD * step else LONG * radius)
            for rest in self._rests
        )
        return float(numbers[0] - low), float(numbers[-1] + high)

    @property
    def _outlined(self) -> dict[int, np.ndarray]:
        return {number: own for number, own in sorted(self.distances.items()) if own is not None}

    @cached_property
    def ends(self) -> tuple[float, float]:
        """Where the structure, which has outlines, is expected to end before and after them.

        That is at its :attr:`limits`, or nearer if the areas of the outlines say so.
        """
        (low, high), numbers = self.limits, [*self._outlined]
        before, after = (self.stretch * rest for rest in self._rests)
        low, high = max(low, numbers[0] - before), min(high, numbers[-1] + after)
        return float(min(low, numbers[0] - 1)), float(max(high, numbers[-1] + 1))

    @cached_property
    def _rests(self) -> tuple[float, float]:
        """Distances from the outermost outlines to where the areas say that the structure ends; inf if they do not.

        Areas of an ellipsoid's slices lie on a parabola, whose ends are those of the ellipsoid.
        """
        outlined = self._outlined
        if len(outlined) >= 3:
            numbers = [*outlined]
            bend, slope, level = np.polyfit(numbers, [int((own > 0).sum()) for own in outlined.values()], 2)
            inside = slope**2 - 4 * bend * level
            if bend < 0 < inside:
                first, last = sorted((-slope + sign * np.sqrt(inside)) / (2 * bend) for sign in (-1, 1))
                return float(numbers[0] - first), float(last - numbers[-1])
        return math.inf, math.inf

    def logit(self, number: int) -> np.ndarray | None:
        """Prior logit (size, size) of a slice; None where no outline is near."""
        distance = self.distance(number)
        if distance is None:
            return None
        low, high = self.limits
        is_open = number < min(self.distances) or number > max(self.distances)
        if is_open and not low <= number <= high:
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
