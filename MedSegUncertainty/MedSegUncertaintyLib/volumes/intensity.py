"""How intensities are mapped: before the network over the whole volume, never per slice; and to gray for pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from MedSegUncertaintyLib.errors import BadInputError

_KINDS = {"window": True, "percentiles": True, "range": False, "zscore": False, "zscore_brats": False}
"""Every kind of rule, and whether it takes the numbers low and high."""


@dataclass(frozen=True)
class IntensityRule:
    """One way to map intensities.

    Attributes:
        kind: "window": [low, high] to [0, 1], clipped. "percentiles": the same between the low and the high percentile
            of the positive voxels. "range": the smallest value to 0, the largest to 1. "zscore": clipped to the 0.5 and
            99.5 percentile of the positive voxels, then mean 0 and SD 1 over the positive voxels. "zscore_brats": see
            :func:`zscore_brats`.
        low: In the image's unit ("window") or in percent ("percentiles"), else None.
        high: Likewise.

    Raises:
        ValueError: The kind is unknown or the numbers do not fit it; packages say so with file and field.
    """

    kind: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"the intensity rule '{self.kind}' is not one of {', '.join(_KINDS)}")
        if not _KINDS[self.kind]:
            if (self.low, self.high) != (None, None):
                raise ValueError(f"the intensity rule '{self.kind}' takes neither low nor high")
            return
        low, high = self.bounds
        if not -np.inf < low < high < np.inf or (self.kind == "percentiles" and not 0 <= low < high <= 100):
            raise ValueError(f"the intensity rule '{self.kind}' cannot use low {low:g} and high {high:g}")

    @property
    def bounds(self) -> tuple[float, float]:
        """Low and high of a rule that takes them."""
        if not isinstance(self.low, int | float) or not isinstance(self.high, int | float):
            raise ValueError(f"the intensity rule '{self.kind}' needs the numbers low and high")
        return float(self.low), float(self.high)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"kind": self.kind} | ({"low": self.low, "high": self.high} if _KINDS[self.kind] else {})

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> IntensityRule:
        """Inverse of :meth:`to_json`.

        Raises:
            KeyError: The kind is missing.
            ValueError: The kind is unknown, or a number is missing or left over.
        """
        if unknown := sorted(data.keys() - {"kind", "low", "high"}):
            raise ValueError(f"the intensity rule has the unknown field {unknown[0]}")
        return cls(data["kind"], data.get("low"), data.get("high"))


def apply(array: np.ndarray, rule: IntensityRule) -> np.ndarray:
    """Map the intensities of a whole volume.

    Args:
        array: Any shape and real type, finite.
        rule: What to do.

    Returns:
        float32, the same shape.

    Raises:
        BadInputError: All voxels have one value, or a rule about positive voxels finds none.
    """
    if rule.kind == "zscore_brats":
        return zscore_brats(array).astype(np.float32)
    if rule.kind == "window":
        low, high = rule.bounds
    elif rule.kind == "range":
        low, high = float(array.min()), float(array.max())
        if low == high:
            raise BadInputError(f"All voxels have the value {low:g}; choose an image with contrast.")
    else:
        low, high = _percentiles(array, array > 0, *(rule.bounds if rule.kind == "percentiles" else (0.5, 99.5)))
    clipped = np.clip(array.astype(np.float64, copy=False), low, high)
    if rule.kind == "zscore":
        inside = clipped[array > 0]
        low, high = inside.mean(), inside.mean() + inside.std()
    return ((clipped - low) / (high - low)).astype(np.float32)


def zscore_brats(channel: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Normalize one MR channel like SSN's BraTS recipe (Monteiro et al. 2020, ``preprocessing.py``).

    Mean and SD come from the brain voxels that lie strictly between the 5th and the 95th percentile of the brain and
    above the mean of the whole image; every voxel is shifted and scaled, the background too, and none is clipped.

    Args:
        channel: Any shape and real type.
        mask: bool, the brain; default: the positive voxels.

    Returns:
        float64, the same shape.

    Raises:
        BadInputError: No brain voxels are left, or they all have one value.
    """
    values = channel.astype(np.float64, copy=False)
    brain = values > 0 if mask is None else mask.astype(bool)
    low, high = _percentiles(values, brain, 5, 95)
    typical = values[brain & (values > low) & (values < high) & (values > values.mean())]
    if typical.size == 0 or typical.std() == 0:
        raise BadInputError(
            "The image has no spread of brain intensities above its mean; remove outliers from it first."
        )
    return (values - typical.mean()) / typical.std()


def gray_window(voxels: np.ndarray, rule: IntensityRule | None = None) -> tuple[float, float]:
    """Values that a picture shows as black and white: those of the model's window, otherwise all but the rarest.

    Args:
        voxels: Those that the picture shows, any shape.
        rule: How the model maps the intensities.
    """
    if rule is not None and rule.kind == "window":
        return rule.bounds
    low, high = np.percentile(voxels, (0.5, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _percentiles(array: np.ndarray, region: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Two different percentiles of the voxels of a region."""
    voxels = array[region]
    if voxels.size == 0:
        raise BadInputError("The image has no voxels above 0, which the model needs to scale intensities; shift it.")
    lower, upper = (float(value) for value in np.percentile(voxels, (low, high)))
    if not lower < upper:
        raise BadInputError(f"Nearly all voxels above 0 have the value {lower:g}; choose an image with contrast.")
    return lower, upper
