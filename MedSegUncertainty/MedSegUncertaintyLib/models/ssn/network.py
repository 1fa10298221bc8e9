"""Stochastic Segmentation Network: a backbone and three 1 x 1 heads that make a distribution over logit maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from MedSegUncertaintyLib.models.backbones import build_backbone
from MedSegUncertaintyLib.models.sampler import Encoding, NoiseField
from MedSegUncertaintyLib.models.ssn.distribution import LowRankNormal

MAX_LOG_DIAGONAL = 10.0
"""Keeps exp(log diagonal) finite in float32 when training goes astray."""


class SSN(nn.Module):
    """Heads for mean, low-rank factor and diagonal on any backbone (Monteiro et al. 2020, section 3.1).

    The channels of the factor head are rank-major, ``r * classes + c``, as in the authors' BraTS code; their LIDC code
    is class-major, so its weights need a permutation. A draw needs one vector ``w`` for the whole image and one number
    ``e`` per voxel and class, which makes it linear in the encoding: tiles can be blended before anything is drawn.

    Args:
        backbone: Network from (B, channels, *spatial) to (B, features, *spatial).
        spatial_dims: 2 or 3.
        channels: Image channels that the backbone takes.
        features: Channels that the backbone gives.
        classes: Number of classes with an explicit background; at least 2.
        rank: Number of columns of the factor.
        size_multiple: Spatial sizes must be a multiple of this, because of the backbone's poolings.
    """

    blendable = True
    controls = frozenset({"class_weights"})

    def __init__(
        self,
        backbone: nn.Module,
        spatial_dims: int,
        channels: int,
        features: int,
        classes: int,
        rank: int = 10,
        size_multiple: int = 16,
    ) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError("the loss needs a background class and at least one structure")
        self.spatial_dims = self.network_dims = spatial_dims
        self.channels, self.classes = channels, classes
        self.rank, self.size_multiple = rank, size_multiple
        convolution = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
        self.backbone = backbone
        self.mean_head = convolution(features, classes, 1)
        self.log_diagonal_head = convolution(features, classes, 1)
        self.factor_head = convolution(features, classes * rank, 1)

    def forward(self, image: Tensor) -> LowRankNormal:
        """Distribution over the logits of a batch (B, channels, *spatial)."""
        features = torch.relu(self.backbone(image))
        # In half precision the eps of the diagonal would drown in rounding.
        with torch.autocast(image.device.type, enabled=False):
            features = features.to(self.mean_head.weight.dtype)
            mean = self.mean_head(features)
            factor = self.factor_head(features).unflatten(1, (self.rank, self.classes))
            log_diagonal = self.log_diagonal_head(features).clamp(max=MAX_LOG_DIAGONAL)
            return LowRankNormal.from_log_diagonal(mean, factor, log_diagonal)

    def encode(self, image: Tensor) -> Encoding:
        """Mean, factor (flattened, rank-major) and standard deviation fields of one image (1, channels, *spatial)."""
        distribution = self(image)
        return {
            "mean": distribution.mean,
            "factor": distribution.factor.flatten(1, 2),
            "scale": distribution.diagonal.sqrt(),
        }

    def noise(self, encoding: Encoding) -> Mapping[str, NoiseField]:
        """One vector of ``rank`` numbers per draw, and one number per voxel and class."""
        return {"w": NoiseField(self.rank, "global"), "e": NoiseField(self.classes, "voxel")}

    def draw(
        self,
        encoding: Encoding,
        noise: Mapping[str, Tensor],
        *,
        class_weights: Tensor | None = None,
        rank_weights: Tensor | None = None,
    ) -> Tensor:
        """Logits mu + a (P (rho w) + sqrt(d) e) of S draws.

        Args:
            encoding: From :meth:`encode`.
            noise: "w" (S, rank) and "e" (S, classes, *spatial); scale both for a temperature, zero gives the mean.
            class_weights: ``a``, (classes,) or (S, classes); a negative weight mirrors the sample of that class.
            rank_weights: ``rho``, (rank,), weighs the directions of the factor.

        Returns:
            (S, classes, *spatial).
        """
        mean, scale = encoding["mean"], encoding["scale"]
        w = noise["w"] if rank_weights is None else noise["w"] * rank_weights
        factor = encoding["factor"].reshape(self.rank, -1)
        deviations = (w @ factor).view(len(w), *mean.shape[1:]).addcmul_(scale, noise["e"])
        if class_weights is not None:
            weights = class_weights.expand(len(w), self.classes)
            deviations = deviations * weights.view(*weights.shape, *[1] * self.spatial_dims)
        return deviations.add_(mean)


def build(arguments: Mapping[str, Any]) -> SSN:
    """SSN from the constructor arguments of a package.

    Args:
        arguments: ``backbone`` (see :func:`~MedSegUncertaintyLib.models.backbones.build_backbone`), ``spatial_dims``,
            ``channels``, ``features``, ``classes`` and optionally ``rank``.
    """
    settings = dict(arguments)
    backbone, size_multiple = build_backbone(
        settings.pop("backbone"), settings["spatial_dims"], settings["channels"], settings["features"]
    )
    return SSN(backbone, size_multiple=size_multiple, **settings)
