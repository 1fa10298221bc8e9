"""One model package: a MONAI-bundle-shaped folder whose metadata says everything that inference and the user need.

Reading a package touches only its small files, never the weights, and does not import torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from MedSegUncertaintyLib.errors import BadInputError, PackageError
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.volumes.intensity import IntensityRule
from MedSegUncertaintyLib.volumes.placement import GridRule

METADATA = Path("configs", "metadata.json")
CARD = Path("docs", "README.md")
LICENSE = Path("LICENSE")
BLOCK = "medseg_uncertainty"

MODALITIES = ("MR", "CT", "photograph", "any")
COLORS = ("red", "green", "blue")
"""Roles of the channels of a package that takes color images."""

# Required by MONAI's metadata schema (meta_schema_20240725), with the type that it asks for.
MONAI_REQUIRED: dict[str, type] = {
    "schema": str,
    "version": str,
    "monai_version": str,
    "pytorch_version": str,
    "numpy_version": str,
    "required_packages_version": dict,
    "task": str,
    "description": str,
    "authors": str,
    "copyright": str,
    "network_data_format": dict,
}

T = TypeVar("T")

_KIND_NAMES: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True)
class Channel:
    """One of the images of a patient that the network sees together.

    Attributes:
        role: Short name by which users give its image: lower-case letters, digits and underscores, for example "t2".
        name: What it shows, for example "T2-weighted MR".
        intensity: How its intensities are mapped before the network.
    """

    role: str
    name: str
    intensity: IntensityRule

    def __str__(self) -> str:
        return f"{self.role} ({self.name})"


@dataclass(frozen=True)
class RoiRule:
    """Whether the model sees the whole image or a box around the structure.

    Attributes:
        required: Whether the user has to place a box.
        size_mm: Size of the box that the model was trained on, along R, A, S in mm; None if any size will do.
        where: One sentence for the user that says where the box belongs.
    """

    required: bool
    size_mm: tuple[float, float, float] | None
    where: str


@dataclass(frozen=True)
class WeightsFile:
    """The weights as the metadata describes them.

    Attributes:
        file: Path inside the package, with forward slashes.
        sha256: SHA-256 of the file, 64 lower-case hexadecimal digits.
        bytes: Size of the file.
    """

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class TrainingData:
    """What the weights were trained on.

    Attributes:
        name: Name of the data set.
        license: Its license.
        cases: Number of cases used.
    """

    name: str
    license: str
    cases: int


@dataclass(frozen=True, eq=False)
class ModelPackage:
    """A model package whose metadata was read and found complete.

    Attributes:
        folder: Where it lies.
        metadata: All of ``configs/metadata.json``, MONAI's part included.
        family: Name of the model family in ``models.registry``.
        arguments: Constructor arguments of the family.
        modality: "MR", "CT" or "photograph"; "any" for a model that segments by example.
        body_part: For example "brain".
        structures: What it segments, by ascending label.
        grid: Voxel size and orientation that the network expects.
        intensity: How intensities are mapped before the network, where a channel has no rule of its own.
        channels: The images that the network takes, in its order. The first is *the* image: the result lies on its
            grid. A package that names none takes one, whose role is "image".
        roi: Whether a region of interest is needed, and where.
        weights: The weights file, its size and checksum.
        training_data: What the weights were trained on.
        weights_license: License of the weights.
        walk_correlation_mm: For 2D models, how far along the slices a sample stays one hypothesis; else None.
        square_pixels: For models that segment by example, edge of the squares on which they were trained; else None.
        limits: Sentences that say what the model was not made for.
        evaluation: Measured figures by name.
    """

    folder: Path
    metadata: dict[str, Any]
    family: str
    arguments: dict[str, Any]
    modality: str
    body_part: str
    structures: tuple[Structure, ...]
    grid: GridRule
    intensity: IntensityRule
    channels: tuple[Channel, ...]
    roi: RoiRule
    weights: WeightsFile
    training_data: TrainingData
    weights_license: str
    walk_correlation_mm: float | None
    square_pixels: int | None
    limits: tuple[str, ...]
    evaluation: dict[str, Any]

    @property
    def name(self) -> str:
        """Name by which users choose the package: that of its folder."""
        return self.folder.name

    @property
    def title(self) -> str:
        """Name shown to the user; the folder's name where the metadata gives none."""
        return str(self.metadata.get("name", self.name))

    @property
    def description(self) -> str:
        """What the model does, in a sentence or two."""
        return str(self.metadata["description"])

    @property
    def version(self) -> str:
        """Version of the package."""
        return str(self.metadata["version"])

    @property
    def weights_path(self) -> Path:
        """Where the weights lie."""
        return self.folder / self.weights.file

    @property
    def takes_color(self) -> bool:
        """Whether one color image holds all its channels."""
        return sorted(channel.role for channel in self.channels) == sorted(COLORS)

    @property
    def scales(self) -> tuple[tuple[int, ...], ...]:
        """Per scale at which its samples vary, coarsest first, the width of a cell in voxels along each axis.

        Empty where the samples of its family have no scales.

        Raises:
            PackageError: The family is unknown or does not take the package's arguments.
        """
        return registry.scales(self.family, self.arguments)

    @property
    def steps(self) -> int:
        """In how many steps each sample is drawn, if nobody asks for fewer; 0 where its family has no steps.

        Raises:
            PackageError: The family is unknown or does not take the package's arguments.
        """
        return registry.steps(self.family, self.arguments)

    @property
    def sample_kind(self) -> str:
        """What its samples are, in words for the user (see ``models.sample_kinds``).

        Raises:
            PackageError: The family is unknown or does not take the package's arguments.
        """
        return registry.sample_kind(self.family, self.arguments)

    def check_scales(self, entries: int) -> None:
        """Make sure that the samples have scales, and as many as a request has entries for.

        Raises:
            BadInputError: They have none, or another number.
        """
        count = len(self.scales)
        if not count:
            raise BadInputError(f"The samples of {self.name} have no scales that could be set or compared.")
        if entries != count:
            raise BadInputError(
                f"The samples of {self.name} have {count} scales and need an entry for each, coarsest first, not "
                f"{entries}."
            )

    def check_steps(self, steps: int) -> None:
        """Make sure that samples can be drawn in so many steps.

        Raises:
            BadInputError: They are not drawn in steps, or in fewer.
        """
        count = self.steps
        if not count:
            raise BadInputError(f"The samples of {self.name} are not drawn in steps; leave the number of steps out.")
        if steps > count:
            raise BadInputError(f"The samples of {self.name} are drawn in 1 to {count} steps, not {steps}.")

    def check_channels(self, roles: Collection[str]) -> None:
        """Make sure that an image and further ones with these roles are what the model needs.

        Raises:
            BadInputError: A role is unknown, missing or that of the image itself; the sentence names it.
        """
        image, others = self.channels[0], {channel.role: channel for channel in self.channels[1:]}
        unwanted = [role for role in roles if role not in others]
        if unwanted and not others:
            raise BadInputError(f"The model {self.name} takes one image; leave out the channel '{unwanted[0]}'.")
        needed = " and ".join(map(str, others.values()))
        if image.role in unwanted:
            raise BadInputError(f"The channel {image} of the model {self.name} is the image itself; add only {needed}.")
        if unwanted:
            raise BadInputError(
                f"The model {self.name} has no channel '{unwanted[0]}'; give {image} as the image and add {needed}."
            )
        if missing := [channel for role, channel in others.items() if role not in roles]:
            raise BadInputError(
                f"The model {self.name} lacks the channel{'s' if len(missing) > 1 else ''} "
                f"{' and '.join(map(str, missing))}; give {image} as the image and add {needed}."
            )

    @property
    def card(self) -> str:
        """Text of the model card (Markdown)."""
        return (self.folder / CARD).read_text(encoding="utf-8")

    @property
    def license_text(self) -> str:
        """Text of the package's license."""
        return (self.folder / LICENSE).read_text(encoding="utf-8")

    @classmethod
    def from_folder(cls, path: str | Path) -> ModelPackage:
        """Read and check the package in a folder.

        Raises:
            PackageError: A file is missing, or a field of the metadata is missing or wrong.
        """
        folder = Path(path).resolve()
        package = cls.from_metadata(folder, read_metadata(folder))
        for file in (CARD, LICENSE, Path(package.weights.file)):
            if not (folder / file).is_file():
                raise PackageError(f"The model package {folder.name} has no file {file.as_posix()}.")
        size = package.weights_path.stat().st_size
        if size != package.weights.bytes:
            raise PackageError(
                f"{package.weights.file} of the model package {folder.name} has {size} bytes instead of "
                f"{package.weights.bytes}; install the package again."
            )
        return package

    @classmethod
    def from_metadata(cls, folder: Path, metadata: dict[str, Any]) -> ModelPackage:
        """Check metadata without looking at the other files of the folder.

        Raises:
            PackageError: A field is missing or wrong.
        """
        where = f"{folder.name}/{METADATA.as_posix()}"
        _check_monai(_Fields(metadata, where))
        block = _Fields(_Fields(metadata, where).get(BLOCK, dict), where, BLOCK + ".")
        intensity = _intensity(block)
        return cls(
            folder=folder,
            metadata=metadata,
            family=block.get("family", str),
            arguments=block.get("arguments", dict),
            modality=block.one_of("modality", MODALITIES),
            body_part=block.get("body_part", str),
            structures=_structures(block),
            grid=_grid(block.inside("grid")),
            intensity=intensity,
            channels=_channels(block, intensity),
            roi=_roi(block.inside("roi")),
            weights=_weights(block.inside("weights")),
            training_data=_training_data(block.inside("training_data")),
            weights_license=block.get("weights_license", str),
            walk_correlation_mm=_walk_correlation(block) if block.has("walk") else None,
            square_pixels=_square_pixels(block) if block.has("square") else None,
            limits=tuple(block.items("limits", str)),
            evaluation=block.get("evaluation", dict),
        )


