"""Effects of the Segment Editor: what mouse, keys and buttons do to the chosen segment.

They edit through ``vtkSlicerSegmentEditorLogic``, so overwriting, masking and undoing are Slicer's own. Brushes become
voxels by the filters that Slicer uses, with its settings, so that a stroke covers the same voxels.
"""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import qt
import slicer
import vtk
from vtk.util import numpy_support

from slicer_stand_in.attributes import qproperty, standIn, stored

STROKE_STEP = 0.2
"""Between two mouse events the brush is put down at most this share of its diameter apart."""


def voxels(image: Any) -> np.ndarray:
    """The voxels of an image, [k, j, i], not copied."""
    shape = image.GetDimensions()[::-1]
    return numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)


class Line:
    """A line over a slice view, given in RAS; it moves with the picture."""

    def __init__(self, view: Any) -> None:
        self.view, self.points, self.width = view, [], 1.0
        self._data, self._actor = vtk.vtkPolyData(), vtk.vtkActor2D()
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(self._data)
        self._actor.SetMapper(mapper)
        self._actor.GetProperty().SetColor(1, 1, 0)
        view.sliceView()._d.renderer.AddViewProp(self._actor)

    def polyData(self) -> Any:
        """The line in pixels of the view."""
        self.update()
        return self._data

    def update(self) -> None:
        """Draw the points where they are now."""
        points, lines = vtk.vtkPoints(), vtk.vtkCellArray()
        for ras in self.points:
            points.InsertNextPoint(self.view.sliceView().convertRASToXYZ(ras))
        for number in range(len(self.points) - 1):
            lines.InsertNextCell(2, [number, number + 1])
        self._data.SetPoints(points)
        self._data.SetLines(lines)
        self._actor.GetProperty().SetLineWidth(self.width)
        self.view.sliceView().scheduleRender()

    def remove(self) -> None:
        """Take the line out of the view."""
        self.view.sliceView()._d.renderer.RemoveViewProp(self._actor)
        self.view.sliceView().scheduleRender()


