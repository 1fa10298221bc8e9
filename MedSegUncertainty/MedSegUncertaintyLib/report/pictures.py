"""Pictures of a result: our own drawing of slices, and where it can render, Slicer's own views of the same place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from MedSegUncertaintyLib.errors import CanceledError
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.report.drawing import draw_scales, draw_slices
from MedSegUncertaintyLib.report.png import png_uri
from MedSegUncertaintyLib.report.slices import shown_box
from MedSegUncertaintyLib.scene.rendering import isRenderingAvailable
from MedSegUncertaintyLib.volumes.geometry import Volume
from MedSegUncertaintyLib.volumes.intensity import gray_window

InScene = Callable[[], tuple[Any, Any]]
"""Gives the volume node and the ``scene.nodes.ResultNodes`` of a result."""

_VIEWS = {"image": "image", "outlines": "samples and contours", "heat": "variance"}


@dataclass(frozen=True)
class Picture:
    """A picture in the report.

    Attributes:
        kind: "outlines", "variance" or "scale" of a slice drawn here, "scene" or "surfaces" for a slice or 3D view of
            Slicer.
        element: HTML element.
        caption: Plain text.
    """

    kind: str
    element: str
    caption: str


@dataclass(frozen=True)
class PictureSet:
    """All pictures of a report.

    Attributes:
        pictures: In the order of the page.
        window: Values of the image shown as black and white.
        views_failed: Why Slicer's views are missing although they should be there; empty otherwise.
    """

    pictures: list[Picture]
    window: tuple[float, float]
    views_failed: str = ""


def make_pictures(
    volume: Volume, result: InferenceResult, ijk: tuple[int, int, int], in_scene: InScene | None = None
) -> PictureSet:
    """Pictures of the three slices through a voxel of the input; with Slicer's views of them where it can render.

    Args:
        volume: The image that was segmented.
        result: What came out.
        ijk: The voxel.
        in_scene: Gives the nodes of both if they are in the scene anyway; otherwise they are added for a while.
    """
    window = gray_window(volume.array[shown_box(result).slices_kji], result.package.intensity)
    pictures = drawn_pictures(volume, result, ijk, window)
    failed = ""
    try:
        if isRenderingAvailable():
            from MedSegUncertaintyLib.scene.bundle import resultInScene

            with nullcontext(in_scene()) if in_scene else resultInScene(volume, result) as (volume_node, nodes):
                pictures += rendered_pictures(volume_node, nodes, result.geometry.to_ras(np.array(ijk)), window)
    except (CanceledError, MemoryError):
        raise
    except Exception as error:  # Slicer's views must not cost the reader the rest of the report
        failed = f"{type(error).__name__}: {error}".rstrip(".")
    return PictureSet(pictures, window, failed)


def drawn_pictures(
    volume: Volume, result: InferenceResult, ijk: tuple[int, int, int], window: tuple[float, float]
) -> list[Picture]:
    """Outlines and variance on the slices of the input's own grid; needs nothing but the library."""
    return [
        Picture(picture.kind, picture.svg, f"{picture.plane.capitalize()}, slice {picture.slice_name}")
        for picture in draw_slices(volume, result, ijk, window)
    ] + [
        Picture("scale", picture.svg, f"{picture.kind.capitalize()} alone; {picture.plane}, slice {picture.slice_name}")
        for picture in draw_scales(volume, result, ijk, window)
    ]


def rendered_pictures(volume_node: Any, nodes: Any, ras: np.ndarray, window: tuple[float, float]) -> list[Picture]:
    """Slicer's slice views through a point along the patient's axes and its 3D view; needs slicer-core and OpenGL."""
    from MedSegUncertaintyLib.scene.pictures import PLANES, render3DPicture, renderSlicePictures

    slices = renderSlicePictures(volume_node, nodes, dict.fromkeys(PLANES, ras.tolist()), window=window)
    surfaces = render3DPicture(nodes)
    views = [(f"{plane}, {name}", slices[kind, plane]) for plane in sorted(PLANES) for kind, name in _VIEWS.items()]
    named = [("scene", *view) for view in views] + [("surfaces", "The outer, median and core region in 3D", surfaces)]
    return [Picture(kind, f'<img alt="{name}" src="{png_uri(pixels)}">', name) for kind, name, pixels in named]
