"""Examples as nodes: what counts, where it lies, and that nothing painted is lost."""

import numpy as np
import pytest
import slicer
import vtk
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.scene.headless import saveScene
from MedSegUncertaintyLib.scene.kept_volumes import KeptVolumes
from MedSegUncertaintyLib.scene.segment_slices import addToSlice
from MedSegUncertaintyLib.scene.slice_places import ObliqueViewError, SlicePlace, alignView, placeInView, showPlace
from MedSegUncertaintyLib.scene.support_requests import ask
from MedSegUncertaintyLib.scene.support_table import OWN
from MedSegUncertaintyLib.scene.supports import FORMAT, createSupports, findSupports, supportsOf
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume
from vtk.util import numpy_support

SHAPE = (10, 12, 14)  # K, J, I


@pytest.fixture
def volume_node(add_volume):
    """Axes that are flipped and permuted against RAS: K runs to the left, J down, I forward."""
    direction = np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]], dtype=float)
    geometry = Geometry.from_parts(SHAPE[::-1], (0.5, 0.75, 3.0), (10.0, -20.0, 30.0), direction)
    array = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    return add_volume(Volume(array, geometry, "Head"))


@pytest.fixture
def supports(volume_node):
    return createSupports(volume_node)


def add_structure(supports, name):
    return supports.painted.GetSegmentation().AddEmptySegment("", name)


def paint(supports, place, segment=0, rows=slice(2, 6), columns=slice(3, 8)):
    """Fill a rectangle of a slice; returns its pixels."""
    segment_id = supports.segmentIds[segment]
    pixels = np.zeros_like(supports.pixels(segment_id, place))
    pixels[rows, columns] = True
    addToSlice(supports.painted, segment_id, supports.grid, supports.axis(place.plane), place.index, pixels)
    return pixels


def erase(supports, segment=0):
    image = supports.painted.GetBinaryLabelmapInternalRepresentation(supports.segmentIds[segment])
    numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())[:] = 0
    image.Modified()


def table_rows(supports):
    table = supports.table.GetTable()
    titles = [table.GetColumn(n).GetName() for n in range(table.GetNumberOfColumns())]
    return [
        {title: table.GetColumnByName(title).GetValue(row) for title in titles}
        for row in range(table.GetNumberOfRows())
    ]


SAGITTAL = [SlicePlace("sagittal", index) for index in range(10)]


def test_a_volume_has_one_set_with_its_folder(volume_node, supports, scene):
    assert createSupports(volume_node) == supports
    assert [one.painted for one in findSupports(scene)] == [supports.painted]
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(supports.painted))
    assert hierarchy.GetItemName(folder) == "Head - examples"
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(supports.table)) == folder
    assert supports.volumeNode is volume_node
    assert list(supports.names.values()) == ["Structure 1"]


@pytest.mark.parametrize("plane", ["sagittal", "coronal", "axial"])
def test_painted_slices_are_read_along_every_axis(supports, plane):
    pixels = paint(supports, SlicePlace(plane, 4))
    segment_id = supports.segmentIds[0]
    np.testing.assert_array_equal(supports.pixels(segment_id, SlicePlace(plane, 4)), pixels)
    assert not supports.pixels(segment_id, SlicePlace(plane, 5)).any()
    assert supports.paintedIn(plane) == [4]
    assert supports.outlined(SlicePlace(plane, 4)) == (segment_id,)


def test_the_list_is_in_the_order_of_positions_and_says_where_slices_lie(supports):
    for index in (7, 2, 5):
        paint(supports, SAGITTAL[index])
        supports.add(SAGITTAL[index])
    supports.markAbsent(SAGITTAL[0])
    assert [row["Slice"] for row in table_rows(supports)] == [0, 2, 5, 7]
    assert [row["Kind"] for row in table_rows(supports)] == ["absent", "outlined", "outlined", "outlined"]
    assert [row["Position (mm)"] for row in table_rows(supports)] == [10.0, 4.0, -5.0, -11.0]
    assert {row["Volume"] for row in table_rows(supports)} == {"Head"}
    assert table_rows(supports)[1]["Structures"] == "Structure 1"


def test_a_slice_without_paint_is_no_example(supports):
    with pytest.raises(BadInputError, match="Nothing is painted in slice 3; outline"):
        supports.add(SAGITTAL[3])
    assert supports.examples() == []


def test_a_second_plane_is_refused(supports):
    paint(supports, SAGITTAL[3])
    supports.add(SAGITTAL[3])
    paint(supports, SlicePlace("axial", 3))
    with pytest.raises(BadInputError, match="sagittal slices, and this one is axial"):
        supports.add(SlicePlace("axial", 3))


def test_absent_means_what_is_not_painted(supports):
    add_structure(supports, "Second")
    first, second = supports.segmentIds
    paint(supports, SAGITTAL[3])
    supports.markAbsent(SAGITTAL[3])
    (example,) = supports.examples()
    assert (example.outlined, example.absent, example.kind) == ((first,), (second,), "outlined")
    paint(supports, SAGITTAL[3], segment=1, rows=slice(7, 9))
    (example,) = supports.refresh()
    assert (example.outlined, example.absent) == ((first, second), ())
    with pytest.raises(BadInputError, match="Every structure is painted in slice 3"):
        supports.markAbsent(SAGITTAL[3])


