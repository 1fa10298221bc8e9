"""Volumes from and to files: NIfTI, NRRD, MetaImage and DICOM.

Everything goes through SimpleITK, so that a file means here what it means in 3D Slicer. SimpleITK fills or guesses
silently in places where a wrong voxel, a wrong size or swapped sides would go unnoticed; those files are refused, each
with one sentence that says what is wrong and what to do.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.geometry import (
    LPS_TO_RAS,
    Geometry,
    Volume,
    check_finite,
    check_voxels,
    refuse_not_finite,
)

_READABLE = "NIfTI-1 (.nii, .nii.gz), NRRD, MHA/MHD or a DICOM folder"
_GDCM, _NIFTI, _NRRD, _META = "GDCMImageIO", "NiftiImageIO", "NrrdImageIO", "MetaImageIO"


def read_volume(path: str | Path) -> Volume:
    """Read one scalar 3D image.

    Args:
        path: A NIfTI-1, NRRD or MetaImage file, a single-frame DICOM file, or a folder that holds one DICOM series.
            Volumes of one slice are read; 2D pictures are not, because the thickness of their voxels is unknown.

    Returns:
        The image in its native voxel type, with rescaling applied, on its grid in RAS. DICOM slices are sorted by
        position along the slice normal; K points along that normal.

    Raises:
        BadInputError: One sentence that says what is wrong with the file or folder and what to do.
    """
    volume = _read(Path(path))
    check_voxels(volume.array, Path(path).name)
    return volume


def read_labels(path: str | Path) -> Volume:
    """Read one label map, like :func:`read_volume`, with whole numbers of type int64; it may be empty.

    Raises:
        BadInputError: As in :func:`read_volume`, or a label is not a whole number.
    """
    volume = _read(Path(path))
    check_finite(volume.array, Path(path).name)
    labels = volume.array.astype(np.int64)
    if not np.array_equal(labels, volume.array):
        raise BadInputError(
            f"'{Path(path).name}' has labels that are not whole numbers; resample labels with nearest neighbors only."
        )
    return Volume(labels, volume.geometry, volume.name)


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
            f"'{path}' cannot be written ({_reason(error)}); check the folder and the suffix."
        ) from error


def volume_from_sitk(image: sitk.Image, name: str = "image") -> Volume:
    """Convert a 3D scalar SimpleITK image (LPS) to a volume (RAS); the voxels are copied."""
    direction = LPS_TO_RAS @ np.array(image.GetDirection()).reshape(3, 3)
    geometry = Geometry.from_parts(image.GetSize(), image.GetSpacing(), LPS_TO_RAS @ image.GetOrigin(), direction)
    return Volume(sitk.GetArrayFromImage(image), geometry, name)


def image_to_sitk(array_kji: np.ndarray, geometry: Geometry) -> sitk.Image:
    """Convert an array (K, J, I) on a grid in RAS to a SimpleITK image (LPS); bool becomes uint8."""
    if array_kji.shape != geometry.shape_kji:
        raise ValueError(f"array {array_kji.shape} does not fit the grid {geometry.shape_kji}")
    image = sitk.GetImageFromArray(array_kji.astype(np.uint8) if array_kji.dtype == bool else array_kji)
    image.SetSpacing(geometry.spacing.tolist())
    image.SetOrigin((LPS_TO_RAS @ geometry.ijk_to_ras[:3, 3]).tolist())
    image.SetDirection((LPS_TO_RAS @ geometry.direction).ravel().tolist())
    return image


def _read(path: Path) -> Volume:
    if not path.exists():
        raise BadInputError(f"'{path}' does not exist; check the path.")
    with _itk_warnings_off():
        return _read_dicom(_series_files(path), path.name) if path.is_dir() else _read_file(path)


@contextmanager
def _itk_warnings_off() -> Iterator[None]:
    """What matters of ITK's warnings is refused here in words; the rest would only confuse on the console."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _reason(error: RuntimeError) -> str:
    """The last line of an ITK error, without the names and addresses of the objects that raised it."""
    line = str(error).strip().splitlines()[-1]
    return re.sub(r"(ITK ERROR|sitk::ERROR|Reason|\w+\(0x[0-9a-f]+\)|\[nrrd\] \w+): *", "", line).strip(" .")


