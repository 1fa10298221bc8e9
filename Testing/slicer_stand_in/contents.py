"""What a scene holds, to be compared: a test that says that a scene is as before compares this."""

import hashlib
import json
from typing import Any

import slicer
import vtk
from vtk.util import numpy_support

Content = dict[str, tuple[str, str, str, str]]


def sceneContent() -> Content:
    """Every node by its ID: class, name, a hash of the attributes that are saved, and one of its voxels."""
    scene, found = slicer.mrmlScene, {}
    for node in (scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())):
        found[node.GetID()] = (node.GetClassName(), node.GetName(), _hash(_attributes(node)), _hash(*_voxels(node)))
    return found


def _attributes(node: Any) -> bytes:
    """References and attributes, and for nodes that decide what views show, that."""
    roles = [node.GetNthNodeReferenceRole(n) for n in range(node.GetNumberOfNodeReferenceRoles())]
    said: dict[str, Any] = {
        "references": {role: [node.GetNthNodeReferenceID(role, n) for n in range(node.GetNumberOfNodeReferences(role))]
                       for role in sorted(filter(None, roles))},
        "attributes": {name: node.GetAttribute(name) for name in sorted(node.GetAttributeNames())},
    }  # fmt: skip
    if node.IsA("vtkMRMLScriptedModuleNode"):
        said["parameters"] = {name: node.GetParameter(name) for name in sorted(node.GetParameterNames())}
    for getter in ("GetForegroundVolumeID", "GetBackgroundVolumeID", "GetForegroundOpacity", "GetVisibility",
                   "GetViewArrangement", "GetText"):  # fmt: skip
        if hasattr(node, getter):
            said[getter] = getattr(node, getter)()
    return json.dumps(said, sort_keys=True, default=str).encode()


def _voxels(node: Any) -> list[bytes]:
    if node.IsA("vtkMRMLSegmentationNode"):
        ids = node.GetSegmentation().GetSegmentIDs()
        images = [node.GetBinaryLabelmapInternalRepresentation(segmentId) for segmentId in ids]
        return [segmentId.encode() for segmentId in ids] + [part for image in images for part in _image(image)]
    if node.IsA("vtkMRMLVolumeNode"):
        return [*_image(node.GetImageData()), slicer.util.arrayFromVTKMatrix(_toWorld(node)).tobytes()]
    return []


def _image(image: Any) -> list[bytes]:
    scalars = image and image.GetPointData().GetScalars()
    return [numpy_support.vtk_to_numpy(scalars).tobytes(), repr(image.GetExtent()).encode()] if scalars else []


def _toWorld(volumeNode: Any) -> Any:
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return matrix


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]
