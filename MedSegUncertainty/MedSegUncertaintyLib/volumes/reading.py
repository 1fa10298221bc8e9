"""Volumes from and to files: NIfTI, NRRD, MetaImage and DICOM; and color photographs.

Everything goes through SimpleITK, so that a file means here what it means in 3D Slicer. SimpleITK fills or guesses
silently in places where a wrong voxel, a wrong size or swapped sides would go unnoticed; those files are refused, each
with one sentence that says what is wrong and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.dicom import read_dicom_file, read_dicom_folder
from MedSegUncertaintyLib.volumes.dicom_elements import read_elements
from MedSegUncertaintyLib.volumes.files import PICTURES, read_color_file, read_file
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume, check_finite, check_voxels
from MedSegUncertaintyLib.volumes.itk import image_to_sitk, reason, warnings_off


def read_volume(path: str | Path, series: str | None = None) -> Volume:
    """Read one scalar 3D image.

    Args:
        path: A NIfTI-1, NRRD or MetaImage file, a DICOM file (one slice, or an enhanced multi-frame object that is one
            stack), or a folder that holds, itself or in subfolders, one DICOM series of images. Volumes of one slice
            are read; 2D pictures are not, because the thickness of their voxels is unknown.
        series: Which series of a DICOM folder: its number in the list that the error for several series gives, its
            UID, or its description. Not needed for a folder with one series.

    Returns:
        The image in its native voxel type, with rescaling applied, on its grid in RAS. DICOM slices are sorted by
        position along the slice normal; K points along that normal.

    Raises:
        BadInputError: One sentence that says what is wrong with the file or folder and what to do.
    """
    volume = _read(Path(path), series)
    check_voxels(volume.array, Path(path).name)
    return volume


def read_color(path: str | Path) -> tuple[Volume, Volume, Volume]:
    """Read one color image as its red, green and blue channel, which share memory.

    Args:
        path: A PNG, JPEG or TIFF picture, which becomes a volume of one slice whose pixels count as cubes of
            1 mm (``Volume.scaled`` is False): its own size is unknown. Or a NIfTI-1, NRRD or MetaImage file with three
            values per voxel.

    Raises:
        BadInputError: One sentence that says what is wrong with the file and what to do.
    """
    path = Path(path)
    with _words_for_errors(path):
        if not path.is_file() or read_elements(path) is not None:
            raise BadInputError(f"'{path.name}' is DICOM or a folder; save the color image as {PICTURES}.")
        channels = read_color_file(path)
    for channel in channels:
        check_finite(channel.array, path.name)
    return channels


def read_labels(path: str | Path) -> Volume:
    """Read one label map, like :func:`read_volume`, with whole numbers of type int64; it may be empty.

    Raises:
        BadInputError: As in :func:`read_volume`, or a label is not a whole number.
    """
    volume = _read(Path(path), None)
    check_finite(volume.array, Path(path).name)
    labels = volume.array.astype(np.int64)
    if not np.array_equal(labels, volume.array):
        raise BadInputError(
            f"'{Path(path).name}' has labels that are not whole numbers; resample labels with nearest neighbors only."
        )
    return Volume(labels, volume.geometry, volume.name)


def read_label_names(path: str | Path, volume: Volume) -> dict[int, str]:
    """Names of the labels in a file, by label.

    Args:
        path: The file: of a segmentation that Slicer saved (.seg.nrrd) the segments' names are taken, else the name of
            the file, with the label if there are several.
        volume: What :func:`read_labels` made of it.
    """
    names = {}
    if Path(path).suffix == ".nrrd":
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        for key in reader.GetMetaDataKeys():
            segment = re.fullmatch(r"(Segment\d+)_LabelValue", key)
            if segment and reader.HasMetaDataKey(f"{segment[1]}_Name"):
                names[int(reader.GetMetaData(key))] = reader.GetMetaData(f"{segment[1]}_Name").strip()
    found = [int(label) for label in np.unique(volume.array) if label]
    named = {label: volume.name if len(found) == 1 else f"{volume.name} {label}" for label in found}
    return named | {label: name for label, name in names.items() if name and label in found}


def write_volume(path: str | Path, array_kji: np.ndarray, geometry: Geometry) -> None:
    """Write an array on its grid; the suffix of ``path`` chooses the format.

    Args:
        path: For example ``*.nii.gz``, ``*.nrrd`` or ``*.mha``.
        array_kji: (K, J, I), any real voxel type or bool, which is written as 0 and 1.
        geometry: Its grid.

    Raises:
        BadInputError: The file cannot be written.
    """
    try:
        sitk.WriteImage(image_to_sitk(array_kji, geometry), str(path), useCompression=True)
    except RuntimeError as error:
        raise BadInputError(
            f"'{path}' cannot be written ({reason(error)}); check the folder and the suffix."
        ) from error


def _read(path: Path, series: str | None) -> Volume:
    with _words_for_errors(path):
        if path.is_dir():
            return read_dicom_folder(path, series)
        if not path.is_file():
            raise BadInputError(f"'{path.name}' is neither a file nor a folder; check the path.")
        if series is not None:
            raise BadInputError(f"'{path.name}' is a single file; choose a series only of a DICOM folder.")
        elements = read_elements(path)
        return read_file(path) if elements is None else read_dicom_file(path, elements)


@contextmanager
def _words_for_errors(path: Path) -> Iterator[None]:
    """What goes wrong on the way to the voxels of a path, in a sentence."""
    try:
        if not path.exists():
            raise BadInputError(f"'{path}' does not exist; check the path.")
        with warnings_off():
            yield
    except OSError as error:
        raise BadInputError(
            f"'{path.name}' cannot be opened ({error.strerror or error}); check the path and your rights."
        ) from error
    except MemoryError as error:
        raise BadInputError(f"'{path.name}' needs more memory than there is; crop it first.") from error
