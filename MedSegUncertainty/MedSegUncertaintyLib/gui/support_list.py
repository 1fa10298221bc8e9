"""The list of examples: a picture, where it lies, what is in it, and how well it agrees with the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
from slicer.i18n import tr as _

from MedSegUncertaintyLib.gui.models import WARNING_COLOR
from MedSegUncertaintyLib.gui.pictures import pixmapOf
from MedSegUncertaintyLib.propagation.guidance import Guidance
from MedSegUncertaintyLib.scene.grids import worldGeometry
from MedSegUncertaintyLib.scene.slice_places import positionOf, positionText
from MedSegUncertaintyLib.scene.support_table import OWN, SlicedExample
from MedSegUncertaintyLib.scene.supports import Supports
from MedSegUncertaintyLib.scene.thumbnails import Window, sharedWindow, thumbnail

ICON = 64
"""Edge of a picture, pixels."""
SHOWN_ROWS = 4
DISAGREES = 0.7
"""An example that the others find worse than this is shown in red."""


class SupportList:
    """Fills a list widget; pictures follow one by one, so that the window goes on.

    Args:
        widget: The ``QListWidget``.
        used: Called with an example and whether it is to count.
        chosen: Called with an example that was double-clicked.
    """

    def __init__(
        self, widget: Any, used: Callable[[SlicedExample, bool], None], chosen: Callable[[SlicedExample], None]
    ) -> None:
        self._widget, self._used, self._chosen = widget, used, chosen
        self._examples: list[SlicedExample] = []
        self._supports: Supports | None = None
        self._windows: dict[int, Window] = {}
        self._pictures: dict[tuple[int, str, int], tuple[Any, Any]] = {}
        self._filling = False
        widget.setIconSize(qt.QSize(ICON, ICON))
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._paintNext)
        self._waiting: list[int] = []
        widget.connect("itemChanged(QListWidgetItem*)", self._onChanged)
        widget.connect("itemDoubleClicked(QListWidgetItem*)", self._onDoubleClicked)

    @property
    def examples(self) -> list[SlicedExample]:
        """What is shown, in the order of the rows."""
        return self._examples

    @property
    def current(self) -> SlicedExample | None:
        """The selected example."""
        row = self._widget.currentRow
        return self._examples[row] if 0 <= row < len(self._examples) else None

    def show(self, supports: Supports | None, examples: list[SlicedExample], guidance: Guidance) -> None:
        """Show the examples of a set."""
        kept = self.current
        self._filling = True
        if self._supports != supports:
            self._pictures = {}
        self._supports, self._examples = supports, examples
        while self._widget.count > len(examples):
            self._widget.takeItem(self._widget.count - 1)
        while self._widget.count < len(examples):
            item = qt.QListWidgetItem()
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable | qt.Qt.ItemIsUserCheckable)
            self._widget.addItem(item)
        for row, example in enumerate(examples):
            self._fill(self._widget.item(row), example, guidance)
        keys = [example.key for example in examples]
        self._widget.setCurrentRow(keys.index(kept.key) if kept is not None and kept.key in keys else -1)
        rows = min(max(len(examples), 1), SHOWN_ROWS)
        height = max(self._widget.sizeHintForRow(0), ICON + 2)
        self._widget.setFixedHeight(rows * height + 2 * self._widget.frameWidth)
        self._filling = False
        self._paintAll()

    def clear(self) -> None:
        """Show nothing."""
        self._timer.stop()
        self.show(None, [], Guidance())

    def _fill(self, item: Any, example: SlicedExample, guidance: Guidance) -> None:
        lines, disagrees = exampleLines(self._supports, example, guidance)
        item.setText("\n".join(lines))
        item.setCheckState(qt.Qt.Checked if example.used else qt.Qt.Unchecked)
        item.setForeground(qt.QBrush(qt.QColor(WARNING_COLOR)) if disagrees else qt.QBrush())
        item.setToolTip(
            _("Uncheck to leave this example out. Double-click to go there.")
            + (
                _("\nThe others find something else: the outline is wrong, or more examples near it would help.")
                if disagrees
                else ""
            )
        )

    def _paintAll(self) -> None:
        """Paint the pictures whose content has changed."""
        self._windows = {}
        self._waiting = list(range(len(self._examples)))
        self._timer.start()

    def _paintNext(self) -> None:
        if not self._waiting or self._supports is None or not self._supports.isThere:
            self._timer.stop()
            return
        row = self._waiting.pop(0)
        example = self._examples[row]
        source = self._supports.source(example.volume)
        if source is None:
            return
        window = self._window(source, example)
        state = (window, _content(source, example))
        known = self._pictures.get(example.key)
        if known is None or known[0] != state:
            picture = qt.QIcon(pixmapOf(thumbnail(source, example.place, window, ICON)))
            self._pictures[example.key] = known = (state, picture)
        self._filling = True
        self._widget.item(row).setIcon(known[1])
        self._filling = False

    def _window(self, source: Supports, example: SlicedExample) -> Window:
        if example.volume not in self._windows:
            places = [one.place for one in self._examples if one.volume == example.volume]
            self._windows[example.volume] = sharedWindow(source, places, example.place.plane)
        return self._windows[example.volume]

    def _onChanged(self, item: Any) -> None:
        row = self._widget.row(item)
        if not self._filling and 0 <= row < len(self._examples):
            self._used(self._examples[row], item.checkState() == qt.Qt.Checked)

    def _onDoubleClicked(self, item: Any) -> None:
        self._chosen(self._examples[self._widget.row(item)])


def exampleLines(supports: Supports, example: SlicedExample, guidance: Guidance) -> tuple[list[str], bool]:
    """What the list says about an example, and whether the others disagree with it."""
    source = supports.source(example.volume)
    names = source.names
    position = positionOf(example.place, worldGeometry(source.volumeNode))
    title = _("Slice {index}, {position}").format(
        index=example.place.index, position=positionText(example.place.plane, position)
    )
    lines = [title if example.volume == OWN else f"{title} - {source.volumeNode.GetName()}"]
    parts = [", ".join(names[one] for one in example.outlined)] if example.outlined else []
    if example.absent:
        parts.append(_("absent: {names}").format(names=", ".join(names[one] for one in example.absent)))
    lines.append("; ".join(parts) or _("Nothing is painted any more"))
    dices = _agreement(example, names, guidance)
    if dices:
        lines.append(_("Found by the others: Dice {dices}").format(dices=", ".join(dices.values())))
    return lines, any(float(value.split()[-1]) < DISAGREES for value in dices.values())


def _agreement(example: SlicedExample, names: Mapping[str, str], guidance: Guidance) -> dict[str, str]:
    """Dice with which the other examples find each structure, as text, by name."""
    if example.volume != OWN:
        return {}
    found = {}
    for name in (names[one] for one in example.outlined):
        own = guidance.structures.get(name)
        value = None if own is None else own.examples.get(example.place.index)
        if value is not None:
            found[name] = f"{value:.2f}" if len(example.outlined) == 1 else f"{name} {value:.2f}"
    return found


def _content(source: Supports, example: SlicedExample) -> tuple[Any, ...]:
    pixels = tuple(source.pixels(one, example.place).tobytes() for one in example.outlined)
    return hash(pixels), tuple(source.colors.values()), source.volumeNode.GetImageData().GetMTime()
