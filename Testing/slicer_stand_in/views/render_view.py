"""A Qt widget that shows what VTK renders off screen, and gives VTK its mouse and key events."""

from types import SimpleNamespace
from typing import Any

import qt
import slicer
import vtk
from vtk.util import numpy_support

from slicer_stand_in.attributes import qproperty, standIn
from slicer_stand_in.observers import observe

BUTTONS = {qt.Qt.LeftButton: "Left", qt.Qt.MiddleButton: "Middle", qt.Qt.RightButton: "Right"}
KEYS = {
    qt.Qt.Key_Left: "Left", qt.Qt.Key_Right: "Right", qt.Qt.Key_Up: "Up", qt.Qt.Key_Down: "Down",
    qt.Qt.Key_Escape: "Escape", qt.Qt.Key_Return: "Return", qt.Qt.Key_Space: "space", qt.Qt.Key_Delete: "Delete",
    qt.Qt.Key_Backspace: "BackSpace", qt.Qt.Key_PageUp: "Prior", qt.Qt.Key_PageDown: "Next",
}  # fmt: skip
"""Keys that have a name in VTK; letters and digits are their own."""


class Surface:
    """A VTK window that is never shown."""

    def __init__(self) -> None:
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(True)
        self.window.SetMultiSamples(0)  # with more, depth peeling on software OpenGL hides translucent surfaces

    def picture(self, width: int, height: int, scale: float) -> Any:
        """What the window shows now, as an image that Qt draws ``scale`` times smaller."""
        self.window.SetSize(width, height)
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.ShouldRerenderOff()
        grab.Update()
        columns, rows, _ = grab.GetOutput().GetDimensions()
        pixels = numpy_support.vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(rows, columns, 3)
        image = qt.QImage(pixels[::-1].tobytes(), columns, rows, 3 * columns, qt.QImage.Format_RGB888).copy()
        image.setDevicePixelRatio(scale)
        return image


