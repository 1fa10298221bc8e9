"""The region of interest: a markups ROI where the slice views cross."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.scene.grids import worldGeometry

SHARE = 1 / 3
"""Of the volume's edges, for models that were not trained on boxes of one size."""


def placeRegion(volumeNode: Any, package: ModelPackage | None, roiNode: Any) -> Any:
    """Center a box where the slice views cross.

    Args:
        volumeNode: What will be segmented.
        package: Says how large the box should be; may be None.
        roiNode: The box to move; None for a new one.

    Returns:
        The markups ROI node.
    """
    corners = worldGeometry(volumeNode).corners_ras
    low, high = corners.min(axis=0), corners.max(axis=0)
    center = viewsCenter()
    if center is None or (center < low).any() or (center > high).any():
        center = (low + high) / 2
    size = package.roi.size_mm if package is not None else None
    if roiNode is None:
        roiNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", _("Region of interest"))
        roiNode.CreateDefaultDisplayNodes()
        roiNode.GetDisplayNode().SetFillVisibility(False)  # it would tint what is to be judged
        roiNode.GetDisplayNode().SetPropertiesLabelVisibility(False)
    roiNode.SetSize(*(size or (high - low) * SHARE))
    roiNode.SetCenterWorld(*center)
    roiNode.SetDisplayVisibility(True)
    return roiNode


def viewsCenter() -> np.ndarray | None:
    """The point (RAS, mm) in which the slice views cross; None without any.

    Where they show fewer than three directions, the middle of the first one.
    """
    layoutManager = slicer.app.layoutManager()
    names = layoutManager.sliceViewNames() if layoutManager is not None else ()
    nodes = [layoutManager.sliceWidget(name).mrmlSliceNode() for name in names]
    if not nodes:
        return None
    matrices = [slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()) for node in nodes]
    planes: dict[int, np.ndarray] = {}
    for matrix in matrices:
        planes.setdefault(int(np.abs(matrix[:3, 2]).argmax()), matrix)
    if len(planes) == 3:
        normals = np.array([matrix[:3, 2] for matrix in planes.values()])
        offsets = np.array([matrix[:3, 2] @ matrix[:3, 3] for matrix in planes.values()])
        return np.linalg.solve(normals, offsets)
    x, y, _z = nodes[0].GetXYZOrigin()
    return (matrices[0] @ [x, y, 0, 1])[:3]
