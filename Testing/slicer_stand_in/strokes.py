"""For tests: painting as a person does it, with the mouse in a slice view."""

from typing import Any

import qt
import slicer

from slicer_stand_in import driving


def scrollTo(view: Any, ras: Any) -> None:
    """Show the slice through a point, with the slider that a person would move.

    Args:
        view: A slice widget.
        ras: RAS, mm.
    """
    toRas = view.mrmlSliceNode().GetSliceToRAS()
    view.sliceController().setSliceOffsetValue(sum(toRas.GetElement(row, 2) * ras[row] for row in range(3)))
    slicer.app.processEvents()


def position(view: Any, ras: Any) -> tuple[float, float]:
    """Where a point is seen: pixels from the upper left of ``view.sliceView()``."""
    picture = view.sliceView()
    x, y, _ = picture.convertRASToXYZ(list(ras))
    scale = picture.devicePixelRatioF()
    return round(x) / scale, picture.height - 1 - round(y) / scale


def stroke(view: Any, points: Any, button: Any = qt.Qt.LeftButton) -> None:
    """Press at the first point, move along the others, and let go at the last.

    Args:
        view: A slice widget.
        points: RAS, mm; one point is a click.
        button: Button of the mouse.
    """
    picture, places = view.sliceView(), [position(view, ras) for ras in points]
    driving.enter(picture)
    driving.move(picture, *places[0])
    driving._mouse(picture, qt.QEvent.MouseButtonPress, *places[0], button, button, qt.Qt.NoModifier)
    for place in places[1:]:
        driving.move(picture, *place, button)
    driving._mouse(picture, qt.QEvent.MouseButtonRelease, *places[-1], button, qt.Qt.NoButton, qt.Qt.NoModifier)
