"""The table of structures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.scene.viewer import StructureRow

ICON_PIXELS = 12
HEADER_LINES, HEADER_MARGIN = 2, 8


class StructureTable:
    """Volumes, overlaps and entropies per structure.

    Args:
        widget: The ``QTableWidget``.
        chosen: Called with the structure that was double-clicked.
    """

    def __init__(self, widget: Any, chosen: Callable[[Structure], None]) -> None:
        self._widget, self._chosen = widget, chosen
        self._structures: list[Structure] = []
        headers = {
            _("Structure"): _("Double-click to see the most uncertain slice."),
            _("Mean\nmL"): _("Mean volume of the samples."),
            _("90 %\nmL"): _("From the 5 % to the 95 % quantile of the sample volumes: how far the samples spread."),
            _("Dice"): _("Mean Dice overlap over all pairs of samples; 1 where all are equal."),
            _("Border\nbit"): _("Mean entropy within 2 mm of the border of the most probable segmentation."),
            _("Off it\nbit"): _("Mean entropy away from that border; where it is raised, whole parts are in doubt."),
        }
        widget.setColumnCount(len(headers))
        for column, (text, tip) in enumerate(headers.items()):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(tip)
            widget.setHorizontalHeaderItem(column, item)
        widget.verticalHeader().setVisible(False)
        header = widget.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        header.setHighlightSections(False)  # bold text would not fit
        widget.connect("cellDoubleClicked(int,int)", self._onDoubleClicked)

    @property
    def structure(self) -> Structure | None:
        """The selected structure."""
        row = self._widget.currentRow()
        return self._structures[row] if 0 <= row < len(self._structures) else None

    def show(self, rows: list[StructureRow]) -> None:
        """Fill the table."""
        self._structures = [row.structure for row in rows]
        self._widget.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, text in enumerate(_texts(row)):
                item = qt.QTableWidgetItem(text)
                if column:
                    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                else:
                    item.setIcon(_icon(row.structure.color))
                    item.setToolTip(row.structure.name)
                self._widget.setItem(number, column, item)
        self._widget.resizeRowsToContents()
        self._widget.setCurrentCell(-1, -1)
        height = sum(self._widget.rowHeight(row) for row in range(len(rows)))
        header = self._widget.horizontalHeader()
        header.setFixedHeight(HEADER_LINES * header.fontMetrics().lineSpacing() + HEADER_MARGIN)
        self._widget.setFixedHeight(height + header.height + 2 * self._widget.frameWidth)

    def _onDoubleClicked(self, row: int, _column: int) -> None:
        self._chosen(self._structures[row])


def _texts(row: StructureRow) -> list[str]:
    low, high = row.interval_ml
    numbers = (row.mean_pairwise_dice, row.boundary_entropy, row.other_entropy)
    decimals = 2 if row.mean_ml < 100 else 0
    volumes = [f"{row.mean_ml:.{decimals}f}", f"{low:.{decimals}f} to {high:.{decimals}f}"]
    return [row.structure.name, *volumes, *("-" if number is None else f"{number:.2f}" for number in numbers)]


def _icon(color: tuple[float, float, float]) -> Any:
    pixels = qt.QPixmap(ICON_PIXELS, ICON_PIXELS)
    pixels.fill(qt.QColor.fromRgbF(*color))
    icon = qt.QIcon(pixels)
    icon.addPixmap(pixels, qt.QIcon.Selected)  # or the color of a selected structure would change
    return icon
