"""UniverSeg as its equations read: a U-shape in which an image and its labeled examples look at each other.

Butoi, Gonzalez Ortiz et al., "UniverSeg: Universal Medical Image Segmentation", ICCV 2023, in the variant that the
authors released (v1): max pooling, and no activation after the cross convolution, which the paper has. Everything here
is differentiable; ``fast`` computes the same numbers sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.01
"""Of the leaky ReLU for negative numbers."""

Widths = int | Sequence[int]
"""Channels of a block: of its cross convolution and of its other two, or one number for both."""


class UniverSeg(nn.Module):
    """Logits of one structure in a target image, by the example of N labeled support images.

    The names of all parameters are the authors', so ``load_state_dict`` takes their checkpoint as it is. What comes out
    does not depend on the order of the supports. There is neither normalization nor dropout: training and evaluation
    mode are the same.

    Args:
        encoder_blocks: Widths of the blocks on the way down; between two of them, maps are halved. The released network
            is ``[64, 64, 64, 64]``.
        decoder_blocks: Widths of the blocks on the way up, one less; the encoder's in reverse if not given.

    Attributes:
        size_multiple: Height and width must be multiples of this.
        spatial_dims: It sees slices.
        channels: One image.
        classes: Background and the structure of the examples.

    Raises:
        ValueError: There is no encoder block, or the number of decoder blocks does not fit.
    """

    spatial_dims, channels, classes = 2, 1, 2

    def __init__(self, encoder_blocks: Sequence[Widths], decoder_blocks: Sequence[Widths] | None = None) -> None:
        super().__init__()
        down = [_pair(widths) for widths in encoder_blocks]
        up = down[-2::-1] if decoder_blocks is None else [_pair(widths) for widths in decoder_blocks]
        if not down or len(up) != len(down) - 1:
            raise ValueError(f"{len(down)} encoder blocks and {len(up)} decoder blocks do not make a U-shape")
        self.size_multiple = 2 ** (len(down) - 1)
        self.enc_blocks, self.dec_blocks = nn.ModuleList(), nn.ModuleList()
        u_channels, v_channels = 1, 2  # an image; an image and its labels
        for cross, width in down:
            self.enc_blocks.append(CrossBlock(u_channels, v_channels, cross, width))
            u_channels = v_channels = width
        for (cross, width), (_, skip) in zip(up, down[-2::-1], strict=True):
            self.dec_blocks.append(CrossBlock(u_channels + skip, v_channels + skip, cross, width))
            u_channels = v_channels = width
        self.out_conv = Convolution(u_channels, 1, kernel=1, activate=False)

    def forward(self, target: Tensor, support_images: Tensor, support_labels: Tensor) -> Tensor:
        """Logits (B, 1, H, W), without sigmoid.

        Args:
            target: Images to segment (B, 1, H, W), intensities from 0 to 1.
            support_images: N >= 1 example images for each (B, N, 1, H, W), intensities from 0 to 1.
            support_labels: Their segmentations (B, N, 1, H, W), 0 or 1 as floating-point numbers.

        Raises:
            ValueError: Shapes do not fit together, or H or W is no multiple of ``size_multiple``.
        """
        self.check(target, support_images, support_labels)
        u, v = target.unsqueeze(1), torch.cat([support_images, support_labels], dim=2)
        skips = []
        for block in self.enc_blocks[:-1]:
            u, v = block(u, v)
            skips.append((u, v))
            u, v = each(halve, u), each(halve, v)
        u, v = self.enc_blocks[-1](u, v)
        for block in self.dec_blocks:
            u_skip, v_skip = skips.pop()
            u = torch.cat([each(double, u), u_skip], dim=2)
            v = torch.cat([each(double, v), v_skip], dim=2)
            u, v = block(u, v)
        return self.out_conv(u.squeeze(1))

    def check(self, target: Tensor, support_images: Tensor, support_labels: Tensor) -> None:
        """Raise ``ValueError`` unless :meth:`forward` takes these."""
        given = f"target {[*target.shape]}, images {[*support_images.shape]} and labels {[*support_labels.shape]}"
        if target.ndim != 4 or target.shape[1] != 1 or not target.numel():
            raise ValueError(f"a target is (B, 1, H, W), which does not fit {given}")
        batch, _, height, width = target.shape
        supports = support_images.shape[1] if support_images.ndim == 5 else 0
        expected = (batch, supports, 1, height, width)
        if not supports or support_images.shape != expected or support_labels.shape != expected:
            raise ValueError(f"supports are (B, N, 1, H, W) with N of at least 1, which does not fit {given}")
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(f"height and width must be multiples of {self.size_multiple}, not {height} x {width}")


class CrossBlock(nn.Module):
    """One look of target u at supports v_i and of each support at the target (section 3.2 of the paper).

    With * for 3 x 3 convolution, [;] for concatenation of channels and A for the leaky ReLU::

        z_i  = W_x * [u; v_i] + b_x
        u'   = A(W_t * mean_i z_i + b_t)
        v'_i = A(W_s * z_i + b_s)

    Args:
        u_channels: Channels of u.
        v_channels: Channels of v.
        cross: Channels of z.
        width: Channels of u' and v'.
    """

    def __init__(self, u_channels: int, v_channels: int, cross: int, width: int) -> None:
        super().__init__()
        self.cross = CrossConvolution(u_channels, v_channels, cross)
        self.target = Each(Convolution(cross, width, kernel=3, activate=True))
        self.support = Each(Convolution(cross, width, kernel=3, activate=True))

    def forward(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Maps u' (B, 1, width, H, W) and v' (B, N, width, H, W) of u (B, 1, C, H, W) and v (B, N, C', H, W)."""
        z = self.cross(u, v)
        return self.target(z.mean(dim=1, keepdim=True)), self.support(z)


