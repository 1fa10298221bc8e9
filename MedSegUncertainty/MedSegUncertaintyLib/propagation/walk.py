"""The walk: slices are segmented outward from the examples, each with its finished neighbors among its examples.

Slices on their own fail where a structure ends: a network that is shown examples of a structure finds one. A walk knows
how the structure looked one slice before, and ends where it was not found twice. Which neighbors a slice has follows
from where the examples are and not from the order of the work, so any order that respects it gives the same answer.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from MedSegUncertaintyLib.propagation.closeup import CloseUp
from MedSegUncertaintyLib.propagation.shape import ShapePrior

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logits (size, size) of a target (size, size), by the example of images and masks (n, size, size)."""

SupportsOf = Callable[[int], tuple[Tensor, Tensor]]
"""Images and masks (n, size, size) that a slice, by its number, is shown besides its neighbors."""

REPEATS = 2
"""How often each of the two finished neighbors is shown."""
EMPTY_SLICES = 2
"""In a row, after which a walk beyond the examples ends."""
NOTHING = -20.0
"""Logit of a slice without the structure."""


@dataclass(frozen=True)
class Fusion:
    """How the network's logit and that of the shape prior make one.

    Attributes:
        network: Factor of the network's.
        shape: Factor of the prior's.
        stretch: How far the structure may go on beyond its outlines, relative to what its shape foresees.
    """

    network: float
    shape: float
    stretch: float = 1.0


NETWORK_ALONE = Fusion(1.0, 0.0)
MOSTLY_SHAPE = Fusion(0.25, 1.0)
"""Used beyond the outermost outline where no mark says that the structure has ended."""
FUSIONS = (Fusion(0.6, 0.5), Fusion(0.4, 0.75), MOSTLY_SHAPE)
"""Those among which left-out examples choose. With less shape a walk spills where no example was left out."""


@dataclass(frozen=True)
class Scene:
    """What one structure's walk sees, all as squares of one size.

    Attributes:
        images: The query's slices (n, size, size), 0 to 1.
        marks: Masks (size, size), 0 to 1, of the slices that were outlined or marked as empty, by number.
        images_elsewhere: Examples from other volumes (m, size, size).
        masks_elsewhere: Their masks.
        pixel_mm: Edge of a pixel.
        slice_mm: Distance of slices.
        closeup: For a second look, if these pixels are much longer than those of the image.
    """

    images: Tensor
    marks: Mapping[int, Tensor]
    images_elsewhere: Tensor
    masks_elsewhere: Tensor
    pixel_mm: float
    slice_mm: float
    closeup: CloseUp | None = None
    _outlined: dict[int, bool] = field(default_factory=dict, compare=False)

    def is_outlined(self, number: int) -> bool:
        """Whether a slice is a mark that shows the structure."""
        if number not in self._outlined:
            self._outlined[number] = number in self.marks and bool((self.marks[number] > 0.5).any())
        return self._outlined[number]

    @property
    def outlined(self) -> list[int]:
        """Numbers of the slices that show the structure, in order."""
        return sorted(number for number in self.marks if self.is_outlined(number))

    def without(self, number: int) -> Scene:
        """The same without one mark."""
        marks = {own: mask for own, mask in self.marks.items() if own != number}
        closeup = None if self.closeup is None else self.closeup.without(number)
        return replace(self, marks=marks, closeup=closeup, _outlined={})

    def prior(self, stretch: float = 1.0) -> ShapePrior:
        """The shape prior of its marks."""
        masks = {number: mask.cpu().numpy() for number, mask in self.marks.items()}
        return ShapePrior.from_masks(masks, self.pixel_mm, self.slice_mm, stretch)


@dataclass(frozen=True)
class Link:
    """A slice and the one before it on the way from an example.

    Attributes:
        number: The slice.
        before: Its finished neighbor, one nearer to the example.
        is_between: Whether outlined slices lie on both sides, so that the structure cannot have ended.
        is_open: Whether no mark lies ahead, so that nothing but its shape says where the structure ends.
    """

    number: int
    before: int
    is_between: bool
    is_open: bool


