"""Hierarchical Probabilistic U-Net in 2D and 3D.

Kohl et al., "A Hierarchical Probabilistic U-Net for Modeling Multi-Scale Ambiguities", arXiv:1905.13077, 2019. Names:
levels of the U-Net are counted from the image down, scales of the latents from the coarsest one up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from MedSegUncertaintyLib.models.hpunet.cells import LATENTS, cell_widths, pooling_factors
from MedSegUncertaintyLib.models.hpunet.latents import Normal, divergence_per_image
from MedSegUncertaintyLib.models.sampler import Encoding, NoiseField, Reconstructed, scale_name

DRAW_BYTES = 16 * 2**20
"""Largest map that draws make together on a CPU: more at once leave its cache and take almost twice as long."""
BIAS_SCALE = 1e-3
"""Standard deviation of the truncated normal that biases begin with."""


@dataclass(frozen=True)
class Ladder:
    """One way down a core, from the coarsest scale to the finest.

    Attributes:
        normals: Distribution of each scale, given the latents of the coarser ones.
        latents: What was chosen from them, (B, latents, *cells) per scale.
        state: Decoder features after the last stage that the core has.
    """

    normals: list[Normal]
    latents: list[Tensor]
    state: Tensor


@dataclass(frozen=True)
class Reconstruction:
    """A segmentation seen through the latents.

    Attributes:
        logits: (B, classes, *spatial).
        posterior: Per scale, what the posterior says having seen the labels.
        prior: Per scale, what the prior says, given the posterior's coarser latents.
    """

    logits: Tensor
    posterior: list[Normal]
    prior: list[Normal]


class HPUNet(nn.Module):
    """A U-Net whose coarse decoder levels each take a map of latents before they are enlarged.

    The prior is the U-Net itself: its encoder, and its decoder down to the finest latents; ``decoder`` goes on from
    there. The posterior is a twin that also sees the labels, with weights of its own, and ends at its last latents. It
    serves training and :meth:`forward` only. Latents of scale l lie on a grid of cells ``strides[l]`` voxels wide.

    Args:
        spatial_dims: 2 or 3.
        channels: Image channels.
        classes: Number of classes with an explicit background; at least 2.
        widths: Channels of each level.
        latents: Latent channels of each scale; fewer scales than levels.
        hidden: Channels inside the blocks of each level; without them, half of ``widths``.
        blocks: Residual blocks per level.
        convolutions: Convolutions of 3^n voxels per block.
        poolings: Per step between levels, how many voxels become one, for all axes or along each; 2 without them.
        log_scale_limit: Bounds the logarithm of the latents' standard deviations on both sides; unbounded without it.

    Attributes:
        strides: Per scale, how many voxels wide a cell is along each axis.
    """

    blendable = False
    controls = frozenset({"scales"})

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        classes: int,
        widths: Sequence[int],
        latents: Sequence[int] = LATENTS,
        hidden: Sequence[int] | None = None,
        blocks: int = 3,
        convolutions: int = 3,
        poolings: Sequence[int | Sequence[int]] | None = None,
        log_scale_limit: float | None = None,
    ) -> None:
        super().__init__()
        steps = len(widths) - 1
        hidden = [width // 2 for width in widths] if hidden is None else hidden
        if classes < 2:
            raise ValueError("the loss needs a background class and at least one structure")
        if len(hidden) != len(widths):
            raise ValueError("hidden needs one entry per level")
        self.spatial_dims = self.network_dims = spatial_dims
        self.channels, self.classes, self.latents = channels, classes, tuple(latents)
        factors = pooling_factors(spatial_dims, len(widths), poolings)
        self.strides = cell_widths(factors, len(latents))
        self.size_multiple = math.lcm(*self.strides[0])

        shape = Shape(spatial_dims, tuple(widths), tuple(hidden), blocks, convolutions, tuple(factors), log_scale_limit)
        self.prior = Core(shape, channels, self.latents, stages=len(latents))
        self.posterior = Core(shape, channels + classes, self.latents, stages=len(latents) - 1)
        self.decoder = nn.ModuleList(shape.stage(step) for step in range(len(latents), steps))
        self.head = shape.convolution(widths[0], classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.orthogonal_(module.weight)
                assert module.bias is not None
                nn.init.trunc_normal_(module.bias, std=BIAS_SCALE, a=-2 * BIAS_SCALE, b=2 * BIAS_SCALE)

    def latent_shapes(self, spatial: Sequence[int]) -> list[tuple[int, ...]]:
        """Shape (latents, *cells) of each scale for an image of the size ``spatial``."""
        return [
            (count, *(size // stride for size, stride in zip(spatial, strides, strict=True)))
            for count, strides in zip(self.latents, self.strides, strict=True)
        ]

    def forward(self, image: Tensor, labels: Tensor, noise: Sequence[Tensor] | None = None) -> Reconstruction:
        """Logits for the latents that the posterior finds in a segmentation.

        Args:
            image: (B, channels, *spatial).
            labels: (B, *spatial) class indices.
            noise: Standard normal (B, latents, *cells) per scale; without it, the posterior's means are taken.
        """
        seen = self.posterior.encode(self._with_labels(image, labels))
        posterior = self.posterior.descend(
            seen, lambda scale, normal: normal.mean if noise is None else normal.at(noise[scale])
        )
        features = self.prior.encode(image)
        prior = self.prior.descend(features, lambda scale, _: posterior.latents[scale])
        return Reconstruction(self.finish(prior.state, features), posterior.normals, prior.normals)

    def finish(self, state: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Logits (S, classes, *spatial) from the prior's last state (S, ...) and its encoder features (1 or S, ...)."""
        for stage, skip in zip(self.decoder, reversed(features[: len(self.decoder)]), strict=True):
            state = stage(state, skip)
        with torch.autocast(state.device.type, enabled=False):
            return self.head(state.to(self.head.weight.dtype))

    def encode(self, image: Tensor) -> Encoding:
        """The prior's encoder features "level 0", "level 1", ... of one image (1, channels, *spatial).

        Level k is smaller by the first k poolings.
        """
        return {f"level {level}": maps for level, maps in enumerate(self.prior.encode(image))}

    def noise(self, encoding: Encoding) -> Mapping[str, NoiseField]:
        """Per scale, "scale 0" being the coarsest, numbers tied to the cells of its grid."""
        return {
            scale_name(scale): NoiseField(count, "grid", strides=strides)
            for scale, (count, strides) in enumerate(zip(self.latents, self.strides, strict=True))
        }

    def draw(self, encoding: Encoding, noise: Mapping[str, Tensor], *, scales: Tensor | None = None) -> Tensor:
        """Logits of S draws; nothing is encoded again, and what the draws have in common is decoded once.

        Args:
            encoding: From :meth:`encode`.
            noise: "scale l" (S, latents, *cells); equal noise in all draws freezes a scale.
            scales: (scales,), multiplies the noise of each: 0 takes the mean, 1 a sample, others are temperatures.

        Returns:
            (S, classes, *spatial).
        """
        features = list(encoding.values())
        parts = [noise[scale_name(scale)] for scale in range(len(self.latents))]
        if scales is not None:
            parts = [part * factor for part, factor in zip(parts, scales, strict=True)]
        count = len(parts[0])
        step = count
        if features[0].device.type == "cpu":
            widest = sum(maps.shape[1] for maps in features[:2])  # what the last stage sees
            step = max(1, DRAW_BYTES // (4 * widest * features[0][0, 0].numel()))
        return torch.cat(
            [self._draw(features, [part[first : first + step] for part in parts]) for first in range(0, count, step)]
        )

    def _draw(self, features: Sequence[Tensor], noise: Sequence[Tensor]) -> Tensor:
        """Logits of draws that are made together."""
        # As long as they agree, all of them share one state.
        alike = [bool((part == part[:1]).all()) for part in noise]
        parts = [part[:1] if all(alike[: scale + 1]) else part for scale, part in enumerate(noise)]
        ladder = self.prior.descend(features, lambda scale, normal: normal.at(parts[scale]))
        logits = self.finish(ladder.state, features)
        return logits.expand(len(noise[0]), *logits.shape[1:])

    def reconstruct(
        self, encoding: Encoding, image: Tensor, labels: Tensor, noise: Mapping[str, Tensor]
    ) -> Reconstructed:
        """See ``models.sampler.Reconstructing``: the posterior's means for the logits, a draw for the divergences."""
        features = list(encoding.values())
        parts = [noise[scale_name(scale)] for scale in range(len(self.latents))]
        seen = self.posterior.encode(self._with_labels(image.expand(len(labels), *image.shape[1:]), labels))
        means = self.posterior.descend(seen, lambda _, normal: normal.mean)
        state = self.prior.descend(features, lambda scale, _: means.latents[scale]).state
        drawn = self.posterior.descend(seen, lambda scale, normal: normal.at(parts[scale]))
        prior = self.prior.descend(features, lambda scale, _: drawn.latents[scale])
        pairs = zip(drawn.normals, prior.normals, strict=True)
        divergences = [divergence_per_image(*pair).expand(len(labels)) for pair in pairs]
        return Reconstructed(self.finish(state, features), torch.stack(divergences, dim=1))

    def _with_labels(self, image: Tensor, labels: Tensor) -> Tensor:
        """What the posterior sees: the labels as one channel per class, then the image."""
        one_hot = functional.one_hot(labels, self.classes).movedim(-1, 1).to(image.dtype)
        return torch.cat([one_hot, image], dim=1)


@dataclass(frozen=True)
class Shape:
    """What prior, posterior and decoder have in common.

    Attributes:
        dims: 2 or 3.
        widths: Channels of each level.
        hidden: Channels inside the blocks of each level.
        blocks: Residual blocks per level.
        convolutions: Convolutions of 3^n voxels per block.
        factors: Pooling along each axis, per step between levels.
        log_scale_limit: Of the latents.
    """

    dims: int
    widths: tuple[int, ...]
    hidden: tuple[int, ...]
    blocks: int
    convolutions: int
    factors: tuple[tuple[int, ...], ...]
    log_scale_limit: float | None

    def convolution(self, inputs: int, outputs: int, kernel: int) -> nn.Conv2d | nn.Conv3d:
        """Convolution that keeps the size, zeros around the image."""
        return (nn.Conv3d if self.dims == 3 else nn.Conv2d)(inputs, outputs, kernel, padding=kernel // 2)

    def level(self, inputs: int, level: int) -> nn.Sequential:
        """The residual blocks of a level."""
        width = self.widths[level]
        return nn.Sequential(
            *(Block(self, first, width, self.hidden[level]) for first, _ in pairwise([inputs] + [width] * self.blocks))
        )

    def stage(self, step: int, latents: int = 0) -> Stage:
        """The decoder's ``step``-th stage, counted from the coarsest, that takes ``latents`` besides its state."""
        level = len(self.widths) - 2 - step
        inputs = self.widths[level + 1] + latents + self.widths[level]
        return Stage(self.factors[level], self.level(inputs, level))


class Block(nn.Module):
    """Pre-activation residual block without normalization; the skip sees the input before its activation."""

    def __init__(self, shape: Shape, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__()
        widths = [inputs] + [hidden] * shape.convolutions
        self.convolutions = nn.ModuleList(shape.convolution(first, second, 3) for first, second in pairwise(widths))
        self.skip = nn.Identity() if inputs == outputs else shape.convolution(inputs, outputs, 1)
        self.expand = nn.Identity() if hidden == outputs else shape.convolution(hidden, outputs, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, outputs, *spatial) of maps (B, inputs, *spatial)."""
        inner = maps
        for convolution in self.convolutions:
            inner = convolution(torch.relu(inner))
        return self.skip(maps) + self.expand(inner)


class Stage(nn.Module):
    """One level of a decoder: enlarge, add the encoder's features, blocks."""

    def __init__(self, factor: tuple[int, ...], blocks: nn.Sequential) -> None:
        super().__init__()
        self.factor, self.blocks = tuple(float(part) for part in factor), blocks

    def forward(self, state: Tensor, skip: Tensor) -> Tensor:
        """State (S, ...) of the next finer level; ``skip`` is (1 or S, ...)."""
        if len(skip) == 1 and not torch.is_grad_enabled():
            return self._of_one_image(state, skip)
        return self.blocks(torch.cat([self._enlarged(state), skip.expand(len(state), *skip.shape[1:])], dim=1))

    def _of_one_image(self, state: Tensor, skip: Tensor) -> Tensor:
        """The same without the work that S draws share, or that four neighbors do.

        Convolutions are linear in their input channels: what the image contributes to the first ones is computed once,
        and what is done voxel by voxel to the state comes before it is enlarged.
        """
        first, *others = self.blocks
        assert isinstance(first, Block)
        own, (opening, *rest) = state.shape[1], first.convolutions
        inner = _convolved(self._enlarged(torch.relu(state)), opening, slice(own))
        inner = inner + _convolved(torch.relu(skip), opening, slice(own, None), with_bias=True)
        for convolution in rest:
            inner = convolution(torch.relu(inner))
        past = self._enlarged(_convolved(state, first.skip, slice(own)))
        maps = past + _convolved(skip, first.skip, slice(own, None), with_bias=True) + first.expand(inner)
        for block in others:
            maps = block(maps)
        return maps

    def _enlarged(self, maps: Tensor) -> Tensor:
        return functional.interpolate(maps, scale_factor=self.factor, mode="nearest")


def _convolved(maps: Tensor, layer: nn.Module, channels: slice, with_bias: bool = False) -> Tensor:
    """What some of a convolution's input channels contribute to its output."""
    assert isinstance(layer, nn.Conv2d | nn.Conv3d)
    bias = layer.bias if with_bias else None
    weight = layer.weight[:, channels]
    padding = layer.kernel_size[0] // 2
    if maps.dim() == 5:
        return functional.conv3d(maps, weight, bias, padding=padding)
    return functional.conv2d(maps, weight, bias, padding=padding)


class LatentHead(nn.Module):
    """One 1^n convolution from the decoder's state to means and logarithms of standard deviations."""

    def __init__(self, shape: Shape, inputs: int, latents: int) -> None:
        super().__init__()
        self.convolution = shape.convolution(inputs, 2 * latents, 1)
        self.limit = shape.log_scale_limit

    def forward(self, state: Tensor) -> Normal:
        """Distribution of the latents beside a state (B, inputs, *cells), in the precision of the weights."""
        with torch.autocast(state.device.type, enabled=False):
            mean, log_scale = self.convolution(state.to(self.convolution.weight.dtype)).chunk(2, dim=1)
        if self.limit is not None:
            log_scale = log_scale.clamp(-self.limit, self.limit)
        return Normal(mean, log_scale)


class Core(nn.Module):
    """Encoder and ladder of latents, of prior or posterior.

    Args:
        shape: Widths and blocks.
        channels: Of the input.
        latents: Latent channels of each scale.
        stages: Scales after which the decoder goes on; the posterior needs one less.
    """

    def __init__(self, shape: Shape, channels: int, latents: Sequence[int], stages: int) -> None:
        super().__init__()
        self.factors = shape.factors
        self.levels = nn.ModuleList(
            shape.level(inputs, level) for level, inputs in enumerate((channels, *shape.widths[:-1]))
        )
        self.heads = nn.ModuleList(
            LatentHead(shape, shape.widths[-1 - scale], count) for scale, count in enumerate(latents)
        )
        self.stages = nn.ModuleList(shape.stage(scale, latents[scale]) for scale in range(stages))

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of every level, before its pooling, of a batch (B, channels, *spatial)."""
        pool = functional.avg_pool3d if image.dim() == 5 else functional.avg_pool2d
        features = [self.levels[0](image)]
        for level, factor in zip(self.levels[1:], self.factors, strict=True):
            features.append(level(pool(features[-1], factor)))
        return features

    def descend(self, features: Sequence[Tensor], choose: Callable[[int, Normal], Tensor]) -> Ladder:
        """Walk down the ladder.

        Args:
            features: From :meth:`encode`, of one image or of S.
            choose: Gives the latents (S, latents, *cells) from the number of a scale and its distribution.
        """
        state = features[-1]
        normals, latents = [], []
        for scale, head in enumerate(self.heads):
            normals.append(head(state))
            latents.append(choose(scale, normals[-1]))
            if scale < len(self.stages):
                chosen = latents[-1].to(state.dtype)
                both = torch.cat([chosen, state.expand(len(chosen), *state.shape[1:])], dim=1)
                state = self.stages[scale](both, features[-2 - scale])
        return Ladder(normals, latents, state)
