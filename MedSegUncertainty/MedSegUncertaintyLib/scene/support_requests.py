"""The examples of a set as what a propagation is asked with."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.propagation.request import PropagationRequest
from MedSegUncertaintyLib.scene.grids import worldGeometry
from MedSegUncertaintyLib.scene.kept_volumes import KeptVolumes
from MedSegUncertaintyLib.scene.support_table import OWN, SlicedExample
from MedSegUncertaintyLib.scene.supports import Supports
from MedSegUncertaintyLib.volumes.geometry import Volume


@dataclass(frozen=True, eq=False)
class Question:
    """Everything a propagation needs, taken from the scene at one moment.

    Attributes:
        request: Plane and empty slices.
        volume: The image; it shares memory with its node, and is the same object while that does not change.
        examples: Label maps; copies, so that painting can go on.
        segmentIds: Structures in the order in which a result has them.
        colors: Of the structures, by their names.
        fingerprint: Equal for questions that have the same answer.
    """

    request: PropagationRequest
    volume: Volume
    examples: tuple[Example, ...]
    segmentIds: tuple[str, ...]
    colors: dict[str, tuple[float, float, float]]
    fingerprint: int


def ask(supports: Supports, inference: InferenceRequest, volumes: KeptVolumes) -> Question:
    """The question that the used examples of a set pose.

    Args:
        supports: The set.
        inference: Package, samples, seed, region and device.
        volumes: Gives the images.

    Raises:
        BadInputError: Nothing is outlined, or two structures have the same name.
    """
    used = [one for one in supports.examples() if one.used and one.kind != "empty"]
    outlined = [one for one in used if one.outlined]
    if not outlined:
        raise BadInputError("Outline a structure in at least one slice, and press 'Add this slice'.")
    names = supports.names
    if len(set(names.values())) < len(names):
        raise BadInputError("Two structures have the same name; rename one of them.")
    labels = {name: number for number, name in enumerate(names.values(), start=1)}
    plane = next((one.place.plane for one in used if one.volume == OWN), outlined[0].place.plane)
    examples, found, marks = [], set(), [plane.encode(), repr(inference).encode()]
    for number in dict.fromkeys(one.volume for one in outlined):
        source = supports.source(number)
        shown = [one for one in outlined if one.volume == number and one.place.plane == plane]
        array, present = _labelMap(source, shown, labels, marks)
        if present:
            image = None if number == OWN else volumes.of(source.volumeNode)
            labelMap = Volume(array, worldGeometry(source.volumeNode), source.painted.GetName())
            elsewhere = {} if number == OWN else _absent(used, number, plane, _named(source, present))
            examples.append(Example(labelMap, image, {labels[name]: name for name in present}, elsewhere))
            marks.append(repr((id(image), sorted(elsewhere.items()))).encode())
            found |= present
    structures = [name for name in labels if name in found]
    if not structures:
        raise BadInputError("No example outlines a structure of this volume; give structures the same names.")
    absent = _absent(used, OWN, plane, _named(supports, found))
    marks.append(repr(sorted(absent.items())).encode())
    ids = {name: one for one, name in names.items()}
    volume = volumes.of(supports.volumeNode)
    marks.append(repr((id(volume), structures)).encode())
    request = PropagationRequest(inference, plane, absent)
    segmentIds = tuple(ids[name] for name in structures)
    colors = {names[one]: color for one, color in supports.colors.items()}
    return Question(request, volume, tuple(examples), segmentIds, colors, zlib.crc32(b"".join(marks)))


def _labelMap(
    source: Supports, shown: list[SlicedExample], labels: dict[str, int], marks: list[bytes]
) -> tuple[np.ndarray, set[str]]:
    """Label map (K, J, I) of the examples of one volume, and the names that it holds; ``marks`` gets its content."""
    array, present = np.zeros(source.grid.shape_kji, np.uint8), set()
    for one in shown:
        where: list[Any] = [slice(None)] * 3
        where[2 - source.axis(one.place.plane)] = one.place.index
        for segmentId in one.outlined:
            name = source.names[segmentId]
            if name in labels:
                pixels = source.pixels(segmentId, one.place)
                array[tuple(where)][pixels] = labels[name]
                marks.append(f"{one.key}{name}{zlib.crc32(np.packbits(pixels).tobytes())}".encode())
                present.add(name)
    return array, present


def _named(source: Supports, names: set[str]) -> dict[str, str]:
    return {segmentId: name for segmentId, name in source.names.items() if name in names}


def _absent(used: list[SlicedExample], volume: int, plane: str, names: dict[str, str]) -> dict[str, tuple[int, ...]]:
    """Empty slices of a volume by structure; those of structures that no example outlines mean nothing yet."""
    own = [one for one in used if one.volume == volume and one.place.plane == plane]
    found = {
        name: tuple(one.place.index for one in own if segmentId in one.absent) for segmentId, name in names.items()
    }
    return {name: slices for name, slices in found.items() if slices}


def colored(result: InferenceResult, colors: Mapping[str, tuple[float, float, float]]) -> InferenceResult:
    """A result in the colors in which its structures were painted, by their names."""
    package = result.package
    structures = tuple(replace(one, color=tuple(colors.get(one.name, one.color))) for one in package.structures)
    own = replace(result, package=replace(package, structures=structures))
    vars(own)["summary"] = result.summary  # it does not depend on colors, and takes seconds
    return own
