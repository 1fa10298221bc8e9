"""What one propagation leaves for the next one in the same process: the network, and the slices of the last volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from MedSegUncertaintyLib.models.universeg import Prepared, UniverSeg
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import load_sampler
from MedSegUncertaintyLib.propagation.stacks import Stack, ct_window, make_stack
from MedSegUncertaintyLib.propagation.walk import Network
from MedSegUncertaintyLib.volumes.geometry import RegionOfInterest, Volume


class Kept:
    """One network, and stacks of volumes that are told apart by identity: their voxels must not change."""

    def __init__(self) -> None:
        self._package: tuple[ModelPackage, torch.device] | None = None
        self._network: Network | None = None
        self._stacks: list[tuple[Volume, str, RegionOfInterest | None, Stack]] = []

    def network(self, package: ModelPackage, device: torch.device) -> Network:
        """Logits by example; the kept ones if they are of this package and device.

        Raises:
            PackageError: The package is damaged.
        """
        if self._network is None or self._package != (package, device):
            self._network = Prepared(cast("UniverSeg", load_sampler(package, device))).segment
            self._package = package, device
        return self._network

    def stack(
        self, volume: Volume, plane: str, examples: np.ndarray | None = None, roi: RegionOfInterest | None = None
    ) -> Stack:
        """As :func:`~MedSegUncertaintyLib.propagation.stacks.make_stack`."""
        window = ct_window(volume.array, examples)
        for known, *rest, stack in self._stacks:
            if known is volume and [*rest, stack.window] == [plane, roi, window]:
                return stack
        stack = make_stack(volume, plane, examples, roi)
        self._stacks = [own for own in self._stacks if own[0] is not volume] + [(volume, plane, roi, stack)]
        return stack

    def keep_only(self, volumes: Sequence[Volume]) -> None:
        """Forget the stacks of all volumes but these."""
        self._stacks = [own for own in self._stacks if any(own[0] is volume for volume in volumes)]
