"""The segments of a segmentation."""

from types import SimpleNamespace
from typing import Any

import ctk
import qt
import slicer
from PySide6.QtCore import Signal

from slicer_stand_in.attributes import qproperty, standIn, stored
from slicer_stand_in.observers import observe, unobserve

VISIBLE, COLOR, NAME = range(3)
SQUARE = 14
"""Edge of the picture of a color, pixels."""


@standIn()
class qMRMLSegmentsTableView(slicer.qMRMLWidget):
    """A row per segment: shown or not, color, name."""

    selectionChanged = Signal(object, object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        d = self._d
        d.node, d.observations, d.ids, d.filling = None, [], [], False
        d.table = qt.QTableWidget(0, 3, self)
        d.table.setHorizontalHeaderLabels(["", "", "Name"])
        d.table.horizontalHeader().stretchLastSection = True
        d.table.verticalHeader().hide()
        for column in (VISIBLE, COLOR):
            d.table.setColumnWidth(column, 30)
        d.table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        layout = qt.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(d.table)
        d.table.connect("itemSelectionChanged()", self._onSelection)
        d.table.connect("itemChanged(QTableWidgetItem*)", self._onItem)

    def segmentationNode(self) -> Any:
        """The segmentation."""
        return self._d.node

    def setSegmentationNode(self, node: Any) -> None:
        """Show the segments of a segmentation."""
        d = self._d
        if node is d.node:
            return
        unobserve(d.observations)
        d.node = node
        if node is not None:
            segmentation = node.GetSegmentation()
            for event in (
                segmentation.SegmentAdded,
                segmentation.SegmentRemoved,
                segmentation.SegmentsOrderModified,
            ):
                d.observations.append(observe(self, segmentation, event, "_fill"))
            d.observations.append(observe(self, segmentation, segmentation.SegmentModified, "_onModified"))
            d.observations.append(observe(self, node, node.DisplayModifiedEvent, "_fill"))
        self._fill()

    def _onModified(self, segmentation: Any) -> None:
        """A new segment is modified before it is announced; its display node does not know it then."""
        if list(segmentation.GetSegmentIDs()) == self._d.ids:
            self._fill()

    def _fill(self, _caller: Any = None) -> None:
        d, chosen = self._d, self.selectedSegmentIDs()
        d.ids = list(d.node.GetSegmentation().GetSegmentIDs()) if d.node is not None else []
        d.filling = True
        d.table.setRowCount(len(d.ids))
        for row, segmentId in enumerate(d.ids):
            self._fillRow(row, segmentId)
        self.setSelectedSegmentIDs(chosen)
        d.filling = False

    def _fillRow(self, row: int, segmentId: str) -> None:
        segment, display = self._d.node.GetSegmentation().GetSegment(segmentId), self._d.node.GetDisplayNode()
        items = [qt.QTableWidgetItem(), qt.QTableWidgetItem(), qt.QTableWidgetItem(segment.GetName())]
        shown = display is None or display.GetSegmentVisibility(segmentId)
        items[VISIBLE].setCheckState(qt.Qt.Checked if shown else qt.Qt.Unchecked)
        items[COLOR].setIcon(_square(segment.GetColor()))
        for column, item in enumerate(items):
            if column != NAME or self.readOnly:
                item.setFlags(item.flags() & ~qt.Qt.ItemIsEditable)
            self._d.table.setItem(row, column, item)

    def _onItem(self, item: Any) -> None:
        """The user changed a name or a check mark."""
        d = self._d
        if d.filling:
            return
        segmentId = d.ids[item.row()]
        if item.column() == NAME:
            d.node.GetSegmentation().GetSegment(segmentId).SetName(item.text())
        elif item.column() == VISIBLE and d.node.GetDisplayNode() is not None:
            d.node.GetDisplayNode().SetSegmentVisibility(segmentId, item.checkState() == qt.Qt.Checked)

    def _onSelection(self) -> None:
        if not self._d.filling:
            self.selectionChanged.emit(None, None)

    def selectedSegmentIDs(self) -> tuple[str, ...]:
        """Ids of the chosen segments, in the order of the rows."""
        rows = sorted({index.row() for index in self._d.table.selectedIndexes()})
        return tuple(self._d.ids[row] for row in rows if row < len(self._d.ids))

    def setSelectedSegmentIDs(self, segmentIds: list[str]) -> None:
        """Choose segments."""
        table = self._d.table
        for row, segmentId in enumerate(self._d.ids):
            for column in range(table.columnCount):
                table.item(row, column).setSelected(segmentId in segmentIds)

    def clearSelection(self) -> None:
        """Choose none."""
        self._d.table.clearSelection()

    def displayedSegmentIDs(self) -> tuple[str, ...]:
        """Ids of all rows."""
        return tuple(self._d.ids)

    def rowForSegmentID(self, segmentId: str) -> int:
        """Row of a segment, or -1."""
        return self._d.ids.index(segmentId) if segmentId in self._d.ids else -1

    def segmentIDForRow(self, row: int) -> str:
        """Id of the segment of a row."""
        return self._d.ids[row]

    def tableWidget(self) -> Any:
        """The table inside."""
        return self._d.table

    def setSelectionMode(self, mode: int) -> None:
        """Whether one segment can be chosen, or several."""
        self._d.table.setSelectionMode(mode)

    def setReadOnly(self, readOnly: bool) -> None:
        """Whether names can be changed."""
        self.readOnly = readOnly
        self._fill()

    def setHeaderVisible(self, visible: bool) -> None:
        """Show or hide the header."""
        self._d.table.horizontalHeader().setVisible(visible)

    def setVisibilityColumnVisible(self, visible: bool) -> None:
        """Show or hide the check marks."""
        self._d.table.setColumnHidden(VISIBLE, not visible)

    def setColorColumnVisible(self, visible: bool) -> None:
        """Show or hide the colors."""
        self._d.table.setColumnHidden(COLOR, not visible)

    segmentCount = qproperty("int", "segmentCount", lambda s: len(s._d.ids))
    readOnly = stored("bool", "readOnly", False)
    selectionMode = qproperty("int", "selectionMode", lambda s: int(s._d.table.selectionMode()), setSelectionMode)
    headerVisible = qproperty(
        "bool", "headerVisible", lambda s: not s._d.table.horizontalHeader().isHidden(), setHeaderVisible
    )
    visibilityColumnVisible = qproperty(
        "bool", "visibilityColumnVisible", lambda s: not s._d.table.isColumnHidden(VISIBLE), setVisibilityColumnVisible
    )
    colorColumnVisible = qproperty(
        "bool", "colorColumnVisible", lambda s: not s._d.table.isColumnHidden(COLOR), setColorColumnVisible
    )
    opacityColumnVisible = stored("bool", "opacityColumnVisible", True)
    statusColumnVisible = stored("bool", "statusColumnVisible", False)


@standIn()
class qMRMLSegmentationShow3DButton(ctk.ctkMenuButton):
    """Makes the surfaces of a segmentation, or takes them away."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._d = SimpleNamespace(node=None)
        self.setCheckable(True)
        self.text = self.text or "Show 3D"
        self.connect("toggled(bool)", self._onToggled)

    def segmentationNode(self) -> Any:
        """The segmentation."""
        return self._d.node

    def setSegmentationNode(self, node: Any) -> None:
        """Set the segmentation; the button shows whether it has surfaces."""
        self._d.node = node
        surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        self.blockSignals(True)
        self.checked = node is not None and node.GetSegmentation().ContainsRepresentation(surface)
        self.blockSignals(False)

    def _onToggled(self, shown: bool) -> None:
        node = self._d.node
        if node is not None and shown:
            node.CreateClosedSurfaceRepresentation()
        elif node is not None:
            node.RemoveClosedSurfaceRepresentation()


def _square(color: Any) -> Any:
    """A color as an icon, which stays visible in a selected row."""
    pixmap = qt.QPixmap(SQUARE, SQUARE)
    pixmap.fill(qt.QColor.fromRgbF(*color))
    return qt.QIcon(pixmap)
