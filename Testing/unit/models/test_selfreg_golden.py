"""Parity with the authors' code: both regularizers with their gradients, their sums, and the segmentation loss."""

from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.models.selfreg.losses import (
    Channels,
    Features,
    channel_scores,
    feature_distillation,
    segmentation_loss,
    self_regularization,
    semantic_consistency,
)

TOLERANCE = 1e-5


class Golden:
    """A file of arrays as tensors."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.arrays = {key: file[key] for key in file.files}

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self.arrays[key]))

    def compare(self, ours: torch.Tensor, key: str) -> None:
        expected = self[key]
        deviation = float((ours.detach() - expected).abs().max() / expected.abs().max())
        assert deviation <= TOLERANCE, f"{key}: {deviation:.2e}"


@pytest.fixture(scope="module")
def losses(shared: Path) -> Golden:
    return Golden(shared / "goldens" / "selfreg_losses.npz")


@pytest.mark.parametrize("number", range(5))
def test_semantic_consistency_and_gradient(losses: Golden, number: int) -> None:
    case = f"scr{number}/"
    student, teacher = losses[case + "fs"].requires_grad_(), losses[case + "ft"].requires_grad_()
    loss = semantic_consistency(student, teacher, (losses[case + "idx_s"], losses[case + "idx_t"]))
    loss.backward()
    losses.compare(loss, case + "loss")
    losses.compare(student.grad, case + "grad_fs")
    assert teacher.grad is None


@pytest.mark.parametrize("number", range(3))
def test_feature_distillation_and_gradient(losses: Golden, number: int) -> None:
    case = f"ifd{number}/"
    maps = losses[case + "f"].requires_grad_()
    loss = feature_distillation(maps)
    loss.backward()
    losses.compare(loss, case + "loss")
    losses.compare(maps.grad, case + "grad_f")
    scores = channel_scores(maps.detach())
    order = losses[case + "order"]
    assert torch.equal(scores.argsort(descending=True), order)
    losses.compare(scores[order], case + "score")


@pytest.mark.parametrize(("network", "blocks"), [("unet", [""]), ("swin", ["_last", "_first"])])
def test_sums_over_a_network(losses: Golden, network: str, blocks: list[str]) -> None:
    case = f"{network}/"
    groups = [
        Features([losses[f"{case}enc{n}{b}"] for n in range(4)], [losses[f"{case}dec{n}{b}"] for n in range(3)])
        for b in blocks
    ]
    calls = iter(losses.arrays[case + "idx_order"].tolist())

    def choose(student: torch.Tensor) -> Channels:
        name = next(calls)
        assert student.shape == losses[case + name].shape
        return losses[f"{case}idx_s/{name}"], losses[f"{case}idx_t/{name}"]

    consistency, distillation = self_regularization(groups, losses[case + "final"], choose)
    assert next(calls, None) is None
    losses.compare(consistency, case + "sum_scr")
    losses.compare(distillation, case + "sum_ifd")
    losses.compare(float(losses[case + "lambda"]) * (consistency + distillation), case + "loss")


def test_segmentation_loss(shared: Path) -> None:
    golden = Golden(shared / "goldens" / "selfreg_seg_loss.npz")
    for dice_weight, key in ((0.6, "total_synapse"), (0.7, "total_acdc")):
        total, cross_entropy, dice = segmentation_loss(golden["logits"], golden["label"], dice_weight)
        golden.compare(total, key)
        golden.compare(cross_entropy, "ce")
        golden.compare(dice, "dice")
