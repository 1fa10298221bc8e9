"""Slices of any size and voxel shape as squares of few pixels, as 2D networks for many tasks see them, and back.

The preparation is the one with which UniverSeg's authors trained (VictorButoi/MegaMedical, their code): the slice is
padded with zeros to a square, smoothed by a Gaussian of a quarter of the new pixel, and sampled linearly. Both ways
are separable, so each is two small matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from MedSegUncertaintyLib.volumes.placement import gaussian

SMOOTHING = 0.25
"""Standard deviation of the Gaussian before sampling, in new pixels."""


@dataclass(frozen=True)
class Square:
    """A square of ``size`` x ``size`` pixels laid over a slice.

    Attributes:
        shape: Rows and columns of the slice.
        spacing_mm: Distance of its rows, and of its columns, in mm.
        center: Center of the square in rows and columns, fractional; (0, 0) is the center of the first pixel.
        side_mm: Edge of the square in mm; it may reach beyond the slice.
        size: Pixels along each edge.
    """

    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    center: tuple[float, float]
    side_mm: float
    size: int

    @classmethod
    def around(cls, shape: tuple[int, int], spacing_mm: tuple[float, float], size: int) -> Square:
        """The smallest square that holds a whole slice."""
        rows, columns = shape
        side = max(rows * spacing_mm[0], columns * spacing_mm[1])
        return cls(shape, spacing_mm, ((rows - 1) / 2, (columns - 1) / 2), side, size)

    @property
    def pixel_mm(self) -> float:
        """Edge of a pixel of the square in mm."""
        return self.side_mm / self.size

    def cut(self, slices: np.ndarray) -> np.ndarray:
        """Squares (..., size, size), float32, of slices (..., rows, columns); zero beyond the slice."""
        rows, columns = self._to_square
        return rows @ slices.astype(np.float32) @ columns.T

    def put(self, squares: np.ndarray) -> np.ndarray:
        """Slices (..., rows, columns), float32, of squares (..., size, size); zero beyond the square."""
        rows, columns = self._from_square
        return rows @ squares.astype(np.float32) @ columns.T

    @cached_property
    def inside(self) -> np.ndarray:
        """Which pixels of the slice have their center in the square, bool (rows, columns)."""
        rows, columns = (np.abs(positions) <= self.side_mm / 2 for positions in self._offsets_mm)
        return rows[:, None] & columns[None, :]

    @property
    def _offsets_mm(self) -> list[np.ndarray]:
        """Distance of the slice's rows and columns from the center of the square."""
        parts = zip(self.shape, self.center, self.spacing_mm, strict=True)
        return [(np.arange(count) - center) * spacing for count, center, spacing in parts]

    @cached_property
    def _to_square(self) -> list[np.ndarray]:
        places = (np.arange(self.size) - (self.size - 1) / 2) * self.pixel_mm
        parts = zip(self.shape, self.center, self.spacing_mm, strict=True)
        return [
            _sampling(center + places / spacing, count, SMOOTHING * self.pixel_mm / spacing)
            for count, center, spacing in parts
        ]

    @cached_property
    def _from_square(self) -> list[np.ndarray]:
        # Up to half a pixel beyond the centers of the outermost ones the square goes on as it ends.
        matrices = []
        for offsets in self._offsets_mm:
            inside = np.abs(offsets) <= self.side_mm / 2
            places = np.clip(offsets / self.pixel_mm + (self.size - 1) / 2, 0, self.size - 1)
            matrices.append(_sampling(places, self.size, 0.0) * inside[:, None])
        return matrices


def _sampling(places: np.ndarray, count: int, sigma: float) -> np.ndarray:
    """Matrix (places, count) that smooths ``count`` samples and reads them linearly; zero beyond them."""
    matrix = np.zeros((len(places), count), dtype=np.float32)
    low = np.floor(places).astype(int)
    share = places - low
    # Below a fifth of a sample a sampled Gaussian is a single one.
    for shift, weight in gaussian(sigma if sigma > 0.2 else 0.0):
        for index, part in ((low + shift, 1 - share), (low + shift + 1, share)):
            valid = (index >= 0) & (index < count)
            np.add.at(matrix, (np.flatnonzero(valid), index[valid]), (weight * part)[valid])
    return matrix