@standIn()
class qSlicerSegmentEditorAbstractEffect(qt.QObject):
    """Parameters, which lie in the segment editor node, and access to what is edited."""

    ModificationModeSet, ModificationModeAdd, ModificationModeRemove, ModificationModeRemoveAll = range(4)
    NotConfirmed, ConfirmedWithoutDialog, ConfirmedWithDialog = range(3)

    def __init__(self, editor: Any, name: str) -> None:
        super().__init__(editor)
        self._d = SimpleNamespace(editor=editor, name=name, active=False, frame=qt.QFrame(), lines={}, controls=[])
        qt.QFormLayout(self._d.frame)

    name = qproperty("QString", "name", lambda s: s._d.name)
    title = qproperty("QString", "title", lambda s: s._d.name)
    perSegment = stored("bool", "perSegment", True)
    requireSegments = stored("bool", "requireSegments", True)

    def _logic(self) -> Any:
        return self._d.editor._d.logic

    def parameterSetNode(self) -> Any:
        """The segment editor node."""
        return self._d.editor.mrmlSegmentEditorNode()

    def scene(self) -> Any:
        """The scene."""
        return self.parameterSetNode().GetScene()

    def optionsFrame(self) -> Any:
        """The frame with the options."""
        return self._d.frame

    def optionsLayout(self) -> Any:
        """The layout of the frame with the options."""
        return self._d.frame.layout()

    def addOptionsWidget(self, widget: Any) -> None:
        """Add to the options."""
        self.optionsLayout().addRow(widget)

    def addLabeledOptionsWidget(self, label: str, widget: Any) -> Any:
        """Add to the options, with a label, which is returned."""
        text = qt.QLabel(label)
        self.optionsLayout().addRow(text, widget)
        return text

    # Parameters

    def parameter(self, name: str) -> str:
        """A parameter of this effect, or else one that all effects share; empty if there is neither."""
        node = self.parameterSetNode()
        return node.GetAttribute(f"{self._d.name}.{name}") or node.GetAttribute(name) or ""

    def integerParameter(self, name: str) -> int:
        """A parameter as a whole number, 0 if it is none."""
        try:
            return int(self.parameter(name))
        except ValueError:
            return 0

    def doubleParameter(self, name: str) -> float:
        """A parameter as a number, 0 if it is none."""
        try:
            return float(self.parameter(name))
        except ValueError:
            return 0.0

    def parameterDefined(self, name: str) -> bool:
        """Whether this effect has a parameter of its own of that name."""
        return self.commonParameterDefined(f"{self._d.name}.{name}")

    def commonParameterDefined(self, name: str) -> bool:
        """Whether the effects share a parameter of that name."""
        return bool(self.parameterSetNode().GetAttribute(name))

    def setParameter(self, name: str, value: str | int | float) -> None:
        """Set a parameter of this effect."""
        self.setCommonParameter(f"{self._d.name}.{name}", value)

    def setParameterDefault(self, name: str, value: str | int | float) -> None:
        """Set a parameter of this effect unless it has a value."""
        if not self.parameterDefined(name):
            self.setParameter(name, value)

    def setCommonParameter(self, name: str, value: str | int | float) -> None:
        """Set a parameter that all effects share."""
        node, text = self.parameterSetNode(), f"{value:g}" if isinstance(value, float) else str(value)
        if node.GetAttribute(name) == text:
            return
        silent = node.GetDisableModifiedEvent()
        node.SetDisableModifiedEvent(True)  # an editor has much to do when its node is modified, and nothing of it here
        node.SetAttribute(name, text)
        node.SetDisableModifiedEvent(silent)
        node.InvokeCustomModifiedEvent(node.EffectParameterModified)

    def setCommonParameterDefault(self, name: str, value: str | int | float) -> None:
        """Set a parameter that all effects share unless it has a value."""
        if not self.commonParameterDefined(name):
            self.setCommonParameter(name, value)

    def _setDefaults(self) -> None:
        """Give parameters their first values."""

    def _number(self, label: str, name: str, *, common: bool = False, minimum: float = 0.0) -> Any:
        """Add a spin box for a parameter in mm or in the units of the image."""
        box = slicer.qMRMLSpinBox()
        box.minimum, box.maximum, box.decimals = minimum, 1e6, 2
        write = self.setCommonParameter if common else self.setParameter
        box.connect("valueChanged(double)", lambda value: write(name, float(value)))
        self._d.controls.append((box, name))
        self.addLabeledOptionsWidget(label, box)
        return box

    def updateGUIFromMRML(self) -> None:
        """Show the parameters."""
        for box, name in self._d.controls:
            box.blockSignals(True)
            box.value = self.doubleParameter(name)
            box.blockSignals(False)

    # What is edited

    def defaultModifierLabelmap(self) -> Any:
        """An empty labelmap on the segmentation's reference geometry, to paint into."""
        return self._logic().GetModifierLabelmap() if self._logic().ResetModifierLabelmapToDefault() else None

    def modifierLabelmap(self) -> Any:
        """The labelmap that was painted into last."""
        return self._logic().GetModifierLabelmap()

    def selectedSegmentLabelmap(self) -> Any:
        """The chosen segment on the reference geometry."""
        return self._logic().GetSelectedSegmentLabelmap() if self._logic().UpdateSelectedSegmentLabelmap() else None

    def sourceVolumeImageData(self) -> Any:
        """The source volume on the reference geometry."""
        return self._logic().GetAlignedSourceVolume() if self._logic().UpdateAlignedSourceVolume() else None

    def referenceGeometryImage(self) -> Any:
        """An image with the reference geometry and no voxels."""
        return self._logic().GetReferenceGeometryImage() if self._logic().UpdateReferenceGeometryImage() else None

    def saveStateForUndo(self) -> None:
        """Let the next change be undone."""
        self._d.editor.saveStateForUndo()

    def modifySelectedSegmentByLabelmap(self, labelmap: Any, mode: int, *more: Any) -> None:
        """Add a labelmap to the chosen segment, take it away, or replace the segment by it.

        Args:
            labelmap: What was painted, 1 inside.
            mode: A modification mode.
            more: The part that changed, as an extent, and whether masking is left out; both optional.
        """
        node = self._logic().GetSegmentationNode()
        segmentId = self.parameterSetNode().GetSelectedSegmentID()
        if segmentId:
            self.modifySegmentByLabelmap(node, segmentId, labelmap, mode, *more)

    def modifySegmentByLabelmap(self, node: Any, segmentId: str, labelmap: Any, mode: int, *more: Any) -> None:
        """Like ``modifySelectedSegmentByLabelmap``, for a segment by its id."""
        extent = next((list(value) for value in more if not isinstance(value, bool)), [0, -1] * 3)
        bypass = any(value is True for value in more)
        logic = self._logic()
        kind = getattr(logic, f"ModificationMode{('Set', 'Add', 'Remove', 'RemoveAll')[mode]}")
        logic.ModifySegmentByLabelmap(node, segmentId, labelmap, kind, extent, self.perSegment, bypass)

    def confirmCurrentSegmentVisible(self) -> int:
        """Ask before a segment is changed that is not shown."""
        if self._logic().IsSelectedSegmentVisible():
            return self.ConfirmedWithoutDialog
        asked = slicer.util.confirmOkCancelDisplay("The chosen segment is not visible. Change it nevertheless?")
        return self.ConfirmedWithDialog if asked else self.NotConfirmed

    def selectEffect(self, name: str) -> None:
        """Let the editor switch to another effect, or to none."""
        self._d.editor.setActiveEffectByName(name)

    # Activity

    def active(self) -> bool:
        """Whether this is the editor's active effect."""
        return self._d.active

    def activate(self) -> None:
        """The user chose this effect."""
        self._d.active = True
        self._d.frame.show()
        self.updateGUIFromMRML()

    def deactivate(self) -> None:
        """The user chose another effect, or none."""
        self._d.active = False
        self._d.frame.hide()
        for line in self._d.lines.values():
            line.remove()
        self._d.lines.clear()

    def _line(self, view: Any) -> Line:
        if view not in self._d.lines:
            self._d.lines[view] = Line(view)
        return self._d.lines[view]

    def _process(self, interactor: Any, event: str, view: Any) -> bool:
        """React to an event of a slice view; True if nobody else shall hear of it."""
        return False

    def _viewChanged(self, view: Any) -> None:
        """The slice of a view moved, or its zoom changed."""
        if view in self._d.lines:
            self._d.lines[view].update()


