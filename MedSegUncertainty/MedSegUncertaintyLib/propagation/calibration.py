"""What the examples themselves say about the result: each is left out once, and found again by the others.

This chooses how much the shape counts, scales the logits so that probabilities mean what they say, and tells the user
which overlap to expect between the examples. There it errs on the safe side, since a left-out example is farther from
the others than most slices are; about slices beyond the outermost examples it says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from MedSegUncertaintyLib.propagation.supports import Pool
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
    """

    fusions: tuple[Fusion, ...] = (FUSIONS[1],)
    temperature: float = 1.0
    expected_dice: float | None = None
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        fusions = [{"network": fusion.network, "shape": fusion.shape} for fusion in self.fusions]
        return {**self.__dict__, "fusions": fusions}


def calibrate(network: Network, scene: Scene, heard: Callable[[], None]) -> Calibration:
    """Leave out the outlined slices of a scene, or its examples from other volumes if it has but one of its own.

    Args:
        network: Logits by example.
        scene: One structure.
        heard: Called before each slice; may raise to cancel.
    """
    if len(scene.outlined) >= 2:
        found = {fusion: _walked(network, scene, fusion, heard) for fusion in FUSIONS}
    elif len(scene.masks_elsewhere) >= 2 and not scene.outlined:
        found = {FUSIONS[0]: _elsewhere(network, scene, heard)}
    else:
        return Calibration()
    overlap = {fusion: float(np.mean([soft_dice(*pair) for pair in pairs])) for fusion, pairs in found.items()}
    order = sorted(overlap, key=lambda fusion: -overlap[fusion])
    good = tuple(fusion for fusion in order if overlap[fusion] >= overlap[order[0]] - NEARLY_AS_GOOD)
    return Calibration(good, fitted_temperature(found[order[0]]), overlap[order[0]], len(found[order[0]]))


def _walked(network: Network, scene: Scene, fusion: Fusion, heard: Callable[[], None]) -> list[tuple[Tensor, Tensor]]:
    """Logits and mask of outlined slices, each reached by a walk from the others."""
    outlined = scene.outlined
    chosen = np.unique(np.linspace(0, len(outlined) - 1, MOST_LEFT_OUT).round().astype(int))
    pairs = []
    for number in (outlined[place] for place in chosen):
        rest = scene.without(number)
        pool = Pool(rest)
        path, logits = path_to(rest, number), {}
        for finished, own in walk(network, rest, pool.supports(np.arange(len(pool))), fusion, only=path):
            heard()
            logits[finished] = own
        # A neighbor that is marked as empty on either side cuts a slice off from all others.
        if number in logits:
            pairs.append((logits[number], scene.marks[number]))
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
