"""SelfReg-UNet: an encoder and decoder that regularize themselves, sampled by augmentation or by dropout."""

from typing import TYPE_CHECKING, Any

from MedSegUncertaintyLib.models.sample_kinds import AUGMENTATION, DROPOUT

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.selfreg.network import SelfReg
    from MedSegUncertaintyLib.models.selfreg.objective import SelfRegObjective

SAMPLE_KINDS = {"augmentation": AUGMENTATION, "dropout": DROPOUT}
"""What the samples are, in words for the user, by the argument ``samples``."""


def build(arguments: dict[str, Any]) -> "SelfReg":
    """Network from the constructor arguments of a package; imports torch."""
    from MedSegUncertaintyLib.models.selfreg.network import build as build_network

    return build_network(arguments)


def sample_kind(arguments: dict[str, Any]) -> str:
    """What the samples of a package are, in words for the user; without torch."""
    return SAMPLE_KINDS[arguments["samples"]]


def build_objective(settings: dict[str, Any]) -> "SelfRegObjective":
    """What training minimizes, from the recipe's settings; imports torch."""
    from MedSegUncertaintyLib.models.selfreg.objective import SelfRegObjective

    return SelfRegObjective(**settings)
