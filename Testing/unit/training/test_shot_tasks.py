"""Training to learn from examples: tasks out of noise and volumes, queries as a walk meets them, and a package."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.models.universeg import UniverSeg, build_objective
from MedSegUncertaintyLib.models.universeg.objective import lean_logits
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.training.episodes import Episodes, Source, like_predicted, set_choice, walk_choice
from MedSegUncertaintyLib.training.loop import read_log
from MedSegUncertaintyLib.training.recipe import Recipe, TaskVolume
from MedSegUncertaintyLib.training.run import train
from MedSegUncertaintyLib.training.synthetic_tasks import synthetic_images
from MedSegUncertaintyLib.training.tasks import Task, similar_pieces, synthetic_task, volume_tasks
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume
from MedSegUncertaintyLib.volumes.reading import write_volume

RECIPE = Path(__file__).resolve().parents[3] / "recipes" / "universeg-mini.toml"
SIZE = 32


def write_ball(folder: Path, name: str, center: tuple[int, int, int]) -> None:
    """Write a bright ball (label 1) with a dark core (label 2) in noise, 40 x 36 x 32 voxels."""
    geometry = Geometry.from_parts((40, 36, 32), (1.0, 1.0, 1.5))
    k, j, i = np.indices(geometry.shape_kji)
    distance = np.sqrt((1.5 * (k - center[0])) ** 2 + (j - center[1]) ** 2 + (i - center[2]) ** 2)
    labels = np.select([distance < 4, distance < 8], [2, 1], 0).astype(np.uint8)
    image = np.random.default_rng(0).normal(100, 5, labels.shape) + np.array([0, 80, -60])[labels]
    write_volume(folder / f"{name}.nii.gz", image.astype(np.float32), geometry)
    write_volume(folder / f"{name}_labels.nii.gz", labels, geometry)


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    write_ball(folder, "a", (16, 18, 20))
    write_ball(folder, "b", (15, 16, 18))
    return folder


DATA = """
[data]
supports = 3
synthetic_tasks = 4
synthetic_share = 0.5
synthetic_images = 6

[[data.volumes]]
image = "a.nii.gz"
labels = "a_labels.nii.gz"
left_out = [2]

[[data.validation_volumes]]
name = "ball"
image = "b.nii.gz"
labels = "b_labels.nii.gz"
left_out = [2]

