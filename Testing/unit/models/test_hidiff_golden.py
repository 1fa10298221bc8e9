"""Parity of HiDiff with numbers that the authors' own code computed: schedules, kernels, losses, chains."""

from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.models.hidiff.diffusion import (
    BernoulliDiffusion,
    Kind,
    Schedule,
    focal_loss,
    kl_divergence,
    log_likelihood,
)
from torch import Tensor

COSINES: tuple[Kind, ...] = ("cosine", "cosine2")


def load(shared: Path, name: str) -> dict[str, Tensor]:
    with np.load(shared / "goldens" / f"hidiff_{name}.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def close(ours: Tensor, theirs: Tensor, limit: float, name: str = "") -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=limit, msg=lambda text: f"{name}: {text}")


@pytest.mark.parametrize("kind", ["cosine", "cosine2", "alpha_bar_linear"])
def test_schedules(shared: Path, kind: Kind) -> None:
    golden, schedule = load(shared, "schedules"), Schedule.of(kind, 10)
    close(schedule.betas, golden[f"{kind}_betas"], 1e-12)
    close(1.0 - schedule.betas, golden[f"{kind}_alphas"], 1e-12)
    close(schedule.kept, golden[f"{kind}_alphas_cumprod"], 1e-12)


@pytest.mark.parametrize(
    ("name", "steps", "chosen"),
    [
        ("spaced_ddimuni5_{}", 10, "spaced_ddimuni5_timestep_map"),
        ("spaced_ddimuni2_{}", 10, "spaced_ddimuni2_timestep_map"),
        ("T1000_cosine2_ddimuni10_{}", 1000, "T1000_cosine2_ddimuni10_map"),
    ],
)
def test_skipped_steps(shared: Path, name: str, steps: int, chosen: str) -> None:
    golden = load(shared, "schedules")
    schedule = Schedule.of("cosine2", steps).at(golden[chosen].tolist())
    close(schedule.betas, golden[name.format("betas")], 1e-12)
    close(schedule.kept, golden[name.format("alphas_cumprod")], 1e-12)
    assert torch.equal(schedule.steps, golden[chosen])


@pytest.mark.parametrize("kind", COSINES)
def test_kernels(shared: Path, kind: Kind) -> None:
    golden, diffusion = load(shared, "kernels"), BernoulliDiffusion(Schedule.of(kind, 10))
    mask, soft, state, prior, t = (golden[key] for key in ("y0", "y0_soft", "yt", "p", "t"))
    close(diffusion.mean(mask, prior, t), golden[f"{kind}_q_mean"], 1e-5)
    # Their posterior reads beyond the schedule at step 0, where it is not used.
    close(diffusion.posterior(state, mask, prior, t)[1:], golden[f"{kind}_q_posterior_hard"][1:], 1e-5)
    close(diffusion.posterior(state, soft, prior, t)[1:], golden[f"{kind}_q_posterior_soft"][1:], 1e-5)
    predicted, before = diffusion.calibrate(state, golden["eps_hat"], prior, t)
    close(predicted, golden["FC_pred_y0"], 1e-5)
    close(before, golden[f"{kind}_FC_mean"], 1e-5)
    close(diffusion.interpolate(state, predicted, t), golden[f"{kind}_ddim_mean"], 1e-5)


def test_single_terms_of_the_loss(shared: Path) -> None:
    golden = load(shared, "losses")
    close(kl_divergence(golden["kl_q"], golden["kl_p"]), golden["kl"], 1e-5)
    close(log_likelihood(golden["ll_x"], golden["kl_p"]), golden["ll"], 1e-5)
    close(focal_loss(golden["kl_p"], golden["ll_x"]), golden["focal"], 1e-5)
    close(focal_loss(golden["kl_p"], golden["kl_q"]), golden["focal_soft"], 1e-5)


@pytest.mark.parametrize("kind", COSINES)
def test_the_whole_loss_and_its_gradient(shared: Path, kind: Kind) -> None:
    golden, diffusion = load(shared, "losses"), BernoulliDiffusion(Schedule.of(kind, 10))
    mask, prior, t = golden["mix_y0"], golden["mix_p"], torch.arange(10)
    state = (golden["mix_u"] < diffusion.mean(mask, prior, t)).float()
    assert torch.equal(state, golden[f"mix_{kind}_yt"])
    logits = golden["mix_logits"].requires_grad_()
    losses = diffusion.losses(mask, state, logits.sigmoid(), prior, t)
    close(losses.bound, golden[f"mix_{kind}_vb"], 1e-5)
    close(losses.focal, golden[f"mix_{kind}_focal"], 1e-5)
    close(losses.bound + losses.focal, golden[f"mix_{kind}_loss"], 1e-5)
    (losses.bound + losses.focal).mean().backward()
    assert logits.grad is not None
    close(logits.grad, golden[f"mix_{kind}_dloss_dlogits"], 1e-8)


@pytest.mark.parametrize("kind", COSINES)
@pytest.mark.parametrize(("chain", "key"), [("ancestral", "p"), ("ddim", "ddim")])
def test_chains(shared: Path, kind: Kind, chain: str, key: str) -> None:
    golden, diffusion = load(shared, "sampling"), BernoulliDiffusion(Schedule.of(kind, 10))
    prior, mixing = golden["p"], golden["A"]

    def predict(state: Tensor, t: int) -> Tensor:
        return (torch.einsum("kc,bchw->bkhw", mixing, state - prior) + 0.2 * t - 1.5).sigmoid()

    steps = list(diffusion.chain(predict, prior, lambda draw: golden["U"][draw], chain))  # type: ignore[arg-type]
    assert len(steps) == 10
    for step, state, predicted in zip(steps, golden[f"{kind}_{key}_traj"], golden[f"{kind}_{key}_pred"], strict=True):
        close(step.predicted, predicted, 1e-5)
        if step is not steps[-1]:
            assert torch.equal(step.state, state)
    close(steps[-1].state, golden[f"{kind}_{key}_traj"][-1], 1e-5)
