"""Voxel grids in patient space, and images on them.

Conventions used everywhere below ``scene``: world coordinates are RAS in mm; voxel indices are IJK (I fastest);
arrays are indexed ``[k, j, i]``, the order of SimpleITK and of ``slicer.util.arrayFromVolume``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from MedSegUncertaintyLib.errors import BadInputError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_LETTERS = ("RL", "AP", "SI")


def direction_letter(axis: int, positive: bool) -> str:
    """The side of the patient to which an axis of RAS points: R or L, A or P, S or I.

    Args:
        axis: 0, 1 or 2.
        positive: Whether along the axis or against it.
    """
    return _LETTERS[axis][0 if positive else 1]


@dataclass(frozen=True, eq=False)
class Geometry:
    """A regular voxel grid: how many voxels along I, J, K and where their centers lie.

    Attributes:
        shape_ijk: Number of voxels along I, J and K.
        ijk_to_ras: 4 x 4 matrix from voxel indices to RAS in mm.
    """

    shape_ijk: tuple[int, int, int]
    ijk_to_ras: np.ndarray

    def __post_init__(self) -> None:
        matrix = np.array(self.ijk_to_ras, dtype=np.float64)
        matrix.setflags(write=False)
        object.__setattr__(self, "ijk_to_ras", matrix)
        object.__setattr__(self, "shape_ijk", tuple(int(size) for size in self.shape_ijk))

    @classmethod
    def from_parts(
        cls,
        shape_ijk: tuple[int, int, int],
        spacing: tuple[float, float, float],
        origin_ras: tuple[float, float, float] = (0.0, 0.0, 0.0),
        direction_ras: np.ndarray | None = None,
    ) -> Geometry:
        """Grid from spacing (mm), center of voxel (0, 0, 0) and directions, whose columns are the I, J, K axes."""
        matrix = np.eye(4)
        direction = np.eye(3) if direction_ras is None else np.asarray(direction_ras, dtype=np.float64)
        matrix[:3, :3] = direction * np.asarray(spacing, dtype=np.float64)
        matrix[:3, 3] = origin_ras
        return cls(shape_ijk, matrix)

    @property
    def shape_kji(self) -> tuple[int, int, int]:
        """Shape of an array on this grid."""
        i, j, k = self.shape_ijk
        return (k, j, i)

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size along I, J, K in mm."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)

    @property
    def direction(self) -> np.ndarray:
        """3 x 3 matrix; its columns are the unit vectors of I, J and K in RAS."""
        return self.ijk_to_ras[:3, :3] / self.spacing

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3]))) / 1000.0

    def to_ras(self, ijk: np.ndarray) -> np.ndarray:
        """RAS of voxel indices (..., 3), which may be fractional."""
        return np.asarray(ijk, dtype=np.float64) @ self.ijk_to_ras[:3, :3].T + self.ijk_to_ras[:3, 3]

    def to_ijk(self, ras: np.ndarray) -> np.ndarray:
        """Fractional voxel indices (..., 3) of RAS points."""
        inverse = np.linalg.inv(self.ijk_to_ras)
        return np.asarray(ras, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def check(self, name: str = "The image") -> None:
        """Make sure that voxels are boxes: finite, no axis of length zero, axes perpendicular within 0.06 degrees.

        Raises:
            BadInputError: One sentence that starts with ``name``.
        """
        usable = np.isfinite(self.ijk_to_ras).all() and self.spacing.all() and min(self.shape_ijk) > 0
        if not usable or abs(np.linalg.det(self.direction)) < 1e-3:
            raise BadInputError(f"{name} has axes that do not span space; correct the geometry in its header.")
        if np.abs(self.direction.T @ self.direction - np.eye(3)).max() > 1e-3:
            raise BadInputError(f"{name} has axes that are not perpendicular; resample it to a rectangular grid first.")

    @property
    def corners_ras(self) -> np.ndarray:
        """The outer corners of its outermost voxels, (8, 3)."""
        return self.to_ras(np.array(np.meshgrid(*[(-0.5, size - 0.5) for size in self.shape_ijk])).reshape(3, -1).T)

    def matches(self, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have the same voxels: every corner within ``tolerance_mm``."""
        if self.shape_ijk != other.shape_ijk:
            return False
        corners = np.array(np.meshgrid(*[(0, size - 1) for size in self.shape_ijk])).reshape(3, -1).T
        return bool(np.abs(self.to_ras(corners) - other.to_ras(corners)).max() <= tolerance_mm)

    def cropped(self, box: Box) -> Geometry:
        """The grid of the voxels inside ``box``."""
        matrix = np.array(self.ijk_to_ras)
        matrix[:3, 3] = self.to_ras(np.array(box.start_ijk))
        return Geometry(box.shape_ijk, matrix)

    def whole(self) -> Box:
        """The box that holds every voxel."""
        return Box((0, 0, 0), self.shape_ijk)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"shape_ijk": list(self.shape_ijk), "ijk_to_ras": self.ijk_to_ras.tolist()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Geometry:
        """Inverse of :meth:`to_json`."""
        i, j, k = data["shape_ijk"]
        return cls((i, j, k), np.array(data["ijk_to_ras"]))


