"""A training recipe: a TOML file with everything that is needed to make a package again."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from MedSegUncertaintyLib.errors import BadInputError


@dataclass(frozen=True)
class PairFiles:
    """Volumes with one label map each.

    Attributes:
        images: Folder of images below the data folder.
        labels: Folder of label maps of the same names.
        validation_every: Every n-th case, sorted by name, is kept for validation, beginning with the first.
    """

    images: str
    labels: str
    validation_every: int


@dataclass(frozen=True)
class ReaderFiles:
    """2D images that several readers segmented, in the npz files that ``evaluate`` reads.

    Attributes:
        training: Files below the data folder.
        validation: File whose patients are in none of those.
        score_every: Every n-th validation image is scored during the training, all of them after it.
    """

    training: list[str]
    validation: str
    score_every: int


@dataclass(frozen=True)
class PhotographFiles:
    """Color photographs, each outlined by one or more observers.

    Attributes:
        photographs: Folder of photographs below the data folder.
        observers: Folders of pictures of their outlines, in the same order of names; the first observer is trained on,
            all are compared with.
        training: The first so many by name are trained on; the others are tested when the training is over.
    """

    photographs: str
    observers: list[str]
    training: int


@dataclass(frozen=True)
class CellImages:
    """Synthetic images of cells that touch; nothing is read from the data folder.

    Attributes:
        size: Edge of an image in pixels.
        cells: Fewest and most cells of an image.
        colors: Classes beside the background; every cell is one of them at random whenever it is seen.
        images: Number of images to train on.
        validation_images: Number of further ones.
    """

    size: int
    cells: list[int]
    colors: int
    images: int
    validation_images: int


@dataclass(frozen=True)
class TaskVolume:
    """A volume whose every structure, in every plane, is a task.

    Attributes:
        image: File below the data folder.
        labels: Its label map; without one, pieces of similar intensity stand in for structures.
        left_out: Labels that are no tasks.
        windows: Intensities that become 0 and 1, one pair per way to look at the volume; without one, the 0.5 and 99.5
            percentile of the positive voxels.
        share: How often its tasks are chosen, relative to the other sources.
        name: For figures.
    """

    image: str
    labels: str | None = None
    left_out: list[int] = field(default_factory=list)
    windows: list[list[float]] = field(default_factory=list)
    share: float = 1.0
    name: str = ""


@dataclass(frozen=True)
class TaskImages:
    """2D images of one task each.

    Attributes:
        file: npz file below the data folder, as ``evaluate`` reads it, or with ``images`` instead of ``webp``; or a
            folder of photographs, whose ``masks`` then are a folder of pictures.
        share: How often its tasks are chosen, relative to the other sources.
        every: Every n-th image is used.
        masks: Folder of the outlines of photographs.
        name: For figures.
    """

    file: str
    share: float = 1.0
    every: int = 1
    masks: str | None = None
    name: str = ""


@dataclass(frozen=True)
class TaskFiles:
    """Tasks for a network that learns from examples.

    Attributes:
        supports: Examples per query.
        synthetic_tasks: Number of synthetic tasks.
        synthetic_share: Share of the steps' queries that are synthetic.
        synthetic_images: Images of each of them.
        volumes: Real tasks in volumes.
        images: Real tasks in 2D images.
        validation_volumes: Tasks that are left out of training.
        validation_images: Likewise.
    """

    supports: int
    synthetic_tasks: int
    synthetic_share: float
    synthetic_images: int
    volumes: list[TaskVolume]
    images: list[TaskImages]
    validation_volumes: list[TaskVolume]
    validation_images: list[TaskImages]


DataRule = CellImages | PairFiles | PhotographFiles | ReaderFiles | TaskFiles


@dataclass(frozen=True)
class TaskAugmentation:
    """Random changes of a task, the same for its query and all its examples, and of each of these images.

    Attributes:
        absent_share: Share of the queries in volumes that lie beyond their structure.
        walk_share: Share of the queries in volumes with predicted neighbors among their examples.
        invert_share: Share of the tasks with inverted intensities.
        opposite_share: Share of the tasks whose structure is everything else.
        edge_share: Share of the tasks whose structure is the edge of the real one.
        elastic_share: Share of the tasks that are warped.
        image_share: Share of the tasks whose images also differ among themselves in pose and intensities.
    """

    absent_share: float
    walk_share: float
    invert_share: float
    opposite_share: float
    edge_share: float
    elastic_share: float
    image_share: float


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training case, drawn uniformly from the ranges.

    Attributes:
        warp_share: Share of the patches that are rotated, scaled and shifted with interpolation; the others are only
            shifted, by whole voxels, and keep their sharpness.
        rotate_degrees: About each axis, both ways.
        scale: Relative change of size, both ways, per axis.
        shift_voxels: Translation per axis, both ways.
        quarter_turns: Whether patches are turned by a random multiple of 90 degrees in the plane of the slowest axes.
        flip_axes: Axes (0: R, 1: A, 2: S; columns and rows of a 2D image) mirrored in half of the cases.
        contrast_gamma: Lowest and highest exponent of a gamma change.
        bias_field: Largest coefficient of a smooth multiplicative field.
        noise: Largest standard deviation of added noise, in units of the normalized image.
        blur_voxels: Largest sigma of a Gaussian blur.
    """

    warp_share: float
    rotate_degrees: float
    scale: float
    shift_voxels: float
    quarter_turns: bool
    flip_axes: list[int]
    contrast_gamma: list[float]
    bias_field: float
    noise: float
    blur_voxels: float


