"""Probability and uncertainty maps as scalar volume nodes, each on a fixed scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.outputs.appearance import TRANSPARENT_BELOW, VARIANCE_MAXIMUM
from MedSegUncertaintyLib.scene.colors import addColorTable
from MedSegUncertaintyLib.scene.folder import NodeFolder, nodesInFolder
from MedSegUncertaintyLib.scene.grids import localGeometry, setGrid
from MedSegUncertaintyLib.uncertainty.statistics import Statistics
from MedSegUncertaintyLib.volumes.geometry import Geometry

if TYPE_CHECKING:
    from MedSegUncertaintyLib.inference.result import InferenceResult


@dataclass(frozen=True)
class MapKind:
    """One kind of map.

    Attributes:
        title: Shown to the user.
        meaning: One sentence on how to read it.
        unit: Unit of the values, empty for plain numbers.
        palette: Name of its colors in ``appearance.PALETTES``.
        values: The map from the statistics: (N, K, J, I) with one map per structure, or (K, J, I).
        maximum: Upper end of the scale from the number of classes (background included); the lower end is 0.
        perStructure: Whether every structure has a map of its own.
    """

    title: str
    meaning: str
    unit: str
    palette: str
    values: Callable[[Statistics], np.ndarray]
    maximum: Callable[[int], float]
    perStructure: bool = True

    def scaleText(self, classes: int) -> str:
        """The scale in words, for example "Variance, 0-0.25"."""
        return f"{self.title}, 0-{self.maximum(classes):.3g} {self.unit}".rstrip()


MAP_KINDS: dict[str, MapKind] = {
    "variance": MapKind(
        "Variance",
        "How much the probability changes from sample to sample: 0.25 where half are sure of yes and half of no.",
        "",
        "inferno",
        lambda s: s.variance,
        lambda classes: VARIANCE_MAXIMUM,
    ),
    "standard_deviation": MapKind(
        "Standard deviation",
        "The root of the variance, on the scale of the probability.",
        "",
        "inferno",
        lambda s: np.sqrt(s.variance),
        lambda classes: 0.5,
    ),
    "entropy": MapKind(
        "Entropy",
        "How undecided the mean of the samples is; always raised along borders, away from them it deserves a look.",
        "bit",
        "inferno",
        lambda s: s.entropy,
        math.log2,
        perStructure=False,
    ),
    "mutual_information": MapKind(
        "Mutual information",
        "How much the samples contradict each other, beyond what each of them leaves open itself; all of them come "
        "from one model, so it does not show what that model has never seen.",
        "bit",
        "inferno",
        lambda s: s.mutual_information,
        math.log2,
        perStructure=False,
    ),
    "mean": MapKind(
        "Mean probability",
        "Probability of the structure, averaged over the samples.",
        "",
        "viridis",
        lambda s: s.mean,
        lambda classes: 1.0,
    ),
    "agreement": MapKind(
        "Agreement of the samples",
        "Share of the samples whose segmentation holds the voxel.",
        "",
        "viridis",
        lambda s: s.agreement,
        lambda classes: 1.0,
    ),
}

LEGEND_SIZE, LEGEND_POSITION, LEGEND_DARKNESS = (0.08, 0.4), (0.97, 0.5), 0.5
"""Shares of the view: width and height, of which the width decides how large the text is; place along both."""

DEFAULT_MAPS = ("mean", "variance", "entropy", "mutual_information")
"""The others follow from these and from the samples; they are made when they are first shown."""


def addMaps(folder: NodeFolder, result: InferenceResult, volumeNode: Any, kinds: Iterable[str]) -> Iterator[None]:
    """Add the maps of some kinds, each kind with its color table; legends are there but hidden.

    Yields after each map.
    """
    for key in kinds:
        values = MAP_KINDS[key].values(result.statistics)
        named = zip(result.structures, values, strict=True) if MAP_KINDS[key].perStructure else [(None, values)]
        for structure, array in named:
            geometry = localGeometry(volumeNode).cropped(result.box)
            addMap(folder, key, structure, array, geometry, len(result.structures) + 1)
            yield


def addMap(
    folder: NodeFolder, key: str, structure: Structure | None, array: np.ndarray, grid: Geometry, classes: int
) -> Any:
    """Add one map on a grid in the node's own coordinates, with a hidden legend and the colors of its kind."""
    kind = MAP_KINDS[key]
    maximum, role = kind.maximum(classes), f"map.{mapKey(key, structure)}"
    colors = nodesInFolder(folder.scene, folder.item).get(f"colors.{key}") or addColorTable(
        folder, kind.scaleText(classes), kind.palette, maximum, f"colors.{key}"
    )
    name = kind.title if structure is None else f"{kind.title}: {structure.name}"
    node = folder.add("vtkMRMLScalarVolumeNode", name, role)
    # Before there are voxels: a new display node looks for a window of its own among them, which takes long.
    node.CreateDefaultDisplayNodes()
    showOnScale(node, colors, maximum)
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(array, dtype=np.float32))
    setGrid(node, grid)
    folder.adoptScale(addLegend(node, kind.scaleText(classes)), role.replace("map", "legend", 1))
    return node


def mapKey(kind: str, structure: Structure | None = None) -> str:
    """Key of a map in ``ResultNodes.maps``: "entropy", or "variance.left_blob" for one structure."""
    return kind if structure is None else f"{kind}.{structure.slug}"


def showOnScale(volumeNode: Any, colorNode: Any, maximum: float) -> None:
    """Show a map in fixed colors from 0 to ``maximum``, low values transparent."""
    displayNode = volumeNode.GetDisplayNode()
    displayNode.SetAndObserveColorNodeID(colorNode.GetID())
    displayNode.SetAutoWindowLevel(False)
    displayNode.SetWindowLevelMinMax(0.0, maximum)
    displayNode.SetAutoThreshold(False)
    displayNode.SetThreshold(TRANSPARENT_BELOW * maximum, maximum)
    displayNode.SetApplyThreshold(True)


def addLegend(volumeNode: Any, scale: str) -> Any:
    """A hidden color legend for a map; small, as it lies over anatomy. ``scale`` is what ``MapKind.scaleText`` says."""
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(volumeNode)
    legend.SetTitleText(scale.replace(", ", "\n", 1))
    legend.SetSize(*LEGEND_SIZE)
    legend.SetPosition(*LEGEND_POSITION)
    legend.SetLabelFormat("%.2f")
    legend.SetNumberOfLabels(6)
    for style in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
        style.SetFontFamilyToArial()
        style.SetBackgroundColor(0.0, 0.0, 0.0)  # white letters cannot be read on a bright image
        style.SetBackgroundOpacity(LEGEND_DARKNESS)
    legend.SetVisibility(False)
    return legend
