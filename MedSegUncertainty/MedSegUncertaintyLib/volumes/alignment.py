"""Further images of the same patient, each on a grid of its own, brought onto the model's grid.

An image on the grid of the first one takes the same way as that, :meth:`Placement.to_model`, and keeps its bits. Any
other is interpolated once, from its own voxels straight to the model's: its axes need not be parallel to them.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from MedSegUncertaintyLib.volumes.geometry import Box, Geometry, Volume
from MedSegUncertaintyLib.volumes.itk import image_to_sitk, sitk_grid
from MedSegUncertaintyLib.volumes.placement import Placement, gaussian


def to_model(placement: Placement, volume: Volume) -> np.ndarray:
    """Resample an image on any grid onto the model's grid, float32 (*model.shape_kji).

    Interpolation is linear. Where the model's voxels are larger the image is smoothed first, as in
    :meth:`Placement.to_model`. Outside of the image is its lowest value: what a scanner measures where nobody is.

    Args:
        placement: Lays the model's grid into the first image.
        volume: The further image.
    """
    if volume.geometry.matches(placement.input):
        return placement.to_model(volume)
    sigma = np.maximum(0.0, (_steps(placement.model, volume.geometry) - 1) / 2)
    part = _needed(volume.geometry, placement.model, np.ceil(4 * sigma) + 1)
    image = image_to_sitk(volume.array[part.slices_kji].astype(np.float32), volume.geometry.cropped(part))
    for axis in np.flatnonzero(sigma):
        weights = np.array([weight for _, weight in gaussian(sigma[axis])], dtype=np.float32)
        kernel = weights.reshape([-1 if dim == 2 - axis else 1 for dim in range(3)])
        image = sitk.Convolution(image, sitk.GetImageFromArray(kernel))  # beyond its edge the image is repeated
    origin, spacing, direction = sitk_grid(placement.model)
    resampled = sitk.Resample(
        image,
        placement.model.shape_ijk,
        sitk.Transform(),
        sitk.sitkLinear,
        origin,
        spacing,
        direction,
        float(volume.array.min()),
    )
    return sitk.GetArrayFromImage(resampled)


def covered_share(geometry: Geometry, other: Geometry) -> float:
    """Share of the voxels of a grid whose center lies inside of another grid's voxels, 0 to 1."""
    to_other = np.linalg.inv(other.ijk_to_ras) @ geometry.ijk_to_ras
    size_i, size_j, size_k = geometry.shape_ijk
    j, i = np.ogrid[:size_j, :size_i]
    count = 0
    for k in range(size_k):  # slice by slice, so that nothing of the volume's size is needed
        inside = np.ones((size_j, size_i), dtype=bool)
        for (along_i, along_j, along_k, start), size in zip(to_other[:3], other.shape_ijk, strict=True):
            index = start + along_k * k + along_j * j + along_i * i
            inside &= (index >= -0.5) & (index <= size - 0.5)
        count += int(np.count_nonzero(inside))
    return count / (size_i * size_j * size_k)


def _steps(geometry: Geometry, other: Geometry) -> np.ndarray:
    """How many voxels of ``other`` one voxel of ``geometry`` spans along the I, J and K axis of ``other``."""
    return np.linalg.norm(np.linalg.inv(other.ijk_to_ras[:3, :3]) @ geometry.ijk_to_ras[:3, :3], axis=1)


def _needed(geometry: Geometry, target: Geometry, margin: np.ndarray) -> Box:
    """The voxels of a grid that interpolation on another one uses, and ``margin`` more around them; at least one."""
    places = geometry.to_ijk(target.corners_ras)
    most = np.array(geometry.shape_ijk)
    start = np.clip(np.floor(places.min(axis=0) - margin), 0, most - 1).astype(int)
    stop = np.clip(np.ceil(places.max(axis=0) + margin) + 1, start + 1, most).astype(int)
    return Box(tuple(start.tolist()), tuple(stop.tolist()))
