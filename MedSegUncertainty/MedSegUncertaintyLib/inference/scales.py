"""What varies at each scale of a model's samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from MedSegUncertaintyLib.inference.kept import Kept
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress
from MedSegUncertaintyLib.inference.request import Scale
from MedSegUncertaintyLib.inference.result import InferenceResult, ScaleReport, ScaleVariance
from MedSegUncertaintyLib.inference.run import Prepared, gather, prepare
from MedSegUncertaintyLib.volumes.geometry import Volume


def scale_report(
    volume: Volume,
    result: InferenceResult,
    *,
    channels: Mapping[str, Volume] | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: CancelToken | None = None,
    kept: Kept | None = None,
) -> ScaleReport:
    """Draw as many samples again for every scale, with the means of all others, and compare their variance.

    Args:
        volume: The image of the result.
        result: What all scales together gave; its request says seed, temperature and number of samples. Where it has
            scales of its own, their temperatures are used, and one that is frozen does not vary.
        channels: As for ``segment``, and so is the rest.
        progress: Likewise.
        cancel: Likewise.
        kept: Likewise; with it the image is not encoded again.

    Raises:
        BadInputError: The samples of the package have no scales.
    """
    count = len(result.package.scales)
    result.package.check_scales(count)
    asked = result.request.scales or (Scale(),) * count
    kept = kept or Kept()
    total = float(result.statistics.variance.sum(dtype=np.float64))
    scales = []
    for number in range(count):
        still = Scale(temperature=0.0)
        only = tuple(scale if number == own and scale.frozen is None else still for own, scale in enumerate(asked))
        request = replace(result.request, scales=only)
        prepared = prepare(volume, request, channels=channels, progress=progress, cancel=cancel, kept=kept)
        scales.append(_variance(prepared, number, total))
    return ScaleReport(result.request.samples, tuple(scales))


def _variance(prepared: Prepared, number: int, total: float) -> ScaleVariance:
    found = gather(prepared, prepared.noise, prepared.request.samples)[1].result()
    # Strides are those of arrays, whose last axis is I.
    along_ijk = zip(reversed(prepared.package.scales[number]), prepared.placement.model.spacing, strict=False)
    own = float(found.variance.sum(dtype=np.float64))
    return ScaleVariance(
        tuple(float(stride * size) for stride, size in along_ijk),
        own / total if total > 0.0 else None,
        tuple(float(sd) for sd in found.volumes_ml.std(axis=0)),
        found.variance.max(axis=0),
    )
