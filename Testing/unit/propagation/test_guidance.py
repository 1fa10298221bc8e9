"""Guidance: which example disagrees, which slices are uncertain, and which slice to ask for, on made-up samples."""

import json

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.propagation.calibration import found_again, left_out, soft_dice
from MedSegUncertaintyLib.propagation.examples import Example, Marks
from MedSegUncertaintyLib.propagation.guidance import (
    ABSENT,
    DIFFER,
    END,
    FAR,
    OUTLINE,
    Guidance,
    Slices,
    StructureGuidance,
    guide,
)
from MedSegUncertaintyLib.propagation.remembering import Remembering
from MedSegUncertaintyLib.propagation.request import ALL
from MedSegUncertaintyLib.propagation.session import Session
from MedSegUncertaintyLib.propagation.tiles import UNREFINED
from MedSegUncertaintyLib.propagation.walk import NETWORK_ALONE, Network, Scene
from MedSegUncertaintyLib.uncertainty.samples import SampleSet
from MedSegUncertaintyLib.volumes.geometry import Geometry, RegionOfInterest, Volume

from .conftest import SIZE, ball, oracle
from .test_run import request

MARKED = frozenset({1, 28})


def masks(*changes: tuple[int, np.ndarray | None]) -> np.ndarray:
    """Two samples (2, 30, SIZE, SIZE) of the ball; the second one has other slices."""
    both = np.stack([ball(), ball()])
    for number, mask in changes:
        both[1, number] = False if mask is None else mask
    return both


def marks(*numbers: int, absent=MARKED) -> Marks:
    return Marks({number: ball()[number] for number in numbers}, frozenset(absent))


def test_what_two_samples_say_about_a_slice():
    half = ball()[12].copy()
    half[:, 16:] = False
    slices = Slices(masks((12, half), (7, None)), marks(9, 14, 19), {})
    area, shown = ball()[12].sum(), np.flatnonzero(ball().any(axis=(1, 2)))
    both = (ball().sum() + masks((12, half), (7, None))[1].sum()) / 2 / len(shown)
    assert slices.differ[12] == pytest.approx((area - half.sum()) / both)
    assert slices.differ[7] == pytest.approx(ball()[7].sum() / both)
    assert slices.expected[12] == pytest.approx(2 * half.sum() / (half.sum() + area))
    assert slices.expected[7] == 0
    assert slices.expected[11] == 1
    assert np.array_equal(np.flatnonzero(slices.shown), shown)


def test_left_out_examples_limit_what_is_expected_far_from_outlines():
    slices = Slices(masks(), marks(8, 14, 20), {14: 0.7})
    assert slices.expected[14] == 1
    assert slices.expected[11] == pytest.approx(1 - 0.3 * 3 / 6)
    assert slices.expected[13] == pytest.approx(1 - 0.3 * 1 / 6)


def test_slice_in_which_samples_differ_is_asked_for():
    advice = Slices(masks((12, None)), marks(9, 14, 19), {}).advice()
    assert (advice.number, advice.kind, advice.reason) == (12, OUTLINE, DIFFER)


def test_middle_of_the_widest_gap_is_asked_for_where_samples_agree():
    advice = Slices(masks(), marks(7, 9, 19, 21), {9: 0.8, 19: 0.8}).advice()
    assert (advice.number, advice.kind, advice.reason) == (14, OUTLINE, FAR)


def test_unmarked_end_is_asked_for_where_the_samples_cannot_be_trusted():
    for absent, side in ((1, 1), (28, -1)):
        slices = Slices(masks(), marks(12, 14, 16, absent={absent}), {14: 0.95}, radius=9.0)
        advice = slices.advice()
        assert (advice.kind, advice.reason) == (OUTLINE, END)
        assert 2 < side * (advice.number - 14) <= 8
    marked = Slices(masks(), marks(12, 14, 16), {14: 0.95}, radius=9.0)
    assert marked.advice().reason == FAR
    assert marked.expected[20] > slices.expected[8]


