"""SimpleITK's images as volumes and back, and its errors in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import SimpleITK as sitk

from MedSegUncertaintyLib.volumes.geometry import LPS_TO_RAS, Geometry, Volume


def volume_from_sitk(image: sitk.Image, name: str = "image") -> Volume:
    """Convert a 3D scalar SimpleITK image (LPS) to a volume (RAS); the voxels are copied."""
    return Volume(sitk.GetArrayFromImage(image), geometry_from_sitk(image), name)


def geometry_from_sitk(image: sitk.Image | sitk.ImageFileReader) -> Geometry:
    """The grid in RAS of a 3D image, or of a file whose header was read."""
    direction = LPS_TO_RAS @ np.array(image.GetDirection()).reshape(3, 3)
    return Geometry.from_parts(image.GetSize(), image.GetSpacing(), LPS_TO_RAS @ image.GetOrigin(), direction)


def image_to_sitk(array_kji: np.ndarray, geometry: Geometry) -> sitk.Image:
    """Convert an array (K, J, I) on a grid in RAS to a SimpleITK image (LPS); bool becomes uint8."""
    if array_kji.shape != geometry.shape_kji:
        raise ValueError(f"array {array_kji.shape} does not fit the grid {geometry.shape_kji}")
    image = sitk.GetImageFromArray(array_kji.astype(np.uint8) if array_kji.dtype == bool else array_kji)
    origin, spacing, direction = sitk_grid(geometry)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    return image


def sitk_grid(geometry: Geometry) -> tuple[list[float], list[float], list[float]]:
    """Origin, spacing and direction (row by row) of a grid as SimpleITK has them, in LPS."""
    origin, direction = LPS_TO_RAS @ geometry.ijk_to_ras[:3, 3], LPS_TO_RAS @ geometry.direction
    return origin.tolist(), geometry.spacing.tolist(), direction.ravel().tolist()


@contextmanager
def warnings_off() -> Iterator[None]:
    """What matters of ITK's warnings is refused by us in words; the rest would only confuse on the console."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def reason(error: RuntimeError) -> str:
    """The last line of an ITK error, without the names and addresses of the objects that raised it."""
    line = str(error).strip().splitlines()[-1]
    return re.sub(r"(ITK ERROR|sitk::ERROR|Reason|\w+\(0x[0-9a-f]+\)|\[nrrd\] \w+): *", "", line).strip(" .")
