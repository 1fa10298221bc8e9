import numpy as np
import pytest
from MedSegUncertaintyLib.uncertainty.slices import rank_slices


def bumps(shape: tuple[int, int, int], heights: dict[tuple[int, int, int], float]) -> np.ndarray:
    """Variance that is zero but for some voxels (K, J, I)."""
    variance = np.zeros(shape, dtype=np.float32)
    for place, height in heights.items():
        variance[place] = height
    return variance


def test_peaks_and_not_their_neighbors_are_ranked() -> None:
    variance = bumps((60, 4, 5), {(10, 1, 1): 0.1, (11, 1, 2): 0.2, (12, 1, 3): 0.1, (40, 2, 4): 0.3, (41, 2, 4): 0.05})
    found = rank_slices(variance, axis=0, spacing_mm=1.0)
    assert [place.index for place in found] == [11, 40]
    assert found[0].share == pytest.approx(0.2 / 0.75)
    assert found[0].center_ijk == pytest.approx((2, 1, 11))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_axis_is_ranked_alike(axis: int) -> None:
    variance = np.moveaxis(bumps((40, 3, 3), {(5, 0, 2): 0.1, (30, 2, 1): 0.2}), 0, axis)
    found = rank_slices(variance, axis, spacing_mm=1.0)
    assert [place.index for place in found] == [30, 5]
    assert all(variance[tuple(round(number) for number in place.center_ijk[::-1])] for place in found)


def test_smoothing_is_in_mm() -> None:
    variance = bumps((20, 1, 1), {(8, 0, 0): 0.2, (11, 0, 0): 0.2})
    assert len(rank_slices(variance, axis=0, spacing_mm=1.0)) == 1
    assert len(rank_slices(variance, axis=0, spacing_mm=5.0)) == 2


def test_the_ends_count_as_much_as_the_middle() -> None:
    found = rank_slices(bumps((30, 1, 1), {(0, 0, 0): 0.2, (20, 0, 0): 0.1}), axis=0, spacing_mm=3.0)
    assert [place.index for place in found] == [0, 20]


def test_small_peaks_in_the_tails_are_left_out() -> None:
    variance = bumps((60, 1, 1), {(10, 0, 0): 0.2, (50, 0, 0): 0.005})
    assert [place.index for place in rank_slices(variance, axis=0, spacing_mm=1.0)] == [10]


def test_a_flat_top_counts_once() -> None:
    flat = np.full((9, 2, 2), 0.1, dtype=np.float32)
    assert [place.index for place in rank_slices(flat, axis=0, spacing_mm=1.0)] == [4]
    assert [place.index for place in rank_slices(flat[:1], axis=0, spacing_mm=1.0)] == [0]


def test_nothing_varies() -> None:
    assert rank_slices(np.zeros((5, 4, 3), dtype=np.float32), axis=1, spacing_mm=1.0) == []
