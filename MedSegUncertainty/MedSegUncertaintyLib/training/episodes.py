"""Queries with examples, drawn from tasks and changed at random, as an endless, reproducible sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from MedSegUncertaintyLib.training.recipe import TaskAugmentation
from MedSegUncertaintyLib.training.synthetic_tasks import LabeledImages
from MedSegUncertaintyLib.training.tasks import Task, synthetic_task

NEAR_SLICES = 4
"""Queries beyond a structure are mostly this near to it, where a walk has to find out that it ended."""
MOST_ABSENT = 3
"""Examples without the structure, at most."""


@dataclass(frozen=True)
class Source:
    """Tasks that are equally likely, and how likely all of them are together."""

    tasks: Sequence[Task | LabeledImages]
    share: float


class Episodes(Dataset[tuple[Tensor, Tensor]]):
    """Queries with their examples; item n depends on (seed, n) alone.

    An item is the images of one step, (2 N + 1, size, size) float32: the query, N examples and their masks; and the
    query's mask (size, size) float32 with soft edges.

    Args:
        sources: Where tasks come from.
        supports: N.
        augmentation: Random changes.
        seed: Seed of the whole sequence.
    """

    def __init__(self, sources: list[Source], supports: int, augmentation: TaskAugmentation, seed: int) -> None:
        self._sources, self._supports, self._augmentation, self._seed = sources, supports, augmentation, seed
        shares = np.array([source.share for source in sources])
        self._shares = shares / shares.sum()

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        """Images (2 N + 1, size, size) and target (size, size) of item ``item``."""
        rng = np.random.default_rng((self._seed, 3, item))
        task = None
        while task is None:
            source = self._sources[rng.choice(len(self._sources), p=self._shares)]
            chosen = source.tasks[int(rng.integers(len(source.tasks)))]
            task = synthetic_task(chosen, rng) if isinstance(chosen, LabeledImages) else chosen
        images, masks = self._episode(task, rng)
        return torch.cat([images, masks[1:]]), masks[0]

    def _episode(self, task: Task, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        rule = self._augmentation
        walks = task.is_stack and rng.random() < rule.walk_share
        chosen, predicted = (walk_choice if walks else set_choice)(task, self._supports, rule.absent_share, rng)
        images = torch.from_numpy(task.images[chosen].astype(np.float32) / 255)
        masks = torch.from_numpy(task.masks[chosen].astype(np.float32) / 255)
        own_share = rule.image_share * (0.4 if task.is_stack else 1.0)
        images, masks = random_shapes(images, masks, rule, rng.random() < own_share, rng)
        for index in np.flatnonzero(predicted):
            masks[index] = like_predicted(masks[index], rng)
        if not walks:
            masks = random_meaning(masks, rule, rng)
        return random_looks(images, rule, rng.random() < own_share, rng), masks


def set_choice(
    task: Task, supports: int, absent_share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A query and examples without order: their places in the task, and that none of the examples is predicted.

    Few different examples, each shown several times, are as likely as many.
    """
    present, absent = np.flatnonzero(task.present), np.flatnonzero(~task.present)
    query = rng.choice(absent) if len(absent) and rng.random() < absent_share else rng.choice(present)
    shown = _drawn(present[present != query], int(rng.integers(1, supports + 1)), rng)
    if rng.random() < absent_share:
        shown = np.concatenate([shown, _drawn(absent[absent != query], int(rng.integers(1, MOST_ABSENT + 1)), rng)])
    return np.array([query, *_filled(shown, supports, rng)]), np.zeros(supports + 1, dtype=bool)