def _plain(interactor: Any) -> bool:
    return not (interactor.GetShiftKey() or interactor.GetControlKey() or interactor.GetAltKey())


def _ras(interactor: Any, view: Any) -> list[float]:
    return view.sliceView().convertXYZToRAS([*interactor.GetEventPosition(), 0])


@standIn()
class qSlicerSegmentEditorPaintEffect(qSlicerSegmentEditorAbstractEffect):
    """A round brush; what it went over is painted when the button is released."""

    def __init__(self, editor: Any, name: str = "Paint") -> None:
        super().__init__(editor, name)
        self._d.stroke = []
        self._number("Diameter (mm)", "BrushAbsoluteDiameter", common=True, minimum=0.01).connect(
            "valueChanged(double)", lambda: self.setCommonParameter("BrushDiameterIsRelative", 0)
        )
        sphere = self._d.sphere = qt.QCheckBox("Sphere brush")
        sphere.connect("toggled(bool)", lambda on: self.setCommonParameter("BrushSphere", int(on)))
        self.addOptionsWidget(sphere)

    def _setDefaults(self) -> None:
        for name, value in (
            ("MinimumAbsoluteDiameter", 0.01), ("MaximumAbsoluteDiameter", 100.0), ("AbsoluteDiameter", 5.0),
            ("RelativeDiameter", 3.0), ("DiameterIsRelative", 1), ("Sphere", 0), ("PixelMode", 0),
        ):  # fmt: skip
            self.setCommonParameterDefault(f"Brush{name}", value)
        self.setParameterDefault("ColorSmudge", 0)
        self.setParameterDefault("EraseAllSegments", 0)

    def updateGUIFromMRML(self) -> None:
        """Show the parameters."""
        super().updateGUIFromMRML()
        self._d.sphere.blockSignals(True)
        self._d.sphere.checked = bool(self.integerParameter("BrushSphere"))
        self._d.sphere.blockSignals(False)

    def _updateDiameter(self, view: Any) -> None:
        """A relative diameter is a share of the screen's height, in percent."""
        if not self.integerParameter("BrushDiameterIsRelative"):
            return
        height = slicer.app.primaryScreen.size.height() * view.sliceView().devicePixelRatioF()
        diameter = height * self.doubleParameter("BrushRelativeDiameter") / 100 * _mmPerPixel(view)
        if abs(diameter / self.doubleParameter("BrushAbsoluteDiameter") - 1) >= 0.01:
            self.setCommonParameter("BrushAbsoluteDiameter", diameter)

    def _process(self, interactor: Any, event: str, view: Any) -> bool:
        d = self._d
        if event == "KeyPressEvent":
            factor = {"plus": 1.2, "+": 1.2, "equal": 1.2, "=": 1.2, "minus": 0.8, "-": 0.8}.get(interactor.GetKeySym())
            return factor is not None and self._scale(factor, view)
        if event.startswith("MouseWheel"):
            return bool(interactor.GetShiftKey()) and self._scale(1.2 if "Forward" in event else 0.8, view)
        if event == "LeftButtonPressEvent" and _plain(interactor):
            if self.confirmCurrentSegmentVisible() != self.ConfirmedWithoutDialog:
                return False
            self._updateDiameter(view)
            d.stroke = [_ras(interactor, view)]
            return True
        if event == "LeaveEvent" and view in d.lines:
            d.lines.pop(view).remove()
        elif event == "MouseMoveEvent":
            self._updateDiameter(view)
            if d.stroke:
                self._goTo(_ras(interactor, view))
            self._showBrush(_ras(interactor, view), view)
        elif event == "LeftButtonReleaseEvent" and d.stroke:
            self._goTo(_ras(interactor, view))
            stroke, d.stroke = d.stroke, []
            self._apply(stroke, view)
            return True
        return False

    def _scale(self, factor: float, view: Any) -> bool:
        name = "BrushRelativeDiameter" if self.integerParameter("BrushDiameterIsRelative") else "BrushAbsoluteDiameter"
        self.setCommonParameter(name, self.doubleParameter(name) * factor)
        self._updateDiameter(view)
        return True

    def _goTo(self, end: list[float]) -> None:
        """Continue the stroke without gaps."""
        start = np.array(self._d.stroke[-1])
        length = np.linalg.norm(np.array(end) - start)
        between = int(length / (STROKE_STEP * self.doubleParameter("BrushAbsoluteDiameter"))) - 1
        for share in np.linspace(0, 1, max(between, 0) + 2)[1:]:
            self._d.stroke.append((start + share * (np.array(end) - start)).tolist())

    def _showBrush(self, center: list[float], view: Any) -> None:
        line, radius = self._line(view), self.doubleParameter("BrushAbsoluteDiameter") / 2
        toRas = view.mrmlSliceNode().GetSliceToRAS()
        across, down = (np.array([toRas.GetElement(row, column) for row in range(3)]) for column in (0, 1))
        angles = np.linspace(0, 2 * np.pi, 33)
        line.points = [np.array(center) + radius * (np.cos(a) * across + np.sin(a) * down) for a in angles]
        line.update()

    def _stamp(self, view: Any, worldToImage: Any) -> tuple[np.ndarray, np.ndarray]:
        """The brush in voxels around the origin: array [k, j, i] and the index (i, j, k) of its first voxel."""
        diameter, spacing = self.doubleParameter("BrushAbsoluteDiameter"), self._logic().GetSliceSpacing
        if self.integerParameter("BrushSphere"):
            source = vtk.vtkSphereSource()
            source.SetPhiResolution(32)
            source.SetThetaResolution(32)
        else:
            source = vtk.vtkCylinderSource()
            source.SetResolution(32)
            source.SetHeight(spacing(view.mrmlSliceNode(), view.sliceLogic()))
        source.SetRadius(diameter / 2)
        toWorld, toImage = vtk.vtkTransform(), vtk.vtkTransform()
        toWorld.Concatenate(_rotation(view.mrmlSliceNode().GetSliceToRAS()))
        toWorld.RotateX(90)  # a cylinder of VTK stands along Y, a brush along the normal of the slice
        toImage.Concatenate(_rotation(worldToImage))
        inWorld, inImage = vtk.vtkTransformPolyDataFilter(), vtk.vtkTransformPolyDataFilter()
        normals, stencil = vtk.vtkPolyDataNormals(), vtk.vtkPolyDataToImageStencil()
        inWorld.SetTransform(toWorld)
        inWorld.SetInputConnection(source.GetOutputPort())
        normals.AutoOrientNormalsOn()
        normals.SetInputConnection(inWorld.GetOutputPort())
        inImage.SetTransform(toImage)
        inImage.SetInputConnection(normals.GetOutputPort())
        inImage.Update()
        bounds = np.array(inImage.GetOutput().GetBounds()).reshape(3, 2)
        extent = np.stack([np.floor(bounds[:, 0]) - 1, np.ceil(bounds[:, 1]) + 1], axis=1).astype(int)
        stencil.SetOutputSpacing(1, 1, 1)
        stencil.SetOutputWholeExtent(extent.ravel().tolist())
        stencil.SetInputConnection(inImage.GetOutputPort())
        image = vtk.vtkImageStencilToImage()
        image.SetInputConnection(stencil.GetOutputPort())
        image.Update()
        return voxels(image.GetOutput()) > 0, extent[:, 0]

    def _apply(self, stroke: Iterable[list[float]], view: Any) -> None:
        """Put the brush down at all points of a stroke and change the segment."""
        labelmap = self.defaultModifierLabelmap()
        if labelmap is None:
            return
        self.saveStateForUndo()
        worldToImage = _worldToImage(labelmap, self._logic().GetSegmentationNode())
        stamp, corner = self._stamp(view, worldToImage)
        target, first = voxels(labelmap), np.array(labelmap.GetExtent()[::2])
        centers = {tuple(vtk.vtkMath.Round(x) for x in worldToImage.MultiplyPoint([*ras, 1])[:3]) for ras in stroke}
        low, high = np.array(labelmap.GetDimensions()), np.array([-1, -1, -1])
        for center in centers:
            start = np.array(center) + corner - first
            end = start + stamp.shape[::-1]
            a, b = np.maximum(start, 0), np.minimum(end, target.shape[::-1])
            if (a < b).all():
                inside = tuple(slice(x, y) for x, y in zip(a[::-1], b[::-1], strict=True))
                part = tuple(slice(x, y) for x, y in zip((a - start)[::-1], (b - start)[::-1], strict=True))
                target[inside] |= stamp[part]
                low, high = np.minimum(low, a), np.maximum(high, b - 1)
        if (low <= high).all():
            labelmap.Modified()
            extent = np.stack([low + first, high + first], axis=1).ravel().tolist()
            self.modifySelectedSegmentByLabelmap(labelmap, self._mode(), extent)

    def _mode(self) -> int:
        return self.ModificationModeAdd