@standIn("interactor", "interactorStyle", "renderWindow")
class ctkVTKAbstractView(qt.QWidget):
    """Base of slice and 3D views."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._d = SimpleNamespace(
            surface=Surface(), interactor=vtk.vtkGenericRenderWindowInteractor(), renderer=vtk.vtkRenderer(),
            style=None, group=None, node=None, logic=None, scene=None, observations=[],
            image=None, outdated=True, rendering=False, enabled=True, cornerText="",
        )  # fmt: skip
        d = self._d
        overlay = vtk.vtkRenderer()  # color legends are drawn in a layer of their own
        overlay.SetLayer(1)
        d.surface.window.SetNumberOfLayers(2)
        d.surface.window.AddRenderer(d.renderer)
        d.surface.window.AddRenderer(overlay)
        d.surface.window.SetAlphaBitPlanes(True)
        d.interactor.SetRenderWindow(d.surface.window)
        d.interactor.EnableRenderOff()  # Qt says when to render
        # Slicer's style asks the interactor for VTK's; without one the first event ends the process.
        d.interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self.setMouseTracking(True)
        self.setFocusPolicy(qt.Qt.StrongFocus)
        self.setMinimumSize(60, 60)

    def _show(self, node: Any, style: Any, factory: Any, managers: tuple[str, ...]) -> None:
        """Let displayable managers draw what the scene holds for a view node, and react to events."""
        d = self._d
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        d.node, d.style, d.group = node, style, slicer.vtkMRMLDisplayableManagerGroup()
        d.group.SetRenderer(d.renderer)
        d.interactor.Initialize()
        style.SetDisplayableManagers(d.group)
        style.SetInteractor(d.interactor)
        d.group.Initialize(factory, d.renderer)
        d.group.SetMRMLDisplayableNode(node)
        d.observations.append(observe(self, d.group, vtk.vtkCommand.UpdateEvent, "_onUpdate"))

    def _onUpdate(self, _caller: Any) -> None:
        if not self._d.rendering:
            self.scheduleRender()

    def scheduleRender(self) -> None:
        """Render with the next paint event."""
        self._d.outdated = True
        self.update()

    def forceRender(self) -> None:
        """Render now."""
        self._d.outdated = True
        self._render()
        self.repaint()

    def _setRenderEnabled(self, enabled: bool) -> None:
        self._d.enabled = enabled
        if enabled:
            self.update()

    renderEnabled = qproperty("bool", "renderEnabled", lambda s: s._d.enabled, _setRenderEnabled)

    def setCornerAnnotationText(self, text: str) -> None:
        """Set the text at the lower left."""
        self._d.cornerText = text
        self.update()

    cornerAnnotationText = qproperty(
        "QString", "cornerAnnotationText", lambda s: s._d.cornerText, setCornerAnnotationText
    )

    def renderWindow(self) -> Any:
        """The VTK window."""
        return self._d.surface.window

    def interactor(self) -> Any:
        """The VTK interactor."""
        return self._d.interactor

    def interactorStyle(self) -> Any:
        """Slicer's interactor style, which passes events to the displayable managers."""
        return self._d.style

    def _pixelSize(self) -> tuple[int, int, float]:
        scale = self.devicePixelRatioF()
        return max(1, round(self.width * scale)), max(1, round(self.height * scale)), scale

    def _render(self) -> None:
        d = self._d
        if not d.outdated or not d.enabled or d.rendering or slicer.app._d.pauses:
            return
        d.rendering = True  # rendering itself may modify nodes, which must not ask for rendering
        try:
            d.image = d.surface.picture(*self._pixelSize())
            d.outdated = False
        finally:
            d.rendering = False

    def paintEvent(self, _event: Any) -> None:
        """Render if something changed, then paint the picture and the corner text."""
        self._render()
        painter = qt.QPainter(self)
        if self._d.image is not None:
            painter.drawImage(0, 0, self._d.image)
        self._paintText(painter)
        painter.end()

    def _paintText(self, painter: Any) -> None:
        where, flags = self.rect.adjusted(6, 6, -6, -5), int(qt.Qt.AlignBottom | qt.Qt.AlignLeft)
        for shift, color in ((1, "black"), (0, "white")):  # readable on any image
            painter.setPen(qt.QColor(color))
            painter.drawText(where.translated(shift, shift), flags, self._d.cornerText)

    def resizeEvent(self, _event: Any) -> None:
        """Follow the size of the widget."""
        width, height, _ = self._pixelSize()
        self._d.surface.window.SetSize(width, height)
        self._d.interactor.UpdateSize(width, height)
        self.scheduleRender()

    def _tell(self, name: str, event: Any = None, key: str = "") -> None:
        """Invoke an event of VTK, at the place of a mouse event if there is one."""
        interactor, scale = self._d.interactor, self.devicePixelRatioF()
        modifiers = event.modifiers() if event is not None else qt.Qt.NoModifier
        control, shift = bool(modifiers & qt.Qt.ControlModifier), bool(modifiers & qt.Qt.ShiftModifier)
        if hasattr(event, "position"):
            x, y = round(event.position().x() * scale), round((self.height - 1 - event.position().y()) * scale)
        else:
            x, y = interactor.GetEventPosition()
        double = int(name.endswith("DoubleClickEvent"))
        interactor.SetEventInformation(x, y, control, shift, key if len(key) == 1 else "\0", double, key or None)
        interactor.SetAltKey(bool(modifiers & qt.Qt.AltModifier))
        interactor.InvokeEvent(name)

    def mousePressEvent(self, event: Any) -> None:
        """A button went down."""
        self._tell(f"{BUTTONS.get(event.button(), 'Left')}ButtonPressEvent", event)

    def mouseReleaseEvent(self, event: Any) -> None:
        """A button went up."""
        self._tell(f"{BUTTONS.get(event.button(), 'Left')}ButtonReleaseEvent", event)

    def mouseDoubleClickEvent(self, event: Any) -> None:
        """A button went down for the second time."""
        self._tell(f"{BUTTONS.get(event.button(), 'Left')}ButtonDoubleClickEvent", event)

    def mouseMoveEvent(self, event: Any) -> None:
        """The mouse moved, with or without a button."""
        self._tell("MouseMoveEvent", event)

    def wheelEvent(self, event: Any) -> None:
        """The wheel turned."""
        self._tell("MouseWheelForwardEvent" if event.angleDelta().y() > 0 else "MouseWheelBackwardEvent", event)

    def enterEvent(self, event: Any) -> None:
        """Keys go to the view under the mouse, as in Slicer."""
        self.setFocus()
        self._tell("EnterEvent")

    def leaveEvent(self, _event: Any) -> None:
        """The mouse left."""
        self._tell("LeaveEvent")

    def keyPressEvent(self, event: Any) -> None:
        """A key went down."""
        key = KEYS.get(event.key(), event.text())
        self._tell("KeyPressEvent", event, key)
        self._tell("CharEvent", event, key)

    def keyReleaseEvent(self, event: Any) -> None:
        """A key went up."""
        self._tell("KeyReleaseEvent", event, KEYS.get(event.key(), event.text()))
