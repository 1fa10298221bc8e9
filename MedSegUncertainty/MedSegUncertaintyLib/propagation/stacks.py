"""A volume as a stack of slices in one plane, always turned the same way, with intensities from 0 to 1.

Examples and query take the same way, which is that of UniverSeg's training: intensities are scaled over the volume,
never per slice, and pixels are laid out in mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.geometry import RegionOfInterest, Volume
from MedSegUncertaintyLib.volumes.intensity import IntensityRule, apply
from MedSegUncertaintyLib.volumes.placement import GridRule, Placement

PLANES = {"axial": "LPS", "coronal": "LSP", "sagittal": "PSL"}
"""Where columns, rows and slices of a stack count up to, by the plane of the slices."""
AIR_HU = -500.0
"""Images with darker voxels are taken for CT."""
WIDE_HU = (-500.0, 1000.0)
"""UniverSeg's window for CT (MegaMedical, the authors' code)."""
SOFT_TISSUE_HU = (-160.0, 240.0)
PERCENTILES = IntensityRule("percentiles", 0.5, 99.5)
LONGEST_PIXEL = 6.0
"""Slices whose pixels are longer than this many times their width belong to another plane."""


@dataclass(frozen=True)
class Stack:
    """The slices of a volume in one plane.

    Attributes:
        images: (slices, rows, columns) float32, 0 to 1.
        placement: From the volume's grid to that of the slices, and back.
        name: What the user calls the volume.
        window: Intensities that became 0 and 1 in CT; None elsewhere.
    """

    images: np.ndarray
    placement: Placement
    name: str
    window: tuple[float, float] | None

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Distance of rows and of columns."""
        columns, rows, _ = self.placement.model.spacing
        return float(rows), float(columns)

    @property
    def slice_mm(self) -> float:
        """Distance of slices."""
        return float(self.placement.model.spacing[2])

    @property
    def axis(self) -> int:
        """Array axis (0: K, 1: J, 2: I) of the volume that the slices are perpendicular to."""
        return 2 - int(np.abs(self._steps[:, 2]).argmax())

    def slice_of(self, index: int) -> int:
        """Number in the stack of a slice of the volume, counted from 0 along its voxel axis; may lie outside."""
        first = self.placement.box.start_ijk[2 - self.axis]
        count = len(self.images)
        return index - first if self._steps[2 - self.axis, 2] > 0 else count - 1 - (index - first)

    def index_of(self, number: int) -> int:
        """Inverse of :meth:`slice_of`."""
        first = self.placement.box.start_ijk[2 - self.axis]
        return first + (number if self._steps[2 - self.axis, 2] > 0 else len(self.images) - 1 - number)

    def on_volume(self, number: int, labels: np.ndarray) -> np.ndarray:
        """Labels of a slice as the volume has them: over its whole extent, 0 outside of the region that is looked at.

        Args:
            number: Of the slice.
            labels: (rows, columns), 0 is background.

        Returns:
            Same type, along the two array axes of the volume other than :attr:`axis`, in order.
        """
        axis, box, steps = self.axis, self.placement.box.slices_kji, self._steps
        dims = [2 - int(np.abs(steps[:, own]).argmax()) for own in (1, 0)]
        signs = [1 if steps[2 - dim, own] > 0 else -1 for dim, own in zip(dims, (1, 0), strict=True)]
        turned = labels[:: signs[0], :: signs[1]]
        if dims[0] > dims[1]:
            turned = turned.T
        if self.placement.inside_roi is not None:
            turned = turned * np.take(self.placement.inside_roi, self.index_of(number) - box[axis].start, axis=axis)
        others = [dim for dim in range(3) if dim != axis]
        whole = np.zeros([self.placement.input.shape_kji[dim] for dim in others], labels.dtype)
        whole[tuple(box[dim] for dim in others)] = turned
        return whole

    @property
    def _steps(self) -> np.ndarray:
        return np.linalg.inv(self.placement.input.ijk_to_ras[:3, :3]) @ self.placement.model.ijk_to_ras[:3, :3]


def make_stack(
    volume: Volume, plane: str, examples: np.ndarray | None = None, roi: RegionOfInterest | None = None
) -> Stack:
    """Slices of a volume.

    Args:
        volume: The image.
        plane: A key of :data:`PLANES`.
        examples: Voxels that were outlined, bool (K, J, I): where they are soft tissue, CT is shown in its window.
        roi: Box to look at; None for all.

    Raises:
        BadInputError: Slices of this volume in this plane are of no use, or the region holds no voxel.
    """
    placement = Placement.plan(volume.geometry, GridRule(None, PLANES[plane]), roi)
    window = ct_window(volume.array, examples)
    rule = PERCENTILES if window is None else IntensityRule("window", *window)
    scaled = Volume(apply(volume.array, rule).clip(0.0, 1.0), volume.geometry, volume.name)
    stack = Stack(placement.to_model(scaled), placement, volume.name, window)
    if max(stack.pixel_mm) > LONGEST_PIXEL * min(stack.pixel_mm):
        rows, columns = stack.pixel_mm
        raise BadInputError(
            f"The {plane} slices of '{volume.name}' have pixels of {rows:.3g} x {columns:.3g} mm; choose the plane in "
            "which the image was acquired."
        )
    return stack


def ct_window(array: np.ndarray, examples: np.ndarray | None) -> tuple[float, float] | None:
    """Window for an image in HU; None if it is none.

    Args:
        array: (K, J, I).
        examples: Outlined voxels, bool (K, J, I).
    """
    if array.min() >= AIR_HU:
        return None
    if examples is None or not examples.any():
        return WIDE_HU
    low, high = np.percentile(array[examples], (10, 90))
    return SOFT_TISSUE_HU if low > SOFT_TISSUE_HU[0] and high < SOFT_TISSUE_HU[1] else WIDE_HU
