"""Parity with other authors' evaluation code: CCDM, Flow-SSN, SSN (BraTS) and SSN's fork of PHiSeg."""

from pathlib import Path

import numpy as np
import pytest
from MedSegUncertaintyLib.evaluation.calibration import LOG_EPS, calibration_error, reader_correlation
from MedSegUncertaintyLib.evaluation.overlap import dice, dice_from_iou
from MedSegUncertaintyLib.evaluation.sets import (
    SetOverlap,
    expected_dice,
    ged_squared,
    matched_iou,
    reader_diversity,
    sample_diversity,
)
from scipy.optimize import linear_sum_assignment

DOUBLE, SINGLE = 1e-12, 1e-6
"""Tolerances for values that the authors computed in float64 and in float32."""

GED_CASES = [
    "binary_random",
    "binary_gt_two_empty",
    "binary_samples_some_empty",
    "binary_all_empty_both",
    "binary_gt_all_empty_samples_full",
    "binary_identical_set",
    "multiclass4_single_gt",
    "multiclass4_class2_absent_everywhere_in_gt",
    "multiclass4_3d",
    "cap_uses_first_20_of_100",
]


def arrays(path: Path, prefix: str) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {key.removeprefix(prefix): file[key] for key in file.files if key.startswith(prefix)}


def close(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "goldens"


@pytest.mark.parametrize("case", range(6))
def test_ccdm_and_flow_ssn(golden: Path, case: int) -> None:
    expected = arrays(golden / "metrics_ports.npz", f"case{case}/")
    readers, samples = expected.pop("gt"), expected.pop("samples")

    def overlap(count: int) -> SetOverlap:
        return SetOverlap.of(readers, samples[:, :count], labels=(1,), both_empty=1.0)

    all_samples = overlap(16)
    close(ged_squared(all_samples), expected.pop("ccdm_ged"), DOUBLE)
    close(reader_diversity(all_samples), expected.pop("gt_diversity"), DOUBLE)
    close(sample_diversity(all_samples), expected.pop("sample_diversity"), DOUBLE)
    for count in (4, 6, 16):
        close(matched_iou(overlap(count)), expected.pop(f"ccdm_hmiou_{count}"), DOUBLE)
    close(ged_squared(all_samples), expected.pop("flowssn_ged"), SINGLE)
    close(sample_diversity(all_samples), expected.pop("flowssn_div"), SINGLE)
    close(expected_dice(all_samples), expected.pop("flowssn_expected_dice"), SINGLE)

    # Flow-SSN lets each reader take the best sample: not our matching, and never comparable with it.
    rectangular = [
        image[linear_sum_assignment(image, maximize=True)].mean() for image in all_samples.readers_samples[0]
    ]
    close(rectangular, expected["flowssn_hmiou_rectangular"], SINGLE)
    differs = expected.pop("flowssn_hmiou_rectangular") - matched_iou(all_samples)
    assert (differs > -SINGLE).all()
    assert differs.max() > 0.1
    assert not expected


@pytest.mark.parametrize("case", GED_CASES)
def test_ssn_ged(golden: Path, case: int) -> None:
    expected = arrays(golden / "ssn_official.npz", f"ged/{case}/")
    readers, samples = (expected.pop(key)[None] for key in ("gt", "samples"))
    labels = range(1, int(expected.pop("num_classes")))
    everything = SetOverlap.of(readers, samples, labels=labels, both_empty=1.0)
    first = SetOverlap.of(readers, samples[:, : expected.pop("num_samples_to_use")], labels=labels, both_empty=1.0)
    distances = 1.0 - everything.readers_samples.mean(axis=0)[0]
    close(distances, expected.pop("distance_matrix_gt_vs_samples"), DOUBLE)
    close(ged_squared(first)[0], expected.pop("ged"), DOUBLE)
    close(reader_diversity(first)[0], expected.pop("gt_diversity"), DOUBLE)
    close(sample_diversity(first)[0], expected.pop("sample_diversity"), DOUBLE)
    if "phiseg_ged" in expected:
        close(ged_squared(everything)[0], expected.pop("phiseg_ged"), DOUBLE)
        close(sample_diversity(everything)[0], expected.pop("phiseg_diversity"), DOUBLE)
    assert not expected


def test_phiseg(golden: Path) -> None:
    expected = arrays(golden / "ssn_official.npz", "phiseg/")
    probabilities = np.moveaxis(expected.pop("prob_maps"), -1, 1)
    mean, log_mean = probabilities.mean(axis=0)[None], np.log(probabilities + LOG_EPS).mean(axis=0)[None]
    readers = expected.pop("targets")[None]
    calibration = calibration_error(mean, readers, bins=10)
    close(reader_correlation(mean, log_mean, readers)[0], expected.pop("ncc"), DOUBLE)
    close(calibration.weighted[0], expected.pop("ece_per_class"), DOUBLE)
    close(calibration.unweighted[0], expected.pop("unweighted_ece_per_class"), DOUBLE)
    prediction = mean.argmax(axis=1)[:, None].astype(np.uint8)
    overlap = SetOverlap.of(readers, prediction, labels=(0, 1), both_empty=np.nan)
    close(dice_from_iou(overlap.readers_samples)[:, 0, :, 0].T, expected.pop("dsc_vs_mean_prediction"), DOUBLE)
    empty = np.zeros((4, 4), bool)
    np.testing.assert_equal(dice(empty, empty, both_empty=np.nan), float(expected.pop("dsc_both_empty_is_nan")))
    assert not expected
