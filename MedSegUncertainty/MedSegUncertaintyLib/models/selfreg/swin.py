"""A U-shaped network of Swin transformer blocks, in 2D and 3D, out of MONAI's parts.

After Cao et al., "Swin-Unet: Unet-like Pure Transformer for Medical Image Segmentation", ECCV Workshops 2022. Between
its parts all maps are (B, C, *spatial); inside they are channels last, which costs no copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import PatchEmbed
from monai.networks.nets.swin_unetr import PatchMergingV2, SwinTransformerBlock, compute_mask, get_window_size
from torch import Tensor, nn

INIT_SCALE = 0.02
"""Standard deviation of the truncated normal that linear layers begin with."""


class SwinUNet(nn.Module):
    """Encoder of merging patches, mirrored decoder of expanding ones, skips in between.

    Sizes are multiples of a window at the coarsest stage, so windows are never cut or padded. A skip is what the last
    block of an encoder stage gives.

    Args:
        spatial_dims: 2 or 3.
        channels: Image channels.
        features: Channels of the map that it returns.
        embedding: Channels of the finest stage; every further one has twice as many.
        depths: Blocks of each stage, finest first, alternately without and with shifted windows.
        heads: Attention heads of each stage.
        window: Edge of a window, in patches.
        patch: Edge of a patch, in voxels.
        drop_path: Share of images for which the encoder's last block is skipped in training; less for earlier ones.

    Attributes:
        size_multiple: Every spatial size must be a multiple of this.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        features: int,
        embedding: int = 96,
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        patch: int = 4,
        drop_path: float = 0.2,
    ) -> None:
        super().__init__()
        if len(depths) != len(heads):
            raise ValueError("heads needs one entry per stage")
        stages = len(depths)
        self.size_multiple = patch * 2 ** (stages - 1) * window
        rates = torch.linspace(0.0, drop_path, sum(depths), device="cpu").tolist()

        def blocks(stage: int) -> list[nn.Module]:
            first = sum(depths[:stage])
            return [
                Block(spatial_dims, embedding * 2**stage, heads[stage], window, bool(number % 2), rates[first + number])
                for number in range(depths[stage])
            ]

        embed = PatchEmbed(patch, channels, embedding, nn.LayerNorm, spatial_dims)
        encoder = [nn.Sequential(embed, *blocks(0))]
        for stage in range(1, stages):
            merge = ChannelsLast(PatchMergingV2(embedding * 2 ** (stage - 1), spatial_dims=spatial_dims))
            encoder.append(nn.Sequential(merge, *blocks(stage)))
        encoder[-1].append(ChannelsLast(nn.LayerNorm(embedding * 2 ** (stages - 1))))
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList(
            DecoderStage(spatial_dims, embedding * 2**stage, blocks(stage)) for stage in reversed(range(stages - 1))
        )
        self.expand = nn.Sequential(
            ChannelsLast(nn.LayerNorm(embedding)), ChannelsLast(Expand(spatial_dims, embedding, embedding, patch))
        )
        self.last = (nn.Conv3d if spatial_dims == 3 else nn.Conv2d)(embedding, features, 1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INIT_SCALE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, features, *spatial) of images (B, channels, *spatial)."""
        levels = [image]
        for stage in self.encoder:
            levels.append(stage(levels[-1]))
        maps = levels.pop()
        for stage in self.decoder:
            maps = stage(maps, levels.pop())
        return self.last(self.expand(maps))


class ChannelsLast(nn.Module):
    """A part that wants channels last, between maps that have them first."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, *spatial) through the part."""
        return self.inner(maps.movedim(1, -1)).movedim(-1, 1)


class Block(nn.Module):
    """One transformer block on maps (B, width, *spatial)."""

    def __init__(self, dims: int, width: int, heads: int, window: int, shifted: bool, drop_path: float) -> None:
        super().__init__()
        self.window, self.shift = (window,) * dims, (window // 2 if shifted else 0,) * dims
        self.block = SwinTransformerBlock(width, heads, self.window, self.shift, drop_path=drop_path)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of the same shape."""
        size = maps.shape[2:]
        window, shift = get_window_size(size, self.window, self.shift)
        mask = compute_mask(size, window, shift, maps.device) if any(shift) else None
        return self.block(maps.movedim(1, -1), mask).movedim(-1, 1)


class DecoderStage(nn.Module):
    """Expand the coarser maps to ``width`` channels, join the skip, blocks."""

    def __init__(self, dims: int, width: int, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.expand = ChannelsLast(Expand(dims, 2 * width, width, 2))
        self.join = ChannelsLast(nn.Linear(2 * width, width))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, maps: Tensor, skip: Tensor) -> Tensor:
        """Maps (B, width, *spatial) of the size of the skip."""
        return self.blocks(self.join(torch.cat([self.expand(maps), skip], dim=1)))


class Expand(nn.Module):
    """Every patch becomes ``factor`` patches along each axis; channels last."""

    def __init__(self, dims: int, inputs: int, outputs: int, factor: int) -> None:
        super().__init__()
        self.dims, self.factor, self.outputs = dims, factor, outputs
        self.linear = nn.Linear(inputs, factor**dims * outputs, bias=False)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, *(factor * spatial), outputs) of maps (B, *spatial, inputs)."""
        parts = self.linear(maps).unflatten(-1, (*[self.factor] * self.dims, self.outputs))
        pairs = [axis for n in range(self.dims) for axis in (1 + n, 1 + self.dims + n)]
        size = [self.factor * n for n in maps.shape[1:-1]]
        return self.norm(parts.permute(0, *pairs, -1).reshape(len(maps), *size, self.outputs))
