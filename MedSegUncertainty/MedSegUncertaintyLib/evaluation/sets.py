"""A set of samples against a set of readers: distances of distributions, diversity, matching."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from MedSegUncertaintyLib.evaluation.overlap import dice_from_iou, mean_of_defined, pairwise_iou

_PAIRS = (-2, -1)


@dataclass(frozen=True)
class SetOverlap:
    """IoU of all pairs within the readers and samples of B images.

    Where ``both_empty`` was NaN, a label that a pair does not have is left out of the pair's mean over the labels, and
    a pair that has none of the labels is left out of the expectations.

    Attributes:
        iou: (L, B, R + S, R + S) for L labels; R readers, then S samples.
        readers: R.
    """

    iou: np.ndarray
    readers: int

    @classmethod
    def of(cls, readers: np.ndarray, samples: np.ndarray, *, labels: Sequence[int], both_empty: float) -> SetOverlap:
        """Compare label maps.

        Args:
            readers: (B, R, *spatial), integers.
            samples: (B, S, *spatial), integers of the same type.
            labels: The labels to compare; (1,) for masks of one structure.
            both_empty: IoU of a pair for a label that neither of the two has: 1.0 or NaN.
        """
        together = np.concatenate([readers, samples], axis=1)
        return cls(pairwise_iou(together, labels=labels, both_empty=both_empty), readers.shape[1])

    @property
    def readers_samples(self) -> np.ndarray:
        """(L, B, R, S)."""
        return self.iou[..., : self.readers, self.readers :]

    @property
    def samples_samples(self) -> np.ndarray:
        """(L, B, S, S)."""
        return self.iou[..., self.readers :, self.readers :]

    @property
    def readers_readers(self) -> np.ndarray:
        """(L, B, R, R)."""
        return self.iou[..., : self.readers, : self.readers]


def ged_squared(overlap: SetOverlap) -> np.ndarray:
    """Squared generalized energy distance, (B,).

    ``2 E d(S, Y) - E d(S, S') - E d(Y, Y')`` with d = 1 - IoU, IoU averaged over the labels. The expectations run over
    all ordered pairs, those of a map with itself included (V-statistic), so the value falls with the number of samples
    and says little without it.
    """
    across = _expected_distance(overlap.readers_samples)
    return 2.0 * across - sample_diversity(overlap) - reader_diversity(overlap)


def sample_diversity(overlap: SetOverlap) -> np.ndarray:
    """Expected distance 1 - IoU of two samples, those of a sample with itself included, (B,)."""
    return _expected_distance(overlap.samples_samples)


def reader_diversity(overlap: SetOverlap) -> np.ndarray:
    """Expected distance 1 - IoU of two readers, those of a reader with themselves included, (B,)."""
    return _expected_distance(overlap.readers_readers)


def matched_iou(overlap: SetOverlap) -> np.ndarray:
    """Mean IoU of readers and samples after the best one-to-one matching (HM-IoU), (B,).

    Both sets are repeated to the least common multiple of their sizes, so every reader and every sample counts equally.
    A rectangular assignment, in which each reader takes the best of many samples, gives far higher values.

    Raises:
        ValueError: A pair has no IoU, because none of the labels is there and ``both_empty`` was NaN.
    """
    iou = mean_of_defined(overlap.readers_samples, axis=0)
    size = math.lcm(*iou.shape[1:])
    values = []
    for image in iou:
        square = np.tile(image, (size // image.shape[0], size // image.shape[1]))
        values.append(square[linear_sum_assignment(square, maximize=True)].mean())
    return np.array(values)


def expected_dice(overlap: SetOverlap) -> np.ndarray:
    """Dice averaged over all pairs of a reader and a sample and over the labels, (B,)."""
    return mean_of_defined(mean_of_defined(dice_from_iou(overlap.readers_samples), axis=0), _PAIRS)


def _expected_distance(iou: np.ndarray) -> np.ndarray:
    return mean_of_defined(1.0 - mean_of_defined(iou, axis=0), _PAIRS)
