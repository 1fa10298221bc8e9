"""From a volume node to its result in one call."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from MedSegUncertaintyLib.errors import CanceledError
from MedSegUncertaintyLib.inference import run
from MedSegUncertaintyLib.inference.progress import CancelToken
from MedSegUncertaintyLib.packages.store import ENVIRONMENT_VARIABLE
from MedSegUncertaintyLib.scene.run import segmentVolumeNode


@pytest.fixture(autouse=True)
def installed(package_folder, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(package_folder.parent))


def test_a_volume_node_is_segmented_in_its_region_of_interest(scene, volume_node, blob_result, monkeypatch):
    asked = []

    def segment(volume, request, *, channels, progress, cancel):
        asked.append((volume, request))
        return dataclasses.replace(blob_result, geometry=volume.geometry)

    monkeypatch.setattr(run, "segment", segment)
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    roi.SetCenter((1.0, 2.0, 3.0))
    roi.SetSize((10.0, 20.0, 30.0))
    nodes = segmentVolumeNode(volume_node, "two-blobs", samples=5, seed=7, roiNode=roi)
    ((volume, request),) = asked
    assert request.device == "auto"
    assert volume.name == "Two blobs"
    assert (request.package, request.samples, request.seed) == ("two-blobs", 5, 7)
    np.testing.assert_allclose(request.roi.center_ras, (1.0, 2.0, 3.0))
    np.testing.assert_allclose(request.roi.size_mm, (10.0, 20.0, 30.0))
    assert nodes.samples.GetSegmentation().GetNumberOfSegments() == 16


def test_no_region_of_interest_means_the_whole_volume(volume_node, blob_result, monkeypatch):
    asked = []
    monkeypatch.setattr(run, "segment", lambda volume, request, **_: asked.append(request) or blob_result)
    segmentVolumeNode(volume_node, "two-blobs")
    assert asked[0].roi is None


def test_device_progress_and_cancel_are_passed_on(volume_node, blob_result, monkeypatch):
    told, token = [], CancelToken()

    def segment(volume, request, *, channels, progress, cancel):
        assert request.device == "cpu"
        assert cancel is token
        progress("halfway")
        return blob_result

    monkeypatch.setattr(run, "segment", segment)
    segmentVolumeNode(volume_node, "two-blobs", device="cpu", progress=told.append, cancel=token)
    assert told == ["halfway"]


def test_a_wrong_name_is_answered_without_torch():
    code = """
import sys
sys.modules["torch"] = None
from MedSegUncertaintyLib.errors import PackageError
from MedSegUncertaintyLib.scene.run import segmentVolumeNode
try:
    segmentVolumeNode(None, "no-such-package")
except PackageError as error:
    assert "no-such-package" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_that_was_canceled_leaves_the_scene_as_it_was(scene, volume_node, monkeypatch):
    def segment(volume, request, *, channels, progress, cancel):
        raise CanceledError

    monkeypatch.setattr(run, "segment", segment)
    before = scene.GetNumberOfNodes()
    with pytest.raises(CanceledError):
        segmentVolumeNode(volume_node, "two-blobs")
    assert scene.GetNumberOfNodes() == before
