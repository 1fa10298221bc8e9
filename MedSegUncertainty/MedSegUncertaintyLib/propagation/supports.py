"""Which examples a slice is shown: all, some drawn at random, or the nearest ones where there are too many."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from MedSegUncertaintyLib.propagation.walk import Scene, SupportsOf

MOST_SUPPORTS = 64
"""UniverSeg was trained with as many at most."""
THUMBNAIL = 8
"""Edge in pixels of the pictures by which the appearance of slices is compared."""


class Pool:
    """All examples of a scene: its own marks in order, then those from other volumes.

    Args:
        scene: The scene.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._numbers = sorted(scene.marks)
        own = scene.images[self._numbers]
        self._images = torch.cat([own, scene.images_elsewhere])
        self._masks = torch.cat(
            [scene.masks_elsewhere[:0], *(scene.marks[n][None] for n in self._numbers), scene.masks_elsewhere]
        )
        self._shows = (self._masks > 0.5).flatten(1).any(dim=1).cpu().numpy()

    def __len__(self) -> int:
        return len(self._images)

    def drawn(self, rng: np.random.Generator) -> np.ndarray:
        """Places of as many examples, drawn with replacement, at least one of which shows the structure."""
        places = rng.integers(len(self), size=len(self))
        if not self._shows[places].any():
            places[0] = rng.choice(np.flatnonzero(self._shows))
        return places

    def outlined(self, places: np.ndarray) -> list[int]:
        """Numbers of the outlined slices at some places, each once."""
        own = np.unique(places[places < len(self._numbers)])
        return [self._numbers[place] for place in own if self._shows[place]]

    def supports(self, places: np.ndarray) -> SupportsOf:
        """The examples at some places for every slice; of more than 64, those most like it."""
        if len(places) <= MOST_SUPPORTS:
            chosen = self._images[places], self._masks[places]
            return lambda number: chosen
        return lambda number: self._nearest(number, places)

    def _nearest(self, number: int, places: np.ndarray) -> tuple[Tensor, Tensor]:
        """The examples whose rank by position and by appearance together is best.

        An example from another volume has no position here and ranks there as the middle one.
        """
        target = _thumbnails(self._scene.images[number][None])
        unlike = (_thumbnails(self._images[places]) - target).square().sum(dim=1).cpu().numpy()
        numbers = np.array([*self._numbers, *[np.nan] * (len(self) - len(self._numbers))])[places]
        away = np.abs(numbers - number)
        away[np.isnan(away)] = np.nanmedian(away) if len(self._numbers) else 0.0
        ranks = _ranks(unlike) + _ranks(away)
        best = places[np.argsort(ranks, kind="stable")[:MOST_SUPPORTS]]
        return self._images[best], self._masks[best]


def _thumbnails(images: Tensor) -> Tensor:
    return functional.adaptive_avg_pool2d(images[:, None], THUMBNAIL).flatten(1)


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")
