"""From a volume node to the nodes of its result, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from MedSegUncertaintyLib.inference.progress import CancelToken, Progress
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.packages.store import find_package
from MedSegUncertaintyLib.scene.grids import colorsFromNode, isColorNode, regionFromNode, volumeFromNode
from MedSegUncertaintyLib.scene.nodes import ResultNodes, addResult


def segmentVolumeNode(
    volumeNode: Any,
    packageName: str,
    samples: int = 16,
    seed: int = 0,
    roiNode: Any = None,
    *,
    channelNodes: Mapping[str, Any] | None = None,
    device: str = "auto",
    progress: Callable[[Progress], None] | None = None,
    cancel: CancelToken | None = None,
) -> ResultNodes:
    """Draw segmentations of a volume node and add them, their maps and tables to its scene.

    Args:
        volumeNode: A scalar volume, the first channel of the package; linear parent transforms are followed. For a
            package that takes color images a vector volume may hold all channels.
        packageName: Name of an installed model package, or the path of its folder.
        samples: How many segmentations to draw.
        seed: The same seed, package and image give the same samples.
        roiNode: A markups ROI; its bounds in the world are what is segmented. ``None`` for the whole volume.
        channelNodes: Scalar volumes of the package's other channels by role, each under its own linear transform.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        progress: Called at the start of each stage and after each tile and sample, in this thread.
        cancel: Stops the work, also while it runs; the scene is then as before.

    Raises:
        MedSegError: A sentence for the user; the scene is as before.
    """
    # A wrong name is answered before torch, which is slow to import and may be missing.
    package = find_package(packageName)
    roi = None if roiNode is None else regionFromNode(roiNode)
    request = InferenceRequest(packageName, samples, seed, roi, device)
    if package.takes_color and not channelNodes and isColorNode(volumeNode):
        channels = colorsFromNode(volumeNode)
        volume = channels.pop(package.channels[0].role)
    else:
        package.check_channels(channelNodes or {})
        volume = volumeFromNode(volumeNode)
        channels = {role: volumeFromNode(node) for role, node in (channelNodes or {}).items()}

    from MedSegUncertaintyLib.inference.run import segment

    return addResult(segment(volume, request, channels=channels, progress=progress, cancel=cancel), volumeNode)
