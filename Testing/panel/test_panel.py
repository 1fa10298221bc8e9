"""Our panel, driven as a person would: with mouse and keys, from a volume to the views of its result."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import qt
import slicer
from MedSegUncertaintyLib.gui import steps
from MedSegUncertaintyLib.packages.store import ENVIRONMENT_VARIABLE
from MedSegUncertaintyLib.scene import surfaces
from MedSegUncertaintyLib.scene.bundle import addVolume
from MedSegUncertaintyLib.scene.nodes import addResult
from MedSegUncertaintyLib.scene.preview import PreviewMap
from MedSegUncertaintyLib.scene.results import findResults
from MedSegUncertaintyLib.uncertainty.samples import SampleSet
from MedSegUncertaintyLib.uncertainty.statistics import Statistics
from slicer_stand_in import driving
from slicer_stand_in.pauses import Pauses

SHIPPED = "ssn-hippocampus-mr"
SECONDS = 120.0


@pytest.fixture
def packages(tmp_path, monkeypatch, make_metadata):
    """Makes packages that can be listed, without weights."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "models"))

    def make(name, **own):
        folder = tmp_path / "models" / name
        for part in ("configs", "models", "docs"):
            (folder / part).mkdir(parents=True)
        described = {**make_metadata(**own), "name": name}
        (folder / "configs" / "metadata.json").write_text(json.dumps(described), encoding="utf-8")
        (folder / "models" / "model.safetensors").write_bytes(b"")
        (folder / "docs" / "README.md").write_text("# Card\n", encoding="utf-8")
        (folder / "LICENSE").write_text("Apache-2.0\n", encoding="utf-8")

    return make


@pytest.fixture
def shown(panel, blob_volume, blob_result):
    """The panel with a result that came from elsewhere."""
    volume = addVolume(blob_volume)
    panel.ui.inputVolumeSelector.setCurrentNode(volume)
    nodes = addResult(blob_result, volume)
    driving.waitUntil(lambda: panel.panel._viewer.nodes is not None)
    return SimpleNamespace(ui=panel.ui, nodes=nodes, widget=panel)


def choose_model(panel, name):
    """Click on a model of the list."""
    return driving.chooseItem(panel.ui.modelList, name)


def ready(panel, volume, samples=4):
    """Choose everything but press nothing."""
    panel.ui.inputVolumeSelector.setCurrentNode(volume)
    choose_model(panel, "Hippocampus in MR (SSN)")
    driving.click(panel.ui.placeRegionButton)
    panel.ui.samplesSpinBox.value = samples
    panel.ui.deviceSelector.currentIndex = 1  # the CPU
    assert panel.ui.applyButton.enabled, panel.ui.applyButton.toolTip


def scene_content():
    scene = slicer.mrmlScene
    nodes = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return sorted(node.GetID() for node in nodes), [c.GetForegroundVolumeID() for c in composites]


def idle(panel):
    return panel.ui.applyButton.text == "Apply"


# Start


def test_the_module_is_imported_in_less_than_a_tenth_of_a_second_and_without_torch():
    code = """
import sys, time, slicer_stand_in
slicer_stand_in.install()
import slicer.ScriptedLoadableModule, slicer.parameterNodeWrapper, slicer.i18n  # Slicer's own, loaded before any module
sys.path.insert(0, "MedSegUncertainty")
start = time.process_time()
import MedSegUncertainty
print(time.process_time() - start, sorted({"torch", "monai", "SimpleITK"} & set(sys.modules)))
"""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = {**os.environ, "PYTHONPATH": os.path.join(root, "Testing")}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    seconds, _, heavy = run.stdout.partition(" ")
    assert float(seconds) < 0.1
    assert heavy.strip() == "[]"


def test_every_control_has_a_tool_tip_and_every_node_box_its_scene(panel):
    controls = [
        w for w in vars(panel.ui).values() if isinstance(w, (qt.QAbstractButton, qt.QComboBox, qt.QAbstractSpinBox))
    ]
    named = [w for w in controls if w.name and not w.name.startswith("qt_") and "ollapsible" not in w.name]
    assert [w.name for w in named if not w.toolTip] == []
    assert panel.ui.inputVolumeSelector.enabled
    assert panel.ui.regionSelector.enabled


# Choosing


