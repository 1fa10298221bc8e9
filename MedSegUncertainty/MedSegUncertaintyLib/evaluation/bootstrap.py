"""How far a mean over images would move with other patients."""

from __future__ import annotations

import numpy as np


def patient_interval(
    totals: np.ndarray, counts: np.ndarray, patients: np.ndarray, *, resamples: int, seed: int
) -> tuple[float, float] | None:
    """95 % percentile interval of ``totals.sum() / counts.sum()`` when patients are drawn with replacement.

    Images of one patient are alike, so they come and go together.

    Args:
        totals: (N,), sum of what was measured in each image.
        counts: (N,), how many values that sum has; 0 for an image without one.
        patients: (N,), who the image is of; equal values mean the same patient.
        resamples: How often to draw as many patients as there are.
        seed: The same seed and patients give the same draws, so intervals of several figures are paired.

    Returns:
        Lower and upper end, or None if only one patient has values.
    """
    names, owner = np.unique(patients, return_inverse=True)
    total, count = (np.bincount(owner, values, len(names)) for values in (totals, counts))
    if np.count_nonzero(count) < 2:
        return None
    drawn = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    sums, sizes = total[drawn].sum(axis=1), count[drawn].sum(axis=1)
    low, high = np.quantile(sums[sizes > 0] / sizes[sizes > 0], (0.025, 0.975))
    return float(low), float(high)
