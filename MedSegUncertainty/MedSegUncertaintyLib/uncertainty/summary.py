"""The numbers that go into tables, ``summary.json`` and the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from MedSegUncertaintyLib.models.sample_kinds import caution
from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.uncertainty.representatives import pairwise_overlap, representatives
from MedSegUncertaintyLib.uncertainty.samples import SampleSet
from MedSegUncertaintyLib.uncertainty.statistics import Statistics
from MedSegUncertaintyLib.volumes.geometry import Geometry

BAND_MM = 2.0
"""Half width of the boundary band around the prediction's surface."""


def summarize(
    samples: SampleSet,
    statistics: Statistics,
    structures: Sequence[Structure],
    box_geometry: Geometry,
    sample_kind: str,
    inside: np.ndarray | None = None,
) -> dict[str, Any]:
    """Numbers per structure and for the whole set, as plain JSON types.

    Args:
        samples: The sampled label maps on the box.
        statistics: Their statistics on the same box.
        structures: In the order of the package.
        box_geometry: Grid of the box.
        sample_kind: What the samples are (see ``models.sample_kinds``).
        inside: Which voxels of the box were segmented, bool; ``None`` for all.
    """
    edge = region_edge(np.ones(samples.shape_kji, dtype=bool) if inside is None else inside)
    overlaps = [pairwise_overlap(samples, structure.label) for structure in structures]
    chosen = representatives(overlaps)
    return {
        "samples": statistics.count,
        "sample_kind": sample_kind,
        "spread": caution(sample_kind),
        "structures": [
            {
                "name": structure.name,
                "volume_ml": volume_spread(statistics.volumes_ml[:, index]),
                "prediction_ml": float((statistics.prediction == structure.label).sum() * box_geometry.voxel_volume_ml),
                "mean_pairwise_dice": overlaps[index].mean_dice,
                "samples_touching_region_edge": sum(structure.label in labels[edge] for labels in samples),
                "entropy_bits": band_entropy(statistics, structure.label, box_geometry),
            }
            for index, structure in enumerate(structures)
        ],
        "representatives": {
            "median_sample": chosen.median + 1,
            "most_different_samples": [chosen.most_different[0] + 1, chosen.most_different[1] + 1],
            "their_distance_1_minus_iou": chosen.distance,
        },
    }


def volume_spread(volumes_ml: np.ndarray) -> dict[str, float]:
    """Mean, SD, extremes and 5 / 50 / 95 % quantiles (linear interpolation) of one structure's sample volumes in mL."""
    low, median, high = np.quantile(volumes_ml, (0.05, 0.5, 0.95))
    return {
        "mean": float(volumes_ml.mean()),
        "sd": float(volumes_ml.std()),
        "minimum": float(volumes_ml.min()),
        "q05": float(low),
        "q50": float(median),
        "q95": float(high),
        "maximum": float(volumes_ml.max()),
    }


def region_edge(inside: np.ndarray) -> np.ndarray:
    """Voxels of a region (K, J, I) with a neighbor outside of it; axes of a single voxel do not count.

    A structure that reaches them may go on beyond, where it was not looked for.
    """
    edge = np.zeros_like(inside)
    for axis, size in enumerate(inside.shape):
        if size > 1:
            padded = np.pad(inside, [(1, 1) if other == axis else (0, 0) for other in range(3)])
            before, after = (np.take(padded, range(start, start + size), axis) for start in (0, 2))
            edge |= inside & ~(before & after)
    return edge


def boundary_band(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Voxels (K, J, I) whose centers lie within ``BAND_MM`` of the surface of ``mask``; empty for an empty mask."""
    if not mask.any():
        return np.zeros(mask.shape, dtype=bool)
    import SimpleITK as sitk  # slow, and what a result says is read without it

    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing([float(size) for size in geometry.spacing])
    distance = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    return np.abs(sitk.GetArrayFromImage(distance)) <= BAND_MM


def band_entropy(statistics: Statistics, label: int, geometry: Geometry) -> dict[str, float | None]:
    """Mean entropy (bits) in the boundary band of a predicted structure and outside it.

    Entropy is always high at edges; a high value outside the band points to places where the samples disagree about
    whether there is anything at all. ``None`` where there is no such voxel.
    """
    band = boundary_band(statistics.prediction == label, geometry)
    parts = {"in_boundary_band": band, "outside_boundary_band": ~band}
    return {
        name: float(statistics.entropy[part].mean(dtype=np.float64)) if part.any() else None
        for name, part in parts.items()
    }
