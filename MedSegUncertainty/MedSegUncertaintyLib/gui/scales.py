"""One row per scale of the samples: its mean, a sample, or the noise of one sample, and a temperature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from MedSegUncertaintyLib.errors import BadInputError, PackageError
from MedSegUncertaintyLib.inference.request import MAX_SAMPLES, Scale
from MedSegUncertaintyLib.packages.package import ModelPackage

MEAN, SAMPLE, FROZEN = range(3)
"""Entries of a row's combo box."""


class ScaleControls:
    """Rows in a form; the values are a parameter in the words of ``Scale.parse``, empty while all are sampled.

    Args:
        frame: Widget with a ``QFormLayout``.
        parameters: Gives the parameters.
    """

    def __init__(self, frame: Any, parameters: Callable[[], Any]) -> None:
        self._frame, self._parameters = frame, parameters
        self._widths: tuple[tuple[int, ...], ...] = ()
        self._rows: list[tuple[Any, Any, Any]] = []
        self._quiet = False

    def show(self, package: ModelPackage | None) -> bool:
        """Show rows for the scales of a package, with what the parameters say; whether it has any."""
        widths = scalesOf(package)
        if widths != self._widths:
            self._build(widths)
        self._quiet = True
        for row, scale in zip(self._rows, self.values(package) or [Scale()] * len(widths), strict=True):
            self._fill(row, scale)
        self._quiet = False
        return bool(widths)

    def values(self, package: ModelPackage | None) -> list[Scale]:
        """What is wanted of each scale; empty if all are sampled as trained."""
        try:
            scales = [Scale.parse(words) for words in self._parameters().scales]
        except BadInputError:  # another version may have written the scene
            return []
        fits = len(scales) == len(scalesOf(package))
        return scales if fits and any(scale != Scale() for scale in scales) else []

    def _build(self, widths: tuple[tuple[int, ...], ...]) -> None:
        form = self._frame.layout()
        while form.rowCount():
            form.removeRow(0)
        self._widths, self._rows = widths, []
        for number, cell in enumerate(widths):
            choice, sample, temperature = qt.QComboBox(), qt.QSpinBox(), qt.QDoubleSpinBox()
            choice.objectName = f"scale{number}Selector"
            choice.addItems([_("Mean"), _("Sample"), _("Sample no.")])
            choice.toolTip = _(
                "Mean: nothing varies at this scale. Sample: every sample draws its own. Sample no.: all samples "
                "have what the sample of this number has here."
            )
            sample.setRange(1, MAX_SAMPLES)
            temperature.setRange(0.05, 3.0)
            temperature.singleStep, temperature.decimals, temperature.value = 0.1, 2, 1.0
            temperature.toolTip = _("Temperature of the noise at this scale, 1 as trained.")
            choice.connect("currentIndexChanged(int)", self._onValue)
            sample.connect("valueChanged(int)", self._onValue)
            temperature.connect("valueChanged(double)", self._onValue)
            row = qt.QWidget()
            layout = qt.QHBoxLayout(row)
            layout.setContentsMargins(0, 0, 0, 0)
            for widget in (choice, sample, temperature):
                layout.addWidget(widget)
            title = _("Scale {number}, cells of {width} voxels:").format(number=number, width=max(cell))
            form.addRow(qt.QLabel(title), row)
            self._rows.append((choice, sample, temperature))
        note = qt.QLabel(
            _("Coarse scales come first. An unused coarsest scale can be normal: then nothing changes with it.")
        )
        note.wordWrap = True
        form.addRow(note)

    @staticmethod
    def _fill(row: tuple[Any, Any, Any], scale: Scale) -> None:
        choice, sample, temperature = row
        choice.currentIndex = MEAN if scale.temperature == 0.0 else SAMPLE if scale.frozen is None else FROZEN
        if scale.frozen is not None:
            sample.value = scale.frozen + 1
        if scale.temperature > 0.0:
            temperature.value = scale.temperature
        sample.setVisible(choice.currentIndex == FROZEN)
        temperature.enabled = choice.currentIndex != MEAN

    @staticmethod
    def _read(row: tuple[Any, Any, Any]) -> Scale:
        choice, sample, temperature = row
        if choice.currentIndex == MEAN:
            return Scale(0.0)
        return Scale(temperature.value, sample.value - 1 if choice.currentIndex == FROZEN else None)

    def _onValue(self, _value: Any) -> None:
        if self._quiet or len(self._rows) != len(self._widths):  # not while they are made or filled
            return
        self._parameters().scales = [str(self._read(row)) for row in self._rows]


def scalesOf(package: ModelPackage | None) -> tuple[tuple[int, ...], ...]:
    """The scales of a package's samples; none of one that cannot be used anyway."""
    try:
        return () if package is None else package.scales
    except PackageError:
        return ()
