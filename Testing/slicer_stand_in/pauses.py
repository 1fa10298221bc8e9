"""How long the event loop was held up: what a person would feel as a pause of the window.

Time is that of the thread of the window, so that other processes of a busy machine do not count. What Slicer does in
C++ and the stand-in in Python is no work of a module and is taken off: making views and laying them out, their bars,
rendering (in software) and putting widgets together from their file.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from slicer_stand_in.ui_files import UiLoader
from slicer_stand_in.views.layout import qMRMLLayoutManager
from slicer_stand_in.views.render_view import Surface, ctkVTKAbstractView
from slicer_stand_in.views.slice_view import qMRMLSliceControllerWidget
from slicer_stand_in.views.three_d_view import qMRMLThreeDView

NOT_OURS = (
    (Surface, "__init__"),
    (Surface, "picture"),
    (ctkVTKAbstractView, "_show"),
    (qMRMLThreeDView, "resetCamera"),
    (qMRMLLayoutManager, "_onLayoutNode"),
    (qMRMLSliceControllerWidget, "_follow"),
    (UiLoader, "load"),
)

_active: "Pauses | None" = None


@dataclass
class Pause:
    """The longest turns of a phase, seconds: of the thread, and by the clock on the wall."""

    cpu: float = 0.0
    wall: float = 0.0


class Pauses:
    """While active, measures every turn of the event loop that ``driving`` takes, phase by phase.

    Attributes:
        phases: The longest turn of each phase.
    """

    def __init__(self) -> None:
        self.phases: dict[str, Pause] = {}
        self._phase, self._depth, self._taken = "", 0, [0.0, 0.0]
        self._inside = False
        self._originals: list[Any] = []

    def __enter__(self) -> "Pauses":
        global _active
        _active = self
        for cls, name in NOT_OURS:
            self._originals.append(getattr(cls, name))
            setattr(cls, name, self._timed(self._originals[-1]))
        return self

    def __exit__(self, *_: object) -> None:
        global _active
        _active = None
        for (cls, name), original in zip(NOT_OURS, self._originals, strict=True):
            setattr(cls, name, original)

    def _timed(self, original: Callable) -> Callable:
        def call(view: Any, *arguments: Any) -> Any:
            if self._inside:  # counted by the one around it
                return original(view, *arguments)
            self._inside, start = True, _now()
            try:
                return original(view, *arguments)
            finally:
                self._inside = False
                self._taken = [t + b - a for t, a, b in zip(self._taken, start, _now(), strict=True)]

        return call

    def phase(self, name: str) -> None:
        """What comes now."""
        self._phase = name
        self.phases.setdefault(name, Pause())

    def measure(self, function: Callable, *arguments: Any) -> Any:
        """Call a function as one turn."""
        if self._depth:  # a menu has an event loop of its own
            return function(*arguments)
        self._depth, self._taken, start = 1, [0.0, 0.0], _now()
        try:
            return function(*arguments)
        finally:
            self._depth = 0
            self._keep(*(b - a - r for a, b, r in zip(start, _now(), self._taken, strict=True)))

    def measureCode(self, folder: str, function: Callable, *arguments: Any) -> Any:
        """Call a function of Slicer and measure only what code below a folder does meanwhile, in one go."""
        entered: list[tuple[FrameType, tuple[float, float]]] = []

        def look(frame: FrameType, event: str, _argument: Any) -> None:
            if event == "call" and not entered and frame.f_code.co_filename.startswith(folder):
                self._taken = [0.0, 0.0]
                entered.append((frame, _now()))
            elif event == "return" and entered and entered[0][0] is frame:
                start = entered.pop()[1]
                self._keep(*(b - a - r for a, b, r in zip(start, _now(), self._taken, strict=True)))

        self._depth += 1
        sys.setprofile(look)
        try:
            return function(*arguments)
        finally:
            sys.setprofile(None)
            self._depth -= 1

    def _keep(self, cpu: float, wall: float) -> None:
        longest = self.phases.setdefault(self._phase, Pause())
        longest.cpu, longest.wall = max(longest.cpu, cpu), max(longest.wall, wall)

    def report(self) -> str:
        """A line per phase."""
        lines = [f"{1000 * p.cpu:6.0f} {1000 * p.wall:6.0f}  {name}" for name, p in self.phases.items()]
        return "\n".join(["longest pause in ms: of the thread, on the wall", *lines])


def turn(function: Callable, *arguments: Any) -> Any:
    """Call what handles events, as one turn of whoever measures."""
    return function(*arguments) if _active is None else _active.measure(function, *arguments)


def _now() -> tuple[float, float]:
    return time.thread_time(), time.monotonic()
