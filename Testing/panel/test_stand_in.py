"""The stand-in keeps to PythonQt's rules and to Slicer's behavior, so that a passing panel test means something."""

import enum
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import ctk
import numpy as np
import pytest
import qt
import slicer
from slicer_stand_in import api, driving
from slicer_stand_in.attributes import standIn
from slicer_stand_in.volumes import sampleVolume


@pytest.fixture
def red(main_window):
    """The red slice view with a volume that fills it."""
    slicer.util.setSliceViewerLayers(background=sampleVolume(), fit=True)
    return slicer.app.layoutManager().sliceWidget("Red")


@pytest.fixture
def load_ui(tmp_path, application):
    def load(body, connections=""):
        path = tmp_path / "panel.ui"
        path.write_text(
            f'<ui version="4.0"><class>P</class><widget class="qMRMLWidget" name="P"><layout class="QVBoxLayout">'
            f"{body}</layout></widget><connections>{connections}</connections></ui>",
            encoding="utf-8",
        )
        return slicer.util.loadUI(str(path))

    return load


# What a property is


def test_properties_are_values_and_other_getters_are_methods():
    button = qt.QPushButton("Run")
    assert button.text == "Run"
    assert button.enabled is True
    assert button.isEnabled() is True
    with pytest.raises(TypeError):
        button.text()


def test_assignment_converts_as_pythonqt_does():
    spin, line = qt.QSpinBox(), qt.QLineEdit()
    spin.value = 7.9
    assert spin.value == 7
    spin.value = np.int64(3)
    assert spin.value == 3
    with pytest.raises(AttributeError, match="does not accept"):
        spin.value = np.float64(3)
    line.text = 5
    assert line.text == "5"
    line.enabled = []
    assert line.enabled is False


def test_nothing_can_be_misspelled():
    for widget in (qt.QPushButton(), ctk.ctkCollapsibleButton(), slicer.qMRMLNodeComboBox()):
        with pytest.raises(AttributeError, match="not allowed"):
            widget.enable = True
    with pytest.raises(AttributeError, match="not writable"):
        qt.QWidget().width = 5
    with pytest.raises(AttributeError, match="can not be overwritten"):
        qt.QPushButton().click = print


def test_python_subclasses_may_have_attributes_and_dynamic_properties_are_attributes():
    class Own(qt.QWidget):
        pass

    widget = Own()
    widget.anything = 1
    assert widget.anything == 1
    plain = qt.QWidget()
    plain.setProperty("SlicerParameterName", "threshold")
    assert plain.SlicerParameterName == "threshold"


def test_string_lists_are_tuples_and_enums_take_integers():
    combo = slicer.qMRMLNodeComboBox()
    combo.nodeTypes = ["vtkMRMLModelNode"]
    assert combo.nodeTypes == ("vtkMRMLModelNode",)
    assert qt.QColor(255, 0, 0).name(0) == "#ff0000"
    assert qt.QProcess().Running == 2


# What Slicer does not have does not exist


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: ctk.ctkSliderWidget(), "setMaximum"),
        (lambda: ctk.ctkSliderWidget(), "spinBox"),
        (lambda: ctk.ctkCollapsibleButton(), "setCollapsed"),
        (lambda: slicer.qMRMLNodeComboBox(), "setNodeTypes"),
        (lambda: slicer.qSlicerWidget(), "mrmlScene"),
    ],
)
def test_methods_that_pythonqt_hides_are_missing(make, name):
    assert not hasattr(make(), name)


def test_names_that_the_stand_in_lacks_are_told_from_names_that_slicer_lacks():
    with pytest.raises(AttributeError, match="exists in Slicer"):
        ctk.ctkSliderWidget().tickPosition  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute"):
        ctk.ctkSliderWidget().ticks  # noqa: B018


def test_a_stand_in_with_an_invented_name_cannot_be_made():
    with pytest.raises(TypeError, match=r"qMRMLTableView\.refreshAll"):
        standIn()(type("qMRMLTableView", (qt.QTableView,), {"refreshAll": lambda self: None}))


def test_names_that_no_table_confirms_are_listed(application):
    classes = {name.split(".")[0] for name in api.UNCHECKED}
    assert "ctkSliderWidget" not in classes
    assert "qSlicerApplication.testingEnabled" in api.UNCHECKED
    assert len(api.UNCHECKED) < 30


# Signals and slots


