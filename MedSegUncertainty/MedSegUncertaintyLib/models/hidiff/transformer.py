"""Cross transformer at the coarsest scale: prior and diffused maps look at each other, with signs or without.

Tokens are the pixels of maps (B, C, h, w), so linear layers are 1 x 1 convolutions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from MedSegUncertaintyLib.models.hidiff.binary import (
    Condition,
    Convolution,
    Form,
    Moment,
    TimeActivation,
    TimeShift,
    fit_channels,
    sign,
)

HEADS = 4
ATTENTION_SHARE = 0.35
"""A token attends to those whose score is above this share of its highest one."""
POOLINGS = ((1, 5), (5, 1), (1, 3), (3, 1))


class _Attention(torch.autograd.Function):
    """Which scores are above a share of the row's highest; the gradient is that of the softmax."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        ctx.save_for_backward(scores.softmax(dim=-1))
        return (scores > ATTENTION_SHARE * scores.amax(dim=-1, keepdim=True)).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (soft,) = ctx.saved_tensors
        return soft * (gradient - (gradient * soft).sum(dim=-1, keepdim=True))


def attend(scores: Tensor) -> Tensor:
    """Attention 0 or 1, not normalized; a row whose highest score is negative attends to nothing."""
    return _Attention.apply(scores)


class TimeScale(nn.Module):
    """x a(t) + s(t), both zero at first, so that a new branch is."""

    def __init__(self, form: Form, channels: int) -> None:
        super().__init__()
        self.factor, self.shift = TimeShift(form, channels), TimeShift(form, channels)

    def forward(self, maps: Tensor, moment: Moment) -> Tensor:
        """Maps (B, channels, h, w)."""
        return maps * self.factor(moment) + self.shift(moment)


class Projection(nn.Module):
    """Threshold, linear layer with batch norm, a skip that fits, activation."""

    def __init__(self, form: Form, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.threshold = TimeShift(form, inputs)
        self.linear = Convolution(form, inputs, outputs, kernel=1)
        self.activation = TimeActivation(form, outputs)

    def forward(self, tokens: Tensor, moment: Moment) -> Tensor:
        """(B, outputs, h, w) of (B, inputs, h, w)."""
        skip = fit_channels(tokens, self.outputs)
        return self.activation(self.linear(tokens + self.threshold(moment)) + skip, moment)


class CrossBlock(nn.Module):
    """Updates one stream of tokens; the questions come from the other one, which is the reverse of what is usual."""

    def __init__(self, form: Form, width: int) -> None:
        super().__init__()
        self.binary = form.binary
        self.query, self.key, self.value = (Projection(form, width, width) for _ in range(3))
        self.thresholds = nn.ModuleList(TimeShift(form, width) for _ in range(3))
        self.context_norm = nn.BatchNorm2d(width)
        self.context_activation = TimeActivation(form, width)
        self.output = Projection(form, width, width)
        self.output_scale = TimeScale(form, width)
        self.norm = nn.BatchNorm2d(width)
        self.expand, self.reduce = Projection(form, width, 4 * width), Projection(form, 4 * width, width)
        self.reduce_scale = TimeScale(form, width)
        self.pool_scales = nn.ModuleList(TimeScale(form, width) for _ in POOLINGS)

    def forward(self, tokens: Tensor, normed: Tensor, other: Tensor, moment: Moment) -> Tensor:
        """New tokens (B, C, h, w) of a stream.

        Args:
            tokens: The stream, (B, C, h, w).
            normed: The same after its norm.
            other: The other stream after its norm.
            moment: Where in the diffusion.
        """
        query, key, value = self.query(other, moment), self.key(normed, moment), self.value(normed, moment)
        seen = self._attended([query, key, value], moment)
        context = self.context_activation(self.context_norm(seen) + query + key + value, moment)
        tokens = tokens + self.output_scale(self.output(context, moment), moment)
        normed = self.norm(tokens)
        inner = self.reduce_scale(self.reduce(self.expand(normed, moment), moment), moment)
        for scale, kernel in zip(self.pool_scales, POOLINGS, strict=True):
            pooled = functional.avg_pool2d(normed, kernel, stride=1, padding=(kernel[0] // 2, kernel[1] // 2))
            inner = inner + scale(pooled, moment)
        return tokens + inner

    def _attended(self, parts: list[Tensor], moment: Moment) -> Tensor:
        """Values (B, C, h, w) that every token has looked up."""
        shape = parts[0].shape
        shifted = (part + shift(moment) for part, shift in zip(parts, self.thresholds, strict=True))
        heads = [(sign(part) if self.binary else part).flatten(2).unflatten(1, (HEADS, -1)) for part in shifted]
        query, key, value = heads
        scores = query.mT @ key / math.sqrt(key.shape[2])
        attention = attend(scores) if self.binary else scores.softmax(dim=-1)
        return (value @ attention.mT).reshape(shape)


class CrossTransformer(nn.Module):
    """Prior tokens learn from diffused ones, then diffused ones from the prior's.

    Args:
        form: Of the refiner.
        condition: Channels of the segmentor's feature map.
        width: Channels of the maps, a multiple of the heads.
        scrambled: Whether tokens become maps as in the authors' code, which fills maps channel by channel with numbers
            that lie token by token. Only for comparison with it.
    """

    def __init__(self, form: Form, condition: int, width: int, scrambled: bool = False) -> None:
        super().__init__()
        self.scrambled = scrambled
        self.condition = Condition(form, condition, width)
        self.prior_norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))
        self.diffused_norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))
        self.of_prior, self.of_diffused = CrossBlock(form, width), CrossBlock(form, width)

    def forward(self, maps: Tensor, condition: Tensor, moment: Moment) -> Tensor:
        """Maps (B, width, h, w); the condition (B or 1, width, h, w) is what ``self.condition`` gave."""
        prior = condition.expand_as(maps)
        diffused = self.diffused_norms[0](maps)
        prior = self.of_prior(prior, self.prior_norms[0](prior), diffused, moment)
        again = self.diffused_norms[1](diffused)  # normalized twice, as the authors do
        result = self.of_diffused(maps, again, self.prior_norms[1](prior), moment)
        return result.flatten(2).mT.reshape(result.shape) if self.scrambled else result
