"""Examples in the panel: painted with the mouse in rendered slices, listed, and answered slice by slice."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import qt
import slicer
from MedSegUncertaintyLib.propagation.guidance import Guidance, StructureGuidance
from MedSegUncertaintyLib.scene.prediction import predictedIndices
from MedSegUncertaintyLib.scene.results import findResults
from MedSegUncertaintyLib.scene.segment_slices import addToSlice, segmentSlice
from MedSegUncertaintyLib.scene.slice_places import SlicePlace, showPlace
from MedSegUncertaintyLib.scene.supports import findSupports, supportsOf
from MedSegUncertaintyLib.workers.events import Finished, SlicesFound, Started
from slicer_stand_in import driving, strokes

SECONDS = 120.0
MODEL = "Segmentation by example"


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
    choose_model(panel, "Hippocampus in MR (SSN)")
    assert not panel.ui.examplesCollapsibleButton.visible
    assert findSupports(slicer.mrmlScene) == []
    choose_model(panel)
    assert panel.ui.examplesCollapsibleButton.visible
    assert supportsOf(volume) is not None
    assert "Outline a structure in at least one slice" in panel.ui.applyButton.toolTip
    choose_model(panel, "Hippocampus in MR (SSN)")
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


def test_what_is_painted_is_hidden_below_a_result_until_the_user_goes_on(painting):
    stroke(painting, 16)
    display = painting.section._supports.painted.GetDisplayNode()
    settle(painting)
    painting.section.showInViews(False)
    slicer.app.processEvents()
    assert not display.GetVisibility()
    stroke(painting, 16, at=(40, 32))
    settle(painting)
    assert display.GetVisibility()


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


# Without a network


class Answer:
    """Stands for the worker: answers each question in two polls, with the outlines of the first example everywhere."""

    def __init__(self):
        self.asked, self._events, self._number = [], [], 0

    def propagate(self, request, volume, examples, start):
        self._number += 1
        self.asked.append((request, examples, start))
        example = next((one for one in examples if one.image is None), None)
        count = volume.array.shape[0]
        found = np.zeros(volume.array.shape, np.uint8)
        if example is not None:
            values = np.unique(example.labels.array)
            order = {int(value): number for number, value in enumerate(values[values > 0], start=1)}
            filled = np.flatnonzero(example.labels.array.any(axis=(1, 2)))
            own = example.labels.array[filled[0]]
            found[:] = sum((own == value) * np.uint8(number) for value, number in order.items())
        absent = {index for indices in request.absent.values() for index in indices}
        found[list(absent)] = 0
        number = self._number
        guidance = Guidance(
            {"Structure 1": StructureGuidance({16: 0.5}, dict.fromkeys(range(count), 0.9), {3: 0.2})}, 3, "outline",
            "samples differ", "Structure 1",
        )  # fmt: skip
        result = SimpleNamespace(provenance={"propagation": {"guidance": guidance.to_json()}})
        self._events = [
            [Started(number, "CPU"), SlicesFound(number, 0, tuple(range(count)), found)], [Finished(number, result)],
        ]  # fmt: skip
        return number

    def poll(self):
        return self._events.pop(0) if self._events else []

    def cancel(self):
        self._events = []

    def close(self):
        self._events = []


@pytest.fixture
def quick(painting):
    """The section with answers that come at once."""
    painting.answer = Answer()
    painting.widget.panel._running._worker = painting.answer
    painting.supports = painting.section._supports
    return painting


def add(painting, index, **where):
    stroke(painting, index, **where)
    driving.click(painting.ui.addSliceButton)
    settle(painting)


def mark_absent(painting, index):
    go(painting, index)
    driving.click(painting.ui.absentButton)
    settle(painting)


def test_the_ends_are_asked_for_until_a_slice_beyond_each_is_marked(quick):
    assert "Outline a structure in one slice" in quick.ui.adviceLabel.text
    add(quick, 12)
    assert "Add a second slice" in quick.ui.adviceLabel.text
    add(quick, 20)
    assert "below slice 12 and above slice 20" in quick.ui.adviceLabel.text
    mark_absent(quick, 2)
    assert "above slice 20" in quick.ui.adviceLabel.text
    assert "below" not in quick.ui.adviceLabel.text
    mark_absent(quick, 30)
    assert "The ends are marked" in quick.ui.adviceLabel.text
    assert [row[0] for row in rows(quick)] == [
        "Slice 2, S 4.0 mm", "Slice 12, S 24.0 mm", "Slice 20, S 40.0 mm", "Slice 30, S 60.0 mm",
    ]  # fmt: skip
    assert rows(quick)[0][1] == "absent: Structure 1"
    content = quick.section._strip.content
    assert (content.outlined, content.absent, content.count) == ({12, 20}, {2, 30}, 32)


def test_one_run_answers_several_changes_with_the_newest_examples(quick):
    live(quick)
    add(quick, 12)
    driving.waitUntil(lambda: answered(quick))
    count = len(quick.answer.asked)
    add(quick, 20)
    mark_absent(quick, 30)
    driving.waitUntil(lambda: len(quick.answer.asked) > count and answered(quick))
    request, examples, start = quick.answer.asked[-1]
    assert request.absent == {"Structure 1": (30,)}
    assert start == 30
    assert np.flatnonzero(examples[0].labels.array.any(axis=(1, 2))).tolist() == [12, 20]
    assert request.inference.samples == 3
    assert 30 not in quick.section._found
    assert quick.supports.paintedIn("axial") == [12, 20]
    count = len(quick.answer.asked)
    quick.section.wantLive()
    driving.waitUntil(lambda: quick.section._live.state.name == "IDLE")
    assert len(quick.answer.asked) == count  # nothing has changed


def test_the_wish_to_see_predictions_is_followed_at_once(quick):
    add(quick, 16)
    slicer.app.processEvents()
    assert quick.answer.asked == []
    live(quick)
    driving.waitUntil(lambda: answered(quick), SECONDS)
    count = len(quick.answer.asked)
    driving.click(quick.ui.placeRegionButton)
    driving.waitUntil(lambda: len(quick.answer.asked) > count, SECONDS)
    assert quick.answer.asked[-1][0].inference.roi is not None


def test_advice_is_shown_and_followed(quick):
    live(quick)
    add(quick, 16)
    driving.waitUntil(lambda: answered(quick))
    settle(quick)
    assert quick.ui.nextLabel.text == "Paint next: slice 3 (the samples differ most)"
    assert rows(quick)[0][2] == "Found by the others: Dice 0.50"
    assert "expected Dice 0.90" in quick.ui.sliceLabel.text
    assert (quick.section._strip.content.next, quick.section._strip.content.uncertainty) == (3, {3: 0.2})
    driving.click(quick.ui.goNextButton)
    assert quick.section.startIndex() == 3
    strip = quick.section._strip
    driving.click(strip, strip.position(25.5), strip.height / 2)
    assert quick.section.startIndex() == 25
    assert driving.pixels(strip).std() > 0


def test_a_found_slice_is_corrected_with_one_click(quick):
    live(quick)
    add(quick, 16)
    driving.waitUntil(lambda: answered(quick))
    go(quick, 20)
    assert quick.ui.correctButton.enabled
    driving.click(quick.ui.correctButton)
    settle(quick)
    assert [row[0] for row in rows(quick)] == ["Slice 16, S 32.0 mm", "Slice 20, S 40.0 mm"]
    segment = quick.supports.segmentIds[0]
    assert (quick.supports.pixels(segment, at(20)) == quick.supports.pixels(segment, at(16))).all()
    assert not quick.ui.correctButton.enabled
    driving.click(quick.editor._d.undoButton)
    settle(quick)
    assert quick.supports.paintedIn("axial") == [16]
    assert rows(quick)[1][1] == "Nothing is painted any more"


def at(index):
    return SlicePlace("axial", index)


def menu_action(button, text):
    menu = button.menu()
    menu.aboutToShow.emit()
    return next(action for action in menu.actions() if text in action.text)


def test_accepting_copies_and_can_be_undone(quick):
    live(quick)
    add(quick, 16)
    driving.waitUntil(lambda: answered(quick))
    menu_action(quick.ui.acceptButton, "new segmentation").trigger()
    target = slicer.mrmlScene.GetFirstNodeByName("Head - accepted")
    assert "32 slices were copied" in quick.ui.supportMessage.text
    assert segmentSlice(target, target.GetSegmentation().GetNthSegmentID(0), quick.supports.grid, 2, 5).any()
    menu_action(quick.ui.acceptButton, "Undo").trigger()
    assert target.GetSegmentation().GetNumberOfSegments() == 0
    menu_action(quick.ui.acceptButton, "painted slices").trigger()
    assert len(quick.supports.paintedIn("axial")) == 32
    assert len(rows(quick)) == 1
    driving.click(quick.editor._d.undoButton)
    assert quick.supports.paintedIn("axial") == [16]


def test_leaving_out_removing_and_jumping(quick):
    for index in (12, 20):
        add(quick, index)
    view = quick.ui.supportList
    view.item(0).setCheckState(qt.Qt.Unchecked)
    settle(quick)
    assert [one.used for one in quick.supports.examples()] == [False, True]
    assert quick.section._strip.content.leftOut == {12}
    view.setCurrentRow(0)
    driving.click(quick.ui.goExampleButton)
    assert quick.section.startIndex() == 12
    driving.click(quick.ui.removeExampleButton)
    settle(quick)
    assert [one.place.index for one in quick.supports.examples()] == [20]
    assert quick.supports.paintedIn("axial") == [12, 20]
    assert quick.section._strip.content.painted == {12}


def test_keys_do_what_the_buttons_do(quick, main_window):
    from PySide6.QtTest import QTest

    main_window.activateWindow()
    stroke(quick, 16)
    QTest.keyClick(main_window, qt.Qt.Key_S)
    driving.waitUntil(lambda: len(rows(quick)) == 1)
    go(quick, 28)
    QTest.keyClick(main_window, qt.Qt.Key_N)
    driving.waitUntil(lambda: len(rows(quick)) == 2)
    slicer.util.selectModule("")
    go(quick, 30)
    QTest.keyClick(main_window, qt.Qt.Key_N)
    slicer.app.processEvents()
    assert len(quick.supports.examples()) == 2  # elsewhere the keys are not ours


def test_an_oblique_view_is_refused_with_a_way_out(quick):
    stroke(quick, 16)
    node = quick.red.mrmlSliceNode()
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[0.9, -0.43589], [0.43589, 0.9]]
    node.GetSliceToRAS().DeepCopy(
        slicer.util.vtkMatrixFromArray(slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()) @ tilt)
    )
    node.UpdateMatrices()
    slicer.app.processEvents()
    driving.click(quick.ui.addSliceButton)
    assert "is oblique to the slices of Head" in quick.ui.supportMessage.text
    assert rows(quick) == []
    assert quick.ui.alignViewButton.visible
    driving.click(quick.ui.alignViewButton)
    assert not quick.ui.alignViewButton.visible
    go(quick, 16)
    driving.click(quick.ui.addSliceButton)
    assert len(quick.supports.examples()) == 1


def test_each_volume_has_its_own_examples(quick):
    add(quick, 16)
    other = add_volume("Other", 1)
    quick.ui.inputVolumeSelector.setCurrentNode(other)
    settle(quick)
    assert rows(quick) == []
    assert len(findSupports(slicer.mrmlScene)) == 2
    menu_action(quick.ui.importButton, "Examples of Head").trigger()
    settle(quick)
    assert rows(quick)[0][0] == "Slice 16, S 32.0 mm - Head"
    assert quick.ui.applyButton.enabled
    quick.ui.inputVolumeSelector.setCurrentNode(quick.volume)
    settle(quick)
    assert rows(quick) == [["Slice 16, S 32.0 mm", "Structure 1"]]


def test_slices_of_a_segmentation_become_examples(quick):
    source = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Reader")
    source.CreateDefaultDisplayNodes()
    source.SetReferenceImageGeometryParameterFromVolumeNode(quick.volume)
    segment = source.GetSegmentation().AddEmptySegment("", "Ball")
    slicer.util.updateSegmentBinaryLabelmapFromArray(ball().astype(np.uint8), source, segment, quick.volume)
    menu_action(quick.ui.importButton, "Slices of a segmentation").trigger()
    dialog = quick.section._files._dialog
    dialog._selector.setCurrentNode(source)
    dialog._text.text = "12, 16, 40"
    dialog._these.checked = True
    driving.click(dialog._window.findChild(qt.QDialogButtonBox).button(qt.QDialogButtonBox.Ok))
    driving.waitUntil(lambda: "became examples" in quick.ui.supportMessage.text)
    settle(quick)
    assert [row[0] for row in rows(quick)] == ["Slice 12, S 24.0 mm", "Slice 16, S 32.0 mm"]
    assert list(quick.supports.names.values()) == ["Ball"]
    assert (quick.supports.pixels(quick.supports.segmentIds[0], at(16)) == ball()[16]).all()
    dialog.open(quick.supports)
    dialog._selector.setCurrentNode(source)
    dialog._every.checked = True
    dialog._step.value = 4
    driving.click(dialog._window.findChild(qt.QDialogButtonBox).button(qt.QDialogButtonBox.Ok))
    driving.waitUntil(lambda: len(quick.supports.examples()) > 2)
    assert [one.place.index for one in quick.supports.examples()] == [9, 12, 13, 16, 17, 21]


def test_examples_are_kept_in_a_folder_and_used_on_another_volume(quick, tmp_path):
    add(quick, 12)
    add(quick, 20)
    mark_absent(quick, 30)
    quick.section._files.keep(tmp_path / "kept")
    driving.waitUntil(lambda: "were written" in quick.ui.supportMessage.text, SECONDS)
    assert (tmp_path / "kept" / "support-set.json").is_file()
    slicer.mrmlScene.Clear()
    other = add_volume("Other", 1)
    quick.ui.inputVolumeSelector.setCurrentNode(other)
    quick.ui.liveCheckBox.checked = False
    choose_model(quick.widget)
    settle(quick)
    quick.section._files.open(tmp_path / "kept")
    driving.waitUntil(lambda: "examples of 1 images" in quick.ui.supportMessage.text, SECONDS)
    settle(quick)
    assert [row[1] for row in rows(quick)] == ["Structure 1", "Structure 1", "absent: Structure 1"]
    assert all("Other" not in row[0] for row in rows(quick))
    assert quick.ui.applyButton.enabled


def test_a_closed_scene_leaves_a_section_that_works_again(quick):
    add(quick, 16)
    slicer.mrmlScene.Clear()
    slicer.app.processEvents()
    assert rows(quick) == []
    volume = add_volume()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    quick.ui.inputVolumeSelector.setCurrentNode(volume)
    quick.ui.liveCheckBox.checked = False
    choose_model(quick.widget)
    quick.volume = volume
    add(quick, 10)
    assert rows(quick) == [["Slice 10, S 20.0 mm", "Structure 1"]]


def test_nodes_that_are_removed_by_the_user_do_no_harm(quick):
    live(quick)
    add(quick, 16)
    driving.waitUntil(lambda: answered(quick))
    scene = slicer.mrmlScene
    scene.RemoveNode(quick.supports.node("predicted"))
    add(quick, 18)
    driving.waitUntil(lambda: quick.section._found and answered(quick))
    assert quick.supports.node("predicted") is not None
    scene.RemoveNode(quick.supports.table)
    slicer.app.processEvents()
    driving.click(quick.ui.addSliceButton)
    settle(quick)
    assert len(rows(quick)) == 1
    scene.RemoveNode(quick.supports.painted)
    settle(quick)
    driving.waitUntil(lambda: quick.section._supports is not None and quick.section._supports != quick.supports)
    assert rows(quick) == []
    scene.RemoveNode(quick.volume)
    slicer.app.processEvents()
    assert not quick.ui.applyButton.enabled


def test_a_saved_scene_goes_on(quick, tmp_path):
    add(quick, 16)
    mark_absent(quick, 30)
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    driving.waitUntil(lambda: len(rows(quick)) == 2)
    settle(quick)
    assert rows(quick) == [["Slice 16, S 32.0 mm", "Structure 1"], ["Slice 30, S 60.0 mm", "absent: Structure 1"]]
    assert not quick.ui.liveCheckBox.checked


# Anything in any order


class Editing:
    """Random edits, beside what has to come of them: strokes by volume and slice, and the list."""

    def __init__(self, painting, choose):
        self.painting, self.choose = painting, choose
        self.volumes = [painting.volume, add_volume("Other", 1)]
        self.strokes = {node.GetID(): {} for node in self.volumes}
        self.undone = []

    @property
    def volume(self):
        return self.painting.ui.inputVolumeSelector.currentNode()

    @property
    def supports(self):
        return self.painting.section._supports

    @property
    def painted(self):
        return self.strokes[self.volume.GetID()]

    def paint(self):
        index, column = self.choose(range(4, 28)), self.choose((20, 30, 40))
        self.painting.editor.saveStateForUndo()
        self.undone = [*self.undone, {key: value.copy() for key, value in self.painted.items()}][-20:]
        pixels = np.zeros((64, 64), bool)
        pixels[28:36, column : column + 8] = True
        addToSlice(self.supports.painted, self.supports.segmentIds[0], self.supports.grid, 2, index, pixels)
        self.painted[index] = self.painted.get(index, np.zeros((64, 64), bool)) | pixels
        go_to(self, index)

    def add(self):
        if self.painted:
            go_to(self, self.choose(sorted(self.painted)))
        self.painting.ui.addSliceButton.click()

    def absent(self):
        go_to(self, self.choose(range(32)))
        self.painting.ui.absentButton.click()

    def correct(self):
        self.painting.ui.correctButton.click()
        self.undone = []
        self.painting.editor.saveStateForUndo()
        for index in self.supports.paintedIn("axial"):
            self.painted.setdefault(index, self.supports.pixels(self.supports.segmentIds[0], at(index)))

    def toggle(self):
        view = self.painting.ui.supportList
        if view.count:
            item = view.item(self.choose(range(view.count)))
            item.setCheckState(qt.Qt.Unchecked if item.checkState() == qt.Qt.Checked else qt.Qt.Checked)

    def remove(self):
        view = self.painting.ui.supportList
        if view.count:
            view.setCurrentRow(self.choose(range(view.count)))
            self.painting.ui.removeExampleButton.click()

    def undo(self):
        if self.undone:
            self.painting.editor.undo()
            self.strokes[self.volume.GetID()] = self.undone.pop()

    def switch(self):
        self.undone = []
        other = self.volumes[self.volume is self.volumes[0]]
        self.painting.ui.inputVolumeSelector.setCurrentNode(other)

    def live(self):
        self.painting.ui.liveCheckBox.checked = not self.painting.ui.liveCheckBox.checked

    def wait(self):
        for _ in range(self.choose(range(5))):
            slicer.app.processEvents()

    def close(self):
        slicer.mrmlScene.Clear()
        self.volumes = [add_volume("Head"), add_volume("Other", 1)]
        self.strokes = {node.GetID(): {} for node in self.volumes}
        self.undone = []
        slicer.util.setSliceViewerLayers(background=self.volumes[0], fit=True)
        self.painting.ui.inputVolumeSelector.setCurrentNode(self.volumes[0])
        choose_model(self.painting.widget)
        self.painting.volume = self.volumes[0]

    def check(self):
        """No stroke is lost, and what the list shows is what the nodes say."""
        settle(self.painting)
        segment = self.supports.segmentIds[0]
        filled = {index for index, pixels in self.painted.items() if pixels.any()}
        assert set(self.supports.paintedIn("axial")) == filled
        for index in filled:
            assert (self.supports.pixels(segment, at(index)) == self.painted[index]).all()
        examples, view = self.supports.examples(), self.painting.ui.supportList
        assert [one.key for one in self.painting.section._list.examples] == [one.key for one in examples]
        assert [view.item(n).checkState() == qt.Qt.Checked for n in range(view.count)] == [one.used for one in examples]
        table = self.supports.table.GetTable()
        assert [table.GetColumnByName("Slice").GetValue(row) for row in range(table.GetNumberOfRows())] == [
            one.place.index for one in examples
        ]
        assert {one.place.index for one in examples if one.outlined} <= filled
        content = self.painting.section._strip.content
        assert content.painted == filled - {one.place.index for one in examples}
        reason = self.painting.ui.applyButton.toolTip
        assert self.painting.ui.applyButton.enabled == any(one.outlined and one.used for one in examples), reason


def go_to(editing, index):
    showPlace(at(index), editing.volume)


EDITS = (
    "paint",
    "paint",
    "paint",
    "add",
    "add",
    "absent",
    "correct",
    "toggle",
    "remove",
    "undo",
    "switch",
    "live",
    "wait",
)


@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_random_edits_lose_nothing(quick, seed):
    rng = random.Random(seed)
    editing = Editing(quick, rng.choice)
    slicer.app.pauseRender()
    for number in range(100):
        name = "close" if number and number % 33 == 0 else rng.choice(EDITS)
        getattr(editing, name)()
        editing.check()
    slicer.app.resumeRender()
