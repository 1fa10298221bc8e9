"""A node per channel: each where its own transform puts it; what does not fit leaves the scene as it was."""

import numpy as np
import pytest
import slicer
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.scene.nodes import removeResult
from MedSegUncertaintyLib.scene.run import segmentVolumeNode
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume

GRID = Geometry.from_parts((24, 22, 10), (1.0, 1.0, 2.0), (-12.0, -11.0, -9.0))


@pytest.fixture
def package(weighing_package):
    """The second channel decides."""
    return str(weighing_package({"t1": 0.0, "t2": 8.0}).folder)


@pytest.fixture
def t1(add_volume, bell):
    return add_volume(bell(GRID, (0.0, 0.0, 0.0), "t1"))


def ids(scene) -> set[str]:
    return {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}


def under_transform(node, scene, matrix):
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())


def turn_and_move() -> np.ndarray:
    c, s = np.cos(np.radians(30)), np.sin(np.radians(30))
    return np.array([[c, -s, 0, 150.0], [s, c, 0, -40.0], [0, 0, 1, 7.0], [0, 0, 0, 1]])


def variance(nodes) -> np.ndarray:
    return slicer.util.arrayFromVolume(nodes.maps["variance.blob"])


def test_the_transform_of_every_node_is_followed(scene, package, t1, add_volume, bell):
    """T2 was made elsewhere and lies right only through its own transform; so does T1 through another."""
    t2 = add_volume(bell(GRID, (3.0, 2.0, 0.0), "t2"))
    plain = segmentVolumeNode(t1, package, samples=4, channelNodes={"t2": t2}, device="cpu")
    expected = variance(plain).copy()
    assert expected.max() > 0
    removeResult(plain)

    moved_grid = Geometry(GRID.shape_ijk, np.linalg.inv(turn_and_move()) @ GRID.ijk_to_ras)
    moved = add_volume(Volume(slicer.util.arrayFromVolume(t2), moved_grid, "t2 elsewhere"))
    before = ids(scene)
    with pytest.raises(BadInputError, match=r"^The channel t2 \('t2 elsewhere'\) lies elsewhere"):
        segmentVolumeNode(t1, package, samples=4, channelNodes={"t2": moved}, device="cpu")
    assert ids(scene) == before

    under_transform(moved, scene, turn_and_move())
    nodes = segmentVolumeNode(t1, package, samples=4, channelNodes={"t2": moved}, device="cpu")
    np.testing.assert_allclose(variance(nodes), expected, atol=1e-5)


def test_a_channel_that_is_turned_is_resampled_in_the_world(scene, package, t1, add_volume, bell):
    t2 = add_volume(bell(GRID, (3.0, 2.0, 0.0), "t2"))
    plain = segmentVolumeNode(t1, package, samples=4, channelNodes={"t2": t2}, device="cpu")
    volumes = slicer.util.arrayFromTableColumn(plain.volumesTable, "Blob (mL)").copy()
    own = Geometry.from_parts((60, 60, 60), (1.0, 1.0, 1.0), (-30.0, -30.0, -30.0))
    center = np.linalg.inv(turn_and_move()) @ np.array([3.0, 2.0, 0.0, 1.0])
    matrix = own.ijk_to_ras.copy()
    matrix[:3, 3] += center[:3]
    turned = add_volume(bell(Geometry(own.shape_ijk, matrix), tuple(center[:3]), "t2 turned"))
    under_transform(turned, scene, turn_and_move())
    nodes = segmentVolumeNode(t1, package, samples=4, channelNodes={"t2": turned}, device="cpu")
    np.testing.assert_allclose(slicer.util.arrayFromTableColumn(nodes.volumesTable, "Blob (mL)"), volumes, rtol=0.03)
    assert '"resampled": true' in nodes.record.GetText()
    assert '"image": "t2 turned"' in nodes.record.GetText()


@pytest.mark.parametrize(
    ("roles", "sentence"),
    [
        ([], "The model weighing lacks the channel t2 (T2 image); give t1 (T1 image) as the image and add t2 (T2 "
             "image)."),
        (["t2", "pd"],
         "The model weighing has no channel 'pd'; give t1 (T1 image) as the image and add t2 (T2 image)."),
        (["t1"], "The channel t1 (T1 image) of the model weighing is the image itself; add only t2 (T2 image)."),
        (["t2"], "The channels t1 ('t1') and t2 ('t1') hold the same voxels; give each its own image."),
    ],
)  # fmt: skip
def test_wrong_nodes_are_one_sentence_and_the_scene_stays(scene, package, t1, roles, sentence):
    before = ids(scene)
    with pytest.raises(BadInputError) as caught:
        segmentVolumeNode(t1, package, channelNodes=dict.fromkeys(roles, t1))
    assert str(caught.value) == sentence
    assert ids(scene) == before


def test_a_color_volume_node_holds_all_channels(scene, weighing_package):
    package = weighing_package({"red": 0.0, "green": 8.0, "blue": 0.0}, modality="photograph")
    j, i = np.indices((30, 40))
    colors = np.stack([4 * i, 200 * ((i - 20) ** 2 + (j - 15) ** 2 < 64), 5 * j], axis=-1).astype(np.uint8)
    node = slicer.util.addVolumeFromArray(colors[np.newaxis], name="eye", nodeClassName="vtkMRMLVectorVolumeNode")
    nodes = segmentVolumeNode(node, str(package.folder), samples=2, device="cpu")
    found = slicer.util.arrayFromSegmentBinaryLabelmap(nodes.samples, "sample_01_blob", node)
    np.testing.assert_array_equal(found[0] > 0, colors[..., 1] > 100)
    removeResult(nodes)
    before = ids(scene)
    with pytest.raises(BadInputError, match="several values per voxel"):
        segmentVolumeNode(node, str(weighing_package({"image": 8.0}).folder))
    assert ids(scene) == before
