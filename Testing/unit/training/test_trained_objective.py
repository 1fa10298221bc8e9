"""An objective with weights and memory of its own: trained beside the network, and resumed with it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.models.hpunet.objective import HPUNetObjective
from MedSegUncertaintyLib.training.loop import Trainer, read_log
from MedSegUncertaintyLib.training.patches import Case, PatchDataset
from MedSegUncertaintyLib.training.recipe import Augmentation, Recipe, Stage
from MedSegUncertaintyLib.training.run import make_trainer, planned_package

RECIPE = Path(__file__).resolve().parents[3] / "recipes" / "hpunet-lidc-nodule-ct.toml"
STAGES = [Stage([16, 16], "zeros", 4, 2, 1e-3, 1), Stage([24, 16], "zeros", 3, 2, 1e-3, 1)]


class KilledError(Exception):
    pass


class Discs:
    """Four bright discs; what is scored is how often that was done."""

    def __init__(self) -> None:
        y, x = np.indices((24, 24)) - 11.5
        discs = [np.hypot(y, x) < radius for radius in (4, 5, 6, 7)]
        self.training: list[Case] = [(disc[None].astype(np.float32), disc[None].astype(np.uint8)) for disc in discs]

    def items(self, stage: Stage, augmentation: Augmentation, seed: int) -> PatchDataset:
        return PatchDataset(self.training, stage, augmentation, seed)

    def score(self, model: Any, device: torch.device, heard: Callable[[], None]) -> dict[str, float]:
        return {}


def trainer(folder: Path, rate_scale: float = 2.0) -> Trainer:
    recipe = Recipe.from_file(RECIPE)
    arguments = {**recipe.package["arguments"], "widths": [4, 4, 8], "latents": [1, 1]}
    recipe = replace(
        recipe,
        stages=STAGES,
        package={**recipe.package, "arguments": arguments},
        objective={**recipe.objective, "top_k": 0.1, "rate_scale": rate_scale},
        optimization=replace(recipe.optimization, validate_every=3),
    )
    folder.mkdir(exist_ok=True)
    return make_trainer(recipe, planned_package(recipe, folder), folder)


def state(trained: Trainer) -> dict[str, torch.Tensor]:
    assert isinstance(trained.objective, HPUNetObjective)
    return trained.objective.state_dict()


def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    def kill(step: int) -> None:
        if step == 5:  # after the checkpoint of step 3
            raise KilledError

    whole = trainer(tmp_path / "whole")
    whole.fit(Discs(), lambda step: None)
    with pytest.raises(KilledError):
        trainer(tmp_path / "parts").fit(Discs(), kill)
    resumed = trainer(tmp_path / "parts")
    resumed.resume()
    assert resumed.step == 3
    resumed.fit(Discs(), lambda step: None)

    rows = read_log(tmp_path / "whole")
    assert read_log(tmp_path / "parts") == rows
    assert [row["step"] for row in rows] == [3, 6, 7]
    figures = {"loss", "kl", "kl scale 0", "kl scale 1", "cross entropy", "mean cross entropy", "multiplier"}
    assert set(rows[0]) == {"step", *figures}
    assert state(resumed) == state(whole)
    for name, tensor in whole.average.state_dict().items():
        assert torch.equal(tensor, resumed.average.state_dict()[name]), name


def test_the_variable_moves_at_its_own_rate_and_does_not_decay(tmp_path: Path) -> None:
    """The first step of Adam is the learning rate; the constraint is violated, so the variable climbs."""

    def stop(step: int) -> None:
        raise KilledError

    moved = {}
    for scale in (1.0, 4.0):
        one = trainer(tmp_path / str(scale), rate_scale=scale)
        before = state(one)["constraint.variable"].item()
        with pytest.raises(KilledError):
            one.fit(Discs(), stop)
        moved[scale] = state(one)["constraint.variable"].item() - before
    assert moved[1.0] == pytest.approx(1e-3, rel=1e-2)
    assert moved[4.0] == pytest.approx(4e-3, rel=1e-2)


def test_a_resumed_training_takes_the_rate_of_its_recipe(tmp_path: Path) -> None:
    first = trainer(tmp_path, rate_scale=1.0)
    first.fit(Discs(), lambda step: None)
    again = trainer(tmp_path, rate_scale=5.0)
    again.resume()
    image, target = torch.zeros(2, 1, 16, 16), torch.zeros(2, 16, 16, dtype=torch.long)
    again._update(image, target, 1e-3)
    weights, multiplier = again.optimizer.param_groups
    assert (weights["lr"], multiplier["lr"]) == (1e-3, 5e-3)
