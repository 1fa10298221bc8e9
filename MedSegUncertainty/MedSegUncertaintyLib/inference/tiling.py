"""Tiles: cut a volume into overlapping pieces and blend what comes back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from torch import Tensor
from torch.nn import functional

Slices = tuple[slice, ...]

OVERLAP = 0.5
"""Share of a tile that it has in common with its neighbor."""


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Image (1, channels, *spatial) padded at the far ends to a multiple of ``multiple`` along each axis.

    With zeros, as training pads; after a z-score that is the mean intensity.
    """
    padding = [part for size in reversed(image.shape[2:]) for part in (0, -size % multiple)]
    return functional.pad(image, padding)


def tile_regions(shape: tuple[int, ...], tile: tuple[int, ...]) -> list[Slices]:
    """Regions of overlapping tiles that cover a grid; a single one if the grid fits into the tile."""
    size = tuple(min(a, b) for a, b in zip(shape, tile, strict=True))
    step = tuple(a if a == b else max(1, int(b * (1 - OVERLAP))) for a, b in zip(shape, size, strict=True))
    return list(dense_patch_slices(shape, size, step))


def blend(parts: Iterable[tuple[Slices, Mapping[str, Tensor]]], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Weighted mean of overlapping fields, with MONAI's Gaussian importance of a tile.

    Args:
        parts: Region and fields (S, channels, *region) of each tile.
        shape: Shape of the whole grid.

    Returns:
        Fields (S, channels, *shape) under the same names.
    """
    sums: dict[str, Tensor] = {}
    weights: Tensor | None = None
    for region, fields in parts:
        first = next(iter(fields.values()))
        if tuple(first.shape[2:]) == shape:
            return dict(fields)
        importance = compute_importance_map(
            tuple(first.shape[2:]), mode="gaussian", sigma_scale=0.125, device=first.device, dtype=torch.float32
        )
        # The Gaussian underflows to zero in the corners of a large tile, which may be all that covers a voxel.
        importance = importance.clamp(min=1e-3)
        if weights is None:
            weights = first.new_zeros(shape)
            sums = {name: field.new_zeros((*field.shape[:2], *shape)) for name, field in fields.items()}
        weights[region] += importance
        for name, field in fields.items():
            sums[name][(slice(None), slice(None), *region)].addcmul_(field, importance)
    if weights is None:
        raise ValueError("no tile was given")
    return {name: total.div_(weights) for name, total in sums.items()}
