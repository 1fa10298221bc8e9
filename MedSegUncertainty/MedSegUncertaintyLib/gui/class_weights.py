"""One slider per structure for how far it moves from its mean in a draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ctk
import qt
from slicer.i18n import tr as _

LIMIT = 3.0
"""As far as the authors of the network show it."""


class ClassWeights:
    """Sliders in a form; the values are a parameter, empty while all are 1.

    Args:
        frame: Widget with a ``QFormLayout``.
        parameters: Gives the parameters.
    """

    def __init__(self, frame: Any, parameters: Callable[[], Any]) -> None:
        self._frame, self._parameters = frame, parameters
        self._names: list[str] = []
        self._sliders: list[Any] = []

    def show(self, names: list[str]) -> None:
        """Show sliders for these structures, with what the parameters say."""
        if names != self._names:
            self._build(names)
        self._frame.setVisible(bool(names))
        values = self.values(len(names)) or [1.0] * len(names)
        for slider, value in zip(self._sliders, values, strict=True):
            slider.value = value

    def values(self, structures: int) -> list[float]:
        """A weight per structure; empty if they are as trained."""
        values = list(self._parameters().classWeights)
        return values if len(values) == structures and any(value != 1.0 for value in values) else []

    def _build(self, names: list[str]) -> None:
        form = self._frame.layout()
        while form.rowCount():
            form.removeRow(0)
        self._names, self._sliders = names, []
        form.addRow(qt.QLabel(_("Class weights, 1 as trained:")))
        for name in names:
            slider = ctk.ctkSliderWidget()
            slider.minimum, slider.maximum, slider.singleStep, slider.decimals = -LIMIT, LIMIT, 0.1, 1
            slider.value = 1.0
            slider.toolTip = _(
                "How far {name} moves from its mean in a sample: 1 as trained, 0 not at all, negative the other way. "
                "A higher weight does not always make it larger."
            ).format(name=name)
            slider.connect("valueChanged(double)", self._onValue)
            form.addRow(qt.QLabel(f"{name}:"), slider)
            self._sliders.append(slider)

    def _onValue(self, _value: float) -> None:
        if len(self._sliders) == len(self._names):  # not while they are made
            self._parameters().classWeights = [slider.value for slider in self._sliders]
