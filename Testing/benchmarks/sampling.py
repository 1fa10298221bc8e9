"""What samples cost: 16 draws against one deterministic pass, memory of 100 against 10, and seams between tiles.

    python Testing/benchmarks/sampling.py [PACKAGE]

Times are paired in one run and reported as ratios; absolute times of one machine mean nothing on another. Runs where
Python has the module ``resource`` (not on Windows).
"""

import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from MedSegUncertaintyLib.inference.device import return_large_blocks
from MedSegUncertaintyLib.inference.engine import Engine, Plan
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.progress import CancelToken
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.store import find_package
from MedSegUncertaintyLib.packages.weights import load_sampler
from MedSegUncertaintyLib.uncertainty.samples import SampleSet
from MedSegUncertaintyLib.uncertainty.statistics import StatisticsStream, most_probable
from MedSegUncertaintyLib.volumes.geometry import Geometry, RegionOfInterest, Volume

REGION = (48, 64, 48)
ROUNDS = 7


def image_of(shape_ijk: tuple[int, int, int]) -> torch.Tensor:
    """Smooth noise (1, K, J, I), mean 0 and SD 1."""
    coarse = torch.randn(
        1, 1, *(max(size // 6, 2) for size in reversed(shape_ijk)), generator=torch.Generator().manual_seed(0)
    )
    smooth = torch.nn.functional.interpolate(coarse, size=shape_ijk[::-1], mode="trilinear")[0]
    return (smooth - smooth.mean()) / smooth.std()


def cost_of_samples(package: ModelPackage) -> dict[str, float]:
    """Time of 16 samples with all their statistics over that of one pass of the same network with argmax."""
    model, image = load_sampler(package), image_of(REGION)
    engine = Engine(model, torch.device("cpu"), False, CancelToken(), None)

    def one_pass() -> None:
        with torch.inference_mode():
            most_probable(model(image.unsqueeze(0)).mean[0].softmax(dim=0))

    def samples() -> None:
        stream, kept = StatisticsStream(0.001), SampleSet(tuple(image.shape[1:]))
        for probabilities in engine.sample(image, 16, NoiseSource(0)):
            labels = most_probable(probabilities)
            stream.update(probabilities, labels)
            kept.append(labels.numpy())
        stream.result()

    ratios = []
    for work in (one_pass, samples):
        work()
    for _ in range(ROUNDS):
        ratios.append(seconds(samples) / seconds(one_pass))
    return {"median": statistics.median(ratios), "minimum": min(ratios), "maximum": max(ratios)}


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_bytes(package: str, samples: int) -> int:
    """Highest resident memory of a fresh process that draws samples of a 96 x 128 x 96 volume."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_run_and_measure, (package, samples))


def _run_and_measure(package: str, samples: int) -> int:
    volume, request = whole_volume((96, 128, 96), package, samples)
    assert segment(volume, request).summary["samples"] == samples
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def whole_volume(shape: tuple[int, int, int], package: str, samples: int) -> tuple[Volume, InferenceRequest]:
    """A volume of noise, and the request to segment all of it."""
    volume = Volume(image_of(shape)[0].numpy() + 5.0, Geometry.from_parts(shape, (1.0, 1.0, 1.0)), "noise")
    middle = tuple((size - 1) / 2 for size in shape)
    roi = RegionOfInterest(middle, tuple(float(size) for size in shape))
    return volume, InferenceRequest(package, samples=samples, roi=roi, device="cpu")


def seams(package: ModelPackage) -> dict[str, float]:
    """How a sample drawn with tiles of half the size differs from the same sample drawn in one tile.

    The jump across a border is the difference between the neighbors on both sides, with tiles less in one tile.
    """
    shape = (96, 96, 96)
    model, image, noise = load_sampler(package), image_of(shape), NoiseSource(3)
    found = {}
    for name, edge in (("whole", 96), ("tiled", 48)):
        engine = Engine(model, torch.device("cpu"), False, CancelToken(), None)
        engine.plan = Plan(torch.device("cpu"), edge)
        found[name] = torch.stack(list(engine.sample(image, 2, noise))).numpy()
    difference = found["tiled"] - found["whole"]
    borders = (24, 48, 72)  # where a tile of 48 that overlaps by half begins or ends
    jumps = [
        np.abs(np.take(difference, b, axis) - np.take(difference, b - 1, axis)).max()
        for axis in (2, 3, 4)
        for b in borders
    ]
    natural = [np.abs(np.diff(found["whole"], axis=axis)).max() for axis in (2, 3, 4)]
    labels = {name: samples.argmax(axis=1) for name, samples in found.items()}
    return {
        "largest_jump_in_probability_at_a_tile_border": float(max(jumps)),
        "largest_step_between_neighbors_in_one_tile": float(max(natural)),
        "largest_difference_anywhere": float(np.abs(difference).max()),
        "voxels_with_another_label_percent": float(100 * (labels["tiled"] != labels["whole"]).mean()),
    }


def longest_wait_for_cancel(package: ModelPackage, shape: tuple[int, int, int]) -> float:
    """Longest time in seconds between two looks at the cancel token in a whole run; its target is absolute."""

    class Recorder(CancelToken):
        def __init__(self) -> None:
            super().__init__()
            self.looks = [time.perf_counter()]

        def check(self) -> None:
            self.looks.append(time.perf_counter())
            super().check()

    token = Recorder()
    volume, request = whole_volume(shape, str(package.folder), 16)
    segment(volume, request, cancel=token)
    token.looks.append(time.perf_counter())
    return float(max(np.diff(token.looks)))


def main() -> None:
    """Measure everything and print one JSON object."""
    return_large_blocks()  # as every run of users does
    package = find_package(sys.argv[1] if len(sys.argv) > 1 else "ssn-hippocampus-mr")
    ten, hundred = (peak_bytes(str(package.folder), samples) for samples in (10, 100))
    report = {
        "package": package.name,
        "time_of_16_samples_over_one_deterministic_pass": cost_of_samples(package),
        "peak_memory_of_100_samples_over_10": hundred / ten,
        "seams": seams(package),
        "longest_wait_for_cancel_seconds": {
            "x".join(str(size) for size in shape): longest_wait_for_cancel(package, shape)
            for shape in (REGION, (128, 128, 128))
        },
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
