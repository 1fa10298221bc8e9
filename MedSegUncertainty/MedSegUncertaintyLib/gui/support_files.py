"""The menus Import and Export of the examples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from MedSegUncertaintyLib.errors import BadInputError, MedSegError
from MedSegUncertaintyLib.gui.exporting import Export, newFolder
from MedSegUncertaintyLib.gui.import_dialog import ImportDialog
from MedSegUncertaintyLib.gui.steps import Steps
from MedSegUncertaintyLib.scene.supports import Supports, findSupports


class SupportFiles:
    """Examples from elsewhere, and into a folder.

    Args:
        ui: The widgets by name.
        supports: Gives the present set.
        say: Shows a sentence.
        changed: Called when examples came.
        saveState: Lets the next change of the painted segmentation be undone.
    """

    def __init__(
        self,
        ui: Any,
        supports: Callable[[], Supports | None],
        say: Callable[[str], None],
        changed: Callable[[], None],
        saveState: Callable[[], None],
    ) -> None:
        self._supports, self._say, self._changed, self._saveState = supports, say, changed, saveState
        self._button, self._steps, self._thread = ui.importButton, None, None
        self._dialog = ImportDialog(ui.importButton, self._onDialog)
        self._menu = qt.QMenu(ui.importButton)
        self._menu.connect("aboutToShow()", self._fill)
        ui.importButton.setMenu(self._menu)
        ui.exportExamplesButton.connect("clicked()", self._onExport)

    def close(self) -> None:
        """The module is about to go."""
        self._stop()
        self._dialog.close()

    def _stop(self) -> None:
        for running in filter(None, (self._steps, self._thread)):
            running.close()
        self._steps = self._thread = None

    def _fill(self) -> None:
        self._menu.clear()
        supports = self._supports()
        if supports is None:
            return
        self._add(_("Slices of a segmentation ..."), lambda: self._dialog.open(supports))
        self._add(_("From a folder ..."), self._onFolder)
        for other in findSupports(slicer.mrmlScene):
            if other != supports:
                text = _("Examples of {name}").format(name=other.volumeNode.GetName())
                self._add(text, functools.partial(self._lend, other))

    def _add(self, text: str, action: Callable[[], None]) -> None:
        self._menu.addAction(text).connect("triggered()", action)

    def _lend(self, other: Supports) -> None:
        try:
            count = self._supports().lend(other)
            self._say(
                _("{count} examples of {name} are used as well.").format(count=count, name=other.volumeNode.GetName())
            )
        except BadInputError as error:
            self._say(str(error))
        self._changed()

    def _onDialog(self, source: Any, segmentIds: list[str], plane: str, indices: list[int] | int) -> None:
        from MedSegUncertaintyLib.scene.support_import import importSlicesInSteps

        self._saveState()
        steps = importSlicesInSteps(self._supports(), source, segmentIds, plane, indices)
        self._begin(steps, _("{count} slices became examples."))

    def _onFolder(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self._button, _("Folder of the examples"))
        if folder:
            self.open(Path(folder))

    def open(self, folder: Path) -> None:
        """Read a set, in a thread, and use it."""
        from MedSegUncertaintyLib.outputs.support_set import read_support_set
        from MedSegUncertaintyLib.scene.support_import import openSetInSteps

        read: list[Any] = []

        def work(_progress: Any) -> str:
            read.append(read_support_set(folder))
            return ""

        def done(sentence: str, good: bool) -> None:
            self._thread = None
            supports = self._supports()
            if not good:
                self._say(sentence)
            elif supports is not None:
                self._saveState()
                self._begin(openSetInSteps(supports, read[0]), _("The examples of {count} images are used."))

        self._stop()
        self._thread = Export(work, lambda _share: None, done)

    def _begin(self, steps: Generator[None, None, int], sentence: str) -> None:
        self._stop()
        self._steps = Steps(steps, functools.partial(self._onDone, sentence), self._onFailed)

    def _onDone(self, sentence: str, count: int) -> None:
        self._steps = None
        self._say(sentence.format(count=count))
        self._changed()

    def _onFailed(self, error: Exception) -> None:
        self._steps = None
        self._say(str(error))
        self._changed()
        if not isinstance(error, MedSegError):
            raise error

    def _onExport(self) -> None:
        parent = qt.QFileDialog.getExistingDirectory(self._button, _("Keep the examples in a new folder in"))
        if parent and self._supports() is not None:
            self.keep(newFolder(Path(parent), _("examples")))

    def keep(self, folder: Path) -> None:
        """Write the examples, in a thread."""
        from MedSegUncertaintyLib.outputs.support_set import write_support_set
        from MedSegUncertaintyLib.scene.support_import import keptSet

        try:
            kept, volume = keptSet(self._supports())
        except BadInputError as error:
            self._say(str(error))
            return

        def work(_progress: Any) -> str:
            write_support_set(kept, volume, folder)
            return _("The examples were written to {folder}; names of patients are not in it.").format(folder=folder)

        def done(sentence: str, _good: bool) -> None:
            self._thread = None
            self._say(sentence)

        self._stop()
        self._thread = Export(work, lambda _share: None, done)
