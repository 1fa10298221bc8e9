"""Contours, samples, the comparison of representatives and the slices to look at first."""

import numpy as np
import pytest
import slicer
import vtk
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.scene.comparison import (
    LAYOUT,
    VIEWS,
    compareSamples,
    isComparing,
    leaveComparison,
    representatives,
    showRegion,
)
from MedSegUncertaintyLib.scene.headless import saveScene
from MedSegUncertaintyLib.scene.nodes import addResult, findResults, removeResult
from MedSegUncertaintyLib.scene.overlay import showOverlay
from MedSegUncertaintyLib.scene.places import ALL, PLANES, jumpToSlice, sliceNodes, stepToSlice, uncertainPlaces
from MedSegUncertaintyLib.scene.rendering import SliceView, isRenderingAvailable
from MedSegUncertaintyLib.scene.surfaces import addSurfacesInSteps
from MedSegUncertaintyLib.scene.viewer import (
    hideSample,
    playSamples,
    sampleCount,
    showAllSamples,
    showContours,
    showSample,
    structureRows,
)
from vtk.util.numpy_support import vtk_to_numpy


@pytest.fixture
def nodes(scene, volume_node, blob_result):
    return addResult(blob_result, volume_node)


@pytest.fixture
def layout(scene):
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    logic.SetMRMLScene(scene)
    node = logic.GetLayoutNode()
    node.SetViewArrangement(node.SlicerLayoutFourUpView)
    yield node
    logic.SetMRMLScene(None)


def shown(nodes):
    return [nodes.byRole[role].GetDisplayNode().GetVisibility() for role in ("contours", "samples", "selected")]


def test_contours_are_what_is_seen_at_first(nodes):
    assert shown(nodes) == [1, 0, 0]


def test_the_slider_shows_one_sample(nodes, volume_node, blob_result):
    assert sampleCount(nodes) == 8
    showSample(nodes, 5)
    found = slicer.util.arrayFromSegmentBinaryLabelmap(nodes.selectedSample, "left_blob", volume_node)
    np.testing.assert_array_equal(found, blob_result.on_grid(blob_result.samples[5] == 1))
    assert shown(nodes) == [1, 0, 1]
    playSamples(nodes, True)
    assert nodes.browser.GetPlaybackActive()
    hideSample(nodes)
    assert not nodes.browser.GetPlaybackActive()
    assert shown(nodes) == [1, 0, 0]


def test_all_outlines_can_be_laid_over_each_other(nodes):
    showAllSamples(nodes, True, opacity=0.2)
    assert shown(nodes) == [1, 1, 0]
    assert nodes.samples.GetDisplayNode().GetOpacity2DOutline() == 0.2
    showAllSamples(nodes, False)
    assert shown(nodes) == [1, 0, 0]


def test_contours_are_shown_per_structure(nodes):
    left, right = nodes.structures
    showContours(nodes, inSlices=True, in3D=True)
    assert nodes.contours.GetSegmentation().ContainsRepresentation("Closed surface")
    showContours(nodes, inSlices=True, in3D=False, structure=left)
    showContours(nodes, inSlices=False, in3D=True, structure=right)
    display = nodes.contours.GetDisplayNode()
    seen = [
        (display.GetSegmentVisibility2DOutline(f"{slug}_{level}"), display.GetSegmentVisibility3D(f"{slug}_{level}"))
        for slug in ("left_blob", "right_blob")
        for level in ("05", "50", "95")
    ]
    assert seen == [(True, False)] * 3 + [(False, True)] * 3


def surfaces_of(nodes):
    """Points of every contour's surface, which is taken away."""
    segmentation, points = nodes.contours.GetSegmentation(), {}
    for segment in segmentation.GetSegmentIDs():
        surface = segmentation.GetSegment(segment).GetRepresentation("Closed surface")
        points[segment] = vtk_to_numpy(surface.GetPoints().GetData()) if surface.GetPoints() else None
    segmentation.RemoveRepresentation("Closed surface")
    return points


@pytest.mark.parametrize("shared", [False, True], ids=["a layer each", "shared layers"])
def test_surfaces_are_those_that_slicer_itself_makes(nodes, shared):
    segmentation = nodes.contours.GetSegmentation()
    if shared:  # as after loading
        segmentation.CollapseBinaryLabelmaps(False)
        assert segmentation.GetSegment("right_blob_50").GetLabelValue() == 2
    list(addSurfacesInSteps(nodes))
    own = surfaces_of(nodes)
    nodes.contours.CreateClosedSurfaceRepresentation()
    slicers = surfaces_of(nodes)
    assert len(own) == 6
    for segment, points in own.items():
        assert len(points) > 100
        np.testing.assert_allclose(points, slicers[segment], atol=1e-3)


