"""UniverSeg: segmentation of an image by the example of a few labeled ones, without training."""

from typing import TYPE_CHECKING, Any

from MedSegUncertaintyLib.models.universeg.fast import Prepared, SupportSet, segment
from MedSegUncertaintyLib.models.universeg.network import UniverSeg

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.universeg.objective import UniverSegObjective

__all__ = ["Prepared", "SupportSet", "UniverSeg", "build", "build_objective", "segment"]


def build(arguments: dict[str, Any]) -> UniverSeg:
    """Network from the constructor arguments of a package."""
    return UniverSeg(**arguments)


def build_objective(settings: dict[str, Any]) -> "UniverSegObjective":
    """What training minimizes, from the recipe's settings."""
    from MedSegUncertaintyLib.models.universeg.objective import UniverSegObjective

    return UniverSegObjective(**settings)
