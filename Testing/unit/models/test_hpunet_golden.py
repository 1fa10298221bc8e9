"""Parity with the authors' code: networks, losses, gradients and the multiplier's trajectories of the goldens."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.models.hpunet.authors import MULTIPLIER, authors_variables, load_authors_variables
from MedSegUncertaintyLib.models.hpunet.latents import kl_divergence
from MedSegUncertaintyLib.models.hpunet.network import HPUNet, Ladder
from MedSegUncertaintyLib.models.hpunet.objective import Constraint, cross_entropy, gumbel_noise

ARGUMENTS: dict[str, dict[str, Any]] = {
    "small": {"classes": 3, "widths": [4, 6, 8, 8], "latents": [2, 1], "blocks": 2},
    "lidc_tiny": {"classes": 2, "widths": [6, 12] + [24] * 6, "latents": [1, 1, 1, 1], "blocks": 1},
}
CE_CASES = ["plain", "plain_mask", "topk_det", "topk_det_mask", "topk_gumbel", "topk_gumbel_mask", "topk_exceeds_mask"]
TOP_K = 0.1


class Golden:
    """One file, its network with the stored weights, and tensors with channels first."""

    def __init__(self, shared: Path, name: str) -> None:
        with np.load(shared / "goldens" / f"hpunet_network_{name}.npz") as file:
            self.arrays = {key: file[key] for key in file.files}
        self.model = HPUNet(spatial_dims=2, channels=1, **ARGUMENTS[name])
        self.variables = {key[4:]: value for key, value in self.arrays.items() if key.startswith("var/")}
        load_authors_variables(self.model, self.variables)
        self.image = self.maps("image")
        self.labels = torch.from_numpy(self.arrays["seg_labels"])
        self.scales = range(len(self.model.latents))

    def maps(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[key]).movedim(-1, 1)

    def noise(self) -> list[torch.Tensor]:
        """What the posterior's draws were made with."""
        return [(self.maps(f"q/z_{s}") - self.maps(f"q/mu_{s}")) / self.maps(f"q/sigma_{s}") for s in self.scales]

    def close(self, ours: torch.Tensor, key: str) -> None:
        torch.testing.assert_close(ours, self.maps(key), rtol=0, atol=1e-5, msg=lambda text: f"{key}: {text}")

    def compare(self, ladder: Ladder, group: str) -> None:
        for scale in self.scales:
            self.close(ladder.normals[scale].mean, f"{group}/mu_{scale}")
            self.close(ladder.normals[scale].log_scale.exp(), f"{group}/sigma_{scale}")
            self.close(ladder.latents[scale], f"{group}/z_{scale}")


@pytest.fixture(scope="module", params=list(ARGUMENTS))
def golden(shared: Path, request: pytest.FixtureRequest) -> Golden:
    return Golden(shared, request.param)


@pytest.fixture(scope="module")
def losses(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "goldens" / "hpunet_losses.npz") as file:
        return {key: file[key] for key in file.files}


def test_every_variable_of_the_checkpoint_has_its_place(golden: Golden) -> None:
    own = authors_variables(golden.model)
    unused = set(golden.variables) - set(own)
    assert set(own) <= set(golden.variables)
    assert MULTIPLIER in unused
    # Nothing depends on the others.
    assert all(not golden.arrays[f"grad/{name}"].any() for name in unused - {MULTIPLIER})
    assert all("/posterior/" in name for name in unused - {MULTIPLIER})


@torch.no_grad()
def test_ladders_and_outputs(golden: Golden) -> None:
    model = golden.model
    one_hot = torch.nn.functional.one_hot(golden.labels, model.classes).movedim(-1, 1).float()
    seen = model.posterior.encode(torch.cat([one_hot, golden.image], dim=1))
    features = model.prior.encode(golden.image)
    for group, levels in (("q", seen), ("p", features)):
        for level, maps in enumerate(levels):
            golden.close(maps, f"{group}/encoder_features_{level}")

    noise = golden.noise()
    q = model.posterior.descend(seen, lambda scale, normal: normal.at(noise[scale]))
    qm = model.posterior.descend(seen, lambda _, normal: normal.mean)
    prior = {
        "p": model.prior.descend(features, lambda scale, _: q.latents[scale]),
        "pm": model.prior.descend(features, lambda scale, _: qm.latents[scale]),
        "pmean": model.prior.descend(features, lambda _, normal: normal.mean),
        "pz": model.prior.descend(features, lambda scale, _: golden.maps(f"pz/z_{scale}")),
    }
    for group, ladder in {"q": q, "qm": qm, **prior}.items():
        golden.compare(ladder, group)
    for group, output in {"p": "rec", "pm": "recm", "pmean": "samp_mean", "pz": "samp_z"}.items():
        golden.close(prior[group].state, f"{group}/decoder_features")
        golden.close(model.finish(prior[group].state, features), f"out/{output}")
    golden.close(model(golden.image, golden.labels).logits, "out/recm")


@torch.no_grad()
def test_draws_are_those_of_the_prior(golden: Golden) -> None:
    """One image at a time, through encode and draw; noise zero is the mean."""
    for index in range(len(golden.image)):
        encoding = golden.model.encode(golden.image[index : index + 1])
        z = [golden.maps(f"pz/z_{s}")[index] for s in golden.scales]
        given = {
            f"scale {s}": ((z[s] - golden.maps(f"pz/mu_{s}")[index]) / golden.maps(f"pz/sigma_{s}")[index])
            for s in golden.scales
        }
        noise = {name: torch.stack([torch.zeros_like(part), part]) for name, part in given.items()}
        mean, drawn = golden.model.draw(encoding, noise)
        torch.testing.assert_close(mean, golden.maps("out/samp_mean")[index], rtol=0, atol=1e-5)
        torch.testing.assert_close(drawn, golden.maps("out/samp_z")[index], rtol=0, atol=1e-5)


