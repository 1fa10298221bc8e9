"""Small pictures of slices with what is outlined in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from MedSegUncertaintyLib.scene.grids import worldGeometry
from MedSegUncertaintyLib.scene.slice_places import SlicePlace, axisOf
from MedSegUncertaintyLib.scene.supports import Supports
from MedSegUncertaintyLib.volumes.geometry import Geometry

TOWARD = {"axial": ((-1, 0, 0), (0, -1, 0)), "coronal": ((-1, 0, 0), (0, 0, -1)), "sagittal": ((0, -1, 0), (0, 0, -1))}
"""Where the right and the lower edge of a picture point (RAS), as in Slicer's views."""
MARGIN = 1.5
"""Edge of what is shown, as a multiple of what is outlined."""
SMALLEST = 0.3
"""Share of a slice that is shown at least, so that one knows where it is."""


@dataclass(frozen=True)
class Window:
    """A square part of the slices of a plane, in mm from the upper left corner of an oriented slice.

    Attributes:
        row: Its middle, downwards.
        column: Its middle, to the right.
        edge: Its size.
    """

    row: float
    column: float
    edge: float


def thumbnail(supports: Supports, place: SlicePlace, window: Window, pixels: int) -> np.ndarray:
    """A slice with outlines, RGB (pixels, pixels, 3) uint8, turned as in Slicer's views; black beyond the volume.

    Args:
        supports: Set in which it is painted.
        place: The slice.
        window: The part to show.
        pixels: Edge of the picture.
    """
    oriented, mm = _orientation(worldGeometry(supports.volumeNode), place.plane)
    axis = supports.axis(place.plane)
    image = oriented(slicer.util.arrayFromVolume(supports.volumeNode).take(place.index, axis=2 - axis))
    steps = (np.arange(pixels) + 0.5) / pixels - 0.5
    rows = np.floor((window.row + steps * window.edge) / mm[0]).astype(int)
    columns = np.floor((window.column + steps * window.edge) / mm[1]).astype(int)
    picture = np.repeat(_picked(_gray(image, supports.volumeNode), rows, columns)[..., None], 3, axis=2)
    for segmentId, color in supports.colors.items():
        mask = _picked(oriented(supports.pixels(segmentId, place)), rows, columns)
        picture[_edge(mask)] = np.rint(255 * np.array(color)).astype(np.uint8)
    return picture


def sharedWindow(supports: Supports, places: Iterable[SlicePlace], plane: str) -> Window:
    """The part of the slices of a plane that holds everything that is outlined in some of them, with a margin."""
    geometry = worldGeometry(supports.volumeNode)
    oriented, mm = _orientation(geometry, plane)
    sizes = [size for n, size in enumerate(geometry.shape_kji) if n != 2 - axisOf(plane, geometry)]
    shape = oriented(np.zeros(sizes, bool)).shape
    whole = max(shape[0] * mm[0], shape[1] * mm[1])
    outlined = np.zeros(shape, bool)
    for place in places:
        if place.plane == plane:
            for segmentId in supports.segmentIds:
                outlined |= oriented(supports.pixels(segmentId, place))
    if not outlined.any():
        return Window(shape[0] * mm[0] / 2, shape[1] * mm[1] / 2, whole)
    rows, columns = np.flatnonzero(outlined.any(axis=1)), np.flatnonzero(outlined.any(axis=0))
    edge = MARGIN * max((rows[-1] - rows[0] + 1) * mm[0], (columns[-1] - columns[0] + 1) * mm[1])
    middle = ((rows[0] + rows[-1] + 1) / 2 * mm[0], (columns[0] + columns[-1] + 1) / 2 * mm[1])
    return Window(*middle, min(max(edge, SMALLEST * whole), whole))


def _orientation(geometry: Geometry, plane: str) -> tuple[Callable[[np.ndarray], np.ndarray], tuple[float, float]]:
    """What turns a slice of the array (K, J, I) to the picture, and the picture's distance of rows and columns (mm)."""
    axis = axisOf(plane, geometry)
    first, second = (n for n in (2, 1, 0) if n != axis)  # what the rows and columns of the array are
    right, down = (np.array(vector, dtype=float) for vector in TOWARD[plane])
    turn = abs(geometry.direction[:, first] @ right) > abs(geometry.direction[:, second] @ right)
    rowAxis, columnAxis = (second, first) if turn else (first, second)
    upwards, leftwards = geometry.direction[:, rowAxis] @ down < 0, geometry.direction[:, columnAxis] @ right < 0

    def oriented(array: np.ndarray) -> np.ndarray:
        return (array.T if turn else array)[:: -1 if upwards else 1, :: -1 if leftwards else 1]

    return oriented, (float(geometry.spacing[rowAxis]), float(geometry.spacing[columnAxis]))


def _picked(array: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Pixels of some rows and columns; zero beyond the array."""
    inside = np.ix_((rows >= 0) & (rows < array.shape[0]), (columns >= 0) & (columns < array.shape[1]))
    picked = np.zeros((len(rows), len(columns)), dtype=array.dtype)
    picked[inside] = array[np.ix_(rows[inside[0].ravel()], columns[inside[1].ravel()])]
    return picked


def _gray(array: np.ndarray, volumeNode: Any) -> np.ndarray:
    """Gray values as the volume is displayed."""
    display = volumeNode.GetDisplayNode()
    if display is None or not hasattr(display, "GetWindow"):
        low, high = float(array.min()), float(array.max())
    else:
        low, high = (display.GetLevel() + sign * display.GetWindow() / 2 for sign in (-1, 1))
    return (255 * np.clip((array.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)


def _edge(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask that have a neighbor outside."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
