"""A data set of boxes and a recipe that trains on it within seconds."""

from pathlib import Path

import numpy as np
import pytest
from MedSegUncertaintyLib.training.recipe import Recipe
from MedSegUncertaintyLib.volumes.geometry import Geometry
from MedSegUncertaintyLib.volumes.reading import write_volume

RECIPES = Path(__file__).resolve().parents[3] / "recipes"


STAGES = """
[[stages]]
patch = [16, 16, 16]
padding = "zeros"
steps = 4
batch = 2
learning_rate = 1e-3
rise = 1

[[stages]]
patch = [24, 16, 16]
padding = "reflection"
steps = 2
batch = 1
learning_rate = 1e-3
rise = 1

"""


@pytest.fixture(scope="session")
def box_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases of 24 x 20 x 18 voxels: a box of a bright (label 1) and a dark half (label 2) in noise."""
    folder = tmp_path_factory.mktemp("boxes")
    rng = np.random.default_rng(0)
    geometry = Geometry.from_parts((24, 20, 18), (1.0, 1.0, 1.0))
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number in range(6):
        labels = np.zeros(geometry.shape_kji, dtype=np.uint8)
        k, j, i = rng.integers(4, 7, 3)
        labels[k : k + 8, j : j + 8, i : i + 6] = 1
        labels[k : k + 8, j : j + 8, i + 6 : i + 12] = 2
        image = rng.normal(100, 5, labels.shape) + np.array([0, 90, -60])[labels]
        write_volume(folder / "images" / f"case_{number}.nii.gz", image.astype(np.float32), geometry)
        write_volume(folder / "labels" / f"case_{number}.nii.gz", labels, geometry)
    return folder


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """The shipped hippocampus recipe, shrunk to seconds."""
    text = (RECIPES / "ssn-hippocampus-mr.toml").read_text(encoding="utf-8")
    small = {
        "validation_every": "3",
        "pairs": "3",
        "mean_dice_weight": "1.0",
        "warmup": "2",
        "validate_every": "3",
        "widths": "[16, 16, 16]",
        "features": "16",
        "precision": '"32-true"',
    }
    lines = []
    for line in text.splitlines():
        key = line.split(" = ")[0]
        lines.append(f"{key} = {small[key]}" if key in small and " = " in line else line)
    kept = "\n".join(lines)
    before, after = kept[: kept.index("[[stages]]")], kept[kept.index("[optimization]") :]
    path = tmp_path / "recipe.toml"
    path.write_text(before + STAGES + after, encoding="utf-8")
    return path


@pytest.fixture
def recipe(recipe_path: Path) -> Recipe:
    return Recipe.from_file(recipe_path)
