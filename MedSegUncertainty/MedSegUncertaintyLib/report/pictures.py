"""Pictures of a result: our own drawing of slices, and where it can render, Slicer's own views of the same place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.report.drawing import draw_slices
from MedSegUncertaintyLib.report.png import png_uri
from MedSegUncertaintyLib.volumes.geometry import Volume

_VIEWS = {"image": "image", "outlines": "samples and contours", "heat": "variance"}


@dataclass(frozen=True)
class Picture:
    """A picture in the report.

    Attributes:
        kind: "outlines" or "variance" of a slice drawn here, "scene" or "surfaces" for a slice or 3D view of Slicer.
        element: HTML element.
        caption: Plain text.
    """

    kind: str
    element: str
    caption: str


def make_pictures(volume: Volume, result: InferenceResult, ijk: tuple[int, int, int]) -> list[Picture]:
    """Pictures of the three slices through a voxel of the input; with Slicer's views of them where it can render."""
    pictures = drawn_pictures(volume, result, ijk)
    if can_render():
        pictures += rendered_pictures(volume, result, ijk)
    return pictures


def drawn_pictures(volume: Volume, result: InferenceResult, ijk: tuple[int, int, int]) -> list[Picture]:
    """Outlines and variance on the slices of the input's own grid; needs nothing but the library."""
    return [
        Picture(picture.kind, picture.svg, f"{picture.plane.capitalize()}, slice {picture.slice_name}")
        for picture in draw_slices(volume, result, ijk)
    ]


def rendered_pictures(volume: Volume, result: InferenceResult, ijk: tuple[int, int, int]) -> list[Picture]:
    """Slicer's slice views along the patient's axes and its 3D view; needs slicer-core and OpenGL."""
    from MedSegUncertaintyLib.scene.pictures import PLANES, render3DPicture, renderSlicePictures

    ras = result.geometry.to_ras(np.array(ijk)).tolist()
    with _result_in_scene(volume, result) as (volume_node, nodes):
        slices = renderSlicePictures(volume_node, nodes, dict.fromkeys(PLANES, ras))
        surfaces = render3DPicture(nodes)
    views = [(f"{plane}, {name}", slices[kind, plane]) for plane in sorted(PLANES) for kind, name in _VIEWS.items()]
    named = [("scene", *view) for view in views] + [("surfaces", "The outer, median and core region in 3D", surfaces)]
    return [Picture(kind, f'<img alt="{name}" src="{png_uri(pixels)}">', name) for kind, name, pixels in named]


def can_render() -> bool:
    """Whether there is Slicer's Python package with OpenGL, and no running Slicer, whose layout must not be touched."""
    if find_spec("slicer") is None:
        return False
    import slicer

    from MedSegUncertaintyLib.scene.headless import HeadlessApplication
    from MedSegUncertaintyLib.scene.rendering import isRenderingAvailable

    application = getattr(slicer, "app", None)
    return (application is None or isinstance(application, HeadlessApplication)) and isRenderingAvailable()


@contextmanager
def _result_in_scene(volume: Volume, result: InferenceResult) -> Iterator[tuple[Any, Any]]:
    """Volume node and result nodes in the scene of this process, which is left as it was."""
    from MedSegUncertaintyLib.scene.bundle import addVolume
    from MedSegUncertaintyLib.scene.headless import ensureApplication
    from MedSegUncertaintyLib.scene.nodes import addResult, removeResult

    scene = ensureApplication().mrmlScene()
    volume_node = addVolume(volume)
    try:
        nodes = addResult(result, volume_node)
        try:
            yield volume_node, nodes
        finally:
            removeResult(nodes)
    finally:
        scene.RemoveNode(volume_node)
