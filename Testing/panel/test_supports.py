"""Examples in the panel: painted with the mouse in rendered slices, listed, and answered slice by slice."""

from types import SimpleNamespace

import numpy as np
import pytest
import qt
import slicer
from MedSegUncertaintyLib.scene.prediction import predictedIndices
from MedSegUncertaintyLib.scene.results import findResults
from MedSegUncertaintyLib.scene.slice_places import SlicePlace, showPlace
from MedSegUncertaintyLib.scene.supports import findSupports, supportsOf
from slicer_stand_in import driving, strokes

SECONDS = 120.0
MODEL = "Segmentation by example"


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Packages that a developer has installed do not appear in the list."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    qt.QSettings().clear()


@pytest.fixture
def panel(load_module, main_window):
    """The panel, open; its widgets are ``panel.ui``."""
    main_window.resize(1400, 1100)
    load_module()
    slicer.util.selectModule("MedSegUncertainty")
    slicer.app.processEvents()
    return slicer.modules.MedSegUncertaintyWidget


def ball(center=(16, 32, 32), radii=(9, 12, 12), shape=(32, 64, 64)):
    """Mask of an ellipsoid, K, J, I."""
    grid = np.indices(shape)
    return sum(((grid[n] - center[n]) / radii[n]) ** 2 for n in range(3)) < 1


def add_volume(name="Head", seed=0):
    """A bright ball in noise; 1 mm pixels, 2 mm slices."""
    array = 100 + 80 * ball() + np.random.default_rng(seed).normal(0, 5, (32, 64, 64))
    return slicer.util.addVolumeFromArray(array.astype(np.float32), np.diag([-1.0, -1, 2, 1]), name)


def choose_model(panel, name=MODEL):
    """Click on a model of the list."""
    view = panel.ui.modelList
    row = next(row for row in range(view.count) if name in view.item(row).text())
    view.scrollToItem(view.item(row))
    center = view.visualItemRect(view.item(row)).center()
    driving.click(view.viewport(), center.x(), center.y())


@pytest.fixture
def painting(panel):
    """The section Examples on a volume, without predictions until they are asked for."""
    volume = add_volume()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    panel.ui.inputVolumeSelector.setCurrentNode(volume)
    panel.ui.liveCheckBox.checked = False
    panel.ui.deviceSelector.currentIndex = 1  # the CPU
    choose_model(panel)
    slicer.app.processEvents()
    red = slicer.app.layoutManager().sliceWidget("Red")
    editor = panel.panel._supports._painting._widget
    return SimpleNamespace(
        ui=panel.ui, widget=panel, section=panel.panel._supports, volume=volume, red=red, editor=editor
    )


def go(painting, index):
    showPlace(SlicePlace("axial", index), painting.volume)
    slicer.app.processEvents()


def stroke(painting, index, diameter=12.0, at=(32, 32), effect="Paint"):
    """One click of a round brush in the red view; the place is I, J."""
    go(painting, index)
    painting.editor.setActiveEffectByName(effect)
    brush = painting.editor.activeEffect()
    brush.setCommonParameter("BrushDiameterIsRelative", 0)
    brush.setCommonParameter("BrushAbsoluteDiameter", diameter)
    strokes.stroke(painting.red, [(-at[0], -at[1], 2.0 * index)])
    slicer.app.processEvents()


def rows(painting):
    return [painting.ui.supportList.item(n).text().split("\n") for n in range(painting.ui.supportList.count)]


def settle(painting):
    driving.waitUntil(lambda: not painting.section._changes.active and not painting.section._list._timer.active)


def test_the_section_appears_for_models_that_need_examples(panel):
    volume = add_volume()
    panel.ui.inputVolumeSelector.setCurrentNode(volume)
    choose_model(panel, "Hippocampus")
    assert not panel.ui.examplesCollapsibleButton.visible
    assert findSupports(slicer.mrmlScene) == []
    choose_model(panel)
    assert panel.ui.examplesCollapsibleButton.visible
    assert supportsOf(volume) is not None
    assert "Outline a structure in at least one slice" in panel.ui.applyButton.toolTip
    choose_model(panel, "Hippocampus")
    assert findSupports(slicer.mrmlScene) == []  # nothing was done in it


