"""A second look at large structures: nearer to the truth at the border, and nothing else is touched."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.propagation.augmentation import Change
from MedSegUncertaintyLib.propagation.calibration import Calibration, calibrate
from MedSegUncertaintyLib.propagation.draws import draw
from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.propagation.scenes import Framed
from MedSegUncertaintyLib.propagation.session import Session
from MedSegUncertaintyLib.propagation.tiles import CAUTIOUS, UNREFINED, Refinement, looked_again, tiles
from MedSegUncertaintyLib.propagation.walk import NETWORK_ALONE
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume

from .conftest import hallucinating, oracle
from .test_run import CPU, request

EDGE, SLICES, SEEN = 192, 9, 32
FULLY = Refinement(1.0, False)


def star(number: int) -> np.ndarray:
    """Something large with twenty points, which turn slowly from slice to slice."""
    rows, columns = np.indices((EDGE, EDGE)) - (EDGE - 1) / 2
    angle = np.arctan2(rows, columns)
    return np.hypot(rows, columns) < 60 + 6 * np.sin(20 * angle + 0.1 * number)


TRUTH = np.stack([star(number) for number in range(SLICES)])


@pytest.fixture
def large() -> Session:
    """The bright star in noise on squares of 32 pixels, six of the image's pixels each; three slices are outlined."""
    geometry = Geometry.from_parts((EDGE, EDGE, SLICES), (1, 1, 3))
    noise = np.random.default_rng(0).normal(0, 4, TRUTH.shape)
    labels = np.zeros(TRUTH.shape, np.int64)
    labels[[1, 4, 7]] = TRUTH[[1, 4, 7]]
    volume = Volume((100 + 80 * TRUTH + noise).astype(np.float32), geometry, "star")
    return Session(volume, [Example(Volume(labels, geometry))], request(), oracle, SEEN, CPU)


def framed(session: Session) -> Framed:
    return session.framed[0]


def mean_error_mm(found: np.ndarray, truth: np.ndarray) -> float:
    """Area on the wrong side of the border per length of the border, for a star of this size."""
    return float((found != truth).sum()) / (2 * np.pi * 60)


def errors(session: Session) -> list[float]:
    return [
        mean_error_mm(session.stack.on_volume(part.number, part.probabilities[1] > 0.5), TRUTH[part.index])
        for part in session.slices(0)
        if part.index in (2, 3, 5, 6)
    ]


def test_refined_outline_of_a_large_structure_lies_closer_to_the_truth(large):
    coarse = errors(large)
    assert large.calibrate()[0].refinement != UNREFINED
    refined = errors(large)
    assert max(refined) < 0.5 * min(coarse)


def test_second_look_is_not_taken_where_it_makes_left_out_examples_worse(large):
    def misled(target, images, masks):
        """Knows everything about whole squares, and nothing about tiles."""
        is_tile = float(target.std()) > 0 and not any(
            torch.equal(target, image) for image in framed(large).scene.images
        )
        return torch.full_like(target, 9.0) if is_tile else oracle(target, images, masks)

    assert calibrate(misled, framed(large).scene, lambda: None).refinement == UNREFINED


def test_away_from_the_border_the_first_look_stays(large):
    scene = framed(large).scene
    first = oracle(scene.images[3], scene.images, scene.images)
    unknown = looked_again(oracle, scene.closeup, UNREFINED, 3, first, [1, 4])
    again = looked_again(oracle, scene.closeup, FULLY, 3, first, [1, 4])
    size = len(again)
    center = slice(size // 2 - 6, size // 2 + 6)
    assert torch.equal(again[center, center], unknown[center, center])
    assert torch.equal(again[:4, :4], unknown[:4, :4])
    assert not torch.equal(again, unknown)


def testtiles_without_a_border_are_not_looked_at(large):
    asked = []

    def counting(*given):
        asked.append(len(given[1]))
        return oracle(*given)

    closeup = framed(large).scene.closeup
    looked_again(counting, closeup, CAUTIOUS, 3, torch.full((SEEN, SEEN), -9.0), [1, 4])
    assert not asked
    half = torch.full((SEEN, SEEN), -9.0)
    half[:, : SEEN // 2] = 9
    looked_again(counting, closeup, CAUTIOUS, 3, half, [1, 4])
    size = len(closeup.image(3))
    assert 0 < len(asked) < len(list(tiles(size, SEEN)))
    assert set(asked) == {3}


@pytest.mark.parametrize(("size", "tile"), [(33, 32), (107, 64), (200, 64), (341, 64)])
def test_cores_oftiles_cover_the_square_andtiles_stay_inside(size, tile):
    covered = np.zeros((size, size), int)
    for part, core in tiles(size, tile):
        assert covered[part].shape == (tile, tile)
        covered[core] += 1
        assert all(own.start <= inner.start < inner.stop <= own.stop for own, inner in zip(part, core, strict=True))
    assert covered.min() == 1


@pytest.mark.parametrize("sample", [1, 2, 3])
def test_samples_see_the_close_up_changed_as_everything_else(large, sample):
    """A network that knows everything is right in every draw, whatever the change."""
    own = framed(large)
    calibration = Calibration((NETWORK_ALONE,), refinement=FULLY)
    found = dict(draw(oracle, own.scene, calibration, (0, 0, sample)))
    assert len(found[3]) > SEEN
    on_slice = own.on_slice(found[3], 1.0) > 0.5
    coarse = own.on_slice(dict(draw(oracle, own.scene, Calibration((NETWORK_ALONE,)), (0, 0, sample)))[3], 1.0) > 0.5
    truth = TRUTH[large.stack.index_of(3)]
    assert mean_error_mm(on_slice, truth) < 0.6 * mean_error_mm(coarse, truth)


def test_change_of_a_close_up_is_that_of_its_images(large):
    closeup, change = framed(large).scene.closeup, Change.random(np.random.default_rng(3))
    changed = closeup.changed(change)
    assert torch.equal(changed.image(2), change.images(closeup.image(2)[None])[0])
    assert torch.equal(changed.examples[4][1], change.masks(closeup.examples[4][1][None])[0])
    assert sorted(closeup.without(4).examples) == [1, 7]


def test_single_example_is_refined_with_caution(large):
    scene = framed(large).scene
    one = replace(scene, marks={4: scene.marks[4]}, _outlined={})
    assert calibrate(hallucinating, one, lambda: None).refinement == CAUTIOUS
    assert calibrate(hallucinating, replace(one, closeup=None), lambda: None).refinement == UNREFINED


def test_outlines_that_marks_cut_off_from_each_other_say_nothing(make_scene):
    assert calibrate(oracle, make_scene(outlined=(9, 19), absent=(12, 16)), lambda: None).expected_dice is None
