"""The process in which inference runs: requests come on its standard input, one JSON object per line."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from MedSegUncertaintyLib.errors import CanceledError, MedSegError, MemoryExhaustedError
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.volumes.geometry import Geometry
from MedSegUncertaintyLib.workers.events import Failure
from MedSegUncertaintyLib.workers.folder import remove_tree
from MedSegUncertaintyLib.workers.transfer import (
    disk_sentence,
    is_disk_full,
    read_volume,
    write_preview,
    write_result,
)

if TYPE_CHECKING:
    from MedSegUncertaintyLib.uncertainty.statistics import StatisticsStream

Message = dict[str, Any]


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

    def listen(self, requests: BinaryIO) -> None:
        """Take requests and cancellations, in a thread of its own, until the parent is gone."""
        for line in requests:
            message = json.loads(line)
            if message["type"] == "run":
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
            return {"type": "finished", "result": self._segment(job)}, True
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
        request = InferenceRequest.from_json(job["request"])
        self._send({"type": "started", "run": run, "device": describe_device(choose_device(request.device))})
        volume = read_volume(job["volume"])
        channels = {role: read_volume(data) for role, data in job["channels"].items()}
        folder = Path(job["folder"])

        def progress(progress: Progress) -> None:
            self._send({"type": "progress", "run": run, "progress": asdict(progress)})

        def preview(stream: StatisticsStream, geometry: Geometry) -> None:
            if stream.count > 1 and stream.count.bit_count() == 1:  # 2, 4, 8: often at first, then rarely
                self._send({"type": "preview", "run": run, **write_preview(stream, geometry, folder, token.check)})

        result = segment(
            volume,
            request,
            channels=channels,
            progress=progress,
            cancel=token,
            preview=preview,
            kept=self._kept,
        )
        return write_result(result, folder, token.check)


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
