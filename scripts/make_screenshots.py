"""Take the pictures of README and Extensions Index: the panel, driven as in its tutorial under the stand-in for Slicer.

    make screenshots

The volume is that of ``make run``, the MNI152 T1 template of the nilearn package.
"""

import os
import tempfile
from importlib.metadata import files
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer_stand_in
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "Resources" / "Screenshots"
MODULE = ROOT / "MedSegUncertainty" / "MedSegUncertainty.py"
IMAGE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
WINDOW_SIZE = (1400, 920)
LEFT_HIPPOCAMPUS = (-27.0, -22.0, -14.0)
VENTRICLES = (0.0, -14.0, 12.0)
LEFT_VENTRICLE = (-14.0, -14.0, 12.0)
VENTRICLES_MM = 150.0
DARKER_THAN = 130
"""Of the template: fluid, its border to white matter halfway between both."""
BORDER_OF_BRAIN_MM, OPENING_MM = 6, 1
PAINTED, ABSENT = (-14, 14, -44), (38, -64)
"""Coronal slices, mm anterior: two in the bodies and frontal horns, one in the atria; one beyond each end."""
FOUND_AT = -28
"""The slice at which the result is awaited."""
ALREADY_FOUND = 30
MARGIN = 1.1
PANEL_WIDTH = 480
SAMPLES_BY_EXAMPLE = 8
SECONDS = 600.0


