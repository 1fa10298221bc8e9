"""Figures of a package on held-out cases, measured through the same inference that users run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from MedSegUncertaintyLib.evaluation.overlap import dice
from MedSegUncertaintyLib.inference.progress import Progress, StageClock
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.training.data import CaseFiles
from MedSegUncertaintyLib.volumes.geometry import RegionOfInterest, Volume
from MedSegUncertaintyLib.volumes.reading import read_labels, read_volume

SAMPLES = 16


def validate_package(
    package: ModelPackage, cases: list[CaseFiles], progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Dice of the mean prediction and coverage of the volume interval, per structure, over ``cases``.

    Returns:
        Plain JSON types; the conventions are named in the keys.
    """
    clock = StageClock("validate", len(cases), progress)
    rows = []
    for case in cases:
        image, reader = read_volume(case.image), read_labels(case.label).array
        request = InferenceRequest(str(package.folder), samples=SAMPLES, seed=0, roi=whole_region(image))
        rows.append(clock.counted(case_figures(segment(image, request), reader)))
    return {
        "cases": len(cases),
        "samples": SAMPLES,
        "structures": {
            structure.name: {key: _summary(key, [row[structure.name][key] for row in rows]) for key in _KEYS}
            for structure in package.structures
        },
    }


_KEYS = (
    "dice_of_mean_prediction",
    "mean_dice_of_single_samples",
    "mean_pairwise_dice_of_samples",
    "reader_volume_inside_90_percent_interval",
    "interval_width_percent_of_reader_volume",
)


def case_figures(result: InferenceResult, reader: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Figures of one case per structure; ``reader`` are the reader's labels on the input grid."""
    truth = reader[result.box.slices_kji]
    figures = {}
    for index, structure in enumerate(result.structures):
        mask = truth == structure.label
        spread = result.summary["structures"][index]["volume_ml"]
        volume = mask.sum() * result.geometry.voxel_volume_ml
        prediction = result.statistics.prediction == structure.label
        singles = [dice(labels == structure.label, mask, both_empty=1.0) for labels in result.samples]
        values = (
            dice(prediction, mask, both_empty=1.0),
            float(np.mean(singles)),
            result.summary["structures"][index]["mean_pairwise_dice"],
            float(spread["q05"] <= volume <= spread["q95"]),
            100.0 * (spread["q95"] - spread["q05"]) / volume if volume else None,
        )
        figures[structure.name] = dict(zip(_KEYS, values, strict=True))
    return figures


def card_figures(figures: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    lines = [
        f"{figures['cases']} held-out cases, {figures['samples']} samples each, argmax of the mean probability; the "
        "interval is the 5 % to 95 % quantile of the sample volumes.",
        "",
        "| structure | Dice of the mean prediction, mean (SD) | Dice of single samples | Dice between samples "
        "| reader's volume inside the interval | width of the interval / reader's volume |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in figures["structures"].items():
        overlap, singles, pairs, inside, width = (row[key] for key in _KEYS)
        lines.append(
            f"| {name} | {overlap['mean']:.3f} ({overlap['sd']:.3f}) | {singles['mean']:.3f} | {pairs['mean']:.3f} "
            f"| {inside['count']} of {figures['cases']} | {width.get('mean', float('nan')):.0f} % |"
        )
    return "\n".join(lines)


def whole_region(volume: Volume) -> RegionOfInterest:
    """A region of interest that holds the whole volume."""
    shape = np.array(volume.geometry.shape_ijk)
    corners = volume.geometry.to_ras(np.stack([np.zeros(3), shape - 1.0]))
    extent = np.abs(volume.geometry.direction) @ (shape * volume.geometry.spacing)
    center = corners.mean(axis=0)
    return RegionOfInterest((center[0], center[1], center[2]), (extent[0], extent[1], extent[2]))


def _summary(key: str, values: list[float | None]) -> dict[str, float]:
    """Mean, SD and minimum; cases in which a figure is not defined (an empty reader's mask) do not count."""
    defined = [value for value in values if value is not None]
    if key == "reader_volume_inside_90_percent_interval":
        return {"count": int(sum(defined)), "fraction": float(np.mean(defined))}
    if not defined:
        return {}
    return {"mean": float(np.mean(defined)), "sd": float(np.std(defined)), "minimum": float(np.min(defined))}