class CrossConvolution(nn.Module):
    """The same convolution of the target beside each support."""

    def __init__(self, u_channels: int, v_channels: int, outputs: int) -> None:
        super().__init__()
        self.u_channels = u_channels
        self.cross_conv = _convolution(u_channels + v_channels, outputs, kernel=3, activate=False)

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """Maps z (B, N, outputs, H, W) of u (B, 1, C, H, W) and v (B, N, C', H, W)."""
        return each(self.cross_conv, torch.cat([u.expand(-1, v.shape[1], -1, -1, -1), v], dim=2))


class Convolution(nn.Module):
    """Convolution that keeps height and width, and a leaky ReLU where one is wanted."""

    def __init__(self, inputs: int, outputs: int, kernel: int, activate: bool) -> None:
        super().__init__()
        self.activate = activate
        self.conv = _convolution(inputs, outputs, kernel, activate)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, outputs, H, W) of maps (B, inputs, H, W)."""
        maps = self.conv(maps)
        return functional.leaky_relu(maps, SLOPE) if self.activate else maps


class Each(nn.Module):
    """A convolution on each of N maps (B, N, C, H, W); the attribute's name is part of the authors' state dict."""

    def __init__(self, module: Convolution) -> None:
        super().__init__()
        self.vmapped = module

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, N, C', H', W') of maps (B, N, C, H, W)."""
        return each(self.vmapped, maps)


def each(function: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """A function of (B, C, H, W) on each of N maps (B, N, C, H, W)."""
    return function(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])


def halve(maps: Tensor) -> Tensor:
    """Maps (B, C, H / 2, W / 2): the largest of each 2 x 2 pixels."""
    return functional.max_pool2d(maps, 2)


def double(maps: Tensor) -> Tensor:
    """Maps (B, C, 2 H, 2 W): bilinear, with the centers of the corner pixels kept in place, as the authors have it."""
    return functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)


def _convolution(inputs: int, outputs: int, kernel: int, activate: bool) -> nn.Conv2d:
    """Convolution with the authors' start: Kaiming-normal by fan-in, blind to the leak, and biases of zero."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu" if activate else "linear")
    nn.init.zeros_(cast("Tensor", convolution.bias))
    return convolution


def _pair(widths: Widths) -> tuple[int, int]:
    cross, width = (widths, widths) if isinstance(widths, int) else widths
    return cross, width
