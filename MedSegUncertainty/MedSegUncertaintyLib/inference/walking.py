"""Walk a 2D model through a volume, slice by slice, with one hypothesis per sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from MedSegUncertaintyLib.models.sampler import Encoding, NoiseField

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.registry import SamplerModule


class SliceWalker(nn.Module):
    """A 2D sampler as a sampler of volumes (1, channels, slices, rows, columns).

    Every slice is encoded on its own. Noise that is one vector per image becomes a process along the slices whose
    neighbors are correlated, so that a sample which draws the border wide in one slice does so in the next; noise tied
    to voxels stays tied to them.

    Args:
        model: The 2D sampler.
        correlation: Correlation length of the process in slices: at this distance the correlation is exp(-1/2).
    """

    spatial_dims, network_dims, size_multiple = 3, 2, 1

    def __init__(self, model: SamplerModule, correlation: float) -> None:
        super().__init__()
        self.model, self.correlation = model, correlation
        self.channels, self.classes, self.blendable = model.channels, model.classes, model.blendable
        self.controls = model.controls

    def encode(self, image: Tensor) -> Encoding:
        """Fields (1, F, slices, rows, columns) of all slices."""
        rows, columns = image.shape[3:]
        padding = (0, -columns % self.model.size_multiple, 0, -rows % self.model.size_multiple)
        slices = [self.model.encode(functional.pad(part, padding)) for part in image.unbind(dim=2)]
        return {name: torch.stack([part[name] for part in slices], dim=2)[..., :rows, :columns] for name in slices[0]}

    def noise(self, encoding: Encoding) -> Mapping[str, NoiseField]:
        """As the 2D sampler asks for, with vectors of the image as processes along the slices."""
        fields = self.model.noise(_slice_of(encoding, 0))
        return {
            name: replace(field, layout="slices", correlation=self.correlation) if field.layout == "global" else field
            for name, field in fields.items()
        }

    def draw(self, encoding: Encoding, noise: Mapping[str, Tensor], **controls: Tensor) -> Tensor:
        """Logits (S, classes, slices, rows, columns)."""
        count = next(iter(encoding.values())).shape[2]
        slices = (self.model.draw(_slice_of(encoding, k), _slice_of(noise, k), **controls) for k in range(count))
        return torch.stack(list(slices), dim=2)


def _slice_of(fields: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    return {name: field[:, :, index] for name, field in fields.items()}
