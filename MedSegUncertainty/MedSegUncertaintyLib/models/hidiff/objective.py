"""What training of HiDiff minimizes in one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from MedSegUncertaintyLib.models.hidiff.network import HiDiff, uniforms
from MedSegUncertaintyLib.models.hidiff.segmentor import Segmented

DICE_EPS = 1e-5


@dataclass(frozen=True)
class HiDiffObjective:
    """Segmentor and refiner in turn, from one optimizer.

    First ``pretraining`` steps of the segmentor alone. Then even steps update the refiner, which sees a segmentor that
    does not learn from it; odd ones update the segmentor by its own loss and by that of the refiner, which stands
    still. What stands still gets no gradient at all, so that the optimizer leaves it and its moments alone; the data's
    next item serves the other part, where the authors use one item for both.

    Attributes:
        pretraining: Steps of the segmentor alone.
        turns: "both", or "refiner", which leaves the segmentor as it is after its pretraining.
        focal_weight: Weight of the focal loss beside the bound.
        dice_weight: Weight of the Dice loss beside the segmentor's cross-entropy.
        diffusion_weight: Weight of the refiner's loss in the segmentor's steps; the paper says 1, the authors' program
            begins with 0.
        coherence: Of the noise in training, if it is another than that of the model's samples.
    """

    pretraining: int = 0
    turns: Literal["both", "refiner"] = "both"
    focal_weight: float = 1.0
    dice_weight: float = 1.0
    diffusion_weight: float = 1.0
    coherence: float | None = None

    def __post_init__(self) -> None:
        if self.turns not in ("both", "refiner"):
            raise TypeError(f'turns is "both" or "refiner", not "{self.turns}"')

    def __call__(
        self, model: HiDiff, image: Tensor, target: Tensor, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses of one batch; "loss" is the one to minimize, "bound" and "focal" are in bits.

        Args:
            model: The network.
            image: (B, channels, H, W).
            target: (B, H, W) class indices.
            step: Number of the step, counted from 0.
            generator: Source of steps and states, on the device of ``image``.
        """
        mask = masks_from(target, model.classes)
        if step < self.pretraining:
            losses = self._of_segmentor(model.segmentor(image).logits, target, mask)
            return {**losses, "loss": losses["cross entropy"] + self.dice_weight * losses["dice"]}
        refining = self.turns == "refiner" or (step - self.pretraining) % 2 == 0
        if refining:
            # One that is never updated again is the one that will be used, running statistics included.
            model.segmentor.train(self.turns == "both")
            with torch.no_grad():
                segmented = model.segmentor(image).detached()
            losses = self._of_refiner(model, image, mask, segmented, generator)
            return {**losses, "loss": losses["bound"] + self.focal_weight * losses["focal"]}
        segmented = model.segmentor(image)
        losses = self._of_segmentor(segmented.logits, target, mask)
        loss = losses["cross entropy"] + self.dice_weight * losses["dice"]
        if self.diffusion_weight:
            model.refiner.requires_grad_(False)
            try:
                losses |= self._of_refiner(model, image, mask, segmented, generator)
            finally:
                model.refiner.requires_grad_(True)
            loss = loss + self.diffusion_weight * (losses["bound"] + self.focal_weight * losses["focal"])
        return {**losses, "loss": loss}

    def _of_refiner(
        self, model: HiDiff, image: Tensor, mask: Tensor, segmented: Segmented, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Loss of one forward pass at a random step of every item."""
        diffusion, prior = model.diffusion, segmented.prior
        t = torch.randint(len(diffusion), (len(image),), generator=generator, device=image.device)
        normal = torch.randn(mask.shape, generator=generator, device=image.device)
        coherence = model.coherence if self.coherence is None else self.coherence
        common = torch.randn(mask.shape[:2], generator=generator, device=image.device) if coherence else None
        with torch.no_grad():
            state = (uniforms(normal, common, coherence) < diffusion.mean(mask, prior, t)).to(mask.dtype)
        moment = model.refiner.moment(t)
        conditions = model.refiner.conditions(segmented.features, moment)
        prediction = model.refiner(state, model.refiner.stem(image, prior), conditions, moment)
        losses = diffusion.losses(mask, state, prediction, prior, t)
        return {"bound": losses.bound.mean(), "focal": losses.focal.mean()}

    @staticmethod
    def _of_segmentor(logits: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Cross-entropy in nats per pixel, and one minus the soft Dice over the batch, averaged over the structures."""
        logits = logits.float()
        if logits.shape[1] == 1:
            entropy, found, truth = functional.binary_cross_entropy_with_logits(logits, mask), logits.sigmoid(), mask
        else:
            entropy, found, truth = functional.cross_entropy(logits, target), logits.softmax(dim=1)[:, 1:], mask[:, 1:]
        shared, total = ((found * truth).sum(dim=(0, 2, 3)), (found + truth).sum(dim=(0, 2, 3)))
        dice = 1.0 - ((2.0 * shared + DICE_EPS) / (total + DICE_EPS)).mean()
        return {"cross entropy": entropy, "dice": dice}


def masks_from(target: Tensor, classes: int) -> Tensor:
    """Masks (B, K, H, W) of class indices (B, H, W): of the structure alone if there is one, else of every class."""
    if classes == 2:
        return (target == 1).float().unsqueeze(1)
    return functional.one_hot(target, classes).movedim(-1, 1).float()
