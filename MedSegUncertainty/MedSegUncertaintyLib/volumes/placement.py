"""How a model's grid lies in the input's grid, and the way there and back.

The model's axes are the input's axes, permuted and flipped; an oblique direction is kept, never rotated away. All
resampling is therefore separable, and none happens along axes whose spacing the model accepts as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.geometry import Box, Geometry, RegionOfInterest, Volume, direction_letter, extent_text

if TYPE_CHECKING:
    from torch import Tensor

_LETTERS = {direction_letter(axis, sign > 0): (axis, sign) for axis in range(3) for sign in (1, -1)}
_SAME_SPACING = 1e-3
_MOST_VOXELS = 2e9


@dataclass(frozen=True)
class GridRule:
    """The grid on which a model works, from its package's metadata.

    Attributes:
        spacing_mm: Voxel size along the model's I, J, K axes (for RAS: right, anterior, superior); None keeps the
            input's.
        orientation: Where the model's I, J, K axes point, for example RAS, LPS or PIR.

    Raises:
        ValueError: The orientation does not name the three axes once each, or a spacing is not positive.
    """

    spacing_mm: tuple[float, float, float] | None
    orientation: str = "RAS"

    def __post_init__(self) -> None:
        axes = sorted(_LETTERS[letter][0] for letter in self.orientation if letter in _LETTERS)
        if len(self.orientation) != 3 or axes != [0, 1, 2]:
            raise ValueError(f"orientation '{self.orientation}' does not name three axes, as RAS does")
        if self.spacing_mm is not None and not all(0 < size < math.inf for size in self.spacing_mm):
            raise ValueError(f"spacing {self.spacing_mm} mm is not positive along every axis")

    @property
    def wanted_axes(self) -> np.ndarray:
        """3 x 3 matrix; its rows are the wanted directions of the model's I, J and K in RAS."""
        axes = np.zeros((3, 3))
        for row, letter in zip(axes, self.orientation, strict=True):
            world, sign = _LETTERS[letter]
            row[world] = sign
        return axes


@dataclass(frozen=True)
class _Axis:
    """One axis of the model's grid: its voxel u has the center ``offset + step * u`` on axis ``source`` of the box."""

    source: int
    step: float
    offset: float

    @property
    def exact(self) -> bool:
        """Whether voxel centers coincide, so that nothing is interpolated."""
        return abs(abs(self.step) - 1) < _SAME_SPACING / 2


