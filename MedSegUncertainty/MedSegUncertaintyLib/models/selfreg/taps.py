"""Where the parts of an encoder-decoder are, by the names of their modules, and how their outputs are listened to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from MedSegUncertaintyLib.errors import PackageError
from MedSegUncertaintyLib.models.selfreg.losses import Features


@dataclass(frozen=True)
class TapGroup:
    """Names of modules whose outputs are regularized together.

    Attributes:
        encoder: Finest first.
        decoder: Coarsest first, without the one that gives the teacher.
    """

    encoder: tuple[str, ...]
    decoder: tuple[str, ...]

    def features(self, maps: Mapping[str, Tensor]) -> Features:
        """The outputs out of those that :func:`tapped` gathered."""
        return Features([maps[name] for name in self.encoder], [maps[name] for name in self.decoder])


@dataclass(frozen=True)
class Anatomy:
    """Names of the modules of an encoder-decoder; every output is (B, C, *spatial).

    Attributes:
        encoder: Its stages, finest first; each takes the output of the one before.
        decoder: Its stages, coarsest first; each takes the coarser maps and the encoder's of its own level.
        last: What follows them, in order.
        groups: Taps of the students.
        teacher: Tap of the decoder's last map, before it is narrowed to the features.
    """

    encoder: tuple[str, ...]
    decoder: tuple[str, ...]
    last: tuple[str, ...]
    groups: tuple[TapGroup, ...]
    teacher: str

    @property
    def taps(self) -> list[str]:
        """All names that the losses need, the teacher's first."""
        return [self.teacher, *(name for group in self.groups for name in (*group.encoder, *group.decoder))]

    def encode(self, backbone: nn.Module, image: Tensor) -> list[Tensor]:
        """Maps of all encoder stages, finest first."""
        levels: list[Tensor] = []
        for name in self.encoder:
            levels.append(backbone.get_submodule(name)(levels[-1] if levels else image))
        return levels

    def decode(self, backbone: nn.Module, levels: Sequence[Tensor]) -> Tensor:
        """What the backbone returns, from the maps of its encoder."""
        *skips, maps = levels
        for name, skip in zip(self.decoder, reversed(skips), strict=True):
            maps = backbone.get_submodule(name)(maps, skip)
        for name in self.last:
            maps = backbone.get_submodule(name)(maps)
        return maps


def _stages(encoder: tuple[str, ...], decoder: tuple[str, ...], last: str) -> Anatomy:
    """A CNN: every stage but the encoder's first is tapped, and the decoder's last one teaches."""
    return Anatomy(encoder, decoder, (last,), (TapGroup(encoder[1:], decoder[:-1]),), decoder[-1])


def _basic_unet(_: Any) -> Anatomy:
    downs = tuple(f"down_{n}" for n in range(1, 5))
    return _stages(("conv_0", *downs), tuple(f"upcat_{n}" for n in range(4, 0, -1)), "final_conv")


def _dyn_unet(network: Any) -> Anatomy:
    downs = tuple(f"downsamples.{n}" for n in range(len(network.downsamples)))
    ups = tuple(f"upsamples.{n}" for n in range(len(network.upsamples)))
    return _stages(("input_block", *downs, "bottleneck"), ups, "output_block")


def _swin_unet(network: Any) -> Anatomy:
    """The last blocks of all stages are one group, the first ones another."""
    encoder, decoder = _blocks(network, "encoder"), _blocks(network, "decoder")
    groups = tuple(
        TapGroup(tuple(stage[which] for stage in encoder.values()), tuple(stage[which] for stage in decoder.values()))
        for which in (-1, 0)
    )
    return Anatomy(tuple(encoder), tuple(decoder), ("expand", "last"), groups, "expand")


def _blocks(network: Any, side: str) -> dict[str, list[str]]:
    """Names of the transformer blocks of every stage of a Swin U-Net's encoder or decoder."""
    from MedSegUncertaintyLib.models.selfreg.swin import Block

    stages = {f"{side}.{number}": stage for number, stage in enumerate(getattr(network, side))}
    return {
        prefix: [name for name, part in stage.named_modules(prefix=prefix) if isinstance(part, Block)]
        for prefix, stage in stages.items()
    }


ANATOMIES: Mapping[str, Callable[[Any], Anatomy]] = {
    "BasicUNet": _basic_unet,
    "DynUNet": _dyn_unet,
    "SwinUNet": _swin_unet,
}


def anatomy(backbone: nn.Module) -> Anatomy:
    """Where the parts of a backbone are.

    Raises:
        PackageError: It is no encoder-decoder whose parts are known.
    """
    name = type(backbone).__name__
    if name not in ANATOMIES:
        known = ", ".join(sorted(ANATOMIES))
        raise PackageError(f'The taps of the backbone "{name}" are not known; self-regularization works with {known}.')
    return ANATOMIES[name](backbone)


@contextmanager
def tapped(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Listen to the outputs of modules; what was heard fills the dictionary, and nobody listens afterwards.

    The maps are those of the graph, with gradients and in the precision that they have there.

    Args:
        network: A network.
        names: Of modules in it that return one tensor.
    """
    maps: dict[str, Tensor] = {}
    handles = [network.get_submodule(name).register_forward_hook(partial(_keep, maps, name)) for name in names]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def _keep(maps: dict[str, Tensor], name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
    maps[name] = output
