"""Runs requests in a child process, for callers that must not wait: a window's thread, above all."""

from __future__ import annotations

import atexit
import contextlib
import queue
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from MedSegUncertaintyLib.errors import CanceledError
from MedSegUncertaintyLib.inference.progress import Progress
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.propagation.request import PropagationRequest
from MedSegUncertaintyLib.volumes.geometry import Volume
from MedSegUncertaintyLib.workers.events import (
    Advanced,
    Canceled,
    Event,
    Failed,
    Failure,
    Finished,
    Last,
    Preview,
    SlicesFound,
    Started,
    WorkerError,
)
from MedSegUncertaintyLib.workers.jobs import Job, Propagation, Segmentation, SentImages
from MedSegUncertaintyLib.workers.process import ChildProcess, Message
from MedSegUncertaintyLib.workers.transfer import disk_sentence, read_preview, read_result, read_slices

CANCEL_SECONDS = 0.8
"""How long a canceled run may go on before its process is killed."""
READY_SECONDS = 60.0
"""How long Python may take to start, on a slow disk and under a virus scanner."""
END_SECONDS = 3.0
"""How long a killed process may take to vanish; gigabytes of memory take a moment."""
LOG_SECONDS = 0.05
"""How much later than a message the lines of the log may come that were written before it."""

_KILL = 9
"""SIGKILL, which Windows does not know."""
_NOT_KILLED = "The process that computes hangs and cannot be stopped; restart the computer if it slows it down."


class _Run:
    """One request, as all threads see it.

    Attributes:
        number: Its number.
        job: What was asked for; None once it was handed over.
        over: Whether its last event is there.
    """

    def __init__(self, number: int, job: Job) -> None:
        self.number, self.job = number, cast("Job | None", job)
        self.over = False
        self._canceled: float | None = None

    @property
    def canceled(self) -> bool:
        return self._canceled is not None

    @property
    def deadline(self) -> float | None:
        """When a canceled run must have stopped (``time.monotonic``)."""
        return None if self._canceled is None else self._canceled + CANCEL_SECONDS

    def cancel(self) -> None:
        self._canceled = self._canceled or time.monotonic()

    def check(self) -> None:
        if self.canceled:
            raise CanceledError


