"""Bernoulli diffusion on cases that can be counted: Bayes' rule, where chains end, what a loss is at its best."""

import math
from itertools import product

import pytest
import torch
from MedSegUncertaintyLib.models.hidiff.diffusion import BernoulliDiffusion, Schedule, focal_loss, kl_divergence
from torch import Tensor


def field(value: float, count: int = 1) -> Tensor:
    return torch.full((count, 1, 1, 1), value, dtype=torch.float64)


def test_the_posterior_is_bayes_rule() -> None:
    """Enumerated: the step and the steps before it as transition matrices."""
    diffusion = BernoulliDiffusion(Schedule.of("cosine2", 10))
    for t, prior, mask, state in product(range(1, 10), (0.1, 0.5, 0.83), (0, 1), (0, 1)):
        beta, kept = diffusion.schedule.betas[t].item(), diffusion.schedule.kept[t - 1].item()
        before = kept * mask + (1 - kept) * prior  # of a 1 at t - 1
        stays = [(1 - beta) * value + beta * prior for value in (0, 1)]  # of a 1 at t, given the value before
        likelihood = [p if state else 1 - p for p in stays]
        expected = likelihood[1] * before / (likelihood[1] * before + likelihood[0] * (1 - before))
        found = diffusion.posterior(field(state), field(mask), field(prior), torch.tensor([t]))
        assert found.item() == pytest.approx(expected, abs=1e-12)


def test_a_certain_prior_that_the_state_contradicts_has_a_finite_posterior() -> None:
    diffusion = BernoulliDiffusion(Schedule.of("cosine2", 10))
    for prior, state in ((0.0, 1.0), (1.0, 0.0)):
        found = diffusion.posterior(field(state), field(prior), field(prior), torch.tensor([5]))
        assert 0.0 <= found.item() <= 1.0


@pytest.mark.parametrize("kind", ["ancestral", "ddim"])
@pytest.mark.parametrize("predicts", ["noise", "mask"])
def test_a_network_that_knows_the_mask_ends_at_it(kind: str, predicts: str) -> None:
    diffusion = BernoulliDiffusion(Schedule.of("cosine2", 10), predicts)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(2, 3, 8, 8, generator=generator) < 0.4).float()
    prior = torch.full_like(mask, 0.3)

    def predict(state: Tensor, t: int) -> Tensor:
        return (state - mask).abs() if predicts == "noise" else mask

    steps = list(diffusion.chain(predict, prior, lambda draw: torch.rand(2, 3, 8, 8, generator=generator), kind))  # type: ignore[arg-type]
    assert torch.equal(steps[-1].state, mask)
    # On the way a chain has the share of ones that the forward process has there.
    counted = torch.stack([step.state for step in steps[:-1]]).mean(dim=(1, 2, 3, 4))
    kept = diffusion.schedule.kept[:-1].flip(0).float()
    torch.testing.assert_close(counted, kept * mask.mean() + (1 - kept) * 0.3, rtol=0, atol=0.08)


def test_odds_without_a_network_are_those_of_bayes_rule() -> None:
    diffusion = BernoulliDiffusion(Schedule.of("cosine2", 10), "correction")
    for t, prior, state in ((0, 0.3, 1.0), (4, 0.3, 0.0), (4, 0.9, 1.0), (9, 0.2, 1.0)):
        left = float(diffusion.schedule.kept[t])
        likelihoods = [left * value + (1 - left) * prior for value in (0.0, 1.0)]  # of y_t = 1
        seen = [p if state else 1 - p for p in likelihoods]
        expected = prior * seen[1] / (prior * seen[1] + (1 - prior) * seen[0])
        mask, _ = diffusion.calibrate(field(state), field(0.5), field(prior), torch.tensor([t]))
        assert mask.item() == pytest.approx(expected, abs=1e-6)


