"""The stand-in's Segment Editor: real mouse strokes in rendered slices, looked at voxel by voxel."""

import numpy as np
import pytest
import qt
import slicer
from slicer_stand_in import driving, strokes
from slicer_stand_in.widgets.editor_effects import voxels

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
        strokes.scrollTo(red, ras(0, 0, k))
        strokes.stroke(red, [ras(31, 24, k)])
    expected = disc(31, 24, 2, 9.0) | disc(31, 24, 7, 9.0)
    assert expected.sum() > 80
    assert (painted(segmentation) == expected).all()


def test_a_stroke_paints_around_every_point_between(editor, red, segmentation):
    brush(editor, "Paint", 7.0)
    strokes.scrollTo(red, ras(0, 0, 4))
    strokes.stroke(red, [ras(20, 15, 4), ras(50, 15, 4), ras(50, 40, 4)])
    mask = painted(segmentation)
    assert mask[4].any(axis=0).nonzero()[0].tolist() == list(range(16, 55))
    assert mask.sum() == mask[4].sum()
    inside = np.zeros(SHAPE, bool)
    for i, j in [*((i, 15) for i in range(20, 51)), *((50, j) for j in range(15, 41))]:
        inside |= disc(i, j, 4, 7.0)
    assert (mask == inside).all()


@pytest.mark.parametrize(("name", "normal"), [("Yellow", 0), ("Green", 1)])
def test_other_planes_paint_in_their_slice(editor, application, segmentation, name, normal):
    view = application.layoutManager().sliceWidget(name)
    center = (31, 24, 4)
    brush(editor, "Paint", 9.0)
    strokes.scrollTo(view, ras(*center))
    strokes.stroke(view, [ras(*center)])
    i, j, k = (axis for axis in np.indices(SHAPE)[::-1])
    shift = [(axis - at) * step for axis, at, step in zip((i, j, k), center, SPACING, strict=True)]
    shift[normal] = 1e3 * (shift[normal] != 0)
    assert (painted(segmentation) == (np.sqrt(sum(s**2 for s in shift)) < 4.5)).all()


def test_a_sphere_reaches_into_other_slices(editor, red, segmentation):
    brush(editor, "Paint", 13.0)
    editor.activeEffect().setCommonParameter("BrushSphere", 1)
    strokes.scrollTo(red, ras(0, 0, 4))
    strokes.stroke(red, [ras(31, 24, 4)])
    assert painted(segmentation).any(axis=(1, 2)).nonzero()[0].tolist() == [3, 4, 5]


def test_a_relative_brush_follows_the_zoom(editor, red, application):
    editor.setActiveEffectByName("Paint")
    effect, sizes = editor.activeEffect(), []
    for factor in (1.0, 0.5):
        node = red.mrmlSliceNode()
        node.SetFieldOfView(*(factor * x for x in node.GetFieldOfView()[:2]), node.GetFieldOfView()[2])
        strokes.stroke(red, [ras(31, 24, 4)])
        sizes.append(effect.doubleParameter("BrushAbsoluteDiameter"))
    assert sizes[0] == pytest.approx(2 * sizes[1], rel=0.02)


def test_the_eraser_takes_away_from_the_chosen_segment_alone(editor, red, segmentation):
    editor.mrmlSegmentEditorNode().SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    strokes.scrollTo(red, ras(0, 0, 4))
    brush(editor, "Paint", 9.0)
    for segment in ("second", "first"):
        editor.setCurrentSegmentID(segment)
        strokes.stroke(red, [ras(31, 24, 4)])
    brush(editor, "Erase", 5.0)
    strokes.stroke(red, [ras(31, 24, 4)])
    assert (painted(segmentation) == (disc(31, 24, 4, 9.0) & ~disc(31, 24, 4, 5.0))).all()
    assert (painted(segmentation, "second") == disc(31, 24, 4, 9.0)).all()


