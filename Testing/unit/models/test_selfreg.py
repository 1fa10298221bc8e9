"""SelfReg-UNet on data made here: taps, both kinds of samples, training, precision, 3D."""

import copy
from typing import Any

import pytest
import torch
from MedSegUncertaintyLib.errors import PackageError
from MedSegUncertaintyLib.inference.device import choose_device
from MedSegUncertaintyLib.inference.engine import Engine
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken
from MedSegUncertaintyLib.inference.walking import SliceWalker
from MedSegUncertaintyLib.models import selfreg
from MedSegUncertaintyLib.models.registry import build, build_objective
from MedSegUncertaintyLib.models.selfreg.network import SelfReg
from MedSegUncertaintyLib.models.selfreg.swin import SwinUNet
from MedSegUncertaintyLib.models.selfreg.taps import anatomy, tapped

CNN = {"name": "BasicUNet", "widths": [4, 6, 8, 8, 10]}
NNU = {"name": "DynUNet", "widths": [4, 6, 8], "norm_name": "instance"}
SWIN = {"name": "SwinUNet", "embedding": 8, "depths": [2, 2], "heads": [2, 2], "window": 2}
BACKBONES = [CNN, NNU, SWIN]
EDGE = 32


def tiny(backbone: dict[str, Any] = NNU, **changes: Any) -> SelfReg:
    torch.manual_seed(0)
    arguments = {
        "spatial_dims": 2,
        "channels": 1,
        "features": 6,
        "classes": 2,
        "samples": "augmentation",
        "dropout": 0.2,
        "backbone": backbone,
    }
    model = build("selfreg", {**arguments, **changes})
    assert isinstance(model, SelfReg)
    return model


def batch(*spatial: int, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.randn(count, 1, *spatial, generator=torch.Generator().manual_seed(1))
    return image, (image[:, 0] > 0.5).long()


def draws_of(model: SelfReg, image: torch.Tensor, samples: list[int], scale: float = 1.0) -> torch.Tensor:
    region = tuple(slice(0, size) for size in image.shape[2:])
    with torch.no_grad():
        encoding = model.encode(image)
        noise = NoiseSource(7, scale).draw(model.noise(encoding), samples, region, image.device)
        return model.draw(encoding, noise)


def hooks(model: torch.nn.Module) -> int:
    return sum(len(part._forward_hooks) for part in model.modules())


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone["name"])
def test_named_stages_make_up_the_backbone(backbone: dict[str, Any], dims: int) -> None:
    model = tiny(backbone, spatial_dims=dims).eval()
    image, _ = batch(*[EDGE, EDGE, 16][:dims], count=1)
    with torch.no_grad():
        levels = model.levels(image)
        features = model.anatomy.decode(model.backbone, levels)
        assert torch.equal(features, model.backbone(image))
        assert torch.equal(model(image), model.head(features.relu()))
    assert features.shape == (1, 6, *image.shape[2:])
    assert len(levels) == len(model.anatomy.encoder) == len(model.anatomy.decoder) + 1


def test_taps_of_the_u_net_are_the_authors() -> None:
    model = tiny(CNN)
    with torch.no_grad(), tapped(model.backbone, model.anatomy.taps) as maps:
        model(batch(EDGE, EDGE)[0])
    (group,) = model.anatomy.groups
    shapes = [tuple(part.shape[1:3]) for part in group.features(maps).encoder]
    assert shapes == [(6, 16), (8, 8), (8, 4), (10, 2)]
    assert [tuple(part.shape[1:3]) for part in group.features(maps).decoder] == [(8, 4), (8, 8), (6, 16)]
    assert maps[model.anatomy.teacher].shape == (2, 6, EDGE, EDGE)


