"""Hierarchical Probabilistic U-Net: a ladder of latent maps, from what is there at all to where its border runs."""

from typing import TYPE_CHECKING, Any

from MedSegUncertaintyLib.models.hpunet.cells import LATENTS, cell_widths, pooling_factors

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.hpunet.network import HPUNet
    from MedSegUncertaintyLib.models.hpunet.objective import HPUNetObjective


def build(arguments: dict[str, Any]) -> "HPUNet":
    """Network from the constructor arguments of a package; imports torch."""
    from MedSegUncertaintyLib.models.hpunet.network import HPUNet

    return HPUNet(**arguments)


def scales(arguments: dict[str, Any]) -> list[tuple[int, ...]]:
    """Per scale of a package's samples, coarsest first, how many voxels wide its cells are; without torch."""
    factors = pooling_factors(arguments["spatial_dims"], len(arguments["widths"]), arguments.get("poolings"))
    return cell_widths(factors, len(arguments.get("latents", LATENTS)))


def build_objective(settings: dict[str, Any]) -> "HPUNetObjective":
    """What training minimizes, from the recipe's settings; imports torch."""
    from MedSegUncertaintyLib.models.hpunet.objective import HPUNetObjective

    return HPUNetObjective(**settings)
