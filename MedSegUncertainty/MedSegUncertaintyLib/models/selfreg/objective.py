"""What training of SelfReg-UNet minimizes in one step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from MedSegUncertaintyLib.models.selfreg.losses import draw_channels, segmentation_loss, self_regularization
from MedSegUncertaintyLib.models.selfreg.network import SelfReg
from MedSegUncertaintyLib.models.selfreg.taps import tapped


@dataclass(frozen=True)
class SelfRegObjective:
    """Cross-entropy and Dice, plus ``weight`` times the sum of both regularizers.

    Attributes:
        weight: Lambda of the paper, one for both regularizers; 0 trains the segmentor alone.
        dice_weight: Share of the Dice loss in the segmentation loss; the authors take 0.6 for Synapse, 0.7 for ACDC.
        warmup: Steps in which the weight rises from 0, linearly; the authors have none.
    """

    weight: float = 0.015
    dice_weight: float = 0.6
    warmup: int = 0

    def __call__(
        self, model: SelfReg, image: Tensor, target: Tensor, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses of one batch; "loss" is the one to minimize.

        Args:
            model: The network.
            image: (B, channels, *spatial).
            target: (B, *spatial) class indices.
            step: Number of the step, counted from 0.
            generator: Source of dropout and compared channels, on the device of ``image``.
        """
        anatomy = model.anatomy
        with tapped(model.backbone, anatomy.taps if self.weight else []) as maps:
            levels = model.levels(image)
            noise = None
            if model.dropout:
                noise = [torch.randn(level.shape[:2], generator=generator, device=level.device) for level in levels]
            logits = model.finish(levels, noise)
        loss, cross_entropy, dice = segmentation_loss(logits, target, self.dice_weight)
        losses = {"cross entropy": cross_entropy, "dice loss": dice, "loss": loss}
        if not self.weight:
            return losses
        teacher = maps[anatomy.teacher]
        consistency, distillation = self_regularization(
            [group.features(maps) for group in anatomy.groups],
            teacher,
            lambda student: draw_channels(student.shape[1], teacher.shape[1], generator),
        )
        weight = self.weight * min(1.0, (step + 1) / (self.warmup + 1))
        losses |= {"semantic consistency": consistency, "feature distillation": distillation}
        return losses | {"loss": loss + weight * (consistency + distillation)}