# Single files


def _read_file(path: Path) -> Volume:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    image_io = reader.GetImageIOFromFileName(str(path))
    if image_io == _GDCM:
        return _read_dicom([str(path)], path.name)
    if image_io not in (_NIFTI, _NRRD, _META):
        what = f"a {image_io.removesuffix('ImageIO')} file" if image_io else "damaged or not an image that can be read"
        raise BadInputError(f"'{path.name}' is {what}; give {_READABLE}.")
    try:
        reader.ReadImageInformation()
        _check_kind(reader, path.name)
        if image_io == _NIFTI:
            _check_nifti(reader, path)
        elif image_io == _NRRD:
            _check_nrrd(reader, path.name)
        image = reader.Execute()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise BadInputError(
                f"'{path.name}' has axes that are not perpendicular; resample it to a rectangular grid first."
            ) from error
        raise BadInputError(
            f"'{path.name}' is damaged or incomplete ({_reason(error)}); export or copy it again."
        ) from error
    volume = volume_from_sitk(image, path.name.removesuffix(".gz").rpartition(".")[0])
    volume.geometry.check(f"'{path.name}'")
    return volume


def _check_kind(reader: sitk.ImageFileReader, name: str) -> None:
    if reader.GetDimension() > 3:
        size = " x ".join(map(str, reader.GetSize()))
        raise BadInputError(f"'{name}' has {reader.GetDimension()} dimensions ({size}); extract one 3D volume of it.")
    if reader.GetDimension() < 3:
        raise BadInputError(f"'{name}' is a 2D picture without slice thickness; save it as a volume of one slice.")
    if reader.GetNumberOfComponents() > 1 or "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise BadInputError(f"'{name}' has color, vector or complex voxels; convert it to one gray value per voxel.")


def _refuse_unknown_orientation(name: str) -> None:
    # Reading on would invent which side is left, and for NRRD also the size of the voxels.
    raise BadInputError(
        f"'{name}' does not say how its voxels lie in the patient; save it with spacing and orientation."
    )


def _check_nifti(reader: sitk.ImageFileReader, path: Path) -> None:
    if reader.GetMetaData("nifti_type") != "1":
        raise BadInputError(f"'{path.name}' is an Analyze or two-file image; convert it to a .nii or .nii.gz file.")
    has_sform = reader.GetMetaData("sform_code") != "0"
    if not has_sform and reader.GetMetaData("qform_code") == "0":
        _refuse_unknown_orientation(path.name)
    if has_sform:
        sform = [[float(number) for number in reader.GetMetaData(f"srow_{axis}").split()] for axis in "xyz"]
        spacing = np.linalg.norm(np.array(sform)[:, :3], axis=0)
        if not np.allclose(spacing, reader.GetSpacing(), rtol=1e-2):
            raise BadInputError(f"'{path.name}' states two different voxel sizes in its header; correct the header.")
    _check_nifti_voxels(reader, path)


