"""Slices of the input's own grid, turned the way radiologists look at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.outputs.document import plane_names
from MedSegUncertaintyLib.uncertainty.samples import bounding_slices
from MedSegUncertaintyLib.volumes.geometry import Box, Geometry, direction_letter

MARGIN_MM = 15.0

# Where the right and the lower edge of a picture point, in RAS.
_TOWARD = {
    "axial": ((-1, 0, 0), (0, -1, 0)),
    "coronal": ((-1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, -1, 0), (0, 0, -1)),
}


@dataclass(frozen=True)
class SliceView:
    """One slice of a grid and how it is laid out on the page.

    Attributes:
        plane: "axial", "coronal" or "sagittal".
        axis: IJK axis perpendicular to the slice.
        index: Its voxel index along that axis.
        columns: IJK axis that runs from left to right.
        rows: IJK axis that runs from top to bottom.
        flip_columns: Whether the index falls from left to right.
        flip_rows: Whether the index falls from top to bottom.
        letters: Directions at the left, right, top and bottom edge.
    """

    plane: str
    axis: int
    index: int
    columns: int
    rows: int
    flip_columns: bool
    flip_rows: bool
    letters: tuple[str, str, str, str]

    def pixels(self, array_kji: np.ndarray, box: Box, shown: Box) -> np.ndarray:
        """Pixels (rows, columns) of an array that covers ``box``, cut or filled with zeros to the range ``shown``."""
        size = shown.shape_ijk
        pixels = np.zeros((size[self.rows], size[self.columns]), dtype=array_kji.dtype)
        local = self.index - box.start_ijk[self.axis]
        if 0 <= local < box.shape_ijk[self.axis]:
            plane = array_kji.take(local, axis=2 - self.axis)  # axes left: the larger IJK axis first
            if self.rows < self.columns:
                plane = plane.T
            target_rows, source_rows = _overlap(box, shown, self.rows)
            target_columns, source_columns = _overlap(box, shown, self.columns)
            pixels[target_rows, target_columns] = plane[source_rows, source_columns]
        return pixels[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


def orthogonal_views(geometry: Geometry, ijk: tuple[int, int, int]) -> list[SliceView]:
    """The axial, coronal and sagittal slice through a voxel."""
    names = plane_names(geometry)
    return [_view(geometry, plane, names.index(plane), ijk) for plane in ("axial", "coronal", "sagittal")]


def shown_box(result: InferenceResult) -> Box:
    """The part of the input's grid that pictures show: all that any sample labels, with a margin.

    Its sides are about equally long in mm, so that the three planes have one scale.
    """
    labeled: np.ndarray = np.any(result.statistics.agreement, axis=0)
    inside = bounding_slices(labeled if labeled.any() else np.ones(labeled.shape, dtype=bool))
    spacing = result.geometry.spacing
    ranges = []
    for axis in range(3):
        part, start = inside[2 - axis], result.box.start_ijk[axis]
        ranges.append((start + part.start, start + part.stop))
    side = max((stop - start) * size for (start, stop), size in zip(ranges, spacing, strict=True)) + 2 * MARGIN_MM
    starts, stops = [], []
    for (start, stop), size, limit in zip(ranges, spacing, result.geometry.shape_ijk, strict=True):
        extra = (side / size - (stop - start)) / 2
        starts.append(max(0, int(np.floor(start - extra))))
        stops.append(min(limit, int(np.ceil(stop + extra))))
    return Box((starts[0], starts[1], starts[2]), (stops[0], stops[1], stops[2]))


def _view(geometry: Geometry, plane: str, axis: int, ijk: tuple[int, int, int]) -> SliceView:
    right, down = (np.array(direction) for direction in _TOWARD[plane])
    first, second = (n for n in range(3) if n != axis)
    along = geometry.direction
    # Of the two ways to lay the axes, the one closer to the usual view.
    straight = abs(along[:, first] @ right) + abs(along[:, second] @ down)
    crossed = abs(along[:, second] @ right) + abs(along[:, first] @ down)
    columns, rows = (first, second) if straight >= crossed else (second, first)
    flip_columns, flip_rows = bool(along[:, columns] @ right < 0), bool(along[:, rows] @ down < 0)
    letters = (_letter(-right), _letter(right), _letter(-down), _letter(down))
    return SliceView(plane, axis, ijk[axis], columns, rows, flip_columns, flip_rows, letters)


def _letter(direction: np.ndarray) -> str:
    axis = int(np.abs(direction).argmax())
    return direction_letter(axis, bool(direction[axis] > 0))


def _overlap(box: Box, shown: Box, axis: int) -> tuple[slice, slice]:
    """Slices into ``shown`` and into ``box`` of the indices that both have along an IJK axis."""
    start = max(box.start_ijk[axis], shown.start_ijk[axis])
    stop = max(start, min(box.stop_ijk[axis], shown.stop_ijk[axis]))
    return (
        slice(start - shown.start_ijk[axis], stop - shown.start_ijk[axis]),
        slice(start - box.start_ijk[axis], stop - box.start_ijk[axis]),
    )
