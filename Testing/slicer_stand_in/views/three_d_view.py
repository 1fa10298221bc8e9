"""3D views."""

from typing import Any

import qt
import slicer

from slicer_stand_in.attributes import standIn
from slicer_stand_in.views.render_view import ctkVTKAbstractView
from slicer_stand_in.views.view_widget import qMRMLAbstractViewWidget, qMRMLViewControllerBar

MANAGERS = (
    "vtkMRMLVolumeRenderingDisplayableManager",
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLThreeDReformatDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager3D",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLTransformsDisplayableManager3D",
    "vtkMRMLColorLegendDisplayableManager",
)


@standIn()
class qMRMLThreeDView(ctkVTKAbstractView):
    """Surfaces, markups and volumes in 3D."""

    def __init__(self, logic: Any, parent: Any = None) -> None:
        super().__init__(parent)
        self._d.logic, self._d.scene = logic, logic.GetMRMLScene()
        self._d.renderer.SetUseDepthPeeling(True)
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        self._show(logic.GetViewNode(), slicer.vtkMRMLThreeDViewInteractorStyle(), factory, MANAGERS)

    def mrmlViewNode(self) -> Any:
        """The view's node."""
        return self._d.node

    def cameraNode(self) -> Any:
        """The node of the view's camera."""
        return self.displayableManagerByClassName("vtkMRMLCameraDisplayableManager").GetCameraNode()

    def displayableManagerByClassName(self, className: str) -> Any:
        """A displayable manager of the view."""
        return self._d.group.GetDisplayableManagerByClassName(className)

    def interactorObserver(self) -> Any:
        """Slicer's interactor style."""
        return self._d.style

    def resetFocalPoint(self) -> None:
        """Look at the middle of everything that is shown."""
        self.resetCamera(False, True, False)

    def resetCamera(
        self, resetRotation: bool = True, resetTranslation: bool = True, resetDistance: bool = True
    ) -> None:
        """Show everything; the box and the axis labels do not count."""
        node, camera = self._d.node, self.cameraNode()
        box, labels = node.GetBoxVisible(), node.GetAxisLabelsVisible()
        node.SetBoxVisible(False)
        node.SetAxisLabelsVisible(False)
        self._d.surface.window.Render()  # makes the managers' actors
        camera.Reset(resetRotation, resetTranslation, resetDistance, self._d.renderer)
        node.SetBoxVisible(box)
        node.SetAxisLabelsVisible(labels)
        self.scheduleRender()

    def rotateToViewAxis(self, axis: int) -> None:
        """Look along an axis: L, R, P, A, I or S, as 0 to 5."""
        self.cameraNode().RotateTo(axis)


@standIn()
class qMRMLThreeDViewControllerWidget(qMRMLViewControllerBar):
    """The bar of a 3D view: a button to center it."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._d.center = qt.QToolButton(self)
        self._d.center.text, self._d.center.toolTip = "\N{CIRCLED PLUS}", "Center the view on what is shown"
        self._d.center.connect("clicked()", self.resetFocalPoint)
        self.barLayout().addWidget(self._d.center)
        self.barLayout().addStretch()

    def setThreeDView(self, view: Any) -> None:
        """Set the view that the bar controls."""
        self._d.view = view

    def mrmlThreeDViewNode(self) -> Any:
        """The view's node."""
        return self._d.view.mrmlViewNode()

    def resetFocalPoint(self) -> None:
        """Look at the middle of everything that is shown."""
        self._d.view.resetFocalPoint()


@standIn()
class qMRMLThreeDWidget(qMRMLAbstractViewWidget):
    """A 3D view with its bar."""

    def __init__(self, node: Any, parent: Any = None) -> None:
        super().__init__(parent)
        logic = slicer.vtkMRMLViewLogic()
        logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        slicer.app.applicationLogic().GetViewLogics().AddItem(logic)
        logic.SetName(node.GetLayoutName())  # by which it finds its node
        logic.SetMRMLScene(slicer.mrmlScene)
        self._d.logic = logic
        bar, view = qMRMLThreeDViewControllerWidget(self), qMRMLThreeDView(logic, self)
        bar.setThreeDView(view)
        self._build(bar, view, node)

    def threeDView(self) -> Any:
        """The view without its bar."""
        return self._d.view

    def threeDController(self) -> Any:
        """The bar."""
        return self._d.bar

    def mrmlViewNode(self) -> Any:
        """The view's node."""
        return self._d.node

    def viewLogic(self) -> Any:
        """The logic of the view."""
        return self._d.logic

    def logic(self) -> Any:
        """The logic of the view."""
        return self._d.logic
