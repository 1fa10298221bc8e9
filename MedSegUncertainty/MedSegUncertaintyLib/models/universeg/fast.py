"""UniverSeg without redundant work: the logits of ``network``, several times sooner and in a fraction of the memory.

The cross convolution of the released network has no activation, so all of this is exact. With the symbols of
:class:`~MedSegUncertaintyLib.models.universeg.network.CrossBlock` and W_x = [W_u, W_v]:

1. z_i = (W_u * u + b_x) + W_v * v_i, where the first part is computed once for all supports.
2. Nobody uses v' of the last block, so that block needs no z_i but their mean, W_x * [u; mean_i v_i] + b_x. The mean
   commutes with concatenation and doubling: whatever goes into the last block is only ever kept as a mean.
3. The first block's v_i have two channels, and W_s * (W_v * v_i) is one 5 x 5 convolution of them; likewise for u'.
4. Supports pass a block in chunks that stay in the processor's cache, channels last.

All but item 3 of the first block depends on the target; :class:`SupportSet` keeps that part for many targets. Gradients
are not recorded. On a GPU, exactness also takes ``torch.backends.cudnn.flags(allow_tf32=False)``, as for any network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from MedSegUncertaintyLib.models.universeg.network import SLOPE, CrossBlock, UniverSeg, double, halve

CPU_CHUNK_BYTES, GPU_CHUNK_BYTES = 4_000_000, 256_000_000
"""Size of the maps of one chunk of supports: what a CPU's cache holds; what keeps a GPU busy."""

MapsOf = Callable[[slice], Tensor]
"""Maps (n, C, H, W) of some of the supports, computed when they are asked for."""


def segment(
    model: UniverSeg, target: Tensor, support_images: Tensor, support_labels: Tensor, *, preview: bool = False
) -> Tensor:
    """Logits (B, 1, H, W), as ``model(target, support_images, support_labels)`` computes them.

    Args:
        model: Its weights are read anew by each call.
        target: As for the model, (B, 1, H, W).
        support_images: As for the model, (B, N, 1, H, W).
        support_labels: As for the model, (B, N, 1, H, W).
        preview: Compute in bfloat16, about 1.5 times as fast where the CPU has it; logits are then off by some percent.

    Raises:
        ValueError: The model does not take these shapes.
    """
    model.check(target, support_images, support_labels)
    with _without_gradients(target):
        network = _Network(model, preview)
        labeled = torch.cat([support_images, support_labels], dim=2)
        logits = [network(one, network.look(own)) for one, own in zip(target.split(1), labeled, strict=True)]
        return torch.cat(logits).to(target.dtype)


class SupportSet:
    """Labeled images by whose example many targets are segmented.

    Keeps what does not depend on the target: the first block's convolutions of the supports, in N x width x H x W
    numbers. The weights are copied, so training the model further changes nothing here.

    Args:
        model: The network.
        support_images: (N, 1, H, W), N >= 1, intensities from 0 to 1.
        support_labels: (N, 1, H, W), 0 or 1 as floating-point numbers.
        preview: As for :func:`segment`.

    Raises:
        ValueError: The model does not take these shapes.
    """

    def __init__(
        self, model: UniverSeg, support_images: Tensor, support_labels: Tensor, *, preview: bool = False
    ) -> None:
        model.check(support_images[:1], support_images.unsqueeze(0), support_labels.unsqueeze(0))
        self._shape = support_images.shape[1:]
        with _without_gradients(support_images):
            self._network = _Network(model, preview)
            supports = self._network.look(torch.cat([support_images, support_labels], dim=1))
            self._supports = replace(supports, maps=supports.maps(slice(None)).__getitem__)

    def segment(self, target: Tensor) -> Tensor:
        """Logits (B, 1, H, W) of targets (B, 1, H, W), each by the example of this set.

        Raises:
            ValueError: Targets have another size than the supports.
        """
        if target.shape[1:] != self._shape:
            raise ValueError(f"targets are (B, {', '.join(map(str, self._shape))}), not {[*target.shape]}")
        with _without_gradients(target):
            return torch.cat([self._network(one, self._supports) for one in target.split(1)]).to(target.dtype)


