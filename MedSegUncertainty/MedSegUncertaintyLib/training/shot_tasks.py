"""Training on tasks: the network learns to segment by examples, and whole tasks are left out to see whether it did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.evaluation.overlap import dice
from MedSegUncertaintyLib.inference.progress import Progress, StageClock
from MedSegUncertaintyLib.models.universeg import SupportSet, UniverSeg
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import load_sampler
from MedSegUncertaintyLib.training.episodes import Episodes, Source
from MedSegUncertaintyLib.training.recipe import Stage, TaskAugmentation, TaskFiles
from MedSegUncertaintyLib.training.synthetic_tasks import synthetic_images
from MedSegUncertaintyLib.training.tasks import Task, image_task, volume_tasks

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.registry import SamplerModule

SUPPORT_SIZES = (1, 2, 4, 8, 16)
MEMBERS = 5
"""Of an ensemble over support sets."""
SCORED_SUPPORTS = 3
"""Examples per query while training."""


class ShotTasks:
    """Tasks and figures of a recipe with :class:`~MedSegUncertaintyLib.training.recipe.TaskFiles`.

    Args:
        folder: The data folder.
        rule: Its files.
        size: Edge of the images in pixels.
        seed: Of the synthetic tasks and the crops.
        progress: Called after each source that is read.

    Raises:
        BadInputError: A file cannot be used.
    """

    def __init__(
        self, folder: Path, rule: TaskFiles, size: int, seed: int, progress: Callable[[Progress], None] | None
    ) -> None:
        self._rule = rule
        clock = StageClock("make tasks", len(rule.volumes) + len(rule.images) + rule.synthetic_tasks, progress)
        self._sources = [
            *(Source(clock.counted([*volume_tasks(folder, own, size, True, seed)]), own.share) for own in rule.volumes),
            *(Source(clock.counted([*image_task(folder, own, size)]), own.share) for own in rule.images),
        ]
        files = [own.image for own in rule.volumes] + [own.file for own in rule.images]
        for file, source in zip(files, self._sources, strict=True):
            if not source.tasks:
                raise BadInputError(f"{file} gives no task; its structures are too small for the recipe.")
        real_share = sum(source.share for source in self._sources)
        seeds = [(seed, 5, number) for number in range(rule.synthetic_tasks)]
        made = [clock.counted(synthetic_images(size, rule.synthetic_images, own)) for own in seeds]
        share = rule.synthetic_share / (1 - rule.synthetic_share) * real_share
        self._sources += [Source(made, share)] if made else []
        self._left_out = [
            *(task for own in rule.validation_volumes for task in volume_tasks(folder, own, size, False, seed)),
            *(task for own in rule.validation_images for task in image_task(folder, own, size)),
        ]

    @property
    def training(self) -> list[Any]:
        """All tasks."""
        return [task for source in self._sources for task in source.tasks]

    def items(self, stage: Stage, augmentation: TaskAugmentation, seed: int) -> Episodes:
        """Changed queries with their examples; the size of a stage's patches is that of the tasks."""
        return Episodes(self._sources, self._rule.supports, augmentation, seed)

    def score(self, model: SamplerModule, device: torch.device, heard: Callable[[], None]) -> dict[str, float]:
        """Mean Dice on each left-out task, with the same few examples for all queries."""
        return {
            f"dice {task.name}": fixed_examples_dice(cast("UniverSeg", model), task, device, heard)
            for task in self._left_out
        }

    def figures(self, package: ModelPackage, progress: Callable[[Progress], None] | None) -> dict[str, Any]:
        """Dice on the left-out tasks by number of examples, of one support set and of an ensemble over several."""
        model = cast("UniverSeg", load_sampler(package))
        clock = StageClock("validate", len(self._left_out) * len(SUPPORT_SIZES), progress)
        by_size = {
            task.name: {str(size): clock.counted(random_examples_dice(model, task, size)) for size in SUPPORT_SIZES}
            for task in self._left_out
        }
        return {"members_of_ensemble": MEMBERS, "dice_by_support_size": by_size}

    def card_figures(self, figures: dict[str, Any]) -> str:
        """The figures as Markdown."""
        lines = [
            "Mean Dice over images that show the structure, on tasks that were left out of training; examples are "
            f"drawn from the task's other images. In brackets: mean of {figures['members_of_ensemble']} such draws.",
            "",
            "| task | " + " | ".join(f"N = {size}" for size in SUPPORT_SIZES) + " |",
            "| --- |" + " --- |" * len(SUPPORT_SIZES),
        ]
        for name, row in figures["dice_by_support_size"].items():
            cells = [f"{row[str(size)]['single']:.3f} ({row[str(size)]['ensemble']:.3f})" for size in SUPPORT_SIZES]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


def fixed_examples_dice(model: UniverSeg, task: Task, device: torch.device, heard: Callable[[], None]) -> float:
    """Mean Dice over a task's images, with three of them, evenly spread, as examples for all others."""
    present = np.flatnonzero(task.present)
    examples = present[np.linspace(0, len(present) - 1, SCORED_SUPPORTS + 2).round().astype(int)[1:-1]]
    supports = SupportSet(model, *(part.to(device) for part in tensors(task, examples)))
    scores = []
    for query in np.setdiff1d(present, examples):
        heard()
        logits = supports.segment(tensors(task, [query])[0].to(device))
        scores.append(dice(logits[0, 0].cpu().numpy() > 0, task.masks[query] > 127, both_empty=1.0))
    return float(np.mean(scores))


def random_examples_dice(model: UniverSeg, task: Task, size: int) -> dict[str, float]:
    """Mean Dice over a task's images with ``size`` examples, drawn from the others with replacement, for each."""
    present = np.flatnonzero(task.present)
    rng = np.random.default_rng((size, 6))
    scores = []
    for query in present:
        target, pool = tensors(task, [query])[0], present[present != query]
        drawn = [rng.choice(pool, size) for _ in range(MEMBERS)]
        maps = torch.stack([SupportSet(model, *tensors(task, one)).segment(target)[0, 0].sigmoid() for one in drawn])
        truth = task.masks[query] > 127
        scores.append([dice(one.numpy() > 0.5, truth, both_empty=1.0) for one in (maps[0], maps.mean(dim=0))])
    single, ensemble = np.mean(scores, axis=0)
    return {"single": float(single), "ensemble": float(ensemble)}


def tensors(task: Task, places: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and masks (n, 1, size, size) of a task, 0 to 1."""
    images, masks = (torch.from_numpy(part[places].astype(np.float32)) / 255 for part in (task.images, task.masks))
    return images.unsqueeze(1), masks.unsqueeze(1)
