"""What a caller asks of a propagation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.propagation.stacks import PLANES

ALL = ""
"""Stands for every structure in :attr:`PropagationRequest.absent`."""


@dataclass(frozen=True)
class PropagationRequest:
    """Find structures in all slices of a volume by the example of some.

    Attributes:
        inference: Package, number of samples, seed, region of interest and device; its temperature is not used, as
            the examples say how far to trust the network.
        plane: "axial", "coronal" or "sagittal"; None for the one in which the fewest slices are outlined.
        absent: Slices without a structure, by its name or, under :data:`ALL`, without any; indices along the image's
            own axis, counted from 0.
    """

    inference: InferenceRequest
    plane: str | None = None
    absent: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.plane is not None and self.plane not in PLANES:
            raise BadInputError(f"The plane '{self.plane}' is not known; use {', '.join(PLANES)}.")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        absent = {name: list(slices) for name, slices in self.absent.items()}
        return {"inference": self.inference.to_json(), "plane": self.plane, "absent": absent}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PropagationRequest:
        """Inverse of :meth:`to_json`."""
        absent = {name: tuple(slices) for name, slices in data["absent"].items()}
        return cls(InferenceRequest.from_json(data["inference"]), data["plane"], absent)
