"""Surfaces of the contours, made one by one between which a window can handle its events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import slicer
import vtk

from MedSegUncertaintyLib.outputs.appearance import contour_id
from MedSegUncertaintyLib.scene.results import ResultNodes
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS


def addSurfacesInSteps(nodes: ResultNodes) -> Iterator[None]:
    """Make the surfaces of all contours, which ``viewer.showContours`` then shows. Yields after each surface."""
    segmentation = nodes.contours.GetSegmentation()
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    made = {}
    for segmentId in _contourIds(nodes):
        segment = segmentation.GetSegment(segmentId)
        if segment.GetRepresentation(surface) is None:
            made[segmentId] = _surfaceOf(segment, segmentation)
            yield
    with slicer.util.NodeModify(nodes.contours):  # as soon as one is there, a view wants all of them
        for segmentId, surfaceData in made.items():
            segmentation.GetSegment(segmentId).AddRepresentation(surface, surfaceData)


def _surfaceOf(segment: Any, segmentation: Any) -> Any:
    """The surface of one segment, made as in its segmentation."""
    labelmap = segment.GetRepresentation(slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName())
    if labelmap is None or labelmap.IsEmpty() or labelmap.GetPointData().GetScalars() is None:
        return vtk.vtkPolyData()  # the converter calls that an error
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    alone, copy = slicer.vtkSegmentation(), slicer.vtkSegment()
    alone.CopyConversionParameters(segmentation)
    copy.DeepCopy(segment)
    alone.AddSegment(copy, "alone")
    alone.CreateRepresentation(surface)
    return copy.GetRepresentation(surface)


def areSurfacesShown(nodes: ResultNodes) -> bool:
    """Whether the contours are shown in 3D."""
    display = nodes.contours.GetDisplayNode()
    return any(display.GetSegmentVisibility3D(segmentId) for segmentId in _contourIds(nodes)) and _haveSurfaces(nodes)


def _haveSurfaces(nodes: ResultNodes) -> bool:
    segmentation = nodes.contours.GetSegmentation()
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    return all(segmentation.GetSegment(one).GetRepresentation(surface) is not None for one in _contourIds(nodes))


def _contourIds(nodes: ResultNodes) -> list[str]:
    return [contour_id(structure, level) for structure in nodes.structures for level in CONTOUR_LEVELS]