def test_slots_get_as_many_arguments_as_they_take():
    button, got = qt.QPushButton(), []
    button.connect("clicked(bool)", lambda: got.append("none"))
    button.connect("clicked(bool)", lambda checked=1: got.append(checked))
    button.clicked.connect(lambda *everything: got.append(everything))
    button.click()
    assert got == ["none", False, (False,)]


def test_signals_that_do_not_exist_raise():
    with pytest.raises(RuntimeError, match="does not exist"):
        qt.QComboBox().connect("currentIndexChanged(QString)", print)
    with pytest.raises(RuntimeError, match="does not exist"):
        slicer.qMRMLNodeComboBox().connect("nodeChanged(vtkMRMLNode*)", print)
    with pytest.raises(ValueError, match="wrong number"):
        qt.QPushButton().clicked.connect(print, qt.Qt.QueuedConnection)


def test_connect_to_a_slot_by_name_and_disconnect():
    button, box = qt.QPushButton(), qt.QCheckBox()
    assert button.connect("clicked()", box, "toggle()")
    button.click()
    assert box.checked
    assert button.disconnect("clicked()", box, "toggle()")
    assert not button.disconnect("clicked()", print)
    button.click()
    assert box.checked


def test_an_exception_in_a_slot_is_recorded_and_not_raised(slot_errors, capsys):
    def fail():
        raise ValueError("deliberate")

    button, later = qt.QPushButton(), []
    button.connect("clicked()", fail)
    button.connect("clicked()", lambda: later.append(1))
    button.click()
    assert later == [1]
    assert [(entry.where, str(entry.error)) for entry in slot_errors] == [("QPushButton.clicked()", "deliberate")]
    assert "deliberate" in capsys.readouterr().err
    slot_errors.clear()


def test_an_exception_in_a_vtk_observer_is_recorded(slot_errors):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
    node.AddObserver("ModifiedEvent", lambda *_: 1 / 0)
    node.Modified()
    assert [type(entry.error) for entry in slot_errors] == [ZeroDivisionError]
    slot_errors.clear()


# .ui files


def test_ui_files_make_widgets_connections_and_parameter_names(load_ui):
    root = load_ui(
        '<item><widget class="qMRMLNodeComboBox" name="volumes"><property name="nodeTypes"><stringlist notr="true">'
        "<string>vtkMRMLScalarVolumeNode</string></stringlist></property>"
        '<property name="SlicerParameterName" stdset="0">'
        "<string>volume</string></property></widget></item>"
        '<item><widget class="ctkPathLineEdit" name="path"><property name="filters"><set>ctkPathLineEdit::Files|'
        "ctkPathLineEdit::Readable</set></property></widget></item>"
        '<item><widget class="QCheckBox" name="check"/></item>',
        "<connection><sender>P</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal><receiver>volumes</receiver>"
        "<slot>setMRMLScene(vtkMRMLScene*)</slot></connection>",
    )
    ui = slicer.util.childWidgetVariables(root)
    assert not ui.volumes.enabled
    root.setMRMLScene(slicer.mrmlScene)
    assert ui.volumes.enabled
    assert ui.volumes.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert ui.volumes.property("SlicerParameterName") == "volume"
    assert ui.path.filters == 2 + 16
    assert ui.check.checked is False


def test_an_unknown_widget_class_in_a_ui_file_is_an_error(load_ui):
    with pytest.raises(RuntimeError, match="qMRMLWishfulWidget"):
        load_ui('<item><widget class="qMRMLWishfulWidget" name="w"/></item>')


# Widgets


def test_a_slider_rounds_before_it_tells():
    slider, got = ctk.ctkSliderWidget(), []
    slider.decimals, slider.maximum = 1, 10
    slider.connect("valueChanged(double)", got.append)
    slider.value = 3.14159
    slider.value = 3.12
    slider.value = 50
    assert got == [3.1, 10.0]


def test_a_collapsed_section_hides_children_that_come_later():
    section = ctk.ctkCollapsibleButton()
    section.collapsed = True
    layout = qt.QVBoxLayout(section)
    label = qt.QLabel("inside")
    layout.addWidget(label)
    section.show()
    slicer.app.processEvents()
    assert not label.visible
    section.collapsed = False
    assert label.visible


