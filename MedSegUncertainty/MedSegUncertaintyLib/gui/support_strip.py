"""All slices of a plane in a row: what is painted, absent, found and uncertain, and a click to go there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import qt
from slicer.i18n import tr as _

HEIGHT, BAND_TOP, BAND_HEIGHT, TICK, FOOT = 46, 18, 16, 7, 6
"""Of the strip, pixels: above the band is the uncertainty, below it are marks and the feet of outlined examples."""
FOUND, OUTLINED, LEFT_OUT, ABSENT, PAINTED = "#a9c8e8", "#00805c", "#8cc4b2", "#1c1c1c", "#ffffff"
UNCERTAIN, CURRENT, NEXT, GROUND, FRAME = "#e07b1f", "#d81b60", "#b3261e", "#dcdcdc", "#8a8a8a"
"""Those in the band differ in brightness as well, and outlined examples are longer, for eyes that see fewer colors."""


@dataclass(frozen=True)
class StripContent:
    """What there is to show; slices are indices from 0.

    Attributes:
        count: How many slices there are.
        outlined: Examples with outlines.
        absent: Examples that say what is not there.
        leftOut: Examples that do not count at present.
        painted: Slices with strokes that are no examples.
        found: Slices in which something was found.
        uncertainty: By slice, 0 or more.
        current: The slice in the view; None if it shows none.
        next: The slice to paint next, if there is one.
    """

    count: int = 0
    outlined: frozenset[int] = frozenset()
    absent: frozenset[int] = frozenset()
    leftOut: frozenset[int] = frozenset()
    painted: frozenset[int] = frozenset()
    found: frozenset[int] = frozenset()
    uncertainty: Mapping[int, float] = field(default_factory=dict)
    current: int | None = None
    next: int | None = None


class SupportStrip(qt.QWidget):
    """Paints a :class:`StripContent`.

    Args:
        chosen: Called with the index of a slice that was clicked.
    """

    def __init__(self, chosen: Callable[[int], None]) -> None:
        qt.QWidget.__init__(self)
        self.content = StripContent()
        self._chosen = chosen
        self.setFixedHeight(HEIGHT)
        self.setMinimumWidth(120)
        self.setToolTip(
            _(
                "All slices from the first to the last; click to go to one.\n"
                "Green, longer: an example with outlines (pale if left out). Black: absent. White: painted, but no "
                "example. Blue: found. Orange above: how much the samples differ. Line: the slice in the view. "
                "Triangle: the slice to paint next."
            )
        )

    def show_(self, content: StripContent) -> None:
        """Show something else; nothing is painted if it is the same."""
        if content != self.content:
            self.content = content
            self.update()

    def position(self, index: float) -> float:
        """Where a slice begins, pixels from the left."""
        return self.width * index / max(self.content.count, 1)

    def paintEvent(self, _event: object) -> None:
        """Qt wants the picture."""
        painter = qt.QPainter()
        painter.begin(self)
        painter.fillRect(qt.QRectF(0, BAND_TOP, self.width, BAND_HEIGHT), qt.QColor(GROUND))
        content = self.content
        for slices, color in (
            (content.found, FOUND), (content.painted, PAINTED), (content.absent, ABSENT),
            (content.outlined, OUTLINED), (content.leftOut, LEFT_OUT),
        ):  # fmt: skip
            height = BAND_HEIGHT + (FOOT if color == OUTLINED else 0)
            for index in slices:
                self._fill(painter, index, BAND_TOP, height, color, 1 if color == FOUND else 3)
        highest = max(content.uncertainty.values(), default=0.0)
        for index, value in content.uncertainty.items():
            if highest > 0 and value > 0:
                height = (BAND_TOP - 2) * value / highest
                self._fill(painter, index, BAND_TOP - height, height, UNCERTAIN, 1)
        painter.setPen(qt.QColor(FRAME))
        painter.drawRect(qt.QRectF(0, BAND_TOP, self.width - 1, BAND_HEIGHT))
        self._marks(painter)
        painter.end()

    def _marks(self, painter: object) -> None:
        content, bottom = self.content, BAND_TOP + BAND_HEIGHT
        if content.next is not None:
            x = self.position(content.next + 0.5)
            corners = [qt.QPointF(x, bottom + 2), qt.QPointF(x - TICK, HEIGHT - 1), qt.QPointF(x + TICK, HEIGHT - 1)]
            painter.setPen(qt.QColor(NEXT))
            painter.setBrush(qt.QBrush(qt.QColor(NEXT)))
            painter.drawPolygon(qt.QPolygonF(corners))
        if content.current is not None:
            x = self.position(content.current + 0.5)
            pen = qt.QPen(qt.QColor(CURRENT))
            pen.setWidth(2)
            painter.setPen(pen)
            painter.drawLine(qt.QPointF(x, 0), qt.QPointF(x, HEIGHT - 1))

    def _fill(self, painter: object, index: int, top: float, height: float, color: str, narrowest: int) -> None:
        left = self.position(index)
        width = max(self.position(index + 1) - left, narrowest)
        painter.fillRect(qt.QRectF(left, top, width, height), qt.QColor(color))

    def mousePressEvent(self, event: object) -> None:
        """The user clicked."""
        if self.content.count:
            index = int(event.pos().x() * self.content.count / max(self.width, 1))
            self._chosen(min(max(index, 0), self.content.count - 1))


def legend() -> object:
    """A line that says what the colors of the strip mean."""
    signs = (
        (OUTLINED, "\u25a0", _("example")), (ABSENT, "\u25a0", _("absent")), (FOUND, "\u25a0", _("found")),
        (UNCERTAIN, "\u25a0", _("samples differ")), (NEXT, "\u25b2", _("paint next")),
    )  # fmt: skip
    parts = [
        f'<span style="color:{color}; background:{GROUND}">&nbsp;{sign}&nbsp;</span>&nbsp;{text.replace(" ", "&nbsp;")}'
        for color, sign, text in signs
    ]
    label = qt.QLabel("<small>" + " &nbsp; ".join(parts) + "</small>")
    label.wordWrap = True
    return label
