"""Long work in the thread of the window, cut into short steps between which events are handled."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

import qt

BUDGET_SECONDS = 0.03
"""After so long in one go, events come first; a single step may take longer."""
WAIT_MS = 10
"""How often to ask whether what a thread does is done."""


class Steps:
    """Runs a generator step by step; it must be closed if it is not to go on.

    Args:
        steps: Yields wherever it may be interrupted: nothing, or what a thread has to have done before it goes on.
        done: Called with what it returns.
        failed: Called with the exception if it raises one.
    """

    def __init__(
        self,
        steps: Generator[Future[Any] | None, None, Any],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._steps, self._done, self._failed = steps, done, failed
        self._awaited: Future[Any] | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._go)
        self._timer.start()

    def close(self) -> None:
        """Stop, and let the generator clean up."""
        self._timer.stop()
        self._steps.close()

    def finish(self) -> None:
        """Do all that is left at once."""
        while self._timer.active:
            self._run(math.inf)

    def _go(self) -> None:
        if self._awaited is None or self._awaited.done():
            self._run(BUDGET_SECONDS)
            self._timer.setInterval(0 if self._awaited is None else WAIT_MS)

    def _run(self, seconds: float) -> None:
        start = last = time.monotonic()
        try:
            while last - start < seconds:
                self._awaited = next(self._steps)
                last = time.monotonic() if self._awaited is None else math.inf
        except StopIteration as end:
            self._timer.stop()
            self._done(end.value)
        except Exception as error:
            self._timer.stop()
            self._failed(error)
