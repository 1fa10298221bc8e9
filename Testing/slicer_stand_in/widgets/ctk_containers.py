"""Collapsible boxes."""

from types import SimpleNamespace
from typing import Any

import qt
from PySide6.QtCore import Signal

from slicer_stand_in.attributes import qproperty, standIn, stored


@standIn()
class ctkCollapsibleGroupBox(qt.QGroupBox):
    """A group box whose check mark shows or hides its children."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._d = SimpleNamespace()
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._onToggled)

    def _onToggled(self, expanded: bool) -> None:
        for child in self.children():
            if isinstance(child, qt.QWidget):
                child.setVisible(expanded)

    collapsed = qproperty("bool", "collapsed", lambda s: not s.checked, lambda s, value: s.setChecked(not value))
    collapsedHeight = stored("int", "collapsedHeight", 14)


@standIn()
class ctkCollapsibleButton(qt.QAbstractButton):
    """A section of a panel with a header that shows or hides it.

    The file may say ``collapsed`` before the children exist, so each child is hidden when it arrives.
    """

    contentsCollapsed = Signal(bool)
    _HEADER = 26

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*[argument for argument in arguments if isinstance(argument, qt.QWidget)])
        self._d = SimpleNamespace(changing=False)
        for text in arguments:
            if isinstance(text, str):
                self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(qt.QSizePolicy.Minimum, qt.QSizePolicy.Preferred)
        self.setContentsMargins(0, self._HEADER, 0, 0)
        self.toggled.connect(self._onToggled)

    collapsed = qproperty("bool", "collapsed", lambda s: not s.checked, lambda s, value: s.setChecked(not value))
    collapsedHeight = stored("int", "collapsedHeight", 14)
    flat = stored("bool", "flat", False)
    contentsLineWidth = stored("int", "contentsLineWidth", 1)

    def _onToggled(self, expanded: bool) -> None:
        for child in self.children():
            if isinstance(child, qt.QWidget):
                self._showChild(child)
        self.updateGeometry()
        self.update()
        self.contentsCollapsed.emit(not expanded)

    def _showChild(self, child: Any) -> None:
        self._d.changing = True
        child.setVisible(self.checked and child.property("visibilityToParent") is not False)
        child.setAttribute(qt.Qt.WA_WState_ExplicitShowHide, False)
        self._d.changing = False

    def childEvent(self, event: Any) -> None:
        """Not ChildAdded: touching the child there would make it a plain QWidget in Python for good."""
        if event.type() == qt.QEvent.ChildPolished and event.child().isWidgetType():
            event.child().installEventFilter(self)
            if not self.checked:
                self._showChild(event.child())
        super().childEvent(event)

    def eventFilter(self, child: Any, event: Any) -> bool:
        """Remember what module code asks for while the section hides everything."""
        if not self._d.changing and event.type() in (qt.QEvent.ShowToParent, qt.QEvent.HideToParent):
            child.setProperty("visibilityToParent", event.type() == qt.QEvent.ShowToParent)
            if not self.checked:
                self._showChild(child)
        return False

    def paintEvent(self, _event: Any) -> None:
        """Header with an arrow."""
        painter = qt.QPainter(self)
        header = qt.QRect(0, 0, self.width, self._HEADER - 4)
        painter.fillRect(header, self.palette.color(qt.QPalette.Button).darker(110))
        arrow = qt.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = qt.QRect(6, 5, 12, 12)
        kind = qt.QStyle.PE_IndicatorArrowDown if self.checked else qt.QStyle.PE_IndicatorArrowRight
        self.style().drawPrimitive(kind, arrow, painter, self)
        painter.drawText(header.adjusted(24, 0, -4, 0), int(qt.Qt.AlignVCenter | qt.Qt.AlignLeft), self.text)
        painter.end()

    def sizeHint(self) -> Any:
        """Header, and the contents while they are shown."""
        header = qt.QSize(max(120, self.fontMetrics().horizontalAdvance(self.text) + 40), self._HEADER)
        return self.layout().totalSizeHint().expandedTo(header) if self._showsLayout() else header

    def minimumSizeHint(self) -> Any:
        """Header, and the contents while they are shown."""
        header = qt.QSize(40, self._HEADER)
        return self.layout().totalMinimumSize().expandedTo(header) if self._showsLayout() else header

    def hitButton(self, position: Any) -> bool:
        """Only the header can be clicked."""
        return position.y() < self._HEADER

    def _showsLayout(self) -> bool:
        return self.checked and self.layout() is not None
