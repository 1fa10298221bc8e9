"""Sensitivity and centerline Dice on vessels drawn by hand."""

import math

import numpy as np
import pytest
from MedSegUncertaintyLib.evaluation.centerlines import centerline, centerline_dice, sensitivity
from MedSegUncertaintyLib.evaluation.overlap import dice

EIGHT_NEIGHBORS = np.ones((3, 3))


def drawn(*rows: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def horizontal(first: int, last: int, begin: int = 0, end: int = 40) -> np.ndarray:
    mask = np.zeros((30, 40), dtype=bool)
    mask[first : last + 1, begin:end] = True
    return mask


def test_sensitivity_is_the_share_found() -> None:
    truth, prediction = drawn("####", "...."), drawn("#.##", "##..")
    assert sensitivity(prediction, truth, nothing_there=math.nan) == 0.75
    assert sensitivity(truth, prediction, nothing_there=math.nan) == 0.6
    assert sensitivity(prediction, np.zeros_like(truth), nothing_there=1.0) == 1.0


def test_a_vessel_is_thinned_to_its_middle() -> None:
    line = centerline(horizontal(10, 14))
    assert np.flatnonzero(line.any(axis=1)).tolist() == [12]
    assert line[12, 3:-3].all()


@pytest.mark.parametrize("rows", [(0, 4), (25, 29)])
def test_a_vessel_along_the_border_is_not_lost(rows: tuple[int, int]) -> None:
    line = centerline(horizontal(*rows))
    assert np.flatnonzero(line.any(axis=1)).tolist() == [sum(rows) // 2]
    assert line.sum() >= 34


def test_a_line_of_one_pixel_and_a_single_pixel_stay() -> None:
    for mask in (drawn(".....", ".#...", "..##.", "....#"), drawn("...", ".#.", "...")):
        assert np.array_equal(centerline(mask), mask)


def test_parts_stay_connected_and_apart() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    noise = np.random.default_rng(0).normal(size=(60, 80))
    mask = ndimage.gaussian_filter(noise, 2.0) > 0.05
    line = centerline(mask)
    parts, count = ndimage.label(mask, EIGHT_NEIGHBORS)
    assert ndimage.label(line, EIGHT_NEIGHBORS)[1] == count > 5
    assert len(np.unique(parts[line])) == count
    assert not (line & ~mask).any()


def test_equal_vessels_and_those_apart() -> None:
    vessel, other = horizontal(10, 14), horizontal(20, 24)
    assert centerline_dice(vessel, vessel, both_empty=math.nan) == 1.0
    assert centerline_dice(vessel, other, both_empty=math.nan) == 0.0


def test_width_does_not_count() -> None:
    thin, thick = horizontal(12, 12), horizontal(9, 15)
    assert dice(thin, thick, both_empty=math.nan) == pytest.approx(2 * 1 / (1 + 7))
    assert centerline_dice(thin, thick, both_empty=math.nan) == 1.0


def test_a_gap_costs_its_length() -> None:
    whole = horizontal(11, 13)
    broken = whole.copy()
    broken[:, 20:30] = False
    precision = 1.0
    recall = (centerline(whole) & broken).sum() / centerline(whole).sum()
    assert recall == pytest.approx(0.75, abs=0.02)
    expected = 2 * precision * recall / (precision + recall)
    for pair in ((whole, broken), (broken, whole)):
        assert centerline_dice(*pair, both_empty=math.nan) == pytest.approx(expected, rel=1e-12)


def test_a_thin_branch_counts_as_much_as_a_thick_one_of_its_length() -> None:
    trunk, twig = horizontal(4, 10), horizontal(20, 20)
    both = trunk | twig
    without_twig = centerline_dice(trunk, both, both_empty=math.nan)
    without_trunk = centerline_dice(twig, both, both_empty=math.nan)
    # Thinning shortens the thick one by half of its width at both ends.
    assert without_twig == pytest.approx(2 * 34 / (34 + 40 + 34), abs=1e-12)
    assert without_trunk == pytest.approx(2 * 40 / (34 + 40 + 40), abs=1e-12)
    assert dice(trunk, both, both_empty=math.nan) > 0.9 > 0.3 > dice(twig, both, both_empty=math.nan)


def test_empty_masks() -> None:
    vessel, nothing = horizontal(10, 14), horizontal(0, -1)
    assert centerline_dice(vessel, nothing, both_empty=math.nan) == 0.0
    assert centerline_dice(nothing, vessel, both_empty=math.nan) == 0.0
    assert math.isnan(centerline_dice(nothing, nothing, both_empty=math.nan))
    assert centerline_dice(nothing, nothing, both_empty=1.0) == 1.0
