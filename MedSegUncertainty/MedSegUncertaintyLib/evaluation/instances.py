"""Single objects out of samples in which every object has one color of a few, chosen anew in every sample.

After the experiment on neurons of the HPU-Net paper (Kohl et al. 2019), whose code is not public: thresholds are ours.
Two pixels of one object have the same color in nearly all samples; two objects agree in all of K samples with a
probability of colors^-K.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

BACKGROUND = 0


@dataclass(frozen=True)
class InstanceRule:
    """How samples become instances.

    Attributes:
        distance: Share of the samples in which a pixel may differ from the others of its instance.
        erosions: A connected region that vanishes under as many erosions by one pixel is no instance.
    """

    distance: float = 0.5
    erosions: int = 2


def instances(samples: np.ndarray, background: int | None = BACKGROUND, rule: InstanceRule | None = None) -> np.ndarray:
    """Label map (H, W) of the instances, 1 and up, 0 for the background.

    Args:
        samples: (K, H, W), colors.
        background: Color of the background; None where every pixel belongs to an object.
        rule: Thresholds.
    """
    rule = rule or InstanceRule()
    inside = foreground(samples, background)
    return repaired(without_thin_parts(clusters(samples, inside, rule.distance), rule.erosions), inside)


def foreground(samples: np.ndarray, background: int | None) -> np.ndarray:
    """Where most of the samples (K, H, W) have an object, bool (H, W)."""
    if background is None:
        return np.ones(samples.shape[1:], dtype=bool)
    return (samples != background).mean(axis=0) > 0.5


def clusters(samples: np.ndarray, inside: np.ndarray, distance: float) -> np.ndarray:
    """Greedy clustering by Hamming distance: label map (H, W), 1 and up inside, 0 elsewhere.

    A free pixel is a seed for all free pixels that differ from it in at most the share ``distance`` of the samples;
    then once more for those as close to the commonest color of these in each sample. Seeds go from the pixels that
    agree most with their neighbors to those that agree least, so objects begin in their interior.

    Args:
        samples: (K, H, W), colors.
        inside: (H, W), the pixels to cluster.
        distance: Share of the samples.
    """
    vectors = np.ascontiguousarray(samples[:, inside])
    colors = int(vectors.max(initial=0)) + 1
    free = np.ones(vectors.shape[1], dtype=bool)
    found = np.zeros(vectors.shape[1], dtype=np.int32)
    number = 0
    for seed in np.argsort(-_agreement(samples)[inside], kind="stable"):
        if not free[seed]:
            continue
        number += 1
        rest = np.flatnonzero(free)
        others = vectors[:, rest]
        near = _differing(others, vectors[:, seed]) <= distance
        counts = np.stack([(others[:, near] == color).sum(axis=1) for color in range(colors)])
        near = _differing(others, counts.argmax(axis=0)) <= distance
        near |= rest == seed
        found[rest[near]] = number
        free[rest[near]] = False
    result = np.zeros(inside.shape, dtype=np.int32)
    result[inside] = found
    return result


def without_thin_parts(labels: np.ndarray, erosions: int) -> np.ndarray:
    """Connected regions of (H, W) labels, numbered from 1; those that vanish under the erosions become 0."""
    parts = np.zeros(labels.shape, dtype=np.int32)
    number = 0
    # Labels side by side keep apart: a region is where neither the label nor the connection ends.
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is None:
            continue
        region, count = ndimage.label(np.pad(labels[place] == label, 1))
        core = ndimage.binary_erosion(region > 0, iterations=erosions) if erosions else region > 0
        keep = np.zeros(count + 1, dtype=np.int32)
        kept = np.setdiff1d(region[core], 0)
        keep[kept] = np.arange(number + 1, number + 1 + len(kept))
        number += len(kept)
        np.maximum(parts[place], keep[region][1:-1, 1:-1], out=parts[place])
    return parts


def repaired(labels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Labels (H, W) whose zeros inside take the commonest label among their eight neighbors, again and again.

    What touches no label stays 0.
    """
    labels = labels.copy()
    while (missing := np.flatnonzero((labels == 0) & inside)).size:
        padded = np.pad(labels, 1)
        rows, columns = np.unravel_index(missing, labels.shape)
        neighbors = np.stack(
            [padded[rows + i, columns + j] for i in range(3) for j in range(3) if (i, j) != (1, 1)], axis=1
        )
        votes = ((neighbors[:, :, None] == neighbors[:, None, :]) & (neighbors[:, :, None] > 0)).sum(axis=2)
        best = votes.argmax(axis=1)
        chosen = neighbors[np.arange(len(missing)), best]
        if not chosen.any():
            break
        labels.flat[missing] = chosen
    return labels


def adapted_rand_error(truth: np.ndarray, found: np.ndarray, ignored: int | None = None) -> float:
    """1 - F-score of the pairs of pixels that two label maps put together.

    Args:
        truth: Labels.
        found: Labels of the same shape.
        ignored: Pixels with this true label do not count; None where all do.
    """
    counted = np.ones(truth.shape, dtype=bool) if ignored is None else truth != ignored
    _, first = np.unique(truth[counted], return_inverse=True)
    _, second = np.unique(found[counted], return_inverse=True)
    pairs, own, other = (
        float(np.square(np.unique(labels, return_counts=True)[1].astype(np.float64)).sum())
        for labels in (first.astype(np.int64) * (second.max(initial=0) + 1) + second, first, second)
    )
    return 1.0 - 2.0 * pairs / (own + other)


def _agreement(samples: np.ndarray) -> np.ndarray:
    """(H, W), in how many samples a pixel has the color of its right, lower, left and upper neighbor, summed."""
    votes = np.zeros(samples.shape[1:], dtype=np.int32)
    for axis in (1, 2):
        same = (np.diff(samples.astype(np.int16), axis=axis) == 0).sum(axis=0, dtype=np.int32)
        before, after = [(0, 0), (0, 0)], [(0, 0), (0, 0)]
        before[axis - 1], after[axis - 1] = (1, 0), (0, 1)
        votes += np.pad(same, before) + np.pad(same, after)
    return votes


def _differing(vectors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Share of the samples in which each of the vectors (K, N) differs from one (K,)."""
    differing: np.ndarray = (vectors != reference[:, None]).mean(axis=0)
    return differing
