"""The process in which inference runs: requests come on its standard input, one JSON object per line."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from MedSegUncertaintyLib.errors import CanceledError, MedSegError, MemoryExhaustedError
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.propagation.request import PropagationRequest
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume
from MedSegUncertaintyLib.workers.events import Failure
from MedSegUncertaintyLib.workers.folder import remove_tree
from MedSegUncertaintyLib.workers.transfer import (
    disk_sentence,
    is_disk_full,
    read_labels,
    read_volume,
    write_preview,
    write_result,
    write_slices,
)

if TYPE_CHECKING:
    from MedSegUncertaintyLib.propagation.session import FinishedSlice
    from MedSegUncertaintyLib.uncertainty.statistics import StatisticsStream

Message = dict[str, Any]

_BATCH_SECONDS = 0.05


def main() -> int:
    """Serve requests until the parent closes the pipe or something goes wrong that no one foresaw."""
    requests, answers = _take_pipes()
    _volunteer_for_the_oom_killer()
    hello = requests.readline()
    if not hello:
        return 1
    folder = Path(json.loads(hello)["folder"])
    child = Child(answers, folder)
    threading.Thread(target=child.listen, args=(requests,), daemon=True).start()
    try:
        child.serve()
    except BrokenPipeError:
        _leave(folder)
    return 1


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the parent, out of reach of everyone else.

    Whatever libraries print, from Python or from C, goes to the log, and whatever they read is empty.
    """
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # in the order in which things happen
    return requests, answers


def _volunteer_for_the_oom_killer() -> None:
    """When the system runs out of memory, Linux shall kill this process and not the application."""
    try:
        Path("/proc/self/oom_score_adj").write_text("500")
    except OSError:
        return  # not Linux


def _leave(folder: Path) -> NoReturn:
    """End at once; the parent is gone."""
    remove_tree(folder)
    os._exit(1)


