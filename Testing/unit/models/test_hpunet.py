"""Hierarchical Probabilistic U-Net on data made here: shapes, the multiplier, precision, 3D, the authors' names."""

from typing import Any

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.errors import PackageError
from MedSegUncertaintyLib.models.hpunet.authors import authors_variables, load_authors_variables
from MedSegUncertaintyLib.models.hpunet.latents import Normal, kl_divergence
from MedSegUncertaintyLib.models.hpunet.network import HPUNet
from MedSegUncertaintyLib.models.hpunet.objective import Constraint, HPUNetObjective, cross_entropy
from MedSegUncertaintyLib.models.registry import build, build_objective

TINY: dict[str, Any] = {
    "spatial_dims": 2,
    "channels": 1,
    "classes": 2,
    "widths": [4, 6, 8, 8],
    "latents": [1, 2],
    "blocks": 1,
    "convolutions": 2,
}
FLAT = {**TINY, "spatial_dims": 3, "poolings": [[1, 2, 2], [1, 2, 2], 2]}


def tiny(**changes: Any) -> HPUNet:
    torch.manual_seed(0)
    model = build("hpunet", {**TINY, **changes})
    assert isinstance(model, HPUNet)
    return model


def noise_of(model: HPUNet, draws: int, spatial: tuple[int, ...], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = model.latent_shapes(spatial)
    return {f"scale {s}": torch.randn(draws, *shape, generator=generator) for s, shape in enumerate(shapes)}


def batch(*spatial: int) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.randn(2, 1, *spatial, generator=torch.Generator().manual_seed(1))
    return image, (image[:, 0] > 0.5).long()


def losses_of(model: HPUNet, objective: HPUNetObjective, image: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
    return objective(model, image, target, 0, torch.Generator().manual_seed(2))


def test_the_paper_s_configuration_has_the_paper_s_number_of_parameters() -> None:
    with torch.device("meta"):
        model = HPUNet(2, 1, 2, [24, 48, 96] + [192] * 5)
    counts = {
        "prior": sum(p.numel() for p in model.prior.parameters()),
        "posterior": sum(p.numel() for p in model.posterior.parameters()),
        "decoder": sum(p.numel() for part in (model.decoder, model.head) for p in part.parameters()),
    }
    assert counts == {"prior": 10_692_800, "posterior": 9_400_136, "decoder": 491_366}
    assert model.size_multiple == 128
    assert model.latent_shapes((128, 128)) == [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8)]


def test_weights_begin_orthogonal_and_biases_small() -> None:
    model = tiny()
    weight = model.prior.levels[3][0].convolutions[0].weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, torch.eye(4), rtol=0, atol=1e-5)
    biases = torch.cat([p.detach() for name, p in model.named_parameters() if name.endswith("bias")])
    assert float(biases.abs().max()) <= 2e-3
    assert 5e-4 < float(biases.std()) < 1.1e-3


@pytest.mark.parametrize("arguments", [TINY, FLAT])
def test_scales_lie_on_their_grids(arguments: dict[str, Any]) -> None:
    model = tiny(**arguments)
    spatial = (16, 24) if model.spatial_dims == 2 else (4, 16, 24)
    assert model.size_multiple == 8
    expected = [(1, 2, 3), (2, 4, 6)] if model.spatial_dims == 2 else [(1, 2, 2, 3), (2, 4, 4, 6)]
    assert model.latent_shapes(spatial) == expected
    image, target = batch(*spatial)
    found = model(image, target)
    assert found.logits.shape == (2, 2, *spatial)
    for shape, prior, posterior in zip(expected, found.prior, found.posterior, strict=True):
        assert prior.mean.shape == posterior.log_scale.shape == (2, *shape)


def test_divergence_is_that_of_torch_and_never_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (Normal(*torch.randn(2, 3, 2, 4, 5, generator=generator)) for _ in range(2))
    reference = torch.distributions.kl_divergence(
        *(torch.distributions.Normal(part.mean, part.log_scale.exp()) for part in (first, second))
    )
    found = kl_divergence(first, second)
    assert found.item() == pytest.approx(reference.sum().item() / 3, rel=1e-5)
    assert found > 0
    assert kl_divergence(first, first) == 0


