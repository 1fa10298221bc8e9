"""Results as files. Files are written in a thread, so that the window goes on; what takes long can be canceled."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Callable, Generator, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from MedSegUncertaintyLib.errors import CanceledError, MedSegError
from MedSegUncertaintyLib.gui.messages import Messages
from MedSegUncertaintyLib.gui.steps import Steps
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress, StageClock
from MedSegUncertaintyLib.scene.folder import hierarchyOf
from MedSegUncertaintyLib.scene.results import ResultNodes

if TYPE_CHECKING:
    from MedSegUncertaintyLib.inference.result import InferenceResult

POLL_MS = 100
Write = Callable[[Callable[[Progress], None]], str]
"""Writes files, given a function to tell its progress, and returns a sentence for the user."""
CANCELED = _("The export was canceled; nothing was written.")


class Export:
    """One export in a thread.

    Args:
        write: Does the work; gets a function to tell its progress, which raises to cancel.
        told: Called with a share of 0 to 1 as the work goes on.
        done: Called at the end with a sentence, and whether it went well.
    """

    def __init__(
        self,
        write: Write,
        told: Callable[[float], None],
        done: Callable[[str, bool], None],
    ) -> None:
        self._write, self._told, self._done = write, told, done
        self._token, self._share = CancelToken(), 0.0
        self._outcome: tuple[str, bool] | None = None
        self._thread = threading.Thread(target=self._work, name="export", daemon=True)
        self._thread.start()
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self._poll)
        self._timer.start()

    def cancel(self) -> None:
        """Stop after the file that is being written; the folder is left as it was."""
        self._token.cancel()

    def close(self) -> None:
        """Stop, and say nothing more."""
        self._timer.stop()
        self._token.cancel()

    def _work(self) -> None:
        try:
            self._outcome = (self._write(self._hear), True)
        except CanceledError:
            self._outcome = (CANCELED, True)
        except (MedSegError, OSError) as error:
            self._outcome = (str(error), False)
        except Exception as error:
            self._outcome = (_("The export failed ({error!r}); please report it.").format(error=error), False)

    def _hear(self, progress: Progress) -> None:
        self._token.check()
        self._share = progress.done / max(progress.total, 1)

    def _poll(self) -> None:
        if self._outcome is None:
            self._told(self._share)
            return
        self._timer.stop()
        self._done(*self._outcome)


def filesWriter(result: InferenceResult, folder: Path) -> Write:
    """Writes samples, contours, maps and numbers into a new folder."""
    from MedSegUncertaintyLib.outputs.folder import write_outputs

    return lambda progress: _written(write_outputs(folder, result, progress=progress), folder)


def dicomWriter(result: InferenceResult, sources: list[Path], folder: Path) -> Write:
    """Writes DICOM objects that refer to ``sources`` into a new folder."""
    from MedSegUncertaintyLib.outputs.dicom_objects import DicomContent, dicom_writers

    return folderWriter(lambda: dicom_writers(result.structures, lambda: DicomContent.of(result), sources), folder)


def folderWriter(makeWriters: Callable[[], Mapping[str, Callable[[Path], object]]], folder: Path) -> Write:
    """Writes files by their names into a new folder, which disappears if that is canceled or fails."""

    def write(progress: Callable[[Progress], None]) -> str:
        writers = makeWriters()
        folder.mkdir()
        try:
            clock = StageClock("", len(writers), progress)
            for name, write_ in writers.items():
                write_(folder / name)
                clock.counted(name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return _written(writers, folder)

    return write


def loadedFilesWriterInSteps(nodes: ResultNodes, folder: Path) -> Generator[None, None, Write]:
    """Like :func:`filesWriter`, for a result that was loaded with its scene: first copied out of its nodes."""
    from MedSegUncertaintyLib.scene.export import volumeWritersInSteps

    writers = yield from volumeWritersInSteps(nodes)
    return folderWriter(lambda: writers, folder)


def loadedDicomWriterInSteps(nodes: ResultNodes, sources: list[Path], folder: Path) -> Generator[None, None, Write]:
    """Like :func:`dicomWriter`, for a result that was loaded with its scene: first copied out of its nodes."""
    from MedSegUncertaintyLib.outputs.dicom_objects import dicom_writers
    from MedSegUncertaintyLib.scene.export import dicomContentInSteps

    structures = nodes.structures
    content = yield from dicomContentInSteps(nodes)
    return folderWriter(lambda: dicom_writers(structures, lambda: content, sources), folder)


def _written(files: Sized, folder: Path) -> str:
    return _("{count} files were written to {folder}.").format(count=len(files), folder=folder)


class ExportMenu:
    """The menu of the button Export.

    Args:
        button: The ``QPushButton``.
        shown: Gives the result that is shown, or None.
        messages: Where it says what became of an export.
    """

    def __init__(self, button: Any, shown: Callable[[], ResultNodes | None], messages: Messages) -> None:
        self._button, self._shown, self._messages = button, shown, messages
        self._results: dict[int, InferenceResult] = {}
        self._export: Export | None = None
        self._steps: Steps | None = None
        self._menu = qt.QMenu(button)
        self._tables = self._add(_("Numbers (CSV) ..."), self._onTables)
        self._files = self._add(_("Samples, contours and maps ..."), self._onFiles)
        self._dicom = self._add(_("DICOM ..."), self._onDicom)
        self._cancel = self._add(_("Cancel the export"), self._onCancel)
        self._menu.connect("aboutToShow()", self._onShow)
        button.setMenu(self._menu)

    def _add(self, text: str, action: Callable[[], None]) -> Any:
        entry = self._menu.addAction(text)
        entry.connect("triggered()", action)
        return entry

    def keep(self, nodes: ResultNodes, result: InferenceResult) -> None:
        """Remember what a result in the scene was made from."""
        self._results[nodes.folder] = result

    def keepOnly(self, folders: set[int]) -> None:
        """Let go of the arrays of results whose folder is no longer in the scene."""
        self._results = {folder: result for folder, result in self._results.items() if folder in folders}

    def forget(self) -> None:
        """The scene is about to be closed."""
        self._results = {}
        self._stopSteps()

    def close(self) -> None:
        """The module is about to go."""
        self.forget()
        if self._export is not None:
            self._export.close()

    def _onShow(self) -> None:
        for action in (self._tables, self._files, self._dicom):
            action.enabled = self._shown() is not None and not self._isBusy
        self._cancel.setVisible(self._isBusy)

    @property
    def _isBusy(self) -> bool:
        return self._export is not None or self._steps is not None

    def _onTables(self) -> None:
        from MedSegUncertaintyLib.scene.export import exportTables

        folder = self._askFolder(_("Export the numbers into a new folder in"))
        if folder is None:
            return
        try:
            folder.mkdir()
            self._onDone(_written(exportTables(self._shown(), folder), folder), True)
        except (MedSegError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            self._onDone(str(error), False)

    def _onFiles(self) -> None:
        result, folder = self._result, self._askFolder(_("Export the files into a new folder in"))
        if folder is None:
            return
        if result is None:
            self._runInSteps(loadedFilesWriterInSteps(self._shown(), folder))
        else:
            self._run(filesWriter(result, folder))

    def _onDicom(self) -> None:
        from MedSegUncertaintyLib.outputs.dicom_objects import check_highdicom
        from MedSegUncertaintyLib.scene.export import sourceFiles

        result, nodes = self._result, self._shown()
        try:
            check_highdicom()
            sources = sourceFiles(nodes.inputVolume)
        except MedSegError as error:
            self._messages.show(str(error))
            return
        folder = self._askFolder(_("Export DICOM into a new folder in"))
        if folder is None:
            return
        if result is None:
            self._runInSteps(loadedDicomWriterInSteps(nodes, sources, folder))
        else:
            self._run(dicomWriter(result, sources, folder))

    @property
    def _result(self) -> InferenceResult | None:
        """What the result that is shown was made from; None for one that was loaded with its scene."""
        return self._results.get(self._shown().folder)

    def _askFolder(self, question: str) -> Path | None:
        """A folder that does not exist yet, where the user wants it."""
        parent = qt.QFileDialog.getExistingDirectory(self._button, question)
        return newFolder(Path(parent), hierarchyName(self._shown())) if parent else None

    def _runInSteps(self, steps: Generator[None, None, Write]) -> None:
        """Copy what is written out of nodes first, which other threads must not read."""
        self._onProgress(0.0)
        self._steps = Steps(steps, self._onCopied, self._onNotCopied)

    def _onCopied(self, write: Write) -> None:
        self._steps = None
        self._run(write)

    def _onNotCopied(self, error: Exception) -> None:
        self._onDone(str(error), False)
        if not isinstance(error, MedSegError):
            raise error

    def _stopSteps(self) -> None:
        if self._steps is not None:
            self._steps.close()
            self._steps = None

    def _run(self, write: Write) -> None:
        self._onProgress(0.0)
        self._export = Export(write, self._onProgress, self._onDone)

    def _onProgress(self, share: float) -> None:
        self._messages.show(_("Exporting: {share:.0%}").format(share=share), good=True)

    def _onDone(self, sentence: str, good: bool) -> None:
        self._export = self._steps = None
        self._messages.show(sentence, good=good)

    def _onCancel(self) -> None:
        if self._export is not None:
            self._export.cancel()
        elif self._steps is not None:
            self._stopSteps()
            self._onDone(CANCELED, True)


def newFolder(parent: Path, name: str) -> Path:
    """A folder that does not exist yet, in ``parent``."""
    plain = "".join(letter if letter.isalnum() or letter in " -_." else "_" for letter in name).strip(" .")
    candidates = (parent / (plain if not number else f"{plain} {number + 1}") for number in itertools.count())
    return next(candidate for candidate in candidates if not candidate.exists())


def hierarchyName(nodes: ResultNodes) -> str:
    """What the user sees as the name of a result."""
    return hierarchyOf(nodes.scene).GetItemName(nodes.folder)
