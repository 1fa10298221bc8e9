"""The result on the screen: which samples, which map, which slices, which numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.gui.sample_surfaces import SampleSurfaces
from MedSegUncertaintyLib.gui.steps import Steps
from MedSegUncertaintyLib.gui.table import StructureTable
from MedSegUncertaintyLib.gui.view_titles import ViewTitles
from MedSegUncertaintyLib.models.sample_kinds import meaning
from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.scene import comparison, overlay, places, viewer
from MedSegUncertaintyLib.scene.folder import hierarchyOf
from MedSegUncertaintyLib.scene.nodes import removeResultInSteps
from MedSegUncertaintyLib.scene.results import ResultNodes, findResults
from MedSegUncertaintyLib.scene.surfaces import addSurfacesInSteps, areSurfacesShown

CONTOURS, OUTLINES, SAMPLE, COMPARISON = range(4)
"""Ways to show samples, in the order of the buttons and of the pages below them."""
NO_MAP = ""


class ViewerPanel:
    """Section Uncertainty. What is shown is read from the scene, so that a loaded scene goes on where it was.

    Args:
        ui: The widgets by name.
        parameters: Gives the present parameter node.
        report: Called with a sentence when something cannot be shown.
    """

    def __init__(self, ui: Any, parameters: Callable[[], Any], report: Callable[[str], None]) -> None:
        self._ui, self._parameters, self._report = ui, parameters, report
        self._results: list[ResultNodes] = []
        self._nodes: ResultNodes | None = None
        self._filling = False
        self._browserObservation: tuple[Any, int] | None = None
        self._layoutBefore: int | None = None
        self._surfaces: Steps | None = None
        self._sampleSurfaces = SampleSurfaces(self._sampleIn3D)
        self._titles = ViewTitles()
        self._removal: Steps | None = None
        self._isNew = False
        self._table = StructureTable(ui.structureTable, self._onStructureChosen)
        self._modeButtons = (ui.contoursModeButton, ui.outlinesModeButton, ui.sampleModeButton, ui.compareModeButton)
        ui.planeSelector.addItems(list(reversed(places.PLANES)))
        self._connect()

    def _connect(self) -> None:
        ui = self._ui
        for mode, button in enumerate(self._modeButtons):
            button.connect("clicked()", self._setterOfMode(mode))
        ui.resultSelector.connect("currentIndexChanged(int)", self._onResultChosen)
        ui.removeButton.connect("clicked()", self.removeResult)
        ui.surfacesCheckBox.connect("toggled(bool)", self._guarded(self._showContours))
        ui.outlineOpacitySlider.connect("valueChanged(double)", self._guarded(self._showOutlines))
        ui.sampleSlider.connect("valueChanged(int)", self._guarded(self._showSample))
        ui.playButton.connect("toggled(bool)", self._guarded(self._play))
        ui.mapSelector.connect("currentIndexChanged(int)", self._guarded(self._showMap))
        ui.mapStructureSelector.connect("currentIndexChanged(int)", self._guarded(self._showMap))
        ui.mapOpacitySlider.connect("valueChanged(double)", self._guarded(self._setMapOpacity))
        ui.previousSliceButton.connect("clicked()", lambda: self.step(-1))
        ui.nextSliceButton.connect("clicked()", lambda: self.step(1))
        ui.plotButton.connect("toggled(bool)", self._guarded(self._plot))

    def _guarded(self, action: Callable[..., None]) -> Callable[..., None]:
        """An action of the user on the result that is shown; what cannot be done is said."""

        def act(*_: Any) -> None:
            if self._filling or self._nodes is None:
                return
            try:
                action()
            except BadInputError as error:
                self._report(str(error))
            self.refresh()

        return act

    @property
    def nodes(self) -> ResultNodes | None:
        """The result that is shown."""
        return self._nodes

    @property
    def folders(self) -> set[int]:
        """Subject hierarchy folders of the results in the scene."""
        return {one.folder for one in self._results}

    def readResults(self) -> None:
        """Look for results in the scene; nothing happens if they are the same."""
        found = findResults(slicer.mrmlScene)
        if self._results == found and (self._nodes is None) == (not found):
            return
        self._results = found
        kept = self._parameters().result
        chosen = next((one for one in self._results if kept is not None and one.samples is kept), None)
        self._choose(chosen or (self._results[-1] if self._results else None))

    def show(self, nodes: ResultNodes) -> None:
        """Show a new result in the default manner: contours, the rest hidden, at its most uncertain slice."""
        for other in findResults(slicer.mrmlScene):
            if other.folder != nodes.folder:
                hide(other)
        self._results = findResults(slicer.mrmlScene)
        self._choose(nodes)
        self._isNew = True
        self._ui.surfacesCheckBox.checked = True
        self._showContours()
        places.jumpToSlice(nodes, self._ui.planeSelector.currentText)
        self.refresh()

    def _choose(self, nodes: ResultNodes | None) -> None:
        self._stopSurfaces()
        self._sampleSurfaces.forget()
        self._nodes = nodes
        self._parameters().result = None if nodes is None else nodes.samples
        self._observeBrowser()
        self._fillSelectors()
        self.refresh()
        self._sampleSurfaces.follow()

    def removeResult(self) -> None:
        """Remove the result that is shown."""
        if self._nodes is not None:
            nodes = self._nodes
            self._choose(None)
            self.remove(nodes)

    def remove(self, nodes: ResultNodes) -> None:
        """Remove a result; its nodes go one after another, while the window goes on."""
        self.finishRemoval()
        self._removal = Steps(removeResultInSteps(nodes), self._onRemoved, self._onNotRemoved)
        self.readResults()

    def _onRemoved(self, _nothing: None) -> None:
        self._removal = None

    def _onNotRemoved(self, error: Exception) -> None:
        self._removal = None
        raise error

    def finishRemoval(self) -> None:
        """Remove at once what is left of a result that is being removed."""
        if self._removal is not None:
            self._removal.finish()

    def toggleMap(self) -> None:
        """Hide the map over the image, or show the one that was shown last."""
        self._guarded(lambda: overlay.toggleOverlay(self._nodes))()

    def step(self, step: int) -> None:
        """Go to the next (1) or previous (-1) uncertain slice of the chosen structure."""
        self._guarded(lambda: self._say(places.stepToSlice(self._nodes, self._plane, step, self._structureName)))()

    def forget(self) -> None:
        """The scene is about to be closed."""
        self._stopSurfaces()
        self._sampleSurfaces.forget()
        if self._removal is not None:  # goes with the scene; Slicer hangs if an item is removed meanwhile
            self._removal.close()
            self._removal = None
        self._nodes, self._results = None, []
        self._observeBrowser()
        self.refresh()

    # What the user asks for

    def _onResultChosen(self, index: int) -> None:
        if self._filling or not 0 <= index < len(self._results):
            return
        if self._nodes is not None:
            hide(self._nodes)
        self.show(self._results[index])

    def _setterOfMode(self, mode: int) -> Callable[[], None]:
        def set_() -> None:
            nodes = self._nodes
            comparison.leaveComparison(nodes)
            if mode != SAMPLE:
                viewer.hideSample(nodes)
            if mode != OUTLINES:
                viewer.showAllSamples(nodes, False)
            if mode != CONTOURS:
                self._placeContours(mode, areSurfacesShown(nodes))
            (self._showContours, self._showOutlines, self._showSample, self._compare)[mode]()

        return self._guarded(set_)

    def _placeContours(self, mode: int, in3D: bool) -> None:
        """Let contours be seen where they belong in a mode; in 3D they would be taken for a single sample."""
        viewer.showContours(self._nodes, inSlices=mode == CONTOURS, in3D=in3D)
        if mode in (SAMPLE, COMPARISON):
            self._nodes.contours.GetDisplayNode().SetVisibility(False)

    def _showContours(self) -> None:
        self._stopSurfaces()
        viewer.showContours(self._nodes, inSlices=True, in3D=False)
        if self._ui.surfacesCheckBox.checked:
            self._surfaces = Steps(addSurfacesInSteps(self._nodes), self._onSurfaces, self._onNoSurfaces)

    def _onSurfaces(self, _nothing: None) -> None:
        self._surfaces = None
        self._placeContours(modeOf(self._nodes), in3D=True)
        if self._isNew:
            self._isNew = False
            if slicer.app.layoutManager() is not None:
                slicer.app.layoutManager().resetThreeDViews()

    def _onNoSurfaces(self, error: Exception) -> None:
        self._surfaces = None
        raise error

    def _stopSurfaces(self) -> None:
        if self._surfaces is not None:
            self._surfaces.close()
            self._surfaces = None

    def _showOutlines(self) -> None:
        viewer.showAllSamples(self._nodes, True, self._ui.outlineOpacitySlider.value)

    def _showSample(self) -> None:
        viewer.showSample(self._nodes, self._ui.sampleSlider.value)
        self._nodes.selectedSample.GetDisplayNode().SetVisibility3D(self._ui.surfacesCheckBox.checked)
        self._sampleSurfaces.follow()

    def _sampleIn3D(self) -> ResultNodes | None:
        """The result of which one sample is shown, if surfaces are."""
        isShown = self._nodes is not None and modeOf(self._nodes) == SAMPLE and self._ui.surfacesCheckBox.checked
        return self._nodes if isShown else None

    def _play(self) -> None:
        viewer.playSamples(self._nodes, self._ui.playButton.checked)

    def _compare(self) -> None:
        comparison.compareSamples(self._nodes, self._plane)
        qt.QTimer.singleShot(0, self._frameComparison)  # new views get their sizes first

    def _frameComparison(self) -> None:
        if self._nodes is not None and comparison.isComparing(self._nodes):
            comparison.frameViews(self._nodes, self._plane)

    def _showMap(self) -> None:
        kind = self._ui.mapSelector.currentData
        if kind == NO_MAP:
            overlay.hideOverlay(self._nodes)
        else:
            overlay.showOverlay(self._nodes, kind, self._mapStructure)

    def _setMapOpacity(self) -> None:
        overlay.setOverlayOpacity(self._nodes, self._ui.mapOpacitySlider.value)

    def _plot(self) -> None:
        layoutNode = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
        if self._ui.plotButton.checked:
            self._layoutBefore = layoutNode.GetViewArrangement()
            slicer.modules.plots.logic().ShowChartInLayout(self._nodes.chart)
        elif self._layoutBefore is not None:
            layoutNode.SetViewArrangement(self._layoutBefore)
            self._layoutBefore = None

    def _onStructureChosen(self, structure: Structure) -> None:
        """Who asks for one structure wants to see it, however little of the image it is."""

        def go() -> None:
            comparison.showStructureInAllSlices(self._nodes, structure)
            self._say(places.jumpToSlice(self._nodes, self._plane, structure.name))

        self._guarded(go)()

    # What is shown

    def refresh(self) -> None:
        """Show what the scene says about the result."""
        nodes, ui = self._nodes, self._ui
        ui.resultFrame.setVisible(nodes is not None)
        ui.noResultLabel.setVisible(nodes is None)
        if nodes is None:
            return
        self._filling = True
        try:
            self._refreshMode(nodes)
            self._refreshMap(nodes)
        finally:
            self._filling = False

    def _refreshMode(self, nodes: ResultNodes) -> None:
        ui, mode = self._ui, modeOf(nodes)
        self._modeButtons[mode].checked = True
        ui.modeStack.currentIndex = mode
        ui.outlineOpacitySlider.value = nodes.samples.GetDisplayNode().GetOpacity2DOutline()
        ui.surfacesCheckBox.checked = self._surfaces is not None or areSurfacesShown(nodes)
        self._refreshSample()
        if mode == COMPARISON:
            chosen = {view: number + 1 for view, number in comparison.representatives(nodes).items()}
            text = _("M: sample {median}, the median\n1 and 2: samples {first} and {second}, which differ most")
            ui.compareLabel.text = text.format(**chosen)
            titles = {view: _("Sample {number}").format(number=number) for view, number in chosen.items()}
            titles["median"] = _("Sample {median}, the median").format(**chosen)
            self._titles.show({comparison.VIEWS[view][0]: title for view, title in titles.items()})

    def _refreshSample(self) -> None:
        ui, count = self._ui, viewer.sampleCount(self._nodes)
        number = self._nodes.browser.GetSelectedItemNumber()
        ui.sampleSlider.maximum = count - 1
        ui.sampleSlider.value = number
        ui.sampleLabel.text = _("Sample {number} of {count}").format(number=number + 1, count=count)
        ui.playButton.checked = bool(self._nodes.browser.GetPlaybackActive())

    def _refreshMap(self, nodes: ResultNodes) -> None:
        ui = self._ui
        kind, __, slug = (overlay.shownOverlay(nodes) or NO_MAP).partition(".")
        ui.mapSelector.currentIndex = max(0, ui.mapSelector.findData(kind))
        choice = next((one for one in overlay.overlayChoices(nodes) if one.kind == kind), None)
        ui.mapStructureSelector.enabled = choice is not None and choice.perStructure
        ui.mapStructureSelector.currentIndex = max(0, ui.mapStructureSelector.findData(slug))
        ui.mapOpacitySlider.enabled = choice is not None
        ui.mapOpacitySlider.value = overlay.overlayOpacity(nodes)
        ui.mapHelpLabel.text = (
            choice.meaning if choice is not None else _("Press U to show the map that was shown last.")
        )

    def _fillSelectors(self) -> None:
        ui, self._filling = self._ui, True
        ui.resultSelector.clear()
        for one in self._results:
            ui.resultSelector.addItem(hierarchyOf(one.scene).GetItemName(one.folder))
        ui.mapSelector.clear()
        ui.mapStructureSelector.clear()
        if self._nodes is not None:
            folders = [one.folder for one in self._results]
            ui.resultSelector.currentIndex = folders.index(self._nodes.folder)
            self._fillMaps(self._nodes)
            self._table.show(viewer.structureRows(self._nodes))
            self._sayKind(self._nodes.sampleKind)
        ui.placeLabel.hide()
        self._filling = False

    def _sayKind(self, kind: str) -> None:
        """Say what the numbers in the table are the spread of."""
        self._ui.tableLabel.text = _("Spread of {kind}:").format(kind=kind)
        self._ui.kindLabel.text = meaning(kind)
        self._ui.kindLabel.setVisible(bool(meaning(kind)))

    def _fillMaps(self, nodes: ResultNodes) -> None:
        ui = self._ui
        ui.mapSelector.addItem(_("None"), NO_MAP)
        for choice in overlay.overlayChoices(nodes):
            if not choice.missing:
                ui.mapSelector.addItem(choice.title, choice.kind)
        ui.mapStructureSelector.addItem(_("All structures"), "")
        for structure in nodes.structures:
            ui.mapStructureSelector.addItem(structure.name, structure.slug)

    def _say(self, place: places.Place | None) -> None:
        """Say where the views went."""
        self._ui.placeLabel.show()
        if place is None:
            self._ui.placeLabel.text = _("All samples are equal there.")
            return
        text = _(
            "{structure}: {plane} slice {index}, number {rank} of the most uncertain, {share:.0%} of the variance."
        )
        self._ui.placeLabel.text = text.format(**vars(place))

    @property
    def _plane(self) -> str:
        return self._ui.planeSelector.currentText

    @property
    def _structureName(self) -> str:
        structure = self._table.structure
        return places.ALL if structure is None else structure.name

    @property
    def _mapStructure(self) -> Structure | None:
        slug = self._ui.mapStructureSelector.currentData
        return next((one for one in self._nodes.structures if one.slug == slug), None)

    def _observeBrowser(self) -> None:
        """Follow the sample that the player shows."""
        if self._browserObservation is not None:
            browser, tag = self._browserObservation
            browser.RemoveObserver(tag)
            self._browserObservation = None
        if self._nodes is not None:
            browser = self._nodes.browser
            tag = browser.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onBrowser)
            self._browserObservation = (browser, tag)

    def _onBrowser(self, _caller: Any, _event: str) -> None:
        if self._nodes is not None and not self._filling:
            self._filling = True
            self._refreshSample()
            self._filling = False
            self._sampleSurfaces.follow()


def modeOf(nodes: ResultNodes) -> int:
    """Which way the samples of a result are shown."""
    if comparison.isComparing(nodes):
        return COMPARISON
    if nodes.selectedSample.GetDisplayNode().GetVisibility():
        return SAMPLE
    return OUTLINES if nodes.samples.GetDisplayNode().GetVisibility() else CONTOURS


def hide(nodes: ResultNodes) -> None:
    """Hide everything of a result."""
    viewer.leaveViews(nodes)
    viewer.hideSegmentations(nodes)
