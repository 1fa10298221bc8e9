"""A segmentor on an encoder-decoder, whose samples come from test-time augmentation or Monte-Carlo dropout.

Neither is a model of what readers disagree about: augmentation shows how firmly the network stands by its answer,
dropout (Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016) what it knows too little of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, Literal

import torch
from torch import Tensor, nn

from MedSegUncertaintyLib.models.backbones import build_backbone
from MedSegUncertaintyLib.models.sampler import Encoding, NoiseField
from MedSegUncertaintyLib.models.selfreg import SAMPLE_KINDS
from MedSegUncertaintyLib.models.selfreg.taps import anatomy

CONTRAST = 0.1
"""Standard deviation of the logarithm of the factor on intensities."""
BRIGHTNESS = 0.1
"""Standard deviation of what is added to normalized intensities."""
DRAW_BYTES = 16 * 2**20
"""Largest encoder map that draws see together: more at once leave a CPU's cache, and take memory for nothing."""


class SelfReg(nn.Module):
    """Encoder-decoder with a 1 x 1 head.

    With "augmentation" a draw is the network's answer to a changed image: turned by a quarter in the plane of the last
    two axes, mirrored, with other contrast and brightness; turn and mirrors are taken back. With "dropout" a draw
    leaves out channels of the maps that the encoder hands to the decoder, at every level; the image is encoded once.
    Both choose once for the whole image, so tiles agree. Noise of zero changes nothing. Turns and mirrors are small
    changes only to a network that was trained with them.

    Args:
        backbone: An encoder-decoder with a known :func:`~MedSegUncertaintyLib.models.selfreg.taps.anatomy`.
        spatial_dims: 2 or 3.
        channels: Image channels that the backbone takes.
        features: Channels that the backbone gives.
        classes: Number of classes with an explicit background; at least 2.
        samples: What draws are made of.
        dropout: Share of channels that dropout leaves out, in training (of both kinds) and in its draws; below 1/2.
        size_multiple: Spatial sizes must be a multiple of this.

    Attributes:
        sample_kind: What the samples are, in words for the user.
        anatomy: Names of the backbone's parts.
    """

    blendable = False
    controls: frozenset[str] = frozenset()

    def __init__(
        self,
        backbone: nn.Module,
        spatial_dims: int,
        channels: int,
        features: int,
        classes: int,
        samples: Literal["augmentation", "dropout"],
        dropout: float,
        size_multiple: int,
    ) -> None:
        super().__init__()
        if samples not in SAMPLE_KINDS:
            raise ValueError(f'samples is "augmentation" or "dropout", not "{samples}"')
        if not 0.0 <= dropout < 0.5 or (samples == "dropout" and not dropout):
            raise ValueError("dropout is a share below 1/2, and above 0 where samples are made of it")
        if classes < 2:
            raise ValueError("the loss needs a background class and at least one structure")
        self.spatial_dims = self.network_dims = spatial_dims
        self.channels, self.classes, self.size_multiple = channels, classes, size_multiple
        self.samples, self.dropout, self.sample_kind = samples, dropout, SAMPLE_KINDS[samples]
        self.anatomy = anatomy(backbone)
        self.backbone = backbone
        self.head = (nn.Conv3d if spatial_dims == 3 else nn.Conv2d)(features, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, *spatial) of images (B, channels, *spatial), nothing changed or left out."""
        return self.finish(self.levels(image))

    def levels(self, image: Tensor) -> list[Tensor]:
        """Maps of the encoder's stages, finest first, of images (B, channels, *spatial)."""
        return self.anatomy.encode(self.backbone, image)

    def finish(self, levels: Sequence[Tensor], noise: Sequence[Tensor] | None = None) -> Tensor:
        """Logits from the encoder's maps.

        Args:
            levels: From :meth:`levels`, of S images or of one.
            noise: Standard normal (S, C) per level: channels with the highest numbers are left out; none without it.

        Returns:
            (S, classes, *spatial).
        """
        if noise is not None:
            levels = [self._thinned(maps, numbers) for maps, numbers in zip(levels, noise, strict=True)]
        features = torch.relu(self.anatomy.decode(self.backbone, levels))
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.to(self.head.weight.dtype))

    def _thinned(self, maps: Tensor, noise: Tensor) -> Tensor:
        """Maps (S, C, *spatial) without the channels whose noise (S, C) is above the normal's quantile.

        The others are enlarged so that the factors of an image have the mean 1, as they have in expectation with the
        usual 1 / (1 - dropout); the difference is that without anything left out nothing is enlarged, so noise of zero
        is the plain network, and a lower temperature leaves out less.
        """
        kept = (noise <= NormalDist().inv_cdf(1.0 - self.dropout)).to(maps.dtype)
        factors = kept / kept.mean(dim=1, keepdim=True).clamp(min=1.0 / kept.shape[1])
        return maps * factors.view(*factors.shape, *[1] * self.spatial_dims)

    def encode(self, image: Tensor) -> Encoding:
        """The image (1, channels, *spatial) itself, or the encoder's maps "level 0", "level 1", ..., finest first."""
        if self.samples == "augmentation":
            return {"image": image}
        return {f"level {number}": maps for number, maps in enumerate(self.levels(image))}

    def noise(self, encoding: Encoding) -> Mapping[str, NoiseField]:
        """One vector for the changes of an image, or one per level with a number for each of its channels."""
        if self.samples == "augmentation":
            return {"augmentation": NoiseField(self.spatial_dims + 3, "global")}
        return {name: NoiseField(maps.shape[1], "global") for name, maps in encoding.items()}

    def draw(self, encoding: Encoding, noise: Mapping[str, Tensor]) -> Tensor:
        """Logits of S draws.

        Args:
            encoding: From :meth:`encode`.
            noise: "augmentation" (S, spatial_dims + 3), of which the first numbers mirror the axes and the next turns
                by a quarter where they are above zero, and the last two set contrast and brightness; or "level n"
                (S, C).

        Returns:
            (S, classes, *spatial).
        """
        if self.samples == "augmentation":
            # Turned images have other shapes, and one at a time they stay in a CPU's cache.
            return torch.cat([self._changed(encoding["image"], numbers) for numbers in noise["augmentation"]])
        levels = list(encoding.values())
        parts = [noise[name] for name in encoding]
        largest = max(maps.numel() * maps.element_size() for maps in levels)
        step = max(1, DRAW_BYTES // largest)
        return torch.cat(
            [self.finish(levels, [part[n : n + step] for part in parts]) for n in range(0, len(parts[0]), step)]
        )

    def _changed(self, image: Tensor, noise: Tensor) -> Tensor:
        """Logits (1, classes, *spatial) of one draw by augmentation; ``noise`` is (spatial_dims + 3,)."""
        *chosen, contrast, brightness = noise.unbind()
        mirrored = [2 + axis for axis in range(self.spatial_dims) if chosen[axis] > 0]
        turns = int(chosen[-1] > 0)
        changed = image * (CONTRAST * contrast).exp() + BRIGHTNESS * brightness
        logits = self(changed.rot90(turns, (-2, -1)).flip(mirrored))
        return logits.flip(mirrored).rot90(-turns, (-2, -1))


def build(arguments: Mapping[str, Any]) -> SelfReg:
    """SelfReg from the constructor arguments of a package.

    Args:
        arguments: ``backbone`` (see :func:`~MedSegUncertaintyLib.models.backbones.build_backbone`), ``spatial_dims``,
            ``channels``, ``features``, ``classes``, ``samples`` and ``dropout``.
    """
    settings = dict(arguments)
    backbone, size_multiple = build_backbone(
        settings.pop("backbone"), settings["spatial_dims"], settings["channels"], settings["features"]
    )
    return SelfReg(backbone, size_multiple=size_multiple, **settings)
