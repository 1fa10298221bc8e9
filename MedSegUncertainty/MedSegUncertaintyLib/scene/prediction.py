"""What was found by example, in a segmentation of its own that changes slice by slice.

All structures share one layer that covers the whole volume, so that a slice is written where it lies and nothing is
built anew. What the user painted is another segmentation and is never written to from here, but for what
:func:`acceptSlices` is asked to copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import slicer
from vtk.util import numpy_support

from MedSegUncertaintyLib.scene.segment_slices import addMask, filledIndices, paintedIndices, segmentSlice
from MedSegUncertaintyLib.scene.supports import PREDICTED, Supports

FILL_OPACITY, OUTLINE_OPACITY, OUTLINE_PIXELS = 0.25, 0.9, 1
"""Calmer than what was painted, which is drawn with Slicer's own defaults."""


def predictionOf(supports: Supports) -> Any | None:
    """The segmentation of what was found; None before the first time."""
    return supports.node(PREDICTED)


def writeSlices(
    supports: Supports, segmentIds: Sequence[str], axis: int, indices: Sequence[int], labels: np.ndarray
) -> None:
    """Put slices into the prediction, which is made when there is none.

    Args:
        supports: What they were found for.
        segmentIds: Ids of the structures that the labels 1, 2 and so on stand for.
        axis: Array axis (0: K, 1: J, 2: I) that the slices are perpendicular to.
        indices: Where they lie along it.
        labels: uint8 (n, the other two array axes in order).
    """
    node = predictionOf(supports) or _addPrediction(supports)
    array, image = _layer(supports, node)
    values = np.zeros(256, np.uint8)  # a structure that has gone since becomes background
    segmentation = node.GetSegmentation()
    for label, segmentId in enumerate(segmentIds, start=1):
        segment = segmentation.GetSegment(segmentId)
        values[label] = 0 if segment is None else segment.GetLabelValue()
    np.moveaxis(array, axis, 0)[list(indices)] = values[labels]
    _changed(node, image)


def clearPrediction(supports: Supports) -> None:
    """Take everything out of the prediction."""
    node = predictionOf(supports)
    if node is not None:
        array, image = _layer(supports, node)
        array[:] = 0
        _changed(node, image)


def predictedIndices(supports: Supports, plane: str) -> list[int]:
    """The slices of a plane in which anything was found."""
    node = predictionOf(supports)
    if node is None:
        return []
    return filledIndices(node, supports.grid, supports.axis(plane))


def acceptSlices(supports: Supports, target: Any, plane: str, indices: Iterable[int]) -> list[int]:
    """Copy what was found in some slices into a segmentation, by the names of structures.

    A slice in which the target has any voxel already stays as it is. To undo it, save the target's state before.

    Args:
        supports: The set.
        target: Segmentation node on the voxels of the volume; the painted one or another.
        plane: In which the slices lie.
        indices: Which slices.

    Returns:
        The slices that were copied.

    Raises:
        BadInputError: The target lies on other voxels.
    """
    node, grid, axis = predictionOf(supports), supports.grid, supports.axis(plane)
    if node is None:
        return []
    wanted = sorted(set(indices) & set(predictedIndices(supports, plane)) - set(filledIndices(target, grid, axis)))
    if not wanted:
        return []
    array, _image = _layer(supports, node)
    chosen = np.moveaxis(array, 2 - axis, 0)
    first, last = wanted[0], wanted[-1]
    part = np.zeros((last - first + 1, *chosen.shape[1:]), np.uint8)
    part[np.array(wanted) - first] = chosen[wanted]
    part, start = np.moveaxis(part, 0, 2 - axis), [0, 0, 0]
    start[axis] = first
    for segmentId in node.GetSegmentation().GetSegmentIDs():
        segment = node.GetSegmentation().GetSegment(segmentId)
        mask = part == segment.GetLabelValue()
        if mask.any():
            addMask(target, _segmentLike(target, segment), grid, mask, tuple(start))
    return wanted