def test_removing_an_example_keeps_what_was_painted(supports):
    pixels = paint(supports, SAGITTAL[3])
    supports.add(SAGITTAL[3])
    supports.remove(supports.examples()[0])
    assert supports.examples() == []
    np.testing.assert_array_equal(supports.pixels(supports.segmentIds[0], SAGITTAL[3]), pixels)


def test_an_erased_example_comes_back_with_its_strokes(supports):
    paint(supports, SAGITTAL[3])
    supports.add(SAGITTAL[3])
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(supports.painted.GetSegmentation())
    history.SaveState()
    erase(supports)
    assert [one.kind for one in supports.refresh()] == ["empty"]
    with pytest.raises(BadInputError, match="Add this slice"):
        ask(supports, InferenceRequest("p"), KeptVolumes())
    history.RestorePreviousState()
    assert [one.kind for one in supports.refresh()] == ["outlined"]


def test_structures_that_were_removed_or_renamed_are_followed(supports):
    second = add_structure(supports, "Second")
    supports.markAbsent(SAGITTAL[1])
    paint(supports, SAGITTAL[3], segment=1)
    supports.add(SAGITTAL[3])
    supports.painted.GetSegmentation().GetSegment(second).SetName("Spleen")
    supports.refresh()
    assert table_rows(supports)[1]["Structures"] == "Spleen"
    supports.painted.GetSegmentation().RemoveSegment(second)
    assert [(one.kind, len(one.absent)) for one in supports.refresh()] == [("absent", 1), ("empty", 0)]


def test_a_set_survives_saving_and_loading(supports, scene, tmp_path):
    add_structure(supports, "Second")
    pixels = paint(supports, SAGITTAL[3])
    supports.add(SAGITTAL[3])
    supports.markAbsent(SAGITTAL[9])
    supports.use(supports.examples()[1], False)
    before = [(one.key, one.used, one.absent, one.outlined) for one in supports.examples()]
    saveScene(tmp_path / "scene.mrb")
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    loaded = supportsOf(scene.GetFirstNodeByName("Head"))
    assert [(one.key, one.used, one.absent, one.outlined) for one in loaded.examples()] == before
    assert before[1][1] is False
    np.testing.assert_array_equal(loaded.pixels(loaded.segmentIds[0], SAGITTAL[3]), pixels)
    paint(loaded, SAGITTAL[5])
    loaded.add(SAGITTAL[5])
    assert [one.place.index for one in loaded.examples()] == [3, 5, 9]


def test_a_set_of_a_later_version_is_refused(volume_node, supports):
    supports.painted.SetAttribute(FORMAT, "2")
    with pytest.raises(BadInputError, match="later version"):
        supportsOf(volume_node)


def test_a_removed_table_leaves_the_strokes(supports, scene):
    paint(supports, SAGITTAL[3])
    supports.add(SAGITTAL[3])
    scene.RemoveNode(supports.table)
    assert supports.refresh() == []
    assert supports.paintedIn("sagittal") == [3]
    supports.add(SAGITTAL[3])
    assert len(supports.examples()) == 1


def test_a_removed_volume_ends_the_set(volume_node, supports, scene):
    scene.RemoveNode(volume_node)
    assert not supports.isThere
    assert findSupports(scene) == []


def test_segments_on_other_voxels_are_refused(supports):
    paint(supports, SAGITTAL[3])
    image = supports.painted.GetBinaryLabelmapInternalRepresentation(supports.segmentIds[0])
    image.SetSpacing(1, 1, 1)
    with pytest.raises(BadInputError, match="lie on other voxels"):
        supports.add(SAGITTAL[3])


def test_the_set_follows_the_transform_of_its_volume(volume_node, supports, scene):
    pixels = paint(supports, SAGITTAL[3])
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.diag([1.0, 1, 1, 1])
    matrix[:3, 3] = (100, 0, 0)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    volume_node.SetAndObserveTransformNodeID(transform.GetID())
    supports.add(SAGITTAL[3])
    assert table_rows(supports)[0]["Position (mm)"] == 101.0
    np.testing.assert_array_equal(supports.pixels(supports.segmentIds[0], SAGITTAL[3]), pixels)


# Views


@pytest.fixture
def slice_node(scene, volume_node):
    """No view of a layout; the node alone."""
    node = scene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    for name in ("Axial", "Coronal", "Sagittal"):
        matrix = vtk.vtkMatrix3x3()
        getattr(node, f"Get{name}SliceToRASMatrix")(matrix)
        if not node.HasSliceOrientationPreset(name):
            node.AddSliceOrientationPreset(name, matrix)
    node.SetLayoutName("Test")
    yield node
    scene.RemoveNode(node)


