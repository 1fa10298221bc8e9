"""Label maps as examples: which structures they outline in which slices, and everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.propagation.stacks import PLANES, Stack
from MedSegUncertaintyLib.volumes.geometry import Volume

FEWEST_PIXELS = 4
"""Of the largest outline of a structure."""
LARGEST_SHARE = 0.9
"""Of a slice that an outline may cover."""
MOST_STRUCTURES = 32
"""More different labels are taken for an image that was given by mistake."""
COLORS = (
    (0.93, 0.55, 0.24), (0.30, 0.61, 0.85), (0.44, 0.75, 0.38), (0.80, 0.38, 0.66),
    (0.95, 0.83, 0.29), (0.55, 0.45, 0.80), (0.36, 0.77, 0.74), (0.83, 0.36, 0.36),
)  # fmt: skip


@dataclass(frozen=True)
class Example:
    """An image and its label map.

    Attributes:
        labels: Label map, whole numbers; 0 is background.
        image: What it belongs to; None for the image that is to be segmented.
        names: What its labels are called; "label 3" where nothing is said.
        absent: Slices of another image than the one to be segmented that do not show a structure, by its name; indices
            along its own axis, counted from 0. For the image itself the request says so.
    """

    labels: Volume
    image: Volume | None = None
    names: Mapping[int, str] | None = None
    absent: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Marks:
    """The examples of one structure in one stack.

    Attributes:
        masks: Outlined slices (rows, columns) bool, by slice number.
        absent: Numbers of the slices that are marked as empty.
    """

    masks: Mapping[int, np.ndarray]
    absent: frozenset[int] = frozenset()


def check_example(example: Example, query: Volume) -> None:
    """Make sure that a label map is one, and lies on the grid of its image.

    Args:
        example: The example.
        query: The image that is to be segmented.

    Raises:
        BadInputError: One sentence with its name.
    """
    name, array, image = example.labels.name, example.labels.array, example.image or query
    if not np.array_equal(array, np.round(array)) or array.min() < 0:
        raise BadInputError(f"The support '{name}' holds values that are no labels; give whole numbers from 0 up.")
    if not array.any():
        raise BadInputError(f"The support '{name}' is empty; outline each structure in at least one slice.")
    if not example.labels.geometry.matches(image.geometry):
        raise BadInputError(_grid_words(example.labels, image))
    if len(np.unique(array)) > MOST_STRUCTURES + 1:
        raise BadInputError(
            f"The support '{name}' has more than {MOST_STRUCTURES} labels; give a label map and not an image."
        )


def _grid_words(labels: Volume, image: Volume) -> str:
    sizes = (labels.geometry.shape_ijk, image.geometry.shape_ijk)
    same_directions = np.abs(labels.geometry.direction - image.geometry.direction).max() < 1e-3
    if sorted(sizes[0]) == sorted(sizes[1]) and not same_directions:
        how = "has another orientation than"
    elif sizes[0] != sizes[1]:
        how = f"has {_times(sizes[0])} voxels, which are not the {_times(sizes[1])} of"
    else:
        how = "lies at another place or has other voxels than"
    return f"The support '{labels.name}' {how} its image '{image.name}'; resample it to that image."


def _times(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


def structures_of(examples: Sequence[Example]) -> tuple[tuple[Structure, ...], tuple[int, ...]]:
    """The structures that occur in any example, with labels 1, 2, 3 and so on, and their labels in the files.

    Raises:
        BadInputError: Two structures have names that differ in nothing but signs.
    """
    found = sorted({int(label) for example in examples for label in np.unique(example.labels.array) if label})
    names = {label: name for example in reversed(examples) for label, name in (example.names or {}).items()}
    terminology = {
        "category": ("SCT", "123037004", "Anatomical Structure"),
        "type": ("SCT", "123037004", "Anatomical Structure"),
    }
    structures = tuple(
        Structure(names.get(label, f"label {label}"), number, COLORS[(number - 1) % len(COLORS)], terminology)
        for number, label in enumerate(found, start=1)
    )
    slugs = [structure.slug for structure in structures]
    if len(set(slugs)) < len(slugs) or not all(slugs):
        raise BadInputError("The structures of the supports need names that differ in letters or digits; rename them.")
    return structures, tuple(found)


def plane_with_fewest(labels: Volume) -> str:
    """The plane in which the fewest slices are outlined, which is that in which somebody worked."""
    from MedSegUncertaintyLib.volumes.placement import GridRule, Placement

    counts = {}
    for plane, orientation in PLANES.items():
        placement = Placement.plan(labels.geometry, GridRule(None, orientation))
        counts[plane] = int(placement.to_model(labels).any(axis=(1, 2)).sum())
    return min(counts, key=lambda plane: counts[plane])


def marks_of(labels: Volume, stack: Stack, label: int, name: str, absent: Sequence[int] = ()) -> Marks:
    """The outlined slices of one structure.

    Args:
        labels: Label map on the grid of the stack's volume.
        stack: Its slices.
        label: The structure's label in the map.
        name: What the user calls it.
        absent: Slices without it, by their index along the volume's axis.

    Raises:
        BadInputError: An outline is too small or too large, or a slice is marked as empty that is none or not there.
    """
    on_stack = stack.placement.to_model(Volume((labels.array == label).astype(np.uint8), labels.geometry)) > 0.5
    areas = on_stack.sum(axis=(1, 2))
    numbers = [stack.slice_of(index) for index in absent]
    for index, number in zip(absent, numbers, strict=True):
        if not 0 <= number < len(areas):
            raise BadInputError(
                f"Slice {index}, marked as without {name}, is not one of the slices "
                f"{_range_of(stack)} that are looked at."
            )
        if areas[number]:
            raise BadInputError(f"Slice {index} is marked as without {name} and has an outline of it; choose one.")
    if areas.max() == 0:
        return Marks({}, frozenset(numbers))
    if areas.max() < FEWEST_PIXELS:
        pixels = f"{areas.max()} pixel{'s' if areas.max() > 1 else ''}"
        raise BadInputError(
            f"The largest outline of {name} in '{labels.name}' has {pixels}; outline at least {FEWEST_PIXELS} in one "
            "slice."
        )
    if areas.max() > LARGEST_SHARE * on_stack[0].size:
        index = stack.index_of(int(areas.argmax()))
        raise BadInputError(
            f"The outline of {name} in slice {index} of '{labels.name}' covers the whole slice; leave its surroundings "
            "out, or choose the plane of the outlined slices."
        )
    return Marks({int(number): on_stack[number] for number in np.flatnonzero(areas)}, frozenset(numbers))


def says_everything(structures: Sequence[Marks]) -> bool:
    """Whether every slice with an outline is outlined or marked as empty for each of the structures.

    Then what is left in it is background. An outline alone says nothing about the structures that it leaves out.
    """
    outlined = {number for marks in structures for number in marks.masks}
    return all(outlined <= marks.masks.keys() | marks.absent for marks in structures)


def united(structures: Sequence[Marks]) -> Marks:
    """The marks of several structures, which say everything, as those of a single one."""
    outlined = {number for marks in structures for number in marks.masks}
    masks = {
        number: np.any([marks.masks[number] for marks in structures if number in marks.masks], axis=0)
        for number in sorted(outlined)
    }
    return Marks(masks, frozenset.intersection(*(marks.absent for marks in structures)))


def _range_of(stack: Stack) -> str:
    ends = sorted((stack.index_of(0), stack.index_of(len(stack.images) - 1)))
    return f"{ends[0]} to {ends[1]}"
