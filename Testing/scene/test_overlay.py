"""Maps over the image: their values, what the views show, and that the views get back what they showed before."""

import dataclasses

import numpy as np
import pytest
import slicer
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.scene.headless import saveScene
from MedSegUncertaintyLib.scene.maps import MAP_KINDS
from MedSegUncertaintyLib.scene.nodes import addResult, findResults, removeResult
from MedSegUncertaintyLib.scene.overlay import (
    hideOverlay,
    mapNode,
    overlayChoices,
    overlayOpacity,
    setOverlayOpacity,
    shownOverlay,
    showOverlay,
    toggleOverlay,
)


def add_view(scene, name):
    composite = slicer.vtkMRMLSliceCompositeNode()
    composite.SetLayoutName(name)
    composite.SetSingletonTag(name)
    return scene.AddNode(composite)


@pytest.fixture
def views(scene):
    return [add_view(scene, name) for name in ("Red", "Green")]


def layers(view):
    return view.GetBackgroundVolumeID(), view.GetForegroundVolumeID(), view.GetForegroundOpacity()


def test_maps_that_are_made_when_asked_for_have_the_values_of_the_statistics(scene, volume_node, blob_result):
    nodes, statistics = addResult(blob_result, volume_node), blob_result.statistics
    left, right = nodes.structures
    wanted = [
        ("standard_deviation", left, np.sqrt(statistics.variance[0])),
        ("agreement", right, statistics.agreement[1]),
        ("variance", None, statistics.variance.max(axis=0)),
        ("agreement", None, statistics.agreement.max(axis=0)),
        ("entropy", None, statistics.entropy),
        ("mutual_information", None, statistics.mutual_information),
    ]
    for kind, structure, array in wanted:
        node = mapNode(nodes, kind, structure)
        np.testing.assert_allclose(slicer.util.arrayFromVolume(node), array, atol=1e-7)
        assert mapNode(nodes, kind, structure) is node
        display = node.GetDisplayNode()
        assert display.GetWindowLevelMax() == pytest.approx(MAP_KINDS[kind].maximum(3))
        assert display.GetColorNode().GetNumberOfColors() == 256


def test_every_kind_is_on_offer_with_its_meaning(scene, volume_node, blob_result):
    choices = overlayChoices(addResult(blob_result, volume_node))
    assert {choice.kind for choice in choices} == set(MAP_KINDS)
    assert all(choice.meaning.endswith(".") and not choice.missing for choice in choices)
    assert {choice.kind for choice in choices if not choice.perStructure} == {"entropy", "mutual_information"}


def test_maps_that_say_nothing_are_not_on_offer_and_say_why(scene, volume_node, blob_result):
    masks = dataclasses.replace(
        blob_result.statistics, expected_entropy=np.zeros_like(blob_result.statistics.expected_entropy)
    )
    nodes = addResult(dataclasses.replace(blob_result, statistics=masks), volume_node)
    missing = {choice.kind: choice.missing for choice in overlayChoices(nodes) if choice.missing}
    assert set(missing) == {"mutual_information"}
    assert "equals the entropy" in missing["mutual_information"]
    with pytest.raises(BadInputError, match="equals the entropy"):
        showOverlay(nodes, "mutual_information")


def test_maps_that_were_not_kept_say_so(scene, volume_node, blob_result, views):
    nodes = addResult(blob_result, volume_node, maps=("entropy",))
    missing = {choice.kind for choice in overlayChoices(nodes) if choice.missing}
    assert missing == {"variance", "standard_deviation", "mutual_information", "mean"}
    before = [layers(view) for view in views]
    with pytest.raises(BadInputError, match=r"Standard deviation cannot be shown\. It was not kept"):
        showOverlay(nodes, "standard_deviation")
    assert [layers(view) for view in views] == before


def test_one_sample_has_no_spread_to_show(scene, volume_node, result_on, blob_volume):
    nodes = addResult(result_on(blob_volume.geometry, samples=1), volume_node)
    offered = {choice.kind for choice in overlayChoices(nodes) if not choice.missing}
    assert offered == {"entropy", "mean"}


