"""How well outlines of three slices are propagated through whole volumes, beside what a user would do instead.

    pip install itk-morphologicalcontourinterpolation
    python Testing/benchmarks/propagation.py --data DIR --model universeg-mini [--cases spleen,cord] [--hippocampi 10]

The data folder holds ``spleen_ct_msd`` (Medical Segmentation Decathlon, task 9), ``cord_mr_sct`` (Spinal Cord Toolbox,
test data) and ``hippocampus_msd`` (task 4, every tenth case by name): none of it was trained on, but settings of the
walk and the shape prior were chosen with part of it in view, so its figures are optimistic. Three slices, evenly
spread over the structure, are the examples, without and with one mark "absent here" two slices beyond each end.

Per method: Dice over all other slices together, Dice of those between the examples, and the falsely labeled area on
slices beyond the structure in units of its mean area. "fill" is morphological contour interpolation, which Slicer's
"Fill between slices" runs; "floor" is naive Bayes of intensity and place, fitted to the same examples and applied to
the slices that show the structure. "product" is what a user gets: the mean of N samples. The case "together" is both
structures of a hippocampus at once, outlined in three slices over the two; marks then also say which of them an
outlined slice lacks, so that background has examples.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.outputs.document import plane_names
from MedSegUncertaintyLib.packages.store import find_package
from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.propagation.request import ALL, PropagationRequest
from MedSegUncertaintyLib.propagation.run import open_session
from MedSegUncertaintyLib.propagation.session import Session
from MedSegUncertaintyLib.propagation.stacks import make_stack
from MedSegUncertaintyLib.propagation.supports import Pool
from MedSegUncertaintyLib.propagation.walk import NETWORK_ALONE, NOTHING, Network, Scene, plan_walk, walk
from MedSegUncertaintyLib.volumes.geometry import Volume
from MedSegUncertaintyLib.volumes.reading import read_labels, read_volume

EXAMPLES, BEYOND = 3, 2
"""Outlined slices, and how far the mark "absent here" lies from each end of the structure."""
SAMPLES = 5
BINS, SMOOTHING = 32, 3
"""Of the floor: bins of intensity, and radius of the mean over pixels of its map of places."""


class Case:
    """One structure in one plane of one volume, with its examples."""

    def __init__(self, name: str, volume: Volume, mask: np.ndarray, axis: int, with_marks: bool) -> None:
        self.name, self.volume = name, volume
        self.plane = plane_names(volume.geometry)[2 - axis]
        stack = make_stack(volume, self.plane)
        self.truth = stack.placement.to_model(Volume(mask.astype(np.uint8), volume.geometry)) > 0.5
        self.present = np.flatnonzero(self.truth.any(axis=(1, 2)))
        spread = np.linspace(0, len(self.present) - 1, EXAMPLES + 2).round().astype(int)[1:-1]
        self.examples = self.present[spread]
        ends = (self.present[0] - BEYOND, self.present[-1] + BEYOND)
        self.absent = [number for number in ends if with_marks and 0 <= number < len(self.truth)]
        indices = [stack.index_of(int(number)) for number in self.examples]
        outlined = np.zeros_like(mask)
        np.moveaxis(outlined, axis, 0)[indices] = np.moveaxis(mask, axis, 0)[indices]
        self.outlines = Volume(outlined.astype(np.int64), volume.geometry, name)
        self.absent_indices = tuple(stack.index_of(int(number)) for number in self.absent)

    def request(self, package: str) -> PropagationRequest:
        return PropagationRequest(InferenceRequest(package, samples=SAMPLES), self.plane, {ALL: self.absent_indices})

    @property
    def others(self) -> np.ndarray:
        """Slices that were neither outlined nor marked."""
        return np.setdiff1d(np.arange(len(self.truth)), [*self.examples, *self.absent])

    def measured(self, found: np.ndarray) -> dict[str, float]:
        others = self.others
        between = others[(others > self.examples[0]) & (others < self.examples[-1])]
        beyond = others[(others < self.present[0]) | (others > self.present[-1])]
        mean_area = self.truth[self.present].sum() / len(self.present)
        return {
            "dice": dice(found[others], self.truth[others]),
            "dice_between": dice(found[between], self.truth[between]),
            "area_beyond": float(found[beyond].sum() / mean_area),
        }


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    total = int(found.sum()) + int(truth.sum())
    return 2.0 * int((found & truth).sum()) / total if total else 1.0


def cases(data: Path, with_marks: bool, chosen: list[str], hippocampi: int) -> Iterator[Case]:
    """Every case whose name begins with one of the chosen."""
    for name, image, labels, axes in (
        ("spleen", "spleen_ct_msd/spleen2_ct.nii.gz", "spleen_ct_msd/spleen2_seg.nii.gz", (0,)),
        ("cord", "cord_mr_sct/t2.nii.gz", "cord_mr_sct/t2_seg-manual.nii.gz", (0, 1, 2)),
    ):
        if name in chosen:
            volume, mask = read_volume(data / image), read_labels(data / labels).array == 1
            for axis in axes:
                yield Case(f"{name}, axis {axis}" if len(axes) > 1 else name, volume, mask, axis, with_marks)
    for volume, labels in hippocampi_of(data, hippocampi) if "hippocampus" in chosen else []:
        for label in (1, 2):
            yield Case("hippocampus", volume, labels == label, 0, with_marks)


def hippocampi_of(data: Path, count: int) -> Iterator[tuple[Volume, np.ndarray]]:
    """Images and label maps of the validation cases."""
    for file in sorted((data / "hippocampus_msd/images").glob("*.nii.gz"))[::10][:count]:
        yield read_volume(file), read_labels(data / "hippocampus_msd/labels" / file.name).array


def floor(case: Case, images: np.ndarray) -> np.ndarray:
    """Naive Bayes: odds of a smoothed mean outline times the likelihood ratio of intensities, per pixel."""
    pictures, masks = images[case.examples], case.truth[case.examples]
    bins = (images * (BINS - 1)).round().astype(int)
    counts = [np.bincount((bins[case.examples])[masks == value], minlength=BINS) + 1.0 for value in (False, True)]
    ratio = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
    place = torch.from_numpy(masks.mean(axis=0, dtype=np.float32))[None, None]
    edge = 2 * SMOOTHING + 1
    smooth = (
        torch.nn.functional.avg_pool2d(place, edge, stride=1, padding=SMOOTHING)[0, 0].clamp(1e-3, 1 - 1e-3).numpy()
    )
    found = np.log(smooth / (1 - smooth)) + ratio[bins] > 0
    assert pictures.shape == masks.shape
    found[np.setdiff1d(np.arange(len(found)), case.present)] = False
    return found


def fill(case: Case) -> np.ndarray:
    """Morphological contour interpolation between the examples."""
    import itk

    outlined = np.zeros(case.truth.shape, np.uint8)
    outlined[case.examples] = case.truth[case.examples]
    return itk.array_from_image(itk.morphological_contour_interpolator(itk.image_from_array(outlined), axis=2)) > 0


def on_slices(session: Session, logits: Callable[[Scene], Iterator[tuple[int, torch.Tensor]]]) -> np.ndarray:
    """Mask of the whole stack from logits of single squares."""
    framed = session.framed[0]
    found = np.zeros(session.stack.images.shape, dtype=bool)
    for number, own in logits(framed.scene):
        found[number] = framed.on_slice(own, 1.0) > 0.5
    return found


def slices_alone(network: Network, scene: Scene) -> Iterator[tuple[int, torch.Tensor]]:
    pool = Pool(scene)
    supports = pool.supports(np.arange(len(pool)))
    for number, image in enumerate(scene.images):
        yield number, network(image, *supports(number))


def walk_alone(network: Network, scene: Scene) -> Iterator[tuple[int, torch.Tensor]]:
    pool = Pool(scene)
    return walk(network, scene, pool.supports(np.arange(len(pool))), NETWORK_ALONE)


def shape_alone(scene: Scene) -> Iterator[tuple[int, torch.Tensor]]:
    prior, links = scene.prior(), plan_walk(scene)
    for number, image in enumerate(scene.images):
        distance = prior.distance(number) if number in links else None
        yield number, torch.full_like(image, NOTHING) if distance is None else torch.from_numpy(distance)


@torch.inference_mode()
def measure(case: Case, package: str, with_fill: bool) -> dict[str, dict[str, float]]:
    """All methods on one case."""
    torch.manual_seed(0)
    found, clock = {}, time.perf_counter()
    session = open_session(
        case.volume, [Example(case.outlines)], case.request(package), find_package(package), torch.device("cpu")
    )
    next(part for part in session.slices(0) if part.number in case.others)
    first_slice = time.perf_counter() - clock
    known = session.calibrate()[0]
    samples = []
    for sample in range(SAMPLES):
        parts = sorted(session.slices(sample), key=lambda part: part.number)
        samples.append(np.stack([part.probabilities[1] for part in parts]))
    seconds = time.perf_counter() - clock
    found["network alone"] = on_slices(session, lambda scene: slices_alone(session.network, scene))
    found["walk"] = on_slices(session, lambda scene: walk_alone(session.network, scene))
    found["walk with shape"] = samples[0] > 0.5
    found["product"] = np.mean(samples, axis=0) > 0.5
    found["shape alone"] = on_slices(session, shape_alone)
    if with_fill:
        found["fill"] = fill(case)
    rows = {name: case.measured(mask) for name, mask in found.items()}
    seen = np.intersect1d(case.others, case.present)
    bayes = floor(case, session.stack.images)
    rows["floor"] = {"dice_where_present": mean_dice(case, bayes, seen)}
    rows["network alone"]["dice_where_present"] = mean_dice(case, found["network alone"], seen)
    rows["walk with shape"]["dice_where_present"] = mean_dice(case, found["walk with shape"], seen)
    rows["product"] |= {
        "expected_dice": known.expected_dice or float("nan"),
        "weight_of_shape": known.fusions[0].shape,
        "variance_against_dice": rank_correlation(case, np.array(samples), seen),
        "seconds_to_first_slice": first_slice,
        "seconds": seconds,
    }
    return rows


@torch.inference_mode()
def together(volume: Volume, labels: np.ndarray, package: str, with_marks: bool) -> dict[str, float]:
    """Dice of each structure of a label map, segmented at once by the example of three axial slices."""
    both = Case("", volume, labels > 0, 0, with_marks)
    names = {int(label): f"label {label}" for label in np.unique(labels) if label}
    outlines = Volume(np.where(both.outlines.array > 0, labels, 0).astype(np.int64), volume.geometry, "outlines")
    outlined = np.flatnonzero(outlines.array.any(axis=(1, 2)))
    lacking = {
        name: tuple(int(index) for index in outlined if with_marks and not (labels[index] == label).any())
        for label, name in names.items()
    }
    request = PropagationRequest(
        InferenceRequest(package, samples=SAMPLES), both.plane, {ALL: both.absent_indices, **lacking}
    )
    session = open_session(
        volume, [Example(outlines, names=names)], request, find_package(package), torch.device("cpu")
    )
    session.calibrate()
    mean = np.zeros((len(names) + 1, *both.truth.shape), np.float32)
    for sample in range(SAMPLES):
        for part in session.slices(sample):
            mean[:, part.number] += part.probabilities / SAMPLES
    found = mean.argmax(axis=0)[both.others]
    truth = session.stack.placement.to_model(Volume(labels.astype(np.uint8), volume.geometry)).round()[both.others]
    return {name: dice(found == label, truth == label) for label, name in names.items()}


def mean_dice(case: Case, found: np.ndarray, numbers: np.ndarray) -> float:
    return float(np.mean([dice(found[number], case.truth[number]) for number in numbers]))


def rank_correlation(case: Case, samples: np.ndarray, numbers: np.ndarray) -> float:
    """Spearman's, over slices, of the variance per labeled pixel with the Dice of the mean; negative is good."""
    mean, variance = samples.mean(axis=0)[numbers], samples.var(axis=0)[numbers]
    per_pixel = variance.sum(axis=(1, 2)) / np.maximum(mean.sum(axis=(1, 2)), 1.0)
    overlap = [dice(one > 0.5, case.truth[number]) for one, number in zip(mean, numbers, strict=True)]
    ranks = [np.argsort(np.argsort(values)) for values in (per_pixel, overlap)]
    return float(np.corrcoef(*ranks)[0, 1])


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument(
        "--cases", type=lambda text: text.split(","), default=["spleen", "cord", "hippocampus", "together"]
    )
    parser.add_argument("--hippocampi", type=int, default=10)
    options = parser.parse_args()
    try:
        import itk  # noqa: F401

        with_fill = True
    except ModuleNotFoundError:
        with_fill = False
    report: dict[str, dict] = {}
    for with_marks in (False, True):
        found: dict[str, list] = {}
        for case in cases(options.data, with_marks, options.cases, options.hippocampi):
            found.setdefault(case.name, []).append(measure(case, options.model, with_fill))
        report["with marks" if with_marks else "without marks"] = {
            name: {
                method: {
                    key: round(float(np.nanmean([row[method][key] for row in rows])), 3) for key in rows[0][method]
                }
                for method in rows[0]
            }
            for name, rows in found.items()
        }
        if "together" in options.cases:
            rows = [
                together(volume, labels, options.model, with_marks)
                for volume, labels in hippocampi_of(options.data, options.hippocampi)
            ]
            means = {name: round(float(np.mean([row[name] for row in rows])), 3) for name in rows[0]}
            report["with marks" if with_marks else "without marks"]["together"] = {"product": means}
    report["threads"] = torch.get_num_threads()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