@pytest.fixture
def combo(application):
    combo = slicer.qMRMLNodeComboBox()
    combo.nodeTypes = ["vtkMRMLTextNode"]
    combo.noneEnabled = True
    combo.setMRMLScene(slicer.mrmlScene)
    return combo


def test_a_node_box_follows_the_scene(combo):
    nodes, valid = [], []
    combo.connect("currentNodeChanged(vtkMRMLNode*)", nodes.append)
    combo.connect("currentNodeChanged(bool)", valid.append)
    first = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "first")
    second = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "second")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    assert combo.nodeCount() == 2
    assert combo.currentNode() is None
    combo.setCurrentNode(second)
    combo.setCurrentNode(second)
    assert combo.currentNodeID == second.GetID()
    slicer.mrmlScene.RemoveNode(second)  # the row before it becomes current
    assert nodes == [second, first]
    assert valid == [True, True]


def test_a_node_box_is_empty_after_the_scene_was_closed(combo):
    got = []
    combo.setCurrentNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode"))
    combo.connect("currentNodeChanged(vtkMRMLNode*)", got.append)
    slicer.mrmlScene.Clear()
    assert got == [None]
    assert combo.nodeCount() == 0
    again = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "again")
    combo.setCurrentNode(again)
    assert combo.currentNode() is again


def test_a_node_box_creates_nodes_and_filters_by_attribute(combo):
    combo.addAttribute("vtkMRMLTextNode", "Role", "note")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "other")
    made = combo.addNode()
    assert made.GetAttribute("Role") == "note"
    assert combo.currentNode() is made
    assert combo.nodeCount() == 1


def test_placing_is_told_by_the_widget(application):
    place, told = slicer.qSlicerMarkupsPlaceWidget(), []
    place.setMRMLScene(slicer.mrmlScene)
    place.connect("activeMarkupsPlaceModeChanged(bool)", told.append)
    place.setCurrentNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode"))
    place.setPlaceModeEnabled(True)
    assert place.placeModeEnabled
    application.applicationLogic().GetInteractionNode().SwitchToViewTransformMode()
    assert told == [True, False]


def test_a_sequence_plays(application):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode")
    node = slicer.vtkMRMLTextNode()
    for number in range(3):
        node.SetText(str(number))
        sequence.SetDataNodeAtValue(node, str(number))
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    seek, play = slicer.qMRMLSequenceBrowserSeekWidget(), slicer.qMRMLSequenceBrowserPlayWidget()
    for widget in (seek, play):
        widget.setMRMLSequenceBrowserNode(browser)
    browser.SetSelectedItemNumber(0)
    seek.slider().value = 1
    assert browser.GetProxyNode(sequence).GetText() == "1"
    browser.SetPlaybackLooped(False)
    play.setPlaybackRateFps(60)
    play.setPlaybackEnabled(True)
    driving.waitUntil(lambda: browser.GetSelectedItemNumber() == 2)
    assert seek.slider().value == 2
    play.setPlaybackEnabled(False)


def test_segments_are_listed(application):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    table = slicer.qMRMLSegmentsTableView()
    table.setSegmentationNode(node)
    for name in "ab":
        node.GetSegmentation().AddEmptySegment(name, name.upper(), (1, 0, 0))
    table.setSelectedSegmentIDs(["b"])
    assert table.displayedSegmentIDs() == ("a", "b")
    assert table.selectedSegmentIDs() == ("b",)
    table.tableWidget().item(0, 0).setCheckState(qt.Qt.Unchecked)
    assert not node.GetDisplayNode().GetSegmentVisibility("a")


# Views


