"""Pictures of a result, rendered as Slicer's views would show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer
import vtk

from MedSegUncertaintyLib.scene.annotations import annotateSlice
from MedSegUncertaintyLib.scene.grids import setGrid, worldGeometry
from MedSegUncertaintyLib.scene.maps import MAP_KINDS, addLegend, showOnScale
from MedSegUncertaintyLib.scene.places import PLANES
from MedSegUncertaintyLib.scene.rendering import SliceView, ThreeDView
from MedSegUncertaintyLib.scene.results import ResultNodes
from MedSegUncertaintyLib.volumes.intensity import gray_window

HEAT = "variance"
HEAT_OPACITY = 0.8
MARGIN = 1.1
LEGEND_WIDTH = 150
LEGEND_SHARE = (0.33, 0.6)
"""Width and height of the bar with its labels; the size of the text, title included, follows from the width."""
FAR_AWAY_MM = 1e5
BACKGROUND = (0.16, 0.17, 0.2)
VIEW = "MedSegUncertainty"
FRONT_LEFT = (-0.6, 1.0, 0.35)


def renderSlicePictures(
    volumeNode: Any,
    nodes: ResultNodes,
    planes: Mapping[str, Sequence[float]],
    size: tuple[int, int] = (600, 600),
    window: tuple[float, float] | None = None,
) -> dict[tuple[str, str], np.ndarray]:
    """Pictures of slices through a result, zoomed to the part of the volume that was segmented.

    Args:
        volumeNode: The segmented volume.
        nodes: Its result, with maps of the variance.
        planes: "Axial", "Sagittal", "Coronal", each with a point (RAS, mm) that the slice goes through.
        size: Columns and rows of a picture.
        window: Values of the volume shown as black and white; None for the volume's own window if it was set by hand,
            else all but the rarest values of the part that was segmented.

    Returns:
        RGB pictures (rows, columns, 3) of uint8 by kind and plane. Kinds: "image", the volume alone; "outlines", with
        all samples and the 5, 50 and 95 % contours; "heat", with the largest variance of any structure and a legend
        to the right of the slice.
    """
    pictures = {}
    corners = _worldCorners(nodes)
    scene, segmentations = volumeNode.GetScene(), (nodes.samples, nodes.contours)
    with _hiddenOthers(scene), _temporaryNodes(scene), _surfaces(*segmentations):
        image, heat = _imageNode(volumeNode, corners, window), _heatNode(nodes)
        strip = _legendPicture(heat, size[1])
        for plane, point in planes.items():
            with SliceView(f"{VIEW} {plane}", plane, size) as view:
                view.layers.SetBackgroundVolumeID(image.GetID())
                _zoomTo(view, corners, point)
                annotateSlice(view, plane, float(point[PLANES[plane]]))
                pictures["image", plane] = view.pixels()
                with _shown(*segmentations):
                    pictures["outlines", plane] = view.pixels()
                view.layers.SetForegroundVolumeID(heat.GetID())
                view.layers.SetForegroundOpacity(HEAT_OPACITY)
                pictures["heat", plane] = np.hstack([view.pixels(), strip])
    return pictures


def render3DPicture(
    nodes: ResultNodes,
    direction: Sequence[float] = FRONT_LEFT,
    size: tuple[int, int] = (600, 600),
) -> np.ndarray:
    """The 5, 50 and 95 % surfaces of all structures, nested and translucent.

    Args:
        nodes: The result.
        direction: From where to look (RAS); from the front, the left and a little above if not given.
        size: Columns and rows.

    Returns:
        RGB (rows, columns, 3) of uint8.
    """
    contours = nodes.contours
    with _hiddenOthers(nodes.scene), _surfaces(contours), _shown(contours), ThreeDView(VIEW, size) as view:
        view.node.SetBackgroundColor(BACKGROUND)
        view.node.SetBackgroundColor2(BACKGROUND)
        view.node.SetOrientationMarkerType(view.node.OrientationMarkerTypeCube)
        view.node.SetOrientationMarkerSize(view.node.OrientationMarkerSizeSmall)
        view.fit(direction)
        return view.pixels()


def _zoomTo(view: SliceView, corners: np.ndarray, point: Sequence[float]) -> None:
    """Cut through ``point`` and show all of the segmented box, seen from the view's direction, with a margin."""
    axes = slicer.util.arrayFromVTKMatrix(view.node.GetSliceToRAS())[:3, :3]
    along = corners @ axes
    center = (along.min(axis=0) + along.max(axis=0)) / 2
    center[2] = np.asarray(point) @ axes[:, 2]
    columns, rows = view.window.GetSize()
    width, height, _ = np.ptp(along, axis=0)
    view.center(axes @ center, MARGIN * max(width, height * columns / rows))


def _worldCorners(nodes: ResultNodes) -> np.ndarray:
    """Corners (8, 3) of the segmented box, RAS in mm."""
    geometry = worldGeometry(next(iter(nodes.maps.values())))
    edges = [(-0.5, size - 0.5) for size in geometry.shape_ijk]
    return geometry.to_ras(np.array(np.meshgrid(*edges)).reshape(3, -1).T)


