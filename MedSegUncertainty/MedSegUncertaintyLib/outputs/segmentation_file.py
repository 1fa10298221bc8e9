"""Segmentations as Slicer's ``.seg.nrrd`` files, written without Slicer.

The keys are those that Slicer 5.12 writes. A file with several layers has the layers as its first (fastest) axis, so
the voxels of all layers are interleaved; they are gathered and compressed a few slices at a time, which keeps memory
independent of the number of samples.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.outputs.appearance import (
    Color,
    contour_color,
    contour_id,
    contour_name,
    sample_color,
    sample_id,
    sample_name,
)
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS
from MedSegUncertaintyLib.uncertainty.samples import bounding_slices
from MedSegUncertaintyLib.volumes.geometry import LPS_TO_RAS, Box, Geometry

SLAB_BYTES = 128 * 2**20
"""Voxels gathered at a time; every slab unpacks each layer once more, so a small number costs time."""

EMPTY_EXTENT = "0 -1 0 -1 0 -1"


class Layers(Protocol):
    """Label maps of one shape (K, J, I), uint8, made or unpacked when they are asked for."""

    def __len__(self) -> int:
        """How many layers there are."""

    def __getitem__(self, index: int) -> np.ndarray:
        """The label map of a layer."""


@dataclass(frozen=True)
class Segment:
    """One segment of a file: the voxels of ``layer`` that hold the label of ``structure``.

    Attributes:
        identifier: Unique within the file.
        name: Shown to the user.
        structure: Gives label and terminology.
        layer: Index of its layer.
        color: Red, green, blue in [0, 1].
    """

    identifier: str
    name: str
    structure: Structure
    layer: int
    color: Color


def write_samples(path: Path, result: InferenceResult) -> None:
    """Write all samples: a layer per sample, in which each structure is a segment."""
    write_sample_layers(path, result.samples, result.structures, result.geometry, result.box)


def write_sample_layers(
    path: Path, samples: Layers, structures: Sequence[Structure], geometry: Geometry, box: Box
) -> None:
    """Like :func:`write_samples`, for samples that come from elsewhere; see :func:`write_segmentation`."""
    count = len(samples)
    segments = [
        Segment(
            identifier=sample_id(index, structure),
            name=sample_name(index, structure),
            structure=structure,
            layer=index,
            color=sample_color(index, count, structure),
        )
        for index in range(count)
        for structure in structures
    ]
    write_segmentation(path, samples, segments, geometry, box)


def write_contours(path: Path, result: InferenceResult) -> None:
    """Write the regions that at least 5, 50 and 95 % of the samples agree on.

    Every region has a layer of its own, because the outer regions of neighboring structures overlap.
    """
    layers = [
        np.where(result.contour(index, level), np.uint8(structure.label), np.uint8(0))
        for level in CONTOUR_LEVELS
        for index, structure in enumerate(result.structures)
    ]
    write_contour_layers(path, layers, result.structures, result.geometry, result.box)


def write_contour_layers(
    path: Path, layers: Layers, structures: Sequence[Structure], geometry: Geometry, box: Box
) -> None:
    """Like :func:`write_contours`, for regions that come from elsewhere: by level, and in it by structure."""
    regions = [(structure, level) for level in CONTOUR_LEVELS for structure in structures]
    segments = [
        Segment(
            identifier=contour_id(structure, level),
            name=contour_name(structure, level),
            structure=structure,
            layer=layer,
            color=contour_color(structure, level),
        )
        for layer, (structure, level) in enumerate(regions)
    ]
    write_segmentation(path, layers, segments, geometry, box)


def write_segmentation(path: Path, layers: Layers, segments: Sequence[Segment], geometry: Geometry, box: Box) -> None:
    """Write a segmentation cropped to its voxels; Slicer puts it back on the whole grid.

    Args:
        path: Target, ``*.seg.nrrd``.
        layers: Label maps (K, J, I) on ``box``.
        segments: What the labels of the layers mean.
        geometry: Grid of the input image, which becomes the reference geometry of the segmentation.
        box: The part of it that the layers cover.
    """
    crops = [bounding_slices(layers[index]) for index in range(len(layers))]
    crop = _union(crops)
    offset_kji = [part.start + own.start for part, own in zip(box.slices_kji, crop, strict=True)]
    extents = [_extent(layer, crop) for layer in crops]
    with path.open("wb") as file:
        file.write(_header(geometry, offset_kji, crop, len(layers), _segment_keys(segments, extents)))
        # No file name and no time inside, so that equal results give equal files.
        with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=file, mtime=0) as stream:
            for slab in _slabs(layers, crop):
                _write_array(stream, slab)


def _union(crops: Sequence[tuple[slice, ...]]) -> tuple[slice, slice, slice]:
    """Smallest box of all voxels; one voxel where there is none, because an image without voxels cannot be read."""
    filled = [crop for crop in crops if all(part.stop > part.start for part in crop)]
    if not filled:
        return (slice(0, 1), slice(0, 1), slice(0, 1))
    k, j, i = (
        slice(min(crop[axis].start for crop in filled), max(crop[axis].stop for crop in filled)) for axis in range(3)
    )
    return (k, j, i)


def _extent(layer: tuple[slice, ...], crop: tuple[slice, ...]) -> str:
    """Inclusive voxel range of a layer along I, J, K, counted from the first voxel of the file."""
    if any(part.stop <= part.start for part in layer):
        return EMPTY_EXTENT
    pairs = [(own.start - all_.start, own.stop - 1 - all_.start) for own, all_ in zip(layer, crop, strict=True)]
    return " ".join(f"{first} {last}" for first, last in reversed(pairs))


def _slabs(layers: Layers, crop: tuple[slice, slice, slice]) -> Iterator[np.ndarray]:
    """Interleaved voxels (k, J, I, layers) of a few slices at a time."""
    rows, columns = (part.stop - part.start for part in crop[1:])
    step = max(1, SLAB_BYTES // (rows * columns * len(layers)))
    for start in range(crop[0].start, crop[0].stop, step):
        stop = min(start + step, crop[0].stop)
        slab = np.empty((stop - start, rows, columns, len(layers)), dtype=np.uint8)
        for index in range(len(layers)):
            slab[..., index] = layers[index][start:stop, crop[1], crop[2]]
        yield slab


def _write_array(stream: BinaryIO | gzip.GzipFile, array: np.ndarray) -> None:
    for part in array:  # a slice at a time: the compressor holds a copy of what it is given
        stream.write(part.data)


def _header(
    geometry: Geometry, offset_kji: Sequence[int], crop: tuple[slice, ...], layers: int, keys: dict[str, str]
) -> bytes:
    """NRRD header up to the empty line; vectors are in LPS, mm."""
    sizes = [part.stop - part.start for part in reversed(crop)]
    offset_ijk = list(reversed(offset_kji))
    columns = (LPS_TO_RAS @ geometry.ijk_to_ras[:3, :3]).T
    origin = LPS_TO_RAS @ geometry.to_ras(np.array(offset_ijk))
    several = layers > 1  # one layer is a plain 3D image, as Slicer writes it
    fields = {
        "type": "unsigned char",
        "dimension": "4" if several else "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(str(size) for size in ([layers] if several else []) + sizes),
        "space directions": " ".join((["none"] if several else []) + [_vector(column) for column in columns]),
        "kinds": ("list " if several else "") + "domain domain domain",
        "encoding": "gzip",
        "space origin": _vector(origin),
    }
    keys = {
        **keys,
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ConversionParameters": f"Reference image geometry|{_reference_geometry(geometry)}||&",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": " ".join(str(start) for start in offset_ijk),
    }
    lines = ["NRRD0004", *[f"{name}: {value}" for name, value in fields.items()]]
    lines += [f"{key}:={_escaped(value)}" for key, value in keys.items()]
    return ("\n".join(lines) + "\n\n").encode("utf-8")


def _segment_keys(segments: Sequence[Segment], extents: Sequence[str]) -> dict[str, str]:
    keys = {}
    for number, segment in enumerate(segments):
        values = {
            "Color": " ".join(f"{part:.4g}" for part in segment.color),
            "ColorAutoGenerated": "0",
            "Extent": extents[segment.layer],
            "ID": segment.identifier,
            "LabelValue": str(segment.structure.label),
            "Layer": str(segment.layer),
            "Name": segment.name,
            "NameAutoGenerated": "0",
            "Tags": f"TerminologyEntry:{segment.structure.terminology_entry()}|",
        }
        keys.update({f"Segment{number}_{name}": value for name, value in values.items()})
    return keys


def _reference_geometry(geometry: Geometry) -> str:
    """Slicer's serialized grid: the IJK-to-RAS matrix row by row, then the first and last index of each axis."""
    extent = [index for size in geometry.shape_ijk for index in (0, size - 1)]
    return "".join(f"{value};" for value in [*(float(x) for x in geometry.ijk_to_ras.ravel()), *extent])


def _vector(values: np.ndarray) -> str:
    return "(" + ",".join(repr(float(value)) for value in values) + ")"


def _escaped(value: str) -> str:
    """A value of a key as NRRD wants it: on one line."""
    return value.replace("\\", "\\\\").replace("\n", "\\n")
