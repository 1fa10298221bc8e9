"""What SSN training minimizes in one step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from MedSegUncertaintyLib.models.ssn.loss import ssn_loss
from MedSegUncertaintyLib.models.ssn.network import SSN


@dataclass(frozen=True)
class SSNObjective:
    """Monte-Carlo likelihood per voxel, with an optional Dice term on the mean.

    The paper's loss alone is ``mean_dice_weight=0, warmup=0``. The warm-up trains the mean by cross-entropy (the same
    loss with zero noise) before the covariance takes part; the Dice term keeps small structures in the mean.

    Attributes:
        pairs: Antithetic pairs per step; the paper's 20 draws are 10 pairs.
        mean_dice_weight: Weight of one minus the soft Dice of softmax(mean).
        warmup: Steps without covariance.
    """

    pairs: int = 10
    mean_dice_weight: float = 0.0
    warmup: int = 0

    def __call__(
        self, model: SSN, image: Tensor, target: Tensor, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses of one batch; "loss" is the one to minimize.

        Args:
            model: The network, possibly wrapped.
            image: (B, channels, *spatial).
            target: (B, *spatial) class indices.
            step: Number of the step, counted from 0.
            generator: Source of the draws, on the device of ``image``.
        """
        distribution = model(image)
        batch, rank, classes, *spatial = distribution.factor.shape
        warming = step < self.warmup
        pairs = 1 if warming else self.pairs
        w = torch.randn(pairs, batch, rank, generator=generator, device=image.device)
        e = torch.randn(pairs, batch, classes, *spatial, generator=generator, device=image.device)
        if warming:
            w, e = w.zero_(), e.zero_()
        likelihood = ssn_loss(distribution, target, w, e, antithetic=not warming) / target[0].numel()
        losses = {"negative_log_likelihood": likelihood, "loss": likelihood}
        if self.mean_dice_weight:
            losses["mean_dice_loss"] = soft_dice_loss(distribution.mean.float(), target)
            losses["loss"] = likelihood + self.mean_dice_weight * losses["mean_dice_loss"]
        return losses


def soft_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the soft Dice of softmax(logits), over the batch as a whole, averaged over the structures."""
    from monai.losses import DiceLoss

    dice = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    return dice(logits, target.unsqueeze(1))