def _imageNode(volumeNode: Any, corners: np.ndarray, window: tuple[float, float] | None) -> Any:
    """The volume with a window for the segmented part; it shares the voxels, and the original is left alone."""
    geometry = worldGeometry(volumeNode)
    node = volumeNode.GetScene().AddNewNodeByClass("vtkMRMLScalarVolumeNode", volumeNode.GetName())
    node.SetAndObserveImageData(volumeNode.GetImageData())
    setGrid(node, geometry)
    node.CreateDefaultDisplayNodes()
    display, original = node.GetDisplayNode(), volumeNode.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    if window is None and original is not None and not original.GetAutoWindowLevel():
        window = original.GetWindowLevelMin(), original.GetWindowLevelMax()
    if window is None:
        ijk = geometry.to_ijk(corners)
        low, high = np.floor(ijk.min(axis=0)).clip(0).astype(int), np.ceil(ijk.max(axis=0)).astype(int) + 1
        part = slicer.util.arrayFromVolume(volumeNode)[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
        window = gray_window(part)
    display.SetWindowLevelMinMax(*window)
    return node


def _heatNode(nodes: ResultNodes) -> Any:
    """The largest variance of any structure, in the colors of the single maps."""
    maps = [node for key, node in nodes.maps.items() if key.startswith(f"{HEAT}.")]
    values = np.max([slicer.util.arrayFromVolume(node) for node in maps], axis=0)
    node = nodes.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Largest variance")
    slicer.util.updateVolumeFromArray(node, values)
    setGrid(node, worldGeometry(maps[0]))
    node.CreateDefaultDisplayNodes()
    showOnScale(node, maps[0].GetDisplayNode().GetColorNode(), MAP_KINDS[HEAT].maximum(0))
    return node


def _legendPicture(heat: Any, rows: int) -> np.ndarray:
    """The legend by itself, so that it never covers anatomy: a view of the map far outside of the map."""
    with SliceView(f"{VIEW} legend", "Axial", (LEGEND_WIDTH, rows)) as view:
        view.layers.SetForegroundVolumeID(heat.GetID())
        view.center(np.full(3, FAR_AWAY_MM), 1.0)
        legend = addLegend(heat, MAP_KINDS[HEAT].scaleText(0))  # the view only draws legends younger than itself
        legend.SetSize(*LEGEND_SHARE)
        legend.SetPosition(0.1, 0.5)
        legend.SetVisibility(True)
        return view.pixels()


@contextmanager
def _hiddenOthers(scene: Any) -> Iterator[None]:
    """Hide every segmentation, model and legend for a while."""
    nodes = (scene.GetNthNodeByClass(n, "vtkMRMLDisplayNode") for n in range(_count(scene)))
    visible = [node for node in nodes if node.GetVisibility() and not node.IsA("vtkMRMLVolumeDisplayNode")]
    for node in visible:
        node.SetVisibility(False)
    try:
        yield
    finally:
        for node in visible:
            node.SetVisibility(True)


@contextmanager
def _shown(*segmentationNodes: Any) -> Iterator[None]:
    """Show hidden segmentations for a while."""
    for node in segmentationNodes:
        node.GetDisplayNode().SetVisibility(True)
    try:
        yield
    finally:
        for node in segmentationNodes:
            node.GetDisplayNode().SetVisibility(False)


@contextmanager
def _surfaces(*segmentationNodes: Any) -> Iterator[None]:
    """Give segmentations closed surfaces for a while and cut those in slices: smooth lines instead of voxel stairs."""
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    before = [
        (node, node.GetSegmentation().ContainsRepresentation(surface), node.GetDisplayNode())
        for node in segmentationNodes
    ]
    preferred = [display.GetPreferredDisplayRepresentationName2D() for _, _, display in before]
    for node, _, display in before:
        node.CreateClosedSurfaceRepresentation()
        display.SetPreferredDisplayRepresentationName2D(surface)
    try:
        yield
    finally:
        for (node, had, display), name in zip(before, preferred, strict=True):
            display.SetPreferredDisplayRepresentationName2D(name)
            if not had:
                node.GetSegmentation().RemoveRepresentation(surface)


@contextmanager
def _temporaryNodes(scene: Any) -> Iterator[None]:
    """Remove every node that is added in the meantime."""
    added: list[str] = []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def note(_caller: Any, _event: str, node: Any) -> None:
        added.append(node.GetID())

    tag = scene.AddObserver(scene.NodeAddedEvent, note)
    try:
        yield
    finally:
        scene.RemoveObserver(tag)
        for node in filter(None, map(scene.GetNodeByID, reversed(added))):
            scene.RemoveNode(node)


def _count(scene: Any) -> int:
    return scene.GetNumberOfNodesByClass("vtkMRMLDisplayNode")
