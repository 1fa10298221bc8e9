"""Examples that are kept for other patients: outlined images, the slices without a structure, names and colors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.volumes.geometry import Volume

Color = tuple[float, float, float]


@dataclass(frozen=True)
class SupportSet:
    """Outlined images of one kind.

    Attributes:
        plane: In which they were outlined: "axial", "coronal" or "sagittal".
        examples: Label maps; those without an image belong to the volume that comes with the set.
        absent: Slices of that volume without a structure, by its name; indices along its own axis, counted from 0.
            Examples with an image say so themselves.
        names: What the labels are called.
        colors: Red, green and blue from 0 to 1, by label.
    """

    plane: str
    examples: tuple[Example, ...]
    absent: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    colors: Mapping[int, Color] = field(default_factory=dict)

    def elsewhere(self, volume: Volume | None = None) -> tuple[Example, ...]:
        """Its examples for the use on another volume, each with its image.

        Args:
            volume: What examples without an image belong to; not needed for a set that was read.
        """
        named = (replace(one, names={**self.names, **(one.names or {})}) for one in self.examples)
        return tuple(replace(one, image=volume, absent=self.absent) if one.image is None else one for one in named)
