"""Parity with the authors' code: the logits of both UniverSeg goldens, by the plain and the fast path."""

from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.models.universeg import SupportSet, UniverSeg, segment

TOLERANCE = 1e-5
CASES = [("universeg_official_seed0", [64] * 4, (1, 5, 16)), ("universeg_small", [8, 8], (1, 3, 4))]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case[0])
def golden(request: pytest.FixtureRequest, shared: Path) -> tuple[dict[str, torch.Tensor], list[int], tuple[int, ...]]:
    name, widths, supports = request.param
    with np.load(shared / "goldens" / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files if key != "meta_json"}, widths, supports


def with_prefix(arrays: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


@pytest.mark.parametrize("biases", ["", "bias_"])
def test_logits(golden: tuple[dict[str, torch.Tensor], list[int], tuple[int, ...]], biases: str) -> None:
    """The authors' biases are all zero; in the second variant they are not."""
    arrays, widths, numbers = golden
    model = UniverSeg(widths)
    model.load_state_dict({**with_prefix(arrays, "w/"), **(with_prefix(arrays, "wb/") if biases else {})})
    for number in numbers:
        target, images, labels = (
            arrays["io/target"],
            *(arrays[f"io/support_{kind}"][:, :number] for kind in ("images", "labels")),
        )
        kept = [SupportSet(model, *own).segment(one) for one, *own in zip(target.split(1), images, labels, strict=True)]
        with torch.inference_mode():
            plain = model(target, images, labels)
        for logits in (plain, segment(model, target, images, labels), torch.cat(kept)):
            torch.testing.assert_close(logits, arrays[f"io/logits_{biases}N{number}"], rtol=0, atol=TOLERANCE)
