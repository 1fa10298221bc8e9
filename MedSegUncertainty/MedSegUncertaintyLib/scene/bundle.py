"""Files and results that come from outside of a scene, as nodes of the scene of this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from MedSegUncertaintyLib.scene.folder import hierarchyOf
from MedSegUncertaintyLib.scene.grids import setGrid
from MedSegUncertaintyLib.scene.headless import ensureApplication
from MedSegUncertaintyLib.scene.nodes import ResultNodes, addResult, removeResult
from MedSegUncertaintyLib.volumes.geometry import Volume

if TYPE_CHECKING:
    from MedSegUncertaintyLib.inference.result import InferenceResult

STORABLE = {np.dtype(bool): np.uint8, np.dtype(np.float16): np.float32}
"""What MRML stores instead of truth values and half-precision numbers."""
INT32 = np.iinfo(np.int32)


def addVolume(volume: Volume) -> Any:
    """A scalar volume node of a volume, with an item in the subject hierarchy."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", volume.name)
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(volume.array, dtype=_storable(volume.array)))
    setGrid(node, volume.geometry)
    node.CreateDefaultDisplayNodes()
    hierarchy = hierarchyOf(slicer.mrmlScene)
    if not hierarchy.GetItemByDataNode(node):
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    return node


def _storable(array: np.ndarray) -> np.dtype:
    """The kind of number as which MRML stores an array; it has no whole numbers of 64 bits."""
    if array.dtype in (np.int64, np.uint64):
        return np.dtype(np.int32 if INT32.min <= array.min() and array.max() <= INT32.max else np.float64)
    return np.dtype(STORABLE.get(array.dtype, array.dtype))


@contextmanager
def resultInScene(volume: Volume, result: InferenceResult) -> Iterator[tuple[Any, ResultNodes]]:
    """Volume node and result nodes in the scene of this process, which is left as it was."""
    scene = ensureApplication().mrmlScene()
    volumeNode = addVolume(volume)
    try:
        nodes = addResult(result, volumeNode)
        try:
            yield volumeNode, nodes
        finally:
            removeResult(nodes)
    finally:
        # A volume that was saved has a storage node by now.
        for node in filter(None, (volumeNode.GetDisplayNode(), volumeNode.GetStorageNode(), volumeNode)):
            scene.RemoveNode(node)