class Tour:
    """The window with the panel, and what a person does with it."""

    def __init__(self) -> None:
        self.app = slicer_stand_in.start()
        import slicer
        from slicer_stand_in import driving
        from slicer_stand_in.modules import loadScriptedModule

        self.slicer, self.driving = slicer, driving
        self.window = slicer.util.mainWindow()
        self.window.resize(*WINDOW_SIZE)
        self.window.show()
        self.window.centralWidget().setSizes([PANEL_WIDTH, WINDOW_SIZE[0] - PANEL_WIDTH])
        slicer.util.selectModule(loadScriptedModule(MODULE))
        self.module = slicer.modules.MedSegUncertaintyWidget
        self.ui = self.module.ui
        self.app.processEvents()
        self.load_volume()

    def load_volume(self) -> None:
        """Show the volume in a scene that was just made."""
        path = next(one.locate() for one in files("nilearn") if one.name == IMAGE)
        self.volume = self.slicer.util.loadVolume(str(path))
        self.volume.SetName("MNI152 T1")
        self.slicer.util.setSliceViewerLayers(background=self.volume, fit=True)

    def take(self, number: int, widget: Any, popup: Any = None) -> None:
        """Write a picture in which the panel is scrolled to a widget."""
        import qt

        area = self.window._d.panel
        self.app.processEvents()
        area.ensureWidgetVisible(widget)
        self.driving.waitUntil(lambda: self.module.panel._viewer._surfaces is None, SECONDS)
        for _ in range(3):
            self.app.processEvents()
        picture = self.window.grab()
        if popup is not None:
            painter = qt.QPainter(picture)
            painter.drawPixmap(widget.mapTo(self.window, widget.rect.bottomLeft()), popup.grab())
            painter.end()
        path = FOLDER / f"{number}.png"
        picture.save(str(path))
        Image.open(path).convert("RGB").point(lambda value: value & 0xFC | value >> 6).save(path, optimize=True)
        print(path.relative_to(ROOT), path.stat().st_size // 1024, "kB", flush=True)

    def frame(self, center: tuple[float, float, float], mm: float, in_its_slices: bool = True) -> None:
        """Let the slice views show a place, or what lies around it in the slices that they show."""
        manager = self.app.layoutManager()
        for name in manager.sliceViewNames():
            node = manager.sliceWidget(name).mrmlSliceNode()
            columns, rows, _ = node.GetDimensions()
            offset = node.GetSliceOffset()
            node.JumpSliceByCentering(*center)
            if not in_its_slices:
                node.SetSliceOffset(offset)
            node.SetFieldOfView(mm, mm * rows / columns, node.GetFieldOfView()[2])
        self.app.processEvents()

    def zoom(self) -> None:
        """Let the slice views show the region, as one would with the right mouse button."""
        from MedSegUncertaintyLib.scene.comparison import showRegion
        from MedSegUncertaintyLib.scene.places import jumpToSlice

        manager, nodes = self.app.layoutManager(), self.module.panel._viewer.nodes
        for name in manager.sliceViewNames():
            node = manager.sliceWidget(name).mrmlSliceNode()
            showRegion(nodes, node)
            width, height, depth = node.GetFieldOfView()
            node.SetFieldOfView(MARGIN * width, MARGIN * height, depth)
        jumpToSlice(nodes, self.ui.planeSelector.currentText)

    def turn(self, right: int, down: int, notches: int) -> None:
        """Drag in the 3D view and turn the wheel, without the box, which is larger than the view by then."""
        view = self.app.layoutManager().threeDWidget(0).threeDView()
        view.mrmlViewNode().SetBoxVisible(False)
        view.mrmlViewNode().SetAxisLabelsVisible(False)
        start = (view.width / 2, view.height / 2)
        self.driving.drag(view, start, (start[0] + right, start[1] + down))
        self.driving.wheel(view, notches)

    def choose(self, selector: Any, text: str) -> None:
        """Choose an entry of a list."""
        selector.currentIndex = selector.findText(text)

    def double_click(self, row: int) -> None:
        """Double-click on a structure of the table."""
        import qt

        view = self.ui.structureTable
        center = view.visualItemRect(view.item(row, 0)).center()
        self.driving.click(view.viewport(), center.x(), center.y())
        point = qt.QPointF(center)
        event = qt.QMouseEvent(
            qt.QEvent.MouseButtonDblClick, point, view.viewport().mapToGlobal(point),
            qt.Qt.LeftButton, qt.Qt.LeftButton, qt.Qt.NoModifier,
        )  # fmt: skip
        self.app.sendEvent(view.viewport(), event)


def main() -> None:
    """Take all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:  # without anybody's own models and settings
        os.environ.update(dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), home))
        tour = Tour()
        follow_tutorial(tour)
        paint_slices(tour)


def follow_tutorial(tour: Tour) -> None:
    """Take a picture at each step."""
    ui, driving = tour.ui, tour.driving
    ui.inputVolumeSelector.setCurrentNode(tour.volume)
    driving.chooseItem(ui.modelList, "Hippocampus in MR (SSN)")
    driving.waitUntil(lambda: "Looking" not in ui.deviceLabel.text, SECONDS)
    tour.take(2, ui.deviceLabel)
    tour.slicer.vtkMRMLSliceNode.JumpAllSlices(tour.slicer.mrmlScene, *LEFT_HIPPOCAMPUS)
    driving.click(ui.placeRegionButton)
    tour.take(3, ui.regionHint)
    driving.click(ui.applyButton)
    layers = tour.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    driving.waitUntil(lambda: layers.GetForegroundVolumeID() and "left" in ui.progressLabel.text, SECONDS)
    tour.take(4, ui.progressFrame)
    driving.waitUntil(lambda: ui.applyButton.text == "Apply", SECONDS)
    driving.waitUntil(lambda: tour.module.panel._viewer._surfaces is None, SECONDS)
    ui.inputsCollapsibleButton.collapsed = True
    tour.zoom()
    tour.turn(140, -20, 2)
    tour.take(5, ui.exportButton)
    driving.click(ui.outlinesModeButton)
    tour.take(6, ui.exportButton)
    driving.click(ui.sampleModeButton)
    ui.sampleSlider.value = 7
    driving.waitUntil(lambda: 7 in tour.module.panel._viewer._sampleSurfaces._made, SECONDS)
    tour.take(7, ui.exportButton)
    driving.click(ui.contoursModeButton)
    tour.choose(ui.mapSelector, "Variance")
    tour.double_click(0)
    tour.take(1, ui.exportButton)
    driving.click(ui.compareModeButton)
    tour.take(8, ui.exportButton)
    driving.click(ui.contoursModeButton)
    tour.choose(ui.mapSelector, "None")
    menu = ui.exportButton.menu()
    menu.popup(ui.exportButton.mapToGlobal(ui.exportButton.rect.bottomLeft()))
    tour.take(9, ui.exportButton, menu)


def paint_slices(tour: Tour) -> None:
    """Take a picture at each step of "Paint a few slices", in a scene of its own."""
    from MedSegUncertaintyLib.gui.live import State
    from slicer_stand_in import strokes

    tour.slicer.mrmlScene.Clear(0)
    tour.load_volume()
    ui, driving, manager = tour.ui, tour.driving, tour.app.layoutManager()
    manager.setLayout(tour.slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    tour.app.processEvents()
    tour.frame(VENTRICLES, VENTRICLES_MM)
    strokes.scrollTo(manager.sliceWidget("Yellow"), LEFT_VENTRICLE)
    view = manager.sliceWidget("Green")
    ui.inputVolumeSelector.setCurrentNode(tour.volume)
    driving.chooseItem(ui.modelList, "Segmentation by example")
    tour.app.processEvents()
    section = tour.module.panel._supports
    editor = section._painting._widget
    ui.inputsCollapsibleButton.collapsed = True
    ui.exampleViewSelector.setCurrentNode(view.mrmlSliceNode())
    ui.samplesSpinBox.value = SAMPLES_BY_EXAMPLE
    editor._d.table.tableWidget().item(0, 2).setText("Lateral ventricles")
    mask = lateral_ventricles(tour.volume)
    for count, anterior in enumerate(PAINTED):
        strokes.scrollTo(view, (0, anterior, 0))
        strokes.fillMask(editor, view, mask, tour.volume)
        if count == 0:
            tour.take(10, ui.exampleViewRow)
            ui.liveCheckBox.checked = False  # nothing that would be out of date at once
        driving.click(ui.addSliceButton)
    for anterior in ABSENT:
        strokes.scrollTo(view, (0, anterior, 0))
        driving.click(ui.absentButton)
    editor.setActiveEffectByName("")
    strokes.scrollTo(view, (0, FOUND_AT, 0))
    ui.liveCheckBox.checked = True
    driving.waitUntil(lambda: len(section._found) > ALREADY_FOUND, SECONDS)
    tour.take(11, ui.acceptButton)
    driving.waitUntil(lambda: section._live.state is State.IDLE and not section._list._timer.active, SECONDS)
    driving.click(ui.goNextButton)
    tour.take(12, ui.acceptButton)
    driving.click(ui.applyButton)
    driving.waitUntil(lambda: ui.applyButton.text == "Apply", SECONDS)
    ui.examplesCollapsibleButton.collapsed = True
    driving.waitUntil(lambda: tour.module.panel._viewer._surfaces is None, SECONDS)
    tour.choose(ui.mapSelector, "Variance")
    tour.choose(ui.planeSelector, "Coronal")
    tour.double_click(0)
    tour.frame(VENTRICLES, VENTRICLES_MM, in_its_slices=False)
    strokes.scrollTo(manager.sliceWidget("Yellow"), LEFT_VENTRICLE)
    tour.turn(60, -20, 4)
    tour.take(13, ui.exportButton)


def lateral_ventricles(volume: Any) -> np.ndarray:
    """What a person would outline: the dark parts inside of the brain, without the third ventricle and the cisterns.

    Returns:
        bool [k, j, i].
    """
    import slicer
    import vtk

    image = slicer.util.arrayFromVolume(volume)
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    to_ras = slicer.util.arrayFromVTKMatrix(matrix)
    k, j, i = np.indices(image.shape, dtype=np.float32)
    right, anterior, superior = (
        to_ras[n, 0] * i + to_ras[n, 1] * j + to_ras[n, 2] * k + to_ras[n, 3] for n in range(3)
    )
    brain = sitk.BinaryErode(sitk.GetImageFromArray((image > 1).astype(np.uint8)), [BORDER_OF_BRAIN_MM] * 3)
    near = (abs(right) < 45) & (anterior > -60) & (anterior < 40) & (superior > -2) & (superior < 40)
    between = (abs(right) < 6) & ((anterior < -24) | (superior < 8) | ((superior < 13) & (anterior < 0)))
    dark = (image < DARKER_THAN) & (sitk.GetArrayFromImage(brain) > 0) & near & ~between
    opened = sitk.BinaryMorphologicalOpening(sitk.GetImageFromArray(dark.astype(np.uint8)), [OPENING_MM] * 3)
    parts = sitk.GetArrayFromImage(sitk.RelabelComponent(sitk.ConnectedComponent(opened)))
    return (parts == 1) | (parts == 2)  # left and right


if __name__ == "__main__":
    main()
