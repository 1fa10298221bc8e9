"""Photographs with two observers: the shipped recipes of the retina, shrunk to seconds, one after the other."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.errors import BadInputError, PackageError
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import load_sampler
from MedSegUncertaintyLib.training.patches import PatchDataset
from MedSegUncertaintyLib.training.photographs import agreement, load_case, photograph_files
from MedSegUncertaintyLib.training.recipe import PhotographFiles, Recipe
from MedSegUncertaintyLib.training.run import open_data, planned_package, train
from PIL import Image

RECIPES = Path(__file__).resolve().parents[3] / "recipes"
SMALL = {
    "training": "3",
    "steps": "60",
    "batch": "4",
    "rise": "5",
    "learning_rate": "1e-2",
    "average": "0.8",
    "patch": "[32, 32]",
    "shift_voxels": "20.0",
    "widths": "[6, 8, 8, 8, 8, 8]",
    "features": "6",
    "dropout": "0.2",
    "precision": '"32-true"',
    "validate_every": "60",
}
ROWS, COLUMNS = 64, 80


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs with dark lines in green; the second observer draws them thinner than the first."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name in ("images", "1stHO", "2ndHO"):
        (folder / name).mkdir()
    for number in range(4):
        row, column = rng.integers(12, 50, 2)
        thick, thin = np.zeros((2, ROWS, COLUMNS), bool)
        thick[row : row + 4], thin[row : row + 2] = True, True
        thick[:, column : column + 4], thin[:, column : column + 2] = True, True
        color = np.stack([np.full(thick.shape, 200.0), 160.0 - 100.0 * thick, np.full(thick.shape, 60.0)], axis=-1)
        noisy = (color + rng.normal(0, 6, color.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "images" / f"{number}.png")
        for observer, mask in (("1stHO", thick), ("2ndHO", thin)):
            Image.fromarray(np.uint8(255 * mask)).save(folder / observer / f"{number}_{observer}.png")
    return folder


def shrunk(name: str, folder: Path, **changes: str) -> Path:
    """A copy of a shipped recipe that trains within seconds."""
    small = SMALL | changes
    lines = []
    for line in (RECIPES / f"{name}.toml").read_text(encoding="utf-8").splitlines():
        key = line.split(" = ")[0]
        lines.append(f"{key} = {small[key]}" if key in small and " = " in line else line)
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def segmentor(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    folder = tmp_path_factory.mktemp("segmentor")
    return train(shrunk("selfreg-chase-retina", folder), photographs, folder / "out")


def test_the_first_by_name_are_trained_on_with_the_first_observers_outlines(photographs: Path, tmp_path: Path) -> None:
    recipe = Recipe.from_file(shrunk("selfreg-chase-retina", tmp_path))
    package = planned_package(recipe, tmp_path)
    data = open_data(recipe, photographs, package, None)
    assert len(data.training) == 3
    image, labels = data.training[1]
    assert (image.shape, image.dtype) == ((3, ROWS, COLUMNS), np.float32)
    with Image.open(photographs / "1stHO" / "1_1stHO.png") as picture:
        np.testing.assert_array_equal(labels[0], np.asarray(picture) > 0)
    # Rows and columns lie as in the picture: green is dark on the lines.
    assert image[1][labels[0] == 1].max() < image[1][labels[0] == 0].min()
    assert np.abs(image.reshape(3, -1).mean(axis=1)).max() < 0.1  # each color has a mean of its own
    patch, target = PatchDataset(data.training, recipe.stages[0], recipe.augmentation, seed=1)[0]
    assert (patch.shape, target.shape) == ((3, 32, 32), (32, 32))


def test_the_figures_are_those_of_the_tested_photograph_against_both_observers(
    segmentor: ModelPackage, photographs: Path
) -> None:
    figures = segmentor.evaluation
    assert (figures["photographs"], segmentor.training_data.cases) == (1, 3)
    tested = photograph_files(photographs, PhotographFiles("images", ["1stHO", "2ndHO"], 3))[3]
    second = agreement(tested.outline(1), tested.outline(0))
    assert figures["methods"]["2ndHO, 1stHO"]["dice"]["mean"] == pytest.approx(second["dice"])
    assert second["sensitivity"] == pytest.approx(0.5, abs=0.03)
    first, other = (figures["methods"][f"mean of the samples, {name}"] for name in ("1stHO", "2ndHO"))
    assert first["dice"]["mean"] > 0.8  # lines this dark are learned in seconds
    assert first["dice"]["mean"] > other["dice"]["mean"] + 0.1
    assert f"| mean of the samples, 1stHO | {first['dice']['mean']:.3f} (0.000) |" in segmentor.card


def test_a_refiner_starts_from_another_packages_segmentor_and_leaves_it_alone(
    segmentor: ModelPackage, photographs: Path, tmp_path: Path
) -> None:
    start = '{ "segmentor.network" = "' + segmentor.folder.as_posix() + '" }'
    path = shrunk("hidiff-chase-retina", tmp_path, start=start, precision='"bf16-mixed"', learning_rate="3e-3")
    package = train(path, photographs, tmp_path / "out")
    refined, alone = load_sampler(package), load_sampler(segmentor)
    image = torch.from_numpy(
        load_case(photograph_files(photographs, PhotographFiles("images", ["1stHO"], 3))[3], package)[0]
    )[None, :, :64, :64]
    expected = alone(image).softmax(dim=1)[:, 1:]
    torch.testing.assert_close(refined.encode(image)["prior"], expected, rtol=0, atol=1e-5)
    assert package.evaluation["methods"]["a single sample, 1stHO"]["dice"]["mean"] > 0.6


def test_what_cannot_start_is_one_sentence(segmentor: ModelPackage, photographs: Path, tmp_path: Path) -> None:
    folder = segmentor.folder.as_posix()
    for part, name, kind, words in (
        ("segmentor.nothing", folder, BadInputError, "The part segmentor.nothing of hidiff-chase-retina is not the"),
        ("refiner", folder, BadInputError, f"The part refiner of hidiff-chase-retina is not the network of {folder}"),
        ("segmentor.network", "unheard-of", PackageError, 'No model package is named "unheard-of"'),
    ):
        path = shrunk("hidiff-chase-retina", tmp_path, start=f'{{ "{part}" = "{name}" }}')
        with pytest.raises(kind, match=re.escape(words)):
            train(path, photographs, tmp_path / "never")


def test_photographs_that_do_not_fit_are_one_sentence(photographs: Path, tmp_path: Path) -> None:

    with pytest.raises(BadInputError, match=r"There is no folder .*3rdHO\."):
        photograph_files(photographs, PhotographFiles("images", ["1stHO", "3rdHO"], 3))
    with pytest.raises(BadInputError, match="Of 4 photographs, 4 cannot be trained on and others tested"):
        photograph_files(photographs, PhotographFiles("images", ["1stHO"], 4))
    for name in ("images", "1stHO"):
        (tmp_path / name).mkdir()
    (tmp_path / "images" / "0.png").write_bytes((photographs / "images" / "0.png").read_bytes())
    with pytest.raises(BadInputError, match="not equal in number: 1 in images, 0 in 1stHO"):
        photograph_files(tmp_path, PhotographFiles("images", ["1stHO"], 1))
    Image.fromarray(np.zeros((ROWS, COLUMNS - 1), np.uint8)).save(tmp_path / "1stHO" / "0.png")
    package = planned_package(Recipe.from_file(RECIPES / "selfreg-chase-retina.toml"), tmp_path)
    (tmp_path / "images" / "1.png").write_bytes((photographs / "images" / "1.png").read_bytes())
    (tmp_path / "1stHO" / "1.png").write_bytes((tmp_path / "1stHO" / "0.png").read_bytes())
    file = photograph_files(tmp_path, PhotographFiles("images", ["1stHO"], 1))[0]
    with pytest.raises(BadInputError, match=r"0\.png is not as large as 0\.png"):
        load_case(file, package)
