"""Draws: reproducible, changed together and back, coherent; and what leaving examples out says about them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.propagation.augmentation import Change
from MedSegUncertaintyLib.propagation.calibration import Calibration, calibrate, fitted_temperature
from MedSegUncertaintyLib.propagation.draws import draw
from MedSegUncertaintyLib.propagation.walk import FUSIONS, NETWORK_ALONE

from .conftest import SIZE, ball, hallucinating, oracle

PLAIN = Calibration((NETWORK_ALONE,))


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / max(1, first.sum() + second.sum())


@pytest.mark.parametrize("seed", range(6))
def test_change_and_back_leaves_things_in_place(seed):
    change = Change.random(np.random.default_rng(seed))
    mask = torch.from_numpy(ball()[12:13].astype(np.float32))
    logits = 20 * (change.masks(mask) - 0.5)
    assert overlap(change.back(logits)[0].numpy() > 0, ball()[12]) > 0.95


def test_no_change_is_exact():
    images = torch.rand(2, SIZE, SIZE)
    assert Change.none().is_none
    assert torch.equal(Change.none().images(images), images)


def test_changed_intensities_stay_between_0_and_1():
    for seed in range(20):
        changed = Change.random(np.random.default_rng(seed)).images(torch.rand(2, SIZE, SIZE))
        assert 0 <= changed.min() <= changed.max() <= 1


@pytest.mark.parametrize("sample", [0, 1, 2, 5])
def test_every_draw_of_a_perfect_network_is_right(make_scene, sample):
    for number, logits in draw(oracle, make_scene(), PLAIN, (0, 0, sample)):
        if ball()[number].sum() > 30:
            assert overlap((logits > 0).numpy(), ball()[number]) > 0.93


def test_same_seed_same_draw_and_another_draw_differs(make_scene):
    scene = make_scene()
    first, again, other = (dict(draw(hallucinating, scene, PLAIN, (0, 0, n))) for n in (3, 3, 4))
    assert all(torch.equal(first[number], again[number]) for number in first)
    assert not all(torch.equal(first[number], other[number]) for number in first)


def test_examples_from_elsewhere_alone_are_enough(make_scene):
    known = make_scene()
    stranger = replace(
        known, marks={}, images_elsewhere=known.images[[9, 14]],
        masks_elsewhere=torch.stack([known.marks[9], known.marks[14]]), _outlined={},
    )  # fmt: skip
    result = dict(draw(oracle, stranger, PLAIN, (0, 0, 0)))
    assert sorted(result) == list(range(30))
    assert np.array_equal((result[12] > 0).numpy(), ball()[12])
    assert not (result[29] > 0).any()


def test_good_network_needs_little_shape(make_scene):
    scene = make_scene(outlined=(6, 14, 22))
    known = calibrate(oracle, scene, lambda: None)
    assert FUSIONS[0] in known.fusions
    assert known.expected_dice > 0.95
    assert known.left_out == 3


def test_bad_network_is_overruled_by_shape(make_scene):
    scene = make_scene(outlined=(8, 11, 14, 17, 20))
    known = calibrate(lambda target, images, masks: 3.0 * torch.ones(SIZE, SIZE), scene, lambda: None)
    assert known.fusions[0] == FUSIONS[2]
    assert FUSIONS[0] not in known.fusions


def test_single_example_says_nothing(make_scene):
    known = calibrate(oracle, make_scene(outlined=(14,)), lambda: None)
    assert known.expected_dice is None
    assert known.temperature == 1.0


def test_examples_from_elsewhere_are_left_out_in_turn(make_scene):
    known = make_scene()
    images, masks = known.images[[9, 14, 19]], torch.stack([known.marks[number] for number in (9, 14, 19)])
    stranger = replace(known, marks={}, images_elsewhere=images, masks_elsewhere=masks, _outlined={})
    assert calibrate(oracle, stranger, lambda: None).left_out == 3


def test_overconfident_logits_are_tempered():
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(4, SIZE, SIZE, generator=generator) * 2
    masks = (torch.rand(4, SIZE, SIZE, generator=generator) < honest.sigmoid()).float()
    pairs = list(zip(honest, masks, strict=True))
    assert fitted_temperature(pairs) == 1.0
    assert fitted_temperature([(4 * logits, mask) for logits, mask in pairs]) == 4.0


def test_calibration_can_be_canceled(make_scene):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(oracle, make_scene(), stop)
