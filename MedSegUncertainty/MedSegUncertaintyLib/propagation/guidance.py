"""What a user should do next: examples that disagree with the others, uncertain slices, and the next one to outline.

Nothing here knows the truth. Leaving examples out says how well one slice is found by the others; samples say how much
hypotheses differ. Both are blind to what all samples get wrong in the same way, above all beyond the outermost outlines
where no mark says that the structure has ended: there samples are trusted the less the farther they go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from MedSegUncertaintyLib.propagation.calibration import found_again, left_out, soft_dice
from MedSegUncertaintyLib.propagation.examples import Marks
from MedSegUncertaintyLib.propagation.session import Session
from MedSegUncertaintyLib.propagation.stacks import Stack
from MedSegUncertaintyLib.uncertainty.samples import SampleSet

OUTLINE, ABSENT = "outline", "absent"
FAR, DIFFER, END = "far from examples", "samples differ", "end not marked"

SPREAD = 0.6
"""Distance beyond an outermost outline at which samples are trusted less, in units of the known size of the
structure."""


@dataclass(frozen=True)
class StructureGuidance:
    """One structure; slices are indices along the volume's voxel axis, counted from 0.

    Attributes:
        examples: Dice with which each outlined slice was found by the others; None where it was not left out.
        expected_dice: By slice that any sample labels, which Dice to expect: that of two samples, or that which
            left-out examples suggest at this distance from the next outline, whichever is less; beyond the outermost
            outlines it falls off until a mark says that the structure has ended. It sorts slices.
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
        next_kind: :data:`OUTLINE`, or :data:`ABSENT` where most samples do not find the structure any more.
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
        # A network that remembers was asked all of this before.
        logits = left_out(session.remembering, scene, calibrations[own].fusions[0], heard)
        pairs = found_again(session.remembering, scene, logits, calibrations[own].refinement, heard)
        found = {number: soft_dice(*pair) for number, pair in pairs.items()}
        order = sorted(range(len(stack.images)), key=stack.index_of)
        masks = (_in_order(labels == structure.label, stack) for labels in samples)
        largest = max((int(mask.sum()) for mask in marks.masks.values()), default=0) * float(np.prod(stack.pixel_mm))
        about = Slices(masks, marks, found, np.sqrt(largest / np.pi) / stack.slice_mm)
        structures[structure.name] = StructureGuidance(
            {
                stack.index_of(number): None if number not in found else round(found[number], 4)
                for number in sorted(marks.masks, key=stack.index_of)
            },
            {stack.index_of(n): round(float(about.expected[n]), 4) for n in order if about.shown[n]},
            {stack.index_of(n): round(float(about.differ[n]), 4) for n in order},
        )
        advice = about.advice()
        if advice is not None and (best is None or advice.worth > best.worth):
            best, name_of_best = advice, structure.name
    if best is None:
        return Guidance(structures)
    return Guidance(structures, stack.index_of(best.number), best.kind, best.reason, name_of_best)


def _in_order(mask: np.ndarray, stack: Stack) -> np.ndarray:
    """Slices of a mask on the box (K, J, I), in the order of the stack: along one of its axes or against it."""
    slices: np.ndarray = np.moveaxis(mask, stack.axis, 0)
    return slices if stack.index_of(0) <= stack.index_of(1) else slices[::-1]


