"""Loss and validation curves of a training as a picture."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from MedSegUncertaintyLib.training.loop import SCORE, read_log


def draw_curves(folder: Path) -> Path:
    """Draw ``curves.png`` from the log in ``folder``: losses on the left, scores on validation cases on the right."""
    rows = read_log(folder)
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores = figure.subplots(1, 2)
    for name in dict.fromkeys(key for row in rows for key in row if key != "step"):
        axes = scores if name.startswith(SCORE) else losses
        points = [(row["step"], row[name]) for row in rows if name in row]
        axes.plot(*zip(*points, strict=True), label=name.removeprefix(SCORE).replace("_", " "))
    losses.set(xlabel="step", ylabel="training loss (per voxel)", yscale="symlog")
    scores.set(xlabel="step", ylabel="score on validation cases", ylim=(max(0.0, scores.get_ylim()[0]), 1))
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    path = folder / "curves.png"
    figure.savefig(path, dpi=120)
    return path
