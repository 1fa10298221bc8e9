"""Surfaces of contours and samples, made one by one in a thread, so that a window goes on meanwhile."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from MedSegUncertaintyLib.outputs.appearance import contour_id
from MedSegUncertaintyLib.scene.results import ResultNodes
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS

Surfaces = dict[str, Any]
"""``vtkPolyData`` by the identifier of its segment."""

ITERATIONS, PASS_BAND = 40, 0.01
"""How Slicer smooths surfaces, at its usual smoothing factor."""

_thread = ThreadPoolExecutor(1, "surfaces")


def addSurfacesInSteps(nodes: ResultNodes) -> Generator[Future[Any], None, None]:
    """Make the surfaces of all contours, which ``viewer.showContours`` then shows.

    Yields each surface that is being made, to go on once it is done.
    """
    addSurfaces(nodes.contours, (yield from makeSurfacesInSteps(nodes.contours)))


def makeSurfacesInSteps(segmentationNode: Any) -> Generator[Future[Any], None, Surfaces]:
    """Make the surfaces that the segments of a node do not have yet; :func:`addSurfaces` adds them.

    Yields each surface that is being made, to go on once it is done.
    """
    segmentation, made = segmentationNode.GetSegmentation(), {}
    for segmentId in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segmentId)
        if segment.GetRepresentation(_surfaceName()) is None:
            surface = _thread.submit(surfaceOf, *_voxels(segment))
            yield surface
            made[segmentId] = surface.result()
    return made


def addSurfaces(segmentationNode: Any, surfaces: Surfaces) -> None:
    """Give segments their surfaces, all at once: as soon as one is there, a view wants all of them."""
    with slicer.util.NodeModify(segmentationNode):
        for segmentId, surface in surfaces.items():
            segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
            if segment.GetRepresentation(_surfaceName()) is not surface:
                segment.AddRepresentation(_surfaceName(), surface)


def _voxels(segment: Any) -> tuple[np.ndarray, np.ndarray]:
    """A copy of a segment's voxels (K, J, I), 0 or 1, with a layer of 0 around them, and their way into the world.

    The matrix (4, 4) leads from their indices to the coordinates of the segmentation. No voxels for an empty segment.
    """
    labelmap = segment.GetRepresentation(slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName())
    if labelmap is None or labelmap.IsEmpty() or labelmap.GetPointData().GetScalars() is None:
        return np.zeros((0, 0, 0), np.uint8), np.eye(4)
    labels = numpy_support.vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(labelmap.GetDimensions()[::-1])
    matrix, shift = vtk.vtkMatrix4x4(), np.eye(4)
    labelmap.GetImageToWorldMatrix(matrix)
    shift[:3, 3] = np.array(labelmap.GetExtent()[::2]) - 1
    voxels = np.pad((labels == segment.GetLabelValue()).view(np.uint8), 1)
    return voxels, slicer.util.arrayFromVTKMatrix(matrix) @ shift


def surfaceOf(voxels: np.ndarray, toWorld: np.ndarray) -> vtk.vtkPolyData:
    """A smooth closed surface, as Slicer makes it by surface nets; VTK lets other threads go on meanwhile.

    Args:
        voxels: (K, J, I), uint8, 1 inside, 0 outside and at all borders.
        toWorld: (4, 4) from indices I, J, K to the coordinates of the surface.
    """
    if not voxels.any():
        return vtk.vtkPolyData()
    image, transform = vtk.vtkImageData(), vtk.vtkTransform()
    image.SetDimensions(voxels.shape[::-1])
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(voxels.ravel()))
    nets = vtk.vtkSurfaceNets3D()
    nets.SetInputData(image)
    nets.SetValue(0, 1)
    nets.SmoothingOff()
    smooth = vtk.vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(nets.GetOutputPort())
    smooth.SetNumberOfIterations(ITERATIONS)
    smooth.SetPassBand(PASS_BAND)
    smooth.BoundarySmoothingOff()
    smooth.FeatureEdgeSmoothingOff()
    smooth.NonManifoldSmoothingOn()
    smooth.NormalizeCoordinatesOn()
    transform.SetMatrix(toWorld.ravel())
    placed = vtk.vtkTransformPolyDataFilter()
    placed.SetInputConnection(smooth.GetOutputPort())
    placed.SetTransform(transform)
    placed.Update()
    return placed.GetOutput()


def areSurfacesShown(nodes: ResultNodes) -> bool:
    """Whether the contours are shown in 3D."""
    display = nodes.contours.GetDisplayNode()
    return any(display.GetSegmentVisibility3D(segmentId) for segmentId in _contourIds(nodes)) and _haveSurfaces(nodes)


def _haveSurfaces(nodes: ResultNodes) -> bool:
    segmentation = nodes.contours.GetSegmentation()
    return all(segmentation.GetSegment(one).GetRepresentation(_surfaceName()) for one in _contourIds(nodes))


def _contourIds(nodes: ResultNodes) -> list[str]:
    return [contour_id(structure, level) for structure in nodes.structures for level in CONTOUR_LEVELS]


def _surfaceName() -> str:
    return slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