def read_metadata(folder: Path) -> dict[str, Any]:
    """The JSON object in ``configs/metadata.json`` of a folder.

    Raises:
        PackageError: There is no such file, or it holds something else.
    """
    where = f"{folder.name}/{METADATA.as_posix()}"
    try:
        data = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PackageError(f"{folder} is no model package: it has no {METADATA.as_posix()}.") from None
    except OSError as error:
        raise PackageError(f"{where} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise PackageError(f"{where} is not valid JSON: {error}.") from error
    if not isinstance(data, dict):
        raise PackageError(f"{where} must hold a JSON object.")
    return data


class _Fields:
    """A JSON object read field by field; what is missing or wrong becomes a sentence that names file and field."""

    def __init__(self, data: dict[str, Any], where: str, prefix: str = "") -> None:
        self._data, self._where, self._prefix = data, where, prefix

    def error(self, key: str, problem: str) -> PackageError:
        return PackageError(f"{self._where}: {self._prefix}{key} {problem}.")

    def get(self, key: str, kind: type[T]) -> T:
        if key not in self._data:
            raise self.error(key, "is missing")
        return self._checked(key, self._data[key], kind)

    def inside(self, key: str) -> _Fields:
        return _Fields(self.get(key, dict), self._where, f"{self._prefix}{key}.")

    def has(self, key: str) -> bool:
        return key in self._data

    def each_inside(self, key: str) -> list[_Fields]:
        items = self.items(key, dict)
        return [_Fields(item, self._where, f"{self._prefix}{key}[{n}].") for n, item in enumerate(items)]

    def items(self, key: str, kind: type[T]) -> list[T]:
        return [self._checked(f"{key}[{n}]", item, kind) for n, item in enumerate(self.get(key, list))]

    def one_of(self, key: str, choices: Sequence[str]) -> str:
        value = self.get(key, str)
        if value not in choices:
            raise self.error(key, f"must be one of {', '.join(choices)}")
        return value

    def lengths_mm(self, key: str) -> tuple[float, float, float] | None:
        """Three positive numbers, or null."""
        if key in self._data and self._data[key] is None:
            return None
        values = self.items(key, float)
        if len(values) != 3 or min(values) <= 0:
            raise self.error(key, "must be null or three positive numbers")
        return values[0], values[1], values[2]

    def _checked(self, key: str, value: Any, kind: type[T]) -> T:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        accepted = number if kind is float else isinstance(value, kind) and (number or kind is not int)
        if not accepted:
            raise self.error(key, f"must be {_KIND_NAMES[kind]}")
        return value


def _check_monai(fields: _Fields) -> None:
    for key, kind in MONAI_REQUIRED.items():
        fields.get(key, kind)
    for key in ("inputs", "outputs"):
        fields.inside("network_data_format").get(key, dict)


def _structures(block: _Fields) -> tuple[Structure, ...]:
    structures = []
    for n, item in enumerate(block.items("structures", dict)):
        try:
            structures.append(Structure.from_json(item))
        except KeyError as error:
            raise block.error(f"structures[{n}].{error.args[0]}", "is missing") from error
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            raise block.error(
                f"structures[{n}]", "needs name, label, a color of three numbers and terminology"
            ) from error
    if [structure.label for structure in structures] != list(range(1, len(structures) + 1)) or not structures:
        raise block.error("structures", "must have the labels 1, 2, 3 and so on, in this order")
    # Files and segments are named after them.
    if not all(slugs := [structure.slug for structure in structures]) or len(set(slugs)) < len(slugs):
        raise block.error("structures", "must have names that differ in letters or digits")
    return tuple(structures)


def _grid(grid: _Fields) -> GridRule:
    spacing, orientation = grid.lengths_mm("spacing_mm"), grid.get("orientation", str)
    try:
        return GridRule(spacing, orientation)
    except ValueError as error:
        key = "orientation" if "orientation" in str(error) else "spacing_mm"
        raise grid.error(key, f"cannot be used: {error}") from error


def _intensity(block: _Fields) -> IntensityRule:
    data = block.get("intensity", dict)
    try:
        return IntensityRule.from_json(data)
    except KeyError as error:
        raise block.error(f"intensity.{error.args[0]}", "is missing") from error
    except (TypeError, ValueError) as error:
        raise block.error("intensity", f"cannot be used: {error}") from error


def _channels(block: _Fields, intensity: IntensityRule) -> tuple[Channel, ...]:
    if not block.has("channels"):
        return (Channel("image", "Image", intensity),)
    channels = []
    for item in block.each_inside("channels"):
        role = item.get("role", str)
        if not re.fullmatch("[a-z][a-z0-9_]*", role):
            raise item.error("role", "must be lower-case letters, digits and underscores, as t2 is")
        own = _intensity(item) if item.has("intensity") else intensity
        channels.append(Channel(role, item.get("name", str), own))
    if not channels or len({channel.role for channel in channels}) < len(channels):
        raise block.error("channels", "must be one or more, each with a role of its own")
    return tuple(channels)


def _roi(roi: _Fields) -> RoiRule:
    return RoiRule(roi.get("required", bool), roi.lengths_mm("size_mm"), roi.get("where", str))


def _walk_correlation(block: _Fields) -> float:
    walk = block.inside("walk")
    length = walk.get("correlation_mm", float)
    if not 0.0 <= length < float("inf"):
        raise walk.error("correlation_mm", "must be a length in mm, 0 for independent slices")
    return length


def _square_pixels(block: _Fields) -> int:
    square = block.inside("square")
    pixels = square.get("pixels", int)
    if not 8 <= pixels <= 1024 or pixels % 8:
        raise square.error("pixels", "must be a multiple of 8, at most 1024")
    return pixels


def _weights(weights: _Fields) -> WeightsFile:
    file = weights.get("file", str)
    # A path that leaves the package would let a package name any file of the computer.
    if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts or re.search(r"[\\:]", file):
        raise weights.error("file", "must be a path inside the package")
    if not file.endswith(".safetensors"):
        raise weights.error("file", "must be a .safetensors file")
    sha256 = weights.get("sha256", str)
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise weights.error("sha256", "must be 64 lower-case hexadecimal digits")
    return WeightsFile(file, sha256, weights.get("bytes", int))


def _training_data(data: _Fields) -> TrainingData:
    return TrainingData(data.get("name", str), data.get("license", str), data.get("cases", int))
