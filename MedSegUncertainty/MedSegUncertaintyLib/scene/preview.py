"""The mean of the first samples over the image, while the others are still being drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from MedSegUncertaintyLib.scene.folder import NodeFolder, nodesOfClass, removeFolder
from MedSegUncertaintyLib.scene.grids import localGeometry, worldGeometry
from MedSegUncertaintyLib.scene.maps import addMap
from MedSegUncertaintyLib.volumes.geometry import Geometry

OPACITY = 0.5


class PreviewMap:
    """A map in the foreground of all slice views; ``remove`` leaves scene and views as they were.

    Args:
        volumeNode: The volume that is being segmented.
    """

    def __init__(self, volumeNode: Any) -> None:
        self._volumeNode, self._folder, self._node = volumeNode, None, None
        self._before: list[tuple[Any, str | None, float]] = []

    def show(self, mean: np.ndarray, grid: Geometry) -> None:
        """Show, or show anew, what the samples say so far.

        Args:
            mean: (N, K, J, I) mean probability of each structure; the largest one is shown.
            grid: Its grid in the world.
        """
        array = mean.max(axis=0)
        if self._node is not None:
            slicer.util.updateVolumeFromArray(self._node, array)
            return
        self._folder = NodeFolder.beside(self._volumeNode, f"{self._volumeNode.GetName()} - preview")
        self._node = addMap(self._folder, "mean", None, array, self._local(grid), len(mean) + 1)
        for composite in nodesOfClass(self._folder.scene, "vtkMRMLSliceCompositeNode"):
            self._before.append((composite, composite.GetForegroundVolumeID(), composite.GetForegroundOpacity()))
            composite.SetForegroundVolumeID(self._node.GetID())
            composite.SetForegroundOpacity(OPACITY)

    def _local(self, grid: Geometry) -> Geometry:
        """A grid of the world below the parent transform of the volume."""
        toLocal = localGeometry(self._volumeNode).ijk_to_ras @ np.linalg.inv(worldGeometry(self._volumeNode).ijk_to_ras)
        return Geometry(grid.shape_ijk, toLocal @ grid.ijk_to_ras)

    def remove(self) -> None:
        """Take the map away; nothing happens if there is none."""
        if self._node is None:
            return
        for composite, foreground, opacity in self._before:
            if composite.GetForegroundVolumeID() == self._node.GetID():
                composite.SetForegroundVolumeID(foreground)
                composite.SetForegroundOpacity(opacity)
        removeFolder(self._folder.scene, self._folder.item)
        self._node = self._folder = None
        self._before = []
