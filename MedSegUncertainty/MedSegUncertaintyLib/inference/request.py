"""What the caller asks for. The same object crosses a function call, a pipe and HTTP (as JSON)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.geometry import RegionOfInterest

MAX_SAMPLES = 1000


@dataclass(frozen=True)
class InferenceRequest:
    """Draw ``samples`` segmentations with a model package.

    Attributes:
        package: Name of an installed package, or the path of its folder.
        samples: How many segmentations to draw.
        seed: The same seed, package and image give the same samples, however many are drawn and in whatever passes; on
            another device up to rounding.
        roi: Box in RAS mm; ``None`` for the whole volume.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        temperature: Scale of the noise; 0 gives the mean segmentation, 1 the distribution that was trained.
        allow_cpu: Whether to go on with the CPU when the memory of the device is exhausted.
        class_weights: How far the logits of each structure move from their mean in a draw: 1 as trained, 0 not at all,
            a negative number the other way. For families that have this control, such as SSN; empty for all 1.
    """

    package: str
    samples: int = 16
    seed: int = 0
    roi: RegionOfInterest | None = None
    device: str = "auto"
    temperature: float = 1.0
    allow_cpu: bool = True
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= MAX_SAMPLES:
            raise BadInputError(f"The number of samples must be between 1 and {MAX_SAMPLES}, not {self.samples}.")
        if not 0 <= self.seed < 2**32:
            raise BadInputError(f"The seed must be between 0 and {2**32 - 1}, not {self.seed}.")
        if not 0.0 <= self.temperature <= 10.0:
            raise BadInputError(f"The temperature must be between 0 and 10, not {self.temperature:g}.")
        if not all(-10.0 <= weight <= 10.0 for weight in self.class_weights):
            raise BadInputError("Class weights must be between -10 and 10.")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        roi = None if self.roi is None else self.roi.to_json()
        return {**self.__dict__, "roi": roi, "class_weights": list(self.class_weights)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> InferenceRequest:
        """Inverse of :meth:`to_json`."""
        roi = None if data.get("roi") is None else RegionOfInterest.from_json(data["roi"])
        return cls(**{**data, "roi": roi, "class_weights": tuple(data.get("class_weights", ()))})
