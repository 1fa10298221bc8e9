"""VTK observers of widgets that neither keep the widget alive nor call it after its C++ part is gone."""

import weakref
from typing import Any

import shiboken6
import vtk


def observe(widget: Any, subject: Any, event: int, method: str, *, withNode: bool = False) -> tuple[Any, int]:
    """Call ``widget.method(subject)`` on an event of a VTK object.

    Args:
        widget: Stand-in that is told.
        subject: VTK object to observe.
        event: Event of VTK or MRML.
        method: Name of a method that takes one argument.
        withNode: Pass the node that the event is about instead of the subject.

    Returns:
        What ``unobserve`` takes.
    """
    reference, tag = weakref.ref(widget), []

    def call(caller: Any, _event: str, node: Any = None) -> None:
        alive = reference()
        if alive is not None and shiboken6.isValid(alive):
            getattr(alive, method)(node if withNode else caller)
        else:
            caller.RemoveObserver(tag[0])

    if withNode:
        call.CallDataType = vtk.VTK_OBJECT
    tag.append(subject.AddObserver(event, call))
    return subject, tag[0]


def unobserve(observations: list[tuple[Any, int]]) -> None:
    """End observations and empty their list."""
    for subject, tag in observations:
        subject.RemoveObserver(tag)
    observations.clear()
