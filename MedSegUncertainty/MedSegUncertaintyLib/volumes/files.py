"""Single files that hold a whole volume: NIfTI, NRRD and MetaImage."""

from __future__ import annotations

import math
import re
from pathlib import Path

import SimpleITK as sitk

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.geometry import Volume
from MedSegUncertaintyLib.volumes.itk import reason, volume_from_sitk
from MedSegUncertaintyLib.volumes.nifti import check_nifti, check_nifti_grid, is_nifti2

READABLE = "NIfTI-1 (.nii, .nii.gz), NRRD, MHA/MHD or a DICOM folder"
_NIFTI, _NRRD, _META = "NiftiImageIO", "NrrdImageIO", "MetaImageIO"
_MOST_COMPRESSED = 1100
"""Deflate makes nothing smaller than by a factor of 1032."""


def read_file(path: Path) -> Volume:
    """Read a file that is not DICOM.

    Raises:
        BadInputError: One sentence that says what is wrong with the file and what to do.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    image_io = reader.GetImageIOFromFileName(str(path))
    if image_io not in (_NIFTI, _NRRD, _META):
        raise BadInputError(f"'{path.name}' {_what_it_is(path, image_io)}")
    try:
        if image_io == _NIFTI:
            check_nifti(path)
        reader.ReadImageInformation()
        _check_kind(reader, path.name)
        if image_io == _NIFTI:
            check_nifti_grid(path, reader)
        else:
            _check_header(reader, path)
        image = reader.Execute()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise BadInputError(
                f"'{path.name}' has axes that are not perpendicular; resample it to a rectangular grid first."
            ) from error
        raise BadInputError(
            f"'{path.name}' is damaged or incomplete ({reason(error)}); export or copy it again."
        ) from error
    volume = volume_from_sitk(image, path.name.removesuffix(".gz").rpartition(".")[0])
    volume.geometry.check(f"'{path.name}'")
    return volume


def _what_it_is(path: Path, image_io: str) -> str:
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
        return f"is a {image_io.removesuffix('ImageIO')} file; give {READABLE}."
    return f"is damaged or not an image that can be read; give {READABLE}."


def _check_kind(reader: sitk.ImageFileReader, name: str) -> None:
    size = reader.GetSize()
    if len(size) > 3 and math.prod(size[3:]) == 1:
        reader.SetExtractSize([*size[:3], *[0] * (len(size) - 3)])
    elif len(size) > 3:
        sizes = " x ".join(map(str, size))
        raise BadInputError(f"'{name}' has {len(size)} dimensions ({sizes}); extract one 3D volume of it.")
    if len(size) < 3:
        raise BadInputError(f"'{name}' is a 2D picture without slice thickness; save it as a volume of one slice.")
    if reader.GetNumberOfComponents() > 1 or "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
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
    present = path.stat().st_size + _detached_bytes(path, header)
    if math.prod(reader.GetSize()) > _MOST_COMPRESSED * present:
        size = " x ".join(map(str, reader.GetSize()))
        raise BadInputError(f"'{path.name}' claims {size} voxels but holds {present} bytes; copy it again.")


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
