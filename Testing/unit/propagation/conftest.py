"""A volume with a ball in it, its outlines, and networks whose answers are known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.propagation.walk import Scene
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume

SIZE = 32
CENTER = (14, 15.5, 15.5)


def ball(shape: tuple[int, int, int] = (30, SIZE, SIZE), radius: float = 9.0) -> np.ndarray:
    k, j, i = np.indices(shape)
    return (k - CENTER[0]) ** 2 + (j - CENTER[1]) ** 2 + (i - CENTER[2]) ** 2 < radius**2


def oracle(target: torch.Tensor, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Knows everything: the structure is bright."""
    return 20 * (target - 0.5)


def hallucinating(target: torch.Tensor, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Finds the mean of what it is shown, whatever it sees."""
    return 20 * (masks.mean(dim=0) - 0.5)


@pytest.fixture
def make_scene() -> Callable[..., Scene]:
    """Makes a scene of a ball with outlines in some slices, and empty marks in others."""

    def make(outlined=(9, 14, 19), absent=(), radius=9.0) -> Scene:
        truth = torch.from_numpy(ball(radius=radius).astype(np.float32))
        marks = {number: truth[number] for number in outlined} | {number: torch.zeros(SIZE, SIZE) for number in absent}
        nothing = torch.zeros(0, SIZE, SIZE)
        return Scene(0.2 + 0.6 * truth, marks, nothing, nothing, pixel_mm=1.0, slice_mm=1.0)

    return make


@pytest.fixture
def ball_volume() -> Volume:
    """The bright ball in noise, 30 slices of 32 x 32 voxels of 1 mm."""
    noise = np.random.default_rng(0).normal(0, 2, (30, SIZE, SIZE))
    return Volume(
        (100 + 80 * ball() + noise).astype(np.float32), Geometry.from_parts((SIZE, SIZE, 30), (1, 1, 1)), "ball"
    )


@pytest.fixture
def ball_outlines(ball_volume: Volume) -> Volume:
    """The ball in three axial slices."""
    labels = np.zeros(ball_volume.array.shape, dtype=np.int64)
    for number in (9, 14, 19):
        labels[number] = ball()[number]
    return Volume(labels, ball_volume.geometry, "outlines")