def test_the_mean_is_deterministic_and_draws_do_not_depend_on_their_number() -> None:
    model = tiny().eval()
    image, _ = batch(16, 24)
    with torch.no_grad():
        encoding = model.encode(image[:1])
        assert set(model.noise(encoding)) == {"scale 0", "scale 1"}
        noise = noise_of(model, 5, (16, 24))
        draws = model.draw(encoding, noise)
        alone = model.draw(encoding, {name: part[3:4] for name, part in noise.items()})
        means = model.draw(encoding, noise, scales=torch.zeros(2))
        zero = model.draw(encoding, {name: torch.zeros_like(part) for name, part in noise.items()})
    assert draws.shape == (5, 2, 16, 24)
    torch.testing.assert_close(draws[3:4], alone, rtol=1e-5, atol=1e-6)
    assert torch.equal(means, zero)
    assert torch.equal(means[0], means[4])
    assert not torch.equal(draws[0], draws[1])


def test_a_scale_has_a_temperature_of_its_own() -> None:
    model = tiny().eval()
    image, _ = batch(16, 24)
    noise = noise_of(model, 3, (16, 24))
    with torch.no_grad():
        encoding = model.encode(image[:1])
        warm = model.draw(encoding, noise, scales=torch.tensor([0.0, 1.5]))
        expected = {"scale 0": torch.zeros_like(noise["scale 0"]), "scale 1": 1.5 * noise["scale 1"]}
        torch.testing.assert_close(warm, model.draw(encoding, expected), rtol=0, atol=0)


def test_what_draws_have_in_common_is_decoded_once() -> None:
    """The stage after a frozen scale sees one state, however many draws there are."""
    model = tiny().eval()
    image, _ = batch(16, 24)
    seen: list[int] = []
    for stage in (*model.prior.stages, *model.decoder):
        stage.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    noise = noise_of(model, 4, (16, 24))
    with torch.no_grad():
        encoding = model.encode(image[:1])
        free = model.draw(encoding, noise)
        frozen = model.draw(encoding, {**noise, "scale 0": noise["scale 0"][2:3].expand(4, -1, -1, -1)})
    assert seen == [4, 4, 4, 1, 4, 4]
    torch.testing.assert_close(frozen[2], free[2], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(frozen[1], free[1], rtol=1e-3, atol=1e-3)


def test_the_multiplier_begins_at_one_and_climbs_while_the_constraint_is_violated() -> None:
    constraint = Constraint(kappa=0.05, decay=0.9)
    assert constraint.variable.item() == pytest.approx(0.541325, abs=1e-6)
    assert constraint.multiplier().item() == pytest.approx(1.0, abs=1e-6)
    first = torch.tensor(0.5, requires_grad=True)
    weighted = constraint(first, torch.tensor(10.0))
    assert weighted.item() == pytest.approx(10 * 0.45, rel=1e-6)
    weighted.backward()
    assert first.grad is not None
    assert first.grad.item() == pytest.approx(10.0, rel=1e-6)
    assert constraint.variable.grad is not None
    assert constraint.variable.grad < 0  # a descent climbs
    constraint(torch.tensor(1.0), torch.tensor(10.0))
    assert constraint.average.item() == pytest.approx(0.9 * 0.5 + 0.1 * 1.0, rel=1e-6)


def test_a_deep_log_scale_is_bounded_on_request_only() -> None:
    image, target = batch(16, 16)
    for limit, expected in ((None, 30.0), (4.0, 4.0)):
        model = tiny(log_scale_limit=limit)
        for head in model.prior.heads:
            head.convolution.weight.data.zero_()
            head.convolution.bias.data.fill_(30.0)
        assert float(model(image, target).prior[0].log_scale.detach().max()) == expected


@pytest.mark.parametrize("arguments", [TINY, FLAT])
@pytest.mark.parametrize("kind", ["geco", "elbo"])
def test_all_weights_get_finite_gradients_in_half_precision(arguments: dict[str, Any], kind: str) -> None:
    model = tiny(**arguments)
    image, target = batch(*((16, 16) if model.spatial_dims == 2 else (4, 16, 16)))
    objective = HPUNetObjective(kind=kind, top_k=0.1)
    full = losses_of(model, objective, image, target)
    objective = HPUNetObjective(kind=kind, top_k=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = losses_of(model, objective, image, target)
    assert half["loss"].dtype == half["kl"].dtype == torch.float32
    assert half["kl"].item() == pytest.approx(full["kl"].item(), rel=0.1)
    half["loss"].backward()
    for name, parameter in (*model.named_parameters(), *objective.named_parameters()):
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert any(p.grad.any() for p in model.posterior.stages.parameters())


def test_losses_add_up() -> None:
    model = tiny()
    image, target = batch(16, 16)
    elbo = losses_of(model, HPUNetObjective(kind="elbo", top_k=None, beta=0.5), image, target)
    assert elbo["kl"].item() == pytest.approx(elbo["kl scale 0"].item() + elbo["kl scale 1"].item(), rel=1e-6)
    assert elbo["loss"].item() == pytest.approx((256 * elbo["cross entropy"] + 0.5 * elbo["kl"]).item(), rel=1e-5)
    geco = losses_of(model, HPUNetObjective(kappa=0.1, top_k=None), image, target)
    expected = 256 * (geco["cross entropy"] - 0.1) + geco["kl"]
    assert geco["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert geco["multiplier"].item() == pytest.approx(1.0, abs=1e-6)
    assert geco["mean cross entropy"].item() == geco["cross entropy"].item()


def test_the_hardest_pixels_are_drawn_from_the_whole_batch() -> None:
    logits = torch.zeros(2, 2, 4, 4)
    logits[0, 0] = 5.0  # the first image is easy for label 0
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    mean, pixels, selected = cross_entropy(logits, labels, top_k=0.25)
    assert selected.flatten(1).sum(dim=1).tolist() == [0.0, 8.0]
    assert mean.item() == pytest.approx(np.log(2), rel=1e-6)
    assert pixels.item() == 4.0


def test_a_checkpoint_of_the_authors_is_loaded_whole_or_not_at_all() -> None:
    source, model = tiny(), tiny()
    variables = {name: values.numpy().copy() + 1.0 for name, values in authors_variables(source).items()}
    assert variables["HPUNet/prior/conv_2d/w"].shape == (3, 3, 1, 2)
    before = {name: values.clone() for name, values in model.state_dict().items()}
    name = "HPUNet/posterior/conv_2d_3/b"
    for wrong, sentence in (
        ({key: values for key, values in variables.items() if key != name}, f"{name} is missing"),
        ({**variables, "HPUNet/prior/conv_2d_99/w": variables[name]}, "conv_2d_99/w is unexpected"),
        ({**variables, name: np.zeros(7, np.float32)}, r"conv_2d_3/b has shape \[7\] instead of \[4\]"),
    ):
        with pytest.raises(PackageError, match=sentence):
            load_authors_variables(model, wrong)
    assert all(torch.equal(values, before[key]) for key, values in model.state_dict().items())
    load_authors_variables(model, variables)
    for key, values in source.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], values + 1.0, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"classes": 1}, "needs a background class"),
        ({"latents": [1, 1, 1, 1]}, "4 levels have room for 1 to 3 scales of latents, not 4"),
        ({"poolings": [2, 2]}, "poolings needs 3 entries for 4 levels"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PackageError, match=sentence):
        tiny(**arguments)


