"""From a volume and outlines to a result: what users said stays, samples are reproducible, runs can be watched."""

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.errors import BadInputError, CanceledError
from MedSegUncertaintyLib.inference.progress import CancelToken
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.models.universeg import UniverSeg
from MedSegUncertaintyLib.outputs.folder import write_outputs
from MedSegUncertaintyLib.packages.weights import save_package
from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.propagation.request import ALL, PropagationRequest
from MedSegUncertaintyLib.propagation.run import propagate
from MedSegUncertaintyLib.propagation.session import Session, competing
from MedSegUncertaintyLib.volumes.geometry import Geometry, RegionOfInterest, Volume

from .conftest import SIZE, ball, oracle

CPU = torch.device("cpu")


@pytest.fixture
def package(tmp_path, make_metadata):
    """A tiny network with random weights, for squares of 32 pixels."""
    torch.manual_seed(0)
    structure = {"name": "Any", "label": 1, "color": [1, 0, 0], "terminology": {}}
    described = make_metadata(
        family="universeg", arguments={"encoder_blocks": [4, 4]}, structures=[structure], modality="any",
        intensity={"kind": "percentiles", "low": 0.5, "high": 99.5}, square={"pixels": 32},
    )  # fmt: skip
    return str(save_package(tmp_path / "by-example", UniverSeg([4, 4]), described, "# Card\n", "CC0-1.0\n").folder)


def request(package="", samples=3, plane="axial", absent=None, **options) -> PropagationRequest:
    return PropagationRequest(InferenceRequest(package, samples=samples, **options), plane, absent or {})


def session(volume, *examples, network=oracle, **options) -> Session:
    return Session(volume, examples, request(**options), network, 32, CPU)


def overlap(first, second) -> float:
    return 2 * (first & second).sum() / max(1, first.sum() + second.sum())


def test_result_is_on_the_grid_and_keeps_what_the_user_outlined(package, ball_volume, ball_outlines):
    result = propagate(ball_volume, [Example(ball_outlines)], request(package, absent={ALL: (2, 26)}))
    assert [structure.name for structure in result.structures] == ["label 1"]
    for labels in result.samples:
        for index in (9, 14, 19):
            assert np.array_equal(labels[index] == 1, ball()[index])
        assert not labels[[0, 1, 2, 26, 29]].any()
    known = result.provenance["propagation"]["structures"]["label 1"]
    assert known["examples"] == [9, 14, 19]
    assert known["absent"] == [2, 26]
    assert known["left_out"] == 3


def test_same_seed_same_samples_however_many(package, ball_volume, ball_outlines):
    few, many = (propagate(ball_volume, [Example(ball_outlines)], request(package, n)) for n in (2, 3))
    assert all(np.array_equal(few.samples[n], many.samples[n]) for n in range(2))
    assert not np.array_equal(many.samples[1], many.samples[2])


def test_all_files_of_a_result_are_written(package, ball_volume, ball_outlines, tmp_path):
    result = propagate(ball_volume, [Example(ball_outlines, names={1: "Ball"})], request(package))
    assert {"samples.seg.nrrd", "mean_ball.nrrd", "summary.json"} <= set(write_outputs(tmp_path / "out", result))


def test_run_reports_and_can_be_canceled(package, ball_volume, ball_outlines):
    token, stages, previews, slices = CancelToken(), [], [], []
    propagate(
        ball_volume, [Example(ball_outlines)], request(package), progress=lambda event: stages.append(event.stage),
        preview=lambda stream, _: previews.append(stream.count), finished=lambda part: slices.append(part.index),
    )  # fmt: skip
    assert list(dict.fromkeys(stages)) == ["first look", "leave examples out", "draw samples"]
    assert previews == [1, 2]
    assert sorted(set(slices)) == sorted(slices[:30]) == list(range(30))
    with pytest.raises(CanceledError):
        propagate(
            ball_volume, [Example(ball_outlines)], request(package), progress=lambda event: token.cancel(), cancel=token
        )


