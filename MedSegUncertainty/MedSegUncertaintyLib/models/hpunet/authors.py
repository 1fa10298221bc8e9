"""The authors' TensorFlow variables by name: all of a checkpoint or none of it.

Their convolutions are numbered in the order in which they were made: per block the 3x3 ones, then the skip, then the
expansion; per core the encoder, then after every latent head the blocks of its stage. The posterior's last blocks, on
which nothing depends, exist in a checkpoint but not here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from MedSegUncertaintyLib.errors import PackageError
from MedSegUncertaintyLib.models.hpunet.network import Block, Core, HPUNet, LatentHead

ROOT = "HPUNet"
MULTIPLIER = f"{ROOT}/snt_lagrange_multiplier/lagrange_multiplier/w"
"""The variable v of the training, which a model does not need."""


def authors_variables(model: HPUNet) -> dict[str, Tensor]:
    """Views of the parameters of a 2D model by the authors' names; weights in their order, HWIO."""
    if model.spatial_dims != 2:
        raise TypeError("the authors' models are 2D")
    parts = {
        "prior": _of_core(model.prior),
        "posterior": _of_core(model.posterior),
        "f_comb": _of_blocks(model.decoder),
    }
    named = {
        f"{ROOT}/{part}/{_numbered(number)}": convolution
        for part, convolutions in parts.items()
        for number, convolution in enumerate(convolutions)
    }
    named[f"{ROOT}/f_comb/logits"] = _checked(model.head)
    variables = {}
    for name, convolution in named.items():
        assert convolution.bias is not None
        variables[f"{name}/w"] = convolution.weight.detach().permute(2, 3, 1, 0)
        variables[f"{name}/b"] = convolution.bias.detach()
    return variables


def load_authors_variables(model: HPUNet, variables: Mapping[str, np.ndarray]) -> None:
    """Copy the variables of an authors' checkpoint into a model, all of them or none.

    Args:
        model: A 2D model.
        variables: Arrays by the authors' names, weights in HWIO order.

    Raises:
        PackageError: A name is missing or unexpected, or an array has another shape.
    """
    own = authors_variables(model)
    unused = {f"{ROOT}/posterior/{name}/{kind}" for name in _dead_names(model) for kind in "wb"} | {MULTIPLIER}
    missing = [name for name in own if name not in variables]
    unexpected = [name for name in variables if name not in own and name not in unused]
    wrong = [name for name in own if name in variables and tuple(own[name].shape) != variables[name].shape]
    if missing or unexpected or wrong:
        if missing:
            first = f"{missing[0]} is missing"
        elif unexpected:
            first = f"{unexpected[0]} is unexpected"
        else:
            first = f"{wrong[0]} has shape {list(variables[wrong[0]].shape)} instead of {list(own[wrong[0]].shape)}"
        raise PackageError(
            f"The checkpoint does not fit this Hierarchical Probabilistic U-Net: {first} ({len(missing)} missing, "
            f"{len(unexpected)} unexpected, {len(wrong)} of another shape); nothing was loaded."
        )
    for name, tensor in own.items():
        tensor.copy_(torch.from_numpy(variables[name]))


def _numbered(number: int) -> str:
    return f"conv_2d_{number}" if number else "conv_2d"


def _dead_names(model: HPUNet) -> list[str]:
    """Names of the posterior's convolutions that only a checkpoint has."""
    begin, end = (len(list(_of_core(core))) for core in (model.posterior, model.prior))
    return [_numbered(number) for number in range(begin, end)]


def _of_core(core: Core) -> Iterator[nn.Conv2d]:
    yield from _of_blocks(core.levels)
    for scale, head in enumerate(core.heads):
        assert isinstance(head, LatentHead)
        yield _checked(head.convolution)
        yield from _of_blocks(core.stages[scale : scale + 1])


def _of_blocks(modules: nn.Module) -> Iterator[nn.Conv2d]:
    """Convolutions of all blocks below a module, in order of their making."""
    for block in modules.modules():
        if isinstance(block, Block):
            for module in (*block.convolutions, block.skip, block.expand):
                if not isinstance(module, nn.Identity):
                    yield _checked(module)


def _checked(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module
