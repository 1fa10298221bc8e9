"""What signs cost: blocks and steps of HiDiff's refiner by bit counts against float32 and bfloat16 of the same network.

    python Testing/benchmarks/hidiff.py [EDGE] [WIDTH] ...

EDGE is that of the image (256), WIDTHs are those of the refiner (32). Compiles the kernel into a temporary folder if
there is a compiler. Everything is paired in one run and reported as a ratio of processor time, median and range of the
rounds: absolute times of one machine mean nothing on another. "bits" are counted by the best instructions there are,
"bits by AVX2" as on a processor that has no better ones. "signs in PyTorch" is the same network without the kernel,
which gives the same bits; the others are its real-valued twin, of which "float32, channels last" is the rival to beat.
On a processor with AVX-512, ``ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2`` keeps PyTorch from it as well.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from MedSegUncertaintyLib.models.hidiff import kernels
from MedSegUncertaintyLib.models.hidiff.binary import Block, Form, Moment
from MedSegUncertaintyLib.models.hidiff.kernels import prepare
from MedSegUncertaintyLib.models.hidiff.refiner import Refiner, packed_state
from MedSegUncertaintyLib.models.hidiff.xnor import compile_kernel, load_kernel
from MedSegUncertaintyLib.models.registry import build
from safetensors.torch import save

CONDITIONS = (32, 64, 128, 256)
TAPS = ["down_1", "down_2", "down_3", "down_4"]
STEPS, ROUNDS = 10, 5
LEVELS = ("portable", "AVX2", "AVX-512")


def seconds(work: Callable[[], Any]) -> float:
    """Of the processor, as other processes may have it for a while."""
    start = time.process_time()
    work()
    return time.process_time() - start


def ratios(works: dict[str, Callable[[], Any]], base: str, rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Time of every work over that of ``base``, in turns."""
    for work in works.values():
        work()
    times = [{name: seconds(work) for name, work in works.items()} for _ in range(rounds)]
    found = {}
    for name in works:
        if name != base:
            each = [row[name] / row[base] for row in times]
            found[name] = {"median": statistics.median(each), "minimum": min(each), "maximum": max(each)}
    return found


