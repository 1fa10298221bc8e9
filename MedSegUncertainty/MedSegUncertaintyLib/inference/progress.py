"""Progress of long work, and how to stop it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from MedSegUncertaintyLib.errors import CanceledError

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """How far a stage has come.

    Attributes:
        stage: What is done, for example "draw samples".
        done: Finished units.
        total: All units of the stage.
        seconds_left: Estimate from the pace so far; ``None`` before the first unit.
    """

    stage: str
    done: int
    total: int
    seconds_left: float | None


class StageClock:
    """Counts the units of one stage and tells a listener, with the time left.

    Args:
        stage: Name shown to the user.
        total: Units of the stage.
        listener: Called at the start and after each unit; may be ``None``.
    """

    def __init__(self, stage: str, total: int, listener: Callable[[Progress], None] | None) -> None:
        self._stage, self._total, self._listener = stage, total, listener
        self._start = time.monotonic()
        self._first: int | None = None
        self._done = 0
        self._tell(None)

    def at(self, done: int) -> None:
        """``done`` units are finished; a resumed stage may begin above zero."""
        if self._first is None:
            self._first = self._done = done - 1
        self._done = done
        pace = (time.monotonic() - self._start) / (done - self._first)
        self._tell(pace * (self._total - done))

    def counted(self, value: T) -> T:
        """One more unit is finished; hands ``value`` through."""
        self.at(self._done + 1)
        return value

    def _tell(self, seconds_left: float | None) -> None:
        if self._listener is not None:
            self._listener(Progress(self._stage, self._done, self._total, seconds_left))


class CancelToken:
    """Set by one thread, checked by the one that works."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the work to stop."""
        self._event.set()

    def check(self) -> None:
        """Stop here if asked to.

        Raises:
            CanceledError: It was.
        """
        if self._event.is_set():
            raise CanceledError

    @contextmanager
    def checked_in(self, model: nn.Module) -> Iterator[None]:
        """Check before every layer of ``model``, so that one pass over a large tile can be canceled on the way."""

        def check(*_: Any) -> None:
            self.check()

        leaves = [module for module in model.modules() if not list(module.children())]
        handles = [leaf.register_forward_pre_hook(check) for leaf in leaves]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
