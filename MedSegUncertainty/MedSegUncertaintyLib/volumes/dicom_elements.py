"""The elements of a DICOM file, sequences included, as far as they stand before its pixels.

SimpleITK hands on only what stands at the top level of a header, and guesses where an enhanced multi-frame object
states positions, rescaling and frame types in sequences. This reads the header itself: explicit and implicit VR, both
byte orders, deflated. Pixels are never decoded here, only measured.
"""

from __future__ import annotations

import math
import mmap
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from MedSegUncertaintyLib.errors import BadInputError

_LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_SHORT_VRS = {
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"),
    *(b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
}
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_IMPLICIT, _BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_KEPT_BYTES = 1 << 16
_DEEPEST = 32

# Sequences, which implicit VR does not tell from other values: those that positions and rescaling stand in.
_SEQUENCES = {0x00209113, 0x00209116, 0x00283000, 0x00289110, 0x00289145, 0x52009229, 0x52009230}


class DamagedError(Exception):
    """The bytes of a file are not what its DICOM header promises."""


@dataclass
class Elements:
    """Values by tag; what is long is left out.

    Attributes:
        values: Raw values of elements, by tag ``0xGGGGEEEE``.
        sequences: Items of sequences, by tag.
        transfer_syntax: UID of how the file is encoded, "" if it does not say.
        pixel_bytes: How many bytes of pixels there are; None without pixels.
        encapsulated: Whether these pixels are compressed.
    """

    values: dict[int, bytes] = field(default_factory=dict)
    sequences: dict[int, list[Elements]] = field(default_factory=dict)
    transfer_syntax: str = ""
    pixel_bytes: int | None = None
    encapsulated: bool = False

    def text(self, tag: int) -> str:
        """A value as text without padding, "" if it is missing."""
        value = self.values.get(tag, b"")
        try:
            return value.decode("utf-8").strip(" \0")
        except UnicodeDecodeError:
            return value.decode("latin-1").strip(" \0")

    def numbers(self, tag: int, count: int) -> np.ndarray | None:
        """Exactly ``count`` finite numbers of a value that is written as text, else None."""
        try:
            values = np.array([float(part) for part in self.text(tag).split("\\")])
        except ValueError:
            return None
        return values if len(values) == count and np.isfinite(values).all() else None

    def number(self, tag: int, default: float) -> float:
        """One number of a value that is written as text, or the default."""
        values = self.numbers(tag, 1)
        return default if values is None else float(values[0])

    def group(self, tag: int) -> Elements:
        """The only item of a sequence; without elements if there is none."""
        items = self.sequences.get(tag, [])
        return items[0] if items else Elements()


def read_elements(path: Path) -> Elements | None:
    """Read the header of a DICOM file.

    Args:
        path: Any file.

    Returns:
        Its elements before the pixels; None if it is no DICOM file.

    Raises:
        BadInputError: It is one, but damaged.
    """
    with path.open("rb") as file:
        start = file.read(132)
        has_preamble = start[128:132] == b"DICM"
        # Old files lack the preamble and start with the identifying group.
        if not has_preamble and start[:2] not in (b"\x08\0", b"\x02\0"):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _parse(data, 132 if has_preamble else 0)
            except (DamagedError, struct.error, zlib.error, IndexError) as error:
                if not has_preamble:
                    return None
                raise BadInputError(f"'{path.name}' is a damaged DICOM file; copy it again or remove it.") from error


def _parse(data: mmap.mmap, start: int) -> Elements:
    meta = _Reader(data, explicit=True, order="<")
    position = meta.read_meta(start)
    syntax = meta.elements.text(0x00020010)
    body: mmap.mmap | bytes = data
    if syntax == _DEFLATED:
        body, position = zlib.decompressobj(-15).decompress(data[position:]), 0
    explicit = syntax != _IMPLICIT if syntax else data[position + 4 : position + 6] in _LONG_VRS | _SHORT_VRS
    reader = _Reader(body, explicit, ">" if syntax == _BIG_ENDIAN else "<")
    reader.read_top(position)
    reader.elements.transfer_syntax = syntax
    return reader.elements


class _Reader:
    """Walks through the elements of one data set."""

    def __init__(self, data: mmap.mmap | bytes, explicit: bool, order: str) -> None:
        self.data, self.explicit, self.order = data, explicit, order
        self.elements = Elements()

    def read_meta(self, position: int) -> int:
        """Read group 2; returns where it ends."""
        while self.data[position : position + 2] == b"\x02\0":
            position = self._element(position, len(self.data), self.elements, 0)
        return position

    def read_top(self, position: int) -> None:
        """Read everything before the pixels, and measure those."""
        end = len(self.data)
        while position < end:
            tag, vr, length, value = self._head(position)
            if tag in _PIXELS:
                self._measure(vr, length, value)
                return
            if tag == 0:
                return  # padding
            position = self._element(position, end, self.elements, 0)

    def _measure(self, vr: bytes, length: int, position: int) -> None:
        end = len(self.data)
        if length != _UNDEFINED:
            # Fewer bytes than promised are the reader's to judge, which knows how many it needs.
            self.elements.pixel_bytes = min(length, end - position)
            return
        self.elements.encapsulated, total = True, 0
        while position + 8 <= end:
            tag, length = self._tag(position), self._unsigned(position + 4)
            if tag == _SEQUENCE_END:
                break
            position += 8 + length
            total += length
            if tag != _ITEM or position > end:
                raise DamagedError
        self.elements.pixel_bytes = total

    def _tag(self, position: int) -> int:
        group, element = struct.unpack_from(self.order + "HH", self.data, position)
        return group << 16 | element

    def _unsigned(self, position: int) -> int:
        return int(struct.unpack_from(self.order + "I", self.data, position)[0])

    def _head(self, position: int) -> tuple[int, bytes, int, int]:
        """Tag, VR ("" if implicit), length and where the value starts."""
        tag = self._tag(position)
        if not self.explicit or tag >> 16 == 0xFFFE:
            return tag, b"", self._unsigned(position + 4), position + 8
        vr = self.data[position + 4 : position + 6]
        if vr in _LONG_VRS:
            return tag, vr, self._unsigned(position + 8), position + 12
        if vr not in _SHORT_VRS:
            raise DamagedError
        return tag, vr, int(struct.unpack_from(self.order + "H", self.data, position + 6)[0]), position + 8

    def _element(self, position: int, end: int, into: Elements, depth: int) -> int:
        """Read one element; returns where it ends."""
        tag, vr, length, position = self._head(position)
        stop = math.inf if length == _UNDEFINED else position + length
        if (length != _UNDEFINED and stop > end) or depth > _DEEPEST:
            raise DamagedError
        if vr == b"SQ" or length == _UNDEFINED or (not vr and tag in _SEQUENCES):
            inner = self
            if vr == b"UN":
                # A sequence whose writer did not know it is one is implicit inside.
                inner = _Reader(self.data, explicit=False, order="<")
            into.sequences[tag], position = inner._items(position, end, length, depth)
            return position
        if length <= _KEPT_BYTES:
            into.values[tag] = self.data[position : position + length]
        return position + length

    def _items(self, position: int, end: int, length: int, depth: int) -> tuple[list[Elements], int]:
        """Items of a sequence, and where it ends."""
        items: list[Elements] = []
        stop = end if length == _UNDEFINED else position + length
        while position < stop:
            tag, size = self._tag(position), self._unsigned(position + 4)
            position += 8
            if tag == _SEQUENCE_END and length == _UNDEFINED:
                return items, position
            if tag != _ITEM:
                raise DamagedError
            item, item_stop = Elements(), stop if size == _UNDEFINED else position + size
            if item_stop > stop:
                raise DamagedError
            while position < item_stop:
                if size == _UNDEFINED and self._tag(position) == _ITEM_END:
                    position += 8
                    break
                position = self._element(position, item_stop, item, depth + 1)
            items.append(item)
        if length == _UNDEFINED:
            raise DamagedError
        return items, position
