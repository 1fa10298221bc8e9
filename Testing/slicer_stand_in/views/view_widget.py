"""A view with the colored bar above it."""

from typing import Any

import qt
import slicer
from PySide6.QtCore import Signal

from slicer_stand_in.attributes import qproperty, standIn


@standIn()
class qMRMLViewControllerBar(slicer.qMRMLWidget):
    """The bar: a label in the color of the view."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._d.label = qt.QLabel(self)
        self._d.label.alignment = qt.Qt.AlignCenter
        self._d.label.setMinimumWidth(24)
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 4, 0)
        layout.setSpacing(4)
        layout.addWidget(self._d.label)
        self.setFixedHeight(24)

    def viewLabel(self) -> Any:
        """The label with the view's name."""
        return self._d.label

    def barLayout(self) -> Any:
        """Where to add more to the bar."""
        return self.layout()


@standIn()
class qMRMLAbstractViewWidget(slicer.qMRMLWidget):
    """Base of the widgets that a layout holds."""

    viewLabelChanged = Signal(str)
    viewColorChanged = Signal("QColor")

    def _build(self, bar: Any, view: Any, node: Any) -> None:
        self._d.bar, self._d.view, self._d.node = bar, view, node
        layout = qt.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(bar)
        layout.addWidget(view, 1)
        self.setViewLabel(node.GetLayoutLabel() or node.GetLayoutName() or "")
        self.setViewColor(qt.QColor.fromRgbF(*node.GetLayoutColor()))

    def controllerWidget(self) -> Any:
        """The bar above the view."""
        return self._d.bar

    def viewWidget(self) -> Any:
        """The view itself."""
        return self._d.view

    def mrmlAbstractViewNode(self) -> Any:
        """The view's node."""
        return self._d.node

    def setViewLabel(self, text: str) -> None:
        """Set the text of the bar's label."""
        self._d.bar.viewLabel().text = text
        self.viewLabelChanged.emit(text)

    def setViewColor(self, color: Any) -> None:
        """Set the color of the bar's label."""
        self._d.color = color
        text = "black" if color.lightnessF() > 0.5 else "white"
        self._d.bar.viewLabel().setStyleSheet(f"background-color: {color.name()}; color: {text}; font-weight: bold")
        self.viewColorChanged.emit(color)

    viewLabel = qproperty("QString", "viewLabel", lambda s: s._d.bar.viewLabel().text, setViewLabel)
    viewColor = qproperty("QColor", "viewColor", lambda s: s._d.color, setViewColor)
