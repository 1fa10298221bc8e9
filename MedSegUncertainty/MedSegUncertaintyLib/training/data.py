"""Training cases: read once onto the model's grid, then changed at random, reproducibly, one item at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.training.recipe import Augmentation, DataRule, Stage
from MedSegUncertaintyLib.volumes.intensity import IntensityRule, apply
from MedSegUncertaintyLib.volumes.placement import GridRule, Placement
from MedSegUncertaintyLib.volumes.reading import read_labels, read_volume


@dataclass(frozen=True)
class CaseFiles:
    """An image and its label map."""

    image: Path
    label: Path


def split_cases(folder: str | Path, rule: DataRule) -> tuple[list[CaseFiles], list[CaseFiles]]:
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


def load_case(case: CaseFiles, grid: GridRule, intensity: IntensityRule) -> tuple[np.ndarray, np.ndarray]:
    """Image (float32) and labels (uint8) of a case on the model's grid, both (K, J, I).

    Raises:
        BadInputError: The label map lies on another grid, or the image is not at the model's spacing. Label maps are
            not resampled: the readers' voxels are the reference.
    """
    image, label = read_volume(case.image), read_labels(case.label)
    if not image.geometry.matches(label.geometry):
        raise BadInputError(f"{case.label.name} does not lie on the grid of its image.")
    placement = Placement.plan(image.geometry, grid)
    if not np.allclose(sorted(placement.model.spacing), sorted(image.geometry.spacing), rtol=1e-6):
        raise BadInputError(f"{case.image.name} is not at the spacing of the recipe; resample the case first.")
    return apply(placement.to_model(image), intensity), placement.to_model(label).round().astype(np.uint8)


class PatchDataset(Dataset[tuple[Tensor, Tensor]]):
    """An endless, numbered sequence of augmented patches; item n depends on (seed, n) alone.

    That makes training exactly resumable and independent of the number of worker processes.

    Args:
        cases: Images and labels (K, J, I).
        stage: Size and padding of the patches.
        augmentation: Random changes.
        seed: Seed of the whole sequence.
    """

    def __init__(
        self, cases: list[tuple[np.ndarray, np.ndarray]], stage: Stage, augmentation: Augmentation, seed: int
    ) -> None:
        self._cases = cases
        self._seed = seed
        self._change = random_change(augmentation, stage)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        """Image (1, K, J, I) and labels (K, J, I) of item ``item``."""
        epoch, position = divmod(item, len(self._cases))
        order = np.random.default_rng((self._seed, 0, epoch)).permutation(len(self._cases))
        image, label = self._cases[order[position]]
        seed = int(np.random.default_rng((self._seed, 1, item)).integers(2**32))
        changed = self._change.set_random_state(seed=seed)(
            {"image": torch.from_numpy(image)[None], "label": torch.from_numpy(label)[None].float()}
        )
        return changed["image"].float(), changed["label"][0].long()


def random_change(rule: Augmentation, stage: Stage) -> Any:
    """MONAI transform of a dictionary with "image" and "label" (1, K, J, I) to a patch."""
    from monai import transforms

    angle = float(np.deg2rad(rule.rotate_degrees))
    affine = transforms.RandAffined(
        ("image", "label"),
        prob=1.0,
        rotate_range=[angle] * 3,
        scale_range=[rule.scale] * 3,
        translate_range=[rule.shift_voxels] * 3,
        spatial_size=stage.patch[::-1],
        mode=("bilinear", "nearest"),
        padding_mode=(stage.padding, "zeros"),
    )
    # Arrays are (K, J, I), so axis R is the last spatial one.
    flips = [transforms.RandFlipd(("image", "label"), prob=0.5, spatial_axis=2 - axis) for axis in rule.flip_axes]
    smoothing = (0.3, max(rule.blur_voxels, 0.3))
    appearance: list[Callable[..., Any]] = [
        transforms.RandGaussianSmoothd("image", smoothing, smoothing, smoothing, prob=0.2),
        transforms.RandBiasFieldd("image", coeff_range=(0.0, rule.bias_field), prob=0.3),
        transforms.RandAdjustContrastd(
            "image", prob=0.5, gamma=(rule.contrast_gamma[0], rule.contrast_gamma[1]), retain_stats=True
        ),
        transforms.RandGaussianNoised("image", prob=0.3, std=rule.noise),
    ]
    plain = transforms.ToTensord(("image", "label"), track_meta=False)
    return transforms.Compose([affine, *flips, *appearance, plain])


def seed_generator(generator: torch.Generator, *parts: int) -> torch.Generator:
    """Seed ``generator`` from several integers, so that each step has its own reproducible draws."""
    return generator.manual_seed(int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1))
