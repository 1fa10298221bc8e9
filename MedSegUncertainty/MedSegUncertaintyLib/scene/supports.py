"""The examples of a volume as ordinary nodes: what was painted, and a table that says which slices count.

A set is a folder with a segmentation (a segment per structure, on the voxels of the volume) and a table (a row per
example), later also with the prediction. Python keeps nothing of it: node attributes say what is what, node references
what belongs together, so a set goes on after saving, loading and an update of the extension.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.propagation.examples import COLORS
from MedSegUncertaintyLib.scene.folder import hierarchyOf, nodesOfClass
from MedSegUncertaintyLib.scene.grids import localGeometry, worldGeometry
from MedSegUncertaintyLib.scene.segment_slices import filledIndices, paintedIndices, segmentSlice
from MedSegUncertaintyLib.scene.slice_places import SlicePlace, axisOf, positionOf
from MedSegUncertaintyLib.scene.support_table import OWN, Row, SlicedExample, readExamples, writeExamples
from MedSegUncertaintyLib.volumes.geometry import Geometry

ROLE = "MedSegUncertainty.Support"
"""Attribute of nodes: what they are in their set."""
FORMAT, FORMAT_VERSION = "MedSegUncertainty.SupportFormat", 1
"""Attribute of the painted segmentation."""
FIRST = "Structure 1"
"""What the first structure is called before the user does."""
PAINTED, EXAMPLES, PREDICTED = "painted", "examples", "predicted"
REFERENCE = "MedSegUncertainty."
"""Start of the reference roles from the painted segmentation to the other nodes; their role follows."""
LENT = "MedSegUncertainty.lent."
"""Start of the table's reference roles to other volumes; the number follows under which its rows know them."""


