"""The engine: tiles, passes and the memory ladder change nothing in the samples; cancel and progress work."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.errors import CanceledError, MemoryExhaustedError
from MedSegUncertaintyLib.inference import engine as engine_module
from MedSegUncertaintyLib.inference.device import is_out_of_memory
from MedSegUncertaintyLib.inference.engine import PASS_BYTES, Engine, Plan
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress
from MedSegUncertaintyLib.inference.tiling import blend, tile_regions
from MedSegUncertaintyLib.models.sampler import NoiseField
from torch import Tensor, nn

CPU = torch.device("cpu")


class Pointwise(nn.Module):
    """A sampler whose logits at a voxel depend on that voxel alone, so tiles must not matter at all."""

    spatial_dims, network_dims, classes, size_multiple = 3, 3, 2, 4
    controls = frozenset()

    def __init__(self, blendable: bool = True, largest: int = 10**9, most_logits: int = 10**9) -> None:
        super().__init__()
        self.blendable, self.largest, self.most_logits = blendable, largest, most_logits
        self.layer = nn.Conv3d(1, 2, 1)
        nn.init.constant_(self.layer.weight, 0.7)
        nn.init.constant_(self.layer.bias, 0.1)
        self.encoded: list[tuple[int, ...]] = []
        self.passes: list[int] = []

    def encode(self, image: Tensor) -> Mapping[str, Tensor]:
        if max(image.shape[2:]) > self.largest:
            raise torch.OutOfMemoryError("too large a tile")
        self.encoded.append(tuple(image.shape[2:]))
        return {"mean": self.layer(image)}

    def noise(self, encoding: Mapping[str, Tensor]) -> Mapping[str, NoiseField]:
        return {"w": NoiseField(2, "global"), "e": NoiseField(2, "voxel")}

    def draw(self, encoding: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> Tensor:
        self.passes.append(noise["e"].numel())
        if noise["e"].numel() > self.most_logits:
            raise torch.OutOfMemoryError("too many draws")
        return encoding["mean"] + noise["w"].view(-1, 2, 1, 1, 1) + 0.5 * noise["e"]


SHAPE = (21, 30, 18)
PADDED_LOGITS = 2 * 24 * 32 * 20


def run(model: Pointwise, edge: int = 128, pass_bytes: int = PASS_BYTES, count: int = 5, **options: object) -> Tensor:
    image = torch.linspace(-1, 1, int(np.prod(SHAPE))).view(1, *SHAPE)
    engine = Engine(model, CPU, False, options.get("cancel") or CancelToken(), options.get("listener"))
    engine.plan = Plan(CPU, edge, pass_bytes)
    return torch.stack(list(engine.sample(image, count, NoiseSource(7))))


def test_probabilities_have_the_shape_of_the_image_and_sum_to_one() -> None:
    samples = run(Pointwise())
    assert samples.shape == (5, 2, *SHAPE)
    torch.testing.assert_close(samples.sum(dim=1), torch.ones(5, *SHAPE))


@pytest.mark.parametrize("blendable", [True, False])
@pytest.mark.parametrize(("edge", "draws"), [(12, 5), (8, 2), (128, 1), (16, 0.1)])
def test_neither_tiles_nor_passes_change_a_sample(blendable: bool, edge: int, draws: float) -> None:
    expected = run(Pointwise())
    got = run(Pointwise(blendable), edge, int(4 * PADDED_LOGITS * draws))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_the_image_is_encoded_once_for_all_samples() -> None:
    model = Pointwise()
    run(model, pass_bytes=4 * PADDED_LOGITS * 2, count=9)
    assert model.encoded == [(24, 32, 20)]


def test_a_thin_and_wide_image_is_one_tile() -> None:
    model = Pointwise()
    engine = Engine(model, CPU, False, CancelToken(), None)
    engine.plan = Plan(CPU, 32)
    list(engine.sample(torch.zeros(1, 4, 90, 80), 1, NoiseSource(7)))
    assert model.encoded == [(4, 92, 80)]


@pytest.mark.parametrize("draws", [3, 0.3])
def test_passes_stay_within_their_memory(draws: float) -> None:
    model = Pointwise()
    run(model, pass_bytes=int(4 * PADDED_LOGITS * draws))
    assert max(model.passes) <= PADDED_LOGITS * draws
    assert max(model.passes) > 0.5 * PADDED_LOGITS * draws


def test_what_is_drawn_in_steps_is_drawn_one_at_a_time_on_a_cpu() -> None:
    model = Pointwise()
    model.controls = frozenset({"steps"})
    torch.testing.assert_close(run(model), run(Pointwise()))
    assert model.passes == 5 * [PADDED_LOGITS]


def test_memory_ladder_takes_smaller_tiles_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "SMALLEST_EDGE", 8)
    monkeypatch.setattr(engine_module, "SMALLEST_PASS", 4)
    expected = run(Pointwise())
    model = Pointwise(largest=16, most_logits=PADDED_LOGITS // 5)
    torch.testing.assert_close(run(model), expected, rtol=1e-5, atol=1e-6)
    assert {max(size) for size in model.encoded} == {16}
    assert max(size for size in model.passes[-5:]) <= PADDED_LOGITS // 5


def test_a_ladder_without_further_steps_is_one_sentence() -> None:
    with pytest.raises(MemoryExhaustedError, match="not enough memory on cpu, however small the parts"):
        run(Pointwise(largest=16))


def test_steps_of_the_ladder() -> None:
    cuda, steps, plan = torch.device("cuda"), [], Plan(torch.device("cuda"), 128)
    while (smaller := plan.smaller_tiles(longest=100, smallest=32, allow_cpu=True)) is not None:
        plan = smaller
        steps.append((plan.device.type, plan.edge))
    assert steps == [("cuda", 50), ("cuda", 32), ("cpu", 32)]
    assert Plan(cuda, 32).smaller_tiles(100, 32, allow_cpu=False) is None
    drawing = Plan(cuda, 64, engine_module.SMALLEST_PASS)
    assert drawing.smaller_passes(allow_cpu=False) is None
    assert drawing.smaller_passes(allow_cpu=True) == Plan(CPU, 64, PASS_BYTES)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate",
        "MPS backend out of memory (MPS allocated: 9 GB)",
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_every_way_of_saying_out_of_memory_is_understood(words: str) -> None:
    assert is_out_of_memory(RuntimeError(words))
    assert not is_out_of_memory(ValueError(words))


def test_other_errors_are_not_taken_for_lack_of_memory() -> None:
    class Broken(Pointwise):
        def draw(self, encoding: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> Tensor:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run(Broken())


def test_cancel_stops_before_the_next_layer_and_leaves_no_hooks() -> None:
    token, model = CancelToken(), Pointwise()
    token.cancel()
    with pytest.raises(CanceledError):
        run(model, cancel=token)
    assert not model.encoded
    assert not model.layer._forward_pre_hooks


def test_cancel_between_draws() -> None:
    token = CancelToken()
    seen: list[Progress] = []

    def listener(progress: Progress) -> None:
        seen.append(progress)
        if (progress.stage, progress.done) == ("draw samples", 2):
            token.cancel()

    with pytest.raises(CanceledError):
        run(Pointwise(), pass_bytes=4 * PADDED_LOGITS, cancel=token, listener=listener)
    assert seen[-1].done == 2


def test_progress_counts_tiles_and_samples_with_the_time_left() -> None:
    seen: list[Progress] = []
    run(Pointwise(), edge=16, listener=seen.append)
    tiles = [event for event in seen if event.stage == "encode the image"]
    draws = [event for event in seen if event.stage == "draw samples"]
    assert [event.done for event in tiles] == list(range(tiles[0].total + 1))
    assert [(event.done, event.total) for event in draws] == [(n, 5) for n in range(6)]
    assert draws[0].seconds_left is None
    assert draws[-1].seconds_left == 0.0


def test_tiles_cover_the_grid_and_blending_keeps_a_constant() -> None:
    shape = (37, 41, 13)
    regions = tile_regions(shape, (16, 16, 16))
    covered = np.zeros(shape, dtype=int)
    for region in regions:
        covered[region] += 1
    assert covered.min() >= 1
    parts = [
        (region, {"x": torch.full((1, 2, *(part.stop - part.start for part in region)), 3.5)}) for region in regions
    ]
    torch.testing.assert_close(blend(parts, shape)["x"], torch.full((1, 2, *shape), 3.5))
