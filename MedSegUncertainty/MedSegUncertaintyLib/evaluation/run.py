"""Figures of a 2D package on images that several readers segmented, with what trivial models would reach."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from MedSegUncertaintyLib.errors import BadInputError, PackageError
from MedSegUncertaintyLib.evaluation import sets
from MedSegUncertaintyLib.evaluation.bootstrap import patient_interval
from MedSegUncertaintyLib.evaluation.calibration import LOG_EPS, calibration_error, reader_correlation
from MedSegUncertaintyLib.evaluation.overlap import dice_from_iou
from MedSegUncertaintyLib.evaluation.readers import ReaderBatch, ReaderFile
from MedSegUncertaintyLib.evaluation.sets import SetOverlap
from MedSegUncertaintyLib.inference.device import choose_device, describe_device
from MedSegUncertaintyLib.inference.engine import Engine
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress, StageClock
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import load_sampler
from MedSegUncertaintyLib.uncertainty.statistics import most_probable
from MedSegUncertaintyLib.volumes.intensity import IntensityRule, apply

IMAGES_PER_BATCH = 32
BINS = 10
RESAMPLES = 2000
STRUCTURE = 1
"""Label of the one structure that masks of readers show."""

CONVENTIONS = {
    "ged_squared": "Squared generalized energy distance 2 E d(S,Y) - E d(S,S') - E d(Y,Y') with d = 1 - IoU of the "
    "structure, IoU 1 if both masks are empty; expectations over all ordered pairs, those of a mask with itself "
    "included. Mean over the images. Comparable only at the same number of samples.",
    "matched_iou": "Hungarian-matched IoU (HM-IoU): samples and readers repeated to the least common multiple of their "
    "numbers, one-to-one assignment of the highest mean IoU, IoU 1 if both masks are empty. Mean over the images. "
    "Comparable only at the same number of samples.",
    "matched_iou_subset_b": "As matched_iou, over the images in which every reader drew something (subset B of the "
    "paper on HPU-Net).",
    "sample_diversity": "E d(S,S'), a term of ged_squared, as there. Mean over the images.",
    "reader_diversity": "E d(Y,Y'), a term of ged_squared, as there. Mean over the images.",
    "expected_dice": "Dice of every pair of a reader and a sample, 1 if both masks are empty. Mean over the pairs of "
    "an image, then over the images.",
    "dice_empty_excluded": "Dice of the mean prediction (argmax of the mean probability) with each reader; two empty "
    "masks do not count. Mean over the readers of all images pooled; n counts masks of readers.",
    "dice_empty_one": "As dice_empty_excluded, but Dice 1 for two empty masks.",
    "dice_lesion_readers": "As dice_empty_excluded, but only readers who drew something count.",
    "ece": f"Expected calibration error of the structure: mean probability against the share of readers, {BINS} bins "
    "of equal width over the pixels of an image, weighted by their pixels. Mean over the images.",
    "ece_unweighted": "As ece, but all bins that have pixels weigh the same.",
    "ncc": "PHiSeg's normalized cross-correlation: Pearson correlation over the pixels of the cross-entropy of samples "
    "with their mean and that of samples with a reader. Mean over the readers, then over the images where it is "
    "defined.",
}
"""How each figure is computed."""

RECONSTRUCTION = {
    "reconstruction_iou": "IoU of each reader's mask with the segmentation that the model decodes from the means of "
    "its posterior (IoU_rec of the paper on HPU-Net, which does not say how it counts empty masks); IoU 1 if both "
    "masks are empty, 0 if one is. Mean over the masks of all readers pooled.",
    "reconstruction_iou_lesion_readers": "As reconstruction_iou, but only readers who drew something count.",
    "kl": "KL divergence of posterior and prior at one scale of the latents, 0 being the coarsest, in nats: summed "
    "over its cells, with one draw from the posterior at the coarser scales. Mean over the masks of all "
    "readers pooled.",
}
"""The same of figures that only families have which can find a given segmentation again; "kl" stands for all scales."""

METHODS = {
    "model": "The samples of the package; every image has its own seed, made from the seed and its position.",
    "always_empty": "Baseline: every sample is empty.",
    "mean_only": "Baseline: every sample is the model's mean prediction.",
    "independent_pixels": "Baseline: as many samples, each pixel drawn on its own with the model's mean probability.",
    "readers": "The readers among themselves.",
    "reconstruction": "Each reader's mask, found again by way of the model's latents.",
}
"""What the figures are about."""

SET_FIGURES = {
    "ged_squared": sets.ged_squared,
    "matched_iou": sets.matched_iou,
    "sample_diversity": sets.sample_diversity,
    "expected_dice": sets.expected_dice,
}

Measured = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]
"""Sum (B,) of what was measured in each of B images and number (B,) of its terms, by figure and method."""


@dataclass(frozen=True)
class Draws:
    """What the model says about the images of a batch.

    Attributes:
        labels: (B, S, H, W) uint8.
        mean: (B, C, H, W), mean probabilities.
        mean_log: (B, C, H, W), mean of the logarithms of the probabilities.
        reconstructed: (B, R, H, W), the masks of R readers found again; R is 0 for families that cannot do this.
        divergences: (B, R, scales), KL divergence at each scale.
    """

    labels: np.ndarray
    mean: np.ndarray
    mean_log: np.ndarray
    reconstructed: np.ndarray
    divergences: np.ndarray


def evaluate(
    package: ModelPackage,
    data_path: str | Path,
    *,
    samples: int = 16,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[Progress], None] | None = None,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Compare a package's samples with several readers.

    The pixels are taken as they are, without resampling; intensities are mapped per image by the rule of the package.

    Args:
        package: A package for single 2D images with one structure.
        data_path: File that :class:`~MedSegUncertaintyLib.evaluation.readers.ReaderFile` reads.
        samples: Segmentations per image.
        seed: The same seed gives the same figures.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        progress: Called after each image.
        cancel: Checked before every layer of the network.

    Returns:
        Plain JSON types. ``figures`` has each figure of :data:`CONVENTIONS`, and of :data:`RECONSTRUCTION` where the
        family allows, with its convention and, by method, value, bootstrap interval over patients (null where there is
        none) and n, the number of values it is the mean of.

    Raises:
        BadInputError: A parameter or the data cannot be used.
        CanceledError: The token was set.
        MemoryExhaustedError: Nothing fits, however small.
        PackageError: The package is damaged or is for other images.
    """
    request = InferenceRequest(str(package.folder), samples=samples, seed=seed, device=device)
    data = ReaderFile.read(data_path)
    model = load_sampler(package)
    if (model.spatial_dims, model.channels, model.classes) != (2, 1, STRUCTURE + 1):
        raise PackageError(f"The model {package.name} is not for one 2D image and one structure, as evaluation needs.")
    engine = Engine(model, choose_device(device), request.allow_cpu, cancel or CancelToken(), None)
    measured = measure(engine, data, package.intensity, samples, seed, StageClock("evaluate", len(data), progress))
    found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for (name, method), (totals, counts) in measured.items():
        found[name][method] = _summary(totals, counts, data.patients, seed)
    order = [*CONVENTIONS, *(name for name in found if name not in CONVENTIONS)]
    figures = {name: {"convention": convention(name), "methods": found[name]} for name in order}
    return {
        "package": {"name": package.name, "version": package.version, "weights_sha256": package.weights.sha256},
        "data": {
            "file": data.name,
            "images": len(data),
            "patients": len(np.unique(data.patients)),
            "readers": data.readers,
        },
        "samples": samples,
        "sample_kind": package.sample_kind,
        "seed": seed,
        "device": describe_device(engine.plan.device),
        "interval": f"95 %, percentiles of {RESAMPLES} bootstrap resamples of the patients",
        "methods": {name: text for name, text in METHODS.items() if any(name in of for of in found.values())},
        "figures": figures,
    }


def convention(name: str) -> str:
    """How a figure is computed."""
    return CONVENTIONS.get(name) or RECONSTRUCTION["kl" if name.startswith("kl_") else name]


def measure(
    engine: Engine, data: ReaderFile, rule: IntensityRule, samples: int, seed: int, clock: StageClock
) -> Measured:
    """All figures of all images of a file; ``rule`` maps the intensities of each image.

    Raises:
        BadInputError: An image cannot be used.
    """
    parts: defaultdict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for batch in data.batches(IMAGES_PER_BATCH):
        seeds = [image_seed(seed, batch.first + index) for index in range(len(batch.images))]
        drawn = [
            clock.counted(_draw(engine, _normalized(data, batch, index, rule), batch.masks[index], samples, own))
            for index, own in enumerate(seeds)
        ]
        draws = Draws(*(np.stack(arrays) for arrays in zip(*drawn, strict=True)))
        for key, measured in _measure_batch(batch.masks, draws, seeds).items():
            parts[key].append(measured)
    return {
        key: (np.concatenate([totals for totals, _ in part]), np.concatenate([counts for _, counts in part]))
        for key, part in parts.items()
    }


def image_seed(seed: int, position: int) -> int:
    """Seed of one image's draws: with the same noise in all images, the mean over the images would not average it."""
    return int(np.random.SeedSequence((seed, position)).generate_state(1)[0])


def _normalized(data: ReaderFile, batch: ReaderBatch, index: int, rule: IntensityRule) -> torch.Tensor:
    try:
        return torch.from_numpy(apply(batch.images[index], rule)).unsqueeze(0)
    except BadInputError as error:
        raise BadInputError(f"Image {batch.first + index} of {data.name}: {error}") from error