def test_apply_says_what_is_missing(panel, head):
    tips = [panel.ui.applyButton.toolTip]
    assert not panel.ui.applyButton.enabled
    panel.ui.inputVolumeSelector.setCurrentNode(head)
    tips.append(panel.ui.applyButton.toolTip)
    text = choose_model(panel, "Hippocampus in MR (SSN)")
    tips.append(panel.ui.applyButton.toolTip)
    assert [tip.split(".")[0].split(";")[0] for tip in tips] == [
        "Choose a volume to segment", "Choose a model", "This model needs a region of interest",
    ]  # fmt: skip
    for part in ("MR, brain", "anterior hippocampus", "6.3 MB", "CC-BY-SA-4.0", "region of interest", "Fits"):
        assert part in text
    assert "Center the box on one hippocampus" in panel.ui.regionHint.text


def test_the_region_is_placed_where_the_views_cross(panel, head):
    slicer.util.setSliceViewerLayers(background=head, fit=True)
    panel.ui.inputVolumeSelector.setCurrentNode(head)
    choose_model(panel, "Hippocampus in MR (SSN)")
    for name, offset in {"Red": 40.0, "Green": 30.0, "Yellow": -25.0}.items():
        slicer.app.layoutManager().sliceWidget(name).sliceLogic().SetSliceOffset(offset)
    driving.click(panel.ui.placeRegionButton)
    (region,) = slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")
    assert region.GetCenterWorld() == pytest.approx((25, 30, 40))
    assert region.GetSize() == pytest.approx((40, 56, 40))
    assert panel.ui.applyButton.enabled
    driving.click(panel.ui.placeRegionButton)
    assert len(slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")) == 1


@pytest.mark.parametrize(
    ("own", "values", "spacing", "word"),
    [
        ({"modality": "CT"}, (0, 200), 1.0, "air in CT is -1000"),
        ({"modality": "MR"}, (-1000, 200), 1.0, "look like CT"),
        ({"grid": {"spacing_mm": [1, 1, 1], "orientation": "RAS"}}, (0, 200), 5.0, "coarser"),
        ({"modality": "MR"}, (0, 200), 1.0, ""),
    ],
)
def test_a_model_that_does_not_fit_says_so_before(packages, panel, own, values, spacing, word):
    packages("Odd", **own)
    array = np.linspace(*values, 8**3).reshape(8, 8, 8).astype(np.float32)
    volume = slicer.util.addVolumeFromArray(array, np.diag([1, 1, spacing, 1]))
    panel.panel.enter()
    panel.ui.inputVolumeSelector.setCurrentNode(volume)
    text = choose_model(panel, "Odd")
    assert ("May not fit" in text) == bool(word)
    assert word in panel.ui.misfitLabel.text
    assert panel.ui.applyButton.enabled  # the user decides


def test_what_the_dicom_header_says_comes_first(packages, panel, head):
    packages("Odd")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    hierarchy.SetItemAttribute(hierarchy.GetItemByDataNode(head), "DICOM.Modality", "CT")
    panel.panel.enter()
    panel.ui.inputVolumeSelector.setCurrentNode(head)
    choose_model(panel, "Odd")
    assert "The DICOM header says CT" in panel.ui.misfitLabel.text


def test_a_color_image_is_refused_by_a_model_of_gray_ones(packages, panel):
    packages("Odd")
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Photograph")
    slicer.util.updateVolumeFromArray(volume, np.zeros((4, 4, 4, 3), np.uint8))
    panel.panel.enter()
    panel.ui.inputVolumeSelector.setCurrentNode(volume)
    assert "Cannot be used" in choose_model(panel, "Odd")
    assert not panel.ui.applyButton.enabled
    assert "color" in panel.ui.applyButton.toolTip


def test_a_damaged_package_is_listed_with_its_error(packages, panel, tmp_path):
    packages("Odd")
    (tmp_path / "models" / "Odd" / "LICENSE").unlink()
    panel.panel.enter()
    last = panel.ui.modelList.item(panel.ui.modelList.count - 1)
    assert "has no file LICENSE" in last.text()


def test_what_fits_the_volume_is_listed_first(packages, panel, head):
    packages("A: for photographs", channels=[{"role": role, "name": role} for role in ("red", "green", "blue")])
    packages("B: for CT", modality="CT")
    packages("Z: for MR", modality="MR")
    panel.panel.enter()
    titles = [panel.ui.modelList.item(row).text().splitlines()[0] for row in range(panel.ui.modelList.count)]
    assert titles.index("A: for photographs") < titles.index("B: for CT") < titles.index("Z: for MR")
    choose_model(panel, "B: for CT")
    panel.ui.inputVolumeSelector.setCurrentNode(head)
    texts = [panel.ui.modelList.item(row).text().splitlines() for row in range(panel.ui.modelList.count)]
    titles, words = zip(*((text[0], text[-1]) for text in texts), strict=True)
    assert titles.index("Z: for MR") < titles.index("B: for CT")
    order = ["Fits this volume", "May not fit this volume", "Cannot be used with this volume"]
    assert [order.index(word) for word in words] == sorted(order.index(word) for word in words)
    assert "B: for CT" in panel.ui.modelList.currentItem().text()


def test_every_channel_has_a_selector_and_the_scene_keeps_it(packages, panel, head, tmp_path):
    packages("Two", channels=[{"role": "t1", "name": "T1"}, {"role": "t2", "name": "T2-weighted MR"}])
    panel.panel.enter()
    panel.ui.inputVolumeSelector.setCurrentNode(head)
    choose_model(panel, "Two")
    assert panel.ui.channelsFrame.visible
    assert "t2" in panel.ui.applyButton.toolTip
    selector = panel.parent.findChild("qMRMLNodeComboBox", "t2ChannelSelector")
    selector.setCurrentNode(slicer.util.addVolumeFromArray(np.ones((4, 4, 4)), None, "Second"))
    assert panel.ui.applyButton.enabled
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    assert not panel.ui.applyButton.enabled
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    slicer.app.processEvents()
    assert panel.ui.applyButton.enabled
    assert panel.parent.findChild("qMRMLNodeComboBox", "t2ChannelSelector").currentNode().GetName() == "Second"


def test_controls_of_a_family_appear_for_its_models_only(packages, panel, head):
    packages("Stochastic")
    packages("Other", family="another")
    panel.panel.enter()
    panel.ui.inputVolumeSelector.setCurrentNode(head)
    choose_model(panel, "Stochastic")
    assert panel.ui.ssnGroup.visible
    choose_model(panel, "Other")
    assert not panel.ui.ssnGroup.visible


def test_class_weights_follow_the_structures_and_reach_the_request(packages, panel, head):
    packages("Stochastic")
    panel.panel.enter()
    panel.ui.inputVolumeSelector.setCurrentNode(head)
    choose_model(panel, "Stochastic")
    inputs = panel.panel._inputs
    names = [structure.name for structure in inputs.package.structures]
    form = panel.ui.classWeightsFrame.layout()
    assert form.rowCount() == 1 + len(names) == 3  # a heading and the sliders
    assert inputs.request().class_weights == ()
    sliders = inputs._weights._sliders
    sliders[1].value = -1.5
    assert inputs.request().class_weights == (1.0, -1.5)
    choose_model(panel, "Hippocampus in MR (SSN)")
    choose_model(panel, "Stochastic")
    assert inputs.request().class_weights == ()  # they belonged to another model
    assert [slider.value for slider in inputs._weights._sliders] == [1.0, 1.0]


# Running


def test_from_apply_to_the_views_without_a_long_pause(panel, head, monkeypatch):
    ready(panel, head)
    stages, previews = heard(panel, monkeypatch)
    with Pauses() as pauses:
        pauses.phase("run")
        driving.click(panel.ui.applyButton)
        assert panel.ui.applyButton.text == "Cancel"
        driving.waitUntil(lambda: idle(panel), SECONDS)
        driving.waitUntil(lambda: panel.panel._viewer._surfaces is None, SECONDS)
    assert "Drawing samples" in stages
    assert previews
    assert not panel.ui.messageFrame.visible
    (nodes,) = findResults(slicer.mrmlScene)
    assert panel.panel._parameters.result is nodes.samples
    assert panel.ui.structureTable.rowCount == 2
    assert panel.ui.contoursModeButton.checked
    assert panel.ui.surfacesCheckBox.checked
    assert not any("preview" in name for name in hierarchy_names())
    assert "About" in panel.ui.estimateLabel.text
    assert "CPU: about" in panel.ui.deviceLabel.text
    assert pauses.phases["run"].cpu < 0.25, pauses.report()  # a tenth of a second where the machine is not busy

    panel.ui.temperatureSlider.value = 0.0
    stages.clear()
    driving.click(panel.ui.redrawButton)
    driving.waitUntil(lambda: idle(panel), SECONDS)
    assert "Encoding the image" not in stages  # it was kept
    driving.waitUntil(lambda: len(findResults(slicer.mrmlScene)) == 1)  # in place of the first one
    (again,) = findResults(slicer.mrmlScene)
    assert again.folder != nodes.folder
    assert again.run["request"]["temperature"] == 0
    assert np.ptp(slicer.util.arrayFromTableColumn(again.volumesTable, "Anterior hippocampus (mL)")) == 0


def heard(panel, monkeypatch):
    """Stages that the panel was told of and previews that it showed, however short: on a busy machine many of them
    come between two looks at the screen."""
    stages, previews = set(), []
    tell, show = panel.panel.onProgress, PreviewMap.show

    def told(share, text):
        stages.add(text.split(":")[0])
        tell(share, text)

    def shown_(preview, *arguments):
        previews.append(arguments)
        show(preview, *arguments)

    monkeypatch.setattr(panel.panel, "onProgress", told)
    monkeypatch.setattr(PreviewMap, "show", shown_)
    return stages, previews


def hierarchy_names():
    import vtk

    hierarchy, items = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene), vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    return [hierarchy.GetItemName(items.GetId(n)) for n in range(items.GetNumberOfIds())]


