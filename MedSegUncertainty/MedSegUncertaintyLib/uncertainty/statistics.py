"""One pass over the samples: maps whose memory does not depend on how many samples there are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_SETTLED_BITS = 1e-3
"""Entropy below which a sample leaves nothing open."""


@dataclass(frozen=True)
class Statistics:
    """What the samples say together, on the box (K, J, I); N structures in the order of the package.

    Attributes:
        count: Number of samples.
        mean: (N, K, J, I) mean probability of each structure.
        variance: (N, K, J, I) variance over samples of that probability, 0 to 0.25; population variance (divided by
            the count), exactly 0 where all samples are equal.
        agreement: (N, K, J, I) fraction of samples whose label is the structure.
        entropy: (K, J, I) entropy of the mean probabilities over all classes, in bits; 0 to log2(classes).
        expected_entropy: (K, J, I) mean entropy of the single samples, in bits.
        prediction: (K, J, I) uint8, the most probable class of the mean.
        volumes_ml: (count, N) volume of each structure in each sample.
    """

    count: int
    mean: np.ndarray
    variance: np.ndarray
    agreement: np.ndarray
    entropy: np.ndarray
    expected_entropy: np.ndarray
    prediction: np.ndarray
    volumes_ml: np.ndarray

    @property
    def mutual_information(self) -> np.ndarray:
        """Entropy of the mean minus expected entropy, in bits: how much the samples differ in what they claim."""
        return np.maximum(self.entropy - self.expected_entropy, 0.0)


def empty_maps(statistics: Statistics) -> dict[str, str]:
    """Maps that say nothing, or nothing new, about these samples: name of the map to a sentence that says why.

    Mutual information compares what the mean leaves open with what every sample leaves open. It needs samples with
    probabilities of their own, as families with drawn logits have them (SSN); where a sample is a mask, nothing is left
    open in it, and mutual information is the entropy again.
    """
    if statistics.count == 1:
        spread = ("variance", "standard_deviation", "agreement", "mutual_information")
        return dict.fromkeys(spread, "One sample does not differ from itself; draw more samples.")
    if statistics.expected_entropy.max() < _SETTLED_BITS:
        return {
            "mutual_information": "The samples of this model are masks without probabilities: it equals the entropy."
        }
    return {}


class StatisticsStream:
    """Running statistics over samples, on the device of the first sample.

    Welford's update, one sample at a time, makes the variance of identical samples exactly zero: the mean equals the
    first sample and every later difference is 0.0.
    """

    def __init__(self, voxel_volume_ml: float) -> None:
        self.count = 0
        self._voxel_volume_ml = voxel_volume_ml
        self._voxel_counts: list[torch.Tensor] = []

    def update(self, probabilities: torch.Tensor, labels: torch.Tensor) -> None:
        """Add one sample: probabilities (classes, K, J, I) that sum to 1, and its labels (K, J, I)."""
        import torch

        structures = torch.arange(1, len(probabilities), device=labels.device)
        masks = labels.unsqueeze(0) == structures.view(-1, 1, 1, 1)
        entropy = _entropy_bits(probabilities)
        self.count += 1
        if self.count == 1:
            self._mean = probabilities.clone()
            self._squares = torch.zeros_like(probabilities[1:])
            self._votes = masks.to(torch.int32)
            self._expected_entropy = entropy
        else:
            delta = probabilities - self._mean
            self._mean.add_(delta, alpha=1.0 / self.count)
            self._squares.addcmul_(delta[1:], probabilities[1:] - self._mean[1:])
            self._votes += masks
            self._expected_entropy.add_((entropy - self._expected_entropy).div_(self.count))
        self._voxel_counts.append(masks.flatten(1).sum(dim=1))

    @property
    def mean(self) -> np.ndarray:
        """``Statistics.mean`` of the samples so far."""
        return self._mean[1:].cpu().numpy().copy()

    @property
    def variance(self) -> np.ndarray:
        """``Statistics.variance`` of the samples so far."""
        return (self._squares / self.count).clamp_(0.0, 0.25).cpu().numpy()

    def result(self) -> Statistics:
        """The statistics of the samples so far; the stream can go on."""
        import torch

        if not self.count:
            raise ValueError("no sample was added")
        return Statistics(
            count=self.count,
            mean=self.mean,
            variance=self.variance,
            agreement=(self._votes / self.count).cpu().numpy(),
            entropy=_entropy_bits(self._mean).cpu().numpy(),
            expected_entropy=self._expected_entropy.cpu().numpy().copy(),
            prediction=most_probable(self._mean).cpu().numpy(),
            volumes_ml=torch.stack(self._voxel_counts).cpu().numpy() * self._voxel_volume_ml,
        )


def most_probable(probabilities: torch.Tensor) -> torch.Tensor:
    """Labels (K, J, I), uint8, of the largest of the probabilities (classes, K, J, I)."""
    import torch

    # Ten times faster on a CPU than argmax, which does not vectorize over the first axis.
    return probabilities.max(dim=0).indices.to(torch.uint8)


def _entropy_bits(probabilities: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.special.entr(probabilities).sum(dim=0).div_(math.log(2.0))
