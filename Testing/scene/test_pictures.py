"""Rendered pictures, looked at through the colors that have to be in them. They are compared with a tolerance, as
OpenGL implementations differ in single pixels."""

import numpy as np
import pytest
import slicer
from MedSegUncertaintyLib.scene.annotations import sideLetter
from MedSegUncertaintyLib.scene.maps import MAP_KINDS
from MedSegUncertaintyLib.scene.nodes import addResult
from MedSegUncertaintyLib.scene.pictures import LEGEND_WIDTH, render3DPicture, renderSlicePictures
from MedSegUncertaintyLib.scene.rendering import SliceView, isRenderingAvailable

pytestmark = pytest.mark.skipif(not isRenderingAvailable(), reason="needs OpenGL (apt: libegl1 libgl1-mesa-dri)")

SIZE = (300, 260)
PLANES = ("Axial", "Sagittal", "Coronal")


def near(picture, color, tolerance=30):
    """Pixels (rows, columns) of about a color with channels in [0, 1]."""
    return np.abs(picture.astype(int) - np.rint(255 * np.asarray(color))).max(axis=-1) <= tolerance


def center_of(result):
    return result.box_geometry.to_ras((np.array(result.box.shape_ijk) - 1) / 2)


@pytest.fixture
def nodes(scene, volume_node, blob_result):
    return addResult(blob_result, volume_node)


@pytest.fixture
def pictures(volume_node, nodes, blob_result):
    return renderSlicePictures(volume_node, nodes, dict.fromkeys(PLANES, center_of(blob_result)), SIZE)


def test_every_kind_of_every_plane_has_its_size(pictures):
    assert set(pictures) == {(kind, plane) for kind in ("image", "outlines", "heat") for plane in PLANES}
    for (kind, _), picture in pictures.items():
        assert picture.shape == (SIZE[1], SIZE[0] + (LEGEND_WIDTH if kind == "heat" else 0), 3)
        assert picture.dtype == np.uint8


def test_the_image_is_gray_and_shows_the_blobs(pictures):
    picture = pictures["image", "Axial"].astype(int)
    anatomy = picture[30:-30, 20:-20]
    assert np.ptp(anatomy, axis=-1).max() == 0
    assert anatomy.max() > 200
    assert (anatomy > 180).mean() > 0.05


def test_outlines_have_the_colors_of_structures_and_levels(pictures, nodes):
    picture = pictures["outlines", "Axial"]
    segments = nodes.contours.GetSegmentation()
    for segment in ("left_blob_50", "right_blob_50", "left_blob_05", "right_blob_95"):
        assert near(picture, segments.GetSegment(segment).GetColor()).sum() > 40, segment
        assert near(pictures["image", "Axial"], segments.GetSegment(segment).GetColor()).sum() == 0, segment


def test_the_median_outline_lies_where_the_median_ends(volume_node, nodes, blob_result):
    """The rightmost pixel of the outline is at the largest R of the region, patient's right being on the left."""
    point = center_of(blob_result)
    picture = renderSlicePictures(volume_node, nodes, {"Axial": point}, (400, 400))["outlines", "Axial"]
    columns = np.flatnonzero(
        near(picture, nodes.contours.GetSegmentation().GetSegment("left_blob_50").GetColor()).any(0)
    )
    ras = blob_result.box_geometry.to_ras(np.argwhere(blob_result.contour(0, 0.5))[:, ::-1])
    edges = [(-0.5, size - 0.5) for size in blob_result.box.shape_ijk]
    corners = blob_result.box_geometry.to_ras(np.array(np.meshgrid(*edges)).reshape(3, -1).T)
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    millimeters_per_pixel = 1.1 * np.ptp(corners, axis=0)[:2].max() / 400
    wanted = 200 - (ras[:, 0].max() - middle[0]) / millimeters_per_pixel
    assert columns.min() == pytest.approx(wanted, abs=1.5 / millimeters_per_pixel)


def test_heat_is_over_the_blobs_and_its_legend_beside_the_slice(pictures):
    palette_end = (252 / 255, 1.0, 164 / 255)
    picture, image = pictures["heat", "Axial"], pictures["image", "Axial"]
    legend = picture[:, SIZE[0] :]
    assert near(legend, palette_end).sum() > 5
    assert near(legend, (1.0, 1.0, 1.0)).sum() > 100, "title and numbers"
    changed = (picture[:, : SIZE[0]] != image).any(axis=-1)
    assert 0.02 < changed.mean() < 0.7
    assert not changed[:10].any()


