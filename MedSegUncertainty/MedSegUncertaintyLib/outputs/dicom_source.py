"""The DICOM images that a result was made from, and arrays of a result as frames of these images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.dicom import DicomStack, read_stack
from MedSegUncertaintyLib.volumes.geometry import Geometry

TOLERANCE_VOXELS = 0.02
"""Positions are rounded in DICOM, and evened out in the stack; more than that is another grid."""
_REQUIRED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "Modality"),
)
_SEXES = ("", "M", "F", "O")


@dataclass(frozen=True)
class Frames:
    """Arrays of a result as whole slices of its source.

    Attributes:
        datasets: The source images, one per frame, or the one that holds all frames.
        arrays: (frames, rows, columns, N).
        positions: Of the frames (LPS, mm), where one image holds more than these; else None, as the images say it.
    """

    datasets: list[Any]
    arrays: np.ndarray
    positions: list[list[float]] | None


@dataclass(frozen=True)
class DicomSource:
    """The images of one series.

    Attributes:
        stack: Where its slices are.
        datasets: Header by file, without pixels.
    """

    stack: DicomStack
    datasets: dict[Path, Any]

    @classmethod
    def read(cls, files: Sequence[Path]) -> DicomSource:
        """Read the headers of an image.

        Raises:
            BadInputError: The files are not one image, or lack what references to it need.
        """
        import pydicom

        stack = read_stack(files)
        # Old files lack the preamble; that they are DICOM was found out before.
        return cls(
            stack, {file: _completed(pydicom.dcmread(file, stop_before_pixels=True, force=True)) for file in files}
        )

    def frames(self, arrays: np.ndarray, grid: Geometry) -> Frames:
        """Arrays (N, K, J, I) of a grid as the frames that this grid reaches, zero outside of it.

        Raises:
            BadInputError: The grid is not a part of the voxels of the images.
        """
        arrays, start = _onto(arrays, grid, self.stack.geometry)
        count, slices, rows, columns = arrays.shape
        i, j, k = start
        _, height, width = self.stack.geometry.shape_kji
        canvas = np.zeros((slices, height, width, count), dtype=arrays.dtype)
        canvas[:, j : j + rows, i : i + columns] = np.moveaxis(arrays, 0, -1)
        places = self.stack.places[k : k + slices]
        if len(self.stack.places) == len(self.datasets):
            return Frames([self.datasets[file] for file, _ in places], canvas, None)
        (dataset,) = self.datasets.values()
        positions = [
            dataset.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0].ImagePositionPatient
            for _, frame in places
        ]
        return Frames([dataset], canvas, [[float(number) for number in position] for position in positions])


def _completed(dataset: Any) -> Any:
    """A header with the attributes that DICOM asks for and many files leave out, empty."""
    for name in _REQUIRED:
        if not dataset.get(name):
            raise BadInputError(
                f"The DICOM images have no {name}, so that nothing can refer to them; export the series again."
            )
    for name in _MAY_BE_EMPTY:
        if name not in dataset:
            setattr(dataset, name, "")
    if dataset.PatientSex not in _SEXES:
        dataset.PatientSex = ""
    if not dataset.get("SpecificCharacterSet", "left out"):
        del dataset.SpecificCharacterSet
    if frames := dataset.get("PerFrameFunctionalGroupsSequence"):
        # Equal in all frames, or they would be no stack; highdicom looks for them only here.
        for name in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            if name in frames[0]:
                setattr(dataset.SharedFunctionalGroupsSequence[0], name, frames[0][name].value)
    return dataset


def _onto(arrays: np.ndarray, grid: Geometry, target: Geometry) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Arrays (N, K, J, I) of a grid with the axes of another one, and the voxel IJK of that at which they begin."""
    between = np.linalg.inv(target.ijk_to_ras) @ grid.ijk_to_ras
    turn, corner = np.rint(between[:3, :3]).astype(int), np.array(grid.shape_ijk) - 1
    ends = between[:3, :3] @ np.array([np.zeros(3), corner]).T + between[:3, 3:]
    wanted = np.rint(ends[:, :1]) + turn @ np.array([np.zeros(3), corner]).T
    start = np.rint(ends.min(axis=1)).astype(int)
    axes = np.abs(turn)
    is_turn = (axes.sum(axis=0) == 1).all() and (axes.sum(axis=1) == 1).all()
    inside = (start >= 0).all() and (np.rint(ends.max(axis=1)) < target.shape_ijk).all()
    if not is_turn or not inside or np.abs(ends - wanted).max() > TOLERANCE_VOXELS:
        raise BadInputError(
            "The result does not lie on the voxels of its DICOM images; segment the series itself, not a resampled "
            "or moved copy of it."
        )
    sources = axes.argmax(axis=1)  # which axis of the grid becomes I, J, K
    turned = arrays.transpose(0, *(3 - sources[n] for n in (2, 1, 0)))
    flips = tuple(3 - n for n in range(3) if turn[n, sources[n]] < 0)
    i, j, k = (int(number) for number in start)
    return np.flip(turned, flips), (i, j, k)
