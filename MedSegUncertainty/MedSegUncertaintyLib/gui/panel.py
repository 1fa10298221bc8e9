"""The panel: puts its parts together and lets them know of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from MedSegUncertaintyLib.errors import MedSegError
from MedSegUncertaintyLib.gui.device import DeviceLine
from MedSegUncertaintyLib.gui.estimate import START, Pace, StageWatch, estimateText, memoryBytes, wholeSamples
from MedSegUncertaintyLib.gui.exporting import ExportMenu
from MedSegUncertaintyLib.gui.inputs import InputsPanel
from MedSegUncertaintyLib.gui.installing import ensureInstalled, missingRequirements
from MedSegUncertaintyLib.gui.messages import Messages
from MedSegUncertaintyLib.gui.running import Running, State
from MedSegUncertaintyLib.gui.viewer import ViewerPanel
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.models.registry import BY_EXAMPLE
from MedSegUncertaintyLib.scene.comparison import registerLayout
from MedSegUncertaintyLib.scene.results import ResultNodes, findResults

if TYPE_CHECKING:
    from MedSegUncertaintyLib.inference.result import InferenceResult

KEY = "U"
"""Toggles the map over the image; Slicer has no use of its own for it."""


class Panel(VTKObservationMixin):
    """Everything between the widgets and the library.

    Args:
        ui: The widgets by name.
        requirementsFile: What Slicer's Python needs.
    """

    def __init__(self, ui: Any, requirementsFile: str) -> None:
        VTKObservationMixin.__init__(self)
        self._ui, self._requirementsFile = ui, requirementsFile
        self._parameters: Any = None
        self._guiTag: int | None = None
        self._region: Any = None
        self._replaced: ResultNodes | None = None
        self._voxels = 1.0
        self._shortcut: Any = None
        self._entered = False
        self._messages = Messages(ui)
        self._device = DeviceLine(ui.deviceLabel, self.refresh)
        self._inputs = InputsPanel(ui, self.refresh)
        self._viewer = ViewerPanel(ui, lambda: self._parameters, self._messages.show)
        self._export = ExportMenu(ui.exportButton, lambda: self._viewer.nodes, self._messages)
        self._running = Running(self)
        self._supports: Any = None
        self._sceneTimer = qt.QTimer()
        self._sceneTimer.setSingleShot(True)
        self._sceneTimer.connect("timeout()", self._onSceneChanged)
        for frame in (
            ui.progressFrame, ui.messageFrame, ui.resultFrame, ui.channelsFrame, ui.examplesCollapsibleButton,
            ui.supportMessage, ui.nextFrame, ui.alignViewButton,
        ):  # fmt: skip
            frame.hide()
        ui.applyButton.connect("clicked()", self._onApply)
        ui.redrawButton.connect("clicked()", self._onRedraw)
        for event in (slicer.mrmlScene.NodeAddedEvent, slicer.mrmlScene.NodeRemovedEvent):
            self.addObserver(slicer.mrmlScene, event, lambda *_: self._sceneTimer.start(0))
        if slicer.app.layoutManager() is not None:  # there is none without a main window
            registerLayout(slicer.mrmlScene)

    # The life of the module

    def setParameters(self, parameters: Any) -> None:
        """Show other parameters; None while a scene is being closed."""
        if self._parameters is not None:
            self._parameters.disconnectGui(self._guiTag)
            self.removeObserver(self._parameters.parameterNode, "ModifiedEvent", self.refresh)
        self._parameters = parameters
        if parameters is None:
            self._viewer.forget()
            return
        self._inputs.readModels()
        self._inputs.setParameters(parameters)
        self._guiTag = parameters.connectGui(self._ui)
        self.addObserver(parameters.parameterNode, "ModifiedEvent", self.refresh)
        self._viewer.readResults()
        self.refresh()

    def enter(self) -> None:
        """The user opened the module."""
        self._device.look(self._parameters.device, again=self._running.state is State.IDLE)
        self._inputs.readModels()
        if self._shortcut is None:
            self._shortcut = qt.QShortcut(qt.QKeySequence(KEY), slicer.util.mainWindow() or self._ui.resultFrame)
            self._shortcut.connect("activated()", self._viewer.toggleMap)
        if self._supports is not None:
            self._supports.enter()
        self._entered = True
        self.refresh()

    def exit(self) -> None:
        """The user left the module; a run goes on."""
        self._entered = False
        if self._supports is not None:
            self._supports.exit()
        if self._shortcut is not None:
            self._shortcut.setParent(None)
            self._shortcut.deleteLater()
            self._shortcut = None

    def onSceneCloses(self) -> None:
        """The scene is about to be emptied."""
        if self._supports is not None:
            self._supports.forget()
        self._running.abandon()
        self._export.forget()
        self._replaced = None
        self._followRegion(None)
        self.setParameters(None)

    def close(self) -> None:
        """The module is about to go."""
        self.exit()
        self._sceneTimer.stop()
        self._device.close()
        if self._supports is not None:
            self._supports.close()
        self._export.close()
        self._running.close()
        self._viewer.finishRemoval()
        if self._parameters is not None:
            self.setParameters(None)
        self.removeObservers()

    # What the user presses

    def _onApply(self) -> None:
        if self._running.state is not State.IDLE:
            self._running.cancel()
            return
        self._start(None)

    def _onRedraw(self) -> None:
        self._start(self._viewer.nodes)

    def _start(self, replaced: ResultNodes | None) -> None:
        self._messages.clear()
        try:
            if reason := ensureInstalled(self._requirementsFile):
                self._messages.show(reason)
                return
            self._replaced, self._voxels = replaced, self._inputs.voxels()[0]
            package, volumeNode = self._inputs.package, self._parameters.inputVolume
            if package.family in BY_EXAMPLE:
                question = self._supports.fullQuestion(self._inputs.request())
                self._running.propagate(question, volumeNode, self._supports.startIndex())
            else:
                self._running.start(self._inputs.request(), package, volumeNode, self._inputs.channelNodes)
        except MedSegError as error:
            self._messages.show(str(error))

    # What a run tells

    def onState(self) -> None:
        """A run began or ended."""
        self._ui.progressFrame.setVisible(self._running.state is not State.IDLE)
        self._sceneTimer.start(0)
        if self._parameters is not None:
            self.refresh()
            if self._supports is not None and self._running.state is State.IDLE:
                self._supports.wantLive()

    def onDevice(self, description: str, startSeconds: float | None) -> None:
        """The network runs there."""
        if startSeconds is not None:
            qt.QSettings().setValue(START, startSeconds)
        self._device.tell(description)

    def onProgress(self, share: float | None, text: str) -> None:
        """Show how far a stage has come."""
        self._ui.progressBar.maximum = 0 if share is None else 100
        self._ui.progressBar.value = 0 if share is None else round(100 * share)
        self._ui.progressLabel.text = text

    def onResult(self, nodes: ResultNodes, result: InferenceResult, watch: StageWatch) -> None:
        """Show a result, and remember how long it took."""
        samples = wholeSamples(result.package, result.request.samples, result.request.steps)
        Pace(result.package, result.provenance["device"]).keep(self._voxels, samples, *watch.seconds())
        replaced, self._replaced = self._replaced, None
        self._export.keep(nodes, result)
        self._viewer.show(nodes)
        if replaced in findResults(slicer.mrmlScene):
            self._viewer.remove(replaced)
        self._ui.uncertaintyCollapsibleButton.collapsed = False
        self._inputs.showRegion(False)
        if self._supports is not None:
            self._supports.showInViews(False)
        self.refresh()

    def onFailed(self, message: str, log: str) -> None:
        """Say why there is no result."""
        self._replaced = None
        self._messages.show(message, log)

    # What the examples want to know

    def worker(self) -> Any:
        """The process that computes, which Apply uses as well."""
        return self._running.worker()

    def isFree(self) -> bool:
        """Whether Apply leaves the process alone."""
        return self._running.state is State.IDLE

    def isLiveWanted(self) -> bool:
        """Whether to predict while the user paints; what has to be installed first, Apply asks for."""
        wanted = self._parameters is not None and self._parameters.livePrediction
        return wanted and not self._inputs.whyNot() and not missingRequirements(self._requirementsFile)

    def inferenceRequest(self) -> InferenceRequest:
        """Package, region and device."""
        return self._inputs.request()

    def exampleView(self) -> Any | None:
        """The node of the view in which the user paints."""
        return None if self._parameters is None else self._parameters.exampleView

    def onExamples(self) -> None:
        """Examples came, went or changed."""
        if self._parameters is not None:
            self._showButtons(self._whyNot())

    # What is shown

    def refresh(self, *_event: Any) -> None:
        """Show what the parameters say."""
        if self._parameters is None:
            return
        self._followRegion(self._parameters.region)
        self._device.look(self._parameters.device)
        self._inputs.refresh()
        self._showExamples()
        reason = self._whyNot()
        self._showCost(reason)
        self._showButtons(reason)

    def _showExamples(self) -> None:
        """Show the section Examples for models that need some; it is made when it is first needed."""
        package, volumeNode = self._inputs.package, self._parameters.inputVolume
        needed = package is not None and package.family in BY_EXAMPLE
        self._ui.examplesCollapsibleButton.setVisible(needed)
        if needed and self._supports is None:
            from MedSegUncertaintyLib.gui.supports import SupportsPanel

            self._supports = SupportsPanel(self._ui, self)
            if self._entered:
                self._supports.enter()
        if self._supports is not None:
            self._supports.show(volumeNode if needed and not self._inputs.whyNot() else None)

    def _whyNot(self) -> str:
        """Why nothing can be run yet; empty if it can."""
        package = self._inputs.package
        reason = self._inputs.whyNot()
        if not reason and package.family in BY_EXAMPLE:
            reason = self._supports.whyNot()
        return reason

    def _showCost(self, reason: str) -> None:
        """How long a run will take and how much memory its maps need."""
        if reason:
            self._ui.estimateLabel.text = "-"
            self._device.show(None)
            return
        package, (voxels, ownVoxels) = self._inputs.package, self._inputs.voxels()
        device = self._device.report.text if self._device.report is not None else ""
        samples = wholeSamples(package, self._parameters.samples, self._inputs.steps)
        seconds = Pace(package, device).seconds(voxels, samples, self._running.isWarm)
        self._ui.estimateLabel.text = estimateText(seconds, memoryBytes(ownVoxels, package))
        self._device.show(seconds)

    def _showButtons(self, reason: str) -> None:
        ui, state = self._ui, self._running.state
        ui.applyButton.text = _("Apply") if state is State.IDLE else _("Cancel")
        ui.applyButton.enabled = not reason if state is State.IDLE else state is not State.CANCELING
        idleTip = reason or _("Draw samples and show how they differ.")
        ui.applyButton.toolTip = idleTip if state is State.IDLE else _("Stop; the scene is left as it was.")
        nodes = self._viewer.nodes
        same = nodes is not None and self._parameters.inputVolume is nodes.inputVolume
        same = same and nodes.run["package"] == self._parameters.packageName
        ui.redrawButton.enabled = state is State.IDLE and not reason and same

    def _followRegion(self, region: Any) -> None:
        """Keep the estimate up to date while the user drags the region."""
        if region is self._region:
            return
        if self._region is not None:
            self.removeObserver(self._region, "ModifiedEvent", self._onRegion)
        self._region = region
        if region is not None:
            self.addObserver(region, "ModifiedEvent", self._onRegion)

    def _onRegion(self, *_event: Any) -> None:
        if self._parameters is not None:
            reason = self._whyNot()
            self._showCost(reason)
            self._showButtons(reason)
            if self._supports is not None:
                self._supports.wantLive()

    def _onSceneChanged(self) -> None:
        """Results may have come or gone, unless the scene is still in the middle of it."""
        if self._parameters is None or self._running.state is State.ADDING:
            return
        if slicer.mrmlScene.IsBatchProcessing():
            self._sceneTimer.start(100)
            return
        self._viewer.readResults()
        self._export.keepOnly(self._viewer.folders)
        if self._supports is not None:
            self._supports.onSceneChanged()
        self.refresh()
