"""HiDiff: a binarized diffusion network that refines what a segmentor says, in steps of Bernoulli noise."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.hidiff.network import HiDiff
    from MedSegUncertaintyLib.models.hidiff.objective import HiDiffObjective


def build(arguments: dict[str, Any]) -> "HiDiff":
    """Network from the constructor arguments of a package; imports torch."""
    from MedSegUncertaintyLib.models.hidiff.network import build as build_network

    return build_network(arguments)


def build_objective(settings: dict[str, Any]) -> "HiDiffObjective":
    """What training minimizes, from the recipe's settings; imports torch."""
    from MedSegUncertaintyLib.models.hidiff.objective import HiDiffObjective

    return HiDiffObjective(**settings)
