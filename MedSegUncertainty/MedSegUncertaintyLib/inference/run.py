"""One call from a volume and a request to samples and statistics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from MedSegUncertaintyLib.errors import BadInputError, MemoryExhaustedError, PackageError
from MedSegUncertaintyLib.inference.channels import check_images, in_order, model_image
from MedSegUncertaintyLib.inference.device import (
    choose_device,
    describe_device,
    free_bytes,
    is_out_of_memory,
    return_large_blocks,
)
from MedSegUncertaintyLib.inference.engine import Engine
from MedSegUncertaintyLib.inference.kept import Kept
from MedSegUncertaintyLib.inference.noise import Between, Noise, NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress
from MedSegUncertaintyLib.inference.request import MAX_SAMPLES, InferenceRequest
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.inference.walking import SliceWalker
from MedSegUncertaintyLib.models.registry import BY_EXAMPLE
from MedSegUncertaintyLib.models.sampler import scale_name
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.store import find_package
from MedSegUncertaintyLib.packages.weights import load_sampler
from MedSegUncertaintyLib.uncertainty.samples import SampleSet
from MedSegUncertaintyLib.uncertainty.statistics import StatisticsStream, most_probable
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume
from MedSegUncertaintyLib.volumes.placement import Placement

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.registry import SamplerModule


@dataclass(frozen=True)
class Prepared:
    """All that has to be there before a first sample.

    Attributes:
        request: What was asked for.
        package: Its package.
        placement: Where the model looks.
        engine: The model, with all that the request says about its draws.
        image: What the engine takes, (channels, *spatial).
        record: What the provenance says of the channels.
    """

    request: InferenceRequest
    package: ModelPackage
    placement: Placement
    engine: Engine
    image: torch.Tensor
    record: list[dict[str, Any]]

    @property
    def noise(self) -> NoiseSource:
        """Noise of the request's samples."""
        scales = enumerate(self.request.scales)
        frozen = {scale_name(number): scale.frozen for number, scale in scales if scale.frozen is not None}
        return NoiseSource(self.request.seed, self.request.temperature, frozen)


@torch.inference_mode()
def segment(
    volume: Volume,
    request: InferenceRequest,
    *,
    channels: Mapping[str, Volume] | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: CancelToken | None = None,
    preview: Callable[[StatisticsStream, Geometry], None] | None = None,
    kept: Kept | None = None,
) -> InferenceResult:
    """Draw the requested samples and gather their statistics, all on the grid of ``volume``.

    Args:
        volume: The image; of a package with several channels, the first one.
        request: Package, number of samples, seed, region of interest, device.
        channels: The other channels of the package by role, each on a grid of its own (see ``volumes.alignment``).
        progress: Called at the start of each stage and after each tile and sample, in this thread.
        cancel: Checked before every layer of the network and every pass of draws.
        preview: Called after each sample but the last with the statistics so far and their grid, in this thread.
        kept: What an earlier run left, and where this one leaves its model and the encoding of its image.

    Raises:
        BadInputError: The package, the region, the channels or the device cannot be used with this volume.
        CanceledError: The token was set; nothing is left behind.
        MemoryExhaustedError: Nothing fits, however small.
        PackageError: The package is damaged or its network is of another kind.
    """
    started = time.monotonic()
    prepared = prepare(volume, request, channels=channels, progress=progress, cancel=cancel, kept=kept)
    package, placement, engine = prepared.package, prepared.placement, prepared.engine
    samples, stream = gather(prepared, prepared.noise, request.samples, preview)
    provenance = _provenance(engine, time.monotonic() - started, placement)
    provenance |= {"channels": prepared.record, "scaled": volume.scaled}
    return InferenceResult(
        request, package, volume.name, volume.geometry, placement.box, samples, stream.result(), provenance
    )


def interpolate(
    volume: Volume,
    request: InferenceRequest,
    first: int,
    second: int,
    steps: int = 9,
    *,
    channels: Mapping[str, Volume] | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: CancelToken | None = None,
    kept: Kept | None = None,
) -> SampleSet:
    """Segmentations on the way from one sample to another; of every family whose samples come from noise.

    Args:
        volume: As for :func:`segment`.
        request: As for :func:`segment`; its number of samples does not matter.
        first: Number of the sample at the beginning, counted from 0; it need not have been drawn before.
        second: Number of the sample at the end.
        steps: Number of segmentations, both ends included.
        channels: As for :func:`segment`, and so is the rest.
        progress: Likewise.
        cancel: Likewise.
        kept: Likewise.

    Raises:
        BadInputError: As :func:`segment`, or a number is out of range.
    """
    if not (0 <= first < MAX_SAMPLES and 0 <= second < MAX_SAMPLES and 2 <= steps <= MAX_SAMPLES):
        raise BadInputError(f"Give samples from 0 to {MAX_SAMPLES - 1} and at least 2 steps to interpolate.")
    prepared = prepare(volume, request, channels=channels, progress=progress, cancel=cancel, kept=kept)
    return gather(prepared, Between(prepared.noise, first, second, steps), steps)[0]


