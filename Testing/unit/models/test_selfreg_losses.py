"""Losses of SelfReg-UNet on maps made here: values by hand, 3D, odd channels, half precision."""

import math

import pytest
import torch
from MedSegUncertaintyLib.models.selfreg.losses import (
    Features,
    channel_scores,
    draw_channels,
    feature_distillation,
    segmentation_loss,
    self_regularization,
    semantic_consistency,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def identity(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(count), torch.arange(count)


@pytest.mark.parametrize("size", [(4, 6), (4, 2, 6)])
def test_the_larger_map_is_averaged_and_the_teacher_learns_nothing(size: tuple[int, ...]) -> None:
    doubled = [2 * n for n in size]
    small, large = normal(2, 3, *size), normal(2, 3, *doubled, seed=1)
    pooled = large
    for axis in range(2, large.dim()):
        pooled = pooled.unflatten(axis, (-1, 2)).mean(dim=axis + 1)
    expected = (small - pooled).square().mean().item()
    for student, teacher in ((small, large), (large, small)):
        student, teacher = student.clone().requires_grad_(), teacher.clone().requires_grad_()
        loss = semantic_consistency(student, teacher, identity(3))
        loss.backward()
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        assert student.grad is not None
        assert student.grad.any()
        assert teacher.grad is None


def test_each_axis_is_averaged_by_itself() -> None:
    student, teacher = normal(1, 2, 8, 4), normal(1, 2, 4, 8, seed=1)
    pooled = student.unflatten(2, (4, 2)).mean(dim=3) - teacher.unflatten(3, (4, 2)).mean(dim=4)
    assert semantic_consistency(student, teacher, identity(2)).item() == pytest.approx(pooled.square().mean().item())


def test_channels_are_drawn_apart_without_replacement() -> None:
    generator = torch.Generator().manual_seed(3)
    draws = [draw_channels(12, 5, generator) for _ in range(200)]
    for students, teachers in draws:
        assert len(students) == len(teachers) == 5
        assert len(students.unique()) == 5
        assert sorted(teachers.tolist()) == [0, 1, 2, 3, 4]
    assert torch.cat([students for students, _ in draws]).bincount(minlength=12).min() > 50
    assert draw_channels(12, 5, torch.Generator().manual_seed(3))[0].tolist() == draws[0][0].tolist()


def test_in_expectation_students_are_drawn_to_the_teacher_s_mean_map() -> None:
    student, teacher = torch.zeros(1, 4, 3, 3, requires_grad=True), normal(1, 4, 3, 3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2000):
        semantic_consistency(student, teacher, draw_channels(4, 4, generator)).backward()
    pull = -student.grad * student.numel() / 2 / 2000
    torch.testing.assert_close(pull, teacher.mean(dim=1, keepdim=True).expand(1, 4, 3, 3), rtol=0, atol=0.1)


def test_halves_are_split_by_score_and_both_learn() -> None:
    shape = torch.tensor([[3.0, 4.0]]).view(1, 1, 1, 2) / 5.0
    maps = (shape * torch.tensor([1.0, -2.0, 3.0, -4.0]).view(1, 4, 1, 1)).requires_grad_()
    torch.testing.assert_close(channel_scores(maps.detach()), torch.tensor([0.7, -0.7, 0.7, -0.7]))
    loss = feature_distillation(maps)
    # 1 and 3 stand against -2 and -4; the shape's mean square is 1/2. Equal scores may come in either order.
    assert min(abs(loss.item() - expected) for expected in ((9 + 49) / 4, (25 + 25) / 4)) < 1e-5
    loss.backward()
    assert all(maps.grad[0, channel].any() for channel in range(4))


def test_of_an_odd_number_the_middle_channel_does_not_count() -> None:
    levels = torch.tensor([[3.0, 2.0, 0.0, 1.0, -1.0]])
    bases = torch.tensor([4.0, 1.0, 0.5, 0.2, -3.0])
    maps = torch.stack([bases + 0.1 * levels[0].roll(n) for n in range(5)], dim=-1).view(1, 5, 1, 5).requires_grad_()
    feature_distillation(maps).backward()
    middle = int(channel_scores(maps.detach()).argsort(descending=True)[2])
    assert [bool(maps.grad[0, channel].any()) for channel in range(5)] == [channel != middle for channel in range(5)]


def test_sums_are_means_over_maps_and_groups_add_up() -> None:
    teacher = normal(2, 4, 8, 8)
    first, second, third = normal(2, 4, 8, 8, seed=1), normal(2, 6, 4, 4, seed=2), normal(2, 4, 8, 8, seed=3)
    asked = []

    def choose(student: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(student)
        return identity(4)

    consistency, distillation = self_regularization([Features([first, second], [third])], teacher, choose)
    assert [id(maps) for maps in asked] == [id(maps) for maps in (third, first, second)]
    expected = sum(semantic_consistency(maps, teacher, identity(4)) for maps in asked) / 3
    assert consistency.item() == pytest.approx(expected.item(), rel=1e-6)
    expected = (feature_distillation(first) + feature_distillation(second)) / 2 + feature_distillation(third)
    assert distillation.item() == pytest.approx(expected.item(), rel=1e-6)
    twice = self_regularization([Features([first, second], [third])] * 2, teacher, choose)
    assert [part.item() for part in twice] == pytest.approx([2 * consistency.item(), 2 * distillation.item()], rel=1e-6)


def test_segmentation_loss_by_hand() -> None:
    logits = torch.zeros(1, 2, 1, 4, requires_grad=True)
    target = torch.tensor([[[0, 0, 0, 1]]])
    total, cross_entropy, dice = segmentation_loss(logits, target, 0.7)
    # Every probability is 1/2: shared 3/2 of 4/4 + 3, and 1/2 of 4/4 + 1.
    by_hand = 1.0 - (2 * 1.5 / 4 + 2 * 0.5 / 2) / 2
    assert cross_entropy.item() == pytest.approx(math.log(2), rel=1e-6)
    assert dice.item() == pytest.approx(by_hand, rel=1e-5)
    assert total.item() == pytest.approx(0.3 * math.log(2) + 0.7 * by_hand, rel=1e-5)
    total.backward()
    assert logits.grad.any()


def test_half_precision_is_taken_as_single() -> None:
    student, teacher = normal(2, 4, 8, 8).bfloat16(), normal(2, 4, 8, 8, seed=1).bfloat16()
    expected = [
        semantic_consistency(student.float(), teacher.float(), identity(4)),
        feature_distillation(student.float()),
        segmentation_loss(student.float(), torch.ones(2, 8, 8, dtype=torch.long), 0.6)[0],
    ]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = [
            semantic_consistency(student, teacher, identity(4)),
            feature_distillation(student),
            segmentation_loss(student, torch.ones(2, 8, 8, dtype=torch.long), 0.6)[0],
        ]
    for ours, exact in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, exact)