def walk_choice(
    task: Task, supports: int, absent_share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A query as a walk through a stack meets it: few examples, and twice each its two finished neighbors."""
    present, absent = np.flatnonzero(task.present), np.flatnonzero(~task.present)
    query = int(rng.choice(present))
    if len(absent) and rng.random() < absent_share:
        distance = np.abs(absent[:, None] - present[None, :]).min(axis=1)
        near = absent[distance <= NEAR_SLICES]
        query = int(rng.choice(near if rng.random() < 0.7 and len(near) else absent))
    shown = _drawn(present[present != query], int(rng.integers(1, 5)), rng)
    if rng.random() < 0.6:
        shown = np.concatenate([shown, _drawn(absent[absent != query], int(rng.integers(1, 3)), rng)])
    side = rng.choice([-1, 1])
    neighbors = [place for place in (query + side, query + 2 * side) if 0 <= place < len(task)]
    predicted = np.array(2 * neighbors, dtype=int)[: supports - 1]
    chosen = [query, *_filled(shown, supports - len(predicted), rng), *predicted]
    return np.array(chosen), np.arange(supports + 1) > supports - len(predicted)


def _drawn(places: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(places)[:most]


def _filled(shown: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """At least each of them once, if there is room, and then some again."""
    order = rng.permutation(shown)
    return np.concatenate([order, rng.choice(order, max(0, count - len(order)))])[:count]


def random_shapes(
    images: Tensor, masks: Tensor, rule: TaskAugmentation, own: bool, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The same pose and warp for all images (n, size, size), and small poses of their own if ``own``."""
    count, size, _ = images.shape
    common = _pose(rng, degrees=25, scale=0.3, shift=0.15) @ _quarter_turn(rng)
    poses = [(_pose(rng, degrees=8, scale=0.08, shift=0.05) if own else np.eye(3)) for _ in range(count)]
    matrices = torch.from_numpy(np.stack([common @ pose for pose in poses])[:, :2].astype(np.float32))
    grid = functional.affine_grid(matrices, [count, 1, size, size], align_corners=False)
    if rng.random() < rule.elastic_share:
        grid = grid + _displacement(size, int(rng.integers(3, 9)), rng.uniform(0.02, 0.09), rng)
    both = functional.grid_sample(torch.stack([images, masks], dim=1), grid, align_corners=False)
    return both[:, 0], both[:, 1]


def like_predicted(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """A mask (size, size) as a network might have segmented it: its border is off, or it is too large or too small."""
    size = mask.shape[-1]
    grid = functional.affine_grid(torch.eye(3)[None, :2], [1, 1, size, size], align_corners=False)
    grid = grid + _displacement(size, int(rng.integers(3, 12)), rng.uniform(0.0, 0.05), rng)
    moved = functional.grid_sample(mask[None, None], grid, align_corners=False)
    blurred = functional.avg_pool2d(moved, 3, stride=1, padding=1)
    return ((blurred[0, 0] - rng.uniform(0.35, 0.65)) * rng.uniform(2, 8)).add(0.5).clamp(0, 1)


def random_meaning(masks: Tensor, rule: TaskAugmentation, rng: np.random.Generator) -> Tensor:
    """Now and then the structure is the edge of the real one, or everything else."""
    if rng.random() < rule.edge_share:
        padded = masks[:, None]
        grown = functional.max_pool2d(padded, 3, stride=1, padding=1)
        masks = (grown + functional.max_pool2d(-padded, 3, stride=1, padding=1))[:, 0]
    return 1 - masks if rng.random() < rule.opposite_share else masks


def random_looks(images: Tensor, rule: TaskAugmentation, own: bool, rng: np.random.Generator) -> Tensor:
    """The same intensities for all images (n, size, size), and small changes of their own if ``own``; 0 to 1."""
    if rng.random() < rule.invert_share:
        images = 1 - images
    if rng.random() < 0.5:
        images = images.clamp(0, 1) ** float(np.exp(rng.uniform(-0.6, 0.6)))
    if rng.random() < 0.5:
        images = (images - 0.5) * rng.uniform(0.6, 1.4) + 0.5 + rng.uniform(-0.15, 0.15)
    if rng.random() < 0.25:
        images = functional.avg_pool2d(images[:, None], 3, stride=1, padding=1)[:, 0]
    if own:
        contrast = _per_image(rng.uniform(0.8, 1.2, len(images)))
        images = (images - 0.5) * contrast + 0.5 + _per_image(rng.uniform(-0.1, 0.1, len(images)))
    if rng.random() < 0.4:
        noise = rng.standard_normal(tuple(images.shape), np.float32)
        images = images + rng.uniform(0, 0.06) * torch.from_numpy(noise)
    return images.clamp(0, 1)


def _per_image(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))[:, None, None]


def _displacement(size: int, cells: int, strength: float, rng: np.random.Generator) -> Tensor:
    """A smooth field (1, size, size, 2) in units of half the image."""
    knots = torch.from_numpy((strength * rng.standard_normal((1, 2, cells, cells))).astype(np.float32))
    return functional.interpolate(knots, (size, size), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)


def _pose(rng: np.random.Generator, degrees: float, scale: float, shift: float) -> np.ndarray:
    angle, factors = np.deg2rad(rng.uniform(-degrees, degrees)), np.exp(rng.uniform(-scale, scale, 2) * [1, 0.4])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pose = np.eye(3)
    pose[:2, :2] = turn * factors[0] * [factors[1], 1 / factors[1]]
    pose[:2, 2] = rng.uniform(-shift, shift, 2)
    return pose


def _quarter_turn(rng: np.random.Generator) -> np.ndarray:
    """A random one of the eight flips and quarter turns."""
    pose = np.diag([*rng.choice([-1.0, 1.0], 2), 1.0])
    return pose[[1, 0, 2]] if rng.random() < 0.5 else pose
