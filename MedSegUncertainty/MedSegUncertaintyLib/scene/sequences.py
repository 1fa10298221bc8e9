"""The samples as a sequence, so that a slider can walk through them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import slicer

from MedSegUncertaintyLib.scene.folder import ROLE, NodeFolder
from MedSegUncertaintyLib.scene.grids import localGeometry
from MedSegUncertaintyLib.scene.segmentations import SURFACE_NETS, addSegment, maskImage, showOutlines

if TYPE_CHECKING:
    from MedSegUncertaintyLib.inference.result import InferenceResult


def addSampleSlider(folder: NodeFolder, result: InferenceResult, volumeNode: Any) -> Iterator[None]:
    """A sequence of samples "1" to "S", a browser for it, and the segmentation that shows the selected one.

    The selected sample is hidden at first, as the overview shows all of them. Yields after each sample.
    """
    sequence = folder.add("vtkMRMLSequenceNode", "Sample sequence", "sequence")
    sequence.SetIndexName("sample")
    sequence.SetIndexUnit("")
    sequence.SetIndexType(sequence.NumericIndex)
    for sample, labels in enumerate(result.samples):
        sequence.SetDataNodeAtValue(_sampleNode(labels, result, volumeNode), str(sample + 1))
        yield
    # The browser has to be removed before its proxy, or it makes a new one: so its item comes first.
    browser = folder.add("vtkMRMLSequenceBrowserNode", "Sample browser", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.SetOverwriteProxyName(sequence, False)
    browser.SetSaveChanges(sequence, False)
    browser.SetIndexDisplayFormat("%.0f")
    selected = browser.GetProxyNode(sequence)
    selected.SetName(folder.scene.GenerateUniqueName("Selected sample"))
    selected.CreateDefaultDisplayNodes()
    folder.adopt(selected, "selected")
    showOutlines(selected.GetDisplayNode(), thickness=2, opacity=1.0)
    selected.GetDisplayNode().SetVisibility(False)


def _sampleNode(labels: Any, result: InferenceResult, volumeNode: Any) -> slicer.vtkMRMLSegmentationNode:
    """One sample as a segmentation node outside any scene."""
    node, geometry = slicer.vtkMRMLSegmentationNode(), localGeometry(volumeNode)
    node.SetAttribute(ROLE, "selected")  # the proxy takes over the attributes of its item
    for structure in result.structures:
        image = maskImage(labels == structure.label, result.box.start_ijk, geometry)
        addSegment(node, image, structure.slug, structure.name, structure.color, structure)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    node.GetSegmentation().SetConversionParameter(*SURFACE_NETS)
    return node