def test_structure_that_no_sample_finds_is_said(package, ball_volume, ball_outlines, monkeypatch):
    monkeypatch.setattr(
        "MedSegUncertaintyLib.models.universeg.Prepared.segment", lambda self, target, *_: torch.full_like(target, -9)
    )
    other = Volume(ball_volume.array, ball_volume.geometry, "other")
    with pytest.raises(BadInputError, match="No sample found label 1 in 'ball'"):
        propagate(ball_volume, [Example(ball_outlines, other)], request(package))


def test_package_without_examples_is_refused_and_the_other_way_round(
    package, weighing_package, ball_volume, ball_outlines
):
    other = str(weighing_package({"image": 1.0}).folder)
    with pytest.raises(BadInputError, match="does not segment by example; use it with segment"):
        propagate(ball_volume, [Example(ball_outlines)], request(other))
    with pytest.raises(BadInputError, match="segments by example; outline some slices and use propagate"):
        segment(ball_volume, InferenceRequest(package))


@pytest.mark.parametrize(("axis", "plane"), [(0, "axial"), (1, "coronal"), (2, "sagittal")])
def test_perfect_network_finds_the_ball_in_every_plane(ball_volume, axis, plane):
    labels = np.zeros(ball_volume.array.shape, np.int64)
    where = [slice(None)] * 3
    where[axis] = [10, 14, 18]
    labels[tuple(where)] = ball()[tuple(where)]
    own = session(ball_volume, Example(Volume(labels, ball_volume.geometry)), plane=None)
    assert own.plane == plane
    stack = np.stack([part.probabilities[1] > 0.5 for part in sorted(own.slices(0), key=lambda part: part.number)])
    back = own.stack.placement.soft_to_box(torch.from_numpy(stack.astype(np.float32))).numpy() > 0.5
    assert overlap(back, ball()) > 0.95


def test_examples_of_another_volume_are_enough(ball_volume, ball_outlines):
    stranger = Volume(np.roll(ball_volume.array, (3, 2, -3), (0, 1, 2)), ball_volume.geometry, "query")
    own = session(stranger, Example(ball_outlines, ball_volume))
    own.calibrate()
    found = np.stack([part.probabilities[1] > 0.5 for part in sorted(own.slices(0), key=lambda part: part.index)])
    truth = np.roll(ball(), (3, 2, -3), (0, 1, 2))
    assert (
        overlap(own.stack.placement.soft_to_box(torch.from_numpy(found.astype(np.float32))).numpy() > 0.5, truth) > 0.9
    )


def test_several_structures_compete(ball_volume, ball_outlines):
    labels = ball_outlines.array.copy()
    labels[14, 16:] *= 2
    own = session(ball_volume, Example(Volume(labels, ball_volume.geometry)))
    parts = {part.index: part.probabilities for part in own.slices(0)}
    assert sorted(parts) == list(range(30))
    for probabilities in parts.values():
        np.testing.assert_allclose(probabilities.sum(axis=0), 1.0, atol=1e-5)
    outlined = own.stack.placement.to_model(Volume(labels, ball_volume.geometry))[own.stack.slice_of(14)]
    for label in (1, 2):
        assert (parts[14].argmax(axis=0)[outlined == label] == label).all()


def halves(outlines: Volume, *cut: int) -> Example:
    """The outlined ball as two structures, cut in some slices; elsewhere it is the first one."""
    labels = outlines.array.copy()
    for number in cut:
        labels[number, 16:] *= 2
    return Example(Volume(labels, outlines.geometry), names={1: "front", 2: "back"})


@pytest.mark.parametrize(
    ("cut", "absent", "is_known"),
    [
        ((9, 14, 19), {}, True),
        ((14,), {}, False),
        ((14,), {"back": (9, 19)}, True),
        ((14,), {"back": (9,)}, False),
        ((14,), {"back": (9, 19), ALL: (2, 26)}, True),
    ],
)
def test_background_is_a_task_where_outlines_leave_nothing_unsaid(ball_volume, ball_outlines, cut, absent, is_known):
    own = session(ball_volume, halves(ball_outlines, *cut), absent=absent)
    assert own.to_json()["background_by_example"] == is_known
    assert len(own.framed) == 2 + is_known
    if is_known:
        together = own.marks[2]
        for number, mask in together.masks.items():
            assert np.array_equal(own.stack.on_volume(number, mask), ball()[own.stack.index_of(number)])
        assert {own.stack.index_of(n) for n in together.absent} == set(absent.get(ALL, ()))


