"""Slice views with their offset sliders."""

from typing import Any

import qt
import slicer
import vtk

from slicer_stand_in.attributes import qproperty, standIn
from slicer_stand_in.observers import observe
from slicer_stand_in.views.render_view import ctkVTKAbstractView
from slicer_stand_in.views.view_widget import qMRMLAbstractViewWidget, qMRMLViewControllerBar

MANAGERS = (
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLScalarBarDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLTransformsDisplayableManager2D",
    "vtkMRMLColorLegendDisplayableManager",
)
LAYERS = (("B", "Background"), ("F", "Foreground"), ("L", "Label"))


@standIn()
class qMRMLSliceView(ctkVTKAbstractView):
    """A plane through the scene."""

    def __init__(self, logic: Any, parent: Any = None) -> None:
        super().__init__(parent)
        d = self._d
        d.logic, d.scene = logic, logic.GetMRMLScene()
        d.renderer.GetActiveCamera().ParallelProjectionOn()
        d.mapper, d.actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
        d.mapper.SetColorWindow(255)
        d.mapper.SetColorLevel(127.5)
        d.actor.SetMapper(d.mapper)
        d.actor.GetProperty().SetDisplayLocationToBackground()
        d.renderer.AddViewProp(d.actor)  # before any manager draws, or segments would lie under the image
        style = slicer.vtkMRMLSliceViewInteractorStyle()
        style.SetSliceLogic(logic)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        self._show(logic.GetSliceNode(), style, factory, MANAGERS)
        d.observations.append(observe(self, logic, vtk.vtkCommand.ModifiedEvent, "_onLogicModified"))
        composite = logic.GetSliceCompositeNode()
        d.observations.append(observe(self, composite, vtk.vtkCommand.ModifiedEvent, "_onLogicModified"))
        self._onLogicModified(logic)

    def _onLogicModified(self, _caller: Any) -> None:
        d = self._d
        connection = d.logic.GetImageDataConnection()
        d.actor.SetVisibility(connection is not None)
        if connection is not None:
            d.mapper.SetInputConnection(connection)
        self.setCornerAnnotationText(self._layerNames())
        self.scheduleRender()

    def _layerNames(self) -> str:
        composite, lines = self._d.logic.GetSliceCompositeNode(), []
        for letter, name in LAYERS:
            volume = self._d.scene.GetNodeByID(getattr(composite, f"Get{name}VolumeID")() or "")
            opacity = 1.0 if name == "Background" else getattr(composite, f"Get{name}Opacity")()
            if volume is not None:
                lines.insert(0, f"{letter}: {volume.GetName()}" + (f" ({opacity:.0%})" if opacity < 1 else ""))
        return "\n".join(lines)

    def resizeEvent(self, event: Any) -> None:
        """Follow the size of the widget."""
        super().resizeEvent(event)
        width, height, _ = self._pixelSize()
        self._d.logic.ResizeSliceNode(width, height)

    def mrmlSliceNode(self) -> Any:
        """The view's node."""
        return self._d.node

    def sliceViewInteractorStyle(self) -> Any:
        """Slicer's interactor style."""
        return self._d.style

    def getDisplayableManagers(self, collection: Any) -> None:
        """Put the displayable managers into a collection."""
        for number in range(self._d.group.GetDisplayableManagerCount()):
            collection.AddItem(self._d.group.GetNthDisplayableManager(number))

    def convertDeviceToXYZ(self, xy: list[int]) -> list[float]:
        """Pixels from the lower left into the slice's XYZ."""
        return [float(xy[0]), float(xy[1]), 0.0]

    def convertXYZToRAS(self, xyz: list[float]) -> list[float]:
        """XYZ of the slice into RAS, mm."""
        return list(self._d.node.GetXYToRAS().MultiplyPoint([*xyz, 1.0])[:3])

    def convertRASToXYZ(self, ras: list[float]) -> list[float]:
        """RAS, mm, into XYZ of the slice."""
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self._d.node.GetXYToRAS(), inverse)
        return list(inverse.MultiplyPoint([*ras, 1.0])[:3])


