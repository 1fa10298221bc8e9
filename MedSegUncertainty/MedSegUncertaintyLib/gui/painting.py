"""The segment editor in the panel: paints examples, and nothing else."""

from __future__ import annotations

from typing import Any

import slicer

EFFECTS = ("Paint", "Draw", "Erase", "Threshold", "Smoothing")
TAG = "MedSegUncertaintyExamples"
"""Of the editor's own parameter node; other modules have one of theirs."""
EFFECT_COLUMNS = 3
"""All effects and "None" in two rows, which fit beside the views."""
UNDO_STATES = 20


class Painting:
    """Slicer's own editor widget.

    Args:
        frame: Where it goes; a widget with a layout.
    """

    def __init__(self, frame: Any) -> None:
        self._widget = slicer.qMRMLSegmentEditorWidget(frame)
        self._widget.objectName = "examplesEditor"
        self._widget.segmentationNodeSelectorVisible = False
        self._widget.sourceVolumeNodeSelectorVisible = False
        self._widget.switchToSegmentationsButtonVisible = False
        self._widget.unorderedEffectsVisible = False
        self._widget.setEffectNameOrder(list(EFFECTS))
        self._widget.effectColumnCount = EFFECT_COLUMNS
        self._widget.undoEnabled = True
        self._widget.maximumNumberOfUndoStates = UNDO_STATES
        self._widget.setMRMLScene(slicer.mrmlScene)
        self._entered = False
        frame.layout().addWidget(self._widget)

    def show(self, painted: Any, volumeNode: Any) -> None:
        """Paint into a segmentation over a volume; into none if there is none."""
        self._widget.setMRMLSegmentEditorNode(_editorNode())
        if self._widget.segmentationNode() is not painted:
            self._widget.setActiveEffectByName("")
            self._widget.setSegmentationNode(painted)
        if painted is not None and self._widget.sourceVolumeNode() is not volumeNode:
            self._widget.setSourceVolumeNode(volumeNode)

    def enter(self) -> None:
        """Listen to the views and the keys of effects."""
        if not self._entered:
            self._entered = True
            self._widget.setupViewObservations()
            self._widget.installKeyboardShortcuts(slicer.util.mainWindow() or self._widget)

    def exit(self) -> None:
        """Give mouse and keys back."""
        if self._entered:
            self._entered = False
            self._widget.setActiveEffectByName("")
            self._widget.uninstallKeyboardShortcuts()
            self._widget.removeViewObservations()

    def forget(self) -> None:
        """The scene is about to be closed."""
        self._widget.setActiveEffectByName("")
        self._widget.setSegmentationNode(None)
        self._widget.setMRMLSegmentEditorNode(None)

    def stop(self) -> None:
        """Put the brush down."""
        self._widget.setActiveEffectByName("")

    @property
    def isActive(self) -> bool:
        """Whether the user holds a brush."""
        return bool(_editorNode().GetActiveEffectName())

    @property
    def node(self) -> Any:
        """Is modified when the user takes another effect."""
        return _editorNode()

    def saveState(self) -> None:
        """Let the next change of the segmentation be undone."""
        self._widget.saveStateForUndo()


def _editorNode() -> Any:
    node = slicer.mrmlScene.GetSingletonNode(TAG, "vtkMRMLSegmentEditorNode")
    if node is None:
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
        node.UnRegister(None)
        node.SetSingletonTag(TAG)
        node = slicer.mrmlScene.AddNode(node)
    return node