def test_undo_and_redo_go_through_all_states(editor, red, segmentation):
    states = [painted(segmentation)]
    strokes.scrollTo(red, ras(0, 0, 4))
    for name, place in (("Paint", (31, 24, 4)), ("Paint", (40, 24, 4)), ("Erase", (36, 24, 4))):
        brush(editor, name, 9.0)
        strokes.stroke(red, [ras(*place)])
        states.append(painted(segmentation))
    assert len({state.tobytes() for state in states}) == 4
    for state in states[-2::-1]:
        driving.click(editor._d.undoButton)
        assert (painted(segmentation) == state).all()
    assert not editor._d.undoButton.enabled
    for state in states[1:]:
        driving.click(editor._d.redoButton)
        assert (painted(segmentation) == state).all()
    assert not editor._d.redoButton.enabled


def test_no_more_states_are_kept_than_wanted(editor, red, segmentation):
    editor.maximumNumberOfUndoStates = 2
    brush(editor, "Paint", 5.0)
    strokes.scrollTo(red, ras(0, 0, 4))
    for i in (20, 30, 40, 50):
        strokes.stroke(red, [ras(i, 24, 4)])
    for _ in range(4):
        editor.undo()
    assert painted(segmentation)[4, 24, [20, 30, 40, 50]].tolist() == [True, True, True, False]  # one is the present


@pytest.mark.parametrize("overwrite", ["OverwriteAllSegments", "OverwriteVisibleSegments", "OverwriteNone"])
def test_what_a_second_segment_takes(editor, red, segmentation, overwrite):
    editor.mrmlSegmentEditorNode().SetOverwriteMode(getattr(slicer.vtkMRMLSegmentEditorNode, overwrite))
    brush(editor, "Paint", 9.0)
    strokes.scrollTo(red, ras(0, 0, 4))
    strokes.stroke(red, [ras(31, 24, 4)])
    editor.setCurrentSegmentID("second")
    if overwrite == "OverwriteVisibleSegments":
        segmentation.GetDisplayNode().SetSegmentVisibility("first", False)
    strokes.stroke(red, [ras(37, 24, 4)])
    first, second = disc(31, 24, 4, 9.0), disc(37, 24, 4, 9.0)
    assert (painted(segmentation, "second") == second).all()
    assert (painted(segmentation) == (first & ~second if overwrite == "OverwriteAllSegments" else first)).all()


POLYGON = [(20, 10), (60, 12), (52, 48), (25, 40)]


@pytest.mark.parametrize("end", ["right button", "return", "double click"])
def test_an_outline_is_filled(editor, red, segmentation, end):
    editor.setActiveEffectByName("Draw")
    strokes.scrollTo(red, ras(0, 0, 4))
    for corner in POLYGON:
        strokes.stroke(red, [ras(*corner, 4)])
    assert not painted(segmentation).any()
    if end == "right button":
        strokes.stroke(red, [ras(*POLYGON[0], 4)], qt.Qt.RightButton)
    elif end == "return":
        driving.key(red.sliceView(), qt.Qt.Key_Return)
    else:
        strokes.doubleClick(red, ras(*POLYGON[-1], 4))
    mask = painted(segmentation)
    j, i = np.indices(SHAPE[1:])
    sides = [
        ((xb - xa) * (j - ya) - (yb - ya) * (i - xa)) / np.hypot(xb - xa, yb - ya)
        for (xa, ya), (xb, yb) in zip(POLYGON, POLYGON[1:] + POLYGON[:1], strict=True)
    ]
    depth = np.min(sides, axis=0)
    assert mask[4][depth > 1].all()
    assert not mask[4][depth < -1].any()
    assert mask.any(axis=(1, 2)).nonzero()[0].tolist() == [4]
    editor.undo()
    assert not painted(segmentation).any()


def test_a_point_of_an_outline_can_be_taken_back_and_other_slices_get_none(editor, red, segmentation):
    editor.setActiveEffectByName("Draw")
    strokes.scrollTo(red, ras(0, 0, 4))
    strokes.stroke(red, [ras(20, 10, 4)])
    driving.key(red.sliceView(), qt.Qt.Key_X, "x")
    driving.key(red.sliceView(), qt.Qt.Key_Return)
    assert not painted(segmentation).any()
    for corner in POLYGON[:3]:
        strokes.stroke(red, [ras(*corner, 4)])
    strokes.scrollTo(red, ras(0, 0, 6))
    strokes.stroke(red, [ras(*POLYGON[3], 6)])
    driving.key(red.sliceView(), qt.Qt.Key_Return)
    assert not painted(segmentation).any()


