"""The median sample and the two that differ most, side by side in slices that move together."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.outputs.appearance import contour_id, sample_id
from MedSegUncertaintyLib.scene.folder import ROLE, nodesOfClass
from MedSegUncertaintyLib.scene.overlay import showLastOverlay, shownOverlay
from MedSegUncertaintyLib.scene.places import jumpToSlice, toWorld
from MedSegUncertaintyLib.scene.results import ResultNodes, findResults
from MedSegUncertaintyLib.scene.segmentations import OUTER, segmentMask, showOutlines
from MedSegUncertaintyLib.uncertainty.samples import bounding_slices
from MedSegUncertaintyLib.volumes.geometry import Box

LAYOUT = 5731
"""Number of the layout; Slicer's own are below 100, and 500 and up are for others."""
VIEW_GROUP = 5731
"""Views of one group move together; the other slice views stay where they are."""
VIEWS = {
    "median": ("MedSegUncertaintyMedian", "M", "#4A4A4A"),
    "first": ("MedSegUncertaintyFirst", "1", "#6D5A33"),
    "second": ("MedSegUncertaintySecond", "2", "#33586D"),
}
"""Name, label and color of the view of each representative sample."""

BEFORE, SHOWN = "layout", "shown."
"""Parameters: the layout that was there before, and which segmentations were visible."""
HIDDEN = ("contours", "samples", "selected")
"""Segmentations of the result that would cover the single samples."""
COMPARED = "compared."
"""Start of the role of display nodes that show one sample in one view; the view follows.

They stay with the samples: Slicer's 3D views remember a display node that was removed before its segmentation, and end
the process when that segmentation is next saved.
"""
MARGIN = 1.1
CONTEXT_MM = 10.0
"""What a small structure is seen in."""


def registerLayout(scene: Any) -> Any:
    """Make the layout known to Slicer, which does not keep it in scenes; to be called when the module starts.

    Returns:
        The layout node.

    Raises:
        BadInputError: There are no views.
    """
    layoutNode = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if layoutNode is None:
        raise BadInputError("Samples can only be compared where there are views; open the scene in 3D Slicer.")
    if not layoutNode.IsLayoutDescription(LAYOUT):
        views = "".join(
            f'<item><view class="vtkMRMLSliceNode" singletontag="{name}">'
            '<property name="orientation" action="default">Axial</property>'
            f'<property name="viewlabel" action="default">{label}</property>'
            f'<property name="viewcolor" action="default">{color}</property>'
            f'<property name="viewgroup" action="default">{VIEW_GROUP}</property></view></item>'
            for name, label, color in VIEWS.values()
        )
        layoutNode.AddLayoutDescription(LAYOUT, f'<layout type="horizontal" split="true">{views}</layout>')
    return layoutNode


def representatives(nodes: ResultNodes) -> dict[str, int]:
    """Numbers, from 0, of the "median" sample and of the "first" and "second" of the two that differ most."""
    chosen = nodes.run["summary"]["representatives"]
    first, second = chosen["most_different_samples"]
    return {"median": chosen["median_sample"] - 1, "first": first - 1, "second": second - 1}


def compareSamples(nodes: ResultNodes, plane: str = "Axial") -> dict[str, int]:
    """Show the representative samples side by side, at the slice where the samples differ most.

    Args:
        nodes: The result; it needs its input volume.
        plane: "Axial", "Coronal" or "Sagittal".

    Returns:
        What :func:`representatives` says, for a label beside the views.

    Raises:
        BadInputError: There are no views, or the segmented volume is gone. The views are as before.
    """
    layoutNode, volumeNode = registerLayout(nodes.scene), nodes.inputVolume
    if volumeNode is None:
        raise BadInputError("The segmented volume is no longer in the scene; load it, or segment it again.")
    for other in findResults(nodes.scene):
        leaveComparison(other)
    nodes.viewer.SetParameter(BEFORE, str(layoutNode.GetViewArrangement()))
    for role in HIDDEN:
        display = nodes.byRole[role].GetDisplayNode()
        nodes.viewer.SetParameter(SHOWN + role, str(display.GetVisibility()))
        display.SetVisibility(False)
    layoutNode.SetViewArrangement(LAYOUT)
    chosen = representatives(nodes)
    for view, sample in chosen.items():
        sliceNode = nodes.scene.GetSingletonNode(VIEWS[view][0], "vtkMRMLSliceNode")
        sliceNode.SetOrientation(plane)
        _prepareLayers(sliceNode, volumeNode)
        _showAlone(nodes, sample, sliceNode)
    frameViews(nodes, plane)
    if shownOverlay(nodes) is not None:
        showLastOverlay(nodes)  # also in these views
    return chosen


def frameViews(nodes: ResultNodes, plane: str) -> None:
    """Zoom the views to what was segmented, at the slice where the samples differ most.

    To be called again once new views have their sizes.
    """
    for name, _, _ in VIEWS.values():
        showRegion(nodes, nodes.scene.GetSingletonNode(name, "vtkMRMLSliceNode"))
    jumpToSlice(nodes, plane)


