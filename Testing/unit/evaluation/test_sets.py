"""Sets of masks that the tests make: what must come out whatever the formula's form."""

import itertools
import math

import numpy as np
import pytest
from MedSegUncertaintyLib.evaluation import overlap as overlaps
from MedSegUncertaintyLib.evaluation.bootstrap import patient_interval
from MedSegUncertaintyLib.evaluation.calibration import LOG_EPS, calibration_error, reader_correlation
from MedSegUncertaintyLib.evaluation.overlap import dice, mean_of_defined, pairwise_iou
from MedSegUncertaintyLib.evaluation.sets import (
    SetOverlap,
    expected_dice,
    ged_squared,
    matched_iou,
    reader_diversity,
    sample_diversity,
)


def label_maps(*shape: int, labels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, labels + 1, shape).astype(np.uint8)


def binary(readers: np.ndarray, samples: np.ndarray, both_empty: float = 1.0) -> SetOverlap:
    return SetOverlap.of(readers, samples, labels=(1,), both_empty=both_empty)


@pytest.mark.parametrize("both_empty", [1.0, np.nan])
def test_iou_of_every_pair_is_that_of_the_two_masks(both_empty: float) -> None:
    maps = label_maps(2, 5, 3, 4, 2, labels=3)
    maps[0, 1:3][maps[0, 1:3] == 2] = 0
    got = pairwise_iou(maps, labels=(1, 2, 3), both_empty=both_empty)
    for (row, label), image, i, j in itertools.product(enumerate((1, 2, 3)), range(2), range(5), range(5)):
        first, second = maps[image, i] == label, maps[image, j] == label
        union = (first | second).sum()
        np.testing.assert_equal(got[row, image, i, j], (first & second).sum() / union if union else both_empty)
    assert np.isnan(got).any() == math.isnan(both_empty)


def test_counts_are_exact_in_either_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = label_maps(1, 4, 50, 50)
    single = pairwise_iou(maps, labels=(1,), both_empty=1.0)
    monkeypatch.setattr(overlaps, "EXACT_IN_FLOAT32", 0)
    np.testing.assert_array_equal(pairwise_iou(maps, labels=(1,), both_empty=1.0), single)


def test_the_same_set_has_no_distance() -> None:
    maps = label_maps(3, 4, 8, 8)
    overlap = binary(maps, maps[:, ::-1])
    np.testing.assert_allclose(ged_squared(overlap), 0.0, atol=1e-15)
    np.testing.assert_allclose(matched_iou(overlap), 1.0)
    np.testing.assert_allclose(sample_diversity(overlap), reader_diversity(overlap))


def test_repeating_a_set_changes_nothing() -> None:
    readers, samples = label_maps(2, 3, 8, 8), label_maps(2, 4, 8, 8, seed=1)
    once, twice = binary(readers, samples), binary(readers, np.repeat(samples, 2, axis=1))
    for figure in (ged_squared, sample_diversity, matched_iou, expected_dice):
        np.testing.assert_allclose(figure(once), figure(twice))
    single = samples[:, :1]
    for figure in (ged_squared, matched_iou, expected_dice):
        np.testing.assert_allclose(
            figure(binary(readers, single)), figure(binary(readers, single.repeat(5, axis=1))), atol=1e-15
        )


def test_empty_masks_by_either_policy() -> None:
    readers, samples = np.zeros((1, 2, 4, 4), np.uint8), np.zeros((1, 2, 4, 4), np.uint8)
    readers[0, 0, :2] = 1
    agree = binary(readers, samples)
    np.testing.assert_allclose(agree.readers_samples[0, 0], [[0, 0], [1, 1]])
    np.testing.assert_allclose([matched_iou(agree), expected_dice(agree), reader_diversity(agree)], 0.5)
    np.testing.assert_allclose(ged_squared(agree), 2 * 0.5 - 0 - 0.5)
    left_out = binary(readers, samples, both_empty=np.nan)
    np.testing.assert_allclose(expected_dice(left_out), 0.0)
    assert np.isnan(sample_diversity(left_out)).all()
    with pytest.raises(ValueError, match="invalid numeric entries"):
        matched_iou(left_out)


def test_absent_labels_count_or_do_not() -> None:
    first, second = np.zeros((2, 1, 1, 8), np.uint8)
    first[..., :4], second[..., 2:4] = 1, 1
    for both_empty, expected in ((1.0, (0.5 + 1.0) / 2), (np.nan, 0.5)):
        overlap = SetOverlap.of(first[None], second[None], labels=(1, 2), both_empty=both_empty)
        np.testing.assert_allclose(matched_iou(overlap), expected)


