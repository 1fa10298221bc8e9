"""The flat module ``qt``: PySide6 with the manners of PythonQt."""

import sys
import types
from typing import Any

from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets, QtXml

from slicer_stand_in import attributes, connections
from slicer_stand_in.ui_files import UiLoader

MODULES = (QtCore, QtGui, QtWidgets, QtNetwork, QtXml, QtUiTools)
_findChildren = QtCore.QObject.findChildren


def build() -> types.ModuleType:
    """Make the module and change Qt's classes, once per process."""
    qt = types.ModuleType("qt", "Qt with the manners of PythonQt")
    for module in MODULES:
        for name in dir(module):
            if name.startswith("Q") or name in ("Signal", "Slot", "Property"):
                setattr(qt, name, getattr(module, name))
    classes = [value for value in vars(qt).values() if isinstance(value, type) and issubclass(value, QtCore.QObject)]
    for cls, original in [(cls, cls.__getattribute__) for cls in classes]:
        attributes.guard(cls, original)
    _completeObject(QtCore.QObject)
    _completeEnums(qt)
    qt.QUiLoader = UiLoader
    sys.modules["qt"] = qt
    return qt


def _completeObject(qObject: Any) -> None:
    """Methods that every object has in PythonQt."""
    qObject.connect, qObject.disconnect = connections.connect, connections.disconnect
    qObject.name = attributes.QtProperty("objectName", "QString", writable=True)
    qObject.className = attributes.className
    qObject.findChildren = _children
    qObject.findChild = lambda self, kind=None, name="": next(iter(_children(self, kind, name)), None)
    qObject.delete = qObject.deleteLater
    for cls in (QtCore.QEventLoop, QtCore.QThread, QtWidgets.QDialog, QtWidgets.QMenu):
        cls.exec_ = cls.exec  # PySide's own one warns


def _children(self: Any, kind: type | str | None = None, name: str = "") -> list[Any]:
    """Children at any depth, by class or name of a class, and by object name."""
    if isinstance(kind, str):
        found = [child for child in _findChildren(self, QtCore.QObject) if _isA(child, kind)]
    else:
        found = _findChildren(self, kind or QtCore.QObject)
    return [child for child in found if not name or child.objectName == name]


def _isA(instance: Any, kind: str) -> bool:
    return kind in [cls.__name__ for cls in type(instance).__mro__]


def _completeEnums(qt: Any) -> None:
    """PythonQt takes an integer for any enum; PySide needs help where module code is known to do that."""
    name = qt.QColor.name
    qt.QColor.name = lambda self, form=0: name(self, qt.QColor.NameFormat(int(form)))
    setSelectionMode = qt.QAbstractItemView.setSelectionMode
    qt.QAbstractItemView.setSelectionMode = lambda self, mode: setSelectionMode(
        self, qt.QAbstractItemView.SelectionMode(int(mode))
    )
