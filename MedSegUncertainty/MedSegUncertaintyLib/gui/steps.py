"""Long work in the thread of the window, cut into short steps between which events are handled."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from typing import Any

import qt

BUDGET_SECONDS = 0.03
"""After so long in one go, events come first; a single step may take longer."""


class Steps:
    """Runs a generator step by step; it must be closed if it is not to go on.

    Args:
        steps: Yields wherever it may be interrupted.
        done: Called with what it returns.
        failed: Called with the exception if it raises one.
    """

    def __init__(
        self,
        steps: Generator[None, None, Any],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._steps, self._done, self._failed = steps, done, failed
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
        self._run(math.inf)

    def _go(self) -> None:
        self._run(BUDGET_SECONDS)

    def _run(self, seconds: float) -> None:
        start = last = time.monotonic()
        try:
            while last - start < seconds:
                next(self._steps)
                last = time.monotonic()
        except StopIteration as end:
            self._timer.stop()
            self._done(end.value)
        except Exception as error:
            self._timer.stop()
            self._failed(error)
