"""The stand-in's Segment Editor: real mouse strokes in rendered slices, looked at voxel by voxel."""

import numpy as np
import pytest
import slicer
from slicer_stand_in import strokes

SPACING = np.array([0.8, 1.3, 4.0])
SHAPE = (9, 60, 80)
IJK_TO_RAS = np.diag([*(SPACING * [1, -1, -1]), 1.0])
IJK_TO_RAS[:3, 3] = [-30, 45, 20]
"""From left to right and from head to foot: nothing runs as RAS does."""


@pytest.fixture
def volume(application):
    rng = np.random.default_rng(0)
    array = rng.normal(100, 5, SHAPE)
    array[3:6, 20:30, 30:50] = 300
    return slicer.util.addVolumeFromArray(array.astype(np.int16), IJK_TO_RAS, "Flipped")


@pytest.fixture
def segmentation(volume):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Painted")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name in ("first", "second"):
        node.GetSegmentation().AddEmptySegment(name, name)
    return node


@pytest.fixture
def editor(main_window, application, volume, segmentation):
    """The editor with both nodes chosen, painting with an absolute brush."""
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    application.processEvents()
    editor = slicer.qMRMLSegmentEditorWidget()
    editor.setMRMLScene(slicer.mrmlScene)
    editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(volume)
    yield editor
    editor.setActiveEffect(None)
    editor.setParent(None)
    editor.deleteLater()


@pytest.fixture
def red(editor, application):
    return application.layoutManager().sliceWidget("Red")


def brush(editor, name, diameter):
    editor.setActiveEffectByName(name)
    editor.activeEffect().setCommonParameter("BrushDiameterIsRelative", 0)
    editor.activeEffect().setCommonParameter("BrushAbsoluteDiameter", diameter)


def ras(i, j, k):
    return (IJK_TO_RAS @ [i, j, k, 1])[:3]


def painted(segmentation, segment="first"):
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment, slicer.util.getNode("Flipped"))
    return np.zeros(SHAPE, bool) if array is None else array > 0


def disc(i, j, k, diameter):
    """Voxels of a slice whose centers are in a circle around a voxel's."""
    _, y, x = np.indices(SHAPE)
    distance = np.hypot((x - i) * SPACING[0], (y - j) * SPACING[1])
    assert not ((distance > 0.99 * diameter / 2) & (distance < 1.01 * diameter / 2)).any(), "a brush has 32 corners"
    return (distance < diameter / 2) & (np.indices(SHAPE)[0] == k)


def test_a_click_paints_a_disc_in_its_slice_alone(editor, red, segmentation):
    brush(editor, "Paint", 9.0)
    for k in (2, 7):
        strokes.scrollTo(red, ras(0, 0, k)[2])
        strokes.stroke(red, [ras(31, 24, k)])
    expected = disc(31, 24, 2, 9.0) | disc(31, 24, 7, 9.0)
    assert expected.sum() > 80
    assert (painted(segmentation) == expected).all()
