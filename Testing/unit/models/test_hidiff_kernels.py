"""Blocks of signs made ready for inference: the same bits in PyTorch, by bit counts, and bit by bit on any machine."""

from pathlib import Path
from typing import Any

import pytest
import torch
from MedSegUncertaintyLib.models.hidiff import kernels
from MedSegUncertaintyLib.models.hidiff.binary import Block, Form, Moment, TimeShift
from MedSegUncertaintyLib.models.hidiff.kernels import PreparedBlock, prepare, weight_words
from MedSegUncertaintyLib.models.hidiff.refiner import Refiner
from torch import Tensor, nn

SHAPES = [
    (32, 32, "same", 16, 16),
    (64, 64, "half", 16, 12),
    (32, 64, "half", 8, 8),
    (64, 32, "double", 5, 7),
    (128, 128, "same", 1, 1),
    (128, 64, "same", 2, 3),
    (24, 24, "same", 7, 6),
]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = kernels.compile_kernel(tmp_path_factory.mktemp("xnor"))
    if path is None:
        pytest.skip("needs a C compiler, which is not here")
    return kernels.load_kernel(path)


def varied(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    for values in module.buffers():
        if values.dim():
            values.add_(0.3 * torch.rand(values.shape, generator=generator))
    return module.eval()


def prepared_block(block: Block, moment: Moment, kernel: Any) -> tuple[PreparedBlock, Moment]:
    tables: dict[nn.Module, Any] = {s: s(moment).flatten(1) for s in block.modules() if isinstance(s, TimeShift)}
    ready = PreparedBlock(block, kernel)
    return ready, Moment(torch.tensor([0]), prepared={**tables, block: ready})


@pytest.mark.parametrize(("inputs", "outputs", "size", "height", "width"), SHAPES)
@torch.no_grad()
def test_prepared_blocks_are_blocks(inputs: int, outputs: int, size: Any, height: int, width: int) -> None:
    block = Block(Form(True, 16), inputs, outputs, size)
    varied(block)
    maps = torch.randn(2, inputs, height, width, generator=torch.Generator().manual_seed(1))
    moment = Moment(torch.tensor([0]), torch.ones(1, 16))
    _, ready = prepared_block(block, moment, None)
    torch.testing.assert_close(block(maps, ready), block(maps, moment), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("inputs", "outputs", "size", "height", "width"), SHAPES)
@torch.no_grad()
def test_bit_counts_give_the_same_bits(
    kernel: Any, inputs: int, outputs: int, size: Any, height: int, width: int
) -> None:
    block = Block(Form(True, 16), inputs, outputs, size)
    varied(block)
    maps = torch.randn(2, inputs, height, width, generator=torch.Generator().manual_seed(1))
    maps[0, :, 0, 0] = 0.0
    moment = Moment(torch.tensor([0]), torch.zeros(1, 16))
    expected = block(maps, prepared_block(block, moment, None)[1])
    for wide in sorted({0, kernel.is_fast()}):
        ready, at = prepared_block(block, moment, kernel)
        ready._wide = wide
        assert torch.equal(block(maps, at), expected)


def test_words_of_weights() -> None:
    factors = -torch.ones(2, 65, 3, 3)
    factors[1, 0, 0, 1] = factors[1, 63, 0, 1] = factors[0, 64, 2, 2] = 1.0
    words = weight_words(factors)
    assert words.shape == (9, 2, 2)
    assert words[1, 0].tolist() == [0, 1 - 2**63]
    assert words[8, 1].tolist() == [1, 0]
    assert words.count_nonzero() == 2


@torch.no_grad()
def test_whole_refiners_give_the_same_bits(kernel: Any) -> None:
    model = Refiner(1, 1, (32, 32, 64, 64), width=32)
    varied(model)
    generator = torch.Generator().manual_seed(2)
    state = torch.rand(2, 1, 64, 64, generator=generator).round()
    stem = torch.randn(1, 32, 64, 64, generator=generator)
    conditions = [torch.randn(1, c, s, s, generator=generator) for c, s in ((64, 16), (64, 8), (128, 4), (128, 2))]
    found: list[Tensor] = []
    for chosen in (None, kernel):
        moment = Moment(torch.tensor([6]), prepared=prepare(model, 10, chosen))
        found.append(model(state, stem, conditions, moment))
    assert found[0].std() > 0.01
    assert torch.equal(*found)


def test_nothing_is_compiled_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernels, "SOURCE", tmp_path / "xnor.c")
    kernels.found_kernel.cache_clear()
    assert kernels.found_kernel() is None
    kernels.found_kernel.cache_clear()
    monkeypatch.setattr(kernels.shutil, "which", lambda name: None)
    assert kernels.compile_kernel(tmp_path) is None
