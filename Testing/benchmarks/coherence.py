"""How coherent samples are along the slices when a 2D package walks through a volume, against what readers drew.

    python Testing/benchmarks/coherence.py PACKAGE VAL.npz

The npz file is one that ``medseg-uncertainty evaluate`` reads, with the further arrays ``nodule`` and ``slice``: the
neighboring slices of one nodule are a stack, in which a mask slot is the same reader all the way. The correlation
length of a recipe (in slices here) is the one with the smallest energy distance of whole stacks on validation data.
"""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from MedSegUncertaintyLib.evaluation.overlap import dice
from MedSegUncertaintyLib.evaluation.readers import ReaderFile
from MedSegUncertaintyLib.evaluation.run import image_seed
from MedSegUncertaintyLib.evaluation.sets import SetOverlap, ged_squared
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.walking import SliceWalker
from MedSegUncertaintyLib.packages.store import find_package
from MedSegUncertaintyLib.packages.weights import load_sampler
from MedSegUncertaintyLib.volumes.intensity import apply

LENGTHS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 1000.0)
"""Correlation lengths in slices: independent slices first, one vector for the whole stack last."""
SAMPLES = 16
SHORTEST = 3
"""Slices; shorter stacks say little about coherence."""


def stacks(path: Path) -> list[list[int]]:
    """Positions in the file of the slices of every nodule, in the order of the slices, without gaps."""
    with np.load(path, allow_pickle=False) as file:
        patient, nodule, number = (file[key].astype(int) for key in ("patient", "nodule", "slice"))
    found: list[list[int]] = []
    for index in np.lexsort((number, nodule, patient)):
        last = found[-1][-1] if found else None
        follows = last is not None and (patient[last], nodule[last], number[last] + 1) == (
            patient[index], nodule[index], number[index]
        )  # fmt: skip
        if follows:
            found[-1].append(int(index))
        else:
            found.append([int(index)])
    return [stack for stack in found if len(stack) >= SHORTEST]


def neighbor_dice(masks: np.ndarray) -> list[float]:
    """Dice of neighboring slices of each of N stacks (N, slices, H, W) bool; two empty slices do not count."""
    values = [dice(a, b, both_empty=np.nan) for stack in masks for a, b in pairwise(stack)]
    return [value for value in values if not np.isnan(value)]


@torch.inference_mode()
def sampled(walker: SliceWalker, image: np.ndarray, seed: int) -> dict[float, np.ndarray]:
    """Masks (S, slices, H, W) by correlation length."""
    encoding = walker.encode(torch.from_numpy(image)[None, None])
    region = tuple(slice(0, size) for size in image.shape)
    source, numbers, cpu = NoiseSource(seed), range(SAMPLES), torch.device("cpu")
    masks, voxels = {}, {}
    for length in LENGTHS:
        walker.correlation = length
        fields = walker.noise(encoding)
        if not voxels:
            voxels = source.draw({n: f for n, f in fields.items() if f.layout == "voxel"}, numbers, region, cpu)
        along = source.draw({n: f for n, f in fields.items() if f.layout != "voxel"}, numbers, region, cpu)
        masks[length] = walker.draw(encoding, voxels | along).argmax(dim=1).bool().numpy()
    return masks


def main() -> None:
    package, path = find_package(sys.argv[1]), Path(sys.argv[2])
    data, walker = ReaderFile.read(path), SliceWalker(load_sampler(package), 0.0)
    rows: dict[float | str, dict[str, list[float]]] = {
        key: {"neighbors": [], "variance": [], "distance": []} for key in (*LENGTHS, "readers")
    }
    for stack in stacks(path):
        cases = [data.case(index) for index in stack]
        image = apply(np.stack([image for image, _ in cases]), package.intensity)
        readers = np.stack([masks for _, masks in cases], axis=1).astype(bool)
        drawn: dict[float | str, np.ndarray] = {**sampled(walker, image, image_seed(0, stack[0])), "readers": readers}
        for key, masks in drawn.items():
            rows[key]["neighbors"] += neighbor_dice(masks)
            rows[key]["variance"].append(masks.sum(axis=(1, 2, 3)).var(ddof=1))
            overlap = SetOverlap.of(
                readers[None].astype(np.uint8), masks[None].astype(np.uint8), labels=(1,), both_empty=1.0
            )
            rows[key]["distance"].append(float(ged_squared(overlap)[0]))
    print(f"{len(rows['readers']['variance'])} stacks of at least {SHORTEST} slices, {SAMPLES} samples")
    print(
        "| correlation length in slices | Dice of neighboring slices | variance of volumes / that of readers | GED² |"
    )
    print("| --- | --- | --- | --- |")
    own = np.mean(rows["readers"]["variance"])
    for key, row in rows.items():
        distance = "" if key == "readers" else f"{np.mean(row['distance']):.4f}"
        print(f"| {key} | {np.mean(row['neighbors']):.3f} | {np.mean(row['variance']) / own:.2f} | {distance} |")


if __name__ == "__main__":
    main()
