"""From a volume node to the nodes of its result, in one call."""

from __future__ import annotations

from typing import Any

from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.scene.grids import regionFromNode, volumeFromNode
from MedSegUncertaintyLib.scene.nodes import ResultNodes, addResult


def segmentVolumeNode(
    volumeNode: Any, packageName: str, samples: int = 16, seed: int = 0, roiNode: Any = None
) -> ResultNodes:
    """Draw segmentations of a volume node and add them, their maps and tables to its scene.

    Args:
        volumeNode: A scalar volume; linear parent transforms are followed.
        packageName: Name of an installed model package, or the path of its folder.
        samples: How many segmentations to draw.
        seed: The same seed, package and image give the same samples.
        roiNode: A markups ROI; its bounds in the world are what is segmented. ``None`` for the whole volume.

    Raises:
        MedSegError: A sentence for the user; the scene is as before.
    """
    from MedSegUncertaintyLib.inference.run import segment  # imports torch

    roi = None if roiNode is None else regionFromNode(roiNode)
    request = InferenceRequest(packageName, samples, seed, roi)
    return addResult(segment(volumeFromNode(volumeNode), request), volumeNode)
