"""Colors: shades of a structure, and color tables for maps."""

from __future__ import annotations

import colorsys

import numpy as np
import slicer

from MedSegUncertaintyLib.scene.folder import NodeFolder

Color = tuple[float, float, float]

TABLE_SIZE = 256

# A few colors of matplotlib's perceptually uniform maps (CC0). The dark start of inferno is left out: on a gray image
# nobody can tell it from a shadow.
PALETTES: dict[str, tuple[str, ...]] = {
    "inferno": ("420a68", "932667", "dd513a", "fca50a", "fcffa4"),
    "viridis": ("440154", "3b528b", "21918c", "5ec962", "fde725"),
}


def shade(color: Color, index: int, count: int) -> Color:
    """The ``index``-th of ``count`` shades of a color, dark to light; the color itself if there is only one."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*color)
    if count > 1:
        lightness = 0.45 + 0.35 * index / (count - 1)
    return colorsys.hls_to_rgb(hue, lightness, saturation)


def mixed(color: Color, other: Color, share: float) -> Color:
    """``color`` with a ``share`` of ``other``, each channel in [0, 1]."""
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(color, other, strict=True))
    return (red, green, blue)


def paletteColors(name: str) -> np.ndarray:
    """A palette as (256, 3) colors in [0, 1]."""
    anchors = np.array([[int(text[n : n + 2], 16) / 255 for n in (0, 2, 4)] for text in PALETTES[name]])
    positions = np.linspace(0, len(anchors) - 1, TABLE_SIZE)
    return np.stack([np.interp(positions, np.arange(len(anchors)), channel) for channel in anchors.T], axis=1)


def addColorTable(
    folder: NodeFolder, name: str, palette: str, maximum: float, role: str
) -> slicer.vtkMRMLColorTableNode:
    """A color table node; its entries are named after the values that they stand for, 0 to ``maximum``."""
    node = folder.scene.AddNewNodeByClass("vtkMRMLColorTableNode", folder.scene.GenerateUniqueName(name))
    node.SetTypeToUser()
    node.SetNumberOfColors(TABLE_SIZE)
    for index, color in enumerate(paletteColors(palette)):
        node.SetColor(index, f"{maximum * index / (TABLE_SIZE - 1):.4f}", *color, 1.0)
    folder.adoptScale(node, role)
    return node
