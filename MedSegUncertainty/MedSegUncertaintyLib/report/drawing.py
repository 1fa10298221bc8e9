"""Slice pictures as inline SVG: the image, the outlines of what the samples agree on, and the variance.

Drawn here rather than by a plotting library: lines stay sharp at any size, and a report needs nothing installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.outputs.appearance import TRANSPARENT_BELOW, VARIANCE_MAXIMUM, hex_color, palette_colors
from MedSegUncertaintyLib.report.outlines import outlines
from MedSegUncertaintyLib.report.png import png_uri
from MedSegUncertaintyLib.report.slices import SliceView, orthogonal_views, shown_box
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS, contour_mask
from MedSegUncertaintyLib.volumes.geometry import Box, Volume

HEAT_PALETTE = "inferno"

LINE_STYLES = {0.05: 'stroke-width="1.2" stroke-dasharray="3 3"', 0.50: 'stroke-width="2.4"', 0.95: 'stroke-width="1"'}
SCALE_BAR_MM = 10.0


@dataclass(frozen=True)
class SlicePicture:
    """A picture of one slice.

    Attributes:
        plane: "axial", "coronal" or "sagittal".
        kind: "outlines" or "variance"; "scale 0", ... for that of a scale.
        slice_name: Voxel axis and index, for example "K 12".
        svg: An ``<svg>`` element.
    """

    plane: str
    kind: str
    slice_name: str
    svg: str


def draw_slices(
    volume: Volume, result: InferenceResult, ijk: tuple[int, int, int], window: tuple[float, float]
) -> list[SlicePicture]:
    """Two pictures, with outlines and with variance, of each of the three slices through a voxel of the input.

    Args:
        volume: The image that was segmented.
        result: What came out.
        ijk: The voxel.
        window: Values of the image shown as black and white.
    """
    shown = shown_box(result)
    return [
        picture
        for view in orthogonal_views(result.geometry, ijk)
        for picture in _draw(_Panel(view, shown, volume, result, window), ijk)
    ]


def draw_scales(
    volume: Volume, result: InferenceResult, ijk: tuple[int, int, int], window: tuple[float, float]
) -> list[SlicePicture]:
    """The variance of each scale, where the result tells it, on the axial slice through a voxel of the input.

    Arguments as those of :func:`draw_slices`.
    """
    panel = _Panel(orthogonal_views(result.geometry, ijk)[0], shown_box(result), volume, result, window)
    scales = () if result.scales is None else result.scales.scales
    return [
        _picture(panel, f"scale {number}", ijk, _heat(panel, scale.variance)) for number, scale in enumerate(scales)
    ]


def heat_pixels(variance: np.ndarray) -> np.ndarray:
    """RGBA colors, uint8, of variances on their fixed scale."""
    share = np.clip(variance / VARIANCE_MAXIMUM, 0.0, 1.0)
    pixels = np.empty((*variance.shape, 4), dtype=np.uint8)
    pixels[..., :3] = np.rint(255 * palette_colors(HEAT_PALETTE, share))
    # Low values let the image through; a large variance is worth covering it.
    pixels[..., 3] = np.where(share < TRANSPARENT_BELOW, 0, 130 + 90 * share)
    return pixels


@dataclass(frozen=True)
class _Panel:
    """Everything that the pictures of one slice share."""

    view: SliceView
    shown: Box
    volume: Volume
    result: InferenceResult
    window: tuple[float, float]

    @property
    def spacing(self) -> tuple[float, float]:
        """Width and height of a pixel in mm."""
        return (
            float(self.result.geometry.spacing[self.view.columns]),
            float(self.result.geometry.spacing[self.view.rows]),
        )

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the slice in mm."""
        size = self.shown.shape_ijk
        return size[self.view.columns] * self.spacing[0], size[self.view.rows] * self.spacing[1]

    @property
    def side_mm(self) -> float:
        """Side of the square picture; one for all planes, so that they have one scale."""
        return float(np.max(np.array(self.shown.shape_ijk) * self.result.geometry.spacing))


def _draw(panel: _Panel, ijk: tuple[int, int, int]) -> Iterator[SlicePicture]:
    yield _picture(panel, "outlines", ijk, "".join(_outline_paths(panel)))
    yield _picture(panel, "variance", ijk, _heat(panel, panel.result.statistics.variance.max(axis=0)))


def _heat(panel: _Panel, variance: np.ndarray) -> str:
    """A variance map (K, J, I) of the result's box in colors."""
    return _image(heat_pixels(panel.view.pixels(variance, panel.result.box, panel.shown)), *panel.size_mm)


