"""DeepMedic, the backbone of the SSN authors' BraTS experiments, and their checkpoints by name.

Kamnitsas et al., "Efficient multi-scale 3D CNN ...", Medical Image Analysis 2017, in the variant of Monteiro et al.,
"Stochastic Segmentation Networks", NeurIPS 2020. The default arguments are those of the published checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from MedSegUncertaintyLib.errors import PackageError

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.ssn.network import SSN

AUTHORS_HEADS = {"mean_head": "mean_l", "log_diagonal_head": "log_cov_diag_l", "factor_head": "cov_factor_l"}


class DeepMedic(nn.Module):
    """Parallel paths of valid 3^n convolutions, each on its own subsampled view of the image, joined by 1^n ones.

    Valid convolutions lose ``context`` voxels on each side: 110^3 voxels become 30^3, which is how the authors train.
    With ``pad`` the image is surrounded by that many zeros first, and features have its size.

    A path of factor f computes one value for f^n voxels. Where sizes are multiples of ``size_multiple``, the grid of
    these blocks begins at voxel 0. The features of a tile are therefore, in evaluation mode, exactly those of the whole
    image if the tile begins at a multiple of ``size_multiple``, as all tiles of inference do whose edge is an even
    multiple, and the voxel lies at least ``context`` voxels inside of the tile. At any other offset the coarse paths
    sample other voxels, and features differ; nearer to the edge, zeros of the padding are in view.

    Args:
        spatial_dims: 2 or 3.
        channels: Image channels.
        features: Channels of the feature map.
        factors: Subsampling of each path.
        widths: Channels of the convolutions of each path.
        joint: Channels of the 1^n convolutions before the last one, which gives the features.
        dropout: Probability in all 1^n convolutions but the first.
        pad: Whether features have the size of the image.

    Attributes:
        context: Voxels around the features, on each side, that the network sees.
        size_multiple: Least common multiple of the factors; sizes of features should be multiples of it, and must be
            multiples of the largest factor.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        features: int,
        factors: Sequence[int] = (5, 3, 1),
        widths: Sequence[int] = (30, 30, 40, 40, 40, 40, 50, 50),
        joint: Sequence[int] = (250, 250),
        dropout: float = 0.5,
        pad: bool = True,
    ) -> None:
        super().__init__()
        self.spatial_dims, self.factors, self.pad = spatial_dims, tuple(factors), pad
        self.context = len(widths) * max(factors)
        self.size_multiple = math.lcm(*factors)
        self.paths = nn.ModuleList(
            nn.Sequential(
                *(
                    Block(spatial_dims, inputs, outputs, kernel=3, activate=index > 0)
                    for index, (inputs, outputs) in enumerate(pairwise((channels, *widths)))
                )
            )
            for _ in factors
        )
        self.joint = nn.Sequential(
            *(
                Block(spatial_dims, inputs, outputs, kernel=1, dropout=dropout if index > 0 else 0.0)
                for index, (inputs, outputs) in enumerate(pairwise((len(factors) * widths[-1], *joint, features)))
            )
        )

    def forward(self, image: Tensor) -> Tensor:
        """Features (B, features, *spatial) of a batch (B, channels, *spatial).

        Raises:
            ValueError: The image is too small, or its size does not fit the factors.
        """
        if self.pad:
            image = functional.pad(image, [self.context] * (2 * self.spatial_dims))
        size = [edge - 2 * self.context for edge in image.shape[2:]]
        if any(edge < 1 or edge % max(self.factors) for edge in size):
            raise ValueError(f"features would have the size {size}, no multiple of {max(self.factors)}")
        views = zip(self.paths, self.factors, strict=True)
        return self.joint(torch.cat([self._look(path, factor, image, size) for path, factor in views], dim=1))

    def _look(self, path: nn.Module, factor: int, image: Tensor, size: Sequence[int]) -> Tensor:
        """What one path makes of the center of the image, on the voxels of the features."""
        reach = factor * self.context // max(self.factors)
        seen = center_crop(image, [math.ceil(edge / factor) * factor + 2 * reach for edge in size])
        coarse = seen[(slice(None), slice(None), *[slice(factor // 2, None, factor)] * self.spatial_dims)]
        return center_crop(functional.interpolate(path(coarse), scale_factor=factor, mode="nearest"), size)


class Block(nn.Module):
    """Batch norm, dropout, PReLU and a valid convolution without bias; a residual where the widths agree.

    Without ``activate`` only the convolution runs, as for the first layer of a path; norm and PReLU exist all the same,
    because they are in the authors' checkpoints.
    """

    def __init__(
        self, dims: int, inputs: int, outputs: int, kernel: int, dropout: float = 0.0, activate: bool = True
    ) -> None:
        super().__init__()
        self.activate = activate
        self.norm = nn.BatchNorm3d(inputs) if dims == 3 else nn.BatchNorm2d(inputs)
        self.dropout = nn.Dropout(dropout)
        self.prelu = nn.PReLU()
        self.conv = (nn.Conv3d if dims == 3 else nn.Conv2d)(inputs, outputs, kernel, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, outputs, *spatial) of maps (B, inputs, *spatial)."""
        result = self.conv(self.prelu(self.dropout(self.norm(maps))) if self.activate else maps)
        return result + center_crop(maps, result.shape[2:]) if result.shape[1] == maps.shape[1] else result


def center_crop(maps: Tensor, size: Sequence[int]) -> Tensor:
    """The middle (B, C, *size) of maps (B, C, *spatial)."""
    starts = [whole // 2 - part // 2 for whole, part in zip(maps.shape[2:], size, strict=True)]
    inside = (slice(start, start + part) for start, part in zip(starts, size, strict=True))
    return maps[(slice(None), slice(None), *inside)]


def authors_state_dict(model: SSN | DeepMedic) -> dict[str, Tensor]:
    """The state of a model under the names of the authors' BraTS code; the tensors are the model's own.

    Args:
        model: SSN on DeepMedic, or DeepMedic alone, whose features then are the logits of their deterministic
            benchmark.
    """
    backbone = model if isinstance(model, DeepMedic) else model.backbone
    if not isinstance(backbone, DeepMedic):
        raise TypeError("only models on DeepMedic have counterparts among the authors' checkpoints")
    return {_authors_name(name, backbone): tensor for name, tensor in model.state_dict().items()}


def _authors_name(name: str, backbone: DeepMedic) -> str:
    match name.removeprefix("backbone.").split("."):
        case ["paths", path, block, *rest]:
            factors = (backbone.factors[int(path)],) * backbone.spatial_dims
            return ".".join([f"path{factors}{path}", "path", str(int(block) + 1), *rest])
        case ["joint", *rest]:
            return ".".join(["fully_connected", *rest])
        case [head, *rest]:
            return ".".join([AUTHORS_HEADS[head], *rest])
    raise AssertionError(name)


def load_authors_state_dict(model: SSN | DeepMedic, state: Mapping[str, Tensor]) -> None:
    """Copy the weights of a checkpoint of the authors' BraTS code into a model, all of them or none.

    Args:
        model: As for :func:`authors_state_dict`.
        state: Tensors by the authors' names.

    Raises:
        PackageError: A name is missing or unexpected, or a tensor has another shape.
    """
    own = authors_state_dict(model)
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    wrong = [name for name in own if name in state and state[name].shape != own[name].shape]
    if missing or unexpected or wrong:
        if missing:
            first = f"{missing[0]!r} is missing"
        elif unexpected:
            first = f"{unexpected[0]!r} is unexpected"
        else:
            first = f"{wrong[0]!r} has shape {list(state[wrong[0]].shape)} instead of {list(own[wrong[0]].shape)}"
        raise PackageError(
            f"The checkpoint does not fit this DeepMedic: {first} ({len(missing)} missing, {len(unexpected)} "
            f"unexpected, {len(wrong)} of another shape); nothing was loaded."
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])
