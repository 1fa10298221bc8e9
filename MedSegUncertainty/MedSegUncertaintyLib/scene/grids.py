"""Volume nodes as volumes in world coordinates, and grids back onto nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.packages.package import COLORS
from MedSegUncertaintyLib.volumes.geometry import Geometry, RegionOfInterest, Volume


def volumeFromNode(volumeNode: Any) -> Volume:
    """The voxels of a scalar volume node, placed in the world (RAS, mm): parent transforms are applied to the grid.

    The array (K, J, I) shares memory with the node.

    Raises:
        BadInputError: The node has no voxels or several components, or its transform bends or shears the grid.
    """
    image = volumeNode.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise BadInputError(f"The volume {volumeNode.GetName()} has no voxels.")
    if image.GetNumberOfScalarComponents() != 1:
        raise BadInputError(f"The volume {volumeNode.GetName()} has several values per voxel; choose a scalar volume.")
    return Volume(slicer.util.arrayFromVolume(volumeNode), worldGeometry(volumeNode), volumeNode.GetName())


def isColorNode(volumeNode: Any) -> bool:
    """Whether a volume node has red, green and blue, or these and opacity, per voxel."""
    image = volumeNode.GetImageData()
    return image is not None and image.GetNumberOfScalarComponents() in (3, 4)


def colorsFromNode(volumeNode: Any) -> dict[str, Volume]:
    """Red, green and blue of a color volume node, like :func:`volumeFromNode`; opacity is ignored.

    Raises:
        BadInputError: The transform of the node bends or shears the grid.
    """
    array, geometry = slicer.util.arrayFromVolume(volumeNode), worldGeometry(volumeNode)
    return {color: Volume(array[..., n], geometry, volumeNode.GetName()) for n, color in enumerate(COLORS)}


def localGeometry(volumeNode: Any) -> Geometry:
    """Grid of a volume node below its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return Geometry(volumeNode.GetImageData().GetDimensions(), slicer.util.arrayFromVTKMatrix(matrix))


def worldGeometry(volumeNode: Any) -> Geometry:
    """Grid of a volume node in the world.

    Raises:
        BadInputError: The parent transform is not linear, or the axes are not perpendicular.
    """
    name, transformNode = volumeNode.GetName(), volumeNode.GetParentTransformNode()
    local, toWorld = localGeometry(volumeNode), vtk.vtkMatrix4x4()
    if transformNode and not transformNode.IsTransformToWorldLinear():
        raise BadInputError(f"The volume {name} is under a non-linear transform; harden or remove the transform.")
    if transformNode:
        transformNode.GetMatrixTransformToWorld(toWorld)
    world = Geometry(local.shape_ijk, slicer.util.arrayFromVTKMatrix(toWorld) @ local.ijk_to_ras)
    world.check(f"The volume {name}")
    return world


def setGrid(volumeNode: Any, geometry: Geometry) -> None:
    """Place a volume node's voxels on a grid (in the node's own coordinates)."""
    volumeNode.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(geometry.ijk_to_ras))


def regionFromNode(roiNode: Any) -> RegionOfInterest:
    """Axis-aligned box in the world (RAS, mm) around a markups ROI, however that is turned."""
    bounds = [0.0] * 6
    roiNode.GetRASBounds(bounds)
    low, high = np.array(bounds[::2]), np.array(bounds[1::2])
    if not np.all(high > low):
        raise BadInputError(f"The region of interest {roiNode.GetName()} is empty; place it on the structure.")
    return RegionOfInterest(tuple(((low + high) / 2).tolist()), tuple((high - low).tolist()))
