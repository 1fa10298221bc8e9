"""A second look at the border of a large structure, tile by tile in the image's own pixels.

A network that sees few pixels at a time sees a large structure coarsely. What it found is right away from the border,
and says where the border is; there, overlapping tiles of the same slice are segmented by the example of the same place
in outlined slices. Elsewhere the first look stays. Whether that helps, left-out examples say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from MedSegUncertaintyLib.propagation.closeup import CloseUp
from MedSegUncertaintyLib.propagation.walk import Network

OVERLAP = 4
"""Neighboring tiles share one in as many of their pixels."""
BAND = 2
"""How far on either side of the border the second look counts, in pixels of the first."""
MOST_EXAMPLES = 4
"""The nearest ones: farther ones seldom show the same part of the border at the same place."""


@dataclass(frozen=True)
class Refinement:
    """How much a second look counts, and what it is shown.

    Attributes:
        weight: Share of its logit near the border, 0 to 1.
        itself: Whether what the first look found in a tile is one of the tile's examples, which keeps the second near
            to it: good where a border moves much from slice to slice.
    """

    weight: float
    itself: bool


UNREFINED = Refinement(0.0, False)
CAUTIOUS = Refinement(0.5, True)
"""Used where no example can be left out."""
REFINEMENTS = (UNREFINED, CAUTIOUS, Refinement(1.0, True), Refinement(0.5, False), Refinement(1.0, False))
"""Those among which left-out examples choose."""


def looked_again(
    network: Network, closeup: CloseUp, refinement: Refinement, number: int, logits: Tensor, examples: Sequence[int]
) -> Tensor:
    """Logits (pixels, pixels) of a slice in the close-up's pixels.

    Args:
        network: Logits by example.
        closeup: Of the scene in which the slice was found.
        refinement: How.
        number: The slice.
        logits: What the first look found (size, size).
        examples: Numbers of the outlined slices to use; all of them are in the close-up.
    """
    image = closeup.image(number)
    first = _enlarged(logits, len(image))
    near = sorted(examples, key=lambda own: (abs(own - number), own))[:MOST_EXAMPLES]
    if not refinement.weight or not (near or refinement.itself):
        return first
    weight = _enlarged(_near_border(logits), len(image))
    known = [closeup.examples[own] for own in near]
    if refinement.itself:
        known.append((image, first.sigmoid()))
    total, windows, window = torch.zeros_like(first), torch.zeros_like(first), _window(closeup.tile).to(first.device)
    for part, core in tiles(len(image), closeup.tile):
        if bool((weight[core] > 0).any()):
            images, masks = (torch.stack([own[part] for own in parts]) for parts in zip(*known, strict=True))
            total[part] += window * network(image[part], images, masks)
            windows[part] += window
    share = refinement.weight * weight * (windows > 0)
    return (1 - share) * first + share * total / windows.clamp(min=1e-6)


def _enlarged(maps: Tensor, size: int) -> Tensor:
    return functional.interpolate(maps[None, None], (size, size), mode="bilinear", align_corners=False)[0, 0]


def _near_border(logits: Tensor) -> Tensor:
    """1 where the sign changes within :data:`BAND` pixels, 0 far from there, in between smoothly (size, size)."""
    inside = (logits > 0).to(logits.dtype)[None, None]
    edge = 2 * BAND + 1
    widened = functional.max_pool2d(inside, edge, stride=1, padding=BAND)
    narrowed = -functional.max_pool2d(-inside, edge, stride=1, padding=BAND)
    return functional.avg_pool2d(widened - narrowed, 3, stride=1, padding=1, count_include_pad=False)[0, 0]


def _window(tile: int) -> Tensor:
    """Weight of the pixels of a tile (tile, tile), which falls off to its edges."""
    along = torch.sin(torch.pi * (torch.arange(tile) + 0.5) / tile) ** 2
    return along[:, None] * along


def tiles(size: int, tile: int) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Rows and columns of tiles that cover a square, and of their cores, which cover it without their edges."""
    count = -(-(size - tile) // (tile - tile // OVERLAP)) + 1
    starts = torch.linspace(0, size - tile, count).round().int().tolist()
    edge = tile // OVERLAP // 2
    along = [
        (
            slice(start, start + tile),
            slice(start + edge if start else 0, size if start + tile == size else start + tile - edge),
        )
        for start in starts
    ]
    for rows, rows_of_core in along:
        for columns, columns_of_core in along:
            yield (rows, columns), (rows_of_core, columns_of_core)
