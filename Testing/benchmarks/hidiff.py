"""What signs cost: blocks and steps of HiDiff's refiner by bit counts against float32 and bfloat16 of the same network.

    python Testing/benchmarks/hidiff.py [EDGE] [WIDTH] ...

EDGE is that of the image (256), WIDTHs are those of the refiner (32). Compiles the kernel into a temporary folder if
there is a compiler. Everything is paired in one run and reported as a ratio: absolute times of one machine mean nothing
on another. "twin" is the real-valued network of the same shape, "signs in torch" the network of signs without the
kernel, which gives the same bits.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from MedSegUncertaintyLib.models.hidiff.binary import Block, Moment
from MedSegUncertaintyLib.models.hidiff.kernels import prepare
from MedSegUncertaintyLib.models.hidiff.network import HiDiff
from MedSegUncertaintyLib.models.hidiff.refiner import Refiner, packed_state
from MedSegUncertaintyLib.models.hidiff.segmentor import Segmentor
from MedSegUncertaintyLib.models.hidiff.xnor import compile_kernel, load_kernel
from MedSegUncertaintyLib.models.registry import build
from safetensors.torch import save

CONDITIONS = (32, 64, 128, 256)
STEPS, ROUNDS = 10, 5


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


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


def block_times(inputs: int, edge: int, kernel: Any) -> dict[str, Any]:
    """One block of equal widths: by bit counts, in torch, and its real-valued twin."""
    maps = torch.randn(1, inputs, edge, edge).contiguous(memory_format=torch.channels_last)
    works: dict[str, Callable[[], Any]] = {}
    for name, binary, chosen in (("bits", True, kernel), ("signs in torch", True, None), ("twin", False, None)):
        holder = Refiner(1, 1, CONDITIONS, width=32, binary=binary).eval()
        form = holder.encoder[0].convolution.weights.form  # type: ignore[union-attr]
        holder.encoder[0] = Block(form, inputs, inputs).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        moment = Moment(torch.tensor([5]), prepared=prepare(holder, STEPS, chosen))
        works[name] = lambda block=holder.encoder[0], moment=moment: block(maps, moment)
    works["twin in bfloat16"] = in_half(works["twin"])
    return ratios(works, "bits")


def step_times(width: int, edge: int, kernel: Any) -> dict[str, Any]:
    """A whole step of the refiner, with everything that depends on image and step alone made before."""
    state = torch.rand(1, 1, edge, edge).round()
    works: dict[str, Callable[[], Any]] = {}
    for name, binary, chosen in (("bits", True, kernel), ("signs in torch", True, None), ("twin", False, None)):
        model = Refiner(1, 1, CONDITIONS, width=width, binary=binary).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        moment = Moment(torch.tensor([5]), prepared=prepare(model, STEPS, chosen))
        stem = torch.randn(1, width, edge, edge).contiguous(memory_format=torch.channels_last)
        features = [torch.randn(1, c, edge // s, edge // s) for c, s in zip(CONDITIONS, (4, 8, 16, 32), strict=True)]
        known = model.conditions(features, moment)
        works[name] = lambda model=model, stem=stem, known=known, moment=moment: model(state, stem, known, moment)
        if name == "bits":
            works["bits, nothing shared"] = lambda model=model, stem=stem, features=features, chosen=chosen: unshared(
                model, state, stem, features, chosen
            )
    works["twin in bfloat16"] = in_half(works["twin"])
    return ratios(works, "bits")


def unshared(model: Refiner, state: torch.Tensor, stem: torch.Tensor, features: Any, kernel: Any) -> torch.Tensor:
    """A step that also makes what samples and steps could share."""
    moment = Moment(torch.tensor([5]), prepared=prepare(model, STEPS, kernel))
    return model(state, stem, model.conditions(features, moment), moment)


def size_of(width: int) -> dict[str, float]:
    """Size of the refiner's weights in a file over that of the packed ones."""
    model = Refiner(1, 1, CONDITIONS, width=width)
    packed = len(save(packed_state(model, STEPS)))
    return {"float32": len(save(model.state_dict())) / packed}


def sixteen_samples(width: int, edge: int) -> dict[str, Any]:
    """16 samples of 10 steps against one, encoding included, as the sampler makes them (kernel only if built in)."""
    widths = [16, 16, 32, 64, 128]
    taps = ["down_1", "down_2", "down_3", "down_4"]
    segmentor = {"name": "BasicUNet", "widths": widths, "taps": taps}
    model = build("hidiff", {"segmentor": segmentor, "channels": 1, "classes": 2, "width": width}).eval()
    assert isinstance(model, HiDiff)
    assert isinstance(model.segmentor, Segmentor)
    image = torch.randn(1, 1, edge, edge)

    def draw(count: int) -> None:
        encoding = model.encode(image)
        model.draw(encoding, {name: torch.randn(count, 1, edge, edge) for name in model.noise(encoding)})

    return ratios({"one": lambda: draw(1), "sixteen": lambda: draw(16)}, "one", rounds=2)


@torch.inference_mode()
def main() -> None:
    """Measure everything and print one JSON object."""
    torch.manual_seed(0)
    edge = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    widths = [int(part) for part in sys.argv[2:]] or [32]
    with tempfile.TemporaryDirectory() as folder:
        path = compile_kernel(Path(folder))
        kernel = load_kernel(path) if path else None
        report = {
            "threads": torch.get_num_threads(),
            "kernel": "none" if kernel is None else "avx512" if kernel.is_fast() else "portable",
            "edge": edge,
            "time over that by bit counts": {
                f"width {width}": {
                    "step": step_times(width, edge, kernel),
                    **{
                        f"block of {width * factor} channels at 1/{scale}": block_times(
                            width * factor, edge // scale, kernel
                        )
                        for factor, scale in ((1, 1), (2, 4), (4, 16))
                    },
                }
                for width in widths
            },
            "size over that of packed weights": {f"width {width}": size_of(width) for width in widths},
            "time of 16 samples over one": {
                f"width {width}": sixteen_samples(width, min(edge, 128))["sixteen"] for width in widths[:1]
            },
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