class Worker:
    """One child process, which starts with the first request and stays for the next ones.

    Its methods return within milliseconds and may be called from any one thread; the work is done by a thread of this
    object, which alone talks to the child. One request runs at a time. The child keeps the model, and the encoding
    or the slices of the last image; it is started anew after it died or had to be killed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._slices: list[SlicesFound] = []
        self._run: _Run | None = None
        self._closed = False
        self._thread: threading.Thread | None = None
        self._child: ChildProcess | None = None
        self._sent = SentImages()
        self._runs: queue.SimpleQueue[_Run | None] = queue.SimpleQueue()
        self._messages: queue.SimpleQueue[tuple[ChildProcess | None, Message]] = queue.SimpleQueue()

    def start(self, request: InferenceRequest, volume: Volume, channels: Mapping[str, Volume] | None = None) -> int:
        """Begin with a request. One that is still running is canceled, and nothing more is heard of it.

        Args:
            request: What to do.
            volume: The image. Its array is read in the background and must not change before ``Started`` comes.
            channels: The other channels of the package by role.

        Returns:
            The number of the run, which all of its events have.
        """
        return self._begin(Segmentation(request, volume, dict(channels or {})))

    def propagate(
        self, request: PropagationRequest, volume: Volume, examples: Sequence[Example], start: int | None = None
    ) -> int:
        """As :meth:`start`, to find structures in all slices by example; ``SlicesFound`` tells them one by one.

        The child keeps the images of its last propagation. The same object is not sent again, so an image whose voxels
        have changed must be a new one.

        Args:
            request: What to do.
            volume: The image. Its array is read in the background and must not change.
            examples: Label maps of it or of other images; their arrays must not change before ``Started`` comes.
            start: Slice to begin near to, by its index along the voxel axis of ``volume`` perpendicular to the plane.

        Returns:
            The number of the run, which all of its events have.
        """
        return self._begin(Propagation(request, volume, tuple(examples), start))

    def _begin(self, job: Job) -> int:
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker is closed")
            number = 1
            if self._run is not None:
                self._run.cancel()
                number = self._run.number + 1
            self._run = run = _Run(number, job)
            self._events.clear()
            self._slices.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="worker", daemon=True)
                self._thread.start()
                atexit.register(self.close)
        self._runs.put(run)
        self._wake()
        return number

    def poll(self) -> list[Event]:
        """What happened since the last call, of each kind of event only the newest; of found slices none is left out.

        A run ends with exactly one ``Finished``, ``Failed`` or ``Canceled``, unless another one takes its place.
        """
        with self._lock:
            events, self._events = self._events, []
            slices, self._slices = self._slices, []
        if slices:
            # After what tells that the run goes on, before what tells how it ended.
            place = next((n for n, event in enumerate(events) if isinstance(event, Preview | Last)), len(events))
            events.insert(place, SlicesFound.merged(slices))
        return events

    def cancel(self) -> None:
        """Stop the run, if there is one; ``Canceled`` follows within a second and is its last event.

        Even a result that is there but was not polled yet is dropped.
        """
        with self._lock:
            run = self._run
            if run is None:
                return
            run.cancel()
            if run.over:
                self._events = [Canceled(run.number) if isinstance(event, Last) else event for event in self._events]
        self._wake()

    def close(self) -> None:
        """End the process and remove its files; waits for that, usually less than a tenth of a second."""
        with self._lock:
            self._closed = True
            if self._run is not None:
                self._run.cancel()
            child = self._child
        atexit.unregister(self.close)
        self._runs.put(None)
        if child is not None:
            child.kill()
            child.ended.wait(END_SECONDS)

    def _wake(self) -> None:
        self._messages.put((None, {}))

    def _put(self, run: _Run, event: Event) -> None:
        """Keep an event for :meth:`poll`, unless it comes too late."""
        with self._lock:
            run.over = last = isinstance(event, Last)
            if (run.canceled and not last) or run is not self._run:
                return
            if run.canceled:
                event = Canceled(run.number)
                self._slices.clear()
            if isinstance(event, SlicesFound):
                self._slices.append(event)
                return
            self._events = [other for other in self._events if type(other) is not type(event)] + [event]

    def _serve(self) -> None:
        """Work on one run after another; the thread of this object."""
        while (run := self._runs.get()) is not None:
            last: Last
            try:
                last = self._perform(run)
            except CanceledError:
                last = Canceled(run.number)
            except WorkerError as error:
                last = self._failed(run, error.kind, str(error))
            except MemoryError:
                last = self._failed(
                    run,
                    Failure.MEMORY,
                    "There is not enough memory for images and result; close other programs and try again.",
                )
            except OSError as error:
                last = self._failed(run, Failure.DISK, disk_sentence(error, Path(tempfile.gettempdir())))
            except Exception as error:
                traceback.print_exc()
                last = self._failed(
                    run, Failure.DEFECT, f"The result could not be used ({error!r}); please report it with the log."
                )
            run.job = None
            self._put(run, last)
            del last, run  # a result would stay in memory until the next run

    def _failed(self, run: _Run, kind: Failure, message: str) -> Failed:
        """The event for a failure. Only what was wrong with the request leaves the process fit for the next one."""
        child = self._child
        if child is not None and kind is Failure.INPUT:
            time.sleep(LOG_SECONDS)
        elif child is not None:
            child.kill()
            child.ended.wait(END_SECONDS)
        return Failed(run.number, kind, message, "" if child is None else child.log)

    def _perform(self, run: _Run) -> Finished:
        """Hand a run over to the child and pass on what it tells.

        Raises:
            CanceledError: It was canceled.
            WorkerError: It failed.
            OSError: Files could not be written or read.
        """
        run.check()
        child = self._living_child()
        folder = child.folder / f"run-{run.number}"
        assert run.job is not None
        try:
            folder.mkdir()
            message = run.job.message(folder, self._sent, run.check)
            child.send({**message, "run": run.number, "folder": str(folder)})
            run.job = None
            for message in self._messages_of(child, run):
                if (event := _event(run, message)) is None:
                    continue
                if isinstance(event, Finished):
                    return event
                self._put(run, event)
            raise AssertionError("unreachable")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _living_child(self) -> ChildProcess:
        """The child, started if there is none that lives."""
        if self._child is None or self._child.ended.is_set():
            child = ChildProcess(lambda child, message: self._messages.put((child, message)))
            self._sent = SentImages()
            with self._lock:
                self._child = child
                closed = self._closed
            if closed:
                child.kill()
        assert self._child is not None
        return self._child

    def _messages_of(self, child: ChildProcess, run: _Run) -> Iterator[Message]:
        """What the child says about a run; tells it when the run is canceled, and kills it if it does not obey.

        Raises:
            WorkerError: It has ended.
        """
        deadline: float | None = time.monotonic() + READY_SECONDS
        told = killed = False
        while True:
            if run.deadline is not None and not told:
                child.send({"type": "cancel", "run": run.number})
                told, deadline = True, run.deadline
            elif child.ready.is_set() and not told:
                deadline = None
            try:
                wait = None if deadline is None else max(0.0, deadline - time.monotonic())
                source, message = self._messages.get(timeout=wait)
            except queue.Empty:
                if killed:  # a driver that hangs can keep a process from dying
                    self._child = None
                    raise WorkerError(Failure.CRASH, _NOT_KILLED) from None
                child.kill()
                killed, deadline = True, time.monotonic() + END_SECONDS
                continue
            if source is child and message["type"] == "ended":
                raise _end(message["code"], child.ready.is_set(), killed)
            if source is child and message.get("run", run.number) == run.number:
                yield message


def _event(run: _Run, message: Message) -> Started | Advanced | SlicesFound | Preview | Finished | None:
    """What a message of the child means to the caller; ``None`` if nothing.

    Raises:
        CanceledError: The run was canceled.
        WorkerError: It failed.
    """
    kind = message.pop("type")
    if kind == "started":
        return Started(run.number, message["device"])
    if kind == "progress":
        return Advanced(run.number, Progress(**message["progress"]))
    if kind == "slices":
        return None if run.canceled else read_slices(run.number, message)
    if kind == "preview":
        return None if run.canceled else read_preview(run.number, message)
    if kind == "finished":
        return Finished(run.number, read_result(message["result"], run.check))
    if kind == "canceled":
        raise CanceledError
    if kind == "failed":
        raise WorkerError(Failure(message["kind"]), message["message"])
    if kind == "garbage":
        raise WorkerError(
            Failure.CRASH,
            f"The process that computes sent something that is no message ({message['text']!r}); try again, and report "
            "it with the log if it happens again.",
        )
    return None


def _end(code: int, ready: bool, killed: bool) -> WorkerError:
    """The error for a process that ended although nobody had asked it to."""
    if not ready and killed:
        return WorkerError(
            Failure.SETUP, f"Python did not start within {READY_SECONDS:.0f} seconds; restart the application."
        )
    if not ready:
        return WorkerError(
            Failure.SETUP, f"Python could not start (exit code {code}); the log says why. Install the extension again."
        )
    if code == -_KILL:
        return WorkerError(
            Failure.CRASH,
            "The process that computes was killed, most likely because memory ran out; close other programs or give a "
            "smaller region of interest, and try again.",
        )
    return WorkerError(
        Failure.CRASH,
        f"The process that computes died ({_code_name(code)}); try again, and report it with the log if it happens "
        "again.",
    )


def _code_name(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
