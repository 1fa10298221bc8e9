"""Parent transforms: linear ones are followed, others are refused."""

import numpy as np
import pytest
import slicer
import vtk
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.scene.grids import regionFromNode, volumeFromNode
from MedSegUncertaintyLib.scene.nodes import addResult
from MedSegUncertaintyLib.volumes.geometry import Box

TURN = np.array([[0.0, -1.0, 0.0, 10.0], [1.0, 0.0, 0.0, -20.0], [0.0, 0.0, 1.0, 5.5], [0.0, 0.0, 0.0, 1.0]])
SHEAR = np.array([[1.0, 0.3, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


def put_under(node, scene, matrix):
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Patient position")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def put_under_spline(node, scene):
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "Breathing")
    spline = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    for corner in np.indices((2, 2, 2)).reshape(3, -1).T * 10.0:
        points.InsertNextPoint(corner)
    moved = vtk.vtkPoints()
    moved.DeepCopy(points)
    moved.SetPoint(3, 1.0, 2.0, 3.0)
    spline.SetSourceLandmarks(points)
    spline.SetTargetLandmarks(moved)
    spline.SetBasisToR()
    transform.SetAndObserveTransformToParent(spline)
    node.SetAndObserveTransformNodeID(transform.GetID())


def world_center(volume_node, ijk):
    point = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(point)
    ras = point.MultiplyPoint((*ijk, 1.0))[:3]
    world = [0.0, 0.0, 0.0]
    volume_node.TransformPointToWorld(ras, world)
    return world


def test_a_volume_without_transform_is_read_as_it_is(scene, volume_node, blob_volume):
    volume = volumeFromNode(volume_node)
    np.testing.assert_array_equal(volume.array, blob_volume.array)
    assert volume.geometry.matches(blob_volume.geometry, 1e-9)
    assert volume.name == "Two blobs"


def test_a_linear_transform_moves_the_volume_for_inference(scene, volume_node):
    put_under(volume_node, scene, TURN)
    geometry = volumeFromNode(volume_node).geometry
    np.testing.assert_allclose(geometry.to_ras(np.array([3, 4, 5])), world_center(volume_node, (3, 4, 5)), atol=1e-9)


def test_outputs_lie_on_the_input_voxels_in_the_world(scene, volume_node, result_on):
    put_under(volume_node, scene, TURN)
    result = result_on(volumeFromNode(volume_node).geometry, Box((4, 5, 6), (20, 21, 15)))
    nodes = addResult(result, volume_node)
    np.testing.assert_allclose(
        world_center(nodes.maps["entropy"], (0, 0, 0)), world_center(volume_node, (4, 5, 6)), atol=1e-6
    )
    found = slicer.util.arrayFromSegmentBinaryLabelmap(nodes.samples, "sample_01_left_blob", volume_node)
    np.testing.assert_array_equal(found, result.on_grid(result.samples[0] == 1))
    transformable = (nodes.samples, nodes.contours, nodes.selectedSample, *nodes.maps.values())
    assert {node.GetTransformNodeID() for node in transformable} == {volume_node.GetTransformNodeID()}
    nodes.browser.SetSelectedItemNumber(1)
    assert nodes.selectedSample.GetTransformNodeID() == volume_node.GetTransformNodeID()


@pytest.mark.parametrize("kind", ["bent", "sheared"])
def test_other_transforms_are_refused_and_the_scene_stays(scene, volume_node, blob_result, kind):
    if kind == "bent":
        put_under_spline(volume_node, scene)
    else:
        put_under(volume_node, scene, SHEAR)
    before = scene.GetNumberOfNodes()
    sentence = {
        "bent": "harden or remove the transform",
        "sheared": "volume Two blobs has axes that are not perpendicular",
    }[kind]
    with pytest.raises(BadInputError, match=sentence):
        volumeFromNode(volume_node)
    with pytest.raises(BadInputError, match=sentence):
        addResult(blob_result, volume_node)
    assert scene.GetNumberOfNodes() == before


def test_a_volume_without_voxels_is_refused(scene):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
    with pytest.raises(BadInputError, match="Nothing has no voxels"):
        volumeFromNode(node)


def test_a_color_picture_is_refused(scene):
    node = slicer.util.addVolumeFromArray(np.zeros((3, 4, 5, 3), np.uint8), nodeClassName="vtkMRMLVectorVolumeNode")
    with pytest.raises(BadInputError, match="several values per voxel"):
        volumeFromNode(node)


def test_a_region_of_interest_is_its_box_in_the_world(scene):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    node.SetCenter((10.0, 20.0, 30.0))
    node.SetSize((4.0, 6.0, 8.0))
    put_under(node, scene, TURN)
    region = regionFromNode(node)
    np.testing.assert_allclose(region.center_ras, (-10.0, -10.0, 35.5), atol=1e-6)
    np.testing.assert_allclose(region.size_mm, (6.0, 4.0, 8.0), atol=1e-6)


def test_an_unplaced_region_of_interest_is_refused(scene):
    with pytest.raises(BadInputError, match="is empty"):
        regionFromNode(scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R"))
