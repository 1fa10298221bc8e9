"""What a result shows: contours, one sample, all samples, and numbers per structure."""

from __future__ import annotations

from dataclasses import dataclass

import slicer

from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.outputs.appearance import contour_id
from MedSegUncertaintyLib.scene.comparison import leaveComparison
from MedSegUncertaintyLib.scene.overlay import hideOverlay
from MedSegUncertaintyLib.scene.places import PLANES, Place, uncertainPlaces
from MedSegUncertaintyLib.scene.results import ResultNodes
from MedSegUncertaintyLib.scene.segmentations import SAMPLE_OPACITY
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS

SAMPLES_PER_SECOND = 2.0
"""Slow enough to see where a border moves."""


@dataclass(frozen=True)
class StructureRow:
    """Numbers of one structure; intervals are the spread of the samples.

    Attributes:
        structure: Which one.
        mean_ml: Mean volume of the samples.
        interval_ml: 5 and 95 % quantiles of the volumes.
        prediction_ml: Volume of the most probable segmentation.
        mean_pairwise_dice: Over all pairs of samples; None for a single sample.
        boundary_entropy: Mean entropy within 2 mm of the border of the most probable segmentation (bit); None without.
        other_entropy: Mean entropy elsewhere (bit); None without.
        places: Its most uncertain slice by plane; planes without any are left out.
    """

    structure: Structure
    mean_ml: float
    interval_ml: tuple[float, float]
    prediction_ml: float
    mean_pairwise_dice: float | None
    boundary_entropy: float | None
    other_entropy: float | None
    places: dict[str, Place]


def sampleCount(nodes: ResultNodes) -> int:
    """How many samples there are."""
    return nodes.sequence.GetNumberOfDataNodes()


def showSample(nodes: ResultNodes, sample: int) -> None:
    """Show one sample, counted from 0, in slices and in 3D if it has surfaces; ``nodes.browser`` is its slider."""
    nodes.browser.SetSelectedItemNumber(sample)
    nodes.selectedSample.GetDisplayNode().SetVisibility(True)


def hideSample(nodes: ResultNodes) -> None:
    """Stop playing and hide the selected sample."""
    playSamples(nodes, False)
    nodes.selectedSample.GetDisplayNode().SetVisibility(False)


def playSamples(nodes: ResultNodes, playing: bool) -> None:
    """Let Slicer's sequence player walk through the samples, around and around."""
    if playing:
        nodes.selectedSample.GetDisplayNode().SetVisibility(True)
        nodes.browser.SetPlaybackRateFps(SAMPLES_PER_SECOND)
        nodes.browser.SetPlaybackLooped(True)
    nodes.browser.SetPlaybackActive(playing)


def showAllSamples(nodes: ResultNodes, visible: bool, opacity: float = SAMPLE_OPACITY) -> None:
    """Show the outlines of all samples over each other in slices, each with ``opacity`` (0 to 1), or none of them."""
    display = nodes.samples.GetDisplayNode()
    display.SetOpacity2DOutline(opacity)
    display.SetVisibility(visible)


def showContours(nodes: ResultNodes, inSlices: bool, in3D: bool, structure: Structure | None = None) -> None:
    """Show or hide the 5, 50 and 95 % contours.

    Args:
        nodes: The result.
        inSlices: As outlines in slice views.
        in3D: As nested surfaces, which are made when they are first shown.
        structure: Only of this one, the others stay as they are; of all of them if not given.
    """
    display = nodes.contours.GetDisplayNode()
    chosen = nodes.structures if structure is None else (structure,)
    with slicer.util.NodeModify(display):
        for segment in (contour_id(one, level) for one in chosen for level in CONTOUR_LEVELS):
            display.SetSegmentVisibility(segment, True)
            display.SetSegmentVisibility2DOutline(segment, inSlices)
            display.SetSegmentVisibility3D(segment, in3D)
        if inSlices or in3D:
            display.SetVisibility(True)
    if in3D:
        nodes.contours.CreateClosedSurfaceRepresentation()


def structureRows(nodes: ResultNodes) -> list[StructureRow]:
    """The numbers of every structure, in the order of the package."""
    return [
        StructureRow(
            structure=structure,
            mean_ml=entry["volume_ml"]["mean"],
            interval_ml=(entry["volume_ml"]["q05"], entry["volume_ml"]["q95"]),
            prediction_ml=entry["prediction_ml"],
            mean_pairwise_dice=entry["mean_pairwise_dice"],
            boundary_entropy=entry["entropy_bits"]["in_boundary_band"],
            other_entropy=entry["entropy_bits"]["outside_boundary_band"],
            places={plane: found[0] for plane in PLANES if (found := uncertainPlaces(nodes, plane, structure.name))},
        )
        for structure, entry in zip(nodes.structures, nodes.run["summary"]["structures"], strict=True)
    ]


def leaveViews(nodes: ResultNodes) -> None:
    """Give the views back: layout and foreground are as before the result was shown, and nothing plays."""
    hideOverlay(nodes)
    leaveComparison(nodes)
    playSamples(nodes, False)


def hideSegmentations(nodes: ResultNodes) -> None:
    """Show neither contours nor samples."""
    hideSample(nodes)
    showAllSamples(nodes, False)
    nodes.contours.GetDisplayNode().SetVisibility(False)