class Prepared:
    """A network whose weights are laid out once, for many targets that each have supports of their own.

    Args:
        model: The network. The weights are copied, so training the model further changes nothing here.
        preview: As for :func:`segment`.
    """

    def __init__(self, model: UniverSeg, *, preview: bool = False) -> None:
        self._model = model
        with torch.no_grad():
            self._network = _Network(model, preview)

    def segment(self, target: Tensor, support_images: Tensor, support_labels: Tensor) -> Tensor:
        """Logits (H, W) of one target (H, W) by the example of supports (N, H, W) and their labels (N, H, W).

        Raises:
            ValueError: The model does not take these shapes.
        """
        query, labeled = target[None, None], torch.stack([support_images, support_labels], dim=1)
        self._model.check(query, labeled[None, :, :1], labeled[None, :, 1:])
        with _without_gradients(target):
            return self._network(query, self._network.look(labeled))[0, 0].to(target.dtype)


@contextmanager
def _without_gradients(tensor: Tensor) -> Iterator[None]:
    # A caller's autocast would make a preview of what was not asked to be one.
    with torch.no_grad(), torch.autocast(tensor.device.type, enabled=False):
        yield


@dataclass(frozen=True)
class _Supports:
    """What the first block knows of N supports v_i (N, 2, H, W): the maps are W_s * (W_v * v_i)."""

    count: int
    mean: Tensor
    maps: MapsOf


class _Network:
    """Copies of a model's weights, laid out for the walk of one target through them."""

    def __init__(self, model: UniverSeg, preview: bool) -> None:
        self.dtype = torch.bfloat16 if preview else model.out_conv.conv.weight.dtype
        blocks = cast("list[CrossBlock]", [*model.enc_blocks, *model.dec_blocks])
        between = [_Block(block, self.dtype, mean_only=block is blocks[-2]) for block in blocks[1:-1]]
        bottom = len(model.enc_blocks) - 1
        self.down, self.up = between[:bottom], between[bottom:]
        self.first = _FirstBlock(blocks[0], self.dtype) if len(blocks) > 1 else None
        self.last = _LastBlock(blocks[-1], self.dtype)
        self.out = _Convolution(model.out_conv.conv.weight, model.out_conv.conv.bias, self.dtype)

    def look(self, labeled: Tensor) -> _Supports:
        """What does not depend on the target, for supports (N, 2, H, W)."""
        labeled = labeled.to(self.dtype).contiguous(memory_format=torch.channels_last)
        mean = labeled.mean(dim=0, keepdim=True)
        return _Supports(len(labeled), mean, self.first.look(labeled) if self.first else labeled.__getitem__)

    def __call__(self, target: Tensor, supports: _Supports) -> Tensor:
        """Logits (1, 1, H, W) of one target (1, 1, H, W)."""
        return self.out(self.last(self._through_all_but_last(target.to(self.dtype), supports)))

    def _through_all_but_last(self, target: Tensor, supports: _Supports) -> Tensor:
        """[u; mean_i v_i] (1, C, H, W), which goes into the last block."""
        if self.first is None:
            return torch.cat([target, supports.mean], dim=1)
        u, v, inputs = self.first(target, supports)
        skips = [(u, v)]
        for block in self.down:
            u, v = block(halve(u), inputs, supports.count)
            skips.append((u, v))
            inputs = _halved(v)
        u, v = skips.pop()
        for block in self.up:
            u_skip, v_skip = skips.pop()
            u, v = block(_join(u, u_skip), _joined(v, v_skip), supports.count)
        u_skip, v_skip = skips.pop()
        return torch.cat([double(u), u_skip, double(v), v_skip], dim=1)


