"""One volume selector per further channel that a model asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from MedSegUncertaintyLib.packages.package import Channel

REFERENCE = "channel."
"""Start of the parameter node's reference roles; the channel's role follows."""


class ChannelSelectors:
    """Selectors in a form, kept in the parameter node.

    Args:
        frame: Widget with a ``QFormLayout``.
        changed: Called when the user chose a volume.
    """

    def __init__(self, frame: Any, changed: Callable[[], None]) -> None:
        self._frame, self._changed = frame, changed
        self._parameterNode: Any = None
        self._selectors: dict[str, Any] = {}

    def setParameterNode(self, parameterNode: Any) -> None:
        """Keep choices in another parameter node."""
        self._parameterNode = parameterNode

    def show(self, channels: tuple[Channel, ...]) -> None:
        """Show selectors for these channels, with what the parameter node says."""
        roles = [channel.role for channel in channels]
        if roles != list(self._selectors):
            self._build(channels)
        self._frame.setVisible(bool(channels))
        for role, selector in self._selectors.items():
            selector.setCurrentNode(self._parameterNode.GetNodeReference(REFERENCE + role))

    def _build(self, channels: tuple[Channel, ...]) -> None:
        form = self._frame.layout()
        while form.rowCount():
            form.removeRow(0)
        self._selectors = {}
        for channel in channels:
            selector = slicer.qMRMLNodeComboBox(self._frame)
            selector.objectName = f"{channel.role}ChannelSelector"
            selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
            selector.noneEnabled, selector.addEnabled, selector.removeEnabled = True, False, False
            selector.showChildNodeTypes = False
            selector.toolTip = _("{name}, registered to the volume above; it may have another grid.").format(
                name=channel.name
            )
            selector.setMRMLScene(slicer.mrmlScene)
            selector.connect("currentNodeChanged(vtkMRMLNode*)", self._setterOf(channel.role))
            form.addRow(qt.QLabel(f"{channel.name}:"), selector)
            self._selectors[channel.role] = selector

    def _setterOf(self, role: str) -> Callable[[Any], None]:
        def set_(node: Any) -> None:
            if self._parameterNode.GetNodeReference(REFERENCE + role) is not node:
                self._parameterNode.SetNodeReferenceID(REFERENCE + role, node and node.GetID())
                self._changed()

        return set_

    @property
    def nodes(self) -> dict[str, Any]:
        """The chosen volumes by role; roles without one are left out."""
        chosen = {role: self._parameterNode.GetNodeReference(REFERENCE + role) for role in self._selectors}
        return {role: node for role, node in chosen.items() if node is not None}
