"""Layers of signs counted by hand: bits, borders, packed twins, what a new refiner begins as."""

from typing import Any

import pytest
import torch
from MedSegUncertaintyLib.models.hidiff.binary import (
    Block,
    Convolution,
    Form,
    Moment,
    pack_signs,
    sign,
    unpack_signs,
)
from MedSegUncertaintyLib.models.hidiff.refiner import Refiner, packed_state
from MedSegUncertaintyLib.models.hidiff.transformer import CrossTransformer, attend
from torch import Tensor, nn

FORM = Form(binary=True, embedding=16)
FEATURES = (8, 16, 32, 32)


def refiner(binary: bool = True, **changes: Any) -> Refiner:
    torch.manual_seed(0)
    return Refiner(1, 2, FEATURES, width=32, binary=binary, **changes)


def varied(model: nn.Module) -> nn.Module:
    """With numbers instead of the zeros and ones that a new model begins with."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if not name.endswith("weights.weight"):
            parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    for values in model.buffers():
        if values.dim():
            values.add_(0.3 * torch.rand(values.shape, generator=generator))
    return model


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    size = 32
    generator = torch.Generator().manual_seed(2)
    image = torch.randn(1, 1, size, size, generator=generator)
    prior = torch.rand(1, 2, size, size, generator=generator)
    state = (torch.rand(3, 2, size, size, generator=generator) < prior).to(dtype)
    sizes = zip(FEATURES, [size // 4, size // 8, size // 16, size // 32], strict=True)
    features = [torch.randn(1, width, edge, edge, generator=generator).to(dtype) for width, edge in sizes]
    return image.to(dtype), prior.to(dtype), state, features


def run(model: Refiner, step: int = 3) -> Tensor:
    image, prior, state, features = inputs(model.of_known.weight.dtype)
    with torch.no_grad():
        moment = model.moment(torch.tensor([step]))
        return model(state, model.stem(image, prior), model.conditions(features, moment), moment)


def test_zero_is_positive_and_the_gradient_is_a_triangle() -> None:
    values = torch.tensor([-2.0, -1.0, -0.5, -0.0, 0.0, 0.25, 1.0], requires_grad=True)
    found = sign(values)
    assert found.tolist() == [-1, -1, -1, 1, 1, 1, 1]
    found.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0, 0, 1, 2, 2, 1.5, 0]


@pytest.mark.parametrize("shape", [(4, 8, 3, 3), (5, 3, 3, 3), (7, 13, 1, 1), (1, 1, 1, 1)])
def test_packed_signs_come_back(shape: tuple[int, ...]) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    packed = pack_signs(values)
    count = values[0].numel()
    assert packed.dtype == torch.uint8
    assert packed.shape == (shape[0], -(-count // 8))
    assert torch.equal(unpack_signs(packed, shape), torch.where(values >= 0, 1.0, -1.0))
    assert torch.equal(pack_signs(unpack_signs(packed, shape)), packed)


def test_the_first_value_is_the_lowest_bit() -> None:
    values = torch.tensor([[1.0, -1, -1, 1, -1, -1, -1, -1, 0, -1]])
    assert pack_signs(values).tolist() == [[0b00001001, 0b1]]


def test_outside_of_the_image_nothing_is_summed() -> None:
    layer = Convolution(FORM, 2, 1).eval()
    layer.norm.eps = 0.0
    nn.init.constant_(layer.weights.weight, 0.5)
    found = layer(torch.zeros(1, 2, 4, 5))
    # Zeros are positive: every tap inside adds 2 channels times the scale 0.5.
    inside = torch.tensor([[4.0, 6, 6, 6, 4], [6, 9, 9, 9, 6], [6, 9, 9, 9, 6], [4, 6, 6, 6, 4]])
    assert torch.equal(found[0, 0], inside)


def test_scales_are_means_and_only_linear_weights_are_centered() -> None:
    weight = torch.tensor([0.1, 0.15, 0.6, -0.1])
    for kernel, expected in ((1, [-1, -1, 1, -1]), (3, [1, 1, 1, -1])):
        layer = Convolution(FORM, 4, 1, kernel=kernel)  # type: ignore[arg-type]
        layer.weights.weight.data.copy_(weight.view(1, 4, 1, 1).expand_as(layer.weights.weight))
        factors, scale = layer.weights()
        assert factors[0, :, 0, 0].tolist() == expected
        assert scale.tolist() == pytest.approx([0.2375])


def test_weights_learn_without_their_scale() -> None:
    layer = Convolution(FORM, 1, 1).eval()
    layer.norm.eps = 0.0
    layer.weights.weight.data.fill_(0.5)
    layer.weights.weight.data[0, 0, 0, 0] = 1.5
    layer(torch.ones(1, 1, 8, 8))[..., 3, 3].sum().backward()
    gradient = layer.weights.weight.grad
    assert gradient is not None
    torch.testing.assert_close(
        gradient, torch.ones(1, 1, 3, 3).index_put((*torch.zeros(4, 1, dtype=torch.long),), torch.tensor(0.0))
    )


def test_a_block_in_training_and_evaluation_counts_the_same_signs() -> None:
    block = Block(FORM, 8, 8)
    maps, moment = (
        torch.randn(4, 8, 8, 8, generator=torch.Generator().manual_seed(0)),
        Moment(torch.zeros(1), torch.zeros(1, 16)),
    )
    block.convolution.norm.momentum = 1.0
    trained = block(maps, moment)
    used = block.eval()(maps, moment)
    torch.testing.assert_close(used, trained, rtol=0, atol=0.05)  # the running variance is the unbiased one


def test_a_row_of_negative_scores_attends_to_nothing() -> None:
    scores = torch.tensor([[-1.0, -3.0], [1.0, 0.35], [1.0, 0.36]])
    assert attend(scores).tolist() == [[0, 0], [1, 0], [1, 1]]


def test_a_new_cross_transformer_changes_nothing() -> None:
    """Its branches begin at zero; with the authors' order of numbers it would shuffle them."""
    maps, moment = (
        torch.randn(2, 32, 2, 3, generator=torch.Generator().manual_seed(0)),
        Moment(torch.zeros(1), torch.zeros(1, 16)),
    )
    module = CrossTransformer(FORM, 32, 32).eval()
    condition = module.condition(maps, moment)
    assert torch.equal(module(maps, condition, moment), maps)
    module.scrambled = True
    assert not torch.equal(module(maps, condition, moment), maps)


