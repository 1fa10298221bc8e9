"""Blocks of signs in inference: with weights made ready once, and by bit counts where the machine has them.

Without the library of :mod:`~MedSegUncertaintyLib.models.hidiff.xnor` everything runs in PyTorch. Both ways round the
same operations in the same order, and sums of signs are exact, so they give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from MedSegUncertaintyLib.models.hidiff.binary import Block, Moment, TimeShift, signs
from MedSegUncertaintyLib.models.hidiff.refiner import Refiner
from MedSegUncertaintyLib.models.hidiff.xnor import Kernel, found_kernel

WORD = 64

_KEPT: WeakKeyDictionary[Refiner, _Kept] = WeakKeyDictionary()


def prepared(refiner: Refiner, steps: int) -> dict[nn.Module, Any]:
    """What :func:`prepare` makes with the kernel that was found, kept as long as no weight is changed or moved.

    Weights that are trained are made ready each time.
    """
    weights = [*refiner.parameters(), *refiner.buffers()]
    # PyTorch does not count the changes of tensors that were made in inference mode.
    if refiner.training or any(weight.requires_grad or weight.is_inference() for weight in weights):
        return prepare(refiner, steps, found_kernel())
    kept = _KEPT.get(refiner)
    if kept is None or not kept.is_of(weights):
        ready = prepare(refiner, steps, found_kernel())
        kept = _Kept([(weight.detach(), weight._version) for weight in weights], ready)
        _KEPT[refiner] = kept
    return kept.prepared


@torch.no_grad()
def prepare(refiner: Refiner, steps: int, kernel: Kernel = None) -> dict[nn.Module, Any]:
    """What :class:`~MedSegUncertaintyLib.models.hidiff.binary.Moment` passes on to layers in evaluation mode.

    Shifts become tables of all steps, blocks of signs get their weights ready for use.

    Args:
        refiner: In evaluation mode.
        steps: Of the diffusion.
        kernel: A compiled one, used for maps on the CPU in float32.
    """
    moment = refiner.moment(torch.arange(steps, device=refiner.of_known.weight.device))
    prepared: dict[nn.Module, Any] = {
        module: module(moment).flatten(1) for module in refiner.modules() if isinstance(module, TimeShift)
    }
    if refiner.of_known.weight.device.type != "cpu" or refiner.of_known.weight.dtype != torch.float32:
        kernel = None
    prepared |= {
        module: PreparedBlock(module, kernel)
        for module in refiner.modules()
        if isinstance(module, Block) and module.convolution.binary
    }
    return prepared


@dataclass(frozen=True)
class _Kept:
    """What was prepared, and of which weights: as long as they are held, nothing else has their addresses.

    Attributes:
        weights: Each with the number of its changes.
        prepared: As :func:`prepare` gives it.
    """

    weights: list[tuple[Tensor, int]]
    prepared: dict[nn.Module, Any]

    def is_of(self, weights: list[Tensor]) -> bool:
        """Whether these are the same numbers at the same place."""
        return len(weights) == len(self.weights) and all(
            (weight.data_ptr(), weight._version) == (held.data_ptr(), version)
            for weight, (held, version) in zip(weights, self.weights, strict=True)
        )


class PreparedBlock:
    """The convolution of a block with batch norm, skip and activation, in evaluation mode.

    Args:
        block: Of signs.
        kernel: As for :func:`prepare`.
    """

    def __init__(self, block: Block, kernel: Kernel) -> None:
        convolution, activation = block.convolution, block.activation
        self._shifts = (block.threshold, activation.before, activation.after)
        self._kernel, self._stride = kernel, convolution.stride
        factors, scale = convolution.weights()
        self._factor, self._offset = convolution.folded(scale)
        self._slope = activation.prelu.weight
        self._weights = factors if kernel is None else weight_words(factors)
        self._run: Callable[..., Tensor] = self._in_torch if kernel is None else self._by_bits
        self._level = 0 if kernel is None else kernel.level()

    def __call__(self, maps: Tensor, skip: Tensor, moment: Moment) -> Tensor:
        """Maps (B, outputs, h, w) of maps (B, inputs, H, W) and the skip (B, outputs, h, w); one step for all."""
        threshold, before, after = (shift(moment) for shift in self._shifts)
        # What rounds in the real-valued layers depends on the order of numbers, so it is the same either way.
        maps, skip = (part.contiguous(memory_format=torch.channels_last) for part in (maps, skip))
        return self._run(maps, skip, threshold, self._offset.view(1, -1, 1, 1) + before, after)

    def _in_torch(self, maps: Tensor, skip: Tensor, threshold: Tensor, offset: Tensor, after: Tensor) -> Tensor:
        sums = functional.conv2d(signs(maps + threshold), self._weights, stride=self._stride, padding=1)
        result = sums.mul_(self._factor.view(1, -1, 1, 1)).add_(offset).add_(skip)
        result = functional.prelu(result, self._slope).add_(after)
        return result.contiguous(memory_format=torch.channels_last)

    def _by_bits(self, maps: Tensor, skip: Tensor, threshold: Tensor, offset: Tensor, after: Tensor) -> Tensor:
        inputs, height, width = maps.shape[1:]
        outputs = skip.shape[1]
        bits = torch.empty(height * width * -(-inputs // WORD), dtype=torch.int64)
        result = torch.empty_like(skip, memory_format=torch.channels_last)
        constants = [values.contiguous() for values in (self._factor, offset.flatten(), self._slope, after.flatten())]
        threshold = threshold.flatten().contiguous()
        for index in range(len(maps)):
            self._kernel.block(
                maps[index].data_ptr(), threshold.data_ptr(), bits.data_ptr(), self._weights.data_ptr(),
                *(values.data_ptr() for values in constants), skip[index].data_ptr(), result[index].data_ptr(),
                height, width, inputs, outputs, self._stride, self._level,
            )  # fmt: skip
        return result


def weight_words(factors: Tensor) -> Tensor:
    """Signs (outputs, inputs, 3, 3) as the kernel reads them: bits of the inputs in words (9, words, outputs)."""
    outputs, inputs = factors.shape[:2]
    bits = functional.pad((factors > 0).flatten(2).permute(2, 1, 0).to(torch.int64), (0, 0, 0, -inputs % WORD))
    places = torch.arange(WORD).view(1, 1, WORD, 1)
    return (bits.view(9, -1, WORD, outputs) << places).sum(dim=2).contiguous()