@pytest.mark.parametrize(
    ("orientation", "plane"), [("Axial", "axial"), ("Coronal", "coronal"), ("Sagittal", "sagittal")]
)
def test_a_view_and_the_slice_that_it_shows(volume_node, slice_node, orientation, plane):
    slice_node.SetOrientation(orientation)
    showPlace(SlicePlace(plane, 4), volume_node)
    assert placeInView(slice_node, volume_node) == SlicePlace(plane, 4)
    showPlace(SlicePlace("sagittal" if plane != "sagittal" else "axial", 1), volume_node)
    assert placeInView(slice_node, volume_node) == SlicePlace(plane, 4)


def test_an_oblique_view_is_refused_until_it_is_aligned(volume_node, slice_node):
    slice_node.SetOrientation("Axial")
    showPlace(SlicePlace("axial", 4), volume_node)
    turn = np.eye(4)
    angle = np.radians(20)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix = slicer.util.arrayFromVTKMatrix(slice_node.GetSliceToRAS())
    tilt = np.eye(4)
    tilt[1:3, 1:3] = turn[:2, :2]
    slice_node.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(matrix @ tilt))
    slice_node.UpdateMatrices()
    with pytest.raises(ObliqueViewError, match="press 'Align view'"):
        placeInView(slice_node, volume_node)
    alignView(slice_node, volume_node)
    assert placeInView(slice_node, volume_node).plane == "axial"
    slice_node.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(matrix @ turn))  # turned within its plane
    slice_node.UpdateMatrices()
    assert placeInView(slice_node, volume_node) == SlicePlace("axial", 4)


def test_a_view_beside_the_volume_is_refused(volume_node, slice_node):
    slice_node.SetOrientation("Axial")
    slice_node.SetSliceOffset(1000)
    with pytest.raises(BadInputError, match="shows no slice of Head"):
        placeInView(slice_node, volume_node)


# What is asked


def test_the_question_holds_the_examples_and_nothing_else(supports):
    add_structure(supports, "Spleen")
    add_structure(supports, "Never painted")
    paint(supports, SAGITTAL[2])
    paint(supports, SAGITTAL[4], rows=slice(1, 4))
    paint(supports, SAGITTAL[4], segment=1, rows=slice(6, 8))
    paint(supports, SAGITTAL[6])  # not added
    for index in (2, 4):
        supports.add(SAGITTAL[index])
    supports.markAbsent(SAGITTAL[8])
    volumes = KeptVolumes()
    question = ask(supports, InferenceRequest("p", 3), volumes)
    (example,) = question.examples
    assert example.image is None
    assert example.names == {1: "Structure 1", 2: "Spleen"}
    assert sorted(set(np.nonzero(example.labels.array)[0])) == [2, 4]
    assert [int((example.labels.array == label).sum()) for label in (1, 2)] == [20 + 15, 10]
    assert question.request.plane == "sagittal"
    assert question.request.absent == {"Structure 1": (8,), "Spleen": (8,)}
    assert question.segmentIds == tuple(supports.segmentIds[:2])
    supports.use(supports.examples()[0], False)
    assert ask(supports, InferenceRequest("p", 3), volumes).fingerprint != question.fingerprint
    supports.use(supports.examples()[0], True)
    assert ask(supports, InferenceRequest("p", 3), volumes).fingerprint == question.fingerprint


def test_examples_of_another_volume_go_by_the_names_of_structures(add_volume, volume_node, supports):
    other = add_volume(Volume(np.ones((6, 6, 6), np.float32), Geometry.from_parts((6, 6, 6), (1, 1, 1)), "Other"))
    lender = createSupports(other)
    with pytest.raises(BadInputError, match="Other has no outlined examples"):
        supports.lend(lender)
    add_structure(lender, "Spleen")
    add_structure(supports, "Spleen")
    paint(lender, SlicePlace("sagittal", 2), segment=1, rows=slice(1, 4), columns=slice(1, 4))
    lender.add(SlicePlace("sagittal", 2))
    lender.markAbsent(SlicePlace("sagittal", 4))
    assert supports.lend(lender) == 2
    assert supports.lend(lender) == 0
    (example,) = ask(supports, InferenceRequest("p"), KeptVolumes()).examples
    assert example.image.name == "Other"
    assert example.names == {2: "Spleen"}
    assert int((example.labels.array == 2).sum()) == 9
    assert example.absent == {"Spleen": (4,)}
    lent, _absent = supports.examples()
    assert lent.volume != OWN
    assert table_rows(supports)[0]["Volume"] == "Other"
    supports.use(lent, False)
    assert lender.examples()[0].used
    other.GetScene().RemoveNode(other)
    assert supports.refresh() == []


def test_structures_with_one_name_are_refused(supports):
    add_structure(supports, "Structure 1")
    paint(supports, SAGITTAL[2])
    supports.add(SAGITTAL[2])
    with pytest.raises(BadInputError, match="same name"):
        ask(supports, InferenceRequest("p"), KeptVolumes())
