"""A model whose samples have scales, in images larger than its tiles and in volumes that it walks through."""

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.errors import BadInputError, PackageError
from MedSegUncertaintyLib.inference import engine as engine_module
from MedSegUncertaintyLib.inference.engine import PASS_BYTES, Engine, Plan
from MedSegUncertaintyLib.inference.kept import Kept
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken
from MedSegUncertaintyLib.inference.request import InferenceRequest, Scale
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.inference.run import interpolate, segment
from MedSegUncertaintyLib.inference.scales import scale_report
from MedSegUncertaintyLib.inference.walking import SliceWalker
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.models.hpunet.network import HPUNet
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import save_package
from MedSegUncertaintyLib.volumes.geometry import Box, Geometry, Volume

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


@pytest.fixture
def package(model: HPUNet, make_metadata: Callable[..., dict], tmp_path: Path) -> ModelPackage:
    """A package that walks; its coarse scale lifts or lowers everything, its fine one adds grain."""
    for head, spread in zip(model.prior.heads, (1.0, -1.0), strict=True):
        head.convolution.bias.data = torch.tensor([0.0, spread])
    metadata = make_metadata(family="hpunet", arguments=ARGUMENTS, walk={"correlation_mm": 6.0})
    del metadata["medseg_uncertainty"]["structures"][1:]
    return save_package(tmp_path / "scales", model, metadata, "# Card\n", "CC0\n")


@pytest.fixture
def volume(oblique_geometry: Geometry) -> Volume:
    rng = np.random.default_rng(0)
    geometry = oblique_geometry.cropped(Box((0, 0, 0), (21, 18, 5)))
    return Volume(rng.normal(100, 20, geometry.shape_kji).astype(np.float32), geometry, "noise")


def ask(package: ModelPackage, scales: str = "", **options: object) -> InferenceRequest:
    asked = tuple(Scale.parse(part) for part in scales.split(",")) if scales else ()
    return InferenceRequest(str(package.folder), scales=asked, **{"samples": 4, "seed": 3, "device": "cpu", **options})


def maps(result: InferenceResult) -> np.ndarray:
    return np.stack(list(result.samples))


def test_the_number_of_scales_is_known_without_the_weights(package: ModelPackage) -> None:
    assert package.scales == ((8, 8), (4, 4))
    arguments = {**ARGUMENTS, "spatial_dims": 3, "poolings": [[1, 2, 2], 2, 2]}
    assert registry.scales("hpunet", arguments) == ((4, 8, 8), (2, 4, 4))
    assert tuple(registry.build("hpunet", arguments).strides) == registry.scales("hpunet", arguments)
    assert registry.scales("ssn", {}) == ()
    with pytest.raises(PackageError, match='The model family "hpunet" needs the argument "widths"'):
        registry.scales("hpunet", {"spatial_dims": 2})
    code = "from MedSegUncertaintyLib.models import registry; import sys; "
    code += f"registry.scales('hpunet', {ARGUMENTS!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


@pytest.mark.parametrize(
    ("text", "expected", "again"),
    [
        ("1", Scale(), "1"),
        ("0", Scale(0.0), "0"),
        (".5", Scale(0.5), "0.5"),
        ("f7", Scale(1.0, 6), "f7"),
        ("f7x0.5", Scale(0.5, 6), "f7x0.5"),
    ],
)
def test_scales_in_words(text: str, expected: Scale, again: str) -> None:
    assert Scale.parse(text) == expected
    assert str(expected) == again