class Child:
    """Answers requests one after another, with the model kept from one to the next.

    Args:
        answers: Pipe to the parent.
        folder: The private folder.
    """

    def __init__(self, answers: BinaryIO, folder: Path) -> None:
        self._answers, self._folder = answers, folder
        self._jobs: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._tokens: dict[int, CancelToken] = {}
        self._kept: Any = None
        self._kept_slices: Any = None
        self._images: dict[int, Volume] = {}

    def listen(self, requests: BinaryIO) -> None:
        """Take requests and cancellations, in a thread of its own, until the parent is gone."""
        for line in requests:
            message = json.loads(line)
            if message["type"] != "cancel":
                self._tokens[message["run"]] = CancelToken()
                self._jobs.put(message)
            elif token := self._tokens.get(message["run"]):
                token.cancel()
        _leave(self._folder)

    def serve(self) -> None:
        """Work until something goes wrong after which this process should not be used again."""
        self._send({"type": "ready"})
        usable = True
        while usable:
            job = self._jobs.get()
            answer, usable = self._answer(job)
            del self._tokens[job["run"]]
            self._send({**answer, "run": job["run"]})

    def _send(self, message: Message) -> None:
        self._answers.write(json.dumps(message).encode("ascii") + b"\n")
        self._answers.flush()

    def _answer(self, job: Message) -> tuple[Message, bool]:
        """The last message of a run, and whether this process can be used for another one."""
        try:
            import_module("MedSegUncertaintyLib.inference.run")  # and with it torch
        except (ImportError, OSError) as error:
            traceback.print_exc()
            name = getattr(error, "name", None) or "torch"
            return _failed(
                Failure.SETUP,
                f"The Python package {name} is missing or cannot be loaded ({_first_line(error)}); install PyTorch, "
                "in Slicer with the extension PyTorch, and try again.",
            ), False
        try:
            result = self._propagate(job) if job["type"] == "propagate" else self._segment(job)
            return {"type": "finished", "result": result}, True
        except CanceledError:
            return {"type": "canceled"}, True
        except MemoryExhaustedError as error:
            return _failed(Failure.MEMORY, str(error)), False
        except MedSegError as error:
            return _failed(Failure.INPUT, str(error)), True
        except Exception as error:
            traceback.print_exc()
            return _unforeseen(error, self._folder.parent), False

    def _segment(self, job: Message) -> Message:
        from MedSegUncertaintyLib.inference.device import choose_device, describe_device
        from MedSegUncertaintyLib.inference.kept import Kept
        from MedSegUncertaintyLib.inference.run import segment

        run, token = job["run"], self._tokens[job["run"]]
        self._kept = self._kept or Kept()
        self._images, self._kept_slices = {}, None  # one job's memory is enough
        request = InferenceRequest.from_json(job["request"])
        self._send({"type": "started", "run": run, "device": describe_device(choose_device(request.device))})
        volume = read_volume(job["volume"])
        channels = {role: read_volume(data) for role, data in job["channels"].items()}
        result = segment(volume, request, channels=channels, kept=self._kept, **self._listeners(job))
        return write_result(result, Path(job["folder"]), token.check)

    def _propagate(self, job: Message) -> Message:
        from MedSegUncertaintyLib.inference.device import choose_device, describe_device
        from MedSegUncertaintyLib.propagation.kept import Kept
        from MedSegUncertaintyLib.propagation.run import propagate

        run, token = job["run"], self._tokens[job["run"]]
        self._kept = None
        self._kept_slices = self._kept_slices or Kept()
        # First of all: whatever comes of this run, the parent relies on them from now on.
        self._images = {
            int(key): self._images[int(key)] if data is None else read_volume(data)
            for key, data in job["images"].items()
        }
        examples = [
            Example(
                read_labels(own["labels"]),
                None if own["image"] is None else self._images[own["image"]],
                None if own["names"] is None else dict(own["names"]),
                {name: tuple(slices) for name, slices in own["absent"].items()},
            )
            for own in job["examples"]
        ]
        request = PropagationRequest.from_json(job["request"])
        self._send({"type": "started", "run": run, "device": describe_device(choose_device(request.inference.device))})
        slices = _Batches(lambda message: self._send({**message, "run": run}), Path(job["folder"]), token)
        result = propagate(
            self._images[job["query"]],
            examples,
            request,
            finished=slices.add,
            start=job["start"],
            kept=self._kept_slices,
            **self._listeners(job, slices.flush),
        )
        slices.flush()
        return write_result(result, Path(job["folder"]), token.check)

    def _listeners(self, job: Message, heard: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """What the functions that work are given to tell how they come on.

        Args:
            job: Where they tell it.
            heard: Called at the start of each stage and before each preview.
        """
        run, token, folder = job["run"], self._tokens[job["run"]], Path(job["folder"])

        def progress(progress: Progress) -> None:
            if progress.done == 0:  # a new stage, whose first unit may take long
                heard()
            self._send({"type": "progress", "run": run, "progress": asdict(progress)})

        def preview(stream: StatisticsStream, geometry: Geometry) -> None:
            heard()
            if stream.count > 1 and stream.count.bit_count() == 1:  # 2, 4, 8: often at first, then rarely
                self._send({"type": "preview", "run": run, **write_preview(stream, geometry, folder, token.check)})

        return {"progress": progress, "cancel": token, "preview": preview}


class _Batches:
    """Sends found slices: one that took long at once, with those before it that were finished within a moment.

    Args:
        send: Sends a message.
        folder: Where the files go.
        token: Stops the writing.
    """

    def __init__(self, send: Callable[[Message], None], folder: Path, token: CancelToken) -> None:
        self._send, self._folder, self._token = send, folder, token
        self._waiting: list[FinishedSlice] = []
        self._last, self._sent = 0.0, 0

    def add(self, part: FinishedSlice) -> None:
        """A slice was found."""
        self._waiting.append(part)
        if time.monotonic() - self._last >= _BATCH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        if self._waiting:
            path = self._folder / f"slices-{self._sent}.npy"
            self._send({"type": "slices", **write_slices(self._waiting, path, self._token.check)})
            self._waiting.clear()
            self._last, self._sent = time.monotonic(), self._sent + 1


def _failed(kind: Failure, message: str) -> Message:
    return {"type": "failed", "kind": kind, "message": message}


def _unforeseen(error: Exception, temporary: Path) -> Message:
    """The answer to an error that is no sentence for the user yet; files were written below ``temporary``."""
    from MedSegUncertaintyLib.inference.device import is_out_of_memory

    if is_out_of_memory(error):
        return _failed(
            Failure.MEMORY,
            "There is not enough memory for this image; close other programs or give a smaller region of interest.",
        )
    if isinstance(error, OSError) and is_disk_full(error):
        return _failed(Failure.DISK, disk_sentence(error, temporary))
    return _failed(
        Failure.DEFECT,
        f"The computation stopped with an error of the program ({type(error).__name__}: {_first_line(error)}); "
        "please report it with the log.",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["no details"])[0].rstrip(".")
