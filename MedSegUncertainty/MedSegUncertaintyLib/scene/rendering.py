"""Offscreen slice and 3D views through Slicer's own displayable managers, for plain CPython.

Inside Slicer a new view node opens a view in the layout, so these views are for the headless application only.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from typing import Any

import numpy as np

SLICE_MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLColorLegendDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
)
THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLOrientationMarkerDisplayableManager",
)

PROBE = """
import vtkmodules.vtkRenderingOpenGL2
from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow
window = vtkRenderWindow()
window.SetOffScreenRendering(True)
window.AddRenderer(vtkRenderer())
window.Render()
"""
PROBE_SECONDS = 60

ZOOM = 1.25
"""VTK fits the sphere around everything, which leaves wide margins."""


def whyNoSlicer() -> str | None:
    """Why there are no scenes here, as a sentence; ``None`` where Slicer's Python package works."""
    try:
        import slicer
    except ModuleNotFoundError:
        return "A scene needs Slicer's Python package; install slicer-core."
    except Exception as error:
        return f"Slicer's Python package cannot be loaded: {error}"
    if not hasattr(slicer, "vtkMRMLScene"):  # PyPI has another package of that name
        return "The installed package 'slicer' is not Slicer's; install slicer-core instead of it."
    return None


def isRenderingAvailable() -> bool:
    """Whether pictures can be rendered here: slicer-core is installed and OpenGL works, with or without a display.

    Never in a running Slicer, where a new view node would open a view in the user's layout.
    """
    return whyNoSlicer() is None and not _isInSlicer() and _renders()


def _isInSlicer() -> bool:
    import slicer

    from MedSegUncertaintyLib.scene.headless import HeadlessApplication

    application = getattr(slicer, "app", None)
    return application is not None and not isinstance(application, HeadlessApplication)


@functools.cache
def _renders() -> bool:
    """Whether a child process can render: without OpenGL libraries the first ``Render()`` ends the process."""
    environment = {**os.environ, **offscreenEnvironment()}
    try:
        probe = subprocess.run(
            [sys.executable, "-c", PROBE], env=environment, capture_output=True, timeout=PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def offscreenEnvironment() -> dict[str, str]:
    """Without a display VTK would try X first and warn; EGL is what it takes then anyway."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        return {"VTK_DEFAULT_OPENGL_WINDOW": os.environ.get("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")}
    return {}


class OffscreenView:
    """A window that is never shown, with its view node and displayable managers.

    Use as a context manager: leaving it takes the view's nodes out of the scene.
    """

    def __init__(self, logic: Any, logics: Any, size: tuple[int, int]) -> None:
        import slicer
        import vtk

        self.renderer, self.window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(True)
        self.window.SetMultiSamples(0)  # with more, depth peeling on software OpenGL hides translucent surfaces
        self.window.AddRenderer(self.renderer)
        overlay = vtk.vtkRenderer()  # color legends are drawn in a layer of their own
        overlay.SetLayer(1)
        self.window.SetNumberOfLayers(2)
        self.window.AddRenderer(overlay)
        self.window.SetAlphaBitPlanes(True)
        self.window.SetSize(*size)
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self.window)
        self._interactor.Initialize()
        self.logic, self._logics, self._group = logic, logics, None
        self._scene = slicer.mrmlScene
        self._before = self._nodeIds()
        logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        logics.AddItem(logic)
        logic.SetMRMLScene(self._scene)

    def show(self, viewNode: Any, factory: Any, managers: tuple[str, ...]) -> None:
        """Let displayable managers draw what the scene holds for a view node."""
        import slicer

        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.node = viewNode
        self.node.SetMappedInLayout(1)
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.SetRenderer(self.renderer)
        self._group.Initialize(factory, self.renderer)
        self._group.SetMRMLDisplayableNode(viewNode)

    def pixels(self) -> np.ndarray:
        """The picture as RGB, (rows, columns, 3) of uint8, top row first."""
        import vtk
        from vtk.util import numpy_support

        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.ShouldRerenderOff()
        grab.Update()
        columns, rows, _ = grab.GetOutput().GetDimensions()
        array = numpy_support.vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
        return array.reshape(rows, columns, 3)[::-1].copy()

    def close(self) -> None:
        """Take the view, and the nodes that came with it, out of the scene."""
        self._group.SetMRMLDisplayableNode(None)
        self._group = None
        self._logics.RemoveItem(self.logic)
        self.logic.SetMRMLScene(None)
        for nodeId in self._nodeIds() - self._before:
            node = self._scene.GetNodeByID(nodeId)
            if node is not None:
                self._scene.RemoveNode(node)
        self.window.Finalize()

    def _nodeIds(self) -> set[str]:
        return {self._scene.GetNthNode(n).GetID() for n in range(self._scene.GetNumberOfNodes())}

    def __enter__(self) -> OffscreenView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SliceView(OffscreenView):
    """A slice view; ``orientation`` is a plane of the radiological presets (patient's right on the left)."""

    def __init__(self, name: str, orientation: str, size: tuple[int, int] = (600, 600)) -> None:
        import slicer
        import vtk

        super().__init__(slicer.vtkMRMLSliceLogic(), slicer.app.applicationLogic().GetSliceLogics(), size)
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self._mapper, self._actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(self._actor)  # before any manager draws, or segments would lie under the image
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        node = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode")
        if node is None:
            node = self.logic.AddSliceNode(name)
        else:  # of a layout
            self.logic.SetSliceNode(node)
        self.show(node, factory, SLICE_MANAGERS)
        self.node.SetOrientation(orientation)
        self.logic.ResizeSliceNode(*size)
        self.layers = self.logic.GetSliceCompositeNode()

    def center(self, ras: np.ndarray, width_mm: float) -> None:
        """Cut through a point (RAS, mm) and show ``width_mm`` around it."""
        columns, rows = self.window.GetSize()
        self.node.SetFieldOfView(width_mm, width_mm * rows / columns, self.node.GetFieldOfView()[2])
        self.node.JumpSliceByCentering(*ras)

    def pixels(self) -> np.ndarray:
        """The picture as RGB, (rows, columns, 3) of uint8, top row first."""
        self.logic.ResizeSliceNode(*self.window.GetSize())
        connection = self.logic.GetImageDataConnection()
        self._actor.SetVisibility(bool(connection))
        if connection:
            self._mapper.SetInputConnection(connection)
        return super().pixels()


class ThreeDView(OffscreenView):
    """A 3D view that can show translucent surfaces."""

    def __init__(self, name: str, size: tuple[int, int] = (600, 600)) -> None:
        import slicer

        super().__init__(slicer.vtkMRMLViewLogic(), slicer.app.applicationLogic().GetViewLogics(), size)
        self.renderer.SetUseDepthPeeling(True)
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        self.show(self.logic.AddViewNode(name), factory, THREE_D_MANAGERS)
        self.node.SetBoxVisible(False)  # otherwise the box decides what the camera fits
        self.node.SetAxisLabelsVisible(False)

    def fit(self, direction: tuple[float, float, float] = (0.0, 1.0, 0.0)) -> None:
        """Show everything, seen from ``direction`` (RAS; from the front if not given), superior up."""
        self.window.Render()
        camera = self.renderer.GetActiveCamera()
        camera.SetFocalPoint(0.0, 0.0, 0.0)
        camera.SetPosition(*direction)
        camera.SetViewUp(0.0, 0.0, 1.0)
        self.renderer.ResetCamera()
        camera.Zoom(ZOOM)
        self.renderer.ResetCameraClippingRange()
