"""From an image on the model's grid to a stream of sampled probability maps, within the memory there is."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from MedSegUncertaintyLib.errors import MemoryExhaustedError
from MedSegUncertaintyLib.inference.device import is_out_of_memory
from MedSegUncertaintyLib.inference.noise import NoiseSource, Slices
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress, StageClock
from MedSegUncertaintyLib.inference.tiling import blend, pad_to_multiple, tile_regions
from MedSegUncertaintyLib.models.sampler import Encoding

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.registry import SamplerModule

log = logging.getLogger(__name__)

T = TypeVar("T")
TILE_EDGE = {2: 512, 3: 128}
"""Longest edge of a tile by number of dimensions, before memory asks for less."""
SMALLEST_EDGE = 32
PASS_BYTES = 32 * 2**20
"""Logits that one pass may make. More at once do not run faster, and cancel waits for the end of a pass."""


@dataclass(frozen=True)
class Plan:
    """How much is done at once.

    Attributes:
        device: Where it runs.
        edge: Longest edge of a tile in voxels.
        draws: Draws per pass.
    """

    device: torch.device
    edge: int
    draws: int

    def smaller(self, allow_cpu: bool) -> Plan | None:
        """The next step down the memory ladder: fewer draws, smaller tiles, then the CPU; ``None`` at its end."""
        if self.draws > 1:
            return replace(self, draws=self.draws // 2)
        if self.edge > SMALLEST_EDGE:
            return replace(self, edge=self.edge // 2)
        if allow_cpu and self.device.type != "cpu":
            return Plan(torch.device("cpu"), max(TILE_EDGE.values()), 1)
        return None


class Engine:
    """Runs one sampler over one image.

    What comes out depends neither on the plan nor on the order of work, so a step down the memory ladder goes on with
    the sample at which it stopped.

    Args:
        model: A sampler that is a torch module.
        device: Where to begin.
        allow_cpu: Whether the ladder may end on the CPU.
        cancel: Checked before every layer and every pass.
        listener: Hears about progress.
    """

    def __init__(
        self,
        model: SamplerModule,
        device: torch.device,
        allow_cpu: bool,
        cancel: CancelToken,
        listener: Callable[[Progress], None] | None,
    ) -> None:
        self._model = model
        self._allow_cpu, self._cancel, self._listener = allow_cpu, cancel, listener
        self.plan = Plan(device, TILE_EDGE[self._model.spatial_dims], 0)

    @torch.inference_mode()
    def sample(self, image: Tensor, count: int, noise: NoiseSource) -> Iterator[Tensor]:
        """Probabilities (classes, *spatial) of samples 0 to ``count`` - 1, one after another, on the plan's device.

        Args:
            image: (channels, *spatial), normalized, on the CPU.
            count: Number of samples.
            noise: Source of the noise.
        """
        shape = tuple(image.shape[1:])
        padded = pad_to_multiple(image.unsqueeze(0), self._model.size_multiple)
        if not self.plan.draws:
            draw_bytes = 4 * self._model.classes * math.prod(padded.shape[2:])
            self.plan = replace(self.plan, draws=max(1, min(count, PASS_BYTES // draw_bytes)))
        inside = (slice(None), *(slice(size) for size in shape))
        encoded_for: Plan | None = None
        parts: list[tuple[Slices, Encoding]] = []
        clock: StageClock | None = None
        done = 0
        with self._cancel.checked_in(self._model):
            while done < count:
                self._cancel.check()
                if encoded_for is None or (encoded_for.device, encoded_for.edge) != (self.plan.device, self.plan.edge):
                    parts.clear()
                    encoded = self._within_memory(partial(self._encode, padded))
                    if encoded is None:
                        continue
                    parts, encoded_for = encoded, self.plan
                clock = clock or StageClock("draw samples", count, self._listener)
                numbers = range(done, min(done + self.plan.draws, count))
                logits = self._within_memory(partial(self._draw, parts, tuple(padded.shape[2:]), numbers, noise))
                if logits is None:
                    continue
                for draw in logits:
                    yield draw[inside].softmax(dim=0)
                    done += 1
                    clock.at(done)

    def _encode(self, padded: Tensor) -> list[tuple[Slices, Encoding]]:
        """Encodings of the parts of the image in which draws are made.

        Where a draw is linear in the encoding, tiles are blended first and cut into slabs that do not overlap, each
        so thin that one draw takes a small part of a second. Otherwise the parts are the tiles.
        """
        device, shape = self.plan.device, tuple(padded.shape[2:])
        self._model.to(device)
        regions = tile_regions(shape, self._tile())
        clock = StageClock("encode the image", len(regions), self._listener)
        tiles = (
            (region, clock.counted(self._model.encode(padded[(slice(None), slice(None), *region)].to(device))))
            for region in regions
        )
        if not self._model.blendable:
            return list(tiles)
        whole = blend(tiles, shape)
        thickness = max(1, PASS_BYTES // (4 * self._model.classes * math.prod(shape[1:])))
        slabs = [slice(start, min(start + thickness, shape[0])) for start in range(0, shape[0], thickness)]
        rest = tuple(slice(0, size) for size in shape[1:])
        return [
            ((slab, *rest), {name: field[:, :, slab].contiguous() for name, field in whole.items()}) for slab in slabs
        ]

    def _draw(
        self, parts: list[tuple[Slices, Encoding]], shape: tuple[int, ...], numbers: range, noise: NoiseSource
    ) -> Tensor:
        """Logits (S, classes, *shape) of the samples ``numbers``."""
        drawn = ((region, {"logits": self._draw_part(region, encoding, numbers, noise)}) for region, encoding in parts)
        if self._model.blendable:
            return torch.cat([fields["logits"] for _, fields in drawn], dim=2)
        return blend(drawn, shape)["logits"]

    def _draw_part(self, region: Slices, encoding: Encoding, numbers: range, noise: NoiseSource) -> Tensor:
        self._cancel.check()
        fields = self._model.noise(encoding)
        return self._model.draw(encoding, noise.draw(fields, numbers, region, self.plan.device))

    def _tile(self) -> tuple[int, ...]:
        multiple = self._model.size_multiple
        return (max(self.plan.edge // multiple, 1) * multiple,) * self._model.spatial_dims

    def _within_memory(self, work: Callable[[], T]) -> T | None:
        """The work's result; ``None`` after a step down the ladder because memory ran out.

        Raises:
            MemoryExhaustedError: The ladder has no further step.
        """
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler, so that the traceback no longer holds the tensors that did not fit.
        smaller = self.plan.smaller(self._allow_cpu)
        if smaller is None:
            raise MemoryExhaustedError(
                f"There is not enough memory on {self.plan.device} even for one draw in the smallest tiles; "
                "give a smaller region of interest or close other programs."
            )
        log.warning("Out of memory on %s; going on with %s.", self.plan.device, smaller)
        self.plan = smaller
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None
