"""Draw the icon of the extension: the 5, 50 and 95 % contours of an uncertain structure around its sure core.

Run it from anywhere with matplotlib installed; it writes both copies of the icon.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
TARGETS = (
    ROOT / "Resources" / "MedSegUncertainty.png",
    ROOT / "MedSegUncertainty" / "Resources" / "Icons" / "MedSegUncertainty.png",
)
PIXELS = 128
BACKGROUND = "#14213d"
# From the outermost contour, which a structure rarely reaches, to the core that every sample shares.
LAYERS = (
    {"spread": 1.35, "fill": "#1f4e79", "line": "#4aa8e0"},
    {"spread": 1.00, "fill": "#2a7f9e", "line": "#8fe3e8"},
    {"spread": 0.62, "fill": "#f6b73c", "line": "#ffe9b0"},
)
CORE = "#fffbe6"


def outline(spread: float) -> tuple[np.ndarray, np.ndarray]:
    """A bean-shaped contour that becomes rounder and more lopsided as the spread grows."""
    angle = np.linspace(0, 2 * np.pi, 400)
    radius = 0.56 * spread * (1 + 0.15 * np.cos(2 * angle - 0.7) + 0.07 * spread * np.cos(3 * angle - 0.9))
    dent = 0.25 * np.exp((np.cos(angle - 5.3) - 1) / 0.2)
    radius = radius * (1 - dent)
    return radius * np.cos(angle), radius * np.sin(angle) - 0.04


def main() -> None:
    """Draw the icon and write it to both places."""
    figure = plt.figure(figsize=(1, 1), dpi=PIXELS)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-1.06, 1.06), ylim=(-1.06, 1.06), aspect="equal")
    axes.axis("off")
    rounded = "round,pad=0.3,rounding_size=0.42"
    axes.add_patch(FancyBboxPatch((-0.72, -0.72), 1.44, 1.44, boxstyle=rounded, fc=BACKGROUND, ec="none"))
    for layer in LAYERS:
        x, y = outline(layer["spread"])
        axes.fill(x, y, color=layer["fill"], lw=0)
        axes.plot(x, y, color=layer["line"], lw=1.6, solid_joinstyle="round")
    x, y = outline(0.34)
    axes.fill(x, y, color=CORE, lw=0)
    for target in TARGETS:
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, dpi=PIXELS, transparent=True, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
