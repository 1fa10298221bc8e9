"""Training on images with several readers: a reader at random, sharp shifts, and a package with its figures."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.training.changes import random_patch
from MedSegUncertaintyLib.training.loop import read_log
from MedSegUncertaintyLib.training.patches import PatchDataset
from MedSegUncertaintyLib.training.reader_images import ReaderImages
from MedSegUncertaintyLib.training.recipe import Augmentation, Recipe, Stage
from MedSegUncertaintyLib.training.run import open_data, planned_package, train
from PIL import Image

RECIPES = Path(__file__).resolve().parents[3] / "recipes"
SIZE = 64
STILL = Augmentation(
    warp_share=0.0, rotate_degrees=0.0, scale=0.0, shift_voxels=0.0, quarter_turns=False, flip_axes=[],
    contrast_gamma=[1.0, 1.0], bias_field=0.0, noise=0.0, blur_voxels=0.0,
)  # fmt: skip


def write_readers(path: Path, patients: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Write bright discs with three readers: a small disc, a large one, and nothing."""
    rng = np.random.default_rng(patients[0])
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    radii = rng.uniform(8, 14, len(patients))
    discs = np.hypot(y, x) < radii[:, None, None]
    images = np.clip(60 + 120 * discs + rng.normal(0, 12, discs.shape), 0, 255).astype(np.uint8)
    small = np.hypot(y, x) < 0.6 * radii[:, None, None]
    masks = np.stack([small, discs, np.zeros_like(discs)], axis=1).astype(np.uint8)
    files = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "WEBP", lossless=True)
        files.append(file.getvalue())
    np.savez(
        path,
        webp=np.frombuffer(b"".join(files), np.uint8),
        offsets=np.cumsum([0, *map(len, files)]),
        masks_packed=np.packbits(masks, axis=-1),
        patient=np.array(patients, np.int16),
    )
    return images, masks


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """The shipped recipe of an SSN, shrunk to seconds."""
    return shrunk(RECIPES / "ssn-lidc-nodule-ct.toml", tmp_path)


def shrunk(recipe: Path, folder: Path) -> Path:
    """A copy of a recipe that trains within seconds."""
    text = recipe.read_text(encoding="utf-8")
    small = {
        "training": '["a.npz", "b.npz"]',
        "score_every": "2",
        "warmup": "5",
        "pairs": "4",
        "steps": "60",
        "batch": "4",
        "rise": "5",
        "learning_rate": "1e-2",
        "average": "0.9",
        "patch": "[32, 48]",
        "shift_voxels": "4.0",
        "widths": "[8, 16, 16]",
        "features": "8",
        "latents": "[1, 1]",
        "top_k": "1.0",
        "precision": '"32-true"',
        "validate_every": "100",
    }
    lines = []
    for line in text.splitlines():
        key = line.split(" = ")[0]
        lines.append(f"{key} = {small[key]}" if key in small and " = " in line else line)
    path = folder / "recipe.toml"
    path.write_text("\n".join(lines).replace("quarter_turns = true", "quarter_turns = false"), encoding="utf-8")
    return path


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_readers(folder / "a.npz", [1, 1, 2])
    write_readers(folder / "b.npz", [3, 4, 4])
    write_readers(folder / "val.npz", [7, 8, 9, 10])
    return folder


def data_of(recipe_path: Path, folder: Path) -> ReaderImages:
    recipe = Recipe.from_file(recipe_path)
    data = open_data(recipe, folder, planned_package(recipe, folder), None)
    assert isinstance(data, ReaderImages)
    return data


def test_cases_of_all_files_are_stretched_and_keep_every_reader(recipe_path: Path, data_folder: Path) -> None:
    images, masks = write_readers(data_folder / "b.npz", [3, 4, 4])
    cases = data_of(recipe_path, data_folder).training
    assert len(cases) == 6
    (image,), labels = cases[4]
    assert (image.min(), image.max()) == (0.0, 1.0)
    low, high = float(images[1].min()), float(images[1].max())
    np.testing.assert_allclose(image, (images[1] - low) / (high - low), atol=1e-6)
    np.testing.assert_array_equal(labels, masks[1])


def test_each_item_shows_one_reader_and_all_come_equally_often(recipe_path: Path, data_folder: Path) -> None:
    cases = data_of(recipe_path, data_folder).training
    stage = replace(Recipe.from_file(recipe_path).stages[0], patch=[SIZE, SIZE])
    data = PatchDataset(cases, stage, STILL, seed=0)
    seen = np.zeros(3)
    for item in range(300):
        image, target = data[item]
        case = next(n for n in range(len(cases)) if np.allclose(cases[n][0], image[0], atol=1e-4))
        (reader,) = (n for n in range(3) if np.array_equal(cases[case][1][n], target))
        seen[reader] += 1
    assert seen.sum() == 300
    assert seen.min() > 70  # 100 +- 8 expected


