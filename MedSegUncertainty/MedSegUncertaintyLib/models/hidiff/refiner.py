"""The network that undoes a step of the diffusion: a U-Net of signs that sees what the segmentor has seen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from MedSegUncertaintyLib.models.hidiff.binary import (
    NORM_GROUPS,
    Block,
    ConditionedBlock,
    Form,
    Moment,
    TimeShift,
    Weights,
    embed_steps,
    pack_signs,
)
from MedSegUncertaintyLib.models.hidiff.transformer import CrossTransformer

MULTIPLES = (1, 1, 2, 2, 4, 4)
"""Width of each scale, 1/1 to 1/32, in widths of the first one."""
CONDITIONED = (2, 3, 4)
"""Scales of the encoder that see a feature map of the segmentor; 1/32 does as well, by the cross transformer."""


class Refiner(nn.Module):
    """Predicts from a state y_t what the mask is, or where it differs from the state.

    Image, prior and features of the segmentor enter by :meth:`stem` and :meth:`conditions`, which do not depend on the
    state: for many samples of one image they are computed once.

    Args:
        channels: Image channels.
        masks: K, channels of state and prior.
        conditions: Channels of the segmentor's feature maps at 1/4, 1/8, 1/16 and 1/32 of the image's size.
        width: Channels of the first scale, a multiple of 32.
        binary: Whether it consists of signs; its real-valued twin has the same parameters.
        packed: As in :class:`~MedSegUncertaintyLib.models.hidiff.binary.Form`.
        scrambled: As in :class:`~MedSegUncertaintyLib.models.hidiff.transformer.CrossTransformer`.
    """

    time: nn.Sequential | None

    def __init__(
        self,
        channels: int,
        masks: int,
        conditions: Sequence[int],
        width: int = 32,
        binary: bool = True,
        packed: int | None = None,
        scrambled: bool = False,
    ) -> None:
        super().__init__()
        if width % NORM_GROUPS:
            raise ValueError(f"the width must be a multiple of {NORM_GROUPS}")
        if len(conditions) != len(CONDITIONED) + 1:
            raise ValueError("conditions needs the channels of four feature maps")
        form = Form(binary, 4 * width, packed)
        widths = [width * multiple for multiple in MULTIPLES]
        deepest = widths[-1]
        self.width = width
        embed = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.time = None if packed else embed
        self.of_known = nn.Conv2d(channels + masks, width, 3, padding=1)
        self.of_state = nn.Conv2d(masks, width, 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(Block(form, size, size) for size in widths[:-1])
        self.conditioned = nn.ModuleList(
            ConditionedBlock(form, inputs, widths[scale])
            for inputs, scale in zip(conditions[:-1], CONDITIONED, strict=True)
        )
        self.down = nn.ModuleList(Block(form, inputs, outputs, "half") for inputs, outputs in pairwise(widths))
        self.middle = nn.ModuleList([Block(form, deepest, deepest), Block(form, deepest, deepest)])
        self.cross = CrossTransformer(form, conditions[-1], deepest, scrambled)
        self.up = nn.ModuleList(Block(form, inputs, outputs, "double") for outputs, inputs in pairwise(widths))
        self.decoder = nn.ModuleList(Block(form, 2 * size, size) for size in widths[:-1])
        head = nn.Conv2d(width, masks, 3, padding=1)
        nn.init.zeros_(head.weight)
        assert head.bias is not None
        nn.init.zeros_(head.bias)
        self.head = nn.Sequential(nn.GroupNorm(NORM_GROUPS, width), nn.SiLU(), head)

    def moment(self, steps: Tensor) -> Moment:
        """What layers need to know of steps, given by their numbers (B,) or, if they are all the same, (1,)."""
        if self.time is None:
            return Moment(steps)
        embedded = embed_steps(steps, self.width).to(self.of_known.weight.dtype)
        return Moment(steps, self.time(embedded))

    def stem(self, image: Tensor, prior: Tensor) -> Tensor:
        """What the first layer makes of image (B, channels, H, W) and prior (B, K, H, W), (B, width, H, W)."""
        return self.of_known(torch.cat([image, prior], dim=1))

    def conditions(self, features: Sequence[Tensor], moment: Moment) -> list[Tensor]:
        """What the blocks see of the segmentor's features, four maps (B, C, h, w).

        Args:
            features: (B or 1, C, h, w) at 1/4, 1/8, 1/16 and 1/32 of the image's size.
            moment: Of B steps; with features of one image, the result is that of all these steps.
        """
        users = [*(block.get_submodule("condition") for block in self.conditioned), self.cross.condition]
        return [user(feature, moment) for user, feature in zip(users, features, strict=True)]

    def forward(self, state: Tensor, stem: Tensor, conditions: Sequence[Tensor], moment: Moment) -> Tensor:
        """Probabilities (B, K, H, W).

        Args:
            state: y_t, (B, K, H, W); sizes are multiples of 32.
            stem: (B or 1, width, H, W), from :meth:`stem`.
            conditions: (B or 1, C, h, w), from :meth:`conditions`.
            moment: Of the steps, (B,) or (1,).
        """
        maps = self.of_state(state) + stem
        skips = []
        for scale, (block, down) in enumerate(zip(self.encoder, self.down, strict=True)):
            maps = block(maps, moment)
            if scale in CONDITIONED:
                index = CONDITIONED.index(scale)
                maps = self.conditioned[index](maps, conditions[index], moment)
            skips.append(maps)
            maps = down(maps, moment)
        maps = self.cross(self.middle[0](maps, moment), conditions[-1], moment)
        maps = self.middle[1](maps, moment)
        for up, block, skip in zip(reversed(self.up), reversed(self.decoder), reversed(skips), strict=True):
            maps = block(torch.cat([up(maps, moment), skip], dim=1), moment)
        return self.head(maps).sigmoid()


@torch.no_grad()
def packed_state(refiner: Refiner, steps: int) -> dict[str, Tensor]:
    """State of the packed twin of a refiner: one bit per sign, and tables instead of what shifts are computed from.

    Args:
        refiner: One to train, or one that is packed already.
        steps: Of the diffusion.
    """
    if refiner.time is None:
        return refiner.state_dict()
    moment = refiner.moment(torch.arange(steps, device=refiner.of_known.weight.device))
    state = {name: tensor for name, tensor in refiner.state_dict().items() if not name.startswith("time.")}
    for name, module in refiner.named_modules():
        if isinstance(module, TimeShift):
            del state[f"{name}.linear.weight"], state[f"{name}.linear.bias"]
            state[f"{name}.table"] = module(moment).flatten(1)
        elif isinstance(module, Weights) and module.form.binary:
            factors, scale = module()
            del state[f"{name}.weight"]
            state |= {f"{name}.bits": pack_signs(factors), f"{name}.scale": scale}
    return state
