"""Support sets as folders: images, outlines and one JSON file, without a word about the patients.

Written are voxels and grids alone: no DICOM element, no name of a file or node, no date. Images are called by number,
and reading gives them these names. What the voxels themselves show, such as a face, they go on showing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.outputs.segmentation_file import Segment, write_segmentation
from MedSegUncertaintyLib.propagation.examples import Example, check_example, structures_of
from MedSegUncertaintyLib.propagation.stacks import PLANES
from MedSegUncertaintyLib.propagation.support_set import SupportSet
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume
from MedSegUncertaintyLib.volumes.reading import read_labels, read_volume, write_volume

FORMAT, FORMAT_VERSION = "medseg-uncertainty-support-set", 1
INDEX = "support-set.json"
_FILE = re.compile(r"image-\d{1,4}(\.seg)?\.nrrd")


def write_support_set(support_set: SupportSet, volume: Volume | None, folder: str | Path) -> None:
    """Write a support set; ``support-set.json`` appears when everything else is there.

    Args:
        support_set: What to write. Label maps of the same image become one.
        volume: What its examples without an image belong to; None if there are none.
        folder: It must not exist, be empty, or hold an earlier set and nothing else, which is replaced.

    Raises:
        BadInputError: An example cannot be used, or the folder holds something else or cannot be written to.
    """
    folder = Path(folder)
    examples = support_set.elsewhere(volume)
    if not examples:
        raise BadInputError("There is nothing to keep; outline each structure in at least one slice.")
    for one in examples:
        if one.image is None:
            raise BadInputError(f"The support '{one.labels.name}' has no image; give the image that it outlines.")
        check_example(one, one.image)
    structures, labels = structures_of(examples)
    colors = {**{label: own.color for label, own in zip(labels, structures, strict=True)}, **support_set.colors}
    with _in_words(folder, "written"):
        _make_room(folder)
        images = []
        for number, own in enumerate(_by_image(examples)):
            image = own[0].image
            assert image is not None
            pictures, outlines = f"image-{number}.nrrd", f"image-{number}.seg.nrrd"
            write_volume(folder / pictures, image.array, image.geometry)
            _write_labels(folder / outlines, _merged(own), image.geometry, structures, labels, colors)
            images.append(
                {
                    "image": pictures,
                    "labels": outlines,
                    "geometry": image.geometry.to_json(),
                    "scaled": image.scaled,
                    "given": any(one.image is None for one in support_set.examples) and image is volume,
                    "absent": {name: sorted(slices) for name, slices in _absent(own).items()},
                }
            )
        document = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "plane": support_set.plane,
            "structures": [
                {"name": own.name, "label": label, "color": list(colors[label])}
                for own, label in zip(structures, labels, strict=True)
            ],
            "images": images,
            "sha256": {path.name: _sha256(path) for path in sorted(folder.glob("image-*.nrrd"))},
        }
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (folder / INDEX).write_text(text + "\n", encoding="utf-8")


def read_support_set(folder: str | Path) -> SupportSet:
    """Read a support set; every example has its image.

    Raises:
        BadInputError: There is none, it is damaged, or a newer program wrote it.
    """
    folder = Path(folder)
    with _in_words(folder, "read"):
        if not (folder / INDEX).is_file():
            raise BadInputError(f"'{folder}' holds no support set ({INDEX}); choose the folder of one.")
        try:
            document = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise ValueError("another format")
            version = int(document["format_version"])
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(folder, f"{INDEX} is none of ours") from error
        if version > FORMAT_VERSION:
            raise BadInputError(
                f"The support set '{folder.name}' was written by a newer program (format {version}); update this one."
            )
        try:
            return _read(folder, document)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise _damaged(folder, f"{INDEX} lacks something") from error


def _read(folder: Path, document: Mapping[str, Any]) -> SupportSet:
    if document["plane"] not in PLANES:
        raise ValueError("plane")
    structures = document["structures"]
    labels = [int(own["label"]) for own in structures]
    names = {label: str(own["name"]) for label, own in zip(labels, structures, strict=True)}
    colors = {}
    for label, own in zip(labels, structures, strict=True):
        red, green, blue = map(float, own["color"])
        colors[label] = (red, green, blue)
    examples: list[Example] = []
    given: dict[str, tuple[int, ...]] = {}
    for entry in document["images"]:
        files = [_checked(folder, entry[what], document["sha256"]) for what in ("image", "labels")]
        geometry = Geometry.from_json(entry["geometry"])
        image, outlines = read_volume(files[0]), read_labels(files[1])
        if not image.geometry.matches(geometry):
            raise _damaged(folder, f"{files[0].name} lies elsewhere than {INDEX} says")
        image = Volume(image.array, geometry, files[0].stem, bool(entry["scaled"]))
        absent = {str(name): tuple(map(int, slices)) for name, slices in entry["absent"].items()}
        own_labels = Volume(_on_grid(outlines, geometry, labels), geometry, files[1].stem)
        examples.append(Example(own_labels, image, names, absent))
        given = absent if entry["given"] else given
    return SupportSet(document["plane"], tuple(examples), given, names, colors)


def _checked(folder: Path, name: str, sums: Mapping[str, str]) -> Path:
    """The path of a file of the set, whose content is that which was written."""
    if not _FILE.fullmatch(name):  # nothing outside of the folder is ever opened
        raise _damaged(folder, f"{INDEX} names a file that no support set has")
    path = folder / name
    if not path.is_file():
        raise _damaged(folder, f"{name} is missing")
    if _sha256(path) != sums[name]:
        raise _damaged(folder, f"{name} has changed since it was written")
    return path


def _on_grid(outlines: Volume, geometry: Geometry, labels: Sequence[int]) -> np.ndarray:
    """Labels in the whole image, int64, of a file that is cropped to them and numbers them from 1."""
    start = np.round(geometry.to_ijk(outlines.geometry.to_ras(np.zeros(3)))).astype(int)[::-1]
    whole = np.zeros(geometry.shape_kji, np.int64)
    box = tuple(slice(first, first + size) for first, size in zip(start, outlines.array.shape, strict=True))
    if min(start) < 0 or whole[box].shape != outlines.array.shape:
        raise ValueError("outlines beyond the image")
    whole[box] = np.array([0, *labels])[outlines.array]
    return whole


def _write_labels(
    path: Path,
    array: np.ndarray,
    geometry: Geometry,
    structures: Sequence[Structure],
    labels: Sequence[int],
    colors: Mapping[int, tuple[float, float, float]],
) -> None:
    numbered = np.zeros(array.shape, np.uint8)
    segments = []
    for structure, label in zip(structures, labels, strict=True):
        numbered[array == label] = structure.label
        segments.append(Segment(f"Segment_{structure.label}", structure.name, structure, 0, colors[label]))
    write_segmentation(path, [numbered], segments, geometry, geometry.whole())


def _by_image(examples: Sequence[Example]) -> list[list[Example]]:
    groups: list[list[Example]] = []
    for one in examples:
        group = next((group for group in groups if group[0].image is one.image), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return groups


def _merged(examples: Sequence[Example]) -> np.ndarray:
    """One label map of several of the same image."""
    whole = np.zeros(examples[0].labels.array.shape, np.int64)
    for one in examples:
        array = one.labels.array.astype(np.int64)
        if np.any((whole > 0) & (array > 0) & (whole != array)):
            raise BadInputError(
                f"The support '{one.labels.name}' overlaps another one of its image; correct one of them."
            )
        whole = np.maximum(whole, array)
    return whole


def _absent(examples: Sequence[Example]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for one in examples:
        for name, slices in one.absent.items():
            found.setdefault(name, set()).update(int(index) for index in slices)
    return found


def _make_room(folder: Path) -> None:
    """An empty folder, where there may have been an earlier set."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
    foreign = [path.name for path in shown if path.is_dir() or not (path.name == INDEX or _FILE.fullmatch(path.name))]
    if foreign:
        raise BadInputError(f"'{folder}' holds files of others, such as {min(foreign)}; choose another folder.")
    for path in sorted(shown, key=lambda path: path.name != INDEX):  # a set is complete with its index alone
        path.unlink()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(folder: Path, what: str) -> BadInputError:
    return BadInputError(f"The support set '{folder.name}' is damaged: {what}; write it again.")


@contextmanager
def _in_words(folder: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInputError(
            f"The support set '{folder}' cannot be {what} ({error.strerror or error}); choose another folder."
        ) from error
