"""Placing markups in the views."""

from typing import Any

import qt
import slicer
import vtk
from PySide6.QtCore import Signal

from slicer_stand_in.attributes import qproperty, standIn, stored
from slicer_stand_in.observers import observe, unobserve


@standIn()
class qSlicerMarkupsPlaceWidget(slicer.qSlicerWidget):
    """A button that turns placing on and off, and one that removes what was placed."""

    activeMarkupsPlaceModeChanged = Signal(bool)
    ShowPlaceMultipleMarkupsOption, HidePlaceMultipleMarkupsOption = 0, 1
    ForcePlaceSingleMarkup, ForcePlaceMultipleMarkups = 2, 3

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        d = self._d
        d.node, d.observations, d.told = None, [], False
        d.place, d.remove = qt.QToolButton(self), qt.QToolButton(self)
        d.place.checkable, d.place.text, d.place.toolTip = True, "Place", "Place in a view"
        d.remove.icon = self.style().standardIcon(qt.QStyle.SP_TrashIcon)
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for button in (d.place, d.remove):
            layout.addWidget(button)
        d.place.connect("clicked(bool)", self.setPlaceModeEnabled)
        d.remove.connect("clicked()", self.deleteAllPoints)

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene, whose interaction and selection nodes are followed."""
        super().setMRMLScene(scene)
        unobserve(self._d.observations)
        for node in (self.interactionNode(), self.selectionNode()) if scene is not None else ():
            self._d.observations.append(observe(self, node, vtk.vtkCommand.AnyEvent, "_onModified"))

    def interactionNode(self) -> Any:
        """The node that says what the mouse does in views."""
        return slicer.app.applicationLogic().GetInteractionNode()

    def selectionNode(self) -> Any:
        """The node that says what is placed."""
        return slicer.app.applicationLogic().GetSelectionNode()

    def currentNode(self) -> Any:
        """The markups that points are added to."""
        return self._d.node

    def currentMarkupsNode(self) -> Any:
        """The markups that points are added to."""
        return self._d.node

    def setCurrentNode(self, node: Any) -> None:
        """Set the markups that points are added to; placing ends when it changes."""
        if node is not self._d.node:
            self.setPlaceModeEnabled(False)
        self._d.node = node
        self._onModified()

    def setCurrentNodeActive(self, active: bool) -> None:
        """Make the markups those that a click in a view adds to."""
        selection, node = self.selectionNode(), self._d.node
        if node is not None and active:
            selection.SetReferenceActivePlaceNodeClassName(node.GetClassName())
            selection.SetActivePlaceNodeID(node.GetID())
        elif self.currentNodeActive:
            selection.SetActivePlaceNodeID(None)

    def setPlaceModeEnabled(self, enabled: bool) -> None:
        """Start or end placing."""
        if self._d.node is None:
            return
        if enabled:
            self.setCurrentNodeActive(True)
            self.interactionNode().SetPlaceModePersistence(self.placeMultipleMarkups == self.ForcePlaceMultipleMarkups)
            self.interactionNode().SetCurrentInteractionMode(slicer.vtkMRMLInteractionNode.Place)
        elif self.placeModeEnabled:
            self.interactionNode().SetCurrentInteractionMode(slicer.vtkMRMLInteractionNode.ViewTransform)
        self._onModified()

    def _isActive(self) -> bool:
        node = self._d.node
        return node is not None and self.selectionNode().GetActivePlaceNodeID() == node.GetID()

    def _isPlacing(self) -> bool:
        mode = self.interactionNode().GetCurrentInteractionMode()
        return self._isActive() and mode == slicer.vtkMRMLInteractionNode.Place

    def _onModified(self, _caller: Any = None) -> None:
        placing = self._isPlacing()
        self.setEnabled(self._d.node is not None)
        self._d.place.checked = placing
        if placing != self._d.told:
            self._d.told = placing
            self.activeMarkupsPlaceModeChanged.emit(placing)

    def deleteLastPoint(self) -> None:
        """Remove the point that was placed last."""
        if self._d.node.GetNumberOfControlPoints():
            self._d.node.RemoveNthControlPoint(self._d.node.GetNumberOfControlPoints() - 1)

    def deleteAllPoints(self) -> None:
        """Remove everything that was placed."""
        self._d.node.RemoveAllControlPoints()

    def placeButton(self) -> Any:
        """The button that turns placing on and off."""
        return self._d.place

    def deleteButton(self) -> Any:
        """The button that removes what was placed."""
        return self._d.remove

    def setButtonsVisible(self, visible: bool) -> None:
        """Show or hide both buttons."""
        for button in (self._d.place, self._d.remove):
            button.setVisible(visible)

    currentNodeActive = qproperty("bool", "currentNodeActive", _isActive, setCurrentNodeActive)
    placeModeEnabled = qproperty("bool", "placeModeEnabled", _isPlacing, setPlaceModeEnabled)
    buttonsVisible = qproperty("bool", "buttonsVisible", lambda s: not s._d.place.isHidden(), setButtonsVisible)
    placeMultipleMarkups = stored("int", "placeMultipleMarkups", ShowPlaceMultipleMarkupsOption)
    deleteAllControlPointsOptionVisible = stored("bool", "deleteAllControlPointsOptionVisible", True)
