"""How well families draw what readers disagree about, on the same images of LIDC-IDRI and beside a trivial model.

    python Testing/benchmarks/ambiguity.py VAL.npz [--every 3] [--samples 16] [--only HiDiff,SSN]

The npz file is one that ``medseg-uncertainty evaluate`` reads; every n-th image of it is used. "probability" is
SelfReg-UNet with nothing left out: its samples are all the same, and its figures for independent pixels are those of
the trivial model "draw each pixel from the segmentor's probability". Conventions are those of ``evaluate``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from MedSegUncertaintyLib.evaluation.bootstrap import patient_interval
from MedSegUncertaintyLib.evaluation.readers import ReaderFile
from MedSegUncertaintyLib.evaluation.run import RESAMPLES, measure
from MedSegUncertaintyLib.inference.engine import Engine
from MedSegUncertaintyLib.inference.progress import CancelToken, StageClock
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.packages.store import find_package
from MedSegUncertaintyLib.packages.weights import load_sampler

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "SelfReg, probability": ("selfreg-lidc-nodule-ct", {"dropout": 1e-9}),
    "SelfReg, dropout": ("selfreg-lidc-nodule-ct", {}),
    "SelfReg, augmentation": ("selfreg-lidc-nodule-ct", {"samples": "augmentation"}),
    "HiDiff": ("hidiff-lidc-nodule-ct", {}),
    "SSN": ("ssn-lidc-nodule-ct", {}),
    "HPU-Net": ("hpunet-lidc-nodule-ct", {}),
}
"""Package, and the arguments that are changed."""

FIGURES = {
    ("ged_squared", "model"): "GED²",
    ("matched_iou", "model"): "HM-IoU",
    ("matched_iou_subset_b", "model"): "HM-IoU, subset B",
    ("sample_diversity", "model"): "diversity",
    ("dice_empty_excluded", "model"): "Dice of the mean",
    ("dice_lesion_readers", "model"): "Dice of the mean, readers who drew",
    ("ece", "model"): "ECE",
    ("ged_squared", "independent_pixels"): "GED² of independent pixels",
    ("matched_iou", "independent_pixels"): "HM-IoU of independent pixels",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--only", default=",".join(name.split(",")[0] for name in MODELS))
    options = parser.parse_args()
    data = ReaderFile.read(options.data).every(options.every)
    for name, (package_name, changes) in MODELS.items():
        if name.split(",")[0] not in options.only.split(","):
            continue
        package = find_package(package_name)
        model = load_sampler(package)
        if changes:
            other = registry.build(package.family, {**package.arguments, **changes})
            other.load_state_dict(model.state_dict())
            model = other.requires_grad_(False).eval()
        engine = Engine(model, torch.device("cpu"), False, CancelToken(), None)
        measured = measure(engine, data, package.intensity, options.samples, 0, StageClock("", len(data), None))
        figures = {}
        for key, title in FIGURES.items():
            totals, counts = measured[key]
            interval = patient_interval(totals, counts, data.patients, resamples=RESAMPLES, seed=0)
            figures[title] = {"value": float(totals.sum() / counts.sum()), "interval_95": interval}
        print(json.dumps({"model": name, "images": len(data), "samples": options.samples, **figures}), flush=True)


if __name__ == "__main__":
    main()