@dataclass(frozen=True)
class Supports:
    """The examples of one volume.

    Attributes:
        painted: The segmentation that the user paints; everything else is found from it.
    """

    painted: Any = field(repr=False)

    # Nodes

    @property
    def isThere(self) -> bool:
        """Whether it can be worked with; nodes come and go in a scene."""
        scene = self.painted.GetScene()
        return scene is not None and self.volumeNode is not None

    @property
    def volumeNode(self) -> Any | None:
        """The image; None once it was removed."""
        return self.painted.GetNodeReference(self.painted.GetReferenceImageGeometryReferenceRole())

    @property
    def table(self) -> Any:
        """The table of examples; a new one if somebody removed it."""
        return self.node(EXAMPLES) or self.addNode("vtkMRMLTableNode", "examples", EXAMPLES)

    def node(self, role: str) -> Any | None:
        """Another node of the set by its role."""
        return self.painted.GetNodeReference(REFERENCE + role)

    def addNode(self, className: str, name: str, role: str) -> Any:
        """A new node of the set, found again by its role."""
        scene = self.painted.GetScene()
        node = scene.AddNewNodeByClass(className, scene.GenerateUniqueName(f"{self.volumeNode.GetName()} - {name}"))
        node.SetAttribute(ROLE, role)
        self.painted.SetNodeReferenceID(REFERENCE + role, node.GetID())
        hierarchy = hierarchyOf(scene)
        _place(node, hierarchy.GetItemParent(hierarchy.GetItemByDataNode(self.painted)))
        return node

    # What is painted

    @property
    def segmentIds(self) -> list[str]:
        """Ids of the structures, in their order."""
        return list(self.painted.GetSegmentation().GetSegmentIDs())

    @property
    def names(self) -> dict[str, str]:
        """What the structures are called, by id."""
        segmentation = self.painted.GetSegmentation()
        return {one: segmentation.GetSegment(one).GetName() for one in self.segmentIds}

    @property
    def colors(self) -> dict[str, tuple[float, float, float]]:
        """Colors of the structures by id, 0 to 1."""
        segmentation = self.painted.GetSegmentation()
        return {one: segmentation.GetSegment(one).GetColor() for one in self.segmentIds}

    @property
    def grid(self) -> Geometry:
        """Voxels of the volume in the coordinates of the nodes."""
        return localGeometry(self.volumeNode)

    def axis(self, plane: str) -> int:
        """Axis of IJK that the slices of a plane are perpendicular to."""
        return axisOf(plane, worldGeometry(self.volumeNode))

    def pixels(self, segmentId: str, place: SlicePlace) -> np.ndarray:
        """What is painted of a structure in a slice, as ``segment_slices.segmentSlice`` gives it."""
        return segmentSlice(self.painted, segmentId, self.grid, self.axis(place.plane), place.index)

    def outlined(self, place: SlicePlace) -> tuple[str, ...]:
        """Ids of the structures that are painted in a slice."""
        return tuple(one for one in self.segmentIds if self.pixels(one, place).any())

    def paintedIn(self, plane: str) -> list[int]:
        """The slices of a plane in which anything is painted."""
        return filledIndices(self.painted, self.grid, self.axis(plane))

    # The list

    def examples(self) -> list[SlicedExample]:
        """All examples, the set's own first, by position; those of volumes that have gone are left out."""
        found = []
        for row in readExamples(self.table):
            source = self.source(row.volume)
            if source is not None:
                known, outlined = source.segmentIds, source.outlined(row.place)
                said = row.absent if source is self else source.saidAbsent(row.place)
                absent = tuple(one for one in said if one in known and one not in outlined)
                found.append(replace(row, outlined=outlined, absent=absent))
        return sorted(found, key=lambda one: one.key)

    def saidAbsent(self, place: SlicePlace) -> tuple[str, ...]:
        """Ids of the structures that an example of the set's own says are not in a slice."""
        own = (row.absent for row in readExamples(self.table) if row.key == SlicedExample(place).key)
        return next(own, ())

    @property
    def plane(self) -> str | None:
        """The plane of the set's own examples; None before the first."""
        return next((row.place.plane for row in readExamples(self.table) if row.volume == OWN), None)

    def source(self, volume: int) -> Supports | None:
        """The set in which a volume's examples are painted; None if it has gone."""
        if volume == OWN:
            return self
        other = self.table.GetNodeReference(f"{LENT}{volume}")
        return None if other is None or other is self.volumeNode else supportsOf(other)

    def refresh(self) -> list[SlicedExample]:
        """Let nodes and table follow what was painted, renamed or removed; returns the examples."""
        self.painted.SetAndObserveTransformNodeID(self.volumeNode.GetTransformNodeID())
        found = self.examples()
        self._write(found)
        return found

    def add(self, place: SlicePlace) -> None:
        """Make a slice an example.

        Raises:
            BadInputError: Nothing is painted in it, or it lies in another plane than the other examples.
        """
        self.checkPlane(place)
        if not self.outlined(place):
            raise BadInputError(
                f"Nothing is painted in slice {place.index}; outline a structure there, or press 'Absent here'."
            )
        self._put(self._at(place))

    def addAll(self, places: Iterable[SlicePlace], absent: Mapping[SlicePlace, Iterable[str]] | None = None) -> None:
        """Make slices examples at once; those in which nothing is painted or said to be absent are left out.

        Args:
            places: Slices of the plane of the other examples.
            absent: Ids of the structures that are not in a slice.
        """
        known, absent = {one.key: one for one in self.examples()}, absent or {}
        for place in dict.fromkeys([*places, *absent]):
            self.checkPlane(place)
            old = known.get(SlicedExample(place).key, SlicedExample(place))
            said = (*old.absent, *(one for one in absent.get(place, ()) if one not in old.absent))
            new = replace(old, used=True, absent=said, outlined=self.outlined(place))
            if new.kind != "empty":
                known[new.key] = new
        self._write(known.values())
        self.refresh()

    def structure(self, name: str, color: Sequence[float]) -> str:
        """Id of the structure of a name, added if there is none; the first one takes the name while it is untouched."""
        segmentation = self.painted.GetSegmentation()
        found = segmentation.GetSegmentIdBySegmentName(name)
        if found:
            return found
        ids = self.segmentIds
        if list(self.names.values()) == [FIRST] and not paintedIndices(self.painted, ids[0], self.grid, 2):
            segmentation.GetSegment(ids[0]).SetName(name)
            segmentation.GetSegment(ids[0]).SetColor(*color)
            return ids[0]
        return segmentation.AddEmptySegment("", name, list(color))

    def markAbsent(self, place: SlicePlace) -> None:
        """Say that what is not painted in a slice is not there.

        Raises:
            BadInputError: Every structure is painted there, or it lies in another plane than the other examples.
        """
        self.checkPlane(place)
        painted = self.outlined(place)
        absent = tuple(one for one in self.segmentIds if one not in painted)
        if not absent:
            raise BadInputError(
                f"Every structure is painted in slice {place.index}; erase what is not there, or move to another slice."
            )
        self._put(replace(self._at(place), absent=absent))

    def use(self, example: SlicedExample, used: bool) -> None:
        """Let an example count, or leave it out."""
        self._write(replace(one, used=used) if one.key == example.key else one for one in self.examples())

    def remove(self, example: SlicedExample) -> None:
        """Take an example off the list; what was painted stays."""
        self._write(one for one in self.examples() if one.key != example.key)

    def lend(self, other: Supports) -> int:
        """Use the examples of another volume as well; returns how many are new.

        Raises:
            BadInputError: It has none that is outlined.
        """
        theirs = [one for one in other.examples() if one.volume == OWN and one.kind != "empty"]
        if not any(one.outlined for one in theirs):
            raise BadInputError(f"{other.volumeNode.GetName()} has no outlined examples; add some there first.")
        number, own = self._numberOf(other.volumeNode), self.examples()
        known = {one.key for one in own}
        new = [one for one in (SlicedExample(one.place, number) for one in theirs) if one.key not in known]
        self._write([*own, *new])
        self.refresh()
        return len(new)

    def _at(self, place: SlicePlace) -> SlicedExample:
        """The example at a slice, used, whether it is on the list or not."""
        own = next((one for one in self.examples() if one.key == SlicedExample(place).key), SlicedExample(place))
        return replace(own, used=True)

    def _put(self, example: SlicedExample) -> None:
        self._write([*(one for one in self.examples() if one.key != example.key), example])
        self.refresh()

    def checkPlane(self, place: SlicePlace) -> None:
        """Refuse a slice of another plane than that of the other examples, with a BadInputError."""
        if self.plane not in (None, place.plane):
            raise BadInputError(
                f"The other examples are {self.plane} slices, and this one is {place.plane}; use a view of that plane, "
                "or remove them first."
            )

    def _numberOf(self, volumeNode: Any) -> int:
        table, number = self.table, OWN + 1
        while (other := table.GetNodeReference(f"{LENT}{number}")) is not None and other is not volumeNode:
            number += 1
        table.SetNodeReferenceID(f"{LENT}{number}", volumeNode.GetID())
        return number

    def _write(self, examples: Iterable[SlicedExample]) -> None:
        rows = []
        for one in sorted(examples, key=lambda one: one.key):
            source = self.source(one.volume)
            volumeNode, names = source.volumeNode, source.names
            position = positionOf(one.place, worldGeometry(volumeNode))
            rows.append(Row(one, volumeNode.GetName(), position, tuple(names[part] for part in one.outlined)))
        writeExamples(self.table, rows)


