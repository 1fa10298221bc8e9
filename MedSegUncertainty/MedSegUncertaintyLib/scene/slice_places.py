"""Which slice of a volume a view shows, and the way back from a slice to the views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.outputs.document import plane_names
from MedSegUncertaintyLib.scene.folder import nodesOfClass
from MedSegUncertaintyLib.scene.grids import worldGeometry
from MedSegUncertaintyLib.volumes.geometry import Geometry, direction_letter


class ObliqueViewError(BadInputError):
    """A view cuts through several slices of the volume."""


@dataclass(frozen=True)
class SlicePlace:
    """A slice of voxels.

    Attributes:
        plane: "axial", "coronal" or "sagittal".
        index: Voxel index along the axis of the volume that the slice is perpendicular to, from 0.
    """

    plane: str
    index: int


def axisOf(plane: str, geometry: Geometry) -> int:
    """Axis of IJK that the slices of a plane are perpendicular to."""
    return plane_names(geometry).index(plane)


def planeOfAxis(axis: int, geometry: Geometry) -> str:
    """Plane of the slices that are perpendicular to an axis of IJK."""
    return plane_names(geometry)[axis]


def placeInView(sliceNode: Any, volumeNode: Any) -> SlicePlace:
    """The slice that a view shows.

    Raises:
        ObliqueViewError: It cuts through several slices.
        BadInputError: It cuts through none.
    """
    geometry = worldGeometry(volumeNode)
    sliceToRas = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())
    origin, normal = sliceToRas[:3, 3], sliceToRas[:3, 2] / np.linalg.norm(sliceToRas[:3, 2])
    along = geometry.direction.T @ normal
    axis = int(np.abs(along).argmax())
    # Within a slice everywhere: at the volume's farthest corner a tilted view is still nearer than half a voxel.
    sizes = np.array(geometry.shape_ijk) * geometry.spacing
    lift = sum(abs(along[other]) * sizes[other] / 2 for other in range(3) if other != axis)
    if lift > geometry.spacing[axis] / 2:
        raise ObliqueViewError(
            f"The view {sliceNode.GetName()} is oblique to the slices of {volumeNode.GetName()}, so that a stroke "
            "would lie in several of them; press 'Align view'."
        )
    center = geometry.to_ras((np.array(geometry.shape_ijk) - 1) / 2)
    index = round(float(geometry.to_ijk(center + ((origin - center) @ normal) * normal)[axis]))
    if not 0 <= index < geometry.shape_ijk[axis]:
        raise BadInputError(
            f"The view {sliceNode.GetName()} shows no slice of {volumeNode.GetName()}; move it to the volume."
        )
    return SlicePlace(planeOfAxis(axis, geometry), index)


def alignView(sliceNode: Any, volumeNode: Any) -> None:
    """Turn a view to the nearest slices of a volume."""
    sliceNode.RotateToVolumePlane(volumeNode)


def showPlace(place: SlicePlace, volumeNode: Any) -> None:
    """Move the views of the slice's plane to it; others stay."""
    geometry = worldGeometry(volumeNode)
    axis = axisOf(place.plane, geometry)
    ijk = (np.array(geometry.shape_ijk) - 1) / 2
    ijk[axis] = place.index
    for node in nodesOfClass(volumeNode.GetScene(), "vtkMRMLSliceNode"):
        normal = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())[:3, 2]
        if int(np.abs(geometry.direction.T @ normal).argmax()) == axis:
            node.JumpSliceByOffsetting(*geometry.to_ras(ijk))


def positionOf(place: SlicePlace, geometry: Geometry) -> float:
    """Where a slice lies along the axis of RAS that it is nearest to being perpendicular to (mm)."""
    axis = axisOf(place.plane, geometry)
    ijk = (np.array(geometry.shape_ijk) - 1) / 2
    ijk[axis] = place.index
    return float(geometry.to_ras(ijk)[_RAS_AXES[place.plane]])


def positionText(plane: str, position: float) -> str:
    """A position for people: "S 12.5 mm"."""
    return f"{direction_letter(_RAS_AXES[plane], position >= 0)} {abs(position):.1f} mm"


_RAS_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