def isComparing(nodes: ResultNodes) -> bool:
    """Whether the representatives of this result are side by side."""
    return bool(nodes.viewer.GetParameter(BEFORE))


def leaveComparison(nodes: ResultNodes) -> None:
    """Go back to the layout and the segmentations that were shown before; nothing happens if they still are."""
    if not isComparing(nodes):
        return
    for display in _displayNodes(nodes.samples).values():
        display.SetVisibility(False)
    for role in HIDDEN:
        nodes.byRole[role].GetDisplayNode().SetVisibility(int(nodes.viewer.GetParameter(SHOWN + role)))
    for name, _, _ in VIEWS.values():
        composite = _compositeOf(nodes.scene, name)
        composite.SetBackgroundVolumeID(None)
        composite.SetForegroundVolumeID(None)
    layoutNode = nodes.scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if layoutNode is not None and layoutNode.GetViewArrangement() == LAYOUT:
        layoutNode.SetViewArrangement(int(nodes.viewer.GetParameter(BEFORE)))
    nodes.viewer.UnsetParameter(BEFORE)


def showRegion(nodes: ResultNodes, sliceNode: Any) -> None:
    """Zoom a slice view to the part of the volume that was segmented, with a margin."""
    _frame(sliceNode, toWorld(nodes, nodes.grid.corners_ras))


def showStructureInAllSlices(nodes: ResultNodes, structure: Structure) -> None:
    """Zoom all slice views to what the outermost contour of a structure holds; they go on cutting through it.

    The part of the volume that was segmented may be all of it, and is shown only where there is no contour.
    """
    box = bounding_slices(segmentMask(nodes.contours, contour_id(structure, OUTER), nodes.grid))
    i, j, k = ((part.start, part.stop) for part in reversed(box))
    found = Box((i[0], j[0], k[0]), (i[1], j[1], k[1]))
    grid, around = (nodes.grid.cropped(found), CONTEXT_MM) if all(found.shape_ijk) else (nodes.grid, 0.0)
    for sliceNode in nodesOfClass(nodes.scene, "vtkMRMLSliceNode"):
        _frame(sliceNode, toWorld(nodes, grid.corners_ras), around)


def _frame(sliceNode: Any, points: np.ndarray, around: float = 0.0) -> None:
    """Zoom a slice view to points (N, 3) in the world and what lies ``around`` them (mm), with a margin."""
    axes = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())[:3, :3]
    corners = points @ axes
    columns, rows, _ = sliceNode.GetDimensions()
    width, height, _ = np.ptp(corners, axis=0) + 2 * around
    wide = MARGIN * max(width, height * columns / max(rows, 1))
    sliceNode.SetFieldOfView(wide, wide * rows / max(columns, 1), sliceNode.GetFieldOfView()[2])
    sliceNode.JumpSliceByCentering(*(axes @ ((corners.min(axis=0) + corners.max(axis=0)) / 2)))


def _prepareLayers(sliceNode: Any, volumeNode: Any) -> None:
    composite = _compositeOf(sliceNode.GetScene(), sliceNode.GetLayoutName())
    composite.SetBackgroundVolumeID(volumeNode.GetID())
    composite.SetLinkedControl(True)
    composite.SetHotLinkedControl(True)


def _compositeOf(scene: Any, view: str) -> Any:
    """The layers of a view; made here where no view has made them yet, which then takes them over."""
    name = "vtkMRMLSliceCompositeNode"
    for n in range(scene.GetNumberOfNodesByClass(name)):
        composite = scene.GetNthNodeByClass(n, name)
        if composite.GetLayoutName() == view:
            return composite
    composite = slicer.vtkMRMLSliceCompositeNode()
    composite.SetLayoutName(view)
    composite.SetSingletonTag(view)
    return scene.AddNode(composite)


def _showAlone(nodes: ResultNodes, sample: int, sliceNode: Any) -> None:
    """Outlines of one sample in one view, in the plain colors of the structures."""
    view = sliceNode.GetLayoutName()
    display = _displayNodes(nodes.samples).get(view)
    if display is None:
        display = slicer.vtkMRMLSegmentationDisplayNode()
        display.SetName(f"Compared in {view}")
        display.SetAttribute(ROLE, COMPARED + view)
        display.AddViewNodeID(sliceNode.GetID())
        display.SetVisibility3D(False)
        display.SetVisibility(False)  # or all views would draw all samples once
        nodes.scene.AddNode(display)
        nodes.samples.AddAndObserveDisplayNodeID(display.GetID())
    with slicer.util.NodeModify(display):
        display.SetAllSegmentsVisibility(False)
        for structure in nodes.structures:
            segment = sample_id(sample, structure)
            display.SetSegmentVisibility(segment, True)
            display.SetSegmentOverrideColor(segment, *structure.color)
        showOutlines(display, thickness=2, opacity=1.0)
        display.SetVisibility(True)


def _displayNodes(node: Any) -> dict[str, Any]:
    """The display nodes of single samples by the view they are for."""
    found = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    roles = ((display.GetAttribute(ROLE) or "", display) for display in found)
    return {role.removeprefix(COMPARED): display for role, display in roles if role.startswith(COMPARED)}
