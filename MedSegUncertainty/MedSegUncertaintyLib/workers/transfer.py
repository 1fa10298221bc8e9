"""Volumes, previews and results as JSON plus ``.npy`` files. Nothing is pickled."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.uncertainty.samples import SampleSet, bounding_slices
from MedSegUncertaintyLib.uncertainty.statistics import Statistics, StatisticsStream
from MedSegUncertaintyLib.volumes.geometry import Box, Geometry, Volume
from MedSegUncertaintyLib.workers.events import Preview, SlicesFound

if TYPE_CHECKING:
    from MedSegUncertaintyLib.propagation.session import FinishedSlice

_MAPS = [field.name for field in fields(Statistics) if field.name != "count"]
_CHUNK_BYTES = 16 * 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Check = Callable[[], None]
"""Called every now and then; raises to stop the transfer."""


def write_array(path: Path, array: np.ndarray, check: Check) -> None:
    """Write an array of any shape and plain type.

    Raises:
        OSError: With the system's error number, which numpy's own writer loses when the disk is full.
    """
    array = np.ascontiguousarray(array)
    content = array.reshape(-1).view(np.uint8)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        for start in range(0, content.size, _CHUNK_BYTES):
            check()
            file.write(content[start : start + _CHUNK_BYTES].data)


def read_array(path: Path) -> np.ndarray:
    """Read an array and remove its file.

    Raises:
        ValueError: The file is damaged, or holds Python objects.
    """
    array: np.ndarray = np.load(path, allow_pickle=False)
    path.unlink()
    return array


def write_volume(volume: Volume, path: Path, check: Check) -> dict[str, Any]:
    """Put the voxels into the file ``path``; what else there is comes back as JSON."""
    write_array(path, volume.array, check)
    geometry = volume.geometry.to_json()
    return {"file": str(path), "geometry": geometry, "name": volume.name, "scaled": volume.scaled}


def read_volume(data: dict[str, Any]) -> Volume:
    """Inverse of :func:`write_volume`; removes the file."""
    array, geometry = read_array(Path(data["file"])), Geometry.from_json(data["geometry"])
    return Volume(array, geometry, data["name"], data["scaled"])


def write_labels(labels: Volume, path: Path, check: Check) -> dict[str, Any]:
    """As :func:`write_volume` for a label map: the file holds no more than the box of its labels."""
    box = bounding_slices(labels.array)
    write_array(path, labels.array[box], check)
    starts = [part.start for part in box]
    return {"file": str(path), "geometry": labels.geometry.to_json(), "name": labels.name, "starts": starts}


def read_labels(data: dict[str, Any]) -> Volume:
    """Inverse of :func:`write_labels`; removes the file."""
    part, geometry = read_array(Path(data["file"])), Geometry.from_json(data["geometry"])
    array = np.zeros(geometry.shape_kji, part.dtype)
    array[tuple(slice(start, start + size) for start, size in zip(data["starts"], part.shape, strict=True))] = part
    return Volume(array, geometry, data["name"])


def write_slices(parts: Sequence[FinishedSlice], path: Path, check: Check) -> dict[str, Any]:
    """Put the labels of slices of one stack into the file ``path``; where they lie comes back as JSON."""
    write_array(path, np.stack([part.labels for part in parts]), check)
    return {"file": str(path), "axis": parts[0].axis, "indices": [part.index for part in parts]}


def read_slices(run: int, data: dict[str, Any]) -> SlicesFound:
    """Inverse of :func:`write_slices`, as an event of the run; removes the file."""
    return SlicesFound(run, data["axis"], tuple(data["indices"]), read_array(Path(data["file"])))


def write_preview(stream: StatisticsStream, geometry: Geometry, folder: Path, check: Check) -> dict[str, Any]:
    """Put mean and variance of the samples so far into ``folder``; what else there is comes back as JSON.

    Args:
        stream: The statistics so far.
        geometry: Their grid.
        folder: Where the arrays go.
        check: Called between parts.
    """
    files = {name: str(folder / f"{name}-{stream.count}.npy") for name in ("mean", "variance")}
    write_array(Path(files["mean"]), stream.mean, check)
    write_array(Path(files["variance"]), stream.variance, check)
    return {"count": stream.count, "geometry": geometry.to_json(), "files": files}


def read_preview(run: int, data: dict[str, Any]) -> Preview:
    """Inverse of :func:`write_preview`, as an event of the run; removes the files."""
    arrays = {name: read_array(Path(file)) for name, file in data["files"].items()}
    return Preview(run, data["count"], geometry=Geometry.from_json(data["geometry"]), **arrays)


def write_result(result: InferenceResult, folder: Path, check: Check) -> dict[str, Any]:
    """Put the arrays into ``folder``; what else there is comes back as JSON."""
    summary = result.summary
    boxes, packed = result.samples.packed()
    for name in _MAPS:
        write_array(folder / f"{name}.npy", getattr(result.statistics, name), check)
    write_array(folder / "samples.npy", np.frombuffer(b"".join(packed), dtype=np.uint8), check)
    return {
        "folder": str(folder),
        "request": result.request.to_json(),
        "package": {"folder": str(result.package.folder), "metadata": result.package.metadata},
        "image_name": result.image_name,
        "geometry": result.geometry.to_json(),
        "box": [result.box.start_ijk, result.box.stop_ijk],
        "samples": {"boxes": boxes, "bytes": [len(part) for part in packed]},
        "count": result.statistics.count,
        "provenance": result.provenance,
        "summary": summary,
    }


def read_result(data: dict[str, Any], check: Check) -> InferenceResult:
    """Inverse of :func:`write_result`; removes the files."""
    folder, maps = Path(data["folder"]), {}
    for name in _MAPS:
        check()
        maps[name] = read_array(folder / f"{name}.npy")
    start, stop = (tuple(corner) for corner in data["box"])
    geometry, box = Geometry.from_json(data["geometry"]), Box(start, stop)
    result = InferenceResult(
        request=InferenceRequest.from_json(data["request"]),
        package=ModelPackage.from_metadata(Path(data["package"]["folder"]), data["package"]["metadata"]),
        image_name=data["image_name"],
        geometry=geometry,
        box=box,
        samples=_read_samples(geometry.cropped(box).shape_kji, data["samples"], folder),
        statistics=Statistics(count=data["count"], **maps),
        provenance=data["provenance"],
    )
    # It takes seconds to compute, and whoever reads it may be a thread that draws a window.
    result.__dict__["summary"] = data["summary"]
    return result


def _read_samples(shape_kji: tuple[int, int, int], data: Mapping[str, Any], folder: Path) -> SampleSet:
    content = read_array(folder / "samples.npy").tobytes()
    ends = np.cumsum(data["bytes"]).tolist()
    packed = [content[end - size : end] for end, size in zip(ends, data["bytes"], strict=True)]
    return SampleSet.from_packed(shape_kji, data["boxes"], packed)


def is_disk_full(error: OSError) -> bool:
    """Whether a file could not be written for want of space."""
    return error.errno in _FULL


def disk_sentence(error: OSError, folder: Path) -> str:
    """What to say when files cannot be written to the folder for temporary files."""
    where = f"the folder for temporary files ({folder})"
    if is_disk_full(error):
        return f"The disk is full in {where}; free some space and try again."
    return f"Files cannot be written to {where}: {error.strerror or error}; make it writable and try again."
