"""Whether what was found in an image leads back to the examples, all of which come from other images.

Reverse classification accuracy (Valindria et al., "Reverse Classification Accuracy: Predicting Segmentation Performance
in the Absence of Ground Truth", IEEE TMI 2017): the result becomes the example, and the examples, whose outlines are
known, are segmented by it. Leaving examples out cannot see that an image looks otherwise or lacks the structure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from MedSegUncertaintyLib.propagation.calibration import MOST_LEFT_OUT, soft_dice
from MedSegUncertaintyLib.propagation.walk import Network, Scene

SHOWN = 3
"""Slices of the result that serve as examples, evenly spread over the half with the largest areas."""
LEADS_BACK = 0.5
"""Dice from which a result is taken for what the examples show."""


def returned_dice(network: Network, scene: Scene, found: Mapping[int, Tensor], heard: Callable[[], None]) -> float:
    """Mean Dice of the examples from other images, segmented by the example of what was found; 0 if nothing was.

    Args:
        network: Logits by example.
        scene: With examples from other images.
        found: Logits (size, size) of the slices of one sample, by number.
        heard: Called before each example; may raise to cancel.
    """
    areas = {number: int((logits > 0).sum()) for number, logits in found.items()}
    largest = sorted((number for number in areas if areas[number]), key=lambda number: -areas[number])
    if not largest:
        return 0.0
    half = largest[: (len(largest) + 1) // 2]
    chosen = [half[place] for place in _spread(len(half), SHOWN)]
    images, masks = scene.images[chosen], torch.stack([found[number].sigmoid() for number in chosen])
    outlined = [place for place, mask in enumerate(scene.masks_elsewhere) if bool((mask > 0.5).any())]
    scores = []
    for place in (outlined[own] for own in _spread(len(outlined), MOST_LEFT_OUT)):
        heard()
        scores.append(soft_dice(network(scene.images_elsewhere[place], images, masks), scene.masks_elsewhere[place]))
    return float(np.mean(scores))


def _spread(count: int, most: int) -> list[int]:
    places: list[int] = np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()
    return places
