"""One call from a volume and a request to samples and statistics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from MedSegUncertaintyLib import __version__
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.inference.device import choose_device, describe_device, free_bytes
from MedSegUncertaintyLib.inference.engine import Engine
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.store import find_package
from MedSegUncertaintyLib.packages.weights import load_sampler
from MedSegUncertaintyLib.uncertainty.samples import SampleSet
from MedSegUncertaintyLib.uncertainty.statistics import StatisticsStream, most_probable
from MedSegUncertaintyLib.volumes.geometry import Volume
from MedSegUncertaintyLib.volumes.intensity import apply
from MedSegUncertaintyLib.volumes.placement import Placement


@torch.inference_mode()
def segment(
    volume: Volume,
    request: InferenceRequest,
    *,
    progress: Callable[[Progress], None] | None = None,
    cancel: CancelToken | None = None,
) -> InferenceResult:
    """Draw the requested samples and gather their statistics, all on the grid of ``volume``.

    Args:
        volume: The image.
        request: Package, number of samples, seed, region of interest, device.
        progress: Called at the start of each stage and after each tile and sample, in this thread.
        cancel: Checked before every layer of the network and every pass of draws.

    Raises:
        BadInputError: The package, the region or the device cannot be used with this volume.
        CanceledError: The token was set; nothing is left behind.
        MemoryExhaustedError: Nothing fits, however small.
    """
    started = time.monotonic()
    package = find_package(request.package)
    placement = plan(volume, package, request)
    image = apply(placement.to_model(volume), package.intensity)
    device = choose_device(request.device)
    model = load_sampler(package, device)
    engine = Engine(model, device, request.allow_cpu, cancel or CancelToken(), progress)
    noise = NoiseSource(request.seed, request.temperature)
    box_geometry = volume.geometry.cropped(placement.box)
    samples, stream = SampleSet(box_geometry.shape_kji), StatisticsStream(box_geometry.voxel_volume_ml)
    outside = None if placement.inside_roi is None else torch.from_numpy(~placement.inside_roi)
    # Probabilities, running sums and temporaries; the network's share comes on top and has its own ladder.
    needed = 4 * 6 * model.classes * math.prod(box_geometry.shape_ijk)
    home = device if needed < 0.5 * free_bytes(device) else torch.device("cpu")
    for on_model_grid in engine.sample(torch.from_numpy(image).unsqueeze(0), request.samples, noise):
        probabilities = placement.soft_to_box(on_model_grid.to(home))
        if outside is not None:
            _make_background(probabilities, outside)
        labels = most_probable(probabilities)
        stream.update(probabilities, labels)
        samples.append(labels.cpu().numpy())
    provenance = _provenance(engine, time.monotonic() - started, placement)
    return InferenceResult(
        request, package, volume.name, volume.geometry, placement.box, samples, stream.result(), provenance
    )


def plan(volume: Volume, package: ModelPackage, request: InferenceRequest) -> Placement:
    """Where the model looks.

    Raises:
        BadInputError: The package needs a region of interest and there is none, or the region does not fit.
    """
    if package.roi.required and request.roi is None:
        raise BadInputError(f"The model {package.name} needs a region of interest. {package.roi.where}")
    return Placement.plan(volume.geometry, package.grid, request.roi)


def _make_background(probabilities: torch.Tensor, outside: torch.Tensor) -> None:
    """Set voxels outside of the region of interest to certain background, in place."""
    outside = outside.to(probabilities.device)
    probabilities[0].masked_fill_(outside, 1.0)
    probabilities[1:].masked_fill_(outside, 0.0)


def _provenance(engine: Engine, seconds: float, placement: Placement) -> dict[str, Any]:
    return {
        "device": describe_device(engine.plan.device),
        "seconds": round(seconds, 2),
        "draws_per_pass": engine.plan.draws,
        "longest_tile_edge": engine.plan.edge,
        "model_grid": placement.model.to_json(),
        "versions": {
            "medseg-uncertainty": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
