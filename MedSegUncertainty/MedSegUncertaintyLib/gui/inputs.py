"""What is segmented, with which model, where: everything above the button Apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.gui.channels import ChannelSelectors
from MedSegUncertaintyLib.gui.class_weights import ClassWeights
from MedSegUncertaintyLib.gui.draw_steps import DrawSteps
from MedSegUncertaintyLib.gui.models import WARNING_COLOR, ModelList, whatMisfits
from MedSegUncertaintyLib.gui.region import placeRegion
from MedSegUncertaintyLib.gui.scales import ScaleControls
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.packages.fitting import ImageFacts
from MedSegUncertaintyLib.packages.package import Channel, ModelPackage
from MedSegUncertaintyLib.scene.facts import coveredVolume, imageFacts
from MedSegUncertaintyLib.scene.grids import isColorNode, regionFromNode, worldGeometry


class InputsPanel:
    """Sections Inputs and Samples.

    Args:
        ui: The widgets by name.
        changed: Called when a choice was made that is not a parameter with a widget of its own.
    """

    def __init__(self, ui: Any, changed: Callable[[], None]) -> None:
        self._ui, self._changed = ui, changed
        self._parameters: Any = None
        self._facts: tuple[Any, ImageFacts | None] = (None, None)
        self._models = ModelList(ui.modelList, self._onModelChosen)
        self._channels = ChannelSelectors(ui.channelsFrame, changed)
        self._weights = ClassWeights(ui.classWeightsFrame, lambda: self._parameters)
        self._scales = ScaleControls(ui.scalesFrame, lambda: self._parameters)
        self._steps = DrawSteps(ui.stepsSpinBox, lambda: self._parameters)
        ui.misfitLabel.setStyleSheet(f"color: {WARNING_COLOR}")
        ui.placeRegionButton.connect("clicked()", self.placeRegion)
        ui.showRegionCheckBox.connect("clicked(bool)", self.showRegion)

    def setParameters(self, parameters: Any) -> None:
        """Show other parameters."""
        self._parameters = parameters
        self._channels.setParameterNode(parameters.parameterNode)

    def readModels(self) -> None:
        """Look for model packages."""
        self._models.read()

    @property
    def package(self) -> ModelPackage | None:
        """The chosen model."""
        return self._models.package(self._parameters.packageName)

    def refresh(self) -> None:
        """Show what the parameters say."""
        package, facts = self.package, self._imageFacts()
        self._models.show(self._parameters.packageName, facts)
        found = whatMisfits(package, facts) if package is not None and facts is not None else []
        self._ui.misfitLabel.text = "\n".join(misfit.sentence for misfit in found)
        self._ui.misfitLabel.setVisible(bool(found))
        self._channels.show(self._furtherChannels(package))
        hint = package.roi.where if package is not None and self._wantsRegion(package) else ""
        self._ui.regionHint.text = hint
        self._ui.regionHint.setVisible(bool(hint))
        self._ui.placeRegionButton.enabled = facts is not None
        self._showRegionBox()
        isSsn = package is not None and package.family == "ssn"
        self._ui.ssnGroup.setVisible(isSsn)
        hasScales = self._scales.show(package)
        self._ui.scalesGroup.setVisible(hasScales)
        hasSteps = self._steps.show(package)
        self._ui.stepsGroup.setVisible(hasSteps)
        self._ui.redrawButton.setVisible(isSsn or hasScales or hasSteps)
        self._weights.show([structure.name for structure in package.structures] if isSsn else [])

    def whyNot(self) -> str:
        """Why nothing can be run yet, as a sentence that says what to do; empty if it can."""
        package, volumeNode = self.package, self._parameters.inputVolume
        if volumeNode is None:
            return _("Choose a volume to segment.")
        facts = self._imageFacts()
        if facts is None:
            return _("The volume {name} has no voxels; choose another one.").format(name=volumeNode.GetName())
        if package is None:
            return _("Choose a model.")
        forbidden = [misfit.sentence for misfit in whatMisfits(package, facts) if misfit.forbids]
        try:
            worldGeometry(volumeNode)
            if not (package.takes_color and isColorNode(volumeNode)):
                package.check_channels(self._channels.nodes)
            if self._wantsRegion(package):
                return _("This model needs a region of interest; press 'Place here'.")
            if not coveredVolume(volumeNode, self._region()):
                return _("The region of interest lies outside of the volume; press 'Place here'.")
        except BadInputError as error:
            forbidden.append(str(error))
        return forbidden[0] if forbidden else ""

    def request(self) -> InferenceRequest:
        """What the parameters ask for.

        Raises:
            BadInputError: The region is empty.
        """
        p = self._parameters
        isSsn = self.package.family == "ssn"  # what is set of another family does not count
        return InferenceRequest(
            p.packageName,
            p.samples,
            p.seed,
            self._region(),
            p.device,
            p.temperature if isSsn else 1.0,
            p.allowCpu,
            tuple(self._weights.values(len(self.package.structures))) if isSsn else (),
            tuple(self._scales.values(self.package)),
            self.steps,
        )

    @property
    def steps(self) -> int | None:
        """In how many steps each sample is drawn; None for all, or for a model without steps."""
        return self._steps.value(self.package)

    @property
    def channelNodes(self) -> dict[str, Any]:
        """The volumes of the further channels by role."""
        return self._channels.nodes

    def voxels(self) -> tuple[float, float]:
        """Voxels of the region on the grid of the model and on that of the volume, both approximately."""
        volumeNode, package = self._parameters.inputVolume, self.package
        covered, own = coveredVolume(volumeNode, self._region()), worldGeometry(volumeNode).voxel_volume_ml * 1000
        x, y, z = package.grid.spacing_mm or (own, 1.0, 1.0)
        return max(1.0, covered / (x * y * z)), max(1.0, covered / own)

    def placeRegion(self) -> None:
        """Put a region of interest where the views cross."""
        with slicer.util.tryWithErrorDisplay(_("The region of interest could not be placed.")):
            volumeNode, roiNode = self._parameters.inputVolume, self._parameters.region
            self._parameters.region = placeRegion(volumeNode, self.package, roiNode)

    def showRegion(self, visible: bool) -> None:
        """Show or hide the region of interest in the views."""
        if self._parameters.region is not None:
            self._parameters.region.SetDisplayVisibility(visible)
        self._showRegionBox()

    def _showRegionBox(self) -> None:
        region = self._parameters.region
        self._ui.showRegionCheckBox.enabled = region is not None
        self._ui.showRegionCheckBox.checked = region is not None and bool(region.GetDisplayVisibility())

    def _imageFacts(self) -> ImageFacts | None:
        volumeNode = self._parameters.inputVolume
        if volumeNode is None:
            return None
        image = volumeNode.GetImageData()
        key = (volumeNode.GetID(), image and image.GetMTime())
        if self._facts[0] != key:
            self._facts = (key, imageFacts(volumeNode))
        return self._facts[1]

    def _furtherChannels(self, package: ModelPackage | None) -> tuple[Channel, ...]:
        volumeNode = self._parameters.inputVolume
        if package is None or (package.takes_color and volumeNode is not None and isColorNode(volumeNode)):
            return ()
        return package.channels[1:]

    def _wantsRegion(self, package: ModelPackage) -> bool:
        return package.roi.required and self._parameters.region is None

    def _region(self) -> Any:
        return None if self._parameters.region is None else regionFromNode(self._parameters.region)

    def _onModelChosen(self, name: str) -> None:
        if name != self._parameters.packageName:
            self._parameters.classWeights, self._parameters.scales, self._parameters.steps = [], [], 0
        self._parameters.packageName = name
        self._changed()
