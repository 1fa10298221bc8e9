"""One run at a time, from Apply to the nodes of its result; the window goes on meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

import qt
import slicer
from slicer.i18n import tr as _

from MedSegUncertaintyLib.errors import MedSegError
from MedSegUncertaintyLib.gui.estimate import DRAWING, StageWatch, durationText
from MedSegUncertaintyLib.gui.steps import Steps
from MedSegUncertaintyLib.inference.progress import Progress
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.scene.grids import colorsFromNode, isColorNode, volumeFromNode
from MedSegUncertaintyLib.scene.nodes import addResultInSteps
from MedSegUncertaintyLib.scene.preview import PreviewMap
from MedSegUncertaintyLib.scene.results import ResultNodes

if TYPE_CHECKING:
    from MedSegUncertaintyLib.inference.result import InferenceResult
    from MedSegUncertaintyLib.scene.support_requests import Question
    from MedSegUncertaintyLib.workers.worker import Worker

POLL_MS = 50
EXAMPLE_STAGES = {
    "first look": _("Looking through the slices"),
    "leave examples out": _("Comparing the examples"),
}
"""What is said about stages of a model that segments by example."""


class State(Enum):
    """Where a run is."""

    IDLE = auto()
    COMPUTING = auto()
    ADDING = auto()
    CANCELING = auto()


class Listener(Protocol):
    """Who is told about runs."""

    def onState(self) -> None:
        """A run began or ended, or goes on in another way."""

    def onDevice(self, description: str, startSeconds: float | None) -> None:
        """The network runs on this device; the process took so long to start, None if it was there already."""

    def onProgress(self, share: float | None, text: str) -> None:
        """The present stage is done to this share; None if that is unknown."""

    def onResult(self, nodes: ResultNodes, result: InferenceResult, watch: StageWatch) -> None:
        """The result is in the scene."""

    def onFailed(self, message: str, log: str) -> None:
        """There is no result; the scene is as before."""


@dataclass
class _Run:
    """What is known of the run in progress."""

    number: int
    request: InferenceRequest
    volumeNode: Any
    preview: PreviewMap
    watch: StageWatch
    question: Question | None = None


class Running:
    """Hands requests to the worker and puts results into the scene.

    Args:
        listener: Who is told.

    Attributes:
        state: Where the present run is.
        isWarm: Whether the process that computes has started before, and has loaded what it needs.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._worker: Worker | None = None
        self._run: _Run | None = None
        self._steps: Steps | None = None
        self.state = State.IDLE
        self.isWarm = False
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self._poll)

    def start(
        self, request: InferenceRequest, package: ModelPackage, volumeNode: Any, channelNodes: Mapping[str, Any]
    ) -> None:
        """Begin.

        Raises:
            BadInputError: The volumes cannot be used.
        """
        if package.takes_color and isColorNode(volumeNode):
            channels = colorsFromNode(volumeNode)
            volume = channels.pop(package.channels[0].role)
        else:
            volume = volumeFromNode(volumeNode)
            channels = {role: volumeFromNode(node) for role, node in channelNodes.items()}
        number = self.worker().start(request, volume, channels)
        self._begin(_Run(number, request, volumeNode, PreviewMap(volumeNode), StageWatch()))

    def propagate(self, question: Question, volumeNode: Any, start: int | None) -> None:
        """Begin with a model that segments by example, near to a slice."""
        number = self.worker().propagate(question.request, question.volume, question.examples, start)
        request = question.request.inference
        self._begin(_Run(number, request, volumeNode, PreviewMap(volumeNode), StageWatch(), question))

    def worker(self) -> Worker:
        """The process that computes; others may use it while nothing runs here."""
        if self._worker is None:
            from MedSegUncertaintyLib.workers.worker import Worker

            self._worker = Worker()
        return self._worker

    def _begin(self, run: _Run) -> None:
        self._run = run
        self._timer.start()
        self._enter(State.COMPUTING)
        self._listener.onProgress(None, _("Starting ..."))

    def cancel(self) -> None:
        """Stop; the scene will be as before."""
        if self.state is State.COMPUTING:
            self._worker.cancel()
            self._enter(State.CANCELING)
            self._listener.onProgress(None, _("Canceling ..."))
        elif self.state is State.ADDING:
            self._end()

    def abandon(self) -> None:
        """Forget the run at once, because its scene is about to go."""
        if self.state is not State.IDLE:
            self._worker.cancel()
            self._end()

    def close(self) -> None:
        """End the process that computes."""
        self.abandon()
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _enter(self, state: State) -> None:
        self.state = state
        self._listener.onState()

    def _end(self) -> None:
        """Be ready for the next run."""
        self._timer.stop()
        if self._steps is not None:
            self._steps.close()
        self._run.preview.remove()
        self._run = self._steps = None
        self._enter(State.IDLE)

    def _poll(self) -> None:
        for event in self._worker.poll():
            if self._run is not None and event.run == self._run.number:
                self._handle(event)

    def _handle(self, event: Any) -> None:
        from MedSegUncertaintyLib.workers.events import Advanced, Canceled, Failed, Finished, Preview, Started

        if isinstance(event, Started):
            startSeconds = None if self.isWarm else self._run.watch.age
            self._run.watch, self.isWarm = StageWatch(), True
            self._listener.onDevice(event.device, startSeconds)
        elif isinstance(event, Advanced) and self.state is State.COMPUTING:
            self._run.watch.see(event.progress.stage)
            share = event.progress.done / max(event.progress.total, 1)
            self._listener.onProgress(share, progressText(event.progress))
        elif isinstance(event, Preview) and self.state is State.COMPUTING and self._isVolumeThere():
            self._run.preview.show(event.mean, event.geometry)
        elif isinstance(event, Finished):
            self._add(self._colored(event.result))
        elif isinstance(event, Failed):
            self.isWarm = False
            self._fail(event.message, event.log)
        elif isinstance(event, Canceled):
            self._end()

    def _colored(self, result: InferenceResult) -> InferenceResult:
        """The result, in the colors of the examples if it was made from some."""
        if self._run.question is None:
            return result
        from MedSegUncertaintyLib.scene.support_requests import colored

        return colored(result, self._run.question.colors)

    def _isVolumeThere(self) -> bool:
        return slicer.mrmlScene.IsNodePresent(self._run.volumeNode)

    def _add(self, result: InferenceResult) -> None:
        self._timer.stop()
        if not self._isVolumeThere():
            self._fail(_("The volume was removed while it was segmented; nothing was added to the scene."), "")
            return
        self._enter(State.ADDING)
        self._listener.onProgress(None, _("Adding the result to the scene ..."))
        steps = addResultInSteps(result, self._run.volumeNode)
        self._steps = Steps(steps, lambda nodes: self._added(nodes, result), self._notAdded)

    def _added(self, nodes: ResultNodes, result: InferenceResult) -> None:
        watch = self._run.watch
        self._end()
        self._listener.onResult(nodes, result, watch)

    def _notAdded(self, error: Exception) -> None:
        self._fail(str(error), "")
        if not isinstance(error, MedSegError):
            raise error

    def _fail(self, message: str, log: str) -> None:
        self._end()
        self._listener.onFailed(message, log)


def progressText(progress: Progress) -> str:
    """How far a stage has come, and how long it will take."""
    share = f"{progress.done / max(progress.total, 1):.0%}"
    if progress.stage in EXAMPLE_STAGES:
        text = _("{what}: {share}").format(what=EXAMPLE_STAGES[progress.stage], share=share)
    elif progress.stage.startswith(DRAWING):
        text = _("Drawing samples: {done} of {total}").format(done=progress.done, total=progress.total)
    else:
        text = _("Encoding the image: {done} of {total} parts").format(done=progress.done, total=progress.total)
    if progress.seconds_left is None:
        return text
    return _("{text}, {time} left").format(text=text, time=durationText(progress.seconds_left))
