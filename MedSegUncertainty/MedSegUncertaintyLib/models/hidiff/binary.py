"""Layers of one bit: signs of weights and activations, thresholds and slopes that move with the diffusion's step.

The real twin of every layer (``Form.binary`` false) has the same parameters and takes weights and activations as they
are. Sums of signs are whole numbers below 2^24, so float32 has them exactly and in any order; scales are applied to the
sums. Every way to compute them therefore gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

FIRST_WEIGHT = 1e-3
"""Latent weights begin uniform in plus and minus this; the authors' begin all positive."""
NORM_GROUPS = 32


@dataclass(frozen=True)
class Form:
    """What all layers of a refiner have in common.

    Attributes:
        binary: Whether weights and activations are signs.
        embedding: Width of the embedding of time.
        packed: Steps of the diffusion if the refiner is one for inference alone, with one bit per weight and a table
            instead of every layer that makes a shift of the time; without it, one to train.
    """

    binary: bool
    embedding: int
    packed: int | None = None


@dataclass(frozen=True)
class Moment:
    """Where in the diffusion a batch is.

    Attributes:
        steps: (B,) or (1,), numbers of the steps.
        embedding: (B, embedding) or (1, embedding), of those steps; a packed refiner needs none.
        prepared: What :func:`~MedSegUncertaintyLib.models.hidiff.kernels.prepare` made of layers, by layer.
    """

    steps: Tensor
    embedding: Tensor | None = None
    prepared: Mapping[nn.Module, Any] = field(default_factory=dict)


