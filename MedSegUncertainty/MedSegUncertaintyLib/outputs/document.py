"""The content of ``summary.json``: what was run on what, and the numbers that came out."""

from __future__ import annotations

import itertools
import math
import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np
import SimpleITK as sitk

from MedSegUncertaintyLib import __version__
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.uncertainty.slices import rank_slices
from MedSegUncertaintyLib.volumes.geometry import Geometry

FORMAT = "medseg-uncertainty-result"
FORMAT_VERSION = 1
NOTICE = "Not a medical device. For research only."

SLICES_PER_PLANE = 5
PLACE_MM = 3.0
"""Standard deviation of the Gaussian that turns single uncertain voxels into uncertain places."""

_OF_IMAGE = {"channels": [], "scaled": True}
"""What the provenance says about the image, and what holds where it says nothing."""
_LIBRARIES = ("numpy", "SimpleITK", "torch", "monai", "slicer-core")
_PLANES = ("sagittal", "coronal", "axial")  # perpendicular to R, A, S


def build_document(result: InferenceResult) -> dict[str, Any]:
    """Everything about a result except its voxels, as plain JSON types.

    Voxel indices are IJK of the input image, counted from 0; positions are RAS in mm.
    """
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "notice": NOTICE,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "image": _image(result),
        "box": {"start_ijk": list(result.box.start_ijk), "stop_ijk": list(result.box.stop_ijk)},
        "package": _package(result),
        "request": result.request.to_json(),
        **result.summary,
        "most_uncertain": most_uncertain(result),
        "provenance": {key: value for key, value in result.provenance.items() if key not in _OF_IMAGE},
        "software": software_versions(),
    }


def edge_warning(document: dict[str, Any], entry: dict[str, Any]) -> str:
    """That a structure may be cut off, as what follows its name; empty where no sample reaches the edge.

    Args:
        document: What :func:`build_document` made.
        entry: The structure's entry in it.
    """
    touching = entry["samples_touching_region_edge"]
    if not touching:
        return ""
    whole = document["request"]["roi"] is None
    return (
        f"reaches the edge of the {'image' if whole else 'segmented region'} in {touching} of {document['samples']} "
        f"samples: its volume may be cut off; use a{'n image that shows more' if whole else ' larger region'}"
    )


def input_warnings(document: dict[str, Any]) -> list[str]:
    """Sentences about the images that the numbers of a result do not show.

    Args:
        document: What :func:`build_document` made.
    """
    found = []
    for channel in document["image"]["channels"]:
        # Rounded down: 100 % would be no reason for a warning.
        percent = math.floor(100 * channel["share_of_region"])
        if channel["share_of_region"] < 1:
            found.append(
                f"The channel {channel['role']} ('{channel['image']}') shows {percent} % of the segmented region; the "
                "rest counts as empty in it."
            )
    if not document["image"]["scaled"]:
        found.append("A photograph has no scale: a pixel counts as a cube of 1 mm, so that 1 mL means 1000 pixels.")
    return found


def plane_names(geometry: Geometry) -> tuple[str, str, str]:
    """Names of the slices perpendicular to I, J and K: each of sagittal, coronal, axial once, by the nearest axis."""
    along = np.abs(geometry.direction)  # rows R, A, S; columns I, J, K
    order = max(itertools.permutations(range(3)), key=lambda rows: sum(along[row, n] for n, row in enumerate(rows)))
    i, j, k = (_PLANES[row] for row in order)
    return (i, j, k)


def is_oblique(geometry: Geometry) -> bool:
    """Whether an axis of the grid lies more than a degree off the patient's axes."""
    return bool(np.abs(geometry.direction).max(axis=0).min() < np.cos(np.radians(1.0)))


def most_uncertain(result: InferenceResult) -> dict[str, Any]:
    """Where the samples differ most: one place, and slices of each plane that differ more than those around them."""
    start = np.array(result.box.start_ijk)
    variance = result.statistics.variance.sum(axis=0)
    place = start + _place_ijk(variance, result.geometry.spacing)
    planes = enumerate(plane_names(result.geometry))
    return {
        "place": {"ijk": place.tolist(), "ras": result.geometry.to_ras(place).tolist()},
        "slices": {plane: _slices(result, variance, axis) for axis, plane in planes},
    }


def _place_ijk(variance: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Voxel (I, J, K) where the smoothed variance (K, J, I) is largest; the middle where nothing varies."""
    if not variance.any():
        return np.array(variance.shape)[::-1] // 2
    image = sitk.GetImageFromArray(variance)
    image.SetSpacing(spacing.tolist())
    smooth = sitk.DiscreteGaussian(image, variance=[PLACE_MM**2] * 3, maximumKernelWidth=64, useImageSpacing=True)
    highest = int(sitk.GetArrayViewFromImage(smooth).argmax())
    return np.array(np.unravel_index(highest, variance.shape))[::-1]


def _slices(result: InferenceResult, variance: np.ndarray, axis: int) -> list[dict[str, Any]]:
    """The most uncertain slices along IJK axis ``axis`` with the center of their variance, a point to jump to."""
    found = []
    for place in rank_slices(variance, 2 - axis, float(result.geometry.spacing[axis]))[:SLICES_PER_PLANE]:
        ijk = np.array(place.center_ijk) + np.array(result.box.start_ijk)
        found.append(
            {
                "axis": "IJK"[axis],
                "index": int(ijk[axis]),
                "share_of_variance": place.share,
                "center_ras": result.geometry.to_ras(ijk).tolist(),
            }
        )
    return found


def _image(result: InferenceResult) -> dict[str, Any]:
    said = {key: result.provenance.get(key, default) for key, default in _OF_IMAGE.items()}
    return {"name": result.image_name, "geometry": result.geometry.to_json(), **said}


def _package(result: InferenceResult) -> dict[str, Any]:
    package = result.package
    return {
        "name": package.name,
        "title": package.title,
        "version": package.version,
        "family": package.family,
        "weights_sha256": package.weights.sha256,
        "weights_license": package.weights_license,
        "structures": [structure.to_json() for structure in package.structures],
    }


def software_versions() -> dict[str, str]:
    """Versions of this software, Python and the libraries that are installed; none of them is imported."""
    versions = {"medseg-uncertainty": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