def test_the_foreground_of_every_view_comes_back(scene, volume_node, blob_result, views, add_volume, blob_volume):
    other = add_volume(blob_volume)
    views[0].SetBackgroundVolumeID(volume_node.GetID())
    views[0].SetForegroundVolumeID(other.GetID())
    views[0].SetForegroundOpacity(0.3)
    before = [layers(view) for view in views]
    nodes = addResult(blob_result, volume_node)
    showOverlay(nodes, "variance", nodes.structures[0], opacity=0.5)
    shown = showOverlay(nodes, "entropy")
    assert [view.GetForegroundVolumeID() for view in views] == [shown.GetID()] * 2
    assert [view.GetForegroundOpacity() for view in views] == [0.5, 0.5]
    assert [view.GetBackgroundVolumeID() for view in views] == [volume_node.GetID(), None]
    hideOverlay(nodes)
    assert [layers(view) for view in views] == before


def test_one_function_switches_the_map_on_and_off(scene, volume_node, blob_result, views):
    nodes = addResult(blob_result, volume_node)
    assert toggleOverlay(nodes)
    assert shownOverlay(nodes) == "variance"
    showOverlay(nodes, "mean", nodes.structures[1], opacity=0.4)
    assert not toggleOverlay(nodes)
    assert shownOverlay(nodes) is None
    assert toggleOverlay(nodes)
    assert shownOverlay(nodes) == "mean.right_blob"
    assert overlayOpacity(nodes) == 0.4
    setOverlayOpacity(nodes, 0.9)
    assert views[1].GetForegroundOpacity() == 0.9


def test_only_the_legend_of_the_shown_map_is_seen(scene, volume_node, blob_result, views):
    nodes = addResult(blob_result, volume_node)
    for kind, structure in (("variance", nodes.structures[0]), ("agreement", None)):
        showOverlay(nodes, kind, structure)
        assert [key for key, legend in nodes.legends.items() if legend.GetVisibility()] == [shownOverlay(nodes)]
    hideOverlay(nodes)
    assert not any(legend.GetVisibility() for legend in nodes.legends.values())


def test_results_take_turns(scene, volume_node, blob_result, views):
    one, other = addResult(blob_result, volume_node), addResult(blob_result, volume_node)
    showOverlay(one, "variance")
    showOverlay(other, "entropy")
    assert (shownOverlay(one), shownOverlay(other)) == (None, "entropy")
    hideOverlay(one)
    assert shownOverlay(other) == "entropy"
    removeResult(other)
    assert [view.GetForegroundVolumeID() for view in views] == [None, None]


def test_a_foreground_chosen_by_hand_is_left_alone(scene, volume_node, blob_result, views):
    nodes = addResult(blob_result, volume_node)
    showOverlay(nodes, "variance")
    views[0].SetForegroundVolumeID(volume_node.GetID())
    hideOverlay(nodes)
    assert [view.GetForegroundVolumeID() for view in views] == [volume_node.GetID(), None]


def test_a_saved_scene_goes_on_where_it_was(scene, volume_node, blob_result, views, tmp_path):
    views[0].SetForegroundVolumeID(volume_node.GetID())
    views[0].SetForegroundOpacity(0.25)
    nodes = addResult(blob_result, volume_node)
    showOverlay(nodes, "agreement", nodes.structures[0], opacity=0.6)
    saveScene(tmp_path / "scene.mrb")
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    (nodes,) = findResults(scene)
    (red,) = [
        view for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode") if view.GetLayoutName() == "Red"
    ]
    assert shownOverlay(nodes) == "agreement.left_blob"
    assert red.GetForegroundOpacity() == 0.6
    # The samples share layers after loading.
    agreement = slicer.util.arrayFromVolume(mapNode(nodes, "agreement", nodes.structures[1]))
    np.testing.assert_allclose(agreement, blob_result.statistics.agreement[1])
    assert not toggleOverlay(nodes)
    assert red.GetForegroundVolumeID() == nodes.inputVolume.GetID() == scene.GetFirstNodeByName("Two blobs").GetID()
    assert red.GetForegroundOpacity() == 0.25
