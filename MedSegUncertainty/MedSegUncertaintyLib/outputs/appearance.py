"""How parts of a result are named and colored: the same in files, in the scene and in the report."""

from __future__ import annotations

import colorsys

import numpy as np

from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS

Color = tuple[float, float, float]
"""Red, green, blue in [0, 1]."""

# A few colors of matplotlib's perceptually uniform maps (CC0). The dark start of inferno is left out: on a gray image
# nobody can tell it from a shadow.
PALETTES: dict[str, tuple[str, ...]] = {
    "inferno": ("420a68", "932667", "dd513a", "fca50a", "fcffa4"),
    "viridis": ("440154", "3b528b", "21918c", "5ec962", "fde725"),
}

VARIANCE_MAXIMUM = 0.25
"""Upper end of the variance's scale, which is fixed: half of the samples are sure of yes, half are sure of no."""
TRANSPARENT_BELOW = 0.04
"""Share of a map's scale below which only the image is seen."""

_WHITE, _BLACK = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
_OUTER, _MEDIAN, _CORE = CONTOUR_LEVELS
_TINTS = {_OUTER: (_WHITE, 0.55), _MEDIAN: (_WHITE, 0.0), _CORE: (_BLACK, 0.35)}


def sample_id(sample: int, structure: Structure) -> str:
    """Identifier of a sample's segment; samples count from 0 in code and from 1 in what users see."""
    return f"sample_{sample + 1:02d}_{structure.slug}"


def sample_name(sample: int, structure: Structure) -> str:
    """Name of a sample's segment."""
    return f"Sample {sample + 1}: {structure.name}"


def sample_color(sample: int, count: int, structure: Structure) -> Color:
    """One of ``count`` shades of the structure's color, dark to light; the color itself if there is only one."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*structure.color)
    if count > 1:
        lightness = 0.45 + 0.35 * sample / (count - 1)
    return colorsys.hls_to_rgb(hue, lightness, saturation)


def contour_id(structure: Structure, level: float) -> str:
    """Identifier of a contour's segment."""
    return f"{structure.slug}_{round(100 * level):02d}"


def contour_name(structure: Structure, level: float) -> str:
    """Name of a contour's segment."""
    return f"{structure.name}: {100 * level:.0f} % of samples"


def contour_color(structure: Structure, level: float) -> Color:
    """Lighter for the outer region, the structure's own for the median, darker for the core."""
    other, share = _TINTS[level]
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(structure.color, other, strict=True))
    return (red, green, blue)


def palette_colors(name: str, positions: np.ndarray) -> np.ndarray:
    """Colors (..., 3) in [0, 1] of a palette at positions in [0, 1]."""
    anchors = np.array([[int(text[n : n + 2], 16) / 255 for n in (0, 2, 4)] for text in PALETTES[name]])
    places = np.linspace(0.0, 1.0, len(anchors))
    return np.stack([np.interp(positions, places, channel) for channel in anchors.T], axis=-1)


def hex_color(color: Color) -> str:
    """A color as HTML and SVG write it: "#rrggbb"."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in color)
