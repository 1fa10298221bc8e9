"""DICOM images, one slice per file or all frames in one, as one regular stack of slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.dicom_elements import Elements, read_elements
from MedSegUncertaintyLib.volumes.dicom_series import choose_series, not_an_image
from MedSegUncertaintyLib.volumes.geometry import LPS_TO_RAS, Geometry, Volume
from MedSegUncertaintyLib.volumes.itk import reason

# Encodings that were compared with pydicom or with the uncompressed image; GDCM decodes some others.
_TRANSFER_SYNTAXES = {
    "1.2.840.10008.1.2",  # implicit VR
    "1.2.840.10008.1.2.1",  # explicit VR
    "1.2.840.10008.1.2.1.99",  # deflated
    "1.2.840.10008.1.2.2",  # big endian
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first order
    "1.2.840.10008.1.2.4.80",  # JPEG-LS
    "1.2.840.10008.1.2.4.81",  # JPEG-LS, near lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000, lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.5",  # RLE
}
_SHARED_GROUPS, _FRAME_GROUPS = 0x52009229, 0x52009230
_MEASURES, _POSITION, _ORIENTATION, _RESCALING = 0x00289110, 0x00209113, 0x00209116, 0x00289145
_MOST_COMPRESSED = 10_000
_RESAMPLE = (
    "load it in 3D Slicer with acquisition geometry regularization, harden the transform and save the volume as NRRD"
)


@dataclass(frozen=True)
class _Slice:
    """What the header of one DICOM slice or frame says; vectors in LPS, lengths in mm."""

    file: Path
    frame: int
    size_ij: tuple[int, int]
    spacing_ji: np.ndarray
    orientation: np.ndarray
    position: np.ndarray
    thickness: float
    rescaling: tuple[float, float]
    pixel_id: int
    inverted_sum: float | None
    """Of a voxel as stored and as GDCM inverts it, where it does so (MONOCHROME1)."""


@dataclass(frozen=True)
class DicomStack:
    """Where the slices of a DICOM image are stored.

    Attributes:
        geometry: Grid of the image as :func:`.reading.read_volume` returns it.
        places: File, and number of the frame in it (from 0), of every slice along K.
    """

    geometry: Geometry
    places: tuple[tuple[Path, int], ...]


def source_files(path: Path, series: str | None = None) -> list[Path]:
    """The DICOM files of the image that :func:`.reading.read_volume` reads.

    Raises:
        BadInputError: The path holds no DICOM image, or it is not clear which one is meant.
    """
    if path.is_dir():
        return [file for file, _ in choose_series(path, series).files]
    if not path.is_file() or read_elements(path) is None:
        raise BadInputError(f"'{path.name}' is not DICOM; DICOM can only be written for an image that came from it.")
    return [path]


def read_stack(files: Sequence[Path]) -> DicomStack:
    """Where the slices of an image lie, from the headers of its files.

    Raises:
        BadInputError: One sentence that says why they are not one image.
    """
    name = files[0].parent.name if len(files) > 1 else files[0].name
    headers = [(file, read_elements(file)) for file in files]
    for file, header in headers:
        if header is None:
            raise BadInputError(f"'{file.name}' is no DICOM file; give the files of the image.")
    slices = [part for file, header in headers if header is not None for part in _slices(file, header)]
    slices, geometry = _stack(slices, name)
    return DicomStack(geometry, tuple((item.file, item.frame) for item in slices))


def read_dicom_folder(folder: Path, series: str | None) -> Volume:
    """Read one series of a folder; see :func:`.reading.read_volume`.

    Raises:
        BadInputError: One sentence that says what is wrong and what to do.
    """
    return _read(choose_series(folder, series).files, folder.name)


def read_dicom_file(path: Path, header: Elements) -> Volume:
    """Read one file, of one slice or of many frames, whose header was read.

    Raises:
        BadInputError: One sentence that says what is wrong and what to do.
    """
    if kind := not_an_image(header):
        raise BadInputError(f"'{path.name}' is a DICOM file without an image ({kind}); give the image.")
    return _read([(path, header)], path.name)


def _read(files: Sequence[tuple[Path, Elements]], name: str) -> Volume:
    slices = [part for path, header in files for part in _slices(path, header)]
    if len(slices) > len(files) > 1:
        raise BadInputError(
            f"The DICOM series '{name}' has {len(files)} multi-frame files, each a volume of its own; give one of them."
        )
    slices, geometry = _stack(slices, name)
    if len(files) == 1 and len({item.rescaling for item in slices}) > 1:
        # GDCM would use the rescaling of the first frame for all.
        raise BadInputError(f"'{name}' rescales its frames differently; convert it to NIfTI or NRRD first.")
    try:
        array = _voxels(slices)
    except RuntimeError as error:
        raise BadInputError(f"The DICOM series '{name}' cannot be read ({reason(error)}); export it again.") from error
    if slices[0].inverted_sum is not None:
        array = _inverted_back(array, slices)
    return Volume(array.reshape(geometry.shape_kji), geometry, name.removesuffix(".dcm"))


def _voxels(slices: list[_Slice]) -> np.ndarray:
    """Rescaled voxels (K, J, I) of slices in their order along the normal."""
    if len(slices) > 1 and slices[0].file == slices[1].file:
        frames = sitk.GetArrayFromImage(sitk.ReadImage(str(slices[0].file), imageIO="GDCMImageIO"))
        return frames[[item.frame for item in slices]]
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(item.file) for item in slices])
    if len({item.pixel_id for item in slices}) > 1:
        # Rescale slopes that differ from slice to slice (PET): SimpleITK would cut all slices to the type of the first.
        reader.SetOutputPixelType(sitk.sitkFloat32)
    return sitk.GetArrayFromImage(reader.Execute())


def _inverted_back(array: np.ndarray, slices: list[_Slice]) -> np.ndarray:
    """Undo that GDCM inverts the stored values of MONOCHROME1, which says how to show them and not what they mean."""
    sums = [item.rescaling[0] * (item.inverted_sum or 0) + 2 * item.rescaling[1] for item in slices]
    values = np.array(sums)[:, None, None] - array.reshape(len(slices), *array.shape[-2:])
    return values.astype(array.dtype)


def _header(file: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise BadInputError(
            f"'{file.name}' is no readable DICOM image ({reason(error)}); copy it again or remove it."
        ) from error
    return reader


def _integer(reader: sitk.ImageFileReader, tag: str, default: int) -> int:
    return int(reader.GetMetaData(tag)) if reader.HasMetaDataKey(tag) else default


def _slices(file: Path, header: Elements) -> list[_Slice]:
    """One slice, or one for each frame."""
    name = f"The DICOM file '{file.name}'"
    frames = int(header.number(0x00280008, default=1))
    groups = header.sequences.get(_FRAME_GROUPS, [])
    _check_content(header, name)
    if (frames > 1 or groups) and len(groups) != frames:
        raise BadInputError(
            f"{name} holds {frames} frames in one file without saying where they lie; convert it to NIfTI or NRRD "
            "first."
        )
    reader = _header(file)
    if reader.GetNumberOfComponents() > 1:
        raise BadInputError(f"{name} is a color image; choose a series with one gray value per voxel.")
    _check_size(reader, header, frames, name)
    inverted_sum = None
    if header.text(0x00280004) == "MONOCHROME1":
        signed = _integer(reader, "0028|0103", 0)
        inverted_sum = -1.0 if signed else 2.0 ** _integer(reader, "0028|0101", 16) - 1
    if header.encapsulated and inverted_sum is not None:
        raise BadInputError(f"{name} is stored inverted (MONOCHROME1) and compressed; export it uncompressed.")
    shared = header.group(_SHARED_GROUPS)
    return [
        _slice(file, number, [frame, shared] if groups else [header], reader, inverted_sum)
        for number, frame in enumerate(groups or [header])
    ]


def _slice(
    file: Path, frame: int, places: list[Elements], reader: sitk.ImageFileReader, inverted_sum: float | None
) -> _Slice:
    """One slice from its header, or one frame from its functional groups and those that all frames share."""
    name = f"The DICOM file '{file.name}'"

    def find(macro: int, tag: int, count: int) -> np.ndarray | None:
        for place in places:
            values = (place.group(macro) if len(places) > 1 else place).numbers(tag, count)
            if values is not None:
                return values
        return None

    def find_one(macro: int, tag: int, default: float) -> float:
        values = find(macro, tag, 1)
        return default if values is None else float(values[0])

    spacing = find(_MEASURES, 0x00280030, 2)
    if spacing is None or not (spacing > 0).all():
        raise BadInputError(f"{name} does not say how large its pixels are; export the series with pixel spacing.")
    position, orientation = find(_POSITION, 0x00200032, 3), find(_ORIENTATION, 0x00200037, 6)
    if position is None or orientation is None:
        raise BadInputError(f"{name} does not say where its slice lies in the patient; export it with its position.")
    return _Slice(
        file=file,
        frame=frame,
        size_ij=(reader.GetSize()[0], reader.GetSize()[1]),
        spacing_ji=spacing,
        orientation=orientation,
        position=position,
        # Spacing between slices, else slice thickness, else 0 for unknown; only a stack of one slice needs it.
        thickness=find_one(_MEASURES, 0x00180088, find_one(_MEASURES, 0x00180050, 0)),
        rescaling=(find_one(_RESCALING, 0x00281053, 1), find_one(_RESCALING, 0x00281052, 0)),
        pixel_id=reader.GetPixelIDValue(),
        inverted_sum=inverted_sum,
    )


def _check_content(header: Elements, name: str) -> None:
    """Refuse what would be decoded wrongly or not at all."""
    if header.pixel_bytes is None:
        raise BadInputError(f"{name} holds no pixels; copy or export the series again.")
    if header.transfer_syntax and header.transfer_syntax not in _TRANSFER_SYNTAXES:
        raise BadInputError(
            f"{name} is compressed in an unusual way ({header.transfer_syntax}); export it uncompressed."
        )
    if header.sequences.get(0x00283000):
        raise BadInputError(f"{name} maps its values with a table (modality LUT); export it with rescaled values.")
    if header.text(0x00089205) in ("COLOR", "MIXED", "TRUE_COLOR"):
        raise BadInputError(f"{name} mixes gray values with colors; choose a series with one gray value per voxel.")
    if header.text(0x00209161) and header.values.get(0x00209163) not in (b"\1\0", b"\0\1"):
        raise BadInputError(f"{name} is one part of several (concatenation); export the image as one object.")


def _check_size(reader: sitk.ImageFileReader, header: Elements, frames: int, name: str) -> None:
    """Make sure that the pixels are all there, which GDCM fills up without a word, before anything is allocated."""
    size_i, size_j = reader.GetSize()[:2]
    needed, present = size_i * size_j * frames * _integer(reader, "0028|0100", 16) // 8, header.pixel_bytes or 0
    if needed > present * (_MOST_COMPRESSED if header.encapsulated else 1):
        raise BadInputError(f"{name} holds fewer pixels than its header says; copy or export the series again.")


def _stack(slices: list[_Slice], name: str) -> tuple[list[_Slice], Geometry]:
    """Sort slices along their normal and lay the grid through them.

    Raises:
        BadInputError: The slices are not one regular stack.
    """
    series = f"The DICOM series '{name}'"
    if len({(item.size_ij, *np.round(item.spacing_ji, 4)) for item in slices}) > 1:
        raise BadInputError(f"{series} has slices of different sizes; put each size into its own folder.")
    if len({item.inverted_sum for item in slices}) > 1:
        raise BadInputError(f"{series} has slices of which only some are inverted; export all of them the same way.")
    orientations = np.array([item.orientation for item in slices])
    if np.ptp(orientations, axis=0).max() > 1e-3:
        raise BadInputError(f"{series} has slices in different directions; put each direction into its own folder.")
    lengths = np.linalg.norm(orientations[0].reshape(2, 3), axis=1)
    if np.abs(lengths - 1).max() > 0.01:
        raise BadInputError(f"{series} states directions that are no unit vectors; export it again.")
    along_i, along_j = orientations[0].reshape(2, 3) / lengths[:, None]
    normal = np.cross(along_i, along_j)
    slices = sorted(slices, key=lambda item: float(item.position @ normal))
    positions = np.array([item.position for item in slices])
    gap = _even_gap(positions @ normal, slices[0], series)
    drift = positions - positions[0] - np.outer((positions - positions[0]) @ normal, normal)
    spacing_j, spacing_i = slices[0].spacing_ji
    if np.abs(drift).max() > 0.5 * min(spacing_i, spacing_j):
        raise BadInputError(f"{series} was taken with a tilted gantry, so its slices are sheared; {_RESAMPLE}.")
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
        raise BadInputError(
            f"{series} has two slices at one position, as of several times or contrasts; keep one image per position."
        )
    mean = float(gaps.mean())
    even = along_normal[0] + mean * np.arange(len(along_normal))
    # A twentieth of a gap leaves room for rounded positions and notices one slice missing among hundreds.
    if np.abs(along_normal - even).max() > 0.05 * mean:
        raise BadInputError(
            f"{series} has gaps of {gaps.min():.4g} to {gaps.max():.4g} mm between its {len(along_normal)} slices; "
            f"export it again if slices are missing, else {_RESAMPLE}."
        )
    return mean
