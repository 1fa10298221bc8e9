"""Training on synthetic cells that touch, whose colors are chosen anew at every sight.

Samples of such a model color every cell at random; ``evaluation.instances`` makes single cells of several samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from MedSegUncertaintyLib.evaluation.instances import InstanceRule, adapted_rand_error, clusters, foreground, instances
from MedSegUncertaintyLib.inference.engine import Engine
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress, StageClock
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import load_sampler
from MedSegUncertaintyLib.training.patches import Case, PatchDataset
from MedSegUncertaintyLib.training.recipe import Augmentation, CellImages, Stage

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.registry import SamplerModule

SAMPLES = 16
RULE = InstanceRule(distance=0.45, erosions=2)
"""Of four colors and sixteen samples: one pair of cells in 130 agrees in nine of them by chance."""
_CLASH = 0.55
"""Centers of cells are at least this share of their mean diameter apart."""


class TouchingCells:
    """Cases and figures of a recipe with :class:`~MedSegUncertaintyLib.training.recipe.CellImages`.

    Args:
        rule: Size and number of images, cells and colors.
        seed: Of the images.
    """

    def __init__(self, rule: CellImages, seed: int) -> None:
        self.training = CellCases(rule, (seed, 7), rule.images)
        self._validation = CellCases(rule, (seed, 8), rule.validation_images)
        self._colors = rule.colors

    def items(self, stage: Stage, augmentation: Augmentation, seed: int) -> ColoredCells:
        """Changed and colored patches of the cases."""
        return ColoredCells(self.training, stage, augmentation, seed, self._colors)

    def score(self, model: SamplerModule, device: torch.device, heard: Callable[[], None]) -> dict[str, float]:
        """Mean figures over the validation images."""
        return self._measure(model, device, StageClock("score", len(self._validation), lambda _: heard()))

    def figures(self, package: ModelPackage, progress: Callable[[Progress], None] | None) -> dict[str, Any]:
        """Mean figures of the package over the validation images, on the CPU."""
        clock = StageClock("evaluate", len(self._validation), progress)
        return {"touching_cells": self._measure(load_sampler(package), torch.device("cpu"), clock)}

    def card_figures(self, figures: dict[str, Any]) -> str:
        """The figures as Markdown."""
        rows = [f"| {name} | {value:.4f} |" for name, value in figures["touching_cells"].items()]
        about = (
            f"{len(self._validation)} images that were not trained on, {SAMPLES} samples each. Errors are adapted Rand "
            "errors over the pixels of cells."
        )
        return "\n".join([about, "", "| figure | mean |", "| --- | --- |", *rows])

    def _measure(self, model: SamplerModule, device: torch.device, clock: StageClock) -> dict[str, float]:
        engine = Engine(model, device, False, CancelToken(), None)
        measured = []
        for number in range(len(self._validation)):
            image, (truth,) = self._validation[number]
            drawn = engine.sample(torch.from_numpy(image), SAMPLES, NoiseSource(number))
            samples = np.stack([probabilities.argmax(dim=0).cpu().numpy().astype(np.uint8) for probabilities in drawn])
            measured.append(clock.counted(instance_figures(truth, samples)))
        return {name: float(np.mean([one[name] for one in measured])) for name in measured[0]}


def instance_figures(truth: np.ndarray, samples: np.ndarray) -> dict[str, float]:
    """What instances out of colored samples are worth.

    Args:
        truth: (H, W), numbers of cells, 0 is no cell.
        samples: (K, H, W), colors, 0 is no cell.
    """
    found, inside = instances(samples, rule=RULE), foreground(samples, 0)
    together, drawn = ndimage.label(inside)[0], truth > 0
    return {
        "instance error": adapted_rand_error(truth, found, ignored=0),
        "error before filter and repair": adapted_rand_error(
            truth, clusters(samples, inside, RULE.distance), ignored=0
        ),
        "error of connected regions": adapted_rand_error(truth, together, ignored=0),
        "foreground dice": float(2 * (inside & drawn).sum() / max(1, inside.sum() + drawn.sum())),
        "cells": float(truth.max()),
        "cells found": float(found.max()),
    }


class CellCases:
    """Images of cells by number, made when asked for.

    Args:
        rule: Size, cells and colors.
        seed: Decides, with the number of an image, all about it.
        count: How many.
    """

    def __init__(self, rule: CellImages, seed: tuple[int, ...], count: int) -> None:
        self._rule, self._seed, self._count = rule, seed, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Case:
        """Image (1, H, W) and the numbers of its cells (1, H, W)."""
        rng = np.random.default_rng((*self._seed, index))
        truth = cells(self._rule.size, int(rng.integers(self._rule.cells[0], self._rule.cells[1] + 1)), rng)
        return cell_image(truth, rng)[None], truth[None]


def cells(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers (size, size) of about ``count`` cells that fill half of an image and touch, uint8; 0 is no cell."""
    radius = size * np.sqrt(0.65 / (np.pi * count))
    centers: list[np.ndarray] = []
    for _ in range(50 * count):
        center = rng.uniform(0.6 * radius, size - 0.6 * radius, 2)
        if len(centers) < count and all(np.linalg.norm(center - other) > 2 * _CLASH * radius for other in centers):
            centers.append(center)
    places = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"))
    distances = np.stack([np.hypot(*(places - center[:, None, None])) for center in centers])
    reach = radius * rng.uniform(0.85, 1.15, len(centers))
    distances = distances / reach[:, None, None]
    numbers = distances.argmin(axis=0) + 1
    return np.where(distances.min(axis=0) < 1.0, numbers, 0).astype(np.uint8)


def cell_image(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a microscope might show of cells: bodies of slightly different brightness, bright walls, blur and noise."""
    shades = np.concatenate([[0.1], rng.uniform(0.45, 0.6, int(truth.max()))])
    wall = (ndimage.maximum_filter(truth, 3) != ndimage.minimum_filter(truth, 3)) & (truth > 0)
    image = np.where(wall, 1.0, shades[truth])
    image = ndimage.gaussian_filter(image, 0.6) + rng.normal(0, 0.03, truth.shape)
    return np.clip(image, 0.0, 1.0).astype(np.float32)


class ColoredCells(PatchDataset):
    """Patches in which every cell has one of a few colors, drawn anew for every item.

    Args:
        cases: Images of cells.
        stage: Size and padding of the patches.
        augmentation: Random changes.
        seed: Seed of the whole sequence.
        colors: How many; they are the classes beside the background.
    """

    def __init__(self, cases: CellCases, stage: Stage, augmentation: Augmentation, seed: int, colors: int) -> None:
        super().__init__(cases, stage, augmentation, seed)
        self._item_seed, self._colors = seed, colors

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        """Image (1, *patch) float32 and colors (*patch) int64 of item ``item``."""
        image, numbers = super().__getitem__(item)
        rng = np.random.default_rng((self._item_seed, 2, item))
        palette = np.concatenate([[0], rng.integers(1, self._colors + 1, 255)])
        return image, torch.from_numpy(palette)[numbers]