def prepare(
    volume: Volume,
    request: InferenceRequest,
    *,
    channels: Mapping[str, Volume] | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: CancelToken | None = None,
    kept: Kept | None = None,
) -> Prepared:
    """Find and check everything, and load the model; arguments and errors as those of :func:`segment`."""
    cancel = cancel or CancelToken()
    package = find_package(request.package)
    if package.family in BY_EXAMPLE:
        raise BadInputError(f"The model {package.name} segments by example; outline some slices and use propagate.")
    images = in_order(package, volume, channels or {})
    placement = plan(volume, package, request)
    record = check_images(package, placement, images)
    device = choose_device(request.device)
    return_large_blocks()
    model = load_sampler(package) if kept is None else kept.model(package)
    if model.spatial_dims == 2:
        model = walker(model, package, placement.model)
    controls = draw_controls(model, package, request)
    image = torch.from_numpy(model_image(package, placement, images))
    cancel.check()
    engine = Engine(model, device, request.allow_cpu, cancel, progress, kept, controls)
    return Prepared(request, package, placement, engine, image, record)


def draw_controls(model: SamplerModule, package: ModelPackage, request: InferenceRequest) -> dict[str, torch.Tensor]:
    """What a request sets of the model's draws.

    Raises:
        BadInputError: The model has no such control, or it does not fit the structures, the scales or the steps.
    """
    controls = {}
    if request.class_weights:
        if "class_weights" not in model.controls:
            raise BadInputError(f"The samples of {package.name} have no class weights; leave them out.")
        if len(request.class_weights) != len(package.structures):
            raise BadInputError(
                f"{package.name} has {len(package.structures)} structures and needs a class weight for each, not "
                f"{len(request.class_weights)}."
            )
        controls["class_weights"] = torch.tensor([1.0, *request.class_weights])  # the background as trained
    if request.scales:
        package.check_scales(len(request.scales))
        controls["scales"] = torch.tensor([scale.temperature for scale in request.scales])
    if request.steps is not None:
        package.check_steps(request.steps)
        controls["steps"] = torch.tensor([request.steps])
    return controls


@torch.inference_mode()
def gather(
    prepared: Prepared,
    noise: Noise,
    count: int,
    preview: Callable[[StatisticsStream, Geometry], None] | None = None,
) -> tuple[SampleSet, StatisticsStream]:
    """Samples and statistics on the box of the input's grid.

    Raises:
        MemoryExhaustedError: The maps do not fit, wherever they are.
    """
    engine, placement = prepared.engine, prepared.placement
    geometry = placement.input.cropped(placement.box)
    samples, stream = SampleSet(geometry.shape_kji), StatisticsStream(geometry.voxel_volume_ml)
    outside = None if placement.inside_roi is None else torch.from_numpy(~placement.inside_roi)
    home: torch.device | None = None
    try:
        for drawn in engine.sample(prepared.image, count, noise):
            home = home or _home(drawn, geometry)
            probabilities = placement.soft_to_box(drawn.to(home))
            if outside is not None:
                _make_background(probabilities, outside)
            engine.cancel.check()
            labels = most_probable(probabilities)
            stream.update(probabilities, labels)
            samples.append(labels.cpu().numpy())
            engine.cancel.check()
            if preview is not None and stream.count < count:
                preview(stream, geometry)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryExhaustedError(
            "There is not enough memory for the maps of this volume; give a smaller region of interest."
        ) from error
    return samples, stream


def _home(drawn: torch.Tensor, geometry: Geometry) -> torch.device:
    """Where the maps are gathered: beside the draws if half of what is free holds them, else on the CPU."""
    # Probabilities, mean, sum of squares, votes and temporaries.
    needed = 4 * 6 * len(drawn) * math.prod(geometry.shape_ijk)
    return drawn.device if needed < 0.5 * free_bytes(drawn.device) else torch.device("cpu")


def walker(model: SamplerModule, package: ModelPackage, grid: Geometry) -> SamplerModule:
    """A 2D model as one that walks along K of the model's grid.

    Raises:
        PackageError: The package does not say how far its slices are correlated.
    """
    if package.walk_correlation_mm is None:
        raise PackageError(
            f"The model {package.name} is for single slices, and its package gives no correlation length to walk "
            "through a volume."
        )
    return cast("SamplerModule", SliceWalker(model, package.walk_correlation_mm / float(grid.spacing[2])))


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
        "longest_tile_edge": engine.plan.edge,
        "model_grid": placement.model.to_json(),
    }