def test_background_by_example_ends_what_structures_on_their_own_spill(ball_volume, ball_outlines):
    """A network that finds too much of each half is held by what it knows of both together."""

    def spilling(target, images, masks):
        whole = masks.flatten(1).sum(dim=1).max() > 0.9 * ball()[14].sum()
        return 20 * (target - 0.5) if whole else torch.full_like(target, 1.0)

    own = session(ball_volume, halves(ball_outlines, 9, 14, 19), network=spilling)
    part = next(part for part in own.slices(0) if part.index == 12)
    assert overlap(part.labels > 0, ball()[12]) > 0.95


def test_single_structure_has_no_task_of_background(ball_volume, ball_outlines):
    assert len(session(ball_volume, Example(ball_outlines)).framed) == 1


def test_background_wins_where_no_structure_is_likely():
    own = np.array([0.1, 0.2, 0.6]).reshape(3, 1, 1)
    assert competing(np.full((1, 1), 0.9), own).argmax(axis=0) == 0
    assert competing(np.full((1, 1), 0.4), own).argmax(axis=0) == 3


def test_region_of_interest_bounds_the_result(package, ball_volume, ball_outlines):
    center = tuple(ball_volume.geometry.to_ras([15.5, 15.5, 14]))
    result = propagate(
        ball_volume, [Example(ball_outlines)], request(package, roi=RegionOfInterest(center, (24, 24, 16)))
    )
    assert result.box.shape_ijk == (24, 24, 17)
    assert result.samples[0].shape == (17, 24, 24)


def test_outlines_outside_of_the_region_are_said(ball_volume, ball_outlines):
    roi = RegionOfInterest(tuple(ball_volume.geometry.to_ras([4, 4, 28])), (6, 6, 3))
    with pytest.raises(BadInputError, match="No outline of label 1 lies in the region"):
        session(ball_volume, Example(ball_outlines), roi=roi)


def test_empty_slices_of_an_unknown_structure_are_said(ball_volume, ball_outlines):
    with pytest.raises(BadInputError, match=r"No support outlines 'spleen'.*there is label 1"):
        session(ball_volume, Example(ball_outlines), absent={"spleen": (2,)})


def test_slice_outlined_twice_is_said(ball_volume, ball_outlines):
    with pytest.raises(BadInputError, match="Two supports outline label 1 in the same slice"):
        session(ball_volume, Example(ball_outlines), Example(ball_outlines))


def test_first_slices_are_the_ones_near_the_start(ball_volume, ball_outlines):
    own = session(ball_volume, Example(ball_outlines))
    order = [part.index for part in own.slices(0, start=own.stack.slice_of(20))]
    assert order[:3] == [9, 14, 19]
    assert order[3:5] == [20, 21]


def test_oblique_and_flipped_volumes_keep_the_outlines(package, ball_volume, ball_outlines):
    c, s = np.cos(0.3), np.sin(0.3)
    turned = Geometry.from_parts(
        (SIZE, SIZE, 30), (1, 1, 1), (5, 5, 5), np.array([[-c, -s, 0], [-s, c, 0], [0, 0, -1.0]])
    )
    volume = Volume(ball_volume.array, turned, "turned")
    result = propagate(
        volume, [Example(Volume(ball_outlines.array, turned))], request(package, samples=1, absent={ALL: (3,)})
    )
    assert np.array_equal(result.samples[0][14] == 1, ball()[14])
    assert not result.samples[0][:4].any()


def test_request_crosses_json():
    asked = request("name", absent={"liver": (3, 4), ALL: (7,)}, roi=RegionOfInterest((0, 0, 0), (1, 2, 3)))
    assert PropagationRequest.from_json(asked.to_json()) == asked


def test_unknown_plane_is_said():
    with pytest.raises(BadInputError, match="The plane 'oblique' is not known; use axial, coronal, sagittal"):
        request(plane="oblique")
