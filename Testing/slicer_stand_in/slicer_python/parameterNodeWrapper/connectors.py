"""Which widgets can show a parameter, and how. As in Slicer, the class of a widget must be exactly one of these."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctk
import qt
import slicer

from .storage import splitAnnotations
from .validators import Choice, Maximum, Minimum, WithinRange


@dataclass
class Decimals:
    """Annotation: decimals of the widget."""

    value: int


@dataclass
class SingleStep:
    """Annotation: step of the widget."""

    value: float


class Connector:
    """Reads and writes a widget; ``signal`` says that the user changed it."""

    def __init__(self, widget: Any, signal: str, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self.widget, self.signal, self.read, self.write = widget, signal, read, write
        self._callback: Callable[[], None] | None = None

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        """Call a function without arguments on changes; None ends that."""
        if self._callback is not None:
            self.widget.disconnect(self.signal, self._callback)
        self._callback = callback
        if callback is not None:
            self.widget.connect(self.signal, callback)


def connectorFor(widget: Any, annotated: Any) -> Connector:
    """The connector of a widget and an annotated type.

    Raises:
        RuntimeError: The widget cannot show the type.
    """
    kind, extras = splitAnnotations(annotated)
    choice = next((extra for extra in extras if isinstance(extra, Choice)), None)
    makers = (
        (kind is bool, (qt.QCheckBox, ctk.ctkCheckBox, qt.QPushButton), _checked),
        (kind is int, (qt.QSpinBox, qt.QSlider, ctk.ctkSliderWidget), _number),
        (kind is float, (qt.QDoubleSpinBox, ctk.ctkSliderWidget), _number),
        (kind is str, (qt.QLineEdit,), _line),
        (kind is str, (qt.QTextEdit, qt.QPlainTextEdit), _text),
        (isinstance(kind, type) and issubclass(kind, Path), (ctk.ctkPathLineEdit,), _path),
        (isinstance(kind, type) and issubclass(kind, Path), (ctk.ctkDirectoryButton,), _directory),
        (isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode), (slicer.qMRMLNodeComboBox,), _node),
        (isinstance(kind, type) and issubclass(kind, enum.Enum), (qt.QComboBox,), _choices),
        (choice is not None, (qt.QComboBox,), _choices),
    )
    for suitable, classes, make in makers:
        if suitable and type(widget) in classes:
            return make(widget, kind, extras)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{annotated}' to widget type '{type(widget)}'")


def _property(widget: Any, signal: str, name: str, kind: Callable = lambda value: value) -> Connector:
    return Connector(widget, signal, lambda: kind(getattr(widget, name)), lambda value: setattr(widget, name, value))


def _checked(widget: Any, _kind: Any, _extras: list) -> Connector:
    if not widget.checkable:
        widget.checkable = True
    return _property(widget, "toggled(bool)", "checked")


def _line(widget: Any, _kind: Any, _extras: list) -> Connector:
    return _property(widget, "textChanged(QString)", "text")


def _text(widget: Any, _kind: Any, _extras: list) -> Connector:
    return Connector(widget, "textChanged()", widget.toPlainText, widget.setPlainText)


def _path(widget: Any, _kind: Any, _extras: list) -> Connector:
    return _property(widget, "currentPathChanged(QString)", "currentPath", Path)


def _directory(widget: Any, _kind: Any, _extras: list) -> Connector:
    return _property(widget, "directoryChanged(QString)", "directory", Path)


def _node(widget: Any, _kind: Any, _extras: list) -> Connector:
    return Connector(widget, "currentNodeChanged(vtkMRMLNode*)", widget.currentNode, widget.setCurrentNode)


def _number(widget: Any, kind: Any, extras: list) -> Connector:
    """Range, decimals and step come from the annotations."""
    for extra in extras:
        if isinstance(extra, (WithinRange, Minimum)):
            widget.minimum = extra.minimum
        if isinstance(extra, (WithinRange, Maximum)):
            widget.maximum = extra.maximum
        if isinstance(extra, Decimals):
            widget.decimals = extra.value
        if isinstance(extra, SingleStep):
            widget.singleStep = extra.value
    bounded = any(isinstance(e, WithinRange) for e in extras) or {Minimum, Maximum} <= {type(e) for e in extras}
    if not bounded and type(widget) in (qt.QSlider, ctk.ctkSliderWidget):
        raise RuntimeError("A slider needs a parameter with a range.")
    whole = type(widget) in (qt.QSpinBox, qt.QSlider)
    return _property(widget, "valueChanged(int)" if whole else "valueChanged(double)", "value", kind)


def _choices(widget: Any, kind: Any, extras: list) -> Connector:
    """One entry per value; the label of an enum's member is what its method ``label()`` says, or its name."""
    if issubclass(kind, enum.Enum):
        values = list(kind)
        labels = [value.label() if hasattr(value, "label") else value.name for value in values]
    else:
        values = next(extra.choices for extra in extras if isinstance(extra, Choice))
        labels = [str(value) for value in values]
    widget.clear()
    widget.addItems(labels)

    def write(value: Any) -> None:
        widget.currentIndex = values.index(value)

    return Connector(widget, "currentIndexChanged(int)", lambda: values[widget.currentIndex], write)
