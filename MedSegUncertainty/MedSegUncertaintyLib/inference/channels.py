"""The images of one patient that a model sees together: checked, put in order, and stacked on the model's grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.volumes.alignment import covered_share, to_model
from MedSegUncertaintyLib.volumes.geometry import Volume, check_voxels, extent_text
from MedSegUncertaintyLib.volumes.intensity import apply
from MedSegUncertaintyLib.volumes.placement import Placement

LEAST_COVERED = 0.5
"""Share of the segmented region that every channel has to show; beyond it a channel has its lowest value."""


def in_order(package: ModelPackage, volume: Volume, others: Mapping[str, Volume]) -> list[Volume]:
    """The image and the further ones in the order of the package's channels.

    Args:
        package: Says which roles there are.
        volume: The image, which is the first channel.
        others: Further images by role.

    Raises:
        BadInputError: A role is unknown or missing.
    """
    package.check_channels(others)
    return [volume, *(others[channel.role] for channel in package.channels[1:])]


def check_images(package: ModelPackage, placement: Placement, images: Sequence[Volume]) -> list[dict[str, Any]]:
    """Make sure that all images can be used together, before anything that takes long.

    Args:
        package: Says what each image is for.
        placement: Where the model looks in the first image.
        images: From :func:`in_order`.

    Returns:
        For the record, a channel each and only where there are several: role, name, image, whether it was resampled,
        and the share of the segmented region that it shows. Plain JSON types.

    Raises:
        BadInputError: An image has no contrast, voxels that are not finite or no rectangular grid, shows too little of
            the region, or was given twice.
    """
    if len(images) == 1:
        check_voxels(images[0].array, images[0].name)
        return []
    region = placement.input.cropped(placement.box)
    record = []
    for channel, image in zip(package.channels, images, strict=True):
        who = f"The channel {channel.role} ('{image.name}')"
        image.geometry.check(who)
        same = image.geometry.matches(placement.input)
        share = 1.0 if same else covered_share(region, image.geometry)
        if share == 0:
            raise BadInputError(
                f"{who} lies elsewhere ({extent_text(image.geometry.corners_ras)}) than the segmented region "
                f"({extent_text(region.corners_ras)}); give an image of the same patient, registered to the first one."
            )
        if share < LEAST_COVERED:
            raise BadInputError(
                f"{who} shows {100 * share:.0f} % of the segmented region, which is less than the "
                f"{100 * LEAST_COVERED:.0f} % that are needed; give a smaller region of interest or another image."
            )
        check_voxels(image.array, f"{image.name} ({channel.role})")
        record.append(
            {
                "role": channel.role,
                "name": channel.name,
                "image": image.name,
                "resampled": not same,
                "share_of_region": share,
            }
        )
    if not package.takes_color:  # a gray photograph is equal in all its colors
        _check_distinct(package, images)
    return record


def _check_distinct(package: ModelPackage, images: Sequence[Volume]) -> None:
    for (first, image), (second, other) in combinations(zip(package.channels, images, strict=True), 2):
        if image.geometry.matches(other.geometry) and np.array_equal(image.array, other.array):
            raise BadInputError(
                f"The channels {first.role} ('{image.name}') and {second.role} ('{other.name}') hold the same voxels; "
                "give each its own image."
            )


def model_image(package: ModelPackage, placement: Placement, images: Sequence[Volume]) -> np.ndarray:
    """What the network sees: float32 (channels, *model.shape_kji), each channel with its own intensity rule.

    Args:
        package: Has the rules.
        placement: Lays the model's grid into the first image.
        images: From :func:`in_order`, checked.

    Raises:
        BadInputError: The intensities of an image cannot be mapped; with several channels the sentence says of which.
    """
    stacked = np.empty((len(images), *placement.model.shape_kji), dtype=np.float32)
    for target, channel, image in zip(stacked, package.channels, images, strict=True):
        try:
            target[:] = apply(to_model(placement, image), channel.intensity)
        except BadInputError as error:
            if len(images) == 1:
                raise
            raise BadInputError(f"Channel {channel.role} ('{image.name}'): {error}") from error
    return stacked
