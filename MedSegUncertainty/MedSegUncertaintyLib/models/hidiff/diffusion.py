"""Diffusion of masks by Bernoulli noise around a segmentor's probability.

Chen et al., "HiDiff: Hybrid Diffusion Framework for Medical Image Segmentation", IEEE TMI 2024 (arXiv:2407.03548). A
mask y0 of K binary channels turns in T steps into draws from the segmentor's probability f, every pixel and channel on
its own; a network undoes that step by step. Steps are counted from 0 (almost the mask) to T - 1 (almost B(f)).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

MAX_BETA = 0.999
"""Keeps a cosine schedule from forgetting everything in its last step."""
COSINE_OFFSET = 0.008
PRIOR_EPS = 1e-6
"""Distance of the prior from 0 and 1; at these a posterior can have no mass at all. Not in the official code."""
LOG_EPS = 1e-7
"""Inside of logarithms, as in the official code."""

Kind = Literal["cosine", "cosine2", "alpha_bar_linear"]
Predicts = Literal["noise", "mask", "correction"]


@dataclass(frozen=True)
class Schedule:
    """How fast a mask is forgotten.

    Attributes:
        betas: (T,), share of each step that is drawn anew from the prior; float64.
        steps: (T,), numbers under which the network knows the steps, ascending.
    """

    betas: Tensor
    steps: Tensor

    @classmethod
    def of(cls, kind: Kind, steps: int) -> Schedule:
        """Schedule from what is left of the mask after the share u of all steps.

        Args:
            kind: "cosine2" is cos^2 (Nichol and Dhariwal 2021), "cosine" its root, "alpha_bar_linear" 1 - u. The paper
                says "cosine" alone, and the authors' code has both.
            steps: T.
        """
        shares = torch.arange(steps + 1, dtype=torch.float64) / steps
        if kind == "alpha_bar_linear":
            left, largest = 1.0 - shares, 1.0
        elif kind in ("cosine", "cosine2"):
            left = ((shares + COSINE_OFFSET) / (1.0 + COSINE_OFFSET) * (math.pi / 2)).cos()
            left, largest = left if kind == "cosine" else left.square(), MAX_BETA
        else:
            raise ValueError(f'"{kind}" is no schedule; there are cosine, cosine2 and alpha_bar_linear')
        return cls((1.0 - left[1:] / left[:-1]).clamp(max=largest), torch.arange(steps))

    @property
    def kept(self) -> Tensor:
        """(T,), product of 1 - beta up to each step: what is left of the mask (alpha bar)."""
        return (1.0 - self.betas).cumprod(0)

    def at(self, chosen: Sequence[int]) -> Schedule:
        """The same forgetting in fewer steps.

        Args:
            chosen: Indices of the steps that stay, ascending.
        """
        kept = self.kept[list(chosen)]
        before = torch.cat([kept.new_ones(1), kept[:-1]])
        return Schedule(1.0 - kept / before, self.steps[list(chosen)])

    def trailing(self, count: int) -> Schedule:
        """``count`` evenly spread steps, the last one of all among them, so that a chain may begin with B(f)."""
        if not 1 <= count <= len(self.steps):
            raise ValueError(f"there are 1 to {len(self.steps)} steps, not {count}")
        spacing = len(self.steps) / count
        return self.at(sorted(round(len(self.steps) - index * spacing) - 1 for index in range(count)))


@dataclass(frozen=True)
class Step:
    """One step of a chain towards the mask.

    Attributes:
        predicted: (B, K, *spatial), probability of the mask as the network has it now.
        state: The drawn y_(t-1); after the last step, the prediction itself.
    """

    predicted: Tensor
    state: Tensor


@dataclass(frozen=True)
class Losses:
    """Of each item of a batch, (B,), in bits.

    Attributes:
        bound: Divergence of the true posterior from the network's; at step 0, the mask's negative log-likelihood.
        focal: Focal loss of what the network predicts.
    """

    bound: Tensor
    focal: Tensor


class BernoulliDiffusion:
    """Kernels, losses and chains of one schedule. States, priors and predictions are (B, K, *spatial).

    Args:
        schedule: Its steps are what ``t`` means below, counted from 0 within it.
        predicts: What the network gives, as a probability: "noise", that a pixel of y_t differs from y0, as in the
            paper; "mask", y0 itself; or "correction", whose log-odds are added to those that y0 has by y_t and f
            alone. One that corrects nothing, as before its training, ends near draws from f.
    """

    def __init__(self, schedule: Schedule, predicts: Predicts = "noise") -> None:
        if predicts not in ("noise", "mask", "correction"):
            raise ValueError(f'the network predicts "noise", "mask" or "correction", not "{predicts}"')
        self.schedule, self.predicts = schedule, predicts
        kept = schedule.kept
        self._kept = kept
        self._kept_before = torch.cat([kept.new_ones(1), kept[:-1]])

    def __len__(self) -> int:
        return len(self.schedule.steps)

    def mean(self, mask: Tensor, prior: Tensor, t: Tensor) -> Tensor:
        """Probability of y_t = 1 given the mask: abar_t y0 + (1 - abar_t) f; ``t`` is (B,)."""
        kept = _per_item(self._kept, t, mask)
        return kept * mask + (1.0 - kept) * prior

    def posterior(self, state: Tensor, mask: Tensor, prior: Tensor, t: Tensor) -> Tensor:
        """Probability of y_(t-1) = 1 given y_t and the mask, which may be a probability.

        By Bayes' rule for each value v: [alpha_t (y_t = v) + beta_t P(redrawn as y_t)] [abar_(t-1) P(y0 = v) +
        (1 - abar_(t-1)) P(f = v)].
        """
        prior = prior.clamp(PRIOR_EPS, 1.0 - PRIOR_EPS)
        beta, kept = _per_item(self.schedule.betas, t, state), _per_item(self._kept_before, t, state)
        redrawn = beta * (1.0 - state - prior).abs()
        one = ((1.0 - beta) * state + redrawn) * (kept * mask + (1.0 - kept) * prior)
        zero = ((1.0 - beta) * (1.0 - state) + redrawn) * (kept * (1.0 - mask) + (1.0 - kept) * (1.0 - prior))
        return one / (zero + one)

    def log_odds(self, state: Tensor, prior: Tensor, t: Tensor) -> Tensor:
        """Log-odds of y0 = 1 given y_t of the same pixel, if f is the probability of y0 = 1."""
        prior = prior.clamp(PRIOR_EPS, 1.0 - PRIOR_EPS)
        kept = _per_item(self._kept, t, state)
        redrawn = (1.0 - kept) * (1.0 - state - prior).abs()
        return prior.logit() + (kept * state + redrawn).log() - (kept * (1.0 - state) + redrawn).log()

    def calibrate(self, state: Tensor, prediction: Tensor, prior: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The mask that a prediction means, and the probability of y_(t-1) = 1 that follows; at t = 0 they agree."""
        match self.predicts:
            case "noise":
                mask = (state - prediction).abs()
            case "mask":
                mask = prediction
            case "correction":
                mask = (self.log_odds(state, prior, t) + prediction.logit(eps=PRIOR_EPS)).sigmoid()
        before = self.posterior(state, mask, prior, t)
        return mask, torch.where(_per_item(t == 0, t), mask, before)

    def interpolate(self, state: Tensor, mask: Tensor, t: Tensor) -> Tensor:
        """Probability of y_(t-1) = 1 as a mixture of state and mask, after DDIM; at t = 0 the mask.

        With sigma = (1 - abar_(t-1)) / (1 - abar_t): sigma y_t + (1 - sigma) y0, whatever the prior is.
        """
        kept, before = _per_item(self._kept, t, state), _per_item(self._kept_before, t, state)
        sigma = (1.0 - before) / (1.0 - kept)
        return sigma * state + (before - sigma * kept) * mask

    def losses(self, mask: Tensor, state: Tensor, prediction: Tensor, prior: Tensor, t: Tensor) -> Losses:
        """What one prediction costs, in the precision of ``mask``.

        Args:
            mask: y0, 0 or 1.
            state: y_t, drawn from :meth:`mean`.
            prediction: Of the network, in [0, 1].
            prior: f, in [0, 1].
            t: (B,), index of the step of each item.
        """
        with torch.autocast(mask.device.type, enabled=False):
            prediction, prior = prediction.to(mask.dtype), prior.to(mask.dtype)
            predicted, before = self.calibrate(state, prediction, prior, t)
            divergence = kl_divergence(self.posterior(state, mask, prior, t), before)
            likelihood = log_likelihood(mask, predicted)
            bound = _item_means(torch.where(_per_item(t == 0, t), -likelihood, divergence))
            if self.predicts == "noise":
                focal = focal_loss(prediction, (state - mask).abs())
            else:
                focal = focal_loss(predicted, mask)
        return Losses(bound / math.log(2.0), focal / math.log(2.0))

    def chain(
        self,
        predict: Callable[[Tensor, int], Tensor],
        prior: Tensor,
        uniform: Callable[[int], Tensor],
        kind: Literal["ancestral", "ddim"] = "ancestral",
    ) -> Iterator[Step]:
        """Walk from B(f) to a mask, one step of the schedule at a time.

        A pixel becomes 1 where its uniform number lies below its probability. The last step draws nothing.

        Args:
            predict: The network: from y_t and the index of a step.
            prior: f.
            uniform: The uniform numbers in [0, 1) of one draw, by how many draws came before it: 0 makes the first
                state.
            kind: "ancestral" draws from the posterior, "ddim" from :meth:`interpolate`.
        """
        state = (uniform(0) < prior).to(prior.dtype)
        for draw, index in enumerate(reversed(range(len(self))), start=1):
            t = torch.full((len(state),), index, device=state.device)
            predicted, before = self.calibrate(state, predict(state, index), prior, t)
            if index == 0:
                yield Step(predicted, predicted)
                return
            if kind == "ddim":
                before = self.interpolate(state, predicted, t)
            state = (uniform(draw) < before).to(prior.dtype)
            yield Step(predicted, state)


