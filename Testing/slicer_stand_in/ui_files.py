"""Reading .ui files with our widgets in them."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

from PySide6 import QtCore, QtUiTools

from slicer_stand_in import attributes, connections


class UiLoader(QtUiTools.QUiLoader):
    """``qt.QUiLoader``. PySide cannot make connections such as ``mrmlSceneChanged(vtkMRMLScene*)``: we make them."""

    def createWidget(self, className: str, parent: Any = None, name: str = "") -> Any:
        """Called by Qt for each widget of the file; an unknown class is an error instead of a plain QWidget."""
        standIn = attributes.standIns().get(className)
        if standIn is None:
            if className not in self.availableWidgets():
                raise RuntimeError(f"There is no stand-in for the widget class {className}")
            return super().createWidget(className, parent, name)
        widget = standIn(parent) if parent is not None else standIn()
        widget.objectName = name
        return widget

    def load(self, device: Any, parent: Any = None) -> Any:
        """Read a file that is open for reading.

        Raises:
            RuntimeError: Unknown widget class, connection between unknown objects, or not a .ui file.
        """
        root = ElementTree.fromstring(bytes(device.readAll()))
        self._checkClasses(root)
        connectionElements = _takeOut(root, "connections")
        _takeOut(root, "customwidgets")
        properties = list(_takeFlagProperties(root))
        buffer = QtCore.QBuffer()
        buffer.setData(QtCore.QByteArray(ElementTree.tostring(root)))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        attributes._loading.append(self)
        try:
            widget = super().load(buffer, parent)
        finally:
            attributes._loading.pop()
        if widget is None:
            raise RuntimeError(f"QUiLoader: {self.errorString()}")
        named = {child.objectName: child for child in [widget, *widget.findChildren()]}
        for name, property_, value in properties:
            setattr(named[name], property_, value)
        for element in connectionElements:
            _connect(named, *(element.findtext(part) for part in ("sender", "signal", "receiver", "slot")))
        return widget

    def _checkClasses(self, root: ElementTree.Element) -> None:
        """Exceptions in createWidget would be lost inside Qt."""
        known = {*self.availableWidgets(), *attributes.standIns(), "Line"}
        for element in root.iter("widget"):
            if element.get("class") not in known:
                raise RuntimeError(f"There is no stand-in for the widget class {element.get('class')}")


def _takeOut(root: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    element = root.find(tag)
    if element is None:
        return []
    root.remove(element)
    return list(element)


def _takeFlagProperties(root: ElementTree.Element) -> Iterator[tuple[str, str, int]]:
    """Properties of our widgets whose values are enums or flags of theirs, such as ``ctkPathLineEdit::Files``."""
    for widget in root.iter("widget"):
        standIn = attributes.standIns().get(widget.get("class", ""))
        for element in widget.findall("property") if standIn else []:
            text = element.findtext("set") or element.findtext("enum") or ""
            if text.split("::")[0] in attributes.standIns():
                widget.remove(element)
                names = [part.split("::")[-1] for part in text.split("|")]
                yield widget.get("name", ""), element.get("name", ""), sum(int(getattr(standIn, n)) for n in names)


def _connect(named: dict[str, Any], sender: str, signal: str, receiver: str, slot: str) -> None:
    if sender not in named or receiver not in named:
        raise RuntimeError(f"The file connects unknown objects: {sender}, {receiver}")
    connections.connect(named[sender], signal, named[receiver], slot)