def test_most_samples_say_whether_the_structure_is_still_there():
    changes = [(number, None) for number in range(18, 30)]
    advice = Slices(masks(*changes), marks(10, 14, absent={1}), {}, radius=9.0).advice()
    assert advice.number >= 18
    assert (advice.kind, advice.reason) == (ABSENT, END)


def test_without_an_outline_of_its_own_samples_are_all_there_is():
    advice = Slices(masks((12, None)), marks(absent=()), {}, radius=0.0).advice()
    assert (advice.number, advice.reason) == (12, DIFFER)


def test_marked_and_outlined_slices_are_never_asked_for():
    numbers = range(6, 23)
    assert Slices(masks((14, None)), marks(*numbers), {}).advice() is None
    for outlined in ([14], [9, 14, 19], list(numbers)[:-1]):
        assert Slices(masks((14, None)), marks(*outlined), {}).advice().number not in {*outlined, *MARKED}


def dices(network: Network, scene: Scene) -> dict[int, float]:
    """Of the left-out examples."""
    found = left_out(network, scene, NETWORK_ALONE, lambda: None)
    pairs = found_again(network, scene, found, UNREFINED, lambda: None)
    return {number: soft_dice(*pair) for number, pair in pairs.items()}


def test_left_out_examples_are_those_of_the_calibration(make_scene):
    asked = []

    def counting(*given):
        asked.append(1)
        return oracle(*given)

    scene, network = make_scene(), Remembering(counting)
    first = dices(network, scene)
    assert set(first) == {9, 14, 19}
    assert min(first.values()) == 1.0
    count = len(asked)
    assert dices(network, scene) == first
    assert len(asked) == count > 0
    assert dices(network, make_scene(outlined=(14,))) == {}


def test_wrong_example_stands_out(make_scene):
    scene = make_scene(outlined=(8, 11, 14, 17, 20))
    scene.marks[17].copy_(torch.roll(scene.marks[17], 9, 1))
    found = dices(oracle, scene)
    assert min(found, key=lambda number: found[number]) == 17


@pytest.mark.parametrize(("axis", "plane"), [(0, "axial"), (1, "coronal"), (2, "sagittal")])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
def test_slices_are_counted_along_the_axis_of_the_volume(ball_volume, axis, plane, flips):
    """Samples that differ in a single slice, in a region of a flipped volume."""
    geometry = Geometry.from_parts((SIZE, SIZE, 30), (1, 1, 1), direction_ras=np.diag(flips))
    labels = np.zeros(ball_volume.array.shape, np.uint8)
    where: list = [slice(None)] * 3
    where[axis] = [10, 18]
    labels[tuple(where)] = ball()[tuple(where)]
    center = tuple(geometry.to_ras(np.array([15.5, 15.5, 14.5])))
    asked = request(plane=plane, roi=RegionOfInterest(center, (28, 28, 26)), absent={ALL: ()})
    volume = Volume(ball_volume.array, geometry)
    session = Session(volume, [Example(Volume(labels, geometry))], asked, oracle, 32, torch.device("cpu"))
    box = session.stack.placement.box.slices_kji
    samples = SampleSet(tuple(part.stop - part.start for part in box))
    for number in range(2):
        found = ball().astype(np.uint8)
        if number:
            where[axis] = 13
            found[tuple(where)] = 0
        samples.append(np.ascontiguousarray(found[box]))
    (own,) = guide(session, samples).structures.values()
    assert max(own.uncertainty, key=lambda index: own.uncertainty[index]) == 13
    assert [index for index, value in own.uncertainty.items() if value] == [13]
    assert own.expected_dice[13] == 0
    assert list(own.examples) == [10, 18]
    assert sorted(own.uncertainty) == [*range(box[axis].start, box[axis].stop)]


def test_guidance_crosses_json():
    own = StructureGuidance({3: 0.5, 9: None}, {4: 0.25}, {4: 0.125, 5: 0.0})
    for guidance in (Guidance({"liver": own}, 4, OUTLINE, DIFFER, "liver"), Guidance()):
        assert Guidance.from_json(json.loads(json.dumps(guidance.to_json()))) == guidance