@standIn()
class qSlicerSegmentEditorEraseEffect(qSlicerSegmentEditorPaintEffect):
    """The same brush takes away."""

    def __init__(self, editor: Any) -> None:
        super().__init__(editor, "Erase")

    def _mode(self) -> int:
        everything = self.integerParameter("EraseAllSegments")
        return self.ModificationModeRemoveAll if everything else self.ModificationModeRemove


@standIn()
class qSlicerSegmentEditorScriptedEffect(qSlicerSegmentEditorAbstractEffect):
    """Effects that are Python files in Slicer; ``self()`` is where they have their ``onApply``."""

    def self(self) -> Any:
        """The Python object."""
        return self

    def _applyButton(self) -> None:
        button = self._d.apply = qt.QPushButton("Apply")
        button.objectName = f"SegmentEditor{self._d.name}EffectApply"
        button.connect("clicked()", self.onApply)
        self.addOptionsWidget(button)


class DrawEffect(qSlicerSegmentEditorScriptedEffect):
    """Clicks and drags make an outline; a right click, a double click, A or Enter fills it, X takes a point back."""

    def __init__(self, editor: Any) -> None:
        super().__init__(editor, "Draw")
        self._d.drawing, self._d.offset = False, None

    def _process(self, interactor: Any, event: str, view: Any) -> bool:
        d, line = self._d, self._line(view)
        if event == "LeftButtonPressEvent" and _plain(interactor):
            if self.confirmCurrentSegmentVisible() != self.ConfirmedWithoutDialog:
                return True
            d.drawing = True
            self._add(line, _ras(interactor, view))
            return True
        if event == "MouseMoveEvent" and d.drawing:
            self._add(line, _ras(interactor, view))
            return True
        if event == "LeftButtonReleaseEvent" and d.drawing:
            d.drawing = False
            return True
        if event == "RightButtonPressEvent" and _plain(interactor):
            return True
        if event in ("RightButtonReleaseEvent", "LeftButtonDoubleClickEvent"):
            return self._fill(line)
        if event == "KeyPressEvent" and interactor.GetKeySym() in ("a", "Return"):
            return self._fill(line)
        if event == "KeyPressEvent" and interactor.GetKeySym() == "x":
            line.points = line.points[:-1]
            line.update()
            return True
        return False

    def _add(self, line: Line, ras: list[float]) -> None:
        """Add a point, unless the slice was left where the outline began."""
        offset = line.view.sliceLogic().GetSliceOffset()
        if not line.points:
            self._d.offset = offset
        if offset == self._d.offset:
            line.points.append(ras)
            line.update()

    def _fill(self, line: Line) -> bool:
        """Fill the outline, in the slice where it was drawn alone."""
        points, onItsSlice = line.points, line.view.sliceLogic().GetSliceOffset() == self._d.offset
        if len(points) < 2 or not onItsSlice:
            return False
        line.points = [*points, points[0]]
        labelmap = self.defaultModifierLabelmap()
        node = self._logic().GetSegmentationNode()
        self._logic().AppendPolyMask(labelmap, line.polyData(), line.view.mrmlSliceNode(), node)
        line.points = []
        line.update()
        self.saveStateForUndo()
        self.modifySelectedSegmentByLabelmap(labelmap, self.ModificationModeAdd)
        return True


