"""``medseg-uncertainty train``: from a recipe and a data folder to a validated model package."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from MedSegUncertaintyLib.inference.progress import Progress, StageClock
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.packages.package import BLOCK, ModelPackage
from MedSegUncertaintyLib.packages.weights import load_sampler, save_package
from MedSegUncertaintyLib.training.curves import draw_curves
from MedSegUncertaintyLib.training.data import load_case, split_cases
from MedSegUncertaintyLib.training.loop import Objective, Trainer
from MedSegUncertaintyLib.training.recipe import Recipe
from MedSegUncertaintyLib.training.validation import card_figures, validate_package
from MedSegUncertaintyLib.volumes.intensity import IntensityRule
from MedSegUncertaintyLib.volumes.placement import GridRule

LICENSE_TEXT = "These weights are licensed under {license}.\nTraining data: {data} ({data_license}).\n"


def train(
    recipe_path: str | Path,
    data_folder: str | Path,
    output_folder: str | Path,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> ModelPackage:
    """Train, validate on the held-out cases and write the package to ``output_folder/<recipe name>``.

    The output folder also gets ``log.csv``, ``curves.png`` and ``checkpoint.pt``. Every random number follows from the
    recipe's seed and the step, so a resumed training gives the weights that an uninterrupted one gives.

    Raises:
        BadInputError: The recipe, the data or the checkpoint cannot be used.
    """
    recipe = Recipe.from_file(recipe_path)
    output = Path(output_folder)
    output.mkdir(parents=True, exist_ok=True)
    grid, intensity = GridRule(**recipe.package["grid"]), IntensityRule.from_json(recipe.package["intensity"])
    training_files, validation_files = split_cases(data_folder, recipe.data)
    read = StageClock("read cases", len(training_files) + len(validation_files), progress)
    training, validation = (
        [read.counted(load_case(case, grid, intensity)) for case in files]
        for files in (training_files, validation_files)
    )
    trainer = make_trainer(recipe, output)
    if resume:
        trainer.resume()
    clock = StageClock("train", recipe.optimization.steps, progress)
    trainer.fit(training, validation, clock.at)
    draw_curves(output, [structure["name"] for structure in recipe.package["structures"]])
    package = write_package(recipe, trainer.average.module, output, len(training))
    figures = validate_package(package, validation_files, progress)
    return write_package(recipe, load_sampler(package), output, len(training), figures)


def make_trainer(recipe: Recipe, folder: Path) -> Trainer:
    """Trainer of the recipe's family with freshly initialized weights."""
    import torch

    torch.manual_seed(recipe.seed)
    model = registry.build(recipe.package["family"], recipe.package["arguments"])
    structures = [structure["name"] for structure in recipe.package["structures"]]
    # The children would start anew for a handful of steps, and Windows and macOS start them slowly.
    workers = 0 if recipe.optimization.steps < 100 else (os.cpu_count() or 1)
    return Trainer(recipe, model, make_objective(recipe), structures, folder, workers)


def make_objective(recipe: Recipe) -> Objective:
    """Objective of the recipe's family."""
    from MedSegUncertaintyLib.models.ssn.objective import SSNObjective

    objectives: dict[str, Callable[..., Objective]] = {"ssn": SSNObjective}
    return objectives[recipe.package["family"]](**recipe.objective)


def write_package(
    recipe: Recipe, model: nn.Module, output: Path, cases: int, figures: dict[str, Any] | None = None
) -> ModelPackage:
    """Write the package with half-precision weights; with ``figures``, they go into metadata and card."""
    own = copy.deepcopy(recipe.package)
    own["training_data"]["cases"] = cases
    own["evaluation"] = figures or {}
    license_text = LICENSE_TEXT.format(
        license=own["weights_license"], data=own["training_data"]["name"], data_license=own["training_data"]["license"]
    )
    card = recipe.card.replace("{figures}", card_figures(figures) if figures else "Not yet measured.")
    return save_package(output / recipe.name, model, {**recipe.metadata, BLOCK: own}, card, license_text, half=True)
