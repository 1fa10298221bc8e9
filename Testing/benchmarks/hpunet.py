"""What samples of the Hierarchical Probabilistic U-Net cost, and how well single cells come out of them.

    python Testing/benchmarks/hpunet.py            samples of one image against passes of networks
    python Testing/benchmarks/hpunet.py cells      train recipes/hpunet-touching-cells.toml and give its figures

Times are paired in one run and reported as ratios; absolute times of one machine mean nothing on another.
"""

import json
import statistics
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import torch
from MedSegUncertaintyLib.inference.engine import Engine
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken
from MedSegUncertaintyLib.models.hpunet.network import HPUNet
from monai.networks.nets import UNet
from torch import nn

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
CONFIGURATIONS = {
    "paper": {"widths": [24, 48, 96, 192, 192, 192, 192, 192], "latents": [1, 1, 1, 1]},
    "recipe": tomllib.loads((RECIPES / "hpunet-lidc-nodule-ct.toml").read_text(encoding="utf-8"))["package"][
        "arguments"
    ],
}
SIZE, SAMPLES, ROUNDS = 128, 16, 3


def costs(arguments: dict) -> dict[str, float]:
    """Ratios of times, medians over the rounds, for one image of 128 x 128 and a network of random weights."""
    torch.manual_seed(0)
    model = HPUNet(**{"spatial_dims": 2, "channels": 1, "classes": 2, **arguments}).eval()
    deployed = sum(p.numel() for part in (model.prior, model.decoder, model.head) for p in part.parameters())
    plain = plain_unet(deployed).eval()
    image = torch.randn(1, SIZE, SIZE)

    def drawn(count: int, scales: torch.Tensor | None = None) -> Callable[[], None]:
        def work() -> None:
            controls = {} if scales is None else {"scales": scales}
            engine = Engine(model, torch.device("cpu"), False, CancelToken(), None, controls=controls)
            for _ in engine.sample(image, count, NoiseSource(0)):
                pass

        return work

    def full_passes() -> None:
        for number in range(SAMPLES):
            engine = Engine(model, torch.device("cpu"), False, CancelToken(), None)
            next(engine.sample(image, 1, NoiseSource(number)))

    @torch.inference_mode()
    def one_pass() -> None:
        plain(image[None]).softmax(dim=1)

    finest = torch.zeros(len(model.latents))
    finest[-1] = 1.0
    works = {
        "full passes": full_passes,
        "samples": drawn(SAMPLES),
        "finest": drawn(SAMPLES, finest),
        "first": drawn(1),
        "plain": one_pass,
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in (drawn(1), one_pass):
        work()
    for _ in range(ROUNDS):
        for name, work in works.items():
            times[name].append(seconds(work))

    def ratio(first: str, second: str) -> float:
        pairs = zip(times[first], times[second], strict=True)
        return round(statistics.median(a / b for a, b in pairs), 2)

    return {
        "parameters_without_posterior": deployed,
        "parameters_of_plain_unet": sum(p.numel() for p in plain.parameters()),
        "16_full_passes_over_16_samples": ratio("full passes", "samples"),
        "16_full_passes_over_16_samples_of_the_finest_scale": ratio("full passes", "finest"),
        "first_sample_over_plain_unet": ratio("first", "plain"),
    }


def plain_unet(parameters: int) -> nn.Module:
    """MONAI's U-Net of five levels with two residual units each, of about as many parameters."""

    def make(width: int) -> UNet:
        return UNet(2, 1, 2, tuple(width * 2**level for level in range(5)), (2,) * 4, num_res_units=2)

    def distance(width: int) -> int:
        return abs(sum(p.numel() for p in make(width).parameters()) - parameters)

    return make(min(range(4, 64, 2), key=distance))


def seconds(work: Callable[[], None]) -> float:
    """CPU time of this thread, which others on the machine lengthen less than the clock on the wall."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def cells() -> dict[str, float]:
    """Figures of a model trained on touching cells; takes some minutes."""
    from MedSegUncertaintyLib.training.run import train

    with tempfile.TemporaryDirectory() as folder:
        package = train(RECIPES / "hpunet-touching-cells.toml", folder, Path(folder) / "out")
        figures: dict[str, float] = package.evaluation["touching_cells"]
    return figures


def main() -> None:
    """Measure and print one JSON object."""
    if sys.argv[1:] == ["cells"]:
        print(json.dumps(cells(), indent=2))
        return
    torch.set_num_threads(1)  # thread_time counts this thread alone
    print(json.dumps({name: costs(arguments) for name, arguments in CONFIGURATIONS.items()}, indent=2))


if __name__ == "__main__":
    main()
