"""The nodes of a result, found by what they are; nothing is kept but the folder that they lie in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from MedSegUncertaintyLib.models.sample_kinds import MODEL_SAMPLES
from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.scene.folder import ROLE, folderOf, nodesInFolder, nodesOfClass
from MedSegUncertaintyLib.volumes.geometry import Geometry


@dataclass(frozen=True)
class ResultNodes:
    """The nodes of one result.

    Attributes:
        folder: Subject-hierarchy item that holds them.
        scene: The scene that they are in.
    """

    folder: int
    scene: Any = field(repr=False)

    @classmethod
    def fromFolder(cls, scene: Any, folder: int) -> ResultNodes:
        """The nodes of a folder in the subject hierarchy, for example of a scene that was loaded."""
        return cls(folder, scene)

    @property
    def byRole(self) -> dict[str, Any]:
        """Every node by what it is: "samples", "contours", "map.variance.left_blob", "volumes" and so on.

        Looked up anew each time, as maps are added when they are first shown.
        """
        return nodesInFolder(self.scene, self.folder)

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

    @property
    def run(self) -> dict[str, Any]:
        """What :attr:`record` holds."""
        return json.loads(self.record.GetText())

    @property
    def sampleKind(self) -> str:
        """What the samples are (see ``models.sample_kinds``)."""
        return str(self.run["summary"].get("sample_kind", MODEL_SAMPLES))  # earlier versions had no other kind

    @property
    def structures(self) -> tuple[Structure, ...]:
        """What was segmented, in the order of the package."""
        return tuple(map(Structure.from_json, self.run["structures"]))

    @property
    def grid(self) -> Geometry:
        """Grid of the maps: the part of the volume that was segmented, below the parent transform."""
        return Geometry.from_json(self.run["grid"])

    @property
    def sliceTable(self) -> Any:
        """Slices to look at first, per structure and plane."""
        return self.byRole["slices"]

    @property
    def viewer(self) -> Any:
        """Parameter node: what the views showed before they showed this result."""
        return self.byRole["viewer"]

    @property
    def inputVolume(self) -> Any | None:
        """The segmented volume; None once it was removed from the scene."""
        return self.samples.GetNodeReference(self.samples.GetReferenceImageGeometryReferenceRole())

    def _withPrefix(self, prefix: str) -> dict[str, Any]:
        return {role.removeprefix(prefix): node for role, node in self.byRole.items() if role.startswith(prefix)}


def findResults(scene: Any) -> list[ResultNodes]:
    """All results in a scene, for example one that was loaded from a file.

    A result whose samples were moved out of its folder is left out: it can no longer be told what belongs to it.
    """
    segmentations = nodesOfClass(scene, "vtkMRMLSegmentationNode")
    folders = [folderOf(node) for node in segmentations if node.GetAttribute(ROLE) == "samples"]
    return [ResultNodes.fromFolder(scene, folder) for folder in dict.fromkeys(folders) if folder is not None]
