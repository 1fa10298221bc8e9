"""Typed access to parameter nodes and their connection to widgets: the part of Slicer's package that modules use."""

from .connectors import Decimals, SingleStep
from .packs import parameterPack
from .storage import Default
from .validators import Choice, Exclude, Maximum, Minimum, NotNone, Validator, WithinRange
from .wrapper import parameterNodeWrapper

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "Maximum",
    "Minimum",
    "NotNone",
    "SingleStep",
    "Validator",
    "WithinRange",
    "parameterNodeWrapper",
    "parameterPack",
]
