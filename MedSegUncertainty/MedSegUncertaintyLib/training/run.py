"""``medseg-uncertainty train``: from a recipe and a data folder to a validated model package."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.inference.progress import Progress, StageClock
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.packages.package import BLOCK, ModelPackage
from MedSegUncertaintyLib.packages.store import find_package
from MedSegUncertaintyLib.packages.weights import load_sampler, save_package, shipped
from MedSegUncertaintyLib.training.curves import draw_curves
from MedSegUncertaintyLib.training.loop import Trainer
from MedSegUncertaintyLib.training.photographs import Photographs
from MedSegUncertaintyLib.training.reader_images import ReaderImages
from MedSegUncertaintyLib.training.recipe import CellImages, PhotographFiles, ReaderFiles, Recipe, TaskFiles
from MedSegUncertaintyLib.training.shot_tasks import ShotTasks
from MedSegUncertaintyLib.training.touching_cells import TouchingCells
from MedSegUncertaintyLib.training.volume_pairs import VolumePairs

MOST_WORKERS = 8
"""More processes than these would not feed one network faster, and each holds a copy of the cases."""

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
        BadInputError: The recipe, the data or the checkpoint cannot be used, or the output folder holds an earlier
            training and ``resume`` is not set.
    """
    recipe = Recipe.from_file(recipe_path)
    output = Path(output_folder)
    planned = planned_package(recipe, output)
    data = open_data(recipe, data_folder, planned, progress)
    output.mkdir(parents=True, exist_ok=True)
    trainer = make_trainer(recipe, planned, output)
    if resume:
        trainer.resume()
    else:
        trainer.begin()
    clock = StageClock("train", recipe.steps, progress)
    trainer.fit(data, clock.at)
    draw_curves(output)
    package = write_package(recipe, trainer.average.module, output, len(data.training))
    figures = data.figures(package, progress)
    return write_package(recipe, load_sampler(package), output, len(data.training), figures, data.card_figures(figures))


def open_data(
    recipe: Recipe, folder: str | Path, package: ModelPackage, progress: Callable[[Progress], None] | None
) -> Photographs | ReaderImages | ShotTasks | TouchingCells | VolumePairs:
    """The cases of a recipe.

    Raises:
        BadInputError: They are missing or cannot be used.
    """
    if isinstance(recipe.data, ReaderFiles):
        return ReaderImages(Path(folder), recipe.data, package)
    if isinstance(recipe.data, CellImages):
        return TouchingCells(recipe.data, recipe.seed)
    if isinstance(recipe.data, PhotographFiles):
        return Photographs(Path(folder), recipe.data, package, progress)
    if isinstance(recipe.data, TaskFiles):
        return ShotTasks(Path(folder), recipe.data, recipe.stages[0].patch[0], recipe.seed, progress)
    return VolumePairs(Path(folder), recipe.data, package, progress)


def planned_package(recipe: Recipe, output: Path) -> ModelPackage:
    """The package that the recipe will make, so that its mistakes come to light before the training.

    Raises:
        PackageError: A field of the package's metadata is missing or wrong.
    """
    weights = {"file": "models/model.safetensors", "sha256": "0" * 64, "bytes": 0}
    metadata = package_metadata(recipe, 0, {})
    metadata[BLOCK]["weights"] = weights
    return ModelPackage.from_metadata(output / recipe.name, metadata)


def make_trainer(recipe: Recipe, package: ModelPackage, folder: Path) -> Trainer:
    """Trainer with freshly initialized weights, but for the parts that start as another package's network.

    Raises:
        BadInputError: A part is missing or is another network.
        PackageError: A package is missing or damaged.
    """
    torch.manual_seed(recipe.seed)
    model = registry.build(package.family, package.arguments)
    for part, name in recipe.start.items():
        trained = load_sampler(find_package(name))
        try:
            model.get_submodule(part).load_state_dict(trained.state_dict())
        except (AttributeError, RuntimeError) as error:
            raise BadInputError(f"The part {part} of {recipe.name} is not the network of {name}: {error}.") from error
    objective = registry.build_objective(package.family, recipe.objective)
    # The children would start anew for a handful of steps, and Windows and macOS start them slowly.
    workers = 0 if recipe.steps < 100 else min(MOST_WORKERS, usable_cpus())
    return Trainer(recipe, model, objective, folder, workers)


def usable_cpus() -> int:
    """CPUs that this process may use, which containers and batch systems restrict."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def package_metadata(recipe: Recipe, cases: int, figures: dict[str, Any]) -> dict[str, Any]:
    """Content of ``metadata.json`` without the entry of the weights."""
    own = copy.deepcopy(recipe.package)
    own["grid"].setdefault("spacing_mm", None)  # TOML has no null
    own["roi"].setdefault("size_mm", None)
    own.setdefault("training_data", {})["cases"] = cases
    own["evaluation"] = figures
    return {**recipe.metadata, BLOCK: own}


def write_package(
    recipe: Recipe,
    model: nn.Module,
    output: Path,
    cases: int,
    figures: dict[str, Any] | None = None,
    card_figures: str = "Not yet measured.",
) -> ModelPackage:
    """Write the package with half-precision weights, with the figures in metadata and card."""
    metadata = package_metadata(recipe, cases, figures or {})
    own = metadata[BLOCK]
    own["arguments"], model = shipped(own["family"], own["arguments"], model)
    license_text = LICENSE_TEXT.format(
        license=own["weights_license"], data=own["training_data"]["name"], data_license=own["training_data"]["license"]
    )
    card = recipe.card.replace("{cases}", f"{cases:,}").replace("{figures}", card_figures)
    return save_package(output / recipe.name, model, metadata, card, license_text, half=True)