def _check_nifti_voxels(reader: sitk.ImageFileReader, path: Path) -> None:
    """Look at the stored bytes, because ITK turns missing and NaN voxels into 0 and ignores the checksum of gzip."""
    needed = math.prod(reader.GetSize()) * int(reader.GetMetaData("bitpix")) // 8
    float_type = {"16": "f4", "64": "f8"}.get(reader.GetMetaData("datatype"))
    present = bad = 0
    try:
        with _unzipped(path) as stream:
            header = stream.read(int(float(reader.GetMetaData("vox_offset"))))
            order = "<" if header[:4] == struct.pack("<i", 348) else ">"
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                voxels = chunk[: max(needed - present, 0)]
                present += len(chunk)
                if float_type and voxels:
                    values = np.frombuffer(voxels, order + float_type, count=len(voxels) // int(float_type[1]))
                    bad += int(np.count_nonzero(~np.isfinite(values)))
    except (EOFError, OSError, zlib.error) as error:
        raise BadInputError(f"'{path.name}' is a damaged or cut-off gzip file; copy it again.") from error
    if present < needed:
        raise BadInputError(f"'{path.name}' holds {present} of {needed} bytes of voxels; copy it again.")
    refuse_not_finite(bad, math.prod(reader.GetSize()), path.name)


def _unzipped(path: Path) -> BufferedIOBase:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else path.open("rb")


def _check_nrrd(reader: sitk.ImageFileReader, name: str) -> None:
    # ITK understands the three anatomical spaces, left/right - anterior/posterior - superior, and guesses otherwise.
    if not (reader.HasMetaDataKey("NRRD_space") and reader.GetMetaData("NRRD_space").endswith("superior")):
        _refuse_unknown_orientation(name)


# DICOM


@dataclass(frozen=True)
class _Slice:
    """What the header of one DICOM file says; vectors in LPS, lengths in mm."""

    file: str
    size_ij: tuple[int, int]
    spacing_ji: np.ndarray
    orientation: np.ndarray
    position: np.ndarray
    thickness: float
    pixel_id: int


def _series_files(folder: Path) -> list[str]:
    """Files of the only DICOM series in a folder."""
    find = sitk.ImageSeriesReader
    files = [find.GetGDCMSeriesFileNames(str(folder), uid) for uid in find.GetGDCMSeriesIDs(str(folder))]
    if not files:
        raise BadInputError(f"The folder '{folder.name}' holds no DICOM image; give {_READABLE}.")
    if len(files) > 1:
        series = ", ".join(f"'{_description(names[0])}' with {_count(len(names), 'slice')}" for names in files)
        raise BadInputError(
            f"The folder '{folder.name}' holds {len(files)} DICOM series ({series}); put the one you mean into its own."
        )
    return list(files[0])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _header(file: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO(_GDCM)
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise BadInputError(f"'{Path(file).name}' is no readable DICOM image ({_reason(error)}); remove it.") from error
    return reader


def _text(reader: sitk.ImageFileReader, tag: str) -> str:
    return reader.GetMetaData(tag).strip(" \0") if reader.HasMetaDataKey(tag) else ""


def _numbers(reader: sitk.ImageFileReader, tag: str, count: int) -> np.ndarray | None:
    try:
        values = np.array([float(part) for part in _text(reader, tag).split("\\")])
    except ValueError:
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def _number(reader: sitk.ImageFileReader, tag: str, default: float) -> float:
    values = _numbers(reader, tag, 1)
    return default if values is None else float(values[0])


def _description(file: str) -> str:
    reader = _header(file)
    return _text(reader, "0008|103e") or f"{_text(reader, '0008|0060')} series {_text(reader, '0020|0011')}".strip()


def _read_slice(file: str) -> _Slice:
    reader = _header(file)
    name = f"The DICOM file '{Path(file).name}'"
    frames = int(_number(reader, "0028|0008", default=1))
    if reader.GetNumberOfComponents() > 1:
        raise BadInputError(f"{name} is a color image; choose a series with one gray value per voxel.")
    if frames > 1:
        raise BadInputError(f"{name} holds {frames} frames in one file; convert it to NIfTI or NRRD first.")
    if _text(reader, "0028|0004") == "MONOCHROME1":
        raise BadInputError(f"{name} is stored inverted (MONOCHROME1); export it as MONOCHROME2.")
    spacing = _numbers(reader, "0028|0030", 2)
    if spacing is None or not (spacing > 0).all():
        raise BadInputError(f"{name} does not say how large its pixels are; export the series with pixel spacing.")
    position, orientation = _numbers(reader, "0020|0032", 3), _numbers(reader, "0020|0037", 6)
    if position is None or orientation is None:
        raise BadInputError(f"{name} does not say where its slice lies in the patient; export it with its position.")
    size_i, size_j = reader.GetSize()[:2]
    if _lacks_pixels(Path(file), size_i * size_j * int(_number(reader, "0028|0100", default=8)) // 8):
        raise BadInputError(f"{name} holds fewer pixels than its header says; copy or export the series again.")
    return _Slice(
        file=file,
        size_ij=(size_i, size_j),
        spacing_ji=spacing,
        orientation=orientation,
        position=position,
        # Spacing between slices, else slice thickness, else 0 for unknown; only a stack of one slice needs it.
        thickness=_number(reader, "0018|0088", default=_number(reader, "0018|0050", default=0)),
        pixel_id=reader.GetPixelIDValue(),
    )


def _lacks_pixels(file: Path, needed: int) -> bool:
    """Whether uncompressed pixel data are shorter than ``needed`` bytes, which GDCM fills up without a word.

    Looks for the PixelData element (7FE0,0010) in little endian, explicit or implicit. Files without one (big endian,
    deflated) and compressed data (undefined length) pass; GDCM refuses compressed data that are cut off.
    """
    data = file.read_bytes()
    lengths = [
        (match.end(), struct.unpack("<I", match[1])[0])
        for match in re.finditer(rb"\xe0\x7f\x10\x00(?:O[BW]\0\0)?(.{4})", data, re.DOTALL)
    ]
    complete = any(size == 0xFFFFFFFF or needed <= size <= len(data) - start for start, size in lengths)
    return bool(lengths) and not complete


def _read_dicom(files: Sequence[str], name: str) -> Volume:
    slices, geometry = _stack([_read_slice(file) for file in files], name)
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO(_GDCM)
    reader.SetFileNames([item.file for item in slices])
    if len({item.pixel_id for item in slices}) > 1:
        # Rescale slopes that differ from slice to slice (PET): SimpleITK would cut all slices to the type of the first.
        reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise BadInputError(f"The DICOM series '{name}' cannot be read ({_reason(error)}); export it again.") from error
    return Volume(sitk.GetArrayFromImage(image).reshape(geometry.shape_kji), geometry, name.removesuffix(".dcm"))


def _stack(slices: list[_Slice], name: str) -> tuple[list[_Slice], Geometry]:
    """Sort slices along their normal and lay the grid through them.

    Raises:
        BadInputError: The slices are not one regular stack.
    """
    series = f"The DICOM series '{name}'"
    if len({(item.size_ij, *np.round(item.spacing_ji, 4)) for item in slices}) > 1:
        raise BadInputError(f"{series} has slices of different sizes; put each size into its own folder.")
    orientations = np.array([item.orientation for item in slices])
    if np.ptp(orientations, axis=0).max() > 1e-3:
        raise BadInputError(f"{series} has slices in different directions; put each direction into its own folder.")
    along_i, along_j = orientations[0].reshape(2, 3) / np.linalg.norm(orientations[0].reshape(2, 3), axis=1)[:, None]
    normal = np.cross(along_i, along_j)
    slices = sorted(slices, key=lambda item: float(item.position @ normal))
    positions = np.array([item.position for item in slices])
    gap = _even_gap(positions @ normal, slices[0], series)
    drift = positions - positions[0] - np.outer((positions - positions[0]) @ normal, normal)
    spacing_j, spacing_i = slices[0].spacing_ji
    if np.abs(drift).max() > 0.5 * min(spacing_i, spacing_j):
        raise BadInputError(
            f"{series} was taken with a tilted gantry, so its slices are sheared; correct the tilt first."
        )
    direction = LPS_TO_RAS @ np.column_stack([along_i, along_j, normal])
    shape = (*slices[0].size_ij, len(slices))
    geometry = Geometry.from_parts(shape, (spacing_i, spacing_j, gap), LPS_TO_RAS @ positions[0], direction)
    geometry.check(series)
    return slices, geometry


def _even_gap(along_normal: np.ndarray, first: _Slice, series: str) -> float:
    """Distance of neighboring slices in mm; for a single slice its thickness."""
    if len(along_normal) == 1:
        if first.thickness <= 0:
            raise BadInputError(f"{series} has one slice of unknown thickness; export it with its thickness.")
        return first.thickness
    gaps = np.diff(along_normal)
    if gaps.min() < 1e-3:
        raise BadInputError(f"{series} has two slices at one position; keep one image per position.")
    mean = float(gaps.mean())
    even = along_normal[0] + mean * np.arange(len(along_normal))
    # A twentieth of a gap leaves room for rounded positions and notices one slice missing among hundreds.
    if np.abs(along_normal - even).max() > 0.05 * mean:
        raise BadInputError(
            f"{series} has gaps of {gaps.min():.4g} to {gaps.max():.4g} mm between its {len(along_normal)} slices; "
            "export all slices again or resample them evenly."
        )
    return mean
