"""The list of examples as a table node, which saves with the scene and can be read by people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from MedSegUncertaintyLib.scene.slice_places import SlicePlace
from MedSegUncertaintyLib.scene.tables import fillTable

OWN = 0
"""Number of the set's own volume."""
VOLUME, PLANE, SLICE, POSITION, KIND, STRUCTURES, WITHOUT, USED, NUMBER = (
    "Volume", "Plane", "Slice", "Position (mm)", "Kind", "Structures", "Absent", "Used", "Volume number",
)  # fmt: skip
SEPARATOR = "|"
"""Between ids of segments; Slicer makes ids without it."""
NOTHING = "-"
"""Stands for an empty text, which files of tables do not keep reliably."""


@dataclass(frozen=True)
class SlicedExample:
    """A slice that counts as an example.

    Attributes:
        place: Which slice.
        volume: Number of its volume in the set; ``OWN``, or that of another volume whose examples are used as well.
        used: Whether it counts at present.
        absent: Ids of structures that are said not to be in it.
        outlined: Ids of structures that are painted in it, in the segmentation of its volume.
    """

    place: SlicePlace
    volume: int = OWN
    used: bool = True
    absent: tuple[str, ...] = ()
    outlined: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What it is: "outlined", "absent", or "empty" if everything was erased that once made it an example."""
        return "outlined" if self.outlined else "absent" if self.absent else "empty"

    @property
    def key(self) -> tuple[int, str, int]:
        """What tells it from others, in the order of the list."""
        return self.volume, self.place.plane, self.place.index


@dataclass(frozen=True)
class Row:
    """An example with what people read of it.

    Attributes:
        example: The example.
        volumeName: What its volume is called.
        position: Where it lies (mm).
        structures: Names of what is painted in it.
    """

    example: SlicedExample
    volumeName: str
    position: float
    structures: tuple[str, ...]


def readExamples(table: Any) -> list[SlicedExample]:
    """What a table says; what is painted is not in it."""
    content = table.GetTable()
    columns = [content.GetColumnByName(title) for title in (NUMBER, PLANE, SLICE, USED, WITHOUT)]
    if any(column is None for column in columns):  # somebody emptied it
        return []
    rows = ([column.GetValue(row) for column in columns] for row in range(content.GetNumberOfRows()))
    return [
        SlicedExample(SlicePlace(plane, int(index)), int(number), bool(used), _split(absent))
        for number, plane, index, used, absent in rows
    ]


def writeExamples(table: Any, rows: Sequence[Row]) -> None:
    """Replace what a table says; one that says the same is not touched."""
    examples = [row.example for row in rows]
    columns: dict[str, tuple[type, list[Any]]] = {
        VOLUME: (str, [row.volumeName for row in rows]),
        PLANE: (str, [one.place.plane for one in examples]),
        SLICE: (int, [one.place.index for one in examples]),
        POSITION: (float, [round(row.position, 3) for row in rows]),
        KIND: (str, [one.kind for one in examples]),
        STRUCTURES: (str, [", ".join(row.structures) or NOTHING for row in rows]),
        WITHOUT: (str, [SEPARATOR.join(one.absent) or NOTHING for one in examples]),
        USED: (int, [int(one.used) for one in examples]),
        NUMBER: (int, [one.volume for one in examples]),
    }
    if _content(table) != {title: values for title, (_kind, values) in columns.items()}:
        fillTable(table, {title: np.array(values, dtype=kind) for title, (kind, values) in columns.items()})


def _split(ids: str) -> tuple[str, ...]:
    return () if ids == NOTHING else tuple(ids.split(SEPARATOR))


def _content(table: Any) -> dict[str, list[Any]]:
    content = table.GetTable()
    columns = [content.GetColumn(number) for number in range(content.GetNumberOfColumns())]
    return {one.GetName(): [one.GetValue(row) for row in range(one.GetNumberOfValues())] for one in columns}
