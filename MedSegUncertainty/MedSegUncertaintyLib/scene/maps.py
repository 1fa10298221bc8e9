"""Probability and uncertainty maps as scalar volume nodes, each on a fixed scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.outputs.appearance import TRANSPARENT_BELOW, VARIANCE_MAXIMUM
from MedSegUncertaintyLib.scene.colors import addColorTable
from MedSegUncertaintyLib.scene.folder import NodeFolder
from MedSegUncertaintyLib.scene.grids import localGeometry, setGrid
from MedSegUncertaintyLib.uncertainty.statistics import Statistics


@dataclass(frozen=True)
class MapKind:
    """One kind of map.

    Attributes:
        title: Shown to the user.
        unit: Unit of the values, empty for plain numbers.
        palette: Name of its colors in ``appearance.PALETTES``.
        values: The map from the statistics: (N, K, J, I) with one map per structure, or (K, J, I).
        maximum: Upper end of the scale from the number of classes (background included); the lower end is 0.
    """

    title: str
    unit: str
    palette: str
    values: Callable[[Statistics], np.ndarray]
    maximum: Callable[[int], float]

    def scaleText(self, classes: int) -> str:
        """The scale in words, for example "Variance, 0-0.25"."""
        return f"{self.title}, 0-{self.maximum(classes):.3g} {self.unit}".rstrip()


MAP_KINDS: dict[str, MapKind] = {
    "mean": MapKind("Mean probability", "", "viridis", lambda s: s.mean, lambda classes: 1.0),
    "variance": MapKind("Variance", "", "inferno", lambda s: s.variance, lambda classes: VARIANCE_MAXIMUM),
    "standard_deviation": MapKind(
        "Standard deviation", "", "inferno", lambda s: np.sqrt(s.variance), lambda classes: 0.5
    ),
    "agreement": MapKind("Agreement of the samples", "", "viridis", lambda s: s.agreement, lambda classes: 1.0),
    "entropy": MapKind("Entropy", "bit", "inferno", lambda s: s.entropy, math.log2),
    "mutual_information": MapKind("Mutual information", "bit", "inferno", lambda s: s.mutual_information, math.log2),
}

DEFAULT_MAPS = ("mean", "variance", "entropy", "mutual_information")
"""Standard deviation is left out: it is the root of the variance and would double the memory of the maps."""


def addMaps(folder: NodeFolder, result: InferenceResult, volumeNode: Any, kinds: Iterable[str]) -> None:
    """Add the maps of some kinds, each kind with its color table; legends are there but hidden."""
    for key in kinds:
        kind, classes = MAP_KINDS[key], len(result.structures) + 1
        maximum = kind.maximum(classes)
        colors = addColorTable(folder, kind.scaleText(classes), kind.palette, maximum, f"colors.{key}")
        values = kind.values(result.statistics)
        named = zip(result.structures, values, strict=True) if values.ndim == 4 else [(None, values)]
        for structure, array in named:
            name = kind.title if structure is None else f"{kind.title}: {structure.name}"
            role = f"map.{mapKey(key, structure)}"
            node = addFloatVolume(folder, name, role, array, localGeometry(volumeNode).cropped(result.box))
            showOnScale(node, colors, maximum)
            folder.adoptScale(addLegend(node, kind.scaleText(classes)), role.replace("map", "legend", 1))


def mapKey(kind: str, structure: Any = None) -> str:
    """Key of a map in ``ResultNodes.maps``: "entropy", or "variance.left_blob" for one structure."""
    return kind if structure is None else f"{kind}.{structure.slug}"


def addFloatVolume(folder: NodeFolder, name: str, role: str, array: np.ndarray, geometry: Any) -> Any:
    """A float32 volume node on a grid that is given in the node's own coordinates."""
    node = folder.add("vtkMRMLScalarVolumeNode", name, role)
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(array, dtype=np.float32))
    setGrid(node, geometry)
    node.CreateDefaultDisplayNodes()
    return node


def showOnScale(volumeNode: Any, colorNode: Any, maximum: float) -> None:
    """Show a map in fixed colors from 0 to ``maximum``, low values transparent."""
    displayNode = volumeNode.GetDisplayNode()
    displayNode.SetAndObserveColorNodeID(colorNode.GetID())
    displayNode.SetAutoWindowLevel(False)
    displayNode.SetWindowLevelMinMax(0.0, maximum)
    displayNode.SetAutoThreshold(False)
    displayNode.SetThreshold(TRANSPARENT_BELOW * maximum, maximum)
    displayNode.SetApplyThreshold(True)


def addLegend(volumeNode: Any, title: str) -> Any:
    """A hidden color legend for a map."""
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(volumeNode)
    legend.SetTitleText(title)
    legend.SetLabelFormat("%.2f")
    legend.SetNumberOfLabels(6)
    legend.SetVisibility(False)
    return legend
