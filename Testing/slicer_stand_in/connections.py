"""Signals and slots as PythonQt has them; exceptions in slots are printed and recorded, never raised."""

import inspect
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from PySide6 import QtCore

from slicer_stand_in import api

_connect, _disconnect = QtCore.QObject.connect, QtCore.QObject.disconnect


class SlotError(NamedTuple):
    """An exception that real Slicer would only have printed."""

    where: str
    error: BaseException


SLOT_ERRORS: list[SlotError] = []


class QtSignal:
    """A signal on its class. PySide caches its own signal objects in the instance; this descriptor goes first."""

    def __init__(self, name: str, signatures: list[str], original: Any) -> None:
        self.name, self.signatures, self.original = name, signatures, original

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else BoundSignal(instance, self, self.signatures[0])

    def __set__(self, instance: Any, value: Any) -> None:
        if not isinstance(value, QtCore.SignalInstance):
            raise AttributeError(f"Signal '{self.name}' can not be overwritten on {type(instance).__name__} object")
        instance.__dict__[self.name] = value


class BoundSignal:
    """``object.signal``: can be connected with one argument, called and emitted."""

    def __init__(self, sender: Any, signal: QtSignal, signature: str) -> None:
        self._sender, self._signal, self._signature = sender, signal, signature

    def connect(self, *arguments: Any) -> bool:
        """Connect the first overload to a callable."""
        if len(arguments) != 1:
            raise ValueError("Called connect with wrong number of arguments")
        return connect(self._sender, self._signature, arguments[0])

    def disconnect(self, *arguments: Any) -> bool:
        """Disconnect a callable, or all of them."""
        if len(arguments) > 1:
            raise ValueError("Called disconnect with wrong number of arguments")
        return disconnect(self._sender, self._signature, *arguments)

    def emit(self, *arguments: Any) -> None:
        """Emit the overload."""
        instance = self._sender.__dict__.get(self._signal.name)
        if instance is None:
            instance = self._signal.original.__get__(self._sender, type(self._sender))
        if self._signature != self._signal.signatures[0]:
            instance = instance[self._signature.split("(")[1].rstrip(")")]
        instance.emit(*arguments)

    __call__ = emit

    def overload(self, arguments: str) -> "BoundSignal":
        """The overload with these argument types, for our own widgets."""
        return BoundSignal(self._sender, self._signal, f"{self._signal.name}({arguments})")

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, BoundSignal) and self._sender is other._sender
        return same and self._signature == other._signature

    def __hash__(self) -> int:
        return hash((id(self._sender), self._signature))


def toPython(value: Any) -> Any:
    """A list of strings arrives as a tuple."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return tuple(value)
    return value


def describeSignals(cls: type) -> None:
    """Put our descriptors in the place of PySide's signals, for the signals that a class declares itself."""
    meta, found = cls.staticMetaObject, {}
    for number in range(meta.methodOffset(), meta.methodCount()):
        method = meta.method(number)
        if method.methodType() == QtCore.QMetaMethod.MethodType.Signal:
            name = method.name().data().decode()
            found.setdefault(name, []).append(method.methodSignature().data().decode())
    for name, signatures in found.items():
        declared = vars(cls).get(name)
        if declared is None or isinstance(declared, QtCore.Signal):
            setattr(cls, name, QtSignal(name, signatures, declared))


def resolve(sender: Any, signal: str | bytes) -> str | None:
    """The signature under which Qt knows a signal; ``None`` for a signal that does not exist.

    Pointers to MRML nodes and other types that Qt does not know travel as Python objects.
    """
    text = (signal if isinstance(signal, str) else bytes(signal).decode()).lstrip("0123456789")
    normalized = QtCore.QMetaObject.normalizedSignature(text).data().decode()
    if sender.metaObject().indexOfSignal(normalized) >= 0:
        return normalized
    name, _, arguments = normalized.partition("(")
    for cls in type(sender).__mro__:
        if normalized in [s.replace(" ", "") for s in api.signalSignatures(cls.__name__)]:
            count = arguments.count(",") + (arguments != ")")
            ours = f"{name}({','.join(['PyObject'] * count)})"
            return ours if sender.metaObject().indexOfSignal(ours) >= 0 else None
    return None