def test_matching_is_the_best_of_all_permutations() -> None:
    overlap = binary(label_maps(3, 4, 6, 6), label_maps(3, 4, 6, 6, seed=1))
    for image, value in zip(overlap.readers_samples[0], matched_iou(overlap), strict=True):
        assert value == pytest.approx(
            max(image[range(4), list(order)].mean() for order in itertools.permutations(range(4)))
        )


def test_matching_uses_every_sample() -> None:
    """One sample that fits does not hide three that do not."""
    reader = np.zeros((1, 1, 4, 4), np.uint8)
    reader[..., 0, :] = 1
    samples = np.concatenate([reader, 1 - reader, 1 - reader, 1 - reader], axis=1)
    np.testing.assert_allclose(matched_iou(binary(reader, samples)), 0.25)


def test_expected_dice_is_that_of_the_pairs() -> None:
    readers, samples = label_maps(1, 3, 6, 6), label_maps(1, 2, 6, 6, seed=1)
    pairs = [dice(r == 1, s == 1, both_empty=1.0) for r, s in itertools.product(readers[0], samples[0])]
    np.testing.assert_allclose(expected_dice(binary(readers, samples)), np.mean(pairs))


def test_probabilities_that_say_what_readers_do_are_calibrated() -> None:
    readers = label_maps(2, 4, 16, 16)
    share = readers.mean(axis=1)
    probabilities = np.stack([1 - share, share], axis=1)
    perfect = calibration_error(probabilities, readers, bins=10)
    np.testing.assert_allclose([perfect.weighted, perfect.unweighted], 0.0, atol=1e-15)
    # Certain and always wrong: the last bin is closed above, so probability 1 has a place.
    nothing = np.zeros((2, 4, 16, 16), np.uint8)
    certain = np.broadcast_to(np.array([0.0, 1.0])[None, :, None, None], (2, 2, 16, 16))
    np.testing.assert_allclose(calibration_error(certain, nothing, bins=10).weighted, 1.0)


def test_bins_weigh_by_pixels_or_equally() -> None:
    """Three quarters of the pixels are right, one quarter is off by 0.2."""
    structure = np.array([0.05, 0.05, 0.05, 0.8])
    readers = np.array([[[0, 0, 0, 1]] * 19 + [[1, 1, 1, 1]]]).astype(np.uint8)
    error = calibration_error(np.stack([1 - structure, structure])[None], readers, bins=10)
    np.testing.assert_allclose(error.weighted, 0.2 / 4)
    np.testing.assert_allclose(error.unweighted, 0.2 / 2)


def test_samples_that_vary_where_readers_do_correlate() -> None:
    rng = np.random.default_rng(0)
    edge = np.linspace(-6, 6, 64)
    shifts = rng.normal(0, 1, (50, 1))
    structure = 1 / (1 + np.exp(-(edge + shifts)))
    probabilities = np.stack([1 - structure, structure], axis=1)
    readers = (edge + shifts[:4] > 0).astype(np.uint8)[None]
    mean, log_mean = probabilities.mean(axis=0)[None], np.log(probabilities + LOG_EPS).mean(axis=0)[None]
    here = reader_correlation(mean, log_mean, readers)
    assert here > 0.5
    assert reader_correlation(mean, log_mean, np.roll(readers, 24, axis=-1)) < here
    certain = np.broadcast_to(np.array([1.0, 0.0])[None, :, None], (1, 2, 64))
    assert np.isnan(reader_correlation(certain, np.log(certain + LOG_EPS), readers)).all()


def test_mean_of_nothing_is_undefined_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    np.testing.assert_equal(mean_of_defined(np.array([[1.0, np.nan], [np.nan, np.nan]]), 1), [1.0, np.nan])
    assert not recwarn.list


def test_interval_resamples_patients_not_images() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(0, 1, 40)
    patients, values = np.repeat(np.arange(40), 25), np.repeat(level, 25)
    ones = np.ones(1000)
    low, high = patient_interval(values, ones, patients, resamples=2000, seed=0)
    assert low < level.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * level.std() / np.sqrt(40), rel=0.1)
    alone = patient_interval(values, ones, np.arange(1000), resamples=2000, seed=0)
    assert alone[1] - alone[0] < 0.3 * (high - low)
    assert patient_interval(values, ones, patients, resamples=2000, seed=0) == (low, high)
    assert patient_interval(values, ones, patients, resamples=2000, seed=1) != (low, high)


def test_no_interval_from_one_patient() -> None:
    counts, patients = np.array([1, 1, 0]), np.array(["a", "a", "b"])
    assert patient_interval(np.array([1.0, 2.0, 0.0]), counts, patients, resamples=10, seed=0) is None
