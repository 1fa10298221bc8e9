"""What a worker tells about a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from MedSegUncertaintyLib.errors import MedSegError
from MedSegUncertaintyLib.inference.progress import Progress
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.volumes.geometry import Geometry


class Failure(StrEnum):
    """What kind of thing went wrong."""

    INPUT = "input"
    """The image, the region, a parameter or the model package cannot be used as it is."""
    MEMORY = "memory"
    """Memory ran out."""
    DISK = "disk"
    """Temporary files could not be written."""
    SETUP = "setup"
    """The process could not be started, or a Python package such as torch is missing or broken."""
    CRASH = "crash"
    """The process died, was killed or sent something that is not part of the protocol."""
    DEFECT = "defect"
    """An error of this program, worth a report."""


class WorkerError(MedSegError):
    """One sentence for the user and its kind; becomes a :class:`Failed`."""

    def __init__(self, kind: Failure, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Started:
    """The process is up and begins to work.

    Attributes:
        run: Number of the run, as ``Worker.start`` or ``Worker.propagate`` returned it; all events have it.
        device: Where the network runs, for people: the card and its free memory, or the number of threads.
    """

    run: int
    device: str


@dataclass(frozen=True)
class Advanced:
    """The work has come further.

    Attributes:
        run: Number of the run.
        progress: Stage, units of it that are done, and the seconds that are left.
    """

    run: int
    progress: Progress


@dataclass(frozen=True, eq=False)
class SlicesFound:
    """Slices of a propagation's first sample, each as soon as it is there and again if it changed.

    What was found between two polls comes as one event with every slice once, as it was found last.

    Attributes:
        run: Number of the run.
        axis: Array axis of the volume that the slices are perpendicular to; 0: K, 1: J, 2: I.
        indices: Where they lie along it, counted from 0.
        labels: (n, *the other two array axes of the volume, in order) uint8, over its whole extent; structures are
            numbered from 1 as in the result.
    """

    run: int
    axis: int
    indices: tuple[int, ...]
    labels: np.ndarray

    @classmethod
    def merged(cls, parts: Sequence[SlicesFound]) -> SlicesFound:
        """One event of several of the same run, oldest first."""
        newest = {index: own for part in parts for index, own in zip(part.indices, part.labels, strict=True)}
        return cls(parts[0].run, parts[0].axis, tuple(newest), np.stack([*newest.values()]))


@dataclass(frozen=True, eq=False)
class Preview:
    """What the first samples say; a later preview or the result replaces it.

    Attributes:
        run: Number of the run.
        count: Samples so far.
        mean: (N, K, J, I) mean probability of each structure.
        variance: (N, K, J, I) variance of that probability over the samples so far, 0 to 0.25.
        geometry: Grid of the arrays, that of the result's ``box_geometry``.
    """

    run: int
    count: int
    mean: np.ndarray
    variance: np.ndarray
    geometry: Geometry


@dataclass(frozen=True, eq=False)
class Finished:
    """The run is over and this is its result.

    Attributes:
        run: Number of the run.
        result: What ``inference.run.segment`` or ``propagation.run.propagate`` returns for the same request; its
            summary is already computed.
    """

    run: int
    result: InferenceResult


@dataclass(frozen=True)
class Failed:
    """The run is over without a result.

    Attributes:
        run: Number of the run.
        kind: What kind of thing went wrong.
        message: One sentence that says what happened and what to do.
        log: The last lines that the process wrote, for those who want to know more; may be empty.
    """

    run: int
    kind: Failure
    message: str
    log: str


@dataclass(frozen=True)
class Canceled:
    """The run is over because it was canceled; nothing of it works on or is left.

    Attributes:
        run: Number of the run.
    """

    run: int


Event = Started | Advanced | SlicesFound | Preview | Finished | Failed | Canceled
Last = Finished | Failed | Canceled
"""A run ends with exactly one of these."""
