"""Color tables for maps."""

from __future__ import annotations

import numpy as np
import slicer

from MedSegUncertaintyLib.outputs.appearance import palette_colors
from MedSegUncertaintyLib.scene.folder import NodeFolder

TABLE_SIZE = 256


def addColorTable(
    folder: NodeFolder, name: str, palette: str, maximum: float, role: str
) -> slicer.vtkMRMLColorTableNode:
    """A color table node; its entries are named after the values that they stand for, 0 to ``maximum``."""
    node = folder.scene.AddNewNodeByClass("vtkMRMLColorTableNode", folder.scene.GenerateUniqueName(name))
    node.SetTypeToUser()
    node.SetNumberOfColors(TABLE_SIZE)
    for index, color in enumerate(palette_colors(palette, np.linspace(0.0, 1.0, TABLE_SIZE))):
        node.SetColor(index, f"{maximum * index / (TABLE_SIZE - 1):.4f}", *color, 1.0)
    folder.adoptScale(node, role)
    return node