class Slices:
    """What is known about the slices of one structure.

    Args:
        masks: Of each sample, (slices, rows, columns) bool, in the order of the stack; at least one.
        marks: What the user said.
        found: Dice of left-out outlines by number.
        radius: Of a disc as large as the largest outline, in units of the distance of slices.

    Attributes:
        shown: Slices that any sample labels, bool.
        differ: Mean area on which two samples differ, in mean areas.
        expected: Expected Dice.
    """

    def __init__(
        self, masks: Iterable[np.ndarray], marks: Marks, found: Mapping[int, float], radius: float = np.inf
    ) -> None:
        self._marks, self._radius = marks, radius
        areas, votes = _counted(masks)
        self.shown = np.asarray(areas.sum(axis=0) > 0)
        mean_area = max(1.0, float(areas.mean(axis=0)[self.shown].mean())) if self.shown.any() else 1.0
        self._areas, self._share = areas.mean(axis=0) / mean_area, (areas > 0).mean(axis=0)
        self.differ, overlap = _differences(areas, votes)
        self.differ /= mean_area
        outlined = np.array(sorted(marks.masks))
        # The error of a left-out outline is shared out along the way to the next one.
        gaps = [np.abs(outlined[outlined != number] - number).min() for number in found]
        error = float(np.mean([1 - dice for dice in found.values()])) / float(np.mean(gaps)) if found else 0.0
        everything = np.array(sorted({*marks.masks, *marks.absent}))
        numbers = np.arange(len(areas[0]))
        self._gap = _distance(numbers, everything)
        self._trust = self._trusted(numbers, outlined)
        self.expected = np.minimum(overlap, 1 - np.minimum(1.0, error * _distance(numbers, outlined))) * self._trust

    def advice(self) -> Advice | None:
        """The slice whose example would put most right, itself and on the way to the next ones; None if there is none.

        What may be wrong in a slice is what samples differ on, or what they agree on less what is expected of that.
        """
        known = {*self._marks.masks, *self._marks.absent}
        candidates = [number for number in np.flatnonzero(self.shown).tolist() if number not in known]
        if not candidates:
            return None
        unsure = (1 - self.expected) * self._areas
        wrong, numbers = np.maximum(self.differ, unsure) * self._trust, np.arange(len(unsure))
        worth = [
            float((wrong * np.maximum(0, 1 - np.abs(numbers - number) / np.maximum(self._gap, 1))).sum())
            for number in candidates
        ]
        best = candidates[int(np.argmax(worth))]
        if self._trust[best] < 1:
            return Advice(max(worth), best, OUTLINE if self._share[best] > 0.5 else ABSENT, END)
        return Advice(max(worth), best, OUTLINE, DIFFER if self.differ[best] >= unsure[best] else FAR)

    def _trusted(self, numbers: np.ndarray, outlined: np.ndarray) -> np.ndarray:
        """How likely the structure is to reach a slice, 0 to 1: it falls off beyond the outermost outlines.

        There all samples may spill in the same way. Structures are taken to be about as long as they are wide, or as
        far again as their outlines are apart: so the end of a long one is soon met. A mark ahead says as much as an
        outline.
        """
        if not len(outlined):
            return np.ones(len(numbers))
        beyond = np.maximum(0, np.maximum(outlined[0] - numbers, numbers - outlined[-1]))
        for absent in self._marks.absent:
            beyond[(numbers < outlined[0]) & (absent < outlined[0])] = 0
            beyond[(numbers > outlined[-1]) & (absent > outlined[-1])] = 0
        size = max(self._radius, outlined[-1] - outlined[0])
        return np.exp(-0.5 * (beyond / (SPREAD * size)) ** 2)


def _distance(numbers: np.ndarray, others: np.ndarray) -> np.ndarray:
    """From each number to the nearest of others; as far as there are numbers if there are none."""
    return np.abs(numbers[:, None] - others[None]).min(axis=1) if len(others) else np.full(len(numbers), len(numbers))


def _counted(masks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels per sample and slice, and in how many samples each pixel is; one mask is in memory at a time."""
    areas, votes = [], np.zeros(0)
    for mask in masks:
        areas.append(mask.sum(axis=(1, 2)))
        votes = votes + mask if len(areas) > 1 else mask.astype(np.uint16)
    return np.array(areas), votes


def _differences(areas: np.ndarray, votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per slice, over all pairs of samples: mean number of pixels on which they differ, and their Dice taken together.

    A pixel that n samples have is common to n (n - 1) / 2 pairs. Where no sample has any, the Dice is 1.
    """
    count = len(areas)
    if count < 2:
        return np.zeros(areas.shape[1]), np.ones(areas.shape[1])
    wide = (own.astype(np.int64) for own in votes)
    common = np.array([int((own * (own - 1)).sum()) for own in wide]) / (count * (count - 1))
    total = 2 * areas.mean(axis=0)
    return total - 2 * common, np.where(total > 0, 2 * common / np.maximum(total, 1e-9), 1.0)
