"""Changes of a whole stack and its examples under which a network should give the same answer, and their way back.

Tyche's in-context test-time augmentation (Rakic et al., "Tyche: Stochastic In-Context Learning for Medical Image
Segmentation", CVPR 2024, Tyche-IS): query and examples are changed together, the answers are changed back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

DEGREES, SCALE, SHIFT = 10.0, 0.08, 0.04
"""Largest rotation, relative change of size, and shift in shares of the square, both ways."""
GAMMA, CONTRAST, BRIGHTNESS = 0.25, 0.15, 0.06
"""Largest change of the logarithm of the exponent, of the contrast and of the brightness, both ways."""


@dataclass(frozen=True)
class Change:
    """A pose and intensities.

    Attributes:
        matrix: 3 x 3, from places in the changed square to places in the given one, both from -1 to 1.
        gamma: Exponent of the intensities.
        contrast: Factor about one half.
        brightness: What is added.
    """

    matrix: np.ndarray
    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0

    @classmethod
    def none(cls) -> Change:
        """Leaves everything as it is."""
        return cls(np.eye(3))

    @classmethod
    def random(cls, rng: np.random.Generator) -> Change:
        """A flip or quarter turn, a small affine map, and other intensities."""
        angle, scale = np.deg2rad(rng.uniform(-DEGREES, DEGREES)), np.exp(rng.uniform(-SCALE, SCALE))
        pose = np.diag([*rng.choice([-1.0, 1.0], 2), 1.0])
        pose = pose[[1, 0, 2]] if rng.random() < 0.5 else pose
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        affine = np.eye(3)
        affine[:2, :2], affine[:2, 2] = turn, rng.uniform(-2 * SHIFT, 2 * SHIFT, 2)
        gamma, contrast = float(np.exp(rng.uniform(-GAMMA, GAMMA))), float(rng.uniform(1 - CONTRAST, 1 + CONTRAST))
        return cls(affine @ pose, gamma, contrast, float(rng.uniform(-BRIGHTNESS, BRIGHTNESS)))

    @property
    def is_none(self) -> bool:
        """Whether it leaves everything as it is."""
        return np.array_equal(self.matrix, np.eye(3)) and (self.gamma, self.contrast, self.brightness) == (1, 1, 0)

    def images(self, images: Tensor) -> Tensor:
        """Changed images (n, size, size), 0 to 1; what comes in from beyond the square is 0."""
        if self.is_none or not len(images):
            return images
        moved = _moved(images, self.matrix, "zeros").clamp(0, 1) ** self.gamma
        return ((moved - 0.5) * self.contrast + 0.5 + self.brightness).clamp(0, 1)

    def masks(self, masks: Tensor) -> Tensor:
        """Changed masks (n, size, size), 0 to 1."""
        return masks if self.is_none or not len(masks) else _moved(masks, self.matrix, "zeros")

    def back(self, logits: Tensor) -> Tensor:
        """Logits (n, size, size) of changed images where they belong in the given ones."""
        return logits if self.is_none else _moved(logits, np.linalg.inv(self.matrix), "border")


def _moved(maps: Tensor, matrix: np.ndarray, padding: str) -> Tensor:
    theta = torch.from_numpy(matrix[:2].astype(np.float32)).to(maps.device).expand(len(maps), -1, -1)
    grid = functional.affine_grid(theta, [len(maps), 1, *maps.shape[1:]], align_corners=False)
    return functional.grid_sample(maps[:, None], grid, padding_mode=padding, align_corners=False)[:, 0]
