"""Tasks of which a network sees some labeled images and segments another: from volumes, from 2D images, from noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.evaluation.readers import ReaderFile
from MedSegUncertaintyLib.training.recipe import TaskImages, TaskVolume
from MedSegUncertaintyLib.training.synthetic_tasks import LabeledImages
from MedSegUncertaintyLib.volumes.geometry import Volume
from MedSegUncertaintyLib.volumes.intensity import IntensityRule, apply
from MedSegUncertaintyLib.volumes.reading import read_labels, read_volume
from MedSegUncertaintyLib.volumes.squares import Square

PERCENTILES = IntensityRule("percentiles", 0.5, 99.5)
MOST_SLICES = 28
"""Of one task; longer structures are shown with gaps."""
FEWEST_SLICES, FEWEST_PIXELS = 5, 8
"""A structure that shows less of itself is no task."""
COARSEST = 3.0
"""Planes whose pixels are longer than this many times their width are not looked at."""
CROP_SCALES = (1.3, 2.6)
"""Edge of a crop in units of the longer side of its structure."""


@dataclass(frozen=True)
class Task:
    """Images with the masks of one structure.

    Attributes:
        images: (n, size, size) uint8; 255 is 1.0.
        masks: (n, size, size) uint8; 255 is 1.0, with soft edges.
        is_stack: Whether they are neighboring slices of one volume, in their order.
        name: For figures.
    """

    images: np.ndarray
    masks: np.ndarray
    is_stack: bool
    name: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def present(self) -> np.ndarray:
        """Which images show the structure, (n,) bool."""
        return (self.masks > 127).sum(axis=(1, 2)) >= FEWEST_PIXELS


def synthetic_task(source: LabeledImages, rng: np.random.Generator) -> Task | None:
    """One label of synthetic images as a task; None if the label is hardly seen."""
    label = rng.choice(np.unique(source.labels))
    masks = np.where(source.labels == label, 255, 0).astype(np.uint8)
    task = Task(source.images, masks, source.is_stack)
    return task if task.present.sum() >= 3 and masks.mean() < 0.7 * 255 else None


def volume_tasks(folder: Path, rule: TaskVolume, size: int, crops: bool, seed: int) -> Iterator[Task]:
    """Every structure of a volume in every plane, as whole slices and, on request, as crops around it.

    Raises:
        BadInputError: The image or its label map cannot be used.
    """
    image = read_volume(folder / rule.image)
    labels = _labels(folder, rule, image)
    rng = np.random.default_rng((seed, 4))
    rules = [IntensityRule("window", low, high) for low, high in rule.windows] or [PERCENTILES]
    for intensity in rules:
        scaled = apply(image.array, intensity).clip(0.0, 1.0)
        for axis in _good_axes(image):
            name = f"{rule.name}, axis {axis}"
            for label in np.setdiff1d(np.unique(labels), [0, *rule.left_out]):
                mask = np.moveaxis(labels == label, axis, 0)
                for is_crop in (False, True) if crops else (False,):
                    square = _square(mask, _plane_spacing(image, axis), size, is_crop, rng)
                    task = _stack(np.moveaxis(scaled, axis, 0), mask, square, name)
                    if task.present.sum() >= FEWEST_SLICES:
                        yield task


def image_task(folder: Path, rule: TaskImages, size: int) -> Iterator[Task]:
    """The tasks of 2D images: majority of the readers, one task per data set of the file.

    Raises:
        BadInputError: The files cannot be used.
    """
    path = folder / rule.file
    if rule.masks is not None:
        images, masks, kinds = _photographs(path, folder / rule.masks, rule.every)
    elif path.suffix == ".npz" and "images" in np.load(path):
        images, masks, kinds = _consensus_images(path)
    else:
        file = ReaderFile.read(path).every(rule.every)
        cases = [file.case(number) for number in range(len(file))]
        images = np.stack([image for image, _ in cases])
        masks = np.stack([2 * readers.sum(axis=0) >= len(readers) for _, readers in cases])
        kinds = np.zeros(len(images))
    square = Square.around((images.shape[1], images.shape[2]), (1.0, 1.0), size)
    for kind in np.unique(kinds):
        own = kinds == kind
        yield Task(_bytes(square.cut(images[own] / np.float32(255))), _bytes(square.cut(masks[own])), False, rule.name)


def _labels(folder: Path, rule: TaskVolume, image: Volume) -> np.ndarray:
    if rule.labels is None:
        return similar_pieces(image)
    labels = read_labels(folder / rule.labels)
    if not labels.geometry.matches(image.geometry):
        raise BadInputError(f"{rule.labels} does not lie on the grid of its image.")
    return labels.array


def similar_pieces(image: Volume, most: int = 24) -> np.ndarray:
    """Connected pieces of similar intensity as label map (K, J, I): the largest ``most`` but the very large."""
    smooth = sitk.GetImageFromArray(apply(image.array, PERCENTILES).clip(0.0, 1.0))
    smooth.SetSpacing(image.geometry.spacing.tolist())
    smooth = sitk.SmoothingRecursiveGaussian(smooth, 1.5)
    levels = sitk.GetArrayFromImage(sitk.OtsuMultipleThresholds(smooth, numberOfThresholds=3, numberOfHistogramBins=64))
    found = np.zeros(levels.shape, dtype=np.int64)
    for level in np.unique(levels):
        own = sitk.BinaryMorphologicalOpening(sitk.GetImageFromArray((levels == level).astype(np.uint8)), [1, 1, 1])
        pieces = sitk.GetArrayFromImage(sitk.ConnectedComponent(own)).astype(np.int64)
        found[pieces > 0] = pieces[pieces > 0] + found.max()
    counts = np.bincount(found.ravel())
    counts[0] = 0
    counts[counts > 0.15 * found.size] = 0
    kept = np.sort(np.argsort(-counts)[:most])
    return (np.searchsorted(kept, found) + 1) * np.isin(found, kept[counts[kept] > 100])


def _good_axes(image: Volume) -> list[int]:
    """Array axes across which the slices have enough pixels that are not too long."""
    return [
        axis for axis in range(3)
        if max(_plane_spacing(image, axis)) <= COARSEST * min(_plane_spacing(image, axis))
        and min(np.delete(image.array.shape, axis)) >= 24
    ]  # fmt: skip


def _plane_spacing(image: Volume, axis: int) -> tuple[float, float]:
    rows, columns = np.delete(image.geometry.spacing[::-1], axis)
    return float(rows), float(columns)


def _square(
    mask: np.ndarray, spacing: tuple[float, float], size: int, is_crop: bool, rng: np.random.Generator
) -> Square:
    """The whole slice, or a part around the structure (slices, rows, columns)."""
    whole = Square.around((mask.shape[1], mask.shape[2]), spacing, size)
    if not is_crop:
        return whole
    used = [np.flatnonzero(mask.any(axis=axes)) for axes in ((0, 2), (0, 1))]
    longest = max((own[-1] - own[0] + 1) * step for own, step in zip(used, spacing, strict=True))
    side = min(max(longest * rng.uniform(*CROP_SCALES), 16 * min(spacing)), whole.side_mm)
    slack = (side - longest) / 2 * 0.6
    row, column = (
        float((own[0] + own[-1]) / 2 + rng.uniform(-slack, slack) / step)
        for own, step in zip(used, spacing, strict=True)
    )
    return Square(whole.shape, spacing, (row, column), side, size)


def _stack(scaled: np.ndarray, mask: np.ndarray, square: Square, name: str) -> Task:
    """The slices of a structure and half as many before and after it."""
    used = np.flatnonzero(mask.any(axis=(1, 2)))
    margin = max(4, len(used) // 3)
    first, last = max(0, used[0] - margin), min(len(mask), used[-1] + 1 + margin)
    chosen = np.unique(np.linspace(first, last - 1, min(MOST_SLICES, last - first)).round().astype(int))
    return Task(_bytes(square.cut(scaled[chosen])), _bytes(square.cut(mask[chosen])), True, name)


def _bytes(values: np.ndarray) -> np.ndarray:
    return (255 * values.clip(0.0, 1.0)).round().astype(np.uint8)


def _consensus_images(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, majority of the valid masks, and data set of each image."""
    with np.load(path, allow_pickle=False) as file:
        masks = np.unpackbits(file["masks_packed"], axis=-1).astype(np.int64)
        votes = (masks * file["valid"][:, :, None, None]).sum(axis=1)
        majority = 2 * votes > file["valid"].sum(axis=1)[:, None, None]
        return file["images"], majority, file["dataset"]


def _photographs(images: Path, masks: Path, every: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photographs in gray, and the pictures of their outlines in the same order of names, at the smallest's size."""
    pairs = list(zip(sorted(images.iterdir()), sorted(masks.iterdir()), strict=True))[::every]
    opened = [(Image.open(image).convert("L"), Image.open(mask).convert("L")) for image, mask in pairs]
    edge = min(min(image.size) for image, _ in opened)
    shown = np.stack([np.asarray(image.resize((edge, edge), Image.Resampling.BILINEAR)) for image, _ in opened])
    outlines = np.stack([np.asarray(mask.resize((edge, edge), Image.Resampling.NEAREST)) > 127 for _, mask in opened])
    return shown, outlines, np.zeros(len(shown))
