"""Section Examples: paint a few slices, and see what follows from them in all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.gui.accepting import AcceptMenu
from MedSegUncertaintyLib.gui.advice import adviceText, nextText, sliceText
from MedSegUncertaintyLib.gui.live import LivePropagation, State
from MedSegUncertaintyLib.gui.painting import Painting
from MedSegUncertaintyLib.gui.support_files import SupportFiles
from MedSegUncertaintyLib.gui.support_list import SupportList
from MedSegUncertaintyLib.gui.support_strip import StripContent, SupportStrip, legend
from MedSegUncertaintyLib.inference.progress import Progress
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.propagation.guidance import Guidance
from MedSegUncertaintyLib.scene.kept_volumes import KeptVolumes
from MedSegUncertaintyLib.scene.prediction import acceptSlices, clearPrediction, predictedIndices, writeSlices
from MedSegUncertaintyLib.scene.slice_places import ObliqueViewError, SlicePlace, alignView, placeInView, showPlace
from MedSegUncertaintyLib.scene.support_requests import Question, ask
from MedSegUncertaintyLib.scene.support_table import OWN, SlicedExample
from MedSegUncertaintyLib.scene.supports import PREDICTED, Supports, createSupports, removeIfUnused

KEYS = {"S": "_onAdd", "N": "_onAbsent", "C": "_onCorrect", "P": "_onGoNext"}
"""Slicer's views and the effects of its editor have no use of their own for them."""
LIVE_SAMPLES = 3


