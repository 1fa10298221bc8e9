"""In how many steps each sample is drawn, for models that draw in steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from MedSegUncertaintyLib.errors import PackageError
from MedSegUncertaintyLib.packages.package import ModelPackage


class DrawSteps:
    """A spin box; the value is a parameter, 0 while all steps are taken.

    Args:
        spinBox: The ``QSpinBox``.
        parameters: Gives the parameters.
    """

    def __init__(self, spinBox: Any, parameters: Callable[[], Any]) -> None:
        self._spinBox, self._parameters = spinBox, parameters
        self._count = 0
        spinBox.connect("valueChanged(int)", self._onValue)

    def show(self, package: ModelPackage | None) -> bool:
        """Show how many of a package's steps the parameters ask for; whether it has any."""
        count, self._count = stepsOf(package), 0
        if count:
            self._spinBox.setRange(1, count)
            self._spinBox.suffix = _(" of {count}").format(count=count)
            self._spinBox.value = self.value(package) or count
        self._count = count
        return bool(count)

    def value(self, package: ModelPackage | None) -> int | None:
        """How many steps are wanted; None for all of them."""
        steps = self._parameters().steps
        return steps if 0 < steps < stepsOf(package) else None

    def _onValue(self, value: int) -> None:
        if self._count:  # not while it is filled
            self._parameters().steps = 0 if value == self._count else value


def stepsOf(package: ModelPackage | None) -> int:
    """The steps of a package; 0 of one that cannot be used anyway."""
    try:
        return 0 if package is None else package.steps
    except PackageError:
        return 0
