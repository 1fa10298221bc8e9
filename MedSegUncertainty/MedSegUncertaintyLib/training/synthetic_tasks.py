"""Segmentation tasks out of smooth noise, for networks that learn to learn from examples.

After the synthetic tasks of UniverSeg (Butoi et al., ICCV 2023, appendix; their notebook states the ranges): a label
map is the argmax of smooth noise, a subject is the same map under another smooth warp, and every label has a mean and
a texture of its own. Here half of the tasks are stacks instead of subjects: the noise goes on through the slices, so
that structures move, begin and end as they do in a volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import SimpleITK as sitk

FEWEST_LABELS, MOST_LABELS = 2, 12
KNOT_PIXELS = (3, 12)
"""Edge of a cell of the noise that becomes labels, in 64ths of the image, times two."""
STACK_KNOTS = (2, 5)
"""Knots of that noise along the slices of a stack."""


@dataclass(frozen=True)
class LabeledImages:
    """Images of one kind with their label maps.

    Attributes:
        images: (n, size, size) uint8; 255 is 1.0.
        labels: (n, size, size) uint8, label numbers.
        is_stack: Whether they are neighboring slices of one volume, in their order.
    """

    images: np.ndarray
    labels: np.ndarray
    is_stack: bool


def synthetic_images(size: int, count: int, seed: tuple[int, ...]) -> LabeledImages:
    """The images of one task.

    Args:
        size: Edge in pixels.
        count: Subjects or slices.
        seed: Decides everything about the task.
    """
    rng = np.random.default_rng(seed)
    labels, is_stack = int(rng.integers(FEWEST_LABELS, MOST_LABELS + 1)), bool(rng.random() < 0.5)
    cells = max(2, round(64 / rng.uniform(*KNOT_PIXELS) / 2))
    depth = int(rng.integers(*STACK_KNOTS, endpoint=True)) if is_stack else 1
    shape = (count if is_stack else 1, size, size)
    strength = np.stack([_smooth((depth, cells, cells), shape, rng) for _ in range(labels)])
    strength += rng.normal(0, 0.4, (labels, 1, 1, 1))  # some labels are rare
    base = strength.argmax(axis=0).astype(np.uint8)
    maps = _warped(base, rng.uniform(0.5, 3.0), rng) if is_stack else _subjects(base[0], count, rng)
    images = _images(maps, labels, is_stack, rng)
    # An organ is one piece beside others that look alike; a tissue is all that looks alike.
    return LabeledImages(images, _pieces(maps, labels) if is_stack and rng.random() < 0.6 else maps, is_stack)


def _pieces(maps: np.ndarray, labels: int) -> np.ndarray:
    """The largest connected pieces of all labels as labels of their own; 0 is the rest."""
    pieces = np.zeros(maps.shape, dtype=np.int64)
    for label in range(labels):
        own = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray((maps == label).astype(np.uint8))))
        pieces[own > 0] = own[own > 0] + pieces.max()
    largest = np.argsort(-np.bincount(pieces.ravel())[1:])[:MOST_LABELS] + 1
    return ((np.searchsorted(np.sort(largest), pieces) + 1) * np.isin(pieces, largest)).astype(np.uint8)


def _smooth(knots: tuple[int, int, int], shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise (slices, size, size): a cubic B-spline through as many cells along each axis as ``knots`` says."""
    noise = rng.standard_normal([cells + 3 for cells in knots]).astype(np.float32)
    along, rows, columns = (_spline(cells, size) for cells, size in zip(knots, shape, strict=True))
    return np.tensordot(along, rows @ noise @ columns.T, axes=1)


@lru_cache(maxsize=256)
def _spline(cells: int, size: int) -> np.ndarray:
    """Matrix (size, cells + 3) from coefficients of a uniform cubic B-spline to its values at pixel centers."""
    places = (np.arange(size) + 0.5) * cells / size
    first, t = np.floor(places).astype(int), places % 1
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (t**2 + t - t**3) + 1, t**3], axis=1) / 6
    matrix = np.zeros((size, cells + 3), dtype=np.float32)
    matrix[np.arange(size)[:, None], first[:, None] + np.arange(4)] = weights
    return matrix


def _subjects(base: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The same map under ``count`` warps that have nothing to do with each other."""
    strength = rng.uniform(1.0, 7.0)
    return np.concatenate([_warped(base[None], strength, rng, affine=True) for _ in range(count)])


def _warped(maps: np.ndarray, strength: float, rng: np.random.Generator, affine: bool = False) -> np.ndarray:
    """Maps (n, size, size) displaced by a smooth field of about ``strength`` 64ths, and by a small affine map."""
    count, size, _ = maps.shape
    cells = int(rng.integers(2, 7))
    places = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij")).astype(np.float32)[:, None]
    places = np.repeat(places, count, axis=1)
    if affine:
        angle, scale = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(0.85, 1.15)
        matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = (size - 1) / 2
        shift = rng.uniform(-0.08, 0.08, 2) * size + middle
        places = np.einsum("ab,bnij->anij", matrix, places - middle) + shift[:, None, None, None]
    depth = 2 if count > 1 else 1
    places += np.stack([strength * size / 64 * _smooth((depth, cells, cells), maps.shape, rng) for _ in range(2)])
    rows, columns = np.clip(places.round(), 0, size - 1).astype(int)
    return maps[np.arange(count)[:, None, None], rows, columns]


def _images(maps: np.ndarray, labels: int, is_stack: bool, rng: np.random.Generator) -> np.ndarray:
    """Images of label maps: a mean and a texture per label, a bias field, blur and noise."""
    means, textures = rng.uniform(0, 1, labels), rng.uniform(0, 0.12, labels) * (rng.random(labels) < 0.7)
    wander, blur, bias = rng.uniform(0.0, 0.06), rng.uniform(0.0, 1.2), rng.uniform(0.0, 0.3)
    noise, grain = rng.uniform(0.0, 0.06), int(rng.integers(6, 32))
    size = maps.shape[1]
    images = np.empty(maps.shape, dtype=np.uint8)
    for number, one in enumerate(maps):
        if number == 0 or not is_stack:
            shown = means + rng.normal(0, wander, labels)
        texture = _smooth((1, grain, grain), (1, size, size), rng)[0]
        image = shown[one] + textures[one] * texture
        image = image * (1 + bias * _smooth((1, 2, 2), (1, size, size), rng)[0])
        image = sitk.GetArrayFromImage(
            sitk.DiscreteGaussian(sitk.GetImageFromArray(image.astype(np.float32)), [blur**2] * 2)
        )
        image += rng.normal(0, noise, image.shape)
        images[number] = np.clip(255 * image, 0, 255).round()
    return images
