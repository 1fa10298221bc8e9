"""What a slice view shows, written into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import slicer
import vtk

from MedSegUncertaintyLib.scene.annotations import FONT_PIXELS, YELLOW
from MedSegUncertaintyLib.scene.maps import LEGEND_DARKNESS

PLACE = (0.02, 0.985)
"""Upper left, shares of width and height."""


class ViewTitles:
    """Texts of our own, as Slicer writes its corner annotations anew whenever something moves."""

    def __init__(self) -> None:
        self._titles: dict[str, Any] = {}

    def show(self, texts: Mapping[str, str]) -> None:
        """Write a text into each slice view, by its name."""
        for name, text in texts.items():
            view = slicer.app.layoutManager().sliceWidget(name).sliceView()
            if name not in self._titles:
                self._titles[name] = _title()
            view.renderWindow().GetRenderers().GetFirstRenderer().AddViewProp(self._titles[name])
            self._titles[name].SetInput(text)
            view.scheduleRender()


def _title() -> Any:
    title = vtk.vtkTextActor()
    title.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
    title.SetPosition(*PLACE)
    style = title.GetTextProperty()
    style.SetFontSize(FONT_PIXELS)
    style.SetVerticalJustificationToTop()
    style.SetColor(YELLOW)
    style.SetBackgroundColor(0.0, 0.0, 0.0)  # as of legends: yellow letters cannot be read on a bright image
    style.SetBackgroundOpacity(LEGEND_DARKNESS)
    return title