def test_wrong_settings_are_one_sentence() -> None:
    with pytest.raises(PackageError, match='kind is "geco" or "elbo", not "vae"'):
        build_objective("hpunet", {"kind": "vae"})


def test_draws_made_in_steps_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny().eval()
    image, _ = batch(16, 24)
    noise = noise_of(model, 5, (16, 24))
    with torch.no_grad():
        encoding = model.encode(image[:1])
        together = model.draw(encoding, noise)
        monkeypatch.setattr("MedSegUncertaintyLib.models.hpunet.network.DRAW_BYTES", 2 * 4 * 10 * 16 * 24)
        seen: list[int] = []
        model.head.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
        torch.testing.assert_close(model.draw(encoding, noise), together, rtol=1e-5, atol=1e-6)
    assert seen == [2, 2, 1]


def test_masks_are_found_again_one_by_one_as_in_a_batch() -> None:
    model = tiny().eval()
    image, target = batch(16, 24)
    labels = torch.stack([target[0], 1 - target[0], torch.zeros_like(target[0])])
    noise = noise_of(model, 3, (16, 24))
    with torch.no_grad():
        found = model.reconstruct(model.encode(image[:1]), image[:1], labels, noise)
        means = model(image[:1].expand(3, -1, -1, -1), labels)
        drawn = model(image[:1].expand(3, -1, -1, -1), labels, list(noise.values()))
    torch.testing.assert_close(found.logits, means.logits, rtol=1e-5, atol=1e-6)
    assert found.divergences.shape == (3, 2)
    for scale, pair in enumerate(zip(drawn.posterior, drawn.prior, strict=True)):
        expected = kl_divergence(*pair).item()
        assert found.divergences[:, scale].mean().item() == pytest.approx(expected, rel=1e-4)
    assert (found.divergences > 0).all()