def findSupports(scene: Any) -> list[Supports]:
    """All sets in a scene whose volume is there, for example one that was loaded."""
    nodes = nodesOfClass(scene, "vtkMRMLSegmentationNode")
    return [one for one in (Supports(node) for node in nodes if node.GetAttribute(ROLE) == PAINTED) if one.isThere]


def supportsOf(volumeNode: Any) -> Supports | None:
    """The set of a volume; None if it has none.

    Raises:
        BadInputError: A later version of the extension made it.
    """
    found = next((one for one in findSupports(volumeNode.GetScene()) if one.volumeNode is volumeNode), None)
    if found is not None and int(found.painted.GetAttribute(FORMAT)) > FORMAT_VERSION:
        raise BadInputError(
            f"The examples of {volumeNode.GetName()} were made with a later version of this extension; update it."
        )
    return found


def createSupports(volumeNode: Any) -> Supports:
    """The set of a volume; a new one with a first structure if it has none."""
    existing = supportsOf(volumeNode)
    if existing is not None:
        return existing
    scene, name = volumeNode.GetScene(), volumeNode.GetName()
    hierarchy = hierarchyOf(scene)
    sibling = hierarchy.GetItemByDataNode(volumeNode)
    parent = hierarchy.GetItemParent(sibling) if sibling else hierarchy.GetSceneItemID()
    folder = hierarchy.CreateFolderItem(parent, hierarchy.GenerateUniqueItemName(f"{name} - examples"))
    painted = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(f"{name} - painted"))
    painted.SetAttribute(ROLE, PAINTED)
    painted.SetAttribute(FORMAT, str(FORMAT_VERSION))
    painted.CreateDefaultDisplayNodes()
    painted.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    painted.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    painted.GetSegmentation().AddEmptySegment("", FIRST, COLORS[0])
    _place(painted, folder)
    return Supports(painted)


def removeIfUnused(supports: Supports) -> None:
    """Take away a set in which nothing was done, with its folder."""
    if not supports.isThere or readExamples(supports.table):
        return
    if filledIndices(supports.painted, supports.grid, 2):
        return
    scene, hierarchy = supports.painted.GetScene(), hierarchyOf(supports.painted.GetScene())
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(supports.painted))
    nodes = [supports.node(PREDICTED), supports.node(EXAMPLES), supports.painted]
    for node in filter(None, nodes):
        display = node.GetDisplayNode() if node.IsA("vtkMRMLDisplayableNode") else None
        scene.RemoveNode(node)
        if display is not None and scene.IsNodePresent(display):
            scene.RemoveNode(display)
    if folder and not hierarchy.GetNumberOfItemChildren(folder):
        hierarchy.RemoveItem(folder)


def _place(node: Any, parent: int) -> None:
    hierarchy = hierarchyOf(node.GetScene())
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)
