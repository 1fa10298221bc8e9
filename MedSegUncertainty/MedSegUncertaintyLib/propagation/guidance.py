"""What a user should do next: examples that disagree with the others, uncertain slices, and the next one to outline.

Nothing here knows the truth. Leaving examples out says how well one slice is found by the others; samples say how much
hypotheses differ. Both are blind to what all samples get wrong in the same way, above all beyond the outermost outlines
where no mark says that the structure has ended: such an end is asked for before its samples differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from MedSegUncertaintyLib.propagation.calibration import MOST_LEFT_OUT, soft_dice
from MedSegUncertaintyLib.propagation.examples import Marks
from MedSegUncertaintyLib.propagation.session import Session
from MedSegUncertaintyLib.propagation.supports import Pool
from MedSegUncertaintyLib.propagation.walk import Fusion, Network, Scene, path_to, walk
from MedSegUncertaintyLib.uncertainty.samples import SampleSet

OUTLINE, ABSENT = "outline", "absent"
FAR, DIFFER, END = "far from examples", "samples differ", "end not marked"

SPREAD = 1.0
"""Distance beyond an outermost outline at which samples are heeded little, in radii of the largest outline."""
BEYOND = 0.5
"""Share of what lies beyond an outermost outline that is taken for wrong as long as no mark says where it ends."""


@dataclass(frozen=True)
class StructureGuidance:
    """One structure; slices are indices along the volume's voxel axis, counted from 0.

    Attributes:
        examples: Dice with which each outlined slice was found by the others; None where it was not left out.
        expected_dice: By slice that any sample labels, which Dice to expect: that of two samples, or that which
            left-out examples suggest at this distance from the next outline, whichever is less. It sorts slices.
        uncertainty: By slice, the mean area on which two samples differ, in units of the structure's mean area.
    """

    examples: Mapping[int, float | None]
    expected_dice: Mapping[int, float]
    uncertainty: Mapping[int, float]


@dataclass(frozen=True)
class Guidance:
    """All structures, and the slice whose example would help most.

    Attributes:
        structures: By name.
        next_slice: Its index along the volume's voxel axis; None where nothing is left to ask.
        next_kind: :data:`OUTLINE`, or :data:`ABSENT` where the structure probably is not there any more.
        next_reason: :data:`FAR`, :data:`DIFFER` or :data:`END`.
        next_structure: Name of the structure that needs it most.
    """

    structures: Mapping[str, StructureGuidance] = field(default_factory=dict)
    next_slice: int | None = None
    next_kind: str | None = None
    next_reason: str | None = None
    next_structure: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; the slices are strings where they are keys."""
        structures = {
            name: {what: {str(index): value for index, value in values.items()} for what, values in vars(own).items()}
            for name, own in self.structures.items()
        }
        return {**vars(self), "structures": structures}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Guidance:
        """Inverse of :meth:`to_json`."""
        structures = {
            name: StructureGuidance(
                **{what: {int(index): value for index, value in values.items()} for what, values in own.items()}
            )
            for name, own in data["structures"].items()
        }
        return cls(**{**data, "structures": structures})


@dataclass(frozen=True)
class Advice:
    """A slice to ask for.

    Attributes:
        worth: How much wrong area it is hoped to put right, in units of the structure's mean area.
        number: The slice, in the stack.
        kind: :data:`OUTLINE` or :data:`ABSENT`.
        reason: :data:`FAR`, :data:`DIFFER` or :data:`END`.
    """

    worth: float
    number: int
    kind: str
    reason: str


def guide(session: Session, samples: SampleSet, heard: Callable[[], None] = lambda: None) -> Guidance:
    """What the samples of a session, its marks and its left-out examples say.

    Args:
        session: Calibrated.
        samples: Its samples.
        heard: Called before each slice that is looked at again; may raise to cancel.
    """
    stack, structures = session.stack, {}
    best: Advice | None = None
    name_of_best = None
    calibrations = session.calibrate(heard)
    for own, structure in enumerate(session.structures):
        marks, scene = session.marks[own], session.framed[own].scene
        found = left_out(session.remembering, scene, calibrations[own].fusions[0], heard)
        # Slices of the box lie along one of its axes, in the order of the stack or the other way round.
        order = np.argsort([stack.index_of(number) for number in range(len(stack.images))])
        masks = np.stack([np.moveaxis(labels == structure.label, stack.axis, 0) for labels in samples])
        largest = max((int(mask.sum()) for mask in marks.masks.values()), default=0) * float(np.prod(stack.pixel_mm))
        about = Slices(masks[:, np.argsort(order)], marks, found, np.sqrt(largest / np.pi) / stack.slice_mm)
        structures[structure.name] = StructureGuidance(
            {
                stack.index_of(number): None if number not in found else round(found[number], 4)
                for number in sorted(marks.masks, key=stack.index_of)
            },
            {stack.index_of(int(n)): round(float(about.expected[n]), 4) for n in order if about.shown[n]},
            {stack.index_of(int(n)): round(float(about.differ[n]), 4) for n in order},
        )
        for advice in about.advice():
            if best is None or advice.worth > best.worth:
                best, name_of_best = advice, structure.name
    if best is None:
        return Guidance(structures)
    return Guidance(structures, stack.index_of(best.number), best.kind, best.reason, name_of_best)


