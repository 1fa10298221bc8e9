"""What a run asks of the child, as the message and the files that hand it over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.propagation.request import PropagationRequest
from MedSegUncertaintyLib.volumes.geometry import Volume
from MedSegUncertaintyLib.workers.transfer import Check, write_labels, write_volume

Message = dict[str, Any]


class Job(Protocol):
    """A request with its images."""

    def message(self, folder: Path, sent: SentImages, check: Check) -> Message:
        """Put the arrays into files of ``folder``; what else there is comes back as JSON.

        Args:
            folder: Where the files go.
            sent: What the child has of the run before; brought up to date.
            check: Called every now and then; raises to stop.
        """


class SentImages:
    """Images of the last propagation, which the child still has: after an edit examples are sent alone."""

    def __init__(self) -> None:
        self._images: dict[int, Volume] = {}
        self._keys = count()

    def key(self, volume: Volume) -> int | None:
        """Under which the child has this very object; None if it has not."""
        return next((key for key, known in self._images.items() if known is volume), None)

    def new_key(self) -> int:
        """One that was never used."""
        return next(self._keys)

    def replace(self, images: Mapping[int, Volume]) -> None:
        """The child was handed a job, and has these and no others."""
        self._images = dict(images)


@dataclass(frozen=True)
class Segmentation:
    """Run ``inference.run.segment``.

    Attributes:
        request: What to do.
        volume: The image.
        channels: Further ones by role.
    """

    request: InferenceRequest
    volume: Volume
    channels: Mapping[str, Volume]

    def message(self, folder: Path, sent: SentImages, check: Check) -> Message:
        """As :class:`Job` says."""
        volumes = [
            write_volume(volume, folder / f"image-{number}.npy", check)
            for number, volume in enumerate([self.volume, *self.channels.values()])
        ]
        sent.replace({})
        channels = dict(zip(self.channels, volumes[1:], strict=True))
        return {"type": "run", "request": self.request.to_json(), "volume": volumes[0], "channels": channels}


@dataclass(frozen=True)
class Propagation:
    """Run ``propagation.run.propagate``.

    Attributes:
        request: What to do.
        volume: The image.
        examples: Label maps with their images.
        start: Slice to begin near to.
    """

    request: PropagationRequest
    volume: Volume
    examples: Sequence[Example]
    start: int | None

    def message(self, folder: Path, sent: SentImages, check: Check) -> Message:
        """As :class:`Job` says."""
        images: dict[int, Volume] = {}
        files: dict[str, Message | None] = {}

        def key_of(volume: Volume) -> int:
            if (own := next((key for key, other in images.items() if other is volume), None)) is not None:
                return own
            known = sent.key(volume)
            key = sent.new_key() if known is None else known
            new = known is None
            files[str(key)] = write_volume(volume, folder / f"image-{key}.npy", check) if new else None
            images[key] = volume
            return key

        query = key_of(self.volume)
        examples = [
            {
                "labels": write_labels(example.labels, folder / f"labels-{number}.npy", check),
                "image": None if example.image is None else key_of(example.image),
                "names": None if example.names is None else [*example.names.items()],
                "absent": {name: list(slices) for name, slices in example.absent.items()},
            }
            for number, example in enumerate(self.examples)
        ]
        sent.replace(images)
        request = self.request.to_json()
        return {
            "type": "propagate",
            "request": request,
            "images": files,
            "query": query,
            "examples": examples,
            "start": self.start,
        }