class _FirstBlock:
    """The block whose input is images: pairs of its convolutions are single ones (item 3)."""

    def __init__(self, block: CrossBlock, dtype: torch.dtype) -> None:
        weight, bias = block.cross.cross_conv.weight, cast("Tensor", block.cross.cross_conv.bias)
        to_target, to_support = block.target.vmapped.conv, block.support.vmapped.conv
        # As the center of a kernel for a map of ones, b_x ends at the border of z like everything else.
        ones = functional.pad(bias[:, None, None, None], (1, 1, 1, 1))
        inner = torch.cat([weight[:, :1], ones, weight[:, 1:]], dim=1)
        self.to_target = _ConvolutionPair(inner, to_target.weight, to_target.bias, dtype)
        self.query = _ConvolutionPair(inner[:, :2], to_support.weight, to_support.bias, dtype)
        self.support = _ConvolutionPair(inner[:, 2:], to_support.weight, None, dtype)
        self.width = to_support.out_channels

    def look(self, labeled: Tensor) -> MapsOf:
        """W_s * (W_v * v_i) of supports (N, 2, H, W)."""
        return lambda part: self.support(labeled[part])

    def __call__(self, target: Tensor, supports: _Supports) -> tuple[Tensor, Tensor, MapsOf]:
        """Target's maps u', the mean of all v'_i, and halved v'_i."""
        target_and_ones = torch.cat([target, torch.ones_like(target)], dim=1)
        query = self.query(target_and_ones)
        mean = _Mean(supports.count, self.width, target)
        halved = _All(supports.count, self.width, halve(target))
        parts = _parts(supports.count, self.width, target)
        room = _All(parts[0].stop, self.width, target).maps  # touching fresh memory costs more than the sum
        for part in parts:
            own = supports.maps(part)
            maps = _activate(torch.add(own, query, out=room[: len(own)]))
            mean.add(maps)
            halved.add(halve(maps))
        u = _activate(self.to_target(torch.cat([target_and_ones, supports.mean], dim=1)))
        return u, mean.result(), halved.maps.__getitem__


class _Block:
    """Any block but the first and the last; ``mean_only`` if the last one follows (item 2)."""

    def __init__(self, block: CrossBlock, dtype: torch.dtype, mean_only: bool) -> None:
        cross, u_channels = block.cross.cross_conv, block.cross.u_channels
        to_target, to_support = block.target.vmapped.conv, block.support.vmapped.conv
        self.query = _Convolution(cross.weight[:, :u_channels], cross.bias, dtype)
        self.support = _Convolution(cross.weight[:, u_channels:], None, dtype)
        self.to_target = _Convolution(to_target.weight, to_target.bias, dtype)
        self.to_support = _Convolution(to_support.weight, to_support.bias, dtype)
        self.cross, self.width = cross.out_channels, to_support.out_channels
        self.widest = max(cross.in_channels - u_channels, self.cross, self.width)
        self.mean_only = mean_only

    def __call__(self, u: Tensor, inputs: MapsOf, count: int) -> tuple[Tensor, Tensor]:
        """Target's maps u', and all v'_i (N, width, H, W) or their mean."""
        query = self.query(u)
        z_mean = _Mean(count, self.cross, u)
        kept = (_Mean if self.mean_only else _All)(count, self.width, u)
        for part in _parts(count, self.widest, u):
            z = self.support(inputs(part)).add_(query)
            z_mean.add(z)
            kept.add(_activate(self.to_support(z)))
        return _activate(self.to_target(z_mean.result())), kept.result()


class _LastBlock:
    """The block of which only u' is used."""

    def __init__(self, block: CrossBlock, dtype: torch.dtype) -> None:
        cross, to_target = block.cross.cross_conv, block.target.vmapped.conv
        self.cross = _Convolution(cross.weight, cross.bias, dtype)
        self.to_target = _Convolution(to_target.weight, to_target.bias, dtype)

    def __call__(self, both: Tensor) -> Tensor:
        """The target's maps u' (1, width, H, W) of [u; mean_i v_i] (1, C, H, W)."""
        return _activate(self.to_target(self.cross(both)))


