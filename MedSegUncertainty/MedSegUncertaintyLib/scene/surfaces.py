"""Surfaces of contours and samples, made one by one between which a window can handle its events."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import slicer
import vtk

from MedSegUncertaintyLib.outputs.appearance import contour_id
from MedSegUncertaintyLib.scene.results import ResultNodes
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS

Surfaces = dict[str, Any]
"""``vtkPolyData`` by the identifier of its segment."""


def addSurfacesInSteps(nodes: ResultNodes) -> Generator[None, None, None]:
    """Make the surfaces of all contours, which ``viewer.showContours`` then shows. Yields after each surface."""
    addSurfaces(nodes.contours, (yield from makeSurfacesInSteps(nodes.contours)))


def makeSurfacesInSteps(segmentationNode: Any) -> Generator[None, None, Surfaces]:
    """Make the surfaces that the segments of a node do not have yet; :func:`addSurfaces` adds them.

    Yields after each surface.
    """
    segmentation, made = segmentationNode.GetSegmentation(), {}
    for segmentId in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segmentId)
        if segment.GetRepresentation(_surfaceName()) is None:
            made[segmentId] = _surfaceOf(segment, segmentation)
            yield
    return made


def addSurfaces(segmentationNode: Any, surfaces: Surfaces) -> None:
    """Give segments their surfaces, all at once: as soon as one is there, a view wants all of them."""
    with slicer.util.NodeModify(segmentationNode):
        for segmentId, surface in surfaces.items():
            segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
            if segment.GetRepresentation(_surfaceName()) is not surface:
                segment.AddRepresentation(_surfaceName(), surface)


def _surfaceOf(segment: Any, segmentation: Any) -> Any:
    """The surface of one segment, made as in its segmentation."""
    labelmap = segment.GetRepresentation(slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName())
    if labelmap is None or labelmap.IsEmpty() or labelmap.GetPointData().GetScalars() is None:
        return vtk.vtkPolyData()  # the converter calls that an error
    alone, copy = slicer.vtkSegmentation(), slicer.vtkSegment()
    alone.CopyConversionParameters(segmentation)
    copy.DeepCopy(segment)
    alone.AddSegment(copy, "alone")
    alone.CreateRepresentation(_surfaceName())
    return copy.GetRepresentation(_surfaceName())


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
