"""One call from a volume and some outlined slices to samples and statistics of all slices."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from MedSegUncertaintyLib.errors import BadInputError, MemoryExhaustedError
from MedSegUncertaintyLib.inference.device import choose_device, describe_device, is_out_of_memory, return_large_blocks
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress, StageClock
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.models.registry import BY_EXAMPLE
from MedSegUncertaintyLib.packages.package import BLOCK, ModelPackage
from MedSegUncertaintyLib.packages.store import find_package
from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.propagation.guidance import guide
from MedSegUncertaintyLib.propagation.kept import Kept
from MedSegUncertaintyLib.propagation.request import PropagationRequest
from MedSegUncertaintyLib.propagation.session import FinishedSlice, Session
from MedSegUncertaintyLib.propagation.stacks import PERCENTILES
from MedSegUncertaintyLib.uncertainty.samples import SampleSet
from MedSegUncertaintyLib.uncertainty.statistics import StatisticsStream, most_probable
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume
from MedSegUncertaintyLib.volumes.intensity import IntensityRule


def propagate(
    volume: Volume,
    examples: Sequence[Example],
    request: PropagationRequest,
    *,
    progress: Callable[[Progress], None] | None = None,
    cancel: CancelToken | None = None,
    preview: Callable[[StatisticsStream, Geometry], None] | None = None,
    finished: Callable[[FinishedSlice], None] | None = None,
    start: int | None = None,
    kept: Kept | None = None,
) -> InferenceResult:
    """Draw the requested samples and gather their statistics, all on the grid of ``volume``.

    Args:
        volume: The image.
        examples: Label maps of it or of other images; their non-empty slices are the examples.
        request: Package, number of samples, seed, region of interest, device, plane and empty slices.
        progress: Called at the start of each stage and after each slice, in this thread.
        cancel: Checked before each slice.
        preview: Called after each sample but the last with the statistics so far and their grid, in this thread.
        finished: Called with each slice of the first sample as soon as it is there, before examples were left out;
            later once more with those that this changed.
        start: Slice to begin near to, along the voxel axis of ``volume`` that is perpendicular to the plane; it changes
            the order of the work only.
        kept: What an earlier run left, and where this one leaves its network and its slices.

    Raises:
        BadInputError: An example, the package, the region or the device cannot be used with this volume; or no sample
            found anything.
        CanceledError: The token was set; nothing is left behind.
        MemoryExhaustedError: Nothing fits.
    """
    started, cancel = time.monotonic(), cancel or CancelToken()
    device = choose_device(request.inference.device)
    return_large_blocks()
    package = find_package(request.inference.package)
    session = open_session(volume, examples, request, package, device, kept)
    near = None if start is None else session.stack.slice_of(start)
    try:
        with torch.inference_mode():
            shown = Shown(finished)
            if finished is not None:
                clock = StageClock("first look", len(session.stack.images), progress)
                for part in session.slices(0, near):
                    shown(clock.counted(_checked(part, cancel)))
            clock = StageClock("leave examples out", len(session.structures), progress)
            session.calibrate(cancel.check)
            clock.at(len(session.structures))
            samples, stream = gather(session, request, cancel, progress, preview, shown, near)
            guidance = guide(session, samples, cancel.check)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryExhaustedError(
            "There is not enough memory for this volume; give a smaller region of interest."
        ) from error
    if not any(labels.any() for labels in samples):
        names = " and ".join(structure.name for structure in session.structures)
        raise BadInputError(
            f"No sample found {names} in '{volume.name}'; check that the image shows it and looks like the examples."
        )
    provenance = {
        "device": describe_device(device),
        "seconds": round(time.monotonic() - started, 2),
        "scaled": volume.scaled,
        "propagation": {**session.to_json(), "guidance": guidance.to_json()},
    }
    placement = session.stack.placement
    return InferenceResult(
        request.inference,
        as_segmented(package, session),
        volume.name,
        volume.geometry,
        placement.box,
        samples,
        stream.result(),
        provenance,
    )


def open_session(
    volume: Volume,
    examples: Sequence[Example],
    request: PropagationRequest,
    package: ModelPackage,
    device: torch.device,
    kept: Kept | None = None,
) -> Session:
    """A session with the network of a package.

    Raises:
        BadInputError: The package does not segment by example, or an example cannot be used.
        PackageError: The package is damaged.
    """
    if package.family not in BY_EXAMPLE or package.square_pixels is None:
        raise BadInputError(f"The model {package.name} does not segment by example; use it with segment.")
    kept = kept or Kept()
    kept.keep_only([volume, *(example.image for example in examples if example.image is not None)])
    network = kept.network(package, device)
    return Session(volume, examples, request, network, package.square_pixels, device, kept.stack)


def as_segmented(package: ModelPackage, session: Session) -> ModelPackage:
    """The package with the structures of the examples, and with the intensities that the network saw.

    Its metadata say so, too: they are all of it that crosses to another process.
    """
    window = session.stack.window
    rule = PERCENTILES if window is None else IntensityRule("window", *window)
    own = {
        **package.metadata[BLOCK],
        "structures": [structure.to_json() for structure in session.structures],
        "modality": package.modality if window is None else "CT",
        "intensity": rule.to_json(),
    }
    return ModelPackage.from_metadata(package.folder, {**package.metadata, BLOCK: own})


def gather(
    session: Session,
    request: PropagationRequest,
    cancel: CancelToken,
    progress: Callable[[Progress], None] | None = None,
    preview: Callable[[StatisticsStream, Geometry], None] | None = None,
    finished: Callable[[FinishedSlice], None] | None = None,
    near: int | None = None,
) -> tuple[SampleSet, StatisticsStream]:
    """Samples and statistics on the box of the input's grid; see :func:`propagate`."""
    placement, count = session.stack.placement, request.inference.samples
    geometry = placement.input.cropped(placement.box)
    samples, stream = SampleSet(geometry.shape_kji), StatisticsStream(geometry.voxel_volume_ml)
    clock = StageClock("draw samples", count * len(session.stack.images), progress)
    for number in range(count):
        slices = (clock.counted(_checked(part, cancel)) for part in session.slices(number, near))
        probabilities = _volume(session, slices, finished if number == 0 else None)
        on_box = placement.soft_to_box(torch.from_numpy(probabilities))
        if placement.inside_roi is not None:
            outside = torch.from_numpy(~placement.inside_roi)
            on_box[0].masked_fill_(outside, 1.0)
            on_box[1:].masked_fill_(outside, 0.0)
        labels = most_probable(on_box)
        stream.update(on_box, labels)
        samples.append(labels.numpy())
        if preview is not None and stream.count < count:
            preview(stream, geometry)
    return samples, stream


def _volume(
    session: Session, slices: Iterable[FinishedSlice], finished: Callable[[FinishedSlice], None] | None
) -> np.ndarray:
    """Probabilities (structures + 1, slices, rows, columns) of one sample."""
    probabilities = np.empty((len(session.structures) + 1, *session.stack.images.shape), np.float32)
    for part in slices:
        probabilities[:, part.number] = part.probabilities
        if finished is not None:
            finished(part)
    return probabilities


class Shown:
    """Passes slices on whose labels are new or have changed.

    Args:
        finished: Called with them; None if nobody looks.
    """

    def __init__(self, finished: Callable[[FinishedSlice], None] | None) -> None:
        self._finished = finished
        self._labels: dict[int, np.ndarray] = {}

    def __call__(self, part: FinishedSlice) -> None:
        """A slice was found."""
        known = self._labels.get(part.number)
        if self._finished is not None and (known is None or not np.array_equal(known, part.labels)):
            self._labels[part.number] = part.labels
            self._finished(part)


def _checked(part: Any, cancel: CancelToken) -> Any:
    cancel.check()
    return part