def in_half(work: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return work()

    return run


def refiner(width: int, binary: bool) -> Refiner:
    """As a package holds it, with random signs."""
    return with_random_signs(Refiner(1, 1, CONDITIONS, width=width, binary=binary, packed=STEPS))


def with_random_signs(module: Any) -> Any:
    for values in module.buffers():
        if values.dtype == torch.uint8:
            values.random_(0, 256)
    return module.eval()


def of_kinds(work_of: Callable[[bool, Any, torch.memory_format], Callable[[], Any]], kernel: Any) -> dict[str, Any]:
    """The same work by every kind of network: from whether it is of signs, the kernel and the layout of maps."""
    last = torch.channels_last
    works = {
        "bits": work_of(True, kernel, last),
        "signs in PyTorch": work_of(True, None, last),
        "float32, channels first": work_of(False, None, torch.contiguous_format),
        "float32, channels last": work_of(False, None, last),
    }
    if kernel and kernel.level() > 1:
        works["bits by AVX2"] = work_of(True, SimpleNamespace(block=kernel.block, level=lambda: 1), last)
    return works | {"bfloat16, channels last": in_half(works["float32, channels last"])}


def block_times(channels: int, edge: int, kernel: Any) -> dict[str, Any]:
    """One block of equal widths."""

    def work_of(binary: bool, kernel: Any, layout: torch.memory_format) -> Callable[[], Any]:
        holder = refiner(32, binary)
        block = with_random_signs(Block(Form(binary, 128, STEPS), channels, channels)).to(memory_format=layout)
        holder.encoder[0] = block
        moment = Moment(torch.tensor([5]), prepared=prepare(holder, STEPS, kernel))
        maps = torch.randn(1, channels, edge, edge).contiguous(memory_format=layout)
        return lambda: block(maps, moment)

    return ratios(of_kinds(work_of, kernel), "bits")


def step_times(width: int, edge: int, kernel: Any) -> dict[str, Any]:
    """A whole step of the refiner, with everything that depends on image and step alone made before.

    Besides, by bit counts: the step with the conditions, which samples share, made anew; and the conditions of all
    steps of an image and getting all weights ready, alone.
    """
    state = torch.rand(1, 1, edge, edge).round()
    features = [torch.randn(1, c, edge // s, edge // s) for c, s in zip(CONDITIONS, (4, 8, 16, 32), strict=True)]
    besides: dict[str, Callable[[], Any]] = {}

    def work_of(binary: bool, kernel: Any, layout: torch.memory_format) -> Callable[[], Any]:
        model = refiner(width, binary).to(memory_format=layout)  # type: ignore[call-overload]
        moment = Moment(torch.tensor([5]), prepared=prepare(model, STEPS, kernel))
        stem = torch.randn(1, width, edge, edge).contiguous(memory_format=layout)
        known = model.conditions(features, moment)
        if binary and not besides:  # the first one, which has the kernel
            besides["bits, conditions made anew"] = lambda: model(
                state, stem, model.conditions(features, moment), moment
            )
            besides["conditions of all steps alone"] = lambda: model.conditions(
                features, Moment(torch.arange(STEPS), prepared=moment.prepared)
            )
            besides["getting ready alone"] = lambda: prepare(model, STEPS, kernel)
        return lambda: model(state, stem, known, moment)

    return ratios(of_kinds(work_of, kernel) | besides, "bits")


def size_of(width: int) -> dict[str, float]:
    """Size of the refiner's weights in a file over that of the packed ones with the rest in float16, as in packages."""
    model = Refiner(1, 1, CONDITIONS, width=width)
    packed = len(save({name: halved(values) for name, values in packed_state(model, STEPS).items()}))
    half = {name: halved(values) for name, values in model.state_dict().items()}
    return {"float32": len(save(model.state_dict())) / packed, "float16": len(save(half)) / packed}


def halved(values: torch.Tensor) -> torch.Tensor:
    return values.half() if values.is_floating_point() else values


def sample_times(width: int, edge: int) -> dict[str, Any]:
    """Samples of 10 steps against one, encoding included, as the sampler makes them."""
    segmentor = {"name": "BasicUNet", "widths": [16, 16, 32, 64, 128], "taps": TAPS}
    model = build("hidiff", {"segmentor": segmentor, "channels": 1, "classes": 2, "width": width, "packed": True})
    with_random_signs(model).requires_grad_(False)
    image = torch.randn(1, 1, edge, edge)

    def draw(count: int) -> None:
        encoding = model.encode(image)
        model.draw(encoding, {name: torch.randn(count, 1, edge, edge) for name in model.noise(encoding)})

    works = {"one": lambda: draw(1), "sixteen": lambda: draw(16), "the segmentor": lambda: model.segmentor(image)}
    return ratios(works, "one", rounds=3)


@torch.no_grad()
def main() -> None:
    """Measure everything and print one JSON object."""
    torch.manual_seed(0)
    edge = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    widths = [int(part) for part in sys.argv[2:]] or [32]
    report: dict[str, Any] = {"threads": torch.get_num_threads(), "edge": edge}
    with tempfile.TemporaryDirectory() as folder:
        path = compile_kernel(Path(folder))
        kernel = load_kernel(path) if path else None
        report["kernel"] = "none" if kernel is None else LEVELS[kernel.level()]
        for width in widths:
            blocks = {
                f"block of {width * factor} channels at 1/{scale}": block_times(width * factor, edge // scale, kernel)
                for factor, scale in ((1, 1), (2, 4), (4, 16))
            }
            step = step_times(width, edge, kernel)
            report[f"width {width}"] = {"time over bits": {"step": step, **blocks}, "size over packed": size_of(width)}
            if width < 64:  # beyond, these alone take minutes
                with mock.patch.object(kernels, "found_kernel", return_value=kernel):
                    report[f"width {width}"]["time over one sample"] = sample_times(width, edge)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