def test_a_painted_slice_becomes_an_example_with_a_click_and_follows_later_strokes(painting):
    stroke(painting, 16)
    settle(painting)
    assert "Slice 16 is painted, but no example yet" in painting.ui.adviceLabel.text
    driving.click(painting.ui.addSliceButton)
    settle(painting)
    assert rows(painting) == [["Slice 16, S 32.0 mm", "Structure 1"]]
    assert painting.ui.applyButton.enabled, painting.ui.applyButton.toolTip
    supports = painting.section._supports
    before = supports.pixels(supports.segmentIds[0], SlicePlace("axial", 16)).sum()
    stroke(painting, 16, at=(40, 32))
    assert supports.pixels(supports.segmentIds[0], SlicePlace("axial", 16)).sum() > before
    settle(painting)
    assert len(rows(painting)) == 1
    assert not painting.ui.supportList.item(0).icon().isNull()


# Live


def colored(view):
    """Pixels that are not gray."""
    return int((driving.pixels(view).astype(int).max(axis=-1) - driving.pixels(view).min(axis=-1) > 30).sum())


def live(painting, wanted=True):
    painting.ui.liveCheckBox.checked = wanted


def answered(painting):
    from MedSegUncertaintyLib.gui.live import State

    return painting.section._live.state is State.IDLE and painting.section._guidance.structures


def test_slices_appear_in_a_node_of_their_own_while_the_user_paints(painting):
    live(painting)
    green = slicer.app.layoutManager().sliceWidget("Green").sliceView()
    showPlace(SlicePlace("coronal", 32), painting.volume)
    stroke(painting, 16, diameter=24)
    driving.click(painting.ui.addSliceButton)
    slicer.app.processEvents()
    before = colored(green)
    driving.waitUntil(lambda: painting.section._found, SECONDS)
    driving.waitUntil(lambda: colored(green) > 3 * before, SECONDS)
    driving.waitUntil(lambda: answered(painting), SECONDS)
    supports = painting.section._supports
    found = predictedIndices(supports, "axial")
    assert set(range(12, 21)) <= set(found)
    assert supports.paintedIn("axial") == [16]
    settle(painting)
    slicer.app.processEvents()


def test_apply_gives_the_usual_result_in_the_colors_that_were_painted(painting):
    stroke(painting, 16, diameter=24)
    driving.click(painting.ui.addSliceButton)
    painting.ui.samplesSpinBox.value = 2
    supports = painting.section._supports
    segment = supports.painted.GetSegmentation().GetSegment(supports.segmentIds[0])
    segment.SetName("Ball")
    segment.SetColor(0.1, 0.8, 0.3)
    settle(painting)
    driving.click(painting.ui.applyButton)
    driving.waitUntil(lambda: painting.ui.applyButton.text == "Apply", SECONDS)
    assert painting.ui.messageLabel.text == ""
    (nodes,) = findResults(slicer.mrmlScene)
    (structure,) = nodes.structures
    assert structure.name == "Ball"
    assert structure.color == pytest.approx((0.1, 0.8, 0.3))
    assert nodes.volumesTable.GetNumberOfRows() == 2
    assert supports.paintedIn("axial") == [16]


def test_apply_takes_the_process_and_live_goes_on_after_it(painting):
    live(painting)
    stroke(painting, 16, diameter=24)
    driving.click(painting.ui.addSliceButton)
    driving.waitUntil(lambda: painting.section._live.state.name == "RUNNING", SECONDS)
    painting.ui.samplesSpinBox.value = 1
    driving.click(painting.ui.applyButton)
    assert painting.ui.applyButton.text == "Cancel"
    driving.waitUntil(lambda: painting.ui.applyButton.text == "Apply", SECONDS)
    assert len(findResults(slicer.mrmlScene)) == 1
    driving.waitUntil(lambda: answered(painting), SECONDS)
    assert painting.section._found
