"""What was found in an image of its own has to lead back to the examples that come from others."""

from dataclasses import replace

import pytest
import torch
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.propagation.request import PropagationRequest
from MedSegUncertaintyLib.propagation.returning import returned_dice
from MedSegUncertaintyLib.propagation.session import Session
from MedSegUncertaintyLib.volumes.geometry import Volume

from .conftest import SIZE


def learner(target: torch.Tensor, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Takes for the structure what is nearer in brightness to the inside of the examples than to their outside."""
    inside, outside = images[masks > 0.5].mean(), images[masks <= 0.5].mean()
    return 40 * ((target - outside).abs() - (target - inside).abs())


@pytest.fixture
def stranger(make_scene):
    """A scene with the ball, whose three examples come from another image of it."""
    known = make_scene()
    images, masks = known.images[[9, 14, 19]], torch.stack([known.marks[number] for number in (9, 14, 19)])
    return replace(known, marks={}, images_elsewhere=images, masks_elsewhere=masks, _outlined={})


def test_the_structure_leads_back_to_its_examples(stranger):
    found = {number: 20 * (image - 0.5) for number, image in enumerate(stranger.images)}
    assert returned_dice(learner, stranger, found, lambda: None) == 1.0


def test_something_else_does_not(stranger):
    dark = {number: 20 * (0.5 - image) for number, image in enumerate(stranger.images)}
    assert returned_dice(learner, stranger, dark, lambda: None) == 0.0


def test_nothing_leads_nowhere(stranger):
    nothing = {number: torch.full((SIZE, SIZE), -9.0) for number in range(len(stranger.images))}
    assert returned_dice(learner, stranger, nothing, lambda: None) == 0.0


def test_it_can_be_canceled(stranger):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        returned_dice(learner, stranger, {14: 20 * (stranger.images[14] - 0.5)}, stop)


@pytest.mark.parametrize(("sign", "low", "high"), [(1, 0.95, 1.0), (-1, 0.0, 0.1)])
def test_it_is_what_to_expect_without_outlines_in_the_image_itself(ball_volume, ball_outlines, sign, low, high):
    query = Volume(100 + sign * (ball_volume.array - 100), ball_volume.geometry, "query")

    def one_track(target, images, masks):
        """Finds what is bright in the examples' image and dark in its negative, and learns from neither."""
        is_example = any(torch.equal(target, image) for image in own.framed[0].scene.images_elsewhere)
        return learner(target, images, masks) if is_example else 40 * sign * (target - 0.5)

    request = PropagationRequest(InferenceRequest(""), "axial")
    own = Session(query, [Example(ball_outlines, ball_volume)], request, one_track, 32, torch.device("cpu"))
    (known,) = own.calibrate()
    assert known.left_out == 3
    assert low <= known.expected_dice <= high
