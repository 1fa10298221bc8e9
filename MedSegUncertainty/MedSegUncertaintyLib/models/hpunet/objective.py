"""What training of the Hierarchical Probabilistic U-Net minimizes in one step."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from MedSegUncertaintyLib.models.hpunet.latents import kl_divergence
from MedSegUncertaintyLib.models.hpunet.network import HPUNet

FIRST_VARIABLE = math.log(math.e - 1.0)
"""Value of v at which the multiplier softplus(v)^2 is 1."""
GUMBEL_EPS = 1e-20


class HPUNetObjective(nn.Module):
    """Cross-entropy of the hardest pixels and the KL divergence of every scale (Kohl et al. 2019, section 3).

    Both are sums over pixels and cells, averaged over the batch. The paper's rule ("geco") asks for a cross-entropy of
    ``kappa`` per pixel and lets the multiplier of that constraint find its own value; "elbo" weighs the divergence with
    ``beta`` instead.

    The authors decay weights by Keras' l2(1e-5), biases included: its gradient is 2e-5 w, so it equals the coupled
    weight decay 2e-5 of Adam (that term is not part of their published loss function). A recipe's AdamW decays
    uncoupled from the gradients: in a step of learning rate r every weight shrinks by r times ``weight_decay``.

    Attributes:
        rate_scale: Learning rate of the multiplier's variable, relative to that of the weights.
        constraint: The multiplier and its moving average; ``None`` with "elbo".
    """

    def __init__(
        self,
        kind: Literal["geco", "elbo"] = "geco",
        kappa: float = 0.05,
        decay: float = 0.99,
        top_k: float | None = 0.02,
        beta: float = 1.0,
        rate_scale: float = 1.0,
    ) -> None:
        """Objective from a recipe's settings.

        Args:
            kind: Rule that balances the two terms.
            kappa: Cross-entropy per selected pixel that "geco" asks for, nats.
            decay: Of the moving average that "geco" looks at.
            top_k: Share of a batch's pixels that count in a step; all without it.
            beta: Weight of the divergence with "elbo".
            rate_scale: See the attribute.
        """
        super().__init__()
        if kind not in ("geco", "elbo"):
            raise TypeError(f'kind is "geco" or "elbo", not "{kind}"')
        self.top_k, self.beta, self.rate_scale = top_k, beta, rate_scale
        self.constraint = Constraint(kappa, decay) if kind == "geco" else None

    def forward(
        self, model: HPUNet, image: Tensor, target: Tensor, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses of one batch; "loss" is the one to minimize, "cross entropy" is per selected pixel.

        Args:
            model: The network.
            image: (B, channels, *spatial).
            target: (B, *spatial) class indices.
            step: Number of the step, counted from 0.
            generator: Source of latents and selected pixels, on the device of ``image``.
        """
        noise = [
            torch.randn(len(image), *shape, generator=generator, device=image.device)
            for shape in model.latent_shapes(image.shape[2:])
        ]
        found = model(image, target, noise)
        gumbel = None
        if self.top_k is not None:
            gumbel = gumbel_noise(torch.rand(target.numel(), generator=generator, device=image.device))
        per_pixel, pixels = cross_entropy(found.logits, target, self.top_k, gumbel)[:2]
        divergences = [kl_divergence(*pair) for pair in zip(found.posterior, found.prior, strict=True)]
        kl = torch.stack(divergences).sum()
        losses = {f"kl scale {scale}": value for scale, value in enumerate(divergences)}
        losses |= {"kl": kl, "cross entropy": per_pixel}
        if self.constraint is None:
            return {**losses, "loss": per_pixel * pixels + self.beta * kl}
        weighted = self.constraint(per_pixel, pixels)
        losses |= {"multiplier": self.constraint.multiplier(), "mean cross entropy": self.constraint.average.clone()}
        return {**losses, "loss": weighted + kl}


class Constraint(nn.Module):
    """Lagrange multiplier of "the cross-entropy per pixel is at most kappa" (GECO; Rezende and Viola 2018).

    The multiplier is softplus(v)^2. Its variable v climbs where the weights descend; as Adam does not mind the scale of
    a gradient, the authors' factor of 0.01 on it is left out. The violation is judged by a moving average, whose
    gradient is that of the newest value. The average is one per pixel, so that patches of another size go on from it;
    for a fixed number of pixels that is the authors' average of sums.
    """

    average: Tensor

    def __init__(self, kappa: float, decay: float) -> None:
        super().__init__()
        self.kappa, self.decay = kappa, decay
        self.variable = nn.Parameter(torch.tensor(FIRST_VARIABLE))
        self.register_buffer("average", torch.tensor(math.nan))  # until the first value is known

    def multiplier(self) -> Tensor:
        """Its present value, a scalar; descending on it climbs."""
        # Zero is added, so the value is exact, and the gradient changes its sign.
        ascending = self.variable.detach() + (self.variable.detach() - self.variable)
        return functional.softplus(ascending).square()

    def forward(self, per_pixel: Tensor, pixels: Tensor) -> Tensor:
        """The weighted violation in one batch, a scalar; the moving average goes on by one value.

        Args:
            per_pixel: Cross-entropy per selected pixel.
            pixels: Selected pixels per image.
        """
        newest = per_pixel.detach()
        average = torch.where(self.average.isnan(), newest, self.decay * self.average + (1.0 - self.decay) * newest)
        self.average.copy_(average)
        return self.multiplier() * pixels * (average + (per_pixel - newest) - self.kappa)


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    top_k: float | None = None,
    gumbel: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of a batch, or of a share of its pixels that is drawn in proportion to it.

    Pixels are drawn from the whole batch without replacement, by Gumbel's trick; those that the mask leaves out count
    in their number, but are drawn last and then dropped. Gradients flow through the drawn pixels alone.

    Args:
        logits: (B, classes, *spatial).
        labels: (B, *spatial) class indices.
        top_k: Share of the pixels.
        gumbel: (B * pixels,), from :func:`gumbel_noise`; without it the pixels of the highest cross-entropy are taken.
        mask: (B, *spatial), 1 where pixels count, 0 elsewhere.

    Returns:
        Mean over the selected pixels, their number per image, and where they are, (B, *spatial).
    """
    values = functional.cross_entropy(logits.float(), labels, reduction="none")
    selected = torch.ones_like(values) if mask is None else mask.to(values.dtype)
    if top_k is not None:
        # The authors' product is one of single precision.
        count = math.floor(np.float32(values.numel()) * np.float32(top_k))
        fixed = values.detach()
        scores = (fixed / fixed.sum()).log().flatten() + selected.log().flatten()
        if gumbel is not None:
            scores = scores + gumbel
        drawn = torch.zeros_like(scores).index_fill_(0, scores.topk(count, sorted=False).indices, 1.0)
        selected = selected * drawn.view_as(values)
    return (selected * values).sum() / selected.sum(), selected.sum() / len(values), selected


def gumbel_noise(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise from uniform numbers in [0, 1)."""
    return -(-(uniform + GUMBEL_EPS).log() + GUMBEL_EPS).log()
