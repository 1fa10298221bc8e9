"""Examples that exist already: slices of another segmentation, and sets that were kept in a folder."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import slicer

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.propagation.support_set import SupportSet
from MedSegUncertaintyLib.scene.bundle import addVolume
from MedSegUncertaintyLib.scene.grids import volumeFromNode
from MedSegUncertaintyLib.scene.kept_volumes import KeptVolumes
from MedSegUncertaintyLib.scene.segment_slices import addMask
from MedSegUncertaintyLib.scene.slice_places import SlicePlace
from MedSegUncertaintyLib.scene.support_requests import ask
from MedSegUncertaintyLib.scene.supports import Supports, createSupports
from MedSegUncertaintyLib.volumes.geometry import Volume


def everyNth(indices: Sequence[int], step: int) -> list[int]:
    """Every ``step``-th of some slices, as far from their ends as from each other."""
    return sorted(indices)[(step - 1) // 2 :: step]


def readIndices(text: str) -> list[int]:
    """Slices from a list such as "12, 30, 48".

    Raises:
        BadInputError: It is no such list.
    """
    parts = text.replace(",", " ").replace(";", " ").split()
    if not parts or not all(part.isascii() and part.isdigit() for part in parts):
        raise BadInputError("Give slices as numbers, such as '12, 30, 48'.")
    return sorted({int(part) for part in parts})


def importSlicesInSteps(
    supports: Supports, source: Any, segmentIds: Sequence[str], plane: str, indices: Sequence[int] | int
) -> Generator[None, None, int]:
    """Copy slices of another segmentation, and make them examples; slices with strokes stay as they are.

    Yields after each segment.

    Args:
        supports: Where they go.
        source: Segmentation node on any grid.
        segmentIds: Segments to take; structures of the same name are taken for the same.
        plane: In which the slices lie.
        indices: Which slices; a number stands for every so-manieth slice that shows any of the segments.

    Returns:
        How many slices became examples.

    Raises:
        BadInputError: There is nothing in these slices, or the plane is not that of the other examples.
    """
    supports.checkPlane(SlicePlace(plane, 0))
    axis = supports.axis(plane)
    masks = {}
    for one in segmentIds:
        array = slicer.util.arrayFromSegmentBinaryLabelmap(source, one, supports.volumeNode)
        masks[one] = np.moveaxis(np.asarray(array, dtype=bool), 2 - axis, 0)
        yield
    filled = sorted({int(n) for mask in masks.values() for n in np.flatnonzero(mask.any(axis=(1, 2)))})
    wanted = everyNth(filled, indices) if isinstance(indices, int) else [n for n in indices if n in set(filled)]
    free = [index for index in wanted if index not in set(supports.paintedIn(plane))]
    if not wanted:
        raise BadInputError(f"{source.GetName()} shows nothing in these slices; choose others.")
    for one, mask in masks.items():
        segment = source.GetSegmentation().GetSegment(one)
        own = supports.structure(segment.GetName(), segment.GetColor())
        chosen = np.zeros_like(mask)
        chosen[free] = mask[free]
        addMask(supports.painted, own, supports.grid, np.moveaxis(chosen, 0, 2 - axis), (0, 0, 0))
        yield
    supports.addAll([SlicePlace(plane, index) for index in wanted])
    return len(wanted)


def keptSet(supports: Supports) -> tuple[SupportSet, Volume]:
    """The used examples of a set as they are kept in a folder, and the image of those without one.

    Raises:
        BadInputError: Nothing is outlined.
    """
    question = ask(supports, InferenceRequest(""), KeptVolumes())
    names = {label: name for one in question.examples for label, name in (one.names or {}).items()}
    colors = {label: tuple(question.colors[name]) for label, name in names.items()}
    request = question.request
    return SupportSet(request.plane, question.examples, request.absent, names, colors), question.volume


def openSetInSteps(supports: Supports, opened: SupportSet) -> Generator[None, None, int]:
    """Use the examples of a set from a folder; each of its images becomes a volume with examples of its own.

    An image that is that of the set itself goes there. Yields after each image.

    Returns:
        How many images there were.
    """
    volume = volumeFromNode(supports.volumeNode)
    for example in opened.examples:
        if example.image.geometry.matches(volume.geometry) and np.array_equal(example.image.array, volume.array):
            target = supports
        else:
            target = createSupports(addVolume(example.image))
            target.painted.GetDisplayNode().SetVisibility(False)
        yield
        _fill(target, example, opened)
        yield
        if target is not supports:
            for name, color in _named(example, opened).values():
                supports.structure(name, color)
            supports.lend(target)
        yield
    return len(opened.examples)


def _fill(target: Supports, example: Example, opened: SupportSet) -> None:
    """Paint what an example outlines, where nothing is painted, and list its slices."""
    axis, plane = target.axis(opened.plane), opened.plane
    array = np.moveaxis(np.asarray(example.labels.array), 2 - axis, 0)
    taken, ids = set(target.paintedIn(plane)), {}
    for label, (name, color) in _named(example, opened).items():
        mask = array == label
        mask[[index for index in taken if index < len(mask)]] = False
        ids[name] = target.structure(name, color)
        addMask(target.painted, ids[name], target.grid, np.moveaxis(mask, 0, 2 - axis), (0, 0, 0))
    outlined = np.flatnonzero(array.any(axis=(1, 2)))
    absent = {SlicePlace(plane, index): set() for indices in example.absent.values() for index in indices}
    for name, indices in example.absent.items():
        for index in indices:
            absent[SlicePlace(plane, index)].add(ids[name])
    target.addAll([SlicePlace(plane, int(index)) for index in outlined], absent)


def _named(example: Example, opened: SupportSet) -> dict[int, tuple[str, Any]]:
    labels = [int(label) for label in np.unique(example.labels.array) if label]
    names = {**opened.names, **(example.names or {})}
    return {label: (names[label], opened.colors[label]) for label in labels}