def plan_walk(scene: Scene) -> dict[int, Link]:
    """The slices that have to be looked at, by number; all others are empty.

    Every slice is reached from its nearest outlined one (the lower of two), unless an empty mark lies between them.
    """
    links: dict[int, Link] = {}
    marks = sorted(scene.marks)
    for low, high in zip([None, *marks], [*marks, None], strict=True):
        first, last = -1 if low is None else low, len(scene.images) if high is None else high
        from_low = low is not None and scene.is_outlined(low)
        from_high = high is not None and scene.is_outlined(high)
        for number in range(first + 1, last):
            if from_low and (not from_high or number - first <= last - number):
                links[number] = Link(number, number - 1, from_high, high is None)
            elif from_high:
                links[number] = Link(number, number + 1, from_low, low is None)
    return links


def walk(
    network: Network,
    scene: Scene,
    supports: SupportsOf,
    fusion: Fusion,
    start: int | None = None,
    only: set[int] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Segment the slices of a scene, each as soon as its neighbor is finished.

    Args:
        network: Logits by example.
        scene: The query with at least one outlined slice.
        supports: Further examples of each slice.
        fusion: How much the shape counts.
        start: Slices near to this one come first; the order changes no logit.
        only: Numbers of the slices to segment, if not all; those that they depend on must be among them. The structure
            is known to go on as far as they do.

    Yields:
        Number and logits (size, size) of each slice but the marks, those beyond the structure included.
    """
    links = {number: link for number, link in plan_walk(scene).items() if only is None or number in only}
    prior = scene.prior(fusion.stretch if only is None else math.inf) if fusion.shape else None
    done = dict(scene.marks)
    empty_in_a_row: dict[int, int] = {}
    for link in _in_order(links, scene, start):
        if empty_in_a_row.get(link.before, 0) >= EMPTY_SLICES and not link.is_between:
            logits = torch.full_like(scene.images[0], NOTHING)
        else:
            beyond = links.get(link.before)
            # What lies behind an example is not on this way: whether it is finished depends on the order.
            near = [link.before] if beyond is None else [link.before, beyond.before]
            logits = _segmented(network, scene, supports, link.number, {number: done[number] for number in near})
            shape = None if prior is None else prior.logit(link.number)
            if shape is not None:
                own = torch.from_numpy(shape.astype(np.float32)).to(logits.device)
                used = MOSTLY_SHAPE if link.is_open else fusion
                logits = used.network * logits + used.shape * own
        done[link.number] = logits.sigmoid()
        is_empty = not bool((logits > 0).any())
        empty_in_a_row[link.number] = empty_in_a_row.get(link.before, 0) + 1 if is_empty else 0
        yield link.number, logits
    for number in sorted(set(range(len(scene.images))) - set(done)) if only is None else []:
        yield number, torch.full_like(scene.images[0], NOTHING)


def _segmented(
    network: Network, scene: Scene, supports: SupportsOf, number: int, neighbors: Mapping[int, Tensor]
) -> Tensor:
    """The network's logits of a slice, whose finished neighbors have these masks."""
    images, masks = supports(number)
    images = torch.cat([images, scene.images[[*neighbors] * REPEATS]])
    masks = torch.cat([masks, torch.stack([*neighbors.values()] * REPEATS)])
    return network(scene.images[number], images, masks)


def _in_order(links: Mapping[int, Link], scene: Scene, start: int | None) -> Iterator[Link]:
    """Every link after the one before it; of those that are possible, the one nearest to ``start``."""
    after: dict[int, list[Link]] = {}
    for link in links.values():
        after.setdefault(link.before, []).append(link)
    origin = start if start is not None else next(iter(scene.outlined), 0)
    heap = [(abs(link.number - origin), link.number) for number in scene.marks for link in after.get(number, [])]
    heapq.heapify(heap)
    while heap:
        _, number = heapq.heappop(heap)
        yield links[number]
        for link in after.get(number, []):
            heapq.heappush(heap, (abs(link.number - origin), link.number))


def path_to(scene: Scene, number: int) -> set[int]:
    """The slices on the way of a walk to one, itself included."""
    links, path = plan_walk(scene), set()
    while number in links:
        path.add(number)
        number = links[number].before
    return path
