"""Monte-Carlo negative log-likelihood of Stochastic Segmentation Networks (Monteiro et al. 2020, equation 4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from MedSegUncertaintyLib.models.ssn.distribution import LowRankNormal


def ssn_loss(distribution: LowRankNormal, target: Tensor, w: Tensor, e: Tensor, *, antithetic: bool = True) -> Tensor:
    """Negative log of the mean over draws of the likelihood of the whole label map, averaged over the batch.

    ``-(1/B) sum_b [ logsumexp_s sum_v log softmax(eta_s)_{y_v} - log S ]``: a sum over voxels, so its size grows with
    the image. Runs in float32 (or float64, if the distribution is) even under autocast: exponentials of sums over
    tens of thousands of voxels do not survive half precision.

    Args:
        distribution: Over the logits of the batch.
        target: (B, *spatial) class indices.
        w: (S, B, R) standard normal.
        e: (S, B, C, *spatial) standard normal.
        antithetic: Whether the mirrored draws are used as well (official BraTS code) or only the plain ones
            (official LIDC code).

    Returns:
        Scalar, nats.
    """
    with torch.autocast(target.device.type, enabled=False):
        dtype = torch.promote_types(distribution.mean.dtype, torch.float32)
        full = LowRankNormal(
            *(part.to(dtype) for part in (distribution.mean, distribution.factor, distribution.diagonal))
        )
        draw = full.antithetic_sample if antithetic else full.sample
        logits = draw(w.to(dtype), e.to(dtype))
        log_likelihood = _log_likelihood(logits, target).flatten(2).sum(dim=2)
        return (math.log(len(logits)) - torch.logsumexp(log_likelihood, dim=0)).mean()


def _log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    """Log softmax of logits (S, B, C, *spatial) at the target (B, *spatial): (S, B, *spatial)."""
    count, batch, classes = logits.shape[:3]
    if classes == 2:  # the same number from one logistic function, in half of the time
        background, structure = logits.unbind(dim=2)
        return functional.logsigmoid((structure - background) * (2 * target - 1))
    labels = target.expand(count, *target.shape).flatten(0, 1)
    return -functional.cross_entropy(logits.flatten(0, 1), labels, reduction="none").unflatten(0, (count, batch))
