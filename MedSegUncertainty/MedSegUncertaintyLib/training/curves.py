"""Loss and validation curves of a training as a picture."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from MedSegUncertaintyLib.training.loop import read_log


def draw_curves(folder: Path, structures: list[str]) -> Path:
    """Draw ``curves.png`` from the log in ``folder``: losses on the left, validation Dice on the right."""
    rows = read_log(folder)
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores = figure.subplots(1, 2)
    for name in (key for key in rows[0] if key != "step" and not key.startswith("dice ")):
        losses.plot(steps, [row[name] for row in rows], label=name.replace("_", " "))
    for name in structures:
        scores.plot(steps, [row[f"dice {name}"] for row in rows], label=name)
    losses.set(xlabel="step", ylabel="training loss (per voxel)", yscale="symlog")
    scores.set(xlabel="step", ylabel="validation Dice of the mean prediction", ylim=(max(0.0, scores.get_ylim()[0]), 1))
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        axes.legend()
    path = folder / "curves.png"
    figure.savefig(path, dpi=120)
    return path
