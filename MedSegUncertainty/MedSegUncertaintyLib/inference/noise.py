"""Reproducible noise: a pure function of seed, sample number, field name and voxel.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns a counter into random bits
without any state. Because the counter holds the voxel's index in the model's grid, tiles that overlap get the same
noise, and a sample does not depend on tiles, on draws per pass or on the device (up to rounding).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from MedSegUncertaintyLib.models.sampler import NoiseField

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_ROUNDS = 10
_AXIS_BITS = 20

Slices = tuple[slice, ...]


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Philox4x32-10: four words of 32 random bits for each counter.

    Args:
        counter: Four int64 tensors that broadcast together, values in [0, 2**32).
        key: Two words in [0, 2**32).

    Returns:
        Four int64 tensors of the broadcast shape, values in [0, 2**32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # The low 64 bits of the product survive the overflow of int64; masking drops the sign bits of the shift.
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c2 = (product1 >> 32).bitwise_and_(_MASK) ^ c1 ^ k0, (product0 >> 32).bitwise_and_(_MASK) ^ c3 ^ k1
        c1, c3 = product1.bitwise_and_(_MASK), product0.bitwise_and_(_MASK)
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return list(torch.broadcast_tensors(c0, c1, c2, c3))


def normals(words: Sequence[Tensor]) -> list[Tensor]:
    """Four independent standard normals (float32) from the four words of :func:`philox`, by Box and Muller."""
    result = []
    for first, second in (words[:2], words[2:]):
        # (word + 1/2) / 2**32 lies strictly between 0 and 1 in exact arithmetic; rounding to 1 only gives radius 0.
        radius = first.float().add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).clamp_(min=0.0).sqrt_()
        angle = second.float().mul_(2.0**-32 * 2.0 * math.pi)
        result += [radius * angle.cos(), radius * angle.sin_()]
    return result


class Noise(Protocol):
    """Whatever gives the noise of numbered samples."""

    def draw(
        self, fields: Mapping[str, NoiseField], samples: Sequence[int], region: Slices, device: torch.device
    ) -> dict[str, Tensor]:
        """See :meth:`NoiseSource.draw`."""
        ...


@dataclass(frozen=True)
class NoiseSource:
    """Noise of all samples of one run.

    Attributes:
        seed: In [0, 2**32).
        scale: Standard deviation; the temperature of the request.
        frozen: By name of a field, the number of the sample whose noise all samples have there.
    """

    seed: int
    scale: float = 1.0
    frozen: Mapping[str, int] = field(default_factory=dict)

    def draw(
        self, fields: Mapping[str, NoiseField], samples: Sequence[int], region: Slices, device: torch.device
    ) -> dict[str, Tensor]:
        """Noise of some samples over a region of the grid.

        Args:
            fields: What the sampler asks for.
            samples: Numbers of the samples, counted from 0.
            region: Part of the model's grid that a voxel field covers; it may reach beyond the grid's end.
            device: Where the noise is made.

        Returns:
            Per field (S, channels) if global, (S, channels, slices) if it follows the slices of the region,
            (S, channels, *region) if tied to voxels, (S, channels, *cells) if tied to cells.
        """
        return {name: self._of_samples(name, field, samples, region, device) for name, field in fields.items()}

    def _of_samples(
        self, name: str, field: NoiseField, samples: Sequence[int], region: Slices, device: torch.device
    ) -> Tensor:
        numbers = samples if name not in self.frozen else [self.frozen[name]]
        # One sample at a time stays in the cache: more than twice as fast as all at once on a CPU.
        values = torch.stack([self._values(name, field, number, region, device) for number in numbers])
        return values.expand(len(samples), *values.shape[1:])

    def _values(self, name: str, field: NoiseField, sample: int, region: Slices, device: torch.device) -> Tensor:
        match field.layout:
            case "global":
                return self._field(name, field, sample, torch.zeros((), dtype=torch.int64, device=device))
            case "slices":
                return self._process(name, field, sample, region[:1], device)
            case "voxel":
                return self._field(name, field, sample, self._voxel_numbers(region, device))
            case "grid" if field.correlation > 0.0:
                return self._process(name, field, sample, _cells(region, field.strides), device)
            case "grid":
                return self._field(name, field, sample, self._voxel_numbers(_cells(region, field.strides), device))

    def _process(self, name: str, field: NoiseField, sample: int, region: Slices, device: torch.device) -> Tensor:
        """Stationary Gaussian processes of variance 1 along the first axis, (channels, *region).

        White noise under a moving Gaussian: with a kernel of width l / sqrt(2) and unit square sum, the correlation at
        distance d is exp(-d^2 / (2 l^2)).
        """
        reach = math.ceil(3.0 * field.correlation)
        offsets = torch.arange(-reach, reach + 1, dtype=torch.float64, device="cpu")
        kernel = torch.exp(-((offsets / max(field.correlation, 1e-6)) ** 2))
        kernel = (kernel / kernel.norm()).float().to(device)
        # White noise has values on slices before the first one, too.
        first = (1 << (_AXIS_BITS - 1)) - reach
        slices = slice(region[0].start + first, region[0].stop + first + 2 * reach)
        white = self._field(name, field, sample, self._voxel_numbers((slices, *region[1:]), device))
        lines = white.flatten(2) if white.dim() > 2 else white.unsqueeze(2)  # (channels, slices, cells of a slice)
        moved = torch.nn.functional.conv1d(lines.mT.flatten(0, 1).unsqueeze(1), kernel.view(1, 1, -1))
        return moved.view(len(white), lines.shape[2], -1).mT.reshape(len(white), -1, *white.shape[2:])

    def _field(self, name: str, field: NoiseField, sample: int, position: Tensor) -> Tensor:
        """(channels, *position.shape); four channels share one counter."""
        key = (self.seed, zlib.crc32(name.encode()))
        low, high = position & _MASK, position >> 32
        parts: list[Tensor] = []
        for block in range(-(-field.channels // 4)):
            number, channels = low.new_full((), sample), low.new_full((), block)
            parts += normals(philox((low, high, number, channels), key))
        return torch.stack(parts[: field.channels]).mul_(self.scale)

    @staticmethod
    def _voxel_numbers(region: Slices, device: torch.device) -> Tensor:
        """Number of every voxel of the region: 20 bits for its position along each axis."""
        numbers = torch.zeros((), dtype=torch.int64, device=device)
        for part in region:
            along = torch.arange(part.start, part.stop, dtype=torch.int64, device=device)
            numbers = (numbers.unsqueeze(-1) << _AXIS_BITS) + along
        return numbers


@dataclass(frozen=True)
class Between:
    """Noise on the way from one sample to another, as ``steps`` samples.

    The way is a quarter of a circle, cos(a) first + sin(a) second: both ends are the samples themselves, and between
    them the noise is standard normal as well, at every voxel and in every tile, so that each step is as plausible as
    the ends. On a straight line its variance would fall to a half.

    Attributes:
        source: Noise of the samples; what is frozen there stays what it is.
        first: Number of the sample at the beginning.
        second: Number of the sample at the end.
        steps: Both ends included; at least 2.
    """

    source: NoiseSource
    first: int
    second: int
    steps: int

    def draw(
        self, fields: Mapping[str, NoiseField], samples: Sequence[int], region: Slices, device: torch.device
    ) -> dict[str, Tensor]:
        """As :meth:`NoiseSource.draw`; ``samples`` are steps, counted from 0."""
        ends = self.source.draw(fields, (self.first, self.second), region, device)
        angles = [0.5 * math.pi * step / (self.steps - 1) for step in samples]
        return {name: self._on_the_way(name, pair, angles) for name, pair in ends.items()}

    def _on_the_way(self, name: str, ends: Tensor, angles: list[float]) -> Tensor:
        first, second = ends
        if name in self.source.frozen:
            return first.expand(len(angles), *first.shape)
        return torch.stack([math.cos(angle) * first + math.sin(angle) * second for angle in angles])


def _cells(region: Slices, strides: tuple[int, ...]) -> Slices:
    """The cells that a region covers, wholly or in part."""
    return tuple(slice(a.start // b, -(-a.stop // b)) for a, b in zip(region, strides, strict=True))
