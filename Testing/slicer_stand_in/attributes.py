"""Attributes of Qt objects as PythonQt shows them: properties are values, and nothing can be misspelled unnoticed."""

import math
import operator
import types
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore

from slicer_stand_in import api, connections

NOT_PROPERTIES = {("QTimer", "singleShot")}
"""Properties that PythonQt hides behind a static method of the same name."""

_qObject = QtCore.QObject
_readProperty, _writeProperty = _qObject.property, _qObject.setProperty
_dynamicNames, _children = _qObject.dynamicPropertyNames, _qObject.children

_standIns: dict[str, type] = {}
_lookups: dict[tuple[type, str], Any] = {}
_loading: list[Any] = []
"""Not empty while a .ui file is read: PySide then makes children attributes of the widget, PythonQt does not."""


def standIns() -> dict[str, type]:
    """Our classes by the name of the class they stand for."""
    return _standIns


def converted(value: Any, typeName: str, name: str) -> Any:
    """A Python value as PythonQt would store it in a property of a C++ type.

    Raises:
        AttributeError: The type does not accept the value.
    """
    if typeName in ("int", "uint", "qlonglong"):
        if type(value) is float:
            return math.floor(value)
        if not hasattr(value, "__index__"):  # for example numpy.float64
            raise _refusal(value, typeName, name)
        return operator.index(value)
    if typeName == "double":
        if not hasattr(value, "__float__"):
            raise _refusal(value, typeName, name)
        return float(value)
    if typeName == "QString":
        return str(value)
    if typeName == "bool":
        return bool(value)
    if typeName == "QStringList":
        return [str(item) for item in value]
    return value


def _refusal(value: Any, typeName: str, name: str) -> AttributeError:
    kind = type(value).__name__
    return AttributeError(
        f"Property '{name}' of type '{typeName}' does not accept an object of type {kind} ({value!r})"
    )


class QtProperty:
    """A property of one of Qt's own classes."""

    def __init__(self, name: str, typeName: str, writable: bool, getter: Callable | None = None) -> None:
        self.name, self.typeName, self.writable, self.getter = name, typeName, writable, getter

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        value = self.getter(instance) if self.getter else _readProperty(instance, self.name)
        return tuple(value or ()) if self.typeName == "QStringList" else value

    def __set__(self, instance: Any, value: Any) -> None:
        if not self.writable:
            raise AttributeError(f"Property '{self.name}' of {className(instance)} object is not writable")
        if _writeProperty(instance, self.name, converted(value, self.typeName, self.name)):
            return
        setter = getattr(instance, "set" + self.name[0].upper() + self.name[1:], None)
        try:
            setter(value)
        except TypeError as error:
            raise _refusal(value, self.typeName, self.name) from error


def qproperty(typeName: str, name: str, getter: Callable, setter: Callable | None = None) -> QtCore.Property:
    """A property of a stand-in; .ui files can set it, and Python values are converted as PythonQt converts them.

    Args:
        typeName: C++ type: "int", "double", "bool", "QString", "QStringList", or anything else for no conversion.
        name: Name of the property, for messages.
        getter: Function of the widget.
        setter: Function of the widget and the converted value; ``None`` for a property that cannot be written.
    """
    declared = {"double": float, "int": int, "bool": bool, "QString": str, "QStringList": "QStringList"}
    kind = declared.get(typeName, "QVariant")
    if setter is None:
        return QtCore.Property(kind, getter)
    return QtCore.Property(kind, getter, lambda self, value: setter(self, converted(value, typeName, name)))


def stored(typeName: str, name: str, default: Any) -> QtCore.Property:
    """A property that is kept but changes nothing visible here."""

    def write(self: Any, value: Any) -> None:
        self._d.__dict__[name] = value

    return qproperty(typeName, name, lambda self: self._d.__dict__.get(name, default), write)


def className(instance: Any) -> str:
    """Name of the C++ class of an object: Python subclasses do not count."""
    for cls in type(instance).__mro__:
        if cls.__name__ in _standIns or cls.__module__.startswith("PySide6"):
            return cls.__name__
    return type(instance).__name__


