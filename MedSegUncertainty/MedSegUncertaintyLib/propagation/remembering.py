"""A network that answers the same question once."""

from __future__ import annotations

from hashlib import blake2b

from torch import Tensor

from MedSegUncertaintyLib.propagation.walk import Network


class Remembering:
    """Logits by example, kept by what was asked: the walk that left-out examples found best was walked before.

    Hashing takes a hundredth of the time of the network, and an answer as much memory as a square.

    Args:
        network: Is asked what was not asked before.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._answers: dict[bytes, Tensor] = {}

    def __call__(self, target: Tensor, images: Tensor, masks: Tensor) -> Tensor:
        """As :data:`~MedSegUncertaintyLib.propagation.walk.Network`."""
        question = blake2b(digest_size=16)
        for part in (target, images, masks):
            question.update(part.cpu().contiguous().numpy().data)
        key = question.digest()
        if key not in self._answers:
            self._answers[key] = self._network(target, images, masks)
        return self._answers[key]
