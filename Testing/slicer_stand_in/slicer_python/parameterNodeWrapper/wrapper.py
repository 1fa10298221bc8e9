"""The class decorator that turns annotations into properties of a parameter node."""

import weakref
from typing import Any

import qt
import slicer
import vtk

from .connectors import Connector, connectorFor
from .storage import Default, Parameter, parametersOf

PROPERTY = "SlicerParameterName"
"""Dynamic property of a widget in a .ui file that names its parameter."""


def parameterNodeWrapper(cls: type | None = None) -> Any:
    """Class decorator: ``Wrapper(parameterNode).name`` reads and writes the node's parameter ``name``."""
    if cls is None:
        return parameterNodeWrapper
    parameters = parametersOf(cls)
    taken = [name for name in parameters if hasattr(_Wrapper, name)]
    if taken:
        raise ValueError(f"Cannot use reserved names {taken} in a parameterNodeWrapper")
    members = {name: _makeProperty(parameter) for name, parameter in parameters.items()}
    methods = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    return type(cls.__name__, (_Wrapper,), {**methods, **members, "allParameters": parameters})


def _makeProperty(parameter: Parameter) -> property:
    stored, name = parameter.stored, parameter.name

    def read(self: Any) -> Any:
        if not stored.isIn(self.parameterNode, name):  # closing the scene takes the values away
            stored.write(self.parameterNode, name, parameter.default.value)
        return stored.read(self.parameterNode, name)

    def write(self: Any, value: Any) -> None:
        stored.check(value)
        with slicer.util.NodeModify(self.parameterNode):
            stored.write(self.parameterNode, name, value)

    return property(read, write)


class _Wrapper:
    """What every decorated class can do."""

    allParameters: dict[str, Parameter]

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._guis: dict[int, tuple[dict[str, Connector], int]] = {}
        self._nextTag, self._showing = 0, False
        for name in self.allParameters:
            getattr(self, name)  # writes the default where there is no value

    def getValue(self, name: str) -> Any:
        """Value of a parameter, or of a member of a pack (``pack.member``)."""
        top, _, member = self._checked(name).partition(".")
        value = getattr(self, top)
        return value.getValue(member) if member else value

    def setValue(self, name: str, value: Any) -> None:
        """Set a parameter, or a member of a pack."""
        top, _, member = self._checked(name).partition(".")
        if member:
            getattr(self, top).setValue(member, value)
        else:
            setattr(self, top, value)

    def default(self, name: str) -> Default:
        """Value of a parameter that was not set."""
        return self.allParameters[self._checked(name)].default

    @classmethod
    def dataType(cls, name: str) -> Any:
        """Annotated type of a parameter, or of a member of a pack."""
        top, _, member = cls._checked(name).partition(".")
        parameter = cls.allParameters[top]
        return parameter.stored.kind.dataType(member) if member else parameter.unalteredType

    @classmethod
    def _checked(cls, name: str) -> str:
        top, _, member = name.partition(".")
        known = top in cls.allParameters
        if not known or (member and member not in getattr(cls.allParameters[top].stored.kind, "allParameters", ())):
            raise ValueError(f"Cannot find a param with the given name: {name}; there are {list(cls.allParameters)}")
        return name

    def connectGui(self, gui: Any) -> int:
        """Connect the widgets that name a parameter, inside a widget or among the attributes of an object."""
        isWidget = isinstance(gui, qt.QWidget)
        widgets = gui.findChildren(qt.QWidget) if isWidget else list(vars(gui).values())
        named = {widget.property(PROPERTY): widget for widget in widgets if widget.property(PROPERTY)}
        return self.connectParametersToGui(named)

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        """Connect parameters to widgets, which are filled at once. Returns what ``disconnectGui`` takes."""
        connectors = {name: connectorFor(widget, self.dataType(name)) for name, widget in mapping.items()}
        tag, self._nextTag = self._nextTag, self._nextTag + 1
        alive = weakref.ref(self)  # not self: VTK drops the observers of a node in a reference cycle
        observation = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: alive() and alive()._show())
        self._guis[tag] = (connectors, observation)
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(self._makeCallback(name, connector))
        return tag

    def disconnectGui(self, tag: int) -> None:
        """Undo one connection; an unknown tag is ignored."""
        connectors, observation = self._guis.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.onChanged(None)
        if observation is not None:
            self.RemoveObserver(observation)

    def _makeCallback(self, name: str, connector: Connector) -> Any:
        def callback() -> None:
            if not self._showing:
                self.setValue(name, connector.read())

        return callback

    def _show(self) -> None:
        """Fill all widgets from the node."""
        if self._showing:
            return
        self._showing = True
        try:
            for connectors, _ in self._guis.values():
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._showing = False

    def StartModify(self) -> int:
        """Hold back the node's events."""
        return self.parameterNode.StartModify()

    def EndModify(self, wasModifying: int) -> None:
        """Let the node's events go."""
        self.parameterNode.EndModify(wasModifying)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        """Observe the node."""
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        """End an observation of the node."""
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        """Tell the node's observers."""
        self.parameterNode.Modified()