def test_cancel_leaves_the_scene_as_it_was(panel, head):
    ready(panel, head, samples=200)
    before = scene_content()
    driving.click(panel.ui.applyButton)
    driving.waitUntil(lambda: "Drawing" in panel.ui.progressLabel.text, SECONDS)
    driving.waitUntil(lambda: len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) > 1, SECONDS)
    start = time.monotonic()
    driving.click(panel.ui.applyButton)
    driving.waitUntil(lambda: idle(panel), 20)
    assert time.monotonic() - start < 5  # it is less than a second where the machine is not busy
    assert scene_content() == before
    assert not panel.ui.progressFrame.visible


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_killed_process_is_a_sentence_and_its_log_one_click_away(panel, head):
    ready(panel, head)
    before = scene_content()
    driving.click(panel.ui.applyButton)
    worker = panel.panel._running._worker
    driving.waitUntil(lambda: worker._child is not None and worker._child.ready.is_set(), SECONDS)
    os.kill(worker._child.pid, signal.SIGKILL)
    driving.waitUntil(lambda: idle(panel), SECONDS)
    assert "was killed" in panel.ui.messageLabel.text
    assert scene_content() == before
    panel.panel._messages.show(panel.ui.messageLabel.text, "last words")
    driving.click(panel.ui.logButton)
    window = next(w for w in slicer.app.topLevelWidgets() if w.objectName == "MedSegUncertaintyLog")
    assert "last words" in window.findChild(qt.QPlainTextEdit).plainText
    window.close()


