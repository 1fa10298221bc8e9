"""One sample of one structure: a walk with examples and a change of its own, so that it is one coherent hypothesis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from MedSegUncertaintyLib.propagation.augmentation import Change
from MedSegUncertaintyLib.propagation.calibration import Calibration
from MedSegUncertaintyLib.propagation.supports import Pool
from MedSegUncertaintyLib.propagation.tiles import UNREFINED, looked_again
from MedSegUncertaintyLib.propagation.walk import NOTHING, Fusion, Network, Scene, SupportsOf, walk

STRETCH = 0.4
"""Largest change of the logarithm of how far a structure goes on beyond its outlines, both ways."""


def draw(
    network: Network, scene: Scene, calibration: Calibration, seed: tuple[int, ...], start: int | None = None
) -> Iterator[tuple[int, torch.Tensor]]:
    """Segment all slices of a scene but its marks.

    The first draw changes nothing, sees every example and combines network and shape as the left-out examples say is
    best. Every other one draws examples with replacement, a change of query and examples together, and one of the
    combinations that are nearly as good; where no mark says how far the structure goes on, it goes farther or less far.
    A second look sees the same examples, changed in the same way.

    Args:
        network: Logits by example.
        scene: One structure.
        calibration: From its examples.
        seed: Decides all about the draw; the last number is the draw's, counted from 0.
        start: Slices near to this one come first; the order changes no logit.

    Yields:
        Number and logits (size, size) of a slice, in no order but that of the walk; of more pixels after a second look.
    """
    rng = np.random.default_rng(seed)
    is_first = seed[-1] == 0
    change = Change.none() if is_first else Change.random(rng)
    fusion: Fusion = calibration.fusions[0 if is_first else int(rng.integers(len(calibration.fusions)))]
    if not is_first:
        fusion = replace(fusion, stretch=float(np.exp(rng.uniform(-STRETCH, STRETCH))))
    changed = replace(
        scene,
        images=change.images(scene.images),
        marks={number: change.masks(mask[None])[0] for number, mask in scene.marks.items()},
        images_elsewhere=change.images(scene.images_elsewhere),
        masks_elsewhere=change.masks(scene.masks_elsewhere),
        closeup=None if scene.closeup is None else scene.closeup.changed(change),
        _outlined={},
    )
    pool = Pool(changed)
    places = np.arange(len(pool)) if is_first else pool.drawn(rng)
    supports = pool.supports(places)
    if not changed.outlined:
        number, logits = find_structure(network, changed, supports)
        yield number, change.back(logits[None])[0]
        changed = replace(changed, marks={**changed.marks, number: logits.sigmoid()}, _outlined={})
    for number, logits in walk(network, changed, supports, fusion, start):
        if bool((logits > NOTHING).any()):
            if changed.closeup is not None and calibration.refinement != UNREFINED:
                examples = pool.outlined(places)
                logits = looked_again(network, changed.closeup, calibration.refinement, number, logits, examples)
            logits = change.back(logits[None])[0]
        yield number, logits


def find_structure(network: Network, scene: Scene, supports: SupportsOf) -> tuple[int, torch.Tensor]:
    """The slice that shows the structure best, of a scene without outlines of its own: where a walk can begin.

    Returns:
        Number and logits (size, size) of the slice with the largest sum of probabilities above one half.
    """
    best, highest = (0, torch.full_like(scene.images[0], NOTHING)), -1.0
    for number, image in enumerate(scene.images):
        if number in scene.marks:
            continue
        logits = network(image, *supports(number))
        probability = logits.sigmoid()
        amount = float(probability[probability > 0.5].sum())
        if amount > highest:
            best, highest = (number, logits), amount
    return best
