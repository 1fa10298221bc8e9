"""Sliders and spin boxes for floating point numbers."""

from types import SimpleNamespace
from typing import Any

import qt
from PySide6.QtCore import Signal

from slicer_stand_in.attributes import qproperty, standIn, stored

STEPS = 1000
"""Positions of the inner slider; values in between are kept exactly."""


def row(widget: Any, *parts: Any) -> None:
    """Lay parts out side by side, without margins."""
    layout = qt.QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        layout.addWidget(part)


def setSpinBox(name: str) -> Any:
    """Setter of a stand-in that passes a property on to its spin box."""
    return lambda self, value: setattr(self._d.spinBox, name, value)


@standIn()
class ctkDoubleSpinBox(qt.QWidget):
    """A spin box in a widget of its own."""

    valueChanged = Signal(float)
    decimalsChanged = Signal(int)
    editingFinished = Signal()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._d = SimpleNamespace(spinBox=qt.QDoubleSpinBox(self))
        row(self, self._d.spinBox)
        self._d.spinBox.valueChanged.connect(self.valueChanged.emit)
        self._d.spinBox.editingFinished.connect(self.editingFinished.emit)

    def setValue(self, value: float) -> None:
        """Set the value."""
        self._d.spinBox.setValue(value)

    def setDecimals(self, count: int) -> None:
        """Set the number of decimals."""
        self._d.spinBox.setDecimals(count)
        self.decimalsChanged.emit(count)

    value = qproperty("double", "value", lambda s: s._d.spinBox.value, setValue)
    minimum = qproperty("double", "minimum", lambda s: s._d.spinBox.minimum, setSpinBox("minimum"))
    maximum = qproperty("double", "maximum", lambda s: s._d.spinBox.maximum, setSpinBox("maximum"))
    singleStep = qproperty("double", "singleStep", lambda s: s._d.spinBox.singleStep, setSpinBox("singleStep"))
    decimals = qproperty("int", "decimals", lambda s: s._d.spinBox.decimals, setDecimals)
    prefix = qproperty("QString", "prefix", lambda s: s._d.spinBox.prefix, setSpinBox("prefix"))
    suffix = qproperty("QString", "suffix", lambda s: s._d.spinBox.suffix, setSpinBox("suffix"))


@standIn()
class ctkDoubleSlider(qt.QWidget):
    """A slider that keeps its value as it was set."""

    valueChanged = Signal(float)
    sliderMoved = Signal(float)
    sliderPressed = Signal()
    sliderReleased = Signal()
    rangeChanged = Signal(float, float)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*[argument for argument in arguments if isinstance(argument, qt.QWidget)])
        slider = qt.QSlider(qt.Qt.Horizontal, self)
        self._d = SimpleNamespace(slider=slider, value=0.0, minimum=0.0, maximum=99.0, showing=False)
        slider.setRange(0, STEPS)
        row(self, slider)
        slider.valueChanged.connect(self._onMoved)
        slider.sliderPressed.connect(self.sliderPressed.emit)
        slider.sliderReleased.connect(self.sliderReleased.emit)

    def _onMoved(self, position: int) -> None:
        if not self._d.showing:
            self.setValue(self._d.minimum + position / STEPS * (self._d.maximum - self._d.minimum))
            self.sliderMoved.emit(self._d.value)

    def setValue(self, value: float) -> None:
        """Set the value, kept within the range."""
        value = min(max(float(value), self._d.minimum), self._d.maximum)
        changed, self._d.value = value != self._d.value, value
        span = self._d.maximum - self._d.minimum
        self._d.showing = True
        self._d.slider.setValue(round(STEPS * (value - self._d.minimum) / span) if span > 0 else 0)
        self._d.showing = False
        if changed:
            self.valueChanged.emit(value)

    def _setRange(self, minimum: float, maximum: float) -> None:
        self._d.minimum, self._d.maximum = minimum, maximum
        self.rangeChanged.emit(minimum, maximum)
        self.setValue(self._d.value)

    def setOrientation(self, orientation: Any) -> None:
        """Turn the slider."""
        self._d.slider.setOrientation(orientation)

    value = qproperty("double", "value", lambda s: s._d.value, setValue)
    minimum = qproperty("double", "minimum", lambda s: s._d.minimum, lambda s, v: s._setRange(v, max(v, s._d.maximum)))
    maximum = qproperty("double", "maximum", lambda s: s._d.maximum, lambda s, v: s._setRange(min(v, s._d.minimum), v))
    singleStep = stored("double", "singleStep", 1.0)
    pageStep = stored("double", "pageStep", 10.0)
    tracking = stored("bool", "tracking", True)


@standIn()
class ctkSliderWidget(qt.QWidget):
    """A slider with a spin box; values are rounded to ``decimals`` before anyone is told."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._d = SimpleNamespace(slider=ctkDoubleSlider(self), spinBox=qt.QDoubleSpinBox(self), following=False)
        self._d.spinBox.setRange(0, 99)
        row(self, self._d.slider, self._d.spinBox)
        self._d.spinBox.valueChanged.connect(self._onSpinBox)
        self._d.slider.valueChanged.connect(self._onSlider)

    def _onSpinBox(self, value: float) -> None:
        if not self._d.following:
            self._follow()
            self.valueChanged.emit(value)

    def _onSlider(self, value: float) -> None:
        if not self._d.following:
            self._d.spinBox.setValue(value)  # rounds, and tells through _onSpinBox
            self._follow()

    def _follow(self) -> None:
        self._d.following = True
        self._d.slider.minimum, self._d.slider.maximum = self._d.spinBox.minimum, self._d.spinBox.maximum
        self._d.slider.setValue(self._d.spinBox.value)
        self._d.following = False

    def _setRange(self, minimum: float, maximum: float) -> None:
        self._d.spinBox.setRange(minimum, maximum)
        self._follow()

    def setValue(self, value: float) -> None:
        """Set the value; it is rounded and kept within the range."""
        self._d.spinBox.setValue(value)

    def reset(self) -> None:
        """Go to 0."""
        self.setValue(0.0)

    def setDecimals(self, count: int) -> None:
        """Set the number of decimals."""
        self._d.spinBox.setDecimals(count)
        self.decimalsChanged.emit(count)

    def setSpinBoxVisible(self, visible: bool) -> None:
        """Show or hide the number."""
        self._d.spinBox.setVisible(visible)

    value = qproperty("double", "value", lambda s: s._d.spinBox.value, setValue)
    minimum = qproperty(
        "double", "minimum", lambda s: s._d.spinBox.minimum, lambda s, v: s._setRange(v, max(v, s._d.spinBox.maximum))
    )
    maximum = qproperty(
        "double", "maximum", lambda s: s._d.spinBox.maximum, lambda s, v: s._setRange(min(v, s._d.spinBox.minimum), v)
    )
    singleStep = qproperty("double", "singleStep", lambda s: s._d.spinBox.singleStep, setSpinBox("singleStep"))
    pageStep = stored("double", "pageStep", 10.0)
    decimals = qproperty("int", "decimals", lambda s: s._d.spinBox.decimals, setDecimals)
    prefix = qproperty("QString", "prefix", lambda s: s._d.spinBox.prefix, setSpinBox("prefix"))
    suffix = qproperty("QString", "suffix", lambda s: s._d.spinBox.suffix, setSpinBox("suffix"))
    spinBoxVisible = qproperty("bool", "spinBoxVisible", lambda s: not s._d.spinBox.isHidden(), setSpinBoxVisible)
    tracking = stored("bool", "tracking", True)
