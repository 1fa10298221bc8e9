"""Tiles: cut a volume into overlapping pieces and blend what comes back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from torch import Tensor
from torch.nn import functional

Slices = tuple[slice, ...]

OVERLAP = 0.5
"""Share of a tile that it has in common with its neighbor."""


def per_axis(multiple: int | tuple[int, ...], dims: int) -> tuple[int, ...]:
    """A sampler's ``size_multiple`` along each of ``dims`` axes."""
    return (multiple,) * dims if isinstance(multiple, int) else multiple


def pad_to_multiple(image: Tensor, multiple: int | tuple[int, ...]) -> Tensor:
    """Image (1, channels, *spatial) padded at the far ends to a multiple of ``multiple`` along each axis.

    With zeros, as training pads; after a z-score that is the mean intensity.
    """
    sizes = image.shape[2:]
    missing = [-size % number for size, number in zip(sizes, per_axis(multiple, len(sizes)), strict=True)]
    return functional.pad(image, [part for after in reversed(missing) for part in (0, after)])


def tile_regions(shape: tuple[int, ...], tile: tuple[int, ...], multiple: int | tuple[int, ...] = 1) -> list[Slices]:
    """Regions of overlapping tiles that cover a grid; a single one if the grid fits into the tile.

    Args:
        shape: Of the grid.
        tile: Shape of a tile.
        multiple: Tiles begin at its multiples, if grid and tiles are as large as multiples of it.
    """
    size = tuple(min(a, b) for a, b in zip(shape, tile, strict=True))
    multiples = per_axis(multiple, len(shape))
    step = tuple(
        whole if whole == part else max(1, math.floor(part * (1 - OVERLAP) / number)) * number
        for whole, part, number in zip(shape, size, multiples, strict=True)
    )
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
