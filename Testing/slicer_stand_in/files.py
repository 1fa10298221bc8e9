"""Reading and writing nodes and scenes, by Slicer's own storage nodes."""

from pathlib import Path
from typing import Any

import qt
import slicer
from PySide6.QtCore import Signal

from slicer_stand_in.attributes import standIn

FILE_TYPES = {
    ".seg.nrrd": "SegmentationFile", ".seq.nrrd": "SequenceFile", ".nrrd": "VolumeFile", ".nii.gz": "VolumeFile",
    ".nii": "VolumeFile", ".mha": "VolumeFile", ".mhd": "VolumeFile", ".tsv": "TableFile", ".csv": "TableFile",
    ".mrk.json": "MarkupsFile", ".stl": "ModelFile", ".vtp": "ModelFile", ".mrb": "SceneFile", ".mrml": "SceneFile",
}  # fmt: skip
NODE_CLASSES = {
    "SegmentationFile": "vtkMRMLSegmentationNode", "TableFile": "vtkMRMLTableNode", "ModelFile": "vtkMRMLModelNode",
    "SequenceFile": "vtkMRMLSequenceNode",
}  # fmt: skip


@standIn()
class qSlicerCoreIOManager(qt.QObject):
    """Chooses a storage node by the file's extension alone; Slicer's own choice looks deeper."""

    newFileLoaded = Signal(object)
    fileSaved = Signal(object)

    def fileType(self, path: str) -> str:
        """Type of a file, by its extension."""
        extension = next((known for known in FILE_TYPES if str(path).lower().endswith(known)), "")
        return FILE_TYPES.get(extension, "NoFile")

    def loadNodes(self, fileType: str, properties: dict, loaded: Any = None, messages: Any = None) -> bool:
        """Read a file into the scene; what was read goes into the collection ``loaded``."""
        path = str(properties["fileName"])
        if fileType == "SceneFile":
            return _readScene(path, clear=properties.get("clear", False))
        name = properties.get("name") or Path(path).name.split(".")[0]
        if fileType == "VolumeFile":
            node = slicer.app.moduleLogic("Volumes").AddArchetypeVolume(path, name, int(properties.get("labelmap", 0)))
        elif fileType == "MarkupsFile":
            node = slicer.mrmlScene.GetNodeByID(slicer.app.moduleLogic("Markups").LoadMarkups(path, name) or "")
        else:
            node = _readNode(NODE_CLASSES[fileType], path, name)
        if node is None:
            return False
        if loaded is not None:
            loaded.AddItem(node)
        self.newFileLoaded.emit(properties)
        return True

    def saveNodes(self, fileType: str, properties: dict, messages: Any = None) -> bool:
        """Write a node, or the scene."""
        path = str(Path(properties["fileName"]).absolute())
        if fileType == "SceneFile":
            return _writeScene(path)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(path)
        node.GetStorageNode().SetUseCompression(int(properties.get("useCompression", True)))
        return bool(node.GetStorageNode().WriteData(node))

    def fileWriterFileType(self, node: Any) -> str:
        """Type of the files that a node is written to."""
        return next((kind for kind, name in NODE_CLASSES.items() if node.IsA(name)), "VolumeFile")


def _readNode(className: str, path: str, name: str) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass(className, name)
    node.AddDefaultStorageNode(path)
    if not node.GetStorageNode().ReadData(node):
        slicer.mrmlScene.RemoveNode(node.GetStorageNode())
        slicer.mrmlScene.RemoveNode(node)
        return None
    if hasattr(node, "CreateDefaultDisplayNodes"):
        node.CreateDefaultDisplayNodes()
    return node


def _readScene(path: str, clear: bool) -> bool:
    scene = slicer.mrmlScene
    if path.endswith(".mrb"):
        return bool(scene.ReadFromMRB(path, clear))
    scene.SetURL(path)
    return bool(scene.Connect() if clear else scene.Import())


def _writeScene(path: str) -> bool:
    scene = slicer.mrmlScene
    if path.endswith(".mrb"):
        return bool(scene.WriteToMRB(path))
    scene.SetURL(path)
    scene.SetRootDirectory(str(Path(path).parent))
    return bool(scene.Commit(path))