class _Convolution:
    """Convolution that keeps height and width, with its own copy of the weights."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.weight = weight.detach().to(dtype).clone(memory_format=torch.channels_last)
        self.bias = None if bias is None else bias.detach().to(dtype).clone()
        self.padding = (weight.shape[2] // 2, weight.shape[3] // 2)

    def __call__(self, maps: Tensor) -> Tensor:
        return functional.conv2d(maps, self.weight, self.bias, padding=self.padding)


class _ConvolutionPair:
    """Two 3 x 3 convolutions in a row, outer * (inner * x) + bias, as a single one of 5 x 5 with few input channels.

    The composed kernel takes what is outside of the image for a continuation of inner * x, where the outer convolution
    sees zeros. These outside pixels lie in one row or column along each side and look at no pixels of x but those of
    that side. Their share is one more composed convolution of that row or column, to be subtracted; what was subtracted
    twice at a corner is added once.
    """

    def __init__(self, inner: Tensor, outer: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        inner, outer = inner.detach().double(), outer.detach().double()
        self.whole = _Convolution(_composed(inner, outer), bias, dtype)
        self.sides = []
        for down, right in product((0, -1, 1), repeat=2):
            if down or right:
                kernel = _composed(inner[:, :, _side(-down), _side(-right)], outer[:, :, _side(down), _side(right)])
                share = _Convolution(kernel if down and right else -kernel, None, dtype)
                self.sides.append(((..., _side(down), _side(right)), share))

    def __call__(self, maps: Tensor) -> Tensor:
        """Maps (n, outputs, H, W) of maps (n, inputs, H, W)."""
        result = self.whole(maps)
        for side, share in self.sides:
            result[side] += share(maps[side])
        return result


def _side(direction: int) -> slice:
    """Along one axis: all of it, or only the first (-1) or last (1) pixel."""
    return {0: slice(None), -1: slice(1), 1: slice(-1, None)}[direction]


def _composed(inner: Tensor, outer: Tensor) -> Tensor:
    """Kernel of outer * (inner * x): at s, the sum of outer(a) inner(b) over a + b = s and the channels between."""
    height, width = outer.shape[2] - 1, outer.shape[3] - 1
    padded = functional.pad(inner.transpose(0, 1), (width, width, height, height))
    return functional.conv2d(padded, outer.flip(2, 3)).transpose(0, 1)


class _Mean:
    """Mean over supports of maps with the size of ``like`` that come in chunks, summed in float32 at least."""

    def __init__(self, count: int, channels: int, like: Tensor) -> None:
        self.count, self.dtype = count, like.dtype
        precise = torch.promote_types(like.dtype, torch.float32)
        self.total = like.new_zeros((1, *like.shape[2:], channels), dtype=precise)

    def add(self, maps: Tensor) -> None:
        # One by one, because torch's sum over the first axis is far slower on channels-last maps, and makes a copy.
        for one in maps.permute(0, 2, 3, 1):
            self.total += one

    def result(self) -> Tensor:
        return self.total.div_(self.count).to(self.dtype).permute(0, 3, 1, 2)


class _All:
    """Maps of all supports with the size of ``like``, channels last, from chunks."""

    def __init__(self, count: int, channels: int, like: Tensor) -> None:
        shape = (count, channels, *like.shape[2:])
        self.maps = torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
        self.filled = 0

    def add(self, maps: Tensor) -> None:
        self.maps[self.filled : self.filled + len(maps)] = maps
        self.filled += len(maps)

    def result(self) -> Tensor:
        return self.maps


def _parts(count: int, channels: int, like: Tensor) -> list[slice]:
    """Chunks of ``count`` supports whose maps have that many channels and the size of ``like``."""
    budget = CPU_CHUNK_BYTES if like.device.type == "cpu" else GPU_CHUNK_BYTES
    size = max(1, budget // (channels * like[0, 0].numel() * like.element_size()))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _activate(maps: Tensor) -> Tensor:
    return functional.leaky_relu_(maps, SLOPE)


def _halved(maps: Tensor) -> MapsOf:
    return lambda part: halve(maps[part])


def _join(below: Tensor, skip: Tensor) -> Tensor:
    return torch.cat([double(below), skip], dim=1)


def _joined(below: Tensor, skip: Tensor) -> MapsOf:
    return lambda part: _join(below[part], skip[part])
