"""Training on volumes with one label map each, as a whole or slice by slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.evaluation.overlap import dice
from MedSegUncertaintyLib.inference.engine import Engine
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress, StageClock
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.inference.walking import SliceWalker
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.training.patches import Case, PatchDataset
from MedSegUncertaintyLib.training.recipe import Augmentation, PairFiles, Stage
from MedSegUncertaintyLib.volumes.geometry import RegionOfInterest, Volume
from MedSegUncertaintyLib.volumes.intensity import apply
from MedSegUncertaintyLib.volumes.placement import Placement
from MedSegUncertaintyLib.volumes.reading import read_labels, read_volume

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.registry import SamplerModule

SAMPLES = 16


@dataclass(frozen=True)
class CaseFiles:
    """An image and its label map."""

    image: Path
    label: Path


class VolumePairs:
    """Cases and figures of a recipe with :class:`~MedSegUncertaintyLib.training.recipe.PairFiles`.

    Args:
        folder: The data folder.
        rule: Its files.
        package: The planned package, whose grid and intensity rules every case follows.
        progress: Called after each case that is read.

    Raises:
        BadInputError: There are no cases, or one cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        rule: PairFiles,
        package: ModelPackage,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._package = package
        training, self._validation_files = split_cases(folder, rule)
        clock = StageClock("read cases", len(training) + len(self._validation_files), progress)
        self.training, self._validation = (
            [clock.counted(load_case(case, package)) for case in files] for files in (training, self._validation_files)
        )

    def items(self, stage: Stage, augmentation: Augmentation, seed: int) -> PatchDataset:
        """Changed patches of the cases, or of all their slices where a patch has two sizes."""
        cases = slices_of(self.training) if len(stage.patch) == 2 else self.training
        return PatchDataset(cases, stage, augmentation, seed)

    def score(self, model: SamplerModule, device: torch.device, heard: Callable[[], None]) -> dict[str, float]:
        """Mean Dice of each structure over whole validation cases, of the segmentation without noise."""
        labels = [structure.label for structure in self._package.structures]
        # Without noise it does not matter how far along the slices it is correlated.
        whole = model if model.spatial_dims == 3 else cast("SamplerModule", SliceWalker(model, 1.0))
        engine = Engine(whole, device, False, CancelToken(), None)
        scores = []
        for image, (reader,) in self._validation:
            heard()
            (drawn,) = engine.sample(torch.from_numpy(image), 1, NoiseSource(0, scale=0.0))
            prediction = drawn.argmax(dim=0).cpu().numpy()
            scores.append([dice(prediction == label, reader == label, both_empty=1.0) for label in labels])
        names = [f"dice {structure.name}" for structure in self._package.structures]
        return dict(zip(names, np.mean(scores, axis=0).tolist(), strict=True))

    def figures(self, package: ModelPackage, progress: Callable[[Progress], None] | None) -> dict[str, Any]:
        """Figures of the package on the validation cases, measured through the same inference that users run."""
        return validate_package(package, self._validation_files, progress)

    def card_figures(self, figures: dict[str, Any]) -> str:
        """The figures as Markdown."""
        return card_figures(figures)


def split_cases(folder: str | Path, rule: PairFiles) -> tuple[list[CaseFiles], list[CaseFiles]]:
    """Training and validation cases below ``folder``: every n-th by name is for validation.

    Raises:
        BadInputError: No images, or an image without a label map.
    """
    folder = Path(folder)
    # Names with a dot in front are leftovers of macOS.
    images = sorted(path for path in (folder / rule.images).glob("*.nii.gz") if not path.name.startswith("."))
    if not images:
        raise BadInputError(f"There are no .nii.gz images in {folder / rule.images}.")
    cases = [CaseFiles(image, folder / rule.labels / image.name) for image in images]
    missing = [case.label.name for case in cases if not case.label.is_file()]
    if missing:
        raise BadInputError(f"{len(missing)} images have no label map in {folder / rule.labels}, first {missing[0]}.")
    validation = cases[:: rule.validation_every]
    return [case for case in cases if case not in validation], validation


def load_case(case: CaseFiles, package: ModelPackage) -> Case:
    """Image (1, K, J, I) and labels (1, K, J, I) of a case on the model's grid.

    Raises:
        BadInputError: The label map lies on another grid, or the image is not at the model's spacing. Label maps are
            not resampled: the readers' voxels are the reference.
    """
    image, label = read_volume(case.image), read_labels(case.label)
    if not image.geometry.matches(label.geometry):
        raise BadInputError(f"{case.label.name} does not lie on the grid of its image.")
    placement = Placement.plan(image.geometry, package.grid)
    if not np.allclose(sorted(placement.model.spacing), sorted(image.geometry.spacing), rtol=1e-6):
        raise BadInputError(f"{case.image.name} is not at the spacing of the recipe; resample the case first.")
    labels = placement.to_model(label).round().astype(np.uint8)
    return apply(placement.to_model(image), package.intensity)[None], labels[None]


