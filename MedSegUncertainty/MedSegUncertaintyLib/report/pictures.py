"""Pictures of a result: by Slicer's own views where they can draw, by our own drawing elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.outputs.document import is_oblique
from MedSegUncertaintyLib.report.drawing import draw_slices
from MedSegUncertaintyLib.volumes.geometry import Volume


@dataclass(frozen=True)
class Picture:
    """A picture of one slice.

    Attributes:
        kind: "outlines" or "variance".
        element: HTML element.
        caption: Plain text.
    """

    kind: str
    element: str
    caption: str


@dataclass(frozen=True)
class Pictures:
    """All pictures of a report.

    Attributes:
        slices: Of each plane and kind.
        three_d: HTML element of a 3D picture; None where it cannot be drawn.
        note: What the reader has to know about them, plain text.
    """

    slices: tuple[Picture, ...]
    three_d: str | None
    note: str


def make_pictures(volume: Volume, result: InferenceResult, ijk: tuple[int, int, int]) -> Pictures:
    """Pictures of the three slices through a voxel of the input."""
    return drawn_pictures(volume, result, ijk)


def drawn_pictures(volume: Volume, result: InferenceResult, ijk: tuple[int, int, int]) -> Pictures:
    """Pictures of the slices of the input's own grid, drawn without Slicer."""
    note = "Pictures follow radiological convention: the patient's right is on the left."
    if is_oblique(result.geometry):
        note += " They show the slices of the image's own grid, which is tilted against the patient's axes."
    slices = tuple(
        Picture(picture.kind, picture.svg, f"{picture.plane.capitalize()}, slice {picture.slice_name}")
        for picture in draw_slices(volume, result, ijk)
    )
    return Pictures(slices, None, note)