def test_a_closed_scene_ends_the_run(panel, head):
    ready(panel, head)
    driving.click(panel.ui.applyButton)
    slicer.mrmlScene.Clear()
    slicer.app.processEvents()
    assert idle(panel)
    assert not panel.ui.applyButton.enabled
    assert panel.ui.inputVolumeSelector.currentNode() is None


def test_reloading_the_module_leaves_no_process(panel, head):
    ready(panel, head)
    driving.click(panel.ui.applyButton)
    worker = panel.panel._running._worker
    driving.waitUntil(lambda: worker._child is not None, SECONDS)
    slicer.util.reloadScriptedModule("MedSegUncertainty")
    driving.waitUntil(worker._child.ended.is_set, 20)
    assert slicer.modules.MedSegUncertaintyWidget is not panel


# Looking


def test_a_result_of_elsewhere_is_found(shown):
    assert shown.ui.resultFrame.visible
    assert shown.ui.resultSelector.currentText == "Two blobs - Two blobs"
    texts = [shown.ui.structureTable.item(0, column).text() for column in range(6)]
    assert texts[0] == "Left blob"
    assert "to" in texts[2]


def test_each_mode_shows_its_own(shown):
    nodes, ui = shown.nodes, shown.ui
    ui.surfacesCheckBox.checked = True
    driving.waitUntil(lambda: shown.widget.panel._viewer._surfaces is None)
    driving.click(ui.outlinesModeButton)
    assert nodes.samples.GetDisplayNode().GetVisibility()
    ui.outlineOpacitySlider.value = 0.25
    assert nodes.samples.GetDisplayNode().GetOpacity2DOutline() == 0.25
    driving.click(ui.sampleModeButton)
    assert not nodes.samples.GetDisplayNode().GetVisibility()
    assert nodes.selectedSample.GetDisplayNode().GetVisibility()
    ui.sampleSlider.value = 5
    assert nodes.browser.GetSelectedItemNumber() == 5
    assert ui.sampleLabel.text == "Sample 6 of 8"
    driving.click(ui.compareModeButton)
    assert slicer.app.layoutManager().sliceViewNames()[0] == "MedSegUncertaintyMedian"
    assert "median" in ui.compareLabel.text
    driving.click(ui.contoursModeButton)
    assert slicer.app.layoutManager().sliceViewNames() == ("Red", "Green", "Yellow")
    assert nodes.contours.GetDisplayNode().GetVisibility()
    assert ui.surfacesCheckBox.checked
    slicer.app.processEvents()
    assert ui.modeStack.height < 60


