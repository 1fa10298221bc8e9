"""Blocks of signs made ready for inference: the same bits in PyTorch, by bit counts, and bit by bit on any machine."""

import copy
import gc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from MedSegUncertaintyLib.models.hidiff import kernels
from MedSegUncertaintyLib.models.hidiff.binary import Block, Form, Moment, TimeShift
from MedSegUncertaintyLib.models.hidiff.kernels import PreparedBlock, prepare, prepared, weight_words
from MedSegUncertaintyLib.models.hidiff.refiner import Refiner
from MedSegUncertaintyLib.models.hidiff.xnor import compile_kernel, load_kernel
from torch import Tensor, nn

SHAPES = [
    (32, 32, "same", 16, 16),
    (64, 64, "half", 16, 12),
    (32, 64, "half", 8, 8),
    (64, 32, "double", 5, 7),
    (128, 128, "same", 1, 1),
    (128, 64, "same", 2, 3),
    (24, 24, "same", 7, 6),
    (48, 96, "same", 3, 9),
    (96, 48, "same", 4, 5),
    (256, 256, "half", 6, 10),
]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = compile_kernel(tmp_path_factory.mktemp("xnor"))
    if path is None:
        pytest.skip("needs a C compiler, which is not here")
    return load_kernel(path)


def levels(kernel: Any) -> list[Any]:
    """The kernel as it is on processors with fewer and with all of this one's instructions."""
    known = range(kernel.level() + 1)
    return [SimpleNamespace(block=kernel.block, level=lambda level=level: level) for level in known]


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
    for chosen in levels(kernel):
        assert torch.equal(block(maps, prepared_block(block, moment, chosen)[1]), expected)


@torch.no_grad()
def test_counts_have_room_for_all_signs(kernel: Any) -> None:
    block = Block(Form(True, 16), 512, 512).eval()
    block.convolution.weights.weight.fill_(-1.0)
    maps = torch.ones(1, 512, 5, 5)
    moment = Moment(torch.tensor([0]), torch.zeros(1, 16))
    expected = block(maps, prepared_block(block, moment, None)[1])
    for chosen in levels(kernel):
        assert torch.equal(block(maps, prepared_block(block, moment, chosen)[1]), expected)


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
    for chosen in (None, *levels(kernel)):
        moment = Moment(torch.tensor([6]), prepared=prepare(model, 10, chosen))
        found.append(model(state, stem, conditions, moment))
    assert found[0].std() > 0.01
    assert all(torch.equal(maps, found[0]) for maps in found[1:])


def frozen() -> Refiner:
    model = Refiner(1, 1, (32, 32, 64, 64), width=32)
    varied(model)
    return model.requires_grad_(False)


def of_weights(ready: dict[nn.Module, Any], refiner: Refiner) -> bool:
    """Whether what is ready follows from the weights as they are."""
    block, shift = refiner.encoder[0], refiner.get_submodule("encoder.0.threshold")
    now = prepare(refiner, 4, kernels.found_kernel())
    same = zip(vars(ready[block]).values(), vars(now[block]).values(), strict=True)
    tensors = [(old, new) for old, new in same if isinstance(new, Tensor)]
    return all(torch.equal(old, new) for old, new in [(ready[shift], now[shift]), *tensors])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_frozen_weights_are_made_ready_once(mode: Any) -> None:
    refiner, other = frozen(), frozen()
    with mode():
        ready = prepared(refiner, 4)
        assert of_weights(ready, refiner)
        assert prepared(refiner, 4) is ready
        assert prepared(other, 4) is not ready
        assert prepared(copy.deepcopy(refiner), 4) is not ready


def loaded(refiner: Refiner) -> None:
    refiner.load_state_dict({name: 0.5 * values for name, values in refiner.state_dict().items()})


def replaced(refiner: Refiner) -> None:
    state = {name: 0.5 * values for name, values in refiner.state_dict().items()}
    refiner.load_state_dict(state, assign=True)


def renormalized(refiner: Refiner) -> None:
    refiner.get_submodule("encoder.0.convolution.norm").get_buffer("running_var").mul_(4.0)


@pytest.mark.parametrize(
    "change",
    [
        loaded,
        replaced,
        renormalized,
        lambda refiner: refiner.get_parameter("encoder.0.threshold.linear.bias").add_(1.0),
        lambda refiner: refiner.get_parameter("encoder.0.convolution.weights.weight").neg_(),
        lambda refiner: refiner.half().float(),
    ],
    ids=["loaded", "replaced", "statistics", "shift", "weight", "rounded"],
)
def test_changed_weights_are_made_ready_anew(change: Callable[[Refiner], Any]) -> None:
    refiner = frozen()
    ready = prepared(refiner, 4)
    with torch.no_grad():
        change(refiner)
    refiner.requires_grad_(False)
    assert not of_weights(ready, refiner)
    assert of_weights(prepared(refiner, 4), refiner)


def test_weights_in_training_are_not_kept() -> None:
    refiner = frozen()
    refiner.get_parameter("of_known.weight").requires_grad_(True)
    assert prepared(refiner, 4) is not prepared(refiner, 4)
    refiner.requires_grad_(False).train()
    assert prepared(refiner, 4) is not prepared(refiner, 4)


def test_what_is_ready_goes_with_its_refiner() -> None:
    refiner = frozen()
    prepared(refiner, 4)
    assert refiner in kernels._KEPT
    count = len(kernels._KEPT)
    del refiner
    gc.collect()
    assert len(kernels._KEPT) < count
