"""Low-rank multivariate normal over a logit map, without a factorization.

Monteiro et al., "Stochastic Segmentation Networks", NeurIPS 2020, section 3: eta ~ N(mu, P P^T + D). Sampling and the
Monte-Carlo loss need only ``mu + P w + sqrt(d) e``; the R x R capacitance matrix is factorized nowhere but in
:meth:`LowRankNormal.entropy` and :meth:`LowRankNormal.log_prob`, in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

DIAGONAL_EPS = 1e-5
"""Added to exp(log diagonal), as in the official code."""


@dataclass(frozen=True)
class LowRankNormal:
    """Normal distribution over B logit maps of C classes.

    Attributes:
        mean: (B, C, *spatial).
        factor: (B, R, C, *spatial), the columns of P.
        diagonal: (B, C, *spatial), the variances d > 0.
    """

    mean: Tensor
    factor: Tensor
    diagonal: Tensor

    @classmethod
    def from_log_diagonal(cls, mean: Tensor, factor: Tensor, log_diagonal: Tensor) -> LowRankNormal:
        """Distribution whose diagonal is exp(log_diagonal) + 1e-5."""
        return cls(mean, factor, log_diagonal.exp() + DIAGONAL_EPS)

    def masked(self, mask: Tensor) -> LowRankNormal:
        """No covariance outside a region: P times mask, d times mask plus 1e-5; the mean stays.

        Args:
            mask: (B, *spatial), 1 inside.
        """
        inside = mask.unsqueeze(1).to(self.mean.dtype)
        return LowRankNormal(self.mean, self.factor * inside.unsqueeze(1), self.diagonal * inside + DIAGONAL_EPS)

    @property
    def variance(self) -> Tensor:
        """Marginal variances d + sum_r P_r^2, (B, C, *spatial)."""
        return self.diagonal + self.factor.square().sum(dim=1)

    def deviations(self, w: Tensor, e: Tensor) -> Tensor:
        """P w + sqrt(d) e for S draws.

        Args:
            w: (S, B, R) standard normal, one vector per image and draw.
            e: (S, B, C, *spatial) standard normal.

        Returns:
            (S, B, C, *spatial).
        """
        low_rank = torch.einsum("sbr,br...->sb...", w, self.factor)
        return low_rank + self.diagonal.sqrt() * e

    def sample(self, w: Tensor, e: Tensor) -> Tensor:
        """Logits mu + P w + sqrt(d) e of S draws, (S, B, C, *spatial)."""
        return self.mean + self.deviations(w, e)

    def antithetic_sample(self, w: Tensor, e: Tensor) -> Tensor:
        """The S draws followed by their mirror images about the mean, (2 S, B, C, *spatial)."""
        deviations = self.deviations(w, e)
        return torch.cat([self.mean + deviations, self.mean - deviations])

    def entropy(self) -> Tensor:
        """Differential entropy in nats, (B,), float64."""
        factor, diagonal = self._flat()
        size = diagonal.shape[1]
        return 0.5 * (size * (1.0 + math.log(2.0 * math.pi)) + self._log_determinant(factor, diagonal))

    def log_prob(self, logits: Tensor) -> Tensor:
        """Log density of logit maps (B, C, *spatial), in nats, (B,), float64."""
        factor, diagonal = self._flat()
        size = diagonal.shape[1]
        offset = (logits - self.mean).double().flatten(1)
        # Woodbury: (P P^T + D)^-1 = D^-1 - D^-1 P (I + P^T D^-1 P)^-1 P^T D^-1
        projected = torch.einsum("brn,bn->br", factor, offset / diagonal)
        solved = torch.linalg.solve(self._capacitance(factor, diagonal), projected)
        distance = (offset.square() / diagonal).sum(dim=1) - (projected * solved).sum(dim=1)
        determinant = self._log_determinant(factor, diagonal)
        return -0.5 * (size * math.log(2.0 * math.pi) + determinant + distance)

    def _flat(self) -> tuple[Tensor, Tensor]:
        return self.factor.double().flatten(2), self.diagonal.double().flatten(1)

    @staticmethod
    def _capacitance(factor: Tensor, diagonal: Tensor) -> Tensor:
        inner = torch.einsum("brn,bsn->brs", factor / diagonal.unsqueeze(1), factor)
        return inner + torch.eye(inner.shape[-1], dtype=inner.dtype, device=inner.device)

    @classmethod
    def _log_determinant(cls, factor: Tensor, diagonal: Tensor) -> Tensor:
        return torch.linalg.slogdet(cls._capacitance(factor, diagonal)).logabsdet + diagonal.log().sum(dim=1)
