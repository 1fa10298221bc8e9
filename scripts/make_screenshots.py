"""Take the pictures of README and Extensions Index: the panel, driven as in its tutorial under the stand-in for Slicer.

    make screenshots

The volume is that of ``make run``, the MNI152 T1 template of the nilearn package.
"""

import os
import tempfile
from importlib.metadata import files
from pathlib import Path
from typing import Any

import slicer_stand_in
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "Resources" / "Screenshots"
MODULE = ROOT / "MedSegUncertainty" / "MedSegUncertainty.py"
IMAGE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
WINDOW_SIZE = (1400, 920)
LEFT_HIPPOCAMPUS = (-27.0, -22.0, -14.0)
MARGIN = 1.1
PANEL_WIDTH = 480
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
        self.volume = slicer.util.loadVolume(str(next(one.locate() for one in files("nilearn") if one.name == IMAGE)))
        self.volume.SetName("MNI152 T1")
        slicer.util.setSliceViewerLayers(background=self.volume, fit=True)

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

    def choose_model(self) -> None:
        """Click on the model of the hippocampus."""
        view = self.ui.modelList
        item = next(view.item(row) for row in range(view.count) if "Hippocampus" in view.item(row).text())
        view.scrollToItem(item)
        center = view.visualItemRect(item).center()
        self.driving.click(view.viewport(), center.x(), center.y())

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
        follow_tutorial(Tour())


def follow_tutorial(tour: Tour) -> None:
    """Take a picture at each step."""
    ui, driving = tour.ui, tour.driving
    ui.inputVolumeSelector.setCurrentNode(tour.volume)
    tour.choose_model()
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
    tour.take(7, ui.exportButton)
    driving.click(ui.contoursModeButton)
    tour.choose(ui.mapSelector, "Variance")
    tour.double_click(0)
    tour.take(1, ui.exportButton)
    tour.choose(ui.mapSelector, "None")
    driving.click(ui.compareModeButton)
    tour.take(8, ui.exportButton)
    driving.click(ui.contoursModeButton)
    menu = ui.exportButton.menu()
    menu.popup(ui.exportButton.mapToGlobal(ui.exportButton.rect.bottomLeft()))
    tour.take(9, ui.exportButton, menu)


if __name__ == "__main__":
    main()
