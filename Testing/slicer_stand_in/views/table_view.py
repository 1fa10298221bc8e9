"""Tables."""

from types import SimpleNamespace
from typing import Any

import qt
import slicer
import vtk
from PySide6.QtCore import Signal

from slicer_stand_in.attributes import standIn
from slicer_stand_in.observers import observe, unobserve
from slicer_stand_in.views.view_widget import qMRMLAbstractViewWidget, qMRMLViewControllerBar


@standIn()
class qMRMLTableView(qt.QTableView):
    """Shows a table node, or the one that a view node names; the cells cannot be edited here."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._d = SimpleNamespace(scene=None, node=None, viewNode=None, observations=[], viewObservations=[])
        self.setModel(qt.QStandardItemModel(self))
        self.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._d.scene

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene."""
        self._d.scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlTableNode(self) -> Any:
        """The table that is shown."""
        return self._d.node

    def setMRMLTableNode(self, node: Any) -> None:
        """Show a table."""
        unobserve(self._d.observations)
        self._d.node = node
        if node is not None:
            self._d.observations.append(observe(self, node, vtk.vtkCommand.ModifiedEvent, "_fill"))
        self._fill()

    def mrmlTableViewNode(self) -> Any:
        """The view's node."""
        return self._d.viewNode

    def setMRMLTableViewNode(self, node: Any) -> None:
        """Follow a view node."""
        unobserve(self._d.viewObservations)
        self._d.viewNode = node
        if node is not None:
            self._d.viewObservations.append(observe(self, node, vtk.vtkCommand.ModifiedEvent, "_onViewNode"))
            self._onViewNode(node)

    def tableModel(self) -> Any:
        """The model that holds the cells."""
        return self.model()

    def _onViewNode(self, viewNode: Any) -> None:
        if viewNode.GetTableNode() is not self._d.node:
            self.setMRMLTableNode(viewNode.GetTableNode())

    def _fill(self, _caller: Any = None) -> None:
        model, table = self.model(), self._d.node.GetTable() if self._d.node is not None else vtk.vtkTable()
        columns, rows = table.GetNumberOfColumns(), table.GetNumberOfRows()
        model.clear()
        model.setHorizontalHeaderLabels([table.GetColumnName(column) or "" for column in range(columns)])
        for row in range(rows):
            model.appendRow([qt.QStandardItem(table.GetValue(row, column).ToString()) for column in range(columns)])
        self.resizeColumnsToContents()


@standIn("mrmlTableViewNode")
class qMRMLTableWidget(qMRMLAbstractViewWidget):
    """A table with its bar."""

    def __init__(self, node: Any, parent: Any = None) -> None:
        super().__init__(parent)
        view = qMRMLTableView(self)
        view.setMRMLScene(slicer.mrmlScene)
        view.setMRMLTableViewNode(node)
        bar = qMRMLViewControllerBar(self)
        bar.barLayout().addStretch()
        self._build(bar, view, node)

    def tableView(self) -> Any:
        """The view without its bar."""
        return self._d.view

    def tableController(self) -> Any:
        """The bar."""
        return self._d.bar

    def mrmlTableViewNode(self) -> Any:
        """The view's node."""
        return self._d.node
