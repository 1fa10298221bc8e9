"""From an image on the model's grid to a stream of sampled probability maps, within the memory there is."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from MedSegUncertaintyLib.errors import MemoryExhaustedError
from MedSegUncertaintyLib.inference.device import is_out_of_memory
from MedSegUncertaintyLib.inference.noise import NoiseSource, Slices
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress, StageClock
from MedSegUncertaintyLib.inference.tiling import blend, pad_to_multiple, tile_regions
from MedSegUncertaintyLib.models.sampler import Encoding, Sampler

log = logging.getLogger(__name__)

T = TypeVar("T")
TILE_EDGE = {2: 512, 3: 128}
"""Longest edge of a tile by number of dimensions, before memory asks for less."""
SMALLEST_EDGE = 32
PASS_BYTES = 128 * 2**20
"""Logits that one pass may make; more draws at once do not run faster."""


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
        model: nn.Module,
        device: torch.device,
        allow_cpu: bool,
        cancel: CancelToken,
        listener: Callable[[Progress], None] | None,
    ) -> None:
        self._model: nn.Module = model
        self._sampler: Sampler = model  # type: ignore[assignment]
        self._allow_cpu, self._cancel, self._listener = allow_cpu, cancel, listener
        self.plan = Plan(device, TILE_EDGE[self._sampler.spatial_dims], 0)

    @torch.inference_mode()
    def sample(self, image: Tensor, count: int, noise: NoiseSource) -> Iterator[Tensor]:
        """Probabilities (classes, *spatial) of samples 0 to ``count`` - 1, one after another, on the plan's device.

        Args:
            image: (channels, *spatial), normalized, on the CPU.
            count: Number of samples.
            noise: Source of the noise.
        """
        shape = tuple(image.shape[1:])
        padded = pad_to_multiple(image.unsqueeze(0), self._sampler.size_multiple)
        if not self.plan.draws:
            logits_bytes = 4 * self._sampler.classes * math.prod(padded.shape[2:])
            self.plan = replace(self.plan, draws=max(1, min(count, PASS_BYTES // logits_bytes)))
        inside = (..., *(slice(size) for size in shape))
        encoded_for: Plan | None = None
        parts: list[tuple[Slices, Encoding]] = []
        clock: StageClock | None = None
        done = 0
        with self._cancel.checked_in(self._model):
            while done < count:
                self._cancel.check()
                if encoded_for is None or (encoded_for.device, encoded_for.edge) != (self.plan.device, self.plan.edge):
                    parts.clear()
                    encoded = self._within_memory(lambda: self._encode(padded))
                    if encoded is None:
                        continue
                    parts, encoded_for = encoded, self.plan
                clock = clock or StageClock("draw samples", count, self._listener)
                numbers = range(done, min(done + self.plan.draws, count))
                logits = self._within_memory(
                    lambda numbers=numbers: self._draw(parts, padded.shape[2:], numbers, noise)
                )
                if logits is None:
                    continue
                for draw in logits:
                    yield draw[inside].softmax(dim=0)
                    done += 1
                    clock.at(done)

    def _encode(self, padded: Tensor) -> list[tuple[Slices, Encoding]]:
        """Encodings of all tiles; blended into one where a draw is linear in them."""
        device, shape = self.plan.device, tuple(padded.shape[2:])
        self._model.to(device)
        regions = tile_regions(shape, self._tile())
        clock = StageClock("encode the image", len(regions), self._listener)
        tiles = ((region, clock.counted(self._sampler.encode(padded[(..., *region)].to(device)))) for region in regions)
        if self._sampler.blendable:
            return [(tuple(slice(0, size) for size in shape), blend(tiles, shape))]
        return list(tiles)

    def _draw(
        self, parts: list[tuple[Slices, Encoding]], shape: tuple[int, ...], numbers: range, noise: NoiseSource
    ) -> Tensor:
        """Logits (S, classes, *shape) of the samples ``numbers``."""
        device = self.plan.device

        def tile_logits(region: Slices, encoding: Encoding) -> Mapping[str, Tensor]:
            self._cancel.check()
            fields = self._sampler.noise(encoding)
            return {"logits": self._sampler.draw(encoding, noise.draw(fields, numbers, region, device))}

        return blend(((region, tile_logits(region, encoding)) for region, encoding in parts), tuple(shape))["logits"]

    def _tile(self) -> tuple[int, ...]:
        multiple = self._sampler.size_multiple
        return (max(self.plan.edge // multiple, 1) * multiple,) * self._sampler.spatial_dims

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
