"""Shape prior: outlines interpolated by signed distance."""

import numpy as np
import pytest
from MedSegUncertaintyLib.propagation.shape import ShapePrior, signed_distance


def disc(radius: float) -> np.ndarray:
    rows, columns = np.indices((32, 32)) - 15.5
    return (np.hypot(rows, columns) < radius).astype(np.float32)


def radius_of(distance: np.ndarray) -> float:
    return float(np.sqrt((distance > 0).sum() / np.pi))


def test_distance_is_positive_inside_and_in_mm():
    distance = signed_distance(disc(8), pixel_mm=2.0)
    assert distance[16, 16] == pytest.approx(14.6, abs=1)
    assert distance[16, 30] == pytest.approx(-2 * (30.5 - 15.5 - 8), abs=2)
    assert (distance > 0).sum() == disc(8).sum()


def test_empty_mask_has_no_distance():
    assert signed_distance(np.zeros((8, 8)), 1.0) is None


def test_halfway_between_two_discs_is_one_of_their_mean_size():
    prior = ShapePrior.from_masks({0: disc(6), 10: disc(12)}, 1.0, 1.0)
    assert radius_of(prior.distance(5)) == pytest.approx(9, abs=0.3)
    assert radius_of(prior.distance(0)) == pytest.approx(6, abs=0.3)


def test_structure_shrinks_to_nothing_before_an_empty_mark():
    prior = ShapePrior.from_masks({0: disc(8), 10: np.zeros((32, 32))}, 1.0, 1.0)
    radii = [radius_of(prior.distance(number)) for number in range(10)]
    assert radii == sorted(radii, reverse=True)
    assert radii[3] > 3
    assert radii[8] == 0


def test_beyond_the_last_outline_nothing_says_that_it_goes_on():
    prior = ShapePrior.from_masks({4: disc(8)}, 1.0, 2.0, stretch=np.inf)
    np.testing.assert_array_equal(prior.distance(9), np.minimum(prior.distance(4), 0))
    assert np.abs(prior.logit(9)).max() < 0.5 * np.abs(prior.logit(5)).max()


@pytest.mark.parametrize("numbers", [(10,), (10, 14), (10, 11, 12)])
def test_few_outlines_are_taken_for_the_middle_of_something_as_long_as_wide(numbers):
    prior = ShapePrior.from_masks(dict.fromkeys(numbers, disc(9)), 1.0, slice_mm=2.0)
    radius = prior.distance(10).max() / 2
    assert prior.limits == pytest.approx((10 - 2 * radius, numbers[-1] + 2 * radius))
    assert prior.limits == prior.ends
    assert prior.logit(int(prior.limits[0]) - 1).max() < -50


def test_outlines_in_the_middle_do_not_cut_a_structure_short():
    """Areas of three outlines near the middle of a ball say that most of it lies beyond them."""
    masks = {number: disc(np.sqrt(14**2 - number**2)) for number in (-4, 0, 4)}
    prior = ShapePrior.from_masks(masks, 1.0, 1.0)
    assert prior.ends == pytest.approx((-14, 14), abs=2)
    assert prior.limits[0] < -25


def test_a_mark_ahead_takes_the_place_of_the_limit():
    marks = {10: disc(4), 40: np.zeros((32, 32))}
    prior = ShapePrior.from_masks(marks, 1.0, 1.0)
    assert prior.limits[1] < 20
    assert prior.logit(21).max() > -5
    assert prior.logit(0).max() < -50


def test_ends_of_a_ball_are_foreseen():
    masks = {number: disc(np.sqrt(12**2 - number**2)) for number in (-6, 0, 6)}
    low, high = ShapePrior.from_masks(masks, 1.0, 1.0).ends
    assert low == pytest.approx(-12, abs=0.6)
    assert high == pytest.approx(12, abs=0.6)


def test_tube_is_taken_to_go_on_by_the_distance_of_its_outlines_and_a_half():
    prior = ShapePrior.from_masks(dict.fromkeys((4, 14, 24), disc(6)), 1.0, 1.0)
    assert prior.ends == (4 - 15, 24 + 15)


def test_stretched_prior_goes_on_farther():
    masks = {number: disc(np.sqrt(12**2 - number**2)) for number in (-6, 0, 6)}
    low, high = ShapePrior.from_masks(masks, 1.0, 1.0, stretch=1.5).ends
    assert low == pytest.approx(-15, abs=0.9)
    assert high == pytest.approx(15, abs=0.9)


def test_structure_is_unlikely_beyond_its_end():
    prior = ShapePrior.from_masks(dict.fromkeys((4, 14, 24), disc(6)), 1.0, 1.0)
    peaks = [prior.logit(number).max() for number in (25, 32, 38, 40)]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[0] <= 0
    assert peaks[3] < -50


def test_nothing_is_known_between_two_empty_marks():
    prior = ShapePrior.from_masks({0: np.zeros((8, 8)), 4: np.zeros((8, 8))}, 1.0, 1.0)
    assert prior.logit(2) is None
    assert prior.logit(6) is None