@standIn("sliceOffsetSlider", "fitToWindowToolButton", "mrmlSliceNode", "sliceLogic")
class qMRMLSliceControllerWidget(qMRMLViewControllerBar):
    """The bar of a slice view: fit button, offset slider."""

    def __init__(self, logic: Any, parent: Any = None) -> None:
        super().__init__(parent)
        d = self._d
        d.logic, d.following, d.observations = logic, False, []
        d.fit, d.slider = qt.QToolButton(self), slicer.qMRMLSliderWidget(self)
        d.fit.text, d.fit.toolTip = "\N{WHITE SQUARE CONTAINING BLACK SMALL SQUARE}", "Fit the slice to the view"
        d.slider.suffix = " mm"
        for part in (d.fit, d.slider):
            self.barLayout().addWidget(part)
        d.fit.connect("clicked()", self.fitSliceToBackground)
        d.slider.connect("valueChanged(double)", self._onSlider)
        d.observations.append(observe(self, logic, vtk.vtkCommand.ModifiedEvent, "_follow"))
        d.observations.append(observe(self, logic.GetSliceNode(), vtk.vtkCommand.ModifiedEvent, "_follow"))
        self._follow(logic)

    def _follow(self, _caller: Any) -> None:
        d, bounds, resolution = self._d, [-1.0, -1.0], vtk.reference(1.0)
        d.following = True
        if d.logic.GetSliceOffsetRangeResolution(bounds, resolution):
            d.slider.minimum, d.slider.maximum, d.slider.singleStep = bounds[0], bounds[1], resolution.get()
        normal = [d.logic.GetSliceNode().GetSliceToRAS().GetElement(row, 2) for row in range(3)]
        axis = max(range(3), key=lambda row: abs(normal[row]))
        d.slider.prefix = ("LPI" if normal[axis] < 0 else "RAS")[axis] + ": "
        d.slider.setValue(d.logic.GetSliceOffset())
        d.following = False

    def _onSlider(self, offset: float) -> None:
        if not self._d.following:
            self.setSliceOffsetValue(offset)

    def setSliceOffsetValue(self, offset: float) -> None:
        """Move the slice, and with it the slices that are linked."""
        self._d.logic.StartSliceOffsetInteraction()
        self._d.logic.SetSliceOffset(offset)
        self._d.logic.EndSliceOffsetInteraction()

    def fitSliceToBackground(self) -> None:
        """Show all of the background volume."""
        self._d.logic.FitSliceToBackground()

    def setSliceVisible(self, visible: bool) -> None:
        """Show the slice in 3D views."""
        self._d.logic.GetSliceNode().SetSliceVisible(visible)

    def setSliceLink(self, linked: bool) -> None:
        """Let all slice views follow each other."""
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            composite.SetLinkedControl(linked)

    def setSliceOrientation(self, orientation: str) -> None:
        """Set one of the preset orientations."""
        self._d.logic.GetSliceNode().SetOrientation(orientation)

    def sliceOffsetSlider(self) -> Any:
        """The slider."""
        return self._d.slider

    def fitToWindowToolButton(self) -> Any:
        """The fit button."""
        return self._d.fit

    def sliceLogic(self) -> Any:
        """The logic of the view."""
        return self._d.logic

    def mrmlSliceNode(self) -> Any:
        """The view's node."""
        return self._d.logic.GetSliceNode()


@standIn()
class qMRMLSliceWidget(qMRMLAbstractViewWidget):
    """A slice view with its bar."""

    def __init__(self, node: Any, parent: Any = None) -> None:
        super().__init__(parent)
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        slicer.app.applicationLogic().GetSliceLogics().AddItem(logic)
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSliceNode(node)
        self._d.logic = logic
        self._build(qMRMLSliceControllerWidget(logic, self), qMRMLSliceView(logic, self), node)

    def sliceLogic(self) -> Any:
        """The logic of the view."""
        return self._d.logic

    def logic(self) -> Any:
        """The logic of the view."""
        return self._d.logic

    def sliceView(self) -> Any:
        """The view without its bar."""
        return self._d.view

    def sliceController(self) -> Any:
        """The bar."""
        return self._d.bar

    def mrmlSliceNode(self) -> Any:
        """The view's node."""
        return self._d.node

    def mrmlSliceCompositeNode(self) -> Any:
        """The node that says which volumes are shown."""
        return self._d.logic.GetSliceCompositeNode()

    def fitSliceToBackground(self) -> None:
        """Show all of the background volume."""
        self._d.logic.FitSliceToBackground()

    def setSliceOrientation(self, orientation: str) -> None:
        """Set one of the preset orientations."""
        self._d.node.SetOrientation(orientation)

    sliceOrientation = qproperty(
        "QString", "sliceOrientation", lambda s: s._d.node.GetOrientation(), setSliceOrientation
    )
    sliceViewName = qproperty("QString", "sliceViewName", lambda s: s._d.node.GetLayoutName())
