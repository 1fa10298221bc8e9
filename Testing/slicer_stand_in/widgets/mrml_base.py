"""Widgets that only know a scene, and numbers with units."""

from types import SimpleNamespace
from typing import Any

import ctk
import qt
from PySide6.QtCore import Signal

from slicer_stand_in.attributes import standIn, stored


@standIn()
class qMRMLWidget(qt.QWidget):
    """The usual root of a panel's .ui file: passes the scene on to its widgets by a signal."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._d = SimpleNamespace(scene=None)

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._d.scene

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene and tell the widgets inside."""
        if scene is not self._d.scene:
            self._d.scene = scene
            self.mrmlSceneChanged.emit(scene)


@standIn()
class qSlicerWidget(qt.QWidget):
    """Like ``qMRMLWidget``, but nobody can ask it for its scene."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._d = SimpleNamespace(scene=None)

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene and tell the widgets inside."""
        if scene is not self._d.scene:
            self._d.scene = scene
            self.mrmlSceneChanged.emit(scene)


@standIn()
class qMRMLCollapsibleButton(ctk.ctkCollapsibleButton):
    """A section that passes the scene on."""

    mrmlSceneChanged = Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        """Tell the widgets inside."""
        self.mrmlSceneChanged.emit(scene)


@standIn()
class qMRMLSliderWidget(ctk.ctkSliderWidget):
    """A slider for a quantity; units are not looked up here."""

    def mrmlScene(self) -> Any:
        """The scene."""
        return getattr(self._d, "scene", None)

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene, which holds the units."""
        self._d.scene = scene

    def setOrientation(self, orientation: Any) -> None:
        """Turn the slider."""
        self._d.slider.setOrientation(orientation)

    quantity = stored("QString", "quantity", "")
    unitAwareProperties = stored("int", "unitAwareProperties", 0)


@standIn()
class qMRMLSpinBox(ctk.ctkDoubleSpinBox):
    """A spin box for a quantity; units are not looked up here."""

    def mrmlScene(self) -> Any:
        """The scene."""
        return getattr(self._d, "scene", None)

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene, which holds the units."""
        self._d.scene = scene

    quantity = stored("QString", "quantity", "")
    unitAwareProperties = stored("int", "unitAwareProperties", 0)
