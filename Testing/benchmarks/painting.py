"""How soon a painted example shows: seconds from ``Worker.propagate`` to its events, warm and after an edit.

    python Testing/benchmarks/painting.py --data DIR --model universeg-mini

Spleen of ``spleen_ct_msd``, three outlined slices, five samples. The first run starts the process; the second has a new
volume object, which is sent; the others follow edits of the examples alone. Wall times of a machine that does something
else mean little; the seconds of the processor in the child stand beside them.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.propagation.request import PropagationRequest
from MedSegUncertaintyLib.volumes.geometry import Volume
from MedSegUncertaintyLib.volumes.reading import read_labels, read_volume
from MedSegUncertaintyLib.workers.events import Finished, Preview, SlicesFound
from MedSegUncertaintyLib.workers.worker import Worker

SAMPLES = 5


def outlines(labels: np.ndarray, volume: Volume, slices: list[int]) -> list[Example]:
    painted = np.zeros(labels.shape, np.uint8)
    painted[slices] = labels[slices] == 1
    return [Example(Volume(painted, volume.geometry), names={1: "Spleen"})]


def processor_seconds(pid: int) -> float:
    used = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")


def timed(worker: Worker, request: PropagationRequest, volume: Volume, examples: list[Example], start: int) -> dict:
    """Seconds to the first slice that was not outlined, all slices, two samples and the result."""
    outlined = set(np.flatnonzero(examples[0].labels.array.any(axis=(1, 2))).tolist())
    begin, seen, times = time.monotonic(), set(), {}
    used = 0.0 if worker._child is None else processor_seconds(worker._child.pid)
    worker.propagate(request, volume, examples, start)
    while "result" not in times:
        for event in worker.poll():
            now = round(time.monotonic() - begin, 2)
            if isinstance(event, SlicesFound):
                seen |= set(event.indices)
                if seen - outlined:
                    times.setdefault("first slice", now)
                if len(seen) == len(volume.array):
                    times.setdefault("all slices", now)
            elif isinstance(event, Preview):
                times.setdefault("two samples", now)
            elif isinstance(event, Finished):
                times["result"] = now
        time.sleep(0.002)
    return {**times, "processor": round(processor_seconds(worker._child.pid) - used, 2)}


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    folder = options.data / "spleen_ct_msd"
    volume, labels = read_volume(folder / "spleen2_ct.nii.gz"), read_labels(folder / "spleen2_seg.nii.gz").array
    present = np.flatnonzero((labels == 1).any(axis=(1, 2)))
    slices = present[np.linspace(0, len(present) - 1, 5).round().astype(int)[1:-1]].tolist()
    request = PropagationRequest(InferenceRequest(options.model, samples=SAMPLES), "axial")
    worker, report = Worker(), {}
    for name, own, given in (
        ("cold", volume, slices),
        ("warm, new volume", Volume(volume.array, volume.geometry), slices),
        ("one example more", None, [*slices, slices[-1] + 2]),
        ("one example less", None, slices[:2]),
    ):
        volume = own or volume
        report[name] = timed(worker, request, volume, outlines(labels, volume, given), slices[1] + 2)
    report["peak MB of the child"] = peak_mb(worker._child.pid)
    worker.close()
    print(json.dumps(report, indent=2))


def peak_mb(pid: int) -> int:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