class ThresholdEffect(qSlicerSegmentEditorScriptedEffect):
    """Makes the segment of what lies between two intensities."""

    def __init__(self, editor: Any) -> None:
        super().__init__(editor, "Threshold")
        for end in ("Minimum", "Maximum"):
            self._number(end, f"{end}Threshold", minimum=-1e6)
        self._applyButton()

    def activate(self) -> None:
        """Start with the brighter half of what the image holds."""
        volume = self._logic().GetSourceVolumeNode()
        if volume is not None and volume.GetImageData() is not None and not self.parameterDefined("MaximumThreshold"):
            low, high = volume.GetImageData().GetScalarRange()
            self.setParameterDefault("MinimumThreshold", (low + high) / 2)
            self.setParameterDefault("MaximumThreshold", high)
        super().activate()

    def onApply(self) -> None:
        """Replace the segment; the effect is left."""
        if self.confirmCurrentSegmentVisible() == self.NotConfirmed:
            return
        source, labelmap = self.sourceVolumeImageData(), self.defaultModifierLabelmap()
        if source is None or labelmap is None:
            return
        values = voxels(source)
        low, high = self.doubleParameter("MinimumThreshold"), self.doubleParameter("MaximumThreshold")
        voxels(labelmap)[:] = (values >= low) & (values <= high)
        labelmap.Modified()
        self.saveStateForUndo()
        self.modifySelectedSegmentByLabelmap(labelmap, self.ModificationModeSet)
        self.selectEffect("")