@pytest.mark.parametrize("text", ["", "f", "fx1", "7f", "-1", ".", "f7x", "1x2", "f1.5"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="is not understood; give a temperature, or f7 for sample 7"):
        Scale.parse(text)


def test_requests_are_checked_against_the_package(package: ModelPackage, volume: Volume) -> None:
    asked = ask(package, "0.5,f7")
    assert InferenceRequest.from_json(json.loads(json.dumps(asked.to_json()))) == asked
    with pytest.raises(
        BadInputError, match="of scales have 2 scales and need an entry for each, coarsest first, not 3"
    ):
        segment(volume, ask(package, "1,1,1"))
    for wrong, sentence in (
        (Scale, "between 0 and 10, not 11"),
        (lambda _: Scale.parse("f0"), "from 1 to 1000, not 0"),
    ):
        with pytest.raises(BadInputError, match=sentence):
            wrong(11.0)


def test_each_scale_is_under_the_user_s_hand(package: ModelPackage, volume: Volume) -> None:
    free = maps(segment(volume, ask(package)))
    assert len(np.unique(free, axis=0)) == 4
    np.testing.assert_array_equal(maps(segment(volume, ask(package, "1,1"))), free)
    still = maps(segment(volume, ask(package, "0,0")))
    np.testing.assert_array_equal(still, maps(segment(volume, ask(package, temperature=0.0))))
    assert len(np.unique(still, axis=0)) == 1
    # All have sample 2's noise at both scales, or at one of them.
    np.testing.assert_array_equal(maps(segment(volume, ask(package, "f3,f3")))[0], free[2])
    half = maps(segment(volume, ask(package, "f3,1")))
    np.testing.assert_array_equal(half[2], free[2])
    assert 0 < (half[0] != free[2]).sum() < (free[0] != free[2]).sum()


def test_other_scales_need_no_other_encoding(
    package: ModelPackage, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, encode = [], HPUNet.encode
    monkeypatch.setattr(HPUNet, "encode", lambda self, image: encoded.append(image) or encode(self, image))
    kept = Kept()
    for scales in ("", "1,0", "0,2", "f1,1"):
        found = maps(segment(volume, ask(package, scales), kept=kept))
        assert len(encoded) == 5  # once per slice
        np.testing.assert_array_equal(found, maps(segment(volume, ask(package, scales))))
        del encoded[5:]


def test_what_varies_at_each_scale(package: ModelPackage, volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    result = segment(volume, ask(package, samples=12), kept=kept)
    monkeypatch.setattr(HPUNet, "encode", None)  # nothing is encoded again
    report = scale_report(volume, result, kept=kept)
    assert [scale.cell_mm for scale in report.scales] == [(8.0, 8.0), (4.0, 4.0)]
    coarse, fine = report.scales
    for number, (scale, asked) in enumerate(((coarse, "1,0"), (fine, "0,1"))):
        alone = segment(volume, ask(package, asked, samples=12), kept=kept).statistics
        np.testing.assert_allclose(scale.variance, alone.variance.max(axis=0), atol=1e-6)
        assert scale.share == pytest.approx(alone.variance.sum() / result.statistics.variance.sum(), rel=1e-4)
        assert report.to_json(result.structures)["scales"][number]["volume_sd_ml"] == {
            "Left blob": pytest.approx(alone.volumes_ml.std())
        }
    assert coarse.share > 3 * fine.share > 0
    assert coarse.volume_sd_ml[0] > fine.volume_sd_ml[0]
    means = segment(volume, ask(package, "0,f1", samples=12), kept=kept)
    assert [scale.share for scale in scale_report(volume, means, kept=kept).scales] == [None, None]


def test_samples_turn_into_each_other(package: ModelPackage, volume: Volume) -> None:
    kept = Kept()
    free = maps(segment(volume, ask(package), kept=kept))
    way = np.stack(list(interpolate(volume, ask(package), 3, 1, steps=5, kept=kept)))
    np.testing.assert_array_equal(way[[0, 4]], free[[3, 1]])
    whole = (way[0] != way[4]).mean()
    assert all(0 < (one != other).mean() < whole for one, other in pairwise(way))
    with pytest.raises(BadInputError, match="Give samples from 0 to 999 and at least 2 steps"):
        interpolate(volume, ask(package), 3, 1, steps=1)
