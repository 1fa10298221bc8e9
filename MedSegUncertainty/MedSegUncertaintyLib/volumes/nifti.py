"""What a NIfTI file says about itself, where ITK would fill, guess or contradict other readers.

The sform counts where there is one, as in nibabel, SPM and FSL. ITK, and so 3D Slicer, follows it only if it has
perpendicular axes and either the code for the scanner or no rival; otherwise it takes the qform without a word. A file
for which the two choices differ would lie elsewhere in Slicer than in the tools that wrote it, so it is refused.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.geometry import Geometry, refuse_not_finite
from MedSegUncertaintyLib.volumes.itk import geometry_from_sitk

_FLOAT_TYPES = {16: "f4", 64: "f8"}
# Bits of a voxel by the code of its type; ITK goes by the type, and fills up what the file then lacks.
_BITS = {
    **{2: 8, 256: 8, 4: 16, 512: 16, 8: 32, 768: 32, 1024: 64, 1280: 64},  # whole numbers
    **{16: 32, 64: 64},  # real numbers
    **{32: 64, 1792: 128, 128: 24, 2304: 32},  # complex and colors, which are refused as such
}
_METERS, _MICROMETERS = 1, 3


@dataclass(frozen=True)
class _Header:
    """The fields of a NIfTI-1 header that matter here."""

    order: str
    magic: bytes
    shape: tuple[int, ...]
    datatype: int
    bits: int
    spacing: tuple[float, ...]
    offset: float
    slope: float
    intercept: float
    units: int
    qform_code: int
    sform_code: int
    sform: np.ndarray

    @property
    def needed(self) -> int:
        """Bytes of its voxels."""
        return math.prod(self.shape) * self.bits // 8


def is_nifti2(path: Path) -> bool:
    """Whether a file, zipped or not, starts like NIfTI-2."""
    try:
        with _unzipped(path) as stream:
            return stream.read(4) in (struct.pack("<i", 540), struct.pack(">i", 540))
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return False


def check_nifti(path: Path) -> None:
    """Check header and voxels of a NIfTI file; reads it once, in pieces, before anything is allocated.

    Raises:
        BadInputError: The header contradicts itself, or voxels are missing or not finite.
    """
    with _open(path) as stream:
        header = _header(stream, path.name)
        if header.magic[:3] != b"n+1":
            raise BadInputError(f"'{path.name}' is an Analyze or two-file image; convert it to a .nii or .nii.gz file.")
        _check_fields(header, path.name)
        stream.seek(int(header.offset))
        _check_voxels(stream, header, path.name)


def check_nifti_grid(path: Path, reader: sitk.ImageFileReader) -> None:
    """Make sure that the grid ITK takes from a header is the one of its sform, if it has one.

    Args:
        path: The file.
        reader: Has read its header.

    Raises:
        BadInputError: They differ by more than a tenth of a voxel somewhere in the image.
    """
    with _open(path) as stream:
        header = _header(stream, path.name)
    if header.sform_code <= 0:
        return
    read, stated = geometry_from_sitk(reader), Geometry(reader.GetSize(), header.sform)
    if np.isfinite(header.sform).all() and read.matches(stated, tolerance_mm=0.1 * float(read.spacing.min())):
        return
    stated.check(f"'{path.name}'")
    if not np.allclose(stated.spacing, read.spacing, rtol=1e-2):
        raise BadInputError(f"'{path.name}' states two different voxel sizes in its header; correct the header.")
    raise BadInputError(
        f"'{path.name}' states two different positions in its header (sform and qform), of which programs choose "
        "differently; make both the same."
    )


def _unzipped(path: Path) -> BufferedIOBase:
    """Open a file that may be compressed with gzip, whatever its name."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else path.open("rb")


@contextmanager
def _open(path: Path) -> Iterator[BufferedIOBase]:
    """The bytes of a file, unzipped; says so when they cannot be unzipped."""
    try:
        with _unzipped(path) as stream:
            yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInputError(f"'{path.name}' is a damaged or cut-off gzip file; copy it again.") from error


def _header(stream: BufferedIOBase, name: str) -> _Header:
    data = stream.read(348)
    if len(data) < 348:
        raise BadInputError(f"'{name}' ends within its header; copy it again.")
    order = "<" if data[:4] == struct.pack("<i", 348) else ">"

    def get(form: str, position: int) -> tuple:
        return struct.unpack_from(order + form, data, position)

    dimensions = get("8h", 40)
    return _Header(
        order=order,
        magic=data[344:348],
        shape=dimensions[1 : 1 + min(max(dimensions[0], 0), 7)],
        datatype=get("h", 70)[0],
        bits=get("h", 72)[0],
        spacing=get("3f", 80),
        offset=get("f", 108)[0],
        slope=get("f", 112)[0],
        intercept=get("f", 116)[0],
        units=data[123] & 7,
        qform_code=get("h", 252)[0],
        sform_code=get("h", 254)[0],
        sform=np.vstack([np.reshape(get("12f", 280), (3, 4)), (0, 0, 0, 1)]).astype(np.float64),
    )


def _check_fields(header: _Header, name: str) -> None:
    if min(header.shape, default=0) < 1 or _BITS.get(header.datatype) != header.bits or not 352 <= header.offset < 1e9:
        raise BadInputError(f"'{name}' has a header with an impossible size, voxel type or offset; export it again.")
    if header.sform_code <= 0 and header.qform_code <= 0:
        raise BadInputError(
            f"'{name}' does not say how its voxels lie in the patient; save it with spacing and orientation."
        )
    if header.units in (_METERS, _MICROMETERS):
        raise BadInputError(f"'{name}' states lengths in meters or micrometers; save it with lengths in mm.")
    if header.sform_code <= 0 and not all(0 < size < math.inf for size in header.spacing):
        raise BadInputError(f"'{name}' does not say how large its voxels are; correct the spacing in its header.")
    # A slope of 0 or NaN means "no rescaling"; ITK would still add the intercept, and take tiny slopes for 1.
    rescaled = math.isfinite(header.slope) and header.slope != 0
    shift = header.intercept if math.isfinite(header.intercept) else math.nan
    sensible = (not math.isnan(shift) and abs(header.slope) > 1e-15) if rescaled else (shift == 0 or math.isnan(shift))
    if not sensible:
        raise BadInputError(
            f"'{name}' states a rescaling that makes no sense (slope {header.slope:g}, intercept "
            f"{header.intercept:g}); correct the header."
        )


def _check_voxels(stream: BufferedIOBase, header: _Header, name: str) -> None:
    """Look at the stored bytes, because ITK turns missing and NaN voxels into 0 and ignores the checksum of gzip."""
    float_type = _FLOAT_TYPES.get(header.datatype)
    present = bad = 0
    for chunk in iter(lambda: stream.read(1 << 20), b""):
        voxels = chunk[: max(header.needed - present, 0)]
        present += len(chunk)
        if float_type and voxels:
            values = np.frombuffer(voxels, header.order + float_type, count=len(voxels) // int(float_type[1]))
            bad += int(np.count_nonzero(~np.isfinite(values)))
    if present < header.needed:
        raise BadInputError(f"'{name}' holds {present} of {header.needed} bytes of voxels; copy it again.")
    refuse_not_finite(bad, header.needed // int(float_type[1]) if float_type else 0, name)
