"""UniverSeg with data made here: its two paths against each other, the names of its parameters, and what it refuses."""

import itertools

import pytest
import torch
from MedSegUncertaintyLib.models.universeg import SupportSet, UniverSeg, fast, segment

NETWORKS = {
    "released": ([6] * 4, None),
    "two levels": ([5, 3], None),
    "one level": ([(4, 3)], None),
    "unequal widths": ([(3, 5), (6, 2), (4, 7)], [(2, 3), (7, 4)]),
}


def network(name: str = "two levels", dtype: torch.dtype = torch.float64) -> UniverSeg:
    """A network whose biases have something to say."""
    torch.manual_seed(0)
    model = UniverSeg(*NETWORKS[name]).to(dtype)
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


def task(
    supports: int, height: int = 8, width: int = 16, batch: int = 1, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(supports)
    target, images, labels = (
        torch.rand(batch, *number, 1, height, width, generator=generator, dtype=dtype)
        for number in ((), (supports,), (supports,))
    )
    return target, images, labels.round()


@pytest.mark.parametrize(
    ("name", "supports", "size"), list(itertools.product(NETWORKS, (1, 2, 3, 5, 16), ((8, 16), (24, 8))))
)
def test_fast_path_is_exact(name: str, supports: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    model, arguments = network(name), task(supports, *size, batch=2)
    expected = model(*arguments).detach()
    tolerances = {"rtol": 1e-10, "atol": 1e-10 * float(expected.abs().max())}
    torch.testing.assert_close(segment(model, *arguments), expected, **tolerances)
    monkeypatch.setattr(fast, "CPU_CHUNK_BYTES", 2 * 6 * 8 * size[0] * size[1])  # two supports, then one that is left
    torch.testing.assert_close(segment(model, *arguments), expected, **tolerances)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 1)])
