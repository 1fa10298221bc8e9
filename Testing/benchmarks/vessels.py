"""What self-regularization and refinement add on thin vessels: CHASE_DB1, trained and tested with several seeds.

    python Testing/benchmarks/vessels.py --data DIR --output DIR [--seeds 3]

Trains three networks per seed by the recipes: the segmentor alone (the recipe of ``selfreg-chase-retina`` with the
weight 0), the same with self-regularization, and ``hidiff-chase-retina``, which refines the latter. What OUTPUT holds
of an earlier run is not trained again. The networks are tested on the photographs that were not trained on, against
both observers, as they answer without noise, and the refiner also by one sample. Last comes the second observer
against the first. Means over the photographs; the spread is the standard deviation over the seeds.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from MedSegUncertaintyLib.inference.engine import Engine
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import load_sampler
from MedSegUncertaintyLib.training.photographs import (
    STRUCTURE,
    OutlinedPhotograph,
    agreement,
    load_case,
    photograph_files,
    summary,
)
from MedSegUncertaintyLib.training.recipe import PhotographFiles, Recipe
from MedSegUncertaintyLib.training.run import make_trainer, open_data, planned_package, write_package

RECIPES = Path(__file__).parents[2] / "recipes"

Figures = dict[str, dict[str, float]]
"""Mean figures by method and observer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows = []
    for number in range(options.seeds):
        folder = options.output / f"seed-{number}"
        rows.append(dict(figures_of_seed(number, options.data, folder)))
        (folder / "figures.json").write_text(json.dumps(rows[-1], indent=2))
    print(json.dumps(over_seeds(rows), indent=2))


def figures_of_seed(number: int, data: Path, folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Figures of the networks that are trained with one seed."""
    segmentor, refiner = (Recipe.from_file(RECIPES / f"{name}-chase-retina.toml") for name in ("selfreg", "hidiff"))
    assert isinstance(segmentor.data, PhotographFiles)
    tested = photograph_files(data, segmentor.data)[segmentor.data.training :]
    observers = segmentor.data.observers
    segmentor = replace(segmentor, seed=segmentor.seed + number)
    alone = replace(segmentor, objective={**segmentor.objective, "weight": 0.0})
    regular = trained(segmentor, data, folder / "regularized")
    refined = trained(
        replace(refiner, seed=refiner.seed + number, start={"segmentor.network": str(regular.folder)}),
        data,
        folder / "refined",
    )
    yield from measured("segmentor alone", trained(alone, data, folder / "alone"), tested, observers, noise=0.0)
    yield from measured("with SCR and IFD", regular, tested, observers, noise=0.0)
    yield from measured("refined", refined, tested, observers, noise=0.0)
    yield from measured("refined, one sample", refined, tested, observers, noise=1.0)
    rows = [agreement(file.outline(1), file.outline(0)) for file in tested]
    yield f"{observers[1]}, {observers[0]}", means(rows)


def trained(recipe: Recipe, data_folder: Path, folder: Path) -> ModelPackage:
    """The package of a recipe, trained if the folder has none."""
    if (folder / recipe.name).is_dir():
        return ModelPackage.from_folder(folder / recipe.name)
    planned = planned_package(recipe, folder)
    data = open_data(recipe, data_folder, planned, None)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = make_trainer(recipe, planned, folder)
    trainer.begin()
    trainer.fit(data, lambda _: None)
    return write_package(recipe, trainer.average.module, folder, len(data.training))


def measured(
    method: str, package: ModelPackage, tested: list[OutlinedPhotograph], observers: list[str], noise: float
) -> Iterator[tuple[str, dict[str, float]]]:
    """Figures of one answer of a package, whose noise has this standard deviation."""
    engine = Engine(load_sampler(package), torch.device("cpu"), False, CancelToken(), None)
    rows: dict[str, list[dict[str, float]]] = {observer: [] for observer in observers}
    for file in tested:
        image = torch.from_numpy(load_case(file, package)[0])
        (drawn,) = engine.sample(image, 1, NoiseSource(0, scale=noise))
        mask = (drawn.argmax(dim=0) == STRUCTURE).numpy()
        for index, observer in enumerate(observers):
            rows[observer].append(agreement(mask, file.outline(index)))
    for observer, values in rows.items():
        yield f"{method}, {observer}", means(values)


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: values["mean"] for name, values in summary(rows).items()}


def over_seeds(rows: list[Figures]) -> dict[str, dict[str, str]]:
    """Mean and standard deviation over the seeds."""

    def shown(values: list[float]) -> str:
        return f"{np.mean(values):.3f} ± {np.std(values, ddof=min(1, len(values) - 1)):.3f}"

    return {
        method: {name: shown([row[method][name] for row in rows]) for name in rows[0][method]} for method in rows[0]
    }


if __name__ == "__main__":
    main()
