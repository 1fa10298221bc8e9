"""Walk a 2D model through a volume, slice by slice, with one hypothesis per sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from MedSegUncertaintyLib.inference.tiling import per_axis
from MedSegUncertaintyLib.models.sampler import Encoding, NoiseField

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.registry import SamplerModule


class SliceWalker(nn.Module):
    """A 2D sampler as a sampler of volumes (1, channels, slices, rows, columns).

    Every slice is encoded on its own. Noise that is one vector per image, or one per cell of a coarser grid, becomes a
    process along the slices whose neighbors are correlated, so that a sample which draws the border wide in one slice
    does so in the next; noise tied to voxels stays tied to them.

    Args:
        model: The 2D sampler.
        correlation: Correlation length of the process in slices: at this distance the correlation is exp(-1/2).
    """

    spatial_dims, network_dims = 3, 2

    def __init__(self, model: SamplerModule, correlation: float) -> None:
        super().__init__()
        self.model, self.correlation = model, correlation
        self.channels, self.classes, self.blendable = model.channels, model.classes, model.blendable
        self.controls = model.controls
        self.size_multiple = (1, *per_axis(model.size_multiple, 2))

    def encode(self, image: Tensor) -> Encoding:
        """Fields (1, F, slices, ...) of all slices."""
        slices = [self.model.encode(part) for part in image.unbind(dim=2)]
        return {name: torch.stack([part[name] for part in slices], dim=2) for name in slices[0]}

    def noise(self, encoding: Encoding) -> Mapping[str, NoiseField]:
        """As the 2D sampler asks for, with vectors of the image and of cells as processes along the slices."""
        fields = self.model.noise(_slice_of(encoding, 0))
        return {name: self._along_slices(field) for name, field in fields.items()}

    def _along_slices(self, field: NoiseField) -> NoiseField:
        match field.layout:
            case "global":
                return replace(field, layout="slices", correlation=self.correlation)
            case "grid":
                return replace(field, strides=(1, *field.strides), correlation=self.correlation)
            case _:
                return field

    def draw(self, encoding: Encoding, noise: Mapping[str, Tensor], **controls: Tensor) -> Tensor:
        """Logits (S, classes, slices, rows, columns)."""
        count = next(iter(encoding.values())).shape[2]
        slices = (self.model.draw(_slice_of(encoding, k), _slice_of(noise, k), **controls) for k in range(count))
        return torch.stack(list(slices), dim=2)


def _slice_of(fields: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    return {name: field[:, :, index] for name, field in fields.items()}