def test_the_swin_u_net_has_the_authors_taps_and_size() -> None:
    with torch.device("meta"):
        network = SwinUNet(2, 3, 9)
        parts = anatomy(network)
        with tapped(network, parts.taps) as maps:
            network(torch.empty(1, 3, 224, 224))
    for group in parts.groups:
        features = group.features(maps)
        assert [tuple(part.shape[1:3]) for part in features.encoder] == [(96, 56), (192, 28), (384, 14), (768, 7)]
        assert [tuple(part.shape[1:3]) for part in features.decoder] == [(384, 14), (192, 28), (96, 56)]
    assert parts.groups[0].encoder[1] == "encoder.1.2"
    assert parts.groups[1].encoder[1] == "encoder.1.1"
    assert maps[parts.teacher].shape == (1, 96, 224, 224)
    assert network.size_multiple == 224
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(27.17e6, rel=1e-3)


def test_nobody_listens_after_a_failure() -> None:
    model = tiny()

    def fail() -> None:
        with tapped(model.backbone, model.anatomy.taps):
            assert hooks(model) == len(model.anatomy.taps)
            model(torch.zeros(1, 5, EDGE, EDGE))

    with pytest.raises(RuntimeError, match="channels"):
        fail()
    assert hooks(model) == 0


def test_taps_hear_half_precision() -> None:
    model = tiny()
    with torch.autocast("cpu", dtype=torch.bfloat16), tapped(model.backbone, model.anatomy.taps) as maps:
        logits = model(batch(EDGE, EDGE)[0])
    assert {part.dtype for part in maps.values()} == {torch.bfloat16}
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("samples", ["augmentation", "dropout"])
def test_inference_listens_to_nothing_and_runs_each_stage_as_often_as_needed(samples: str) -> None:
    model = tiny(samples=samples)
    image, target = batch(EDGE, EDGE)
    build_objective("selfreg", {})(model, image, target, 0, torch.Generator())
    assert hooks(model) == 0
    seen: list[str] = []
    for name in (*model.anatomy.encoder, *model.anatomy.decoder):
        model.backbone.get_submodule(name).register_forward_hook(lambda *_, name=name: seen.append(name))
    draws_of(model.eval(), image[:1], [0, 1, 2])
    encoded = 3 if samples == "augmentation" else 1  # three draws by dropout are one pass of the decoder
    assert seen.count("input_block") == seen.count("upsamples.0") == encoded


