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
    def mean_dice(self) -> float:
        """Mean Dice over the pairs of different samples; 1 for a single sample."""
        pairs = np.triu_indices(len(self.dice), k=1)
        return float(self.dice[pairs].mean()) if pairs[0].size else 1.0


def pairwise_overlap(samples: SampleSet, label: int) -> PairwiseOverlap:
    """Overlap of all pairs of samples for the structure ``label``."""
    bits = samples.packed_masks(label)
    both = np.array([np.bitwise_count(row & bits).sum(axis=1, dtype=np.int64) for row in bits])
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
    first, second = np.unravel_index(int(distance.argmax()), distance.shape)
    median = int(distance.mean(axis=1).argmin())
    pair = (int(min(first, second)), int(max(first, second)))
    return Representatives(median, pair, float(distance[first, second]))
