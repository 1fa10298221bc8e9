"""One call turns a result into nodes, one call (or removing their folder) takes them away again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.scene.folder import ROLE, NodeFolder, folderOf, nodesInFolder, removeFolder
from MedSegUncertaintyLib.scene.grids import worldGeometry
from MedSegUncertaintyLib.scene.maps import DEFAULT_MAPS, addMaps
from MedSegUncertaintyLib.scene.segmentations import addContours, addSamples
from MedSegUncertaintyLib.scene.sequences import addSampleSlider
from MedSegUncertaintyLib.scene.tables import addTables


@dataclass(frozen=True)
class ResultNodes:
    """The nodes of one result.

    Attributes:
        folder: Subject-hierarchy item that holds them.
        scene: The scene that they are in.
        byRole: Every node by what it is: "samples", "contours", "map.variance.left_blob", "volumes" and so on.
    """

    folder: int
    scene: Any = field(repr=False)
    byRole: dict[str, Any] = field(repr=False)

    @classmethod
    def fromFolder(cls, scene: Any, folder: int) -> ResultNodes:
        """The nodes of a folder in the subject hierarchy, for example of a scene that was loaded."""
        return cls(folder, scene, nodesInFolder(scene, folder))

    @property
    def samples(self) -> Any:
        """Segmentation with a segment per sample and structure."""
        return self.byRole["samples"]

    @property
    def contours(self) -> Any:
        """Segmentation with the 95, 50 and 5 % regions of each structure."""
        return self.byRole["contours"]

    @property
    def sequence(self) -> Any:
        """Sequence of the samples."""
        return self.byRole["sequence"]

    @property
    def browser(self) -> Any:
        """Sequence browser: ``SetSelectedItemNumber(n)`` selects sample n, counted from 0."""
        return self.byRole["browser"]

    @property
    def selectedSample(self) -> Any:
        """Segmentation that shows the selected sample."""
        return self.byRole["selected"]

    @property
    def maps(self) -> dict[str, Any]:
        """Scalar volumes by key: "entropy", "variance.left_blob" and so on."""
        return self._withPrefix("map.")

    @property
    def legends(self) -> dict[str, Any]:
        """Color legends of the maps, by the same keys."""
        return self._withPrefix("legend.")

    @property
    def volumesTable(self) -> Any:
        """Volumes in mL: a row per sample, a column per structure."""
        return self.byRole["volumes"]

    @property
    def summaryTable(self) -> Any:
        """Numbers per structure."""
        return self.byRole["summary"]

    @property
    def chart(self) -> Any:
        """Plot of the sorted volumes."""
        return self.byRole["chart"]

    @property
    def record(self) -> Any:
        """Text node with what was run, as JSON."""
        return self.byRole["record"]

    def _withPrefix(self, prefix: str) -> dict[str, Any]:
        return {role.removeprefix(prefix): node for role, node in self.byRole.items() if role.startswith(prefix)}


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
    if not result.geometry.matches(worldGeometry(volumeNode)):
        raise BadInputError(
            f"The result was made on another voxel grid than that of the volume {volumeNode.GetName()}; "
            "choose the volume that was segmented, at the place where it was then."
        )
    folder = NodeFolder(volumeNode, f"{volumeNode.GetName()} - {result.package.title}")
    try:
        addContours(folder, result, volumeNode)
        addSamples(folder, result, volumeNode)
        addSampleSlider(folder, result, volumeNode)
        addMaps(folder, result, volumeNode, maps)
        addTables(folder, result)
    except Exception:
        removeFolder(folder.scene, folder.item)
        raise
    return ResultNodes.fromFolder(folder.scene, folder.item)


def findResults(scene: Any) -> list[ResultNodes]:
    """All results in a scene, for example one that was loaded from a file.

    A result whose samples were moved out of its folder is left out: it can no longer be told what belongs to it.
    """
    segmentations = (
        scene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"))
    )
    folders = [folderOf(node) for node in segmentations if node.GetAttribute(ROLE) == "samples"]
    return [ResultNodes.fromFolder(scene, folder) for folder in dict.fromkeys(folders) if folder is not None]


def removeResult(nodes: ResultNodes) -> None:
    """Remove the nodes of a result, their folder, and their display and storage nodes.

    Raises:
        BadInputError: The nodes were not taken from the folder of a result; nothing was removed.
    """
    removeFolder(nodes.scene, nodes.folder)
