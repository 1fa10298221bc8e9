"""One call turns a result into nodes, one call (or removing their folder) takes them away again."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.scene.folder import NodeFolder, removeFolder, removeFolderInSteps
from MedSegUncertaintyLib.scene.grids import localGeometry, worldGeometry
from MedSegUncertaintyLib.scene.maps import DEFAULT_MAPS, addMaps
from MedSegUncertaintyLib.scene.places import addSliceTable
from MedSegUncertaintyLib.scene.results import ResultNodes, findResults
from MedSegUncertaintyLib.scene.segmentations import addContours, addSamples
from MedSegUncertaintyLib.scene.sequences import addSampleSlider
from MedSegUncertaintyLib.scene.tables import addTables
from MedSegUncertaintyLib.scene.viewer import hideSegmentations, leaveViews

if TYPE_CHECKING:
    from MedSegUncertaintyLib.inference.result import InferenceResult

__all__ = ["ResultNodes", "addResult", "addResultInSteps", "findResults", "removeResult", "removeResultInSteps"]


def addResult(result: InferenceResult, volumeNode: Any, maps: Sequence[str] = DEFAULT_MAPS) -> ResultNodes:
    """Add a result to the scene of the volume that it was made from; the volume itself is not changed.

    Args:
        result: Samples and statistics; its geometry is the volume's in the world.
        volumeNode: The segmented volume. The new nodes share its parent transform and lie on its voxels.
        maps: Which kinds of maps to add (keys of ``maps.MAP_KINDS``).

    Returns:
        The new nodes, all in one subject-hierarchy folder beside the volume.

    Raises:
        BadInputError: The result does not belong to this volume, or the volume's transform cannot be followed. The
            scene is as before.
    """
    steps = addResultInSteps(result, volumeNode, maps)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def addResultInSteps(
    result: InferenceResult, volumeNode: Any, maps: Sequence[str] = DEFAULT_MAPS
) -> Generator[None, None, ResultNodes]:
    """Like :func:`addResult`, in steps of some 10 ms between which a window can handle its events.

    Closing the generator on the way leaves the scene as before, and so does any error.
    """
    if not result.geometry.matches(worldGeometry(volumeNode)):
        raise BadInputError(
            f"The result was made on another voxel grid than that of the volume {volumeNode.GetName()}; "
            "choose the volume that was segmented, at the place where it was then."
        )
    name = f"{volumeNode.GetName()} - {result.package.title}"
    folder = NodeFolder.beside(volumeNode, name, result.summary["spread"])
    try:
        yield from addContours(folder, result, volumeNode)
        yield from addSamples(folder, result, volumeNode)
        yield from addSampleSlider(folder, result, volumeNode)
        yield from addMaps(folder, result, volumeNode, maps)
        addTables(folder, result, localGeometry(volumeNode).cropped(result.box))
        yield
        yield from addSliceTable(folder, result, volumeNode)
        folder.add("vtkMRMLScriptedModuleNode", "Views", "viewer")
    except BaseException:  # closing a generator raises GeneratorExit in it
        removeFolder(folder.scene, folder.item)
        raise
    return ResultNodes.fromFolder(folder.scene, folder.item)


def removeResult(nodes: ResultNodes) -> None:
    """Remove the nodes of a result, their folder, and their display and storage nodes.

    Views that show the result go back to what they showed before.

    Raises:
        BadInputError: The nodes were not taken from the folder of a result; nothing was removed.
    """
    for _ in removeResultInSteps(nodes):
        pass


def removeResultInSteps(nodes: ResultNodes) -> Iterator[None]:
    """Like :func:`removeResult`, in steps between which a window can handle its events.

    It has to be run to the end, unless the scene is closed: while that happens, no step may be taken. From the call on,
    before the first step, the views show nothing of it and :func:`findResults` does not find it.
    """
    if "viewer" in nodes.byRole:
        leaveViews(nodes)
        hideSegmentations(nodes)
    return removeFolderInSteps(nodes.scene, nodes.folder)
