"""What was found by example: written slice by slice, accepted without touching what was painted."""

import time

import numpy as np
import pytest
import slicer
from MedSegUncertaintyLib.scene.headless import saveScene
from MedSegUncertaintyLib.scene.prediction import (
    acceptSlices,
    addSegmentation,
    clearPrediction,
    predictedIndices,
    predictionOf,
    writeSlices,
)
from MedSegUncertaintyLib.scene.segment_slices import addToSlice, segmentSlice
from MedSegUncertaintyLib.scene.slice_places import SlicePlace
from MedSegUncertaintyLib.scene.supports import createSupports, supportsOf
from MedSegUncertaintyLib.scene.thumbnails import sharedWindow, thumbnail
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume

SHAPE = (10, 12, 14)  # K, J, I


@pytest.fixture
def supports(add_volume):
    geometry = Geometry.from_parts(SHAPE[::-1], (1.0, 1.0, 3.0))
    array = np.random.default_rng(0).normal(100, 10, SHAPE).astype(np.float32)
    made = createSupports(add_volume(Volume(array, geometry, "Head")))
    made.painted.GetSegmentation().AddEmptySegment("", "Second")
    return made


def found(supports, place):
    node, ids = predictionOf(supports), supports.segmentIds
    axis = supports.axis(place.plane)
    return [segmentSlice(node, one, supports.grid, axis, place.index) for one in ids]


def labels(*squares):
    """One axial slice per call of a label: (label, first row, first column), 3 x 3 pixels."""
    array = np.zeros((1, *SHAPE[1:]), np.uint8)
    for label, row, column in squares:
        array[0, row : row + 3, column : column + 3] = label
    return array


def paint(supports, segment_id, index, value=True):
    pixels = np.zeros(SHAPE[1:], bool)
    pixels[6:9, 6:9] = value
    addToSlice(supports.painted, segment_id, supports.grid, 2, index, pixels)
    return pixels


def test_slices_appear_one_by_one_and_are_replaced(supports):
    first, second = supports.segmentIds
    writeSlices(supports, (first, second), 0, (4,), labels((1, 2, 2), (2, 6, 6)))
    one, two = found(supports, SlicePlace("axial", 4))
    assert one[2:5, 2:5].all()
    assert two[6:9, 6:9].all()
    assert (one.sum(), two.sum()) == (9, 9)
    node = predictionOf(supports)
    image = node.GetBinaryLabelmapInternalRepresentation(first)
    writeSlices(supports, (second,), 0, (4, 6), np.concatenate([labels((1, 0, 0)), labels((1, 1, 1))]))
    assert node.GetBinaryLabelmapInternalRepresentation(first) is image
    one, two = found(supports, SlicePlace("axial", 4))
    assert not one.any()
    assert two[:3, :3].all()
    assert predictedIndices(supports, "axial") == [4, 6]
    assert supports.paintedIn("axial") == []
    clearPrediction(supports)
    assert predictedIndices(supports, "axial") == []


@pytest.mark.parametrize(("axis", "plane"), [(0, "axial"), (1, "coronal"), (2, "sagittal")])
def test_slices_lie_along_the_axis_that_is_given(supports, axis, plane):
    shape = [size for n, size in enumerate(SHAPE) if n != axis]
    slices = np.ones((2, *shape), np.uint8)
    writeSlices(supports, supports.segmentIds[:1], axis, (3, 7), slices)
    assert predictedIndices(supports, plane) == [3, 7]


def test_views_hear_of_every_slice(supports):
    heard = []
    writeSlices(supports, supports.segmentIds, 0, (4,), labels((1, 2, 2)))
    segmentation = predictionOf(supports).GetSegmentation()
    segmentation.AddObserver(segmentation.SourceRepresentationModified, lambda *_: heard.append(1))
    writeSlices(supports, supports.segmentIds, 0, (5,), labels((1, 2, 2)))
    assert heard


