"""The training loop: Lightning Fabric for device and precision, exact resume, a CSV log."""

from __future__ import annotations

import csv
import math
import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.inference.device import choose_device
from MedSegUncertaintyLib.training.patches import seed_generator
from MedSegUncertaintyLib.training.recipe import Recipe, Stage

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.registry import SamplerModule

Objective = Callable[[Any, Tensor, Tensor, int, torch.Generator], dict[str, Tensor]]

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"
SCORE = "validation "
"""Begins the names of the log's columns that were measured on validation cases."""


class TrainingData(Protocol):
    """The cases of a recipe, and what is measured on those held out."""

    @property
    def training(self) -> Sized:
        """What is trained on."""

    def items(self, stage: Stage, augmentation: Any, seed: int) -> Dataset[tuple[Tensor, Tensor]]:
        """An endless, numbered sequence of changed cases for a stage; item n depends on (seed, n) alone."""

    def score(self, model: SamplerModule, device: torch.device, heard: Callable[[], None]) -> dict[str, float]:
        """Figures by name, measured during the training; ``heard`` is called often."""


@dataclass
class Trainer:
    """Trains one network by one recipe.

    Attributes:
        recipe: The recipe.
        model: The network.
        objective: What a step minimizes. The parameters of one that is a module are trained as well, at the learning
            rate times its ``rate_scale``, without weight decay and clipping; its state is in the checkpoint.
        folder: Where checkpoint and log are kept.
        workers: Processes that prepare patches; the result does not depend on their number.
    """

    recipe: Recipe
    model: SamplerModule
    objective: Objective
    folder: Path
    workers: int

    def __post_init__(self) -> None:
        rule = self.recipe.optimization
        # Fabric's own "auto" would take MPS, which lacks 3D operators.
        accelerator = choose_device("auto").type
        self.fabric = Fabric(accelerator=accelerator, devices=1, precision=rule.precision)  # type: ignore[arg-type]
        # Channels last is about a fifth faster for small 3D batches on a CPU.
        layout = torch.channels_last_3d if self.model.spatial_dims == 3 else torch.channels_last
        self.model.to(device=self.fabric.device).to(memory_format=layout)  # type: ignore[call-overload]
        groups: list[dict[str, Any]] = [{"params": list(self.model.parameters())}]
        # Not in the optimizer's groups, whose numbers a resumed training takes from its checkpoint.
        self._rate_scales: list[Any] = [1.0]
        if isinstance(self.objective, nn.Module):
            self.objective.to(self.fabric.device)
            groups.append({"params": list(self.objective.parameters()), "weight_decay": 0.0})
            self._rate_scales.append(self.objective.rate_scale)
        optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=rule.weight_decay)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(rule.average), use_buffers=True)
        self.optimizer = cast(torch.optim.Optimizer, self.fabric.setup_optimizers(optimizer))
        self.step = 0

    def fit(self, data: TrainingData, report: Callable[[int], None]) -> None:
        """Train from the current step to the last; ``report`` hears the number of finished steps."""
        rule = self.recipe.optimization
        seen: defaultdict[str, list[float]] = defaultdict(list)
        for image, target, rate in self._batches(data):
            for name, value in self._update(image, target, rate).items():
                seen[name].append(value.item())
            report(self.step)
            if self.step % rule.validate_every == 0 or self.step == self.recipe.steps:
                losses = {name: math.fsum(values) / len(values) for name, values in seen.items()}
                self._log({"step": self.step, **losses, **self.score(data, report)})
                self.save()
                seen.clear()

    def _batches(self, data: TrainingData) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Images, labels and learning rate of every step that is left."""
        begin = 0
        for number, stage in enumerate(self.recipe.stages):
            done = max(self.step - begin, 0)
            begin += stage.steps
            if done >= stage.steps:
                continue
            items = data.items(stage, self.recipe.augmentation, self.recipe.seed + number)
            loader = DataLoader(
                items, stage.batch, sampler=range(done * stage.batch, stage.steps * stage.batch),
                num_workers=self.workers, worker_init_fn=_leave_interrupts_to_the_parent,
                pin_memory=self.fabric.device.type == "cuda",
            )  # fmt: skip
            for step, (image, target) in enumerate(loader, start=done):
                yield image, target, learning_rate(stage, step)

    def _update(self, image: Tensor, target: Tensor, rate: float) -> dict[str, Tensor]:
        device = self.fabric.device
        self.model.train()
        for group, scale in zip(self.optimizer.param_groups, self._rate_scales, strict=True):
            group["lr"] = rate * scale
        generator = seed_generator(torch.Generator(device), self.recipe.seed, 2, self.step)
        image, target = image.to(device, non_blocking=True), target.to(device, non_blocking=True)
        with self.fabric.autocast():
            losses = self.objective(self.model, image, target, self.step, generator)
        if not losses["loss"].isfinite():
            raise FloatingPointError(f"the loss is {losses['loss'].item()} at step {self.step}")
        self.optimizer.zero_grad()
        self.fabric.backward(losses["loss"])
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.recipe.optimization.clip_norm)
        self.optimizer.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return {name: value.detach() for name, value in losses.items()}

    @torch.no_grad()
    def score(self, data: TrainingData, report: Callable[[int], None]) -> dict[str, float]:
        """Scores of the averaged weights on the validation cases, in the full precision that users run."""
        self.average.eval()
        # The report is where a user who cancels is heard.
        scores = data.score(cast("SamplerModule", self.average.module), self.fabric.device, lambda: report(self.step))
        return {SCORE + name: value for name, value in scores.items()}

    def save(self) -> None:
        """Write a checkpoint; a kill while writing leaves the earlier one."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        if isinstance(self.objective, nn.Module):
            state["objective"] = self.objective.state_dict()
        temporary = self.folder / (CHECKPOINT + ".part")
        torch.save(state, temporary)
        os.replace(temporary, self.folder / CHECKPOINT)

    def begin(self) -> None:
        """Make sure that no earlier training is in the folder.

        Raises:
            BadInputError: There is one.
        """
        if (self.folder / CHECKPOINT).exists():
            raise BadInputError(f"{self.folder} holds an earlier training; pass --resume or choose another folder.")
        (self.folder / LOG).unlink(missing_ok=True)

    def resume(self) -> None:
        """Continue from the checkpoint; later lines of the log are dropped, since those steps are done again.

        Raises:
            BadInputError: There is no checkpoint, or it belongs to another network.
        """
        path = self.folder / CHECKPOINT
        if not path.is_file():
            raise BadInputError(f"There is no checkpoint to resume in {self.folder}; train without --resume first.")
        try:
            state = torch.load(path, map_location=self.fabric.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            if isinstance(self.objective, nn.Module):
                self.objective.load_state_dict(state["objective"])
            self.step = int(state["step"])
        except Exception as error:  # what torch raises for a damaged file is anything from EOFError to struct.error
            raise BadInputError(f"The checkpoint in {self.folder} is damaged or belongs to another network.") from error
        kept = [row for row in read_log(self.folder) if row["step"] <= self.step]
        (self.folder / LOG).unlink(missing_ok=True)
        for row in kept:
            self._log(row)

    def _log(self, row: dict[str, Any]) -> None:
        """Add a row; a stage may have other columns than those before it."""
        rows = [*read_log(self.folder), row]
        with (self.folder / LOG).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for one in rows for name in one)))
            writer.writeheader()
            writer.writerows(rows)


def _leave_interrupts_to_the_parent(_: int) -> None:
    """Ctrl-C reaches every process of a terminal; the parent alone decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def learning_rate(rule: Stage, step: int) -> float:
    """Learning rate of a stage's step ``step``: linear rise, then a cosine to zero."""
    if step < rule.rise:
        return rule.learning_rate * (step + 1) / rule.rise
    progress = (step - rule.rise) / max(rule.steps - rule.rise, 1)
    return rule.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))


def read_log(folder: Path) -> list[dict[str, float]]:
    """Rows of the log so far, each with the columns that it has; empty without one."""
    path = folder / LOG
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    return [{**row, "step": int(row["step"])} for row in rows]
