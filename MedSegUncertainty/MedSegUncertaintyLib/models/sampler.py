"""The contract that every model family meets: encode an image once, then draw as many segmentations as wanted.

Noise always comes from outside (see ``inference.noise``), so a draw can be reproduced, frozen, scaled or interpolated,
and means the same hypothesis in every tile and slice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

Encoding = Mapping[str, "Tensor"]
"""Everything about an image that does not depend on the draw: named fields (1, channels, *spatial)."""


@dataclass(frozen=True)
class NoiseField:
    """Standard normal noise that one draw needs under one name.

    Attributes:
        channels: Numbers per draw ("global"), per slice ("slices"), per voxel ("voxel") or per cell ("grid").
        layout: "global": one vector for the whole image, (S, channels). "slices": a stationary Gaussian process along
            the first axis, (S, channels, slices). "voxel": a field tied to the voxels of the model's grid,
            (S, channels, *spatial). "grid": likewise of coarser cells, (S, channels, *cells), the first of which begins
            at the grid's first voxel. Overlapping tiles get the same values.
        correlation: Correlation length along the first axis, in its voxels: of "slices", and of "grid" where its cells
            are one slice thick.
        strides: Voxels that a cell of "grid" is wide along each axis.
    """

    channels: int
    layout: Literal["global", "slices", "voxel", "grid"]
    correlation: float = 0.0
    strides: tuple[int, ...] = ()


def scale_name(scale: int) -> str:
    """Name of the noise field of a scale, counted from the coarsest, in families whose draws have scales."""
    return f"scale {scale}"


class Sampler(Protocol):
    """What inference knows of a model.

    Attributes:
        spatial_dims: Of the images that it takes, 2 or 3.
        network_dims: Of what its network sees at once; 2 for a model that walks through a volume slice by slice.
        channels: Number of image channels.
        classes: Number of output classes, background (0) included.
        size_multiple: Every spatial size of an image given to :meth:`encode` must be a multiple of this; one number for
            all axes or one along each. A tile begins at multiples of it, too.
        blendable: Whether a draw is linear in the fields of the encoding, so that tiles may be blended before drawing.
        controls: Further arguments of :meth:`draw` that a request may give: "class_weights"; "scales", a factor of the
            noise fields "scale 0", "scale 1", ... (see :func:`scale_name`); "steps", in how many steps to draw, as one
            element.
    """

    spatial_dims: int
    network_dims: int
    channels: int
    classes: int
    size_multiple: int | tuple[int, ...]
    blendable: bool
    controls: frozenset[str]

    def encode(self, image: Tensor) -> Encoding:
        """Encode one image (1, channels, *spatial)."""
        ...

    def noise(self, encoding: Encoding) -> Mapping[str, NoiseField]:
        """Which noise one draw from this encoding needs."""
        ...

    def draw(self, encoding: Encoding, noise: Mapping[str, Tensor], **controls: Tensor) -> Tensor:
        """Logits (S, classes, *spatial) of the S draws whose noise is given."""
        ...


@dataclass(frozen=True)
class Reconstructed:
    """Segmentations as a model's latents can say them.

    Attributes:
        logits: (R, classes, *spatial), for the latents that are most likely given each of R segmentations.
        divergences: (R, scales), KL divergence in nats of posterior and prior at each scale, coarsest first.
    """

    logits: Tensor
    divergences: Tensor


@runtime_checkable
class Reconstructing(Protocol):
    """What a sampler has besides if it can find the latents of a given segmentation."""

    def reconstruct(
        self, encoding: Encoding, image: Tensor, labels: Tensor, noise: Mapping[str, Tensor]
    ) -> Reconstructed:
        """Find segmentations again.

        Args:
            encoding: Of the image.
            image: (1, channels, *spatial).
            labels: (R, *spatial), class indices.
            noise: As for R draws; the divergences of finer scales depend on what is drawn at the coarser ones.
        """
        ...


@runtime_checkable
class Packable(Protocol):
    """What a sampler has besides if packages hold a smaller twin of it, which is built with ``packed = true``."""

    def packed_state(self) -> Mapping[str, Tensor]:
        """State of the twin; of one that is packed already, its own."""
        ...
