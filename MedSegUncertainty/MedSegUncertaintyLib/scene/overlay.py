"""One map over the image in all slice views, on its fixed scale and with its legend.

Nothing is kept in Python: the views themselves say what is shown, and the result's parameter node says what they showed
before, so that a saved scene goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.outputs.appearance import sample_id
from MedSegUncertaintyLib.scene.folder import NodeFolder, nodesOfClass
from MedSegUncertaintyLib.scene.maps import MAP_KINDS, addMap, mapKey
from MedSegUncertaintyLib.scene.results import ResultNodes, findResults
from MedSegUncertaintyLib.scene.segmentations import segmentMask

DEFAULT_OPACITY = 0.7
OVERLAY, OPACITY, BEFORE = "overlay", "overlay.opacity", "foreground."
"""Parameters: the map that was shown last, its opacity, and what each view had in the foreground before."""


@dataclass(frozen=True)
class OverlayChoice:
    """A kind of map to choose from.

    Attributes:
        kind: Key in ``maps.MAP_KINDS``.
        title: Shown to the user.
        meaning: One sentence on how to read it.
        perStructure: Whether a structure has to be chosen, too; without one the largest value of all is shown.
        missing: Why it cannot be shown for this result, one sentence; empty if it can.
    """

    kind: str
    title: str
    meaning: str
    perStructure: bool
    missing: str


def overlayChoices(nodes: ResultNodes) -> list[OverlayChoice]:
    """Every kind of map, and for those that this result does not have the reason why."""
    empty = nodes.run["empty_maps"]
    return [
        OverlayChoice(key, kind.title, kind.meaning, kind.perStructure, empty.get(key) or _notKept(nodes, key))
        for key, kind in MAP_KINDS.items()
    ]


def showOverlay(nodes: ResultNodes, kind: str, structure: Structure | None = None, opacity: float | None = None) -> Any:
    """Show a map in the foreground of all slice views; what was there before comes back with :func:`hideOverlay`.

    Args:
        nodes: The result.
        kind: Key in ``maps.MAP_KINDS``.
        structure: Whose map; without one, of a kind with a map per structure the largest value of all.
        opacity: 0 to 1; the one used last if not given.

    Returns:
        The volume node of the map.

    Raises:
        BadInputError: The result does not have this map; the views are as before.
    """
    node = mapNode(nodes, kind, structure)
    for other in findResults(nodes.scene):
        if other.folder != nodes.folder:
            hideOverlay(other)
    if opacity is not None:
        nodes.viewer.SetParameter(OPACITY, repr(float(opacity)))
    for composite in _composites(nodes.scene):
        if not _showsMap(nodes, composite):
            _remember(nodes, composite)
        composite.SetForegroundVolumeID(node.GetID())
        composite.SetForegroundOpacity(overlayOpacity(nodes))
    key = mapKey(kind, structure)
    nodes.viewer.SetParameter(OVERLAY, key)
    for legend in nodes.legends.values():
        legend.SetVisibility(False)
    _showLegend(nodes, key)
    return node


def _showLegend(nodes: ResultNodes, key: str) -> None:
    """Show a legend in all views: Slicer's views draw none that was in the scene before them, so it comes anew."""
    legend = nodes.legends[key]
    nodes.scene.RemoveNode(legend)
    nodes.maps[key].AddAndObserveDisplayNodeID(nodes.scene.AddNode(legend).GetID())
    NodeFolder.existing(nodes.scene, nodes.folder).adoptScale(legend, f"legend.{key}")
    legend.SetVisibility(True)


def hideOverlay(nodes: ResultNodes) -> None:
    """Give the foreground of the views that show a map of this result back to what was there before."""
    for composite in _composites(nodes.scene):
        if _showsMap(nodes, composite):
            view = BEFORE + composite.GetLayoutName()
            composite.SetForegroundVolumeID(nodes.viewer.GetNodeReferenceID(view))
            composite.SetForegroundOpacity(float(nodes.viewer.GetParameter(view) or 0.0))
    for legend in nodes.legends.values():
        legend.SetVisibility(False)