@dataclass(frozen=True)
class Stage:
    """One part of a training; small patches first and whole crops last save most of the time.

    Attributes:
        patch: Size of a patch along R, A, S (of a 2D image: columns, rows) in voxels.
        padding: What patches show beyond the image: "zeros" or its "reflection". It is background either way.
        steps: Optimizer steps.
        batch: Cases per step.
        learning_rate: At its highest, after a linear rise over ``rise`` steps; then a cosine to zero.
        rise: Steps of that rise.
    """

    patch: list[int]
    padding: str
    steps: int
    batch: int
    learning_rate: float
    rise: int


@dataclass(frozen=True)
class Optimization:
    """How the weights move in all stages.

    Attributes:
        weight_decay: Of AdamW.
        clip_norm: Largest norm of the gradient.
        average: Decay of the moving average of the weights that is validated and shipped.
        precision: "32-true" or "bf16-mixed".
        validate_every: Steps between validations and checkpoints.
    """

    weight_decay: float
    clip_norm: float
    average: float
    precision: str
    validate_every: int


@dataclass(frozen=True)
class Recipe:
    """A recipe as read from its file.

    Attributes:
        name: Name of the package it makes.
        seed: Decides every random number of the training.
        start: Parts of the network by the names of their modules, and the package (name or folder) whose whole network
            each begins as.
        stages: Parts of the training, one after the other.
        data: The cases.
        augmentation: Random changes.
        objective: Arguments of the family's objective.
        optimization: How the weights move.
        package: The ``medseg_uncertainty`` block of the metadata, without weights and figures.
        metadata: The rest of the metadata.
        card: Text of the model card, with ``{figures}`` where the measured figures go.
    """

    name: str
    seed: int
    stages: list[Stage]
    data: DataRule
    augmentation: Augmentation | TaskAugmentation
    objective: dict[str, Any]
    optimization: Optimization
    package: dict[str, Any]
    metadata: dict[str, Any]
    card: str
    start: dict[str, str] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @classmethod
    def from_file(cls, path: str | Path) -> Recipe:
        """Read a recipe.

        Raises:
            BadInputError: The file is missing, is no TOML, or a field is missing or unknown.
        """
        path = Path(path)
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInputError(f"The recipe {path} cannot be read: {error.strerror}.") from error
        except tomllib.TOMLDecodeError as error:
            raise BadInputError(f"The recipe {path.name} is not valid TOML: {error}.") from error
        parts: Mapping[str, Callable[..., Any]] = {
            "data": _data_rule,
            "augmentation": _augmentation_rule,
            "optimization": Optimization,
        }
        try:
            sections = {key: make(**content.pop(key)) for key, make in parts.items()}
            content["stages"] = [Stage(**stage) for stage in content.pop("stages")]
            return cls(**content, **sections)
        except (KeyError, TypeError) as error:
            reason = str(error).replace(cls.__name__ + ".", "").replace("__init__() ", "")
            raise BadInputError(f"The recipe {path.name} does not fit: {reason}.") from error


def _data_rule(**content: Any) -> DataRule:
    if "colors" in content:
        return CellImages(**content)
    if "photographs" in content:
        return PhotographFiles(**content)
    if "supports" in content:
        for key, kind in (("volumes", TaskVolume), ("images", TaskImages)):
            for name in (key, "validation_" + key):
                content[name] = [kind(**entry) for entry in content.get(name, [])]
        return TaskFiles(**content)
    return PairFiles(**content) if "images" in content else ReaderFiles(**content)


def _augmentation_rule(**content: Any) -> Augmentation | TaskAugmentation:
    return TaskAugmentation(**content) if "absent_share" in content else Augmentation(**content)
