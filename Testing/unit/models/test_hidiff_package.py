"""HiDiff in packages: a trained model is stored as its packed twin, and comes back with the same samples."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.models.hidiff.network import HiDiff
from MedSegUncertaintyLib.models.registry import build, build_objective
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import load_sampler, shipped
from MedSegUncertaintyLib.training.recipe import Recipe
from MedSegUncertaintyLib.training.run import write_package
from safetensors.torch import load_file
from torch import Tensor

RECIPE = Path(__file__).resolve().parents[3] / "recipes" / "ssn-lidc-nodule-ct.toml"
ARGUMENTS: dict[str, Any] = {
    "segmentor": {
        "name": "BasicUNet",
        "widths": [8, 8, 16, 16, 32],
        "taps": ["down_1", "down_2", "down_3", "down_4"],
    },
    "channels": 1,
    "classes": 2,
    "predicts": "mask",
    "coherence": 0.5,
}
"""As a recipe has them."""


def image_of(batch: int) -> Tensor:
    return torch.randn(batch, 1, 32, 32, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def samples(model: Any) -> Tensor:
    model.eval()
    encoding = model.encode(image_of(1))
    region = (slice(0, 32), slice(0, 32))
    return model.draw(encoding, NoiseSource(3).draw(model.noise(encoding), range(3), region, torch.device("cpu")))


@pytest.fixture(scope="module")
def trained() -> HiDiff:
    torch.manual_seed(0)
    model = build("hidiff", ARGUMENTS).train()
    assert isinstance(model, HiDiff)
    objective = build_objective("hidiff", {"pretraining": 2})
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    image = image_of(4)
    for step in range(8):
        optimizer.zero_grad()
        losses = objective(model, image, (image[:, 0] > 0.5).long(), step, torch.Generator().manual_seed(step))
        losses["loss"].backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def package(trained: HiDiff, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return write_package(recipe(), trained, tmp_path_factory.mktemp("packages"), 3)


def recipe() -> Recipe:
    other = Recipe.from_file(RECIPE)
    return replace(other, package={**other.package, "family": "hidiff", "arguments": ARGUMENTS})


def test_a_package_holds_bits_and_tables(trained: HiDiff, package: ModelPackage) -> None:
    assert package.arguments == {**ARGUMENTS, "packed": True}
    assert "packed" not in ARGUMENTS
    stored = load_file(package.weights_path)
    assert stored["refiner.encoder.0.convolution.weights.bits"].dtype == torch.uint8
    assert stored["refiner.encoder.0.threshold.table"].dtype == torch.float16
    assert not any(name.startswith("refiner.time.") for name in stored)
    of_refiner = sum(tensor.nbytes for name, tensor in stored.items() if name.startswith("refiner."))
    assert 2 * 4 * of_refiner < sum(p.nbytes for p in trained.refiner.parameters())


def test_samples_are_those_of_the_trained_model(trained: HiDiff, package: ModelPackage) -> None:
    _, twin = shipped("hidiff", ARGUMENTS, trained)
    expected = samples(trained)
    assert expected.std() > 0.01
    assert torch.equal(samples(twin), expected)
    for values in twin.state_dict().values():
        if values.is_floating_point():
            values.copy_(values.half())
    assert torch.equal(samples(load_sampler(package)), samples(twin))


def test_a_package_is_written_again_from_what_it_holds(package: ModelPackage, tmp_path: Path) -> None:
    again = write_package(recipe(), load_sampler(package), tmp_path, 3, {"figure": 1.0})
    assert again.evaluation == {"figure": 1.0}
    assert again.arguments == package.arguments
    assert again.weights.sha256 == package.weights.sha256


def test_a_loaded_model_draws_by_the_weights_that_it_is_given_later(trained: HiDiff, package: ModelPackage) -> None:
    loaded = load_sampler(package)
    before = samples(loaded)
    assert torch.equal(samples(loaded), before)
    with torch.no_grad():
        loaded.get_buffer("refiner.encoder.0.convolution.weights.bits").bitwise_not_()
    changed = samples(loaded)
    assert not torch.equal(changed, before)
    loaded.load_state_dict(trained.packed_state())
    assert torch.equal(samples(loaded), samples(trained))


def test_other_models_are_shipped_as_they_are() -> None:
    model, arguments = torch.nn.Linear(1, 1), {"width": 1}
    assert shipped("ssn", arguments, model) == (arguments, model)
