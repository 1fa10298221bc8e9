"""Scenes as files: what is saved comes back voxel by voxel."""

import numpy as np
import pytest
import slicer
from MedSegUncertaintyLib.scene.bundle import addVolume
from MedSegUncertaintyLib.scene.folder import hierarchyOf
from MedSegUncertaintyLib.scene.headless import ensureApplication, saveScene
from MedSegUncertaintyLib.scene.nodes import addResult, findResults, removeResult
from MedSegUncertaintyLib.volumes.geometry import Box, Geometry, Volume

TURNED = np.array([[0.8, -0.6, 0.0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]])


def segment_array(segmentation, segment, volume_node, shape):
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment, volume_node)
    return np.zeros(shape, np.uint8) if array is None else array


@pytest.fixture
def reloaded(scene, add_volume, result_on, tmp_path):
    geometry = Geometry.from_parts((12, 10, 8), (1.0, 1.1, 1.3), (-30.0, 12.5, 4.0), TURNED)
    volume = Volume(np.arange(960, dtype=np.int16).reshape(8, 10, 12), geometry, "CT")
    result = result_on(geometry, Box((1, 2, 3), (11, 9, 8)))
    addResult(result, addVolume(volume))
    saveScene(tmp_path / "scene.mrb")
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    (nodes,) = findResults(scene)
    return nodes, scene.GetFirstNodeByName("CT"), volume, result


def test_a_saved_scene_comes_back_voxel_by_voxel(reloaded):
    nodes, volume_node, volume, result = reloaded
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume_node), volume.array)
    shape = volume.geometry.shape_kji
    for sample, labels in enumerate(result.samples):
        nodes.browser.SetSelectedItemNumber(sample)
        for structure in result.structures:
            wanted = result.on_grid(labels == structure.label)
            segment = f"sample_{sample + 1:02d}_{structure.slug}"
            np.testing.assert_array_equal(segment_array(nodes.samples, segment, volume_node, shape), wanted)
            selected = segment_array(nodes.selectedSample, structure.slug, volume_node, shape)
            np.testing.assert_array_equal(selected, wanted)
    contour = segment_array(nodes.contours, "left_blob_05", volume_node, shape)
    np.testing.assert_array_equal(contour, result.on_grid(result.contour(0, 0.05)))
    variance = slicer.util.arrayFromVolume(nodes.maps["variance.right_blob"])
    np.testing.assert_array_equal(variance, result.statistics.variance[1])


def test_a_saved_scene_keeps_scales_tables_and_the_slider(reloaded):
    nodes, _, _, result = reloaded
    display = nodes.maps["entropy"].GetDisplayNode()
    assert display.GetWindowLevelMax() == pytest.approx(np.log2(3))
    assert display.GetColorNode().GetNumberOfColors() == 256
    assert set(nodes.legends) == set(nodes.maps)
    assert nodes.sequence.GetNumberOfDataNodes() == len(result.samples)
    assert nodes.browser.GetProxyNode(nodes.sequence) is nodes.selectedSample
    volumes = nodes.volumesTable.GetTable().GetColumnByName("Left blob (mL)")
    np.testing.assert_allclose(
        slicer.util.arrayFromTableColumn(nodes.volumesTable, volumes.GetName()), result.statistics.volumes_ml[:, 0]
    )
    assert nodes.chart.GetNthPlotSeriesNode(0).GetTableNode() is nodes.byRole["distribution"]


def test_a_saved_result_can_be_removed_with_its_storage_nodes(scene, volume_node, blob_result, tmp_path):
    saveScene(tmp_path / "before.mrb")
    before = {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}
    nodes = addResult(blob_result, volume_node)
    saveScene(tmp_path / "scene.mrb")
    removeResult(nodes)
    assert {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())} == before


def test_a_loaded_result_is_removed_alone_wherever_its_samples_were_moved(reloaded, scene):
    nodes, volume_node, _, _ = reloaded
    hierarchy = hierarchyOf(scene)
    samples = hierarchy.GetItemByDataNode(nodes.samples)
    hierarchy.SetItemParent(samples, hierarchy.GetSceneItemID())
    assert findResults(scene) == []
    hierarchy.SetItemParent(samples, hierarchy.CreateFolderItem(nodes.folder, "Mine"))
    (found,) = findResults(scene)
    assert found.folder == nodes.folder
    removeResult(found)
    assert findResults(scene) == []
    assert scene.GetNodeByID(volume_node.GetID()) is volume_node
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_a_file_that_cannot_be_written_is_an_error(scene, tmp_path):
    with pytest.raises(OSError, match="could not be written"):
        saveScene(tmp_path / "no such folder" / "scene.mrb")


def test_there_is_one_application(scene):
    assert ensureApplication() is ensureApplication()
    assert slicer.mrmlScene is scene


@pytest.mark.parametrize(("low", "high", "stored"), [(-(2**31), 2**31 - 1, np.int32), (-1, 2**31, np.float64)])
def test_whole_numbers_of_64_bits_keep_their_values(scene, low, high, stored):
    array = np.array([[[low, high]]], dtype=np.int64)
    node = addVolume(Volume(array, Geometry.from_parts((2, 1, 1), (1, 1, 1)), "numbers"))
    found = slicer.util.arrayFromVolume(node)
    assert found.dtype == stored
    np.testing.assert_array_equal(found, array)


KINDS = "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64"


@pytest.mark.parametrize("dtype", KINDS.split())
def test_every_kind_of_number_can_be_a_volume(scene, dtype):
    array = np.array([[[0, 1, 0], [1, 0, 1]]], dtype=dtype)
    node = addVolume(Volume(array, Geometry.from_parts((3, 2, 1), (1, 1, 1)), "numbers"))
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), array)
