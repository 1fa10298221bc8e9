"""The window: the panel of a module at the left, the views beside it."""

from types import SimpleNamespace
from typing import Any

import qt
import slicer

from slicer_stand_in.attributes import qproperty, standIn

PANEL_WIDTH = 420


@standIn("moduleSelector")
class qSlicerMainWindow(qt.QMainWindow):
    """The main window, as ``slicer.util.mainWindow()``."""

    def __init__(self, viewport: Any) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self.setWindowTitle("MedSegUncertainty under a stand-in for 3D Slicer")
        self._d = SimpleNamespace(panel=qt.QScrollArea(), selector=qSlicerModuleSelectorToolBar(self))
        self._d.panel.setWidgetResizable(True)
        self._d.panel.setHorizontalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
        splitter = qt.QSplitter(qt.Qt.Horizontal)
        splitter.addWidget(self._d.panel)
        splitter.addWidget(viewport)
        splitter.setStretchFactor(1, 1)
        splitter.setSizes([PANEL_WIDTH, 3 * PANEL_WIDTH])
        self.setCentralWidget(splitter)
        self.statusBar().setSizeGripEnabled(False)

    def moduleSelector(self) -> Any:
        """What ``slicer.util.selectModule`` asks to change the module."""
        return self._d.selector


@standIn("selectModule", "selectedModule")
class qSlicerModuleSelectorToolBar(qt.QToolBar):
    """Opens modules."""

    def __init__(self, window: Any) -> None:
        super().__init__()
        self._d = SimpleNamespace(window=window, selected="")

    def selectModule(self, name: str) -> None:
        """Leave the module that is open, and open another one (none for an empty name)."""
        manager, area = slicer.app.moduleManager(), self._d.window._d.panel
        if manager.module(self._d.selected) is not None:
            manager.module(self._d.selected).widgetRepresentation().exit()
            area.takeWidget().hide()
        self._d.selected = name
        if name:
            panel = manager.module(name).widgetRepresentation()
            area.setWidget(panel)
            panel.show()
            panel.enter()

    selectedModule = qproperty("QString", "selectedModule", lambda s: s._d.selected)