def test_shifts_turns_and_flips_interpolate_nothing() -> None:
    rng = np.random.default_rng(0)
    values = rng.permutation(40 * 40).astype(np.float32).reshape(40, 40)
    image, label = torch.from_numpy(values)[None], torch.from_numpy(values % 7)[None]
    rule = replace(STILL, shift_voxels=6.0, quarter_turns=True, flip_axes=[0, 1])
    stage = Stage([16, 16], "zeros", 1, 1, 1e-3, 1)
    corners = set()
    for _ in range(40):
        patch, labels = random_patch(image, label, stage, rule, rng)
        whole = patch.round()
        assert (patch - whole).abs().max() < 0.05  # coordinates in float32, neighbors differ by hundreds
        assert len(whole.unique()) == 16 * 16
        assert torch.equal(labels, whole % 7)
        row, column = np.argwhere(values == whole[0, 0, 0].item())[0]
        corners.add((row, column))
        opposite = np.argwhere(values == whole[0, -1, -1].item())[0]
        assert sorted(abs(opposite - (row, column))) == [15, 15]
    assert len(corners) > 30


def test_a_rotation_keeps_the_shape_of_things() -> None:
    y, x = np.indices((65, 65)) - 32.0
    bar = ((abs(x) < 20) & (abs(y) < 5)).astype(np.float32)
    image = torch.from_numpy(bar)[None]
    rule = replace(STILL, warp_share=1.0, rotate_degrees=180.0)
    rng = np.random.default_rng(1)
    angles = []
    for _ in range(20):
        patch, label = random_patch(image, image, Stage([65, 65], "zeros", 1, 1, 1e-3, 1), rule, rng)
        assert patch.sum().item() == pytest.approx(bar.sum(), rel=0.03)
        assert ((patch > 0.5).float() != label).float().mean() < 0.01
        rows, columns = np.nonzero(patch[0].numpy() > 0.5)
        angles.append(np.rad2deg(np.arctan2(*np.linalg.eigh(np.cov(columns, rows))[1][::-1, 1])) % 180)
    assert np.ptp(angles) > 120


def test_intensity_changes_leave_the_labels(recipe_path: Path) -> None:
    rule = Recipe.from_file(recipe_path).augmentation
    only = replace(STILL, contrast_gamma=rule.contrast_gamma, bias_field=0.3, noise=0.1, blur_voxels=1.0)
    rng = np.random.default_rng(2)
    image = torch.from_numpy(rng.random((1, 32, 32), np.float32))
    label = (image > 0.5).float()
    changed = 0
    for _ in range(30):
        patch, labels = random_patch(image, label, Stage([32, 32], "zeros", 1, 1, 1e-3, 1), only, rng)
        assert torch.equal(labels, label)
        assert torch.isfinite(patch).all()
        assert 0.05 < patch.std() < 0.6
        changed += not torch.allclose(patch, image, atol=1e-3)
    assert 18 <= changed < 30  # each change comes in a share of the patches


def test_a_patient_in_both_parts_is_refused(recipe_path: Path, data_folder: Path) -> None:
    write_readers(data_folder / "val.npz", [4, 8])
    with pytest.raises(BadInputError, match=r"The patient 4 is in both b\.npz and val\.npz; split the images"):
        data_of(recipe_path, data_folder)


@pytest.mark.parametrize("name", ["ssn-lidc-nodule-ct", "hpunet-lidc-nodule-ct"])
def test_training_learns_and_the_card_gives_the_distance(name: str, data_folder: Path, tmp_path: Path) -> None:
    recipe = shrunk(RECIPES / f"{name}.toml", tmp_path)
    package = train(recipe, data_folder, tmp_path / "out")
    rows = read_log(tmp_path / "out")
    assert [row["step"] for row in rows] == [100, Recipe.from_file(recipe).steps]
    assert (tmp_path / "out" / "curves.png").stat().st_size > 10_000
    again = ModelPackage.from_folder(package.folder)
    assert (again.training_data.cases, again.grid.spacing_mm) == (6, None)
    few, many = again.evaluation["16_samples"], again.evaluation["100_samples"]
    assert (few["samples"], many["samples"], few["data"]["images"]) == (16, 100, 4)
    distance = few["figures"]["ged_squared"]["methods"]
    assert distance["model"]["value"] < 0.5 * distance["always_empty"]["value"]
    assert f"| GED² | {distance['model']['value']:.3f} [" in again.card
    assert "6 axial crops" in again.card
    assert "| HM-IoU, images where all readers drew something | none | none |" in again.card
    if name.startswith("hpunet"):
        iou = few["figures"]["reconstruction_iou"]["methods"]["reconstruction"]["value"]
        assert f"| IoU of masks found again (two empty masks: 1) | {iou:.3f} [" in again.card
        assert "| KL at scale 1, nats | " in again.card
