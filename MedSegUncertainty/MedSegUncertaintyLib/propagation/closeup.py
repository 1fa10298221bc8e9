"""A large structure in smaller pixels than its walk sees: what a second look at its border is taken from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from MedSegUncertaintyLib.propagation.augmentation import Change


@dataclass(frozen=True)
class CloseUp:
    """The squares of a scene, laid over the same part of the slices in more pixels.

    Attributes:
        image: Makes the image (size, size) of a slice, by its number.
        examples: Image and mask of the outlined slices, by number.
        tile: Edge in pixels of what the network is shown at a time.
    """

    image: Callable[[int], Tensor]
    examples: Mapping[int, tuple[Tensor, Tensor]]
    tile: int

    def without(self, number: int) -> CloseUp:
        """The same without one example."""
        return replace(self, examples={own: example for own, example in self.examples.items() if own != number})

    def changed(self, change: Change) -> CloseUp:
        """The same after a change of all images and masks together."""
        examples = {
            number: (change.images(image[None])[0], change.masks(mask[None])[0])
            for number, (image, mask) in self.examples.items()
        }
        return replace(self, image=lambda number: change.images(self.image(number)[None])[0], examples=examples)
