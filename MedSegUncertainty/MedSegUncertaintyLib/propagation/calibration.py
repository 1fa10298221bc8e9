"""What the examples themselves say about the result: each is left out once, and found again by the others.

This chooses how much the shape and a second look count, scales the logits so that probabilities mean what they say, and
tells the user which overlap to expect between the examples. There it errs on the safe side, since a left-out example is
farther from the others than most slices are; about slices beyond the outermost examples it says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from MedSegUncertaintyLib.propagation.supports import Pool
from MedSegUncertaintyLib.propagation.tiles import CAUTIOUS, REFINEMENTS, UNREFINED, Refinement, looked_again
from MedSegUncertaintyLib.propagation.walk import FUSIONS, Fusion, Network, Scene, path_to, walk

MOST_LEFT_OUT = 5
"""Examples that are left out in turn; of more, as many evenly spread ones."""
TEMPERATURES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)
NEARLY_AS_GOOD = 0.02
"""Loss of Dice for which a fusion is still one of those that samples vary over."""


@dataclass(frozen=True)
class Calibration:
    """What leaving examples out has shown.

    Attributes:
        fusions: How samples combine network and shape: the best way first, then those nearly as good.
        temperature: By which logits are divided.
        expected_dice: Mean Dice of the left-out examples; None with a single example. In an image without outlines of
            its own, that with which what was found leads back to the examples.
        left_out: How many were left out.
        refinement: How a large structure is looked at again.
    """

    fusions: tuple[Fusion, ...] = (FUSIONS[1],)
    temperature: float = 1.0
    expected_dice: float | None = None
    left_out: int = 0
    refinement: Refinement = UNREFINED

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        fusions = [{"network": fusion.network, "shape": fusion.shape} for fusion in self.fusions]
        return {**self.__dict__, "fusions": fusions, "refinement": self.refinement.__dict__}


def calibrate(network: Network, scene: Scene, heard: Callable[[], None]) -> Calibration:
    """Leave out the outlined slices of a scene, or its examples from other volumes if it has but one of its own.

    Args:
        network: Logits by example.
        scene: One structure.
        heard: Called before each slice; may raise to cancel.
    """
    if not scene.outlined and len(scene.masks_elsewhere) >= 2:
        pairs = _elsewhere(network, scene, heard)
        return Calibration(FUSIONS[:1], fitted_temperature(pairs), mean_dice(pairs), len(pairs))
    found = {fusion: left_out(network, scene, fusion, heard) for fusion in FUSIONS}
    if not any(found.values()):
        return Calibration(refinement=UNREFINED if scene.closeup is None else CAUTIOUS)
    overlap = {
        fusion: mean_dice([(own, scene.marks[number]) for number, own in logits.items()])
        for fusion, logits in found.items()
    }
    order = sorted(overlap, key=lambda fusion: -overlap[fusion])
    good = tuple(fusion for fusion in order if overlap[fusion] >= overlap[order[0]] - NEARLY_AS_GOOD)
    refined = {
        refinement: [*found_again(network, scene, found[order[0]], refinement, heard).values()]
        for refinement in (REFINEMENTS if scene.closeup is not None else (UNREFINED,))
    }
    best = max(refined, key=lambda refinement: mean_dice(refined[refinement]))
    pairs = refined[best]
    return Calibration(good, fitted_temperature(pairs), mean_dice(pairs), len(pairs), best)


def left_out(network: Network, scene: Scene, fusion: Fusion, heard: Callable[[], None]) -> dict[int, Tensor]:
    """Logits (size, size) of outlined slices by number, each reached by a walk from the others; at most five."""
    outlined, found = scene.outlined, {}
    if len(outlined) < 2:
        return {}
    chosen = np.unique(np.linspace(0, len(outlined) - 1, MOST_LEFT_OUT).round().astype(int))
    for number in (outlined[place] for place in chosen):
        rest = scene.without(number)
        pool = Pool(rest)
        path, logits = path_to(rest, number), {}
        for finished, own in walk(network, rest, pool.supports(np.arange(len(pool))), fusion, only=path):
            heard()
            logits[finished] = own
        # A neighbor that is marked as empty on either side cuts a slice off from all others.
        if number in logits:
            found[number] = logits[number]
    return found


def found_again(
    network: Network, scene: Scene, found: Mapping[int, Tensor], refinement: Refinement, heard: Callable[[], None]
) -> dict[int, tuple[Tensor, Tensor]]:
    """Logits and mask of left-out slices by number, after a second look if the scene has a close-up."""
    if scene.closeup is None:
        return {number: (logits, scene.marks[number]) for number, logits in found.items()}
    pairs = {}
    for number, logits in found.items():
        heard()
        others = [own for own in scene.outlined if own != number]
        again = looked_again(network, scene.closeup, refinement, number, logits, others)
        pairs[number] = again, scene.closeup.examples[number][1]
    return pairs


def _elsewhere(network: Network, scene: Scene, heard: Callable[[], None]) -> list[tuple[Tensor, Tensor]]:
    """Logits and mask of examples from other volumes, each by the others."""
    count = len(scene.masks_elsewhere)
    pairs = []
    for left in np.unique(np.linspace(0, count - 1, MOST_LEFT_OUT).round().astype(int)):
        heard()
        others = [number for number in range(count) if number != left]
        logits = network(scene.images_elsewhere[left], scene.images_elsewhere[others], scene.masks_elsewhere[others])
        pairs.append((logits, scene.masks_elsewhere[left]))
    return pairs


def mean_dice(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Mean of :func:`soft_dice` over logits and masks."""
    return float(np.mean([soft_dice(*pair) for pair in pairs]))


def soft_dice(logits: Tensor, mask: Tensor) -> float:
    """Dice of the pixels above one half with the mask above one half (size, size)."""
    found, true = logits > 0, mask > 0.5
    total = int(found.sum()) + int(true.sum())
    return 2.0 * int((found & true).sum()) / total if total else 1.0


def fitted_temperature(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """Of the :data:`TEMPERATURES`, that with the smallest cross-entropy in and around the true masks."""
    logits, masks = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    # Far from the structure everything is certain at any temperature.
    near = functional.max_pool2d(masks[:, None], 9, stride=1, padding=4)[:, 0] > 0.5
    chosen, truth = logits[near], masks[near]
    losses = [
        float(functional.binary_cross_entropy_with_logits(chosen / temperature, truth)) for temperature in TEMPERATURES
    ]
    return TEMPERATURES[int(np.argmin(losses))]
