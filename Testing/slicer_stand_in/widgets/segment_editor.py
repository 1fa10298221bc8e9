"""The Segment Editor: a table of segments, buttons of effects, and the views in which they work."""

import functools
import weakref
from types import SimpleNamespace
from typing import Any

import qt
import shiboken6
import slicer
import vtk
from PySide6.QtCore import Signal

from slicer_stand_in.attributes import qproperty, standIn, stored
from slicer_stand_in.observers import observe, unobserve
from slicer_stand_in.widgets.editor_effects import EFFECTS

EVENTS = (
    *(f"{button}Button{what}Event" for button in ("Left", "Middle", "Right") for what in ("Press", "Release")),
    "LeftButtonDoubleClickEvent", "MouseMoveEvent", "MouseWheelForwardEvent", "MouseWheelBackwardEvent",
    "KeyPressEvent", "KeyReleaseEvent", "EnterEvent", "LeaveEvent",
)  # fmt: skip
BEFORE_OTHERS = 1.0
OVERWRITING = ("Overwrite all segments", "Overwrite visible segments", "Allow overlap")


@standIn()
class qMRMLSegmentEditorWidget(slicer.qMRMLWidget):
    """Edits the segments of a segmentation in slice views."""

    currentSegmentIDChanged = Signal(str)
    sourceVolumeNodeChanged = Signal(object)
    segmentationNodeChanged = Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        d = self._d
        d.logic, d.node, d.interaction, d.active, d.last = slicer.vtkSlicerSegmentEditorLogic(), None, None, None, None
        d.observations, d.nodeObservations, d.segmentObservations, d.viewObservations = [], [], [], []
        d.updating, d.shortcuts, d.order, d.unordered = False, [], [], True
        d.told, d.undo = SimpleNamespace(segmentation=None, volume=None, segmentId=""), True
        self._buildSelectors()
        self._buildEffects()
        observe(self, d.logic, d.logic.SegmentationHistoryChangedEvent, "_onHistory")
        slicer.app.layoutManager().connect("layoutChanged(int)", self._onLayout)
        self.updateWidgetFromMRML()

    def _buildSelectors(self) -> None:
        d, layout = self._d, qt.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        d.segmentations, d.volumes = slicer.qMRMLNodeComboBox(), slicer.qMRMLNodeComboBox()
        d.segmentations.nodeTypes, d.volumes.nodeTypes = ["vtkMRMLSegmentationNode"], ["vtkMRMLScalarVolumeNode"]
        d.volumes.addEnabled = False
        form, d.selectorLabels = qt.QFormLayout(), []
        for text, box in (("Segmentation:", d.segmentations), ("Source volume:", d.volumes)):
            box.noneEnabled = True
            d.selectorLabels.append(qt.QLabel(text))
            form.addRow(d.selectorLabels[-1], box)
        d.add, d.remove, d.show3d = (
            qt.QPushButton("Add"),
            qt.QPushButton("Remove"),
            slicer.qMRMLSegmentationShow3DButton(),
        )
        row = qt.QHBoxLayout()
        for button in (d.add, d.remove, d.show3d):
            row.addWidget(button)
        d.table = slicer.qMRMLSegmentsTableView()
        d.table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        layout.addLayout(form)
        layout.addLayout(row)
        layout.addWidget(d.table)
        d.segmentations.connect("currentNodeChanged(vtkMRMLNode*)", self.setSegmentationNode)
        d.volumes.connect("currentNodeChanged(vtkMRMLNode*)", self.setSourceVolumeNode)
        d.add.connect("clicked()", lambda: d.logic.AddEmptySegment())
        d.remove.connect("clicked()", lambda: d.logic.RemoveSelectedSegment())
        d.table.connect("selectionChanged(QItemSelection,QItemSelection)", self._onSelection)

    def _buildEffects(self) -> None:
        d = self._d
        d.effects = [effect(self) for effect in EFFECTS]
        d.buttons, d.effectRow = {}, qt.QGridLayout()
        for name, text in (("", "None"), *((effect.name, effect.name) for effect in d.effects)):
            button = d.buttons[name] = qt.QToolButton(self)
            button.text, button.checkable, button.objectName = text, True, name or "NULL"
            button.connect("clicked()", functools.partial(self.setActiveEffectByName, name))
        d.undoButton, d.redoButton = qt.QPushButton("Undo"), qt.QPushButton("Redo")
        d.undoButton.connect("clicked()", self.undo)
        d.redoButton.connect("clicked()", self.redo)
        history = qt.QHBoxLayout()
        for button in (d.undoButton, d.redoButton):
            history.addWidget(button)
        d.masking, d.overwriting = qt.QWidget(self), qt.QComboBox()
        d.overwriting.addItems(list(OVERWRITING))
        form = qt.QFormLayout(d.masking)
        form.addRow("Other segments:", d.overwriting)
        d.overwriting.connect("currentIndexChanged(int)", self._onOverwriting)
        d.maskingShown = True
        self.layout().addLayout(d.effectRow)
        self.layout().addLayout(history)
        for effect in d.effects:
            self.layout().addWidget(effect.optionsFrame())
            effect.optionsFrame().hide()
        self.layout().addWidget(d.masking)
        self.updateEffectList()

    # Nodes

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene."""
        d = self._d
        if scene is d.scene:
            return
        d.updating = True  # the boxes may choose a node; the editor's own node decides
        d.logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        d.logic.SetMRMLScene(scene)
        super().setMRMLScene(scene)
        for box in (d.segmentations, d.volumes):
            box.setMRMLScene(scene)
        d.table.setMRMLScene(scene)
        d.updating = False
        unobserve(d.observations)
        if scene is not None:
            self.setInteractionNode(scene.GetNodeByID("vtkMRMLInteractionNodeSingleton"))
            d.observations.append(observe(self, scene, scene.EndCloseEvent, "_onClosed"))
        self.updateWidgetFromMRML()

    def mrmlSegmentEditorNode(self) -> Any:
        """The node with the choices and the parameters."""
        return self._d.node

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        """Set the node with the choices and the parameters."""
        d = self._d
        if node is d.node:
            return
        unobserve(d.nodeObservations)
        d.node = node
        d.logic.SetSegmentEditorNode(node)
        if node is not None:
            self._setDefaults()
            d.nodeObservations.append(observe(self, node, vtk.vtkCommand.ModifiedEvent, "updateWidgetFromMRML"))
            d.nodeObservations.append(observe(self, node, node.EffectParameterModified, "_onParameter"))
        self.updateWidgetFromMRML()

    def _setDefaults(self) -> None:
        for effect in self._d.effects:
            effect._setDefaults()

    def _onClosed(self, _scene: Any) -> None:
        """A node that outlives closing the scene loses its parameters; any other is gone."""
        node = self._d.node
        if node is not None and node.GetScene() is None:
            self.setMRMLSegmentEditorNode(None)
        elif node is not None:
            self._setDefaults()
        self.updateWidgetFromMRML()

    def _onParameter(self, _node: Any) -> None:
        if self._d.active is not None:
            self._d.active.updateGUIFromMRML()

    def segmentationNode(self) -> Any:
        """The segmentation."""
        return self._d.node.GetSegmentationNode() if self._d.node is not None else None

    def segmentationNodeID(self) -> str:
        """Id of the segmentation."""
        return _id(self.segmentationNode())

    def setSegmentationNode(self, node: Any) -> None:
        """Choose a segmentation; the active effect is left."""
        if self._d.updating or node is self.segmentationNode():
            return
        self._d.logic.SetSegmentationNode(node)
        self.setActiveEffect(None)

    def setSegmentationNodeID(self, nodeId: str) -> None:
        """Choose a segmentation by its id."""
        self.setSegmentationNode(self._d.scene.GetNodeByID(nodeId))

    def sourceVolumeNode(self) -> Any:
        """The volume whose intensities effects use."""
        return self._d.node.GetSourceVolumeNode() if self._d.node is not None else None

    def sourceVolumeNodeID(self) -> str:
        """Id of the source volume."""
        return _id(self.sourceVolumeNode())

    def setSourceVolumeNode(self, node: Any) -> None:
        """Choose the volume whose intensities effects use."""
        if not self._d.updating:
            self._d.logic.SetSourceVolumeNode(node)

    def setSourceVolumeNodeID(self, nodeId: str) -> None:
        """Choose the source volume by its id."""
        self.setSourceVolumeNode(self._d.scene.GetNodeByID(nodeId))

    def currentSegmentID(self) -> str:
        """Id of the segment that is edited."""
        return (self._d.node.GetSelectedSegmentID() or "") if self._d.node is not None else ""

    def setCurrentSegmentID(self, segmentId: str) -> None:
        """Choose the segment that is edited."""
        if self._d.node is not None:
            self._d.node.SetSelectedSegmentID(segmentId)

    def interactionNode(self) -> Any:
        """The node that says what the mouse does in views."""
        return self._d.interaction

    def setInteractionNode(self, node: Any) -> None:
        """Set the node that says what the mouse does in views."""
        d = self._d
        d.interaction = node
        if node is not None:
            d.observations.append(observe(self, node, vtk.vtkCommand.ModifiedEvent, "_onInteraction"))

    def _onInteraction(self, node: Any) -> None:
        """Whoever places something does not paint."""
        if node is self._d.interaction and node.GetCurrentInteractionMode() != node.ViewTransform:
            self.setActiveEffect(None)

    # What is shown

    def updateWidgetFromMRML(self, _node: Any = None) -> None:
        """Show what the nodes say."""
        d = self._d
        if d.updating or (d.scene is not None and d.scene.IsClosing()):
            return
        d.updating = True
        try:
            self._followSegmentation()
            d.segmentations.setCurrentNode(self.segmentationNode())
            d.volumes.setCurrentNode(self.sourceVolumeNode())
            d.table.setSegmentationNode(self.segmentationNode())
            d.show3d.setSegmentationNode(self.segmentationNode())
            d.table.setSelectedSegmentIDs([self.currentSegmentID()])
            d.overwriting.currentIndex = d.node.GetOverwriteMode() if d.node is not None else 0
            self._switchEffect()
            self._enable()
        finally:
            d.updating = False
        self._tell()

    def _followSegmentation(self) -> None:
        """Keep a segment chosen where there is one."""
        d, node = self._d, self.segmentationNode()
        if node is not d.told.segmentation:
            unobserve(d.segmentObservations)
            if node is not None:
                segments = node.GetSegmentation()
                for event in (segments.SegmentAdded, segments.SegmentRemoved):
                    d.segmentObservations.append(observe(self, segments, event, "updateWidgetFromMRML"))
        ids = list(node.GetSegmentation().GetSegmentIDs()) if node is not None else []
        if d.node is not None and self.currentSegmentID() not in ids:
            d.node.SetSelectedSegmentID(ids[0] if ids else None)

    def _switchEffect(self) -> None:
        d = self._d
        wanted = self.effectByName(d.node.GetActiveEffectName() or "") if d.node is not None else None
        if wanted is d.active:
            return
        if d.active is not None:
            d.active.deactivate()
        d.last, d.active = d.active, wanted
        if wanted is None:
            self.removeViewObservations()
            return
        self.setupViewObservations()
        if d.interaction is not None:
            d.interaction.SetCurrentInteractionMode(d.interaction.ViewTransform)
        d.logic.SetSourceRepresentationToBinaryLabelMap()
        wanted.activate()

    def _enable(self) -> None:
        d = self._d
        ready = not self.readOnly and self.segmentationNode() is not None and self.sourceVolumeNode() is not None
        for name, button in d.buttons.items():
            button.setEnabled(ready and (not name or bool(self.currentSegmentID())))
            button.checked = name == (d.active.name if d.active is not None else "")
        d.add.setEnabled(not self.readOnly and d.logic.CanAddSegments())
        d.remove.setEnabled(not self.readOnly and d.logic.CanRemoveSegments())
        d.masking.setVisible(d.maskingShown and d.active is not None)
        self._onHistory()

    def _onHistory(self, _logic: Any = None) -> None:
        d = self._d
        d.undoButton.setEnabled(d.undo and not self.readOnly and d.logic.CanUndo())
        d.redoButton.setEnabled(d.undo and not self.readOnly and d.logic.CanRedo())

    def _tell(self) -> None:
        d, told = self._d, self._d.told
        segmentation, volume, segmentId = self.segmentationNode(), self.sourceVolumeNode(), self.currentSegmentID()
        changed = (segmentation is not told.segmentation, volume is not told.volume, segmentId != told.segmentId)
        told.segmentation, told.volume, told.segmentId = segmentation, volume, segmentId
        if changed[1] and volume is not None and self.autoShowSourceVolumeNode:
            self.showSourceVolumeInSliceViewers()
        for happened, signal, value in zip(
            changed,
            (self.segmentationNodeChanged, self.sourceVolumeNodeChanged, self.currentSegmentIDChanged),
            (segmentation, volume, segmentId),
            strict=True,
        ):
            if happened:
                signal.emit(value)
        if changed[2] and d.active is not None:
            d.active.updateGUIFromMRML()

    def _onSelection(self, *_selections: Any) -> None:
        """The user chose a row of the table."""
        chosen = self._d.table.selectedSegmentIDs()
        if not self._d.updating and chosen:
            self.setCurrentSegmentID(chosen[0])

    def _onOverwriting(self, mode: int) -> None:
        if not self._d.updating and self._d.node is not None:
            self._d.node.SetOverwriteMode(mode)

    # Effects

    def availableEffectNames(self) -> tuple[str, ...]:
        """Names of all effects."""
        return tuple(effect.name for effect in self._d.effects)

    def effectByName(self, name: str) -> Any:
        """An effect, or None."""
        return next((effect for effect in self._d.effects if effect.name == name), None)

    def activeEffect(self) -> Any:
        """The effect that the mouse has in views, or None."""
        return self._d.active

    def setActiveEffect(self, effect: Any) -> None:
        """Choose an effect; None for none."""
        if self._d.node is not None:
            self._d.node.SetActiveEffectName(effect.name if effect is not None else "")

    def setActiveEffectByName(self, name: str) -> None:
        """Choose an effect by its name; none for an empty name, or one that does not exist."""
        self.setActiveEffect(self.effectByName(name))

    def effectNameOrder(self) -> tuple[str, ...]:
        """Names of the effects that come first."""
        return tuple(self._d.order)

    def setEffectNameOrder(self, names: list[str]) -> None:
        """Say which effects come first; the others are shown if ``unorderedEffectsVisible``."""
        self._d.order = list(names)
        self.updateEffectList()

    def _setUnordered(self, visible: bool) -> None:
        """Whether effects are shown that the order does not name."""
        self._d.unordered = visible
        self.updateEffectList()

    def _shownEffects(self) -> list[Any]:
        d = self._d
        ordered = [effect for effect in map(self.effectByName, d.order) if effect is not None]
        return ordered + [effect for effect in d.effects if d.unordered and effect not in ordered]

    def effectCount(self) -> int:
        """How many effects are shown."""
        return len(self._shownEffects())

    def effectByIndex(self, index: int) -> Any:
        """One of the effects that are shown, or None."""
        return self._shownEffects()[index] if 0 <= index < self.effectCount() else None

    def updateEffectList(self) -> None:
        """Arrange the buttons of the effects."""
        d = self._d
        names = ["", *(effect.name for effect in self._shownEffects())]
        for button in d.buttons.values():
            d.effectRow.removeWidget(button)
            button.hide()
        for number, name in enumerate(names):
            d.effectRow.addWidget(d.buttons[name], *divmod(number, self.effectColumnCount))
            d.buttons[name].show()

    def saveStateForUndo(self) -> None:
        """Let the next change be undone."""
        if self._d.undo:
            self._d.logic.SaveStateForUndo()

    def undo(self) -> None:
        """Go back to the state before."""
        self._d.logic.Undo()

    def redo(self) -> None:
        """Go forth again."""
        self._d.logic.Redo()

    # Views

    def setupViewObservations(self) -> None:
        """Give the active effect the events of all slice views of the layout."""
        self.removeViewObservations()
        layouts = slicer.app.layoutManager()
        for name in layouts.sliceViewNames():
            view = layouts.sliceWidget(name)
            if self._d.logic.IsSegmentationDisplayableInView(view.mrmlSliceNode()):
                self._d.viewObservations.extend(_observeView(self, view))

    def removeViewObservations(self) -> None:
        """Leave the events of the views to others."""
        unobserve(self._d.viewObservations)

    def _onEvent(self, interactor: Any, event: str, view: Any) -> bool:
        d = self._d
        return d.active is not None and d.scene is not None and d.active._process(interactor, event, view)

    def _onViewChanged(self, view: Any) -> None:
        if self._d.active is not None:
            self._d.active._viewChanged(view)

    def _onLayout(self, _number: int) -> None:
        if self._d.active is not None:
            self.setupViewObservations()

    def showSourceVolumeInSliceViewers(self, forceShowInBackground: bool = False, fitSlice: bool = False) -> None:
        """Show the source volume in slice views, unless it is shown there already."""
        layouts, volume = slicer.app.layoutManager(), self.sourceVolumeNode()
        for name in layouts.sliceViewNames():
            logic = layouts.sliceWidget(name).sliceLogic()
            composite = logic.GetSliceCompositeNode()
            shown = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
            if volume is not None and (forceShowInBackground or volume.GetID() not in shown):
                composite.SetBackgroundVolumeID(volume.GetID())
                composite.SetForegroundVolumeID(None)
                composite.SetLabelVolumeID(None)
            if fitSlice:
                logic.FitSliceToAll(True)

    def hideLabelLayer(self) -> None:
        """Take label volumes out of slice views."""
        layouts = slicer.app.layoutManager()
        for name in layouts.sliceViewNames():
            layouts.sliceWidget(name).mrmlSliceCompositeNode().SetLabelVolumeID(None)

    def rotateSliceViewsToSegmentation(self) -> None:
        """Turn slice views to the axes of the segmentation's voxels."""
        layouts, matrix = slicer.app.layoutManager(), vtk.vtkMatrix4x4()
        if self._d.logic.GetSegmentationIJKToRAS(matrix):
            for name in layouts.sliceViewNames():
                layouts.sliceWidget(name).mrmlSliceNode().RotateToAxes(matrix)

    # Segments

    def selectSegmentAtOffset(self, offset: int) -> None:
        """Choose the segment so many rows below, of those that are visible."""
        self._d.logic.SelectSegmentAtOffset(offset, True)

    def selectNextSegment(self) -> None:
        """Choose the visible segment below."""
        self.selectSegmentAtOffset(1)

    def selectPreviousSegment(self) -> None:
        """Choose the visible segment above."""
        self.selectSegmentAtOffset(-1)

    # Keys

    def installKeyboardShortcuts(self, parent: Any = None) -> None:
        """Numbers choose effects, Ctrl+Z and Ctrl+Y undo and redo, Q and W choose segments."""
        self.uninstallKeyboardShortcuts()
        actions = [
            ("Ctrl+Z", self.undo), ("Ctrl+Y", self.redo), ("Escape", functools.partial(self._toggleEffect, 0)),
            ("Q", self.selectPreviousSegment), ("W", self.selectNextSegment),
            *((str(number), functools.partial(self._toggleEffect, number)) for number in range(1, 10)),
            ("Space", functools.partial(self._toggleEffect, -1)),
        ]  # fmt: skip
        for keys, action in actions:
            shortcut = qt.QShortcut(qt.QKeySequence(keys), parent or slicer.util.mainWindow())
            shortcut.connect("activated()", action)
            self._d.shortcuts.append(shortcut)

    def uninstallKeyboardShortcuts(self) -> None:
        """Take the keys away."""
        for shortcut in self._d.shortcuts:
            if shiboken6.isValid(shortcut):
                shortcut.setParent(None)
                shortcut.deleteLater()
        self._d.shortcuts.clear()

    def _toggleEffect(self, number: int) -> None:
        """An effect by its place, 0 for none, -1 for the one before or none."""
        d = self._d
        if number < 0:
            self.setActiveEffect(None if d.active is not None else d.last)
        else:
            self.setActiveEffect(self.effectByIndex(number - 1))

    # Options

    def setReadOnly(self, readOnly: bool) -> None:
        """Whether nothing can be changed; the active effect is left."""
        self._d.readOnly = readOnly
        self._d.table.setReadOnly(readOnly)
        if readOnly:
            self.setActiveEffect(None)
        self._enable()

    def setUndoEnabled(self, enabled: bool) -> None:
        """Whether changes can be undone."""
        self._d.undo = enabled
        for button in (self._d.undoButton, self._d.redoButton):
            button.setVisible(enabled)

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        """How many changes can be undone."""
        self._d.logic.SetMaximumNumberOfUndoStates(count)

    def setSegmentationNodeSelectorVisible(self, visible: bool) -> None:
        """Show or hide the choice of the segmentation."""
        for part in (self._d.segmentations, self._d.selectorLabels[0]):
            part.setVisible(visible)

    def setSourceVolumeNodeSelectorVisible(self, visible: bool) -> None:
        """Show or hide the choice of the source volume."""
        for part in (self._d.volumes, self._d.selectorLabels[1]):
            part.setVisible(visible)

    def setAddRemoveSegmentButtonsVisible(self, visible: bool) -> None:
        """Show or hide the buttons that add and remove segments."""
        for button in (self._d.add, self._d.remove):
            button.setVisible(visible)

    def setShow3DButtonVisible(self, visible: bool) -> None:
        """Show or hide the button that makes surfaces."""
        self._d.show3d.setVisible(visible)

    def setMaskingSectionVisible(self, visible: bool) -> None:
        """Show or hide what says which segments are overwritten."""
        self._d.maskingShown = visible
        self._enable()

    def setEffectColumnCount(self, count: int) -> None:
        """Set how many buttons of effects are side by side."""
        self._d.columns = count
        self.updateEffectList()

    def setSwitchToSegmentationsButtonVisible(self, visible: bool) -> None:
        """There is no such button here."""
        self.switchToSegmentationsButtonVisible = visible

    def setSpecifyGeometryButtonVisible(self, visible: bool) -> None:
        """There is no such button here."""

    def setAutoShowSourceVolumeNode(self, shown: bool) -> None:
        """Whether a source volume is shown in slice views when it is chosen."""
        self.autoShowSourceVolumeNode = shown

    readOnly = qproperty("bool", "readOnly", lambda s: getattr(s._d, "readOnly", False), setReadOnly)
    undoEnabled = qproperty("bool", "undoEnabled", lambda s: s._d.undo, setUndoEnabled)
    maximumNumberOfUndoStates = qproperty(
        "int",
        "maximumNumberOfUndoStates",
        lambda s: s._d.logic.GetMaximumNumberOfUndoStates(),
        setMaximumNumberOfUndoStates,
    )
    unorderedEffectsVisible = qproperty("bool", "unorderedEffectsVisible", lambda s: s._d.unordered, _setUnordered)
    effectColumnCount = qproperty(
        "int", "effectColumnCount", lambda s: getattr(s._d, "columns", 6), setEffectColumnCount
    )
    segmentationNodeSelectorVisible = qproperty(
        "bool",
        "segmentationNodeSelectorVisible",
        lambda s: not s._d.segmentations.isHidden(),
        setSegmentationNodeSelectorVisible,
    )
    sourceVolumeNodeSelectorVisible = qproperty(
        "bool",
        "sourceVolumeNodeSelectorVisible",
        lambda s: not s._d.volumes.isHidden(),
        setSourceVolumeNodeSelectorVisible,
    )
    autoShowSourceVolumeNode = stored("bool", "autoShowSourceVolumeNode", True)
    switchToSegmentationsButtonVisible = stored("bool", "switchToSegmentationsButtonVisible", True)
    jumpToSelectedSegmentEnabled = stored("bool", "jumpToSelectedSegmentEnabled", False)
    effectButtonStyle = stored("int", "effectButtonStyle", 0)


def _id(node: Any) -> str:
    return node.GetID() if node is not None else ""


def _observeView(editor: Any, view: Any) -> list[tuple[Any, int]]:
    """Let an editor hear what happens in a slice view before the view itself does, and keep events for itself."""
    interactor, reference, tags = view.sliceView().interactor(), weakref.ref(editor), {}

    def alive() -> Any:
        found = reference()
        return found if found is not None and shiboken6.isValid(found) else None

    def call(caller: Any, event: str) -> None:
        if alive() is not None and alive()._onEvent(caller, event, view):
            caller.GetCommand(tags[event]).SetAbortFlag(1)

    def changed(_caller: Any, _event: str) -> None:
        if alive() is not None:
            alive()._onViewChanged(view)

    for event in EVENTS:
        tags[event] = interactor.AddObserver(event, call, BEFORE_OTHERS)
    node = view.mrmlSliceNode()
    return [*((interactor, tag) for tag in tags.values()), (node, node.AddObserver("ModifiedEvent", changed))]
