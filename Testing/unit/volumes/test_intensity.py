"""Every rule by values worked out beside it."""

import json

import numpy as np
import pytest
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.intensity import IntensityRule, apply, gray_window, zscore_brats

RULES = [
    IntensityRule("window", -100, 300),
    IntensityRule("percentiles", 1, 99),
    IntensityRule("zscore"),
    IntensityRule("zscore_brats"),
]


def brain(dtype=np.float32, scale=1.0):
    """Half background 0, half positive."""
    rng = np.random.default_rng(7)
    array = np.zeros((8, 10, 12))
    array[:, :, :6] = rng.uniform(20, 250, (8, 10, 6))
    return (array * scale).astype(dtype)


def test_window():
    out = apply(np.array([[[-1000, -100, 0, 100, 300, 3000]]], np.int16), IntensityRule("window", -100, 300))
    np.testing.assert_allclose(out, [[[0, 0, 0.25, 0.5, 1, 1]]])
    assert out.dtype == np.float32


def test_percentiles_look_at_positive_voxels_only():
    array = np.concatenate([np.full(5000, -7.0), np.arange(1, 102)]).reshape(1, 1, -1)
    out = apply(array, IntensityRule("percentiles", 10, 90)).ravel()
    np.testing.assert_allclose(out[5000:], np.clip((np.arange(1, 102) - 11) / 80, 0, 1), atol=1e-7)
    assert not out[:5000].any()


def test_zscore_clips_then_scales_by_the_positive_voxels():
    array = brain()
    positive = array[array > 0].astype(float)
    low, high = np.percentile(positive, [0.5, 99.5])
    clipped = np.clip(positive, low, high)
    out = apply(array, IntensityRule("zscore"))
    np.testing.assert_allclose(out[array > 0], (clipped - clipped.mean()) / clipped.std(), atol=1e-5)
    np.testing.assert_allclose(out[array == 0], (low - clipped.mean()) / clipped.std(), atol=1e-5)
    assert out[array > 0].mean() == pytest.approx(0, abs=1e-6)
    assert out[array > 0].std() == pytest.approx(1, abs=1e-6)


def test_zscore_is_taken_over_the_volume_and_not_per_slice():
    array = brain() * np.linspace(0.5, 1.5, 8, dtype=np.float32)[:, None, None]
    means = [out[slab > 0].mean() for out, slab in zip(apply(array, IntensityRule("zscore")), array, strict=True)]
    assert np.diff(means).min() > 0.1


def test_brats_rule_equals_the_official_code(shared):
    golden = np.load(shared / "goldens" / "ssn_official.npz")
    channel, mask, out = (golden[f"zscore/{name}"] for name in ("channel", "brain_mask", "out"))
    np.testing.assert_allclose(zscore_brats(channel, mask), out, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(mask, channel > 0)
    np.testing.assert_allclose(apply(channel, IntensityRule("zscore_brats")), out, atol=1e-6)


def test_brats_rule_by_hand():
    array = np.concatenate([np.zeros(50), np.arange(1, 102.0)]).reshape(1, 1, -1)
    typical = np.arange(35, 96.0)  # above the mean 5151 / 151 = 34.1, between the percentiles 6 and 96
    np.testing.assert_allclose(zscore_brats(array), (array - typical.mean()) / typical.std(), atol=1e-12)
    mask = array > 20  # now the 95th percentile is 97
    typical = np.arange(35, 97.0)
    np.testing.assert_allclose(zscore_brats(array, mask), (array - typical.mean()) / typical.std(), atol=1e-12)


@pytest.mark.parametrize("rule", RULES[1:], ids=lambda rule: rule.kind)
@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1), (np.uint16, 250), (np.float32, 6800), (np.float64, 1e-6)])
def test_scale_of_the_image_does_not_matter(rule, dtype, scale):
    expected = apply(brain(np.float64), rule)
    np.testing.assert_allclose(apply(brain(dtype, scale), rule), expected, atol=0.03)


@pytest.mark.parametrize("rule", RULES[:3], ids=lambda rule: rule.kind)
def test_one_outlier_does_not_matter(rule):
    array = brain()
    expected = apply(array, rule)
    array[3, 3, 3] = 1e30
    out = apply(array, rule)
    others = np.ones(array.shape, bool)
    others[3, 3, 3] = False
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[others], expected[others], atol=0.02)


@pytest.mark.parametrize("rule", RULES[1:], ids=lambda rule: rule.kind)
def test_volumes_without_positive_contrast(rule):
    with pytest.raises(BadInputError, match="no voxels above 0"):
        apply(-brain(), rule)
    with pytest.raises(BadInputError, match="Nearly all voxels above 0 have the value 7"):
        apply(np.where(brain() > 0, 7.0, 0), rule)


def test_brats_rule_names_an_image_spoiled_by_an_outlier():
    array = brain()
    array[3, 3, 3] = 1e30
    with pytest.raises(BadInputError, match="remove outliers"):
        zscore_brats(array)


def test_input_is_left_alone():
    for rule in RULES:
        array = brain(np.float64)
        apply(array, rule)
        np.testing.assert_array_equal(array, brain(np.float64))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_json_and_back(rule):
    assert IntensityRule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "minmax"}, "'minmax' is not one of window, percentiles, range, zscore, zscore_brats"),
        ({"kind": None}, "is not one of"),
        ({"kind": "window"}, "needs the numbers low and high"),
        ({"kind": "window", "low": "a", "high": 3}, "needs the numbers"),
        ({"kind": "window", "low": 3, "high": 3}, "cannot use low 3 and high 3"),
        ({"kind": "window", "low": 3, "high": float("nan")}, "cannot use"),
        ({"kind": "percentiles", "low": -1, "high": 99}, "cannot use"),
        ({"kind": "percentiles", "low": 1, "high": 101}, "cannot use"),
        ({"kind": "zscore", "low": 1, "high": 2}, "takes neither"),
        ({"kind": "zscore", "center": 1}, "unknown field center"),
    ],
)
def test_rules_that_make_no_sense(data, words):
    with pytest.raises(ValueError, match=words):
        IntensityRule.from_json(data)


def test_gray_values_are_those_of_the_models_window_and_else_of_the_voxels():
    phase = np.linspace(-4096, 4096, 1001)
    assert gray_window(phase, IntensityRule("window", -1000, 400)) == (-1000.0, 400.0)
    assert gray_window(phase, IntensityRule("zscore")) == gray_window(phase) == pytest.approx((-4055.04, 4055.04))
    low, high = gray_window(np.full(9, 7, np.int16))
    assert low == 7 < high


def test_range_maps_the_smallest_value_to_0_and_the_largest_to_1() -> None:
    array = np.array([[[-1000, -250, 500]]], dtype=np.int16)
    np.testing.assert_allclose(apply(array, IntensityRule("range")), [[[0.0, 0.5, 1.0]]])
    with pytest.raises(BadInputError, match="All voxels have the value -7; choose an image with contrast"):
        apply(np.full((2, 2, 2), -7), IntensityRule("range"))