def connect(sender: Any, *arguments: Any) -> bool:
    """Every form of PythonQt's ``connect``.

    ``sender.connect(signal, callable)``, ``sender.connect(signal, receiver, slot)`` and the static
    ``QObject.connect(sender, signal, callable)``.

    Raises:
        RuntimeError: The signal does not exist. PythonQt only prints that, and the program goes on without it.
    """
    if len(arguments) >= 2 and isinstance(arguments[0], QtCore.QObject):
        if callable(arguments[-1]) and not isinstance(arguments[-1], str):  # static, called on an instance
            return connect(arguments[0], arguments[1], arguments[-1])
        return connect(arguments[0], arguments[1], sender, *arguments[2:])
    if len(arguments) == 2:
        return _register(sender, arguments[0], arguments[1])
    if len(arguments) == 3:
        return _register(sender, arguments[0], _slot(arguments[1], arguments[2]))
    raise ValueError(f"connect: bad arguments {arguments!r}")


def disconnect(sender: Any, *arguments: Any) -> bool:
    """Undo ``connect``; callables are compared by ``==``. Returns whether there was such a connection."""
    signature = resolve(sender, arguments[0])
    target = _slot(arguments[1], arguments[2]) if len(arguments) == 3 else None if len(arguments) < 2 else arguments[1]
    found = [entry for entry in _connections(sender) if entry[0] == signature and target in (None, entry[1])]
    for entry in found[:1] if target is not None else found:
        _disconnect(entry[2])
        _connections(sender).remove(entry)
    return bool(found)


def _register(sender: Any, signal: str | bytes, target: Any) -> bool:
    signature = resolve(sender, signal)
    if signature is None:
        raise RuntimeError(f"QObject::connect(): signal '{signal}' does not exist on {type(sender).__name__}")
    if not callable(target):
        raise RuntimeError(f"QObject::connect(): {target!r} is not a slot")
    call = target.emit if isinstance(target, BoundSignal) else _guarded(target, f"{type(sender).__name__}.{signature}")
    connection = _connect(sender, QtCore.SIGNAL(signature), call)
    _connections(sender).append((signature, target, connection))
    return True


def _connections(sender: Any) -> list[tuple[str, Any, Any]]:
    return sender.__dict__.setdefault("_connections", [])


def _slot(receiver: Any, slot: str | bytes) -> Any:
    name = (slot if isinstance(slot, str) else bytes(slot).decode()).lstrip("0123456789").split("(")[0]
    if not callable(getattr(receiver, name, None)):
        raise AttributeError(f"{type(receiver).__name__} has no slot {name}")
    return getattr(receiver, name)


def _guarded(target: Callable, where: str) -> Callable:
    limit = _argumentLimit(target)

    def call(*arguments: Any) -> Any:
        try:
            return target(*[toPython(argument) for argument in arguments[:limit]])
        except Exception as error:
            SLOT_ERRORS.append(SlotError(where, error))
            traceback.print_exc()

    return call


def _argumentLimit(target: Callable) -> int | None:
    """How many of a signal's arguments PythonQt passes; ``None`` for all.

    A Python function gets as many as it has parameters, those with defaults included: ``lambda x=1: ...`` on
    ``clicked(bool)`` gets False.
    """
    bound = isinstance(target, types.MethodType)
    function = target.__func__ if bound else target
    if not isinstance(function, types.FunctionType) or function.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return function.__code__.co_argcount - bound


def recordUncaught() -> None:
    """VTK prints exceptions of Python observers through ``sys.excepthook``: record those too."""
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        SLOT_ERRORS.append(SlotError("observer", error))
        previous(kind, error, trace)

    sys.excepthook = hook
