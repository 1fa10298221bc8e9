"""For tests: painting as a person does it, with the mouse in a slice view."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import qt
import SimpleITK as sitk
import slicer
import vtk

from slicer_stand_in import driving

BRUSHES = (0.85, 0.4, 0.2, 0.1)
"""Diameters of a person who fills an outline, of the largest circle that fits into it; then single voxels follow."""
ENOUGH = 0.98
"""The share of an outline at which a person is content."""


def scrollTo(view: Any, ras: Any) -> None:
    """Show the slice through a point, with the slider that a person would move.

    Args:
        view: A slice widget.
        ras: RAS, mm.
    """
    toRas = view.mrmlSliceNode().GetSliceToRAS()
    view.sliceController().setSliceOffsetValue(sum(toRas.GetElement(row, 2) * ras[row] for row in range(3)))
    slicer.app.processEvents()


def position(view: Any, ras: Any) -> tuple[float, float]:
    """Where a point is seen: pixels from the upper left of ``view.sliceView()``."""
    picture = view.sliceView()
    x, y, _ = picture.convertRASToXYZ(list(ras))
    scale = picture.devicePixelRatioF()
    return round(x) / scale, picture.height - 1 - round(y) / scale


def stroke(view: Any, points: Any, button: Any = qt.Qt.LeftButton) -> None:
    """Press at the first point, move along the others, and let go at the last.

    Args:
        view: A slice widget.
        points: RAS, mm; one point is a click.
        button: Button of the mouse.
    """
    picture, places = view.sliceView(), [position(view, ras) for ras in points]
    driving.enter(picture)
    driving.move(picture, *places[0])
    driving._mouse(picture, qt.QEvent.MouseButtonPress, *places[0], button, button, qt.Qt.NoModifier)
    for place in places[1:]:
        driving.move(picture, *place, button)
    driving._mouse(picture, qt.QEvent.MouseButtonRelease, *places[-1], button, qt.Qt.NoButton, qt.Qt.NoModifier)


def doubleClick(view: Any, ras: Any) -> None:
    """Click twice with the left button."""
    stroke(view, [ras])
    picture, place, none = view.sliceView(), position(view, ras), qt.Qt.NoModifier
    driving._mouse(picture, qt.QEvent.MouseButtonDblClick, *place, qt.Qt.LeftButton, qt.Qt.LeftButton, none)
    driving._mouse(picture, qt.QEvent.MouseButtonRelease, *place, qt.Qt.LeftButton, qt.Qt.NoButton, none)


def fillMask(editor: Any, view: Any, mask: np.ndarray, volumeNode: Any, segmentId: str = "") -> float:
    """Fill what a mask shows in the slice of a view, as a careful person would: small brushes at the edge alone.

    Args:
        editor: A Segment Editor with the segmentation; its current segment is painted.
        view: A slice widget that shows a slice along the voxels of the volume.
        mask: The structure, bool [k, j, i] on the volume's voxels.
        volumeNode: The volume.
        segmentId: The segment, if not the current one.

    Returns:
        Dice of what is painted in the slice now with the mask.

    Raises:
        ValueError: The slice is oblique, or the view shows voxels smaller than its pixels.
        RuntimeError: What was painted is not what was meant: Dice of 0.95 or less.
    """
    if segmentId:
        editor.setCurrentSegmentID(segmentId)
    toRas = _ijkToWorld(volumeNode)
    axis, index = shownSlice(view, toRas)
    target = np.take(mask, index, axis=2 - axis)
    rows, columns = (side for side in (2, 1, 0) if side != axis)  # of voxels, as numpy has them in the slice
    spacing = np.linalg.norm(toRas[:3, :3], axis=0)[[rows, columns]]
    xyToRas = slicer.util.arrayFromVTKMatrix(view.mrmlSliceNode().GetXYToRAS())
    if np.linalg.norm(xyToRas[:3, :2], axis=0).max() > spacing.min():
        raise ValueError("The view shows voxels smaller than its pixels: zoom in before painting.")
    editor.setActiveEffectByName("Paint")
    editor.activeEffect().setCommonParameter("BrushDiameterIsRelative", 0)
    for diameter, row, start, end in _plan(target, spacing):
        editor.activeEffect().setCommonParameter("BrushAbsoluteDiameter", float(diameter))
        places = np.full((2, 4), float(index))
        places[:, 3], places[:, rows], places[:, columns] = 1, row, (start, end)
        stroke(view, (places @ toRas.T)[:, :3])
    array = slicer.util.arrayFromSegmentBinaryLabelmap(editor.segmentationNode(), editor.currentSegmentID(), volumeNode)
    painted = np.take(array, index, axis=2 - axis) > 0
    overlap = 2 * (painted & target).sum() / max(painted.sum() + target.sum(), 1)
    if overlap <= 0.95:
        raise RuntimeError(f"Painting went wrong: a Dice of {overlap:.3f} with what was to be painted.")
    return float(overlap)


def shownSlice(view: Any, ijkToWorld: np.ndarray) -> tuple[int, int]:
    """Axis (0 for I) and index of the slice of voxels that a view shows.

    Raises:
        ValueError: The slice is oblique.
    """
    sliceToRas = slicer.util.arrayFromVTKMatrix(view.mrmlSliceNode().GetSliceToRAS())
    along = np.abs(sliceToRas[:3, 2] @ (ijkToWorld[:3, :3] / np.linalg.norm(ijkToWorld[:3, :3], axis=0)))
    axis = int(along.argmax())
    if along[axis] < 0.999:
        raise ValueError("The slice is oblique to the voxels.")
    return axis, round(float((np.linalg.inv(ijkToWorld) @ sliceToRas[:, 3])[axis]))


def _ijkToWorld(volumeNode: Any) -> np.ndarray:
    toRas, toWorld = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(toRas)
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(volumeNode.GetParentTransformNode(), None, toWorld)
    return slicer.util.arrayFromVTKMatrix(toWorld) @ slicer.util.arrayFromVTKMatrix(toRas)


def _plan(target: np.ndarray, spacing: np.ndarray) -> Iterator[tuple[float, int, int, int]]:
    """Strokes along rows that stay inside: diameter in mm, row, first and last column."""
    covered, depth = np.zeros_like(target), _depth(target, spacing)
    rows, columns = np.indices(target.shape)
    for wish in (*(2 * share * depth.max() for share in BRUSHES), spacing.min()):
        diameter = np.ceil(100 * wish) / 100 - 0.01  # as the spin box has it; just a fit covers a voxel more
        reach = diameter / 2 * np.cos(np.pi / 32)  # a brush has 32 corners
        inside = depth >= diameter / 2
        for row in range(0, len(target), max(1, int(diameter / 4 / spacing[0]))):
            edges = np.flatnonzero(np.diff(inside[row].astype(int), prepend=0, append=0))
            for first, last in edges.reshape(-1, 2) - [0, 1]:
                along = np.maximum(np.maximum(first - columns, columns - last), 0) * spacing[1]
                new = (np.hypot(along, (rows - row) * spacing[0]) < reach) & ~covered
                if wish >= spacing.min() and new.any() and covered.sum() < ENOUGH * target.sum():
                    covered |= new
                    yield diameter, row, first, last


def _depth(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Distance of every voxel inside to the nearest one outside, mm."""
    outside = sitk.GetImageFromArray(np.pad(~mask, 1, constant_values=True).astype(np.uint8))
    outside.SetSpacing(spacing[::-1].tolist())
    distance = sitk.SignedMaurerDistanceMap(outside, squaredDistance=False, useImageSpacing=True)
    return np.maximum(sitk.GetArrayFromImage(distance)[1:-1, 1:-1], 0)
