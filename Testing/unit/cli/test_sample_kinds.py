"""Samples by augmentation and dropout are called that on the command line, in files and in the report."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.cli import main
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.packages.weights import save_package
from MedSegUncertaintyLib.scene import rendering
from MedSegUncertaintyLib.volumes.geometry import Geometry
from MedSegUncertaintyLib.volumes.reading import write_volume

SPREADS = {
    "augmentation": "Intervals are the spread of test-time augmentation, not calibrated confidence. "
    "This spread shows how firmly the network stands by its answer, not what readers disagree about.",
    "dropout": "Intervals are the spread of Monte-Carlo dropout, not calibrated confidence. "
    "This spread shows what the network knows too little of, not what readers disagree about.",
}


@pytest.mark.parametrize("samples", SPREADS)
def test_samples_are_called_what_they_are(
    make_metadata: Callable[..., dict],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    samples: str,
) -> None:
    monkeypatch.setattr(rendering, "whyNoSlicer", lambda: "Not in this test.")
    torch.manual_seed(0)
    arguments = {
        "backbone": {"name": "BasicUNet", "widths": [4, 6, 8, 8, 10]},
        "spatial_dims": 2,
        "channels": 1,
        "features": 6,
        "classes": 3,
        "samples": samples,
        "dropout": 0.2,
    }
    metadata = make_metadata(family="selfreg", arguments=arguments, walk={"correlation_mm": 4.0})
    package = save_package(tmp_path / "kinds", registry.build("selfreg", arguments), metadata, "# Card\n", "CC0\n")
    image = np.random.default_rng(0).normal(100, 20, (2, 18, 21)).astype(np.float32)
    write_volume(tmp_path / "image.nrrd", image, Geometry.from_parts((21, 18, 2), (1.0, 1.5, 3.0)))
    out = tmp_path / "out"
    options = ["--model", str(package.folder), "--samples", "3", "--device", "cpu", "--output", str(out)]
    assert main(["segment", str(tmp_path / "image.nrrd"), *options]) == 0

    kind = {"augmentation": "test-time augmentation", "dropout": "Monte-Carlo dropout"}[samples]
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert (summary["sample_kind"], summary["spread"]) == (kind, SPREADS[samples])
    assert SPREADS[samples] in capsys.readouterr().out
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"<dt>Kind of samples</dt><dd>{kind}</dd>" in page
    assert SPREADS[samples] in page
    assert f"They are made by {kind}. {SPREADS[samples].partition('. ')[2]}" in page
    assert "model samples" not in page
