"""Asks which slices of which segmentation are to become examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.scene.support_import import readIndices
from MedSegUncertaintyLib.scene.supports import Supports

PLANES = ("axial", "coronal", "sagittal")


class ImportDialog:
    """A small window that does not block the others.

    Args:
        parent: Widget over which it opens.
        chosen: Called with segmentation node, ids of segments, plane, and slices or the step from one to the next.
    """

    def __init__(self, parent: Any, chosen: Callable[[Any, list[str], str, list[int] | int], None]) -> None:
        self._parent, self._chosen, self._window = parent, chosen, None
        self._supports: Supports | None = None

    def open(self, supports: Supports) -> None:
        """Ask."""
        self._supports = supports
        if self._window is None:
            self._build()
        self._selector.setMRMLScene(slicer.mrmlScene)
        if supports.plane is not None:
            self._plane.currentIndex = PLANES.index(supports.plane)
        self._plane.enabled = supports.plane is None
        self._message.text = ""
        self._window.show()

    def close(self) -> None:
        """The module is about to go."""
        if self._window is not None:
            self._window.close()

    def _build(self) -> None:
        self._window = qt.QDialog(self._parent)
        self._window.setWindowTitle(_("Use slices of a segmentation as examples"))
        self._window.objectName = "importSlicesDialog"
        self._selector = slicer.qMRMLNodeComboBox()
        self._selector.nodeTypes = ["vtkMRMLSegmentationNode"]
        self._selector.addEnabled = self._selector.removeEnabled = False
        self._selector.noneEnabled = True
        self._segments = slicer.qMRMLSegmentsTableView()
        self._segments.setSelectionMode(qt.QAbstractItemView.ExtendedSelection)
        self._plane = qt.QComboBox()
        self._plane.addItems([plane.capitalize() for plane in PLANES])
        self._every, self._step = qt.QRadioButton(_("Every n-th slice, n =")), qt.QSpinBox()
        self._these, self._text = qt.QRadioButton(_("These slices:")), qt.QLineEdit()
        self._every.checked = True
        self._step.setRange(1, 1000)
        self._step.value = 10
        self._text.placeholderText = "12, 30, 48"
        self._message = qt.QLabel()
        self._message.wordWrap = True
        buttons = qt.QDialogButtonBox(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)
        form = qt.QFormLayout(self._window)
        form.addRow(_("Segmentation:"), self._selector)
        form.addRow(_("Segments:"), self._segments)
        form.addRow(_("Plane:"), self._plane)
        form.addRow(self._every, self._step)
        form.addRow(self._these, self._text)
        form.addRow(self._message)
        form.addRow(buttons)
        self._selector.connect("currentNodeChanged(vtkMRMLNode*)", self._segments.setSegmentationNode)
        self._text.connect("textEdited(QString)", self._onText)
        buttons.connect("accepted()", self._onAccepted)
        buttons.connect("rejected()", self._window.reject)

    def _onText(self, _text: str) -> None:
        self._these.checked = True

    def _onAccepted(self) -> None:
        node, ids = self._selector.currentNode(), list(self._segments.selectedSegmentIDs())
        try:
            if node is None or node is self._supports.painted:
                raise BadInputError(_("Choose another segmentation."))
            indices = self._step.value if self._every.checked else readIndices(self._text.text)
        except BadInputError as error:
            self._message.text = str(error)
            return
        self._window.accept()
        every = list(node.GetSegmentation().GetSegmentIDs())
        self._chosen(node, ids or every, PLANES[self._plane.currentIndex], indices)