class SmoothingEffect(qSlicerSegmentEditorScriptedEffect):
    """Makes the surface of the segment smoother."""

    def __init__(self, editor: Any) -> None:
        super().__init__(editor, "Smoothing")
        self._number("Kernel size (mm)", "KernelSizeMm")
        self._applyButton()

    def _setDefaults(self) -> None:
        self.setParameterDefault("KernelSizeMm", 3)
        self.setParameterDefault("SmoothingMethod", "MEDIAN")

    def onApply(self) -> None:
        """Replace the segment by its median.

        Raises:
            NotImplementedError: Slicer has the method, the stand-in has not.
        """
        if self.parameter("SmoothingMethod") != "MEDIAN":
            raise NotImplementedError(f"The stand-in has no smoothing method {self.parameter('SmoothingMethod')}")
        if self.confirmCurrentSegmentVisible() == self.NotConfirmed:
            return
        segment, labelmap = self.selectedSegmentLabelmap(), self.defaultModifierLabelmap()
        if segment is None or labelmap is None:
            return
        size = self.doubleParameter("KernelSizeMm")
        median = vtk.vtkImageMedian3D()  # an even kernel would shift the image
        median.SetKernelSize(*(round((size / spacing + 1) / 2) * 2 - 1 for spacing in labelmap.GetSpacing()))
        median.SetInputData(segment)
        median.Update()
        matrix = vtk.vtkMatrix4x4()
        labelmap.GetImageToWorldMatrix(matrix)
        labelmap.DeepCopy(median.GetOutput())
        labelmap.SetGeometryFromImageToWorldMatrix(matrix)
        self.saveStateForUndo()
        self.modifySelectedSegmentByLabelmap(labelmap, self.ModificationModeSet)


EFFECTS = (
    qSlicerSegmentEditorPaintEffect,
    DrawEffect,
    qSlicerSegmentEditorEraseEffect,
    ThresholdEffect,
    SmoothingEffect,
)


def _mmPerPixel(view: Any) -> float:
    matrix = view.mrmlSliceNode().GetXYToSlice()
    return float(np.linalg.norm([matrix.GetElement(row, 1) for row in range(3)]))


def _rotation(matrix: Any) -> Any:
    """A matrix without its shift."""
    turned = vtk.vtkMatrix4x4()
    turned.DeepCopy(matrix)
    for row in range(3):
        turned.SetElement(row, 3, 0)
    return turned


def _worldToImage(image: Any, segmentationNode: Any) -> Any:
    """From RAS of the world to IJK of an image of a segmentation, which may have a parent transform."""
    toSegmentation, toImage, both = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    parent = segmentationNode.GetParentTransformNode()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(None, parent, toSegmentation)
    image.GetWorldToImageMatrix(toImage)
    vtk.vtkMatrix4x4.Multiply4x4(toImage, toSegmentation, both)
    return both