def assert_framed(corners_ras, node, around=0.0):
    """A box, and what is around it (mm), is in a view and fills it one way."""
    axes = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
    corners = (corners_ras - axes[:3, 3]) @ axes[:3, :2]
    shown, size = np.array(node.GetFieldOfView()[:2]), np.array(node.GetDimensions()[:2])
    assert (abs(corners) + around <= shown / 2).all()
    assert ((np.ptp(corners, axis=0) + 2 * around) / shown).max() == pytest.approx(1 / 1.1, rel=0.01)
    assert shown[0] / shown[1] == pytest.approx(size[0] / size[1], rel=0.02)


def test_views_side_by_side_show_the_whole_region(shown):
    driving.click(shown.ui.compareModeButton)
    for _ in range(5):
        slicer.app.processEvents()
    layouts = slicer.app.layoutManager()
    assert len(layouts.sliceViewNames()) == 3
    for name in layouts.sliceViewNames():
        assert_framed(shown.nodes.grid.corners_ras, layouts.sliceWidget(name).mrmlSliceNode())


def test_one_sample_is_not_shown_with_the_contours_of_all(shown):
    ui, display = shown.ui, shown.nodes.contours.GetDisplayNode()
    ui.surfacesCheckBox.checked = True
    driving.waitUntil(lambda: shown.widget.panel._viewer._surfaces is None)
    for button, visible in ((ui.outlinesModeButton, 1), (ui.sampleModeButton, 0), (ui.contoursModeButton, 1)):
        driving.click(button)
        driving.waitUntil(lambda: shown.widget.panel._viewer._surfaces is None)
        assert display.GetVisibility() == visible
        assert ui.surfacesCheckBox.checked


def near(picture, color):
    """Where a picture has a color, more or less."""
    return np.abs(picture.astype(int) - color).max(axis=-1) < 40


