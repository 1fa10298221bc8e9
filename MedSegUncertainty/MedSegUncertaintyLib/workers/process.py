"""The child process as the parent sees it: start, messages, log, kill and clean-up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from MedSegUncertaintyLib.workers.events import Failure, WorkerError
from MedSegUncertaintyLib.workers.folder import PrivateFolder, remove_abandoned
from MedSegUncertaintyLib.workers.interpreter import command, environment
from MedSegUncertaintyLib.workers.transfer import disk_sentence

Message = dict[str, Any]

_LONGEST_LINE = 16 * 2**20
_LOG_BYTES = 64 * 1024
_READERS_SECONDS = 2.0


class ChildProcess:
    """A process that runs ``workers.child``, its private folder and the threads that listen to it.

    Besides what the child sends, two messages are made here: "garbage" for a line that is no message, and "ended" as
    the last one, after the process was reaped and its folder removed. Lines that come before "ready" go to the log, for
    launchers greet.

    Args:
        deliver: Called in a thread of this object with this object and each message.

    Raises:
        WorkerError: It cannot be started.
    """

    def __init__(self, deliver: Callable[[ChildProcess, Message], None]) -> None:
        self._deliver = deliver
        self._log, self._log_lock = bytearray(), threading.Lock()
        self.ready, self.ended = threading.Event(), threading.Event()
        remove_abandoned()
        try:
            self._folder = PrivateFolder()
        except OSError as error:
            raise WorkerError(Failure.DISK, disk_sentence(error, Path(tempfile.gettempdir()))) from error
        try:
            self._process = _start()
        except BaseException:
            self._folder.remove()
            raise
        readers = [self._thread(self._read_messages), self._thread(self._read_log)]
        self._thread(self._wait, readers)
        self.send({"type": "hello", "folder": str(self.folder)})

    @property
    def folder(self) -> Path:
        """The private folder."""
        return self._folder.path

    @property
    def pid(self) -> int:
        """Number of the process, and of its group where there are groups."""
        return self._process.pid

    @property
    def log(self) -> str:
        """The last lines that the process wrote to its standard error."""
        with self._log_lock:
            return self._log.decode("utf-8", errors="replace")

    def send(self, message: Message) -> None:
        """Send a message; if the process is dying, its end is about to be told."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(message).encode("ascii") + b"\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """Kill the process and all that it started; returns at once, ``ended`` is set after the clean-up."""
        if self.ended.is_set():
            return
        if sys.platform != "win32":
            # Its number stays taken while anything of the group lives, so this hits nobody else.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        elif self._process.poll() is None:
            kill_tree = ["taskkill", "/T", "/F", "/PID", str(self.pid)]
            subprocess.run(kill_tree, capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW)
            self._process.kill()

    def _thread(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, name=f"worker {work.__name__}", daemon=True)
        thread.start()
        return thread

    def _read_messages(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            while line := pipe.readline(_LONGEST_LINE):
                message = _parsed(line)
                if message["type"] == "ready":
                    self.ready.set()
                if message["type"] == "garbage" and not self.ready.is_set():
                    self._add_to_log(line)
                else:
                    self._deliver(self, message)

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            while content := os.read(pipe.fileno(), _LOG_BYTES):
                self._add_to_log(content)

    def _add_to_log(self, content: bytes) -> None:
        with self._log_lock:
            self._log += content
            del self._log[:-_LOG_BYTES]

    def _wait(self, readers: list[threading.Thread]) -> None:
        assert self._process.stdin is not None
        self._process.wait()
        self.kill()  # what it may have started and left
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        for reader in readers:
            reader.join(_READERS_SECONDS)
        self._folder.remove()
        self.ended.set()
        self._deliver(self, {"type": "ended", "code": self._process.returncode})


def _start() -> subprocess.Popen[bytes]:
    """Start the child.

    Raises:
        WorkerError: That fails.
    """
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        options = {"creationflags": subprocess.CREATE_NO_WINDOW}
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(command(), stdin=pipe, stdout=pipe, stderr=pipe, env=environment(os.environ), **options)
    except OSError as error:
        raise WorkerError(
            Failure.SETUP, f"Python could not be started ({error}); install the application again."
        ) from error


def _parsed(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if isinstance(message, dict) and isinstance(message.get("type"), str):
        return message
    return {"type": "garbage", "text": line[:200].decode("utf-8", errors="replace")}
