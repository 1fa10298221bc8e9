"""Fewer steps of a diffusion on the command line, in the summary and in the report."""

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

TAPS = ["down_1", "down_2", "down_3", "down_4"]
ARGUMENTS = {
    "segmentor": {"name": "BasicUNet", "widths": [8, 8, 16, 16, 32], "taps": TAPS},
    "channels": 1,
    "classes": 3,
    "steps": 4,
}


@pytest.fixture
def command(make_metadata: Callable[..., dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(rendering, "whyNoSlicer", lambda: "Not in this test.")
    torch.manual_seed(0)
    metadata = make_metadata(family="hidiff", arguments=ARGUMENTS, walk={"correlation_mm": 4.0})
    package = save_package(tmp_path / "steps", registry.build("hidiff", ARGUMENTS), metadata, "# Card\n", "CC0\n")
    image = np.random.default_rng(0).normal(100, 20, (1, 32, 32)).astype(np.float32)
    write_volume(tmp_path / "image.nrrd", image, Geometry.from_parts((32, 32, 1), (1.0, 1.0, 2.0)))
    options = ["--model", str(package.folder), "--samples", "2", "--device", "cpu", "--output", str(tmp_path / "out")]
    return ["segment", str(tmp_path / "image.nrrd"), *options]


@pytest.mark.parametrize(("options", "steps"), [([], None), (["--steps", "2"], 2)])
def test_steps_are_recorded(command: list[str], tmp_path: Path, options: list[str], steps: int | None) -> None:
    assert main([*command, *options]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["request"]["steps"] == steps
    assert summary["sample_kind"] == "diffusion samples"
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert ("<dt>Steps</dt><dd>2 of 4</dd>" in page) == (steps == 2)
    assert ("<dt>Steps</dt>" in page) == (steps == 2)


@pytest.mark.parametrize(
    ("steps", "code", "words"),
    [
        ("5", 3, "The samples of steps are drawn in 1 to 4 steps, not 5."),
        ("0", 2, "The number of steps must be at least 1, not 0."),
        ("few", 2, "invalid int value: 'few'"),
    ],
)
def test_wrong_steps_are_one_sentence(
    command: list[str], capsys: pytest.CaptureFixture[str], steps: str, code: int, words: str
) -> None:
    assert main([*command, "--steps", steps]) == code
    assert words in capsys.readouterr().err


def test_other_families_have_no_steps(
    command: list[str], package_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command[command.index("--model") + 1] = str(package_folder)
    assert main([*command, "--steps", "2"]) == 3
    assert "The samples of two-blobs are not drawn in steps; leave the number of steps out." in capsys.readouterr().err
