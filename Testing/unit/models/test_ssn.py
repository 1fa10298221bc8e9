"""Stochastic Segmentation Networks on data made here: the toy problem, masking, temperature, autocast, backbones."""

import math

import pytest
import torch
from MedSegUncertaintyLib.errors import PackageError
from MedSegUncertaintyLib.models.registry import build
from MedSegUncertaintyLib.models.ssn.distribution import DIAGONAL_EPS, LowRankNormal
from MedSegUncertaintyLib.models.ssn.loss import ssn_loss

TINY = {
    "backbone": {"name": "BasicUNet", "widths": [4, 4, 8, 8, 8], "norm": "batch"},
    "spatial_dims": 3,
    "channels": 1,
    "features": 4,
    "classes": 3,
    "rank": 5,
}


def distribution(batch: int = 2, rank: int = 3, classes: int = 2, size: int = 6) -> LowRankNormal:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, classes, size, size)
    return LowRankNormal.from_log_diagonal(
        torch.randn(shape, generator=generator),
        torch.randn((batch, rank, *shape[1:]), generator=generator),
        torch.randn(shape, generator=generator),
    )


def toy_log_likelihood(rank: int) -> float:
    """The authors' toy problem: 21 pixels, two equally likely label maps that differ in the middle seven."""
    generator = torch.Generator().manual_seed(0)
    target = torch.zeros(2, 21, dtype=torch.long)
    target[:, 14:] = 1
    target[1, 7:14] = 1
    mean, log_diagonal = torch.zeros(1, 2, 21, requires_grad=True), torch.zeros(1, 2, 21, requires_grad=True)
    factor = (0.1 * torch.randn(1, rank, 2, 21, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([mean, log_diagonal, factor], lr=0.03)

    def loss(draws: int) -> torch.Tensor:
        both = LowRankNormal.from_log_diagonal(
            *(part.expand(2, *part.shape[1:]) for part in (mean, factor, log_diagonal))
        )
        w = torch.randn(draws, 2, rank, generator=generator)
        e = torch.randn(draws, 2, 2, 21, generator=generator)
        return ssn_loss(both, target, w, e)

    for _ in range(1500):
        optimizer.zero_grad()
        loss(10).backward()
        optimizer.step()
    with torch.no_grad():
        return -float(loss(5000))


def test_toy_problem_needs_correlation() -> None:
    """Optimum -log 2 = -0.693 with correlation, -7 log 2 = -4.852 without."""
    correlated = toy_log_likelihood(rank=10)
    independent = toy_log_likelihood(rank=0)
    assert -1.1 < correlated <= -math.log(2) + 0.02
    assert independent == pytest.approx(-7 * math.log(2), abs=0.1)


def test_density_matches_torch() -> None:
    """Entropy and log density against torch's own distribution, which factorizes."""
    ours = distribution(batch=1)
    factor = ours.factor.double().flatten(2).transpose(1, 2)
    reference = torch.distributions.LowRankMultivariateNormal(
        ours.mean.double().flatten(1), factor, ours.diagonal.double().flatten(1)
    )
    logits = ours.mean + 0.7
    torch.testing.assert_close(ours.entropy(), reference.entropy(), rtol=1e-9, atol=0)
    torch.testing.assert_close(ours.log_prob(logits), reference.log_prob(logits.double().flatten(1)), rtol=1e-9, atol=0)


def test_region_mask_keeps_the_mean_and_drops_covariance_outside() -> None:
    full = distribution()
    mask = torch.zeros(2, 6, 6)
    mask[:, 2:4, 2:4] = 1
    masked = full.masked(mask)
    outside = mask[0] == 0
    torch.testing.assert_close(masked.mean, full.mean, rtol=0, atol=0)
    assert (masked.factor[:, :, :, outside] == 0).all()
    assert (masked.diagonal[:, :, outside] == DIAGONAL_EPS).all()
    torch.testing.assert_close(
        masked.diagonal[:, :, ~outside], full.diagonal[:, :, ~outside] + DIAGONAL_EPS, rtol=0, atol=0
    )


def test_plain_and_antithetic_draws_estimate_the_same_likelihood() -> None:
    generator = torch.Generator().manual_seed(2)
    one = distribution(batch=1, size=2)
    target = torch.tensor([[[0, 1], [1, 0]]])
    w, e = torch.randn(200_000, 1, 3, generator=generator), torch.randn(200_000, 1, 2, 2, 2, generator=generator)
    plain = ssn_loss(one, target, w, e, antithetic=False)
    antithetic = ssn_loss(one, target, w[:100_000], e[:100_000])
    assert float(plain) == pytest.approx(float(antithetic), rel=0.01)


def test_loss_runs_in_float32_under_autocast() -> None:
    one = distribution(batch=1)
    target = torch.zeros(1, 6, 6, dtype=torch.long)
    w, e = torch.randn(4, 1, 3), torch.randn(4, 1, 2, 6, 6)
    reference = ssn_loss(one, target, w, e)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ssn_loss(one, target, w, e)
        low = ssn_loss(LowRankNormal(*(part.bfloat16() for part in (one.mean, one.factor, one.diagonal))), target, w, e)
    assert inside.dtype == low.dtype == torch.float32
    assert float(inside) == float(reference)
    assert float(low) == pytest.approx(float(reference), rel=0.02)


@pytest.mark.parametrize(
    ("backbone", "dims"),
    [
        ({"name": "BasicUNet", "widths": [4, 4, 8, 8, 8]}, 2),
        ({"name": "BasicUNet", "widths": [4, 4, 8, 8, 8]}, 3),
        ({"name": "UNet", "widths": [4, 8, 8], "num_res_units": 1}, 2),
        ({"name": "DynUNet", "widths": [4, 8, 8]}, 3),
        ({"name": "DeepMedic", "widths": [4, 4], "joint": [4]}, 2),
        ({"name": "DeepMedic", "widths": [4, 4], "joint": [4]}, 3),
    ],
)
def test_heads_fit_any_backbone_and_draws_match_the_distribution(backbone: dict, dims: int) -> None:
    torch.manual_seed(0)
    model = build("ssn", {**TINY, "backbone": backbone, "spatial_dims": dims}).eval()
    size = (2 * model.size_multiple,) * dims
    with torch.no_grad():
        image = torch.randn(1, 1, *size)
        encoding = model.encode(image)
        fields = model.noise(encoding)
        noise = {"w": torch.randn(2, fields["w"].channels), "e": torch.randn(2, fields["e"].channels, *size)}
        expected = model(image).sample(noise["w"].unsqueeze(1), noise["e"].unsqueeze(1)).squeeze(1)
        draws = model.draw(encoding, noise)
        mean = model.draw(encoding, {name: torch.zeros_like(part) for name, part in noise.items()})
    assert draws.shape == (2, 3, *size)
    torch.testing.assert_close(draws, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mean, encoding["mean"].expand_as(mean), rtol=0, atol=0)


def test_unknown_backbone_is_one_sentence() -> None:
    with pytest.raises(
        PackageError, match=r"There is no backbone 'Nope'; known are BasicUNet, DeepMedic, DynUNet, SwinUNet, UNet\."
    ):
        build("ssn", {**TINY, "backbone": {"name": "Nope"}})
