"""Arrays as pictures of Qt."""

from __future__ import annotations

import base64

import numpy as np
import qt

from MedSegUncertaintyLib.report.png import png_uri


def pixmapOf(pixels: np.ndarray) -> qt.QPixmap:
    """A pixmap of RGB pixels (rows, columns, 3), uint8; through a file format, as Qt's binding takes no arrays."""
    pixmap = qt.QPixmap()
    pixmap.loadFromData(qt.QByteArray(base64.b64decode(png_uri(pixels).partition(",")[2])))
    return pixmap
