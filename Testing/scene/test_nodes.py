"""What a result becomes in the scene, voxel by voxel, and that nothing stays when it goes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import slicer
import vtk
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.outputs.appearance import contour_id, sample_id
from MedSegUncertaintyLib.scene import nodes as nodes_module
from MedSegUncertaintyLib.scene.folder import hierarchyOf
from MedSegUncertaintyLib.scene.grids import localGeometry
from MedSegUncertaintyLib.scene.maps import DEFAULT_MAPS
from MedSegUncertaintyLib.scene.nodes import ResultNodes, addResult, findResults, removeResult, removeResultInSteps
from MedSegUncertaintyLib.scene.overlay import mapNode
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS
from MedSegUncertaintyLib.volumes.geometry import Box, Geometry, Volume

OBLIQUE = np.array([[0.8, -0.6, 0.0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]])
ROUNDED = np.array([[0.966, -0.25, 0.067], [0.259, 0.933, -0.25], [0.0, 0.259, 0.966]])
"""Three decimals, as some files have them: off the right angle by 0.0002."""

GRIDS = {
    "oblique": Geometry.from_parts((9, 8, 7), (1.0, 1.1, 1.3), (-30.0, 12.5, 4.0), OBLIQUE),
    "flipped": Geometry.from_parts((9, 8, 7), (1.0, 1.0, 1.0), (5.0, 6.0, 7.0), np.diag([-1.0, -1.0, 1.0])),
    "left-handed": Geometry.from_parts((9, 8, 7), (1.0, 2.0, 1.0), (5.0, 6.0, 7.0), np.diag([1.0, 1.0, -1.0])),
    "anisotropic": Geometry.from_parts((9, 8, 5), (0.4, 0.4, 6.5)),
    "permuted": Geometry.from_parts((9, 8, 7), (1.0, 1.2, 1.4), (0.0, 0.0, 0.0), np.eye(3)[:, [2, 0, 1]]),
    "rounded cosines": Geometry.from_parts((9, 8, 7), (1.0, 1.1, 1.3), (-30.0, 12.5, 4.0), ROUNDED),
    "single slice": Geometry.from_parts((9, 8, 1), (1.0, 1.0, 3.0)),
}


def node_ids(scene):
    return {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}


def volume_on(geometry):
    return Volume(np.arange(np.prod(geometry.shape_kji), dtype=np.int16).reshape(geometry.shape_kji), geometry, "CT")


def samples_match(nodes, volume_node, result):
    for sample, labels in enumerate(result.samples):
        for structure in result.structures:
            segment = sample_id(sample, structure)
            found = slicer.util.arrayFromSegmentBinaryLabelmap(nodes.samples, segment, volume_node)
            wanted = result.on_grid(labels == structure.label)
            np.testing.assert_array_equal(np.zeros_like(wanted) if found is None else found, wanted, err_msg=segment)


def contours_match(nodes, volume_node, result):
    for index, structure in enumerate(result.structures):
        for level in CONTOUR_LEVELS:
            found = slicer.util.arrayFromSegmentBinaryLabelmap(
                nodes.contours, contour_id(structure, level), volume_node
            )
            wanted = result.on_grid(result.contour(index, level))
            np.testing.assert_array_equal(np.zeros_like(wanted) if found is None else found, wanted)


def maps_match(nodes, result, box_geometry):
    for index, name in enumerate(("left_blob", "right_blob")):
        np.testing.assert_array_equal(
            slicer.util.arrayFromVolume(nodes.maps[f"mean.{name}"]), result.statistics.mean[index]
        )
        np.testing.assert_array_equal(
            slicer.util.arrayFromVolume(nodes.maps[f"variance.{name}"]), result.statistics.variance[index]
        )
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(nodes.maps["entropy"]), result.statistics.entropy)
    for node in nodes.maps.values():
        assert localGeometry(node).matches(box_geometry, 1e-6)
        assert slicer.util.arrayFromVolume(node).dtype == np.float32


@pytest.mark.parametrize("grid", GRIDS)
def test_every_voxel_is_where_it_was_on_any_grid(scene, add_volume, result_on, grid):
    geometry = GRIDS[grid]
    box = Box((1, 2, 0), (8, 8, geometry.shape_ijk[2]))
    volume_node = add_volume(volume_on(geometry))
    result = result_on(geometry, box)
    nodes = addResult(result, volume_node)
    samples_match(nodes, volume_node, result)
    contours_match(nodes, volume_node, result)
    maps_match(nodes, result, geometry.cropped(box))
    for sample, labels in enumerate(result.samples):
        nodes.browser.SetSelectedItemNumber(sample)
        found = slicer.util.arrayFromSegmentBinaryLabelmap(nodes.selectedSample, "left_blob", volume_node)
        np.testing.assert_array_equal(found, result.on_grid(labels == 1))


def test_samples_overlap_as_layers_cropped_to_their_voxels(scene, volume_node, blob_result):
    segmentation = addResult(blob_result, volume_node).samples.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 16
    assert segmentation.GetNumberOfLayers() == 16
    image = segmentation.GetSegment("sample_01_left_blob").GetRepresentation("Binary labelmap")
    voxels = np.argwhere(blob_result.on_grid(blob_result.samples[0] == 1))[:, ::-1]
    np.testing.assert_array_equal(np.reshape(image.GetExtent(), (3, 2)).T, [voxels.min(axis=0), voxels.max(axis=0)])


def tag(segment, name):
    value = vtk.reference("")
    assert segment.GetTag(name, value)
    return str(value)


def test_segments_say_what_they_are(scene, volume_node, blob_result):
    nodes = addResult(blob_result, volume_node)
    structure = blob_result.structures[0]
    sample = nodes.samples.GetSegmentation().GetSegment("sample_03_left_blob")
    median = nodes.contours.GetSegmentation().GetSegment("left_blob_50")
    selected = nodes.selectedSample.GetSegmentation().GetSegment("left_blob")
    for segment in (sample, median, selected):
        assert tag(segment, segment.GetTerminologyEntryTagName()) == structure.terminology_entry()
    assert sample.GetName() == "Sample 3: Left blob"
    names = [nodes.contours.GetSegmentation().GetNthSegment(n).GetName() for n in range(3)]
    assert names == ["Left blob: 95 % of samples", "Left blob: 50 % of samples", "Left blob: 5 % of samples"]
    np.testing.assert_allclose(median.GetColor(), structure.color, atol=1e-6)


def test_shades_tell_samples_and_levels_apart(scene, volume_node, blob_result):
    nodes = addResult(blob_result, volume_node)
    for segmentation, structure_segments in ((nodes.samples, 8), (nodes.contours, 3)):
        segments = segmentation.GetSegmentation()
        colors = [
            segments.GetNthSegment(n).GetColor()
            for n in range(segments.GetNumberOfSegments())
            if "Left" in segments.GetNthSegment(n).GetName()
        ]
        assert len(set(colors)) == structure_segments
        assert all(0.0 <= channel <= 1.0 for color in colors for channel in color)


def test_segments_are_outlines(scene, volume_node, blob_result):
    nodes = addResult(blob_result, volume_node)
    samples, contours = nodes.samples.GetDisplayNode(), nodes.contours.GetDisplayNode()
    assert not samples.GetVisibility2DFill()
    assert not contours.GetVisibility2DFill()
    assert samples.GetSliceIntersectionThickness() < contours.GetSliceIntersectionThickness()
    assert samples.GetOpacity2DOutline() < contours.GetOpacity2DOutline()
    opacities = [contours.GetSegmentOpacity3D(f"left_blob_{level}") for level in ("05", "50", "95")]
    assert opacities == sorted(opacities)
    assert opacities[0] < opacities[2] == 1.0
    assert not nodes.selectedSample.GetDisplayNode().GetVisibility()


def test_an_empty_sample_stays_as_an_empty_segment(scene, add_volume, result_on):
    geometry = GRIDS["oblique"]
    volume_node = add_volume(volume_on(geometry))
    result = result_on(geometry)
    assert not result.samples[2].any()
    nodes = addResult(result, volume_node)
    segment = nodes.samples.GetSegmentation().GetSegment("sample_03_right_blob")
    assert segment.GetRepresentation("Binary labelmap").IsEmpty()
    nodes.browser.SetSelectedItemNumber(2)
    shown = nodes.selectedSample.GetSegmentation().GetSegment("right_blob")
    assert shown.GetRepresentation("Binary labelmap").IsEmpty()


@pytest.mark.parametrize(
    ("key", "maximum"),
    [
        ("mean.left_blob", 1.0),
        ("variance.right_blob", 0.25),
        ("standard_deviation.left_blob", 0.5),
        ("entropy", np.log2(3)),
        ("mutual_information", np.log2(3)),
    ],
)
def test_maps_have_a_fixed_scale(scene, volume_node, blob_result, key, maximum):
    nodes = addResult(blob_result, volume_node, maps=(*DEFAULT_MAPS, "standard_deviation"))
    display, legend = nodes.maps[key].GetDisplayNode(), nodes.legends[key]
    assert not display.GetAutoWindowLevel()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((0.0, maximum))
    assert display.GetApplyThreshold()
    assert 0.0 < display.GetLowerThreshold() < 0.1 * maximum
    colors = display.GetColorNode()
    assert colors.GetNumberOfColors() == 256
    assert [float(colors.GetColorName(n)) for n in (0, 255)] == pytest.approx([0.0, maximum], abs=1e-4)
    assert not legend.GetVisibility()
    assert f"0-{maximum:.3g}" in legend.GetTitleText()
    assert slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(nodes.maps[key]) is legend


def test_maps_of_a_kind_share_their_colors(scene, volume_node, blob_result):
    maps = addResult(blob_result, volume_node).maps
    tables = {key: node.GetDisplayNode().GetColorNodeID() for key, node in maps.items()}
    assert tables["variance.left_blob"] == tables["variance.right_blob"] != tables["mean.left_blob"]


def test_only_the_maps_asked_for(scene, volume_node, blob_result):
    assert set(addResult(blob_result, volume_node, maps=("entropy",)).maps) == {"entropy"}


def test_the_slider_walks_through_the_samples(scene, volume_node, blob_result):
    nodes = addResult(blob_result, volume_node)
    assert [nodes.sequence.GetNthIndexValue(n) for n in range(8)] == [str(n) for n in range(1, 9)]
    assert nodes.sequence.GetIndexName() == "sample"
    nodes.selectedSample.GetDisplayNode().SetVisibility(True)
    for sample, labels in enumerate(blob_result.samples):
        nodes.browser.SetSelectedItemNumber(sample)
        found = slicer.util.arrayFromSegmentBinaryLabelmap(nodes.selectedSample, "left_blob", volume_node)
        np.testing.assert_array_equal(found, blob_result.on_grid(labels == 1))
        assert nodes.selectedSample.GetDisplayNode().GetVisibility(), "the slider must not change what is shown"
        assert not nodes.selectedSample.GetDisplayNode().GetVisibility2DFill()


def test_all_nodes_lie_in_one_folder_beside_the_volume(scene, volume_node, blob_result):
    hierarchy = hierarchyOf(scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume_node), patient)
    nodes = addResult(blob_result, volume_node)
    assert hierarchy.GetItemName(nodes.folder) == "Two blobs - Two blobs"
    assert hierarchy.GetItemParent(nodes.folder) == patient
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, False)
    assert items.GetNumberOfIds() == 1


@pytest.mark.parametrize("by_hand", [False, True], ids=["removeResult", "folder removed by hand"])
def test_removing_a_result_leaves_the_scene_as_before(scene, volume_node, blob_result, by_hand):
    other = addResult(blob_result, volume_node)
    before = node_ids(scene)
    nodes = addResult(blob_result, volume_node)
    assert node_ids(scene) != before
    if by_hand:
        hierarchyOf(scene).RemoveItem(nodes.folder)
    else:
        removeResult(nodes)
    assert node_ids(scene) == before
    samples_match(other, volume_node, blob_result)


def test_a_result_that_is_being_removed_is_none(scene, volume_node, blob_result):
    before = node_ids(scene)
    nodes = addResult(blob_result, volume_node)
    steps = removeResultInSteps(nodes)
    assert findResults(scene) == []
    with pytest.raises(BadInputError, match="is not the folder of a result"):
        removeResult(nodes)
    left = [len(node_ids(scene)) for _ in steps]
    assert left == sorted(left, reverse=True)
    assert node_ids(scene) == before


def test_a_scene_is_closed_while_a_result_is_being_removed(scene, volume_node, blob_result):
    steps = removeResultInSteps(addResult(blob_result, volume_node))
    next(steps)
    scene.Clear(0)
    assert list(steps) == []


def test_only_the_folder_of_a_result_is_removed(scene, volume_node, blob_result):
    nodes = addResult(blob_result, volume_node)
    hierarchy = hierarchyOf(scene)
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(nodes.samples), hierarchy.GetSceneItemID())
    mine = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Mine")
    before = node_ids(scene)
    for item in (hierarchy.GetSceneItemID(), mine):
        with pytest.raises(BadInputError, match="is not the folder of a result"):
            removeResult(ResultNodes.fromFolder(scene, item))
    assert node_ids(scene) == before
    assert hierarchy.GetItemName(mine) == "Mine"


def test_samples_moved_into_another_result_do_not_double_that(scene, volume_node, blob_result):
    one, other = addResult(blob_result, volume_node), addResult(blob_result, volume_node)
    assert [nodes.folder for nodes in findResults(scene)] == [one.folder, other.folder]
    hierarchy = hierarchyOf(scene)
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(one.samples), other.folder)
    assert [nodes.folder for nodes in findResults(scene)] == [other.folder]


def test_the_input_is_not_changed(scene, volume_node, blob_result):
    def state():
        display = volume_node.GetDisplayNode()
        return str(volume_node), str(display), volume_node.GetImageData().GetMTime()

    volume_node.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    before = state()
    nodes = addResult(blob_result, volume_node)
    nodes.browser.SetSelectedItemNumber(3)
    removeResult(nodes)
    assert state() == before


def test_a_result_of_another_grid_is_refused(scene, add_volume, blob_volume, blob_result):
    shifted = np.array(blob_volume.geometry.ijk_to_ras)
    shifted[0, 3] += 0.5
    node = add_volume(Volume(blob_volume.array, Geometry(blob_volume.geometry.shape_ijk, shifted), "shifted"))
    before = node_ids(scene)
    with pytest.raises(BadInputError, match="another voxel grid"):
        addResult(blob_result, node)
    assert node_ids(scene) == before


def test_a_failure_on_the_way_leaves_nothing_behind(scene, volume_node, blob_result, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(nodes_module, "addTables", fail)
    before = node_ids(scene)
    with pytest.raises(MemoryError):
        addResult(blob_result, volume_node)
    assert node_ids(scene) == before


def test_nodes_say_what_kind_of_samples_they_show(scene, volume_node, blob_result):
    assert addResult(blob_result, volume_node).sampleKind == "model samples"
    package = replace(blob_result.package, family="selfreg", arguments={"samples": "augmentation"})
    nodes = addResult(replace(blob_result, package=package), volume_node)
    assert nodes.sampleKind == "test-time augmentation"
    assert nodes.samples.GetName() == "Test-time augmentation"
    assert nodes.chart.GetTitle() == "Spread of test-time augmentation: volumes, smallest to largest"
    for node in (nodes.samples, nodes.contours, nodes.selectedSample, nodes.summaryTable, *nodes.maps.values()):
        assert node.GetDescription().startswith("Intervals are the spread of test-time augmentation, not calibrated")
    later = mapNode(nodes, "standard_deviation", nodes.structures[0])
    assert later.GetDescription() == nodes.samples.GetDescription()


def test_a_result_of_an_earlier_version_shows_samples_of_a_model(scene, volume_node, blob_result):
    nodes = addResult(blob_result, volume_node)
    record = nodes.run
    del record["summary"]["sample_kind"]
    nodes.record.SetText(json.dumps(record))
    assert nodes.sampleKind == "model samples"
