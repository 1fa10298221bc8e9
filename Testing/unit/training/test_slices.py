"""A 2D network that is trained on slices of volumes: the shipped recipe of HiDiff with three classes, in small."""

from pathlib import Path

import numpy as np
import pytest
from MedSegUncertaintyLib.packages.weights import load_sampler
from MedSegUncertaintyLib.training.loop import read_log
from MedSegUncertaintyLib.training.recipe import Recipe
from MedSegUncertaintyLib.training.run import open_data, planned_package, train
from MedSegUncertaintyLib.training.volume_pairs import VolumePairs, slices_of

RECIPE = Path(__file__).resolve().parents[3] / "recipes" / "hidiff-hippocampus-mr.toml"
SMALL = {
    "validation_every": "3",
    "pretraining": "40",
    "steps": "40",
    "batch": "6",
    "rise": "2",
    "learning_rate": "1e-2",
    "average": "0.8",
    "patch": "[32, 32]",
    "shift_voxels": "2.0",
    "widths": "[8, 8, 8, 8, 8, 8]",
    "precision": '"32-true"',
    "validate_every": "40",
}


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    lines = []
    for line in RECIPE.read_text(encoding="utf-8").splitlines():
        key = line.split(" = ")[0]
        lines.append(f"{key} = {SMALL[key]}" if key in SMALL and " = " in line else line)
    path = tmp_path / "recipe.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_patch_of_two_sizes_is_one_of_a_slice(recipe_path: Path, box_data: Path) -> None:
    recipe = Recipe.from_file(recipe_path)
    data = open_data(recipe, box_data, planned_package(recipe, box_data), None)
    assert isinstance(data, VolumePairs)
    slices = slices_of(data.training)
    assert len(slices) == 4 * 18
    image, labels = slices[18 + 7]
    np.testing.assert_array_equal(image, data.training[1][0][:, 7])
    np.testing.assert_array_equal(labels, data.training[1][1][:, 7])
    patch, target = data.items(recipe.stages[0], recipe.augmentation, seed=1)[0]
    assert (patch.shape, target.shape) == ((1, 32, 32), (32, 32))


def test_three_classes_end_to_end(recipe_path: Path, box_data: Path, tmp_path: Path) -> None:
    package = train(recipe_path, box_data, tmp_path / "out")
    log = read_log(tmp_path / "out")
    assert [row["step"] for row in log] == [40, 80]
    assert log[0]["cross entropy"] > log[1]["cross entropy"] > 0.0
    assert log[1]["validation dice Anterior hippocampus"] > 0.7
    structures = package.evaluation["structures"]
    assert structures["Anterior hippocampus"]["mean_dice_of_single_samples"]["mean"] > 0.6
    assert structures["Posterior hippocampus"]["dice_of_mean_prediction"]["mean"] > 0.6
    model = load_sampler(package)
    assert (model.classes, model.refiner.head[-1].out_channels) == (3, 3)
    assert package.arguments["packed"] is True