class SupportsPanel(VTKObservationMixin):
    """The section and its parts. Everything that it shows is read from the scene.

    Args:
        ui: The widgets by name.
        host: Gives the worker and what else is chosen; see ``panel.Panel``.
    """

    def __init__(self, ui: Any, host: Any) -> None:
        VTKObservationMixin.__init__(self)
        self._ui, self._host = ui, host
        self._supports: Supports | None = None
        self._volumeNode: Any = None
        self._guidance = Guidance()
        self._volumes = KeptVolumes()
        self._shortcuts: list[Any] = []
        self._found: frozenset[int] = frozenset()
        self._foundState: tuple[Any, str | None] | None = None
        self._painted: frozenset[int] = frozenset()
        self._place: SlicePlace | None = None
        self._whyNoPlace: BadInputError | None = None
        self._entered = self._filling = False
        self._painting = Painting(ui.editorFrame)
        self._list = SupportList(ui.supportList, self._onUsed, self._onChosen)
        self._strip = SupportStrip(self._onStrip)
        ui.stripFrame.layout().addWidget(self._strip)
        ui.stripFrame.layout().addWidget(legend())
        self._live = LivePropagation(self, host.worker, host.isFree)
        self._files = SupportFiles(ui, lambda: self._supports, self._say, self._onPainted, self._painting.saveState)
        self._accept = AcceptMenu(ui.acceptButton, lambda: self._supports, self._say, self._painting.saveState)
        self._changes = qt.QTimer()
        self._changes.setSingleShot(True)
        self._changes.connect("timeout()", self.refresh)
        self._connect()

    def _connect(self) -> None:
        ui = self._ui
        ui.addSliceButton.connect("clicked()", self._onAdd)
        ui.absentButton.connect("clicked()", self._onAbsent)
        ui.correctButton.connect("clicked()", self._onCorrect)
        ui.alignViewButton.connect("clicked()", self._onAlign)
        ui.goNextButton.connect("clicked()", self._onGoNext)
        ui.goExampleButton.connect("clicked()", lambda: self._onChosen(self._list.current))
        ui.removeExampleButton.connect("clicked()", self._onRemove)
        ui.supportList.connect("itemSelectionChanged()", self._showButtons)

    # The life of the section

    def show(self, volumeNode: Any) -> None:
        """Work on the examples of a volume; None where no model by example is chosen."""
        if volumeNode is self._volumeNode and (volumeNode is None or self._isThere):
            self._followView()
            self.wantLive()  # region, device or the wish itself may have changed
            return
        self._leave()
        self._volumeNode = volumeNode
        if volumeNode is not None:
            try:
                worked = createSupports(volumeNode)
            except BadInputError as error:
                self._say(str(error))
                return
            self._work(worked)
        if self._entered:
            self._listen()

    def enter(self) -> None:
        """The user opened the module."""
        self._entered = True
        if self._supports is not None:
            self._listen()
            self.refresh()

    def exit(self) -> None:
        """The user left the module; a run goes on."""
        self._entered = False
        self._unlisten()

    def forget(self) -> None:
        """The scene is about to be closed."""
        self._leave(discard=False)
        self._volumeNode = None
        self._volumes.clear()
        self._accept.forget()
        self._painting.forget()

    def close(self) -> None:
        """The module is about to go."""
        self.exit()
        self._leave(discard=False)
        self._files.close()
        self.removeObservers()

    @property
    def _isThere(self) -> bool:
        return self._supports is not None and self._supports.isThere

    def _work(self, supports: Supports) -> None:
        self._supports = supports
        segmentation = supports.painted.GetSegmentation()
        for event in (
            segmentation.SourceRepresentationModified, segmentation.SegmentAdded, segmentation.SegmentRemoved,
            segmentation.SegmentModified, segmentation.SegmentsOrderModified,
        ):  # fmt: skip
            self.addObserver(segmentation, event, self._onPainted)
        self._painting.show(supports.painted, supports.volumeNode)
        self.addObserver(self._painting.node, vtk.vtkCommand.ModifiedEvent, self._onEditor)
        self.refresh()

    def _leave(self, discard: bool = True) -> None:
        """Let go of the present set, which stays in the scene if it was used."""
        self._live.stop()
        self._live.forget()
        self._changes.stop()
        self.removeObservers()
        left, self._supports = self._supports, None
        self._guidance, self._found, self._painted, self._place = Guidance(), frozenset(), frozenset(), None
        self._foundState = None
        self._list.clear()
        self._strip.show_(StripContent())
        self._painting.exit()
        if discard and left is not None:
            self._painting.show(None, None)
            removeIfUnused(left)

    def _listen(self) -> None:
        if self._supports is None:
            return
        self._painting.show(self._supports.painted, self._volumeNode)
        self._painting.enter()
        if not self._shortcuts:
            for keys, action in KEYS.items():
                shortcut = qt.QShortcut(qt.QKeySequence(keys), slicer.util.mainWindow() or self._ui.editorFrame)
                shortcut.connect("activated()", getattr(self, action))
                self._shortcuts.append(shortcut)

    def _unlisten(self) -> None:
        self._painting.exit()
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []

    # What the user asks for

    def _act(self, action: Callable[[Supports, SlicePlace], None]) -> None:
        """Do something with the slice in the view; what cannot be done is said."""
        if not self._isThere:
            return
        self.showInViews(True)
        self._say("")
        try:
            if self._readPlace() is None:
                raise self._whyNoPlace
            action(self._supports, self._place)
        except BadInputError as error:
            self._say(str(error))
        self.refresh()

    def _onAdd(self) -> None:
        self._act(lambda supports, place: supports.add(place))

    def _onAbsent(self) -> None:
        self._act(lambda supports, place: supports.markAbsent(place))

    def _onCorrect(self) -> None:
        self._act(self._correct)

    def _correct(self, supports: Supports, place: SlicePlace) -> None:
        if supports.outlined(place):
            raise BadInputError(_("This slice is painted already; change its outline, and it follows at once."))
        if place.plane != self._plane or place.index not in self._found:
            raise BadInputError(_("Nothing was found in this slice; paint it, or mark it as absent."))
        supports.checkPlane(place)
        self._painting.saveState()
        acceptSlices(supports, supports.painted, place.plane, [place.index])
        supports.add(place)

    def _onAlign(self) -> None:
        sliceNode = self._sliceNode
        if self._isThere and sliceNode is not None:
            alignView(sliceNode, self._supports.volumeNode)
            self._say("")
            self._followView()

    def _onUsed(self, example: SlicedExample, used: bool) -> None:
        if self._isThere:
            self._supports.use(example, used)
            self._onPainted()

    def _onChosen(self, example: SlicedExample | None) -> None:
        if example is not None and self._isThere:
            source = self._supports.source(example.volume)
            if source is not None:
                self._show(example.place, source.volumeNode)

    def _onRemove(self) -> None:
        if self._list.current is not None and self._isThere:
            self._supports.remove(self._list.current)
            self.refresh()

    def _onStrip(self, index: int) -> None:
        if self._isThere and self._plane is not None:
            self._show(SlicePlace(self._plane, index), self._supports.volumeNode)

    def _onGoNext(self) -> None:
        if self._guidance.next_slice is not None:
            self._onStrip(self._guidance.next_slice)

    def _show(self, place: SlicePlace, volumeNode: Any) -> None:
        self.showInViews(True)
        showPlace(place, volumeNode)
        self._followView()

    # What follows from the examples

    def question(self) -> Question:
        """What the used examples ask for a few samples."""
        request = self._host.inferenceRequest()
        few = InferenceRequest(request.package, min(request.samples, LIVE_SAMPLES), 0, request.roi, request.device)
        return ask(self._supports, few, self._volumes)

    def fullQuestion(self, request: InferenceRequest) -> Question:
        """What the used examples ask for all samples.

        Raises:
            BadInputError: They ask nothing.
        """
        if not self._isThere:
            raise BadInputError(_("Choose a volume, and outline a structure in a few slices."))
        return ask(self._supports, request, self._volumes)

    def whyNot(self) -> str:
        """Why there is nothing to run yet; empty if there is."""
        if not any(example.outlined and example.used for example in self._list.examples):
            return _("Outline a structure in at least one slice, and press 'Add this slice'.")
        return ""

    def startIndex(self) -> int | None:
        """The slice in the view."""
        return self._place.index if self._place is not None and self._place.plane == self._plane else None

    def wantLive(self) -> None:
        """Something that a run depends on may have changed."""
        if not self._isThere or not self._host.isLiveWanted():
            self._live.stop()
        elif self.whyNot():
            self._live.stop()
            self._live.forget()
            self._clear()
        else:
            self._live.want()

    def onLiveState(self) -> None:
        """A run began or ended."""
        if self._live.state is State.IDLE:
            self._ui.liveLabel.text = ""

    def onLiveDevice(self, description: str) -> None:
        """The network runs there."""
        self._host.onDevice(description, None)

    def onLiveSlices(self, question: Question, axis: int, indices: tuple[int, ...], labels: np.ndarray) -> None:
        """Put slices into the prediction."""
        if self._isThere:
            writeSlices(self._supports, question.segmentIds, axis, indices, labels)
            filled = {index for index, own in zip(indices, labels, strict=True) if own.any()}
            self._found = (self._found - set(indices)) | filled
            self._showStrip()
            self._showPlace()

    def onLiveProgress(self, progress: Progress) -> None:
        """Say how far the run has come."""
        self._ui.liveLabel.text = liveText(progress)

    def onLiveFinished(self, question: Question, result: InferenceResult) -> None:
        """Take the advice of a run; its slices are there already."""
        said = result.provenance["propagation"].get("guidance")
        self._guidance = Guidance() if said is None else Guidance.from_json(said)
        self.refresh()

    def onLiveFailed(self, message: str) -> None:
        """Say why nothing was found."""
        self._say(message)

    def _clear(self) -> None:
        """Nothing is asked, so nothing is found."""
        self._guidance = Guidance()
        if self._found:
            clearPrediction(self._supports)
            self._found = frozenset()
            self._showStrip()

    def onSceneChanged(self) -> None:
        """Nodes came or went."""
        if self._supports is not None and not self._supports.isThere:
            self._replace()

    # What is shown

    def refresh(self) -> None:
        """Show what the scene says, and ask anew if it says something else."""
        if self._supports is None:
            return
        if not self._supports.isThere:
            self._replace()
            return
        try:
            examples = self._supports.refresh()
            plane = self._plane
            self._painted = frozenset(self._supports.paintedIn(plane)) if plane is not None else frozenset()
            self._readFound()
        except BadInputError as error:
            self._say(str(error))
            return
        self._list.show(self._supports, examples, self._guidance)
        self._followView()
        self._host.onExamples()
        self.wantLive()

    def _readFound(self) -> None:
        """Look in which slices something was found, where that is not known."""
        state = (self._supports.node(PREDICTED), self._plane)
        if state != self._foundState:
            self._foundState = state
            known = state[0] is not None and state[1] is not None
            self._found = frozenset(predictedIndices(self._supports, state[1])) if known else frozenset()

    def _replace(self) -> None:
        """The user removed the painted segmentation or the volume."""
        volumeNode = self._volumeNode
        self._leave(discard=False)
        self._volumeNode = None
        if volumeNode is not None and slicer.mrmlScene.IsNodePresent(volumeNode):
            self.show(volumeNode)

    def showInViews(self, shown: bool) -> None:
        """Show what is painted and found, or hide it below a result until the user works on it again."""
        if not shown:
            self._painting.stop()
        nodes = [self._supports.painted, self._supports.node(PREDICTED)] if self._isThere else []
        for node in nodes:
            if node is not None and node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(shown)

    def _onEditor(self, *_event: Any) -> None:
        if self._painting.isActive:  # a hidden segment cannot be painted
            self.showInViews(True)

    def _onPainted(self, *_event: Any) -> None:
        self.showInViews(True)
        self._changes.start(0)

    @property
    def _sliceNode(self) -> Any | None:
        return self._host.exampleView()

    @property
    def _plane(self) -> str | None:
        """The plane of the examples; that of the view before the first."""
        plane = self._supports.plane if self._isThere else None
        return plane or (self._place.plane if self._place is not None else None)

    def _readPlace(self) -> SlicePlace | None:
        self._place, self._whyNoPlace = None, None
        if self._isThere:
            try:
                if self._sliceNode is None:
                    raise BadInputError(_("Choose the view in which you paint."))
                self._place = placeInView(self._sliceNode, self._supports.volumeNode)
            except BadInputError as error:
                self._whyNoPlace = error
        return self._place

    def _followView(self) -> None:
        """Observe the chosen view, and show where it is."""
        sliceNode = self._sliceNode
        for node in self.observedViews():
            if node is not sliceNode:
                self.removeObserver(node, vtk.vtkCommand.ModifiedEvent, self._onView)
        if sliceNode is not None and not self.hasObserver(sliceNode, vtk.vtkCommand.ModifiedEvent, self._onView):
            self.addObserver(sliceNode, vtk.vtkCommand.ModifiedEvent, self._onView)
        before = self._plane
        self._readPlace()
        if self._plane != before and self._isThere and self._plane is not None:
            self._painted = frozenset(self._supports.paintedIn(self._plane))
        self._showStrip()
        self._showPlace()

    def observedViews(self) -> list[Any]:
        """Slice nodes whose changes are heard."""
        nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
        return [node for node in nodes if self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._onView)]

    def _onView(self, *_event: Any) -> None:
        if self._supports is not None and not slicer.mrmlScene.IsBatchProcessing():
            self._followView()

    def _showPlace(self) -> None:
        """Show what there is to say about the slice in the view, and what to do next."""
        ui, examples, place = self._ui, self._list.examples, self._place
        isOblique = isinstance(self._whyNoPlace, ObliqueViewError)
        ui.alignViewButton.setVisible(isOblique)
        if not self._isThere:
            return
        if self._whyNoPlace is not None:
            ui.adviceLabel.text = str(self._whyNoPlace)
        else:
            isPainted = place.plane == self._plane and place.index in self._painted
            ui.adviceLabel.text = adviceText(examples, place, isPainted)
        ui.sliceLabel.text = "" if place is None else sliceText(place, self._supports, self._guidance)
        ui.nextLabel.text = nextText(self._guidance)
        ui.nextFrame.setVisible(self._guidance.next_slice is not None)
        self._showButtons()

    def _showButtons(self) -> None:
        ui, place = self._ui, self._place
        for button in (ui.goExampleButton, ui.removeExampleButton):
            button.enabled = self._list.current is not None
        found = place is not None and place.plane == self._plane and place.index in self._found
        ui.correctButton.enabled = found and place.index not in self._painted
        ui.acceptButton.enabled = bool(self._found)

    def _showStrip(self) -> None:
        if not self._isThere or self._plane is None:
            self._strip.show_(StripContent())
            return
        own = [one for one in self._list.examples if one.volume == OWN]
        outlined = frozenset(one.place.index for one in own if one.outlined)
        absent = frozenset(one.place.index for one in own if one.kind == "absent")
        leftOut = frozenset(one.place.index for one in own if not one.used)
        self._strip.show_(
            StripContent(
                count=self._supports.grid.shape_ijk[self._supports.axis(self._plane)],
                outlined=outlined - leftOut,
                absent=absent - leftOut,
                leftOut=leftOut,
                painted=self._painted - outlined,
                found=self._found,
                uncertainty=uncertaintyBySlice(self._guidance),
                current=self.startIndex(),
                next=self._guidance.next_slice,
            )
        )

    def _say(self, sentence: str) -> None:
        self._ui.supportMessage.text = sentence
        self._ui.supportMessage.setVisible(bool(sentence))


def uncertaintyBySlice(guidance: Guidance) -> dict[int, float]:
    """How much the samples differ, of the structure that differs most in a slice."""
    found: dict[int, float] = {}
    for own in guidance.structures.values():
        for index, value in own.uncertainty.items():
            found[index] = max(found.get(index, 0.0), value)
    return found


def liveText(progress: Progress) -> str:
    """How far a run has come."""
    share = progress.done / max(progress.total, 1)
    return _("Predicting: {stage}, {share:.0%}").format(stage=progress.stage, share=share)