def kl_divergence(true: Tensor, found: Tensor) -> Tensor:
    """KL(B(true) || B(found)) in nats, elementwise; with the official guards against logarithms of 0."""
    ones = true * (true / (found + LOG_EPS)).clamp(min=LOG_EPS).log()
    zeros = (1.0 - true) * ((1.0 - true) / (1.0 - found + LOG_EPS)).clamp(min=LOG_EPS).log()
    return ones + zeros


def log_likelihood(mask: Tensor, probability: Tensor) -> Tensor:
    """Log of the probability of a mask in nats, elementwise."""
    inside = probability.clamp(LOG_EPS, 1.0 - LOG_EPS)
    return mask * inside.log() + (1.0 - mask) * (1.0 - inside).log()


def focal_loss(probability: Tensor, target: Tensor) -> Tensor:
    """Focal loss (Lin et al. 2017, gamma 2) in nats, mean of each item, (B,); the target may be soft."""
    entropy = functional.binary_cross_entropy(probability, target, reduction="none")
    return _item_means((1.0 - (-entropy).exp()).square() * entropy)


def _per_item(values: Tensor, t: Tensor, like: Tensor | None = None) -> Tensor:
    """``values`` (T,) at the steps ``t``, or values (B,), as (B, 1, 1, 1), in the precision of ``like``."""
    chosen = values if like is None else values.to(like.device)[t].to(like.dtype)
    return chosen.view(-1, 1, 1, 1)


def _item_means(values: Tensor) -> Tensor:
    return values.flatten(1).mean(dim=1)