def test_loss_and_gradients(golden: Golden) -> None:
    found = golden.model(golden.image, golden.labels, golden.noise())
    mask = torch.from_numpy(golden.arrays["mask"]) if "mask" in golden.arrays else None
    gumbel = torch.from_numpy(golden.arrays["gumbel"])
    per_pixel, pixels, _ = cross_entropy(found.logits, golden.labels, TOP_K, gumbel, mask)
    divergences = [kl_divergence(*pair) for pair in zip(found.posterior, found.prior, strict=True)]
    constraint = Constraint(kappa=0.05, decay=0.99)
    loss = constraint(per_pixel, pixels) + torch.stack(divergences).sum()

    def relative(ours: torch.Tensor, key: str) -> None:
        assert ours.item() == pytest.approx(float(golden.arrays[key]), rel=1e-5), key

    for scale, divergence in enumerate(divergences):
        relative(divergence, f"out/kl_{scale}")
    relative(loss, "out/loss")
    relative(per_pixel, "summary/rec_loss_mean")
    relative(per_pixel * pixels, "summary/rec_loss_sum")
    relative(pixels, "summary/num_valid_pixels")
    relative(constraint.multiplier(), "summary/lagmul")
    variables = [golden.variables[name] for name in golden.variables if name != MULTIPLIER]
    decay = 1e-5 * sum(float(np.square(values, dtype=np.float64).sum()) for values in variables)
    assert decay == pytest.approx(float(golden.arrays["out/reg"]), rel=1e-5)

    loss.backward()
    gradients = copy.deepcopy(golden.model)
    for parameter, source in zip(gradients.parameters(), golden.model.parameters(), strict=True):
        assert source.grad is not None
        parameter.data = source.grad
    for name, ours in authors_variables(gradients).items():
        expected = torch.from_numpy(golden.arrays[f"grad/{name}"])
        deviation = float((ours - expected).abs().max() / expected.abs().max())
        assert deviation <= 1e-4, f"{name}: {deviation:.1e}"
    # The authors' gradient of the multiplier's variable is a hundredth of ours.
    assert constraint.variable.grad is not None
    expected = float(golden.arrays[f"grad/{MULTIPLIER}"])
    assert 0.01 * constraint.variable.grad.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("case", CE_CASES)
def test_cross_entropy(losses: dict[str, np.ndarray], case: str) -> None:
    arrays = {key.split("/")[2]: value for key, value in losses.items() if key.startswith(f"ce/{case}/")}
    logits = torch.from_numpy(arrays["logits"]).movedim(-1, 1).requires_grad_()
    mask = torch.from_numpy(arrays["mask"]) if "mask" in arrays else None
    top_k = float(arrays["top_k_percentage"])
    gumbel = gumbel_noise(torch.from_numpy(arrays["uniform"]))
    torch.testing.assert_close(gumbel, torch.from_numpy(arrays["gumbel"]), rtol=1e-5, atol=1e-5)
    mean, pixels, selected = cross_entropy(
        logits,
        torch.from_numpy(arrays["labels"]),
        top_k if top_k > 0 else None,
        None if arrays["deterministic"] else gumbel,
        mask,
    )
    assert torch.equal(selected.flatten(1), torch.from_numpy(arrays["out_mask"]))
    assert mean.item() == pytest.approx(float(arrays["out_mean"]), rel=1e-5)
    assert (mean * pixels).item() == pytest.approx(float(arrays["out_sum"]), rel=1e-5)
    (mean * pixels).backward()
    assert logits.grad is not None
    expected = torch.from_numpy(arrays["grad_sum_wrt_logits"]).movedim(-1, 1)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ["adam_rate0.01", "adam_rate1", "sgd_rate0.01"])
def test_multiplier_follows_the_authors(losses: dict[str, np.ndarray], case: str) -> None:
    """The authors' toy problem: cross-entropy theta^2 + noise, divergence (theta - 3)^2, one pixel, 60 steps."""
    arrays = {key.split("/")[2]: value for key, value in losses.items() if key.startswith(f"geco/{case}/")}
    rate, factor, decay, kappa = arrays["settings"]
    theta = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    constraint = Constraint(float(kappa), float(decay)).double()
    constraint.variable.data.fill_(float(arrays["lagvar_init"]))
    kind = torch.optim.SGD if case.startswith("sgd") else torch.optim.Adam
    # Adam does not mind the factor on the gradient; for SGD it is one on the learning rate.
    own_rate = rate * factor if case.startswith("sgd") else rate
    optimizer = kind([{"params": [theta]}, {"params": [constraint.variable], "lr": own_rate}], lr=rate)
    for step, noise in enumerate(arrays["noise"]):
        reconstruction = theta.square() + float(noise)
        divergence = (theta - 3.0).square()
        weighted = constraint(reconstruction, torch.tensor(1.0))
        loss = weighted + divergence
        optimizer.zero_grad()
        loss.backward()
        assert theta.grad is not None
        assert constraint.variable.grad is not None
        multiplier = constraint.multiplier()
        found = {
            "rec": reconstruction,
            "ma": constraint.average,
            "constraint": constraint.average - float(kappa),
            "lambda": multiplier,
            "kl": divergence,
            "loss": loss,
            "grad_theta": theta.grad,
            "grad_lagrange_multiplier": constraint.variable.grad * factor,
        }
        found = {name: torch.as_tensor(value).item() for name, value in found.items()}
        optimizer.step()
        found |= {"theta_after": theta.item(), "lagvar_after": constraint.variable.item()}
        for name, value in found.items():
            assert value == pytest.approx(arrays[name][step], rel=1e-5, abs=1e-5), (name, step)
