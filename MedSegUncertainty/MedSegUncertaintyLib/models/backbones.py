"""Backbones that packages and recipes may name: image to feature map of the same size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from MedSegUncertaintyLib.errors import PackageError


def _basic_unet(settings: dict[str, Any], dims: int, channels: int, features: int) -> tuple[nn.Module, int]:
    """Five resolution levels; ``widths`` are the channels of the levels, finest first."""
    from monai.networks.nets import BasicUNet

    widths = settings.pop("widths")
    network = BasicUNet(dims, channels, features, features=(*widths, features), **settings)
    return network, 2 ** (len(widths) - 1)


def _residual_unet(settings: dict[str, Any], dims: int, channels: int, features: int) -> tuple[nn.Module, int]:
    """MONAI's UNet with residual units; ``channels`` and ``strides`` per level."""
    from monai.networks.nets import UNet

    widths = settings.pop("widths")
    strides = settings.pop("strides", [2] * (len(widths) - 1))
    network = UNet(dims, channels, features, widths, strides, **settings)
    return network, math.prod(strides)


def _dyn_unet(settings: dict[str, Any], dims: int, channels: int, features: int) -> tuple[nn.Module, int]:
    """MONAI's DynUNet, the nnU-Net architecture; ``widths`` per level, optional per-axis ``strides``."""
    from monai.networks.nets import DynUNet

    widths = settings.pop("widths")
    strides = settings.pop("strides", [1] + [2] * (len(widths) - 1))
    kernels = [3] * len(widths)
    network = DynUNet(dims, channels, features, kernels, strides, strides[1:], filters=widths, **settings)
    return network, math.prod(max(stride) if isinstance(stride, list) else stride for stride in strides)


def _deep_medic(settings: dict[str, Any], dims: int, channels: int, features: int) -> tuple[nn.Module, int]:
    """DeepMedic, padded to the size of the image; as in the SSN authors' BraTS checkpoints if nothing is set."""
    from MedSegUncertaintyLib.models.ssn.deepmedic import DeepMedic

    network = DeepMedic(dims, channels, features, pad=True, **settings)
    return network, network.size_multiple


def _swin_unet(settings: dict[str, Any], dims: int, channels: int, features: int) -> tuple[nn.Module, int]:
    """Swin U-Net; ``embedding``, ``depths``, ``heads`` and ``window`` instead of widths."""
    from MedSegUncertaintyLib.models.selfreg.swin import SwinUNet

    network = SwinUNet(dims, channels, features, **settings)
    return network, network.size_multiple


BACKBONES: Mapping[str, Callable[[dict[str, Any], int, int, int], tuple[nn.Module, int]]] = {
    "BasicUNet": _basic_unet,
    "DeepMedic": _deep_medic,
    "UNet": _residual_unet,
    "DynUNet": _dyn_unet,
    "SwinUNet": _swin_unet,
}


def build_backbone(
    description: Mapping[str, Any], spatial_dims: int, channels: int, features: int
) -> tuple[nn.Module, int]:
    """Backbone by name.

    Args:
        description: ``name`` (a key of :data:`BACKBONES`), ``widths`` (channels per level or layer) and further
            arguments of the class.
        spatial_dims: 2 or 3.
        channels: Image channels.
        features: Channels of the feature map it returns.

    Returns:
        The network, and the number that every spatial size must be a multiple of.

    Raises:
        PackageError: No backbone of that name.
    """
    settings = dict(description)
    name = settings.pop("name")
    if name not in BACKBONES:
        raise PackageError(f"There is no backbone {name!r}; known are {', '.join(sorted(BACKBONES))}.")
    return BACKBONES[name](settings, spatial_dims, channels, features)
