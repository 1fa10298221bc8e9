"""Single files that hold a whole image: NIfTI, NRRD and MetaImage volumes, and color photographs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.geometry import LPS_TO_RAS, Geometry, Volume
from MedSegUncertaintyLib.volumes.itk import geometry_from_sitk, reason, volume_from_sitk
from MedSegUncertaintyLib.volumes.nifti import check_nifti, check_nifti_grid, is_nifti2

PICTURES = "PNG, JPEG or TIFF"
READABLE = "NIfTI-1 (.nii, .nii.gz), NRRD, MHA/MHD or a DICOM folder"
_NIFTI, _NRRD, _META = "NiftiImageIO", "NrrdImageIO", "MetaImageIO"
_JPEG = "JPEGImageIO"
_PICTURES = ("PNGImageIO", _JPEG, "TIFFImageIO")
_MOST_COMPRESSED = 1100
"""Deflate makes nothing smaller than by a factor of 1032."""


def read_file(path: Path) -> Volume:
    """Read a file that is not DICOM.

    Raises:
        BadInputError: One sentence that says what is wrong with the file and what to do.
    """
    volume = volume_from_sitk(_read(path, color=False), _stem(path))
    volume.geometry.check(f"'{path.name}'")
    return volume


def read_color_file(path: Path) -> tuple[Volume, Volume, Volume]:
    """Read a photograph, or a volume with three values per voxel, as red, green and blue, which share memory.

    Raises:
        BadInputError: One sentence that says what is wrong with the file and what to do.
    """
    image = _read(path, color=True)
    array = sitk.GetArrayFromImage(image)
    if array.shape[-1] == 4 and (array[..., 3] != np.iinfo(array.dtype).max).any():
        raise BadInputError(f"'{path.name}' has transparent pixels; save it without transparency.")
    is_picture = image.GetDimension() == 2
    if is_picture:
        # What a picture says about its size is meant for printing. Rows run to the left and columns to the back, so
        # that an axial view shows the picture upright.
        columns, rows = image.GetSize()
        geometry = Geometry.from_parts((columns, rows, 1), (1.0, 1.0, 1.0), direction_ras=LPS_TO_RAS)
        array = array[np.newaxis]
    else:
        geometry = geometry_from_sitk(image)
        geometry.check(f"'{path.name}'")
    red, green, blue = (Volume(array[..., n], geometry, _stem(path), scaled=not is_picture) for n in range(3))
    return red, green, blue


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0]


def _read(path: Path, color: bool) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    image_io = reader.GetImageIOFromFileName(str(path))
    is_picture = color and image_io in _PICTURES
    if image_io not in (_NIFTI, _NRRD, _META) and not is_picture:
        raise BadInputError(f"'{path.name}' {_what_it_is(path, image_io, PICTURES if color else READABLE)}")
    try:
        if image_io == _NIFTI:
            check_nifti(path)
        reader.ReadImageInformation()
        if is_picture:
            _check_picture(reader, path, image_io)
        else:
            _check_dimensions(reader, path.name)
        _check_components(reader, path.name, color)
        if image_io == _NIFTI:
            check_nifti_grid(path, reader)
        elif not is_picture:
            _check_header(reader, path)
        return reader.Execute()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise BadInputError(
                f"'{path.name}' has axes that are not perpendicular; resample it to a rectangular grid first."
            ) from error
        raise BadInputError(
            f"'{path.name}' is damaged or incomplete ({reason(error)}); export or copy it again."
        ) from error


def _what_it_is(path: Path, image_io: str, readable: str) -> str:
    """The rest of a sentence about a file that is none of our formats."""
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        return "is empty and not an image; copy or export it again."
    if is_nifti2(path):
        return "is a NIfTI-2 file, which 3D Slicer does not read either; save it as NIfTI-1."
    if path.name.lower().endswith((".mgz", ".mgh")):
        return "is a FreeSurfer file; convert it to NIfTI-1 with mri_convert."
    if start[:4] == b"PK\x03\x04":
        return "is a zip archive; unpack it and give the folder."
    if start[:2] == b"\x1f\x8b" and path.suffix == ".nii":
        return "is zipped but not named so, or damaged; name it .nii.gz."
    if image_io:
        return f"is a {image_io.removesuffix('ImageIO')} file; give {readable}."
    return f"is damaged or not an image that can be read; give {readable}."


def _check_dimensions(reader: sitk.ImageFileReader, name: str) -> None:
    size = reader.GetSize()
    if len(size) > 3 and math.prod(size[3:]) == 1:
        reader.SetExtractSize([*size[:3], *[0] * (len(size) - 3)])
    elif len(size) > 3:
        sizes = " x ".join(map(str, size))
        raise BadInputError(f"'{name}' has {len(size)} dimensions ({sizes}); extract one 3D volume of it.")
    if len(size) < 3:
        raise BadInputError(f"'{name}' is a 2D picture without slice thickness; save it as a volume of one slice.")


def _check_picture(reader: sitk.ImageFileReader, path: Path, image_io: str) -> None:
    size = reader.GetSize()
    if len(size) != 2 or min(size) < 1:
        raise BadInputError(f"'{path.name}' holds {size[-1]} pictures; save one of them alone.")
    _check_size(size, path, path.stat().st_size)
    if image_io == _JPEG:
        data = path.read_bytes()
        # ITK fills up the rest of a picture whose end mark does not follow its last scan.
        if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            raise BadInputError(f"'{path.name}' is cut off; copy it again.")


def _check_components(reader: sitk.ImageFileReader, name: str, color: bool) -> None:
    count, is_complex = reader.GetNumberOfComponents(), "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID())
    whole = "integer" in sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if color and (is_complex or not (count == 3 or (count == 4 and whole))):
        raise BadInputError(f"'{name}' has no red, green and blue; the model needs a color image.")
    if not color and (is_complex or count > 1):
        raise BadInputError(f"'{name}' has color, vector or complex voxels; convert it to one gray value per voxel.")


def _check_header(reader: sitk.ImageFileReader, path: Path) -> None:
    """Make sure that an NRRD or MetaImage header states its orientation, and no size that its file cannot hold."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
    is_nrrd = start.startswith(b"NRRD")
    end = re.search(rb"\r?\n\r?\n" if is_nrrd else rb"ElementDataFile[^\n]*", start)
    header = (start[: end.end()] if end else start).decode("latin-1")
    if is_nrrd:
        # ITK understands the anatomical spaces, left/right - anterior/posterior - superior, and guesses otherwise.
        placed = reader.HasMetaDataKey("NRRD_space") and reader.GetMetaData("NRRD_space").endswith("superior")
    else:
        placed = all(
            re.search(rf"^\s*({keys})\s*=", header, re.MULTILINE)
            for keys in ("ElementSpacing|ElementSize", "TransformMatrix|Rotation|Orientation")
        )
    if not placed:
        # Reading on would invent which side is left, and perhaps also the size of the voxels.
        raise BadInputError(
            f"'{path.name}' does not say how its voxels lie in the patient; save it with spacing and orientation."
        )
    _check_size(reader.GetSize(), path, path.stat().st_size + _detached_bytes(path, header))


def _check_size(size: Sequence[int], path: Path, present: int) -> None:
    if math.prod(size) > _MOST_COMPRESSED * present:
        claimed = " x ".join(map(str, size))
        raise BadInputError(f"'{path.name}' claims {claimed} voxels but holds {present} bytes; copy it again.")


def _detached_bytes(path: Path, header: str) -> int:
    """Size of the files that a header names for its voxels; missing ones are left to ITK, which refuses them."""
    named = re.search(r"^\s*(?:ElementDataFile\s*=|data ?file:)\s*([^\r\n]+?)\s*$", header, re.MULTILINE)
    if not named or named[1] in ("LOCAL", "Local", "local"):
        return 0
    data = path.parent / named[1]
    if data.is_file():
        return data.stat().st_size
    # A list or a pattern of files; whatever it names lies beside the header.
    return sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file())
