"""``slicer.app``: a Qt application around the scene that the library's headless application starts."""

import sys
import types
from types import SimpleNamespace
from typing import Any

import qt
import slicer
from MedSegUncertaintyLib.scene.headless import HeadlessApplication
from PySide6.QtCore import Signal

from slicer_stand_in import connections
from slicer_stand_in.attributes import qproperty, standIn
from slicer_stand_in.files import qSlicerCoreIOManager
from slicer_stand_in.main_window import qSlicerMainWindow
from slicer_stand_in.modules import qSlicerAbstractCoreModule, qSlicerModuleManager
from slicer_stand_in.views.layout import qMRMLLayoutManager
from slicer_stand_in.widgets.sequences import SequencePlayer

DOCUMENTATION = "https://slicer.readthedocs.io/en/5.12/"


@standIn()
class qSlicerCoreApplication(qt.QApplication):
    """Scene, logics, modules, files."""

    mrmlSceneChanged = Signal(object)

    def __init__(self) -> None:
        super().__init__([sys.argv[0]])
        self.setApplicationName("Slicer")
        self.setOrganizationName("slicer.org")
        core = HeadlessApplication()
        self._d = SimpleNamespace(
            core=core, modules=types.ModuleType("slicer.modules"), manager=None, files=None,
            layouts=None, window=None, player=None, pauses=0, testing=True,
        )  # fmt: skip
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        core.mrmlScene().AddNode(crosshair)
        settings = qt.QSettings
        settings.setDefaultFormat(settings.IniFormat)
        settings.setPath(settings.IniFormat, settings.UserScope, core.temporaryPath)  # never the user's own

    def _activate(self) -> None:
        """Be ``slicer.app``; another application of this process may have been it meanwhile."""
        slicer.app, slicer.mrmlScene, slicer.modules = self, self.mrmlScene(), self._d.modules
        sys.modules["slicer.modules"] = self._d.modules
        self._lendFactories(self.applicationLogic())

    @staticmethod
    def _lendFactories(logic: Any) -> None:
        """Let new views belong to an application logic: there is one factory of each kind per process."""
        for factory in (
            slicer.vtkMRMLThreeDViewDisplayableManagerFactory,
            slicer.vtkMRMLSliceViewDisplayableManagerFactory,
        ):
            factory.GetInstance().SetMRMLApplicationLogic(logic)

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._d.core.mrmlScene()

    def applicationLogic(self) -> Any:
        """The application logic, which knows the module, slice and view logics."""
        return self._d.core.applicationLogic()

    def moduleLogic(self, name: str) -> Any:
        """The logic of a module."""
        return self.applicationLogic().GetModuleLogic(name)

    def moduleManager(self) -> Any:
        """Who knows the modules."""
        return self._d.manager

    def coreIOManager(self) -> Any:
        """Who reads and writes files."""
        return self._d.files

    def settings(self) -> Any:
        """The application's settings, in a temporary folder."""
        return qt.QSettings()

    def userSettings(self) -> Any:
        """The application's settings, in a temporary folder."""
        return qt.QSettings()

    def revisionUserSettings(self) -> Any:
        """The application's settings, in a temporary folder."""
        return qt.QSettings()

    def moduleDocumentationUrl(self, name: str) -> str:
        """Where a module of Slicer itself is documented."""
        return f"{DOCUMENTATION}user_guide/modules/{name.lower()}.html"

    def pauseRender(self) -> None:
        """Keep the pictures of the views as they are until ``resumeRender``."""
        self._d.pauses += 1

    def resumeRender(self) -> None:
        """Undo one ``pauseRender``."""
        self._d.pauses = max(self._d.pauses - 1, 0)
        self._d.layouts.viewport().update()

    def setRenderPaused(self, paused: bool) -> None:
        """``pauseRender`` or ``resumeRender``."""
        (self.pauseRender if paused else self.resumeRender)()

    temporaryPath = qproperty("QString", "temporaryPath", lambda s: s._d.core.temporaryPath)
    cachePath = qproperty("QString", "cachePath", lambda s: s._d.core.temporaryPath)
    slicerHome = qproperty("QString", "slicerHome", lambda s: s._d.core.temporaryPath)
    documentationBaseUrl = qproperty("QString", "documentationBaseUrl", lambda s: DOCUMENTATION)
    majorVersion = qproperty("int", "majorVersion", lambda s: 5)
    minorVersion = qproperty("int", "minorVersion", lambda s: 12)
    mainApplicationName = qproperty("QString", "mainApplicationName", lambda s: "Slicer")


@standIn("testingEnabled")
class qSlicerApplication(qSlicerCoreApplication):
    """The desktop application: main window and views as well."""

    startupCompleted = Signal()
    renderPaused = Signal(bool)

    def _start(self) -> None:
        """Make everything that needs ``slicer.app``."""
        d = self._d
        sys.modules["slicer.moduleNames"] = slicer.moduleNames = types.ModuleType("slicer.moduleNames")
        self._activate()
        d.manager, d.files = qSlicerModuleManager(), qSlicerCoreIOManager()
        for module in vars(d.core.modules).values():
            if isinstance(module, SimpleNamespace):
                d.manager._register(qSlicerAbstractCoreModule(module.name, logic=module.logic()))
        d.layouts = qMRMLLayoutManager()
        d.window = qSlicerMainWindow(d.layouts.viewport())
        d.player = SequencePlayer(self.mrmlScene())
        connections.recordUncaught()
        self.startupCompleted.emit()

    def _reset(self) -> None:
        """Back to the state after the start: no scripted modules, an empty scene, the usual layout."""
        d = self._d
        d.window.moduleSelector().selectModule("")
        for name in [name for name in d.manager.modulesNames() if d.manager.module(name).path]:
            d.manager._unload(name)
        self.mrmlScene().Clear(0)
        for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):  # they outlive closing the scene
            self.mrmlScene().RemoveNode(node)
        d.layouts.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
        d.window.hide()
        d.pauses, d.testing = 0, True
        self.sendPostedEvents(None, qt.QEvent.DeferredDelete)
        self.processEvents()

    def layoutManager(self) -> Any:
        """Who arranges the views."""
        return self._d.layouts

    def ioManager(self) -> Any:
        """Who reads and writes files."""
        return self._d.files

    def testingEnabled(self) -> bool:
        """Whether message boxes are skipped; False when a person uses the window."""
        return self._d.testing

    def commandOptions(self) -> Any:
        """What the command line said."""
        return SimpleNamespace(testingEnabled=self._d.testing, noMainWindow=False)
