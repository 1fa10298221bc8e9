"""Stochastic Segmentation Networks: a low-rank normal distribution over the whole logit map."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.ssn.network import SSN
    from MedSegUncertaintyLib.models.ssn.objective import SSNObjective


def build(arguments: dict[str, Any]) -> "SSN":
    """Network from the constructor arguments of a package; imports torch."""
    from MedSegUncertaintyLib.models.ssn.network import build as build_network

    return build_network(arguments)


def build_objective(settings: dict[str, Any]) -> "SSNObjective":
    """What training minimizes, from the recipe's settings; imports torch."""
    from MedSegUncertaintyLib.models.ssn.objective import SSNObjective

    return SSNObjective(**settings)
