"""Real Qt events for tests: what a person's mouse and keyboard would send to a widget, and the picture it shows."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import qt
import slicer

from slicer_stand_in import pauses


def waitUntil(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Process events until a condition holds.

    Raises:
        TimeoutError: It did not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not within {seconds} s: {condition}")
        pauses.turn(slicer.app.processEvents)


def move(widget: Any, x: float, y: float, buttons: Any = qt.Qt.NoButton) -> None:
    """Move the mouse to a point of a widget, pixels from its upper left."""
    _mouse(widget, qt.QEvent.MouseMove, x, y, qt.Qt.NoButton, buttons, qt.Qt.NoModifier)


def drag(
    widget: Any, start: tuple[float, float], end: tuple[float, float], button: Any = qt.Qt.LeftButton,
    modifiers: Any = qt.Qt.NoModifier,
) -> None:  # fmt: skip
    """Press a button at one point, move in ten steps, and let go at another."""
    enter(widget)
    move(widget, *start)
    _mouse(widget, qt.QEvent.MouseButtonPress, *start, button, button, modifiers)
    for share in np.linspace(0, 1, 11)[1:]:
        x, y = (a + share * (b - a) for a, b in zip(start, end, strict=True))
        _mouse(widget, qt.QEvent.MouseMove, x, y, qt.Qt.NoButton, button, modifiers)
    _mouse(widget, qt.QEvent.MouseButtonRelease, *end, button, qt.Qt.NoButton, modifiers)


def click(widget: Any, x: float | None = None, y: float | None = None) -> None:
    """Click with the left button, in the middle if no point is given."""
    point = (widget.width / 2 if x is None else x, widget.height / 2 if y is None else y)
    drag(widget, point, point)


def doubleClick(widget: Any, x: float, y: float) -> None:
    """Click twice with the left button."""
    click(widget, x, y)
    _mouse(widget, qt.QEvent.MouseButtonDblClick, x, y, qt.Qt.LeftButton, qt.Qt.LeftButton, qt.Qt.NoModifier)
    _mouse(widget, qt.QEvent.MouseButtonRelease, x, y, qt.Qt.LeftButton, qt.Qt.NoButton, qt.Qt.NoModifier)


def clickEntry(button: Any, text: str) -> None:
    """Open the menu of a button and click on the entry whose text starts like this."""
    menu, chosen = button.menu(), []

    def choose() -> None:
        chosen.append(text)
        entry = next(action for action in menu.actions() if action.text.startswith(text))
        center = menu.actionGeometry(entry).center()
        click(menu, center.x(), center.y())
        menu.close()  # an entry that is disabled leaves it open

    qt.QTimer.singleShot(0, choose)
    click(button)  # most often comes back when the menu is closed
    waitUntil(lambda: chosen)


def chooseItem(listWidget: Any, text: str) -> str:
    """Click on the first item of a list that contains a text; returns all of its text."""
    items = [listWidget.item(row) for row in range(listWidget.count)]
    item = next(item for item in items if text in item.text())
    listWidget.scrollToItem(item)
    center = listWidget.visualItemRect(item).center()
    click(listWidget.viewport(), center.x(), center.y())
    return item.text()


def chooseEntry(comboBox: Any, text: str) -> None:
    """Go to an entry of a combo box with the arrow keys."""
    row = comboBox.findText(text)
    assert row >= 0, f"no '{text}' in {[comboBox.itemText(n) for n in range(comboBox.count)]}"
    while comboBox.currentIndex != row:
        key(comboBox, qt.Qt.Key_Down if comboBox.currentIndex < row else qt.Qt.Key_Up)


def typeNumber(spinBox: Any, number: int) -> None:
    """Type a number and press Return."""
    spinBox.selectAll()
    for digit in str(number):
        key(spinBox, getattr(qt.Qt, f"Key_{digit}"), digit)
    key(spinBox, qt.Qt.Key_Return)


def wheel(widget: Any, notches: int, modifiers: Any = qt.Qt.NoModifier) -> None:
    """Turn the wheel over the middle of a widget; positive is away from the person."""
    enter(widget)
    center = qt.QPointF(widget.width / 2, widget.height / 2)
    for _ in range(abs(notches)):
        turn = qt.QPoint(0, 120 if notches > 0 else -120)
        event = qt.QWheelEvent(
            center, widget.mapToGlobal(center), qt.QPoint(), turn, qt.Qt.NoButton, modifiers, qt.Qt.NoScrollPhase, False
        )
        pauses.turn(slicer.app.sendEvent, widget, event)


def key(widget: Any, code: Any, text: str = "", modifiers: Any = qt.Qt.NoModifier) -> None:
    """Press a key and let go; shortcuts of the widget's window hear it too."""
    for kind in (qt.QEvent.ShortcutOverride, qt.QEvent.KeyPress, qt.QEvent.KeyRelease):
        pauses.turn(slicer.app.sendEvent, widget, qt.QKeyEvent(kind, code, modifiers, text))


def enter(widget: Any) -> None:
    """Bring the mouse over a widget."""
    center = qt.QPointF(widget.width / 2, widget.height / 2)
    pauses.turn(slicer.app.sendEvent, widget, qt.QEnterEvent(center, center, widget.mapToGlobal(center)))


def pixels(widget: Any) -> np.ndarray:
    """What a widget shows: RGB, (rows, columns, 3) of uint8, top row first."""
    image = widget.grab().toImage().convertToFormat(qt.QImage.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def _mouse(widget: Any, kind: Any, x: float, y: float, button: Any, buttons: Any, modifiers: Any) -> None:
    point = qt.QPointF(x, y)
    event = qt.QMouseEvent(kind, point, widget.mapToGlobal(point), button, buttons, modifiers)
    pauses.turn(slicer.app.sendEvent, widget, event)