def slices_of(cases: list[Case]) -> list[Case]:
    """Images (1, J, I) and labels (1, J, I) of all slices, which share memory with their volumes."""
    return [(image[:, k], labels[:, k]) for image, labels in cases for k in range(image.shape[1])]


def validate_package(
    package: ModelPackage, cases: list[CaseFiles], progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Dice of the mean prediction and coverage of the volume interval, per structure, over ``cases``.

    Returns:
        Plain JSON types; the conventions are named in the keys.
    """
    clock = StageClock("validate", len(cases), progress)
    rows = []
    for case in cases:
        image, reader = read_volume(case.image), read_labels(case.label).array
        request = InferenceRequest(str(package.folder), samples=SAMPLES, seed=0, roi=whole_region(image))
        rows.append(clock.counted(case_figures(segment(image, request), reader)))
    return {
        "cases": len(cases),
        "samples": SAMPLES,
        "structures": {
            structure.name: {key: _summary(key, [row[structure.name][key] for row in rows]) for key in _KEYS}
            for structure in package.structures
        },
    }


_KEYS = (
    "dice_of_mean_prediction",
    "mean_dice_of_single_samples",
    "mean_pairwise_dice_of_samples",
    "reader_volume_inside_90_percent_interval",
    "interval_width_percent_of_reader_volume",
)


def case_figures(result: InferenceResult, reader: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Figures of one case per structure; ``reader`` are the reader's labels on the input grid."""
    truth = reader[result.box.slices_kji]
    figures = {}
    for index, structure in enumerate(result.structures):
        mask = truth == structure.label
        spread = result.summary["structures"][index]["volume_ml"]
        volume = mask.sum() * result.geometry.voxel_volume_ml
        prediction = result.statistics.prediction == structure.label
        singles = [dice(labels == structure.label, mask, both_empty=1.0) for labels in result.samples]
        values = (
            dice(prediction, mask, both_empty=1.0),
            float(np.mean(singles)),
            result.summary["structures"][index]["mean_pairwise_dice"],
            float(spread["q05"] <= volume <= spread["q95"]),
            100.0 * (spread["q95"] - spread["q05"]) / volume if volume else None,
        )
        figures[structure.name] = dict(zip(_KEYS, values, strict=True))
    return figures


def card_figures(figures: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    lines = [
        f"{figures['cases']} held-out cases, {figures['samples']} samples each, argmax of the mean probability; the "
        "interval is the 5 % to 95 % quantile of the sample volumes.",
        "",
        "| structure | Dice of the mean prediction, mean (SD) | Dice of single samples | Dice between samples "
        "| reader's volume inside the interval | width of the interval / reader's volume |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in figures["structures"].items():
        overlap, singles, pairs, inside, width = (row[key] for key in _KEYS)
        lines.append(
            f"| {name} | {overlap['mean']:.3f} ({overlap['sd']:.3f}) | {singles['mean']:.3f} | {pairs['mean']:.3f} "
            f"| {inside['count']} of {figures['cases']} | {width.get('mean', float('nan')):.0f} % |"
        )
    return "\n".join(lines)


def whole_region(volume: Volume) -> RegionOfInterest:
    """A region of interest that holds the whole volume."""
    shape = np.array(volume.geometry.shape_ijk)
    corners = volume.geometry.to_ras(np.stack([np.zeros(3), shape - 1.0]))
    extent = np.abs(volume.geometry.direction) @ (shape * volume.geometry.spacing)
    center = corners.mean(axis=0)
    return RegionOfInterest((center[0], center[1], center[2]), (extent[0], extent[1], extent[2]))


def _summary(key: str, values: list[float | None]) -> dict[str, float]:
    """Mean, SD and minimum; cases in which a figure is not defined (an empty reader's mask) do not count."""
    defined = [value for value in values if value is not None]
    if key == "reader_volume_inside_90_percent_interval":
        return {"count": int(sum(defined)), "fraction": float(np.mean(defined))}
    if not defined:
        return {}
    return {"mean": float(np.mean(defined)), "sd": float(np.std(defined)), "minimum": float(np.min(defined))}