def _picture(panel: _Panel, kind: str, ijk: tuple[int, int, int], layer: str) -> SlicePicture:
    """The slice with one layer over it."""
    width, height = panel.size_mm
    side = panel.side_mm
    gray = panel.view.pixels(panel.volume.array, panel.result.geometry.whole(), panel.shown).astype(np.float64)
    low, high = panel.window
    gray = np.clip((gray - low) / (high - low) * 255.0, 0.0, 255.0).astype(np.uint8)
    left, top = (side - width) / 2, (side - height) / 2
    label = f"{panel.view.plane.capitalize()} slice with {kind}"
    return SlicePicture(
        panel.view.plane,
        kind,
        f"{'IJK'[panel.view.axis]} {panel.view.index}",
        f'<svg class="slice" role="img" aria-label="{label}" viewBox="0 0 {side:.2f} {side:.2f}">'
        f'<rect width="100%" height="100%" fill="#000"/><g transform="translate({left:.2f} {top:.2f})">'
        f"{_image(gray, width, height)}{layer}{_ticks(panel, ijk)}</g>{_marks(panel.view, side)}</svg>",
    )


def _image(pixels: np.ndarray, width: float, height: float) -> str:
    return f'<image width="{width:.3f}" height="{height:.3f}" preserveAspectRatio="none" href="{png_uri(pixels)}"/>'


def _outline_paths(panel: _Panel) -> Iterator[str]:
    count = panel.result.statistics.count
    for index, structure in enumerate(panel.result.structures):
        agreement = panel.view.pixels(panel.result.statistics.agreement[index], panel.result.box, panel.shown)
        color = hex_color(structure.color)
        for level in CONTOUR_LEVELS:
            # Half a sample below the fewest votes that are enough: every voxel center lies on its right side.
            enough = agreement[contour_mask(agreement, count, level)]
            if enough.size:
                votes = np.rint(enough.min() * count)
                commands = _path(outlines(agreement, (votes - 0.5) / count), panel.spacing)
                style = LINE_STYLES[level]
                yield (
                    f'<path d="{commands}" fill="none" stroke="{color}" {style} stroke-linejoin="round" '
                    'vector-effect="non-scaling-stroke"/>'
                )


def _path(lines: list[list[tuple[float, float]]], spacing: tuple[float, float]) -> str:
    """Path in mm; the center of the first pixel lies half a pixel inside the picture."""
    return "".join(
        "M" + "L".join(f"{(x + 0.5) * spacing[0]:.2f} {(y + 0.5) * spacing[1]:.2f}" for x, y in line) for line in lines
    )


def _ticks(panel: _Panel, ijk: tuple[int, int, int]) -> str:
    """Short lines at the edges that point at the place where the three slices meet."""
    width, height = panel.size_mm
    x, y = (
        _position(panel, axis, flipped, ijk[axis])
        for axis, flipped in ((panel.view.columns, panel.view.flip_columns), (panel.view.rows, panel.view.flip_rows))
    )
    length = 0.035 * panel.side_mm
    return (
        f'<path d="M{x:.2f} 0V{length:.2f}M{x:.2f} {height:.2f}V{height - length:.2f}M0 {y:.2f}H{length:.2f}'
        f'M{width:.2f} {y:.2f}H{width - length:.2f}" stroke="#7fd4ff" stroke-width="1.5" '
        'vector-effect="non-scaling-stroke"/>'
    )


def _position(panel: _Panel, axis: int, flipped: bool, index: int) -> float:
    """Distance in mm of the center of a voxel from the left or upper edge."""
    pixel = index - panel.shown.start_ijk[axis]
    if flipped:
        pixel = panel.shown.shape_ijk[axis] - 1 - pixel
    return float((pixel + 0.5) * panel.result.geometry.spacing[axis])


def _marks(view: SliceView, side: float) -> str:
    """Letters of the directions and a bar of 10 mm."""
    left, right, top, bottom = view.letters
    size, inset = 0.05 * side, 0.055 * side
    middle, far = side / 2, side - inset
    places = ((inset, middle, left), (far, middle, right), (middle, inset, top), (middle, far, bottom))
    letters = "".join(
        f'<text x="{x:.2f}" y="{y:.2f}" font-size="{size:.2f}" text-anchor="middle" dominant-baseline="central">'
        f"{letter}</text>"
        for x, y, letter in places
    )
    return (
        f'<g class="marks">{letters}<path d="M{far - SCALE_BAR_MM:.2f} {far:.2f}H{far:.2f}" stroke="#fff" '
        f'stroke-width="2" vector-effect="non-scaling-stroke"/><text x="{far - SCALE_BAR_MM / 2:.2f}" '
        f'y="{far - 0.6 * size:.2f}" font-size="{0.7 * size:.2f}" text-anchor="middle">{SCALE_BAR_MM:.0f} mm</text></g>'
    )
