"""Cells that touch: the images, their colors, and that instances come out of a network trained for seconds."""

from pathlib import Path

import numpy as np
import pytest
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.training.recipe import CellImages, Recipe
from MedSegUncertaintyLib.training.run import train
from MedSegUncertaintyLib.training.touching_cells import SAMPLES, TouchingCells, instance_figures
from scipy import ndimage

RECIPE = Path(__file__).resolve().parents[3] / "recipes" / "hpunet-touching-cells.toml"


@pytest.fixture
def data() -> TouchingCells:
    recipe = Recipe.from_file(RECIPE)
    assert isinstance(recipe.data, CellImages)
    return TouchingCells(recipe.data, recipe.seed)


def test_images_show_cells_that_touch(data: TouchingCells) -> None:
    touching = 0
    for number in range(40):
        (image,), (truth,) = data.training[number]
        assert image.shape == truth.shape == (32, 32)
        assert 0.0 <= image.min() < image.max() <= 1.0
        cells = int(truth.max())
        assert 2 <= cells <= 5
        assert min(np.bincount(truth.ravel())[1:]) > 20
        touching += ndimage.label(truth > 0)[1] < cells
        assert image[truth == 0].mean() + 0.3 < image[truth > 0].mean()
    assert touching >= 36
    again = data.training[7]
    np.testing.assert_array_equal(again[0], data.training[7][0])
    assert not np.array_equal(again[0], data.training[8][0])


def test_every_sight_has_other_colors_of_the_same_cells(data: TouchingCells) -> None:
    recipe = Recipe.from_file(RECIPE)
    items = data.items(recipe.stages[0], recipe.augmentation, 0)
    seen = np.zeros(5)
    for item in range(60):
        image, colors = items[item]
        assert image.shape == (1, 32, 32)
        seen += np.bincount(colors.ravel(), minlength=5)
        np.testing.assert_array_equal(colors, items[item][1])
    assert len(seen) == 5
    assert seen[1:].min() > 0.6 * seen[1:].mean()


def test_figures_of_perfect_samples(data: TouchingCells) -> None:
    _, (truth,) = data.training[3]
    rng = np.random.default_rng(0)
    palettes = np.concatenate([np.zeros((SAMPLES, 1), int), rng.integers(1, 5, (SAMPLES, int(truth.max())))], axis=1)
    figures = instance_figures(truth, palettes[:, truth])
    assert figures["instance error"] == 0
    assert figures["foreground dice"] == 1
    assert figures["cells"] == figures["cells found"] == truth.max()
    assert figures["error of connected regions"] > 0.2


def test_instances_come_out_of_samples(tmp_path: Path) -> None:
    text = RECIPE.read_text(encoding="utf-8").replace("steps = 1000", "steps = 600")
    text = text.replace("validation_images = 60", "validation_images = 6")
    (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")
    package = train(tmp_path / "recipe.toml", tmp_path, tmp_path / "out")
    figures = ModelPackage.from_folder(package.folder).evaluation["touching_cells"]
    assert figures["foreground dice"] > 0.95
    assert figures["instance error"] < 0.6 * figures["error of connected regions"]
    assert figures["instance error"] <= figures["error before filter and repair"]
    assert f"| instance error | {figures['instance error']:.4f} |" in package.card