def standIn(*unchecked: str) -> Callable[[type], type]:
    """Decorator of a stand-in class: checks its names, registers it and gives it the manners of a C++ class.

    Args:
        unchecked: Names that no table confirms (``api.UNCHECKED``).
    """

    def decorate(cls: type) -> type:
        api.checkStandIn(cls, unchecked)
        cls._isCpp = True
        if not cls.__name__.startswith("_"):
            _standIns[cls.__name__] = cls
        connections.describeSignals(cls)
        cls.__setattr__ = _setAttribute
        _lookups.clear()
        return cls

    return decorate


def guard(cls: type, originalGetattribute: Callable) -> None:
    """Give one of Qt's own classes PythonQt's attributes."""
    meta = cls.staticMetaObject
    for number in range(meta.propertyOffset(), meta.propertyCount()):
        declared = meta.property(number)
        name = declared.name()
        if (cls.__name__, name) not in NOT_PROPERTIES:
            getter = vars(cls).get(name) or vars(cls).get("is" + name[0].upper() + name[1:])
            setattr(cls, name, QtProperty(name, declared.typeName(), declared.isWritable(), _caller(getter)))
    connections.describeSignals(cls)
    cls.__setattr__ = _setAttribute
    cls.__getattr__ = _missingAttribute
    cls.__getattribute__ = _makeGetattribute(originalGetattribute)


def _caller(method: Any) -> Callable | None:
    return (lambda instance: method.__get__(instance, type(instance))()) if callable(method) else None


def _makeGetattribute(original: Callable) -> Callable:
    """Attribute access of a class.

    Shiboken looks for the built-in ``connect`` before it looks at the class, so those two are taken here. Everything
    else goes through the class's own original: with ``object.__getattribute__`` a method that has static and instance
    overloads (``QFile.exists``) would be called without its instance, which ends the process.
    """

    def getattribute(self: Any, name: str) -> Any:
        if name == "connect":
            return types.MethodType(connections.connect, self)
        if name == "disconnect":
            return types.MethodType(connections.disconnect, self)
        cls = original(self, "__class__")
        descriptor = _descriptor(cls, name)
        if isinstance(descriptor, QtCore.Property):
            return connections.toPython(descriptor.fget(self))
        if descriptor is not None:
            return descriptor.__get__(self, cls)
        return original(self, name)

    return getattribute


def _descriptor(cls: type, name: str) -> Any:
    key = (cls, name)
    if key not in _lookups:
        found = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
        ours = (QtProperty, connections.QtSignal, QtCore.Property)
        _lookups[key] = found if isinstance(found, ours) else None
    return _lookups[key]


def _missingAttribute(self: Any, name: str) -> Any:
    """Last resorts of an attribute that was not found: a name with an underscore, dynamic properties, children."""
    if name.startswith("_"):
        raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")
    if name.endswith("_"):
        return getattr(self, name[:-1])
    value = _readProperty(self, name)
    if value is not None:
        return connections.toPython(value)
    for child in _children(self):
        if _readProperty(child, "objectName") == name:
            return child
    if name[:1].isupper() and hasattr(type(self), name):  # an enum's value through the instance: process.Running
        return getattr(type(self), name)
    raise AttributeError(_complaint(self, name))


def _complaint(instance: Any, name: str) -> str:
    cpp = className(instance)
    if api.exists(cpp, name):
        return f"{cpp}.{name} exists in Slicer, but the stand-in does not have it"
    return f"{cpp} has no attribute named '{name}'"


def _setAttribute(self: Any, name: str, value: Any) -> None:
    cls = type(self)
    declared = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
    if isinstance(declared, QtCore.Property):
        if declared.fset is None:
            raise AttributeError(f"Property '{name}' of {className(self)} object is not writable")
        declared.fset(self, value)
    elif hasattr(type(declared), "__set__"):
        declared.__set__(self, value)
    elif _loading and isinstance(value, QtCore.QObject):
        pass
    elif name.encode() in [bytes(dynamic) for dynamic in _dynamicNames(self)]:
        _writeProperty(self, name, value)
    elif _isCpp(cls) and name != "_d":
        if callable(declared):
            raise AttributeError(f"Slot '{name}' can not be overwritten on {className(self)} object")
        raise AttributeError(f"{_complaint(self, name)}; creating new attributes on C++ objects is not allowed")
    else:
        self.__dict__[name] = value


def _isCpp(cls: type) -> bool:
    return cls.__module__.startswith("PySide6") or "_isCpp" in vars(cls)
