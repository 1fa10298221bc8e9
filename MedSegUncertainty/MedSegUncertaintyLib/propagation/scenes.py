"""From volumes and label maps to what one structure's walk sees, and back to the pixels of the slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from MedSegUncertaintyLib.propagation.closeup import CloseUp
from MedSegUncertaintyLib.propagation.examples import Marks
from MedSegUncertaintyLib.propagation.stacks import Stack
from MedSegUncertaintyLib.propagation.walk import Scene
from MedSegUncertaintyLib.volumes.squares import Square

MARGIN = 1.8
"""Edge of the square that is looked at, in units of the longer side of all outlines of a structure together."""
FEWEST_PIXELS = 24
"""Edge of that square in pixels of the slices, at least."""

COARSE = 2.5
"""Squares whose pixels are longer than this many of the slices' own are looked at once more, in smaller ones."""
FINE = 1.5
"""Pixels of the second look, in units of the slices' own."""


@dataclass(frozen=True)
class Framed:
    """A scene, and where its squares lie in the slices.

    Attributes:
        scene: The structure's walk.
        square: Between slices and squares.
    """

    scene: Scene
    square: Square

    def on_slice(self, logits: torch.Tensor, temperature: float) -> np.ndarray:
        """Probability (rows, columns) float32 of logits (size, size), of any size; 0 beyond the square."""
        wide = replace(self.square, size=len(logits)).put(logits.float().cpu().numpy() / temperature)
        return (1 / (1 + np.exp(-wide.clip(-30, 30))) * self.square.inside).astype(np.float32)


def frame(
    stack: Stack,
    marks: Marks,
    elsewhere: Sequence[tuple[Stack, Marks]],
    size: int,
    whole: bool,
    device: torch.device,
) -> Framed:
    """The scene of one structure.

    Args:
        stack: The query.
        marks: Its own examples; may be none if there are others.
        elsewhere: Examples from other volumes.
        size: Edge of the squares in pixels, and of the tiles of a second look at a large structure. That takes outlines
            of the same volume; without them twice as many pixels, as the network takes any number.
        whole: Whether the square holds the whole slice, as a region of interest asks for; else it is laid around the
            outlines.
        device: Where the scene will be.
    """
    square = focus(stack, marks, size, whole)
    closeup = None
    if square.pixel_mm > COARSE * min(stack.pixel_mm):
        if marks.masks:
            closeup = close_up(stack, marks, square, device)
        else:
            size *= 2
            square = replace(square, size=size)
    pictures, masks = [np.zeros((0, size, size), np.float32)], [np.zeros((0, size, size), np.float32)]
    for other, own in elsewhere:
        there = focus(other, own, size, whole=not marks.masks)
        if marks.masks:  # structures look alike at the same scale
            there = Square(there.shape, there.spacing_mm, there.center, square.side_mm, size)
        numbers = [*own.masks, *own.absent]
        blank = np.zeros(there.shape, dtype=bool)
        pictures.append(there.cut(other.images[numbers]))
        masks.append(there.cut(np.stack([own.masks.get(number, blank) for number in numbers])))
    empty = np.zeros((size, size), np.float32)
    here = {number: square.cut(mask) for number, mask in marks.masks.items()} | dict.fromkeys(marks.absent, empty)
    scene = Scene(
        torch.from_numpy(square.cut(stack.images)).to(device),
        {number: torch.from_numpy(mask).to(device) for number, mask in here.items()},
        torch.from_numpy(np.concatenate(pictures)).to(device),
        torch.from_numpy(np.concatenate(masks)).to(device),
        square.pixel_mm,
        stack.slice_mm,
        closeup,
    )
    return Framed(scene, square)


def close_up(stack: Stack, marks: Marks, square: Square, device: torch.device) -> CloseUp:
    """The same square in smaller pixels, for tiles of as many as it has."""
    fine = replace(square, size=math.ceil(square.side_mm / (FINE * min(stack.pixel_mm))))

    def cut(own: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(fine.cut(own)).to(device)

    examples = {number: (cut(stack.images[number]), cut(mask)) for number, mask in marks.masks.items()}
    return CloseUp(lambda number: cut(stack.images[number]), examples, square.size)


def focus(stack: Stack, marks: Marks, size: int, whole: bool) -> Square:
    """The square around a structure's outlines, or around the whole slice."""
    everything = Square.around((stack.images.shape[1], stack.images.shape[2]), stack.pixel_mm, size)
    if whole or not marks.masks:
        return everything
    union = np.any(list(marks.masks.values()), axis=0)
    used = [np.flatnonzero(union.any(axis=axis)) for axis in (1, 0)]
    longest = max((own[-1] - own[0] + 1) * step for own, step in zip(used, stack.pixel_mm, strict=True))
    side = max(MARGIN * longest, FEWEST_PIXELS * min(stack.pixel_mm))
    if side >= everything.side_mm:
        return everything
    middle = ((own[0] + own[-1]) / 2 for own in used)
    row, column = (
        _inside(center, side / step, count)
        for center, step, count in zip(middle, stack.pixel_mm, everything.shape, strict=True)
    )
    return Square(everything.shape, stack.pixel_mm, (row, column), side, size)


def _inside(center: float, edge: float, count: int) -> float:
    """The center nearest to the wanted one from which an edge does not reach beyond ``count`` pixels."""
    return float(np.clip(center, edge / 2 - 0.5, count - 0.5 - edge / 2)) if edge < count else (count - 1) / 2