def test_structures_are_followed(supports):
    first, second = supports.segmentIds
    writeSlices(supports, (first, second), 0, (4,), labels((1, 2, 2), (2, 6, 6)))
    segmentation = supports.painted.GetSegmentation()
    segmentation.GetSegment(second).SetName("Spleen")
    third = segmentation.AddEmptySegment("", "Third")
    segmentation.RemoveSegment(first)
    writeSlices(supports, (third, first, second), 0, (5,), labels((1, 0, 0), (2, 3, 3), (3, 6, 6)))
    node = predictionOf(supports).GetSegmentation()
    assert [node.GetSegment(one).GetName() for one in node.GetSegmentIDs()] == ["Spleen", "Third"]
    spleen, own = found(supports, SlicePlace("axial", 5))
    assert (spleen.sum(), own.sum()) == (9, 9)
    assert found(supports, SlicePlace("axial", 4))[0].sum() == 9


def test_a_prediction_goes_on_after_loading(supports, scene, tmp_path):
    writeSlices(supports, supports.segmentIds, 0, (4,), labels((1, 2, 2), (2, 6, 6)))
    saveScene(tmp_path / "scene.mrb")
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    loaded = supportsOf(scene.GetFirstNodeByName("Head"))
    writeSlices(loaded, loaded.segmentIds, 0, (5,), labels((1, 2, 2)))
    assert predictedIndices(loaded, "axial") == [4, 5]
    assert [pixels.sum() for pixels in found(loaded, SlicePlace("axial", 4))] == [9, 9]


def test_accepting_leaves_painted_slices_alone(supports):
    first, second = supports.segmentIds
    writeSlices(supports, (first, second), 0, (4, 5), np.concatenate([labels((1, 2, 2))] * 2))
    pixels = paint(supports, second, 4)
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(supports.painted.GetSegmentation())
    history.SaveState()
    places = [SlicePlace("axial", index) for index in range(SHAPE[0])]
    assert acceptSlices(supports, supports.painted, "axial", range(SHAPE[0])) == [5]
    assert not supports.pixels(first, places[4]).any()
    np.testing.assert_array_equal(supports.pixels(second, places[4]), pixels)
    assert supports.pixels(first, places[5]).sum() == 9
    history.RestorePreviousState()
    assert supports.paintedIn("axial") == [4]
    assert supports.pixels(second, places[4]).sum() == 9


def test_accepting_into_another_segmentation_goes_by_names(supports):
    first, second = supports.segmentIds
    writeSlices(supports, (first, second), 0, (4,), labels((1, 2, 2), (2, 6, 6)))
    target = addSegmentation(supports, "Accepted")
    target.GetSegmentation().AddEmptySegment("own", "Second")
    assert acceptSlices(supports, target, "axial", [4, 7]) == [4]
    segmentation = target.GetSegmentation()
    assert sorted(segmentation.GetSegment(one).GetName() for one in segmentation.GetSegmentIDs()) == [
        "Second", "Structure 1",
    ]  # fmt: skip
    assert segmentSlice(target, "own", supports.grid, 2, 4).sum() == 9


def test_writing_a_slice_of_a_large_volume_takes_no_time_that_one_sees(add_volume):
    shape = (120, 512, 512)
    volume = add_volume(Volume(np.zeros(shape, np.int16), Geometry.from_parts(shape[::-1], (0.7, 0.7, 3)), "CT"))
    supports = createSupports(volume)
    slices = np.ones((1, 512, 512), np.uint8)
    writeSlices(supports, supports.segmentIds, 0, (0,), slices)
    start = time.process_time()
    for index in range(1, 21):
        writeSlices(supports, supports.segmentIds, 0, (index,), slices)
    assert (time.process_time() - start) / 20 < 0.03


def test_a_thumbnail_shows_the_outline_where_it_lies(supports):
    first, _second = supports.segmentIds
    paint(supports, first, 4)
    place = SlicePlace("axial", 4)
    picture = thumbnail(supports, place, sharedWindow(supports, [place], "axial"), 60)
    assert picture.shape == (60, 60, 3)
    color = np.rint(255 * np.array(supports.colors[first])).astype(int)
    rows, columns = np.nonzero((np.abs(picture.astype(int) - color).max(axis=2)) < 2)
    # Rows 6 to 8 of 12 and columns 6 to 8 of 14; RAS axes look up and to the left, so both are turned around.
    assert abs(rows.mean() - 29.5) < 1.5
    assert abs(columns.mean() - 29.5) < 1.5
    assert len(rows) > 20
    beyond = thumbnail(supports, place, sharedWindow(supports, [], "axial"), 60)
    assert beyond[0].max() == 0  # a slice is wider than high here
