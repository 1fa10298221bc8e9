"""What UniverSeg's fast path saves: time and memory of the plain path over it, on the released network's widths.

    python Testing/benchmarks/universeg.py

Paths take turns in one run and times are reported as ratios of processor time, median of all pairs; absolute times of
one machine mean nothing on another. Memory is the highest of a fresh process above what it held before. Weights are
random. Runs where Python has the module ``resource`` (not on Windows).
"""

import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable

import torch
from MedSegUncertaintyLib.inference.device import return_large_blocks
from MedSegUncertaintyLib.models.universeg import SupportSet, UniverSeg, segment

PAIRS = {1: 15, 4: 9, 16: 9, 64: 5}
"""How often the paths take turns, by number of supports."""


def prepare(supports: int, edge: int = 128) -> tuple[UniverSeg, tuple[torch.Tensor, ...]]:
    """The network, and arguments for one target."""
    return_large_blocks()  # as every run of users does
    torch.manual_seed(0)
    images = [torch.rand(1, *count, 1, edge, edge) for count in ((), (supports,), (supports,))]
    return UniverSeg([64] * 4), (*images[:2], images[2].round())


@torch.no_grad()
def plain(model: UniverSeg, arguments: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return model(*arguments)


def fast(model: UniverSeg, arguments: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return segment(model, *arguments)


def preview(model: UniverSeg, arguments: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return segment(model, *arguments, preview=True)


def times(supports: int) -> dict[str, dict[str, float]]:
    """Time of the plain path over that of each other one."""
    model, arguments = prepare(supports)
    kept = SupportSet(model, arguments[1][0], arguments[2][0])
    paths: dict[str, Callable[[], torch.Tensor]] = {
        "fast": lambda: fast(model, arguments),
        "fast_with_kept_support_set": lambda: kept.segment(arguments[0]),
        "preview": lambda: preview(model, arguments),
    }
    reference = plain(model, arguments)
    errors = {name: float((path() - reference).abs().max()) for name, path in paths.items()}
    ratios: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(PAIRS[supports]):
        baseline = seconds(lambda: plain(model, arguments))
        for name, path in paths.items():
            ratios[name].append(baseline / seconds(path))
    return {
        name: {
            "median": statistics.median(ratios[name]),
            "minimum": min(ratios[name]),
            "maximum": max(ratios[name]),
            "largest_difference_of_logits": errors[name],
        }
        for name in paths
    }


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def extra_bytes(path: Callable[..., torch.Tensor], supports: int) -> int:
    """Highest resident memory of a fresh process that segments one target, above what it held before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run_and_measure, (path, supports))


def _run_and_measure(path: Callable[..., torch.Tensor], supports: int) -> int:
    path(*prepare(supports=1, edge=8))  # libraries make themselves at home
    model, arguments = prepare(supports)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path(model, arguments)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def main() -> None:
    """Measure everything and print one JSON object."""
    # Memory first: a new process takes over the highest mark of the one that starts it.
    memory = {
        f"{supports} supports": extra_bytes(plain, supports) / extra_bytes(fast, supports) for supports in (16, 64)
    }
    report = {
        "extra_memory_of_plain_path_over_fast": memory,
        "time_of_plain_path_over": {f"{supports} supports": times(supports) for supports in PAIRS},
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
