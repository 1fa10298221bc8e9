"""Training on 2D images that several readers segmented."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.evaluation.readers import ReaderFile
from MedSegUncertaintyLib.evaluation.run import evaluate, measure
from MedSegUncertaintyLib.inference.engine import Engine
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress, StageClock
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.training.patches import Case, PatchDataset
from MedSegUncertaintyLib.training.recipe import Augmentation, ReaderFiles, Stage
from MedSegUncertaintyLib.volumes.intensity import IntensityRule, apply

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.registry import SamplerModule

SAMPLES = 16
MANY_SAMPLES = 100
"""The number for which the SSN paper gives its figures; the distance falls with it."""

_IN_CARD = {
    "ged_squared": "GED²",
    "matched_iou": "HM-IoU",
    "matched_iou_subset_b": "HM-IoU, images where all readers drew something",
    "sample_diversity": "diversity of samples",
    "dice_empty_excluded": "Dice of the mean prediction",
    "ece": "ECE",
    "reconstruction_iou": "IoU of masks found again (two empty masks: 1)",
    "reconstruction_iou_lesion_readers": "the same without empty masks",
}


class ReaderImages:
    """Cases and figures of a recipe with :class:`~MedSegUncertaintyLib.training.recipe.ReaderFiles`.

    Args:
        folder: The data folder.
        rule: Its files.
        package: The planned package, whose rule maps the intensities of every image.

    Raises:
        BadInputError: A file cannot be read, or a patient is in training and validation.
    """

    def __init__(self, folder: Path, rule: ReaderFiles, package: ModelPackage) -> None:
        files = [ReaderFile.read(folder / name) for name in rule.training]
        self.training = ReaderCases(files, package.intensity)
        self._validation_path = folder / rule.validation
        validation = ReaderFile.read(self._validation_path)
        for file in files:
            if common := np.intersect1d(file.patients, validation.patients).tolist():
                both = f"{file.name} and {validation.name}"
                raise BadInputError(f"The patient {common[0]} is in both {both}; split the images by patient.")
        self._scored = validation.every(rule.score_every)
        self._intensity = package.intensity

    def items(self, stage: Stage, augmentation: Augmentation, seed: int) -> PatchDataset:
        """Changed patches of the cases."""
        return PatchDataset(self.training, stage, augmentation, seed)

    def score(self, model: SamplerModule, device: torch.device, heard: Callable[[], None]) -> dict[str, float]:
        """Squared energy distance and matched IoU of 16 samples and Dice of the mean, over the scored images."""
        engine = Engine(model, device, False, CancelToken(), None)
        clock = StageClock("score", len(self._scored), lambda _: heard())
        measured = measure(engine, self._scored, self._intensity, SAMPLES, 0, clock)
        names = ("ged_squared", "matched_iou", "sample_diversity", "dice_empty_excluded")
        return {
            name.replace("_", " "): float(totals.sum() / counts.sum())
            for name, (totals, counts) in ((name, measured[name, "model"]) for name in names)
        }

    def figures(self, package: ModelPackage, progress: Callable[[Progress], None] | None) -> dict[str, Any]:
        """What ``evaluate`` says of the package with 16 and with 100 samples per validation image."""
        return {
            f"{samples}_samples": evaluate(package, self._validation_path, samples=samples, progress=progress)
            for samples in (SAMPLES, MANY_SAMPLES)
        }

    def card_figures(self, figures: dict[str, Any]) -> str:
        """The figures as Markdown."""
        few = figures[f"{SAMPLES}_samples"]
        data, readers = few["data"], few["figures"]["reader_diversity"]["methods"]["readers"]["value"]
        lines = [
            f"{data['images']} validation images of {data['patients']} patients, {data['readers']} readers each, whose "
            f"own diversity is {readers:.3f}; in brackets the 95 % bootstrap interval over patients. GED² and HM-IoU "
            "count two empty masks as equal, the Dice leaves out pairs of empty masks; every convention is in "
            "`configs/metadata.json`.",
            "",
            "| figure | " + " | ".join(key.replace("_", " ") for key in figures) + " |",
            "| --- |" + " --- |" * len(figures),
        ]
        titles = _IN_CARD | {name: f"KL at scale {name[9:]}, nats" for name in few["figures"] if name[:3] == "kl_"}
        for name, title in titles.items():
            if name in few["figures"]:
                cells = [_cell(measured["figures"][name]["methods"]) for measured in figures.values()]
                lines.append(f"| {title} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


class ReaderCases:
    """Images of several files, unpacked and normalized when asked for."""

    def __init__(self, files: list[ReaderFile], intensity: IntensityRule) -> None:
        self._intensity = intensity
        self._places = [(file, index) for file in files for index in range(len(file))]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Case:
        """Image (1, H, W) and masks (R, H, W)."""
        file, position = self._places[index]
        image, masks = file.case(position)
        return apply(image, self._intensity)[None], masks


def _cell(methods: dict[str, Any]) -> str:
    figure = methods["model"] if "model" in methods else methods["reconstruction"]
    if figure["value"] is None:
        return "none"
    interval = figure["interval_95"]
    return f"{figure['value']:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
