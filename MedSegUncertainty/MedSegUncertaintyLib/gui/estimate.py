"""How long a run will take and how much memory its maps need, from what earlier runs took."""

from __future__ import annotations

import time

import qt
from slicer.i18n import tr as _

from MedSegUncertaintyLib.packages.package import ModelPackage

SETTINGS = "MedSegUncertainty/Seconds"
START = f"{SETTINGS}/start"
COPIES = 6
"""Maps of float32 per class that the computation holds at a time: probabilities, mean, variance and temporaries."""
DRAWING = "draw"
"""How the stage after the network begins."""


def deviceKind(description: str) -> str:
    """Under which name the pace of a device is kept: "cpu", "mps", or the name of the card."""
    return description.split(",")[0].strip().lower()


def wholeSamples(package: ModelPackage, samples: int, steps: int | None) -> float:
    """How many samples of all steps take as long as so many of fewer steps; ``steps`` is None for all."""
    return samples if steps is None else samples * steps / package.steps


class Pace:
    """Seconds per million voxels of a package on a device: of the network, and of each sample."""

    def __init__(self, package: ModelPackage, device: str) -> None:
        self._key = f"{SETTINGS}/{package.name}/{deviceKind(device).replace('/', ' ')}"

    def seconds(self, voxels: float, samples: float, isWarm: bool) -> float | None:
        """What a run will take, with the start of the process unless it ``isWarm``; None before the first run."""
        settings = qt.QSettings()
        encode, draw = (settings.value(f"{self._key}/{part}") for part in ("encode", "draw"))
        if encode is None or draw is None:
            return None
        start = 0.0 if isWarm else float(settings.value(START) or 0.0)
        return start + (float(encode) + samples * float(draw)) * voxels / 1e6

    def keep(self, voxels: float, samples: float, encodeSeconds: float | None, drawSeconds: float) -> None:
        """Remember what a run took; the network is left out where an earlier encoding was used."""
        settings = qt.QSettings()
        if encodeSeconds is not None:
            settings.setValue(f"{self._key}/encode", encodeSeconds / voxels * 1e6)
        settings.setValue(f"{self._key}/draw", drawSeconds / samples / voxels * 1e6)


class StageWatch:
    """Measures how long the network and the drawing of a run take, from what it tells about its progress."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._encoded: float | None = None
        self.usedNetwork = False

    def see(self, stage: str) -> None:
        """The run is in a stage."""
        if not stage.startswith(DRAWING):
            self.usedNetwork = True
        elif self._encoded is None:
            self._encoded = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since this object was made."""
        return time.monotonic() - self._begun

    def seconds(self) -> tuple[float | None, float]:
        """Seconds of the network, None if an earlier encoding was used, and seconds of drawing."""
        now = time.monotonic()
        encoded = self._encoded or now
        return (encoded - self._begun if self.usedNetwork else None), now - encoded


def memoryBytes(voxels: float, package: ModelPackage) -> float:
    """Memory of the maps of a run; the network takes what is left, in smaller tiles if need be."""
    return 4.0 * COPIES * (len(package.structures) + 1) * voxels


def durationText(seconds: float) -> str:
    """A duration for people: "12 s" or "3 min"."""
    return _("{n} s").format(n=max(1, round(seconds))) if seconds < 90 else _("{n} min").format(n=round(seconds / 60))


def bytesText(number: float) -> str:
    """A size for people: "6.3 MB" or "1.2 GB"."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.{0 if number >= 2e7 else 1}f} MB"


def estimateText(seconds: float | None, memory: float) -> str:
    """Two short lines for the panel."""
    known = seconds is not None
    duration = _("About {t}").format(t=durationText(seconds)) if known else _("Time known after the first run")
    return _("{duration}\nRoughly {memory} of memory for maps").format(duration=duration, memory=bytesText(memory))