def addSegmentation(supports: Supports, name: str) -> Any:
    """A new segmentation on the voxels of the volume, for what is accepted."""
    volumeNode, scene = supports.volumeNode, supports.painted.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    return node


def _segmentLike(target: Any, segment: Any) -> str:
    """Id of the segment of a name, added with name and color if there is none."""
    segmentation = target.GetSegmentation()
    own = segmentation.GetSegmentIdBySegmentName(segment.GetName())
    return own or segmentation.AddEmptySegment("", segment.GetName(), segment.GetColor())


def _changed(node: Any, image: Any) -> None:
    """Let views paint anew; they do not for the voxels alone."""
    image.GetPointData().GetScalars().Modified()
    image.Modified()
    if node.GetDisplayNode() is not None:
        node.GetDisplayNode().Modified()


def _addPrediction(supports: Supports) -> Any:
    node = supports.addNode("vtkMRMLSegmentationNode", "predicted", PREDICTED)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(supports.volumeNode)
    display = node.GetDisplayNode()
    display.SetOpacity2DFill(FILL_OPACITY)
    display.SetOpacity2DOutline(OUTLINE_OPACITY)
    display.SetSliceIntersectionThickness(OUTLINE_PIXELS)
    display.SetVisibility3D(False)
    return node


def _layer(supports: Supports, node: Any) -> tuple[np.ndarray, Any]:
    """The layer of all structures (K, J, I) of the whole volume, to be written to, and the image that holds it."""
    node.SetAndObserveTransformNodeID(supports.volumeNode.GetTransformNodeID())
    image = _sharedImage(supports, node)
    _followStructures(supports, node, image)
    return numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(supports.grid.shape_kji), image


def _sharedImage(supports: Supports, node: Any) -> Any:
    """The image of all segments; made, with what they hold, where there is none or it was cropped by saving."""
    grid, segmentation = supports.grid, node.GetSegmentation()
    ids = list(segmentation.GetSegmentIDs())
    images = [node.GetBinaryLabelmapInternalRepresentation(one) for one in ids]
    whole = (0, grid.shape_ijk[0] - 1, 0, grid.shape_ijk[1] - 1, 0, grid.shape_ijk[2] - 1)
    if images and all(image is images[0] for image in images) and tuple(images[0].GetExtent()) == whole:
        return images[0]
    array = np.zeros(grid.shape_kji, np.uint8)
    for value, one in enumerate(ids, start=1):
        for index in paintedIndices(node, one, grid, 2):
            array[index][segmentSlice(node, one, grid, 2, index)] = value
    image = slicer.vtkOrientedImageData()
    image.SetExtent(*whole)
    scalars = numpy_support.numpy_to_vtk(array.ravel(), deep=True)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(grid.ijk_to_ras))
    for value, one in enumerate(ids, start=1):
        segment = segmentation.GetSegment(one)
        segment.SetLabelValue(value)
        segment.AddRepresentation(_binary(), image)
    return image


def _followStructures(supports: Supports, node: Any, image: Any) -> None:
    """A segment for each structure, with its name and color; those of removed structures go."""
    segmentation, painted = node.GetSegmentation(), supports.painted.GetSegmentation()
    for one in list(segmentation.GetSegmentIDs()):
        if painted.GetSegment(one) is None:
            value = segmentation.GetSegment(one).GetLabelValue()
            array = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
            array[array == value] = 0
            segmentation.RemoveSegment(one)
    for one in supports.segmentIds:
        model, segment = painted.GetSegment(one), segmentation.GetSegment(one)
        if segment is None:
            taken = [segmentation.GetSegment(other).GetLabelValue() for other in segmentation.GetSegmentIDs()]
            segment = slicer.vtkSegment()
            segment.SetLabelValue(max(taken, default=0) + 1)
            segment.AddRepresentation(_binary(), image)
            segmentation.AddSegment(segment, one)
        segment.SetName(model.GetName())
        segment.SetColor(model.GetColor())


def _binary() -> str:
    return slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
