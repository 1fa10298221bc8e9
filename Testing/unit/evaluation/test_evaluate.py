"""From a package of random weights and a file of readers to figures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.errors import BadInputError, CanceledError, PackageError
from MedSegUncertaintyLib.evaluation import run
from MedSegUncertaintyLib.evaluation.readers import ReaderFile
from MedSegUncertaintyLib.evaluation.run import CONVENTIONS, METHODS, evaluate, image_seed
from MedSegUncertaintyLib.evaluation.sets import SetOverlap, ged_squared, matched_iou
from MedSegUncertaintyLib.inference.engine import Engine
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken
from MedSegUncertaintyLib.models.hpunet.latents import kl_divergence
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import load_sampler

from .conftest import IMAGES, READERS, SIZE, make_package, webp, write_arrays


def figures(package: ModelPackage, path: Path, **options: object) -> dict:
    return evaluate(package, path, **{"samples": 4, "seed": 3, "device": "cpu", **options})


def value(result: dict, name: str, method: str) -> float:
    return result["figures"][name]["methods"][method]["value"]


@pytest.fixture
def result(package: ModelPackage, reader_file: Path) -> dict:
    return figures(package, reader_file)


def test_every_figure_has_its_convention_count_and_interval(result: dict) -> None:
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["data"] == {"file": "readers.npz", "images": IMAGES, "patients": 4, "readers": READERS}
    assert (result["samples"], result["seed"]) == (4, 3)
    assert result["figures"].keys() == CONVENTIONS.keys()
    used = {method for figure in result["figures"].values() for method in figure["methods"]}
    assert used == result["methods"].keys() == METHODS.keys() - {"reconstruction"}
    for name, figure in result["figures"].items():
        for entry in figure["methods"].values():
            low, high = entry["interval_95"]
            assert low <= entry["value"] <= high
            if not name.startswith(("dice", "matched_iou_subset")):
                assert entry["n"] == IMAGES


def test_figures_are_those_of_the_samples(package: ModelPackage, reader_file: Path, result: dict) -> None:
    batch = next(ReaderFile.read(reader_file).batches(IMAGES))
    engine = Engine(load_sampler(package), torch.device("cpu"), True, CancelToken(), None)
    samples = []
    for position, image in enumerate(batch.images):
        normalized = torch.from_numpy(image / np.float32(255)).unsqueeze(0)
        drawn = list(engine.sample(normalized, 4, NoiseSource(image_seed(3, position))))
        samples.append(np.stack([probabilities.argmax(dim=0).numpy() for probabilities in drawn]))
    overlap = SetOverlap.of(batch.masks, np.stack(samples).astype(np.uint8), labels=(1,), both_empty=1.0)
    assert value(result, "ged_squared", "model") == pytest.approx(ged_squared(overlap).mean())
    assert value(result, "matched_iou", "model") == pytest.approx(matched_iou(overlap).mean())
    assert 0 < value(result, "sample_diversity", "model") < 1


def test_baselines_are_what_they_say(reader_file: Path, result: dict) -> None:
    masks = next(ReaderFile.read(reader_file).batches(IMAGES)).masks
    drawn = masks.any(axis=(2, 3))
    assert value(result, "expected_dice", "always_empty") == pytest.approx(1 - drawn.mean())
    assert value(result, "matched_iou", "always_empty") == pytest.approx(1 - drawn.mean())
    readers = value(result, "reader_diversity", "readers")
    assert value(result, "ged_squared", "always_empty") == pytest.approx(2 * drawn.mean() - readers)
    for method in ("always_empty", "mean_only"):
        assert value(result, "sample_diversity", method) == 0
    # The mean prediction as the only sample has the Dice that is measured of it.
    assert value(result, "expected_dice", "mean_only") == pytest.approx(value(result, "dice_empty_one", "model"))
    assert value(result, "sample_diversity", "independent_pixels") > 0


def test_dice_by_either_convention(reader_file: Path, result: dict) -> None:
    entries = {name: result["figures"][name]["methods"]["model"] for name in CONVENTIONS if name.startswith("dice")}
    masks = next(ReaderFile.read(reader_file).batches(IMAGES)).masks
    excluded, one, lesion = (entries[f"dice_{kind}"] for kind in ("empty_excluded", "empty_one", "lesion_readers"))
    assert one["n"] == IMAGES * READERS
    assert lesion["n"] == masks.any(axis=(2, 3)).sum() <= excluded["n"] <= one["n"]
    agreed = one["n"] - excluded["n"]
    assert one["value"] * one["n"] == pytest.approx(excluded["value"] * excluded["n"] + agreed)


def test_independent_pixels_have_the_marginals() -> None:
    mean = np.random.default_rng(0).random((2, 1, SIZE, SIZE))
    masks = run._independent_pixels(np.concatenate([1 - mean, mean], axis=1), 400, [1, 2])
    assert masks.shape == (2, 400, SIZE, SIZE)
    np.testing.assert_allclose(masks.mean(axis=1), mean[:, 0], atol=0.15)
    assert abs((masks.mean(axis=1) - mean[:, 0]).mean()) < 0.005
    assert (masks[0, 0] != masks[1, 0]).any()


def test_batches_change_nothing(
    package: ModelPackage, reader_file: Path, result: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "IMAGES_PER_BATCH", 3)
    again = figures(package, reader_file)
    for name, figure in result["figures"].items():
        for method, entry in figure["methods"].items():
            assert again["figures"][name]["methods"][method]["value"] == pytest.approx(entry["value"], abs=1e-12)
    other = figures(package, reader_file, seed=4)
    assert value(other, "ged_squared", "model") != value(result, "ged_squared", "model")
    assert value(other, "ged_squared", "always_empty") == value(result, "ged_squared", "always_empty")


def test_images_have_noise_of_their_own() -> None:
    seeds = {image_seed(seed, position) for seed in range(3) for position in range(200)}
    assert len(seeds) == 600
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_a_figure_without_values_is_null(package: ModelPackage, tmp_path: Path) -> None:
    path = tmp_path / "empty.npz"
    write_arrays(path, masks_packed=np.zeros((IMAGES, READERS, SIZE, SIZE // 8), np.uint8))
    result = figures(package, path)
    nothing = {"value": None, "interval_95": None, "n": 0}
    assert result["figures"]["dice_lesion_readers"]["methods"]["model"] == nothing
    assert value(result, "ged_squared", "always_empty") == 0
    assert value(result, "matched_iou", "always_empty") == 1


def test_progress_and_cancel(package: ModelPackage, reader_file: Path) -> None:
    token, events = CancelToken(), []
    figures(package, reader_file, progress=events.append, cancel=token)
    assert [(event.stage, event.done, event.total) for event in events] == [
        ("evaluate", done, IMAGES) for done in range(IMAGES + 1)
    ]
    token.cancel()
    with pytest.raises(CanceledError):
        figures(package, reader_file, cancel=token)


@pytest.mark.parametrize("changed", [{"spatial_dims": 3}, {"channels": 2}, {"classes": 3}])
def test_other_packages_are_refused(package_folder: Path, arguments: dict, reader_file: Path, changed: dict) -> None:
    package = make_package(package_folder, {**arguments, **changed})
    with pytest.raises(PackageError, match="two-blobs is not for one 2D image and one structure"):
        figures(package, reader_file)


@pytest.mark.parametrize("options", [{"samples": 0}, {"seed": -1}, {"device": "tpu"}])
def test_parameters_are_checked(package: ModelPackage, reader_file: Path, options: dict) -> None:
    with pytest.raises(BadInputError):
        figures(package, reader_file, **options)


def test_an_image_without_contrast_is_named(package_folder: Path, arguments: dict, tmp_path: Path) -> None:
    make_package(package_folder, arguments)
    path = package_folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    metadata["medseg_uncertainty"]["intensity"] = {"kind": "zscore"}
    path.write_text(json.dumps(metadata), encoding="utf-8")
    black = webp(np.zeros((SIZE, SIZE), np.uint8))
    files = np.frombuffer(black * IMAGES, np.uint8)
    write_arrays(tmp_path / "black.npz", webp=files, offsets=np.arange(IMAGES + 1) * len(black))
    with pytest.raises(BadInputError, match=r"Image 0 of black\.npz: The image has no voxels above 0"):
        figures(ModelPackage.from_folder(package_folder), tmp_path / "black.npz")


def test_subset_b_is_where_every_reader_drew_something(reader_file: Path, result: dict) -> None:
    masks = next(ReaderFile.read(reader_file).batches(IMAGES)).masks
    drawn = masks.any(axis=(2, 3)).all(axis=1)
    methods = result["figures"]["matched_iou_subset_b"]["methods"]
    assert 0 < drawn.sum() < IMAGES
    assert {entry["n"] for entry in methods.values()} == {drawn.sum()}
    assert methods["always_empty"]["value"] == 0
    prediction_only = methods["mean_only"]["value"]
    assert 0 <= prediction_only < result["figures"]["matched_iou"]["methods"]["mean_only"]["value"] + 1


@pytest.fixture
def ladder(package_folder: Path) -> ModelPackage:
    """An HPU-Net of random weights."""
    arguments = {"spatial_dims": 2, "channels": 1, "classes": 2, "widths": [4, 6, 8], "latents": [1, 1], "blocks": 1}
    return make_package(package_folder, arguments, "hpunet")


def test_masks_that_are_found_again(ladder: ModelPackage, reader_file: Path) -> None:
    result = figures(ladder, reader_file)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    batch = next(ReaderFile.read(reader_file).batches(IMAGES))
    model = load_sampler(ladder)
    ious, divergences = [], []
    with torch.no_grad():
        for position, (image, masks) in enumerate(zip(batch.images, batch.masks, strict=True)):
            images = torch.from_numpy(image / np.float32(255)).expand(READERS, 1, -1, -1)
            labels = torch.from_numpy(masks).long()
            again = model(images, labels).logits.argmax(dim=1).numpy()
            for mask, found in zip(masks, again, strict=True):
                either = (mask | found).sum()
                ious.append((mask & found).sum() / either if either else 1.0)
            fields = model.noise({})
            noise = NoiseSource(image_seed(3, position)).draw(
                fields, range(READERS), (slice(0, SIZE),) * 2, torch.device("cpu")
            )
            drawn = model(images, labels, list(noise.values()))
            divergences.append([kl_divergence(*pair) for pair in zip(drawn.posterior, drawn.prior, strict=True)])
    assert value(result, "reconstruction_iou", "reconstruction") == pytest.approx(np.mean(ious))
    assert result["figures"]["reconstruction_iou"]["methods"]["reconstruction"]["n"] == IMAGES * READERS
    lesions = result["figures"]["reconstruction_iou_lesion_readers"]["methods"]["reconstruction"]
    assert lesions["n"] == batch.masks.any(axis=(2, 3)).sum()
    for scale, expected in enumerate(np.mean(divergences, axis=0)):
        assert value(result, f"kl_scale_{scale}", "reconstruction") == pytest.approx(expected, rel=1e-4)
        assert "in nats" in result["figures"][f"kl_scale_{scale}"]["convention"]