@dataclass(frozen=True)
class Placement:
    """The grids of the input and of the model, and the part of the input that receives output.

    Attributes:
        input: The input's grid.
        box: Voxels of the input that receive output: the smallest box of voxels that holds every voxel whose center
            lies in the region of interest, or the whole grid.
        model: The model's grid. It is centered on the box and covers it, and its axes are axes of the input.
        roi: The region of interest that was asked for.
    """

    input: Geometry
    box: Box
    model: Geometry
    roi: RegionOfInterest | None = None

    @classmethod
    def plan(cls, geometry: Geometry, rule: GridRule, roi: RegionOfInterest | None = None) -> Placement:
        """Lay the model's grid into an image.

        Args:
            geometry: The image's grid; left-handed and oblique ones are welcome.
            rule: Spacing and orientation that the model wants.
            roi: Box in RAS; parts outside of the image are ignored.

        Raises:
            BadInputError: The grid is sheared or singular, the region of interest is empty or holds no voxel of the
                image, or the model's grid would be absurdly large.
        """
        geometry.check()
        box = geometry.whole() if roi is None else _box_of(geometry, roi)
        return cls(geometry, box, _model_grid(geometry, box, rule), roi)

    @cached_property
    def inside_roi(self) -> np.ndarray | None:
        """Which voxels of the box have their center in the region of interest, bool (k, j, i); None where all have.

        On an oblique grid the box of voxels is larger than the box in RAS.
        """
        if self.roi is None:
            return None
        inside = self.roi.holds(self.input.cropped(self.box))
        return None if inside.all() else inside

    @cached_property
    def _axes(self) -> list[_Axis]:
        """The model's I, J and K axis."""
        to_box = np.linalg.inv(self.input.ijk_to_ras[:3, :3])
        steps = to_box @ self.model.ijk_to_ras[:3, :3]
        offsets = to_box @ (self.model.ijk_to_ras[:3, 3] - self.input.cropped(self.box).ijk_to_ras[:3, 3])
        sources = np.abs(steps / np.abs(steps).max(axis=0)).argmax(axis=0)
        return [_Axis(int(p), float(steps[p, a]), float(offsets[p])) for a, p in enumerate(sources)]

    def to_model(self, volume: Volume) -> np.ndarray:
        """Resample an image onto the model's grid, float32 (*model.shape_kji).

        Where the model's voxels are larger the image is smoothed first, sigma = (ratio - 1) / 2 voxels (the rule of
        scikit-image and MONAI). Smoothing and interpolation use the image around the box; beyond the image its edge
        is repeated.

        Args:
            volume: On the grid :attr:`input`.
        """
        if not volume.geometry.matches(self.input):
            raise ValueError("the volume is not on the grid for which this placement was planned")
        array, matrices = volume.array, {}
        for axis, size in zip(self._axes, self.model.shape_ijk, strict=True):
            dim = 2 - axis.source
            centers = self.box.start_ijk[axis.source] + axis.offset + axis.step * np.arange(size)
            part, matrix = _part_and_matrix(centers, array.shape[dim], axis)
            array = array[(slice(None),) * dim + (part,)]
            if matrix is not None:
                matrices[dim] = matrix
        array = array.astype(np.float32)
        # Axes that shrink most go first, so that the others have less to do.
        for dim in sorted(matrices, key=lambda dim: matrices[dim].shape[0] / matrices[dim].shape[1]):
            array = np.moveaxis(np.tensordot(matrices[dim], array, axes=(1, dim)), 0, dim)
        return np.ascontiguousarray(array.transpose([2 - axis.source for axis in reversed(self._axes)]))

    def soft_to_box(self, fields: Tensor) -> Tensor:
        """Resample probabilities or logits onto the box of the input, linearly and with repeated edges.

        Interpolation is affine in every voxel, so probabilities over classes still sum to 1.

        Args:
            fields: Floating point, (*lead, *model.shape_kji), on any device.

        Returns:
            (*lead, k, j, i) of the box, same type and device.
        """
        if tuple(fields.shape[-3:]) != self.model.shape_kji:
            raise ValueError(f"fields {tuple(fields.shape)} do not end in the model's grid {self.model.shape_kji}")
        dims = [dim - 3 for dim in range(3)]
        by_dim = dict(zip(reversed(dims), self._axes, strict=True))
        flips = [dim for dim, axis in by_dim.items() if axis.exact and axis.step < 0]
        # Output dimension d holds axis -1 - d of the input; find it among the model's dimensions.
        order = [next(dim for dim, axis in by_dim.items() if axis.source == -1 - target) for target in dims]
        if flips:
            fields = fields.flip(flips)
        if not all(axis.exact for axis in self._axes):
            fields = self._interpolated(fields, by_dim)
        return fields.permute(*range(fields.dim() - 3), *order).contiguous()

    def _interpolated(self, fields: Tensor, by_dim: dict[int, _Axis]) -> Tensor:
        """Fields on the voxels of the box, still in the order of the model's axes; one field at a time for memory."""
        resampled = {dim: axis for dim, axis in by_dim.items() if not axis.exact}
        sizes = {dim: self.box.shape_ijk[axis.source] for dim, axis in resampled.items()}
        # Shrinking dimensions first, then from the inside out: gathering is slow in the contiguous dimension, where
        # it should happen while the field is still small.
        order = sorted(resampled, key=lambda dim: (sizes[dim] > fields.shape[dim], -dim))
        shape = [sizes.get(dim, fields.shape[dim]) for dim in (-3, -2, -1)]
        flat = fields.reshape(-1, *fields.shape[-3:])
        result = fields.new_empty((len(flat), *shape))
        for target, field in zip(result, flat, strict=True):
            for dim in order:
                axis = resampled[dim]
                field = _lerp(field, dim, (np.arange(sizes[dim]) - axis.offset) / axis.step)
            target.copy_(field)
        return result.reshape(*fields.shape[:-3], *shape)


def _box_of(geometry: Geometry, roi: RegionOfInterest) -> Box:
    """Smallest box of voxels that holds every voxel whose center lies in the region of interest."""
    if not (np.isfinite(roi.corners_ras).all() and min(roi.size_mm) > 0):
        raise BadInputError(f"The region of interest has the size {roi.size_mm} mm; make every edge longer than 0.")
    corners = geometry.to_ijk(roi.corners_ras)
    start = np.clip(np.floor(corners.min(axis=0)), 0, geometry.shape_ijk).astype(int)
    stop = np.clip(np.ceil(corners.max(axis=0)) + 1, start, geometry.shape_ijk).astype(int)
    inside = np.zeros((0, 0, 0), dtype=bool)
    if (stop > start).all():
        inside = roi.holds(geometry.cropped(Box(tuple(start.tolist()), tuple(stop.tolist()))))
    if not inside.any():
        raise BadInputError(
            f"The region of interest ({extent_text(roi.corners_ras)}) holds no voxel of the image "
            f"({extent_text(geometry.corners_ras)}); move or enlarge it."
        )
    first, last = np.zeros(3, dtype=int), np.zeros(3, dtype=int)
    for axis in range(3):
        used = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {2 - axis})))
        first[axis], last[axis] = used[0], used[-1]
    return Box(tuple((start + first).tolist()), tuple((start + last + 1).tolist()))


