"""Volume nodes as volumes, the same object as long as voxels and place are the same."""

from __future__ import annotations

from typing import Any

from MedSegUncertaintyLib.scene.grids import volumeFromNode
from MedSegUncertaintyLib.volumes.geometry import Volume


class KeptVolumes:
    """Lets a worker see that it has an image already; an object per node is kept."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Any, Volume]] = {}

    def of(self, volumeNode: Any) -> Volume:
        """A volume node's voxels in the world; errors as of ``grids.volumeFromNode``."""
        volume = volumeFromNode(volumeNode)
        state = (volumeNode.GetImageData().GetMTime(), volume.geometry.ijk_to_ras.tobytes(), volume.array.shape)
        known = self._kept.get(volumeNode.GetID())
        if known is None or known[0] != state:
            self._kept[volumeNode.GetID()] = known = (state, volume)
        return known[1]

    def clear(self) -> None:
        """Let go of everything."""
        self._kept = {}
