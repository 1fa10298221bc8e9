"""Propagation while the user paints: asks anew when examples change, and passes on slices as they are found."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import qt

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.inference.progress import Progress
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.scene.support_requests import Question
from MedSegUncertaintyLib.workers.events import Advanced, Canceled, Failed, Finished, SlicesFound, Started

if TYPE_CHECKING:
    from MedSegUncertaintyLib.workers.worker import Worker

SETTLE_MS = 300
"""After the last change; a user who toggles several examples waits for one answer."""
POLL_MS = 30
AT_ONCE = 8
"""Slices that are passed on in one go, before events are handled."""


class State(Enum):
    """What goes on."""

    IDLE = auto()
    SETTLING = auto()
    RUNNING = auto()


class Listener(Protocol):
    """Who is told."""

    def question(self) -> Question:
        """What the examples ask now; raises BadInputError when they ask nothing."""

    def startIndex(self) -> int | None:
        """The slice to begin near to."""

    def onLiveState(self) -> None:
        """A run began or ended."""

    def onLiveDevice(self, description: str) -> None:
        """The network runs there."""

    def onLiveSlices(self, question: Question, axis: int, indices: tuple[int, ...], labels: np.ndarray) -> None:
        """Slices were found."""

    def onLiveProgress(self, progress: Progress) -> None:
        """How far the run has come."""

    def onLiveFinished(self, question: Question, result: InferenceResult) -> None:
        """All slices were found."""

    def onLiveFailed(self, message: str) -> None:
        """There is no answer; one sentence why."""


class LivePropagation:
    """A state machine over the worker that Apply uses as well; it gives way to Apply.

    Args:
        listener: Who is told.
        worker: Gives the worker.
        isFree: Whether nothing else uses the worker.

    Attributes:
        state: What goes on.
    """

    def __init__(self, listener: Listener, worker: Callable[[], Worker], isFree: Callable[[], bool]) -> None:
        self._listener, self._worker, self._isFree = listener, worker, isFree
        self._run: tuple[int, Question] | None = None
        self._waiting: list[tuple[int, int, np.ndarray]] = []
        self._last: Finished | None = None
        self._answered: int | None = None
        self.state = State.IDLE
        self._settle = qt.QTimer()
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.connect("timeout()", self._ask)
        self._poll = qt.QTimer()
        self._poll.setInterval(POLL_MS)
        self._poll.connect("timeout()", self._onPoll)

    def want(self) -> None:
        """The examples may have changed."""
        self._settle.start()
        if self.state is State.IDLE:
            self._enter(State.SETTLING)

    def forget(self) -> None:
        """The next question is asked even if it is the last one again."""
        self._answered = None

    def stop(self) -> None:
        """End at once, and say nothing more; what was found stays."""
        self._settle.stop()
        if self._run is not None and self._isFree():
            self._worker().cancel()
        self._end()

    def _ask(self) -> None:
        if not self._isFree():
            self._settle.start()
            return
        try:
            question = self._listener.question()
        except BadInputError as error:
            self.stop()
            self._answered = None
            self._listener.onLiveFailed(str(error))
            return
        asked = self._run[1].fingerprint if self._run is not None else self._answered
        if asked == question.fingerprint:
            if self._run is None:
                self._end()
            return
        self._waiting, self._last = [], None
        number = self._worker().propagate(
            question.request, question.volume, question.examples, self._listener.startIndex()
        )
        self._run, self._answered = (number, question), None
        self._poll.start()
        self._enter(State.RUNNING)

    def _onPoll(self) -> None:
        if self._run is None:
            return
        if not self._isFree():  # Apply has taken the worker, and nothing more will be heard of this run
            self._end()
            self.want()
            return
        number = self._run[0]
        for event in self._worker().poll():
            if self._run is not None and event.run == number:
                self._handle(event)
        self._passOn()

    def _handle(self, event: Any) -> None:
        if isinstance(event, Started):
            self._listener.onLiveDevice(event.device)
        elif isinstance(event, Advanced):
            self._listener.onLiveProgress(event.progress)
        elif isinstance(event, SlicesFound):
            self._waiting += [(event.axis, index, own) for index, own in zip(event.indices, event.labels, strict=True)]
        elif isinstance(event, Finished):
            self._last = event
        elif isinstance(event, Failed):
            self._end()
            self._listener.onLiveFailed(event.message)
        elif isinstance(event, Canceled):
            self._end()

    def _passOn(self) -> None:
        """Some of the slices that were found; the end comes after all of them."""
        if self._run is None:
            return
        question, now = self._run[1], self._waiting[:AT_ONCE]
        self._waiting = self._waiting[AT_ONCE:]
        if now:
            indices = tuple(index for _axis, index, _own in now)
            self._listener.onLiveSlices(question, now[0][0], indices, np.stack([own for *_where, own in now]))
        elif self._last is not None:
            result, self._answered = self._last.result, question.fingerprint
            self._end()
            self._listener.onLiveFinished(question, result)
        self._poll.setInterval(0 if self._waiting else POLL_MS)

    def _end(self) -> None:
        self._poll.stop()
        self._run, self._waiting, self._last = None, [], None
        self._enter(State.SETTLING if self._settle.active else State.IDLE)

    def _enter(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self._listener.onLiveState()
