"""Training: recipes, reproducible patches, exact resume, and a package at the end."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.errors import BadInputError, PackageError
from MedSegUncertaintyLib.inference.progress import Progress
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.training.loop import Trainer, learning_rate, read_log
from MedSegUncertaintyLib.training.patches import Case, PatchDataset
from MedSegUncertaintyLib.training.recipe import PairFiles, Recipe
from MedSegUncertaintyLib.training.run import make_trainer, open_data, planned_package, train
from MedSegUncertaintyLib.training.volume_pairs import VolumePairs, split_cases
from MedSegUncertaintyLib.volumes.geometry import Geometry
from MedSegUncertaintyLib.volumes.reading import write_volume


def data_of(recipe: Recipe, folder: Path) -> VolumePairs:
    data = open_data(recipe, folder, planned_package(recipe, folder), None)
    assert isinstance(data, VolumePairs)
    return data


def trainer_of(recipe: Recipe, folder: Path) -> Trainer:
    return make_trainer(recipe, planned_package(recipe, folder), folder)


def test_every_nth_case_is_kept_for_validation(recipe: Recipe, box_data: Path) -> None:
    assert isinstance(recipe.data, PairFiles)
    training, validation = split_cases(box_data, recipe.data)
    assert [case.image.name[:6] for case in validation] == ["case_0", "case_3"]
    assert [case.image.name[:6] for case in training] == ["case_1", "case_2", "case_4", "case_5"]


def test_patches_depend_on_seed_and_number_alone(recipe: Recipe, box_data: Path) -> None:
    loaded = data_of(recipe, box_data).training
    data = PatchDataset(loaded, recipe.stages[0], recipe.augmentation, seed=1)
    again = PatchDataset(loaded, recipe.stages[0], recipe.augmentation, seed=1)
    other = PatchDataset(loaded, recipe.stages[0], recipe.augmentation, seed=2)
    forward = [data[n] for n in (0, 5, 9)]
    backward = [again[n] for n in (9, 5, 0)][::-1]
    for (image, label), (image_again, label_again) in zip(forward, backward, strict=True):
        assert torch.equal(image, image_again)
        assert torch.equal(label, label_again)
        assert image.shape == (1, 16, 16, 16)
        assert set(label.unique().tolist()) <= {0, 1, 2}
    assert not torch.equal(forward[0][0], other[0][0])


def test_image_and_label_move_together(recipe: Recipe, box_data: Path) -> None:
    loaded = data_of(recipe, box_data).training
    data = PatchDataset(loaded, recipe.stages[0], recipe.augmentation, seed=3)
    inside, outside = [], []
    for number in range(12):
        image, label = data[number]
        inside.append(image[0][label == 1].mean())
        outside.append(image[0][label == 0].mean())
    assert torch.stack(inside).mean() > torch.stack(outside).mean() + 1.0


def test_beyond_the_image_is_background_and_its_reflection(recipe: Recipe, box_data: Path) -> None:
    loaded: list[Case] = [(np.full((1, 18, 20, 24), 2.0, np.float32), np.ones((1, 18, 20, 24), np.uint8))]
    still = replace(recipe.augmentation, rotate_degrees=0.0, scale=0.0, shift_voxels=0.0, flip_axes=[], noise=0.0)
    still = replace(still, bias_field=0.0, contrast_gamma=[1.0, 1.0])
    for padding, beyond in (("zeros", 0.0), ("reflection", 2.0)):
        stage = replace(recipe.stages[0], patch=[40, 40, 40], padding=padding)
        image, label = PatchDataset(loaded, stage, still, seed=0)[0]
        assert image[0, 0, 0, 0] == pytest.approx(beyond, abs=1e-4)
        assert label[0, 0, 0] == 0
        assert label.sum() == 18 * 20 * 24


def test_resumed_training_gives_the_same_losses_and_weights(recipe: Recipe, box_data: Path, tmp_path: Path) -> None:
    data = data_of(recipe, box_data)
    whole, first = (trainer_of(recipe, tmp_path / name) for name in ("whole", "parts"))
    for trainer in (whole, first):
        trainer.folder.mkdir()
    whole.fit(data, lambda step: None)

    class KilledError(Exception):
        pass

    def kill(step: int) -> None:
        if step == 5:  # after the checkpoint of step 3, so steps 4 and 5 are lost and done again
            raise KilledError

    with pytest.raises(KilledError):
        first.fit(data, kill)
    resumed = trainer_of(recipe, tmp_path / "parts")
    resumed.resume()
    assert resumed.step == 3
    resumed.fit(data, lambda step: None)

    assert read_log(tmp_path / "parts") == read_log(tmp_path / "whole")
    assert [row["step"] for row in read_log(tmp_path / "whole")] == [3, 6]
    for name, tensor in whole.average.state_dict().items():
        assert torch.equal(tensor, resumed.average.state_dict()[name]), name


def test_training_learns_and_writes_a_package(recipe_path: Path, box_data: Path, tmp_path: Path) -> None:
    text = recipe_path.read_text(encoding="utf-8")
    for old, new in (
        ("steps = 4", "steps = 120"),
        ("= 1e-3", "= 1e-2"),
        ("validate_every = 3", "validate_every = 41"),
        ("= 0.998", "= 0.9"),
    ):
        assert old in text
        text = text.replace(old, new)
    recipe_path.write_text(text, encoding="utf-8")
    seen: list[Progress] = []
    package = train(recipe_path, box_data, tmp_path / "out", progress=seen.append)
    rows = read_log(tmp_path / "out")
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["validation dice Anterior hippocampus"] > 0.8
    assert (tmp_path / "out" / "curves.png").stat().st_size > 10_000
    assert {event.stage for event in seen} >= {"read cases", "train", "validate"}

    again = ModelPackage.from_folder(tmp_path / "out" / "ssn-hippocampus-mr")
    assert again.evaluation == package.evaluation
    assert again.evaluation["cases"] == 2
    assert again.training_data.cases == 4
    figures = again.evaluation["structures"]["Anterior hippocampus"]
    assert figures["dice_of_mean_prediction"]["mean"] == pytest.approx(
        rows[-1]["validation dice Anterior hippocampus"], abs=0.1
    )
    assert f"{figures['dice_of_mean_prediction']['mean']:.3f}" in again.card
    json.dumps(again.metadata)


def test_resume_without_a_checkpoint_is_one_sentence(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="There is no checkpoint to resume in"):
        trainer_of(recipe, tmp_path).resume()


def test_resume_refuses_another_network(recipe: Recipe, recipe_path: Path, tmp_path: Path) -> None:
    trainer_of(recipe, tmp_path).save()
    wider = recipe_path.read_text(encoding="utf-8").replace("widths = [16, 16, 16]", "widths = [16, 16, 24]")
    recipe_path.write_text(wider, encoding="utf-8")
    with pytest.raises(BadInputError, match="is damaged or belongs to another network"):
        trainer_of(Recipe.from_file(recipe_path), tmp_path).resume()


def test_a_damaged_checkpoint_is_one_sentence(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"junk")
    with pytest.raises(BadInputError, match="is damaged or belongs to another network"):
        trainer_of(recipe, tmp_path).resume()


def test_a_new_training_does_not_overwrite_an_earlier_one(recipe_path: Path, box_data: Path, tmp_path: Path) -> None:
    trainer_of(Recipe.from_file(recipe_path), tmp_path).save()
    with pytest.raises(BadInputError, match="holds an earlier training; pass --resume or choose another folder"):
        train(recipe_path, box_data, tmp_path)


def test_mistakes_in_the_package_come_to_light_before_training(
    recipe_path: Path, box_data: Path, tmp_path: Path
) -> None:
    text = recipe_path.read_text(encoding="utf-8").replace('weights_license = "CC-BY-SA-4.0"\n', "")
    recipe_path.write_text(text, encoding="utf-8")
    with pytest.raises(PackageError, match="weights_license is missing"):
        train(recipe_path, box_data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_are_never_resampled(recipe: Recipe, tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    geometry = Geometry.from_parts((36, 50, 36), (0.985, 0.985, 0.985))
    rng = np.random.default_rng(0)
    write_volume(tmp_path / "images" / "a.nii.gz", rng.normal(100, 9, geometry.shape_kji), geometry)
    write_volume(tmp_path / "labels" / "a.nii.gz", np.zeros(geometry.shape_kji, np.uint8), geometry)
    with pytest.raises(BadInputError, match="is not at the spacing of the recipe"):
        data_of(recipe, tmp_path)


def test_learning_rate_rises_then_falls(recipe: Recipe) -> None:
    rule = replace(recipe.stages[0], steps=10)
    rates = [learning_rate(rule, step) for step in range(rule.steps)]
    assert rates[0] == rule.learning_rate
    assert all(first > second for first, second in pairwise(rates[1:]))
    assert rates[-1] < 0.2 * rule.learning_rate


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("seed = 2020", "seed ="), "is not valid TOML"),
        (("seed = 2020", "sead = 2020"), "unexpected keyword argument 'sead'"),
        (("noise = 0.1\n", ""), "missing 1 required positional argument: 'noise'"),
    ],
)
def test_bad_recipes_are_one_sentence(recipe_path: Path, change: tuple[str, str], sentence: str) -> None:
    recipe_path.write_text(recipe_path.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(BadInputError, match=sentence):
        Recipe.from_file(recipe_path)


def test_bad_data_is_one_sentence(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"There are no \.nii\.gz images in"):
        data_of(recipe, tmp_path)
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    array = np.arange(60.0, dtype=np.float32).reshape(3, 4, 5)
    write_volume(tmp_path / "images" / "a.nii.gz", array, Geometry.from_parts((5, 4, 3), (1.0, 1.0, 1.0)))
    with pytest.raises(BadInputError, match=r"1 images have no label map in .*, first a\.nii\.gz"):
        data_of(recipe, tmp_path)
    shifted = Geometry.from_parts((5, 4, 3), (1.0, 1.0, 1.0), (9.0, 0.0, 0.0))
    write_volume(tmp_path / "labels" / "a.nii.gz", (array > 5).astype(np.uint8), shifted)
    with pytest.raises(BadInputError, match=r"a\.nii\.gz does not lie on the grid of its image"):
        data_of(recipe, tmp_path)
