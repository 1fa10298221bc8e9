"""Everything about one volume and its examples, from which any number of samples can be drawn, slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.propagation.calibration import Calibration, calibrate
from MedSegUncertaintyLib.propagation.draws import draw
from MedSegUncertaintyLib.propagation.examples import (
    Example,
    Marks,
    check_example,
    marks_of,
    plane_with_fewest,
    says_everything,
    structures_of,
    united,
)
from MedSegUncertaintyLib.propagation.remembering import Remembering
from MedSegUncertaintyLib.propagation.request import ALL, PropagationRequest
from MedSegUncertaintyLib.propagation.returning import returned_dice
from MedSegUncertaintyLib.propagation.scenes import frame
from MedSegUncertaintyLib.propagation.stacks import Stack, make_stack
from MedSegUncertaintyLib.propagation.walk import Network, Scene
from MedSegUncertaintyLib.uncertainty.statistics import most_probable
from MedSegUncertaintyLib.volumes.geometry import Volume

SHARPNESS = 10.0
"""Of the softmax over the probabilities of background and several structures (the UniverSeg authors' demo)."""


@dataclass(frozen=True)
class FinishedSlice:
    """A slice of a sample.

    Attributes:
        stack: Where it belongs.
        number: In the stack.
        probabilities: (structures + 1, rows, columns) float32, background first; they sum to 1.
    """

    stack: Stack
    number: int
    probabilities: np.ndarray

    @property
    def axis(self) -> int:
        """Array axis (0: K, 1: J, 2: I) of the volume that it is perpendicular to."""
        return self.stack.axis

    @property
    def index(self) -> int:
        """Along that axis of the volume."""
        return self.stack.index_of(self.number)

    @cached_property
    def labels(self) -> np.ndarray:
        """Most probable labels, uint8, on the whole slice of the volume: its other two array axes, in order."""
        return self.stack.on_volume(self.number, most_probable(torch.from_numpy(self.probabilities)).numpy())


class Session:
    """A query, its examples and a network.

    Args:
        volume: The image to segment.
        examples: Label maps, at least one.
        request: Plane, empty slices, region, seed.
        network: Logits by example, for squares of ``size`` pixels.
        size: Edge of the squares that the network was trained on.
        device: Where the network is.
        stacks: Makes the slices of a volume, or knows them.

    Attributes:
        structures: What is segmented.
        stack: Slices of the query.
        plane: In which they lie.
        marks: The outlined and the empty slices of each task. The tasks are the structures in order and, where outlines
            leave nothing unsaid about several, background: as its complement, all structures together, which is the
            same question in the way that the network was mostly trained to answer.
        network: As given.
        remembering: The same, which answers the same question once.
        framed: What the walk of each task sees.

    Raises:
        BadInputError: An example cannot be used; one sentence says which and why.
    """

    def __init__(
        self,
        volume: Volume,
        examples: Sequence[Example],
        request: PropagationRequest,
        network: Network,
        size: int,
        device: torch.device,
        stacks: Callable[..., Stack] = make_stack,
    ) -> None:
        for example in examples:
            check_example(example, volume)
        self.structures, labels = structures_of(examples)
        self.plane = request.plane or plane_with_fewest(examples[0].labels)
        self.network, self.remembering, self._seed = network, Remembering(network), request.inference.seed
        self._calibrations: dict[int, Calibration] = {}
        here = [example.labels for example in examples if example.image is None]
        outlined = np.any([own.array > 0 for own in here], axis=0) if here else None
        roi = request.inference.roi
        self.stack = stacks(volume, self.plane, outlined, roi)
        absent = _absent_by_name(request, self.structures)
        elsewhere = [
            (stacks(example.image, self.plane, example.labels.array > 0), example)
            for example in examples
            if example.image is not None
        ]
        self.marks: list[Marks] = []
        others_of: list[list[Marks]] = []
        for structure, label in zip(self.structures, labels, strict=True):
            own = [marks_of(labels, self.stack, label, structure.name, absent[structure.name]) for labels in here]
            marks = _together(own, structure.name) if own else Marks({}, _numbers(self.stack, absent[structure.name]))
            found = [
                marks_of(example.labels, stack, label, structure.name, example.absent.get(structure.name, ()))
                for stack, example in elsewhere
            ]
            if not marks.masks and not any(other.masks for other in found):
                raise BadInputError(
                    f"No outline of {structure.name} lies in the region that is looked at; enlarge the region."
                )
            self.marks.append(marks)
            others_of.append(found)
        images = (self.marks, *zip(*others_of, strict=True))
        if len(self.structures) > 1 and all(map(says_everything, images)):
            self.marks.append(united(self.marks))
            others_of.append([united(own) for own in zip(*others_of, strict=True)])
        self.framed = []
        for marks, found in zip(self.marks, others_of, strict=True):
            others = [(stack, own) for (stack, _), own in zip(elsewhere, found, strict=True) if own.masks]
            self.framed.append(frame(self.stack, marks, others, size, roi is not None, device))

    def calibrate(self, heard: Callable[[], None] = lambda: None) -> list[Calibration]:
        """Leave examples out to learn how to combine, how far to trust, and what to expect, per task.

        What to expect in an image without outlines of its own says whether the first sample leads back to the examples.
        Draws made before are as the shape and the network count by default; this takes about as long as two samples.

        Args:
            heard: Called before each slice; may raise to cancel.
        """
        for number, framed in enumerate(self.framed):
            if number not in self._calibrations:
                self._calibrations[number] = self._calibrated(number, framed.scene, heard)
        return [self._calibrations[number] for number in range(len(self.framed))]

    def _calibrated(self, task: int, scene: Scene, heard: Callable[[], None]) -> Calibration:
        calibration = calibrate(self.remembering, scene, heard)
        if scene.outlined:
            return calibration
        found = {}
        for number, logits in draw(self.remembering, scene, calibration, (self._seed, task, 0)):
            heard()
            found[number] = logits
        expected = returned_dice(self.network, scene, found, heard)
        return replace(calibration, expected_dice=expected)

    def slices(self, sample: int, start: int | None = None) -> Iterator[FinishedSlice]:
        """The slices of one sample, each as soon as it is finished.

        Args:
            sample: Number of the sample, counted from 0; the same number gives the same slices.
            start: Number of the slice to begin near to; it changes the order only.
        """
        walks = [self._walk(number, sample, start) for number in range(len(self.framed))]
        waiting: dict[int, dict[int, np.ndarray]] = {}
        # Every walk comes to every slice once, each in an order of its own.
        for step in zip(*walks, strict=True):
            for task, (number, probability) in enumerate(step):
                found = waiting.setdefault(number, {})
                found[task] = probability
                if len(found) == len(walks):
                    yield self._combined(number, waiting.pop(number))

    def _walk(self, task: int, sample: int, start: int | None) -> Iterator[tuple[int, np.ndarray]]:
        """Probability (rows, columns) of one task in every slice; outlined slices are what the user says."""
        framed, marks = self.framed[task], self.marks[task]
        calibration = self._calibrations.get(task, Calibration())
        for number, mask in marks.masks.items():
            yield number, mask.astype(np.float32)
        nothing = np.zeros(self.stack.images.shape[1:], np.float32)
        for number in marks.absent:
            yield number, nothing
        seed = (self._seed, task, sample)
        network = self.network if sample else self.remembering
        for number, logits in draw(network, framed.scene, calibration, seed, start):
            yield number, framed.on_slice(logits, calibration.temperature)

    def _combined(self, number: int, found: dict[int, np.ndarray]) -> FinishedSlice:
        """Probabilities over background and all structures."""
        count = len(self.structures)
        own = np.stack([found[structure] for structure in range(count)])
        if count == 1:
            probabilities = np.concatenate([1 - own, own])
        else:
            any_of_them = found[count] if count in found else own.max(axis=0)
            probabilities = competing(1 - any_of_them, own)
            for structure, marks in enumerate(self.marks[:count]):
                if number in marks.masks:
                    _settle(probabilities, structure + 1, marks.masks[number])
        return FinishedSlice(self.stack, number, probabilities)

    def to_json(self) -> dict[str, Any]:
        """What is known about the examples, plain JSON types."""
        return {
            "plane": self.plane,
            "ct_window": None if self.stack.window is None else list(self.stack.window),
            "structures": {
                structure.name: {
                    "examples": sorted(self.stack.index_of(number) for number in marks.masks),
                    "absent": sorted(self.stack.index_of(number) for number in marks.absent),
                    "examples_elsewhere": len(framed.scene.masks_elsewhere),
                    "pixel_mm": framed.square.pixel_mm,
                    **self._calibrations.get(number, Calibration()).to_json(),
                }
                for number, (structure, marks, framed) in enumerate(
                    zip(self.structures, self.marks, self.framed, strict=False)  # background has no name
                )
            },
            "background_by_example": len(self.framed) > len(self.structures),
        }


def competing(background: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Probabilities (structures + 1, rows, columns) of background and structures that were segmented one by one.

    Args:
        background: (rows, columns).
        own: (structures, rows, columns).
    """
    scores = SHARPNESS * np.concatenate([background[None], own])
    exponentials = np.exp(scores - scores.max(axis=0, keepdims=True))
    return (exponentials / exponentials.sum(axis=0, keepdims=True)).astype(np.float32)


def _settle(probabilities: np.ndarray, label: int, mask: np.ndarray) -> None:
    """Make an outline certain, in place."""
    probabilities[label] = 0
    probabilities /= probabilities.sum(axis=0, keepdims=True)
    probabilities[:, mask] = 0
    probabilities[label, mask] = 1


def _absent_by_name(request: PropagationRequest, structures: Sequence[Structure]) -> dict[str, tuple[int, ...]]:
    names = [structure.name for structure in structures]
    unknown = [name for name in request.absent if name not in (ALL, *names)]
    if unknown:
        raise BadInputError(
            f"No support outlines '{unknown[0]}', whose empty slices were given; there is {', '.join(names)}."
        )
    common = request.absent.get(ALL, ())
    return {name: tuple(dict.fromkeys((*common, *request.absent.get(name, ())))) for name in names}


def _numbers(stack: Stack, indices: Sequence[int]) -> frozenset[int]:
    return frozenset(stack.slice_of(index) for index in indices)


def _together(marks: Sequence[Marks], name: str) -> Marks:
    """The marks of several label maps of one image."""
    masks: dict[int, np.ndarray] = {}
    for own in marks:
        if twice := sorted(masks.keys() & own.masks.keys()):
            raise BadInputError(
                f"Two supports outline {name} in the same slice ({len(twice)} in all); give one of them."
            )
        masks.update(own.masks)
    return Marks(masks, marks[0].absent)
