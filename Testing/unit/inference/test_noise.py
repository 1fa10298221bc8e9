"""Counter-based noise: the published generator, normal, the same for every tile, independent across samples."""

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.inference.noise import Between, NoiseSource, philox
from MedSegUncertaintyLib.models.sampler import NoiseField
from scipy import stats

CPU = torch.device("cpu")
FIELDS = {"w": NoiseField(10, "global"), "e": NoiseField(3, "voxel")}
GRID = (slice(0, 24), slice(0, 20), slice(0, 28))


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # Known answers that come with the authors' Random123 library.
        ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter: tuple, key: tuple, expected: tuple) -> None:
    words = philox([torch.tensor([word]) for word in counter], key)
    assert tuple(int(word) for word in words) == expected


def test_noise_is_standard_normal() -> None:
    noise = NoiseSource(seed=1).draw(FIELDS, range(8), GRID, CPU)
    assert noise["w"].shape == (8, 10)
    assert noise["e"].shape == (8, 3, 24, 20, 28)
    values = noise["e"].flatten().double().numpy()
    assert stats.kstest(values, "norm").pvalue > 0.01
    assert abs(values.mean()) < 4 / np.sqrt(values.size)
    assert stats.kurtosis(values) == pytest.approx(0.0, abs=0.05)


def test_noise_is_independent_between_samples_channels_and_neighbors() -> None:
    e = NoiseSource(seed=2).draw(FIELDS, range(4), GRID, CPU)["e"].double()
    rows = e.flatten(0, 1).flatten(1).numpy()
    limit = 5 / np.sqrt(rows.shape[1])
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < limit
    for axis in (-1, -2, -3):
        first, second = e.narrow(axis, 0, e.shape[axis] - 1), e.narrow(axis, 1, e.shape[axis] - 1)
        assert abs(float((first * second).mean())) < limit


def test_overlapping_tiles_and_passes_agree_exactly() -> None:
    source = NoiseSource(seed=3)
    whole = source.draw(FIELDS, range(6), GRID, CPU)
    region = (slice(5, 17), slice(2, 20), slice(10, 23))
    tile = source.draw(FIELDS, [4], region, CPU)
    assert torch.equal(tile["w"], whole["w"][4:5])
    assert torch.equal(tile["e"], whole["e"][4:5][(..., *region)])


def test_seed_changes_everything_and_scale_scales() -> None:
    one, other = (NoiseSource(seed=seed).draw(FIELDS, [0], GRID, CPU) for seed in (4, 5))
    assert not torch.isclose(one["e"], other["e"]).any(dim=0).all()
    assert abs(float((one["e"] * other["e"]).mean())) < 0.03
    half = NoiseSource(seed=4, scale=0.5).draw(FIELDS, [0], GRID, CPU)
    assert torch.equal(half["e"], one["e"] * 0.5)
    assert not NoiseSource(seed=4, scale=0.0).draw(FIELDS, [0], GRID, CPU)["w"].any()


@pytest.mark.parametrize("correlation", [0.0, 2.5])
def test_a_process_along_slices_is_stationary_with_its_correlation(correlation: float) -> None:
    fields = {"w": NoiseField(8, "slices", correlation)}
    region = (slice(0, 40), *GRID[1:])
    w = NoiseSource(seed=6).draw(fields, range(600), region, CPU)["w"].double()
    assert w.shape == (600, 8, 40)
    # 4800 independent processes: the standard error of a variance or correlation is about 0.02.
    np.testing.assert_allclose(w.var(dim=(0, 1)).numpy(), 1.0, atol=0.1)
    for distance in (1, 2, 5, 10):
        got = float((w[..., distance:] * w[..., :-distance]).mean())
        expected = np.exp(-(distance**2) / (2 * correlation**2)) if correlation else 0.0
        assert got == pytest.approx(expected, abs=0.03), distance


def test_a_process_is_the_same_in_every_tile() -> None:
    fields = {"w": NoiseField(3, "slices", 4.0)}
    whole = NoiseSource(seed=7).draw(fields, [2], GRID, CPU)["w"]
    tile = NoiseSource(seed=7).draw(fields, [2], (slice(9, 15), *GRID[1:]), CPU)["w"]
    torch.testing.assert_close(tile, whole[..., 9:15], rtol=1e-6, atol=1e-6)


def test_cells_of_a_grid_have_noise_of_their_own_in_every_tile() -> None:
    fields = {"z": NoiseField(2, "grid", strides=(4, 8))}
    source = NoiseSource(seed=3)
    whole = source.draw(fields, range(3), (slice(0, 32), slice(0, 64)), CPU)["z"]
    tile = source.draw(fields, [2], (slice(8, 24), slice(16, 40)), CPU)["z"]
    assert whole.shape == (3, 2, 8, 8)
    assert torch.equal(tile, whole[2:3, :, 2:6, 2:5])
    assert whole.unique().numel() == whole.numel()


CELLS = {"coarse": NoiseField(2, "grid", strides=(1, 8, 8), correlation=5.0), "w": NoiseField(2, "global")}
STACK = (slice(0, 400), slice(0, 32), slice(0, 48))


def test_cells_follow_the_slices_as_a_process_each() -> None:
    values = NoiseSource(seed=5).draw(CELLS, range(3), STACK, CPU)["coarse"]
    assert values.shape == (3, 2, 400, 4, 6)
    lines = values.double().movedim(2, -1).flatten(0, -2)
    assert float(lines.square().mean()) == pytest.approx(1.0, abs=0.1)
    for distance, expected in ((0, 1.0), (5, np.exp(-0.5)), (10, np.exp(-2.0)), (20, 0.0)):
        found = float((lines[:, distance:] * lines[:, : 400 - distance]).mean() / lines.square().mean())
        assert found == pytest.approx(expected, abs=0.06), distance
    together = np.corrcoef(lines.numpy())
    # Cells, channels and samples know nothing of each other; each line has only some 45 independent values.
    assert abs(float((together - np.eye(len(lines))).mean())) < 0.01


def test_a_tile_sees_the_cells_that_are_there() -> None:
    source = NoiseSource(seed=5)
    whole = source.draw(CELLS, range(2), STACK, CPU)["coarse"]
    tile = source.draw(CELLS, [1], (slice(30, 33), slice(8, 32), slice(16, 48)), CPU)["coarse"]
    torch.testing.assert_close(tile, whole[1:, :, 30:33, 1:4, 2:6], rtol=1e-5, atol=1e-6)


def test_a_frozen_field_has_the_noise_of_one_sample() -> None:
    free, frozen = NoiseSource(seed=5), NoiseSource(seed=5, frozen={"w": 7})
    expected, found = (source.draw(FIELDS, range(3), GRID, CPU) for source in (free, frozen))
    assert torch.equal(found["e"], expected["e"])
    assert torch.equal(found["w"], free.draw(FIELDS, [7, 7, 7], GRID, CPU)["w"])


def test_the_way_between_two_samples_keeps_to_the_sphere() -> None:
    source = NoiseSource(seed=5, frozen={"w": 3})
    ends = source.draw(FIELDS, [4, 9], GRID, CPU)
    way = Between(source, 4, 9, steps=5).draw(FIELDS, range(5), GRID, CPU)
    torch.testing.assert_close(way["e"][[0, 4]], ends["e"])
    assert torch.equal(way["w"], ends["w"][:1].expand(5, -1))
    squares = way["e"].square().flatten(1).mean(dim=1)
    torch.testing.assert_close(squares, torch.ones(5), rtol=0, atol=0.03)
    torch.testing.assert_close(way["e"][2], 0.5**0.5 * ends["e"].sum(dim=0))
