"""Random changes of one training case. MONAI's transforms take ten times as long on small 2D patches."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from MedSegUncertaintyLib.training.recipe import Augmentation, Stage

BLUR_SHARE, BIAS_SHARE, GAMMA_SHARE, NOISE_SHARE = 0.2, 0.3, 0.5, 0.3
"""Shares of the patches that get each change of intensities."""
BIAS_KNOTS = 4
"""Per axis; between them the bias field is interpolated."""


def random_patch(
    image: Tensor, label: Tensor, stage: Stage, rule: Augmentation, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A patch at a random place, in a random pose and with random intensities.

    Args:
        image: (channels, *spatial) float32, normalized.
        label: (1, *spatial) float32, whole numbers.
        stage: Size of the patch, and what it shows beyond the image.
        rule: Ranges of the changes.
        rng: Source of all randomness.

    Returns:
        Image (channels, *patch) and label (1, *patch); patches of the recipe are x, y, z, arrays are z, y, x.
    """
    size = stage.patch[::-1]
    grid = sampling_grid(image.shape[1:], size, *random_pose(rule, len(size), rng))
    patch = functional.grid_sample(image[None], grid, "bilinear", stage.padding, align_corners=True)[0]
    labels = functional.grid_sample(label[None], grid, "nearest", "zeros", align_corners=True)[0]
    return random_intensities(patch, rule, rng), labels


def random_pose(rule: Augmentation, dims: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (dims, dims) and shift (dims,) from the patch to the image, in voxels along x, y, z about the centers.

    Without rotation and scaling the matrix has one 1 or -1 per row and the shift is whole, so nothing is interpolated.
    """
    matrix, shift = np.eye(dims), rng.uniform(-rule.shift_voxels, rule.shift_voxels, dims)
    if rng.random() < rule.warp_share:
        for first, second in [(0, 1), (0, 2), (1, 2)][: 1 if dims == 2 else 3]:
            angle = np.deg2rad(rng.uniform(-rule.rotate_degrees, rule.rotate_degrees))
            matrix = matrix @ _rotation(dims, first, second, np.cos(angle), np.sin(angle))
        matrix = matrix * (1.0 + rng.uniform(-rule.scale, rule.scale, dims))
    else:
        shift = shift.round()
    if rule.quarter_turns:
        cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][rng.integers(4)]
        matrix = matrix @ _rotation(dims, 0, 1, cosine, sine)
    flips = [-1.0 if axis in rule.flip_axes and rng.random() < 0.5 else 1.0 for axis in range(dims)]
    return matrix * flips, shift


def sampling_grid(shape: torch.Size, size: list[int], matrix: np.ndarray, shift: np.ndarray) -> Tensor:
    """Where :func:`torch.nn.functional.grid_sample` finds the voxels of a patch, (1, *size, dims), corners aligned."""
    places = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in size], indexing="ij")[::-1], axis=-1)
    half = np.maximum((np.array(shape[::-1]) - 1) / 2, 0.5)
    return torch.from_numpy(((places @ matrix.T + shift) / half).astype(np.float32))[None]


def random_intensities(image: Tensor, rule: Augmentation, rng: np.random.Generator) -> Tensor:
    """Blur, smooth bias, gamma and noise, each in a share of the patches."""
    from monai.networks.layers import GaussianFilter

    dims = image.ndim - 1
    if rng.random() < BLUR_SHARE:
        image = GaussianFilter(dims, rng.uniform(0.0, rule.blur_voxels))(image[None])[0]
    if rng.random() < BIAS_SHARE:
        knots = rng.uniform(-rule.bias_field, rule.bias_field, (1, 1, *[BIAS_KNOTS] * dims)).astype(np.float32)
        mode = "bilinear" if dims == 2 else "trilinear"
        field = functional.interpolate(torch.from_numpy(knots), image.shape[1:], mode=mode, align_corners=True)
        image = image * field[0].exp()
    if rng.random() < GAMMA_SHARE:
        image = with_gamma(image, rng.uniform(rule.contrast_gamma[0], rule.contrast_gamma[1]))
    if rng.random() < NOISE_SHARE:
        noise = rng.standard_normal(tuple(image.shape), np.float32)
        image = image + rng.uniform(0.0, rule.noise) * torch.from_numpy(noise)
    return image


def with_gamma(image: Tensor, gamma: float) -> Tensor:
    """The image with the exponent ``gamma`` on its range of values, then with its earlier mean and SD."""
    low, high = image.min(), image.max()
    changed = ((image - low) / (high - low).clamp(min=1e-6)) ** gamma
    return (changed - changed.mean()) / changed.std().clamp(min=1e-6) * image.std() + image.mean()


def _rotation(dims: int, first: int, second: int, cosine: float, sine: float) -> np.ndarray:
    """Rotation in the plane of two axes."""
    matrix = np.eye(dims)
    matrix[[first, second], [first, second]] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix
