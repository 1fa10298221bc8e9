"""HiDiff: a binarized diffusion network that refines what a segmentor says, in steps of Bernoulli noise."""

from typing import TYPE_CHECKING, Any

from MedSegUncertaintyLib.models.sample_kinds import DIFFUSION_SAMPLES

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.hidiff.network import HiDiff
    from MedSegUncertaintyLib.models.hidiff.objective import HiDiffObjective

STEPS = 10
"""Of a diffusion whose package does not say how many it has."""


def build(arguments: dict[str, Any]) -> "HiDiff":
    """Network from the constructor arguments of a package; imports torch."""
    from MedSegUncertaintyLib.models.hidiff.network import build as build_network

    return build_network(arguments)


def steps(arguments: dict[str, Any]) -> int:
    """In how many steps a package draws a sample, if nobody asks for fewer; without torch."""
    return int(arguments.get("steps", STEPS))


def sample_kind(arguments: dict[str, Any]) -> str:
    """What the samples of a package are, in words for the user; without torch."""
    return DIFFUSION_SAMPLES


def build_objective(settings: dict[str, Any]) -> "HiDiffObjective":
    """What training minimizes, from the recipe's settings; imports torch."""
    from MedSegUncertaintyLib.models.hidiff.objective import HiDiffObjective

    return HiDiffObjective(**settings)