@pytest.mark.parametrize("binary", [True, False])
def test_a_new_refiner_says_one_half_and_learns(binary: bool) -> None:
    model = refiner(binary)
    assert torch.equal(run(model.eval()), torch.full((3, 2, 32, 32), 0.5))
    model = refiner(binary)
    varied(model).train()
    image, prior, state, features = inputs()
    moment = model.moment(torch.tensor([0, 4, 9]))
    model(state, model.stem(image, prior), model.conditions(features, moment), moment).square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


def test_twins_have_the_same_parameters() -> None:
    binary, real = refiner(True), refiner(False)
    shapes = {name: values.shape for name, values in binary.state_dict().items()}
    assert shapes == {name: values.shape for name, values in real.state_dict().items()}


@pytest.mark.parametrize("binary", [True, False])
def test_a_packed_refiner_says_the_same(binary: bool) -> None:
    model = refiner(binary)
    varied(model).eval()
    state = packed_state(model, steps=10)
    packed = refiner(binary, packed=10).eval()
    packed.load_state_dict(state)
    # In single precision the rounding of a shift could turn a sign.
    exact = refiner(binary, packed=10).eval().double()
    exact.load_state_dict(packed_state(model.double(), steps=10))
    for step in (0, 9):
        found = run(exact, step)
        assert found.std().item() > 0.01
        torch.testing.assert_close(found, run(model, step), rtol=0, atol=1e-9)
    model.float()
    size = sum(values.nbytes for values in state.values())
    assert size < sum(values.nbytes for values in model.state_dict().values()) / (5 if binary else 1)


def test_samples_of_one_image_share_what_does_not_depend_on_them() -> None:
    model = refiner()
    varied(model).eval()
    image, prior, state, features = inputs()
    with torch.no_grad():
        all_steps = model.conditions(features, model.moment(torch.arange(10)))
        moment = model.moment(torch.tensor([7]))
        shared = model(state, model.stem(image, prior), [maps[7:8] for maps in all_steps], moment)
        each = [f.expand(3, -1, -1, -1) for f in features]
        alone = model.moment(torch.tensor([7, 7, 7]))
        stem = model.stem(image.expand(3, -1, -1, -1), prior.expand(3, -1, -1, -1))
        torch.testing.assert_close(shared, model(state, stem, model.conditions(each, alone), alone), rtol=0, atol=1e-5)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        Refiner(1, 1, FEATURES, width=40)
    with pytest.raises(ValueError, match="four feature maps"):
        Refiner(1, 1, (32, 32), width=32)
