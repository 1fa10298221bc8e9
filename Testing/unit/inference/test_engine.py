"""The engine: tiles, passes and the memory ladder change nothing in the samples; cancel and progress work."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.errors import CanceledError, MemoryExhaustedError
from MedSegUncertaintyLib.inference import engine as engine_module
from MedSegUncertaintyLib.inference.engine import Engine, Plan
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress
from MedSegUncertaintyLib.inference.tiling import blend, tile_regions
from MedSegUncertaintyLib.models.sampler import NoiseField
from torch import Tensor, nn

CPU = torch.device("cpu")


class Pointwise(nn.Module):
    """A sampler whose logits at a voxel depend on that voxel alone, so tiles must not matter at all."""

    spatial_dims, classes, size_multiple = 3, 2, 4

    def __init__(self, blendable: bool = True, largest: int = 10**9, most_draws: int = 10**9) -> None:
        super().__init__()
        self.blendable, self.largest, self.most_draws = blendable, largest, most_draws
        self.layer = nn.Conv3d(1, 2, 1)
        nn.init.constant_(self.layer.weight, 0.7)
        nn.init.constant_(self.layer.bias, 0.1)
        self.encoded: list[tuple[int, ...]] = []

    def encode(self, image: Tensor) -> Mapping[str, Tensor]:
        if max(image.shape[2:]) > self.largest:
            raise torch.OutOfMemoryError("too large a tile")
        self.encoded.append(tuple(image.shape[2:]))
        return {"mean": self.layer(image)}

    def noise(self, encoding: Mapping[str, Tensor]) -> Mapping[str, NoiseField]:
        return {"w": NoiseField(2, "global"), "e": NoiseField(2, "voxel")}

    def draw(self, encoding: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> Tensor:
        if len(noise["w"]) > self.most_draws:
            raise torch.OutOfMemoryError("too many draws")
        return encoding["mean"] + noise["w"].view(-1, 2, 1, 1, 1) + 0.5 * noise["e"]


def run(model: Pointwise, edge: int = 128, draws: int = 0, count: int = 5, **options: object) -> Tensor:
    image = torch.linspace(-1, 1, 21 * 30 * 18).view(1, 21, 30, 18)
    engine = Engine(model, CPU, False, options.get("cancel") or CancelToken(), options.get("listener"))
    engine.plan = Plan(CPU, edge, draws)
    return torch.stack(list(engine.sample(image, count, NoiseSource(7))))


def test_probabilities_have_the_shape_of_the_image_and_sum_to_one() -> None:
    samples = run(Pointwise())
    assert samples.shape == (5, 2, 21, 30, 18)
    torch.testing.assert_close(samples.sum(dim=1), torch.ones(5, 21, 30, 18))


@pytest.mark.parametrize("blendable", [True, False])
@pytest.mark.parametrize(("edge", "draws"), [(12, 5), (8, 2), (128, 1), (16, 3)])
def test_neither_tiles_nor_draws_per_pass_change_a_sample(blendable: bool, edge: int, draws: int) -> None:
    expected = run(Pointwise())
    torch.testing.assert_close(run(Pointwise(blendable), edge, draws), expected, rtol=1e-5, atol=1e-6)


def test_the_image_is_encoded_once_for_all_samples() -> None:
    model = Pointwise()
    run(model, draws=2, count=9)
    assert model.encoded == [(24, 32, 20)]


def test_memory_ladder_takes_fewer_draws_then_smaller_tiles() -> None:
    expected = run(Pointwise())
    model = Pointwise(largest=32, most_draws=2)
    torch.testing.assert_close(run(model, edge=64, draws=5), expected, rtol=1e-5, atol=1e-6)
    small = Pointwise(largest=16)
    with pytest.raises(MemoryExhaustedError, match="not enough memory on cpu even for one draw in the smallest tiles"):
        run(small)


def test_ladder_ends_on_the_cpu_only_if_allowed() -> None:
    cuda = torch.device("cuda")
    steps, plan = [], Plan(cuda, 128, 4)
    while (smaller := plan.smaller(allow_cpu=True)) is not None:
        plan = smaller
        steps.append((plan.device.type, plan.edge, plan.draws))
    assert steps[:4] == [("cuda", 128, 2), ("cuda", 128, 1), ("cuda", 64, 1), ("cuda", 32, 1)]
    assert steps[4][0] == "cpu"
    assert Plan(cuda, 32, 1).smaller(allow_cpu=False) is None


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
        run(Pointwise(), draws=1, cancel=token, listener=listener)
    assert seen[-1].done == 2


def test_progress_counts_tiles_and_samples_with_the_time_left() -> None:
    seen: list[Progress] = []
    run(Pointwise(), edge=16, draws=2, listener=seen.append)
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


def test_passes_stay_within_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "PASS_BYTES", 4 * 2 * 32 * 20 * 7)
    model = Pointwise(most_draws=2)
    assert len(run(model)) == 5
