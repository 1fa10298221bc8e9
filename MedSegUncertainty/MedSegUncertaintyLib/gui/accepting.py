"""The menu of the button Accept: copies of what was found, into segmentations of the user's choice."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.scene.folder import nodesOfClass
from MedSegUncertaintyLib.scene.prediction import acceptSlices, addSegmentation, predictedIndices, predictionOf
from MedSegUncertaintyLib.scene.supports import Supports


class AcceptMenu:
    """Fills the menu when it opens.

    Args:
        button: The ``QPushButton``.
        supports: Gives the present set.
        say: Shows a sentence.
        saveState: Lets the next change of the painted segmentation be undone with the editor.
    """

    def __init__(
        self,
        button: Any,
        supports: Callable[[], Supports | None],
        say: Callable[[str], None],
        saveState: Callable[[], None],
    ) -> None:
        self._supports, self._say, self._saveState = supports, say, saveState
        self._undo: tuple[Any, Any] | None = None
        self._menu = qt.QMenu(button)
        self._menu.connect("aboutToShow()", self._fill)
        button.setMenu(self._menu)

    def forget(self) -> None:
        """The scene is about to be closed."""
        self._undo = None

    def _fill(self) -> None:
        self._menu.clear()
        supports = self._supports()
        if supports is None:
            return
        self._add(_("Into a new segmentation"), self._intoNew)
        self._add(_("Into the painted slices, where nothing is painted"), lambda: self._into(supports.painted))
        for node in nodesOfClass(slicer.mrmlScene, "vtkMRMLSegmentationNode"):
            if node not in (supports.painted, predictionOf(supports)) and not node.GetHideFromEditors():
                self._add(_("Into {name}").format(name=node.GetName()), functools.partial(self._into, node))
        if self._undo is not None and slicer.mrmlScene.IsNodePresent(self._undo[0]):
            self._add(_("Undo for {name}").format(name=self._undo[0].GetName()), self._onUndo)

    def _add(self, text: str, action: Callable[[], None]) -> None:
        self._menu.addAction(text).connect("triggered()", action)

    def _intoNew(self) -> None:
        supports = self._supports()
        self._into(addSegmentation(supports, _("{name} - accepted").format(name=supports.volumeNode.GetName())))

    def _into(self, target: Any) -> None:
        supports = self._supports()
        if target is supports.painted:
            self._saveState()
        else:
            history = slicer.vtkSegmentationHistory()
            history.SetSegmentation(target.GetSegmentation())
            history.SaveState()
            self._undo = (target, history)
        plane = supports.plane
        try:
            copied = acceptSlices(supports, target, plane, predictedIndices(supports, plane)) if plane else []
        except BadInputError as error:
            self._say(str(error))
            return
        self._say(
            _("{count} slices were copied into {name}; slices that were painted there stayed as they were.").format(
                count=len(copied), name=target.GetName()
            )
        )

    def _onUndo(self) -> None:
        target, history = self._undo
        if history.IsRestorePreviousStateAvailable():
            history.RestorePreviousState()
        self._undo = None
        self._say(_("{name} is as it was before.").format(name=target.GetName()))
