"""The cases of a training as an endless, reproducible sequence of patches."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from MedSegUncertaintyLib.training.changes import random_patch
from MedSegUncertaintyLib.training.recipe import Augmentation, Stage

Case = tuple[np.ndarray, np.ndarray]
"""Normalized image (channels, *spatial) float32, and the labels of all its readers (readers, *spatial) uint8."""


class Cases(Protocol):
    """Cases by number; all with the same number of spatial axes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Case: ...


class PatchDataset(Dataset[tuple[Tensor, Tensor]]):
    """An endless, numbered sequence of changed patches; item n depends on (seed, n) alone.

    That makes training exactly resumable and independent of the number of worker processes. Every item shows the
    labels of one reader, chosen at random, so that the order of the readers means nothing.

    Args:
        cases: The cases.
        stage: Size and padding of the patches.
        augmentation: Random changes.
        seed: Seed of the whole sequence.
    """

    def __init__(self, cases: Cases, stage: Stage, augmentation: Augmentation, seed: int) -> None:
        self._cases, self._stage, self._augmentation, self._seed = cases, stage, augmentation, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        """Image (channels, *patch) float32 and labels (*patch) int64 of item ``item``."""
        epoch, position = divmod(item, len(self._cases))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        image, labels = self._cases[int(self._order[position])]
        rng = np.random.default_rng((self._seed, 1, item))
        label = labels[rng.integers(len(labels))].astype(np.float32)
        patch, target = random_patch(
            torch.from_numpy(image), torch.from_numpy(label)[None], self._stage, self._augmentation, rng
        )
        return patch, target[0].long()

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, 0, epoch)).permutation(len(self._cases))


def seed_generator(generator: torch.Generator, *parts: int) -> torch.Generator:
    """Seed ``generator`` from several integers, so that each step has its own reproducible draws."""
    return generator.manual_seed(int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1))
