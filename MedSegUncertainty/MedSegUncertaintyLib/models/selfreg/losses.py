"""What SelfReg-UNet adds to a segmentation loss, and that loss itself.

Zhu et al., "SelfReg-UNet: Self-Regularized UNet for Medical Image Segmentation", MICCAI 2024. Where paper and code
differ, these functions compute what the authors' code does. They see named maps only, so they fit any encoder and
decoder, in 2D and 3D, and run in float32 even under autocast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

DICE_EPS = 1e-5

Channels = tuple[Tensor, Tensor]
"""Indices (m,) of channels of a student and of the teacher, m being the smaller of their numbers of channels."""


@dataclass(frozen=True)
class Features:
    """The maps that are regularized together, each (B, C, *spatial) with channels and size of its own.

    Attributes:
        encoder: Of the encoder, in any order.
        decoder: Of the decoder without its last one.
    """

    encoder: Sequence[Tensor]
    decoder: Sequence[Tensor]


def semantic_consistency(student: Tensor, teacher: Tensor, channels: Channels) -> Tensor:
    """Mean squared difference of a map and the decoder's last one, which gets no gradient (SCR).

    Along each axis the larger map is averaged down to the smaller one. The two draws of channels are independent, so no
    channel has a fixed counterpart: what is minimized in expectation draws every student channel to the teacher's mean
    map.

    Args:
        student: (B, C, *spatial).
        teacher: (B, T, *spatial), of any size.
        channels: Which channels are compared, from :func:`draw_channels`.

    Returns:
        Scalar.
    """
    with torch.autocast(student.device.type, enabled=False):
        pool = functional.adaptive_avg_pool3d if student.dim() == 5 else functional.adaptive_avg_pool2d
        of_student, of_teacher = channels
        first, second = _single(student)[:, of_student], _single(teacher.detach())[:, of_teacher]
        size: Any = [min(pair) for pair in zip(first.shape[2:], second.shape[2:], strict=True)]
        return functional.mse_loss(pool(first, size), pool(second, size))


def draw_channels(student: int, teacher: int, generator: torch.Generator) -> Channels:
    """Channels to compare: two independent draws without replacement of as many channels as both maps have.

    Args:
        student: Number of channels of the student.
        teacher: Number of channels of the teacher.
        generator: Source of the draws; its device is that of the indices.
    """
    count = min(student, teacher)
    first, second = (torch.randperm(n, generator=generator, device=generator.device) for n in (student, teacher))
    return first[:count], second[:count]


def channel_scores(maps: Tensor) -> Tensor:
    """Mean over batch and voxels of every channel divided by its norm over the voxels of an image, (C,).

    Args:
        maps: (B, C, *spatial).
    """
    return functional.normalize(_single(maps).flatten(2), dim=2).mean(dim=(0, 2))


def feature_distillation(maps: Tensor) -> Tensor:
    """Mean squared difference of the channels of higher and of lower score, in the order of their scores (IFD).

    Gradients flow into both halves; of an odd number of channels, the middle one does not count.

    Args:
        maps: (B, C, *spatial), C at least 2.

    Returns:
        Scalar.
    """
    with torch.autocast(maps.device.type, enabled=False):
        half = maps.shape[1] // 2
        order = channel_scores(maps.detach()).argsort(descending=True)
        maps = _single(maps)
        return functional.mse_loss(maps[:, order[:half]], maps[:, order[-half:]])


def self_regularization(
    groups: Sequence[Features], teacher: Tensor, choose: Callable[[Tensor], Channels]
) -> tuple[Tensor, Tensor]:
    """SCR and IFD of a network: means over the maps of a group, summed over the groups.

    IFD has a mean over the encoder's maps and one over the decoder's, added; SCR has one over all of them.

    Args:
        groups: One for a CNN; for a Swin U-Net the outputs of its stages' last blocks, then those of the first ones.
        teacher: The last map of the decoder, (B, T, *spatial).
        choose: Gives the channels to compare of a student; asked in the authors' order, decoder before encoder.

    Returns:
        Two scalars.
    """
    consistency, distillation = [], []
    for group in groups:
        students = (*group.decoder, *group.encoder)
        consistency.append(_mean([semantic_consistency(maps, teacher, choose(maps)) for maps in students]))
        for part in (group.encoder, group.decoder):
            distillation.append(_mean([feature_distillation(maps) for maps in part]))
    return torch.stack(consistency).sum(), torch.stack(distillation).sum()


def segmentation_loss(logits: Tensor, target: Tensor, dice_weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy and Dice loss, and their sum with weights 1 - ``dice_weight`` and ``dice_weight``.

    The Dice loss is one over the batch as a whole, with squares in the denominator, averaged over all classes with the
    background.

    Args:
        logits: (B, classes, *spatial).
        target: (B, *spatial) class indices.
        dice_weight: In [0, 1].

    Returns:
        Sum, cross-entropy (nats per voxel) and Dice loss, three scalars.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = _single(logits)
        cross_entropy = functional.cross_entropy(logits, target)
        probabilities = logits.softmax(dim=1)
        truth = functional.one_hot(target, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
        voxels = [0, *range(2, logits.dim())]
        shared = (probabilities * truth).sum(dim=voxels)
        total = probabilities.square().sum(dim=voxels) + truth.sum(dim=voxels)
        dice = (1.0 - (2.0 * shared + DICE_EPS) / (total + DICE_EPS)).mean()
        return (1.0 - dice_weight) * cross_entropy + dice_weight * dice, cross_entropy, dice


def _single(maps: Tensor) -> Tensor:
    """Half precision becomes single; double stays."""
    return maps.to(torch.promote_types(maps.dtype, torch.float32))


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()
