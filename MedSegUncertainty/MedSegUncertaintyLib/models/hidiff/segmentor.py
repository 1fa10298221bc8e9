"""What HiDiff refines: a network's logits, and four of its inner maps, from any layers that bear a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

TAPPED_SCALES = (4, 8, 16, 32)
"""The refiner sees features this much smaller than the image."""


@dataclass(frozen=True)
class Segmented:
    """What a segmentor says of a batch.

    Attributes:
        logits: (B, K, H, W), of the structure alone (K = 1) or of all classes with the background.
        features: Four maps (B, C, h, w) at 1/4, 1/8, 1/16 and 1/32 of the image's size.
    """

    logits: Tensor
    features: list[Tensor]

    @property
    def prior(self) -> Tensor:
        """Probability f of every mask, (B, K, H, W): of one by a sigmoid, of several by a softmax over them."""
        logits = self.logits.float()
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)

    def detached(self) -> Segmented:
        """The same without gradients."""
        return Segmented(self.logits.detach(), [maps.detach() for maps in self.features])


class Segmentor(nn.Module):
    """Any network from image to logits, with four of its layers tapped.

    Args:
        network: From (B, channels, H, W) to logits (B, K, H, W), or of two classes where K is 1.
        taps: Names of four of its modules, whose maps are averaged or enlarged to the sizes that the refiner needs.
        masks: K.
    """

    def __init__(self, network: nn.Module, taps: Sequence[str], masks: int) -> None:
        super().__init__()
        if len(taps) != len(TAPPED_SCALES):
            raise ValueError(f"taps needs the names of {len(TAPPED_SCALES)} layers")
        names = {name for name, _ in network.named_modules()}
        if unknown := [tap for tap in taps if tap not in names]:
            raise ValueError(f"the segmentor has no layer {unknown[0]!r}")
        self.network, self.taps, self.masks = network, tuple(taps), masks

    def forward(self, image: Tensor) -> Segmented:
        """Logits and features of a batch (B, channels, H, W), sizes multiples of 32."""
        seen: dict[str, Tensor] = {}

        def keep(name: str, maps: Tensor) -> None:
            seen[name] = maps

        hooks = [
            self.network.get_submodule(tap).register_forward_hook(lambda _, __, maps, tap=tap: keep(tap, maps))
            for tap in self.taps
        ]
        try:
            logits = self.network(image)
            if self.masks == 1 and logits.shape[1] == 2:  # the sigmoid of the difference is the softmax of both
                logits = logits[:, 1:] - logits[:, :1]
        finally:
            for hook in hooks:
                hook.remove()
        height, width = image.shape[2:]
        sizes = [(height // scale, width // scale) for scale in TAPPED_SCALES]
        return Segmented(logits, [_of_size(seen[tap], size) for tap, size in zip(self.taps, sizes, strict=True)])

    @torch.no_grad()
    def widths(self, channels: int) -> list[int]:
        """Channels of the four features of images of so many channels."""
        training = self.network.training
        self.network.eval()
        image = torch.zeros(1, channels, 2 * TAPPED_SCALES[-1], 2 * TAPPED_SCALES[-1])
        widths = [maps.shape[1] for maps in self(image).features]
        self.network.train(training)
        return widths


def _of_size(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[2:]) == size:
        return maps
    if maps.shape[2] >= size[0] and maps.shape[3] >= size[1]:
        return functional.adaptive_avg_pool2d(maps, size)
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
