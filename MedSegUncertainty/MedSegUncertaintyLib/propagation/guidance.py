"""What a user should look at next: examples that disagree with the others, slices that are uncertain, the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from MedSegUncertaintyLib.propagation.session import Session
from MedSegUncertaintyLib.uncertainty.samples import SampleSet

OUTLINE, ABSENT = "outline", "absent"
FAR, DIFFER, END = "far from examples", "samples differ", "end not marked"


@dataclass(frozen=True)
class StructureGuidance:
    """One structure; slices are indices along the volume's voxel axis, counted from 0.

    Attributes:
        examples: Dice with which each outlined slice was found by the others; None where it was not left out.
        expected_dice: By slice, the mean Dice of every two samples; of slices that no sample labels nothing is said.
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


def guide(session: Session, samples: SampleSet) -> Guidance:
    """What the samples of a session say about its slices."""
    axis, first = session.stack.axis, session.stack.placement.box.slices_kji[session.stack.axis].start
    structures, best = {}, -1.0
    choice: tuple[int | None, str | None, str | None, str | None] = (None, None, None, None)
    for structure, marks in zip(session.structures, session.marks, strict=True):
        masks = np.stack([np.moveaxis(labels == structure.label, axis, 0) for labels in samples])
        areas = masks.sum(axis=(2, 3))
        mean_area = max(1.0, areas.mean(axis=0)[areas.any(axis=0)].mean() if areas.any() else 1.0)
        overlap, differ = np.ones(areas.shape[1]), np.zeros(areas.shape[1])
        pairs = list(combinations(range(len(masks)), 2))
        if pairs:
            common = np.array([(masks[a] & masks[b]).sum(axis=(1, 2)) for a, b in pairs])
            total = np.array([areas[a] + areas[b] for a, b in pairs])
            overlap = np.where(total > 0, 2 * common / np.maximum(total, 1), 1).mean(axis=0)
            differ = (total - 2 * common).mean(axis=0) / mean_area
        numbers = {session.stack.index_of(number) for number in (*marks.masks, *marks.absent)}
        structures[structure.name] = StructureGuidance(
            {session.stack.index_of(number): None for number in sorted(marks.masks)},
            {first + int(n): round(float(overlap[n]), 4) for n in np.flatnonzero(areas.any(axis=0))},
            {first + n: round(float(value), 4) for n, value in enumerate(differ)},
        )
        for n in np.argsort(-differ, kind="stable"):
            index = first + int(n)
            if index not in numbers:
                if differ[n] > best:
                    best, choice = float(differ[n]), (index, OUTLINE, DIFFER, structure.name)
                break
    return Guidance(structures, *choice)