def test_views_side_by_side_say_what_they_show(shown, blob_result):
    ui, nodes, volume = shown.ui, shown.nodes, shown.nodes.inputVolume
    legends = sorted(nodes.legends)
    ui.mapSelector.currentIndex = ui.mapSelector.findText("Variance")
    driving.click(ui.compareModeButton)
    for _ in range(5):
        slicer.app.processEvents()
    median = blob_result.summary["representatives"]["median_sample"]
    titles = shown.widget.panel._viewer._titles._titles
    assert [titles[name].GetInput() for name in slicer.app.layoutManager().sliceViewNames()] == [
        f"Sample {median}, the median", "Sample 1", "Sample 8",
    ]  # fmt: skip
    for name in slicer.app.layoutManager().sliceViewNames():
        picture = driving.pixels(slicer.app.layoutManager().sliceWidget(name).sliceView())
        rows, columns, _ = picture.shape
        assert near(picture[: rows // 10, : columns // 2], (255, 255, 0)).sum() > 50  # the title
        bar = picture[:, int(0.95 * columns) :]
        top, bottom = (np.flatnonzero(near(bar, color).any(axis=1)) for color in ((252, 255, 164), (60, 10, 100)))
        assert bottom.max() - top.min() > rows / 4
    assert sorted(set(nodes.legends) - {"variance"}) == legends
    assert [key for key, legend in nodes.legends.items() if legend.GetVisibility()] == ["variance"]
    driving.click(ui.removeButton)
    driving.waitUntil(lambda: not slicer.util.getNodesByClass("vtkMRMLTableNode"))
    assert slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode") == []
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeDisplayNode") == [volume.GetDisplayNode()]


def surface_of(segmentation_node, segment):
    """A segment's surface; None if it has none."""
    return segmentation_node.GetSegmentation().GetSegment(segment).GetRepresentation("Closed surface")


def extent_of(polydata):
    """Largest extent, mm."""
    return np.ptp(np.reshape(polydata.GetBounds(), (3, 2)), axis=1).max()


def test_one_sample_is_shown_in_3d(shown):
    ui, nodes = shown.ui, shown.nodes
    ui.surfacesCheckBox.checked = True
    driving.waitUntil(lambda: shown.widget.panel._viewer._surfaces is None)
    driving.click(ui.sampleModeButton)
    view = slicer.app.layoutManager().threeDWidget(0).threeDView()
    diameters = []
    for sample, growth in ((0, -1.5), (7, 1.5), (0, -1.5)):  # the blobs grow with the number of the sample
        ui.sampleSlider.value = sample
        assert surface_of(nodes.selectedSample, "right_blob") is None  # not that of another sample
        driving.waitUntil(lambda: surface_of(nodes.selectedSample, "right_blob") is not None, SECONDS)
        diameters.append(extent_of(surface_of(nodes.selectedSample, "right_blob")))
        assert diameters[-1] == pytest.approx(2 * (7 + growth), abs=1.5)
        assert surface_of(nodes.selectedSample, "left_blob").GetNumberOfPoints() > 200
    assert diameters[0] == diameters[2] < diameters[1] - 5
    slicer.app.layoutManager().resetThreeDViews()
    seen = driving.pixels(view).astype(int)
    orange = np.array(nodes.structures[0].color) * 255
    hue = seen - seen.mean(axis=-1, keepdims=True)
    assert (np.abs(hue - (orange - orange.mean())).max(axis=-1) < 60).sum() > 300
    driving.click(ui.contoursModeButton)
    ui.surfacesCheckBox.checked = False
    driving.click(ui.sampleModeButton)
    assert not nodes.selectedSample.GetDisplayNode().GetVisibility3D()


def test_samples_that_play_get_their_surfaces_too(shown):
    ui, nodes = shown.ui, shown.nodes
    ui.surfacesCheckBox.checked = True
    driving.click(ui.sampleModeButton)
    driving.click(ui.playButton)
    nodes.browser.SetPlaybackRateFps(20)
    made = shown.widget.panel._viewer._sampleSurfaces._made
    driving.waitUntil(lambda: len(made) > 2, SECONDS)
    driving.click(ui.playButton)
    number = nodes.browser.GetSelectedItemNumber()
    driving.waitUntil(lambda: surface_of(nodes.selectedSample, "right_blob") is not None, SECONDS)
    assert surface_of(nodes.selectedSample, "right_blob") is made[number]["right_blob"]


def test_surfaces_are_made_beside_the_thread_of_the_window(shown, monkeypatch):
    threads, make = [], surfaces.surfaceOf

    def made(*arguments):
        threads.append(threading.current_thread())
        return make(*arguments)

    monkeypatch.setattr(surfaces, "surfaceOf", made)
    shown.ui.surfacesCheckBox.checked = True
    driving.waitUntil(lambda: shown.widget.panel._viewer._surfaces is None)
    assert len(threads) == 6
    assert threading.main_thread() not in threads
    assert extent_of(surface_of(shown.nodes.contours, "right_blob_05")) == pytest.approx(17, abs=1.5)


def test_steps_wait_for_a_thread_while_the_window_goes_on():
    ended, go_on = [], threading.Event()
    with ThreadPoolExecutor(1) as pool:

        def work():
            answer = pool.submit(go_on.wait, SECONDS)
            yield answer
            return answer.result()

        steps.Steps(work(), ended.append, ended.append)
        for _ in range(20):
            slicer.app.processEvents()
        assert ended == []
        go_on.set()
        driving.waitUntil(lambda: ended)
        steps.Steps(work(), ended.append, ended.append).finish()
    assert ended == [True, True]


def test_surfaces_of_contours_that_become_ready_later_do_not_cover_the_sample(shown):
    ui, display = shown.ui, shown.nodes.contours.GetDisplayNode()
    ui.surfacesCheckBox.checked = True
    driving.click(ui.sampleModeButton)
    driving.waitUntil(lambda: shown.widget.panel._viewer._surfaces is None)
    assert not display.GetVisibility()
    assert ui.surfacesCheckBox.checked


def test_a_scene_can_be_saved_after_samples_were_compared(shown, tmp_path):
    for _ in range(2):
        driving.click(shown.ui.compareModeButton)
        slicer.app.processEvents()
        driving.click(shown.ui.contoursModeButton)
        slicer.app.processEvents()
    assert shown.nodes.samples.GetNumberOfDisplayNodes() == 4  # its own, and one per view
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    assert (tmp_path / "scene.mrb").is_file()
    driving.click(shown.ui.removeButton)
    driving.waitUntil(lambda: slicer.util.getNodesByClass("vtkMRMLSegmentationDisplayNode") == [])


def test_samples_play(shown):
    driving.click(shown.ui.sampleModeButton)
    driving.click(shown.ui.playButton)
    shown.nodes.browser.SetPlaybackRateFps(50)
    driving.waitUntil(lambda: shown.ui.sampleSlider.value == 2)
    driving.click(shown.ui.playButton)
    assert not shown.nodes.browser.GetPlaybackActive()


def test_the_key_toggles_the_map(shown, main_window):
    from PySide6.QtTest import QTest

    ui = shown.ui
    ui.mapSelector.currentIndex = ui.mapSelector.findText("Entropy")
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert red.GetForegroundVolumeID() == shown.nodes.maps["entropy"].GetID()
    assert "undecided" in ui.mapHelpLabel.text
    assert not ui.mapStructureSelector.enabled
    ui.mapOpacitySlider.value = 0.4
    assert red.GetForegroundOpacity() == pytest.approx(0.4)
    main_window.activateWindow()
    for visible in (False, True):
        QTest.keyClick(main_window, qt.Qt.Key_U)
        driving.waitUntil(lambda visible=visible: bool(red.GetForegroundVolumeID()) is visible)
        assert (ui.mapSelector.currentText == "Entropy") is visible
    slicer.util.selectModule("")
    QTest.keyClick(main_window, qt.Qt.Key_U)
    assert red.GetForegroundVolumeID()  # elsewhere the key is not ours


def double_click(table, row):
    center = table.visualItemRect(table.item(row, 0)).center()
    driving.doubleClick(table.viewport(), center.x(), center.y())


def test_a_double_click_goes_to_the_most_uncertain_slice_and_buttons_to_the_next(shown):
    ui = shown.ui
    red = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
    red.SetSliceOffset(-1000)
    double_click(ui.structureTable, 1)
    assert "Right blob: Axial slice" in ui.placeLabel.text
    first = red.GetSliceOffset()
    assert first > -1000
    driving.click(ui.nextSliceButton)
    second = red.GetSliceOffset()
    driving.click(ui.previousSliceButton)
    assert red.GetSliceOffset() == pytest.approx(first)
    assert "number" in ui.placeLabel.text
    assert second != first or "number 1" in ui.placeLabel.text


def everywhere(result):
    """A result as a model by example gives it: without a region, on all of the volume."""
    starts, stops, sizes = result.box.start_ijk, result.box.stop_ijk, result.geometry.shape_ijk
    pad = [(start, size - stop) for start, stop, size in zip(starts, stops, sizes, strict=True)][::-1]

    def padded(name, array):
        plain = name in ("count", "volumes_ml")
        return array if plain else np.pad(array, [(0, 0)] * (array.ndim - 3) + pad)

    samples = SampleSet(result.geometry.shape_kji)
    for labels in result.samples:
        samples.append(result.on_grid(labels))
    statistics = Statistics(**{name: padded(name, array) for name, array in vars(result.statistics).items()})
    return replace(result, box=result.geometry.whole(), samples=samples, statistics=statistics)


def test_a_double_click_zooms_to_the_structure_and_not_to_all_that_was_segmented(shown, blob_result):
    nodes = addResult(everywhere(blob_result), shown.nodes.inputVolume)
    shown.widget.panel._viewer.show(nodes)
    k, j, i = np.nonzero(blob_result.on_grid(blob_result.contour(1, 0.05)))
    edges = np.array([(i.min(), j.min(), k.min()), (i.max(), j.max(), k.max())]) + np.array([[-0.5], [0.5]])
    corners = blob_result.geometry.to_ras(np.array(np.meshgrid(*edges.T)).reshape(3, -1).T)
    double_click(shown.ui.structureTable, 1)
    for name in ("Red", "Green", "Yellow"):
        node = slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode()
        assert_framed(corners, node, around=10.0)
    # A structure without a contour is looked for in all that was segmented.
    nodes.contours.GetSegmentation().GetSegment("right_blob_05").RemoveAllRepresentations()
    double_click(shown.ui.structureTable, 1)
    assert_framed(nodes.grid.corners_ras, slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode())


def test_the_volumes_are_plotted_and_the_layout_comes_back(shown):
    layouts = slicer.app.layoutManager()
    before = layouts.layout
    driving.click(shown.ui.plotButton)
    assert layouts.plotViewCount == 1
    assert layouts.plotWidget(0).mrmlPlotViewNode().GetPlotChartNodeID() == shown.nodes.chart.GetID()
    driving.click(shown.ui.plotButton)
    assert layouts.layout == before


def test_the_panel_says_what_kind_of_samples_it_shows(shown, blob_result):
    ui = shown.ui
    assert ui.tableLabel.text == "Spread of model samples:"
    assert not ui.kindLabel.visible
    package = replace(blob_result.package, family="selfreg", arguments={"samples": "dropout"})
    shown.widget.panel._viewer.show(addResult(replace(blob_result, package=package), shown.nodes.inputVolume))
    assert ui.tableLabel.text == "Spread of Monte-Carlo dropout:"
    assert ui.kindLabel.visible
    assert ui.kindLabel.text == (
        "This spread shows what the network knows too little of, not what readers disagree about."
    )


def test_remove_takes_everything_away(shown):
    driving.click(shown.ui.removeButton)
    driving.waitUntil(lambda: not slicer.util.getNodesByClass("vtkMRMLTableNode"))
    assert findResults(slicer.mrmlScene) == []
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationDisplayNode") == []
    assert not [name for name in hierarchy_names() if name != "Two blobs"]
    assert shown.ui.noResultLabel.visible
    assert not shown.ui.resultFrame.visible


def test_a_scene_is_closed_while_a_result_is_being_removed(shown):
    driving.click(shown.ui.removeButton)
    assert shown.widget.panel._viewer._removal is not None
    slicer.mrmlScene.Clear()
    slicer.app.processEvents()
    assert shown.widget.panel._viewer._removal is None
    assert not shown.ui.resultFrame.visible
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_arrays_of_a_removed_result_are_let_go(shown, blob_result):
    own = replace(blob_result)
    kept = weakref.ref(own)
    shown.widget.panel._export.keep(shown.nodes, own)
    del own
    assert kept() is not None
    driving.click(shown.ui.removeButton)
    driving.waitUntil(lambda: kept() is None)


def test_numbers_are_exported(shown, tmp_path, monkeypatch):
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    numbers = next(action for action in shown.ui.exportButton.menu().actions() if "CSV" in action.text)
    numbers.trigger()
    assert (tmp_path / "Two blobs - Two blobs" / "volumes.csv").is_file()
    assert "were written" in shown.ui.messageLabel.text


@pytest.mark.parametrize("copied", [False, True], ids=["while it is copied", "while it is written"])
def test_canceling_the_export_of_a_loaded_result_leaves_no_files(shown, tmp_path, monkeypatch, copied):
    from MedSegUncertaintyLib.inference.progress import StageClock

    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    reached, go_on, counted = threading.Event(), threading.Event(), StageClock.counted

    def wait(clock, *arguments):
        reached.set()
        go_on.wait(SECONDS)
        counted(clock, *arguments)

    monkeypatch.setattr(StageClock, "counted", wait)
    if not copied:
        monkeypatch.setattr(steps, "BUDGET_SECONDS", 0.0)  # no step is taken
    before = list(tmp_path.iterdir())
    driving.clickEntry(shown.ui.exportButton, "Samples, contours")
    export = shown.widget.panel._export
    if copied:
        driving.waitUntil(reached.is_set, SECONDS)
    assert (export._export if copied else export._steps) is not None
    driving.clickEntry(shown.ui.exportButton, "Cancel the export")
    go_on.set()
    driving.waitUntil(lambda: "was canceled" in shown.ui.messageLabel.text, SECONDS)
    slicer.app.processEvents()
    assert list(tmp_path.iterdir()) == before


def test_dicom_is_refused_with_a_sentence_where_the_volume_is_not_from_dicom(shown):
    dicom = next(action for action in shown.ui.exportButton.menu().actions() if "DICOM" in action.text)
    dicom.trigger()
    assert shown.ui.messageLabel.text.endswith(".")
    assert shown.ui.messageFrame.visible


def test_a_saved_scene_goes_on_where_it_was(shown, tmp_path):
    ui = shown.ui
    ui.samplesSpinBox.value, ui.seedSpinBox.value, ui.temperatureSlider.value = 32, 7, 0.5
    driving.click(ui.sampleModeButton)
    ui.sampleSlider.value = 3
    ui.mapSelector.currentIndex = ui.mapSelector.findText("Variance")
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    slicer.app.processEvents()
    assert (ui.samplesSpinBox.value, ui.seedSpinBox.value) == (16, 0)
    assert not ui.resultFrame.visible
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    driving.waitUntil(lambda: ui.resultFrame.visible)
    assert (ui.samplesSpinBox.value, ui.seedSpinBox.value, ui.temperatureSlider.value) == (32, 7, 0.5)
    assert ui.inputVolumeSelector.currentNode().GetName() == "Two blobs"
    assert ui.sampleModeButton.checked
    assert ui.sampleLabel.text == "Sample 4 of 8"
    assert ui.mapSelector.currentText == "Variance"
    assert ui.structureTable.rowCount == 2
