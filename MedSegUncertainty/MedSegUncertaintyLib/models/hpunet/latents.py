"""What the ladder knows of one scale: a normal distribution per cell of its grid."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Normal:
    """Independent normal distributions of the latent maps of one scale.

    Attributes:
        mean: (B, latents, *cells).
        log_scale: (B, latents, *cells), logarithm of the standard deviation.
    """

    mean: Tensor
    log_scale: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """The latents that standard normal ``noise`` stands for; zero gives the mean."""
        return self.mean + self.log_scale.exp() * noise


def kl_divergence(posterior: Normal, prior: Normal) -> Tensor:
    """KL(posterior || prior) in nats: summed over channels and cells, averaged over the batch; a scalar."""
    return divergence_per_image(posterior, prior).mean()


def divergence_per_image(posterior: Normal, prior: Normal) -> Tensor:
    """KL(posterior || prior) in nats, summed over channels and cells, (B,)."""
    ratio = posterior.log_scale - prior.log_scale
    distance = (posterior.mean - prior.mean) * (-prior.log_scale).exp()
    cells = 0.5 * ((2.0 * ratio).exp() + distance.square() - 1.0) - ratio
    return cells.flatten(1).sum(dim=1)
