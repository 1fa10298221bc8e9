"""Slices to look at first, kept in a table, and the way there in the slice views."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.scene.folder import NodeFolder, nodesOfClass
from MedSegUncertaintyLib.scene.grids import localGeometry
from MedSegUncertaintyLib.scene.results import ResultNodes
from MedSegUncertaintyLib.scene.tables import addTable
from MedSegUncertaintyLib.uncertainty.slices import rank_slices

if TYPE_CHECKING:
    from MedSegUncertaintyLib.inference.result import InferenceResult

PLANES = {"Sagittal": 0, "Coronal": 1, "Axial": 2}
"""Slice planes and the axis of RAS that they are perpendicular to."""

ALL = "All structures"
POSITION = ("R (mm)", "A (mm)", "S (mm)")


@dataclass(frozen=True)
class Place:
    """A slice in which the samples differ more than in those around it.

    Attributes:
        structure: Name of the structure, or ``ALL``.
        plane: "Axial", "Coronal" or "Sagittal": the plane that is nearest to the slice of voxels.
        rank: 1 for the most uncertain one of this structure and plane.
        index: Voxel index of the slice in the segmented volume.
        share: Its share of the structure's variance.
        position: Center of the variance in it (RAS, mm), below the parent transform of the result.
    """

    structure: str
    plane: str
    rank: int
    index: int
    share: float
    position: tuple[float, float, float]


def addSliceTable(folder: NodeFolder, result: InferenceResult, volumeNode: Any) -> Iterator[None]:
    """Rank the slices of every structure, and of all together, along the three axes of the grid.

    Yields after each ranking.
    """
    places: list[Place] = []
    for ranked in _places(result, localGeometry(volumeNode).cropped(result.box)):
        places += ranked
        yield
    columns: dict[str, Any] = {
        "Structure": np.array([place.structure for place in places], dtype=str),
        "Plane": np.array([place.plane for place in places], dtype=str),
        "Rank": np.array([place.rank for place in places], dtype=int),
        "Slice": np.array([place.index for place in places], dtype=int),
        "Share of variance (%)": np.array([100 * place.share for place in places], dtype=float),
    }
    positions = np.array([place.position for place in places], dtype=float).reshape(-1, 3)
    addTable(folder, "Uncertain slices", "slices", {**columns, **dict(zip(POSITION, positions.T, strict=True))})


def _places(result: InferenceResult, local: Any) -> Iterator[list[Place]]:
    from MedSegUncertaintyLib.outputs.document import plane_names  # brings SimpleITK

    statistics, planes = result.statistics, plane_names(result.geometry)
    variances = [(ALL, statistics.variance.sum(axis=0))]
    variances += [(s.name, values) for s, values in zip(result.structures, statistics.variance, strict=True)]
    for structure, variance in variances:
        for axis, plane in enumerate(planes):
            ranked = []
            for rank, place in enumerate(rank_slices(variance, 2 - axis, float(local.spacing[axis])), start=1):
                r, a, s = (float(number) for number in local.to_ras(np.array(place.center_ijk)))
                index = place.index + result.box.start_ijk[axis]
                ranked.append(Place(structure, plane.capitalize(), rank, index, place.share, (r, a, s)))
            yield ranked


def uncertainPlaces(nodes: ResultNodes, plane: str, structure: str = ALL) -> list[Place]:
    """The slices of a plane to look at first, the most uncertain one first; empty where all samples are equal.

    Args:
        nodes: The result.
        plane: "Axial", "Coronal" or "Sagittal".
        structure: Name of a structure; all of them together if not given.
    """
    table = nodes.sliceTable.GetTable()
    columns = [table.GetColumn(n) for n in range(table.GetNumberOfColumns())]
    rows = ([column.GetValue(row) for column in columns] for row in range(table.GetNumberOfRows()))
    return [
        Place(of, along, rank, index, share / 100, tuple(position))
        for of, along, rank, index, share, *position in rows
        if (of, along) == (structure, plane)
    ]


def jumpToSlice(nodes: ResultNodes, plane: str, structure: str = ALL) -> Place | None:
    """Show the most uncertain slice of a structure in the views of a plane; the other views cut through its center.

    Returns:
        The slice; None where all samples are equal, and nothing moves.
    """
    places = uncertainPlaces(nodes, plane, structure)
    return jumpTo(nodes, places[0]) if places else None


def stepToSlice(nodes: ResultNodes, plane: str, step: int, structure: str = ALL) -> Place | None:
    """Show the next (``step`` 1) or previous (-1) uncertain slice in the order of their ranks, and around at the ends.

    Where the views stand says which one is the present one; a view that shows none of them goes to the first.
    """
    places = uncertainPlaces(nodes, plane, structure)
    if not places:
        return None
    present = _shownPlace(nodes, plane, places)
    return jumpTo(nodes, places[0 if present is None else (present + step) % len(places)])


def jumpTo(nodes: ResultNodes, place: Place) -> Place:
    """Let all slice views cut through a place; what they show around it stays."""
    mode = slicer.vtkMRMLSliceNode.OffsetJumpSlice
    slicer.vtkMRMLSliceNode.JumpAllSlices(nodes.scene, *worldPosition(nodes, place), mode)
    return place


def worldPosition(nodes: ResultNodes, place: Place) -> np.ndarray:
    """Position of a place in the world (RAS, mm)."""
    return toWorld(nodes, np.array(place.position))


def toWorld(nodes: ResultNodes, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) below the parent transform of a result in the world (RAS, mm)."""
    transformNode, matrix = nodes.samples.GetParentTransformNode(), vtk.vtkMatrix4x4()
    if transformNode is not None:
        transformNode.GetMatrixTransformToWorld(matrix)
    affine = slicer.util.arrayFromVTKMatrix(matrix)
    return points @ affine[:3, :3].T + affine[:3, 3]


def sliceNodes(scene: Any, plane: str) -> list[Any]:
    """Slice views whose normal is nearest to that of a plane."""
    if plane not in PLANES:
        raise BadInputError(f"There is no plane '{plane}'; choose one of {', '.join(PLANES)}.")
    return [node for node in nodesOfClass(scene, "vtkMRMLSliceNode") if _normalAxis(node) == PLANES[plane]]


def _normalAxis(sliceNode: Any) -> int:
    return int(np.abs(slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())[:3, 2]).argmax())


def _shownPlace(nodes: ResultNodes, plane: str, places: list[Place]) -> int | None:
    """Number of the place that a view of the plane cuts through, within the numerical error of a jump."""
    for node in sliceNodes(nodes.scene, plane):
        sliceToRas = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
        for number, place in enumerate(places):
            if abs((worldPosition(nodes, place) - sliceToRas[:3, 3]) @ sliceToRas[:3, 2]) < 1e-3:
                return number
    return None