@pytest.mark.parametrize("samples", ["augmentation", "dropout"])
@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone["name"])
def test_a_sample_does_not_depend_on_how_many_are_drawn(
    backbone: dict[str, Any], samples: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(backbone, samples=samples).eval()
    image, _ = batch(EDGE, 2 * EDGE, count=1)
    together = draws_of(model, image, list(range(6)))
    assert together.shape == (6, 2, EDGE, 2 * EDGE)
    assert len({tuple(part.flatten().tolist()) for part in together}) == 6
    torch.testing.assert_close(draws_of(model, image, [4]), together[4:5], rtol=1e-5, atol=1e-5)
    monkeypatch.setattr("MedSegUncertaintyLib.models.selfreg.network.DRAW_BYTES", 1)
    torch.testing.assert_close(draws_of(model, image, list(range(6))), together, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("samples", ["augmentation", "dropout"])
@pytest.mark.parametrize("dims", [2, 3])
def test_noise_of_zero_is_the_plain_network(samples: str, dims: int) -> None:
    model = tiny(samples=samples, spatial_dims=dims).eval()
    image, _ = batch(*[16, 8, 8][:dims], count=1)
    with torch.no_grad():
        torch.testing.assert_close(draws_of(model, image, [0, 1], 0.0)[1:], model(image), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_mirrors_and_turns_are_taken_back(dims: int) -> None:
    """With a network that looks at single voxels, turns change nothing and intensities all that they should."""
    model = tiny(spatial_dims=dims)
    model.forward = lambda image: torch.cat([-image, image], dim=1)  # type: ignore[method-assign]
    image, _ = batch(*[4, 6, 8][:dims], count=1)
    choices = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * (dims + 1))
    noise = torch.cat([choices, torch.zeros(len(choices), 2)], dim=1)
    draws = model.draw({"image": image}, {"augmentation": noise})
    assert torch.equal(draws, torch.cat([-image, image], dim=1).expand_as(draws))
    changed = torch.tensor([[1.0] * (dims + 1) + [2.0, -1.5]])
    found = model.draw({"image": image}, {"augmentation": changed})[:, 1:]
    torch.testing.assert_close(found, image * torch.tensor(0.2).exp() - 0.15)


def test_all_eight_symmetries_of_a_square_are_shown() -> None:
    model = tiny()
    seen: list[torch.Tensor] = []

    def forward(image: torch.Tensor) -> torch.Tensor:
        seen.append(image)
        return image

    model.forward = forward  # type: ignore[method-assign]
    image = torch.arange(4.0).view(1, 1, 2, 2)
    noise = torch.cat([torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3), torch.zeros(8, 2)], dim=1)
    model.draw({"image": image}, {"augmentation": noise})
    assert len({tuple(part.flatten().tolist()) for part in seen}) == 8


def test_dropout_leaves_out_its_share_of_channels_and_keeps_the_mean() -> None:
    model = tiny(samples="dropout", dropout=0.3)
    maps = torch.ones(1, 20, 2, 2)
    fields = model.noise({"level 0": maps})

    def factors(scale: float) -> torch.Tensor:
        drawn = NoiseSource(3, scale).draw(fields, range(200), (slice(0, 2),) * 2, torch.device("cpu"))
        return model._thinned(maps, drawn["level 0"])

    found = factors(1.0)
    assert found.shape == (200, 20, 2, 2)
    assert torch.equal(found[..., :1, :1].expand_as(found), found)
    torch.testing.assert_close(found.mean(dim=1), torch.ones(200, 2, 2))
    assert (found == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)
    torch.testing.assert_close(found.mean(dim=0), torch.ones(20, 2, 2), rtol=0, atol=0.2)
    assert 0.0 < (factors(0.5) == 0).float().mean().item() < 0.2
    assert torch.equal(factors(0.0), torch.ones(200, 20, 2, 2))
    assert not model._thinned(torch.ones(1, 3, 2, 2), torch.full((1, 3), 9.0)).any()


def test_tiles_are_changed_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that looks at single voxels gives the same with and without tiles."""
    model = tiny().eval()
    model.forward = lambda image: torch.cat([-image, image], dim=1)  # type: ignore[method-assign]
    image = batch(48, 80)[0][0]

    def drawn() -> torch.Tensor:
        engine = Engine(model, choose_device("cpu"), True, CancelToken(), None)
        return torch.stack(list(engine.sample(image, 3, NoiseSource(5))))

    whole = drawn()
    monkeypatch.setattr("MedSegUncertaintyLib.inference.engine.CPU_TILE_EDGE", {2: 32, 3: 32})
    torch.testing.assert_close(drawn(), whole, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(whole[0], whole[1])


@pytest.mark.parametrize("samples", ["augmentation", "dropout"])
def test_the_engine_draws_the_same_sample_alone(samples: str) -> None:
    model = tiny(samples=samples).eval()
    image = batch(30, 45)[0][0]

    def drawn(count: int) -> torch.Tensor:
        engine = Engine(model, choose_device("cpu"), True, CancelToken(), None)
        return torch.stack(list(engine.sample(image, count, NoiseSource(5))))

    many = drawn(5)
    assert many.shape == (5, 2, 30, 45)
    torch.testing.assert_close(drawn(2), many[:2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("samples", ["augmentation", "dropout"])
def test_slices_share_a_hypothesis_along_the_correlation_length(samples: str) -> None:
    model = tiny(samples=samples).eval()
    walker = SliceWalker(model, 1e4)
    image = batch(16, 16, count=1)[0].unsqueeze(2).expand(1, 1, 3, 16, 16)
    with torch.no_grad():
        encoding = walker.encode(image)
        fields = walker.noise(encoding)
        assert {field.layout for field in fields.values()} == {"slices"}
        # A process with so long a memory is a constant.
        noise = {name: torch.randn(2, field.channels, 1).expand(2, -1, 3) for name, field in fields.items()}
        draws = walker.draw(encoding, noise)
    assert draws.shape == (2, 2, 3, 16, 16)
    torch.testing.assert_close(draws[:, :, 0], draws[:, :, 2], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(draws[0], draws[1])


def test_samples_are_labeled_as_what_they_are() -> None:
    labels = {"augmentation": "test-time augmentation", "dropout": "Monte-Carlo dropout"}
    for samples, label in labels.items():
        assert tiny(samples=samples).sample_kind == selfreg.sample_kind({"samples": samples}) == label


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone["name"])
def test_both_terms_decrease_and_reach_encoder_and_decoder(backbone: dict[str, Any]) -> None:
    model = tiny(backbone, dropout=0.0)
    image, target = batch(EDGE, EDGE)
    objective = build_objective("selfreg", {"weight": 1.0, "dice_weight": 0.5})
    terms = "semantic consistency", "feature distillation"
    for term in terms:
        model.zero_grad()
        objective(model, image, target, 0, torch.Generator().manual_seed(0))[term].backward()
        for stage in (*model.anatomy.encoder, *model.anatomy.decoder[:-1]):
            assert any(p.grad is not None and p.grad.any() for p in model.backbone.get_submodule(stage).parameters())
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    history = []
    for step in range(40):
        losses = objective(model, image, target, step, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        history.append([losses[name].item() for name in (*terms, "cross entropy")])
    before, after = (torch.tensor(part).mean(dim=0) for part in (history[:5], history[-5:]))
    assert (after < 0.9 * before).all(), (before, after)


def test_the_weight_rises_and_without_one_nothing_is_regularized() -> None:
    model = tiny()
    image, target = batch(EDGE, EDGE)

    def losses(step: int, **settings: Any) -> dict[str, float]:
        found = build_objective("selfreg", settings)(model, image, target, step, torch.Generator().manual_seed(0))
        return {name: value.item() for name, value in found.items()}

    plain, full = losses(0, weight=0.0), losses(0)
    assert set(plain) == {"cross entropy", "dice loss", "loss"}
    assert plain["loss"] == pytest.approx(0.4 * plain["cross entropy"] + 0.6 * plain["dice loss"], rel=1e-6)
    added = full["semantic consistency"] + full["feature distillation"]
    assert full["loss"] - plain["loss"] == pytest.approx(0.015 * added, rel=1e-3)
    for step, share in ((0, 0.25), (1, 0.5), (3, 1.0), (100, 1.0)):
        assert losses(step, warmup=3)["loss"] - plain["loss"] == pytest.approx(0.015 * share * added, rel=1e-2)


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone["name"])
@pytest.mark.parametrize("dims", [2, 3])
def test_all_weights_get_finite_gradients_in_half_precision(backbone: dict[str, Any], dims: int) -> None:
    model = tiny(backbone, spatial_dims=dims)
    image, target = batch(*[EDGE] * dims)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = build_objective("selfreg", {})(model, image, target, 0, torch.Generator().manual_seed(0))
    assert {value.dtype for value in losses.values()} == {torch.float32}
    losses["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_steps_follow_from_the_generator_and_copies_go_on() -> None:
    model = tiny()
    image, target = batch(EDGE, EDGE)
    objective = build_objective("selfreg", {})
    first, second, third = (
        objective(network, image, target, 0, torch.Generator().manual_seed(seed))["loss"].item()
        for network, seed in ((model, 0), (copy.deepcopy(model), 0), (model, 1))
    )
    assert first == second != third


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"samples": "ensemble"}, 'samples is "augmentation" or "dropout", not "ensemble"'),
        ({"samples": "dropout", "dropout": 0.0}, "above 0 where samples are made of it"),
        ({"dropout": 0.5}, "a share below 1/2"),
        ({"classes": 1}, "needs a background class"),
        ({"backbone": {"name": "DeepMedic", "widths": [4, 4]}}, 'taps of the backbone "DeepMedic" are not known'),
        ({"backbone": {**SWIN, "heads": [2]}}, "heads needs one entry per stage"),
    ],
)
def test_wrong_arguments_are_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PackageError, match=sentence):
        tiny(**changes)
