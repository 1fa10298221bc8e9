"""Whether a model package fits an image, said before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from MedSegUncertaintyLib.packages.package import ModelPackage

COARSER = 1.5
"""How much coarser than the model's the voxels of an image may be before that is said."""
LOOKS_LIKE_CT = -500.0
"""Only CT has values this low: air is at -1000 HU."""
NO_AIR = -200.0


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image without looking at all of its voxels.

    Attributes:
        spacing_mm: Voxel size.
        slices: Along the shortest of its axes.
        modality: What its DICOM header says ("MR", "CT" and so on); None without one.
        lowest: Lowest value of a sample of its voxels.
        color: Whether it has several values per voxel.
    """

    spacing_mm: tuple[float, float, float]
    slices: int
    modality: str | None
    lowest: float
    color: bool


@dataclass(frozen=True)
class Misfit:
    """One thing that does not fit.

    Attributes:
        sentence: For the user.
        forbids: Whether the model cannot run at all; otherwise it can, and its result deserves little trust.
    """

    sentence: str
    forbids: bool = False


def misfits(package: ModelPackage, image: ImageFacts) -> list[Misfit]:
    """What speaks against a package for an image, the worst first; empty if nothing does."""
    found = [_color(package, image), _modality(package, image), _spacing(package, image)]
    return sorted((misfit for misfit in found if misfit is not None), key=lambda misfit: not misfit.forbids)


def _color(package: ModelPackage, image: ImageFacts) -> Misfit | None:
    if not image.color or package.takes_color:
        return None
    return Misfit(f"This is a color image, and the model takes {package.modality}; choose a scalar volume.", True)


def _modality(package: ModelPackage, image: ImageFacts) -> Misfit | None:
    trained = package.modality
    if image.color:
        return None
    if trained == "photograph":  # whose colors may come one by one
        deep = f"This volume has {image.slices} slices and no color; the model was trained on photographs."
        return Misfit(deep) if image.slices > 1 else None
    if image.modality in ("MR", "CT", "PT", "US", "NM", "CR", "DX", "MG", "XA"):
        wrong = image.modality != trained
        return Misfit(f"The DICOM header says {image.modality}; the model was trained on {trained}.") if wrong else None
    if trained != "CT" and image.lowest <= LOOKS_LIKE_CT:
        return Misfit(f"Values down to {image.lowest:.0f} look like CT; the model was trained on {trained}.")
    if trained == "CT" and image.lowest >= NO_AIR:
        return Misfit(f"No value is below {image.lowest:.0f}, and air in CT is -1000; the model was trained on CT.")
    return None


def _spacing(package: ModelPackage, image: ImageFacts) -> Misfit | None:
    trained = package.grid.spacing_mm
    if trained is None or max(image.spacing_mm) <= COARSER * max(trained):
        return None
    return Misfit(
        f"Voxels of {_edges(image.spacing_mm)} mm are coarser than the {_edges(trained)} mm that the model was trained "
        "on; what lies between them is guessed."
    )


def _edges(edges: Sequence[float]) -> str:
    return " x ".join(f"{edge:.2g}" for edge in edges)