def test_a_network_that_corrects_nothing_almost_leaves_the_prior_as_it_is() -> None:
    diffusion = BernoulliDiffusion(Schedule.of("cosine2", 10), "correction")
    generator = torch.Generator().manual_seed(0)
    prior = torch.rand(1, 1, 8, 8, generator=generator).expand(4000, -1, -1, -1)
    nothing = torch.full_like(prior, 0.5)
    quiet = list(diffusion.chain(lambda state, t: nothing, prior, lambda draw: nothing))
    assert torch.equal(quiet[-1].state > 0.5, prior > 0.5)
    drawn = diffusion.chain(lambda state, t: nothing, prior, lambda draw: torch.rand(prior.shape, generator=generator))
    means = list(drawn)[-1].state.mean(dim=0)
    # Not closer: a posterior of a probability is not the mean of the posteriors of both masks.
    torch.testing.assert_close(means, prior[0], rtol=0, atol=0.08)


def test_few_steps_end_with_the_last_and_forget_as_much() -> None:
    schedule = Schedule.of("cosine2", 10)
    for count in range(1, 11):
        few = schedule.trailing(count)
        assert len(few.steps) == count
        assert few.steps[-1] == 9
        torch.testing.assert_close(few.kept, schedule.kept[few.steps], rtol=1e-10, atol=0)
    assert schedule.trailing(5).steps.tolist() == [1, 3, 5, 7, 9]
    with pytest.raises(ValueError, match="there are 1 to 10 steps, not 11"):
        schedule.trailing(11)


def test_published_schedule() -> None:
    expected = [0.9721, 0.8987, 0.7869, 0.6475, 0.4938, 0.3408, 0.2031, 0.0941, 0.0241, 2e-5]
    assert Schedule.of("cosine2", 10).kept.tolist() == pytest.approx(expected, abs=6e-5)
    with pytest.raises(ValueError, match='"linear" is no schedule'):
        Schedule.of("linear", 10)  # type: ignore[arg-type]


@pytest.mark.parametrize("predicts", ["noise", "mask"])
def test_the_loss_is_zero_for_a_network_that_knows_the_mask(predicts: str) -> None:
    diffusion = BernoulliDiffusion(Schedule.of("cosine2", 10), predicts)  # type: ignore[arg-type]
    generator, t = torch.Generator().manual_seed(0), torch.arange(10)
    mask = (torch.rand(10, 1, 6, 6, generator=generator) < 0.5).float()
    prior = torch.rand(10, 1, 6, 6, generator=generator)
    state = (torch.rand(10, 1, 6, 6, generator=generator) < diffusion.mean(mask, prior, t)).float()
    truth = (state - mask).abs() if predicts == "noise" else mask
    best = diffusion.losses(mask, state, truth, prior, t)
    worst = diffusion.losses(mask, state, 1.0 - truth, prior, t)
    torch.testing.assert_close(best.bound, torch.zeros(10), rtol=0, atol=2e-6)
    torch.testing.assert_close(best.focal, torch.zeros(10), rtol=0, atol=1e-6)
    assert (worst.bound[:8] > 0.1).all()
    assert (worst.focal > 10.0).all()


def test_single_terms() -> None:
    half, quarter = torch.tensor(0.5), torch.tensor(0.25)
    assert kl_divergence(half, quarter).item() == pytest.approx(
        0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75), abs=1e-6
    )
    assert kl_divergence(torch.tensor(1.0), torch.tensor(0.0)).item() == pytest.approx(math.log(1e7), rel=1e-3)
    focal = focal_loss(torch.full((1, 1), 0.8), torch.ones(1, 1))
    assert focal.item() == pytest.approx(0.2**2 * -math.log(0.8), rel=1e-5)


def test_predictions_of_half_precision_are_judged_in_full() -> None:
    diffusion = BernoulliDiffusion(Schedule.of("cosine2", 10))
    mask = torch.ones(1, 1, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = diffusion.losses(mask, mask, torch.full_like(mask, 0.25).bfloat16(), mask / 2, torch.tensor([3]))
    assert losses.bound.dtype == losses.focal.dtype == torch.float32
