"""Which samples stand for the set: overlap of all pairs, the median sample, the two most different ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from MedSegUncertaintyLib.uncertainty.samples import SampleSet


@dataclass(frozen=True)
class PairwiseOverlap:
    """Overlap of every pair of samples for one structure; two empty masks overlap fully (1).

    Attributes:
        iou: (S, S) intersection over union.
        dice: (S, S) Dice coefficient.
    """

    iou: np.ndarray
    dice: np.ndarray

    @property
    def mean_dice(self) -> float | None:
        """Mean Dice over the pairs of different samples; ``None`` for a single sample, which has no pair."""
        pairs = np.triu_indices(len(self.dice), k=1)
        return float(self.dice[pairs].mean()) if pairs[0].size else None


def pairwise_overlap(samples: SampleSet, label: int) -> PairwiseOverlap:
    """Overlap of all pairs of samples for the structure ``label``."""
    both = samples.intersections(label)
    sizes = both.diagonal()
    total = sizes[:, None] + sizes
    either = total - both
    empty = either == 0
    iou = np.where(empty, 1.0, both / np.maximum(either, 1))
    dice = np.where(empty, 1.0, 2.0 * both / np.maximum(total, 1))
    return PairwiseOverlap(iou, dice)


@dataclass(frozen=True)
class Representatives:
    """Indices of samples: the one closest to all others, and the pair that differs most.

    Attributes:
        median: Smallest mean distance to the others.
        most_different: The two samples with the largest distance.
        distance: Their distance: 1 - IoU, averaged over structures.
    """

    median: int
    most_different: tuple[int, int]
    distance: float


def representatives(overlaps: list[PairwiseOverlap]) -> Representatives:
    """Representative samples by 1 - IoU averaged over the structures' overlaps."""
    distance = 1.0 - np.mean([overlap.iou for overlap in overlaps], axis=0)
    # Below the diagonal no pair is a sample with itself, also when all are equal.
    pairs = np.tril_indices(len(distance), k=-1 if len(distance) > 1 else 0)
    second, first = (indices[int(distance[pairs].argmax())] for indices in pairs)
    median = int(distance.mean(axis=1).argmin())
    return Representatives(median, (int(first), int(second)), float(distance[first, second]))