def left_out(network: Network, scene: Scene, fusion: Fusion, heard: Callable[[], None]) -> dict[int, float]:
    """Dice with which outlined slices are found by a walk from the others, by number.

    Those that calibration leaves out are; a network that remembers was asked all of this before.
    """
    outlined, dices = scene.outlined, {}
    if len(outlined) < 2:
        return {}
    chosen = np.unique(np.linspace(0, len(outlined) - 1, MOST_LEFT_OUT).round().astype(int))
    for number in (outlined[place] for place in chosen):
        rest = scene.without(number)
        pool = Pool(rest)
        supports = pool.supports(np.arange(len(pool)))
        for finished, logits in walk(network, rest, supports, fusion, only=path_to(rest, number)):
            heard()
            if finished == number:
                dices[number] = soft_dice(logits, scene.marks[number])
    return dices


class Slices:
    """What is known about the slices of one structure.

    Args:
        masks: (samples, slices, rows, columns) bool, in the order of the stack.
        marks: What the user said.
        found: Dice of left-out outlines by number.
        radius: Of a disc as large as the largest outline, in units of the distance of slices.

    Attributes:
        shown: Slices that any sample labels, bool.
        differ: Mean area on which two samples differ, in mean areas.
        expected: Expected Dice.
    """

    def __init__(self, masks: np.ndarray, marks: Marks, found: Mapping[int, float], radius: float = np.inf) -> None:
        self._marks, self._radius = marks, radius
        areas = masks.sum(axis=(2, 3))
        self.shown = areas.any(axis=0)
        mean_area = max(1.0, float(areas.mean(axis=0)[self.shown].mean())) if self.shown.any() else 1.0
        self._areas, self._lasting = areas.mean(axis=0) / mean_area, areas > 0
        self.differ, overlap = _differences(masks, areas)
        self.differ /= mean_area
        outlined = np.array(sorted(marks.masks))
        # The error of a left-out outline is shared out along the way to the next one.
        gaps = [np.abs(outlined[outlined != number] - number).min() for number in found]
        error = float(np.mean([1 - dice for dice in found.values()])) / float(np.mean(gaps)) if found else 0.0
        everything = np.array(sorted({*marks.masks, *marks.absent}))
        numbers = np.arange(len(areas[0]))
        self._gap = _distance(numbers, everything)
        self.expected = np.minimum(overlap, 1 - np.minimum(1.0, error * _distance(numbers, outlined)))

    def advice(self) -> Iterator[Advice]:
        """The best slice of each kind."""
        known = {*self._marks.masks, *self._marks.absent}
        candidates = [number for number in np.flatnonzero(self.shown).tolist() if number not in known]
        wrong = np.maximum(self.differ, (1 - self.expected) * self._areas) * self._plausible()
        if candidates:
            numbers = np.arange(len(wrong))
            worth = [
                float((wrong * np.maximum(0, 1 - np.abs(numbers - number) / np.maximum(self._gap, 1))).sum())
                for number in candidates
            ]
            best = candidates[int(np.argmax(worth))]
            reason = DIFFER if self.differ[best] >= (1 - self.expected[best]) * self._areas[best] else FAR
            yield Advice(max(worth), best, OUTLINE, reason)
        yield from self._ends(known)

    def _plausible(self) -> np.ndarray:
        """How much to care about a slice beyond the outermost outlines: samples that spill there say little.

        Structures are about as long as they are wide, or go on: then the next outline shows it.
        """
        numbers, outlined = np.arange(len(self.shown)), sorted(self._marks.masks)
        if not outlined:
            return np.ones(len(numbers))
        beyond = np.maximum(0, np.maximum(outlined[0] - numbers, numbers - outlined[-1]))
        return np.exp(-0.5 * (beyond / (SPREAD * self._radius)) ** 2)

    def _ends(self, known: set[int]) -> Iterator[Advice]:
        """The slice behind the end that most samples see, on each side that has no mark yet."""
        outlined = sorted(self._marks.masks)
        if not outlined:
            return
        count = len(self._areas)
        for side, outermost in ((-1, outlined[0]), (1, outlined[-1])):
            ahead = range(outermost + side, count if side > 0 else -1, side)
            if not ahead or any(number in self._marks.absent for number in ahead):
                continue
            reach = [max([0, *(abs(n - outermost) for n in ahead if own[n])]) for own in self._lasting]
            number = outermost + side * (int(np.median(reach)) + 1)
            if 0 <= number < count and number not in known:
                wrong = BEYOND * float(sum(self._areas[n] for n in ahead)) + 1
                yield Advice(wrong, number, ABSENT, END)


def _distance(numbers: np.ndarray, others: np.ndarray) -> np.ndarray:
    """From each number to the nearest of others; as far as there are numbers if there are none."""
    return np.abs(numbers[:, None] - others[None]).min(axis=1) if len(others) else np.full(len(numbers), len(numbers))


def _differences(masks: np.ndarray, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per slice: mean number of pixels on which two samples differ, and their mean Dice, 1 where both are empty."""
    pairs = list(combinations(range(len(masks)), 2))
    if not pairs:
        return np.zeros(masks.shape[1]), np.ones(masks.shape[1])
    common = np.array([(masks[a] & masks[b]).sum(axis=(1, 2)) for a, b in pairs])
    total = np.array([areas[a] + areas[b] for a, b in pairs])
    dices = np.where(total > 0, 2 * common / np.maximum(total, 1), 1.0)
    return (total - 2 * common).mean(axis=0), dices.mean(axis=0)
