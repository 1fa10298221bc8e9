"""What is known of a volume node at a glance, and how much of it a region covers."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from MedSegUncertaintyLib.packages.fitting import ImageFacts
from MedSegUncertaintyLib.scene.folder import hierarchyOf
from MedSegUncertaintyLib.scene.grids import isColorNode, worldGeometry
from MedSegUncertaintyLib.volumes.geometry import RegionOfInterest

LOOKED_AT = 48
"""Voxels along each axis that are looked at; more take time and say no more."""


def imageFacts(volumeNode: Any) -> ImageFacts | None:
    """Size, modality and lowest value of a volume; None if it has no voxels."""
    image = volumeNode.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        return None
    array = slicer.util.arrayFromVolume(volumeNode)
    some = array[tuple(slice(None, None, max(1, size // LOOKED_AT)) for size in array.shape[:3])]
    spacing, slices = tuple(volumeNode.GetSpacing()), min(array.shape[:3])
    return ImageFacts(spacing, slices, _modality(volumeNode), float(some.min()), isColorNode(volumeNode))


def _modality(volumeNode: Any) -> str | None:
    """What the DICOM header of the volume's series said when it was loaded."""
    hierarchy = hierarchyOf(volumeNode.GetScene())
    attribute = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    return hierarchy.GetItemAttribute(hierarchy.GetItemByDataNode(volumeNode), attribute) or None


def coveredVolume(volumeNode: Any, roi: RegionOfInterest | None) -> float:
    """How much of a volume a region covers (mm3), from the bounds of both."""
    corners = worldGeometry(volumeNode).corners_ras
    low, high = corners.min(axis=0), corners.max(axis=0)
    if roi is not None:
        low, high = np.maximum(low, roi.corners_ras.min(axis=0)), np.minimum(high, roi.corners_ras.max(axis=0))
    return float(np.clip(high - low, 0, None).prod())