def test_an_empty_contour_has_an_empty_surface(nodes):
    nodes.contours.GetSegmentation().GetSegment("left_blob_95").RemoveAllRepresentations()
    list(addSurfacesInSteps(nodes))
    own = surfaces_of(nodes)
    assert [segment for segment, points in own.items() if points is None] == ["left_blob_95"]


def test_rows_hold_the_numbers_of_the_summary(nodes, blob_result):
    for row, entry in zip(structureRows(nodes), blob_result.summary["structures"], strict=True):
        assert row.structure.name == entry["name"]
        assert row.mean_ml == entry["volume_ml"]["mean"]
        assert row.interval_ml == (entry["volume_ml"]["q05"], entry["volume_ml"]["q95"])
        assert row.mean_pairwise_dice == entry["mean_pairwise_dice"]
        assert row.boundary_entropy == entry["entropy_bits"]["in_boundary_band"]
        assert row.other_entropy == entry["entropy_bits"]["outside_boundary_band"]
        assert set(row.places) == set(PLANES)


def test_places_lie_in_the_slices_that_they_name(nodes, blob_result):
    geometry = blob_result.geometry
    for axis, plane in enumerate(("Sagittal", "Coronal", "Axial")):  # the grid is turned by 15 degrees about S
        for structure in (ALL, "Left blob", "Right blob"):
            places = uncertainPlaces(nodes, plane, structure)
            assert [place.rank for place in places] == list(range(1, len(places) + 1))
            for place in places:
                assert geometry.to_ijk(place.position)[axis] == pytest.approx(place.index)
    variance = blob_result.on_grid(blob_result.statistics.variance[0]).astype(np.float64)
    best = uncertainPlaces(nodes, "Axial", "Left blob")[0]
    assert variance[best.index].sum() > 0.9 * variance.sum(axis=(1, 2)).max()


def test_views_jump_to_uncertain_slices_and_step_through_them(scene, layout, nodes):
    places = uncertainPlaces(nodes, "Sagittal")
    assert len(places) > 1, "one per blob at least"
    (view,) = [node for node in sliceNodes(scene, "Sagittal") if node.GetLayoutName() == "Yellow"]

    def offset():
        return view.GetSliceToRAS().GetElement(0, 3)

    assert jumpToSlice(nodes, "Sagittal") == places[0]
    assert offset() == pytest.approx(places[0].position[0], abs=1e-6)
    assert stepToSlice(nodes, "Sagittal", 1) == places[1]
    assert offset() == pytest.approx(places[1].position[0], abs=1e-6)
    assert stepToSlice(nodes, "Sagittal", -1) == places[0]
    assert stepToSlice(nodes, "Sagittal", -1) == places[-1]
    view.SetSliceOffset(-500.0)
    assert stepToSlice(nodes, "Sagittal", 1) == places[0]


def test_places_follow_the_transform_of_the_volume(scene, layout, volume_node, nodes):
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "moved")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(2, 3, 40.0)
    transform.SetMatrixTransformToParent(matrix)
    for node in (volume_node, nodes.samples):
        node.SetAndObserveTransformNodeID(transform.GetID())
    place = jumpToSlice(nodes, "Axial")
    (view,) = [node for node in sliceNodes(scene, "Axial") if node.GetLayoutName() == "Red"]
    assert view.GetSliceToRAS().GetElement(2, 3) == pytest.approx(place.position[2] + 40.0)


def test_there_is_no_place_where_all_samples_are_equal(scene, volume_node, blob_result):
    blob_result.statistics.variance[:] = 0
    nodes = addResult(blob_result, volume_node)
    assert jumpToSlice(nodes, "Axial") is None
    assert stepToSlice(nodes, "Axial", 1) is None
    assert structureRows(nodes)[0].places == {}
    with pytest.raises(BadInputError, match="no plane 'axial'"):
        sliceNodes(scene, "axial")


def compared(nodes):
    """What each view of the comparison shows: background, samples."""
    found = {}
    for n in range(1, nodes.samples.GetNumberOfDisplayNodes()):
        display = nodes.samples.GetNthDisplayNode(n)
        view = nodes.scene.GetNodeByID(display.GetNthViewNodeID(0)).GetLayoutName()
        found[view] = sorted(display.GetVisibleSegmentIDs())
    return found