def toggleOverlay(nodes: ResultNodes) -> bool:
    """Hide the map that is shown, or show the one that was shown last (the variance at first).

    Returns:
        Whether a map is shown now.
    """
    if shownOverlay(nodes) is not None:
        hideOverlay(nodes)
        return False
    showLastOverlay(nodes)
    return True


def showLastOverlay(nodes: ResultNodes) -> Any:
    """Show the map that was shown last, the variance at first."""
    kind, _, slug = (nodes.viewer.GetParameter(OVERLAY) or "variance").partition(".")
    return showOverlay(nodes, kind, next((one for one in nodes.structures if one.slug == slug), None))


def shownOverlay(nodes: ResultNodes) -> str | None:
    """Key of the map that is shown in a slice view, for example "variance.left_blob"; None without one."""
    shown = {composite.GetForegroundVolumeID() for composite in _composites(nodes.scene)}
    return next((key for key, node in nodes.maps.items() if node.GetID() in shown), None)


def overlayOpacity(nodes: ResultNodes) -> float:
    """How opaque maps are over the image."""
    return float(nodes.viewer.GetParameter(OPACITY) or DEFAULT_OPACITY)


def setOverlayOpacity(nodes: ResultNodes, opacity: float) -> None:
    """Let maps be more or less opaque (0 to 1), the one that is shown at once."""
    nodes.viewer.SetParameter(OPACITY, repr(float(opacity)))
    for composite in _composites(nodes.scene):
        if _showsMap(nodes, composite):
            composite.SetForegroundOpacity(opacity)


def mapNode(nodes: ResultNodes, kind: str, structure: Structure | None = None) -> Any:
    """The volume of a map; one that follows from others is made when it is first asked for.

    Raises:
        BadInputError: The result does not have this map.
    """
    if kind not in MAP_KINDS:
        raise BadInputError(f"There is no map '{kind}'; choose one of {', '.join(MAP_KINDS)}.")
    title, perStructure = MAP_KINDS[kind].title, MAP_KINDS[kind].perStructure
    if reason := nodes.run["empty_maps"].get(kind) or _notKept(nodes, kind):
        raise BadInputError(f"{title} cannot be shown. {reason}")
    structure = structure if perStructure else None
    found = nodes.maps.get(mapKey(kind, structure))
    if found is not None:
        return found
    wanted = [structure] if structure is not None else nodes.structures
    array = np.maximum.reduce([_values(nodes, kind, one) for one in wanted])
    folder = NodeFolder.existing(nodes.scene, nodes.folder)
    return addMap(folder, kind, structure, array, nodes.grid, len(nodes.structures) + 1)


def _notKept(nodes: ResultNodes, kind: str) -> str:
    """Why a map can neither be found nor made; empty if it can."""
    source = "variance" if kind == "standard_deviation" else kind
    counted = kind == "agreement"  # from the samples, which are always there
    kept = counted or any(key.partition(".")[0] == source for key in nodes.maps)
    return "" if kept else "It was not kept with this result."


def _values(nodes: ResultNodes, kind: str, structure: Structure) -> np.ndarray:
    """The map (K, J, I) of one structure."""
    node = nodes.maps.get(mapKey(kind, structure))
    if node is not None:
        return slicer.util.arrayFromVolume(node)
    if kind == "standard_deviation":
        return np.sqrt(_values(nodes, "variance", structure))
    grid, count = nodes.grid, nodes.sequence.GetNumberOfDataNodes()
    masks = (segmentMask(nodes.samples, sample_id(sample, structure), grid) for sample in range(count))
    return sum(mask.astype(np.uint16) for mask in masks) / np.float32(count)


def _composites(scene: Any) -> list[Any]:
    return nodesOfClass(scene, "vtkMRMLSliceCompositeNode")


def _showsMap(nodes: ResultNodes, composite: Any) -> bool:
    return composite.GetForegroundVolumeID() in {node.GetID() for node in nodes.maps.values()}


def _remember(nodes: ResultNodes, composite: Any) -> None:
    view = BEFORE + composite.GetLayoutName()
    nodes.viewer.SetNodeReferenceID(view, composite.GetForegroundVolumeID())
    nodes.viewer.SetParameter(view, repr(composite.GetForegroundOpacity()))
