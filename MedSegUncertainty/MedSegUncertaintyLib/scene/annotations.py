"""What a radiologist expects at the edges of a slice: sides of the patient, position, a scale bar."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from MedSegUncertaintyLib.scene.rendering import SliceView
from MedSegUncertaintyLib.volumes.geometry import direction_letter

FONT_PIXELS = 16
EDGE_PIXELS = 8
YELLOW = (1.0, 1.0, 0.0)
"""That of Slicer's rulers: no gray of an image hides it."""


def annotateSlice(view: SliceView, plane: str, offset_mm: float) -> None:
    """Add side letters, the position along the slice's normal and a scale bar.

    Args:
        view: Already oriented.
        plane: Its name, "Axial" for example.
        offset_mm: Position of the slice along the RAS axis that it is perpendicular to.
    """
    sliceToRas = slicer.util.arrayFromVTKMatrix(view.node.GetSliceToRAS())
    right, up, normal = sliceToRas[:3, :3].T
    columns, rows = view.window.GetSize()
    _addText(view, sideLetter(-right), (EDGE_PIXELS, rows // 2), "left", "center")
    _addText(view, sideLetter(right), (columns - EDGE_PIXELS, rows // 2), "right", "center")
    _addText(view, sideLetter(up), (columns // 2, rows - EDGE_PIXELS), "center", "top")
    side = direction_letter(int(np.abs(normal).argmax()), offset_mm >= 0)
    position = f"{plane} {side} {abs(offset_mm):.1f} mm"
    _addText(view, position, (EDGE_PIXELS, rows - EDGE_PIXELS), "left", "top")
    view.node.SetRulerType(view.node.RulerTypeThin)
    view.node.SetRulerColor(view.node.RulerColorYellow)


def sideLetter(direction: np.ndarray) -> str:
    """The side of the patient that a direction (RAS) points to."""
    axis = int(np.abs(direction).argmax())
    return direction_letter(axis, bool(direction[axis] > 0))


def _addText(view: SliceView, text: str, position: tuple[int, int], horizontal: str, vertical: str) -> None:
    actor = vtk.vtkTextActor()
    actor.SetInput(text)
    actor.SetPosition(*position)
    style = actor.GetTextProperty()
    style.SetFontSize(FONT_PIXELS)
    style.SetJustification({"left": 0, "center": 1, "right": 2}[horizontal])
    style.SetVerticalJustification({"center": 1, "top": 2}[vertical])
    style.SetColor(YELLOW)
    style.SetShadow(True)
    view.renderer.AddViewProp(actor)
