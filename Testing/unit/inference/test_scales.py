"""A model whose samples have scales, in images larger than its tiles and in volumes that it walks through."""

import pytest
import torch
from MedSegUncertaintyLib.inference import engine as engine_module
from MedSegUncertaintyLib.inference.engine import PASS_BYTES, Engine, Plan
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken
from MedSegUncertaintyLib.inference.walking import SliceWalker
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.models.hpunet.network import HPUNet

CPU = torch.device("cpu")
ARGUMENTS = {
    "spatial_dims": 2,
    "channels": 1,
    "classes": 2,
    "widths": [4, 6, 8, 8],
    "latents": [1, 1],
    "blocks": 1,
    "convolutions": 1,
}
MULTIPLE = 8


@pytest.fixture
def model() -> HPUNet:
    torch.manual_seed(0)
    model = registry.build("hpunet", ARGUMENTS).eval().requires_grad_(False)
    for head in model.prior.heads:  # else nothing would vary before any training
        head.convolution.bias.data = torch.tensor([0.0, 1.0])
    model.head.weight.data *= 5
    return model


def samples(
    model: torch.nn.Module, image: torch.Tensor, count: int = 3, edge: int = 512, pass_bytes: int = PASS_BYTES
) -> torch.Tensor:
    engine = Engine(model, CPU, False, CancelToken(), None)
    engine.plan = Plan(CPU, edge, pass_bytes)
    return torch.stack(list(engine.sample(image, count, NoiseSource(1))))


def test_tiles_begin_where_cells_do(model: HPUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    regions = []
    wide = torch.randn(1, 61, 75)
    monkeypatch.setattr(
        engine_module.Engine,
        "_draw_part",
        lambda self, region, *rest: regions.append(region) or torch.zeros(1, 2, *(p.stop - p.start for p in region)),
    )
    for edge in (40, 24, 9):  # two and a half tiles of 16 would begin at 20
        regions.clear()
        samples(model, wide, 1, edge)
        assert len(regions) > 4
        assert all(part.start % MULTIPLE == 0 and part.stop % MULTIPLE == 0 for part in sum(regions, ()))
        assert {part.stop - part.start for part in sum(regions, ())} == {max(edge // MULTIPLE, 2) * MULTIPLE}


def test_tiles_leave_a_sample_the_same_hypothesis(model: HPUNet) -> None:
    """What the network sees at the borders of tiles differs, the noise does not: samples stay themselves."""
    image = torch.nn.functional.interpolate(torch.randn(1, 1, 8, 8), size=(64, 96), mode="bilinear")[0]
    whole, tiled = samples(model, image, 4), samples(model, image, 4, edge=32)
    gaps = (whole[:, None, 1] - tiled[None, :, 1]).abs().mean(dim=(2, 3))  # of every sample to every other
    assert float(gaps.diagonal().max()) < 0.5 * float((gaps + 9 * torch.eye(4)).min())
    few = samples(model, image, 4, edge=32, pass_bytes=1)
    torch.testing.assert_close(few, tiled, rtol=1e-4, atol=1e-5)


def test_the_ladder_ends_at_tiles_that_still_overlap(model: HPUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "SMALLEST_EDGE", 4)
    encode, seen = model.encode, []

    def short_of_memory(image: torch.Tensor) -> object:
        seen.append(tuple(image.shape[2:]))
        if max(image.shape) > 2 * MULTIPLE:
            raise torch.OutOfMemoryError("too large a tile")
        return encode(image)

    monkeypatch.setattr(model, "encode", short_of_memory)
    samples(model, torch.randn(1, 64, 64), 1)
    assert [*dict.fromkeys(seen)] == [(64, 64), (32, 32), (16, 16)]


def test_every_slice_of_a_walk_is_as_the_model_alone_draws_it(model: HPUNet) -> None:
    image = torch.randn(1, 3, 21, 30)
    got = samples(SliceWalker(model, 0.0), image, 2)
    assert got.shape == (2, 2, 3, 21, 30)
    padded = torch.nn.functional.pad(image, (0, 2, 0, 3))
    for k in range(3):
        encoding = model.encode(padded[None, :, k])
        walker = SliceWalker(model, 0.0)
        fields = walker.noise({name: part.unsqueeze(2) for name, part in encoding.items()})
        assert {name: field.strides for name, field in fields.items()} == {"scale 0": (1, 8, 8), "scale 1": (1, 4, 4)}
        noise = NoiseSource(1).draw(fields, range(2), (slice(k, k + 1), slice(0, 24), slice(0, 32)), CPU)
        alone = model.draw(encoding, {name: part[:, :, 0] for name, part in noise.items()})
        torch.testing.assert_close(got[:, :, k], alone[..., :21, :30].softmax(dim=1), rtol=1e-4, atol=1e-5)


def test_slices_of_a_walk_vary_together(model: HPUNet) -> None:
    image = torch.randn(1, 1, 16, 16).expand(1, 16, 16, 16)
    drawn = samples(SliceWalker(model, 4.0), image, 24)[:, 1]
    varied = drawn - drawn.mean(dim=0)

    def agreement(distance: int) -> float:
        return float((varied[:, distance:] * varied[:, : 16 - distance]).mean() / varied.square().mean())

    assert agreement(1) > 0.8
    assert agreement(1) > agreement(4) > agreement(10)
