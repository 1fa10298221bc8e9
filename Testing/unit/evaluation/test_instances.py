"""Instances out of colored samples: the reference's synthetic image, and what each step does."""

from pathlib import Path

import numpy as np
import pytest
from MedSegUncertaintyLib.evaluation.instances import (
    InstanceRule,
    adapted_rand_error,
    clusters,
    foreground,
    instances,
    repaired,
    without_thin_parts,
)


def test_the_reference_image(shared: Path) -> None:
    """25 objects, 16 samples, 18 % of the interior and 78 % of the boundary pixels colored at random."""
    with np.load(shared / "goldens" / "hpunet_instances_selfmade.npz") as file:
        truth, samples, raw, cleaned = (file[key] for key in ("gt", "samples", "clusters", "cleaned"))
    assert adapted_rand_error(truth, raw) == pytest.approx(0.0930, abs=5e-5)
    assert adapted_rand_error(truth, cleaned) == pytest.approx(0.0055, abs=5e-5)
    inside = foreground(samples, None)
    ours = clusters(samples, inside, 0.5)
    assert adapted_rand_error(truth, ours) == pytest.approx(0.0930, abs=0.002)
    found = instances(samples, background=None)
    assert len(np.unique(found)) == 25
    assert adapted_rand_error(truth, found) < 0.0055


def two_cells() -> np.ndarray:
    """Two cells that touch, 1 and 2, on a background of 0."""
    truth = np.zeros((20, 30), np.int64)
    truth[4:16, 3:15], truth[4:16, 15:27] = 1, 2
    return truth


def colored(truth: np.ndarray, samples: int, colors: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    palettes = np.concatenate(
        [np.zeros((samples, 1), int), rng.integers(1, colors + 1, (samples, truth.max()))], axis=1
    )
    return palettes[:, truth].astype(np.uint8)


def test_cells_that_touch_come_apart_although_they_often_have_one_color() -> None:
    truth = two_cells()
    samples = colored(truth, 16, 3, 0)
    assert (samples[:, 8, 8] == samples[:, 8, 20]).sum() >= 2
    found = instances(samples)
    assert adapted_rand_error(truth, found) == 0
    assert found.max() == 2
    noisy = samples.copy()
    rng = np.random.default_rng(1)
    wrong = rng.random(samples.shape) < 0.15
    noisy[wrong] = rng.integers(0, 4, wrong.sum())
    assert adapted_rand_error(truth, instances(noisy)) < 0.03
    # One sample says nothing where the colors agree.
    same = samples[samples[:, 8, 8] == samples[:, 8, 20]][:1]
    assert adapted_rand_error(truth, instances(same), ignored=0) == pytest.approx(1 / 3)


def test_background_is_what_most_samples_say() -> None:
    samples = np.zeros((5, 8, 8), np.uint8)
    samples[:3, 2:6, 2:6], samples[:2, 0, 0] = 4, 1
    np.testing.assert_array_equal(foreground(samples, 0), samples[0] == 4)
    assert instances(np.zeros((3, 6, 6), np.uint8)).max() == 0


def test_thin_parts_are_no_instances_and_their_pixels_go_to_the_neighbors() -> None:
    labels = np.ones((12, 12), np.int32)
    labels[:, 6:] = 2
    labels[3, :] = 3  # a line through both, which cuts nothing off that is thick enough
    parts = without_thin_parts(labels, 1)
    assert (parts == 0).sum() == 12
    assert len(np.unique(parts)) == 5
    whole = repaired(parts, np.ones(parts.shape, bool))
    assert whole.min() > 0
    lone = np.zeros((6, 6), np.int32)
    np.testing.assert_array_equal(repaired(lone, lone == 0), lone)


def test_rand_error_of_pairs() -> None:
    truth = np.array([[1, 1, 2, 2]])
    assert adapted_rand_error(truth, truth + 5) == 0
    # All in one: 8 of 16 ordered pairs belong together, all 8 true ones were found.
    assert adapted_rand_error(truth, np.ones_like(truth)) == pytest.approx(1 - 2 * 8 / (8 + 16))
    assert adapted_rand_error(truth, np.arange(4)[None]) == pytest.approx(1 - 2 * 4 / (8 + 4))
    assert adapted_rand_error(truth, np.array([[7, 7, 8, 9]]), ignored=2) == 0


def test_a_stricter_rule_splits_more() -> None:
    truth = two_cells()
    samples = colored(truth, 8, 4, 2)
    samples[:3, 4:16, 3:9] = 5  # half a cell differs in three of eight samples
    assert instances(samples, rule=InstanceRule(distance=0.5)).max() == 2
    assert instances(samples, rule=InstanceRule(distance=0.2)).max() == 3