def _draw(engine: Engine, image: torch.Tensor, masks: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, ...]:
    """What :class:`Draws` says of a batch, of one image and the masks (R, H, W) of its readers."""
    labels, sums, log_sums = [], torch.zeros(()), torch.zeros(())
    for probabilities in engine.sample(image, samples, NoiseSource(seed)):
        probabilities = probabilities.cpu()
        labels.append(most_probable(probabilities).numpy())
        sums = sums + probabilities
        log_sums = log_sums + (probabilities + LOG_EPS).log()
    again, divergences = np.zeros((0, *masks.shape[1:]), np.uint8), np.zeros((0, 0))
    if found := engine.reconstruct(image, torch.from_numpy(masks), NoiseSource(seed)):
        again = most_probable(found.logits.movedim(1, 0).cpu()).numpy()
        divergences = found.divergences.cpu().numpy()
    return np.stack(labels), (sums / samples).numpy(), (log_sums / samples).numpy(), again, divergences


def _measure_batch(readers: np.ndarray, draws: Draws, seeds: list[int]) -> Measured:
    """All figures of a batch; ``readers`` is (B, R, H, W)."""
    prediction = draws.mean.argmax(axis=1, keepdims=True).astype(np.uint8)
    # A set of equal samples has the figures of a single one.
    methods = {
        "model": draws.labels,
        "always_empty": np.zeros_like(prediction),
        "mean_only": prediction,
        "independent_pixels": _independent_pixels(draws.mean, draws.labels.shape[1], seeds),
    }
    overlaps = {
        method: SetOverlap.of(readers, samples, labels=(STRUCTURE,), both_empty=1.0)
        for method, samples in methods.items()
    }
    measured = {
        (name, method): _per_image(figure(overlap))
        for method, overlap in overlaps.items()
        for name, figure in SET_FIGURES.items()
    }
    subset_b = np.all(readers.any(axis=(2, 3)), axis=1)
    for method, overlap in overlaps.items():
        values = np.where(subset_b, sets.matched_iou(overlap), np.nan)
        measured["matched_iou_subset_b", method] = _per_image(values)
    measured["reader_diversity", "readers"] = _per_image(sets.reader_diversity(overlaps["model"]))
    for name, values in _of_mean(readers, draws, prediction):
        measured[name, "model"] = _per_image(values)
    if draws.reconstructed.shape[1]:
        for name, values in _of_reconstructions(readers, draws):
            measured[name, "reconstruction"] = _per_image(values)
    return measured


def _of_reconstructions(readers: np.ndarray, draws: Draws) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values (B, R) of the figures of masks that were found again."""
    drawn, again = readers > 0, draws.reconstructed > 0
    shared, either = ((part.sum(axis=(2, 3))) for part in (drawn & again, drawn | again))
    iou = np.divide(shared, either, out=np.ones(shared.shape), where=either > 0)
    yield "reconstruction_iou", iou
    yield "reconstruction_iou_lesion_readers", np.where(drawn.any(axis=(2, 3)), iou, np.nan)
    for scale in range(draws.divergences.shape[2]):
        yield f"kl_scale_{scale}", draws.divergences[:, :, scale]


def _of_mean(readers: np.ndarray, draws: Draws, prediction: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values, (B,) or (B, R), of the figures of the mean probabilities."""
    overlap = SetOverlap.of(readers, prediction, labels=(STRUCTURE,), both_empty=np.nan)
    dice = dice_from_iou(overlap.readers_samples[0, :, :, 0])
    yield "dice_empty_excluded", dice
    yield "dice_empty_one", np.nan_to_num(dice, nan=1.0)
    yield "dice_lesion_readers", np.where(readers.any(axis=(2, 3)), dice, np.nan)
    calibration = calibration_error(draws.mean, readers, bins=BINS)
    yield "ece", calibration.weighted[:, STRUCTURE]
    yield "ece_unweighted", calibration.unweighted[:, STRUCTURE]
    yield "ncc", reader_correlation(draws.mean, draws.mean_log, readers)


def _independent_pixels(mean: np.ndarray, samples: int, seeds: list[int]) -> np.ndarray:
    """Masks (B, S, H, W) whose pixels are drawn on their own."""
    shape = (samples, *mean.shape[2:])
    uniform = np.stack([np.random.default_rng(seed).random(shape, np.float32) for seed in seeds])
    return (uniform < mean[:, None, STRUCTURE]).astype(np.uint8)


def _per_image(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums and numbers of the values of each image that are not NaN."""
    by_image = values.reshape(len(values), -1)
    return np.nansum(by_image, axis=1), np.isfinite(by_image).sum(axis=1)


def _summary(totals: np.ndarray, counts: np.ndarray, patients: np.ndarray, seed: int) -> dict[str, Any]:
    number = int(counts.sum())
    interval = patient_interval(totals, counts, patients, resamples=RESAMPLES, seed=seed)
    return {
        "value": float(totals.sum() / number) if number else None,
        "interval_95": None if interval is None else list(interval),
        "n": number,
    }
