"""Training on color photographs that one or more observers outlined."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.evaluation.centerlines import centerline_dice, sensitivity
from MedSegUncertaintyLib.evaluation.overlap import dice
from MedSegUncertaintyLib.inference.channels import in_order, model_image
from MedSegUncertaintyLib.inference.progress import Progress, StageClock
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.packages.package import COLORS, ModelPackage
from MedSegUncertaintyLib.training.patches import Case, PatchDataset
from MedSegUncertaintyLib.training.recipe import Augmentation, PhotographFiles, Stage
from MedSegUncertaintyLib.volumes.geometry import Volume
from MedSegUncertaintyLib.volumes.placement import Placement
from MedSegUncertaintyLib.volumes.reading import read_color

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.registry import SamplerModule

SAMPLES = 4
STRUCTURE = 1
"""Label of the one structure that is outlined."""

FIGURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "dice": lambda found, truth: dice(found, truth, both_empty=1.0),
    "sensitivity": lambda found, truth: sensitivity(found, truth, nothing_there=1.0),
    "centerline_dice": lambda found, truth: centerline_dice(found, truth, both_empty=1.0),
}


@dataclass(frozen=True)
class OutlinedPhotograph:
    """A photograph and the pictures of its outlines, one per observer."""

    photograph: Path
    outlines: tuple[Path, ...]

    def channels(self) -> dict[str, Volume]:
        """Red, green and blue by role."""
        return dict(zip(COLORS, read_color(self.photograph), strict=True))

    def outline(self, observer: int) -> np.ndarray:
        """What an observer outlined, (H, W) bool."""
        with Image.open(self.outlines[observer]) as picture:
            return np.asarray(picture.convert("L")) > 127


class Photographs:
    """Cases and figures of a recipe with :class:`~MedSegUncertaintyLib.training.recipe.PhotographFiles`.

    Args:
        folder: The data folder.
        rule: Its files.
        package: The planned package, whose channels and intensity rules every photograph follows.
        progress: Called after each photograph that is read.

    Raises:
        BadInputError: There are too few photographs, or one cannot be used.
    """

    def __init__(
        self, folder: Path, rule: PhotographFiles, package: ModelPackage, progress: Callable[[Progress], None] | None
    ) -> None:
        files = photograph_files(folder, rule)
        self._tested, self._observers = files[rule.training :], rule.observers
        clock = StageClock("read photographs", rule.training, progress)
        self.training = [clock.counted(load_case(file, package)) for file in files[: rule.training]]

    def items(self, stage: Stage, augmentation: Augmentation, seed: int) -> PatchDataset:
        """Changed patches of the photographs."""
        return PatchDataset(self.training, stage, augmentation, seed)

    def score(self, model: SamplerModule, device: torch.device, heard: Callable[[], None]) -> dict[str, float]:
        """Nothing: all photographs that are not trained on are for the test, which no training may look at."""
        return {}

    def figures(self, package: ModelPackage, progress: Callable[[Progress], None] | None) -> dict[str, Any]:
        """Figures of the package on the tested photographs, through the same inference that users run."""
        clock = StageClock("test", len(self._tested), progress)
        rows = [clock.counted(self._measure(file, package)) for file in self._tested]
        methods = {method: summary([row[method] for row in rows]) for method in rows[0]}
        return {"photographs": len(rows), "samples": SAMPLES, "methods": methods}

    def _measure(self, file: OutlinedPhotograph, package: ModelPackage) -> dict[str, dict[str, float]]:
        others = file.channels()
        image = others.pop(package.channels[0].role)
        result = segment(image, InferenceRequest(str(package.folder), samples=SAMPLES, seed=0), channels=others)
        truths = {name: file.outline(number) for number, name in enumerate(self._observers)}
        found = {
            "mean of the samples": result.statistics.prediction[0] == STRUCTURE,
            "a single sample": result.samples[0][0] == STRUCTURE,
        }
        first, *further = self._observers
        pairs = [(name, mask, observer) for name, mask in found.items() for observer in truths]
        pairs += [(observer, truths[observer], first) for observer in further]
        return {f"{name}, {observer}": agreement(mask, truths[observer]) for name, mask, observer in pairs}

    def card_figures(self, figures: dict[str, Any]) -> str:
        """The figures as a Markdown table."""
        lines = [
            f"{figures['photographs']} photographs that were not trained on, {figures['samples']} samples each; mean "
            "(SD) over the photographs.",
            "",
            "| found by, compared with | " + " | ".join(name.replace("_", " ") for name in FIGURES) + " |",
            "| --- |" + " --- |" * len(FIGURES),
        ]
        for method, row in figures["methods"].items():
            cells = [f"{row[name]['mean']:.3f} ({row[name]['sd']:.3f})" for name in FIGURES]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


def photograph_files(folder: Path, rule: PhotographFiles) -> list[OutlinedPhotograph]:
    """All photographs by name, with their outlines.

    Raises:
        BadInputError: A folder is missing, or there are not as many outlines as photographs, or too few of these.
    """
    folders = [folder / rule.photographs, *(folder / name for name in rule.observers)]
    if missing := [path for path in folders if not path.is_dir()]:
        raise BadInputError(f"There is no folder {missing[0]}.")
    # Names with a dot in front are leftovers of macOS.
    listed = [sorted(path for path in files.iterdir() if not path.name.startswith(".")) for files in folders]
    if len({len(files) for files in listed}) != 1:
        counts = ", ".join(f"{len(files)} in {path.name}" for path, files in zip(folders, listed, strict=True))
        raise BadInputError(f"Photographs and outlines are not equal in number: {counts}.")
    if not 0 < rule.training < len(listed[0]):
        raise BadInputError(f"Of {len(listed[0])} photographs, {rule.training} cannot be trained on and others tested.")
    return [OutlinedPhotograph(photograph, tuple(outlines)) for photograph, *outlines in zip(*listed, strict=True)]


def load_case(file: OutlinedPhotograph, package: ModelPackage) -> Case:
    """Image (3, H, W) and the first observer's outline (1, H, W) of a photograph, as the package wants them.

    Raises:
        BadInputError: The photograph cannot be used, or its outline is of another size.
    """
    others = file.channels()
    image = others.pop(package.channels[0].role)
    placement = Placement.plan(image.geometry, package.grid)
    seen = model_image(package, placement, in_order(package, image, others))[:, 0]
    outline = file.outline(0)
    if outline.shape != seen.shape[1:]:
        raise BadInputError(f"{file.outlines[0].name} is not as large as {file.photograph.name}.")
    return seen, outline.astype(np.uint8)[None]


def agreement(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """All of :data:`FIGURES` of two masks (H, W)."""
    return {name: figure(found, truth) for name, figure in FIGURES.items()}


def summary(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and SD of every figure."""
    columns: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            columns[name].append(value)
    return {name: {"mean": float(np.mean(values)), "sd": float(np.std(values))} for name, values in columns.items()}