def test_representatives_are_side_by_side_and_everything_comes_back(scene, layout, volume_node, nodes, blob_result):
    showAllSamples(nodes, True)
    before = shown(nodes)
    chosen = compareSamples(nodes)
    names = blob_result.summary["representatives"]
    assert chosen["median"] == names["median_sample"] - 1
    assert [chosen["first"], chosen["second"]] == [number - 1 for number in names["most_different_samples"]]
    assert layout.GetViewArrangement() == LAYOUT
    assert shown(nodes) == [0, 0, 0]
    assert compared(nodes) == {
        VIEWS[view][0]: [f"sample_{sample + 1:02d}_left_blob", f"sample_{sample + 1:02d}_right_blob"]
        for view, sample in chosen.items()
    }
    for view, _, _ in VIEWS.values():
        (layers,) = [n for n in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode") if n.GetLayoutName() == view]
        assert layers.GetBackgroundVolumeID() == volume_node.GetID()
        assert layers.GetLinkedControl()
    assert isComparing(nodes)
    leaveComparison(nodes)
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpView
    assert shown(nodes) == before
    extra = [nodes.samples.GetNthDisplayNode(n) for n in range(1, nodes.samples.GetNumberOfDisplayNodes())]
    assert [display.GetVisibility() for display in extra] == [0, 0, 0]
    assert not isComparing(nodes)
    compareSamples(nodes)
    assert nodes.samples.GetNumberOfDisplayNodes() == 4
    assert [display.GetVisibility() for display in extra] == [1, 1, 1]


def test_the_comparison_survives_saving(scene, layout, nodes, tmp_path):
    showOverlay(nodes, "variance")
    compareSamples(nodes, "Coronal")
    wanted = compared(nodes)
    saveScene(tmp_path / "scene.mrb")
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    (nodes,) = findResults(scene)
    assert isComparing(nodes)
    assert compared(nodes) == wanted
    leaveComparison(nodes)
    assert scene.GetFirstNodeByClass("vtkMRMLLayoutNode").GetViewArrangement() == layout.SlicerLayoutFourUpView
    assert shown(nodes) == [1, 0, 0]


def test_removing_a_result_gives_the_views_back(scene, layout, volume_node, blob_result, nodes):
    compareSamples(nodes)  # makes the views of the layout, which stay as Slicer's own do
    leaveComparison(nodes)
    removeResult(nodes)
    before = {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}
    nodes = addResult(blob_result, volume_node)
    showOverlay(nodes, "agreement")
    compareSamples(nodes)
    removeResult(nodes)
    assert {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())} == before
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpView
    layers = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert not any(node.GetForegroundVolumeID() for node in layers)


def test_a_layout_chosen_in_the_meantime_stays(layout, nodes):
    compareSamples(nodes)
    layout.SetViewArrangement(layout.SlicerLayoutOneUp3DView)
    leaveComparison(nodes)
    assert layout.GetViewArrangement() == layout.SlicerLayoutOneUp3DView


def test_results_are_compared_one_at_a_time(layout, volume_node, blob_result, nodes):
    other = addResult(blob_result, volume_node)
    compareSamples(nodes)
    compareSamples(other)
    assert not isComparing(nodes)
    leaveComparison(other)
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpView


def test_comparing_needs_views_and_the_volume(scene, nodes, volume_node, request):
    layout_node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if layout_node is not None:
        scene.RemoveNode(layout_node)
    with pytest.raises(BadInputError, match="where there are views"):
        compareSamples(nodes)
    request.getfixturevalue("layout")
    scene.RemoveNode(volume_node)
    with pytest.raises(BadInputError, match="no longer in the scene"):
        compareSamples(nodes)
    assert shown(nodes) == [1, 0, 0]
    assert not isComparing(nodes)


@pytest.mark.skipif(not isRenderingAvailable(), reason="needs OpenGL (apt: libegl1 libgl1-mesa-dri)")
def test_every_view_of_the_comparison_draws_its_own_sample(layout, nodes, volume_node):
    """Samples of the blobs grow with their number, and so does what their outlines enclose."""
    volume_node.GetDisplayNode().SetVisibility(True)
    compareSamples(nodes)
    widths = {}
    for view, sample in representatives(nodes).items():
        with SliceView(VIEWS[view][0], "Axial", (300, 300)) as rendered:
            showRegion(nodes, rendered.node)
            jumpToSlice(nodes, "Axial")
            color = np.rint(255 * np.array(nodes.structures[0].color))
            near = np.abs(rendered.pixels().astype(int) - color).max(axis=-1) < 30
        widths[sample] = np.ptp(np.flatnonzero(near.any(axis=0)))
    assert [widths[sample] for sample in sorted(widths)] == sorted(set(widths.values()))
