"""What the caller asks for. The same object crosses a function call, a pipe and HTTP (as JSON)."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.geometry import RegionOfInterest

MAX_SAMPLES = 1000


@dataclass(frozen=True)
class Scale:
    """What a request wants of one scale of the samples.

    Attributes:
        temperature: Scale of its noise: 0 takes the mean, 1 a sample.
        frozen: Number of the sample, counted from 0, whose noise all samples take here; None for each its own.
    """

    temperature: float = 1.0
    frozen: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 10.0:
            raise BadInputError(f"The temperature of a scale must be between 0 and 10, not {self.temperature:g}.")
        if self.frozen is not None and not 0 <= self.frozen < MAX_SAMPLES:
            raise BadInputError(f"A scale is frozen at a sample from 1 to {MAX_SAMPLES}, not {self.frozen + 1}.")

    def __str__(self) -> str:
        """In the words of :meth:`parse`."""
        if self.frozen is None:
            return f"{self.temperature:g}"
        return f"f{self.frozen + 1}" + ("" if self.temperature == 1.0 else f"x{self.temperature:g}")

    @classmethod
    def parse(cls, text: str) -> Scale:
        """A temperature such as "0.5", "f7" for the noise of sample 7, or "f7x0.5" for both; samples count from 1.

        Raises:
            BadInputError: It is none of these, or out of range.
        """
        match = re.fullmatch(r"(?:f(\d+)(?:x(?=.)|$))?(\d*\.?\d*)", text.strip())
        if not match or not any(match.groups()) or match[2] == ".":
            raise BadInputError(f"The scale '{text}' is not understood; give a temperature, or f7 for sample 7.")
        return cls(float(match[2] or 1), None if match[1] is None else int(match[1]) - 1)


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
        scales: What is wanted of each scale of the samples, coarsest first, besides ``temperature``. For families whose
            samples have scales, such as HPU-Net; empty for samples at all of them.
        steps: In how many steps each sample is drawn; fewer are faster. For families that draw in steps, such as
            HiDiff; ``None`` for all of them.
    """

    package: str
    samples: int = 16
    seed: int = 0
    roi: RegionOfInterest | None = None
    device: str = "auto"
    temperature: float = 1.0
    allow_cpu: bool = True
    class_weights: tuple[float, ...] = ()
    scales: tuple[Scale, ...] = ()
    steps: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= MAX_SAMPLES:
            raise BadInputError(f"The number of samples must be between 1 and {MAX_SAMPLES}, not {self.samples}.")
        if not 0 <= self.seed < 2**32:
            raise BadInputError(f"The seed must be between 0 and {2**32 - 1}, not {self.seed}.")
        if not 0.0 <= self.temperature <= 10.0:
            raise BadInputError(f"The temperature must be between 0 and 10, not {self.temperature:g}.")
        if not all(-10.0 <= weight <= 10.0 for weight in self.class_weights):
            raise BadInputError("Class weights must be between -10 and 10.")
        if self.steps is not None and self.steps < 1:
            raise BadInputError(f"The number of steps must be at least 1, not {self.steps}.")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        roi = None if self.roi is None else self.roi.to_json()
        scales = [asdict(scale) for scale in self.scales]
        return {**self.__dict__, "roi": roi, "class_weights": list(self.class_weights), "scales": scales}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> InferenceRequest:
        """Inverse of :meth:`to_json`."""
        roi = None if data.get("roi") is None else RegionOfInterest.from_json(data["roi"])
        scales = tuple(Scale(**scale) for scale in data.get("scales", ()))
        return cls(**{**data, "roi": roi, "class_weights": tuple(data.get("class_weights", ())), "scales": scales})