@dataclass(frozen=True)
class Box:
    """Half-open box of voxel indices, IJK."""

    start_ijk: tuple[int, int, int]
    stop_ijk: tuple[int, int, int]

    @property
    def shape_ijk(self) -> tuple[int, int, int]:
        """Number of voxels along I, J, K."""
        i, j, k = (stop - start for start, stop in zip(self.start_ijk, self.stop_ijk, strict=True))
        return (i, j, k)

    @property
    def slices_kji(self) -> tuple[slice, slice, slice]:
        """Slices into an array of the whole grid."""
        i, j, k = (slice(start, stop) for start, stop in zip(self.start_ijk, self.stop_ijk, strict=True))
        return (k, j, i)


@dataclass(frozen=True)
class Volume:
    """A scalar image on its grid.

    Attributes:
        array: (K, J, I), any real dtype, finite.
        geometry: Its grid.
        name: What the user calls it (file name without extension, node name).
        scaled: Whether the size of its voxels is known; a pixel of a photograph stands in as a cube of 1 mm.
    """

    array: np.ndarray
    geometry: Geometry
    name: str = "image"
    scaled: bool = True

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape_kji:
            raise ValueError(f"array {self.array.shape} does not fit the grid {self.geometry.shape_kji}")


def extent_text(corners_ras: np.ndarray) -> str:
    """Where a box lies, for the user: "R -10.0 to 30.0, A ..., S ... mm".

    Args:
        corners_ras: Its corners, (8, 3), mm.
    """
    lows, highs = corners_ras.min(axis=0), corners_ras.max(axis=0)
    axes = (f"{axis} {low:.1f} to {high:.1f}" for axis, low, high in zip("RAS", lows, highs, strict=True))
    return f"{', '.join(axes)} mm"


def check_voxels(array: np.ndarray, name: str) -> None:
    """Make sure that an image can be segmented: every voxel is finite, and not all have one value.

    Args:
        array: At least one voxel, any shape and real type.
        name: What the user calls the image.

    Raises:
        BadInputError: One sentence with the name.
    """
    check_finite(array, name)
    if array.min() == array.max():
        raise BadInputError(
            f"All voxels of '{name}' have the value {float(array.flat[0]):g}; choose an image with contrast."
        )


def check_finite(array: np.ndarray, name: str) -> None:
    """Make sure that no voxel is NaN or infinite.

    Raises:
        BadInputError: One sentence with the name and the number of such voxels.
    """
    # Either value is NaN or infinite if any voxel is; nothing of the image's size is needed to know that.
    if not np.isfinite(array.min()) or not np.isfinite(array.max()):
        refuse_not_finite(int(np.count_nonzero(~np.isfinite(array))), array.size, name)


def refuse_not_finite(bad: int, total: int, name: str) -> None:
    """Refuse an image of which ``bad`` voxels were counted as NaN or infinite.

    Raises:
        BadInputError: There are such voxels.
    """
    if bad:
        raise BadInputError(f"{bad} of {total} voxels of '{name}' are NaN or infinite; replace them first.")


@dataclass(frozen=True)
class RegionOfInterest:
    """Axis-aligned box in RAS, mm."""

    center_ras: tuple[float, float, float]
    size_mm: tuple[float, float, float]

    @property
    def corners_ras(self) -> np.ndarray:
        """Its eight corners, (8, 3)."""
        signs = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, -1).T
        return np.asarray(self.center_ras) + signs * np.asarray(self.size_mm)

    def holds(self, geometry: Geometry) -> np.ndarray:
        """Which voxel centers of a grid lie inside, bool (K, J, I); the faces, up to rounding, belong to the box."""
        rounding = 1e-4 * geometry.spacing.min()
        inside = np.ones(geometry.shape_kji, dtype=bool)
        i, j, k = np.ogrid[tuple(slice(size) for size in geometry.shape_ijk)]
        for row, center, size in zip(geometry.ijk_to_ras[:3], self.center_ras, self.size_mm, strict=True):
            distance = (row[3] - center + row[0] * i + row[1] * j + row[2] * k).T
            inside &= np.abs(distance) <= size / 2 + rounding
        return inside

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"center_ras": list(self.center_ras), "size_mm": list(self.size_mm)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RegionOfInterest:
        """Inverse of :meth:`to_json`."""
        r, a, s = data["center_ras"]
        x, y, z = data["size_mm"]
        return cls((r, a, s), (x, y, z))
