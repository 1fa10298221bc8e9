"""Single slices of segments, read without copying the whole, and voxels that are added to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.scene.segmentations import maskImage
from MedSegUncertaintyLib.volumes.geometry import Geometry

TOLERANCE = 1e-2
"""Voxels by which a segmentation may lie beside the voxels of its volume; files round."""


def segmentSlice(segmentationNode: Any, segmentId: str, geometry: Geometry, axis: int, index: int) -> np.ndarray:
    """The pixels of a segment in one slice, bool; the array (K, J, I) without the slice's axis.

    Args:
        segmentationNode: Its segments lie on the voxels of ``geometry``.
        segmentId: One of its segments.
        geometry: In the node's own coordinates.
        axis: Of IJK, perpendicular to the slice.
        index: Along it.

    Raises:
        BadInputError: The segments lie on other voxels.
    """
    arrayAxis = 2 - axis
    shape = [size for n, size in enumerate(geometry.shape_kji) if n != arrayAxis]
    pixels = np.zeros(shape, dtype=bool)
    found = _labels(segmentationNode, segmentId, geometry)
    if found is None:
        return pixels
    labels, inside, value = found
    local = index - inside[arrayAxis].start
    if 0 <= local < labels.shape[arrayAxis]:
        where = tuple(part for n, part in enumerate(inside) if n != arrayAxis)
        pixels[where] = labels.take(local, axis=arrayAxis) == value
    return pixels


def paintedIndices(segmentationNode: Any, segmentId: str, geometry: Geometry, axis: int) -> list[int]:
    """The slices along an axis of IJK in which a segment has voxels; arguments as for :func:`segmentSlice`."""
    found = _labels(segmentationNode, segmentId, geometry)
    if found is None:
        return []
    labels, inside, value = found
    arrayAxis = 2 - axis
    others = tuple(n for n in range(3) if n != arrayAxis)
    return [int(n) + inside[arrayAxis].start for n in np.flatnonzero((labels == value).any(axis=others))]


def filledIndices(segmentationNode: Any, geometry: Geometry, axis: int) -> list[int]:
    """The slices along an axis of IJK in which any segment has voxels; each layer is looked at once."""
    segmentation, arrayAxis = segmentationNode.GetSegmentation(), 2 - axis
    others = tuple(n for n in range(3) if n != arrayAxis)
    filled: set[int] = set()
    for layer in range(segmentation.GetNumberOfLayers()):
        found = _labels(segmentationNode, segmentation.GetSegmentIDsForLayer(layer)[0], geometry)
        if found is not None:
            labels, inside, _value = found
            filled |= {int(n) + inside[arrayAxis].start for n in np.flatnonzero(labels.max(axis=others))}
    return sorted(filled)


def addToSlice(
    segmentationNode: Any, segmentId: str, geometry: Geometry, axis: int, index: int, pixels: np.ndarray
) -> None:
    """Add pixels (bool) of one slice to a segment; arguments as for :func:`segmentSlice`, which gives such pixels."""
    start = [0, 0, 0]
    start[axis] = index
    addMask(segmentationNode, segmentId, geometry, np.expand_dims(pixels, 2 - axis), tuple(start))


def addMask(
    segmentationNode: Any, segmentId: str, geometry: Geometry, mask: np.ndarray, start: tuple[int, int, int]
) -> None:
    """Add voxels to a segment; nothing is taken from it or from others.

    Args:
        segmentationNode: As for :func:`segmentSlice`.
        segmentId: One of its segments.
        geometry: In the node's own coordinates.
        mask: (K, J, I) bool.
        start: Voxel (I, J, K) of the grid at which the mask begins.
    """
    if not mask.any():
        return
    image, logic = maskImage(mask, start, geometry), slicer.vtkSlicerSegmentationsModuleLogic
    extent = list(image.GetExtent())
    if not logic.SetBinaryLabelmapToSegment(image, segmentationNode, segmentId, logic.MODE_MERGE_MASK, extent):
        raise BadInputError(f"Nothing could be added to {segmentationNode.GetName()}; try again.")


def _labels(
    segmentationNode: Any, segmentId: str, geometry: Geometry
) -> tuple[np.ndarray, tuple[slice, slice, slice], int] | None:
    """A view of the part of a segment's layer that lies in a grid, where that is (K, J, I), and the segment's value."""
    image = segmentationNode.GetBinaryLabelmapInternalRepresentation(segmentId)
    if image is None or image.IsEmpty() or image.GetPointData().GetScalars() is None:
        return None
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    toGrid = np.linalg.inv(geometry.ijk_to_ras) @ slicer.util.arrayFromVTKMatrix(matrix)
    reach = max(geometry.shape_ijk)
    moved = toGrid[:3, 3] - np.rint(toGrid[:3, 3])
    if np.abs(toGrid[:3, :3] - np.eye(3)).max() * reach > TOLERANCE or np.abs(moved).max() > TOLERANCE:
        raise BadInputError(
            f"The segments of {segmentationNode.GetName()} lie on other voxels than those of its volume; set the "
            "segmentation geometry back to that of the volume."
        )
    offset = np.rint(toGrid[:3, 3]).astype(int)
    extent = np.reshape(image.GetExtent(), (3, 2))
    start, stop = extent[:, 0] + offset, extent[:, 1] + offset + 1
    low, high = np.maximum(start, 0), np.minimum(stop, geometry.shape_ijk)
    if not np.all(high > low):
        return None
    labels = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    inside = tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))
    ofImage = tuple(slice(int(a), int(b)) for a, b in zip((low - start)[::-1], (high - start)[::-1], strict=True))
    value = segmentationNode.GetSegmentation().GetSegment(segmentId).GetLabelValue()
    return labels[ofImage], inside, value
