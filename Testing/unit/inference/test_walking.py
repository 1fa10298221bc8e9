"""A 2D model in a volume: every slice as the model alone sees it, samples coherent along the slices."""

import pytest
import torch
from MedSegUncertaintyLib.inference.engine import Engine, Plan
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken
from MedSegUncertaintyLib.inference.walking import SliceWalker
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.models.ssn.network import SSN

CPU = torch.device("cpu")
ARGUMENTS = {
    "backbone": {"name": "UNet", "widths": [4, 8], "num_res_units": 1, "norm": "batch"},
    "spatial_dims": 2,
    "channels": 1,
    "features": 4,
    "classes": 2,
    "rank": 3,
}


@pytest.fixture
def model() -> SSN:
    torch.manual_seed(0)
    return registry.build("ssn", ARGUMENTS).eval().requires_grad_(False)


def samples(model: SSN, image: torch.Tensor, correlation: float, count: int, edge: int = 512) -> torch.Tensor:
    engine = Engine(SliceWalker(model, correlation), CPU, False, CancelToken(), None)
    engine.plan = Plan(CPU, edge)
    return torch.stack(list(engine.sample(image, count, NoiseSource(1))))


def test_the_mean_of_every_slice_is_that_of_the_model_alone(model: SSN) -> None:
    image = torch.randn(1, 5, 21, 30)
    engine = Engine(SliceWalker(model, 3.0), CPU, False, CancelToken(), None)
    (got,) = engine.sample(image, 1, NoiseSource(1, scale=0.0))
    for k in range(5):
        padded = torch.nn.functional.pad(image[None, :, k], (0, 30 % 2, 0, 21 % 2))
        expected = model(padded).mean[0, :, :21, :30].softmax(dim=0)
        torch.testing.assert_close(got[:, k], expected, rtol=1e-4, atol=1e-5)


def test_samples_of_equal_slices_agree_the_more_the_closer_they_are(model: SSN) -> None:
    image = torch.randn(1, 1, 16, 16).expand(1, 24, 16, 16)
    labels = samples(model, image, correlation=6.0, count=64).argmax(dim=1).float()

    def agreement(distance: int) -> float:
        return float((labels[:, distance:] == labels[:, : labels.shape[1] - distance]).float().mean())

    assert agreement(1) > agreement(6) > agreement(18)


def test_coherent_slices_make_volumes_differ_more(model: SSN) -> None:
    image = torch.randn(1, 1, 16, 16).expand(1, 24, 16, 16)
    spread = {
        correlation: samples(model, image, correlation, 64).argmax(dim=1).float().sum(dim=(1, 2, 3)).std()
        for correlation in (0.0, 12.0)
    }
    assert spread[12.0] > 1.5 * spread[0.0]


def test_a_slice_is_one_tile_where_it_fits(model: SSN) -> None:
    image = torch.randn(1, 4, 40, 48)
    torch.testing.assert_close(samples(model, image, 2.0, 2), samples(model, image, 2.0, 2, edge=64))
