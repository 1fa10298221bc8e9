"""PNG pictures from arrays with nothing but the standard library, so that a report needs no drawing library."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

_COLOR_TYPES = {1: 0, 3: 2, 4: 6}  # gray, RGB, RGBA


def png_uri(pixels: np.ndarray) -> str:
    """A ``data:`` address of pixels (rows, columns) or (rows, columns, 3 or 4), uint8."""
    if pixels.dtype != np.uint8:
        raise ValueError(f"expected uint8 pixels, got {pixels.dtype}")
    rows, columns = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    # Every row begins with the number of its filter: 2, the difference to the row above, which deflates better.
    flat = pixels.reshape(rows, -1)
    lines = np.full((rows, 1 + columns * channels), 2, dtype=np.uint8)
    lines[:, 1:] = np.diff(flat, axis=0, prepend=np.zeros_like(flat[:1]))
    header = struct.pack(">IIBBBBB", columns, rows, 8, _COLOR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
