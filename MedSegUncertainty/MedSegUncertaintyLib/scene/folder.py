"""The subject-hierarchy folder that holds everything one result brings into the scene."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import slicer
import vtk

from MedSegUncertaintyLib.errors import BadInputError

ROLE = "MedSegUncertainty.Role"
"""Attribute that says what a node or a folder is in its result; it survives saving and loading."""

RESULT, SCALES, LEAVING = "result", "scales", "leaving"
"""Roles of the folder itself, of the folder in it that holds color tables and legends, and of one being emptied."""


class NodeFolder:
    """A folder beside an input volume; nodes made through it lie in it and under the volume's parent transform.

    They say in their description what the numbers and shapes of the result are.

    Removing the folder removes the nodes, whoever does it. Every node that Slicer would not take away together with
    another one therefore has an item of its own, color tables and legends included.
    """

    def __init__(self, scene: Any, item: int, scales: int, transformId: str | None, description: str) -> None:
        self.scene, self.item = scene, item
        self._scales, self._transformId, self._description = scales, transformId, description

    @classmethod
    def beside(cls, volumeNode: Any, name: str, description: str = "") -> NodeFolder:
        """A new folder beside a volume; its nodes get a description."""
        scene = volumeNode.GetScene()
        hierarchy = hierarchyOf(scene)
        sibling = hierarchy.GetItemByDataNode(volumeNode)
        parent = hierarchy.GetItemParent(sibling) if sibling else hierarchy.GetSceneItemID()
        item = hierarchy.CreateFolderItem(parent, hierarchy.GenerateUniqueItemName(name))
        hierarchy.SetItemAttribute(item, ROLE, RESULT)
        # First of all items: a legend has to go before its volume, or the volume's display node stays behind.
        scales = hierarchy.CreateFolderItem(item, "Color scales")
        hierarchy.SetItemAttribute(scales, ROLE, SCALES)
        hierarchy.SetItemExpanded(scales, False)
        return cls(scene, item, scales, volumeNode.GetTransformNodeID(), description)

    @classmethod
    def existing(cls, scene: Any, item: int) -> NodeFolder:
        """The folder of a result in the scene; new nodes have the transform and the description of its samples."""
        hierarchy, children = hierarchyOf(scene), vtk.vtkIdList()
        hierarchy.GetItemChildren(item, children, False)
        items = [children.GetId(n) for n in range(children.GetNumberOfIds())]
        scales = next((child for child in items if hierarchy.GetItemAttribute(child, ROLE) == SCALES), item)
        samples = nodesInFolder(scene, item)["samples"]
        return cls(scene, item, scales, samples.GetTransformNodeID(), samples.GetDescription() or "")

    def add(self, className: str, name: str, role: str) -> Any:
        """A new node of the result."""
        node = self.scene.AddNewNodeByClass(className, self.scene.GenerateUniqueName(name))
        self.adopt(node, role)
        return node

    def adopt(self, node: Any, role: str) -> None:
        """Make a node that something else created part of the result."""
        node.SetAttribute(ROLE, role)
        node.SetDescription(self._description)
        if node.IsA("vtkMRMLTransformableNode"):
            node.SetAndObserveTransformNodeID(self._transformId)
        self._place(node, self.item)

    def adoptScale(self, node: Any, role: str) -> None:
        """Make a color table or a legend part of the result."""
        node.SetAttribute(ROLE, role)
        self._place(node, self._scales)

    def _place(self, node: Any, parent: int) -> None:
        hierarchy = hierarchyOf(self.scene)
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.SetItemParent(item, parent)
        else:
            hierarchy.CreateItem(parent, node)


def hierarchyOf(scene: Any) -> Any:
    """The subject hierarchy of a scene."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def nodesOfClass(scene: Any, className: str) -> list[Any]:
    """All nodes of a class, and of those derived from it."""
    return [scene.GetNthNodeByClass(n, className) for n in range(scene.GetNumberOfNodesByClass(className))]


def folderOf(node: Any) -> int | None:
    """The folder of the result that holds a node, also if the node was moved into a subfolder; None outside of all."""
    hierarchy = hierarchyOf(node.GetScene())
    item = hierarchy.GetItemByDataNode(node)
    while item and hierarchy.GetItemAttribute(item, ROLE) != RESULT:
        item = hierarchy.GetItemParent(item)
    return item or None


def nodesInFolder(scene: Any, item: int) -> dict[str, Any]:
    """Nodes of a result's folder by their role."""
    items = vtk.vtkIdList()
    hierarchy = hierarchyOf(scene)
    hierarchy.GetItemChildren(item, items, True)
    nodes = [hierarchy.GetItemDataNode(items.GetId(n)) for n in range(items.GetNumberOfIds())]
    return {node.GetAttribute(ROLE): node for node in nodes if node is not None and node.GetAttribute(ROLE)}


def removeFolder(scene: Any, item: int) -> None:
    """Remove the folder of a result, its nodes, and their display and storage nodes.

    Slicer itself forgets the storage nodes of tables, color tables and sequences.

    Raises:
        BadInputError: The item is not the folder of a result; nothing was removed.
    """
    for _ in removeFolderInSteps(scene, item):
        pass


def removeFolderInSteps(scene: Any, item: int) -> Iterator[None]:
    """Like :func:`removeFolder`, node by node; has to be run to the end, unless the scene is closed.

    From the call on, before the first step, the folder is that of a result no more.
    """
    hierarchy = hierarchyOf(scene)
    if hierarchy.GetItemAttribute(item, ROLE) != RESULT:
        raise BadInputError(f"'{hierarchy.GetItemName(item)}' is not the folder of a result; nothing was removed.")
    hierarchy.SetItemAttribute(item, ROLE, LEAVING)
    return _emptyInSteps(scene, hierarchy, item)


def _emptyInSteps(scene: Any, hierarchy: Any, item: int) -> Iterator[None]:
    children = vtk.vtkIdList()
    hierarchy.GetItemChildren(item, children, True)  # legends first, as Slicer itself would go through them
    for child in [children.GetId(n) for n in range(children.GetNumberOfIds())]:
        node = hierarchy.GetItemDataNode(child)
        if node is None:
            continue
        # In one step: displayable managers follow display nodes of a segmentation that is no longer in the scene.
        helpers = _helperIds(node)
        del node
        hierarchy.RemoveItem(child, True, True)
        for helper in filter(None, map(scene.GetNodeByID, helpers)):
            scene.RemoveNode(helper)
        yield
    hierarchy.RemoveItem(item, True, True)


def _helperIds(node: Any) -> list[str]:
    references = [(role, n) for role in ("display", "storage") for n in range(node.GetNumberOfNodeReferences(role))]
    helpers = (node.GetNthNodeReference(role, n) for role, n in references)
    return [helper.GetID() for helper in helpers if helper is not None]
