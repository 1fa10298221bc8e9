"""Combo boxes that follow the nodes of a scene."""

from types import SimpleNamespace
from typing import Any

import ctk
import qt
import vtk
from PySide6.QtCore import Signal

from slicer_stand_in.attributes import qproperty, standIn, stored
from slicer_stand_in.observers import observe, unobserve

REFILLING = ("EndBatchProcessEvent", "EndCloseEvent", "EndImportEvent", "EndRestoreEvent")


def option(typeName: str, name: str) -> Any:
    """A property that decides which rows there are."""

    def write(self: Any, value: Any) -> None:
        setattr(self._d, name, value)
        self._onRefill()

    return qproperty(typeName, name, lambda self: getattr(self._d, name), write)


@standIn()
class qMRMLNodeComboBox(qt.QWidget):
    """Chooses a node of given classes; rows for "none", nodes, and actions such as creating a node.

    Change signals come only when the current node changes. Removal of the current node selects the row before it,
    which may be another node.
    """

    currentNodeChanged = Signal((object,), (bool,))
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    nodeAboutToBeEdited = Signal(object)
    currentNodeRenamed = Signal(str)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        combo = ctk.ctkComboBox(self)
        self._d = SimpleNamespace(
            combo=combo, scene=None, ids=[], current=None, wanted=None, filling=False,
            observations=[], nodeObservations={}, attributes=[], labels={},
            nodeTypes=[], hideChildNodeTypes=[], showHidden=False, showChildNodeTypes=True,
            noneEnabled=False, addEnabled=True, removeEnabled=True, editEnabled=False, renameEnabled=False,
            noneDisplay="None",
        )  # fmt: skip
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(combo)
        self.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        combo.currentIndexChanged.connect(self._onIndex)
        combo.activated.connect(self._onActivated)
        self.setEnabled(False)

    nodeTypes = option("QStringList", "nodeTypes")
    hideChildNodeTypes = option("QStringList", "hideChildNodeTypes")
    showHidden = option("bool", "showHidden")
    showChildNodeTypes = option("bool", "showChildNodeTypes")
    noneEnabled = option("bool", "noneEnabled")
    addEnabled = option("bool", "addEnabled")
    removeEnabled = option("bool", "removeEnabled")
    editEnabled = option("bool", "editEnabled")
    renameEnabled = option("bool", "renameEnabled")
    noneDisplay = option("QString", "noneDisplay")
    baseName = stored("QString", "baseName", "")
    selectNodeUponCreation = stored("bool", "selectNodeUponCreation", True)

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._d.scene

    def setMRMLScene(self, scene: Any) -> None:
        """Follow a scene; the box is disabled until there is one."""
        d = self._d
        if scene is d.scene:
            return
        unobserve(d.observations)
        d.scene = scene
        self.setEnabled(scene is not None)
        if scene is not None:
            for event, method in (
                (scene.NodeAddedEvent, "_onAdded"),
                (scene.NodeAboutToBeRemovedEvent, "_onRemoving"),
                (scene.NodeRemovedEvent, "_onRemoved"),
            ):
                d.observations.append(observe(self, scene, event, method, withNode=True))
            for name in REFILLING:
                d.observations.append(observe(self, scene, getattr(scene, name), "_onRefill"))
        self._fill()
        wanted, d.wanted = d.wanted or d.current, None
        if wanted not in d.ids and d.ids and not d.noneEnabled and not self._actions():
            wanted = d.ids[0]  # with nothing but nodes to choose from, the first is chosen
        self._select(wanted)

    def currentNode(self) -> Any:
        """The chosen node, or None."""
        d = self._d
        return d.scene.GetNodeByID(d.current) if d.scene is not None and d.current else None

    def setCurrentNode(self, node: Any) -> None:
        """Choose a node; None, or a node that is not in the list, chooses nothing."""
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, nodeId: str) -> None:
        """Choose a node by its id; before there is a scene, it is remembered."""
        if self._d.scene is None:
            self._d.wanted = nodeId
        else:
            self._select(nodeId)

    def setCurrentNodeIndex(self, index: int) -> None:
        """Choose the node of a row, not counting "none"."""
        self._select(self._d.ids[index] if 0 <= index < len(self._d.ids) else None)

    currentNodeID = qproperty("QString", "currentNodeID", lambda s: s._d.current or "", setCurrentNodeID)

    def nodeCount(self) -> int:
        """How many nodes there are to choose from."""
        return len(self._d.ids)

    def nodeFromIndex(self, index: int) -> Any:
        """The node of a row, not counting "none"."""
        return self._d.scene.GetNodeByID(self._d.ids[index]) if 0 <= index < len(self._d.ids) else None

    def addNode(self, className: str = "") -> Any:
        """Create a node of the (first) class, with the attributes that the list asks for."""
        d = self._d
        className = className or d.nodeTypes[0]
        baseName = self.baseName or d.scene.GetTypeDisplayNameByClassName(className) or className
        node = d.scene.CreateNodeByClass(className)
        node.UnRegister(None)
        node.SetName(d.scene.GetUniqueNameByString(baseName))
        for kind, name, value in d.attributes:
            if node.IsA(kind):
                node.SetAttribute(name, "" if value is None else str(value))
        node = d.scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        """Remove the chosen node from the scene."""
        if self.currentNode() is not None:
            self._d.scene.RemoveNode(self.currentNode())

    def editCurrentNode(self) -> None:
        """Ask whoever listens to edit the chosen node."""
        self.nodeAboutToBeEdited.emit(self.currentNode())

    def addAttribute(self, className: str, name: str, value: Any = None) -> None:
        """Offer nodes of a class only if they have an attribute (with that value, if given)."""
        self._d.attributes.append((className, name, value))
        self._onRefill()

    def removeAttribute(self, className: str, name: str) -> None:
        """Undo ``addAttribute``."""
        self._d.attributes = [wanted for wanted in self._d.attributes if wanted[:2] != (className, name)]
        self._onRefill()

    def setNodeTypeLabel(self, label: str, className: str) -> None:
        """What nodes of a class are called in the actions."""
        self._d.labels[className] = label
        self._onRefill()

    def nodeTypeLabel(self, className: str) -> str:
        """What nodes of a class are called in the actions."""
        known = self._d.scene.GetTypeDisplayNameByClassName(className) if self._d.scene is not None else ""
        return self._d.labels.get(className) or known or "node"

    def _accepts(self, node: Any) -> bool:
        d = self._d
        if node.GetHideFromEditors() and not d.showHidden:
            return False
        if not any(node.IsA(name) and (d.showChildNodeTypes or node.GetClassName() == name) for name in d.nodeTypes):
            return False
        if any(node.IsA(name) for name in d.hideChildNodeTypes):
            return False
        for kind, name, value in d.attributes:
            held = node.GetAttribute(name)
            if node.IsA(kind) and (held is None or (value is not None and held != str(value))):
                return False
        return True

    def _actions(self) -> list[str]:
        d = self._d
        label = self.nodeTypeLabel(d.nodeTypes[0]) if len(d.nodeTypes) == 1 else "node"
        verbs = [
            (d.renameEnabled, "Rename current"),
            (d.editEnabled, "Edit current"),
            (d.addEnabled, "Create new"),
            (d.removeEnabled, "Delete current"),
        ]
        return [f"{verb} {label}" for enabled, verb in verbs if enabled]

    def _fill(self) -> None:
        """Make the rows anew and keep the current node."""
        d = self._d
        nodes = [] if d.scene is None else [d.scene.GetNthNode(n) for n in range(d.scene.GetNumberOfNodes())]
        nodes = [node for node in nodes if node is not None and self._accepts(node)]
        d.ids = [node.GetID() for node in nodes]
        self._observeNodes(nodes)
        d.filling = True
        d.combo.clear()
        d.combo.addItems([d.noneDisplay] * d.noneEnabled + [node.GetName() or "" for node in nodes])
        if d.scene is not None and self._actions():
            d.combo.insertSeparator(d.combo.count)
            d.combo.addItems(self._actions())
        d.combo.setCurrentIndex(self._row(d.current))
        d.filling = False

    def _observeNodes(self, nodes: list[Any]) -> None:
        """Follow the names of nodes. A new node may have the id of one that is gone."""
        before, self._d.nodeObservations = self._d.nodeObservations, {}
        for node in nodes:
            known = before.get(node.GetID())
            if known is None or known[0] is not node:
                known = observe(self, node, vtk.vtkCommand.ModifiedEvent, "_onNodeModified")
            self._d.nodeObservations[node.GetID()] = known
        kept = self._d.nodeObservations.values()
        unobserve([observation for observation in before.values() if observation not in kept])

    def _row(self, nodeId: str | None) -> int:
        return self._d.ids.index(nodeId) + self._d.noneEnabled if nodeId in self._d.ids else self._d.noneEnabled - 1

    def _select(self, nodeId: str | None) -> None:
        d = self._d
        nodeId = nodeId if nodeId in d.ids else None
        changed, d.current = nodeId != d.current, nodeId
        d.filling = True
        d.combo.setCurrentIndex(self._row(nodeId))
        d.filling = False
        if changed:
            node = self.currentNode()
            self.currentNodeChanged.emit(node)
            self.currentNodeChanged.overload("bool").emit(node is not None)
            self.currentNodeIDChanged.emit(nodeId or "")

    def _onIndex(self, index: int) -> None:
        d = self._d
        if d.filling:
            return
        number = index - d.noneEnabled
        if 0 <= number < len(d.ids):
            self._select(d.ids[number])
        else:  # an action never becomes current
            self._select(None if number < 0 else d.current)

    def _onActivated(self, index: int) -> None:
        first = len(self._d.ids) + self._d.noneEnabled + 1  # after the separator
        if index < first:
            self.nodeActivated.emit(self.currentNode())
            return
        verb = self._actions()[index - first].split()[0]
        self._select(self._d.current)
        action = {"Create": self.addNode, "Delete": self.removeCurrentNode, "Edit": self.editCurrentNode}.get(verb)
        if action:
            action()

    def _onAdded(self, node: Any) -> None:
        if self._d.scene.IsBatchProcessing() or not self._accepts(node):
            return
        wasEmpty = self._d.combo.count == 0
        self._fill()
        self.nodeAdded.emit(node)
        if wasEmpty and not self._d.noneEnabled:
            self._select(node.GetID())

    def _onRemoving(self, node: Any) -> None:
        if node.GetID() in self._d.ids:
            self.nodeAboutToBeRemoved.emit(node)

    def _onRemoved(self, node: Any) -> None:
        d = self._d
        if node.GetID() not in d.ids:
            return
        before = d.ids.index(node.GetID()) - 1
        wasCurrent = node.GetID() == d.current
        self._fill()
        if wasCurrent:
            before = before if d.noneEnabled else max(before, 0)
            self._select(d.ids[before] if 0 <= before < len(d.ids) else None)

    def _onNodeModified(self, node: Any) -> None:
        listed = node.GetID() in self._d.ids
        if listed != self._accepts(node):
            self._onRefill()
        elif listed and self._d.combo.itemText(self._row(node.GetID())) != (node.GetName() or ""):
            self._d.combo.setItemText(self._row(node.GetID()), node.GetName() or "")
            if node.GetID() == self._d.current:
                self.currentNodeRenamed.emit(node.GetName())

    def _onRefill(self, _caller: Any = None) -> None:
        self._fill()
        if self._d.current is not None and self._d.current not in self._d.ids:
            self._select(None)


@standIn()
class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Chooses several nodes by check marks; the marks are kept but not drawn."""

    checkedNodesChanged = Signal()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._d.checked = set()

    def checkState(self, node: Any) -> Any:
        """Whether a node is checked."""
        return qt.Qt.Checked if node.GetID() in self._d.checked else qt.Qt.Unchecked

    def setCheckState(self, node: Any, state: Any) -> None:
        """Check a node, or not."""
        (self._d.checked.add if int(state) else self._d.checked.discard)(node.GetID())
        self.checkedNodesChanged.emit()

    def checkedNodes(self) -> list[Any]:
        """The checked nodes, in the order of the rows."""
        return [self._d.scene.GetNodeByID(nodeId) for nodeId in self._d.ids if nodeId in self._d.checked]