def test_threshold_fills_what_is_between(editor, volume, segmentation):
    editor.setActiveEffectByName("Threshold")
    effect = editor.activeEffect()
    assert effect.doubleParameter("MaximumThreshold") == 300
    effect.setParameter("MinimumThreshold", 200)
    assert effect.optionsFrame().findChild("qMRMLSpinBox").value == 200
    driving.click(effect.optionsFrame().findChild("QPushButton"))
    assert (painted(segmentation) == (slicer.util.arrayFromVolume(volume) >= 200)).all()
    assert editor.activeEffect() is None
    editor.undo()
    assert not painted(segmentation).any()


def test_smoothing_is_a_median(editor, red, segmentation):
    brush(editor, "Paint", 0.5)
    strokes.scrollTo(red, ras(0, 0, 4))
    strokes.stroke(red, [ras(70, 50, 4)])
    assert painted(segmentation).sum() == 1
    brush(editor, "Paint", 21.0)
    strokes.stroke(red, [ras(31, 24, 4)])
    editor.setActiveEffectByName("Smoothing")
    editor.activeEffect().self().onApply()
    mask = painted(segmentation)
    assert not mask[4, 50, 70]
    assert mask[4, 24, 31]
    editor.activeEffect().setParameter("SmoothingMethod", "JOINT_TAUBIN")
    with pytest.raises(NotImplementedError, match="JOINT_TAUBIN"):
        editor.activeEffect().self().onApply()


def test_a_moved_patient_is_painted_where_the_picture_is(editor, red, application, volume, segmentation):
    matrix = np.eye(4)
    matrix[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]  # a quarter turn, and a shift
    matrix[:3, 3] = [12, -7, 8]
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    for node in (volume, segmentation):
        node.SetAndObserveTransformNodeID(transform.GetID())
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    application.processEvents()
    place = (matrix @ [*ras(31, 24, 4), 1])[:3]
    brush(editor, "Paint", 9.0)
    strokes.scrollTo(red, place)
    strokes.stroke(red, [place])
    labelmap = slicer.vtkOrientedImageData()  # without the transform, on the segmentation's own grid
    segmentation.GetBinaryLabelmapRepresentation("first", labelmap)
    first = np.array(labelmap.GetExtent()[::2])[::-1]
    assert (np.argwhere(voxels(labelmap)) + first == np.argwhere(disc(31, 24, 4, 9.0))).all()


def test_painting_is_seen(editor, red, application, segmentation):
    strokes.scrollTo(red, ras(0, 0, 4))
    before = driving.pixels(red.sliceView())
    brush(editor, "Paint", 20.0)
    strokes.stroke(red, [ras(31, 24, 4)])
    driving.move(red.sliceView(), 5, 5)
    application.processEvents()
    changed = (driving.pixels(red.sliceView()) != before).any(axis=-1)
    x, y = (round(value) for value in strokes.position(red, ras(31, 24, 4)))
    assert changed[y, x]
    assert 0.001 < changed.mean() < 0.2


def test_without_an_effect_the_mouse_belongs_to_the_view(editor, red, segmentation, volume):
    strokes.scrollTo(red, ras(0, 0, 4))
    brush(editor, "Paint", 9.0)
    editor.setActiveEffectByName("")
    level = volume.GetDisplayNode().GetLevel()
    strokes.stroke(red, [ras(31, 24, 4), ras(50, 40, 4)])
    assert not painted(segmentation).any()
    assert editor.activeEffect() is None
    brush(editor, "Paint", 9.0)
    editor.removeViewObservations()
    strokes.stroke(red, [ras(31, 24, 4)])
    assert not painted(segmentation).any()
    editor.setupViewObservations()
    strokes.stroke(red, [ras(31, 24, 4)])
    assert painted(segmentation).any()
    assert volume.GetDisplayNode().GetLevel() == level
    slicer.app.applicationLogic().GetInteractionNode().SwitchToSinglePlaceMode()
    assert editor.activeEffect() is None
    slicer.app.applicationLogic().GetInteractionNode().SwitchToViewTransformMode()


def test_a_hidden_segment_is_not_painted_unasked(editor, red, segmentation):
    segmentation.GetDisplayNode().SetSegmentVisibility("first", False)
    brush(editor, "Paint", 9.0)
    strokes.stroke(red, [ras(31, 24, 4)])
    assert not painted(segmentation).any()


