"""Images on other grids than the first one: the same places, smoothed where the model's voxels are larger."""

import numpy as np
import pytest
from MedSegUncertaintyLib.volumes.alignment import covered_share, to_model
from MedSegUncertaintyLib.volumes.geometry import Geometry, RegionOfInterest, Volume
from MedSegUncertaintyLib.volumes.placement import GridRule, Placement

from .conftest import ORIENTATIONS, oriented, turned

FIRST = Geometry.from_parts((20, 18, 12), (1.0, 1.0, 2.0), (-10.0, -9.0, -11.0))


def on(geometry: Geometry, field) -> Volume:
    """A field of RAS positions as an image."""
    k, j, i = np.indices(geometry.shape_kji)
    return Volume(field(geometry.to_ras(np.stack([i, j, k], axis=-1))), geometry)


def ramp(ras: np.ndarray) -> np.ndarray:
    return 500 + ras @ np.array([1.0, -2.0, 3.0])


def larger(degrees: float, spacing: tuple[float, float, float]) -> Geometry:
    shape = tuple(int(60 / length) for length in spacing)
    grid = Geometry.from_parts(shape, spacing, direction_ras=turned(degrees))
    return Geometry.from_parts(shape, spacing, tuple(-grid.to_ras((np.array(shape) - 1) / 2)), turned(degrees))


@pytest.mark.parametrize("spacing", [None, (1.5, 1.5, 1.5)])
def test_an_image_on_the_same_grid_keeps_its_bits(spacing):
    placement = Placement.plan(FIRST, GridRule(spacing))
    volume = Volume(np.random.default_rng(0).normal(size=FIRST.shape_kji), FIRST)
    np.testing.assert_array_equal(to_model(placement, volume), placement.to_model(volume))


@pytest.mark.parametrize("wanted", [None, (0.7, 1.0, 2.0), (3.0, 3.0, 3.0)])
@pytest.mark.parametrize("voxel", [(1.0, 1.0, 1.0), (0.6, 0.8, 3.0)])
@pytest.mark.parametrize("degrees", [0, 20, 75])
def test_a_linear_field_is_exact_wherever_the_voxels_lie(degrees, voxel, wanted):
    placement = Placement.plan(FIRST, GridRule(wanted, "LPS"))
    moved = to_model(placement, on(larger(degrees, voxel), ramp))
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, on(placement.model, ramp).array, atol=2e-3)


@pytest.mark.parametrize("spacing", [None, (2.5, 2.5, 2.5)])
@pytest.mark.parametrize("orientation", ORIENTATIONS[::7])
def test_stored_otherwise_it_is_the_same_image(orientation, spacing):
    """Permuted and flipped storage goes another way than the first grid, and arrives at the same values."""
    first = oriented("RAS", shape=(14, 12, 10))
    noise = np.random.default_rng(3).normal(100, 10, first.shape_kji)
    grid = oriented(orientation, shape=(14, 12, 10))
    middle = first.to_ras((np.array(first.shape_ijk) - 1) / 2)
    shape = tuple(np.rint(np.abs(np.linalg.inv(grid.direction) @ np.array(first.shape_ijk))).astype(int).tolist())
    spacing_ijk = np.abs(np.linalg.inv(grid.direction) @ first.spacing)
    matrix = np.eye(4)
    matrix[:3, :3] = grid.direction * spacing_ijk
    matrix[:3, 3] = middle - matrix[:3, :3] @ ((np.array(shape) - 1) / 2)
    other = Geometry(shape, matrix)
    k, j, i = np.indices(other.shape_kji)
    at = np.rint(first.to_ijk(other.to_ras(np.stack([i, j, k], axis=-1)))).astype(int)
    stored = Volume(noise[at[..., 2], at[..., 1], at[..., 0]], other)
    placement = Placement.plan(first, GridRule(spacing))
    difference = to_model(placement, stored) - placement.to_model(Volume(noise, first))
    assert np.abs(difference).max() < 1e-3


def test_detail_finer_than_the_model_is_averaged():
    fine = Geometry.from_parts((81, 81, 81), (0.5, 0.5, 0.5), (-20.0, -20.0, -20.0))
    k, j, i = np.indices(fine.shape_kji)
    checkered = Volume((i + j + k) % 2 * 100, fine)
    moved = to_model(Placement.plan(FIRST, GridRule((2.0, 2.0, 2.0))), checkered)
    np.testing.assert_allclose(moved, 50, atol=1)


def test_only_what_surrounds_the_region_is_used():
    roi = RegionOfInterest((0.0, 0.0, 0.0), (6.0, 6.0, 6.0))
    placement = Placement.plan(FIRST, GridRule((2.0, 2.0, 2.0)), roi)
    volume = on(larger(20, (1.0, 1.0, 1.0)), ramp)
    changed = volume.array.copy()
    changed[:15] = 1e6
    np.testing.assert_array_equal(to_model(placement, volume), to_model(placement, Volume(changed, volume.geometry)))


def test_outside_is_the_lowest_value():
    half = Geometry.from_parts((10, 18, 12), (1.0, 1.0, 2.0), (-10.0, -9.0, -11.0))
    moved = to_model(Placement.plan(FIRST, GridRule(None)), on(half, ramp))
    np.testing.assert_allclose(moved[:, :, :10], on(half, ramp).array, rtol=1e-6)
    np.testing.assert_allclose(moved[:, :, 10:], on(half, ramp).array.min(), rtol=1e-6)


@pytest.mark.parametrize(
    ("other", "share"),
    [
        (FIRST, 1.0),
        (Geometry.from_parts((5, 18, 12), (1.0, 1.0, 2.0), (-10.0, -9.0, -11.0)), 0.25),
        (Geometry.from_parts((20, 18, 12), (1.0, 1.0, 2.0), (0.0, 0.0, -11.0)), 0.25),
        (Geometry.from_parts((1, 1, 1), (100.0, 100.0, 100.0)), 1.0),
        (Geometry.from_parts((20, 18, 12), (1.0, 1.0, 2.0), (90.0, 0.0, 0.0)), 0.0),
        (larger(30, (2.0, 2.0, 2.0)), 1.0),
    ],
)
def test_covered_share(other, share):
    assert covered_share(FIRST, other) == pytest.approx(share)


def test_covered_share_of_a_turned_grid_is_that_of_its_volume():
    small = larger(0, (1.0, 1.0, 1.0))
    c = np.cos(np.radians(45))
    direction = np.array([[c, -c, 0], [c, c, 0], [0, 0, 1.0]])
    turned_grid = Geometry.from_parts((60, 60, 60), (1.0, 1.0, 1.0), (0.0, -59.5 * c, -29.5), direction)
    # A square turned by 45 degrees about its own middle covers 2 (sqrt(2) - 1) of its upright twin.
    moved = turned_grid.ijk_to_ras.copy()
    moved[:3, 3] -= turned_grid.to_ras(np.array([29.5, 29.5, 29.5]))
    assert covered_share(small, Geometry((60, 60, 60), moved)) == pytest.approx(2 * (np.sqrt(2) - 1), abs=0.01)
