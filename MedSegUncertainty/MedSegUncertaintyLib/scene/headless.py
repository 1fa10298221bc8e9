"""A MRML application without Qt, for plain CPython with the slicer-core wheel.

Inside Slicer nothing is started: the running application is used. Everything else in this room works in both.
"""

from __future__ import annotations

import os
import tempfile
import types
from pathlib import Path
from typing import Any

import slicer
import vtk

from MedSegUncertaintyLib.scene.rendering import offscreenEnvironment

MODULE_LOGICS = {
    "Colors": "vtkMRMLColorLogic",  # first: display nodes of all other modules need the default colors
    "Units": "vtkSlicerUnitsLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Models": "vtkSlicerModelsLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "ViewControllers": "vtkSlicerViewControllersLogic",
    "Data": "vtkSlicerDataModuleLogic",
    "SceneViews": "vtkSlicerSceneViewsModuleLogic",
}

HIERARCHY_CLASSES = (
    "vtkMRMLVolumeNode",
    "vtkMRMLSegmentationNode",
    "vtkMRMLModelNode",
    "vtkMRMLMarkupsNode",
    "vtkMRMLTransformNode",
    "vtkMRMLTableNode",
    "vtkMRMLPlotChartNode",
    "vtkMRMLPlotSeriesNode",
    "vtkMRMLTextNode",
)
"""Nodes that get an item in the subject hierarchy by themselves, as in Slicer."""


def ensureApplication() -> Any:
    """The running application: Slicer's own, or one without Qt that is started by the first call in a process.

    Sets ``slicer.app``, ``slicer.mrmlScene`` and ``slicer.modules`` when it starts one.
    """
    if getattr(slicer, "app", None) is None:
        os.environ.update(offscreenEnvironment())
        slicer.app = HeadlessApplication()
        slicer.mrmlScene = slicer.app.mrmlScene()
        slicer.modules = slicer.app.modules
    return slicer.app


def saveScene(path: str | Path) -> None:
    """Save the scene as one .mrb file.

    Raises:
        OSError: The file could not be written.
    """
    target = Path(path).resolve()
    write = slicer.mrmlScene.WriteToMRB if isinstance(slicer.app, HeadlessApplication) else slicer.util.saveScene
    if not target.parent.is_dir() or not write(str(target)):
        raise OSError(f"The scene could not be written to {target}.")


class HeadlessApplication:
    """What ``slicer.util`` and the room's code need of Slicer's application object: a scene and the module logics."""

    applicationName, majorVersion, minorVersion = "Slicer", 5, 12

    def __init__(self) -> None:
        vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)  # vtkOutputWindow prints the same messages
        self._folder = tempfile.TemporaryDirectory(prefix="medseg-uncertainty-")
        self.temporaryPath = self._folder.name
        self._scene = slicer.vtkMRMLScene()
        self._logic = self._startLogic()
        self.modules = types.ModuleType("slicer.modules")
        for name, className in MODULE_LOGICS.items():
            self._startModule(name, getattr(slicer, className)())
        self._scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self._scene, True)
        self._startFileAccess()
        self._hierarchy = _HierarchyKeeper(self._scene)

    def _startLogic(self) -> Any:
        logic = slicer.vtkSlicerApplicationLogic()
        logic.SetTemporaryPath(self.temporaryPath)
        logic.SetMRMLScene(self._scene)
        logic.SetSliceLogics(vtk.vtkCollection())
        logic.SetViewLogics(vtk.vtkCollection())
        for factory in (
            slicer.vtkMRMLThreeDViewDisplayableManagerFactory,
            slicer.vtkMRMLSliceViewDisplayableManagerFactory,
        ):
            factory.GetInstance().SetMRMLApplicationLogic(logic)
        return logic

    def _startModule(self, name: str, logic: Any) -> None:
        logic.SetMRMLApplicationLogic(self._logic)  # before the scene: some logics use it while the scene is set
        logic.SetMRMLScene(self._scene)
        self._logic.SetModuleLogic(name, logic)
        if name == "Colors":
            self._logic.SetColorLogic(logic)
        setattr(self.modules, name.lower(), types.SimpleNamespace(name=name, logic=lambda: logic))

    def _startFileAccess(self) -> None:
        """Data I/O manager; without it the scene cannot read .mrb files."""
        cache = Path(self.temporaryPath, "RemoteIO")
        cache.mkdir()
        self._remoteIO = slicer.vtkMRMLRemoteIOLogic()
        self._remoteIO.SetMRMLScene(self._scene)
        self._remoteIO.GetCacheManager().SetRemoteCacheDirectory(str(cache))
        self._dataIO = slicer.vtkDataIOManagerLogic()
        self._dataIO.SetMRMLScene(self._scene)
        self._dataIO.SetMRMLApplicationLogic(self._logic)
        self._dataIO.SetAndObserveDataIOManager(self._remoteIO.GetDataIOManager())
        self._remoteIO.AddDataIOToScene()

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._scene

    def applicationLogic(self) -> Any:
        """The application logic, which knows the module, slice and view logics."""
        return self._logic

    def layoutManager(self) -> None:
        """There is no layout."""

    def topLevelWidgets(self) -> list[Any]:
        """There are no widgets."""
        return []

    def testingEnabled(self) -> bool:
        """Nothing here may ask the user."""
        return True

    def processEvents(self) -> None:
        """There is no event loop."""

    def pauseRender(self) -> None:
        """There are no views that render by themselves."""

    def resumeRender(self) -> None:
        """There are no views that render by themselves."""


class _HierarchyKeeper:
    """Keeps the subject hierarchy in step with the nodes, which Slicer leaves to a Qt class.

    Without it, removing a folder that holds nodes in subfolders never ends: ``RemoveItem`` relies on the item of a
    removed node being taken away by someone else.
    """

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        scene.AddObserver(scene.NodeAddedEvent, self._onNodeAdded)
        scene.AddObserver(scene.NodeAboutToBeRemovedEvent, self._onNodeAboutToBeRemoved)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, _caller: Any, _event: str, node: Any) -> None:
        wanted = not node.GetHideFromEditors() and any(node.IsA(name) for name in HIERARCHY_CLASSES)
        if wanted and not self._scene.IsBatchProcessing():
            hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAboutToBeRemoved(self, _caller: Any, _event: str, node: Any) -> None:
        if self._scene.IsBatchProcessing() or node.IsA("vtkMRMLSubjectHierarchyNode"):
            return
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.RemoveItem(item, False, False)