"""


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """The shipped recipe, shrunk to seconds."""
    text = RECIPE.read_text(encoding="utf-8")
    text = text[: text.index("\n[data]")] + DATA + text[text.index("[augmentation]") :]
    small = {
        "patch": f"[{SIZE}, {SIZE}]", "steps": "6", "batch": "2", "rise": "2", "validate_every": "3",
        "precision": '"32-true"', "encoder_blocks": "[4, 4]", "square": "{ pixels = 32 }",
    }  # fmt: skip
    lines = []
    for line in text.splitlines():
        key = line.split(" = ")[0]
        lines.append(f"{key} = {small[key]}" if key in small and " = " in line else line)
    path = tmp_path / "recipe.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def a_stack() -> Task:
    """A disc in the slices 6 to 13 of 20."""
    masks = np.zeros((20, SIZE, SIZE), np.uint8)
    masks[6:14, 8:20, 8:20] = 255
    return Task(masks // 2 + 20, masks, True)


def test_synthetic_tasks_are_reproducible_and_differ():
    first, again, other = (synthetic_images(SIZE, 5, (1, number)) for number in (0, 0, 1))
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)
    assert first.images.shape == first.labels.shape == (5, SIZE, SIZE)


def test_stacks_go_on_from_slice_to_slice_and_sets_do_not():
    tasks = [synthetic_images(SIZE, 12, (0, number)) for number in range(30)]
    same = {
        kind: np.mean([(t.labels[1:] == t.labels[:-1]).mean() for t in tasks if t.is_stack is kind])
        for kind in (True, False)
    }
    assert same[True] > same[False]


def test_structures_of_synthetic_stacks_begin_and_end():
    rng = np.random.default_rng(0)
    stacks = [images for images in (synthetic_images(SIZE, 14, (0, n)) for n in range(20)) if images.is_stack]
    tasks = [task for stack in stacks for _ in range(4) if (task := synthetic_task(stack, rng))]
    assert any(task.present.any() and not task.present.all() for task in tasks)


def test_every_structure_in_every_plane_is_a_task(data_folder):
    rule = TaskVolume("a.nii.gz", "a_labels.nii.gz", left_out=[2], name="ball")
    tasks = list(volume_tasks(data_folder, rule, SIZE, crops=True, seed=0))
    assert [task.name for task in tasks[::2]] == ["ball, axis 0", "ball, axis 1", "ball, axis 2"]
    whole, crop = tasks[:2]
    assert whole.present.any()
    assert not whole.present.all()  # slices beyond the structure belong to it
    assert crop.masks.mean() > 1.1 * whole.masks.mean()


def test_left_out_labels_are_in_no_task(data_folder):
    rule = TaskVolume("a.nii.gz", "a_labels.nii.gz", left_out=[1, 2])
    assert not list(volume_tasks(data_folder, rule, SIZE, crops=False, seed=0))


def test_labels_on_another_grid_are_refused(data_folder, tmp_path):
    write_ball(tmp_path, "a", (16, 18, 20))
    write_volume(
        tmp_path / "a_labels.nii.gz", np.ones((32, 36, 39), np.uint8), Geometry.from_parts((39, 36, 32), (1, 1, 1))
    )
    with pytest.raises(BadInputError, match="does not lie on the grid of its image"):
        list(volume_tasks(tmp_path, TaskVolume("a.nii.gz", "a_labels.nii.gz"), SIZE, crops=False, seed=0))


def test_pieces_of_similar_intensity_are_connected():
    array = np.random.default_rng(0).normal(100, 1, (24, 24, 24)).astype(np.float32)
    array[3:9, 3:9, 3:9] = array[14:20, 14:20, 14:20] = 200
    pieces = similar_pieces(Volume(array, Geometry.from_parts((24, 24, 24), (1, 1, 1))))
    assert pieces[6, 6, 6] != pieces[17, 17, 17]
    assert min(pieces[6, 6, 6], pieces[17, 17, 17]) > 0


def test_query_is_never_among_its_examples():
    rng = np.random.default_rng(0)
    for choose in (set_choice, walk_choice):
        for _ in range(50):
            chosen, _ = choose(a_stack(), 8, 0.35, rng)
            assert len(chosen) == 9
            assert chosen[0] not in chosen[1:]


def test_neighbors_of_a_walk_lie_on_one_side_and_count_twice():
    chosen, predicted = walk_choice(a_stack(), 8, 0.35, np.random.default_rng(1))
    steps = chosen[predicted] - chosen[0]
    assert sorted(np.abs(steps)) == [1, 1, 2, 2]
    assert len(set(np.sign(steps))) == 1


def test_some_queries_show_nothing():
    episodes = Episodes([Source([a_stack()], 1.0)], 4, Recipe.from_file(RECIPE).augmentation, 0)
    empty = [not episodes[number][1].any() for number in range(60)]
    assert 5 < sum(empty) < 40


def test_items_depend_on_seed_and_number_alone():
    sources = [Source([a_stack()], 1.0), Source([synthetic_images(SIZE, 6, (0, 0))], 2.0)]
    rule = Recipe.from_file(RECIPE).augmentation
    first, again = (Episodes(sources, 4, rule, 0) for _ in range(2))
    _ = first[3]
    for mine, theirs in zip(first[7], again[7], strict=True):
        assert torch.equal(mine, theirs)
    assert first[7][0].shape == (9, SIZE, SIZE)
    assert 0 <= first[7][0].min() <= first[7][0].max() <= 1


def test_predicted_masks_are_near_the_true_ones():
    mask = torch.from_numpy(a_stack().masks[8]) / 255
    found = torch.stack([like_predicted(mask, np.random.default_rng(seed)) for seed in range(20)])
    overlap = 2 * (found * mask).sum(dim=(1, 2)) / (found.sum(dim=(1, 2)) + mask.sum())
    assert overlap.min() > 0.6
    assert overlap.min() < 0.99


def test_lean_logits_are_those_of_the_network():
    torch.manual_seed(0)
    model = UniverSeg([4, (6, 5), 8])
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    arguments = torch.rand(2, 1, 16, 24), torch.rand(2, 3, 1, 16, 24), torch.rand(2, 3, 1, 16, 24).round()
    lean, plain = lean_logits(model, *arguments), model(*arguments)
    torch.testing.assert_close(lean, plain, rtol=1e-4, atol=1e-4)
    gradients = [torch.autograd.grad(logits.square().sum(), model.out_conv.conv.weight)[0] for logits in (lean, plain)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


def test_empty_query_asks_for_an_empty_answer():
    objective = build_objective({"cross_entropy_weight": 0.3})
    model, image = UniverSeg([4, 4]), torch.rand(1, 5, 16, 16)
    losses = []
    for bias in (-4.0, 4.0):
        model.out_conv.conv.bias.data.fill_(bias)
        losses.append(objective(model, image, torch.zeros(1, 16, 16), 0, torch.Generator())["loss"])
    assert losses[0] < 0.5 * losses[1]


def test_source_without_a_task_is_refused(recipe_path, data_folder, tmp_path):
    text = recipe_path.read_text(encoding="utf-8").replace("left_out = [2]", "left_out = [1, 2]", 1)
    recipe_path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInputError, match=r"a\.nii\.gz gives no task"):
        train(recipe_path, data_folder, tmp_path / "out")


def test_recipe_makes_a_package_with_figures(recipe_path, data_folder, tmp_path):
    package = train(recipe_path, data_folder, tmp_path / "out")
    assert ModelPackage.from_folder(package.folder).square_pixels == SIZE
    by_size = package.evaluation["dice_by_support_size"]["ball, axis 0"]
    assert list(by_size) == ["1", "2", "4", "8", "16"]
    assert "| ball, axis 1 |" in package.card
    assert "validation dice ball, axis 0" in read_log(tmp_path / "out")[0]


def test_resumed_training_gives_the_same_weights(recipe_path, data_folder, tmp_path, monkeypatch):
    whole = train(recipe_path, data_folder, tmp_path / "whole")

    class StopError(Exception):
        pass

    def stop(event):
        if event.stage == "train" and event.done == 3:
            raise StopError

    text = recipe_path.read_text(encoding="utf-8")
    with pytest.raises(StopError):
        train(recipe_path, data_folder, tmp_path / "cut", progress=_after_save(stop))
    assert text == recipe_path.read_text(encoding="utf-8")
    resumed = train(recipe_path, data_folder, tmp_path / "cut", resume=True)
    assert resumed.weights.sha256 == whole.weights.sha256


def _after_save(stop):
    """The checkpoint of step 3 is written after the report of step 3, so stop at the report of the next one."""

    def listener(event):
        stop(replace(event, done=event.done - 1))

    return listener