def test_a_slice_view_shows_a_volume_in_radiological_orientation(red):
    picture = driving.pixels(red.sliceView()).astype(int)
    rows, columns, _ = picture.shape
    assert (picture.max(axis=-1) - picture.min(axis=-1) < 8)[: rows // 2].all()  # gray
    left, right = picture[: rows // 2, : columns // 2], picture[: rows // 2, columns // 2 :]
    bright = lambda part: ((part > 150) & (part < 230)).all(axis=-1).sum()  # noqa: E731
    assert bright(left) > bright(right) + 500  # the organ at the patient's right, in front
    assert picture[rows // 2, columns // 2].mean() == pytest.approx(115, abs=30)
    assert picture[5, 5].max() < 30


def test_window_and_level_change_the_picture(red):
    display = slicer.util.getNode("Sample volume").GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(100, 400)
    rows, columns, _ = driving.pixels(red.sliceView()).shape
    middle = slice(rows // 3, rows // 2), slice(columns // 3, columns // 2)
    assert driving.pixels(red.sliceView())[middle].max() < 60
    display.SetWindowLevel(100, -400)
    assert driving.pixels(red.sliceView())[middle].min() > 200


def test_wheel_and_keys_move_the_slice(red):
    view, logic = red.sliceView(), red.sliceLogic()
    before = logic.GetSliceOffset()
    driving.wheel(view, 3)
    assert logic.GetSliceOffset() == pytest.approx(before + 6.0)
    driving.wheel(view, -1)
    driving.key(view, qt.Qt.Key_Left)
    assert logic.GetSliceOffset() == pytest.approx(before + 2.0)
    assert red.sliceController().sliceOffsetSlider().value == pytest.approx(before + 2.0)
    driving.key(view, qt.Qt.Key_F, "f")
    assert logic.GetSliceOffset() == pytest.approx(before + 4.0)


def test_a_drag_pans_and_the_offset_slider_moves_the_picture(red):
    view, node = red.sliceView(), red.mrmlSliceNode()
    before, origin = driving.pixels(view), node.GetXYZOrigin()
    driving.drag(view, (100, 100), (130, 140), qt.Qt.MiddleButton)
    assert node.GetXYZOrigin()[:2] != origin[:2]
    red.fitSliceToBackground()
    red.sliceController().sliceOffsetSlider().value = 60
    assert red.sliceLogic().GetSliceOffset() == pytest.approx(60)
    assert (driving.pixels(view) != before).any(axis=-1).mean() > 0.1


def test_a_click_places_a_point(red):
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    points.CreateDefaultDisplayNodes()
    place = slicer.qSlicerMarkupsPlaceWidget()
    place.setMRMLScene(slicer.mrmlScene)
    place.setCurrentNode(points)
    place.setPlaceModeEnabled(True)
    view = red.sliceView()
    driving.click(view, 80, 90)
    assert points.GetNumberOfDefinedControlPoints() == 1
    expected = view.convertXYZToRAS([80, view.height - 1 - 90, 0])
    assert points.GetNthControlPointPositionWorld(0) == pytest.approx(expected, abs=2.0)
    assert not place.placeModeEnabled


def test_two_clicks_make_a_region_of_interest_and_a_drag_moves_it(red):
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.CreateDefaultDisplayNodes()
    place = slicer.qSlicerMarkupsPlaceWidget()
    place.setMRMLScene(slicer.mrmlScene)
    place.setCurrentNode(roi)
    place.setPlaceModeEnabled(True)
    view = red.sliceView()
    driving.click(view, 60, 70)
    driving.click(view, 140, 150)
    assert min(roi.GetSize()) > 20
    assert not place.placeModeEnabled
    center = roi.GetCenter()
    x, y, _ = view.convertRASToXYZ(center)
    handle = (x, view.height - 1 - y)
    driving.drag(view, handle, (handle[0] + 20, handle[1]))
    assert roi.GetCenter()[0] < center[0] - 5  # to the patient's left, which is on the right: R decreases


def test_a_paused_view_keeps_its_picture(red, application):
    before = driving.pixels(red.sliceView())
    application.pauseRender()
    red.sliceLogic().SetSliceOffset(60)
    assert (driving.pixels(red.sliceView()) == before).all()
    application.resumeRender()
    assert (driving.pixels(red.sliceView()) != before).any()


def test_layouts_switch_and_keep_their_views(main_window, application):
    layouts, told = application.layoutManager(), []
    layouts.connect("layoutChanged(int)", told.append)
    red, node = layouts.sliceWidget("Red"), slicer.vtkMRMLLayoutNode
    layouts.setLayout(node.SlicerLayoutOneUpRedSliceView)
    assert layouts.sliceViewNames() == ("Red",)
    assert layouts.threeDViewCount == 0
    application.processEvents()
    assert not layouts.sliceWidget("Green").visible
    assert layouts.sliceWidget("Red") is red
    layouts.setLayout(node.SlicerLayoutFourUpPlotTableView)
    assert layouts.plotViewCount == layouts.tableViewCount == 1
    assert told == [node.SlicerLayoutOneUpRedSliceView, node.SlicerLayoutFourUpPlotTableView]


def test_linked_views_of_an_own_layout_move_together(main_window, application):
    views = "".join(
        f'<item><view class="vtkMRMLSliceNode" singletontag="{tag}"><property name="orientation" action="default">Axial'
        f'</property><property name="viewlabel" action="default">{label}</property>'
        f'<property name="viewcolor" action="default">#EDD54C</property></view></item>'
        for tag, label in (("Ours1", "A"), ("Ours2", "B"))
    )
    layouts = application.layoutManager()
    node = layouts.layoutLogic().GetLayoutNode()
    node.AddLayoutDescription(5501, f'<layout type="horizontal">{views}</layout>')
    layouts.setLayout(5501)
    assert layouts.sliceViewNames() == ("Ours1", "Ours2")
    one, two = (layouts.sliceWidget(name) for name in layouts.sliceViewNames())
    assert one.viewLabel == "A"
    assert one.sliceOrientation == "Axial"
    slicer.util.setSliceViewerLayers(background=sampleVolume(), fit=True)
    application.processEvents()
    for widget in (one, two):
        widget.mrmlSliceCompositeNode().SetLinkedControl(True)
        widget.mrmlSliceCompositeNode().SetHotLinkedControl(True)
    driving.wheel(one.sliceView(), 4)
    assert two.sliceLogic().GetSliceOffset() == pytest.approx(one.sliceLogic().GetSliceOffset())
    assert abs(one.sliceLogic().GetSliceOffset()) > 1


def test_a_3d_view_shows_a_surface_and_turns(main_window, application):
    import vtk

    source = vtk.vtkConeSource()
    source.SetRadius(40)
    source.SetHeight(80)
    source.Update()
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
    model.SetAndObservePolyData(source.GetOutput())
    model.CreateDefaultDisplayNodes()
    model.GetDisplayNode().SetColor(1, 0, 0)
    view = application.layoutManager().threeDWidget(0).threeDView()
    view.resetCamera()
    before = driving.pixels(view).astype(int)
    red = (before[..., 0] > 120) & (before[..., 2] < 60)
    assert red.mean() > 0.02
    position = view.cameraNode().GetPosition()
    driving.drag(view, (100, 100), (180, 100))
    assert view.cameraNode().GetPosition() != position
    assert (driving.pixels(view) != before).any()


def test_charts_and_tables_show_their_nodes(main_window, application):
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Volumes")
    slicer.util.updateTableFromArray(table, [np.array([1.0, 2, 3]), np.array([1.0, 4, 9])], ["sample", "mL"])
    series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "Series")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("sample")
    series.SetYColumnName("mL")
    series.SetPlotType(series.PlotTypeScatter)
    series.SetColor(1, 0, 0)
    series.SetLineWidth(6)
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", "Chart")
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    layouts = application.layoutManager()
    layouts.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotTableView)
    application.processEvents()
    layouts.plotWidget(0).mrmlPlotViewNode().SetPlotChartNodeID(chart.GetID())
    layouts.tableWidget(0).mrmlTableViewNode().SetTableNodeID(table.GetID())
    picture = driving.pixels(layouts.plotWidget(0).plotView()).astype(int)
    assert ((picture[..., 0] > 200) & (picture[..., 1:] < 80).all(axis=-1)).sum() > 100
    model = layouts.tableWidget(0).tableView().model()
    assert (model.rowCount(), model.columnCount()) == (3, 2)
    assert float(model.index(2, 1).data()) == 9


def test_shortcuts_of_the_main_window_work(main_window):
    from PySide6.QtTest import QTest

    shortcut, got = qt.QShortcut(qt.QKeySequence("Ctrl+Shift+U"), main_window), []
    shortcut.connect("activated()", lambda: got.append(1))
    main_window.activateWindow()
    QTest.keyClick(main_window, qt.Qt.Key_U, qt.Qt.ControlModifier | qt.Qt.ShiftModifier)
    driving.waitUntil(lambda: got)
    shortcut.setParent(None)


# Parameter nodes


class Quality(enum.Enum):
    FAST = 1
    GOOD = 2


@pytest.fixture
def wrapper(application):
    from slicer.parameterNodeWrapper import Decimals, WithinRange, parameterNodeWrapper, parameterPack

    @parameterPack
    class Seeds:
        first: Annotated[int, WithinRange(0, 9)] = 3
        label: str = "x"

    @parameterNodeWrapper
    class Parameters:
        volume: slicer.vtkMRMLScalarVolumeNode
        samples: Annotated[int, WithinRange(1, 100)] = 16
        temperature: Annotated[float, WithinRange(0, 2), Decimals(2)] = 1
        quality: Quality = Quality.GOOD
        folder: Path
        names: list[str]
        show: bool
        seeds: Seeds

    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

    class TryOutLogic(ScriptedLoadableModuleLogic):
        pass

    return lambda: Parameters(TryOutLogic().getParameterNode())


def test_parameters_lie_in_the_node_as_slicer_stores_them(wrapper):
    parameters = wrapper()
    node = parameters.parameterNode
    parameters.volume = volume = sampleVolume()
    parameters.names = ["a", "b"]
    stored = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    assert stored == {
        "volume": "", "samples": "16", "temperature": "1.0", "quality": "GOOD", "folder": ".", "names.len": "2",
        "names.0": "a", "names.1": "b", "show": "False", "seeds.first": "3", "seeds.label": "x",
    }  # fmt: skip
    assert node.GetNodeReferenceID("volume") == volume.GetID()
    assert node.GetAttribute("ModuleName") == "TryOut"


def test_values_are_checked(wrapper):
    parameters = wrapper()
    with pytest.raises(ValueError, match="101"):
        parameters.samples = 101
    with pytest.raises(TypeError):
        parameters.samples = 2.5
    with pytest.raises(TypeError):
        parameters.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
    parameters.seeds.first = 7
    assert parameters.parameterNode.GetParameter("seeds.first") == "7"
    with pytest.raises(ValueError, match="nothing"):
        parameters.getValue("nothing")


def test_the_same_value_again_is_no_change(wrapper):
    parameters, events = wrapper(), []
    parameters.AddObserver("ModifiedEvent", lambda *_: events.append(1))
    parameters.samples = 5
    parameters.samples = 5
    assert events == [1]


@pytest.mark.parametrize("extension", ["mrb", "mrml"])
def test_parameters_survive_closing_and_loading_a_scene(wrapper, tmp_path, extension):
    parameters = wrapper()
    parameters.volume = sampleVolume()
    parameters.samples, parameters.quality, parameters.names = 42, Quality.FAST, ["left", "right"]
    parameters.seeds.label = "kept"
    if extension == "mrml":
        slicer.util.saveNode(parameters.volume, str(tmp_path / "volume.nrrd"))
    assert slicer.util.saveScene(str(tmp_path / f"scene.{extension}"))
    slicer.mrmlScene.Clear()
    assert (parameters.samples, parameters.volume, parameters.quality) == (16, None, Quality.GOOD)
    slicer.util.loadScene(str(tmp_path / f"scene.{extension}"))
    again = wrapper()
    assert again.volume.GetName() == "Sample volume"
    assert (again.samples, again.quality, again.names) == (42, Quality.FAST, ["left", "right"])
    assert again.seeds.label == "kept"


def test_widgets_and_parameters_follow_each_other(wrapper, load_ui):
    widgets = {
        "samples": "ctkSliderWidget", "temperature": "QDoubleSpinBox", "quality": "QComboBox", "show": "QCheckBox",
        "folder": "ctkPathLineEdit", "seeds.label": "QLineEdit", "volume": "qMRMLNodeComboBox",
    }  # fmt: skip
    root = load_ui(
        "".join(
            f'<item><widget class="{kind}" name="w{number}"><property name="SlicerParameterName" stdset="0">'
            f"<string>{name}</string></property></widget></item>"
            for number, (name, kind) in enumerate(widgets.items())
        )
    )
    ui = slicer.util.childWidgetVariables(root)
    ui.w6.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    ui.w6.setMRMLScene(slicer.mrmlScene)
    parameters = wrapper()
    tag = parameters.connectGui(ui)
    assert (ui.w0.value, ui.w0.maximum, ui.w1.decimals, ui.w2.currentText) == (16, 100, 2, "GOOD")
    ui.w0.value, ui.w2.currentIndex, ui.w3.checked, ui.w5.text = 9, 0, True, "typed"
    assert (parameters.samples, parameters.quality, parameters.show) == (9, Quality.FAST, True)
    assert parameters.seeds.label == "typed"
    parameters.volume = sampleVolume()
    assert ui.w6.currentNode() is parameters.volume
    parameters.disconnectGui(tag)
    parameters.samples = 50
    assert ui.w0.value == 9


# Modules

PANEL = """
import qt
import slicer
from slicer.ScriptedLoadableModule import *

class TryOut(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = "Try out"

class TryOutWidget(ScriptedLoadableModuleWidget, slicer.util.VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        slicer.util.VTKObservationMixin.__init__(self)
        self.story = []

    def setup(self):
        super().setup()
        self.story.append("setup")
        self.button = qt.QPushButton("Press")
        self.button.connect("clicked()", lambda: self.story.append("pressed"))
        self.layout.addWidget(self.button)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onClosed)

    def onClosed(self, caller, event):
        self.story.append("closed")

    def enter(self):
        self.story.append("enter")

    def exit(self):
        self.story.append("exit")

    def cleanup(self):
        self.story.append("cleanup")
        self.removeObservers()

class TryOutLogic(ScriptedLoadableModuleLogic):
    pass

class TryOutTest(ScriptedLoadableModuleTest):
    def runTest(self):
        self.assertEqual(slicer.modules.tryout.title, "Try out")
"""


def test_a_module_lives_as_in_slicer(tmp_path, load_module, main_window, application):
    path = tmp_path / "TryOut.py"
    path.write_text(PANEL, encoding="utf-8")
    module = load_module(path)
    slicer.util.selectModule("TryOut")
    widget = slicer.modules.TryOutWidget
    assert widget is module.widgetRepresentation().self()
    driving.click(widget.button)
    slicer.mrmlScene.Clear()
    assert widget.parent.isEntered
    slicer.util.selectModule("")
    slicer.modules.TryOutInstance.runTest()
    application.moduleManager()._unload("TryOut")
    assert widget.story == ["setup", "enter", "pressed", "closed", "exit", "cleanup"]
    assert not hasattr(slicer.modules, "tryout")


def test_a_module_can_be_reloaded_and_its_logic_found(tmp_path, load_module, main_window):
    path = tmp_path / "TryOut.py"
    path.write_text(PANEL.replace("self.story = []", "self.story, self.logic = [], TryOutLogic()"), encoding="utf-8")
    load_module(path)
    slicer.util.selectModule("TryOut")
    before = slicer.util.getModuleWidget("TryOut")
    assert slicer.util.getModuleLogic("TryOut") is before.logic
    slicer.util.reloadScriptedModule("TryOut")
    after = slicer.util.getModuleWidget("TryOut")
    assert after is not before
    assert before.story == ["setup", "enter", "cleanup"]
    assert after.story == ["setup"]
    driving.click(after.button)
    assert after.story == ["setup", "pressed"]


def test_our_module_loads_and_its_self_test_passes(load_module):
    assert load_module().title == "MedSeg Uncertainty"
    slicer.modules.MedSegUncertaintyInstance.runTest()


def test_python_files_of_an_installed_slicer_are_taken_instead_of_ours(tmp_path):
    (tmp_path / "i18n.py").write_text("def tr(text): return text.upper()\n", encoding="utf-8")
    code = "import slicer_stand_in; slicer_stand_in.install(); import slicer.i18n; print(slicer.i18n.tr('theirs'))"
    environment = {**os.environ, "SLICER_PYTHON_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "THEIRS", run.stderr


def test_a_person_sees_the_messages(main_window, application):
    texts, timer, loop = [], qt.QTimer(), qt.QEventLoop()

    def answer():
        box = application.activeModalWidget()
        if box is not None:
            texts.append(box.text)
            box.accept()

    def ask():
        slicer.util.errorDisplay("No volume is chosen.")
        loop.quit()

    application._d.testing = False
    timer.connect("timeout()", answer)
    timer.start(20)
    qt.QTimer.singleShot(0, ask)  # in a loop, as in Slicer: the box deletes itself when its caller's loop goes on
    loop.exec_()
    timer.stop()
    assert texts == ["No volume is chosen."]


def test_messages_are_skipped_and_nothing_is_installed(application):
    from packaging.requirements import Requirement
    from slicer import packaging

    slicer.util.errorDisplay("not shown")
    assert slicer.util.settingsValue("MedSegUncertainty/none", 5, int) == 5
    assert packaging.pip_check(Requirement("numpy>=2"))
    assert not packaging.pip_check(Requirement("no-such-package"))
    with pytest.raises(RuntimeError, match="installs no packages"):
        packaging.pip_install("no-such-package")