def test_fast_path_is_exact_where_everything_is_border(size: tuple[int, int]) -> None:
    """The composed convolution must be right where the sides of an image are the same pixels."""
    model = UniverSeg([3, 2]).double()
    torch.nn.init.normal_(model.enc_blocks[0].cross.cross_conv.bias)
    arguments = task(3, 2 * size[0], 2 * size[1])
    torch.testing.assert_close(segment(model, *arguments), model(*arguments).detach(), rtol=1e-10, atol=1e-12)
    inner, outer = (torch.randn(*shape, 3, 3, dtype=torch.float64) for shape in ((4, 2), (5, 4)))
    image, convolve = torch.randn(1, 2, *size, dtype=torch.float64), torch.nn.functional.conv2d
    pair = fast._ConvolutionPair(inner, outer, None, torch.float64)
    expected = convolve(convolve(image, inner, padding=1), outer, padding=1)
    torch.testing.assert_close(pair(image), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_support_set_serves_many_targets(name: str) -> None:
    model = network(name)
    _, images, labels = task(5)
    targets = torch.rand(3, 1, 8, 16, dtype=torch.float64)
    expected = model(targets, images.expand(3, -1, -1, -1, -1), labels.expand(3, -1, -1, -1, -1)).detach()
    kept = SupportSet(model, images[0], labels[0])
    for _ in range(2):
        torch.testing.assert_close(kept.segment(targets), expected, rtol=1e-10, atol=1e-10)


def test_new_weights_count_at_once_but_not_for_a_support_set() -> None:
    model, arguments = network("released"), task(3)
    kept = SupportSet(model, arguments[1][0], arguments[2][0])
    before = segment(model, *arguments)
    for parameter in model.parameters():
        parameter.data.mul_(1.1)  # which torch's own counters of changes do not see
    torch.testing.assert_close(segment(model, *arguments), model(*arguments).detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(kept.segment(arguments[0]), before, rtol=1e-10, atol=1e-10)


def test_order_of_supports_does_not_matter() -> None:
    model, (target, images, labels) = network(), task(5)
    order = [3, 1, 4, 0, 2]
    expected = segment(model, target, images, labels)
    torch.testing.assert_close(segment(model, target, images[:, order], labels[:, order]), expected)


def test_preview_is_close_and_only_on_request() -> None:
    model, arguments = network("released", torch.float32), task(5, dtype=torch.float32)
    exact = segment(model, *arguments)
    scale = float(exact.abs().max())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(segment(model, *arguments), exact, rtol=0, atol=0)
    for preview in (
        segment(model, *arguments, preview=True),
        SupportSet(model, arguments[1][0], arguments[2][0], preview=True).segment(arguments[0]),
    ):
        assert preview.dtype == torch.float32
        assert 1e-5 * scale < float((preview - exact).abs().max()) < 0.1 * scale


def test_fast_path_in_inference_mode_and_without_it() -> None:
    model, arguments = network(), task(3)
    with torch.inference_mode():
        inside = segment(model, *arguments)
    outside = segment(model, *arguments)
    assert not outside.requires_grad
    torch.testing.assert_close(inside, outside, rtol=0, atol=0)


def test_plain_path_has_gradients_for_all_that_is_used() -> None:
    model = network("unequal widths")
    model(*task(2)).sum().backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {f"dec_blocks.1.support.vmapped.conv.{kind}" for kind in ("weight", "bias")}


def test_names_and_shapes_are_those_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in UniverSeg([64] * 4).state_dict().items()}
    expected = {"out_conv.conv": (1, 64, 1, 1)}
    inputs = {"enc_blocks.0": 3, **{f"enc_blocks.{index}": 128 for index in (1, 2, 3)}}
    inputs.update({f"dec_blocks.{index}": 256 for index in range(3)})
    for block, channels in inputs.items():
        expected[f"{block}.cross.cross_conv"] = (64, channels, 3, 3)
        expected[f"{block}.target.vmapped.conv"] = expected[f"{block}.support.vmapped.conv"] = (64, 64, 3, 3)
    biases = {f"{name}.bias": shape[:1] for name, shape in expected.items()}
    assert shapes == {**{f"{name}.weight": shape for name, shape in expected.items()}, **biases}
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 1_182_785


def test_fresh_weights_have_the_authors_spread() -> None:
    torch.manual_seed(0)
    state = UniverSeg([64] * 3).state_dict()
    assert state["enc_blocks.1.target.vmapped.conv.weight"].std() == pytest.approx((2 / 576) ** 0.5, rel=0.02)
    assert state["enc_blocks.1.cross.cross_conv.weight"].std() == pytest.approx((1 / 1152) ** 0.5, rel=0.02)
    assert not any(tensor.any() for name, tensor in state.items() if name.endswith("bias"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": (1, 8, 16)}, r"target is \(B, 1, H, W\), .* target \[1, 8, 16\]"),
        ({"target": (1, 3, 8, 16)}, r"target is \(B, 1, H, W\)"),
        ({"target": (0, 1, 8, 16)}, r"target is \(B, 1, H, W\)"),
        ({"images": (3, 1, 8, 16)}, r"supports are \(B, N, 1, H, W\)"),
        ({"images": (1, 0, 1, 8, 16), "labels": (1, 0, 1, 8, 16)}, "N of at least 1"),
        ({"labels": (1, 2, 1, 8, 16)}, r"labels \[1, 2, 1, 8, 16\]"),
        ({"images": (2, 3, 1, 8, 16), "labels": (2, 3, 1, 8, 16)}, r"supports are"),
        (
            {"target": (1, 1, 9, 16), "images": (1, 3, 1, 9, 16), "labels": (1, 3, 1, 9, 16)},
            "multiples of 2, not 9 x 16",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_both_paths(change: dict, message: str) -> None:
    shapes = {"target": (1, 1, 8, 16), "images": (1, 3, 1, 8, 16), "labels": (1, 3, 1, 8, 16), **change}
    model, arguments = network(), [torch.zeros(shape, dtype=torch.float64) for shape in shapes.values()]
    for path in (model, lambda *arguments: segment(model, *arguments)):
        with pytest.raises(ValueError, match=message):
            path(*arguments)


def test_support_set_refuses_what_does_not_fit() -> None:
    model, (_, images, labels) = network(), task(3)
    with pytest.raises(ValueError, match="N of at least 1"):
        SupportSet(model, images[0], labels[0, :2])
    with pytest.raises(ValueError, match=r"targets are \(B, 1, 8, 16\), not \[1, 1, 16, 8\]"):
        SupportSet(model, images[0], labels[0]).segment(torch.zeros(1, 1, 16, 8, dtype=torch.float64))


@pytest.mark.parametrize("widths", [([], None), ([4, 4], []), ([4, 4], [4, 4])])
def test_widths_that_make_no_u_shape(widths: tuple) -> None:
    with pytest.raises(ValueError, match="do not make a U-shape"):
        UniverSeg(*widths)
