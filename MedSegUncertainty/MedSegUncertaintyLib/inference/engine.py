"""From an image on the model's grid to a stream of sampled probability maps, within the memory there is."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from MedSegUncertaintyLib.errors import MemoryExhaustedError
from MedSegUncertaintyLib.inference.device import free_bytes, is_out_of_memory, release_cached
from MedSegUncertaintyLib.inference.kept import Kept, KeptEncoding
from MedSegUncertaintyLib.inference.noise import Noise, Slices
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress, StageClock
from MedSegUncertaintyLib.inference.tiling import blend, pad_to_multiple, per_axis, tile_regions
from MedSegUncertaintyLib.models.sampler import Encoding, Reconstructed, Reconstructing

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.registry import SamplerModule

log = logging.getLogger(__name__)

T = TypeVar("T")
Parts = list[tuple[Slices, Encoding]]

TILE_EDGE = {2: 512, 3: 128}
"""Longest edge of a tile by the dimensions that the network sees, before memory asks for less."""
CPU_TILE_EDGE = {2: 512, 3: 64}
"""The same on a CPU, where one layer of a larger tile takes longer than a user who cancels should wait."""
SMALLEST_EDGE = 32
FEWEST_MULTIPLES = 2
"""A tile is at least as wide as two of the sampler's multiples: it begins at one, and overlaps the next tile."""
PASS_BYTES = 16 * 2**20
"""Logits that one pass may make. More at once do not run faster, and cancel waits for the end of a pass."""
SMALLEST_PASS = 2**18
BLENDED_SHARE = 0.4
"""Share of the free memory of a card that blended encodings may take; larger ones are kept and drawn on the CPU."""


