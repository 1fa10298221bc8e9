"""Modules: those that are only a logic here, and scripted ones loaded from their file."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import qt
import slicer
from PySide6.QtCore import Signal

from slicer_stand_in.attributes import qproperty, standIn, stored


@standIn("icon", "widgetRepresentation", "createNewWidgetRepresentation")
class qSlicerAbstractCoreModule(qt.QObject):
    """A module. Scripted modules describe themselves by setting these properties."""

    def __init__(self, name: str, path: str = "", logic: Any = None) -> None:
        super().__init__()
        self._d = SimpleNamespace(name=name, path=path, logic=logic, widget=None, title=name)

    name = qproperty("QString", "name", lambda s: s._d.name)
    path = qproperty("QString", "path", lambda s: s._d.path, lambda s, value: setattr(s._d, "path", value))
    title = stored("QString", "title", "")
    helpText = stored("QString", "helpText", "")
    acknowledgementText = stored("QString", "acknowledgementText", "")
    categories = stored("QStringList", "categories", [])
    dependencies = stored("QStringList", "dependencies", [])
    contributors = stored("QStringList", "contributors", [])
    associatedNodeTypes = stored("QStringList", "associatedNodeTypes", [])
    hidden = stored("bool", "hidden", False)
    index = stored("int", "index", -1)
    widgetRepresentationCreationEnabled = stored("bool", "widgetRepresentationCreationEnabled", True)
    icon = stored("QIcon", "icon", None)

    def logic(self) -> Any:
        """The module's logic."""
        return self._d.logic

    def mrmlScene(self) -> Any:
        """The scene."""
        return slicer.mrmlScene

    def createNewWidgetRepresentation(self) -> Any:
        """A new panel, in the order of Slicer: make it, set it up, and only then give it the scene."""
        panel = qSlicerScriptedLoadableModuleWidget()
        panel._d.module = self
        panel.reload()
        panel.setMRMLScene(slicer.mrmlScene)
        return panel

    def widgetRepresentation(self) -> Any:
        """The panel, made when it is first asked for."""
        if self._d.widget is None:
            self._d.widget = self.createNewWidgetRepresentation()
        return self._d.widget


@standIn()
class qSlicerScriptedLoadableModule(qSlicerAbstractCoreModule):
    """A module that is a Python file."""


@standIn()
class qSlicerScriptedLoadableModuleWidget(slicer.qSlicerWidget):
    """The panel of a scripted module, around the Python object."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._d.module = self._d.python = None
        self._d.entered = False
        qt.QVBoxLayout(self)

    def self(self) -> Any:
        """The Python object."""
        return self._d.python

    def reload(self) -> None:
        """Make the Python object anew and set it up."""
        name = self._d.module.name
        self._d.python = getattr(sys.modules[name], f"{name}Widget")(self)
        setattr(slicer.modules, f"{name}Widget", self._d.python)
        self.setObjectName(f"{name}ModuleWidget")
        self.setWindowTitle(self._d.module.title)
        self._d.python.setup()

    def enter(self) -> None:
        """The user opened the module."""
        self._d.entered = True
        self._call("enter")

    def exit(self) -> None:
        """The user left the module."""
        self._d.entered = False
        self._call("exit")

    def setEditedNode(self, node: Any, role: str = "", context: str = "") -> bool:
        """Show a node in the panel; False if the panel cannot."""
        return bool(self._call("setEditedNode", node, role, context))

    def _call(self, name: str, *arguments: Any) -> Any:
        method = getattr(self._d.python, name, None)
        return method(*arguments) if method is not None else None

    isEntered = qproperty("bool", "isEntered", lambda s: s._d.entered)
    moduleName = qproperty("QString", "moduleName", lambda s: s._d.module.name)


@standIn("loadedModuleNames", "isLoaded")
class qSlicerModuleManager(qt.QObject):
    """Knows the modules by name."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._d = SimpleNamespace(modules={})

    def module(self, name: str) -> Any:
        """A module, or None."""
        return self._d.modules.get(name)

    def modulesNames(self) -> tuple[str, ...]:
        """Names of all modules."""
        return tuple(self._d.modules)

    def factoryManager(self) -> Any:
        """Who knows what is loaded: the same object here."""
        return self

    def loadedModuleNames(self) -> tuple[str, ...]:
        """Names of all modules."""
        return tuple(self._d.modules)

    def isLoaded(self, name: str) -> bool:
        """Whether there is a module of that name."""
        return name in self._d.modules

    def _register(self, module: Any) -> Any:
        self._d.modules[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)
        setattr(slicer.moduleNames, module.name, module.name)
        self.moduleLoaded.emit(module.name)
        return module

    def _unload(self, name: str) -> None:
        """Forget a scripted module and its panel."""
        self.moduleAboutToBeUnloaded.emit(name)
        module = self._d.modules.pop(name)
        if module._d.widget is not None:
            module._d.widget.setParent(None)
            module._d.widget.deleteLater()
        for attribute in (name.lower(), f"{name}Instance", f"{name}Widget"):
            if hasattr(slicer.modules, attribute):
                delattr(slicer.modules, attribute)
        sys.modules.pop(name, None)


def loadScriptedModule(path: str | Path) -> Any:
    """Load a module from its file, whose name is the module's and its class's.

    Returns:
        The module, as ``slicer.modules.<name in lower case>``.
    """
    path = Path(path)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    python = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(python)
    module = qSlicerScriptedLoadableModule(path.stem, str(path), slicer.vtkSlicerScriptedLoadableModuleLogic())
    slicer.app.moduleManager()._register(module)
    instance = getattr(python, path.stem)(module)
    setattr(slicer.modules, f"{path.stem}Instance", instance)
    return module