def test_the_scale_does_not_follow_the_data(volume_node, nodes, blob_result):
    """Half of the variance gives darker colors, not the same ones."""
    planes = {"Axial": center_of(blob_result)}
    before = renderSlicePictures(volume_node, nodes, planes, SIZE)["heat", "Axial"]
    for key, node in nodes.maps.items():
        if key.startswith("variance"):
            slicer.util.arrayFromVolume(node)[:] *= 0.5
            slicer.util.arrayFromVolumeModified(node)
    after = renderSlicePictures(volume_node, nodes, planes, SIZE)["heat", "Axial"]
    np.testing.assert_array_equal(after[:, SIZE[0] :], before[:, SIZE[0] :])
    assert after[:, : SIZE[0], 0].sum() != before[:, : SIZE[0], 0].sum()


def test_the_surfaces_are_seen_through_each_other(nodes):
    picture = render3DPicture(nodes, size=(240, 240)).astype(int)
    red = (picture[..., 0] > picture[..., 2] + 25).sum()
    blue = (picture[..., 2] > picture[..., 0] + 60).sum()
    assert red > 500
    assert blue > 500


def test_pictures_leave_no_trace(scene, volume_node, nodes, blob_result):
    def state():
        displays = [scene.GetNthNodeByClass(n, "vtkMRMLDisplayNode") for n in range(count("vtkMRMLDisplayNode"))]
        return (
            {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())},
            {node.GetID(): node.GetVisibility() for node in displays},
            volume_node.GetDisplayNode().GetWindow(),
            nodes.contours.GetSegmentation().ContainsRepresentation("Closed surface"),
        )

    def count(name):
        return scene.GetNumberOfNodesByClass(name)

    before = state()
    renderSlicePictures(volume_node, nodes, {"Coronal": center_of(blob_result)}, (100, 100))
    render3DPicture(nodes, size=(100, 100))
    assert state() == before


def test_a_window_set_by_hand_is_kept(volume_node, nodes, blob_result):
    planes = {"Axial": center_of(blob_result)}
    volume_node.GetDisplayNode().SetAutoWindowLevel(False)
    volume_node.GetDisplayNode().SetWindowLevelMinMax(1000.0, 2000.0)
    dark = renderSlicePictures(volume_node, nodes, planes, SIZE)["image", "Axial"]
    assert dark[30:-30, 20:-20].max() == 0


def test_the_window_asked_for_wins(volume_node, nodes, blob_result):
    planes = {"Axial": center_of(blob_result)}
    volume_node.GetDisplayNode().SetAutoWindowLevel(False)
    volume_node.GetDisplayNode().SetWindowLevelMinMax(1000.0, 2000.0)
    bright = renderSlicePictures(volume_node, nodes, planes, SIZE, window=(-100.0, 0.0))["image", "Axial"]
    assert (bright[30:-30, 20:-20] == 255).mean() > 0.8


def test_negative_values_alone_do_not_mean_ct(volume_node, nodes, blob_result, pictures):
    """A phase map: the same picture as without the shift, although most of it lies below -500."""
    slicer.util.arrayFromVolume(volume_node)[:] -= 1000
    slicer.util.arrayFromVolumeModified(volume_node)
    shifted = renderSlicePictures(volume_node, nodes, {"Axial": center_of(blob_result)}, SIZE)["image", "Axial"]
    np.testing.assert_allclose(shifted.astype(int), pictures["image", "Axial"], atol=2)


def test_views_are_radiological(scene):
    for plane, right, up in (("Axial", "L", "A"), ("Coronal", "L", "S"), ("Sagittal", "P", "S")):
        with SliceView("test", plane, (50, 50)) as view:
            axes = slicer.util.arrayFromVTKMatrix(view.node.GetSliceToRAS())[:3, :3]
            assert (sideLetter(axes[:, 0]), sideLetter(axes[:, 1])) == (right, up)


def test_titles_name_scale_and_unit():
    assert MAP_KINDS["variance"].scaleText(3) == "Variance, 0-0.25"
    assert MAP_KINDS["entropy"].scaleText(2) == "Entropy, 0-1 bit"