@dataclass(frozen=True)
class Plan:
    """How much is done at once.

    Attributes:
        device: Where the network runs.
        edge: Longest edge of a tile in voxels.
        pass_bytes: Size of the logits of one pass.
    """

    device: torch.device
    edge: int
    pass_bytes: int = PASS_BYTES

    def smaller_tiles(self, longest: int, smallest: int, allow_cpu: bool) -> Plan | None:
        """The next step when encoding ran out of memory: half the edge, then the CPU; ``None`` at the end.

        Args:
            longest: Longest edge of the image; a larger tile would change nothing.
            smallest: Edge of the smallest tile.
            allow_cpu: Whether the CPU may take over.
        """
        edge = min(self.edge, longest)
        if edge > smallest:
            return replace(self, edge=max(edge // 2, smallest))
        return self._on_cpu(allow_cpu)

    def smaller_passes(self, allow_cpu: bool) -> Plan | None:
        """The next step when drawing ran out of memory: half a pass, then the CPU; ``None`` at the end.

        The tiles stay as they are: other tiles are another encoding, and all samples must share one.
        """
        if self.pass_bytes > SMALLEST_PASS:
            return replace(self, pass_bytes=self.pass_bytes // 2)
        return self._on_cpu(allow_cpu)

    def _on_cpu(self, allow_cpu: bool) -> Plan | None:
        if not allow_cpu or self.device.type == "cpu":
            return None
        return replace(self, device=torch.device("cpu"), pass_bytes=PASS_BYTES)


class Engine:
    """Runs one sampler over one image.

    Draws do not depend on how many are made per pass, so a step down the ladder while drawing goes on with the sample
    at which it stopped. Smaller tiles change the encoding by what the network sees at their borders; they are only
    chosen before the first sample.

    Args:
        model: A sampler that is a torch module; it is moved to where it runs.
        device: Where to begin.
        allow_cpu: Whether the ladder may end on the CPU.
        cancel: Checked before every layer and every part of a pass.
        listener: Hears about progress.
        kept: Where the encoding of the last image is looked for and left; the model must be of it.
        controls: Further arguments of the model's ``draw``.
    """

    def __init__(
        self,
        model: SamplerModule,
        device: torch.device,
        allow_cpu: bool,
        cancel: CancelToken,
        listener: Callable[[Progress], None] | None,
        kept: Kept | None = None,
        controls: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._model = model
        self._allow_cpu, self._listener = allow_cpu, listener
        self._kept = kept
        self._controls = controls or {}
        self.cancel = cancel
        edges = CPU_TILE_EDGE if device.type == "cpu" else TILE_EDGE
        self.plan = Plan(device, edges[model.network_dims])
        self._multiples = per_axis(model.size_multiple, model.spatial_dims)

    @torch.inference_mode()
    def sample(self, image: Tensor, count: int, noise: Noise) -> Iterator[Tensor]:
        """Probabilities (classes, *spatial) of samples 0 to ``count`` - 1, one after another.

        Args:
            image: (channels, *spatial), normalized, on the CPU.
            count: Number of samples.
            noise: Source of the noise.
        """
        shape = tuple(image.shape[1:])
        padded = pad_to_multiple(image.unsqueeze(0), self._multiples)
        inside = (slice(None), *(slice(size) for size in shape))
        with self.cancel.checked_in(self._model):
            parts = self._encoded(image, padded)
            clock = StageClock("draw samples", count, self._listener)
            done = 0
            while done < count:
                numbers = range(done, min(done + self._draws_per_pass(padded), count))
                logits = _attempt(partial(self._draw, parts, tuple(padded.shape[2:]), numbers, noise))
                if logits is None:
                    parts = self._with_smaller_passes(parts)
                    continue
                for index in range(len(numbers)):
                    self.cancel.check()
                    yield logits[index][inside].softmax(dim=0)
                    clock.at(done + index + 1)
                done += len(numbers)
                del logits  # before the next pass needs its place

    @torch.inference_mode()
    def reconstruct(self, image: Tensor, labels: Tensor, noise: Noise) -> Reconstructed | None:
        """Segmentations of an image as the model's latents can say them; None for families that cannot tell.

        The image is one tile, and nothing steps down where that does not fit.

        Args:
            image: (channels, *spatial), normalized, on the CPU.
            labels: (R, *spatial), class indices.
            noise: Source of the noise, as for R draws.
        """
        model, device = self._model, self.plan.device
        if not isinstance(model, Reconstructing):
            return None
        inside = (slice(None), slice(None), *(slice(size) for size in labels.shape[1:]))
        padded = pad_to_multiple(image.unsqueeze(0), self._multiples).to(device)
        targets = pad_to_multiple(labels.unsqueeze(0), self._multiples)[0].long().to(device)
        region = tuple(slice(0, size) for size in padded.shape[2:])
        with self.cancel.checked_in(model.to(device)):
            encoding = self._encode_tile(padded)
            drawn = noise.draw(model.noise(encoding), range(len(targets)), region, device)
            found = model.reconstruct(encoding, padded, targets, drawn)
        return Reconstructed(found.logits[inside], found.divergences)

    def _draws_per_pass(self, padded: Tensor) -> int:
        """As many as fit; one at a time where a draw takes many steps on a CPU, so that each is seen when made."""
        if "steps" in self._model.controls and self.plan.device.type == "cpu":
            return 1
        draw_bytes = 4 * self._model.classes * math.prod(padded.shape[2:])
        return max(1, self.plan.pass_bytes // draw_bytes)

    def _encoded(self, image: Tensor, padded: Tensor) -> Parts:
        """The kept encoding of the image, or a new one."""
        if self._kept is None:
            return self._encode_within_memory(padded)
        plan = self.plan
        if found := self._kept.find(image, plan):
            self._model.to(plan.device)
            return found.parts
        parts = self._encode_within_memory(padded)
        if self.plan == plan:  # the next run may find more memory, and then makes a better one
            self._kept.encoding = KeptEncoding(image, plan, parts)
        return parts

    def _encode_within_memory(self, padded: Tensor) -> Parts:
        while True:
            parts = _attempt(partial(self._encode, padded))
            if parts is not None:
                return parts
            smallest = max(SMALLEST_EDGE, FEWEST_MULTIPLES * max(self._multiples))
            self._step_down(self.plan.smaller_tiles(max(padded.shape[2:]), smallest, self._allow_cpu))

    def _with_smaller_passes(self, parts: Parts) -> Parts:
        """Step down after drawing ran out of memory; the parts, which may have moved to the CPU."""
        before = self.plan.device
        self._step_down(self.plan.smaller_passes(self._allow_cpu))
        if self.plan.device == before:
            return parts
        if self._kept is not None:
            self._kept.encoding = None
        self._model.to(self.plan.device)
        return [(region, _moved(encoding, self.plan.device)) for region, encoding in parts]

    def _encode(self, padded: Tensor) -> Parts:
        """Encodings of all tiles; blended into one where a draw is linear in them."""
        device, shape = self.plan.device, tuple(padded.shape[2:])
        self._model.to(device)
        regions = tile_regions(shape, self._tile(shape), self._multiples)
        clock = StageClock("encode the image", len(regions), self._listener)
        tiles = (
            (region, clock.counted(self._encode_tile(padded[(slice(None), slice(None), *region)].to(device))))
            for region in regions
        )
        if not self._model.blendable:
            return list(tiles)
        whole = tuple(slice(0, size) for size in shape)
        return [(whole, blend(((region, self._at_home(fields, shape)) for region, fields in tiles), shape))]

    def _encode_tile(self, tile: Tensor) -> Encoding:
        self.cancel.check()
        # TF32 would make a card's samples differ from the CPU's in the third digit.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self._model.encode(tile)

    def _at_home(self, fields: Encoding, shape: tuple[int, ...]) -> Encoding:
        """Fields of a tile on the device that has room for those of the whole grid."""
        needed = 4 * sum(field.shape[1] for field in fields.values()) * math.prod(shape)
        return fields if needed < BLENDED_SHARE * free_bytes(self.plan.device) else _moved(fields, torch.device("cpu"))

    def _draw(self, parts: Parts, shape: tuple[int, ...], numbers: range, noise: Noise) -> Tensor:
        """Logits (S, classes, *shape) of the samples ``numbers``."""
        if self._model.blendable:
            ((_, encoding),) = parts
            slabs = self._slabs(shape, len(numbers))
            return torch.cat([self._draw_part(slab, _cut(encoding, slab[0]), numbers, noise) for slab in slabs], dim=2)
        drawn = ((region, {"logits": self._draw_part(region, encoding, numbers, noise)}) for region, encoding in parts)
        return blend(drawn, shape)["logits"]

    def _draw_part(self, region: Slices, encoding: Encoding, numbers: range, noise: Noise) -> Tensor:
        self.cancel.check()
        device = next(iter(encoding.values())).device
        drawn = noise.draw(self._model.noise(encoding), numbers, region, device)
        return self._model.draw(encoding, drawn, **_moved(self._controls, device))

    def _slabs(self, shape: tuple[int, ...], draws: int) -> list[Slices]:
        """The grid in slabs, each so thin that its draws are one pass."""
        thickness = max(1, self.plan.pass_bytes // (4 * self._model.classes * draws * math.prod(shape[1:])))
        rest = tuple(slice(0, size) for size in shape[1:])
        return [(slice(start, min(start + thickness, shape[0])), *rest) for start in range(0, shape[0], thickness)]

    def _tile(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a tile: all of the image if it has no more voxels than a tile, however thin and wide it is."""
        dims = self._model.network_dims
        tile = tuple(max(self.plan.edge // part, FEWEST_MULTIPLES) * part for part in self._multiples[-dims:])
        seen = shape[-dims:]
        if math.prod(seen) <= math.prod(tile):
            tile = seen
        return (1,) * (len(shape) - dims) + tile

    def _step_down(self, smaller: Plan | None) -> None:
        """Go on with a smaller plan.

        Raises:
            MemoryExhaustedError: There is none.
        """
        if smaller is None:
            raise MemoryExhaustedError(
                f"There is not enough memory on {self.plan.device}, however small the parts; "
                "give a smaller region of interest or close other programs."
            )
        log.warning("Out of memory on %s; going on with %s.", self.plan.device, smaller)
        self.plan = smaller
        release_cached()


def _attempt(work: Callable[[], T]) -> T | None:
    """The work's result, or ``None`` if memory ran out.

    The caller goes on outside of the handler, where the traceback no longer holds the tensors that did not fit.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def _moved(fields: Mapping[str, Tensor], device: torch.device) -> Encoding:
    return {name: field.to(device) for name, field in fields.items()}


def _cut(fields: Mapping[str, Tensor], part: slice) -> Encoding:
    """Fields of a slab along the first spatial axis."""
    return {name: field[:, :, part] for name, field in fields.items()}