def _model_grid(geometry: Geometry, box: Box, rule: GridRule) -> Geometry:
    along = rule.wanted_axes @ geometry.direction
    # Rounding lets the first of two equally good assignments win on grids turned by exactly 45 degrees.
    sources = max(permutations(range(3)), key=lambda order: round(float(np.abs(along[range(3), order]).sum()), 9))
    sizes, columns = [], []
    for axis, source in enumerate(sources):
        native, voxels = geometry.spacing[source], box.shape_ijk[source]
        spacing, size = native, voxels
        if rule.spacing_mm is not None and not math.isclose(rule.spacing_mm[axis], native, rel_tol=_SAME_SPACING):
            spacing = rule.spacing_mm[axis]
            # A hundredth of a voxel more or less at the far end is no reason for one more voxel.
            size = max(1, math.ceil(voxels * native / spacing - 0.01))
        sizes.append(size)
        columns.append(geometry.direction[:, source] * math.copysign(spacing, along[axis, source]))
    if math.prod(sizes) > _MOST_VOXELS:
        raise BadInputError(
            f"At the model's voxel size the image would have {math.prod(sizes):.1e} voxels; give a region of interest."
        )
    middle = geometry.to_ras((np.array(box.start_ijk) + box.stop_ijk - 1) / 2)
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack(columns)
    matrix[:3, 3] = middle - matrix[:3, :3] @ ((np.array(sizes) - 1) / 2)
    return Geometry((sizes[0], sizes[1], sizes[2]), matrix)


def _part_and_matrix(centers: np.ndarray, size: int, axis: _Axis) -> tuple[slice, np.ndarray | None]:
    """What to cut out of an image axis of ``size`` voxels, and the matrix that then resamples it at ``centers``.

    For an exact axis the slice does it all, flip included, and the matrix is None.
    """
    if axis.exact:
        first, last = round(centers[0]), round(centers[-1])
        stop = last + (1 if axis.step > 0 else -1)
        return slice(first, stop if stop >= 0 else None, 1 if axis.step > 0 else -1), None
    low, high, share = _neighbors(centers, size)
    matrix = np.zeros((len(centers), size))
    rows = np.arange(len(centers))
    for shift, weight in gaussian(max(0.0, (abs(axis.step) - 1) / 2)):
        np.add.at(matrix, (rows, np.clip(low + shift, 0, size - 1)), weight * (1 - share))
        np.add.at(matrix, (rows, np.clip(high + shift, 0, size - 1)), weight * share)
    used = np.flatnonzero(matrix.any(axis=0))
    part = slice(int(used[0]), int(used[-1]) + 1)
    return part, matrix[:, part].astype(np.float32)


def _neighbors(positions: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper neighbor of fractional positions on an axis with repeated edges, and the share of the upper."""
    positions = np.clip(positions, 0, size - 1)
    low = np.floor(positions).astype(np.int64)
    return low, np.minimum(low + 1, size - 1), positions - low


def gaussian(sigma: float) -> Sequence[tuple[int, float]]:
    """Offsets in voxels and normalized weights of a Gaussian, cut at four sigma."""
    if sigma == 0:
        return [(0, 1.0)]
    offsets = np.arange(-math.ceil(4 * sigma), math.ceil(4 * sigma) + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return list(zip(offsets.tolist(), (weights / weights.sum()).tolist(), strict=True))


def _lerp(field: Tensor, dim: int, positions: np.ndarray) -> Tensor:
    """Interpolate linearly along one dimension, counted from the end."""
    import torch

    low, high, share = _neighbors(positions, field.shape[dim])
    weight = torch.as_tensor(share, dtype=field.dtype, device=field.device).reshape(-1, *[1] * (-1 - dim))
    rest = [slice(None)] * (-1 - dim)
    # Indexing gathers whole rows; index_select is six times slower in the outer dimensions of large fields on a CPU.
    at_low: tuple[Any, ...] = (..., torch.as_tensor(low, device=field.device), *rest)
    at_high: tuple[Any, ...] = (..., torch.as_tensor(high, device=field.device), *rest)
    return field[at_low].lerp_(field[at_high], weight)
