"""Whether following the advice on the next slice helps: a user is simulated who answers from the reference.

    python Testing/benchmarks/guidance.py --data DIR --model universeg-mini [--cases spleen,cord] [--most 8]

The data folder is that of ``propagation.py``. Every user begins with the middle slice of the structure. One then
follows the advice, one outlines evenly spaced slices, one gives up two of them for marks "absent here" two slices
beyond each end, and one takes slices at random up to two beyond the structure (three seeds). Asked about a slice
without the structure they mark it as empty. All but the one who follows the advice know from the reference how far the
structure reaches. The rule was chosen on the spleen and the first two hippocampi alone, told apart in the report.

Figures are Dice of the first sample over all slices that were neither outlined nor marked, by the number of examples:
mean, lowest and highest over cases and seeds; and by how much the Dice that was expected of a slice where any sample
has the structure is too high, and off, in the mean over all steps.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from MedSegUncertaintyLib.inference.progress import CancelToken
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.outputs.document import plane_names
from MedSegUncertaintyLib.packages.store import find_package
from MedSegUncertaintyLib.propagation.examples import FEWEST_PIXELS, Example
from MedSegUncertaintyLib.propagation.guidance import Guidance, guide
from MedSegUncertaintyLib.propagation.kept import Kept
from MedSegUncertaintyLib.propagation.request import ALL, PropagationRequest
from MedSegUncertaintyLib.propagation.run import gather, open_session
from MedSegUncertaintyLib.volumes.geometry import Volume
from MedSegUncertaintyLib.volumes.reading import read_labels, read_volume

SAMPLES, SEEDS, BEYOND = 2, 3, 2
STEPS, RARELY = (1, 2, 3, 4, 6, 8), (3, 6)
"""Numbers of examples at which the users without advice are looked at, and the one who takes slices at random."""
CHOSEN_ON = 2
"""Hippocampi on which the rule was chosen."""

Answers = dict[int, bool]
"""Whether the structure was outlined in a slice or marked as absent, by its index."""


class Case:
    """One structure of one volume, in one plane."""

    def __init__(self, name: str, volume: Volume, mask: np.ndarray, axis: int) -> None:
        self.name, self.volume, self.axis = name, volume, axis
        self.truth = np.moveaxis(mask, axis, 0)
        self.plane = plane_names(volume.geometry)[2 - axis]
        self.present = np.flatnonzero(self.truth.sum(axis=(1, 2)) >= FEWEST_PIXELS)
        self.kept = Kept()

    def answered(self, indices: list[int]) -> Answers:
        return {int(index): int(index) in self.present for index in indices if 0 <= index < len(self.truth)}

    @torch.inference_mode()
    def found(self, model: str, answers: Answers, samples: int) -> tuple[np.ndarray, Guidance]:
        """Labels of the first sample, and what is advised."""
        outlined = np.zeros_like(self.truth)
        for index in (index for index, shows in answers.items() if shows):
            outlined[index] = self.truth[index]
        labels = Volume(np.moveaxis(outlined, 0, self.axis).astype(np.uint8), self.volume.geometry, self.name)
        absent = tuple(index for index, shows in answers.items() if not shows)
        request = PropagationRequest(InferenceRequest(model, samples=samples), self.plane, {ALL: absent})
        cpu, package = torch.device("cpu"), find_package(model)
        session = open_session(self.volume, [Example(labels)], request, package, cpu, self.kept)
        session.calibrate()
        drawn, _ = gather(session, request, CancelToken())
        return np.moveaxis(drawn[0] == 1, self.axis, 0), guide(session, drawn)

    def dice(self, found: np.ndarray, answers: Answers) -> float:
        others = np.setdiff1d(np.arange(len(self.truth)), [*answers])
        return dice(found[others], self.truth[others])

    def middle(self) -> int:
        return int(self.present[len(self.present) // 2])

    def even(self, count: int) -> list[int]:
        places = np.linspace(0, len(self.present) - 1, count + 2).round().astype(int)[1:-1]
        return self.present[places].tolist()

    def even_with_ends(self, count: int) -> list[int]:
        ends = [int(self.present[0]) - BEYOND, int(self.present[-1]) + BEYOND]
        return self.even(count) if count < 3 else [*self.even(count - 2), *ends]

    def random(self, seed: int, count: int) -> list[int]:
        near = np.arange(max(0, self.present[0] - BEYOND), min(len(self.truth), self.present[-1] + BEYOND + 1))
        others = np.random.default_rng(seed).permutation(near[near != self.middle()])
        return [self.middle(), *others[: count - 1].tolist()]


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    total = int(found.sum()) + int(truth.sum())
    return 2.0 * int((found & truth).sum()) / total if total else 1.0


def cases(data: Path, chosen: list[str], hippocampi: list[int], axes_of_cord: list[int]) -> Iterator[Case]:
    for name, image, labels, axes in (
        ("spleen", "spleen_ct_msd/spleen2_ct.nii.gz", "spleen_ct_msd/spleen2_seg.nii.gz", (0,)),
        ("cord", "cord_mr_sct/t2.nii.gz", "cord_mr_sct/t2_seg-manual.nii.gz", axes_of_cord),
    ):
        for axis in axes if name in chosen else ():
            volume, mask = read_volume(data / image), read_labels(data / labels).array == 1
            yield Case("spleen (chosen on)" if name == "spleen" else f"cord, axis {axis}", volume, mask, axis)
    files = sorted((data / "hippocampus_msd/images").glob("*.nii.gz"))[::40]
    for number in hippocampi if "hippocampus" in chosen else []:
        file = files[number]
        volume, labels = read_volume(file), read_labels(data / "hippocampus_msd/labels" / file.name).array
        name = "hippocampus (chosen on)" if number < CHOSEN_ON else "hippocampus"
        yield Case(name, volume, labels == 1 + number % 2, 0)


def follow(case: Case, model: str, most: int) -> tuple[dict[int, float], list[float], list[list[str]]]:
    """Dice by number of examples, errors of the expected Dice, and what was asked, following the advice."""
    answers, found, errors, asked = case.answered([case.middle()]), {}, [], []
    for count in range(1, most + 1):
        labels, guidance = case.found(model, answers, SAMPLES)
        found[count] = case.dice(labels, answers)
        (own,) = guidance.structures.values()
        for index, expected in own.expected_dice.items():
            if index not in answers:
                errors.append(expected - dice(labels[index], case.truth[index]))
        if guidance.next_slice is None:
            break
        answers |= case.answered([guidance.next_slice])
        asked.append([str(guidance.next_slice), str(guidance.next_reason), str(answers[guidance.next_slice])])
    return found, errors, asked


def without_advice(
    case: Case, model: str, steps: Iterable[int], slices: Callable[[int], list[int]]
) -> dict[int, float]:
    """Dice by number of examples."""
    found = {}
    for count in steps:
        answers = case.answered(slices(count))
        found[count] = case.dice(case.found(model, answers, 1)[0], answers)
    return found


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--cases", type=lambda text: text.split(","), default=["spleen", "cord", "hippocampus"])
    parser.add_argument("--hippocampi", type=lambda text: [*map(int, text.split(","))], default=[0, 1, 2, 3, 4])
    parser.add_argument("--axes", type=lambda text: [*map(int, text.split(","))], default=[0, 1, 2], help="of the cord")
    parser.add_argument("--most", type=int, default=8)
    options = parser.parse_args()
    steps = [step for step in STEPS if step <= options.most]
    rows: dict[str, dict[str, list[dict[int, float]]]] = {}
    errors: dict[str, list[float]] = {}
    for case in cases(options.data, options.cases, options.hippocampi, options.axes):
        own = rows.setdefault(case.name, {})
        found, wrong, asked = follow(case, options.model, options.most)
        own.setdefault("advice", []).append(found)
        errors.setdefault(case.name, []).extend(wrong)
        print(json.dumps({case.name: asked}), flush=True)
        for name, slices in (("even", case.even), ("even, ends marked", case.even_with_ends)):
            own.setdefault(name, []).append(without_advice(case, options.model, steps, slices))
        for seed in range(SEEDS):
            slices = lambda count, case=case, seed=seed: case.random(seed, count)  # noqa: E731
            rarely = [step for step in RARELY if step <= options.most]
            own.setdefault("random", []).append(without_advice(case, options.model, rarely, slices))
    report = {
        name: {way: summary(found) for way, found in ways.items()}
        | {
            "expected_dice": {
                "bias": round(float(np.mean(errors[name])), 3),
                "error": round(float(np.abs(errors[name]).mean()), 3),
            }
        }
        for name, ways in rows.items()
    }
    print(json.dumps({**report, "cpu_seconds": round(time.process_time())}, indent=2))


def summary(found: list[dict[int, float]]) -> dict[str, list[float]]:
    """Mean, lowest and highest by number of examples."""
    counts = sorted(set(STEPS) & {count for own in found for count in own})
    values = {count: [own[count] for own in found if count in own] for count in counts}
    return {str(count): [round(float(f(own)), 3) for f in (np.mean, np.min, np.max)] for count, own in values.items()}


if __name__ == "__main__":
    main()