def test_segments_are_added_chosen_and_removed_in_the_table(editor, segmentation):
    told = []
    editor.connect("currentSegmentIDChanged(QString)", told.append)
    assert editor.currentSegmentID() == "first"
    editor._d.table.setSelectedSegmentIDs(["second"])
    assert editor.mrmlSegmentEditorNode().GetSelectedSegmentID() == "second"
    driving.click(editor._d.add)
    third = editor.currentSegmentID()
    assert third not in ("first", "second")
    driving.click(editor._d.remove)
    assert editor.currentSegmentID() in ("first", "second")
    editor.setCurrentSegmentID("first")
    assert editor._d.table.selectedSegmentIDs() == ("first",)
    assert told[:2] == ["second", third]
    assert told[-1] == "first"
    segmentation.GetSegmentation().RemoveSegment("first")
    assert editor.currentSegmentID() == "second"


def test_effects_are_listed_in_the_wanted_order(editor):
    assert editor.availableEffectNames() == ("Paint", "Draw", "Erase", "Threshold", "Smoothing")
    editor.setEffectNameOrder(["Erase", "Nothing", "Paint"])
    assert [editor.effectByIndex(n).name for n in range(editor.effectCount())] == [
        "Erase", "Paint", "Draw", "Threshold", "Smoothing",
    ]  # fmt: skip
    editor.unorderedEffectsVisible = False
    assert editor.effectCount() == 2
    assert editor.effectByIndex(2) is None
    assert editor.effectByName("Islands") is None
    editor.setActiveEffectByName("Islands")
    assert editor.activeEffect() is None
    with pytest.raises(AttributeError):
        editor.setUnorderedEffectsVisible(False)  # a property without a slot
    with pytest.raises(AttributeError):
        editor.paint()


def test_numbers_choose_effects(editor, main_window, application):
    from PySide6.QtTest import QTest

    editor.installKeyboardShortcuts(main_window)
    main_window.activateWindow()
    QTest.keyClick(main_window, qt.Qt.Key_1)
    driving.waitUntil(lambda: editor.activeEffect() is not None)
    assert editor.activeEffect().name == "Paint"
    QTest.keyClick(main_window, qt.Qt.Key_Escape)
    driving.waitUntil(lambda: editor.activeEffect() is None)
    editor.uninstallKeyboardShortcuts()
    QTest.keyClick(main_window, qt.Qt.Key_1)
    application.processEvents()
    assert editor.activeEffect() is None


def test_closing_the_scene_leaves_an_editor_that_works_again(editor, red, application):
    brush(editor, "Paint", 9.0)
    slicer.mrmlScene.Clear()
    application.processEvents()
    assert editor.segmentationNode() is None
    assert editor.activeEffect() is None
    volume = slicer.util.addVolumeFromArray(np.zeros(SHAPE, np.int16), IJK_TO_RAS, "Flipped")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    node.GetSegmentation().AddEmptySegment("first", "first")
    editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    editor.setSegmentationNode(node)
    editor.setSourceVolumeNode(volume)  # also gives the segmentation its geometry
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    brush(editor, "Paint", 9.0)
    strokes.scrollTo(red, ras(0, 0, 4))
    strokes.stroke(red, [ras(31, 24, 4)])
    assert (painted(node) == disc(31, 24, 4, 9.0)).all()


def test_a_mask_is_filled_as_a_person_would(editor, red, volume, segmentation):
    k, j, i = np.indices(SHAPE)
    mask = np.hypot((i - 35) * SPACING[0], (j - 25) * SPACING[1]) < 16
    mask |= (abs(i - 60) < 12) & (abs(j - 40) < 4)
    mask &= k < 7
    strokes.scrollTo(red, ras(0, 0, 5))
    assert strokes.fillMask(editor, red, mask, volume) > 0.95
    array = painted(segmentation)
    assert array.any(axis=(1, 2)).nonzero()[0].tolist() == [5]
    assert not (array & ~mask).any()
    strokes.scrollTo(red, ras(0, 0, 6))
    assert strokes.fillMask(editor, red, mask, volume, "second") > 0.95
    assert painted(segmentation, "second").any(axis=(1, 2)).nonzero()[0].tolist() == [6]
