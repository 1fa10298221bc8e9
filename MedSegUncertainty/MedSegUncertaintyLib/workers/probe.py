"""Which device would compute, found out in a process of its own, as torch takes seconds to load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MedSegUncertaintyLib.workers.events import WorkerError
from MedSegUncertaintyLib.workers.interpreter import LIBRARY, environment, find_python

_START = "import sys; sys.path.insert(0, sys.argv[1]); from MedSegUncertaintyLib.workers.probe import main; main()"


@dataclass(frozen=True)
class DeviceReport:
    """What was found.

    Attributes:
        kind: "cuda", "mps" or "cpu"; None if torch is missing or broken.
        text: The card and its free memory, the number of threads, or what is wrong.
    """

    kind: str | None
    text: str


class DeviceProbe:
    """Looks for the device of a request while the caller goes on.

    Args:
        device: That of a request: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Attributes:
        report: What was found; None until then.
    """

    def __init__(self, device: str = "auto") -> None:
        self.report: DeviceReport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        threading.Thread(target=self._ask, args=(device,), name="device probe", daemon=True).start()

    def close(self) -> None:
        """Stop looking."""
        self._closed = True
        if self._process is not None:
            self._process.kill()

    def _ask(self, device: str) -> None:
        try:
            python = find_python(Path(sys.executable or "Slicer"), os.name == "nt")
            self._process = _start([str(python), "-c", _START, str(LIBRARY), device])
            if self._closed:
                self._process.kill()
            answer = self._process.communicate()[0].splitlines()
            self.report = DeviceReport(**json.loads(answer[-1]))
        except WorkerError as error:
            self.report = DeviceReport(None, str(error))
        except (OSError, ValueError, IndexError, TypeError) as error:
            self.report = DeviceReport(None, f"The device could not be found out ({error!r}).")


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NO_WINDOW
    return subprocess.Popen(command, env=environment(os.environ), **options)


def main() -> None:
    """Answer with one line of JSON; the process that ``DeviceProbe`` starts."""
    try:
        from MedSegUncertaintyLib.errors import BadInputError
        from MedSegUncertaintyLib.inference.device import choose_device, describe_device
    except (ImportError, OSError) as error:
        answer = {"kind": None, "text": f"PyTorch is missing or cannot be loaded ({error})."}
    else:
        try:
            device = choose_device(sys.argv[2])
            answer = {"kind": device.type, "text": describe_device(device)}
        except BadInputError as error:
            answer = {"kind": None, "text": str(error)}
    print(json.dumps(answer))
