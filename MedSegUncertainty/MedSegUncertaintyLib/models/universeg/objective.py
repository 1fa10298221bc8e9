"""What training of UniverSeg minimizes in one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from MedSegUncertaintyLib.models.universeg.network import CrossBlock, UniverSeg, double, each, halve

SMALLEST = 1.0
"""Pixels added to both parts of the soft Dice, so that an empty query asks for an empty answer and no more."""


@dataclass(frozen=True)
class UniverSegObjective:
    """Soft Dice of each query, with some cross-entropy that also weighs queries without the structure.

    Attributes:
        cross_entropy_weight: Weight of the mean binary cross-entropy.
    """

    cross_entropy_weight: float = 0.3

    def __call__(
        self, model: UniverSeg, image: Tensor, target: Tensor, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses of one batch; "loss" is the one to minimize.

        Args:
            model: The network.
            image: (B, 2 N + 1, H, W): query, N examples, their N masks, as ``training.episodes`` makes them.
            target: Masks of the queries (B, H, W), 0 to 1.
            step: Not used: the loss does not change.
            generator: Not used: nothing is drawn.
        """
        supports = image.shape[1] // 2
        query, images, masks = image.unsqueeze(2).split([1, supports, supports], dim=1)
        logits = lean_logits(model, query[:, 0], images, masks)[:, 0].float()
        truth = target.float()
        probability = logits.sigmoid()
        shared, total = (probability * truth).sum(dim=(1, 2)), (probability + truth).sum(dim=(1, 2))
        dice_loss = 1 - ((2 * shared + SMALLEST) / (total + SMALLEST)).mean()
        cross_entropy = functional.binary_cross_entropy_with_logits(logits, truth)
        loss = dice_loss + self.cross_entropy_weight * cross_entropy
        return {"dice_loss": dice_loss, "cross_entropy": cross_entropy, "loss": loss}


def lean_logits(model: UniverSeg, target: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """The network's logits (B, 1, H, W) with gradients and a third of the work.

    The cross convolution is linear, so its part for the target is computed once, and the last block, whose support
    maps nobody uses, sees the mean of its inputs. ``fast`` goes further, but its chunks have no gradients.

    Args:
        model: The network, with two encoder blocks or more.
        target: (B, 1, H, W).
        images: (B, N, 1, H, W).
        labels: (B, N, 1, H, W).
    """
    down = cast("list[CrossBlock]", [*model.enc_blocks])
    *up, last = cast("list[CrossBlock]", [*model.dec_blocks])
    u, v = target, torch.cat([images, labels], dim=2)
    skips = []
    for block in down[:-1]:
        u, v = _through(block, u, v)
        skips.append((u, v))
        u, v = halve(u), each(halve, v)
    u, v = _through(down[-1], u, v)
    for block in up:
        u_skip, v_skip = skips.pop()
        u, v = _through(block, torch.cat([double(u), u_skip], dim=1), torch.cat([each(double, v), v_skip], dim=2))
    u_skip, v_skip = skips.pop()
    both = torch.cat([double(u), u_skip, double(v.mean(dim=1)), v_skip.mean(dim=1)], dim=1)
    return model.out_conv(last.target.vmapped(last.cross.cross_conv(both)))


def _through(block: CrossBlock, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Maps u' (B, C, H, W) and v' (B, N, C, H, W) of u and v."""
    cross = block.cross.cross_conv
    weight_u, weight_v = cross.weight[:, : block.cross.u_channels], cross.weight[:, block.cross.u_channels :]
    query = functional.conv2d(u, weight_u, cross.bias, padding=1)
    z = each(lambda maps: functional.conv2d(maps, weight_v, padding=1), v) + query.unsqueeze(1)
    return block.target.vmapped(z.mean(dim=1)), each(block.support.vmapped, z)
