"""Probabilities against the share of readers, voxel by voxel; as in the authors' evaluation of PHiSeg and SSN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from MedSegUncertaintyLib.evaluation.overlap import mean_of_defined

LOG_EPS = 1e-8
"""Added to probabilities before the logarithm of :func:`reader_correlation`."""


@dataclass(frozen=True)
class CalibrationError:
    """Expected calibration error of B images and C classes.

    Attributes:
        weighted: (B, C); bins weigh as much as they have voxels.
        unweighted: (B, C); all bins that have voxels weigh the same.
    """

    weighted: np.ndarray
    unweighted: np.ndarray


def calibration_error(probabilities: np.ndarray, readers: np.ndarray, *, bins: int) -> CalibrationError:
    """Gap between the mean probability of a class and the share of readers who chose it, per image and class.

    Args:
        probabilities: (B, C, *spatial), the mean over the samples.
        readers: (B, R, *spatial), labels 0 to C - 1.
        bins: Number of bins of equal width on [0, 1], closed below, the last one on both sides.
    """
    images, classes = probabilities.shape[:2]
    flat = probabilities.reshape(images * classes, -1)
    chosen = np.stack([(readers == label).mean(axis=1) for label in range(classes)], axis=1).reshape(flat.shape)
    # One run of bins for each image and class.
    places = np.minimum((flat * bins).astype(np.intp), bins - 1) + bins * np.arange(len(flat))[:, None]

    def summed(values: np.ndarray | None) -> np.ndarray:
        weights = None if values is None else values.ravel()
        return np.bincount(places.ravel(), weights, bins * len(flat)).reshape(images, classes, bins)

    counts, gaps = summed(None), np.abs(summed(flat) - summed(chosen))
    per_bin = np.divide(gaps, counts, out=np.full(gaps.shape, np.nan), where=counts > 0)
    return CalibrationError(gaps.sum(axis=2) / flat.shape[1], mean_of_defined(per_bin, axis=2))


def reader_correlation(probabilities: np.ndarray, log_probabilities: np.ndarray, readers: np.ndarray) -> np.ndarray:
    """Whether samples vary where they differ from the readers: PHiSeg's normalized cross-correlation (NCC).

    Pearson correlation over the voxels of two cross-entropy maps, of the samples with their mean and of the samples
    with one reader, averaged over the readers.

    Args:
        probabilities: (B, C, *spatial), p, the mean over the samples.
        log_probabilities: (B, C, *spatial), the mean over the samples of log(p + :data:`LOG_EPS`).
        readers: (B, R, *spatial), labels 0 to C - 1.

    Returns:
        (B,); a reader for whom a map is constant does not count, and NaN if none is left.
    """
    images, raters = readers.shape[:2]
    among_samples = -(probabilities * log_probabilities).sum(axis=1).reshape(images, 1, -1)
    to_readers = -np.take_along_axis(log_probabilities, readers.astype(np.intp), axis=1).reshape(images, raters, -1)
    centered, centered_readers = (part - part.mean(axis=2, keepdims=True) for part in (among_samples, to_readers))
    products = (centered * centered_readers).mean(axis=2)
    spreads = among_samples.std(axis=2) * to_readers.std(axis=2)
    correlations = np.divide(products, spreads, out=np.full(products.shape, np.nan), where=spreads > 0)
    return mean_of_defined(correlations, axis=1)