class _Sign(torch.autograd.Function):
    """Signs, 0 being positive; the gradient is that of Bi-Real Net's polynomial (Liu et al. 2018)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return signs(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        return values.abs().mul_(-2.0).add_(2.0).clamp_(min=0.0).mul_(gradient)


class _WeightSign(torch.autograd.Function):
    """Signs of weights that are scaled afterwards; the gradient is that of clamp(weight, -1, 1) without the scale."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scale)
        return signs(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        weight, scale = ctx.saved_tensors
        return gradient * (weight.abs() <= 1.0) / scale.view(-1, *[1] * (weight.dim() - 1)), None


def signs(values: Tensor) -> Tensor:
    """1 where a value is 0 or more, else -1."""
    return (values >= 0).to(values.dtype).mul_(2.0).sub_(1.0)


def sign(values: Tensor) -> Tensor:
    """:func:`signs` with a gradient."""
    return _Sign.apply(values)


def pack_signs(values: Tensor) -> Tensor:
    """Signs (O, ...) of N values per output as (O, ceil(N / 8)) bytes; the first value is the lowest bit, 1 is +1."""
    flat = (values >= 0).flatten(1).to(torch.uint8)
    padded = functional.pad(flat, (0, -flat.shape[1] % 8)).unflatten(1, (-1, 8))
    return (padded << torch.arange(8, dtype=torch.uint8, device=values.device)).sum(dim=2, dtype=torch.uint8)


def unpack_signs(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The signs (O, ...) of ``shape`` that :func:`pack_signs` has packed, float32."""
    bits = (packed.unsqueeze(2) >> torch.arange(8, dtype=torch.uint8, device=packed.device)) & 1
    count = math.prod(shape[1:])
    return bits.flatten(1)[:, :count].reshape(shape).float().mul_(2.0).sub_(1.0)


class Weights(nn.Module):
    """Weights (outputs, inputs, k, k) of a layer, latent ones that can be trained or packed signs and scales.

    Args:
        form: Of the refiner.
        shape: Of the weights.
        centered: Whether signs are taken after subtracting the mean of each output's weights.
    """

    bits: Tensor
    scale: Tensor

    def __init__(self, form: Form, shape: tuple[int, int, int, int], centered: bool) -> None:
        super().__init__()
        self.form, self.shape, self.centered = form, shape, centered
        if form.binary and form.packed:
            self.register_buffer("bits", torch.zeros(shape[0], -(-math.prod(shape[1:]) // 8), dtype=torch.uint8))
            self.register_buffer("scale", torch.ones(shape[0]))
        else:
            self.weight = nn.Parameter(torch.empty(shape))
            bound = FIRST_WEIGHT if form.binary else 1.0 / math.sqrt(math.prod(shape[1:]))
            nn.init.uniform_(self.weight, -bound, bound)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Factors of the products, signs if binary, and scales (outputs,) of the sums."""
        if self.form.binary and self.form.packed:
            return unpack_signs(self.bits, self.shape).to(self.scale.dtype), self.scale
        if not self.form.binary:
            return self.weight, self.weight.new_ones(self.shape[0])
        scale = self.weight.detach().abs().mean(dim=(1, 2, 3)).clamp(min=torch.finfo(torch.float32).tiny)
        weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True) if self.centered else self.weight
        return _WeightSign.apply(weight, scale), scale


class Convolution(nn.Module):
    """Convolution of signs, and batch norm; zeros around the signs, as outside of the image nothing is summed.

    There is no bias: batch norm would take it out again.

    Args:
        form: Of the refiner.
        inputs: Channels.
        outputs: Channels.
        kernel: 3, or 1 for a linear layer on every pixel, whose weights are centered.
        stride: Of the pixels.
    """

    def __init__(self, form: Form, inputs: int, outputs: int, kernel: Literal[1, 3] = 3, stride: int = 1) -> None:
        super().__init__()
        self.binary, self.kernel, self.stride = form.binary, kernel, stride
        self.weights = Weights(form, (outputs, inputs, kernel, kernel), centered=kernel == 1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, outputs, h, w) of maps (B, inputs, H, W), whose signs are taken here."""
        factors, scale = self.weights()
        if not self.binary:
            return self.norm(self._sums(maps, factors))
        if self.norm.training:
            sums = self._sums(sign(maps), factors)
            return self.norm(sums * _on_maps(scale).to(sums.dtype))
        with torch.autocast(maps.device.type, enabled=False):  # half precision would round the sums
            factor, offset = self.folded(scale)
            return self._sums(sign(maps.to(factors.dtype)), factors) * _on_maps(factor) + _on_maps(offset)

    def _sums(self, maps: Tensor, factors: Tensor) -> Tensor:
        return functional.conv2d(maps, factors, stride=self.stride, padding=self.kernel // 2)

    def folded(self, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and batch norm in evaluation as one factor and one offset per channel."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        return scale * factor, norm.bias - norm.running_mean * factor


class TimeShift(nn.Module):
    """Numbers per channel that depend on the step alone; all zero at first."""

    table: Tensor

    def __init__(self, form: Form, channels: int) -> None:
        super().__init__()
        if form.packed:
            self.register_buffer("table", torch.zeros(form.packed, channels))
        else:
            self.linear = nn.Linear(form.embedding, channels)
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, moment: Moment) -> Tensor:
        """(B, channels, 1, 1) or (1, channels, 1, 1)."""
        if self in moment.prepared:
            values = moment.prepared[self]
        elif moment.embedding is None:
            values = self.table
        else:
            return self.linear(functional.silu(moment.embedding))[..., None, None]
        return values[moment.steps][..., None, None]


class TimeActivation(nn.Module):
    """PReLU per channel between two shifts: prelu(u + m2(t)) + m3(t)."""

    def __init__(self, form: Form, channels: int) -> None:
        super().__init__()
        self.before, self.after = TimeShift(form, channels), TimeShift(form, channels)
        self.prelu = nn.PReLU(channels)

    def forward(self, maps: Tensor, moment: Moment) -> Tensor:
        """Maps (B, channels, H, W)."""
        return self.prelu(maps + self.before(moment)) + self.after(moment)


class Block(nn.Module):
    """Threshold, convolution of signs with batch norm, a real-valued skip, activation.

    Args:
        form: Of the refiner.
        inputs: Channels.
        outputs: As many, half as many (the skip is the mean of adjacent channels) or twice as many (it is repeated).
        size: Whether the maps keep their size, are halved, or are doubled before anything else.
    """

    def __init__(self, form: Form, inputs: int, outputs: int, size: Literal["same", "half", "double"] = "same") -> None:
        super().__init__()
        self.outputs, self.size = outputs, size
        self.threshold = TimeShift(form, inputs)
        self.convolution = Convolution(form, inputs, outputs, stride=2 if size == "half" else 1)
        self.activation = TimeActivation(form, outputs)

    def forward(self, maps: Tensor, moment: Moment) -> Tensor:
        """Maps (B, outputs, h, w) of maps (B, inputs, H, W)."""
        if self.size == "double":
            maps = doubled(maps)
        skip = fit_channels(functional.avg_pool2d(maps, 2) if self.size == "half" else maps, self.outputs)
        if self in moment.prepared:
            return moment.prepared[self](maps, skip, moment)
        return self.activation(self.convolution(maps + self.threshold(moment)) + skip, moment)


class Condition(nn.Module):
    """Real-valued residual block that turns a feature map of the segmentor into one for a step."""

    def __init__(self, form: Form, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_GroupNorm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.scale_and_shift = TimeShift(form, 2 * outputs)
        self.norm = _GroupNorm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        assert self.second.bias is not None
        nn.init.zeros_(self.second.bias)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, feature: Tensor, moment: Moment) -> Tensor:
        """(B, outputs, h, w); one feature map (1, inputs, h, w) does for all steps of the moment."""
        scale, shift = self.scale_and_shift(moment).chunk(2, dim=1)
        inner = self.norm(self.first(feature)) * (1.0 + scale) + shift
        return self.skip(feature) + self.second(functional.silu(inner))


class ConditionedBlock(nn.Module):
    """Block that sees a condition beside its maps, both of the same width."""

    def __init__(self, form: Form, condition: int, width: int) -> None:
        super().__init__()
        self.condition = Condition(form, condition, width)
        self.block = Block(form, 2 * width, width)

    def forward(self, maps: Tensor, condition: Tensor, moment: Moment) -> Tensor:
        """Maps (B, width, h, w); the condition (B or 1, width, h, w) is what ``self.condition`` gave."""
        return self.block(torch.cat([maps, condition.expand_as(maps)], dim=1), moment)


def fit_channels(maps: Tensor, channels: int) -> Tensor:
    """Maps as a skip: means of adjacent channels if there are too many, all of them in turn if there are too few."""
    given = maps.shape[1]
    if given > channels:
        step = given // channels
        # Several times faster than a mean over a dimension of two.
        return sum((maps[:, first::step] for first in range(1, step)), maps[:, ::step]) / step
    return maps if given == channels else maps.repeat(1, channels // given, 1, 1)


def doubled(maps: Tensor) -> Tensor:
    """Every pixel of maps (B, C, H, W) as four, in channels last."""
    batch, channels, height, width = maps.shape
    pixels = maps.permute(0, 2, 3, 1)[:, :, None, :, None].expand(batch, height, 2, width, 2, channels)
    return pixels.reshape(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


def embed_steps(steps: Tensor, width: int) -> Tensor:
    """Cosines, then sines of the steps' numbers at frequencies from 1 down to almost 1e-4, (B, width)."""
    half = width // 2
    frequencies = torch.exp(-math.log(1e4) * torch.arange(half, device=steps.device) / half)
    angles = steps.unsqueeze(1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class _GroupNorm(nn.GroupNorm):
    """Of 32 groups, also where a group is a single number, as at 1/32 of a small image."""

    def __init__(self, channels: int) -> None:
        super().__init__(math.gcd(NORM_GROUPS, channels), channels)

    def forward(self, maps: Tensor) -> Tensor:
        if torch.is_grad_enabled() and not maps.requires_grad:
            # On a CPU, PyTorch 2.13 crashes in the backward pass of channels-last maps that need no gradient.
            maps = maps.contiguous()
        return torch.group_norm(maps, self.num_groups, self.weight, self.bias, self.eps)


def _on_maps(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1)
